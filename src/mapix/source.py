"""Open and map data files, read-only.  No other module maps a file.

The module knows no format.  A mapping lives until the last array that aliases it is deleted, also
after ``Source.close()``.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Self

from mapix import _native, descriptors
from mapix.errors import ClosedError, FileChangedError, LimitError, MapixError, UnsupportedError
from mapix.rooted import Root, absolute, is_url

if TYPE_CHECKING:
    from mapix.remote import Arrival

__all__ = [
    "Fingerprint",
    "Mapping",
    "Needs",
    "RemoteMapping",
    "Source",
    "Unmapped",
    "absolute",
    "is_file",
    "is_folder",
    "is_url",
    "name_of",
    "path_beside",
    "peek",
    "read_beside",
    "read_small",
    "same_time",
    "sample",
]

Needs = Callable[[], tuple[_native.IntArray, _native.IntArray]]
"""Returns first byte and size of all ranges that a call reads, int64 (n,) each."""

REMOTE = (1 << 64) - 1  # the device of remote objects
WARM_STEP_NBYTES = 64 << 20  # brought into memory between two checks for Ctrl-C
BACKEND = "MAPIX_BACKEND"
"""Environment variable: "mmap" maps files; "pread" reads complete files into memory at opening."""

HUGE_NBYTES = 2 << 20  # a huge page
FRONT_NBYTES = 512
SAMPLES = 32  # blocks of a file that are compared in place of its content
SAMPLE_NBYTES = 4096
COARSE_NS = 2_000_000_000  # resolution of times in zip and FAT; that of tar is one second

# O_NONBLOCK: opening a FIFO must not hang; for regular files it has no effect.
READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

ADVICE = {
    "random": mmap.MADV_RANDOM,
    "sequential": mmap.MADV_SEQUENTIAL,
    "normal": mmap.MADV_NORMAL,
}


class Fingerprint(NamedTuple):
    """Identity, size and times of a file when it was opened (fstat), and a sample of its bytes.

    ``sample`` is None in the fingerprint of an open file.  It is computed for fingerprints that are
    stored (``Source.identity``), so that the same content is recognised elsewhere.
    """

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    nlink: int
    sample: int | None = None

    @classmethod
    def of(cls, s: os.stat_result) -> Fingerprint:
        """Make a fingerprint of a stat result."""
        return cls(
            s.st_dev,
            s.st_ino,
            s.st_size,
            s.st_mtime_ns,
            s.st_ctime_ns,
            s.st_mode,
            s.st_uid,
            s.st_gid,
            s.st_nlink,
        )

    def difference(self, now: Fingerprint) -> str | None:
        """Return a text that states what changed since then; None if the bytes can be the same.

        A change of ctime alone is harmless if permissions, owner or link count explain it (chmod, a
        hard link, a rename that replaced the file while this process has the old one open).
        Without such an explanation, a process may have written and set the mtime back.
        """
        if (self.dev, self.ino) != (now.dev, now.ino):
            if self.dev == now.dev == REMOTE:
                return "the object has another ETag, or its server states none"
            return "the file was replaced by another one"
        if self.size != now.size:
            return f"the file had {self.size} bytes, now it has {now.size}"
        if self.mtime_ns != now.mtime_ns:
            return "the file was written to (its modification time changed)"
        explained = (self.mode, self.uid, self.gid, self.nlink) != (
            now.mode,
            now.uid,
            now.gid,
            now.nlink,
        )
        if self.ctime_ns != now.ctime_ns and not explained:
            return "the file was touched (its change time changed, its modification time did not)"
        return None


class _Memory(mmap.mmap):
    """Memory that is unmapped when the last array over it is deleted, and not before."""

    def close(self) -> None:
        """Refuse: numpy holds a reference to the map as the base of arrays, but no export."""
        raise BufferError("arrays may alias this map; it is unmapped when the last one is deleted")


def _reserved(nbytes: int, path: str) -> tuple[_Memory, int]:
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


def _fill(memory: _native.CData, nbytes: int, fd: int, path: str) -> None:
    """Map a file into reserved memory, or read it; errors name the path, unlike the system's."""
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


def _open(path: str | os.PathLike[str] | bytes) -> int:
    try:
        return os.open(path, READ_FLAGS)
    except OSError as e:
        if e.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    return descriptors.opened(lambda: os.open(path, READ_FLAGS))


class Mapping:
    """The memory that a file is mapped into; it lives as long as there is a reference to it.

    The descriptor stays open while the file is among those that were opened last
    (``descriptors``).  While it is open, changes of the file are found through it.  After that they
    are found through the path, if this leads to the same device and inode: the map holds the inode,
    so no other file can have it.
    """

    __slots__ = (
        *("_buffer", "_exported", "_front", "_located", "_mmap", "_place", "_sample", "advice"),
        *("cmap", "fingerprint", "full_path", "limited", "memory", "nbytes", "path"),
    )

    remote: Arrival | None = None  # of a remote object: the blocks that are there

    def __init__(self, path: str, full_path: str, limit: int | None = None, fd: int = -1) -> None:
        self.path = path
        self.full_path = full_path
        self.advice = "open it again"  # end of the error for a changed file
        if fd < 0:
            fd = _open(path)
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
                self._mmap, begin = _reserved(self.nbytes, path)
            data: mmap.mmap | bytes = b"" if self._mmap is None else self._mmap
            # Read-only memory exports read-only buffers, so no array over it can be made writable.
            self.memory = memoryview(data)[begin : begin + self.nbytes]
            # not of the memoryview: Python's garbage collector clears one before its exports
            self._exported = _native.buffer_of(data)
            self._buffer = _native.cast("uint8_t *", self._exported) + begin
            if self.nbytes:
                _fill(self._buffer, self.nbytes, fd, path)
        except BaseException:
            os.close(fd)
            raise
        self.limited = limit is not None
        self._sample: int | None = None
        self._front: bytes | None = None
        self._place = _native.c_path(full_path)
        # a file that another process appends to changes all the time, so it is never checked
        if self.limited:
            os.close(fd)
        else:
            descriptors.keep(id(self), fd)
        self._describe(found)

    def _describe(self, found: os.stat_result) -> None:
        fd = descriptors.held(id(self))
        if fd < 0:
            fd = _native.UNCHECKED if self.limited else _native.BY_PATH
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
        close(id(self))

    @property
    def view(self) -> memoryview:
        """The bytes of the file, read-only."""
        return self.memory

    def hold(self, at: int, nbytes: int) -> None:
        """Bring bytes of a remote object, for arrays that alias them; nothing of a file."""

    def advise(self, access: str) -> None:
        """Announce to the kernel how the file will be read: random, sequential or normal."""
        if self._mmap is not None:
            self._mmap.madvise(ADVICE[access])

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
        fd = descriptors.held(id(self))
        if fd >= 0:
            with contextlib.suppress(OSError):  # another thread closed it
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) == (was.dev, was.ino):
                    return found
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


class RemoteMapping(Mapping):
    """The memory of a remote object, into which its blocks are mapped as they arrive.

    A C call that reads a block that is not there returns MAPIX_E_CHANGED, as after a change of a
    file.  ``settle`` brings the block, and the call is repeated.  The object is compared with the
    one that was opened by each request for more bytes.
    """

    __slots__ = ("_fault", "remote")
    remote: Arrival

    def __init__(self, url: str) -> None:
        from mapix.remote import Arrival, memory_nbytes, opened

        found = opened(url)
        self.path, self.full_path = found.url, url
        self.advice = "open it again"
        self.nbytes, self.limited = found.nbytes, False
        self._mmap, begin = _reserved(max(1, memory_nbytes(self.nbytes)), self.path)
        self.memory = memoryview(self._mmap)[begin : begin + self.nbytes]
        self._exported = _native.buffer_of(self._mmap)
        self._buffer = _native.cast("uint8_t *", self._exported) + begin
        self.remote = Arrival(found, self._exported, begin)
        self.fingerprint = _fingerprint_of(found.tag, self.nbytes, found.modified_ns)
        self._sample = self._front = None
        self.cmap, self._fault = _native.new_sparse_map(self._buffer, self.nbytes)
        self._located = None

    @property
    def view(self) -> memoryview:
        """The bytes of the object, once all are there.

        Raises
        ------
        UnsupportedError
            They are not.
        """
        if not self.remote.complete:
            raise UnsupportedError(
                f"{self.path}: views of all records need all {self.nbytes} bytes of the object: "
                "call ds.warm() first, which downloads it, or use ds[i] and ds.batch(...)"
            )
        return self.memory

    def hold(self, at: int, nbytes: int) -> None:
        """Bring bytes, for arrays that alias them."""
        self.remote.ensure(at, nbytes, hold=True)

    def advise(self, access: str) -> None:
        """Do nothing: what is read ahead does not depend on it."""

    def willneed(self, at: int, nbytes: int) -> None:
        """Request bytes in the background."""
        self.remote.expect(at, nbytes)

    def settle(self, needs: Needs | None = None) -> None:
        """See ``Mapping.settle``."""
        address = int(self._fault[0])
        self._fault[0] = 0
        if address:  # another thread may have settled it
            self.remote.fault(address, needs)


def _fingerprint_of(tag: str | None, nbytes: int, modified_ns: int) -> Fingerprint:
    """Return the fingerprint of a remote object; without a tag it equals no other one."""
    raw = os.urandom(16) if tag is None else tag.encode()
    number = _native.crc32c(raw) << 31 | zlib.crc32(raw) >> 1
    owner = os.geteuid(), os.getegid()
    return Fingerprint(REMOTE, number, nbytes, modified_ns, modified_ns, 0o400, *owner, 1)


def sample(mapping: Mapping, nbytes: int) -> int:
    """Return the CRC32C of the first ``nbytes`` of a file, or of 32 blocks of 4 KiB in them.

    Up to 128 KiB, all bytes are read.  Above, the blocks are the first one, the last one, and one
    in each of 30 equal stretches between them, at offsets that depend on ``nbytes`` alone.

    Raises
    ------
    FileChangedError
        The file was changed or cut.
    """
    if nbytes <= SAMPLES * SAMPLE_NBYTES:
        places, size = [0], nbytes
    else:
        size, stretch = SAMPLE_NBYTES, (nbytes - 2 * SAMPLE_NBYTES) // (SAMPLES - 2)
        places, state = [0], nbytes
        for at in range(size, size + stretch * (SAMPLES - 2), stretch):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            places.append(at + (state >> 32) % (stretch - size + 1))
        places.append(nbytes - size)
    crc = 0
    for at in places:
        block = _native.copy(mapping, at, size, "file")
        crc = _native.crc32c(block, crc) if block else crc
    return crc


def same_time(a: int, b: int) -> bool:
    """Return whether two times in ns are equal, or one can be the other after rounding down.

    tar, zip and some file systems store times rounded down to one or two seconds.
    """
    early, late = min(a, b), max(a, b)
    return a == b or (late - early < COARSE_NS and early % 1_000_000_000 == 0)


def _moved(expect: Fingerprint, mapping: Mapping) -> str | None:
    """Return a text on how a file differs from the expected one; None for the same content."""
    now = mapping.fingerprint
    moved = expect.difference(now)
    if moved is None or expect.sample is None:
        return moved
    if expect.size != now.size or not same_time(expect.mtime_ns, now.mtime_ns):
        return moved
    if sample(mapping, mapping.nbytes) == expect.sample:
        return None
    return "other bytes were written to the file (its size and modification time are the same)"


class Source:
    """Open a file read-only and map it.

    After that, the file needs no descriptor; see ``Mapping``.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file.
    expect : Fingerprint, optional
        The expected file; any other one raises FileChangedError.  If the fingerprint has a sample
        (``Source.identity``), a copy with the same size, modification time and sampled bytes is
        accepted, whatever its device, inode and change time.
    limit : int, optional
        Map only this many bytes, because another process appends after them.  Such a file changes
        all the time, so it is not checked for changes; the guard against cut files stays.
    root : Root, optional
        A directory that the file must lie in or below; ``path`` is then a name in it.
    fd : int, optional
        A descriptor of the file, which the source owns after the call.

    Raises
    ------
    OSError
        The file cannot be opened or mapped, or is not a regular file.
    FileChangedError
        It is not the file of ``expect``.

    Attributes
    ----------
    path : str
        The path as it was passed, for messages.
    full_path : str
        The absolute path, for opening the file again after a change of the working directory.
    """

    __slots__ = ("_mapping", "_view", "full_path", "path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        expect: Fingerprint | None = None,
        limit: int | None = None,
        root: Root | None = None,
        fd: int = -1,
    ) -> None:
        self.path = os.fspath(path)
        mapping: Mapping
        if is_url(self.path):
            mapping = RemoteMapping(self.path)
            self.path, self.full_path = mapping.path, mapping.full_path
        elif root is not None:
            fd = root.open(self.path)
            self.full_path = os.path.join(root.full_path, self.path)
            self.path = os.path.join(root.path, self.path)
            mapping = Mapping(self.path, self.full_path, limit, fd)
        else:
            self.full_path = absolute(self.path)
            mapping = Mapping(self.path, self.full_path, limit, fd)
        moved = None if expect is None else _moved(expect, mapping)
        if moved is not None:
            raise FileChangedError(self.path, f"{moved} since the dataset was opened")
        self._mapping: Mapping | None = mapping
        # of a remote object it is made when all bytes are there
        self._view: memoryview | None = None if mapping.remote else mapping.memory

    @classmethod
    def unnamed(cls, fd: int, path: str, nbytes: int) -> Source:
        """Map the first bytes of an open file that has no name.

        The source owns ``fd`` after the call; ``path`` is for messages.
        """
        made = cls.__new__(cls)
        made.path = made.full_path = path
        made._mapping = Mapping(path, path, nbytes, fd)
        made._view = made._mapping.view
        return made

    @property
    def mapping(self) -> Mapping:
        """The mapping; hold it in a local variable while you use it: close() may drop it."""
        mapping = self._mapping
        if mapping is None:
            raise ClosedError(f"{self.path}: the dataset is closed")
        return mapping

    @property
    def view(self) -> memoryview:
        """The bytes of the file, read-only.

        Raises
        ------
        UnsupportedError
            Not all bytes of a remote object are there; see ``viewed``.
        """
        view = self._view
        return self.mapping.view if view is None else view

    def viewed(self, at: int, nbytes: int) -> memoryview:
        """Return the bytes of the file, read-only, of which a caller reads only these ones.

        Of a remote object, they are brought first.  The others must not be read.
        """
        view = self._view
        if view is not None:
            return view
        mapping = self.mapping
        mapping.hold(at, nbytes)
        return mapping.memory

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes when it was opened."""
        return self.mapping.nbytes

    def read(self, at: int, nbytes: int) -> bytes:
        """Return a copy of bytes ``at`` to ``at + nbytes``, which have to lie in the file.

        Raises
        ------
        FileChangedError
            The file was cut or changed.
        FormatError
            They do not lie in the file.
        """
        return bytes(_native.copy(self.mapping, at, nbytes, "file"))

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file when it was opened."""
        return self.mapping.fingerprint

    @property
    def identity(self) -> Fingerprint:
        """The fingerprint with a sample of the bytes, to recognise the same content elsewhere.

        Cost: the first use reads at most 32 blocks of 4 KiB.
        """
        mapping = self.mapping
        if mapping.remote:  # the ETag is enough
            return mapping.fingerprint
        return mapping.fingerprint._replace(sample=mapping.sample())

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._mapping is None

    def confirm(self) -> None:
        """Raise FileChangedError unless the path still refers to this file, unchanged.

        Writers call it just before they replace the file by another one made from it.
        """
        old = self.fingerprint
        try:
            now = Fingerprint.of(os.stat(self.full_path))
        except FileNotFoundError as e:
            raise FileChangedError(self.path, "the file was removed; open it again") from e
        moved = old.difference(now)
        if (old.dev, old.ino) != (now.dev, now.ino):
            moved = "the file was replaced by another one"
        if moved is not None:
            reason = f"{moved} since it was opened; it was not replaced: open it again"
            raise FileChangedError(self.path, reason)

    def close(self) -> None:
        """Close the source.  The file stays mapped until the last array over it is deleted."""
        self._mapping = None
        self._view = None

    def warm(self) -> Iterator[int]:
        """Read the file into the page cache, in order, and yield the number of bytes done.

        A page cache that is filled in order holds large pages: later random reads are up to 1.5
        times as fast, and the first access to a page up to 7 times.  A remote object is downloaded.
        """
        mapping = self.mapping
        mapping.advise("sequential")
        try:
            for at in range(0, mapping.nbytes, WARM_STEP_NBYTES):
                step = min(WARM_STEP_NBYTES, mapping.nbytes - at)
                if mapping.remote:
                    mapping.willneed(at, 2 * step)
                    mapping.hold(at, step)
                else:
                    _native.warm(mapping, at, step)
                yield at + step
        finally:
            mapping.advise("random")


class Unmapped:
    """A file that is open, and may be mapped later.

    For a file of which the first bytes are enough: reading them takes one system call, a map six.

    Attributes
    ----------
    path : str
        As it was passed.
    fingerprint : Fingerprint
        Of the file when it was opened.
    """

    __slots__ = ("_fd", "_source", "fingerprint", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._source: Source | None = None
        if is_url(path):
            self._source = Source(path)
            self.fingerprint = self._source.fingerprint
            return
        self._fd = _open(path)
        found = os.fstat(self._fd)
        self.fingerprint = Fingerprint.of(found)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise OSError(f"{path}: not a regular file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer of a shorter file."""
        if self._source is not None:
            return self._source.read(0, min(nbytes, self._source.nbytes))
        return os.pread(self._fd, nbytes, 0)

    def mapped(self) -> Source:
        """Map the file.

        Raises
        ------
        FileChangedError
            It was changed since it was opened.
        """
        if self._source is not None:
            return self._source
        fd, self._fd = self._fd, -1
        return Source(self.path, self.fingerprint, fd=fd)

    def close(self) -> None:
        """Close the file, if it was not mapped."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def peek(path: str | os.PathLike[str], nbytes: int) -> bytes:
    """Return the first bytes of a file: fewer if it is shorter, none if it is not a regular file.

    An OSError that concerns this process (too many open files) is raised; others give no bytes.
    """
    if is_url(path_text := os.fspath(path)):
        from mapix.remote import opened

        try:
            return opened(str(path_text)).first[:nbytes]
        except (OSError, MapixError):
            return b""
    try:
        fd = _open(path)
    except OSError as e:
        if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return b""
    try:
        return os.pread(fd, nbytes, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_small(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a small file; raise LimitError above ``limit`` bytes."""
    if is_url(text := os.fspath(path)):
        from mapix.remote import read_all

        return read_all(str(text), limit)
    fd = _open(path)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{os.fspath(path)}: not a regular file")
        size = min(found.st_size, limit)
        data = os.read(fd, size + 1)
        if len(data) != size:  # read() may return fewer bytes than there are; and the file may grow
            while len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
                data += more
    finally:
        os.close(fd)
    if len(data) > limit:
        raise LimitError(f"{os.fspath(path)}: the file is larger than the limit of {limit} bytes")
    return data


def is_folder(path: str) -> bool:
    """Return whether a path is a directory; a URL is one if it ends with a slash."""
    return path.endswith("/") if is_url(path) else os.path.isdir(path)


def is_file(path: str) -> bool:
    """Return whether a path is a file, or the URL of an object; a URL costs a request."""
    if not is_url(path):
        return os.path.isfile(path)
    from mapix.remote import opened

    try:
        opened(path)
    except (OSError, MapixError):
        return False
    return True


def path_beside(path: str, name: str) -> str:
    """Return the path of the file of that name in the folder of a file, or beside an object."""
    if not is_url(path):
        return os.path.join(os.path.dirname(path), name)
    plain, mark, query = path.partition("?")
    return f"{plain.rpartition('/')[0]}/{name}{mark}{query}"


def name_of(path: str) -> str:
    """Return the name of a file, or of an object."""
    return os.path.basename(path.partition("?")[0] if is_url(path) else path)


def read_beside(path: str, limit: int) -> bytes | None:
    """Return the content of a small file; None where there is none.

    Raises
    ------
    LimitError
        It has more than ``limit`` bytes.
    """
    if not is_url(path):
        return read_small(path, limit) if os.path.exists(path) else None
    try:
        return read_small(path, limit)
    except (FileNotFoundError, PermissionError):  # some stores refuse what is not there
        return None
