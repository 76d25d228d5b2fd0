"""Kill tests: whatever happens to the file, no process dies and no wrong byte passes for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mapix
import stress_faults
from mapix import _native
from slow_vimh import pack, record

SECONDS = float(os.environ.get("MAPIX_FAULT_SECONDS", "0"))
LEAST = 200  # good batches, refused ones, and faults, however long that takes
LEAST_AHEAD = 40


@pytest.mark.maps
@pytest.mark.parametrize(
    ("how", "least"),
    [
        ("batch", LEAST),
        ("loader", LEAST_AHEAD),
        pytest.param("torch", LEAST_AHEAD, marks=[pytest.mark.torch, pytest.mark.slow]),
    ],
)
def test_a_file_that_is_attacked_while_it_is_read(tmp_path, how, least):
    """By threads and by processes; a loader's own thread is two batches ahead of them."""
    if how == "torch":
        pytest.importorskip("torch")
    count = stress_faults.run(tmp_path, SECONDS, least, how)
    print(dict(count))
    for enough in ("good", "refused", "faults"):
        assert count[enough] >= least, (enough, count)
    for never in ("wrong", "died", "unexpected", "unnamed", "attacker died"):
        assert not count[never], (never, count)


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    head = f"""
import os, signal, faulthandler, mmap, threading
import mapix
from mapix import _native
path = {str(path)!r}
ds = mapix.open(path)
def cut():
    os.truncate(path, 4096)
def gather():
    try:
        ds.batch([90])
    except mapix.FileChangedError:
        return "refused"
    return "good"
def foreign_fault():
    "A fault in memory that is not ours."
    with open(path + ".other", "wb") as f:
        f.truncate(8192)
    with open(path + ".other", "r+b") as f:
        m = mmap.mmap(f.fileno(), 8192)
        f.truncate(0)
        return m[5000]
"""
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(pack([record(30, 40, 3, [(0, i)], seed=i) for i in range(100)]))
    return path


@pytest.mark.maps
def test_the_guard_stands_above_handlers_that_came_later(path):
    """faulthandler and Python handlers displace ours; the next gather takes it back."""
    done = run(
        """
assert gather() == "good"
faulthandler.enable()
signal.signal(signal.SIGBUS, lambda *a: print("python handler"))
cut()
assert [gather() for _ in range(3)] == ["refused"] * 3
assert _native.faults_caught() == 6, _native.faults_caught()  # in file order, then for the error
print("alive")
""",
        path,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_faults_that_are_not_ours_still_kill(path):
    done = run("assert gather() == 'good'; foreign_fault()", path)
    assert done.returncode == -signal.SIGBUS
    done = run("faulthandler.enable(); assert gather() == 'good'; foreign_fault()", path)
    assert done.returncode == -signal.SIGBUS
    assert done.stderr.count("Fatal Python error: Bus error") == 1


@pytest.mark.parametrize(
    ("setup", "code", "out"),
    [
        ("pass", -signal.SIGBUS, ""),
        ("signal.signal(signal.SIGBUS, signal.SIG_IGN)", 0, "after\n"),
        ("signal.signal(signal.SIGBUS, lambda *a: print('handler'))", 0, "handler\nafter\n"),
    ],
)
def test_kill_bus_goes_where_it_went_before(path, setup, code, out):
    done = run(f"{setup}\ngather()\nos.kill(os.getpid(), signal.SIGBUS)\nprint('after')", path)
    assert (done.returncode, done.stdout) == (code, out), done.stderr


def test_control_a_plain_map_dies(path):
    """What the guard is for: the same cut, read the usual way."""
    done = run("cut(); import numpy as np; np.memmap(path, np.uint8, 'r'); foreign_fault()", path)
    assert done.returncode == -signal.SIGBUS


def test_truncation_inside_the_last_page_gives_no_signal_and_is_still_seen(path):
    ds = mapix.open(path)
    before = _native.faults_caught()
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(mapix.FileChangedError):
        ds.batch([99])
    assert _native.faults_caught() == before


@pytest.mark.maps
def test_a_fault_in_each_thread_of_a_batch(path):
    ds = mapix.open(path)
    os.truncate(path, 4096)
    before = _native.faults_caught()
    with pytest.raises(mapix.FileChangedError):
        ds.batch(np.arange(40, 100), threads=3)
    # 60 rows, in parts of 8 or more: in the order of the file, then of the rows for the error
    assert _native.faults_caught() - before == 14
