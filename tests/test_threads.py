"""32 threads on one dataset, archive or loader; other processes; other interpreters: one result."""

from __future__ import annotations

import gc
import itertools
import multiprocessing as mp
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix._native.compiled import fast
from mapix._native.iid import PACKING
from mapix.batch import Lookout
from mapix.vimh import index_store
from records import mapped, needs_c, store
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
    return np.asarray(a.find("d", f"n{k % 60}")).tolist()


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


# --- what one thread changes while others use it --------------------------------------------------


def run_beside(change: Callable[[int], Any], use: Callable[[int], Any], nturns: int) -> None:
    """Call ``use`` in three threads, and ``change`` in another one as long as they run."""
    start, ended, wrong = threading.Barrier(4), threading.Event(), []

    def users(first: int) -> None:
        start.wait()
        try:
            for k in range(first, first + nturns * TURNS):
                use(k)
        except BaseException as e:
            wrong.append(e)

    def changer() -> None:
        start.wait()
        for k in itertools.count():
            if ended.is_set():
                return
            change(k)

    threads = [threading.Thread(target=users, args=(7 * k,)) for k in range(3)]
    other = threading.Thread(target=changer)
    for thread in (*threads, other):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    other.join()
    if wrong:
        raise wrong[0]


def test_the_map_is_renewed_while_threads_read(tmp_path: Path) -> None:
    """A harmless change of the file: each reader asks for a new map, of one object."""
    ds, a = mapix.open(mixed(tmp_path)), mapix.open(archive(tmp_path))
    rows = np.arange(60)
    a.find("d", "n1")
    expected = [ds[k].labels for k in rows], [a[int(k)].mask().tolist() for k in rows]

    def use(k: int) -> None:
        k %= 60
        assert ds[k].labels == expected[0][k]
        assert a[k].mask().tolist() == expected[1][k]
        assert a.find("d", f"n{k}").tolist() == [k]
        assert len(ds.batch(rows[: 1 + k % 3], pad=True).shapes) == 1 + k % 3

    def change(k: int) -> None:
        if k < 256:  # never the permissions of before: then the change would not be explained
            os.chmod(ds.path, 0o400 + k)
            os.chmod(a.path, 0o400 + k)
        time.sleep(0.0001)

    run_beside(change, use, 40)


def test_threads_confirm_stored_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of what was confirmed grows while others read it."""
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)
    rows = [record(1, 1 + i % 3, 1, [(0, i % 256)], seed=i) for i in range(5000)]
    store(tmp_path / "f", pack(rows))
    ds = mapix.open(tmp_path / "f", dialect=14)
    assert ds.index.stored
    order = np.random.default_rng(0).permutation(5000).tolist()

    def use(k: int) -> None:
        for i in order[k::60]:
            found = ds[i]
            assert (found.shape[1], found.label_bytes[0]) == (1 + i % 3, i % 256)

    run_beside(lambda k: ds[order[k % 5000]].labels, use, 60)


@needs_c
def test_names_in_a_list_that_changes(tmp_path: Path) -> None:
    file = mapix.open(archive(tmp_path))._file
    names: list[Any] = [f"n{k}" for k in range(60)]
    assert file.find_many(b"d", names).tolist() == list(range(60))

    def change(k: int) -> None:
        names[k % 50] = f"n{k % 60}" if k % 2 else "n" * (k % 400)
        names.append(b"n3")
        names.pop()

    def use(k: int) -> None:
        found = file.find_many(b"d", names)
        assert len(found) in (60, 61)
        assert found[50:60].tolist() == list(range(50, 60))

    run_beside(change, use, 60)


@needs_c
def test_labels_in_a_dict_that_changes() -> None:
    heads = tuple((f"p{k}", k, 0.0, 255.0, False) for k in range(20))
    labels = {f"p{k}": float(k) for k in range(20)}
    image = np.zeros((1, 1), np.uint8)

    def change(k: int) -> None:
        labels[f"p{k % 19}"] = float(k % 200)
        labels["other"] = 1.0
        del labels["other"]

    def use(k: int) -> None:
        packed = fast.pack(heads, image, labels, None, (0.0, 0.0), 14)
        if packed is not None:  # else a label more, at that moment
            pairs = packed[0][15:-1]
            assert pairs[::2] == bytes(range(20))
            assert max(pairs[1::2]) < 200
            assert pairs[-1] == 19

    run_beside(change, use, 200)


@needs_c
def test_a_finalizer_adds_while_segments_are_taken() -> None:
    """The garbage collector may run at any allocation, and lets other threads add."""
    buffer = fast.SegmentBuffer(True, 1 << 30, *PACKING)
    mask = np.ones((3, 5), bool)

    class Adds:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            buffer.add(b"d", b"late", mask, None, 0)

    buffer.add(b"d", b"early", mask, None, 0)
    take, threshold = buffer.take, gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        held = [(k, k) for k in range(3000)]  # no unused tuple of two is left
        for _ in range(20):
            Adds()
        gc.set_threshold(1)
        gc.enable()
        first = take()
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    del held
    taken = [first]
    gc.collect()
    taken.append(buffer.take())
    names = b"".join(names for names, _ in taken)
    assert (len(buffer), names.count(b"late"), names.count(b"early")) == (21, 20, 1)


@needs_c
def test_threads_share_a_buffer_of_segments() -> None:
    """Of names and segments, none is lost or torn; the limit of a call is that of all."""
    buffer = fast.SegmentBuffer(True, 1 << 30, *PACKING)
    mask = np.ones((3, 5), bool)
    taken: list[tuple[bytes, bytes]] = []

    def use(k: int) -> None:
        assert buffer.add(b"d", b"i" * (1 + k % 9), mask, (k % 50, 2), 0) is not None
        assert buffer.put(b"d", b"put", (0, 0, 1, 1), 1, b"r" * 9) is not None

    run_beside(lambda k: taken.append(buffer.take()), use, 100)
    taken.append(buffer.take())
    lut, boxes, areas = (
        np.frombuffer(x, t) for x, t in zip(buffer.tables(), ("<u4", "<u2", "<u4"), strict=True)
    )
    n = 2 * 3 * 100 * TURNS
    assert len(buffer) == n == len(areas) == len(boxes) // 4
    assert lut.reshape(n, 5)[:, 0].tolist() == list(range(n))
    for (at, size), whole in zip(
        ((1, 2), (3, 4)), map(b"".join, zip(*taken, strict=True)), strict=True
    ):
        ends = np.cumsum(lut.reshape(n, 5)[:, size])
        assert lut.reshape(n, 5)[:, at].tolist() == [0, *ends[:-1].tolist()]
        assert len(whole) == ends[-1]
    assert sorted(areas.tolist()) == [1] * (n // 2) + [15] * (n // 2)


def test_a_file_that_is_closed_while_it_is_attached(tmp_path: Path) -> None:
    """What was attached after ``close`` is detached again: nothing keeps the file mapped."""
    ds = mapix.open(vimh(tmp_path))
    gatherer = ds._gatherer
    attach = gatherer._attach

    def closing(*what: Any) -> None:
        ds.close()
        attach(*what)

    gatherer._attach = closing
    with pytest.raises(mapix.ClosedError):
        _ = ds[0].image
    with pytest.raises(mapix.ClosedError):
        _ = ds[0]
    if sys.platform == "linux":
        assert not mapped(Path(ds.path))


def test_a_count_that_two_threads_lower_stays_above_zero() -> None:
    """Between two statements of one thread, another one does the same."""
    lookout = Lookout()
    lookout.saw(0)
    assert lookout._skip == 1

    class Other(int):
        def __bool__(self) -> bool:
            lookout._skip = 0
            return True

    lookout._skip = Other(1)
    assert lookout.probes() == 0
    assert lookout.probes() == Lookout.FEW


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
