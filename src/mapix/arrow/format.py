"""The declaration of Arrow files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

CONTINUED = b"\xff\xff\xff\xff"  # the first bytes of a stream


def _may_be_stream(front: bytes) -> bool:
    return front.startswith(CONTINUED)


FORMAT = Format(
    name="arrow",
    title="an Arrow file, or a stream of Arrow messages",
    open="mapix.arrow.dataset:open_arrow",
    magic=((0, b"ARROW1\0\0"),),
    front=_may_be_stream,
    suffixes=(".arrow", ".arrows", ".feather"),
    detect="mapix.arrow.stream:refusal",
)
