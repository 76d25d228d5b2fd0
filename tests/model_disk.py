"""Model a disk that can lose its power at any moment, to see what ``mapix.store`` leaves on it.

The model: names (made, renamed, removed) reach the disk in order, and all of them up to a sync of
anything have reached it.  Bytes reach it when their file is synced; before that each sector of 512
bytes may hold its old bytes, zeros or the new ones, and the file may have any size between the
synced one and the present one.  Real file systems are kinder.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

SECTOR = 512


class Inode:
    """A file: its bytes as written, and as they were at the last sync."""

    def __init__(self) -> None:
        self.now = b""
        self.synced = b""

    def after_crash(self, rng: random.Random, sector: int = SECTOR) -> bytes:
        size = rng.randint(*sorted((len(self.synced), len(self.now))))
        out = bytearray(size)
        for at in range(0, size, sector):
            end = min(at + sector, size)
            new, old = self.now[at:end], self.synced[at:end]
            choices = [old, new] if at < len(self.synced) else [b"", new]
            if new == old or not new:  # or it was cut off, and what comes back is what was there
                choices = [old]
            out[at:end] = rng.choice(choices).ljust(end - at, b"\0")[: end - at]
        return bytes(out)


class ModelDisk:
    """``mapix.store.Calls`` over the model; ``leave_out`` names calls that do nothing."""

    SECTOR = SECTOR

    def __init__(self, root: str, leave_out: str = "") -> None:
        self.root = root
        self.leave_out = leave_out
        self.names: list[tuple[str, ...]] = []  # changes of names, in order
        self.nsynced = 0  # how many of them are on the disk for certain
        self.inodes: dict[str, Inode] = {}  # by present path
        self.folders: set[str] = set()  # the same
        self.fds: dict[int, Any] = {}  # an Inode, or the path of a folder
        self.made: list[Inode] = []  # in the order of their names
        self.crashes: list[dict[str, bytes]] = []
        self.seeds = 0
        self.done = False  # whether the writer has returned without an error

    # --- the calls --------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        if path in self.folders:
            raise FileExistsError(path)
        self.folders.add(path)
        self.names.append(("mkdir", path))
        self.look()

    def open(self, path: str, mode: int = 0o666) -> int:
        if path in self.inodes:
            raise FileExistsError(path)
        inode = self.inodes[path] = Inode()
        self.made.append(inode)
        self.names.append(("file", path))
        self.look()
        return self.opened(inode)

    def opened(self, what: Inode | str) -> int:
        fd = 1000 + len(self.fds)  # no descriptor of the system
        self.fds[fd] = what
        return fd

    def reopen(self, path: str) -> int:
        return self.opened(path if path in self.folders else self.inodes[path])

    def scratch(self, path: str) -> int:
        return self.opened(Inode())  # it has no name, so it does not exist after a power cut

    def lock(self, fd: int) -> None:
        pass  # this disk has one writer

    def same(self, fd: int, path: str) -> bool:
        return self.fds[fd] in (path, self.inodes.get(path))

    def exists(self, path: str) -> bool:
        return path in self.inodes or path in self.folders

    def like(self, fd: int, path: str) -> None:
        pass

    def size(self, fd: int) -> int:
        return len(self.fds[fd].now)

    def read(self, fd: int, nbytes: int, at: int) -> bytes:
        return self.fds[fd].now[at : at + nbytes]

    def overwrite(self, fd: int, data: memoryview, at: int) -> int:
        n = max(1, len(data) * 2 // 3)
        now = self.fds[fd].now
        assert at <= len(now)  # without a hole
        self.fds[fd].now = now[:at] + bytes(data[:n]) + now[at + n :]
        self.look()
        return n

    def put(self, path: str, data: bytes) -> None:
        """A file that is there, and has reached the disk."""
        inode = self.inodes[path] = Inode()
        inode.now = inode.synced = data
        self.names.append(("file", path))
        self.made.append(inode)
        self.nsynced = len(self.names)

    def append(self, path: str) -> int:
        return self.opened(self.inodes[path])

    def truncate(self, fd: int, nbytes: int) -> None:
        self.fds[fd].now = self.fds[fd].now[:nbytes]
        self.look()

    def write(self, fd: int, data: memoryview) -> int:
        n = max(1, len(data) * 2 // 3)  # short writes are the rule
        self.fds[fd].now += bytes(data[:n])
        self.look()
        return n

    def fsync(self, fd: int) -> None:
        if self.leave_out != "fsync":
            self.fds[fd].synced = self.fds[fd].now
            self.nsynced = len(self.names)
        self.look()

    def close(self, fd: int) -> None:
        pass

    def fsync_directory(self, path: str) -> None:
        if self.leave_out != "fsync_directory":
            self.nsynced = len(self.names)
        self.look()

    def listdir(self, path: str) -> list[str]:
        below = len(path) + 1
        every = [p[below:] for p in (*self.inodes, *self.folders) if p.startswith(path + os.sep)]
        return [name for name in every if os.sep not in name]

    def rename(self, old: str, new: str) -> None:
        self.names.append(("rename", old, new))
        for path in [p for p in self.inodes if p == old or p.startswith(old + os.sep)]:
            self.inodes[new + path[len(old) :]] = self.inodes.pop(path)
        for path in [p for p in self.folders if p == old or p.startswith(old + os.sep)]:
            self.folders.remove(path)
            self.folders.add(new + path[len(old) :])
        self.look()

    def appear(self, old: str, new: str) -> None:
        assert not self.exists(new)
        self.rename(old, new)

    def unlink(self, path: str) -> None:
        self.names.append(("unlink", path))
        self.inodes.pop(path)
        self.look()

    def rmdir(self, path: str) -> None:
        self.folders.remove(path)
        self.names.append(("rmdir", path))
        self.look()

    # --- what a power cut leaves ------------------------------------------------------------------

    def look(self) -> None:
        """Cut the power after a call, in every way that the seeds choose."""
        for names in range(self.nsynced, len(self.names) + 1):
            for seed in range(self.seeds):
                self.crashes.append(self.after_crash(names, random.Random(seed)))

    def after_crash(self, nnames: int, rng: random.Random) -> dict[str, bytes]:
        """Return path -> bytes if that many changes of names have reached the disk."""
        found: dict[str, Inode | None] = {}
        made = iter(self.made)
        for kind, *paths in self.names[:nnames]:
            if kind == "file":
                found[paths[0]] = next(made)
            elif kind == "rename":
                old, new = paths
                for path in [p for p in found if p == old or p.startswith(old + os.sep)]:
                    found[new + path[len(old) :]] = found.pop(path)
            elif kind == "unlink":
                found.pop(paths[0])
        return {p: i.after_crash(rng, self.SECTOR) for p, i in found.items() if i is not None}


def below(state: dict[str, bytes], folder: str) -> dict[str, bytes]:
    """Return the files of a state in a folder, by name."""
    return {p[len(folder) + 1 :]: b for p, b in state.items() if p.startswith(folder + os.sep)}


def steps() -> Iterator[int]:
    """Yield sizes of files around the edges of sectors."""
    yield from (0, 1, 511, 512, 513, 1500)
