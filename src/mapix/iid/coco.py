"""Masks as COCO's run-length encodings, both ways.

Runs go down the columns of the whole image, zeros first.  Uncompressed ``counts`` are a list;
compressed ones text: each count (from the third on less the one before the last) in groups of 5
bits, lowest first, bit 6 for more to come, plus 48.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.iid import rle_box, rle_counts, rle_mask
from mapix.errors import LimitError
from mapix.iid.arguments import MOST_SIDE, Box, as_pixels, box_of, pair_of, whole

__all__ = ["MOST_PIXELS", "decode", "encode"]

MOST_PIXELS = 1 << 26
"""Of a mask that ``decode`` makes unless it is told otherwise: a few bytes may say any number."""

MOST_GROUPS = 13  # of a count: more are beyond 64 bits


def encode(
    mask: ArrayLike, bbox: Box, size: tuple[int, int], *, compressed: bool = True
) -> dict[str, Any]:
    """A mask of a box as the encoding of a whole image.

    Parameters
    ----------
    mask : array_like
        (maxr - minr, maxc - minc), bool, whole numbers or floats: what is not 0 belongs to it.
    bbox : (minr, minc, maxr, maxc)
        Where it lies.
    size : (h, w)
        Of the image, which holds the box.
    compressed : bool
        Whether counts are text.

    Returns
    -------
    dict
        ``{"size": [h, w], "counts": ...}``.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        The box does not lie in the image, or is not as large as the mask.
    """
    pixels = as_pixels(mask)
    h, w = pair_of(size, "size")
    minr, minc, maxr, maxc = bbox = box_of(bbox)
    if pixels.shape != (maxr - minr, maxc - minc):
        raise ValueError(f"a box {bbox} for a mask of {pixels.shape[0]} x {pixels.shape[1]}")
    if maxr > h or maxc > w:
        raise ValueError(f"a box {bbox} does not lie in an image of {h} x {w}")
    columns, rows = np.nonzero(pixels.T)
    place = (columns + minc).astype(np.int64) * h + rows + minr
    if not len(place):
        counts = [h * w]
    else:
        begins = np.concatenate([[True], np.diff(place) > 1])
        first = place[begins]
        last = place[np.append(np.flatnonzero(begins)[1:] - 1, len(place) - 1)] + 1
        edges = np.stack([first, last], axis=1).reshape(-1)
        counts = np.diff(np.concatenate([[0], edges])).tolist()
        if edges[-1] < h * w:
            counts.append(int(h * w - edges[-1]))
    return {"size": [h, w], "counts": _text(counts) if compressed else counts}


def _text(counts: list[int]) -> str:
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


def _counts(raw: bytes) -> list[int]:
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
                raise ValueError(f"counts with a character that is none, at {at - 1}")
            x |= (group & 31) << shift
            shift += 5
            if not group & 32:
                if group & 16:
                    x -= 1 << shift
                break
        found.append(x + found[-2] if len(found) > 2 else x)
        if not 0 <= found[-1] < 1 << 32:
            raise ValueError(f"counts with {found[-1]}, which is no number of pixels, before {at}")
    return found


def _runs(counts: object) -> NDArray[np.uint32]:
    """Counts that are not text: whole numbers of 32 bits."""
    if isinstance(counts, Mapping) or not isinstance(counts, Iterable):
        raise TypeError(f"counts are text or whole numbers, got {type(counts).__name__}")
    array = counts if isinstance(counts, np.ndarray) else None
    if array is None:
        listed = [whole(c, "a count", -(2**80), 2**80) for c in counts]
        if listed and not 0 <= min(listed) <= max(listed) < 1 << 32:
            raise ValueError(f"counts are 0..{2**32 - 1}, got {min(listed)} to {max(listed)}")
        return np.array(listed, np.uint32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"counts are whole numbers, got {array.dtype} {array.shape}")
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high >= 1 << 32:
        raise ValueError(f"counts are 0..{2**32 - 1}, got {low} to {high}")
    return np.ascontiguousarray(array, np.uint32)


def decode(
    rle: Mapping[str, Any], *, most_pixels: int = MOST_PIXELS
) -> tuple[NDArray[np.bool_], Box]:
    """The mask of an encoding within its tight box: bool, and the box.

    Parameters
    ----------
    rle : mapping
        ``{"size": [h, w], "counts": ...}``: counts are text, bytes, or whole numbers.
    most_pixels : int
        Of the box, which the mask is made of; 64 Mi by default.

    Raises
    ------
    TypeError
        The size or a count is not a whole number; fractions are not rounded.
    ValueError
        Counts that are negative, or do not add up to the image.
    LimitError
        The box has more pixels than that.
    """
    if not isinstance(rle, Mapping):
        raise TypeError(f"an encoding is a mapping of size and counts, got {type(rle).__name__}")
    h, w = pair_of(rle["size"], "size")
    counts = rle["counts"]
    if not (h <= MOST_SIDE and w <= MOST_SIDE):
        raise ValueError(f"an image of {h} x {w}; up to {MOST_SIDE} a side fit")
    if isinstance(counts, str | bytes):
        text = counts.encode("utf-8") if isinstance(counts, str) else bytes(counts)
        runs = rle_counts(text)
        if runs is None:
            raise ValueError(f"counts of {sum(_counts(text))} pixels")  # tells which one is none
    else:
        runs = _runs(counts)
    box = rle_box(runs, (h, w))
    if box is None:
        total = int(runs.sum(dtype=np.uint64))
        raise ValueError(f"counts of {total} pixels for an image of {h} x {w}")
    pixels = (box[2] - box[0]) * (box[3] - box[1])
    if pixels > whole(most_pixels, "most_pixels"):
        raise LimitError(
            f"a mask of {box[2] - box[0]} x {box[3] - box[1]} pixels in {len(runs)} counts: more "
            f"than {most_pixels}; decode(rle, most_pixels={pixels}) makes it"
        )
    return rle_mask(runs, h, box), box
