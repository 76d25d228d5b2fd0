"""The declaration of PINK for the registry."""

from math import prod
from struct import unpack

from mapix.registry import Format

__all__ = ["FORMAT"]

MOST_NUMBERS = 1 << 46  # of an array that lies in one file


def _may_be_version_1(front: bytes) -> bool:
    """Whether a file begins with the four dimensions of an array."""
    return len(front) >= 16 and 0 < prod(unpack("<4I", front[:16])) < MOST_NUMBERS


FORMAT = Format(
    name="pink",
    title="a PINK binary",
    open="mapix.pink.opening:open_path",
    magic=((0, b"#"), (0, b"\2\0\0\0")),
    front=_may_be_version_1,
    detect="mapix.pink.opening:refusal",
    source="mapix.pink.conversion:stream",
    targets={"pink": "mapix.pink.conversion:Pink"},
    commands="mapix.pink.commands:add",
    command_names={"pink": "inspect PINK's files, convert them, draw them"},
)
