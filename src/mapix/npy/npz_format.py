"""The declaration of NumPy's archives of arrays for the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="npz",
    title="a zip archive of NumPy arrays",
    open="mapix.npy.opening:open_npz",
    magic=((0, b"PK\3\4"),),
    suffixes=(".npz",),
    detect="mapix.npy.opening:npz_refusal",
    source="mapix.conversion.sources:array_streams",
    targets={"npz": "mapix.npy.conversion:Npz"},
)
