"""Put pictures side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mapix.drawing.scaling import rgb

__all__ = ["contact_sheet"]

GROUND = (22, 24, 29)
Bytes = NDArray[np.uint8]


def contact_sheet(
    images: Iterable[NDArray[np.uint8]],
    columns: int | None = None,
    *,
    gap: int = 4,
    ground: tuple[int, int, int] = GROUND,
) -> Bytes:
    """Put pictures into cells of one size, row after row, each in the middle of its cell.

    Parameters
    ----------
    images : iterable of ndarray
        uint8 (h, w, 3), as ``thumbnail`` returns them, of any sizes; others as ``thumbnail`` draws
        them.
    columns : int, optional
        Pictures side by side; by default about as many as there are rows.
    gap : int
        Pixels between two cells, and at the edges.
    ground : (r, g, b)
        Colour of everything else.

    Returns
    -------
    ndarray
        uint8 (h, w, 3).

    Raises
    ------
    ValueError
        There is no picture.
    """
    pictures = [rgb(image) for image in images]
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    columns = math.ceil(math.sqrt(len(pictures))) if columns is None else columns
    columns = min(max(columns, 1), len(pictures))
    rows = -(-len(pictures) // columns)
    h, w = (max(p.shape[k] for p in pictures) for k in (0, 1))
    page = np.empty((gap + rows * (h + gap), gap + columns * (w + gap), 3), np.uint8)
    page[...] = ground
    for k, picture in enumerate(pictures):
        top = gap + k // columns * (h + gap) + (h - picture.shape[0]) // 2
        left = gap + k % columns * (w + gap) + (w - picture.shape[1]) // 2
        page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return page
