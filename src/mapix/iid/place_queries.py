"""Queries by place: which segments have a pixel, or meet a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.iid.archive_base import ArchiveBase
from mapix.iid.argument_checks import Keys
from mapix.iid.layout import MOST_SIDE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.iid.segment_file import SegmentFile

__all__ = ["PlaceQueries"]


class PlaceQueries(ArchiveBase):
    """Queries by pixel and by window."""

    _quickly: SegmentFile | None = None  # what may answer exact queries by one call

    def at(self, x: ArrayLike, y: ArrayLike, *, exact: bool = True, topmost: bool = False) -> Any:
        """Return the keys of the segments at a pixel, or at many.

        Parameters
        ----------
        x, y : int, or array_like of int
            Column and row.
        exact : bool
            Whether the segment must have the pixel; False: its box must have it.
        topmost : bool
            Return only the highest key: the segment that ``paint`` shows.

        Returns
        -------
        ndarray
            uint32, ascending, which is from bottom to top; with ``topmost`` the key, or -1.
            For arrays of points a pair (keys, offsets): those of point i are
            ``keys[offsets[i]:offsets[i + 1]]``; with ``topmost`` int64 (n,).
        """
        if self._quickly is not None and exact and not topmost:
            found = self._quickly.at(x, y)
            if found is not None:
                return found
        if isinstance(x, int) and isinstance(y, int):
            if not (0 <= x < MOST_SIDE and 0 <= y < MOST_SIDE):
                return -1 if topmost else np.empty(0, np.uint32)
            keys = self._in_window((y, x, y + 1, x + 1), exact)
            return _top(keys) if topmost else keys
        columns, rows = np.atleast_1d(np.asarray(x)), np.atleast_1d(np.asarray(y))
        if columns.shape != rows.shape or columns.ndim != 1:
            raise ValueError(
                f"x and y must have one shape, got shapes {columns.shape} and {rows.shape}"
            )
        boxes = np.stack([rows, columns, rows + 1, columns + 1], axis=1)
        return self._by_box(boxes, exact, topmost, single=np.ndim(x) == 0)

    def region(self, bbox: ArrayLike, *, exact: bool = True, topmost: bool = False) -> Any:
        """Return the keys with a pixel in a window (minr, minc, maxr, maxc), or in each of (n, 4).

        Parameters and return value are those of ``at``.
        """
        if self._quickly is not None and exact and not topmost:
            found = self._quickly.region(bbox)
            if found is not None:
                return found
        one: Any = bbox
        if isinstance(one, tuple) and len(one) == 4 and all(type(v) is int for v in one):
            minr, minc, maxr, maxc = (
                0 if v < 0 else MOST_SIDE if v > MOST_SIDE else v for v in one
            )
            keys = self._in_window((minr, minc, maxr, maxc), exact)
            return _top(keys) if topmost else keys
        boxes = np.asarray(bbox)
        if boxes.shape[-1:] != (4,) or boxes.ndim not in (1, 2):
            raise ValueError(f"a box is (minr, minc, maxr, maxc), got shape {boxes.shape}")
        return self._by_box(boxes.reshape(-1, 4), exact, topmost, single=boxes.ndim == 1)

    def _by_box(self, boxes: NDArray[Any], exact: bool, topmost: bool, *, single: bool) -> Any:
        if boxes.dtype.kind not in "iu":
            raise TypeError(f"pixels are integers, got {boxes.dtype}")
        windows = np.ascontiguousarray(np.clip(boxes, 0, MOST_SIDE), np.uint16)
        if single:
            minr, minc, maxr, maxc = windows[0].tolist()
            keys = self._in_window((minr, minc, maxr, maxc), exact)
            return _top(keys) if topmost else keys
        keys, counts = self._in_windows(windows, exact)
        offsets = np.zeros(len(windows) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        if topmost:
            top = np.full(len(windows), -1, np.int64)
            some = counts > 0
            top[some] = keys[offsets[1:][some] - 1]
            return top
        return keys, offsets


def _top(keys: Keys) -> int:
    return int(keys[-1]) if len(keys) else -1
