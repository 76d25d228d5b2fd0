"""Masks as COCO's run-length encodings, both ways.  ``mapix.masks`` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.iid.argument_checks import Box, as_box, as_integer, as_pair, as_pixels
from mapix.masks import MOST_PIXELS, counts_of, mask_of_runs, runs_of

__all__ = ["MOST_PIXELS", "decode", "encode"]


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
    counts = [h * w]
    if len(place):
        begins = np.concatenate([[True], np.diff(place) > 1])
        first = place[begins]
        last = place[np.append(np.flatnonzero(begins)[1:] - 1, len(place) - 1)] + 1
        edges = np.stack([first, last], axis=1).reshape(-1)
        counts = np.diff(np.concatenate([[0], edges])).tolist()
        if edges[-1] < h * w:
            counts.append(int(h * w - edges[-1]))
    return {"size": [h, w], "counts": counts_of(counts) if compressed else counts}


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
    size = as_pair(rle["size"], "size")
    most = as_integer(most_pixels, "most_pixels")
    return mask_of_runs(runs_of(rle["counts"]), size, most)
