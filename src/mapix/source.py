"""The only opener: a file is opened read-only, looked at, and mapped here, and nowhere else.

Knows no format.  A mapping lives until the last array that aliases it dies, also after
``Source.close()``; it is never unmapped under anybody.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mapix import _native, descriptors
from mapix.errors import ClosedError, FileChangedError, LimitError
from mapix.rooted import Root, absolute

__all__ = [
    "Fingerprint",
    "Mapping",
    "Source",
    "absolute",
    "peek",
    "read_small",
    "same_time",
    "sample",
]

WARM_STEP = 64 << 20  # bytes brought in between two looks at Ctrl-C
SAMPLES = 32  # blocks of a file that stand for its content
SAMPLE_NBYTES = 4096
COARSE_NS = 2_000_000_000  # the times of zip and FAT; those of tar are whole seconds

ADVICE = {
    "random": mmap.MADV_RANDOM,
    "sequential": mmap.MADV_SEQUENTIAL,
    "normal": mmap.MADV_NORMAL,
}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file was when it was opened, as fstat reports it, and a sample of its bytes.

    ``sample`` is None in the fingerprint of an open file. It is taken for fingerprints that are
    stored (``Source.identity``), so that the same content can be recognised elsewhere.
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
        """From a stat result."""
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
        """What moved between self and ``now``, in words; None when the bytes can be the same.

        A ctime that moved alone is harmless when permissions, owner or link count explain it (a
        chmod, a hard link, the file being replaced by a rename while we hold the old one); without
        such an explanation somebody may have written and put the mtime back.
        """
        if (self.dev, self.ino) != (now.dev, now.ino):
            return "the file was replaced by another one"
        if self.size != now.size:
            return f"the file had {self.size} bytes, now it has {now.size}"
        if self.mtime_ns != now.mtime_ns:
            return "the file was written to (its modification time moved)"
        explained = (self.mode, self.uid, self.gid, self.nlink) != (
            now.mode,
            now.uid,
            now.gid,
            now.nlink,
        )
        if self.ctime_ns != now.ctime_ns and not explained:
            return "the file was touched (its change time moved, its modification time did not)"
        return None


class _Kept(mmap.mmap):
    """A map that goes when its last array goes, and not before."""

    def close(self) -> None:
        """Refused: numpy keeps the map itself as the base of its arrays, without an export."""
        raise BufferError("arrays may alias this map; it is unmapped when the last one dies")


def _reserved(nbytes: int, path: str) -> _Kept:
    """Memory that a file is going to be mapped in; it needs no descriptor."""
    try:
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        return _Kept(-1, nbytes, flags=kind, prot=mmap.PROT_READ)
    except OSError as e:
        raise OSError(e.errno, f"cannot map: {e.strerror}", path) from e


def _fill(memory: _native.CData, nbytes: int, fd: int, path: str) -> None:
    """Map a file in reserved memory; errors name it, which the system's own do not."""
    try:
        try:
            _native.map_file(memory, nbytes, fd, shared=True)
        except OSError as e:
            if e.errno != errno.ENODEV:
                raise
            # FUSE with direct I/O has private maps alone; nothing is written, so they are alike
            _native.map_file(memory, nbytes, fd, shared=False)
    except OSError as e:
        raise OSError(e.errno, f"cannot map: {e.strerror}", path) from e


def _open(path: str | os.PathLike[str] | bytes) -> int:
    # O_NONBLOCK: opening a FIFO must not hang; for regular files it means nothing.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    return descriptors.opened(lambda: os.open(path, flags))


class Mapping:
    """The memory mapped from a file: alive as long as anything refers to it.

    Its descriptor is kept among those of the files that were opened last (``descriptors``).  While
    it is there, changes are seen through it; afterwards through the path, as long as that leads to
    the same device and inode: the map keeps the inode in use, so that no other file can have it.
    """

    __slots__ = (
        *("_buffer", "_located", "_mmap", "_place", "_sample"),
        *("advice", "cmap", "fingerprint", "full_path", "limited", "nbytes", "path", "view"),
    )

    def __init__(self, path: str, full_path: str, limit: int | None = None, fd: int = -1) -> None:
        self.path = path
        self.full_path = full_path
        self.advice = "open it again"  # what errors recommend when the file changed
        if fd < 0:
            fd = _open(path)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{path}: not a regular file")
            self.fingerprint = Fingerprint.of(found)
            # One number for everything: the size of the descriptor that is mapped.
            self.nbytes = found.st_size if limit is None else limit
            if self.nbytes > found.st_size:
                raise FileChangedError(path, "the file was cut while it was being opened")
            # An empty file cannot be mapped; it has nothing to read either.
            self._mmap = _reserved(self.nbytes, path) if self.nbytes else None
            data: mmap.mmap | bytes = b"" if self._mmap is None else self._mmap
            # Read-only memory exports read-only buffers: no array over them can be made writable.
            self.view = memoryview(data)
            self._buffer = _native.buffer_of(data)
            if self.nbytes:
                _fill(self._buffer, self.nbytes, fd, path)
        except BaseException:
            os.close(fd)
            raise
        self.limited = limit is not None
        self._sample: int | None = None
        self._place = _native.c_path(full_path)
        # of a file that somebody appends to nobody asks whether it changed: it does
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
        """The map and its address, together: another thread may settle() at any time."""
        known = self._located
        if known is None:
            cmap = self.cmap
            known = self._located = (cmap, _native.address_of(cmap))
        return known

    def __del__(self, close: Callable[[int], None] = descriptors.close) -> None:
        close(id(self))

    def advise(self, access: str) -> None:
        """Tell the kernel how the file will be read: random, sequential or normal."""
        if self._mmap is not None:
            self._mmap.madvise(ADVICE[access])

    def sample(self) -> int:
        """Return ``sample`` of the file, which is taken once.

        Raises
        ------
        FileChangedError
            The file was changed or cut, also since then.
        """
        if self._sample is None:
            self._sample = sample(self, self.nbytes)
        else:
            _native.check(self)
        return self._sample

    def settle(self) -> None:
        """After a C call found the file changed: take over a harmless change, for another try.

        Raises
        ------
        FileChangedError
            The bytes may be others.
        """
        found = self._status()
        now = Fingerprint.of(found)
        moved = self.fingerprint.difference(now)
        if moved is not None:
            raise FileChangedError(self.path, f"{moved}; {self.advice}")
        self.fingerprint = now
        self._describe(found)

    def _status(self) -> os.stat_result:
        """The file as it is now: by its descriptor, or where that was closed by its path."""
        was = self.fingerprint
        fd = descriptors.held(id(self))
        if fd >= 0:
            with contextlib.suppress(OSError):  # closed just now
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) == (was.dev, was.ino):
                    return found
        try:
            found = os.stat(self.full_path)
        except OSError as e:
            reason = f"the file cannot be checked any more ({e.strerror}); {self.advice}"
            raise FileChangedError(self.path, reason) from e
        if (found.st_dev, found.st_ino) != (was.dev, was.ino):
            reason = "another file has its path, and it cannot be checked any more"
            raise FileChangedError(self.path, f"{reason}; {self.advice}")
        return found

    def guarded(self, call: Callable[[_native.CData], int]) -> int:
        """Run a C call over the map; its status, or FileChangedError where the file moved."""
        while (status := call(self.cmap)) == _native.CHANGED:
            self.settle()
        return status


def sample(mapping: Mapping, nbytes: int) -> int:
    """Return the CRC32C of the first ``nbytes`` of a file: of all, or of 32 blocks of 4 KiB.

    The blocks are the first one, the last one, and one in each of 30 equal stretches between them,
    at places that depend on ``nbytes`` alone. Up to 128 KiB the bytes are read completely.

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
    """Return whether two times in ns are equal, or one may be the other after an archive had it.

    tar and zip, and some file systems, cut times down to whole seconds, or to every second one.
    """
    early, late = min(a, b), max(a, b)
    return a == b or (late - early < COARSE_NS and early % 1_000_000_000 == 0)


def _moved(expect: Fingerprint, mapping: Mapping) -> str | None:
    """How a file differs from the one expected, in words; None when it is the same content."""
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
    """One file, opened read-only and mapped.

    Once it is mapped it needs no descriptor; see ``Mapping``.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file.
    expect : Fingerprint, optional
        The file that it has to be; anything else raises FileChangedError. With a sample
        (``Source.identity``), a copy that has the same size, modification time and sampled bytes
        is that file, whatever its device, inode and change time.
    limit : int, optional
        How many of its bytes count: behind them somebody is appending.  Such a file changes all the
        time, and is not looked at for changes; the guard against cut files stays.
    root : Root, optional
        A directory that the file has to lie beneath; ``path`` is then a name in it.

    Raises
    ------
    OSError
        The file cannot be opened or mapped, or is not a regular file.
    FileChangedError
        It is not the file that ``expect`` tells of.

    Attributes
    ----------
    path : str
        As it was given: for messages.
    full_path : str
        The same from the root of the file system, for all that opens the file again: right also
        after the working directory was changed.
    """

    __slots__ = ("_mapping", "_view", "full_path", "path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        expect: Fingerprint | None = None,
        limit: int | None = None,
        root: Root | None = None,
    ) -> None:
        self.path = os.fspath(path)
        if root is not None:
            fd = root.open(self.path)
            self.full_path = os.path.join(root.full_path, self.path)
            self.path = os.path.join(root.path, self.path)
            mapping = Mapping(self.path, self.full_path, limit, fd)
        else:
            self.full_path = absolute(self.path)
            mapping = Mapping(self.path, self.full_path, limit)
        moved = None if expect is None else _moved(expect, mapping)
        if moved is not None:
            raise FileChangedError(self.path, f"{moved} since the dataset was opened")
        self._mapping: Mapping | None = mapping
        self._view: memoryview | None = mapping.view

    @classmethod
    def unnamed(cls, fd: int, path: str, nbytes: int) -> Source:
        """Map the first bytes of an open file without a name, which nobody else has.

        ``fd`` is the source's from here on; ``path`` is for messages.
        """
        made = cls.__new__(cls)
        made.path = made.full_path = path
        made._mapping = Mapping(path, path, nbytes, fd)
        made._view = made._mapping.view
        return made

    @property
    def mapping(self) -> Mapping:
        """The live mapping; hold it in a local while using it, so that close() cannot take it."""
        mapping = self._mapping
        if mapping is None:
            raise ClosedError(f"{self.path}: the dataset is closed")
        return mapping

    @property
    def view(self) -> memoryview:
        """The bytes of the file, read-only."""
        view = self._view
        if view is None:
            raise ClosedError(f"{self.path}: the dataset is closed")
        return view

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes, as it was opened."""
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
        """What the file was when it was opened."""
        return self.mapping.fingerprint

    @property
    def identity(self) -> Fingerprint:
        """The fingerprint with a sample of the bytes: ``expect`` of the same file elsewhere.

        Cost: at most 32 blocks of 4 KiB are read, the first time.
        """
        mapping = self.mapping
        return replace(mapping.fingerprint, sample=mapping.sample())

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._mapping is None

    def confirm(self) -> None:
        """Raise FileChangedError unless the path still means this very file, unchanged.

        For writers that are about to replace the file by another one made from it.
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
            reason = f"{moved} since it was opened; it stays as it is: open it again"
            raise FileChangedError(self.path, reason)

    def close(self) -> None:
        """Let go of the file.  Arrays that alias it keep it mapped until the last one dies."""
        self._mapping = None
        self._view = None

    def warm(self) -> Iterator[int]:
        """Bring the file into the page cache, front to back; yields the bytes done so far.

        In order, because a cache that is filled in order holds large pages: later random reads are
        then up to 1.5 times as fast, and first touches 7 times.
        """
        mapping = self.mapping
        mapping.advise("sequential")
        try:
            for at in range(0, mapping.nbytes, WARM_STEP):
                step = min(WARM_STEP, mapping.nbytes - at)
                _native.warm(mapping, at, step)
                yield at + step
        finally:
            mapping.advise("random")


def peek(path: str | os.PathLike[str], nbytes: int) -> bytes:
    """The first bytes of a regular file; fewer where it is shorter, none where it is none."""
    try:
        fd = _open(path)
    except OSError as e:
        if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):  # says nothing about the file
            raise
        return b""
    try:
        return os.pread(fd, nbytes, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_small(path: str | os.PathLike[str], limit: int) -> bytes:
    """A whole small file as bytes, refused with LimitError above ``limit`` bytes."""
    fd = _open(path)
    with os.fdopen(fd, "rb") as f:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{os.fspath(path)}: not a regular file")
        data = f.read(limit + 1)
    if len(data) > limit:
        raise LimitError(f"{os.fspath(path)}: larger than the limit of {limit} bytes")
    return data
