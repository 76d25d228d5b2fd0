"""Put pictures side by side, with captions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mapix.drawing.letters import HEIGHT, written
from mapix.drawing.scaling import rgb

__all__ = ["contact_sheet"]

GROUND, INK = (22, 24, 29), (226, 226, 226)
Bytes = NDArray[np.uint8]


def contact_sheet(
    images: Iterable[NDArray[np.uint8]],
    columns: int | None = None,
    captions: Sequence[str] = (),
    *,
    gap: int = 4,
    ground: tuple[int, int, int] = GROUND,
    ink: tuple[int, int, int] = INK,
) -> Bytes:
    """Put pictures into cells of one size, row after row, each in the middle of its cell.

    Parameters
    ----------
    images : iterable of ndarray
        uint8 (h, w, 3), as ``thumbnail`` returns them, of any sizes; others as ``thumbnail`` draws
        them.
    columns : int, optional
        Pictures side by side; by default about as many as there are rows.
    captions : sequence of str, optional
        Text below each picture, of any number of lines; what is wider than the cell is cut.
    gap : int
        Pixels between two cells, and at the edges.
    ground, ink : (r, g, b)
        Colours of everything else, and of the captions.

    Returns
    -------
    ndarray
        uint8 (h, w, 3).

    Raises
    ------
    ValueError
        There is no picture, or there are more captions than pictures.
    """
    pictures = [rgb(image) for image in images]
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    if len(captions) > len(pictures):
        raise ValueError(f"{len(captions)} captions of {len(pictures)} pictures")
    texts = [caption.split("\n") for caption in captions]
    deep = HEIGHT * max(map(len, texts), default=0)
    columns = math.ceil(math.sqrt(len(pictures))) if columns is None else columns
    columns = min(max(columns, 1), len(pictures))
    rows = -(-len(pictures) // columns)
    h, w = (max(p.shape[k] for p in pictures) for k in (0, 1))
    page = np.empty((gap + rows * (h + deep + gap), gap + columns * (w + gap), 3), np.uint8)
    page[...] = ground
    for k, picture in enumerate(pictures):
        cell = page[gap + k // columns * (h + deep + gap) :, gap + k % columns * (w + gap) :]
        top, left = (h - picture.shape[0]) // 2, (w - picture.shape[1]) // 2
        cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        for number, line in enumerate(texts[k] if k < len(texts) else []):
            pixels = written(line, w)
            cell[h + number * HEIGHT :][:HEIGHT, : pixels.shape[1]][pixels] = ink
    return page
