"""Reading a VIMH file the usual way: all of it, record by record, in Python.

What most datasets' own loaders do, written with some care: the pixels stay in the bytes that were
read and are not copied again until a batch is stacked.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Loaded", "load"]

HEAD = struct.Struct("<HHHffB")


class Loaded:
    """All records of a file in memory.

    Attributes
    ----------
    images : list of ndarray
        uint8 (c, h, w) each.
    labels : list of dict
        Parameter id -> code.
    """

    __slots__ = ("images", "labels")

    def __init__(self, images: list[NDArray[np.uint8]], labels: list[dict[int, int]]) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def codes(self, rows: Sequence[int], nheads: int) -> NDArray[np.uint8]:
        """Codes of the labels of ``rows``, uint8 (b, nheads), 0 where one is missing."""
        found = [[self.labels[i].get(k, 0) for k in range(nheads)] for i in rows]
        return np.array(found, np.uint8).reshape(len(rows), nheads)

    def stack(
        self, rows: Sequence[int], canvas: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """A batch, uint8 (b, c, h, w); on a canvas (h, w) each in the corner, the rest 0."""
        chosen = [self.images[i] for i in rows]
        if canvas is None:
            return np.stack(chosen)
        channels = max((len(image) for image in chosen), default=0)
        out = np.zeros((len(chosen), channels, *canvas), np.uint8)
        for place, image in zip(out, chosen, strict=True):
            c, h, w = image.shape
            place[:c, :h, :w] = image
        return out

    def normalised(
        self,
        rows: Sequence[int],
        mean: float,
        std: float,
        canvas: tuple[int, int] | None = None,
    ) -> NDArray[np.float32]:
        """The batch as floats, ``(byte / 255 - mean) / std``, float32 (b, c, h, w)."""
        out: NDArray[Any] = self.stack(rows, canvas).astype(np.float32)
        out /= 255
        out -= mean
        out /= std
        return out


def load(path: str | os.PathLike[str]) -> Loaded:
    """Read a file with 14-byte headers into memory.

    Raises
    ------
    ValueError, struct.error
        The file ends inside a record.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as f:
        data = f.read()
    images, labels = [], []
    at = 0
    while at < len(data):
        h, w, c, _, _, n = HEAD.unpack_from(data, at)
        at += HEAD.size
        labels.append(
            dict(zip(data[at : at + 2 * n : 2], data[at + 1 : at + 2 * n : 2], strict=True))
        )
        at += 2 * n
        images.append(np.frombuffer(data, np.uint8, h * w * c, at).reshape(c, h, w))
        at += h * w * c
    return Loaded(images, labels)
