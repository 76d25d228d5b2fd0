"""LMDB: one record of the VIMH file a value."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import HEADER, Contender, Pair, records

KEY = struct.Struct(">I")


class Lmdb(Contender):
    """Zero-copy buffers, one long read transaction, no locks, no readahead."""

    NAME = "LMDB"
    MODULES = ("lmdb",)
    SUFFIX = ".lmdb"

    @classmethod
    def write(cls, source: Path, store: Path) -> None:
        import lmdb

        room = 2 * source.stat().st_size + (64 << 20)
        with lmdb.open(str(store), room, sync=False, writemap=True) as env:
            txn = env.begin(write=True)
            for i, (record, *_) in enumerate(records(source)):
                txn.put(KEY.pack(i), record, append=True)
                if i % 20_000 == 19_999:
                    txn.commit()
                    txn = env.begin(write=True)
            txn.commit()
            env.sync(True)
        (store / "lock.mdb").unlink()
        with open(store / "data.mdb", "r+b") as f:
            with lmdb.open(str(store), readonly=True, lock=False) as env:
                used = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
            f.truncate(used)

    def __init__(self, source: Path) -> None:
        import lmdb

        super().__init__(source)
        self.env: Any = lmdb.open(
            str(self.path), readonly=True, lock=False, readahead=False, max_readers=1
        )
        self.txn: Any = self.env.begin(buffers=True)

    def getter(self) -> Callable[[int], Pair]:
        read, key, array, u8 = self.txn.get, KEY.pack, np.ndarray, np.dtype(np.uint8)
        step, size = (2,), HEADER.size
        if self.kind == "mixed":
            unpack = HEADER.unpack_from

            def get(i: int) -> Pair:
                value = read(key(i))
                h, w, c, n = unpack(value)
                labels = array((n,), u8, value, size + 1, step) if n else array((0,), u8)
                return array((c, h, w), u8, value, size + 2 * n), labels

            return get
        a = self.alike
        shape, nlabels, skip = (a.c, a.h, a.w), (a.nlabels,), a.skip

        def get_alike(i: int) -> Pair:
            value = read(key(i))
            return array(shape, u8, value, skip), array(nlabels, u8, value, size + 1, step)

        return get_alike

    def close(self) -> None:
        self.txn.abort()
        self.env.close()
