"""HDF5: one dataset of images, in chunks of one record, and one of labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import Contender, Pair, alike


class H5py(Contender):
    """Not compressed.  A list of records has to be sorted, without repetitions."""

    NAME = "h5py"
    KINDS = ("uniform",)
    MODULES = ("h5py",)
    SUFFIX = ".h5"

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        import h5py

        a = alike(source)
        rows = np.memmap(source, np.uint8, "r").reshape(a.n, a.stride)
        with h5py.File(store, "w") as f:
            images = f.create_dataset("images", (a.n, a.c, a.h, a.w), "u1")
            step = 4096
            for k in range(0, a.n, step):
                part = rows[k : k + step]
                images[k : k + step] = part[:, a.skip :].reshape(-1, a.c, a.h, a.w)
            f["labels"] = rows[:, a.skip - 2 * a.nlabels + 1 : a.skip : 2]

    def __init__(self, source: Path) -> None:
        import h5py

        super().__init__(source)
        self.file: Any = h5py.File(self.path, "r")
        self.images, self.labels = self.file["images"], self.file["labels"]

    def getter(self) -> Callable[[int], Pair]:
        return lambda i: (self.images[i], self.labels[i])

    def batch(self, rows: Any) -> tuple[Any, Any]:
        wanted, back = np.unique(rows, return_inverse=True)
        return self.images[wanted][back], self.labels[wanted][back]

    def close(self) -> None:
        self.file.close()
