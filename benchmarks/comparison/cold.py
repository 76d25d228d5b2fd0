"""Random records from a cold disk: everything evicted before each case."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
import reference
from comparison.report import RATE, Goal, Report
from comparison.rounds import Case, seconds
from comparison.stores import Stores, enter, go_cold, indexed
from contenders.base import Contender, kind_of

B = 256
SAMPLES = 20_000
MOST_ROUNDS = 7  # a round takes half a minute
THREADS, DEPTH = 32, 256
LIMIT, THREADED = f"io_uring O_DIRECT, {DEPTH} deep", f"pread, {THREADS} threads"
PEERS = ("np.memmap, fixed stride", "pyarrow", "LMDB", "bagz", "ArrayRecord, seek + read")


def _orders(n: int) -> Callable[[], Any]:
    rng = np.random.default_rng(13)
    return lambda: rng.permutation(n)[: min(SAMPLES, n)]


def _mapix(source: Path, order: Callable[[], Any], ahead: bool) -> Case:
    """Opened before the clock runs, as all others; ``ahead``: with the next batch known."""
    how: dict[str, Any] = {"layout": "NCHW"} if kind_of(source) == "uniform" else {"flat": True}

    def run() -> float:
        ds, rows = mapix.open(source), order()
        go_cold(source)

        def read() -> None:
            if ahead:
                for _ in ds.batches(B, rows, **how):
                    pass
            else:
                for k in range(0, len(rows), B):
                    ds.batch(rows[k : k + B], **how)

        took = seconds(read)
        ds.close()
        return took / len(rows)

    name = "mapix" if ahead else "mapix, next batch not known"
    return Case(name, run, "ds.batches" if ahead else "ds.batch alone")


def _peer(entrant: type[Contender], source: Path, order: Callable[[], Any]) -> Case:
    def run() -> float:
        go_cold(entrant.prepared(source))
        store, rows = entrant(source), order()

        def read() -> None:
            for k in range(0, len(rows), B):
                store.batch(rows[k : k + B])

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
    return [case(LIMIT, reference.read_uring, DEPTH), *cases]


def _table(report: Report, kind: str) -> None:
    source = indexed(kind)
    stores = Stores(source)
    with mapix.open(source) as ds:
        n = len(ds)
    order = _orders(n)
    cases = [_mapix(source, order, True), _mapix(source, order, False)]
    cases += _limits(source, order, stores.left_out)
    cases += [_peer(entrant, source, order) for entrant in enter(stores, kind, PEERS)]
    limit = THREADED if LIMIT in stores.left_out else LIMIT
    goals = [Goal("mapix", "share", 0.8, limit)]
    title = f"cold disk, {min(SAMPLES, n):,} random samples in batches of {B}: {kind}, samples"
    rounds = min(report.rounds, MOST_ROUNDS)
    report.table(title, RATE, limit, cases, goals, stores.left_out, rounds)


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    for kind in ("uniform", "mixed"):
        _table(report, kind)
