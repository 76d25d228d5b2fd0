"""Arrow IPC (pyarrow), memory-mapped: a column of pixels, a column of labels, one record batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import Contender, Pair, alike, kind_of, records


def _uniform_columns(source: Path) -> dict[str, Any]:
    import pyarrow as pa

    a = alike(source)
    rows = np.fromfile(source, np.uint8).reshape(a.n, a.stride)
    labels = rows[:, a.skip - 2 * a.nlabels + 1 : a.skip : 2]
    return {
        "pixels": pa.FixedSizeListArray.from_arrays(rows[:, a.skip :].ravel(), a.h * a.w * a.c),
        "labels": pa.FixedSizeListArray.from_arrays(labels.ravel(), a.nlabels),
    }


def _mixed_columns(source: Path) -> dict[str, Any]:
    import pyarrow as pa

    pixels, labels, shapes = [], [], []
    for record, h, w, c, n in records(source):
        image = len(record) - h * w * c
        pixels.append(record[image:])
        labels.append(record[image - 2 * n + 1 : image : 2])
        shapes.append((c, h, w))
    flat = np.array(shapes, np.uint16).ravel()
    return {
        "pixels": pa.array(pixels, pa.large_binary()),
        "labels": pa.array(labels, pa.large_binary()),
        "shapes": pa.FixedSizeListArray.from_arrays(flat, 3),
    }


class Arrow(Contender):
    """Columns as numpy arrays over the map: one 4-D array, or bytes and offsets."""

    NAME = "pyarrow"
    MODULES = ("pyarrow", "pyarrow.ipc")
    SUFFIX = ".arrow"

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        import pyarrow as pa

        make = _mixed_columns if kind_of(source) == "mixed" else _uniform_columns
        batch = pa.record_batch(make(source))
        with pa.OSFile(str(store), "wb") as f, pa.ipc.new_file(f, batch.schema) as writer:
            writer.write_batch(batch)

    def __init__(self, source: Path) -> None:
        import pyarrow as pa

        super().__init__(source)
        self.file = pa.memory_map(str(self.path))
        self.columns = pa.ipc.open_file(self.file).get_batch(0)
        if self.kind == "mixed":
            self.pixels, self.at = self._binary("pixels")
            self.codes, self.codes_at = self._binary("labels")
            self.shapes = self._flat("shapes").reshape(-1, 3)
        else:
            a = self.alike
            self.images = self._flat("pixels").reshape(a.n, a.c, a.h, a.w)
            self.labels = self._flat("labels").reshape(a.n, a.nlabels)

    def _flat(self, name: str) -> Any:
        return self.columns.column(name).flatten().to_numpy(zero_copy_only=True)

    def _binary(self, name: str) -> tuple[Any, Any]:
        _, offsets, data = self.columns.column(name).buffers()
        return np.frombuffer(data, np.uint8), np.frombuffer(offsets, np.int64)

    def getter(self) -> Callable[[int], Pair]:
        if self.kind == "mixed":
            pixels, at, shapes = self.pixels, self.at, self.shapes
            codes, codes_at = self.codes, self.codes_at

            def get(i: int) -> Pair:
                image = pixels[at[i] : at[i + 1]].reshape(shapes[i])
                return image, codes[codes_at[i] : codes_at[i + 1]]

            return get
        images, labels = self.images, self.labels

        def get_alike(i: int) -> Pair:
            return images[i], labels[i]

        return get_alike

    def batch(self, rows: Any) -> tuple[Any, Any]:
        if self.kind == "mixed":
            return super().batch(rows)
        return self.images[rows], self.labels[rows]

    def close(self) -> None:
        self.__dict__.clear()
