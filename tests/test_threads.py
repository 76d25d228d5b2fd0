"""32 threads on one dataset, archive or loader; other processes; other interpreters: one result."""

from __future__ import annotations

import multiprocessing as mp
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from slow_vimh import pack, record

NTHREADS = 32
ALL = os.environ.get("MAPIX_ALL_TESTS") == "1"
TURNS = 12 if ALL else 1

Task = Callable[[Any, int], Any]


def vimh(folder: Path, *, mixed: bool = False) -> Path:
    path = folder / "data.vimh"
    rows = [
        record(3 + mixed * (i % 3), 4, 1 + 2 * (i % 2) * mixed, [(0, i), (1, 255 - i)], seed=i)
        for i in range(60)
    ]
    path.write_bytes(pack(rows))
    return path


def mixed(folder: Path) -> Path:
    return vimh(folder, mixed=True)


def idx(folder: Path) -> Path:
    path = folder / "x-images-idx3-ubyte"
    values = np.random.default_rng(0).integers(0, 256, (60, 5, 4), np.uint8)
    mapix.idx.write(path, values)
    return path


def archive(folder: Path) -> Path:
    rng, path = np.random.default_rng(0), folder / "a.iid"
    with mapix.iid.Writer(path, index=True) as out:
        for i in range(60):
            mask = rng.random((4, 6)) < 0.8
            mask[0, 0] = True
            out.add("d", f"n{i}", mask, at=(i % 7, 2 * (i % 5)), groups=[f"g{i % 3}"])
    return path


def canvas(ds: Any) -> dict[str, Any]:
    return {"pad": True} if ds.image_shape is None else {}


def one(ds: Any, k: int) -> Any:
    found = ds[k % len(ds)]
    return np.asarray(getattr(found, "image", found)).tolist()


def labels(ds: Any, k: int) -> Any:
    name = list(ds.columns)[k % max(len(ds.columns), 1)] if len(ds.columns) else None
    return None if name is None else ds.columns[name].values.tolist()


def batch(ds: Any, k: int) -> Any:
    rows = np.random.default_rng(k).integers(0, len(ds), 9)
    found = ds.batch(rows, threads=1 + k % 3, **canvas(ds))
    return found.images.tolist(), None if found.labels is None else found.labels.tolist()


def part(ds: Any, k: int) -> Any:
    return one(ds[k % 20 :: 3], 5)


def opened(ds: Any, k: int) -> Any:
    with mapix.open(ds.path) as again:
        return one(again, k)


def statistics(ds: Any, k: int) -> Any:
    del k
    return ds.statistics().n, str(ds.verify())


def segment(a: Any, k: int) -> Any:
    s = a[k % len(a)]
    return s.iid, s.bbox, s.area, s.mask().tolist()


def find(a: Any, k: int) -> Any:
    return np.asarray(a.find(f"n{k % 60}")).tolist()


def at(a: Any, k: int) -> Any:
    return np.asarray(a.at(k % 9, k % 11)).tolist()


def overlaps(a: Any, k: int) -> Any:
    del k
    return str(a.overlaps())


def groups(a: Any, k: int) -> Any:
    return a.groups[f"g{k % 3}"].keys.tolist()


def masks(a: Any, k: int) -> Any:
    found = a.masks(np.arange(k % 20, 60, 7))
    return [m.tolist() for m in found]


def reopened(a: Any, k: int) -> Any:
    with mapix.open(a.path) as again:
        return segment(again, k)


RECORDS: list[Task] = [one, labels, batch, part, opened, statistics]
SEGMENTS: list[Task] = [segment, find, at, overlaps, groups, masks, reopened]


@pytest.mark.parametrize(
    ("make", "tasks"),
    [(vimh, RECORDS), (mixed, RECORDS), (idx, RECORDS), (archive, SEGMENTS)],
    ids=["vimh", "mixed", "idx", "archive"],
)
def test_32_threads_find_what_one_finds(
    tmp_path: Path, make: Callable[[Path], Path], tasks: list[Task]
) -> None:
    path = make(tmp_path)
    jobs = [(task, k) for task in tasks for k in range(4)]
    with mapix.open(path) as ds:
        expected = {(task, k): task(ds, k) for task, k in jobs}
    with mapix.open(path) as ds:  # anew, so that what is made at first use is made by many at once
        start = threading.Barrier(NTHREADS)
        wrong: list[Any] = []

        def run(seed: int) -> None:
            rng = random.Random(seed)
            start.wait()
            for _ in range(TURNS):
                for task, k in rng.sample(jobs, 6):
                    try:
                        if task(ds, k) != expected[task, k]:
                            wrong.append((task.__name__, k))
                    except Exception as e:
                        wrong.append((task.__name__, k, repr(e)))

        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(NTHREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_32_threads_share_an_epoch_of_a_loader(tmp_path: Path) -> None:
    """Batches are taken by whoever comes first; together they are the epoch of one thread."""
    ds = mapix.open(vimh(tmp_path))
    loader = mapix.Loader(ds, 3, seed=5, copy=True)
    expected = sorted(batch.images.tobytes() for batch in loader)
    loader.set_epoch(0)
    source, found, lock = iter(loader), [], threading.Lock()

    def run() -> None:
        while True:
            with lock:
                batch = next(source, None)
            if batch is None:
                return
            found.append(batch.images.tobytes())

    threads = [threading.Thread(target=run) for _ in range(NTHREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == expected


def results(ds: Any, tasks: list[Task]) -> list[Any]:
    return [task(ds, k) for task in tasks for k in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("make", "tasks"), [(idx, RECORDS), (mixed, RECORDS), (archive, SEGMENTS)])
def test_other_processes_find_the_same(
    tmp_path: Path, method: str, make: Callable[[Path], Path], tasks: list[Task]
) -> None:
    """An open dataset is inherited by fork, and travels as a pickle otherwise."""
    ds = mapix.open(make(tmp_path))
    expected = results(ds, tasks)
    with mp.get_context(method).Pool(2) as pool:
        assert pool.starmap(results, [(ds, tasks)] * 4) == [expected] * 4
    assert results(ds, tasks) == expected


INTERPRETERS = """
import sys
try:
    from concurrent import interpreters
    run = lambda code: interpreters.create().exec(code)
except ImportError:
    try:
        import _interpreters as low
    except ImportError:
        import _xxsubinterpreters as low
    run = lambda code: (getattr(low, "exec", None) or low.run_string)(low.create(), code)

code = '''
import warnings
warnings.simplefilter("ignore")
try:
    import mapix
    print(mapix.open(PATH)[7].labels, flush=True)
except ImportError as e:
    print("refused:", str(e).splitlines()[0], flush=True)
'''.replace("PATH", repr(sys.argv[1]))
if sys.argv[2] == "first":
    exec(code)
for _ in range(3):
    run(code)
exec(code) if sys.argv[2] == "first" else None
"""


@pytest.mark.slow
@pytest.mark.parametrize("main", ["first", "never"])
def test_other_interpreters_are_refused_or_right(tmp_path: Path, main: str) -> None:
    """Numpy can be loaded by one interpreter of a process; mapix says so, and the first goes on."""
    command = [sys.executable, "-c", INTERPRETERS, str(vimh(tmp_path)), main]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    right = "{'param_0': 7, 'param_1': 248}"
    assert len(lines) == (5 if main == "first" else 3)
    assert lines[0] == right or (main == "never" and lines[0].startswith("refused: "))
    assert all(line == right or line.startswith("refused: ") for line in lines)
    assert main == "never" or lines[-1] == right
