"""The declaration of COCO's JSON files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]


def _may_be(front: bytes) -> bool:
    """Whether a file begins with a JSON object that has a key."""
    text = front.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    return text[:1] == b"{" and text[1:].lstrip(b" \t\r\n")[:1] == b'"'


FORMAT = Format(
    name="coco",
    title="images and annotations as COCO's JSON has them",
    open="mapix.coco.opening:open_path",
    front=_may_be,
    detect="mapix.coco.opening:refusal",
)
