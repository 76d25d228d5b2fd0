"""Masks as COCO's run-length encodings, both ways.

Runs go down the columns of the whole image, zeros first.  Uncompressed ``counts`` are a list;
compressed ones text: each count (from the third on less the one before the last) in groups of 5
bits, lowest first, bit 6 for more to come, plus 48.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix._native_iid import rle_mask
from mapix.iid.segment import Box

__all__ = ["decode", "encode"]

MOST_GROUPS = 13  # of a count: more are beyond 64 bits


def encode(
    mask: NDArray[Any], bbox: Box, size: tuple[int, int], *, compressed: bool = True
) -> dict[str, Any]:
    """A mask of a box as the encoding of a whole image.

    Parameters
    ----------
    mask : ndarray
        bool (maxr - minr, maxc - minc).
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
    """
    h, w = size
    minr, minc, maxr, maxc = bbox
    if maxr > h or maxc > w:
        raise ValueError(f"a box {bbox} does not lie in an image of {h} x {w}")
    columns, rows = np.nonzero(np.asarray(mask).T)
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


def decode(rle: Mapping[str, Any]) -> tuple[NDArray[np.bool_], Box]:
    """The mask of an encoding within its tight box: bool, and the box.

    Raises
    ------
    ValueError
        Counts that are negative, or do not add up to the image.
    """
    h, w = (int(v) for v in rle["size"])
    counts = rle["counts"]
    if not (0 <= h <= 65535 and 0 <= w <= 65535):
        raise ValueError(f"an image of {h} x {w}; up to 65535 a side fit")
    runs: bytes | NDArray[np.uint32]
    if isinstance(counts, str | bytes):
        runs = counts.encode("utf-8") if isinstance(counts, str) else bytes(counts)
    else:
        numbers = [int(c) for c in counts]
        if any(not 0 <= c < 1 << 32 for c in numbers):
            raise ValueError(f"counts are whole numbers of 32 bits, got {min(numbers)} or more")
        runs = np.array(numbers, np.uint32)
    found = rle_mask(runs, (h, w))
    if found is None:
        read = _counts(runs) if isinstance(runs, bytes) else runs.tolist()  # may tell more
        raise ValueError(f"counts of {sum(read)} pixels for an image of {h} x {w}")
    return found
