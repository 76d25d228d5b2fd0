"""What compare.py runs in a process of its own: ``child.py WHAT CONTENDER SOURCE``.

``open``: from a new interpreter with numpy to the first record.  ``memory``: a host that has all
of the file mapped, and one spawned worker beside it, whose private memory is told.  Prints JSON.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import contenders
import contenders.base  # numpy, and what all have in common: not part of what is timed
from contenders.base import HEADER, Contender
from data_files import files_of, mapped

READS, B = 50_000, 256
RECORD = 3072  # bytes that a bare worker reads at a place


class Bare(Contender):
    """np.memmap and nothing else: as little as a worker that reads a file can have."""

    NAME = "bare np.memmap"

    def __init__(self, source: Path) -> None:
        self.data = np.memmap(source, np.uint8, "r")
        self.n = (len(self.data) - RECORD) // HEADER.size

    def batch(self, rows: Any) -> tuple[Any, Any]:
        out = np.empty((len(rows), RECORD), np.uint8)
        for k, i in enumerate(rows.tolist()):
            out[k] = self.data[i * HEADER.size : i * HEADER.size + RECORD]
        return out, None


def entrant(name: str) -> type[Contender]:
    """The contender of that name."""
    return Bare if name == Bare.NAME else contenders.named(name)


def opening(name: str, source: Path) -> dict[str, float]:
    """Seconds until the first record is there, import included."""
    began = time.perf_counter()
    cls = entrant(name)
    for module in cls.MODULES:
        importlib.import_module(module)
    store = cls(source)
    image, labels = store.getter()(0)
    image.copy(), labels.copy()
    ready = time.perf_counter()
    store.close()
    return {"ready": ready - began}


# --- memory -------------------------------------------------------------------------------------


def _work(store: Any, name: str, source: Path, n: int, pipe: Any) -> None:
    """In the worker: read, say so, and wait to be measured."""
    if store is None:
        store = entrant(name)(source)
        read = store.batch
    else:  # a dataset that came pickled, as to the workers of a loader
        how = {"layout": "NCHW"} if store.uniform else {"flat": True}
        read = lambda rows: store.batch(rows, **how)  # noqa: E731
    rng = np.random.default_rng(17)
    for _ in range(READS // B):
        read(rng.integers(0, n, B))
    pipe.send(True)
    pipe.recv()


def memory(name: str, source: Path) -> dict[str, int]:
    """USS of the worker, and how much of it no file backs."""
    import psutil

    cls = entrant(name)
    store: Any = cls(source)
    # Every page must be mapped by somebody else as well, or the worker's would count as its own.
    files = [mapped(p) for p in files_of(cls.prepared(source))]
    for m in files:
        np.frombuffer(m, np.uint8)[::4096].max()
    _touch_index(store)
    n = getattr(store, "n", 0) or _count(source)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sent = store.ds if name == "mapix" else None
    worker = context.Process(target=_work, args=(sent, name, source, n, there))
    worker.start()
    there.close()
    here.recv()  # EOFError: the worker died
    process = psutil.Process(worker.pid)
    found = process.memory_full_info()
    rollup = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
    anonymous = int(rollup.partition("Anonymous:")[2].split()[0]) << 10
    here.send(True)
    worker.join()
    return {"uss": found.uss, "anonymous": anonymous, "rss": found.rss}


def _touch_index(store: Any) -> None:
    """Map all of a stored index, too."""
    if hasattr(store, "ds") and store.ds.index.entries is not None:
        store.ds.shapes.max()


def _count(source: Path) -> int:
    import mapix

    with mapix.open(source) as ds:
        return len(ds)


if __name__ == "__main__":
    what = {"open": opening, "memory": memory}[sys.argv[1]]
    print(json.dumps(what(sys.argv[2], Path(sys.argv[3]))))
