"""The declaration of Arrow files to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="arrow",
    title="an Arrow file",
    open="mapix.arrow.dataset:open_arrow",
    magic=((0, b"ARROW1\0\0"),),
    suffixes=(".arrow", ".feather"),
)
