"""The declaration of safetensors files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]


def _may_be(front: bytes) -> bool:
    """Whether a file begins with the length of a header, and a JSON object."""
    return front[8:10] in (b'{"', b"{}", b"{ ") and not any(front[5:8])


FORMAT = Format(
    name="safetensors",
    title="a safetensors file",
    open="mapix.safetensors.array:open_path",
    suffixes=(".safetensors",),
    front=_may_be,
    detect="mapix.safetensors.array:refusal",
    source="mapix.conversion.sources:array_streams",
)
