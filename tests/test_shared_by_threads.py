"""32 threads share what each family opens, and each writer: right values, or a clear error.

The operations are those of every_operation.py: all public names of all families.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from every_operation import Op, families, plain
from mapix._native.iid import pack

NTHREADS = 32
ALL = os.environ.get("MAPIX_ALL_TESTS") == "1"
TURNS = 8 if ALL else 2
QUICK = {"vimh mixed", "iid", "idx", "npy", "tar"}
"""Run by every test run; the others take seconds."""

CHANGES_THE_FILE = {"append", "keep_index"}  # the latter replaces what others read

pytestmark = pytest.mark.filterwarnings("ignore::mapix.MapixWarning")


def by_threads(acts: Iterable[Callable[[], Any]]) -> list[BaseException]:
    """Let 32 threads take and call ``acts`` in their order; return what they raised."""
    waiting, raised = list(acts)[::-1], []
    start = threading.Barrier(NTHREADS)

    def run() -> None:
        start.wait()
        while waiting:
            try:
                act = waiting.pop()
            except IndexError:  # another thread took the last one
                return
            try:
                act()
            except BaseException as e:
                raised.append(e)

    threads = [threading.Thread(target=run) for _ in range(NTHREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def operations(name: str) -> dict[str, Op]:
    """Return the operations of a family that leave the file as it is, and open."""
    return {
        what: op
        for what, op in families()[name].operations()
        if what.rpartition(".")[2] not in {"close", *CHANGES_THE_FILE}
    }


def in_some_order(what: Iterable[str], seed: int) -> list[str]:
    """Return names in random order, each of them several times in a row: threads meet in it."""
    order = sorted(what)
    random.Random(seed).shuffle(order)
    return [name for name in order for _ in range(TURNS)]


@pytest.mark.parametrize("name", sorted(families()))
@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
def test_every_operation_on_one_dataset(tmp_path: Path, name: str, closing: bool) -> None:
    """Each thread finds what one alone finds; ClosedError once another thread has closed it."""
    if name not in QUICK and not ALL:
        pytest.skip("takes seconds: set MAPIX_ALL_TESTS=1")
    if name == "folder" or name.startswith("pink"):
        pytest.importorskip("PIL")
    family, ops = families()[name], operations(name)
    path = family.make(tmp_path)
    expected = {what: plain(op(family.open(path))) for what, op in ops.items()}
    closed = family.open(path)
    closed.close()
    shared = family.open(path)  # anew: what is made at the first use is made by many at once
    wrong: list[str] = []

    def compared(what: str) -> Callable[[], None]:
        def act() -> None:
            try:
                found = plain(ops[what](shared))
            except (mapix.MapixError, ValueError) as e:  # a report, or ``repr``, states it
                if not closing or "the dataset is closed" not in str(e):
                    raise
            else:
                if found != expected[what] and not (closing and found == plain(ops[what](closed))):
                    wrong.append(what)

        return act

    acts = [compared(what) for what in in_some_order(ops, len(name))]
    if closing:
        acts.insert(len(acts) // 2, shared.close)
    assert by_threads(acts) == []
    assert wrong == []


# --- writers --------------------------------------------------------------------------------------

Count = tuple[int, int]  # a thread, and a number that it counts up


def pixels(thread: int, k: int) -> np.ndarray:
    return np.array([[thread, k, 1], [k, thread, 2]], np.uint8)


def vimh_writer(folder: Path) -> Any:
    names = [mapix.vimh.Parameter(name, i) for i, name in enumerate(("thread", "k"))]
    return mapix.vimh.Writer(folder / "v", names, splits=["train"])


def vimh_appender(folder: Path) -> Any:
    with vimh_writer(folder) as out:
        vimh_add(out, NTHREADS, 0)
    return mapix.vimh.Appender(folder / "v")


def vimh_add(out: Any, thread: int, k: int) -> None:
    if k % 3:
        out.append(pixels(thread, k), codes={"thread": thread, "k": k})
    else:
        out.extend(pixels(thread, k)[None], codes={"thread": [thread], "k": [k]})
    if k % 5 == 4 and hasattr(out, "commit"):
        out.commit()


def vimh_found(folder: Path) -> list[Count]:
    with mapix.open(folder / "v") as ds:
        assert ds.verify().ok
        found = [tuple(r.label_bytes.tolist()) for r in ds]
        assert all((r.image[..., 0] == pixels(*c)).all() for r, c in zip(ds, found, strict=True))
    return found


def idx_writer(folder: Path) -> Any:
    return mapix.idx.Writer(folder / "x-idx3-ubyte", np.uint8, (2, 3))


def idx_appender(folder: Path) -> Any:
    with idx_writer(folder) as out:
        rows_add(out, NTHREADS, 0)
    return mapix.idx.Appender(folder / "x-idx3-ubyte")


def pink_writer(folder: Path) -> Any:
    return mapix.pink.Writer(folder / "x-idx3-ubyte", row_shape=(2, 3))


def rows_add(out: Any, thread: int, k: int) -> None:
    out.append(pixels(thread, k))


def rows_found(folder: Path) -> list[Count]:
    with mapix.open(folder / "x-idx3-ubyte") as ds:
        found = [(int(row[0, 0]), int(row[0, 1])) for row in ds]
        assert all((row == pixels(*c)).all() for row, c in zip(ds, found, strict=True))
    return found


def iid_writer(folder: Path) -> Any:
    return mapix.iid.Writer(folder / "a.iid", index=True)


def iid_sharded(folder: Path) -> Any:
    return mapix.iid.ShardedWriter(folder / "a.iid", full_nbytes=3000)


def iid_add(out: Any, thread: int, k: int) -> None:
    name = f"{thread} {k}"
    if k % 2:
        key = out.add("d", name, pixels(thread, k) > 2, groups=[f"g{thread}"], at=(thread, k))
    else:  # not by the C type
        raw, n, _ = pack((pixels(thread, k) > 2).view(np.uint8), thread, k)
        box = thread, k, thread + 2, k + 3
        key = out.add("d", name, bits=raw, bbox=box, area=n, groups=[f"g{thread}"])
    assert len(out) > key


def iid_found(folder: Path) -> list[Count]:
    with mapix.open(next(folder.glob("a*.iid"))) as a:
        assert a.verify().ok
        found = [(int(t), int(k)) for t, k in (s.iid.decode().split() for s in a)]
        for key, (thread, k) in enumerate(found):
            assert a[key].bbox == (thread, k, thread + 2, k + 3)
            assert a[key].mask().tolist() == (pixels(thread, k) > 2).tolist()
            assert key in a.groups[f"g{thread}"]
    return found


def folder_writer(folder: Path) -> Any:
    return mapix.folder.Writer(folder / "f")


def folder_appender(folder: Path) -> Any:
    with folder_writer(folder) as out:
        folder_add(out, NTHREADS, 0)
    return mapix.folder.Appender(folder / "f")


def folder_add(out: Any, thread: int, k: int) -> None:
    out.append(f"{thread}/{k}.png", b"%d %d" % (thread, k), caption=f"{thread} {k}")


def folder_found(folder: Path) -> list[Count]:
    with mapix.open(folder / "f") as ds:
        found = [(int(t), int(k)) for t, k in (r.caption.split() for r in ds)]
        assert all(r.read() == b"%d %d" % c for r, c in zip(ds, found, strict=True))
    return found


WRITERS: dict[str, tuple[Callable[[Path], Any], Callable[..., None], Callable[[Path], Any]]] = {
    "vimh": (vimh_writer, vimh_add, vimh_found),
    "vimh appender": (vimh_appender, vimh_add, vimh_found),
    "idx": (idx_writer, rows_add, rows_found),
    "idx appender": (idx_appender, rows_add, rows_found),
    "pink": (pink_writer, rows_add, rows_found),
    "iid": (iid_writer, iid_add, iid_found),
    "iid sharded": (iid_sharded, iid_add, iid_found),
    "folder": (folder_writer, folder_add, folder_found),
    "folder appender": (folder_appender, folder_add, folder_found),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer(tmp_path: Path, name: str) -> None:
    """What was accepted before another thread closed the writer is in the file, nothing else."""
    make, add, find = WRITERS[name]
    out, accepted = make(tmp_path), [(NTHREADS, 0)] if "appender" in name else []
    middle = threading.Event()

    def adds(thread: int) -> None:
        for k in range(200 if ALL else 8):
            try:
                add(out, thread, k)
            except mapix.ClosedError:
                return
            accepted.append((thread, k))
            if k == 2:
                middle.set()

    def closes() -> None:
        middle.wait()
        out.close()

    acts = [partial(adds, thread) for thread in range(NTHREADS - 1)]
    assert by_threads([*acts, closes]) == []
    assert sorted(find(tmp_path)) == sorted(accepted)
