"""Pixels of many segments: masks, counts, paintings, overlaps, unions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mapix._native.tree import Tree
from mapix.errors import LimitError
from mapix.iid.archive_base import ArchiveBase
from mapix.iid.argument_checks import Box, Keys, KeysLike, as_box, as_pair
from mapix.iid.layout import LEAST_NBYTES, MOST_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.pixel_results import Masks, Overlaps

__all__ = ["Masks", "Overlaps", "PixelQueries"]

SEGMENTS_PER_CALL = 1 << 16  # decoded between two checks for Ctrl-C
MOST_MASKS_NBYTES = 1 << 34  # in one call
MOST_PAIRS = 1 << 29  # of segments that overlap, in one call
PAIRS_PER_MIB = 1 << 20  # of the file
IMAGE_PIXELS_PER_BYTE = 64  # of the file
WORK_NS_PER_BYTE = 1 << 10  # of the file, about


def _window(bbox: Any) -> NDArray[np.uint16]:
    return np.array(as_box(bbox), np.uint16)


class PixelQueries(ArchiveBase):
    """Queries about the pixels of many segments, on the packed bits."""

    def masks(self, keys: KeysLike | None = None, out: NDArray[Any] | None = None) -> Masks:
        """Return masks of many segments, each of its own box, in one piece of memory.

        Parameters
        ----------
        keys : array_like, optional
            All by default.
        out : ndarray, optional
            1-D bool or uint8, large enough.  Memory that was used before is several times as fast.
        """
        from mapix.iid.pixel_results import Masks

        some = self._some(keys)
        boxes = np.ascontiguousarray(self.bboxes.take(some, axis=0))
        sides = boxes.astype(np.int64)
        sizes = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
        offsets = np.zeros(len(some) + 1, np.uint64)
        np.cumsum(sizes, out=offsets[1:], dtype=np.uint64)
        total = int(offsets[-1])
        if total > MOST_MASKS_NBYTES:
            raise LimitError(f"{self.path}: masks of {total} bytes, more than {MOST_MASKS_NBYTES}")
        if out is None:
            self.check_pixels(total, f"masks of {len(some)} segments")
        flat = np.empty(total, np.bool_) if out is None else out
        if flat.ndim != 1 or flat.dtype.itemsize != 1 or flat.size < total:
            raise ValueError(f"out must be 1-D bool or uint8 of at least {total}, got {flat.shape}")
        flat = flat[:total].view(np.bool_)
        into = flat.view(np.uint8)
        for at in range(0, len(some), SEGMENTS_PER_CALL):
            part = slice(at, min(at + SEGMENTS_PER_CALL, len(some)))
            piece = offsets[at : part.stop + 1]
            first = int(piece[0])
            room = into[first : int(piece[-1])]
            self._bits.masks(some[part], boxes[part], piece - piece[0], room)
        return Masks(some, boxes, flat, offsets)

    def counts(self, keys: KeysLike | None = None) -> NDArray[np.uint32]:
        """Return the pixels counted in the masks, uint32 (n,); ``areas`` are stated in the file."""
        some = self._some(keys)
        return self._bits.count(some, np.ascontiguousarray(self.bboxes.take(some, axis=0)))

    def _window_of(self, keys: Keys, bbox: Box | None) -> NDArray[np.uint16]:
        if bbox is not None:
            return _window(bbox)
        boxes = self.bboxes.take(keys, axis=0)
        boxes = boxes[(boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])]
        if not len(boxes):
            return np.zeros(4, np.uint16)
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        return np.concatenate([low, high])

    def _within(self, keys: Keys, window: NDArray[np.uint16]) -> Keys:
        """Return the keys whose box meets a window, in their order."""
        b = self.bboxes.take(keys, axis=0)
        meets = (b[:, 0] < window[2]) & (b[:, 2] > window[0])
        meets &= (b[:, 1] < window[3]) & (b[:, 3] > window[1])
        inside: Keys = keys[meets]
        return inside

    def paint(
        self,
        keys: KeysLike | None = None,
        bbox: Box | None = None,
        out: NDArray[np.int32] | None = None,
        *,
        order: Literal["key", "given", "area"] = "key",
        background: int = -1,
        depth: bool = False,
    ) -> Any:
        """Return a label map: the key of the topmost segment of each pixel.

        Parameters
        ----------
        keys : array_like, optional
            All by default.
        bbox : (minr, minc, maxr, maxc), optional
            The window; by default from (0, 0) to ``shape``.
        out : ndarray, optional
            int32, C-contiguous, of the window's shape.
        order : {"key", "given", "area"}
            Which segment is on top: the highest key; the last one of ``keys``; the smallest one.
        background : int
            Value of pixels without a segment.
        depth : bool
            Whether to return (labels, depth): depth, uint16, is the number of segments of a pixel.

        Returns
        -------
        ndarray
            int32 (h, w).
        """
        some = self._some(keys)
        window = _window((0, 0, *self.shape) if bbox is None else bbox)
        h, w = int(window[2]) - int(window[0]), int(window[3]) - int(window[1])
        if bbox is None and out is None:
            self.check_pixels(h * w, f"an image of {h} x {w}", IMAGE_PIXELS_PER_BYTE)
        labels = np.empty((h, w), np.int32) if out is None else out
        if labels.shape != (h, w) or labels.dtype != np.int32 or not labels.flags.c_contiguous:
            raise ValueError(
                f"out must be C-contiguous int32 of shape {(h, w)}, "
                f"got {labels.dtype} {labels.shape}"
            )
        labels.fill(background)
        deep = np.zeros((h, w), np.uint16) if depth else None
        some = self._within(some, window)
        if order == "key":
            some = np.sort(some)
        elif order == "area":
            some = some[np.lexsort((some, -self.areas.take(some).astype(np.int64)))]
        elif order != "given":
            raise ValueError(f"order must be key, given or area, got {order!r}")
        some = np.ascontiguousarray(some)
        boxes, values = np.ascontiguousarray(self.bboxes.take(some, axis=0)), some.astype(np.int32)
        if len(some) and labels.size:
            self._bits.paint(some, values, boxes, window, labels, deep)
        return labels if deep is None else (labels, deep)

    def overlaps(self, keys: KeysLike | None = None) -> Overlaps:
        """Return all pairs of segments that share pixels, and how many pixels.

        The tree over boxes gives candidates; their pixels are counted on the packed bits.

        Raises
        ------
        LimitError
            There are more pairs than 1 Mi per MiB of the file, or the search takes more than about
            a second per MiB.  Files below 1 MiB count as 1 MiB.
        """
        if keys is None:
            some, tree = self.keys, self._tree
        else:
            some = np.unique(self._some(keys))
            tree = Tree(np.ascontiguousarray(self.bboxes.take(some, axis=0)))
        size = max(self.nbytes, LEAST_NBYTES)
        most = min(MOST_PAIRS, PAIRS_PER_MIB * size >> 20)
        found = self._bits.overlaps(some, tree, most, WORK_NS_PER_BYTE * size)
        if found is None:
            raise LimitError(
                f"{self.path}: more than {most} pairs of segments overlap, or too many boxes do, "
                f"in an archive of {self.nbytes} bytes: ask for fewer keys"
            )
        from mapix.iid.pixel_results import Overlaps

        i, j, pixels = found
        return Overlaps(i, j, pixels, self.areas.take(i), self.areas.take(j))

    def _combined(
        self, keys: KeysLike, bbox: Box | None, rest: int
    ) -> tuple[NDArray[np.bool_], Box]:
        """Return the first mask, combined with the rest: 0 or, 1 and, 2 and-not."""
        some = self._some(keys)
        window = self._window_of(some, bbox)
        h, w = int(window[2]) - int(window[0]), int(window[3]) - int(window[1])
        if bbox is None:
            self.check_pixels(h * w, f"a mask of {h} x {w}")
        canvas = np.zeros((h, (w + 63) // 64), np.uint64)
        if len(some) and canvas.size:
            self._bits.combine(some[:1], 0, window, canvas)
            if len(some) > 1:
                self._bits.combine(some[1:], rest, window, canvas)
        octets = canvas.astype(">u8").view(np.uint8).reshape(h, 8 * canvas.shape[1])
        minr, minc, maxr, maxc = window.tolist()
        mask = np.unpackbits(octets, axis=1, count=w).view(np.bool_)
        return mask, (minr, minc, maxr, maxc)

    def union(self, keys: KeysLike, bbox: Box | None = None) -> tuple[NDArray[np.bool_], Box]:
        """Return the pixels of any of the segments: a bool mask, and its box."""
        return self._combined(keys, bbox, 0)

    def intersection(
        self, keys: KeysLike, bbox: Box | None = None
    ) -> tuple[NDArray[np.bool_], Box]:
        """Return the pixels of all of the segments: a bool mask, and its box."""
        return self._combined(keys, bbox, 1)

    def difference(self, keys: KeysLike, bbox: Box | None = None) -> tuple[NDArray[np.bool_], Box]:
        """Return the pixels that only the first segment has: a bool mask, and its box."""
        return self._combined(keys, bbox, 2)

    def coco_rle(
        self,
        keys: KeysLike | None = None,
        size: tuple[int, int] | None = None,
        *,
        compressed: bool = True,
    ) -> list[dict[str, Any]]:
        """Return masks as COCO run-length encodings of the image; see ``mapix.iid.coco``."""
        some = self._some(keys)
        h, w = self.shape if size is None else as_pair(size, "size")
        boxes = self.bboxes.take(some, axis=0)
        outside = (boxes[:, 2] > h) | (boxes[:, 3] > w)
        if outside.any():
            box = tuple(boxes[int(np.argmax(outside))].tolist())
            raise ValueError(f"a box {box} does not lie in an image of {h} x {w}")
        if max(h, w) > MOST_SIDE:
            raise ValueError(f"an image of {h} x {w}: a side has at most {MOST_SIDE} pixels")
        counts = self._bits.rle(some, (h, w), text=compressed)
        return [{"size": [h, w], "counts": c} for c in counts]
