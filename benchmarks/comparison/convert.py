"""Conversions of uniform and mixed files, beside a synced copy of the file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, seconds
from data_files import FOLDER, dataset, populate

COPY = "a copy, synced"
MOST_NBYTES = 64 << 20  # of the file that is converted: records up to there
WAYS: dict[str, dict[str, Any]] = {
    "VIMH": {"to": "vimh"},
    "npz": {"to": "npz"},
    "Parquet": {"to": "parquet"},
    "IDX": {"to": "idx", "label": False},
    "npy": {"to": "npy"},
}
UNIFORM_ONLY = ("IDX", "npy")
MIXED_LIMITS = {"VIMH": 1.5, "npz": 2.0, "Parquet": 3.0}


def _part(kind: str) -> Path:
    """The first records of a data file, as a file of its own."""
    path = FOLDER / f"{kind}-first.vimh"
    if not path.exists():
        with mapix.open(dataset(kind)) as ds:
            n = max(1, min(len(ds), len(ds) * MOST_NBYTES // dataset(kind).stat().st_size))
            end = int(ds.offsets[n]) if n < len(ds) else dataset(kind).stat().st_size
        with open(dataset(kind), "rb") as whole, open(path, "wb") as part:
            part.write(whole.read(end))
    return path


def _copy(source: Path, to: Path) -> None:
    shutil.copyfile(source, to)
    with to.open("r+b") as f:
        os.fsync(f.fileno())


def _case(name: str, work: Callable[[Path], object]) -> Case:
    def run() -> float:
        folder = Path(tempfile.mkdtemp(dir=FOLDER))
        try:
            return seconds(lambda: work(folder / "new"))
        finally:
            shutil.rmtree(folder)

    return Case(name, run)


def measure(report: Report, long: bool) -> None:
    """One table for each kind of file."""
    del long
    for kind in ("uniform", "mixed"):
        source = _part(kind)
        populate(source)
        cases = [_case(COPY, lambda to, source=source: _copy(source, to))]
        for name, how in WAYS.items():
            if kind == "mixed" and name in UNIFORM_ONLY:
                continue
            work = lambda to, how=how, source=source: mapix.convert(source, to, lossy=True, **how)  # noqa: E731
            cases.append(_case(f"mapix, to {name}", work))
        goals = []
        if kind == "mixed":
            goals = [Goal(f"mapix, to {k}", "at most", v, COPY) for k, v in MIXED_LIMITS.items()]
        title = f"convert {source.stat().st_size / 1e6:.0f} MB: {kind}"
        report.table(title, "ms", COPY, cases, goals)
