"""Annotations of a record: what is shown over and beside its pixels."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Annotations", "Unit"]


class Unit(NamedTuple):
    """Physical unit of the pixels of a record: ``number * scale + offset``.

    Attributes
    ----------
    scale, offset : float
        Of the numbers in the file.
    name : str
        Such as ``"dB"``.
    """

    scale: float
    offset: float
    name: str


class Annotations(NamedTuple):
    """Boxes, names, caption and unit: shown over and beside the pixels of a record.

    Attributes
    ----------
    boxes : sequence of (x, y, width, height)
        In pixels, from the left and upper side of the picture.
    names : sequence of str
        A text for each box; shorter where some have none.
    caption : str
        Text about the picture; empty without one.
    unit : Unit or None
        Unit of the pixels, where it is known.
    """

    boxes: Sequence[tuple[float, float, float, float]] = ()
    names: Sequence[str] = ()
    caption: str = ""
    unit: Unit | None = None
