"""Every writer and reader x what may fail: calls, memory, power, and the process itself.

``python tests/fault_matrix.py calls`` lets each call of each writer fail, once and from then on,
with each error that it can have, and return after a part of a write.  ``kills N`` kills each writer
N times, before a call of the C library that random numbers choose.  ``power N`` checks N states
that a power cut can leave, in all.  ``readers`` lets each call of the C library fail in each
operation of every_operation.py, and ``memory`` each allocation, once for each stack that makes it:
the answer must be right, or a clear error, and nothing may stay open.  N limits the trials of each
operation.  ``soak N`` opens and closes datasets N times, in all.  Names of writers or families
after it run these alone.  A FILE.jsonl stores what came of each; what it has does not run again.

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
import linecache
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    flags += ["-isystem", sysconfig.get_paths()["include"]]
    subprocess.run([cc, *flags, str(PRELOAD), "-o", str(made), "-ldl", "-pthread"], check=True)
    return made


class Place(ctypes.Structure):
    """What calls a function of the C library: see ``failing_calls.c``."""

    _fields_ = [
        ("place", ctypes.c_uint64),
        ("key", ctypes.c_uint64),
        ("name", ctypes.c_int32),
        ("ncalls", ctypes.c_int32),
        ("nbefore", ctypes.c_int64),
    ]


class Preload:
    """The library, in a process that was started with it."""

    def __init__(self) -> None:
        found = self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        found.failing_calls_arm.argtypes = [
            *(ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_char_p),
            *(ctypes.POINTER(Place), ctypes.c_int),
        ]
        found.failing_calls_count.restype = ctypes.c_long
        found.failing_calls_count.argtypes = [ctypes.c_char_p]
        found.failing_calls_outside.argtypes = [ctypes.py_object, ctypes.py_object]
        ours = (f.__code__.co_filename for f in (every_operation.plain, Operations.run))
        found.failing_calls_outside(*ours)
        found.failing_calls_places.restype = ctypes.c_long
        found.failing_calls_places.argtypes = [ctypes.POINTER(Place), ctypes.c_long]
        found.failing_calls_name.restype = ctypes.c_char_p

    def kill(self, at: int) -> None:
        """Kill the process before its call number ``at`` from now on."""
        self._library.failing_calls_arm(at, -1, 0, b"", None, -1)

    def fail(self, place: Place, nth: int, code: int, *, for_good: bool, stack_to: int) -> None:
        """Let call number ``nth`` of a place fail, and perhaps all later ones of its name.

        A descriptor ``stack_to`` gets the stack of that call, and the stack of a crash.
        """
        arm = self._library.failing_calls_arm
        arm(nth, code, for_good, b"", ctypes.byref(place), stack_to)

    def count(self) -> None:
        """Count calls."""
        self._library.failing_calls_arm(-1, 0, 0, b"", None, -1)

    def counted(self, name: str = "") -> int:
        """Return the number of calls of a name, or of all, and stop."""
        return int(self._library.failing_calls_count(name.encode()))

    def failed(self) -> int:
        """Return the number of calls that have failed."""
        return int(self._library.failing_calls_failed())

    def record(self, *, memory: bool) -> None:
        """Record the places of allocations, or of all other calls, from now on."""
        self._library.failing_calls_record(memory)
        self.count()

    def places(self) -> bytes:
        """Return what was recorded, as an array of ``Place``, and stop."""
        self.counted()
        found = (Place * self._library.failing_calls_places(None, 0))()
        self._library.failing_calls_places(found, len(found))
        return bytes(found)

    def name(self, place: Place) -> str:
        """Return the name of the function that is called."""
        return str(self._library.failing_calls_name(place.name).decode())


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
    "malloc": (errno.ENOMEM,),
}
MOST_GROWN_NBYTES = 1 << 20
MOST_SECONDS = 60  # of a trial: one that waits for ever dies of SIGALRM
MOST_IN_A_CHILD = 100  # trials
MOST_STACKS = 3  # that are asked for, of trials of which the same came
EXPECTED = mapix.MapixError, OSError, MemoryError
SOURCES = Path(mapix.__file__).parent
GOOD = "right", "error", "missed"
INSTEAD = "instead of MemoryError: "  # an error that Python or another library raises
ENDS = {  # what ends the process without memory and is not mapix's: see ``cause_of``
    r"numpy _PyErr_\w+ ": "numpy's buffers",  # of ufuncs: the error is reported without the GIL
    r"numpy PyDict_SetItem\w* Image.py:fromarray ": "__array_interface__, in Pillow",
    r"PIL ": "Pillow's decoders",
    r"orjson ": "orjson",
    r"Python .*\.items\(\)": "items of a dict",
}
OF_PILLOW = "codec configuration error"  # where zlib has no memory; nothing tells it from damage
OF_OTHERS: list[str] = []  # what Python and other libraries did, of the family that runs
SEEN: set[int] = set()  # places, of all families
MOST_CALLS = 100  # of a place: the last of these fails, too, where stacks are few
WRITING = ("write", "pwrite64", "ftruncate64", "rename", "renameat2", "mkdir", "unlink", "unlinkat")


def left_open(folder: Path, *, maps: bool = True) -> tuple[int, int]:
    """Return the number of descriptors that are not in the (bounded) pool, and of maps of files."""
    fds = set(os.listdir("/proc/self/fd")) - {str(fd) for fd in descriptors._pool.values()}
    if not maps:
        return len(fds), 0
    listed = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    return len(fds), listed.count(str(folder))


def lines_of_child(act: Callable[[Callable[[str], object]], None]) -> tuple[list[str], int]:
    """Run a function in a child; return the lines that it writes, and its exit status."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            act(lambda line: os.write(write, line.encode() + b"\n"))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as f:
        lines = f.read().splitlines()
    return lines, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trial(NamedTuple):
    """A call of the C library that fails."""

    place: Place
    nth: int  # of the calls of the place
    code: int
    for_good: bool


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


def cause_of(stacks: str) -> str:
    """Return what ended a process: library, function of C, and place and line in Python.

    ``stacks``: that of the allocation that failed, and that of the signal; see ``Preload.fail``.
    The library is the innermost one that is not the interpreter: of the signal, or else of the
    allocation.
    """
    parts = re.split(r"(?m)^Stack ", stacks)
    library, function = "Python", "?"
    for part in (parts[1], parts[-1]):
        frames = re.findall(r"(?m)^(/\S+?)\((\w*)", part)
        frames = [f for f in frames if f[0] != os.environ["LD_PRELOAD"] and "/libc.so" not in f[0]]
        function = frames[0][1] if frames and frames[0][1] else "?"
        library = next(filter(None, (package_of(path) for path, _ in frames)), library)
    where = re.search(r'File "(.*)", line (\d+) in (.*)', parts[-1])
    if where is None:
        return f"{library} {function}"
    line = linecache.getline(where[1], int(where[2])).strip()
    return f"{library} {function} {os.path.basename(where[1])}:{where[3]} {line}"


def package_of(library: str) -> str:
    """Return the package of a library that is loaded, or nothing."""
    if library.startswith(str(SOURCES)):
        return "mapix"
    return library.partition("/site-packages/")[2].partition("/")[0]


class Failures:
    """Trials of the operations of a family: allocations fail, or all other calls."""

    def __init__(self, tried: Operations, *, memory: bool) -> None:
        self.tried, self.memory = tried, memory
        self.preload = Preload()
        self.known: Counter[str] = Counter()  # what came of trials
        self.expected = (
            (MemoryError, OSError) if memory else (mapix.MapixError, OSError, MemoryError)
        )

    def places(self, op: every_operation.Op) -> list[Place]:
        """Return where an operation makes calls, in a child as those of the trials are."""

        def act(write: Callable[[str], object]) -> None:
            self.preload.record(memory=self.memory)
            self.tried.run(op)
            write(self.preload.places().hex())

        (found,), _ = lines_of_child(act)
        self.tried.files.back()
        raw = bytes.fromhex(found)
        return list((Place * (len(raw) // ctypes.sizeof(Place))).from_buffer_copy(raw))

    def outcome(self, op: every_operation.Op, want: Any, trial: Trial, stack_to: int) -> str:
        """In a child: return what came of a trial: "right", "error", "missed", or what is wrong.

        Descriptors and maps must be closed; without memory, Python 3.11 may keep a map.
        """
        left = functools.partial(left_open, self.tried.folder, maps=not self.memory)
        before = left()
        self.preload.fail(*trial[:3], for_good=trial.for_good, stack_to=stack_to)
        verdict = "right"
        try:
            found = self.tried.run(op)
            self.preload.counted()
            if found != want:
                verdict = "another answer"
        except BaseException as e:
            self.preload.counted()
            verdict = "error"
            if not isinstance(e, self.expected) or (
                self.memory and isinstance(e, OSError) and e.errno != errno.ENOMEM
            ):
                frames = traceback.extract_tb(e.__traceback__)
                at = [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in frames[-3:]]
                verdict = f"{type(e).__name__}: {e}, in {', '.join(at)}".replace("\n", " ")
                raised = (frames[-1].line or "").startswith("raise")
                raised = raised and str(SOURCES) in frames[-1].filename and OF_PILLOW not in str(e)
                if self.memory and not raised:
                    verdict = f"{INSTEAD}{verdict}"
            e.__traceback__ = None
            del e
        if not self.preload.failed():
            return "missed" if verdict == "right" else f"without a failure: {verdict}"
        if left() > before:
            gc.collect()
            now = left()
            if now[0] > before[0] or now[1] > before[1]:
                fds = [
                    os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                ]
                return f"(descriptors, maps) were {before}, now they are {now}; {verdict}; {fds}"
        return verdict

    def in_a_child(
        self, op: every_operation.Op, want: Any, trials: list[Trial], stack_to: int = -1
    ) -> list[str]:
        """Run trials in one child: to their end, the first that dies, or the first that writes."""

        def act(write: Callable[[str], object]) -> None:
            for trial in trials:
                signal.alarm(MOST_SECONDS)
                write(json.dumps(self.outcome(op, want, trial, stack_to)))
                if any(self.preload.counted(name) for name in WRITING):
                    break

        lines, status = lines_of_child(act)
        found = [json.loads(line) for line in lines]
        if status:
            found.append(f"died of signal {-status}" if status < 0 else f"exit status {status}")
        self.tried.files.back()
        return found

    def alone(self, op: every_operation.Op, want: Any, trial: Trial) -> tuple[str, str]:
        """Run a trial in a child of its own; return what came of it, and the stacks."""
        with tempfile.TemporaryFile() as file:
            (found,) = self.in_a_child(op, want, [trial], file.fileno())
            file.seek(0)
            return found, file.read().decode(errors="replace")

    def run(
        self, op: every_operation.Op, want: Any, trials: list[Trial]
    ) -> Iterator[tuple[Trial, str, str]]:
        """Yield each trial, what came of it, and the stacks where it is wrong."""
        done = 0
        while done < len(trials):
            found = self.in_a_child(op, want, trials[done : done + MOST_IN_A_CHILD])
            for trial, verdict in zip(trials[done:], found, strict=False):
                self.known[verdict] += not verdict.startswith(("missed", "died", "exit"))
                if verdict in GOOD[:2] or self.known[verdict] > MOST_STACKS:
                    yield trial, verdict, ""
                    continue
                again, stacks = self.alone(op, want, trial)
                if verdict != "missed" and again in GOOD:
                    again = f"after other trials: {verdict}"
                yield trial, again, stacks
            done += len(found)


def failures(name: str, base: Path, n: int, *, memory: bool) -> tuple[dict[str, int], Wrong]:
    """Let calls fail in each operation of a family, at each place that was not met before."""
    tried, wrong = Operations(name, base), Wrong()
    failing, rng, counts = Failures(tried, memory=memory), random.Random(n), Counter[str]()
    for what, op in tried.family.operations():
        if what.endswith((".describe", ".plan")):  # they state what can be read, and estimates
            continue
        want = tried.run(op)  # this also imports what it needs
        tried.files.back()
        fresh = [place for place in failing.places(op) if place.place not in SEEN]
        SEEN.update(place.place for place in fresh)
        counts["places"] += len(fresh)
        trials = [
            Trial(place, nth, code, for_good)
            for place in fresh
            for code in CALLS_OF_READERS.get(failing.preload.name(place), ())
            for nth in ((0,) if memory else sorted({0, min(place.ncalls, MOST_CALLS) - 1}))
            for for_good in ((False,) if memory else (False, True))
        ]
        if 0 < n < len(trials):
            trials = rng.sample(trials, n)
        for trial, verdict, stacks in failing.run(op, want, trials):
            counts["trials"] += 1
            if verdict in GOOD:
                counts[verdict] += 1
                continue
            call = f"{failing.preload.name(trial.place)}, {errno.errorcode[trial.code]}"
            text = f"{what}: {call}{' for good' * trial.for_good}: {verdict}\n{stacks}"
            cause = cause_of(stacks) if memory and verdict.startswith("died") else ""
            end = next((ENDS[pattern] for pattern in ENDS if re.match(pattern, cause)), "")
            if INSTEAD in verdict:
                counts["another error"] += 1
                OF_OTHERS.append(text)
            elif end:
                counts[f"ended by {end}"] += 1
                OF_OTHERS.append(text)
            else:
                wrong.append(f"{cause}{': ' * bool(cause)}{text}")
    return dict(counts), wrong


def readers(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Let calls of the C library fail in every operation; ``n`` limits the trials of each."""
    return failures(name, base, n, memory=False)


def memory(name: str, base: Path, n: int) -> tuple[dict[str, int], Wrong]:
    """Let allocations fail in every operation; ``n`` limits the trials of each."""
    return failures(name, base, n, memory=True)


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


RECORDS_FOR_MEMORY = 300  # fewer than in other tests: the places are the same
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # no disk is waited for


def run(part: str, names: list[str], n: int, results: Path | None = None) -> int:
    """Run a part for some writers; return how many things were wrong.

    ``results``: a file of lines of JSON, one for each writer.  Those that it has are not run again.
    """
    total: Counter[str] = Counter()
    nwrong = 0
    known = {}
    if results is not None and results.exists():
        lines = map(json.loads, results.read_text(encoding="utf-8").splitlines())
        known = {line["name"]: line for line in lines if line["part"] == part}
    for name in names:
        if part not in ON_READERS and not can_run(EVERY[name]):
            print(f"{name}: skipped, {', '.join(EVERY[name].needs)} is not installed", flush=True)
            continue
        if name in known:
            counts, wrong = known[name]["counts"], known[name]["wrong"]
        else:
            with tempfile.TemporaryDirectory(dir=IN_MEMORY) as base:
                os.environ["MAPIX_CACHE_DIR"] = os.path.join(base, "cache")
                OF_OTHERS.clear()
                counts, wrong = PARTS[part](name, Path(base), n)
                gc.collect()
            if results is not None:
                line = {"part": part, "name": name, "counts": counts, "wrong": wrong}
                line["others"] = OF_OTHERS
                with open(results, "a", encoding="utf-8") as f:
                    f.write(json.dumps(line) + "\n")
        total.update(counts)
        nwrong += len(wrong)
        print(f"{name}: {json.dumps(counts)}", flush=True)
        for text, times in Counter(text.partition("\n")[0][:300] for text in wrong).most_common(10):
            print(f"    WRONG ({times} times): {text}", flush=True)
    print(f"{part}, {len(names)} of them: {json.dumps(total)}, {nwrong} wrong", flush=True)
    return nwrong


def main(part: str, *rest: str) -> int:
    """Run the command line; return the exit status."""
    n = int(rest[0]) if rest and rest[0].isdigit() else 0
    if part == "memory":
        every_operation.N, every_operation.LAST = RECORDS_FOR_MEMORY, RECORDS_FOR_MEMORY - 1
    every = every_operation.families() if part in ON_READERS else EVERY
    results = [Path(name) for name in rest if name.endswith(".jsonl")]
    names = [name for name in rest if name in every] or list(every)
    if part in ("power", "soak"):
        n = -(-(n or 100_000) // len(names))
    if part == "kills":
        n = n or 1000
    if part in ("kills", "readers", "memory") and "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "LD_PRELOAD": str(library(Path(folder)))}
            if part == "memory":
                env["PYTHONMALLOC"] = "malloc"  # else Python asks for blocks of many objects
            return subprocess.run([sys.executable, *sys.argv], env=env, check=False).returncode
    warnings.simplefilter("ignore", mapix.MapixWarning)
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    return 1 if run(part, names, n, *results) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
