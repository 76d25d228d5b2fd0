"""np.memmap with a fixed stride: the shape is known beforehand, as with any flat binary file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import Contender, Pair


class Memmap(Contender):
    """Rows of complete records; images and labels are views of them."""

    NAME = "np.memmap, fixed stride"
    KINDS = ("uniform",)

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        a = self.alike
        # a plain ndarray over the map: indexing the memmap class itself is five times slower
        self.rows = np.asarray(np.memmap(source, np.uint8, "r")).reshape(a.n, a.stride)
        self.images, self.labels = self.split(self.rows)

    def split(self, rows: Any) -> Pair:
        """Images (n, c, h, w) and labels (n, N) of rows of records, as views."""
        a = self.alike
        shape, steps = (len(rows), a.c, a.h, a.w), (rows.strides[0], a.h * a.w, a.w, 1)
        images = np.lib.stride_tricks.as_strided(rows[:, a.skip :], shape, steps, writeable=False)
        return images, rows[:, a.skip - 2 * a.nlabels + 1 : a.skip : 2]

    def getter(self) -> Callable[[int], Pair]:
        images, labels = self.images, self.labels

        def get(i: int) -> Pair:
            return images[i], labels[i]

        return get

    def batch(self, rows: Any) -> tuple[Any, Any]:
        return self.images[rows], self.labels[rows]

    def take(self, rows: Any, out: Any) -> tuple[Any, Any]:
        """Whole records into ``out`` (b, stride): images are then views, not contiguous."""
        self.rows.take(rows, 0, out, "clip")
        return self.split(out)

    def stack(self, rows: Any) -> tuple[Any, Any]:
        """np.stack of views, the way of a default collate function."""
        images, labels = self.images, self.labels
        return np.stack([images[i] for i in rows]), np.stack([labels[i] for i in rows])

    def close(self) -> None:
        del self.rows, self.images, self.labels
