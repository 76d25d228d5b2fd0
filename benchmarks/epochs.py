"""How loaders do over complete epochs: from a cold disk in each order, and beside work of 1 ms.

    python benchmarks/epochs.py [--data FOLDER] [--rounds N] [--quick]

Makes its own data (2.2 GB).  Cases run interleaved, the file evicted before each one, and the table
gives medians: bytes of records per second, and their share of the limit.  The limits are reading
the file from front to back; and, of the same records in the same random order, io_uring with
O_DIRECT (256 reads in flight), or pread from 32 threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mapix
import reference
from comparison.rounds import seconds
from comparison.stores import go_cold
from data_files import read_through
from mapix.sampling import Blocks

SETS = {"small": (300_000, 32, 32, 3), "large": (8_000, 224, 224, 3)}
MOST = {"small": 60_000, "large": 8_000}  # records of an epoch in random order
HEAD = 20  # bytes before the images
BATCH = {"small": 256, "large": 64}
STEP_SECONDS = 0.001


def make(folder: Path, name: str, share: int) -> Path:
    """An IDX file of random pixels, which is opened without reading more than its header."""
    n, *shape = SETS[name]
    n //= share
    path = folder / f"{name}-{n}-idx4-ubyte"
    if path.exists() and path.stat().st_size == HEAD + n * int(np.prod(shape)):
        return path
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with mapix.idx.Writer(path, "u1", tuple(shape)) as out:
        for begin in range(0, n, 100):
            out.extend(np.broadcast_to(pixels, (min(100, n - begin), *shape)))
    with open(path, "rb") as f:
        os.fsync(f.fileno())
    return path


def front_to_back(path: Path) -> float:
    """Seconds to read a file that is not in memory."""
    go_cold(path)
    return seconds(lambda: read_through(path))


def loaded(path: Path, name: str, order: str) -> tuple[float, int]:
    """Seconds and bytes of an epoch."""
    ds = mapix.open(path)
    part = ds if order in ("in order", "Blocks") else ds[: MOST[name]]
    options = {"shuffle": False} if order == "in order" else {}
    if order == "Blocks":
        options = {"order": Blocks.of(ds)}
    loader = mapix.Loader(part, BATCH[name], **options)
    go_cold(path)
    begin, nbytes = time.perf_counter(), 0
    for batch in loader:
        nbytes += batch.images.nbytes
    took = time.perf_counter() - begin
    ds.close()
    return took, nbytes


def floor(path: Path, name: str) -> tuple[str, Callable[[], float], int]:
    """The limit of random reads: what it is, how to time it, and its bytes."""
    with mapix.open(path) as ds:
        rows = mapix.Loader(ds[: MOST[name]], BATCH[name]).plan.order(
            0, 0, min(MOST[name], len(ds))
        )
        entries = np.zeros(len(ds), reference.ENTRY)
        h, w, c = ds.image_shape
        entries["at"] = HEAD + np.arange(len(ds)) * (h * w * c)
        entries["h"], entries["w"], entries["c"], entries["n"] = h, w, c, 0
    nbytes = len(rows) * h * w * c
    try:
        reference.read_uring(path, entries, rows[:1], 256)
        return (
            "io_uring, O_DIRECT",
            lambda: _cold(path, reference.read_uring, entries, rows, 256),
            nbytes,
        )
    except Exception:
        return (
            "pread, 32 threads",
            lambda: _cold(path, reference.read_threads, entries, rows, 32),
            nbytes,
        )


def _cold(path: Path, read: Callable[..., float], *arguments: object) -> float:
    go_cold(path)
    return read(path, *arguments)


def steps(path: Path, name: str, ahead: int) -> float:
    """The share of a step that a batch costs beside work of 1 ms, which leaves the CPU free."""
    ds = mapix.open(path)
    ds.warm()
    loader = mapix.Loader(ds, BATCH[name], ahead=ahead, drop_last=True)

    def timed(batches: object) -> float:
        begin, n = time.perf_counter(), 0
        for _ in batches:
            time.sleep(STEP_SECONDS)
            n += 1
            if n == 500:
                break
        return (time.perf_counter() - begin) / n

    idle = timed(range(500))
    cost = timed(loader) - idle
    ds.close()
    return cost / idle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "mapix-epochs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="files a fifteenth as large")
    a = parser.parse_args()
    a.data.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        path = make(a.data, name, 15 if a.quick else 1)
        limit, read, nbytes = floor(path, name)
        rates: dict[str, list[float]] = {}
        for _ in range(a.rounds):
            rates.setdefault("front to back", []).append(path.stat().st_size / front_to_back(path))
            rates.setdefault(limit, []).append(nbytes / read())
            for order in ("in order", "Blocks", "shuffle"):
                took, count = loaded(path, name, order)
                rates.setdefault(f"Loader, {order}", []).append(count / took)
        found = {k: statistics.median(v) for k, v in rates.items()}
        print(f"\n{name}, cold, batches of {BATCH[name]}: MB per second")
        for k, v in found.items():
            of = limit if k in (limit, "Loader, shuffle") else "front to back"
            print(f"  {k:24} {v / 1e6:8.0f}  {v / found[of]:5.2f} of {of}", flush=True)
        costs = {k: [] for k in (0, 1, 2)}
        for _ in range(a.rounds):
            for ahead, seen in costs.items():
                seen.append(steps(path, name, ahead))
        print(f"{name}, in the page cache, beside work of 1 ms: share of a step (goal: 5 %)")
        for ahead, seen in costs.items():
            print(f"  ahead={ahead:<18} {100 * statistics.median(seen):8.1f} %")


if __name__ == "__main__":
    main()
