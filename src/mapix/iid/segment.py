"""One segment of an archive: its name, box, area, and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import views
from mapix._native.iid import outlines
from mapix.errors import FormatError, LimitError
from mapix.iid import segment_types
from mapix.iid.argument_checks import Box, as_pixels
from mapix.iid.layout import NAME, REGION_HEAD
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.iid.segment_file import SegmentFile

__all__ = ["Box", "Region", "Segment", "polygons"]


STRIPE_PIXELS = 1 << 20  # that are compared at once
MOST_DRAWN_PIXELS = 1 << 24  # of a box
MOST_SIDES = 1 << 18  # of outlines


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
        """Return the mask, bool (maxr - minr, maxc - minc).  Copies: yes."""
        minr, minc, maxr, maxc = self.bbox
        h, w = maxr - minr, maxc - minc
        return np.unpackbits(self.bits, count=h * w).reshape(h, w).view(np.bool_)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the mask, for ``np.asarray(region)``."""
        return exported(self.mask(), dtype, copy)

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask().sum())

    def __repr__(self) -> str:
        return f"<Region {self.bbox}>"


class Segment(segment_types.Segment):
    """A segment of an archive.  Nothing is read until an attribute is asked for.

    A segment has no ``image``: an archive holds masks, and no pixels of the image.

    Attributes
    ----------
    key : int
        Its number in the archive.
    """

    __slots__ = ()

    _file: SegmentFile

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._file, self._row, self.key)

    @property
    def bits(self) -> NDArray[np.uint8]:
        """Its regions as the file holds them, headers included: uint8, a read-only view."""
        at, nbytes = self._file.regions_at(self._row)
        return views.bytes_at(self._file.source.viewed(at, nbytes), at, nbytes)

    @property
    def regions(self) -> list[Region]:
        """The connected parts, in the order of the file."""
        return _regions(self._file, self._row)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the mask of the box, for ``np.asarray(segment)``."""
        return exported(self.mask(), dtype, copy)

    @property
    def centroid(self) -> tuple[float, float]:
        """(row, column) of the mean pixel, in pixels of the image; NaN without pixels."""
        mask = self.mask()
        rows, columns = mask.sum(axis=1, dtype=np.int64), mask.sum(axis=0, dtype=np.int64)
        n = int(rows.sum())
        if not n:
            return float("nan"), float("nan")
        minr, minc, _, _ = self.bbox
        row = int((rows * np.arange(len(rows))).sum()) / n
        column = int((columns * np.arange(len(columns))).sum()) / n
        return row + minr, column + minc

    @property
    def perimeter(self) -> int:
        """Number of sides between a pixel of the segment and one outside of it."""
        mask = self.mask()
        if not mask.size:
            return 0
        total = sum(int(np.count_nonzero(m)) for m in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
        step = max(1, STRIPE_PIXELS // mask.shape[1])
        for row in range(0, len(mask), step):
            here = mask[row : row + step + 1]
            total += int(np.count_nonzero(here[1:] != here[:-1]))
            here = here[:step]
            total += int(np.count_nonzero(here[:, 1:] != here[:, :-1]))
        return total

    def polygon(self) -> list[NDArray[np.int32]]:
        """Return outlines and holes, each int32 (n, 2) of (x, y) corners along the pixels' sides.

        Outlines run clockwise on the screen (y down), holes counterclockwise; the last corner
        differs from the first one.  Filled by the even-odd rule they are exactly the mask.  Pixels
        that only touch at a corner are kept apart, and no ring has a corner twice: so rings are
        valid for shapely.  They begin with the first of their sides that lead to the right, row by
        row, and are in the order of these.

        Raises
        ------
        LimitError
            There are more than 256 Ki sides (``perimeter``).
        """
        minr, minc, _, _ = self.bbox
        return polygons(self.mask(), (minr, minc))

    def _drawing(self, size: int) -> NDArray[np.uint8] | None:
        """Return the mask of the box in the segment's colour, uint8 (h, w, 3), for notebooks."""
        from mapix.drawing import thumbnail
        from mapix.iid.overlay import GROUND, colours_of

        h, w = self.shape
        if not 0 < h * w <= MOST_DRAWN_PIXELS:
            return None
        share = np.linspace(0, 1, 256)[:, None]
        colours = (1 - share) * GROUND + share * colours_of([self.key])
        return thumbnail(self.mask(), size, colours.astype(np.uint8))

    def _repr_html_(self) -> str:
        from mapix.notebook import record_html

        names = ("key", "domain", "iid", "bbox", "area")
        return record_html(
            self, self._drawing, lambda: {name: getattr(self, name) for name in names}
        )

    def __repr__(self) -> str:
        from mapix.text import never_failing

        return never_failing(_shown)(self)


def _shown(segment: Segment) -> str:
    domain, iid = segment._file.name(segment._row)
    return (
        f"<Segment {segment.key}: {domain!r} {iid[:20]!r}, {segment.bbox}, {segment.area} pixels>"
    )


def _regions(file: SegmentFile, row: int) -> list[Region]:
    """Return the regions of a segment, each checked against the box and the bytes."""
    outer, _ = file.head(row)
    begin, nbytes = file.regions_at(row)
    raw = file.region_bytes(row)
    found: list[Region] = []
    at = 0
    while at < nbytes:
        complete = nbytes - at >= REGION_HEAD.size
        length, *box = REGION_HEAD.unpack_from(raw, at) if complete else (0, 0, 0, 0, 0)
        minr, minc, maxr, maxc = box
        inside = outer[0] <= minr <= maxr <= outer[2] and outer[1] <= minc <= maxc <= outer[3]
        want = REGION_HEAD.size + ((maxr - minr) * (maxc - minc) + 7) // 8
        if not complete or not inside or length != want or at + length > nbytes:
            # raises an error with all numbers
            file.native.count(np.array([row], np.uint32), np.array([outer], np.uint16))
            reason = f"region {len(found)} does not fit its segment"
            raise FormatError(file.path, NAME, reason, record=row, at=begin + at)
        bits = np.frombuffer(raw, np.uint8, length - REGION_HEAD.size, at + REGION_HEAD.size)
        found.append(Region((minr, minc, maxr, maxc), bits))
        at += length
    return found


def polygons(mask: ArrayLike, at: tuple[int, int] = (0, 0)) -> list[NDArray[np.int32]]:
    """Return outlines of a mask along the sides of its pixels: see ``Segment.polygon``.

    Parameters
    ----------
    mask : array_like
        (h, w); pixels that are not 0 belong to it.
    at : (row, column)
        Place of the mask's first pixel in the image.
    """
    given = as_pixels(mask)
    found = outlines(given if given.itemsize == 1 else given != 0, at, MOST_SIDES)
    if found is None:
        raise LimitError(f"outlines of more than {MOST_SIDES} sides")
    return found
