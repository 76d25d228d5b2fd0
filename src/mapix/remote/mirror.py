"""Blocks of a remote object on this machine's disk.

A mirror is a directory of the cache.  It has a file for each stretch of the object: a segment, with
the bytes of its blocks at their place, and after them a table with the CRC32C of each block; 0 in
the table means that the block is not there.  A block is written before its number in the table.

* If the process is killed in between, the block counts as missing.
* If a power cut loses the bytes and not the number, the CRC32C differs, and the block counts as
  missing.
* Several processes may fill one mirror.  They write the same bytes, because the name of a mirror
  contains the ETag.
* A segment is removed by removing its file.  Processes that have it mapped keep its bytes, as bytes
  and table are one file.  So a block that was mapped never changes, whatever others do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import LimitError
from mapix.locations import cache_folder
from mapix.remote import settings
from mapix.remote.estimates import runs

__all__ = ["Mirror"]

FOLDER = "remote"  # in the cache folder
ABOUT = "about.json"
VERSION = 1
LEAST_SEGMENT_NBYTES = 64 << 20
MOST_SEGMENTS = 4096
TRIM_NBYTES = 32 << 20  # written between two checks of the disk space
LOW_WATER = 0.9  # segments are removed until the mirrors take this share of what they may take
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
READ_NBYTES = 1 << 20
OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

Ready = Callable[[int, int, int, int], None]
"""Takes blocks: the first, the one after the last, a descriptor, and the first one's byte there."""


class _Segment(NamedTuple):
    """A segment file in the cache."""

    path: str
    nbytes: int  # on the disk
    used_ns: int  # time of the last use


class Mirror:
    """The blocks of one object on disk.

    Parameters
    ----------
    url : str
        The object.
    tag : str or None
        Its ETag, or what else identifies the content; None for a mirror that is removed with this
        object.
    nbytes : int
        Size of the object.
    block_nbytes : int
        Size of a block, a multiple of a page.

    Attributes
    ----------
    segment_blocks : int
        Blocks per segment.
    folder : str
        The directory.

    Raises
    ------
    PermissionError
        Other users may write to the folder of mirrors.
    """

    _all: ClassVar[weakref.WeakSet[Mirror]] = weakref.WeakSet()  # of this process
    _untrimmed: ClassVar[int] = 0  # bytes written since the disk space was checked

    def __init__(self, url: str, tag: str | None, nbytes: int, block_nbytes: int) -> None:
        self.nbytes, self.block_nbytes = nbytes, block_nbytes
        segment = LEAST_SEGMENT_NBYTES
        while segment * MOST_SEGMENTS < nbytes:
            segment *= 2
        self.segment_blocks = segment // block_nbytes
        self._segment_nbytes = segment
        self._touched: set[int] = set()
        self.release: Callable[[int], bool] = lambda k: True
        """Called before this process removes segment k: unmaps it, or returns False."""
        parent = _own_folder()
        about = {"version": VERSION, "url": url, "tag": tag, "nbytes": nbytes}
        about |= {"block_nbytes": block_nbytes, "segment_nbytes": segment}
        text = json.dumps(about, sort_keys=True).encode()
        if tag is None:
            self.folder = tempfile.mkdtemp(prefix="unnamed-", dir=parent)
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        else:
            self.folder = os.path.join(parent, f"{zlib.crc32(text):08x}{_native.crc32c(text):08x}")
            self._settle(text)
        Mirror._all.add(self)

    def _settle(self, about: bytes) -> None:
        """Create the directory, or check that it belongs to this object."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        place = os.path.join(self.folder, ABOUT)
        with contextlib.suppress(FileNotFoundError), open(place, "rb") as f:
            if f.read() == about:
                return
        # another object with the same name, or a process was killed: begin anew
        for name in os.listdir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, name))
        new = f"{place}.{os.urandom(8).hex()}"
        with open(new, "xb") as out:
            out.write(about)
        with contextlib.suppress(FileNotFoundError):  # another process begins anew, too
            os.replace(new, place)

    # --- segments ---------------------------------------------------------------------------------

    def _path(self, k: int) -> str:
        return os.path.join(self.folder, f"{k:06d}.part")

    @contextlib.contextmanager
    def _opened(self, k: int) -> Iterator[int]:
        """Yield a descriptor of segment k, which is created where it is not there."""
        path = self._path(k)
        try:
            fd = os.open(path, OPEN, 0o600)
        except FileNotFoundError:  # another process removed the directory
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            fd = os.open(path, OPEN, 0o600)
        try:
            size = self._segment_nbytes + 4 * self.segment_blocks
            if os.fstat(fd).st_size != size:
                os.ftruncate(fd, size)
            if k not in self._touched:
                self._touched.add(k)
                os.utime(fd)  # segments that were not used longest are removed first
            yield fd
        finally:
            os.close(fd)

    def _pieces(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """Cut a range of blocks at the ends of segments: (segment, first, end)."""
        n = self.segment_blocks
        return [
            (k, max(first, k * n), min(end, (k + 1) * n)) for k in range(first // n, -(-end // n))
        ]

    def span(self, first: int, end: int) -> tuple[int, int]:
        """Return the first byte of a range of blocks, and the byte after it."""
        return first * self.block_nbytes, min(end * self.block_nbytes, self.nbytes)

    def bring(self, first: int, end: int, ready: Ready) -> None:
        """Call ``ready`` with the blocks of a range that are on the disk.

        The bytes of each are compared with their CRC32C.
        """
        for k, a, b in self._pieces(first, end):
            if not os.path.exists(self._path(k)):
                continue
            with self._opened(k) as fd:
                sums = np.zeros(b - a, np.uint32)
                os.preadv(fd, [sums.view(np.uint8).data], self._sums_at(a))
                for one, stop in runs(np.flatnonzero(sums)):
                    same = self._sums_of(fd, a + one, a + stop) == sums[one:stop]
                    for x, y in runs(np.flatnonzero(same) + a + one):
                        ready(x, y, fd, self._at(x))

    def write(self, first: int, data: memoryview, ready: Ready) -> None:
        """Write blocks, then their numbers in the table; then call ``ready`` with them.

        Raises
        ------
        OSError
            The disk is full.
        """
        end = first + -(-len(data) // self.block_nbytes)
        for k, a, b in self._pieces(first, end):
            begin, stop = (at - first * self.block_nbytes for at in self.span(a, b))
            with self._opened(k) as fd:
                _write(fd, data[begin:stop], self._at(a))
                sums = _native.crc32c_blocks(data[begin:stop], self.block_nbytes)
                _write(fd, sums.view(np.uint8).data, self._sums_at(a))
                # by the same descriptor: another process may have removed the file meanwhile
                ready(a, b, fd, self._at(a))

    def _at(self, block: int) -> int:
        """Return the byte of a block in the file of its segment."""
        return block % self.segment_blocks * self.block_nbytes

    def _sums_at(self, block: int) -> int:
        """Return the byte of the number of a block in the file of its segment."""
        return self._segment_nbytes + 4 * (block % self.segment_blocks)

    def _sums_of(self, fd: int, first: int, end: int) -> NDArray[np.uint32]:
        """Return the CRC32C of blocks of one segment as they are on the disk."""
        found = np.zeros(end - first, np.uint32)
        step = max(1, READ_NBYTES // self.block_nbytes)
        for a in range(first, end, step):
            begin, stop = self.span(a, min(a + step, end))
            data = os.pread(fd, stop - begin, self._at(a))
            if len(data) == stop - begin:
                sums = _native.crc32c_blocks(data, self.block_nbytes)
                found[a - first : a - first + len(sums)] = sums
        return found

    # --- disk space -------------------------------------------------------------------------------

    def trim_after(self, nbytes: int) -> None:
        """Note bytes that were written; check the disk space now and then: ``trim``."""
        Mirror._untrimmed += nbytes
        if Mirror._untrimmed >= TRIM_NBYTES:
            Mirror._untrimmed = 0
            self.trim()

    def trim(self, *, full: bool = False) -> None:
        """Remove segments of all mirrors, the least recently used first, down to what is allowed.

        With ``full`` down to half of it: the disk has no space left.

        Raises
        ------
        LimitError
            Too many of them are in use by this process.
        """
        every = sorted(_segments(), key=lambda s: s.used_ns)
        used = sum(s.nbytes for s in every)
        disk = os.statvfs(os.path.dirname(self.folder))
        most = settings.most_mirror_nbytes(used, disk.f_bavail * disk.f_frsize)
        if full:
            most = min(most, used // 2)
        if used <= most:
            return
        own = {mirror.folder: mirror for mirror in list(Mirror._all)}
        for segment in every:
            if used <= most * LOW_WATER:
                return
            folder, name = os.path.split(segment.path)
            mirror = own.get(folder)
            if mirror is not None and not mirror.release(int(name.partition(".")[0])):
                continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(segment.path)
            used -= segment.nbytes
            if mirror is None and set(os.listdir(folder)) <= {ABOUT}:
                shutil.rmtree(folder, ignore_errors=True)
        if used > most:
            raise LimitError(
                f"{os.path.dirname(self.folder)}: mirrors take {used} bytes, and may take {most} "
                "(MAPIX_REMOTE_MAX_BYTES); this process uses them: read fewer records at once, by "
                "ds.batch, which copies them"
            )


def _own_folder() -> str:
    """Return the folder of all mirrors, created where it is not there."""
    folder = os.path.join(cache_folder(), FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.stat(folder)
    if found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE:
        reason = (
            "other users may write to the folder of mirrors; set MAPIX_CACHE_DIR to one of yours"
        )
        raise PermissionError(errno.EACCES, reason, folder)
    return folder


def _segments() -> list[_Segment]:
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(_own_folder()) as mirrors:
        for mirror in mirrors:
            with contextlib.suppress(OSError), os.scandir(mirror.path) as files:
                for file in files:
                    if file.name.endswith(".part"):
                        with contextlib.suppress(FileNotFoundError):
                            s = file.stat(follow_symlinks=False)
                            found.append(_Segment(file.path, s.st_blocks * 512, s.st_mtime_ns))
    return found


def _write(fd: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done
