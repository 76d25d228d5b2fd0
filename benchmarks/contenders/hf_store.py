"""Hugging Face datasets: a column of bytes and one of labels, saved to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import Contender, Pair, alike


class HuggingFace(Contender):
    """``ds[list]`` of raw bytes: columns of arrays are many times slower."""

    NAME = "Hugging Face"
    KINDS = ("uniform",)
    MODULES = ("datasets",)
    SUFFIX = ".hf"

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        import datasets
        import pyarrow as pa

        a = alike(source)
        rows = np.fromfile(source, np.uint8).reshape(a.n, a.stride)
        pixels = np.ascontiguousarray(rows[:, a.skip :])
        ends = np.arange(a.n + 1, dtype=np.int64) * pixels.shape[1]
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(pixels)]
        labels = np.ascontiguousarray(rows[:, a.skip - 2 * a.nlabels + 1 : a.skip : 2])
        columns = {
            "pixels": pa.Array.from_buffers(pa.large_binary(), a.n, buffers),
            "labels": pa.FixedSizeListArray.from_arrays(labels.ravel(), a.nlabels),
        }
        datasets.Dataset(pa.table(columns)).save_to_disk(str(store))

    def __init__(self, source: Path) -> None:
        import datasets

        super().__init__(source)
        self.data: Any = datasets.load_from_disk(str(self.path))

    def getter(self) -> Callable[[int], Pair]:
        return lambda i: tuple(x[0] for x in self.batch([i]))  # type: ignore[return-value]

    def batch(self, rows: Any) -> tuple[Any, Any]:
        a, found = self.alike, self.data[np.asarray(rows)]
        images = np.frombuffer(b"".join(found["pixels"]), np.uint8)
        return images.reshape(-1, a.c, a.h, a.w), np.array(found["labels"], np.uint8)

    def close(self) -> None:
        del self.data
