"""Private memory of one more worker process: opened the file, read 50,000 random records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case
from comparison.stores import Stores, enter
from data_files import dataset, held

CHILD = Path(__file__).parent / "child.py"
BARE = "bare np.memmap"
NAMES = (
    "mapix",
    BARE,
    "Python mmap + struct",
    "pyarrow",
    "LMDB",
    "bagz",
    "ArrayRecord, seek + read",
)
MOST_ROUNDS = 5  # a process has no noisy neighbours


def worker_uss(name: str, source: Path) -> dict[str, int]:
    """Bytes that the worker has for itself: USS, and what of it no file backs."""
    command = [sys.executable, str(CHILD), "memory", name, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, int] = json.loads(done.stdout)
    return found


def _files(report: Report, kind: str) -> None:
    stores = Stores(dataset(kind))
    source = stores.source
    ready = enter(stores, kind, [n for n in NAMES if n != BARE])
    names = [BARE, *(e.NAME for e in ready)]
    cases = [Case(n, lambda n=n: worker_uss(n, source)["uss"]) for n in names]  # type: ignore[misc]
    goals = [Goal("mapix", "over", 1.0, BARE)]
    title = f"memory: USS of an extra worker after 50,000 random records: {source.stem}"
    rounds = min(report.rounds, MOST_ROUNDS)
    with held(*(e.prepared(source) for e in ready)):
        report.table(title, "MB", BARE, cases, goals, stores.left_out, rounds)


def _growth(report: Report) -> None:
    """Bytes a record: what a file ten times as long costs, shared out over its records."""
    whole, tenth = dataset("mixed"), dataset("mixed_tenth")
    with mapix.open(whole) as a, mapix.open(tenth) as b:
        more = len(a) - len(b)

    def case(name: str) -> Case:
        def run() -> float:
            long, short = worker_uss(name, whole), worker_uss(name, tenth)
            return (long["uss"] - short["uss"]) / more

        return Case(name, run)

    cases = [case(name) for name in ("mapix", BARE, "Python mmap + struct")]
    goals = [Goal("mapix", "below", 1.0)]
    title = f"memory: private bytes per record, from {more:,} more records: mixed"
    report.table(title, "bytes", BARE, cases, goals, rounds=min(report.rounds, MOST_ROUNDS))


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    for kind in ("uniform", "mixed"):
        _files(report, kind)
    _growth(report)
