"""New files and directories, whole or not at all.

Everything that touches the disk goes through one small table of calls, ``Calls``, so that a test
can put a model of a disk in its place and look at every state that a power cut may leave.

A directory of files is written under another name beside its place, each file synced, then the
directory; one rename puts it in place, and a sync of the folder above makes that last.  A reader,
or a machine that lost power, sees all of it or nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from mapix.errors import LockedError

__all__ = [
    "SYSTEM",
    "Calls",
    "Closing",
    "HeadLast",
    "NewDirectory",
    "NewFile",
    "NewWhole",
    "Spill",
]

BUFFER_NBYTES = 1 << 20
PIECE_NBYTES = 1 << 20


class Calls(Protocol):
    """What a writer asks of the operating system; all raise OSError."""

    def mkdir(self, path: str) -> None:
        """Make a directory, which must not be there."""

    def open(self, path: str) -> int:
        """Make a file, which must not be there, for writing."""

    def append(self, path: str) -> int:
        """Open a file that is there, for writing at its end."""

    def truncate(self, fd: int, nbytes: int) -> None:
        """Cut a file off."""

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of data at the end; the number of bytes written."""

    def fsync(self, fd: int) -> None:
        """Wait until the file's bytes are on the disk."""

    def close(self, fd: int) -> None:
        """Let go of a descriptor."""

    def fsync_directory(self, path: str) -> None:
        """Wait until the names in a directory are on the disk."""

    def rename(self, old: str, new: str) -> None:
        """Give something another name, in one step."""

    def unlink(self, path: str) -> None:
        """Remove a file."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""


class _System:
    """The operating system itself."""

    mkdir = staticmethod(os.mkdir)
    close = staticmethod(os.close)
    fsync = staticmethod(os.fsync)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    rmdir = staticmethod(os.rmdir)
    write = staticmethod(os.write)
    truncate = staticmethod(os.ftruncate)

    @staticmethod
    def append(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    @staticmethod
    def open(path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who finds it free, finds a dead writer's
        return fd

    @staticmethod
    def fsync_directory(path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


SYSTEM: Calls = _System()


class Closing:
    """A writer in a ``with`` block: closed at its end, undone by an exception."""

    def close(self) -> None:
        """Finish."""
        raise NotImplementedError

    def abort(self) -> None:
        """Undo."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class NewFile:
    """A file that is being written; a new one, or what ``fd`` writes to."""

    def __init__(
        self, path: str, calls: Calls, buffer_nbytes: int, *, fd: int | None = None
    ) -> None:
        self.path = path
        self.nbytes = 0
        self._calls = calls
        self._buffer = bytearray()
        self._buffer_nbytes = buffer_nbytes
        self._fd = calls.open(path) if fd is None else fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it; small pieces are gathered first."""
        new = memoryview(data).cast("B")
        self.nbytes += len(new)
        if len(new) < self._buffer_nbytes:
            self._buffer += new
            if len(self._buffer) >= self._buffer_nbytes:
                self.flush()
        else:
            self.flush()
            self._write(new)

    def flush(self) -> None:
        """Hand over what was gathered."""
        gathered, self._buffer = self._buffer, bytearray()
        self._write(memoryview(gathered))

    def _write(self, left: memoryview) -> None:
        while len(left):  # a short write is gone on with
            n = self._calls.write(self._fd, left)
            if not 0 < n <= len(left):
                raise OSError(f"{self.path}: wrote {n} of {len(left)} bytes")
            left = left[n:]

    def finish(self) -> None:
        """Bring it to the disk, and close it; does nothing when that was done."""
        if self._fd < 0:
            return
        self.flush()
        self._calls.fsync(self._fd)
        self.close()

    def close(self) -> None:
        """Close it as it is."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._calls.close(fd)


class Spill:
    """Bytes put aside in a file of their own, to be read back once; it has no name that stays."""

    def __init__(self, path: str, calls: Calls = SYSTEM) -> None:
        self.path = path
        self.nbytes = 0
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # a dead writer's: nobody else has the lock of what it belongs to
        self._file = NewFile(path, calls, BUFFER_NBYTES)
        self._calls = calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write at the end."""
        self._file.write(data)
        self.nbytes = self._file.nbytes

    def pieces(self, nbytes: int) -> Iterator[bytes]:
        """All of it, from the start."""
        self._file.flush()
        with open(self._file.path, "rb") as f:
            while piece := f.read(nbytes):
                yield piece

    def drop(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._calls.unlink(self._file.path)


class NewWhole(Closing):
    """One new file that appears whole, or not at all.

    Parameters
    ----------
    path : str
        Where it is to appear.
    calls : Calls
        The operating system.
    replace : bool
        Whether what is there already may be replaced; in one step, the old one stays until then.

    Raises
    ------
    FileExistsError
        Something is there already, and is not to be replaced.
    LockedError
        Another writer is at work on the same path.
    """

    def __init__(self, path: str, calls: Calls = SYSTEM, *, replace: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._replace = replace
        self._calls = calls
        self._refuse()
        folder, name = os.path.split(self.path)
        self._folder = folder
        stage = os.path.join(folder, f".{name}.writing")
        try:
            if os.path.lexists(stage):
                self._clear(stage)
            self.file = NewFile(stage, calls, BUFFER_NBYTES)
        except (FileExistsError, BlockingIOError) as e:
            raise LockedError(f"{self.path}: another writer is at work on it") from e
        self.write = self.file.write

    def _clear(self, stage: str) -> None:
        """Remove what a writer that died has left; BlockingIOError where one lives."""
        fd = os.open(stage, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._calls.unlink(stage)
        finally:
            os.close(fd)

    def _refuse(self) -> None:
        if not self._replace and os.path.lexists(self.path):
            raise FileExistsError(f"{self.path} is there already; nothing is overwritten")

    def close(self) -> None:
        """``commit``."""
        self.commit()

    def commit(self) -> None:
        """Let it appear; when anything fails before that, nothing is left behind."""
        try:
            self.file.finish()
            self._refuse()
            self._calls.rename(self.file.path, self.path)
        except BaseException:
            self.abort()
            raise
        self._calls.fsync_directory(self._folder)

    def abort(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._calls.unlink(self.file.path)


class HeadLast(Closing):
    """One new file whose first bytes are known when all others are: these are put aside until then.

    Parameters
    ----------
    path, calls, replace
        As for ``NewWhole``, which it ends in.
    """

    def __init__(self, path: str, calls: Calls = SYSTEM, *, replace: bool = False) -> None:
        self._out = NewWhole(path, calls, replace=replace)
        self.path = self._out.path
        try:
            self._rest = Spill(f"{self._out.file.path}.rows", calls)
        except BaseException:
            self._out.abort()
            raise
        self.write = self._rest.write

    @property
    def staged(self) -> tuple[str, str]:
        """The two files that are being written."""
        return self._out.file.path, self._rest.path

    def finish(
        self,
        head: bytes,
        before: Iterable[bytes | bytearray] = (),
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Put the first bytes in front, and let the file appear; or leave nothing behind.

        Parameters
        ----------
        head : bytes
            The first bytes.
        before : iterable of bytes
            What comes between them and what was written.
        ready : callable
            Called when all is written, before the file appears; what it raises keeps it from that.
        """
        try:
            self._out.write(head)
            for piece in before:
                self._out.write(piece)
            for piece in self._rest.pieces(PIECE_NBYTES):
                self._out.write(piece)
            ready()
        except BaseException:
            self.abort()
            raise
        self._rest.drop()
        self._out.commit()

    def abort(self) -> None:
        """Remove what was written."""
        self._rest.drop()
        self._out.abort()


class NewDirectory:
    """A directory of files that appears whole, or not at all.

    Parameters
    ----------
    path : str
        Where it is to appear; nothing may be there yet.
    calls : Calls
        The operating system.
    buffer_nbytes : int
        Small writes are gathered up to so many bytes a file.

    Raises
    ------
    FileExistsError
        Something is there already.
    LockedError
        Another writer is at work on the same path.
    OSError
        The folder above is missing or cannot be written to.
    """

    def __init__(
        self, path: str, calls: Calls = SYSTEM, *, buffer_nbytes: int = BUFFER_NBYTES
    ) -> None:
        self.path = os.path.abspath(path)
        if os.path.lexists(self.path):
            raise FileExistsError(f"{self.path} is there already; nothing is overwritten")
        self.parent, name = os.path.split(self.path)
        # One name for all writers of a path: whoever finds it locked knows at once, and what a
        # writer that died has left is found and cleared away.
        self.stage = os.path.join(self.parent, f".{name}.writing")
        self._calls = calls
        self._buffer_nbytes = buffer_nbytes
        self._files: list[NewFile] = []
        self._folders: list[str] = []  # below the stage, each behind the one it lies in
        self._lock = self._claim()

    def _claim(self) -> int:
        """Make the stage, or take over that of a writer that died; the locked descriptor."""
        with contextlib.suppress(FileExistsError):
            self._calls.mkdir(self.stage)
        lock = os.open(self.stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock), os.lstat(self.stage)):
                raise BlockingIOError("the other one has just finished")
            for below, folders, files in os.walk(self.stage, topdown=False):
                for left in files:
                    self._calls.unlink(os.path.join(below, left))
                for path in (os.path.join(below, left) for left in folders):
                    link = os.path.islink(path)
                    (self._calls.unlink if link else self._calls.rmdir)(path)
        except (BlockingIOError, FileNotFoundError) as e:
            os.close(lock)
            raise LockedError(f"{self.path}: another writer is at work on it") from e
        except BaseException:
            os.close(lock)
            raise
        return lock

    def file(self, name: str) -> NewFile:
        """A new file in it; folders that ``name`` lies in are made."""
        self._make(os.path.dirname(name))
        new = NewFile(os.path.join(self.stage, name), self._calls, self._buffer_nbytes)
        self._files.append(new)
        return new

    def _make(self, name: str) -> None:
        path = os.path.join(self.stage, name)
        if name and path not in self._folders:
            self._make(os.path.dirname(name))
            self._calls.mkdir(path)
            self._folders.append(path)

    def drop(self, file: NewFile) -> None:
        """Remove one of its files again."""
        file.close()
        self._calls.unlink(file.path)
        self._files.remove(file)

    def commit(self) -> None:
        """Let it appear; on return it is there, and will be after a power cut.

        When anything fails, nothing has appeared, and nothing is left behind, but after the rename:
        if only the sync of the folder above fails, the directory is there and whole, and may be
        gone after a power cut.
        """
        try:
            for new in self._files:
                new.finish()
            for folder in reversed(self._folders):
                self._calls.fsync_directory(folder)
            self._calls.fsync_directory(self.stage)
            if os.path.lexists(self.path):
                raise FileExistsError(f"{self.path} has appeared meanwhile; nothing is overwritten")
            self._calls.rename(self.stage, self.path)
        except BaseException:
            self.abort()
            raise
        try:
            self._calls.fsync_directory(self.parent)
        finally:
            self._let_go()

    def abort(self) -> None:
        """Remove what was written.  Does nothing when it was committed or aborted already."""
        if self._lock < 0:
            return
        try:
            for new in self._files:
                with contextlib.suppress(OSError):
                    new.close()
                with contextlib.suppress(OSError):
                    self._calls.unlink(new.path)
            for folder in (*reversed(self._folders), self.stage):
                with contextlib.suppress(OSError):
                    self._calls.rmdir(folder)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        os.close(lock)
