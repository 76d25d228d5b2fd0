"""bagz: one record of the VIMH file a record, not compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import HEADER, Contender, Pair, records


class Bagz(Contender):
    """``reader[i]`` gives bytes; its own read_indices is far slower than a loop."""

    NAME = "bagz"
    MODULES = ("bagz",)
    SUFFIX = ".bag"  # names ending in .bagz are compressed

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        import bagz

        with bagz.Writer(str(store)) as writer:
            for record, *_ in records(source):
                writer.write(record)

    def __init__(self, source: Path) -> None:
        import bagz

        super().__init__(source)
        self.reader: Any = bagz.Reader(str(self.path))

    def getter(self) -> Callable[[int], Pair]:
        return bytes_getter(self, self.reader.__getitem__)

    def close(self) -> None:
        del self.reader


def bytes_getter(contender: Contender, read: Callable[[int], bytes]) -> Callable[[int], Pair]:
    """A getter over a function that gives whole records as bytes."""
    array, u8, step, size = np.ndarray, np.dtype(np.uint8), (2,), HEADER.size
    if contender.kind == "mixed":
        unpack = HEADER.unpack_from

        def get(i: int) -> Pair:
            value = read(i)
            h, w, c, n = unpack(value)
            labels = array((n,), u8, value, size + 1, step) if n else array((0,), u8)
            return array((c, h, w), u8, value, size + 2 * n), labels

        return get
    a = contender.alike
    shape, nlabels, skip = (a.c, a.h, a.w), (a.nlabels,), a.skip

    def get_alike(i: int) -> Pair:
        value = read(i)
        return array(shape, u8, value, skip), array(nlabels, u8, value, size + 1, step)

    return get_alike
