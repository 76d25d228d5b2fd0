"""Masks as COCO's run-length encodings, both ways.

Runs go down the columns of the image, zeros first.  Uncompressed ``counts`` are a list.  Compressed
ones are text: from each count after the third, the count two before is subtracted; the result is
written in groups of 5 bits, lowest first, with bit 6 if another group follows, plus 48.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.iid import rle_box, rle_counts, rle_mask
from mapix.errors import LimitError
from mapix.iid.argument_checks import Box, as_box, as_integer, as_pair, as_pixels
from mapix.iid.layout import MOST_SIDE

__all__ = ["MOST_PIXELS", "decode", "encode"]

MOST_PIXELS = 1 << 26
"""Default limit of a mask that ``decode`` makes: a few bytes can state any size."""

MOST_GROUPS = 13  # of a count: more exceed 64 bits


def encode(
    mask: ArrayLike, bbox: Box, size: tuple[int, int], *, compressed: bool = True
) -> dict[str, Any]:
    """Encode the mask of a box as run lengths of the complete image.

    Parameters
    ----------
    mask : array_like
        (maxr - minr, maxc - minc), bool, integers or floats: pixels that are not 0 belong to it.
    bbox : (minr, minc, maxr, maxc)
        Place of the mask.
    size : (h, w)
        Size of the image, which contains the box.
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
        The box is not in the image, or not of the size of the mask.
    """
    pixels = as_pixels(mask)
    h, w = as_pair(size, "size")
    minr, minc, maxr, maxc = bbox = as_box(bbox)
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


def _runs(counts: object) -> NDArray[np.uint32]:
    """Return counts that are not text as uint32 (n,)."""
    if isinstance(counts, Mapping) or not isinstance(counts, Iterable):
        raise TypeError(f"counts are text or integers, got {type(counts).__name__}")
    array = counts if isinstance(counts, np.ndarray) else None
    if array is None:
        listed = [as_integer(c, "a count", -(2**80), 2**80) for c in counts]
        if listed and not 0 <= min(listed) <= max(listed) < 1 << 32:
            raise ValueError(f"counts are 0..{2**32 - 1}, got {min(listed)} to {max(listed)}")
        return np.array(listed, np.uint32)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"counts are integers, got {array.dtype} {array.shape}")
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high >= 1 << 32:
        raise ValueError(f"counts are 0..{2**32 - 1}, got {low} to {high}")
    return np.ascontiguousarray(array, np.uint32)


def decode(
    rle: Mapping[str, Any], *, most_pixels: int = MOST_PIXELS
) -> tuple[NDArray[np.bool_], Box]:
    """Return the mask of an encoding within its tight box: bool (h, w), and the box.

    Parameters
    ----------
    rle : mapping
        ``{"size": [h, w], "counts": ...}``: counts are text, bytes, or integers.
    most_pixels : int
        Largest box to make a mask of; 64 Mi by default.

    Raises
    ------
    TypeError
        The size or a count is not an integer.
    ValueError
        Counts are negative, or their sum is not the size of the image.
    LimitError
        The box has more pixels than ``most_pixels``.
    """
    if not isinstance(rle, Mapping):
        raise TypeError(f"an encoding is a mapping of size and counts, got {type(rle).__name__}")
    h, w = as_pair(rle["size"], "size")
    counts = rle["counts"]
    if not (h <= MOST_SIDE and w <= MOST_SIDE):
        raise ValueError(f"an image of {h} x {w}: a side has at most {MOST_SIDE} pixels")
    if isinstance(counts, str | bytes):
        text = counts.encode("utf-8") if isinstance(counts, str) else bytes(counts)
        runs = rle_counts(text)
        if runs is None:
            raise ValueError(f"counts of {sum(_counts(text))} pixels")  # its error names the count
    else:
        runs = _runs(counts)
    box = rle_box(runs, (h, w))
    if box is None:
        total = int(runs.sum(dtype=np.uint64))
        raise ValueError(f"counts of {total} pixels for an image of {h} x {w}")
    pixels = (box[2] - box[0]) * (box[3] - box[1])
    if pixels > as_integer(most_pixels, "most_pixels"):
        raise LimitError(
            f"a mask of {box[2] - box[0]} x {box[3] - box[1]} pixels in {len(runs)} counts: more "
            f"than {most_pixels}; decode(rle, most_pixels={pixels}) makes it"
        )
    return rle_mask(runs, h, box), box
