"""Counts of calls, arrays and system calls: the gate of ``benchmarks/counts.py``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapix import selection
from records import needs_c

PLACE = Path(__file__).parent.parent / "benchmarks" / "counts.py"


@pytest.fixture
def counts() -> Any:
    spec = importlib.util.spec_from_file_location("mapix_counts", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_c
@pytest.mark.slow
def test_counts_are_those_that_are_stored() -> None:
    """One more call of a function, one more array or one more system call fails here."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(PLACE)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.endswith("as stored\n")


def test_what_is_counted(counts: Any) -> None:
    assert counts.calls_of(lambda: None) == 0
    assert counts.calls_of(lambda: selection.compose(None, np.arange(3))) == 1
    assert counts.calls_of(lambda: [selection.compose(None, np.arange(3)) for _ in "ab"]) == 2
    assert counts.arrays_of(lambda: np.zeros(100, np.uint8)) == (1, 100)
    assert counts.arrays_of(lambda: [np.zeros(8), np.ones(2)]) == (2, 80)


def test_differences_are_named(counts: Any) -> None:
    stored = {"a": {"calls": 1, "arrays": 2}, "b": {"calls": 1}}
    assert counts.differences(stored, stored) == []
    found = {"a": {"calls": 2, "arrays": 2}, "c": {"calls": 1}}
    assert counts.differences(stored, found) == [
        "a: calls: 1 stored, 2 found",
        "b: only in one of both",
        "c: only in one of both",
    ]
    without_strace = {"a": {"calls": 1, "arrays": 2}, "b": {"calls": 1}}
    stored["a"]["system_calls"] = 7
    assert counts.differences(stored, without_strace) == []
