"""Building an index: from a warm page cache with a fresh mapping, and from a cold disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import reference
from comparison.report import Goal, Report
from comparison.rounds import Case, flush_caches, seconds, told
from comparison.stores import go_cold
from contenders import original, python_mmap
from contenders.base import alike
from data_files import Held, dataset, held, mapped, read_through
from mapix.source import Source
from mapix.vimh import layout

COLD_ROUNDS = 7
PARSED = 5_000  # records that the original's way is timed on
HOP, LINES, CHAINS = "C hop, one pointer", "C lines, known addresses", "C 16 hops, known starts"
PYTHON, READ = "Python mmap + struct", "read() 1 MB"


def _walk(path: Path) -> Any:
    """What mapix does where no index is stored and the dialect is given."""
    reading = layout.walk(Source(path), 14)
    if not reading.complete:
        raise ValueError(f"{path}: {reading}")
    return reading.index


def _check(path: Path) -> Any:
    """The plain hop's index, after comparing mapix's with it."""
    found, plain = _walk(path), reference.hop(mapped(path))
    same = np.array_equal(found.offsets(), plain["at"].view(np.int64))
    same &= np.array_equal(found.label_counts(), plain["n"])
    for k, name in enumerate(("h", "w", "c")):
        same &= np.array_equal(found.shapes()[:, k], plain[name])
    if not same:
        raise AssertionError(f"{path}: mapix's index is not the plain hop's")
    return plain


def warm(report: Report, kind: str) -> None:
    """Fresh mapping, file in the page cache, last-level cache flushed before each build."""
    path = dataset(kind)
    told(f"filling the page cache: {kind}")
    with held(path) as hold:
        _warm(report, path, kind, hold)


def _warm(report: Report, path: Path, kind: str, hold: Held) -> None:
    plain = _check(path)
    n, nbytes = len(plain), path.stat().st_size
    at = None if kind == "uniform" else np.ascontiguousarray(plain["at"])
    stride = alike(path).stride
    first = np.linspace(0, n, reference.CHAINS + 1).astype(np.uint64)
    starts = np.append(plain["at"][first[:-1].astype(np.int64)], np.uint64(nbytes))
    share = min(PARSED / n, 1.0)
    parsed = len(original.parse(path, int(nbytes * share)))

    def case(name: str, build: Callable[[], object], units: int = n, note: str = "") -> Case:
        def run() -> float:
            hold.touch(path)
            flush_caches()
            return seconds(build) / units

        return Case(name, run, note)

    cases = [
        case("mapix", lambda: _walk(path)),
        case(LINES, lambda: reference.lines(mapped(path), at, stride, n)),
        case(HOP, lambda: reference.hop(mapped(path))),
        case(CHAINS, lambda: reference.chains(mapped(path), first, starts)),
        case(PYTHON, lambda: python_mmap.index(mapped(path))),
    ]
    if n > PARSED:
        whole = f"{parsed:,} of {n:,} records timed"
        cases.append(
            case("original's way", lambda: original.parse(path, int(nbytes * share)), parsed, whole)
        )
    limit = LINES if kind == "uniform" else CHAINS
    goals = [Goal("mapix", "at most", 1.25, limit), Goal("mapix", "faster", 14, PYTHON)]
    if kind != "uniform":
        goals.append(Goal("mapix", "faster", 4, HOP))
    title = f"index, warm, fresh mapping: {kind}, {n:,} records, per record"
    report.table(title, "ns", LINES, cases, goals)


def cold(report: Report, kind: str) -> None:
    """Nothing of the file in memory."""
    path = dataset(kind)

    def case(name: str, build: Callable[[], object]) -> Case:
        def run() -> float:
            go_cold(path)
            return seconds(build)

        return Case(name, run)

    cases = [
        case("mapix", lambda: _walk(path)),
        case(READ, lambda: read_through(path)),
        case(HOP, lambda: reference.hop(mapped(path))),
    ]
    if kind == "large":
        goals = [Goal("mapix", "faster", 7, HOP)]
    else:
        goals = [Goal("mapix", "share", 0.95, READ)]
    title = f"index, cold disk: {path.stem}, {path.stat().st_size / 1e9:.2f} GB"
    report.table(title, "ms", READ, cases, goals, rounds=min(report.rounds, COLD_ROUNDS))


def measure(report: Report, long: bool) -> None:
    """All tables of this measure; without a C compiler there is nothing to compare with."""
    missing = reference.missing()
    if missing:
        report.table("index", "ns", LINES, [], [], {"C references": missing})
        return
    for kind in ("uniform", "mixed", *(["mixed7"] if long else [])):
        warm(report, kind)
    for kind in ("uniform", "mixed", "large"):
        cold(report, kind)
