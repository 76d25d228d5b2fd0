"""mapix itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from contenders.base import Contender, Pair


class Mapix(Contender):
    """``ds.images`` and ``ds.label_bytes`` of a uniform file, ``ds[i]`` of a mixed one."""

    NAME = "mapix"
    PLANAR = False

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.ds = mapix.open(source)

    def getter(self) -> Callable[[int], Pair]:
        if self.kind == "mixed":
            return self.record_getter()
        images, labels = self.ds.images, self.ds.label_bytes

        def get(i: int) -> Pair:
            return images[i], labels[i]

        return get

    def record_getter(self) -> Callable[[int], Pair]:
        """The same through a record."""
        ds = self.ds

        def get(i: int) -> Pair:
            record = ds[i]
            return record.image, record.label_bytes

        return get

    def batch(self, rows: Any) -> tuple[Any, Any]:
        rows = np.asarray(rows, np.int64)
        if self.kind == "mixed":
            batch = self.ds.batch(rows, flat=True)
        else:
            batch = self.ds.batch(rows, layout="NCHW")
        return batch.images, batch.labels

    def close(self) -> None:
        self.ds.close()
        del self.ds
