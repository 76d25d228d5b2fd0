"""Random records from a cold disk: everything evicted before each case."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mapix
import reference
from comparison.report import RATE, Goal, Report
from comparison.rounds import Case, seconds
from comparison.stores import Stores, enter, go_cold, indexed
from contenders.base import Contender, kind_of

BATCH = {"uniform": 256, "mixed": 256, "large": 64}
SAMPLES = {"uniform": 20_000, "mixed": 20_000, "large": 3_000}
MOST_ROUNDS = 7  # a round takes half a minute
THREADS, DEPTH = 32, 256
LIMIT, THREADED = f"io_uring O_DIRECT, {DEPTH} deep", f"pread, {THREADS} threads"
OTHER_WAYS = {"io_uring, buffered": "buffered", "io_uring, MADV_WILLNEED, not copied": "advised"}
PEERS = ("np.memmap, fixed stride", "pyarrow", "LMDB", "bagz", "ArrayRecord, seek + read")


def _orders(kind: str, n: int) -> Callable[[], Any]:
    rng = np.random.default_rng(13)
    return lambda: rng.permutation(n)[: min(SAMPLES[kind], n)]


def _mapix(source: Path, order: Callable[[], Any], b: int) -> list[Case]:
    """Opened before the clock runs, as all others."""
    how: dict[str, Any] = {"layout": "NCHW"} if kind_of(source) == "uniform" else {"flat": True}

    def ahead(ds: Any, rows: Any) -> None:
        for _ in ds.batches(b, rows, **how):
            pass

    def alone(ds: Any, rows: Any, b: int = b) -> None:
        for k in range(0, len(rows), b):
            ds.batch(rows[k : k + b], **how)

    def loader(ds: Any, rows: Any) -> None:
        for _ in mapix.Loader(ds[rows], b, shuffle=False, **how):
            pass

    def run(read: Callable[[Any, Any], None]) -> float:
        ds, rows = mapix.open(source), order()
        go_cold(source)
        took = seconds(lambda: read(ds, rows))
        ds.close()
        return took / len(rows)

    return [
        Case("mapix", partial(run, ahead), "ds.batches"),
        Case("mapix, next batch not known", partial(run, alone), "ds.batch alone"),
        Case("mapix, one batch", partial(run, partial(alone, b=1 << 30)), "one ds.batch of all"),
        Case("mapix.Loader", partial(run, loader), "with a thread ahead"),
    ]


def _peer(entrant: type[Contender], source: Path, order: Callable[[], Any], b: int) -> Case:
    def run() -> float:
        go_cold(entrant.prepared(source))
        store, rows = entrant(source), order()

        def read() -> None:
            for k in range(0, len(rows), b):
                store.batch(rows[k : k + b])

        took = seconds(read)
        store.close()
        return took / len(rows)

    return Case(entrant.NAME, run, "batches")


def _entries(source: Path) -> Any:
    with mapix.open(source, index="never") as ds:
        entries = np.zeros(len(ds), reference.ENTRY)
        entries["at"] = ds.offsets
        for k, name in enumerate(("h", "w", "c")):
            entries[name] = ds.shapes[:, k]
        entries["n"] = ds.label_counts
        return entries


def _limits(source: Path, order: Callable[[], Any], left_out: dict[str, str]) -> list[Case]:
    """Nothing but reads, many at once; into memory that nobody looks at."""
    missing = reference.missing()
    if missing:
        left_out[LIMIT] = missing
        return []
    entries = _entries(source)

    def case(name: str, read: Callable[..., float], width: int) -> Case:
        def run() -> float:
            rows = order()
            go_cold(source)
            return read(source, entries, rows, width) / len(rows)

        return Case(name, run)

    cases = [case(THREADED, reference.read_threads, THREADS)]
    try:
        reference.read_uring(source, entries, order()[:1], DEPTH)
    except (OSError, subprocess.CalledProcessError) as e:
        left_out[LIMIT] = str(e)
        return cases
    cases.insert(0, case(LIMIT, reference.read_uring, DEPTH))
    for name, how in OTHER_WAYS.items():
        cases.append(case(name, partial(reference.read_uring, how=how), DEPTH))
    return cases


def _table(report: Report, kind: str) -> None:
    source = indexed(kind)
    stores = Stores(source)
    with mapix.open(source) as ds:
        n = len(ds)
    order, b = _orders(kind, n), BATCH[kind]
    cases = _mapix(source, order, b)
    cases += _limits(source, order, stores.left_out)
    peers = PEERS[:1] if kind == "large" else PEERS  # whose stores take room on the disk
    cases += [_peer(entrant, source, order, b) for entrant in enter(stores, kind, peers)]
    limit = THREADED if LIMIT in stores.left_out else LIMIT
    goals = [Goal(who, "share", 0.95, limit) for who in ("mapix", "mapix.Loader")]
    title = (
        f"cold disk, {min(SAMPLES[kind], n):,} random samples in batches of {b}: {kind}, samples"
    )
    rounds = min(report.rounds, MOST_ROUNDS)
    report.table(title, RATE, limit, cases, goals, stores.left_out, rounds)


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    for kind in BATCH:
        _table(report, kind)
