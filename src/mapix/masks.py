"""Masks of COCO's segmentations: polygons, and run lengths as numbers or as text.

Runs go down the columns of the image, zeros first.  Uncompressed ``counts`` are a list.  Compressed
ones are text: from each count after the third, the count two before is subtracted; the result is
written in groups of 5 bits, lowest first, with bit 6 if another group follows, plus 48.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix._native.iid import polygon_crossings, rle_box, rle_counts, rle_mask
from mapix.errors import LimitError

__all__ = [
    "MOST_PIXELS",
    "Box",
    "Mask",
    "counts_of",
    "mask_of_runs",
    "polygons",
    "runs_of",
    "segment",
]

Box = tuple[int, int, int, int]
"""minr, minc, maxr, maxc: rows and columns, half open."""

Mask = tuple[NDArray[np.bool_], Box]
"""The mask of a box, and the box."""

MOST_PIXELS = 1 << 26
"""Default limit of a mask: a few bytes can state any size."""

MOST_SIDE = 65535
MOST_GROUPS = 13  # of a count: more exceed 64 bits
MOST_CROSSINGS = 1 << 24  # of the polygons of a segment with columns of pixels
MOST_TIMES = 64  # that polygons of one segment may cover an image
MOST_FAR = 1e8  # pixels from the first one to a corner
NO_BOX = (0, 0, 0, 0)


def segment(found: Any, size: tuple[int, int], *, most_pixels: int = MOST_PIXELS) -> Mask:
    """Return the mask of a segmentation within its tight box, with the pixels of pycocotools.

    Parameters
    ----------
    found : list or mapping
        Polygons, each a flat list of x, y; or run lengths, ``{"size": [h, w], "counts": ...}``.
        None, and a list without polygons, has no pixels.
    size : (h, w)
        Size of the image.
    most_pixels : int
        Largest box to make a mask of.

    Raises
    ------
    TypeError, ValueError
        It is not a segmentation, or not of an image of that size.
    LimitError
        The mask is larger than ``most_pixels``.
    """
    if isinstance(found, Mapping):
        stated = found.get("size")
        if not isinstance(stated, list | tuple) or list(stated) != list(size):
            raise ValueError(f"run lengths of size {list(size)} expected, got {_short(stated)}")
        return mask_of_runs(runs_of(found.get("counts")), size, most_pixels)
    if found is None:
        found = []
    if not isinstance(found, list | tuple):
        raise TypeError(f"polygons or run lengths expected, got {_short(found)}")
    return _union(_polygons_runs(polygons(found), size), size, most_pixels)


def _union(some: list[NDArray[np.uint32]], size: tuple[int, int], most_pixels: int) -> Mask:
    """Return the pixels that any of several encodings has."""
    boxes = np.array([rle_box(runs, size) or NO_BOX for runs in some], np.int64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    some = [runs for runs, area in zip(some, areas.tolist(), strict=True) if area]
    boxes = boxes[areas > 0]
    if not some:
        return np.zeros((0, 0), np.bool_), NO_BOX
    if len(some) == 1:
        return mask_of_runs(some[0], size, most_pixels)
    minr, minc = boxes[:, :2].min(axis=0).tolist()
    maxr, maxc = boxes[:, 2:].max(axis=0).tolist()
    _check_pixels(maxr - minr, maxc - minc, most_pixels)
    if int(areas.sum()) > MOST_TIMES * size[0] * size[1]:
        raise LimitError(f"polygons that cover the image more than {MOST_TIMES} times")
    canvas = np.zeros((maxr - minr, maxc - minc), np.bool_)
    for runs in some:
        mask, (top, left, bottom, right) = mask_of_runs(runs, size, most_pixels)
        canvas[top - minr : bottom - minr, left - minc : right - minc] |= mask
    return canvas, (minr, minc, maxr, maxc)


def polygons(found: Any) -> list[NDArray[np.float64]]:
    """Return polygons as float64 (corners, 2): x, y; those of fewer than three corners left out.

    Raises
    ------
    TypeError, ValueError
        One of them is not a list of an even number of numbers.
    """
    corners = []
    for k, one in enumerate(found):
        if not isinstance(one, list | tuple):
            raise TypeError(f"polygon {k}: a list of x, y expected, got {_short(one)}")
        if len(one) % 2:
            raise ValueError(f"polygon {k}: {len(one)} numbers, an even number expected")
        if not all(type(number) in (int, float) for number in one):
            raise TypeError(f"polygon {k}: a corner that is not a number")
        if len(one) >= 6:
            corners.append(np.array(one, np.float64).reshape(-1, 2))
    return corners


def _polygons_runs(
    some: list[NDArray[np.float64]], size: tuple[int, int]
) -> list[NDArray[np.uint32]]:
    """Return the run lengths of each polygon."""
    h, w = size
    if not (h <= MOST_SIDE and w <= MOST_SIDE):
        raise ValueError(f"an image of {h} x {w}: a side has at most {MOST_SIDE} pixels")
    left, found, zero = MOST_CROSSINGS, [], np.zeros(1, np.uint32)
    end = np.array([h * w], np.uint32)
    for corners in some:
        crossings = polygon_crossings(corners, size, left)
        if crossings is None:
            if not bool((np.abs(corners) <= MOST_FAR).all()):
                raise ValueError(f"a corner of a polygon is farther than {MOST_FAR:.0e} pixels")
            raise LimitError(f"polygons that cross more than {MOST_CROSSINGS} columns of pixels")
        left -= len(crossings)
        found.append(np.diff(np.concatenate([zero, np.sort(crossings), end])))
    return found


def counts_of(counts: list[int]) -> str:
    """Return run lengths as compressed text."""
    out = []
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = x & 31
            x >>= 5
            more = x != -1 if group & 16 else x != 0
            out.append(chr((group | 32 if more else group) + 48))
    return "".join(out)


def runs_of(counts: object) -> NDArray[np.uint32]:
    """Return the run lengths of text, bytes or integers as uint32 (n,).

    Raises
    ------
    TypeError
        They are something else, or an item is not an integer.
    ValueError
        A count is negative or too large, or text is not an encoding.
    """
    if isinstance(counts, str | bytes):
        text = counts.encode("utf-8") if isinstance(counts, str) else counts
        runs = rle_counts(text)
        if runs is None:
            raise ValueError(f"counts of {sum(_parsed(text))} pixels")  # its error names the count
        return runs
    if isinstance(counts, Mapping) or not isinstance(counts, Iterable):
        raise TypeError(f"counts are text or integers, got {type(counts).__name__}")
    if not isinstance(counts, np.ndarray):
        listed = [_integer(count) for count in counts]
        if listed and not 0 <= min(listed) <= max(listed) < 1 << 32:
            raise ValueError(f"counts are 0..{2**32 - 1}, got {min(listed)} to {max(listed)}")
        return np.array(listed, np.uint32)
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise TypeError(f"counts are integers, got {counts.dtype} {counts.shape}")
    low, high = int(counts.min(initial=0)), int(counts.max(initial=0))
    if low < 0 or high >= 1 << 32:
        raise ValueError(f"counts are 0..{2**32 - 1}, got {low} to {high}")
    return np.ascontiguousarray(counts, np.uint32)


def _integer(count: object) -> int:
    if isinstance(count, bool | np.bool_):
        raise TypeError(f"a count must be an integer, got {count!r}")
    try:
        return operator.index(count)  # type: ignore[arg-type]
    except TypeError as e:
        raise TypeError(f"a count must be an integer, got {_short(count)}") from e


def _parsed(raw: bytes) -> list[int]:
    """Return the counts of text by plain code, for an error that names the wrong one."""
    found: list[int] = []
    at = 0
    while at < len(raw):
        x = shift = 0
        while True:
            if at == len(raw) or shift >= 5 * MOST_GROUPS:
                raise ValueError(f"counts that end inside a number, or a number too large, at {at}")
            group = raw[at] - 48
            at += 1
            if not 0 <= group < 64:
                raise ValueError(f"counts with a character outside of '0'..'o', at {at - 1}")
            x |= (group & 31) << shift
            shift += 5
            if not group & 32:
                if group & 16:
                    x -= 1 << shift
                break
        found.append(x + found[-2] if len(found) > 2 else x)
        if not 0 <= found[-1] < 1 << 32:
            raise ValueError(
                f"counts with {found[-1]}, which is not a number of pixels, before {at}"
            )
    return found


def mask_of_runs(
    runs: NDArray[np.uint32], size: tuple[int, int], most_pixels: int = MOST_PIXELS
) -> Mask:
    """Return the mask of run lengths within its tight box, bool (h, w), and the box.

    Raises
    ------
    ValueError
        The sum is not the size of the image, or a side is above 65535.
    LimitError
        The box has more pixels than ``most_pixels``.
    """
    h, w = size
    if not (h <= MOST_SIDE and w <= MOST_SIDE):
        raise ValueError(f"an image of {h} x {w}: a side has at most {MOST_SIDE} pixels")
    box = rle_box(runs, size)
    if box is None:
        total = int(runs.sum(dtype=np.uint64))
        raise ValueError(f"counts of {total} pixels for an image of {h} x {w}")
    _check_pixels(box[2] - box[0], box[3] - box[1], most_pixels, f" in {len(runs)} counts")
    return rle_mask(runs, h, box), box


def _check_pixels(h: int, w: int, most: int, what: str = "") -> None:
    if h * w > most:
        raise LimitError(
            f"a mask of {h} x {w} pixels{what}: more than {most}; most_pixels={h * w} makes it"
        )


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}"
