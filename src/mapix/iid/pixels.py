"""Pixels of many segments: masks, counts, paintings, overlaps, unions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.tree import Tree
from mapix.errors import LimitError
from mapix.iid.arguments import box_of, pair_of
from mapix.iid.groups import Group
from mapix.iid.segment import Box
from mapix.iid.selection import Selection
from mapix.selection import single

__all__ = ["STEP", "Masks", "Overlaps", "Pixels"]

STEP = 1 << 16  # segments looked at between two looks at Ctrl-C
MOST_MASK_NBYTES = 1 << 34  # of masks in one call
MOST_PAIRS = 1 << 29  # of segments that overlap, in one call
PAIRS_PER_MIB = 1 << 20  # of the file, which is taken for at least LEAST_NBYTES
IMAGE_PIXELS_PER_BYTE = 64  # of the file, that an image may have
LEAST_NBYTES = 1 << 20
WORK_PER_BYTE = 1 << 10  # of the file, in nanoseconds or so

Keys = NDArray[np.uint32]
KeysLike = Group | Selection | ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Masks of many segments in one piece of memory.

    Attributes
    ----------
    keys : ndarray
        uint32 (n,).
    boxes : ndarray
        uint16 (n, 4).
    flat : ndarray
        bool, all masks back to back.
    offsets : ndarray
        uint64 (n + 1,): mask i is ``flat[offsets[i]:offsets[i + 1]]``; ``masks[i]`` shapes it.
    """

    keys: Keys
    boxes: NDArray[np.uint16]
    flat: NDArray[np.bool_]
    offsets: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: SupportsIndex) -> NDArray[np.bool_]:
        number = single(i, len(self.keys), "masks", "masks")
        minr, minc, maxr, maxc = self.boxes[number].tolist()
        return self.flat[int(self.offsets[number]) :][: (maxr - minr) * (maxc - minc)].reshape(
            maxr - minr, maxc - minc
        )

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        sides = self.boxes.astype(np.int64)
        shapes = (sides[:, 2:] - sides[:, :2]).tolist()
        cuts, flat = self.offsets.tolist(), self.flat
        return (
            flat[begin:end].reshape(shape)
            for begin, end, shape in zip(cuts[:-1], cuts[1:], shapes, strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pairs of segments that share pixels, each once, i < j, sorted.

    Attributes
    ----------
    i, j : ndarray
        uint32 (n,): keys.
    pixels : ndarray
        uint32 (n,): how many they share.
    area_i, area_j : ndarray
        uint32 (n,): pixels of each.
    """

    i: Keys
    j: Keys
    pixels: NDArray[np.uint32]
    area_i: NDArray[np.uint32]
    area_j: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.i)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Shared pixels over those of both, (n,)."""
        union = self.area_i.astype(np.float64) + self.area_j - self.pixels
        return self.pixels / np.maximum(union, 1)

    @property
    def ios(self) -> NDArray[np.float64]:
        """Shared pixels over those of the smaller one, (n,)."""
        return self.pixels / np.maximum(np.minimum(self.area_i, self.area_j), 1)

    def sparse(self, nsegments: int, weights: Literal["pixels", "iou", "ios"] = "pixels") -> Any:
        """An upper-triangular ``scipy.sparse.coo_array`` (nsegments, nsegments); needs scipy."""
        from scipy.sparse import coo_array

        return coo_array((getattr(self, weights), (self.i, self.j)), shape=(nsegments, nsegments))


def _window(bbox: Any) -> NDArray[np.uint16]:
    return np.array(box_of(bbox), np.uint16)


class Pixels:
    """What ``Archive`` inherits; all of it works on the packed bits."""

    def _mask(self: Any, key: int, bbox: Box, out: NDArray[Any] | None) -> NDArray[np.bool_]:
        window = _window(bbox)
        h, w = (int(window[2]) - int(window[0])), (int(window[3]) - int(window[1]))
        given = np.empty((h, w), np.bool_) if out is None else out
        if given.shape != (h, w) or given.dtype.itemsize != 1 or not given.flags.c_contiguous:
            raise ValueError(
                f"out must be C-contiguous bool or uint8 of shape {(h, w)}, "
                f"got {given.dtype} {given.shape}"
            )
        offsets = np.array([0, h * w], np.uint64)
        flat = given.reshape(-1).view(np.uint8)
        keys = np.array([key], np.uint32)
        self._iid.masks(self.source.mapping, keys, window.reshape(1, 4), offsets, flat)
        found: NDArray[np.bool_] = given.view(np.bool_) if out is None else given
        return found

    # --- masks of many ----------------------------------------------------------------------------

    def masks(self: Any, keys: KeysLike | None = None, out: NDArray[Any] | None = None) -> Masks:
        """Masks of many segments, each of its own box, in one piece of memory.

        Parameters
        ----------
        keys : array_like, optional
            All by default.
        out : ndarray, optional
            1-D bool or uint8, large enough: memory that was used before is several times as fast.
        """
        some = self._some(keys)
        boxes = np.ascontiguousarray(self.bboxes[some])
        sides = boxes.astype(np.int64)
        sizes = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
        offsets = np.zeros(len(some) + 1, np.uint64)
        np.cumsum(sizes, out=offsets[1:], dtype=np.uint64)
        total = int(offsets[-1])
        if total > MOST_MASK_NBYTES:
            raise LimitError(f"{self.path}: masks of {total} bytes, more than {MOST_MASK_NBYTES}")
        if out is None:
            self.check_pixels(total, f"masks of {len(some)} segments")
        flat = np.empty(total, np.bool_) if out is None else out
        if flat.ndim != 1 or flat.dtype.itemsize != 1 or flat.size < total:
            raise ValueError(f"out must be 1-D bool or uint8 of at least {total}, got {flat.shape}")
        flat = flat[:total].view(np.bool_)
        into = flat.view(np.uint8)
        for at in range(0, len(some), STEP):
            part = slice(at, min(at + STEP, len(some)))
            piece = offsets[at : part.stop + 1]
            first = int(piece[0])
            self._iid.masks(
                self.source.mapping,
                some[part],
                boxes[part],
                piece - piece[0],
                into[first : int(piece[-1])],
            )
        return Masks(some, boxes, flat, offsets)

    def counts(self: Any, keys: KeysLike | None = None) -> NDArray[np.uint32]:
        """Pixels of segments, counted in their masks, uint32 (n,); ``areas`` is what is stated."""
        some = self._some(keys)
        windows = np.ascontiguousarray(self.bboxes[some])
        found: NDArray[np.uint32] = self._iid.count(self.source.mapping, some, windows)
        return found

    def _window_of(self: Any, keys: Keys, bbox: Box | None) -> NDArray[np.uint16]:
        if bbox is not None:
            return _window(bbox)
        boxes = self.bboxes[keys]
        boxes = boxes[(boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])]
        if not len(boxes):
            return np.zeros(4, np.uint16)
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        around: NDArray[np.uint16] = np.concatenate([low, high])
        return around

    def _within(self: Any, keys: Keys, window: NDArray[np.uint16]) -> Keys:
        """Of keys those whose box meets a window, in their order."""
        b = self.bboxes[keys]
        meets = (b[:, 0] < window[2]) & (b[:, 2] > window[0])
        meets &= (b[:, 1] < window[3]) & (b[:, 3] > window[1])
        inside: Keys = keys[meets]
        return inside

    def paint(
        self: Any,
        keys: KeysLike | None = None,
        bbox: Box | None = None,
        out: NDArray[np.int32] | None = None,
        *,
        order: Literal["key", "given", "area"] = "key",
        background: int = -1,
        depth: bool = False,
    ) -> Any:
        """A label map: the key of the topmost segment of each pixel.

        Parameters
        ----------
        keys : array_like, optional
            All by default.
        bbox : (minr, minc, maxr, maxc), optional
            The window; by default from (0, 0) to ``shape``.
        out : ndarray, optional
            int32, C-contiguous, of the window's shape.
        order : {"key", "given", "area"}
            What is painted over what: higher keys over lower ones; later over earlier ones of
            ``keys``; smaller ones over larger ones.
        background : int
            Of pixels without a segment.
        depth : bool
            Whether to return (labels, depth), with uint16 depth: how many segments each pixel has.

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
            some = some[np.lexsort((some, -self.areas[some].astype(np.int64)))]
        elif order != "given":
            raise ValueError(f"order must be key, given or area, got {order!r}")
        some = np.ascontiguousarray(some)
        boxes, values = np.ascontiguousarray(self.bboxes[some]), some.astype(np.int32)
        if len(some) and labels.size:
            self._iid.paint(self.source.mapping, some, values, boxes, window, labels, deep)
        return labels if deep is None else (labels, deep)

    def overlaps(self: Any, keys: KeysLike | None = None) -> Overlaps:
        """All pairs of segments that share pixels, and how many.

        Candidates come from the tree over boxes; pixels are counted on the packed bits.

        Raises
        ------
        LimitError
            More pairs than 1 Mi per MiB of the file, and more than 1 Mi; or finding them takes more
            than about a second per MiB.
        """
        if keys is None:
            some, tree = self.keys, self._tree
        else:
            some = np.unique(self._some(keys))
            tree = Tree(np.ascontiguousarray(self.bboxes[some]))
        size, nbytes = max(self._nbytes, LEAST_NBYTES), self._nbytes
        most = min(MOST_PAIRS, PAIRS_PER_MIB * size >> 20)
        found = self._iid.overlaps(self.source.mapping, some, tree, most, WORK_PER_BYTE * size)
        if found is None:
            raise LimitError(
                f"{self.path}: more than {most} pairs of segments overlap, or too many boxes do, "
                f"in an archive of {nbytes} bytes: ask for fewer keys"
            )
        i, j, pixels = (np.ascontiguousarray(found[:, k]) for k in range(3))
        return Overlaps(i, j, pixels, self.areas[i], self.areas[j])

    def _combined(self: Any, keys: KeysLike, bbox: Box | None, first: int, rest: int) -> Any:
        some = self._some(keys)
        window = self._window_of(some, bbox)
        h, w = int(window[2]) - int(window[0]), int(window[3]) - int(window[1])
        if bbox is None:
            self.check_pixels(h * w, f"a mask of {h} x {w}")
        canvas = np.zeros((h, (w + 63) // 64), np.uint64)
        if len(some) and canvas.size:
            self._iid.combine(self.source.mapping, some[:1], first, window, canvas)
            if len(some) > 1:
                self._iid.combine(self.source.mapping, some[1:], rest, window, canvas)
        octets = canvas.astype(">u8").view(np.uint8).reshape(h, 8 * canvas.shape[1])
        minr, minc, maxr, maxc = window.tolist()
        mask = np.unpackbits(octets, axis=1, count=w).view(np.bool_)
        return mask, (minr, minc, maxr, maxc)

    def union(self: Any, keys: KeysLike, bbox: Box | None = None) -> tuple[NDArray[np.bool_], Box]:
        """Pixels of any of the segments: bool mask, and the box that it is of."""
        found: tuple[NDArray[np.bool_], Box] = self._combined(keys, bbox, 0, 0)
        return found

    def intersection(
        self, keys: KeysLike, bbox: Box | None = None
    ) -> tuple[NDArray[np.bool_], Box]:
        """Pixels of all of the segments: bool mask, and the box that it is of."""
        found: tuple[NDArray[np.bool_], Box] = self._combined(keys, bbox, 0, 1)
        return found

    def difference(
        self: Any, keys: KeysLike, bbox: Box | None = None
    ) -> tuple[NDArray[np.bool_], Box]:
        """Pixels of the first segment that no other has: bool mask, and the box that it is of."""
        found: tuple[NDArray[np.bool_], Box] = self._combined(keys, bbox, 0, 2)
        return found

    def coco_rle(
        self: Any,
        keys: KeysLike | None = None,
        size: tuple[int, int] | None = None,
        *,
        compressed: bool = True,
    ) -> list[dict[str, Any]]:
        """Masks as COCO run-length encodings of a whole image; see ``mapix.iid.coco``."""
        some = self._some(keys)
        h, w = self.shape if size is None else pair_of(size, "size")
        boxes = self.bboxes[some]
        outside = (boxes[:, 2] > h) | (boxes[:, 3] > w)
        if outside.any():
            box = tuple(boxes[int(np.argmax(outside))].tolist())
            raise ValueError(f"a box {box} does not lie in an image of {h} x {w}")
        most = (min(h, 65535), min(w, 65535))
        if most != (h, w):
            raise ValueError(f"an image of {h} x {w}; up to 65535 a side fit")
        counts = self._iid.rle(self.source.mapping, some, most, text=compressed)
        return [{"size": [h, w], "counts": c} for c in counts]
