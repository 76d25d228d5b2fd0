"""Map a file into memory, under the guard, and find changes of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mapix import _native, descriptors
from mapix._native.compiled import fast
from mapix.copies import Copies, current
from mapix.errors import FileChangedError
from mapix.source.fingerprint import Fingerprint, sample
from mapix.source.paths import FRONT_NBYTES, opened, taken

if TYPE_CHECKING:
    from mapix.remote import Arrival

Needs = Callable[[], tuple[_native.IntArray, _native.IntArray]]
"""Returns first byte and size of all ranges that a call reads, int64 (n,) each."""

BACKEND = "MAPIX_BACKEND"
"""Environment variable: "mmap" maps files; "pread" reads complete files into memory at opening."""

backend = os.environ.get(BACKEND) or "mmap"  # read once: that takes as long as a system call

ADVICE = {
    "random": _native.RANDOM,
    "sequential": _native.SEQUENTIAL,
    "normal": _native.NORMAL,
}

Exporter = Any
"""What exports the bytes of a map: ``mapix._record.Memory``, a Python ``mmap``, or bytes."""


def mapped(nbytes: int, fd: int, path: str, *, shared: bool) -> tuple[Exporter, int]:
    """Map the first bytes of a file; return the memory, and where in it the file begins.

    Without the compiled module it is an anonymous Python ``mmap`` into which the file is mapped:
    before Python 3.13 one of a file holds a descriptor.
    """
    if fast is not None:
        return fast.Memory(fd, nbytes, shared), 0
    from mapix.source.reserved import reserved

    memory, begin = reserved(nbytes, path)
    _, where = _native.exported(memory, begin)
    _native.map_file(where, nbytes, fd, shared=shared)
    return memory, begin


def _filled(nbytes: int, fd: int, path: str, copies: Copies | None) -> tuple[Exporter, int]:
    """Map a file, or read it into memory; errors name the path, unlike the system's."""
    if backend not in ("mmap", "pread"):
        raise ValueError(f"{BACKEND} is {backend!r}; it can be 'mmap' or 'pread'")
    if copies is not None:
        copies.take(nbytes)
    elif backend == "mmap":
        for shared in (True, False):
            # FUSE with direct I/O allows private maps only; nothing is written: both are equal
            try:
                return mapped(nbytes, fd, path, shared=shared)
            except OSError as e:
                if e.errno != errno.ENODEV:
                    raise OSError(e.errno, f"cannot map: {os.strerror(e.errno or 0)}", path) from e
    from mapix.source.reserved import reserved

    memory, begin = reserved(nbytes, path)
    _read(_native.exported(memory, begin)[1], nbytes, fd, path)
    return memory, begin


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
        *("_buffer", "_exported", "_front", "_key", "_located", "_places", "_sample", "access"),
        *("advice", "cmap", "fingerprint", "full_path", "limited", "memory", "nbytes", "path"),
    )

    remote: Arrival | None = None  # of a remote object: the blocks that are there

    def __init__(
        self,
        path: str,
        full_path: str,
        limit: int | None = None,
        open: Callable[[], int] | None = None,
        file: _native.OpenFile | None = None,
    ) -> None:
        self.path = path
        self.full_path = full_path
        self.advice = "open it again"  # end of the error for a changed file
        self.access = ""
        self._sample: int | None = None
        self._located: tuple[_native.CData, int] | None = None
        self._places: list[_native.CData] = []
        key = self._key = id(self)
        if file is None:
            file = opened(path) if open is None else taken(open)
        try:
            cmap = file.cmap
            known = self.fingerprint = Fingerprint.of_file(file)
            fd, size = cmap.fd, known.size
            if not stat.S_ISREG(known.mode):
                raise OSError(f"{path}: not a regular file")
            # The size comes from the mapped descriptor, never from the path.
            nbytes = self.nbytes = size if limit is None else limit
            if nbytes > size:
                raise FileChangedError(path, "the file was cut while it was opened; open it again")
            copies = current()
            # An empty file cannot be mapped, and there is nothing to read in it.
            data, begin = _filled(nbytes, fd, path, copies) if nbytes else (b"", 0)
            # Read-only memory exports read-only buffers, so no array over it can be made writable.
            self.memory = memoryview(data)[begin : begin + nbytes]
            # not of the memoryview: Python's garbage collector clears one before its exports
            self._exported, self._buffer = _native.exported(data, begin)
            if copies is not None and limit is None:
                moved = self.fingerprint.difference(Fingerprint.of(os.fstat(fd)))
                if moved is not None:
                    raise FileChangedError(path, f"{moved} while it was copied; {self.advice}")
            # never checked: a copy, and a file that another process appends to all the time
            self.limited = limit is not None or copies is not None
            front = file.front
            self._front = None if front is None else front[: min(FRONT_NBYTES, nbytes)]
            cmap.base, cmap.nbytes = self._buffer, nbytes
        except BaseException:
            file.close()
            raise
        self.cmap = cmap
        if self.limited:
            file.close()
            return
        file.given = True
        if not descriptors.keep(key, fd):  # nothing may fail before it
            self._describe(known)

    def _describe(self, now: Fingerprint) -> None:
        """Make the C map anew, for the file as it is now."""
        fd = _native.UNCHECKED if self.limited else descriptors.held(self._key)
        place = None
        if fd < 0 and not self.limited:
            fd = _native.BY_PATH
            if not self._places:  # maps that other threads use refer to it: it is never replaced
                self._places.append(_native.c_path(self.full_path))
            place = self._places[0]
        self.cmap = _native.new_map(self._buffer, self.nbytes, fd, place, now[:5])
        self._located = None

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
        if self.nbytes:
            _native.advise(self, ADVICE[access])

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
        now = self._status()
        moved = self.fingerprint.difference(now)
        if moved is not None:
            raise FileChangedError(self.path, f"{moved}; {self.advice}")
        self.fingerprint = now
        self._describe(now)

    def _status(self) -> Fingerprint:
        """Return the file as it is now, by the descriptor, or by the path if that is closed."""
        was = self.fingerprint
        fd = descriptors.held(self._key)
        if fd >= 0:
            with contextlib.suppress(OSError):  # another thread closed it
                now = Fingerprint.of(os.fstat(fd))
                if now[:2] == was[:2]:
                    return now
            descriptors.take(self._key)  # its number is no longer ours: others closed it
        try:
            now = Fingerprint.of(os.stat(self.full_path))
        except OSError as e:
            reason = f"the file can no longer be checked ({e.strerror}); {self.advice}"
            raise FileChangedError(self.path, reason) from e
        if now[:2] != was[:2]:
            reason = "another file has its path, so the file can no longer be checked"
            raise FileChangedError(self.path, f"{reason}; {self.advice}")
        return now

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
        self.memory = memoryview(data).toreadonly()
        self._exported, self._buffer = _native.exported(data)
        self._sample = self._front = None
        self.cmap = _native.new_held_map(self._buffer, self.nbytes)
        self._located = None

    def settle(self, needs: Needs | None = None) -> None:
        """Do nothing: nothing can have changed."""
