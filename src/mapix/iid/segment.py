"""One segment of an archive: its name, box, area, and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix import view
from mapix.iid.arguments import Box

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["Box", "Region", "Segment", "polygons"]


class Region:
    """A connected part of a segment.

    Attributes
    ----------
    bbox : (minr, minc, maxr, maxc)
        In pixels of the image, half open.
    bits : ndarray
        uint8, read-only copy: row after row, the first pixel in the highest bit.
    """

    __slots__ = ("bbox", "bits")

    def __init__(self, bbox: Box, bits: NDArray[np.uint8]) -> None:
        self.bbox = bbox
        self.bits = bits

    def mask(self) -> NDArray[np.bool_]:
        """The mask, bool (maxr - minr, maxc - minc).  Copies: yes."""
        minr, minc, maxr, maxc = self.bbox
        h, w = maxr - minr, maxc - minc
        return np.unpackbits(self.bits, count=h * w).reshape(h, w).view(np.bool_)

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask().sum())

    def __repr__(self) -> str:
        return f"<Region {self.bbox}>"


class Segment:
    """A segment of an archive, looked at where it lies.

    Nothing is read until an attribute is asked for.

    Attributes
    ----------
    key : int
        Its number in the archive.
    """

    __slots__ = ("_archive", "key")

    def __init__(self, archive: Archive, key: int) -> None:
        self._archive = archive
        self.key = key

    @property
    def domain(self) -> bytes:
        """The namespace of its name; empty without one."""
        return self._archive.name(self.key)[0]

    @property
    def iid(self) -> bytes:
        """Its name within the domain."""
        return self._archive.name(self.key)[1]

    @property
    def bbox(self) -> Box:
        """(minr, minc, maxr, maxc), half open, as the file states it."""
        return self._archive._head(self.key)[0]

    @property
    def area(self) -> int:
        """Pixels, as the file states them."""
        return self._archive._head(self.key)[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the box."""
        minr, minc, maxr, maxc = self.bbox
        return maxr - minr, maxc - minc

    @property
    def bits(self) -> NDArray[np.uint8]:
        """Its regions as the file holds them, heads included: uint8, a read-only view."""
        at, nbytes = self._archive._regions_at(self.key)
        return view.bytes_at(self._archive._source_of(self.key).view, at, nbytes)

    @property
    def regions(self) -> list[Region]:
        """The connected parts, in the file's order."""
        return self._archive._regions(self.key)

    def mask(self, bbox: Box | None = None, out: NDArray[Any] | None = None) -> NDArray[np.bool_]:
        """The mask, bool, of the segment's box, or of another one.

        Parameters
        ----------
        bbox : (minr, minc, maxr, maxc), optional
            Any box of the image; where the segment is not, there are zeros.
        out : ndarray, optional
            bool or uint8, C-contiguous, of exactly that shape.
        """
        if bbox is None and out is None:
            return self._archive._own_mask(self.key)
        return self._archive._mask(self.key, self.bbox if bbox is None else bbox, out)

    @property
    def centroid(self) -> tuple[float, float]:
        """(row, column) of the mean pixel, in pixels of the image; NaN without pixels."""
        rows, columns = np.nonzero(self.mask())
        if not len(rows):
            return float("nan"), float("nan")
        minr, minc, _, _ = self.bbox
        return float(rows.mean()) + minr, float(columns.mean()) + minc

    @property
    def perimeter(self) -> int:
        """Sides of pixels between the segment and what is not."""
        m = np.pad(self.mask(), 1)
        return int((m[1:] != m[:-1]).sum() + (m[:, 1:] != m[:, :-1]).sum())

    def polygon(self) -> list[NDArray[np.int32]]:
        """Its outlines and holes, each int32 (n, 2) of (x, y) corners along the pixels' sides.

        Outlines run clockwise on the screen (y down), holes the other way; the last corner is not
        the first again.  Filled by the even-odd rule they give the mask again, exactly.
        """
        minr, minc, _, _ = self.bbox
        return [p + np.array([minc, minr], np.int32) for p in polygons(self.mask())]

    def __repr__(self) -> str:
        domain, iid = self._archive.name(self.key)
        return f"<Segment {self.key}: {domain!r} {iid[:20]!r}, {self.bbox}, {self.area} pixels>"


def polygons(mask: NDArray[Any]) -> list[NDArray[np.int32]]:
    """Outlines of a mask along the sides of its pixels: see ``Segment.polygon``."""
    m = np.pad(np.asarray(mask, bool), 1)
    # A side of a pixel, walked with the pixel to the right: from corner to corner.
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def side(pixels: NDArray[Any], begin: tuple[int, int], end: tuple[int, int]) -> None:
        for y, x in np.argwhere(pixels).tolist():
            steps.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))

    inside = m[1:-1, 1:-1]
    side(inside & ~m[:-2, 1:-1], (0, 0), (1, 0))  # above: to the right
    side(inside & ~m[1:-1, 2:], (1, 0), (1, 1))  # right: down
    side(inside & ~m[2:, 1:-1], (1, 1), (0, 1))  # below: to the left
    side(inside & ~m[1:-1, :-2], (0, 1), (0, 0))  # left: up
    found = []
    while steps:
        begin = here = next(iter(steps))
        came = (0, 0)
        corners: list[tuple[int, int]] = []
        while True:
            ways = steps[here]
            # where two pixels touch at a corner, turn right: they stay apart
            right = (here[0] - came[1], here[1] + came[0])
            to = right if right in ways and len(ways) > 1 else ways[0]
            ways.remove(to)
            if not ways:
                del steps[here]
            step = (to[0] - here[0], to[1] - here[1])
            if step != came:
                corners.append(here)
            here, came = to, step
            if here == begin:
                break
        if len(corners) > 2 and _straight(corners[-1], corners[0], corners[1]):
            corners.pop(0)
        found.append(np.array(corners, np.int32))
    return found


def _straight(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    return (a[0] == b[0] == c[0]) or (a[1] == b[1] == c[1])
