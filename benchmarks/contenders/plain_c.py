"""Plain C over the same map: the limits that mapix is measured against (reference.c)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import reference
from contenders.base import Contender, Pair
from data_files import mapped


class PlainC(Contender):
    """A gather that copies with prefetch two records ahead, and a C type that makes two views."""

    NAME = "C gather"

    @classmethod
    def missing(cls) -> str | None:
        return reference.missing()

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.lib = reference.loaded()
        ffi = reference.ffi
        self.data = mapped(source)
        self.base = ffi.from_buffer("uint8_t[]", self.data)
        if self.kind == "mixed":
            self.entries = reference.hop(self.data)
            self.table = ffi.from_buffer("entry[]", self.entries)
            return
        a = self.alike
        self.file = ffi.new("uniform_file *")
        self.file.base = self.base
        self.file.stride, self.file.nlabels = a.stride, a.nlabels
        self.file.c, self.file.plane = a.c, a.h * a.w
        self.entries = np.array([(0, a.h, a.w, a.c, a.nlabels)], reference.ENTRY)

    def getter(self) -> Callable[[int], Pair]:
        stride = self.alike.stride if self.kind == "uniform" else 0
        reader = reference.views_module().Reader(self.data, self.entries, stride)
        get: Callable[[int], Pair] = reader.get
        return get

    def batch(self, rows: Any, out: Any = None) -> tuple[Any, Any]:
        rows = np.asarray(rows, np.int64)
        if self.kind == "mixed":
            return self.flat(rows, out)
        a = self.alike
        images = np.empty((len(rows), a.c, a.h, a.w), np.uint8) if out is None else out
        labels = np.empty((len(rows), a.nlabels), np.uint8)
        at = reference.pointer
        self.lib.ref_gather(
            self.file,
            at("int64_t[]", rows),
            len(rows),
            at("uint8_t[]", images),
            at("uint8_t[]", labels),
        )
        return images, labels

    def floats(self, rows: Any, affine: Any, out: Any) -> tuple[Any, Any]:
        """Images as float32 (b, c, h, w), byte * affine[:, 0] + affine[:, 1]."""
        labels = np.empty((len(rows), self.alike.nlabels), np.uint8)
        at = reference.pointer
        self.lib.ref_gather_float(
            self.file,
            at("int64_t[]", rows),
            len(rows),
            at("float[]", affine),
            at("float[]", out),
            at("uint8_t[]", labels),
        )
        return out, labels

    def flat(self, rows: Any, out: Any = None) -> tuple[Any, Any]:
        """All images back to back, and labels by id (b, 8)."""
        at, n = reference.pointer, len(rows)
        numbers = at("int64_t[]", rows)
        nbytes = self.lib.ref_flat_nbytes(self.table, numbers, n)
        images = np.empty(nbytes, np.uint8) if out is None else out[:nbytes]
        begins, labels = np.empty(n + 1, np.uint64), np.empty((n, 8), np.uint8)
        self.lib.ref_gather_flat(
            self.base,
            self.table,
            numbers,
            n,
            at("uint8_t[]", images),
            at("uint64_t[]", begins),
            at("uint8_t[]", labels),
        )
        return images, labels

    def close(self) -> None:
        self.__dict__.clear()
