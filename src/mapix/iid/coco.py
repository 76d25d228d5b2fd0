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


def _counts(text: str | bytes) -> list[int]:
    raw = text.encode("ascii") if isinstance(text, str) else bytes(text)
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
    runs = _counts(counts) if isinstance(counts, str | bytes) else [int(c) for c in counts]
    if not (0 <= h <= 65535 and 0 <= w <= 65535):
        raise ValueError(f"an image of {h} x {w}; up to 65535 a side fit")
    if any(c < 0 for c in runs) or sum(runs) != h * w:
        raise ValueError(f"counts of {sum(runs)} pixels for an image of {h} x {w}")
    ends = np.cumsum([0, *runs])
    begin, end = ends[1:-1:2], ends[2::2]
    keep = end > begin
    begin, end = begin[keep], end[keep]
    if not len(begin):
        return np.zeros((0, 0), bool), (0, 0, 0, 0)
    minc, maxc = int(begin[0] // h), int((end[-1] - 1) // h) + 1
    flat = np.zeros((maxc - minc) * h, bool)
    for a, b in zip((begin - minc * h).tolist(), (end - minc * h).tolist(), strict=True):
        flat[a:b] = True
    mask = flat.reshape(maxc - minc, h).T
    rows = np.flatnonzero(mask.any(axis=1))
    minr, maxr = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(mask[minr:maxr]), (minr, minc, maxr, maxc)
