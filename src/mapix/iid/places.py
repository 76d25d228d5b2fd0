"""Which segments are at a pixel, or in a window."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.iid import Parts

__all__ = ["Places"]

MOST = 65535  # sides of an image end here
PARTS_A_SEGMENT = 16  # regions that a tree is made over; with more, boxes of segments have to do
LEAST_PARTS = 1 << 20
ASKED_A_SEGMENT = 1 / 64  # questions after which a tree over regions pays, where boxes have theirs
LEAST_ASKED = 64

Keys = NDArray[np.uint32]


class Places:
    """What ``Archive`` inherits: questions by pixel.

    Exact answers come from a tree over the regions of all segments, and their bits.  It is made
    when it is first needed, at about 30 ns a segment; an archive with an index behind it answers
    the first questions by that, and by walking the regions of whatever its boxes meet.
    """

    def at(
        self: Any, x: ArrayLike, y: ArrayLike, *, exact: bool = True, topmost: bool = False
    ) -> Any:
        """Segments at a pixel, or at many.

        Parameters
        ----------
        x, y : int, or array_like of int
            Column and row.
        exact : bool
            Whether the segment has the pixel, or only its box.
        topmost : bool
            Only the one with the highest key: what a painting in the order of keys shows.

        Returns
        -------
        ndarray
            uint32, ascending, which is from the bottom to the top; with ``topmost`` the key, or -1.
            For arrays of points a pair (keys, offsets): those of point i are
            ``keys[offsets[i]:offsets[i + 1]]``; with ``topmost`` int64 (n,).
        """
        if isinstance(x, int) and isinstance(y, int):
            if not (0 <= x < MOST and 0 <= y < MOST):
                return -1 if topmost else np.empty(0, np.uint32)
            keys = self._in_window((y, x, y + 1, x + 1), exact)
            return _top(keys) if topmost else keys
        columns, rows = np.atleast_1d(np.asarray(x)), np.atleast_1d(np.asarray(y))
        if columns.shape != rows.shape or columns.ndim != 1:
            raise ValueError(f"x and y must be alike, got shapes {columns.shape} and {rows.shape}")
        boxes = np.stack([rows, columns, rows + 1, columns + 1], axis=1)
        return self._by_box(boxes, exact, topmost, single=np.ndim(x) == 0)

    def region(self: Any, bbox: ArrayLike, *, exact: bool = True, topmost: bool = False) -> Any:
        """Segments with a pixel in a window (minr, minc, maxr, maxc), or in each of (n, 4).

        The parameters and what is returned are those of ``at``.
        """
        one: Any = bbox
        if isinstance(one, tuple) and len(one) == 4 and all(type(v) is int for v in one):
            minr, minc, maxr, maxc = (0 if v < 0 else MOST if v > MOST else v for v in one)
            keys = self._in_window((minr, minc, maxr, maxc), exact)
            return _top(keys) if topmost else keys
        boxes = np.asarray(bbox)
        if boxes.shape[-1:] != (4,) or boxes.ndim not in (1, 2):
            raise ValueError(f"a box is (minr, minc, maxr, maxc), got shape {boxes.shape}")
        return self._by_box(boxes.reshape(-1, 4), exact, topmost, single=boxes.ndim == 1)

    def _by_box(self: Any, boxes: NDArray[Any], exact: bool, topmost: bool, *, single: bool) -> Any:
        if boxes.dtype.kind not in "iu":
            raise TypeError(f"pixels are whole numbers, got {boxes.dtype}")
        windows = np.ascontiguousarray(np.clip(boxes, 0, MOST), np.uint16)
        if single:
            keys = self._in_window(tuple(windows[0].tolist()), exact)
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

    # --- by regions, or by boxes and a walk -------------------------------------------------------

    @cached_property
    def _parts(self: Any) -> Parts | None:
        limit = max(PARTS_A_SEGMENT * len(self), LEAST_PARTS)
        _ = self.bboxes  # the table is looked at, and what is odd about it told
        return Parts.of(self._iid, self.source.mapping, limit)

    def _parts_for(self: Any, nwindows: int) -> Parts | None:
        """The tree over regions, if it is there or worth making for that many questions more."""
        asked = self.__dict__["_asked"] = self.__dict__.get("_asked", 0) + nwindows
        if "_parts" not in self.__dict__ and asked < max(ASKED_A_SEGMENT * len(self), LEAST_ASKED):
            return None if self._index is not None else self._parts
        known: Parts | None = self._parts
        return known

    def _in_window(self: Any, window: tuple[int, int, int, int], exact: bool) -> Keys:
        """Keys in one window, ascending."""
        found: Keys
        known = self.__dict__.get("_parts") or (self._parts_for(1) if exact else None)
        if exact and known is not None:
            found = known.hits(self.source.mapping, window)
            return found
        box = np.array(window, np.uint16)
        found = np.sort(self._tree.search(box))
        if exact and len(found):
            windows = np.ascontiguousarray(np.broadcast_to(box, (len(found), 4)))
            found = found[self._iid.count(self.source.mapping, found, windows, any=True) > 0]
        return found

    def _in_windows(
        self: Any, windows: NDArray[np.uint16], exact: bool
    ) -> tuple[Keys, NDArray[Any]]:
        """Keys in many windows, ascending in each, back to back; and how many each has."""
        known = self._parts_for(len(windows)) if exact else None
        if known is not None:
            many: tuple[Keys, NDArray[Any]] = known.many(self.source.mapping, windows)
            return many
        keys, counts = self._tree.search_many(windows)
        if exact and len(keys):
            point = np.repeat(np.arange(len(windows)), counts)
            hit = self._iid.count(self.source.mapping, keys, windows[point], any=True) > 0
            keys, counts = keys[hit], np.bincount(point[hit], minlength=len(windows))
        return keys, counts


def _top(keys: Keys) -> int:
    return int(keys[-1]) if len(keys) else -1
