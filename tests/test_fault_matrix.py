"""A part of what ``fault_matrix.py`` runs; docs/testing.md has the figures of complete runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fault_matrix
from fault_matrix import EVERY, calls, power

pytestmark = pytest.mark.filterwarnings("ignore::mapix.MapixWarning")


def test_some_states_after_a_power_cut(tmp_path):
    counts, wrong = power("iid.edit", tmp_path, 60)
    assert not wrong
    assert counts["different"] > 5


def test_the_model_bites(tmp_path):
    """Without syncs, the same states have what must not be."""
    for leave_out in ("fsync", "fsync_directory"):
        (tmp_path / leave_out).mkdir()
        _, wrong = power("model as JSON", tmp_path / leave_out, 100, leave_out)
        assert wrong


def test_some_calls_that_fail(tmp_path):
    counts, wrong = calls("convert to shards", tmp_path, 12)
    assert not wrong
    assert counts["cells"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_writer(tmp_path, name):
    if not fault_matrix.can_run(EVERY[name]):
        pytest.skip(f"{', '.join(EVERY[name].needs)} is not installed")
    for part, n in ((calls, 4), (power, 30)):
        (tmp_path / part.__name__).mkdir()
        _, wrong = part(name, tmp_path / part.__name__, n)
        assert not wrong


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("kills", "9", "vimh.Appender"), ("readers", "1", "idx"), ("memory", "2", "npy")],
    ids=lambda arguments: arguments[0],
)
def test_the_command(arguments):
    if arguments[0] == "memory":
        pytest.importorskip("_testcapi")
    program = Path(fault_matrix.__file__)
    done = subprocess.run(
        [sys.executable, program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 wrong" in done.stdout
