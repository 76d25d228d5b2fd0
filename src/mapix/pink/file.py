"""The base classes of PINK's files: kind, version, lines of comment, rows."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.colour import palette
from mapix.drawing.scaling import MOST_DRAWN_PIXELS, drawn
from mapix.pink.lattice import Lattice
from mapix.pink.layout import END, NAME, Header, Kind, Layout, fields_of
from mapix.rowarray import RowArray
from mapix.text import counted, type_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.byte_ranges import Walk
    from mapix.source import Source

__all__ = ["PinkFile", "PinkOnSom"]


class PinkFile(RowArray):
    """One of PINK's files.  Made by ``mapix.open``.

    Attributes
    ----------
    source : Source
        The file that was opened.
    layout_field : int
        The layout that the header states; PINK writes 0 for hexagons, too.
    """

    FAMILY = NAME

    def __init__(self, source: Source, header: Header, **options: Any) -> None:
        options = {"kind": header.kind, "version": header.version, **options}
        super().__init__(
            *(source, header.dtype, header.shape, header.at), planar=True, options=options
        )
        self._header = header
        self.layout_field = header.field

    @property
    def kind(self) -> Kind:
        """``"data"``, ``"som"``, ``"map"`` or ``"rot"``."""
        return self._header.kind

    @property
    def version(self) -> int:
        """1 or 2, of the format."""
        return self._header.version

    @property
    def layout(self) -> Layout:
        """``"cartesian"`` or ``"hexagonal"``: the length of the file decides, not the header."""
        return self._header.layout

    @property
    def comment(self) -> bytes:
        """The lines of comment before the header, as the file has them."""
        return self._header.comment

    @property
    def header(self) -> tuple[str, ...]:
        """The lines of comment, without their ends, and without the line that ends the header.

        Bytes that are not UTF-8 become surrogates, which the writers turn into the same bytes.
        """
        text = self.comment.removesuffix(END).decode("utf-8", "surrogateescape")
        return tuple(text.removesuffix("\n").split("\n")) if text else ()

    @property
    def offset(self) -> int:
        """Byte of the first number."""
        return self._at

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        if math.prod(self._shape[1:]) > MOST_DRAWN_PIXELS:
            return None
        return drawn(self._image(row), size, palette())

    def _facts(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "version": self.version,
            "layout": self.layout,
            "header": [line.encode("utf-8", "replace").decode() for line in self.header],
            **super()._facts(),
        }

    def _walk_header(self, walk: Walk) -> None:
        walk.string("comment", len(self.comment), "header")
        walk.numbers("<i", *fields_of(self._header, (self._at - walk.at) // 4))

    def _summary(self) -> str:
        part = f"{counted(self._n, self.RECORDS)} of " if self._rows is not None else ""
        numbers = f", {type_name(self.dtype)}" if self.dtype.names is None else ""
        return f"{part}{self._header.text}{numbers}"


class PinkOnSom(PinkFile):
    """A file about the neurons of a self-organising map."""

    @property
    def som_shape(self) -> tuple[int, ...]:
        """Dimensions of the SOM as the file has them: width, height, depth; of a hexagon d, d."""
        return self._header.dims

    @property
    def nneurons(self) -> int:
        """Neurons of the SOM."""
        return self._header.nneurons

    def _facts(self) -> dict[str, Any]:
        found = super()._facts()
        first = {name: found.pop(name) for name in ("kind", "version", "layout")}
        return {**first, "som_shape": list(self.som_shape), "neurons": self.nneurons, **found}

    @cached_property
    def lattice(self) -> Lattice:
        """The lattice of the neurons: places and numbers, distances, neighbours."""
        return Lattice(self.layout, self.som_shape)

    def _placed(self, values: NDArray[Any]) -> NDArray[np.float64] | None:
        """Return a number of each neuron at its place, (h, w), NaN elsewhere; None of blocks."""
        placed = self.lattice.dense(values.astype(np.float64))
        if placed.ndim > 2:
            return None
        filled = np.ma.filled(placed, np.nan)
        return filled.T if self.layout == "hexagonal" else filled
