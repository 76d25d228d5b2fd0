"""What a new process pays before its first record: its thread's time, numpy's own left out.

The time of the process would count the threads of numpy's OpenBLAS, too.  They spin for tens of
milliseconds after the import, so on idle cores each adds as much again as the first record takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import mapix
from archives import archive
from comparison.report import Goal, Report
from comparison.rounds import Case
from data_files import FOLDER, dataset, populate
from mapix import idx

SCRIPT = """
import sys, time
import numpy
began = time.thread_time()
import mapix
imported = time.thread_time()
if sys.argv[1:]:
    mapix.open(sys.argv[1])[0]
print((time.thread_time() if sys.argv[1:] else imported) - began)
"""


def _process(*arguments: str) -> float:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    # Compiled modules are there, as after an installation.
    env = {**os.environ, "PYTHONPYCACHEPREFIX": os.environ["MAPIX_CACHE_DIR"]}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return float(done.stdout)


def _small_idx() -> Path:
    path = FOLDER / "small-images-idx3-ubyte"
    if not path.exists():
        idx.write(path, np.zeros((1000, 28, 28), np.uint8))
    return path


def measure(report: Report, long: bool) -> None:
    """Import alone, and import with a first record of three families."""
    del long
    files = {"VIMH": dataset("uniform"), "IDX": _small_idx(), "IID": archive(10_000)}
    for path in files.values():
        populate(path)
        mapix.open(path)[0]  # the index is stored
    cases = [Case("import mapix", _process)]
    for family, path in files.items():
        cases.append(Case(f"import, first record: {family}", lambda p=str(path): _process(p)))
    goals = [Goal("import mapix", "below", 8)]
    goals += [Goal(case.name, "over", 5, "import mapix") for case in cases[1:]]
    title = "a new process, after numpy: processor time of its thread"
    report.table(title, "ms", "import mapix", cases, goals)
