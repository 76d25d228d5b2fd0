"""Fallback for ``SegmentFile`` and ``Segment`` of ``mapix._record``; tests compare both.

``segment_types`` chooses between the two.  What is rare or goes wrong is written once, in the
subclasses.
"""

from __future__ import annotations

import operator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mapix.iid.argument_checks import Box, Keys

__all__ = ["Segment", "SegmentFile"]


class SegmentFile:
    """Segments of one file.

    A subclass implements the methods that raise NotImplementedError here; the C module calls them
    for what it does not do itself.
    """

    nsegments: int

    def _head(self, row: int) -> tuple[Box, int]:
        raise NotImplementedError

    def _name(self, row: int) -> tuple[bytes, bytes]:
        raise NotImplementedError

    def _own_mask(self, row: int) -> NDArray[np.bool_]:
        raise NotImplementedError

    def _find(self, domain: Any, iid: Any) -> Keys:
        raise NotImplementedError

    def _find_many(self, domain: Any, iids: Any) -> NDArray[np.int64]:
        raise NotImplementedError

    def _attach(
        self, source: Any, cmap: Any, map_at: int, iid_at: int, functions: tuple[int, ...]
    ) -> None:
        """Take the file, its map, and addresses of ``mapix_iid`` and of functions of the core."""

    def _use_heads(self, owner: Any, boxes: int, areas: int) -> None:
        """Take the addresses of all boxes and areas, which live as long as ``owner``."""

    def _use_names(self, owner: Any, seed: int, slots: int, nslots: int, chain: int) -> None:
        """Take the table of names, which lives as long as ``owner``."""

    def _use_tree(self, owner: Any, parts: int) -> None:
        """Take the tree over regions, which lives as long as ``owner``."""

    def head(self, row: int) -> tuple[Box, int]:
        """Return box and area of a segment, as its header states them."""
        return self._head(row)

    def name(self, row: int) -> tuple[bytes, bytes]:
        """Return (domain, iid) of a segment."""
        return self._name(row)

    def own_mask(self, row: int) -> NDArray[np.bool_]:
        """Return the mask of a segment's own box."""
        return self._own_mask(row)

    def find(self, domain: Any, iid: Any) -> Keys:
        """Return all keys of a name, uint32, ascending."""
        return self._find(domain, iid)

    def find_many(self, domain: Any, iids: Any) -> NDArray[np.int64]:
        """Return the lowest key of each name in a domain, or -1, int64 (n,)."""
        return self._find_many(domain, iids)

    def at(self, x: Any, y: Any) -> Keys | None:
        """Return the keys at a pixel, uint32, ascending; None: they have to be searched."""
        del x, y
        return None

    def region(self, window: Any) -> Keys | None:
        """Return the keys with a pixel in a window (minr, minc, maxr, maxc); None as for ``at``."""
        del window
        return None


class Segment:
    """A segment: the attributes that have to be fast."""

    __slots__ = ("_file", "_row", "key")

    _file: Any
    _row: int
    key: int

    def __new__(cls, file: Any, row: int, key: int | None = None) -> Self:
        """Make segment ``row`` of a file; ``key`` is its number in the archive."""
        made = object.__new__(cls)
        made._file = file
        made._row = operator.index(row)
        made.key = made._row if key is None else operator.index(key)
        return made

    @property
    def domain(self) -> bytes:
        """The namespace of its name; empty without one."""
        found: bytes = self._file.name(self._row)[0]
        return found

    @property
    def iid(self) -> bytes:
        """Its name within the domain."""
        found: bytes = self._file.name(self._row)[1]
        return found

    @property
    def bbox(self) -> Box:
        """(minr, minc, maxr, maxc), half open, as the file states it."""
        found: Box = self._file.head(self._row)[0]
        return found

    @property
    def area(self) -> int:
        """Pixels, as the file states them."""
        found: int = self._file.head(self._row)[1]
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the box."""
        minr, minc, maxr, maxc = self.bbox
        return maxr - minr, maxc - minc

    def mask(self, bbox: Box | None = None, out: NDArray[Any] | None = None) -> NDArray[np.bool_]:
        """Return the mask of the segment's box, or of another one.

        Parameters
        ----------
        bbox : (minr, minc, maxr, maxc), optional
            Any box of the image; pixels outside of the segment are False.
        out : ndarray, optional
            bool or uint8, C-contiguous, of exactly that shape.

        Returns
        -------
        ndarray
            bool (h, w), or ``out``.
        """
        found: NDArray[np.bool_]
        if bbox is None and out is None:
            found = self._file.own_mask(self._row)
        else:
            found = self._file.mask(self._row, bbox, out)
        return found
