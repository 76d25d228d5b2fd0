"""Every writer and reader x what may fail: calls, memory, power, and the process itself.

``python tests/fault_matrix.py calls`` lets each call of each writer fail, once and from then on,
with each error that it can have, and return after a part of a write.  ``kills N`` kills each writer
N times, before a call of the C library that random numbers choose.  ``power N`` checks N states
that a power cut can leave, in all.  ``readers`` lets each call of the C library fail in each
operation of every_operation.py, and ``memory`` allocations of Python: the answer must be right, or
a clear error, and nothing may stay open.  N limits the trials of each operation.  ``soak N`` opens
and closes datasets N times, in all.  Names of writers or families after it run these alone.

Each prints a line for each of them, and what was wrong; the exit status is 1 if anything was.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import every_operation
import mapix
import mapix.visualrbm
from interleave import NAMES, OPENING, Writer, hooked, outcomes, really
from mapix import descriptors
from mapix.system_calls import SYSTEM
from model_disk import Inode, ModelDisk
from test_writers import (
    KINDS,
    STORE,
    WHO,
    Kind,
    alone,
    converted,
    files,
    if_there,
    new,
    numbers_in,
    one,
    replaced,
    sources,
)

# --- writers that test_writers.py does not try ----------------------------------------------------


def images(path: Path) -> Any:
    return mapix.open(path).batch([0, 1, 2]).images


def folder_images(path: Path) -> Any:
    assert len(os.listdir(path)) == 4  # three pictures and their lines
    return images(path)


def to(name: str, *needs: str, read: Callable[[Path], Any] = images, **options: Any) -> Kind:
    return Kind(sources, converted(name, **options), numbers_in(name, read), new, needs)


def shards(folder: Path) -> None:
    """Make shards beside the folder: a catalogue knows them by their inodes."""
    if not (folder.parent / "from").exists():
        sources(folder.parent)


def shard(folder: Path, who: str) -> Path:
    return folder.parent / "from" / f"{who}-images-idx3-ubyte"


def entered(folder: Path, given: Any, who: str) -> None:
    mapix.catalogue.write([shard(folder, who)], folder / "x.mapixs", replace=True)


@if_there("x.mapixs")
def entries(path: Path) -> str:
    return one(tuple(WHO[n - 1] for n in images(path)[:, 0, 0].tolist()), 3)


def catalogue_setup(folder: Path) -> None:
    shards(folder)
    entered(folder, None, "C")


def catalogue_add(folder: Path, given: Any, who: str) -> None:
    mapix.catalogue.add(folder / "x.mapixs", [shard(folder, who)])


def catalogued(folder: Path) -> tuple[str, ...]:
    found = mapix.open(folder / "x.mapixs")
    numbers = found.batch(range(0, len(found), 3)).images[:, 0, 0]
    return tuple(WHO[n - 1] for n in numbers.tolist())


def one_more(state: tuple[str, ...], who: str) -> tuple[str, ...]:
    return state if who in state else (*state, who)


MORE = {
    "convert to tar": to("x.tar", "PIL"),
    "convert to tfrecord": to("x.tfrecord", "PIL"),
    "convert to arrow": to("x.arrow", "pyarrow"),
    "convert to a folder": to("d", "PIL", to="folder", read=folder_images),
    "convert to vimh": to("d", to="vimh"),
    "convert to pink": to("x.bin"),
    "catalogue.write": Kind(shards, entered, entries, replaced),
    "catalogue.add": Kind(catalogue_setup, catalogue_add, catalogued, one_more),
}
EVERY = {**STORE, **KINDS, **MORE}
Wrong = list[str]


def can_run(kind: Kind) -> bool:
    """Whether what a writer needs is installed."""
    for name in kind.needs:
        try:
            __import__(name)
        except ImportError:
            return False
    return True


# --- calls that fail ------------------------------------------------------------------------------

MAKING = {"open", "mkdir", "scratch", "write", "overwrite", "rename", "appear"}
SYNCING = {"fsync", "fsync_directory"}
REMOVING = {"unlink", "rmdir", "rmtree"}
CLEANING = {*REMOVING, "truncate"}  # where one fails, the next writer has something to remove
ERRORS = {
    errno.ENOSPC: MAKING | SYNCING,
    errno.EDQUOT: MAKING | SYNCING,
    errno.EROFS: MAKING | REMOVING | {"reopen", "append", "truncate"},
    errno.EIO: {"write", "overwrite", "read", "truncate", "size", "listdir"} | SYNCING | REMOVING,
    errno.ENOLCK: {"lock"},
    errno.EMFILE: {"open", "reopen", "append", "scratch", "fsync_directory", "listdir"},
    errno.EACCES: {"open", "mkdir", "reopen", "append", "scratch", "rename", "appear"} | REMOVING,
}


class Failing(Writer):
    """A writer of whose calls one fails, and perhaps all later ones of its kind.

    Parameters
    ----------
    act : callable
        What it does.
    at : int
        The number of the call that fails.
    code : int
        The error; 0 lets a write end after a part.
    for_good : bool
        Whether all later calls fail that ``ERRORS`` has for this error.
    """

    def __init__(self, act: Callable[[], object], at: int, code: int, *, for_good: bool) -> None:
        self.at, self.code, self.for_good = at, code, for_good
        self.failures = 0
        self.removed = True  # whether all that was to be removed is
        super().__init__(act)

    def call(self, name: str, *args: Any) -> Any:
        k, self.ncalls = self.ncalls, self.ncalls + 1
        now = k == self.at or (k > self.at and self.for_good)
        if now and not self.code and name in ("write", "overwrite"):
            self.failures += 1
            data = args[1][: max(1, len(args[1]) // 2)]
            return really(name, args[0], data, *args[2:])
        if now and name in ERRORS.get(self.code, ()):
            self.failures += 1
            again = name in ("rename", "appear") and self.failures > 1  # it cannot be undone
            self.removed &= name not in CLEANING and not again
            raise OSError(self.code, f"planted in {name}")
        return self.made(name, *args)


def cells(calls: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield number of the call, error, and whether it stays, for each cell of the matrix."""
    for k, name in enumerate(calls):
        for code in ERRORS:
            if name in ERRORS[code]:
                yield k, code, False
                if code not in (errno.EACCES, errno.EMFILE):
                    yield k, code, True
        if name in ("write", "overwrite"):
            yield from ((k, 0, for_good) for for_good in (False, True))


def trial(kind: Kind, folder: Path, names: dict[str, set[str]], cell: Any) -> str:
    """Run one cell; return what is wrong, or nothing."""
    at, code, for_good = cell
    folder.mkdir()
    given = kind.setup(folder)
    old = kind.state(folder)
    writer = Failing(lambda: kind.act(folder, given, "A"), at, code, for_good=for_good)
    writer.finish()
    error = writer.error
    try:
        found = kind.state(folder)
    except BaseException as e:
        return f"what cannot be read: {e!r}"[:300]
    new_state = kind.after(old, "A")
    if found not in (old, new_state):
        return f"the state {found}"
    if not writer.failures:
        return "" if error is None else f"without a failure: {error!r}"
    if error is None and found != new_state:
        return "no error, and nothing was written"
    if not code and error is not None:
        return f"a short write ended in {error!r}"
    if error is not None and not isinstance(error, OSError | mapix.MapixError):
        return f"the error {error!r}"
    if isinstance(error, OSError) and error.errno not in (code, None, errno.ESTALE):
        return f"the error {error!r} in place of {errno.errorcode[code]}"
    if writer.fds:
        return f"{len(writer.fds)} descriptors stay open"
    left = files(folder) - names["nobody" if found == old else "A"] - set(kind.orphans)
    if for_good:  # the old size may not be on the disk, so readers and writers need the journal
        left -= {f"d/.{split}.appending" for split in ("train", "test")}
    if left and writer.removed:
        return f"left over: {sorted(left)}"
    return ""


def calls(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Let every call of a writer fail; ``n`` limits the cells, 0 takes all of them."""
    kind, wrong, count = EVERY[name], Wrong(), 0
    with hooked():
        made, names = alone(kind, base / "alone")
        every = list(cells(made))
        if n and len(every) > n:
            every = random.Random(n).sample(every, n)
        for cell in every:
            folder = base / str(count)
            found = trial(kind, folder, names, cell)
            count += 1
            if found:
                at, code, for_good = cell
                what = errno.errorcode.get(code, "a part is written")
                wrong.append(f"{made[at]} (call {at}), {what}{' for good' * for_good}: {found}")
            shutil.rmtree(folder)
    return {"calls": len(made), "cells": count}, wrong


# --- power cuts -----------------------------------------------------------------------------------


class Mirror(ModelDisk):
    """A model of a disk beside a real one: each call is made on both.

    Its sectors are smaller than those of disks, because files of tests are.
    """

    SECTOR = 32

    def __init__(self, root: str, seeds: int, leave_out: str = "") -> None:
        super().__init__(root, leave_out)
        self.seeds = 0
        self.real: dict[int, int] = {}  # descriptors of the system -> those of the model
        self.seen: dict[bytes, dict[str, bytes]] = {}
        self.nstates = 0
        for folder, names, found in os.walk(root):
            self.folders |= {os.path.join(folder, name) for name in names} | {folder}
            for name in found:
                path = os.path.join(folder, name)
                self.put(path, Path(path).read_bytes())
        self.seeds = seeds

    def look(self) -> None:
        """Remember each state that differs from all others."""
        for names in range(self.nsynced, len(self.names) + 1):
            for _ in range(self.seeds):
                state = self.after_crash(names, random.Random(self.nstates))
                state = {p: b for p, b in state.items() if p.startswith(self.root)}
                self.nstates += 1
                digest = hashlib.blake2b()
                for path in sorted(state):
                    digest.update(b"%d %d " % (len(path), len(state[path])) + path.encode())
                    digest.update(state[path])
                self.seen.setdefault(digest.digest(), state)

    def made_by_others(self, path: str) -> None:
        """Take in a file that another library has written, which is not synced."""
        if path not in self.inodes:
            super().open(path)
            self.inodes[path].now = Path(path).read_bytes()
            self.look()

    def make(self, name: str, *args: Any) -> Any:
        """Make a call on both disks."""
        if name == "rmtree":
            for path in [p for p in self.inodes if p.startswith(args[0] + os.sep)]:
                self.unlink(path)
            for path in sorted(p for p in self.folders if p.startswith(args[0]))[::-1]:
                self.rmdir(path)
        if name in ("append", "reopen") and not os.path.isdir(args[0]):
            self.made_by_others(args[0])
        found = really(name, *args)
        if name in OPENING:
            model = getattr(super(), name)(*args) if name != "reopen" else self.reopen(*args)
            self.real[found] = model
        elif name == "write":
            self.fds[self.real[args[0]]].now += bytes(args[1][:found])
            self.look()
        elif name == "overwrite":
            inode, (data, at) = self.fds[self.real[args[0]]], args[1:]
            inode.now = inode.now[:at] + bytes(data[:found]) + inode.now[at + found :]
            self.look()
        elif name == "truncate":
            self.truncate(self.real[args[0]], args[1])
        elif name == "fsync":
            what = self.fds[self.real[args[0]]]
            if isinstance(what, Inode):
                super().fsync(self.real[args[0]])
        elif name in ("mkdir", "fsync_directory", "rename", "unlink", "rmdir"):
            getattr(super(), name)(*args)
        elif name == "appear":
            self.rename(*args)
        return found


def written(state: dict[str, bytes], root: str, folder: Path) -> None:
    """Write a state of the model into a folder."""
    for path, data in state.items():
        place = folder / os.path.relpath(path, root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


@contextlib.contextmanager
def mirrored(disk: Mirror) -> Iterator[None]:
    """Let the calls of writers go to both disks."""
    for name in NAMES:
        setattr(SYSTEM, name, functools.partial(disk.make, name))
    try:
        yield
    finally:
        for name in NAMES:
            delattr(SYSTEM, name)


def power(name: str, base: Path, n: int, leave_out: str = "") -> tuple[dict[str, int], Wrong]:
    """Check about n states that a power cut leaves of a writer."""
    kind, wrong = EVERY[name], Wrong()
    seeds = 1
    while True:
        folder = base / f"seeds{seeds}"
        folder.mkdir()
        given = kind.setup(folder)
        old = kind.state(folder)
        disk = Mirror(str(folder), seeds, leave_out)
        with mirrored(disk):
            kind.act(folder, given, "A")
        if disk.nstates >= n or seeds > n:
            break
        seeds = max(seeds + 1, seeds * n // max(1, disk.nstates) + 1)
    during, disk.seen = disk.seen, {}
    disk.look()  # after the writer has returned
    for done, states in ((False, during), (True, disk.seen)):
        for state in states.values():
            place = base / "after"
            place.mkdir()
            written(state, str(folder), place)
            allowed = {kind.after(old, "A")} if done else {old, kind.after(old, "A")}
            try:
                found = kind.state(place)
                if found not in allowed:
                    wrong.append(f"{'after it returned' if done else 'meanwhile'}: {found}")
            except BaseException as e:
                wrong.append(f"{'after it returned' if done else 'meanwhile'}: {e!r}"[:300])
            shutil.rmtree(place)
    return {"states": disk.nstates, "different": len(during) + len(disk.seen)}, wrong


# --- kills ----------------------------------------------------------------------------------------

PRELOAD = Path(__file__).parent / "c" / "failing_calls.c"


def library(folder: Path) -> Path:
    """Compile the library that counts calls of the C library, lets one fail, or kills."""
    made = folder / "failing_calls.so"
    cc = os.environ.get("CC", "cc")
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([cc, *flags, str(PRELOAD), "-o", str(made), "-ldl", "-pthread"], check=True)
    return made


class Preload:
    """The library, in a process that was started with it."""

    def __init__(self) -> None:
        found = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._arm, self._count = found.failing_calls_arm, found.failing_calls_count
        self._arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
        self._count.restype, self._count.argtypes = ctypes.c_long, [ctypes.c_char_p]

    def kill(self, at: int) -> None:
        """Kill the process before its call number ``at`` from now on."""
        self._arm(at, -1, 0, b"")

    def fail(self, at: int, code: int, name: str, *, for_good: bool) -> None:
        """Let call number ``at`` of a name fail, and perhaps all later ones."""
        self._arm(at, code, for_good, name.encode())

    def count(self) -> None:
        """Count calls."""
        self._arm(-1, 0, 0, b"")

    def counted(self, name: str = "") -> int:
        """Return the number of calls of a name, or of all, and stop."""
        return int(self._count(name.encode()))


def in_child(act: Callable[[], object]) -> int:
    """Run something in a child; return its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kills(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Kill a writer n times, before a call that random numbers choose of those that it makes."""
    kind, wrong, preload, rng = EVERY[name], Wrong(), Preload(), random.Random(n)
    counts: Counter[str] = Counter()
    for turn in ("imports what it needs", "is counted"):
        folder = base / turn
        folder.mkdir()
        given = kind.setup(folder)
        preload.count()
        kind.act(folder, given, "A")
        ncalls = preload.counted()
    for _ in range(n):
        folder = base / "killed"
        folder.mkdir()
        given = kind.setup(folder)
        old, at = kind.state(folder), rng.randrange(ncalls)

        def act(folder: Path = folder, given: Any = given, at: int = at) -> None:
            preload.kill(at)
            kind.act(folder, given, "A")

        status = in_child(act)
        counts["killed" if status == -signal.SIGKILL else "ended"] += 1
        if status not in (0, -signal.SIGKILL):
            wrong.append(f"call {at}: exit status {status}")
        try:
            found = kind.state(folder)
            if found not in (old, kind.after(old, "A")) or (not status and found == old):
                wrong.append(f"call {at}: the state {found}")
            counts["new" if found == kind.after(old, "A") else "old"] += 1
            with contextlib.suppress(FileExistsError, mapix.FileChangedError):
                kind.act(folder, given, "C")  # nothing is in its way
            allowed = outcomes(old, kind.after, set(), {"A", "C"})
            if kind.state(folder) not in allowed:
                wrong.append(f"call {at}: the state {kind.state(folder)} after one more")
            left = {p for p in files(folder) if ".writing" in p} - set(kind.orphans)
            if left and kind.after is not new:
                wrong.append(f"call {at}: left over {sorted(left)}")
        except BaseException as e:
            wrong.append(f"call {at}: {e!r}"[:300])
        shutil.rmtree(folder)
    return {"calls": ncalls, **counts}, wrong


# --- readers --------------------------------------------------------------------------------------

CALLS_OF_READERS = {
    "open64": (errno.EMFILE, errno.EIO, errno.ENOMEM),
    "read": (errno.EIO,),
    "pread64": (errno.EIO,),
    "preadv64v2": (errno.EIO,),
    "fstat64": (errno.EIO,),
    "stat64": (errno.EIO,),
    "lstat64": (errno.EACCES,),
    "mmap": (errno.ENOMEM,),
    "mmap64": (errno.ENOMEM,),
    "mprotect": (errno.ENOMEM,),
    "flock": (errno.ENOLCK,),
    "close": (errno.EIO,),
    "pthread_create": (errno.EAGAIN,),
    "write": (errno.ENOSPC,),
    "rename": (errno.EROFS,),
}
MOST_ALLOCATIONS = 20_000
MOST_GROWN_NBYTES = 1 << 20
OF_PYTHON = (
    "error return without exception set",
    "expected str, bytes or os.PathLike",
    "Cannot compare structured arrays",
    "is not a condition",
)
"""What Python and numpy raise in place of a MemoryError; the last one stands for ast.parse."""
EXPECTED = mapix.MapixError, OSError, MemoryError


def left_open(folder: Path) -> tuple[int, int]:
    """Return the number of descriptors that are not in the (bounded) pool, and of maps of files."""
    fds = set(os.listdir("/proc/self/fd")) - {str(fd) for fd in descriptors._pool.values()}
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return len(fds), maps.count(str(folder))


class Operations:
    """Operations on a dataset of a family, in children in which something fails."""

    def __init__(self, name: str, base: Path) -> None:
        self.family = every_operation.families()[name]
        (base / "data").mkdir()
        (base / "cache").mkdir()
        self.folder = base / "data"
        self.path = self.family.make(self.folder)
        self.family.open(self.path)  # fills the cache
        self.files = every_operation.Restored([self.folder, base / "cache"])
        gc.collect()
        gc.freeze()  # else each child collects what this process has imported

    def run(self, op: every_operation.Op) -> Any:
        """Open the dataset, and return what an operation on it gives."""
        return every_operation.plain(op(self.family.open(self.path)))

    def tried(
        self, op: every_operation.Op, want: Any, begin: Any, end: Any, *, closing: bool
    ) -> str:
        """Run an operation in a child, between two functions; return what is wrong.

        ``closing``: whether all that it opens must be closed.  Python does not promise that without
        memory: an exception of a ``__del__`` is ignored.
        """

        def child() -> str:
            before = left_open(self.folder)
            begin()
            try:
                found = self.run(op)
            except EXPECTED as e:
                found = want
                e.__traceback__ = None
            except BaseException as e:
                end()
                frames = traceback.extract_tb(e.__traceback__)
                if not closing and any(text in str(e) for text in OF_PYTHON):
                    line = frames[-1].line or ""
                    if "fast." not in line and "lib." not in line:
                        return ""
                return f"{type(e).__name__}: {e}, in {[frame.name for frame in frames[-3:]]}"
            finally:
                end()
            if found != want:
                return "another answer"
            if closing and left_open(self.folder) > before:
                gc.collect()
            now = left_open(self.folder)
            if closing and (now[0] > before[0] or now[1] > before[1]):
                return f"(descriptors, maps) were {before}, now they are {now}"
            return ""

        found = every_operation.in_child(child)
        self.files.back()
        return found


def each_operation(
    name: str,
    base: Path,
    trials: Callable[[Operations, Any], Iterator[tuple[str, Any, Any]]],
    *,
    closing: bool,
) -> tuple[dict[str, int], Wrong]:
    """Run the trials of each operation of a family."""
    tried, wrong, count = Operations(name, base), Wrong(), 0
    for what, op in tried.family.operations():
        if what.endswith((".describe", ".plan")):  # they state what can be read, and estimates
            continue
        want = tried.run(op)  # this also imports what it needs
        tried.files.back()
        for text, begin, end in trials(tried, op):
            found = tried.tried(op, want, begin, end, closing=closing)
            count += 1
            if found:
                wrong.append(f"{what}: {text}: {found}"[:300])
    return {"trials": count}, wrong


def readers(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Let calls of the C library fail in every operation; ``n`` limits the trials of each."""
    preload, rng = Preload(), random.Random(n)

    def trials(tried: Operations, op: Any) -> Iterator[tuple[str, Any, Any]]:
        preload.count()
        tried.run(op)
        made = [
            (call, k, code)
            for call, codes in CALLS_OF_READERS.items()
            for k in range(preload.counted(call))
            for code in codes
        ]
        tried.files.back()
        for call, k, code in rng.sample(made, n) if 0 < n < len(made) else made:
            begin = functools.partial(preload.fail, k, code, call, for_good=bool(k % 2))
            yield f"{call} (call {k}), {errno.errorcode[code]}", begin, preload.counted

    return each_operation(name, base, trials, closing=True)


def memory(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Let allocations of Python fail in every operation: n of each, by default 60."""
    import _testcapi

    rng, n = random.Random(n), n or 60

    def trials(tried: Operations, op: Any) -> Iterator[tuple[str, Any, Any]]:
        first = range(1, n // 2 + 1)
        later = (int(MOST_ALLOCATIONS ** rng.random()) for _ in range(n - len(first)))
        for k in {*first, *later}:
            begin = functools.partial(_testcapi.set_nomemory, k, k + 1)
            yield f"allocation {k}", begin, _testcapi.remove_mem_hooks

    return each_operation(name, base, trials, closing=False)


def soak(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Open a dataset n times, take a batch and a record, and close it."""
    tried = Operations(name, base)
    gc.unfreeze()
    before, resident = (0, 0), 0
    for k in range(n):
        if k == n // 2:
            gc.collect()
            before, resident = left_open(tried.folder), rss_nbytes()
        ds = tried.family.open(tried.path)
        if isinstance(ds, mapix.Dataset):
            _ = ds[len(ds) - 1]
            if not ds.NO_BATCH and ds.image_shape is not None:
                ds.batch([0, len(ds) - 1])
            ds.close()
        del ds
    gc.collect()
    now, grown = left_open(tried.folder), rss_nbytes() - resident
    wrong = Wrong()
    if now[0] > before[0] or now[1] > before[1]:
        wrong.append(f"(descriptors, maps) were {before} after half of the time, now {now}")
    if grown > MOST_GROWN_NBYTES:
        wrong.append(f"{grown} bytes more are resident than after half of the time")
    return {"cycles": n, "grown_nbytes": grown}, wrong


def rss_nbytes() -> int:
    """Return the resident memory of this process."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


# --- the command ----------------------------------------------------------------------------------

PARTS: dict[str, Callable[[str, Path, int], tuple[dict[str, int], Wrong]]] = {
    "calls": calls,
    "kills": kills,
    "power": power,
    "readers": readers,
    "memory": memory,
    "soak": soak,
}
ON_READERS = ("readers", "memory", "soak")


IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # no disk is waited for


def run(part: str, names: list[str], n: int) -> int:
    """Run a part for some writers; return how many things were wrong."""
    total: Counter[str] = Counter()
    nwrong = 0
    for name in names:
        if part not in ON_READERS and not can_run(EVERY[name]):
            print(f"{name}: skipped, {', '.join(EVERY[name].needs)} is not installed", flush=True)
            continue
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as base:
            os.environ["MAPIX_CACHE_DIR"] = os.path.join(base, "cache")
            counts, wrong = PARTS[part](name, Path(base), n)
            gc.collect()
        total.update(counts)
        nwrong += len(wrong)
        print(f"{name}: {json.dumps(counts)}", flush=True)
        for text, times in Counter(wrong).most_common(10):
            print(f"    WRONG ({times} times): {text}", flush=True)
    print(f"{part}, {len(names)} of them: {json.dumps(total)}, {nwrong} wrong", flush=True)
    return nwrong


def main(part: str, *rest: str) -> int:
    """Run the command line; return the exit status."""
    n = int(rest[0]) if rest and rest[0].isdigit() else 0
    every = every_operation.families() if part in ON_READERS else EVERY
    names = [name for name in rest if not name.isdigit()] or list(every)
    if part in ("power", "soak"):
        n = -(-(n or 100_000) // len(names))
    if part == "kills":
        n = n or 1000
    if part in ("kills", "readers") and "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "LD_PRELOAD": str(library(Path(folder)))}
            return subprocess.run([sys.executable, *sys.argv], env=env, check=False).returncode
    warnings.simplefilter("ignore", mapix.MapixWarning)
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    return 1 if run(part, names, n) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
