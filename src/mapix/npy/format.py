"""The declaration of NumPy's single arrays for the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="npy",
    title="a NumPy array",
    open="mapix.npy.opening:open_npy",
    magic=((0, b"\x93NUMPY"),),
    suffixes=(".npy",),
    source="mapix.conversion.sources:array_streams",
    targets={"npy": "mapix.npy.conversion:Npy"},
)
