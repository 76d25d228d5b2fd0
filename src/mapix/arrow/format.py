"""The declaration of Arrow files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

CONTINUED = b"\xff\xff\xff\xff"  # the first bytes of a stream


def _may_be_stream(front: bytes) -> bool:
    return front.startswith(CONTINUED)


FORMAT = Format(
    name="arrow",
    title="an Arrow file, a stream of Arrow messages, or a directory of them",
    open="mapix.arrow.opening:open_arrow",
    magic=((0, b"ARROW1\0\0"),),
    front=_may_be_stream,
    suffixes=(".arrow", ".arrows", ".feather"),
    detect="mapix.arrow.places:arrow_refusal",
    verify="mapix.arrow.opening:verify_arrow",
)
