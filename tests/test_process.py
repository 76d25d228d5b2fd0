"""Datasets across processes: fork, spawn, forkserver; small pickles; the same file or none."""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import mapix
from slow_vimh import pack, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(pack([record(8, 8, 3, [(0, i)], seed=i) for i in range(100)]))
    return path


def check(ds: mapix.vimh.Dataset, seed: int) -> int:
    """Gather in a child; the sum of the bytes tells whether they are right."""
    rows = np.random.default_rng(seed).integers(0, len(ds), 64)
    batch = ds.batch(rows, layout="NCHW", threads=2)
    assert (batch.images[5] == ds[int(rows[5])].image.transpose(2, 0, 1)).all()
    return int(batch.images.sum())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers(path, method):
    ds = mapix.open(path)
    want = [check(ds, s) for s in range(8)]
    with mp.get_context(method).Pool(2) as pool:
        assert pool.starmap(check, [(ds, s) for s in range(8)]) == want
        assert pool.starmap(check, [(ds[::2], s) for s in range(8)]) == [
            check(ds[::2], s) for s in range(8)
        ]


def test_a_pickle_holds_no_data(path):
    ds = mapix.open(path)
    assert len(pickle.dumps(ds)) < 1500
    assert len(pickle.dumps(ds[::2])) < 1500
    part = pickle.loads(pickle.dumps(ds[[5, 3, -1]]))
    assert [r.labels["param_0"] for r in part] == [5, 3, 99]


def test_options_travel(path):
    ds = mapix.open(path, order="HWC", dialect=14, info={"parameter_names": ["a"]})
    again = pickle.loads(pickle.dumps(ds))
    assert again.interleaved
    assert again[4].labels == {"a": 4}
    np.testing.assert_array_equal(again[4].image, ds[4].image)


def test_a_worker_refuses_another_file(path):
    blob = pickle.dumps(mapix.open(path))
    path.with_name("b").write_bytes(path.read_bytes())
    os.replace(path.with_name("b"), path)
    code = f"import pickle; pickle.loads({blob!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "FileChangedError" in done.stderr
    assert str(path) in done.stderr
    assert "replaced" in done.stderr


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_under_gathering_threads(path):
    ds = mapix.open(path)
    want = check(ds, 1)
    stop = threading.Event()
    failures = []
    ngathered = [0, 0]

    def gather(k: int) -> None:
        while not stop.is_set():
            if check(ds, 1) != want:
                failures.append(1)
            ngathered[k] += 1

    threads = [threading.Thread(target=gather, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    try:
        nforks = 0
        while nforks < 60 or min(ngathered) < 60:  # of work done, however busy the machine is
            pid = os.fork()
            if pid == 0:  # nothing but gather and leave: no pytest in here
                ok = False
                try:
                    ok = check(ds, 1) == want
                finally:
                    os._exit(0 if ok else 1)
            _, status = os.waitpid(pid, 0)
            assert status == 0
            nforks += 1
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures


def test_exit_with_gathering_daemon_threads(path):
    code = f"""
import threading, mapix
ds = mapix.open({str(path)!r})
at_work = [threading.Event() for _ in range(3)]
def gather(k):
    for n in range(1 << 60):
        ds.batch(range(100), threads=2)
        if n == 9:
            at_work[k].set()
for k in range(3):
    threading.Thread(target=gather, args=(k,), daemon=True).start()
for event in at_work:
    event.wait()
"""
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_importing_mapix_is_light(tmp_path):
    """No torch, no pillow, no test tools; opening, names and batches import no numpy.ma either."""
    code = """
import sys, numpy as np, mapix
from mapix import catalogue, iid
assert "numpy.ma" not in sys.modules
for k in range(2):
    mapix.idx.write(f"{sys.argv[1]}/{k}.idx", np.zeros((9, 2, 2), np.uint8))
    with iid.Writer(f"{sys.argv[1]}/{k}.iid") as out:
        out.add("cells", f"{k}", mask=np.ones((2, 2), bool))
archives = [f"{sys.argv[1]}/{k}.iid" for k in range(2)]
catalogue.write(archives, f"{sys.argv[1]}/c")
assert mapix.open(f"{sys.argv[1]}/c").find("cells", "1") == [1]
assert mapix.open(archives).find("cells", "1") == [1]
ds = mapix.open([f"{sys.argv[1]}/{k}.idx" for k in range(2)])
assert ds.batch([3, 12]).images.shape[0] == 2
print(*sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "mapix" in loaded
    assert not loaded & {"torch", "PIL", "pytest", "hypothesis", "psutil", "matplotlib"}
    assert "numpy.ma" not in loaded
