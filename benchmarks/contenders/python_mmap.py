"""A careful reader written by hand: mmap, struct, a list of offsets, numpy views."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from contenders.base import HEADER, Contender, Pair
from data_files import mapped


def index(data: mmap.mmap) -> list[int]:
    """Offsets of all records."""
    unpack, size, end = HEADER.unpack_from, HEADER.size, len(data)
    offsets: list[int] = []
    append, at = offsets.append, 0
    while at < end:
        h, w, c, n = unpack(data, at)
        append(at)
        at += size + 2 * n + h * w * c
    return offsets


class PythonMmap(Contender):
    """Reads each header again; knows offsets alone."""

    NAME = "Python mmap + struct"

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.data = mapped(source)
        self.offsets = index(self.data)

    def getter(self) -> Callable[[int], Pair]:
        data, offsets = self.data, self.offsets
        unpack, size = HEADER.unpack_from, HEADER.size
        array, u8, step = np.ndarray, np.dtype(np.uint8), (2,)

        def get(i: int) -> Pair:
            at = offsets[i]
            h, w, c, n = unpack(data, at)
            at += size
            # without labels, an offset of one more byte would lie outside a last short record
            labels = array((n,), u8, data, at + 1, step) if n else array((0,), u8)
            return array((c, h, w), u8, data, at + 2 * n), labels

        return get
