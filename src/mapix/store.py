"""Create files and directories that appear complete or not at all, one writer at a time.

A new file or directory is written under a hidden name beside its path, ``.NAME.writing``: the
stage.  When everything in it is on the disk, one rename moves it to its path, and a sync of the
folder makes the rename durable.  A reader, also after a power cut, sees all of it or nothing.

The stage is also the lock of the path.  A writer holds an ``flock`` on it from the moment the stage
is created until the rename is on the disk.  A stage without a lock was left by a writer that was
killed; the next writer of the same path removes it.  Two rules keep writers apart:

* A writer owns the stage only if it holds the lock *and* the name still refers to the locked file.
  Both are checked, in this order, after the stage was created or found.
* Only its owner removes or renames a stage, after it compared the name once more.

Whatever is opened here belongs to a ``Descriptor``.  Python raises MemoryError wherever it
allocates: a writer can be lost between the end of its constructor and ``with``, and ``abort`` can
fail, too.  A writer that is lost keeps no lock, and what it leaves is that of a killed one.

Every step goes through one table of calls: see ``system_calls``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from threading import RLock
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from mapix.errors import ClosedError, FileChangedError, LockedError, MapixError
from mapix.system_calls import NEW_MODE, PRIVATE_MODE, SYSTEM, Calls

__all__ = [
    "SYSTEM",
    "Calls",
    "Closing",
    "Descriptor",
    "NewDirectory",
    "NewFile",
    "NewSet",
    "NewWhole",
    "Placed",
    "Spill",
    "check_no_set",
    "one_at_a_time",
]

BUFFER_NBYTES = 1 << 20
MOVED = ".moved"  # in the stage of a set: what is moved, and its stamps
RETRY_SECONDS = 0.005  # between two tries to get a lock


class Closing:
    """Base class of writers: ``with`` closes at its end, and aborts after an exception.

    Threads may share a writer: methods take ``_turn`` by ``with``, or by ``one_at_a_time``.
    """

    _turn: RLock

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Make the lock: ``__init__`` of a writer may fail, and abort, at any point."""
        made = super().__new__(cls)
        made._turn = RLock()
        return made

    def close(self) -> None:
        """Finish the file."""
        raise NotImplementedError

    def abort(self) -> None:
        """Undo what was written."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.close()
        except BaseException:
            self.abort()
            raise


class Descriptor:
    """A descriptor that is closed when nothing refers to it any longer, if not before.

    Closing it releases its lock.  What it was opened for stays on the disk: after a fork it may
    belong to the other process.  Nothing is allocated after it was opened, nor to close it.

    Parameters
    ----------
    calls : Calls
        The operating system.
    opening : callable, optional
        The call that opens it, with its arguments.  Without one there is no descriptor yet.

    Attributes
    ----------
    fd : int
        The descriptor; -1 when there is none.
    """

    __slots__ = ("_calls", "fd")

    def __init__(
        self, calls: Calls, opening: Callable[..., int] | None = None, *arguments: object
    ) -> None:
        self.fd = -1
        self._calls = calls
        if opening is not None:
            self.fd = opening(*arguments)

    def close(self) -> None:
        """Close the descriptor.  Does nothing if there is none."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._calls.close(fd)

    def __del__(self) -> None:
        try:  # noqa: SIM105  (suppress() allocates: without memory the lock would stay)
            self.close()
        except (OSError, AttributeError):  # without memory for __init__ there are no attributes
            pass


Writer = TypeVar("Writer", bound=Closing)
Found = TypeVar("Found")


def one_at_a_time(method: Callable[[Writer], Found]) -> Callable[[Writer], Found]:
    """Let a method of a writer run in one thread at a time.

    It allocates nothing, unlike ``with``: a writer must be able to end without memory.
    """

    @functools.wraps(method)
    def in_turn(self: Writer) -> Found:
        self._turn.acquire()
        try:
            return method(self)
        finally:
            self._turn.release()

    return in_turn


class NewFile:
    """Write to the end of a file: of a new one, or of the one that is open.

    Parameters
    ----------
    path : str
        The file.
    calls : Calls
        The operating system.
    buffer_nbytes : int
        Smaller writes are collected in a buffer of this size.
    descriptor : Descriptor, optional
        Of the file.  Whoever has it may close it, which also closes this object.
    before : int
        Size in bytes of the file at this moment.
    """

    def __init__(
        self,
        path: str,
        calls: Calls,
        buffer_nbytes: int,
        *,
        descriptor: Descriptor | None = None,
        before: int = 0,
    ) -> None:
        self.path = path
        self.nbytes = 0  #: bytes written through this object
        self._before = before
        self._calls = calls
        self._buffer: memoryview | None = None  # made once: growing it would take longest
        self._buffered = 0
        self._buffer_nbytes = buffer_nbytes
        self._failure = ""  # of an earlier write
        self._descriptor = descriptor or Descriptor(calls, calls.open, path)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of data; small pieces are buffered.

        When it fails, the file cannot be finished: an unknown part of data may be in it.
        """
        if self._descriptor.fd < 0:
            raise ClosedError(f"{self.path}: the writer is closed")
        try:
            self._add(data)
        except BaseException as e:
            self._failure = f"{type(e).__name__} {e}"
            raise

    def _add(self, data: bytes | bytearray | memoryview) -> None:
        new = data if isinstance(data, bytes) else memoryview(data)
        if isinstance(new, memoryview):
            if not new.nbytes:  # such a view cannot be cast
                return
            new = new.cast("B")
        nbytes = len(new)
        self.nbytes += nbytes
        if self._buffered + nbytes > self._buffer_nbytes:
            self.flush()
        if nbytes >= self._buffer_nbytes:
            self._write(memoryview(new))
            return
        if self._buffer is None:
            self._buffer = memoryview(bytearray(self._buffer_nbytes))
        begin, self._buffered = self._buffered, self._buffered + nbytes
        self._buffer[begin : self._buffered] = new

    def flush(self) -> None:
        """Write the buffered bytes."""
        buffered, self._buffered = self._buffered, 0
        if self._buffer is not None:
            self._write(self._buffer[:buffered])

    def _write(self, data: memoryview) -> None:
        while len(data):
            data = self._rest(data, self._calls.write(self._descriptor.fd, data))

    def overwrite(self, data: bytes) -> None:
        """Overwrite the first bytes of the file; its size stays the same."""
        self.flush()
        left = memoryview(data)
        while len(left):
            at = len(data) - len(left)
            left = self._rest(left, self._calls.overwrite(self._descriptor.fd, left, at))

    def _rest(self, data: memoryview, n: int) -> memoryview:
        """Return what is left to write; the system may write fewer bytes than it was given."""
        if not 0 < n <= len(data):
            raise OSError(errno.EIO, f"{n} of {len(data)} bytes were written", self.path)
        return data[n:]

    def pieces(self, nbytes: int) -> Iterator[bytes]:
        """Yield the bytes of the file from its start; the descriptor must be open for reading."""
        self.flush()
        at = 0
        while piece := self._calls.read(self._descriptor.fd, nbytes, at):
            at += len(piece)
            yield piece
        self._compare(at)

    def sync(self) -> None:
        """Flush the file to the disk.

        Raises
        ------
        FileChangedError
            The size of the file is not what was written: another process has written to it.
        MapixError
            An earlier write failed.
        """
        if self._failure:
            raise MapixError(f"{self.path}: writing failed before: {self._failure}; write it again")
        self.flush()
        self._calls.fsync(self._descriptor.fd)
        self._compare(self._calls.size(self._descriptor.fd))

    def _compare(self, found: int) -> None:
        expected = self._before + self.nbytes
        if found != expected:
            raise FileChangedError(
                self.path, f"{expected} bytes were written, the file has {found}; write it again"
            )

    def finish(self) -> None:
        """Flush the file to the disk and close it.  Does nothing if the file is closed."""
        if self._descriptor.fd >= 0:
            self.sync()
            self.close()

    def close(self) -> None:
        """Close the file without flushing the buffer."""
        self._buffer, self._buffered = None, 0
        self._descriptor.close()


class Spill:
    """Store bytes in a file without a name, and read them back.

    Parameters
    ----------
    path : str
        A path in the same folder that no other writer uses; see ``Calls.scratch``.
    calls : Calls
        The operating system.
    """

    def __init__(self, path: str, calls: Calls = SYSTEM) -> None:
        held = Descriptor(calls, calls.scratch, path)
        self._file = NewFile(path, calls, BUFFER_NBYTES, descriptor=held)
        self.write = self._file.write
        self.pieces = self._file.pieces

    @property
    def nbytes(self) -> int:
        """Number of bytes written so far."""
        return self._file.nbytes

    def drop(self) -> None:
        """Close the file, which also removes it."""
        with contextlib.suppress(OSError):
            self._file.close()


class Stage:
    """Create and lock the hidden file or directory in which a writer works.

    Parameters
    ----------
    path : str
        The absolute path at which the new file or directory will appear.
    said : str
        The path as the user wrote it, for messages.
    calls : Calls
        The operating system.
    mode : int, optional
        Permissions of a file; None creates a directory.
    before_clearing : callable, optional
        Called with the stage of a killed writer, which is locked, before it is removed.

    Raises
    ------
    LockedError
        Another writer is at work on the same path.

    Attributes
    ----------
    path : str
        The hidden path.
    descriptor : Descriptor
        Of the hidden file or directory.  It holds the lock until ``release``.
    """

    def __init__(
        self,
        path: str,
        said: str,
        calls: Calls,
        mode: int | None = NEW_MODE,
        before_clearing: Callable[[str], object] = lambda _: None,
    ) -> None:
        folder, name = os.path.split(path)
        self.path = os.path.join(folder, f".{name}.writing")
        self.descriptor = Descriptor(calls)
        self._said = said
        self._calls = calls
        try:
            if not self._make(mode):
                self._clear(before_clearing)
                if not self._make(mode):
                    raise BlockingIOError("another writer created it first")
        except BlockingIOError as e:
            raise LockedError(f"{said}: another writer is at work on it; try again later") from e

    def _make(self, mode: int | None) -> bool:
        """Create the file or directory and lock it; return False if the path exists."""
        try:
            if mode is None:
                self._make_directory()
            else:
                self.descriptor.fd = self._calls.open(self.path, mode)
        except FileExistsError:
            return False
        try:
            self._own()
        except BlockingIOError:  # another writer removed it between creation and lock
            self.release()
            raise
        except BaseException:  # locks do not work here, so no other writer can own it
            self.abandon()
            raise
        return True

    def _make_directory(self) -> None:
        self._calls.mkdir(self.path)
        try:
            self._reopen()
        except BaseException:
            with contextlib.suppress(OSError):
                self._calls.rmdir(self.path)
            raise

    def _reopen(self) -> None:
        """Open the hidden path; raise BlockingIOError if it has just disappeared."""
        try:
            self.descriptor.fd = self._calls.reopen(self.path)
        except FileNotFoundError as e:
            raise BlockingIOError("the other writer has just finished") from e

    def _own(self) -> None:
        """Lock the open file; raise BlockingIOError if the path refers to another one by now."""
        self._calls.lock(self.descriptor.fd)
        if not self._calls.same(self.descriptor.fd, self.path):
            raise BlockingIOError("the other writer has just finished")

    def _clear(self, before: Callable[[str], object]) -> None:
        """Remove the stage of a killed writer; raise BlockingIOError if the writer is alive."""
        self._reopen()
        try:
            self._own()
            before(self.path)
            self._remove()
        finally:
            self.release()

    def _remove(self) -> None:
        """Remove the file or directory at the hidden path, if it is the locked one."""
        if not self._calls.same(self.descriptor.fd, self.path):
            return
        if os.path.isdir(self.path):  # not a link to one: links cannot be locked
            self._calls.rmtree(self.path)
        else:
            self._calls.unlink(self.path)

    def check(self) -> None:
        """Raise FileChangedError unless the hidden path refers to the locked file."""
        if not self._calls.same(self.descriptor.fd, self.path):
            reason = f"another process removed {self.path} before it was complete; write it again"
            raise FileChangedError(self._said, reason)

    def release(self) -> None:
        """Release the lock."""
        try:  # noqa: SIM105  (suppress() allocates: without memory the lock would stay)
            self.descriptor.close()
        except OSError:  # everything was synced before
            pass

    def abandon(self) -> None:
        """Remove the stage, as far as the system allows it, and release the lock."""
        try:
            if self.descriptor.fd >= 0:
                with contextlib.suppress(OSError):
                    self._remove()
        finally:
            self.release()


class Placed(NamedTuple):
    """A finished file, with a stamp that a later file at the same path does not have."""

    path: str
    stamp: tuple[int, ...] | None

    def withdraw(self, calls: Calls = SYSTEM) -> None:
        """Remove the file, unless it was changed or replaced since."""
        if self.stamp is not None and _stamp(self.path) == self.stamp:
            with contextlib.suppress(OSError):
                calls.unlink(self.path)


class _New(Closing):
    """Base class of a file or directory that appears at its path complete, or not at all.

    Attributes
    ----------
    said : str
        The path as the user wrote it.
    path : str
        The absolute path, so that a later chdir has no effect.
    placed : Placed, optional
        The file or directory after it has appeared; None before.
    ready : callable
        Called when everything is on the disk, just before the rename.  If it raises, nothing
        appears.
    """

    _stage: Stage

    def __init__(self, path: str | os.PathLike[str], calls: Calls, *, replace: bool) -> None:
        self.said = os.fspath(path)
        self.path = os.path.abspath(self.said)
        self.placed: Placed | None = None
        self.ready: Callable[[], object] = lambda: None
        self._calls = calls
        self._replace = replace
        self._refuse()

    def _refuse(self) -> None:
        if not self._replace and self._calls.exists(self.path):
            raise FileExistsError(f"{self.said} exists already; nothing was overwritten")

    def _check_open(self) -> None:
        if self._stage.descriptor.fd < 0:
            raise ClosedError(f"{self.said}: the writer is closed")

    def _sync(self) -> None:
        """Flush everything to the disk."""
        raise NotImplementedError

    def close(self) -> None:
        """Call ``commit``."""
        self.commit()

    def commit(self) -> None:
        """Make the file or directory appear at its path, durably.

        If anything fails before the rename, nothing appears and nothing is left.  If only the sync
        of the folder fails, the path exists and is complete, but may disappear in a power cut;
        ``placed`` is then set.  Does nothing after an earlier ``commit``.

        Raises
        ------
        FileExistsError
            The path exists already and must not be replaced.
        FileChangedError
            Another process has removed or changed the stage.
        ClosedError
            ``abort`` was called before.
        """
        if self.placed is not None:
            return
        self._check_open()
        try:
            self._sync()
            self._stage.check()
            self.ready()
            try:
                self._place()
            except FileExistsError:
                self._refuse()
                raise
        except BaseException:
            self.abort()
            raise
        try:
            self.placed = Placed(self.path, _stamp(self._stage.descriptor.fd))
            self._calls.fsync_directory(os.path.dirname(self.path))
        finally:
            self._let_go()

    def _place(self) -> None:
        """Move the stage to the path."""
        place = self._calls.rename if self._replace else self._calls.appear
        place(self._stage.path, self.path)

    def _let_go(self) -> None:
        self._stage.release()

    def abort(self) -> None:
        """Remove everything that was written.  Does nothing after ``commit`` or ``abort``."""
        self._stage.abandon()
        self._let_go()


def _stamp(file: str | int) -> tuple[int, ...] | None:
    """Return device, inode, size and modification time; None if the file does not exist."""
    try:
        s = os.stat(file, follow_symlinks=isinstance(file, int))
    except OSError:
        return None
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns


class NewWhole(_New):
    """Write one new file that appears complete, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        The path at which the file will appear.
    calls : Calls
        The operating system.
    replace : bool
        Whether an existing file may be replaced.  It is replaced in one step, and stays until
        then.  A symbolic link is followed: its target is replaced.  The new file gets the
        permissions of the old one, and its group and owner where the system allows that.
    patience : float
        Seconds to wait for another writer of the same path.

    Raises
    ------
    FileExistsError
        The path exists already and must not be replaced.
    LockedError
        Another writer is at work on the same path.

    Attributes
    ----------
    file : NewFile
        The file in the stage.
    head : bytes
        ``commit`` overwrites the first bytes of the file with it: for headers that are known last.

    Notes
    -----
    The path is locked until ``commit`` or ``abort``.  To change a file, create this object first,
    then read the file, then write.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        calls: Calls = SYSTEM,
        *,
        replace: bool = False,
        patience: float = 0.0,
    ) -> None:
        super().__init__(path, calls, replace=replace)
        if replace and os.path.islink(self.path):
            self.path = os.path.realpath(self.path)
        old = replace and calls.exists(self.path)
        self._stage = self._claim(PRIVATE_MODE if old else NEW_MODE, time.monotonic() + patience)
        held = self._stage.descriptor
        try:
            self.file = NewFile(self._stage.path, calls, BUFFER_NBYTES, descriptor=held)
            self.write = self.file.write
            self.head = b""
            self._refuse()  # another writer may have finished before this one had the lock
            if old:
                calls.like(held.fd, self.path)
        except BaseException:
            self.abort()
            raise

    def _claim(self, mode: int, deadline: float) -> Stage:
        while True:
            try:
                return Stage(self.path, self.said, self._calls, mode)
            except LockedError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(RETRY_SECONDS)

    def beside(self, name: str) -> str:
        """Return a path in the same folder that no other writer uses, for ``Spill``."""
        return f"{self._stage.path}.{name}"

    def _sync(self) -> None:
        self.file.overwrite(self.head)
        self.file.sync()


class NewDirectory(_New):
    """Write a new directory of files that appears complete, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        The path at which the directory will appear; it must not exist yet.
    calls : Calls
        The operating system.
    buffer_nbytes : int
        Small writes are buffered, up to this many bytes per file.

    Raises
    ------
    FileExistsError
        The path exists already.
    LockedError
        Another writer is at work on the same path.
    OSError
        The parent folder is missing or cannot be written to.

    Attributes
    ----------
    stage : str
        The hidden path of the directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        calls: Calls = SYSTEM,
        *,
        buffer_nbytes: int = BUFFER_NBYTES,
    ) -> None:
        super().__init__(path, calls, replace=False)
        self._buffer_nbytes = buffer_nbytes
        self._files: list[NewFile] = []
        self._folders: list[str] = []  # below the stage, parents first
        self._stage = Stage(self.path, self.said, calls, None, self._before_clearing)
        self.stage = self._stage.path
        try:
            self._refuse()  # another writer may have finished before this one had the lock
        except BaseException:
            self.abort()
            raise

    def _before_clearing(self, stage: str) -> None:
        """Do what is due before the stage of a killed writer is removed."""

    def file(self, name: str) -> NewFile:
        """Create a file in the directory, with the folders of ``name``; ClosedError at the end."""
        self._check_open()
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
        """Remove one of the files again."""
        file.close()
        self._calls.unlink(file.path)
        self._files.remove(file)

    def adopt(self) -> None:
        """Include files that another library has written below ``stage``, and sync them."""
        for below, folders, files in os.walk(self.stage):
            self._folders += [os.path.join(below, name) for name in folders]
            for path in (os.path.join(below, name) for name in files):
                nbytes = os.path.getsize(path)
                held = Descriptor(self._calls, self._calls.append, path)
                new = NewFile(path, self._calls, 0, descriptor=held, before=nbytes)
                self._files.append(new)
                new.finish()

    def _sync(self) -> None:
        for new in self._files:
            new.finish()
        for folder in reversed(self._folders):
            self._calls.fsync_directory(folder)
        self._calls.fsync_directory(self.stage)

    def abort(self) -> None:
        """Remove everything that was written.  Does nothing after ``commit`` or ``abort``."""
        for new in self._files:
            with contextlib.suppress(OSError):
                new.close()
        super().abort()


class NewSet(NewDirectory):
    """Write numbered files or directories side by side that appear together, or not at all.

    Each is written below ``stage`` under its name, by a writer of its own that commits it.  The
    entries are then moved to their folder, the first of the set last: a set whose first entry is
    there is complete, also after a power cut.  Of a writer that is killed before, the next writer
    of the path removes what was moved: a list in the stage has its inodes.

    Parameters
    ----------
    path : str or os.PathLike
        The path from which the names of the set are made.  It is locked, and does not appear.
    names : tuple of str
        What each name begins and ends with, around its number ``00000-of-00010``.
    calls : Calls
        The operating system.

    Raises
    ------
    FileExistsError
        There is an entry of a set of these names, of any number.
    LockedError
        Another writer is at work on the same path.
    OSError
        The parent folder is missing or cannot be written to.
    """

    def __init__(
        self, path: str | os.PathLike[str], names: tuple[str, str], calls: Calls = SYSTEM
    ) -> None:
        self._names = names
        self._stuck = False  # whether entries that were moved cannot be moved back
        super().__init__(path, calls)

    def _refuse(self) -> None:
        if "_stage" in vars(self):  # what a killed writer left is removed before
            check_no_set(self.said, self._names, self._calls)

    def _before_clearing(self, stage: str) -> None:
        folder, path = os.path.dirname(self.path), os.path.join(stage, MOVED)
        if os.stat(stage).st_uid != os.geteuid():  # a list of another user is not believed
            return
        try:
            held = Descriptor(self._calls, self._calls.reopen, path)
        except OSError:  # it was killed before
            return
        nbytes = self._calls.size(held.fd)
        written = NewFile(path, self._calls, 0, descriptor=held, before=nbytes)
        import json  # here: whoever opens a file imports this module, too

        try:
            moved = json.loads(b"".join(written.pieces(BUFFER_NBYTES)))
        except ValueError:  # the list is not complete: nothing was moved
            return
        finally:
            written.close()
        first = min(moved, default="")
        if _moved_stamp(folder, stage, first) == moved[first]:  # the set is complete
            return
        for name, stamp in moved.items():
            if stamp is not None and _moved_stamp(folder, stage, name) == stamp:
                self._calls.rename(os.path.join(folder, name), os.path.join(stage, name))

    def _place(self) -> None:
        folder, names = os.path.dirname(self.path), sorted(self._calls.listdir(self.stage))
        stamps = {name: _stamp(os.path.join(self.stage, name)) for name in names}
        import json  # here, as above

        self.file(MOVED).write(json.dumps(stamps).encode())
        self._sync()
        try:
            for name in reversed(names):
                if name == names[0]:
                    self._calls.fsync_directory(folder)
                self._calls.appear(os.path.join(self.stage, name), os.path.join(folder, name))
        except BaseException:
            self._stuck = True
            for name in names:
                hidden = os.path.join(self.stage, name)
                if not self._calls.exists(hidden):
                    self._calls.rename(os.path.join(folder, name), hidden)
            self._stuck = False
            raise

    def abort(self) -> None:
        """Remove everything that was written.  Does nothing after ``commit`` or ``abort``.

        If entries cannot be moved back, the stage stays, as that of a killed writer: without it,
        these entries would look like those of a set whose first one was removed.
        """
        if self._stuck:
            self._stage.release()
        else:
            super().abort()

    def _let_go(self) -> None:
        if self.placed is not None:
            with contextlib.suppress(OSError):
                self._calls.unlink(os.path.join(self.stage, MOVED))
                self._calls.rmdir(self.stage)
        super()._let_go()


def _moved_stamp(folder: str, stage: str, name: str) -> list[int] | None:
    """Return the stamp of an entry that was moved from a stage to its folder, else None."""
    found = (
        None if os.path.lexists(os.path.join(stage, name)) else _stamp(os.path.join(folder, name))
    )
    return None if found is None else list(found)


def check_no_set(path: str, names: tuple[str, str], calls: Calls = SYSTEM) -> None:
    """Raise FileExistsError if an entry of a set of these names is there: see ``NewSet``."""
    begin, end = map(re.escape, names)
    pattern = re.compile(rf"{begin}\d{{5}}-of-\d{{5}}{end}")
    folder = os.path.dirname(path)
    old = sorted(filter(pattern.fullmatch, calls.listdir(os.path.abspath(folder))))
    if old:
        there = os.path.join(folder, old[0])
        raise FileExistsError(f"{there} exists already; nothing was overwritten")
