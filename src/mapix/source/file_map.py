"""Map a file into memory, under the guard, and find changes of it."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from mapix import _native, descriptors
from mapix.copies import Copies, current
from mapix.errors import FileChangedError
from mapix.source.fingerprint import Fingerprint, sample
from mapix.source.paths import open_file

if TYPE_CHECKING:
    from mapix.remote import Arrival

Needs = Callable[[], tuple[_native.IntArray, _native.IntArray]]
"""Returns first byte and size of all ranges that a call reads, int64 (n,) each."""

BACKEND = "MAPIX_BACKEND"
"""Environment variable: "mmap" maps files; "pread" reads complete files into memory at opening."""

HUGE_NBYTES = 2 << 20  # a huge page
FRONT_NBYTES = 512

ADVICE = {
    "random": mmap.MADV_RANDOM,
    "sequential": mmap.MADV_SEQUENTIAL,
    "normal": mmap.MADV_NORMAL,
}


class _Memory(mmap.mmap):
    """Memory that is unmapped when the last array over it is deleted, and not before."""

    def close(self) -> None:
        """Refuse: numpy holds a reference to the map as the base of arrays, but no export."""
        raise BufferError("arrays may alias this map; it is unmapped when the last one is deleted")


def reserved(nbytes: int, path: str) -> tuple[_Memory, int]:
    """Reserve memory into which a file will be mapped, and return where in it the file begins.

    A file of a huge page or more begins at a multiple of one.  Only then can the kernel map its
    page cache by huge pages, so that random records need no walk through page tables.
    """
    room = HUGE_NBYTES if nbytes >= HUGE_NBYTES else 0
    try:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        memory = _Memory(-1, nbytes + room, flags=kind, prot=mmap.PROT_READ)
    except OSError as e:
        raise OSError(e.errno, f"cannot map: {e.strerror}", path) from e
    return memory, -_native.address_of(_native.buffer_of(memory)) % room if room else 0


def _fill(
    memory: _native.CData, nbytes: int, fd: int, path: str, copies: Copies | None = None
) -> None:
    """Map a file into reserved memory, or read it; errors name the path, unlike the system's."""
    if copies is not None:
        copies.take(nbytes)
        _read(memory, nbytes, fd, path)
        return
    backend = os.environ.get(BACKEND) or "mmap"
    if backend not in ("mmap", "pread"):
        raise ValueError(f"{BACKEND} is {backend!r}; it can be 'mmap' or 'pread'")
    if backend == "pread":
        _read(memory, nbytes, fd, path)
        return
    for shared in (True, False):
        # FUSE with direct I/O allows private maps only; nothing is written, so both are equal
        try:
            _native.map_file(memory, nbytes, fd, shared=shared)
        except OSError as e:
            if e.errno != errno.ENODEV:
                raise OSError(e.errno, f"cannot map: {e.strerror}", path) from e
        else:
            return
    _read(memory, nbytes, fd, path)


def _read(memory: _native.CData, nbytes: int, fd: int, path: str) -> None:
    """Read a file into reserved memory, for systems that do not map it."""
    try:
        done = _native.read_file(memory, nbytes, fd)
    except OSError as e:
        raise OSError(e.errno, f"cannot read: {e.strerror}", path) from e
    if done < nbytes:
        raise FileChangedError(
            path, f"the file had {nbytes} bytes, now it has {done}; open it again"
        )


class Mapping:
    """The memory that a file is mapped into; it lives as long as there is a reference to it.

    The descriptor stays open while the file is among those that were opened last
    (``descriptors``).  While it is open, changes of the file are found through it.  After that they
    are found through the path, if this leads to the same device and inode: the map holds the inode,
    so no other file can have it.

    Attributes
    ----------
    access : str
        How the file will be read, as it was announced last; empty before.
    """

    __slots__ = (
        *("_begin", "_buffer", "_exported", "_front", "_key", "_located", "_mmap", "_place"),
        *("_sample", "access", "advice", "cmap", "fingerprint", "full_path", "limited", "memory"),
        *("nbytes", "path"),
    )

    remote: Arrival | None = None  # of a remote object: the blocks that are there

    def __init__(
        self,
        path: str,
        full_path: str,
        limit: int | None = None,
        open: Callable[[], int] | None = None,
    ) -> None:
        self.path = path
        self.full_path = full_path
        self.advice = "open it again"  # end of the error for a changed file
        self.access = ""
        key = self._key = id(self)
        fd = open_file(path) if open is None else open()  # see descriptors: nothing may fail now
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{path}: not a regular file")
            self.fingerprint = Fingerprint.of(found)
            # The size comes from the mapped descriptor, never from the path.
            self.nbytes = found.st_size if limit is None else limit
            if self.nbytes > found.st_size:
                raise FileChangedError(path, "the file was cut while it was opened; open it again")
            # An empty file cannot be mapped, and there is nothing to read in it.
            self._mmap: _Memory | None = None
            begin = 0
            if self.nbytes:
                self._mmap, begin = reserved(self.nbytes, path)
            self._begin = begin
            data: mmap.mmap | bytes = b"" if self._mmap is None else self._mmap
            # Read-only memory exports read-only buffers, so no array over it can be made writable.
            self.memory = memoryview(data)[begin : begin + self.nbytes]
            # not of the memoryview: Python's garbage collector clears one before its exports
            self._exported = _native.buffer_of(data)
            self._buffer = _native.cast("uint8_t *", self._exported) + begin
            copies = current()
            if self.nbytes:
                _fill(self._buffer, self.nbytes, fd, path, copies)
            if copies is not None and limit is None:
                moved = self.fingerprint.difference(Fingerprint.of(os.fstat(fd)))
                if moved is not None:
                    raise FileChangedError(path, f"{moved} while it was copied; {self.advice}")
            self.limited = limit is not None or copies is not None
            self._sample: int | None = None
            self._front: bytes | None = None
            self._place = _native.c_path(full_path)
        except BaseException:
            os.close(fd)
            raise
        # never checked: a copy, and a file that another process appends to all the time
        if self.limited:
            os.close(fd)
        else:
            descriptors.keep(key, fd)
        self._describe(found)

    def _describe(self, found: os.stat_result) -> None:
        fd = _native.UNCHECKED if self.limited else descriptors.held(self._key)
        if fd < 0 and not self.limited:
            fd = _native.BY_PATH
        self.cmap = _native.new_map(self._buffer, self.nbytes, fd, self._place, found)
        self._located: tuple[_native.CData, int] | None = None

    @property
    def located(self) -> tuple[_native.CData, int]:
        """The C map and its address, read together: another thread may settle() at any time."""
        known = self._located
        if known is None:
            cmap = self.cmap
            known = self._located = (cmap, _native.address_of(cmap))
        return known

    def __del__(self, close: Callable[[int], None] = descriptors.close) -> None:
        close(getattr(self, "_key", 0))

    @property
    def view(self) -> memoryview:
        """The bytes of the file, read-only."""
        return self.memory

    def hold(self, at: int, nbytes: int) -> None:
        """Bring bytes of a remote object, for arrays that alias them; nothing of a file."""

    def advise(self, access: str) -> None:
        """Announce to the kernel how the file will be read: random, sequential or normal."""
        if access not in ADVICE:
            raise ValueError(f"access must be one of {', '.join(ADVICE)}, got {access!r}")
        self.access = access
        if self._mmap is not None:
            self._mmap.madvise(ADVICE[access], self._begin, self.nbytes)

    def willneed(self, at: int, nbytes: int) -> None:
        """Ask the kernel to read bytes ``at`` to ``at + nbytes`` from disk in the background."""
        if 0 <= at < at + nbytes <= self.nbytes:
            _native.willneed(self, at, nbytes)

    def sample(self) -> int:
        """Return ``sample`` of the file, which is computed once.

        Raises
        ------
        FileChangedError
            The file was changed or cut, before or after the sample was computed.
        """
        if self._sample is None:
            self._sample = sample(self, self.nbytes)
        else:
            _native.check(self)
        return self._sample

    def front(self) -> bytes:
        """Return the first 512 bytes, or all of a shorter file: a copy that is made once.

        Raises
        ------
        FileChangedError
            The file was changed or cut before they were copied.
        """
        if self._front is None:
            self._front = bytes(_native.copy(self, 0, min(FRONT_NBYTES, self.nbytes), "file"))
        return self._front

    def settle(self, needs: Needs | None = None) -> None:
        """Accept a harmless change of the file, so that a C call that found it can be repeated.

        Of a remote object: bring the bytes that the call did not find, and all that it ``needs``.

        Raises
        ------
        FileChangedError
            The bytes may have changed.
        """
        found = self._status()
        now = Fingerprint.of(found)
        moved = self.fingerprint.difference(now)
        if moved is not None:
            raise FileChangedError(self.path, f"{moved}; {self.advice}")
        self.fingerprint = now
        self._describe(found)

    def _status(self) -> os.stat_result:
        """Return the current stat result, by the descriptor, or by the path if that is closed."""
        was = self.fingerprint
        fd = descriptors.held(self._key)
        if fd >= 0:
            with contextlib.suppress(OSError):  # another thread closed it
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) == (was.dev, was.ino):
                    return found
            descriptors.take(self._key)  # its number is no longer ours: others closed it
        try:
            found = os.stat(self.full_path)
        except OSError as e:
            reason = f"the file can no longer be checked ({e.strerror}); {self.advice}"
            raise FileChangedError(self.path, reason) from e
        if (found.st_dev, found.st_ino) != (was.dev, was.ino):
            reason = "another file has its path, so the file can no longer be checked"
            raise FileChangedError(self.path, f"{reason}; {self.advice}")
        return found

    def guarded(self, call: Callable[[_native.CData], int], needs: Needs | None = None) -> int:
        """Run a C call over the map and return its status; raise FileChangedError on a change.

        ``needs`` as for ``settle``.
        """
        while (status := call(self.cmap)) == _native.CHANGED:
            self.settle(needs)
        return status


class HeldMapping(Mapping):
    """Bytes of a snapshot in the place of a map: they never change."""

    def __init__(
        self, path: str, full_path: str, data: bytes | bytearray, fingerprint: Fingerprint
    ) -> None:
        self._key = 0
        self.path, self.full_path = path, full_path
        self.advice = "open it again"
        self.fingerprint = fingerprint
        self.nbytes, self.limited, self.access = len(data), True, ""
        self._mmap = None
        self.memory = memoryview(data).toreadonly()
        self._exported = _native.buffer_of(data)
        self._buffer = _native.cast("uint8_t *", self._exported)
        self._sample = self._front = None
        self.cmap = _native.new_held_map(self._buffer, self.nbytes)
        self._located = None

    def settle(self, needs: Needs | None = None) -> None:
        """Do nothing: nothing can have changed."""
