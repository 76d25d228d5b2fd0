"""Create files and directories that appear complete or not at all, one writer at a time.

A new file or directory is written under a hidden name beside its path, ``.NAME.writing``: the
stage.  When everything in it is on the disk, one rename puts it in place, and a sync of the folder
makes the rename last.  A reader, and a machine that lost power, sees all of it or nothing.

The stage is also the lock of the path.  A writer holds an ``flock`` on it from the moment it is
made until the rename is on the disk.  A stage that nobody has locked was left by a writer that was
killed; the next writer of the same path removes it.  Two rules keep writers apart:

* A writer owns the stage only if it holds the lock *and* the name still means the file that is
  locked.  Both are checked, in this order, after the stage was made or found.
* Only its owner removes or renames a stage, after the name was compared once more.

Every step goes through one table of calls, ``Calls``, so that tests can put a model of a disk in
its place, let any call fail, or run a second writer between any two calls.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from mapix.errors import ClosedError, FileChangedError, LockedError

__all__ = ["SYSTEM", "Calls", "Closing", "NewDirectory", "NewFile", "NewWhole", "Placed", "Spill"]

BUFFER_NBYTES = 1 << 20
RETRY_SECONDS = 0.005  # between two tries to get a lock
NEW_MODE = 0o666  # of a new file; the umask takes away from it
PRIVATE_MODE = 0o600  # of a file that gets the permissions of another before anything is in it


class Calls(Protocol):
    """What a writer asks of the operating system; all raise OSError."""

    def mkdir(self, path: str) -> None:
        """Make a directory; FileExistsError where something is there."""

    def open(self, path: str, mode: int = NEW_MODE) -> int:
        """Make a file and open it for writing; FileExistsError where something is there."""

    def reopen(self, path: str) -> int:
        """Open a file or a directory that is there, in order to lock it; links are not followed."""

    def append(self, path: str) -> int:
        """Open a file that is there, for writing at its end."""

    def scratch(self, path: str) -> int:
        """Open a new file without a name, for writing and reading, in the folder of ``path``.

        ``path`` is used for a moment where the file system has no files without a name.
        """

    def lock(self, fd: int) -> None:
        """Lock what a descriptor is open for; BlockingIOError where somebody else has."""

    def same(self, fd: int, path: str) -> bool:
        """Return whether a path means what a descriptor is open for."""

    def exists(self, path: str) -> bool:
        """Return whether something is there, be it a link that leads nowhere."""

    def like(self, fd: int, path: str) -> None:
        """Give an open file the permissions, the group and the owner of another, where allowed."""

    def size(self, fd: int) -> int:
        """Return the size of an open file in bytes."""

    def truncate(self, fd: int, nbytes: int) -> None:
        """Cut a file off."""

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of data at the end; return how many bytes were written."""

    def overwrite(self, fd: int, data: memoryview, at: int) -> int:
        """Write some of data over the bytes at ``at``; return how many bytes were written."""

    def read(self, fd: int, nbytes: int, at: int) -> bytes:
        """Read some of the bytes at ``at``; return no bytes at the end of the file."""

    def fsync(self, fd: int) -> None:
        """Wait until the file's bytes are on the disk."""

    def close(self, fd: int) -> None:
        """Let go of a descriptor, and of its lock."""

    def fsync_directory(self, path: str) -> None:
        """Wait until the names in a directory are on the disk."""

    def rename(self, old: str, new: str) -> None:
        """Give something another name, in one step; a file of that name is replaced."""

    def appear(self, old: str, new: str) -> None:
        """Give something another name, in one step; FileExistsError where something has it."""

    def unlink(self, path: str) -> None:
        """Remove a file."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""

    def rmtree(self, path: str) -> None:
        """Remove a directory and everything in it; links in it are removed, not followed."""


class _System:
    """The operating system itself."""

    mkdir = staticmethod(os.mkdir)
    close = staticmethod(os.close)
    exists = staticmethod(os.path.lexists)
    fsync = staticmethod(os.fsync)
    overwrite = staticmethod(os.pwrite)
    read = staticmethod(os.pread)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    rmdir = staticmethod(os.rmdir)
    write = staticmethod(os.write)
    truncate = staticmethod(os.ftruncate)

    @staticmethod
    def append(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    @staticmethod
    def open(path: str, mode: int = NEW_MODE) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, mode)

    @staticmethod
    def reopen(path: str) -> int:
        flags = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, os.O_RDWR | flags)  # NFS locks only what may be written to
        except (PermissionError, IsADirectoryError):
            return os.open(path, os.O_RDONLY | flags)

    @staticmethod
    def scratch(path: str) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(os.path.dirname(path), flags | os.O_TMPFILE, PRIVATE_MODE)
        except OSError as e:
            # FUSE, NFS and old kernels: the flag is not known there
            if e.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # left by a killed writer: the caller holds the lock of what it is for
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_MODE)
        os.unlink(path)
        return fd

    @staticmethod
    def lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @staticmethod
    def same(fd: int, path: str) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(path))
        except FileNotFoundError:
            return False

    @staticmethod
    def size(fd: int) -> int:
        return os.fstat(fd).st_size

    @staticmethod
    def like(fd: int, path: str) -> None:
        try:
            old, new = os.stat(path), os.fstat(fd)
        except FileNotFoundError:  # removed meanwhile
            return
        mode = stat.S_IMODE(old.st_mode) & 0o777
        if old.st_uid != new.st_uid:
            with contextlib.suppress(PermissionError):
                os.fchown(fd, old.st_uid, -1)
        if old.st_gid != new.st_gid:
            try:
                os.fchown(fd, -1, old.st_gid)
            except PermissionError:  # another group gets no more than everybody
                mode = mode & ~0o070 | (mode & 0o007) << 3 & mode
        with contextlib.suppress(PermissionError):  # FAT and some mounts have no permissions
            os.fchmod(fd, mode)

    @staticmethod
    def rmtree(path: str) -> None:
        import shutil  # here: much to import for what most processes never do

        shutil.rmtree(path)  # by descriptors: nobody can put a link in its way

    @staticmethod
    def fsync_directory(path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @staticmethod
    def appear(old: str, new: str) -> None:
        rename = _renameat2()
        error = errno.ENOSYS if rename is None else rename(os.fsencode(old), os.fsencode(new))
        # an old kernel, a file system or a sandbox without it: the lock keeps other writers away
        if error in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            if not os.path.lexists(new):
                os.rename(old, new)
                return
            error = errno.EEXIST
        if error:
            raise OSError(error, os.strerror(error), new)


@functools.cache
def _renameat2() -> Callable[[bytes, bytes], int] | None:
    """Return the system call that renames and replaces nothing, as a function that returns errno.

    None where the C library does not have it.
    """
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    at_cwd, no_replace = -100, 1

    def rename(old: bytes, new: bytes) -> int:
        return ctypes.get_errno() if call(at_cwd, old, at_cwd, new, no_replace) else 0

    return rename


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
    """A file that is being written: a new one, or what ``fd`` writes to, from its end on.

    Parameters
    ----------
    path : str
        The file.
    calls : Calls
        The operating system.
    buffer_nbytes : int
        Writes smaller than this are gathered.
    fd : int, optional
        A descriptor; it is closed with the file.
    before : int
        Bytes that the file has already.
    """

    def __init__(
        self,
        path: str,
        calls: Calls,
        buffer_nbytes: int,
        *,
        fd: int | None = None,
        before: int = 0,
    ) -> None:
        self.path = path
        self.nbytes = 0  #: written through this object
        self._before = before
        self._calls = calls
        self._buffer = bytearray()
        self._buffer_nbytes = buffer_nbytes
        self._fd = calls.open(path) if fd is None else fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of data; small pieces are gathered first."""
        if self._fd < 0:
            raise ClosedError(f"{self.path}: the writer is closed")
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

    def _write(self, data: memoryview) -> None:
        self._all(data, lambda left: self._calls.write(self._fd, left))

    def overwrite(self, data: bytes) -> None:
        """Write over the first bytes of what was written; the size stays."""
        self.flush()
        n = len(data)
        self._all(
            memoryview(data), lambda left: self._calls.overwrite(self._fd, left, n - len(left))
        )

    def _all(self, left: memoryview, write: Callable[[memoryview], int]) -> None:
        while len(left):  # a short write is gone on with
            n = write(left)
            if not 0 < n <= len(left):
                raise OSError(errno.EIO, f"{n} of {len(left)} bytes were written", self.path)
            left = left[n:]

    def pieces(self, nbytes: int) -> Iterator[bytes]:
        """Read the file from its start; its descriptor has to be one for reading."""
        self.flush()
        at = 0
        while piece := self._calls.read(self._fd, nbytes, at):
            at += len(piece)
            yield piece
        self._compare(at)

    def sync(self) -> None:
        """Bring the file to the disk.

        Raises
        ------
        FileChangedError
            The file has another size than was written: somebody else has written to it.
        """
        self.flush()
        self._calls.fsync(self._fd)
        self._compare(self._calls.size(self._fd))

    def _compare(self, found: int) -> None:
        expected = self._before + self.nbytes
        if found != expected:
            raise FileChangedError(
                self.path, f"{expected} bytes were written, the file has {found}; write it again"
            )

    def finish(self) -> None:
        """Bring the file to the disk and close it; do nothing if that was done before."""
        if self._fd >= 0:
            self.sync()
            self.close()

    def close(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            fd = self._fd
            self.forget()
            self._calls.close(fd)

    def forget(self) -> None:
        """Use the descriptor no more: somebody else closes it."""
        self._fd, self._buffer = -1, bytearray()


class Spill:
    """Bytes put aside in a file without a name, to be read back once.

    Parameters
    ----------
    path : str
        A name beside it that no other writer uses; see ``Calls.scratch``.
    calls : Calls
        The operating system.
    """

    def __init__(self, path: str, calls: Calls = SYSTEM) -> None:
        self._file = NewFile(path, calls, BUFFER_NBYTES, fd=calls.scratch(path))
        self.write = self._file.write
        self.pieces = self._file.pieces

    @property
    def nbytes(self) -> int:
        """Bytes written so far."""
        return self._file.nbytes

    def drop(self) -> None:
        """Close the file, and with that remove it."""
        with contextlib.suppress(OSError):
            self._file.close()


class Stage:
    """The hidden name beside a path under which a writer works; also the lock of the path.

    Parameters
    ----------
    path : str
        Where something is to appear; absolute.
    said : str
        The path as the user wrote it, for messages.
    calls : Calls
        The operating system.
    mode : int, optional
        Permissions of a file; None makes a directory.

    Raises
    ------
    LockedError
        Another writer is at work on the same path.

    Attributes
    ----------
    path : str
        The hidden name.
    fd : int
        The descriptor that holds the lock; -1 after ``release``.
    """

    def __init__(self, path: str, said: str, calls: Calls, mode: int | None = NEW_MODE) -> None:
        folder, name = os.path.split(path)
        self.path = os.path.join(folder, f".{name}.writing")
        self.fd = -1
        self._said = said
        self._calls = calls
        try:
            if not self._make(mode):
                self._clear()
                if not self._make(mode):
                    raise BlockingIOError("another writer was faster")
        except BlockingIOError as e:
            raise LockedError(f"{said}: another writer is at work on it") from e

    def _make(self, mode: int | None) -> bool:
        """Make the file or directory and lock it; return False if something has the name."""
        try:
            fd = self._new_directory() if mode is None else self._calls.open(self.path, mode)
        except FileExistsError:
            return False
        try:
            self._own(fd)
        except BlockingIOError:  # before it was locked, another took it for a dead writer's
            self._calls.close(fd)
            raise
        except BaseException:  # where locks do not work, nobody else can have it
            self.fd = fd
            self.abandon()
            raise
        return True

    def _new_directory(self) -> int:
        self._calls.mkdir(self.path)
        try:
            return self._reopen()
        except OSError:
            with contextlib.suppress(OSError):
                self._calls.rmdir(self.path)
            raise

    def _reopen(self) -> int:
        """Open what has the name; BlockingIOError if it has just gone."""
        try:
            return self._calls.reopen(self.path)
        except FileNotFoundError as e:
            raise BlockingIOError("the other writer has just finished") from e

    def _own(self, fd: int) -> None:
        """Lock what a descriptor is open for; BlockingIOError unless the name still means it."""
        self._calls.lock(fd)
        if not self._calls.same(fd, self.path):
            raise BlockingIOError("the other writer has just finished")
        self.fd = fd

    def _clear(self) -> None:
        """Remove what a killed writer left; BlockingIOError if its writer lives."""
        fd = self._reopen()
        try:
            self._own(fd)
            self._remove()
        finally:
            self.fd = -1
            self._calls.close(fd)

    def _remove(self) -> None:
        """Remove what has the name, if it is what is locked."""
        if not self._calls.same(self.fd, self.path):
            return
        if os.path.isdir(self.path):  # a link cannot be locked, so that it is none
            self._calls.rmtree(self.path)
        else:
            self._calls.unlink(self.path)

    def check(self) -> None:
        """Raise FileChangedError unless the name means what is locked."""
        if not self._calls.same(self.fd, self.path):
            reason = f"somebody removed {self.path}, where it was being written; write it again"
            raise FileChangedError(self._said, reason)

    def release(self) -> None:
        """Let go of the lock."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # what counts was synced before
                self._calls.close(fd)

    def abandon(self) -> None:
        """Remove what has the name, as far as the system allows it, and let go of the lock."""
        try:
            if self.fd >= 0:
                with contextlib.suppress(OSError):
                    self._remove()
        finally:
            self.release()


class Placed(NamedTuple):
    """A file that a writer has put in its place, to be told from a later one of the same name."""

    path: str
    stamp: tuple[int, ...] | None

    def withdraw(self, calls: Calls = SYSTEM) -> None:
        """Remove the file, unless somebody has changed or replaced it since."""
        if self.stamp is not None and _stamp(self.path) == self.stamp:
            with contextlib.suppress(OSError):
                calls.unlink(self.path)


class _New(Closing):
    """Something that appears at a path, complete or not at all.

    Attributes
    ----------
    said : str
        The path as the user wrote it.
    path : str
        The same, absolute: a later chdir does no harm.
    placed : Placed, optional
        What has appeared; None before.
    ready : callable
        Called when everything is on the disk, just before it appears.  If it raises, nothing
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
            raise FileExistsError(f"{self.said} is there already; nothing is overwritten")

    def _sync(self) -> None:
        """Bring everything to the disk."""
        raise NotImplementedError

    def close(self) -> None:
        """``commit``."""
        self.commit()

    def commit(self) -> None:
        """Let it appear.  On return it is there, and will be after a power cut.

        If anything fails before the rename, nothing has appeared and nothing is left.  If only the
        sync of the folder fails, it is there and complete, and may be gone after a power cut;
        ``placed`` tells the two apart.  Does nothing if it has appeared before.

        Raises
        ------
        FileExistsError
            Something is there already, and is not to be replaced.
        FileChangedError
            Somebody else has removed or changed what was being written.
        ClosedError
            ``abort`` was called before.
        """
        if self.placed is not None:
            return
        if self._stage.fd < 0:
            raise ClosedError(f"{self.said}: the writer is closed")
        try:
            self._sync()
            self._stage.check()
            self.ready()
            place = self._calls.rename if self._replace else self._calls.appear
            try:
                place(self._stage.path, self.path)
            except FileExistsError:
                self._refuse()
                raise
        except BaseException:
            self.abort()
            raise
        self.placed = Placed(self.path, _stamp(self._stage.fd))
        try:
            self._calls.fsync_directory(os.path.dirname(self.path))
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._stage.release()

    def abort(self) -> None:
        """Remove what was written.  Does nothing after ``commit`` or ``abort``."""
        self._stage.abandon()
        self._let_go()


def _stamp(file: str | int) -> tuple[int, ...] | None:
    """Return what tells a file from a later one of the same name; None if there is none."""
    try:
        s = os.stat(file, follow_symlinks=isinstance(file, int))
    except OSError:
        return None
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns


class NewWhole(_New):
    """One new file that appears complete, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        Where the file is to appear.
    calls : Calls
        The operating system.
    replace : bool
        Whether a file that is there may be replaced.  It is replaced in one step, and stays until
        then.  A symbolic link is followed: what it leads to is replaced.  The new file gets the
        permissions of the old one, and its group and owner where the system allows that.
    patience : float
        Seconds to wait for another writer of the same path.

    Raises
    ------
    FileExistsError
        Something is there already, and is not to be replaced.
    LockedError
        Another writer is at work on the same path.

    Attributes
    ----------
    file : NewFile
        What is being written.
    head : bytes
        Written over the first bytes by ``commit``: for headers that are known last.

    Notes
    -----
    The path is locked from here on until ``commit`` or ``abort``.  To change a file, make this
    first, then read the file, then write.
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
        self.file = NewFile(self._stage.path, calls, BUFFER_NBYTES, fd=self._stage.fd)
        self.write = self.file.write
        self.head = b""
        try:
            self._refuse()  # another writer may have finished before this one had the lock
            if old:
                calls.like(self._stage.fd, self.path)
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
        """Return a name beside the file that no other writer uses, for ``Spill``."""
        return f"{self._stage.path}.{name}"

    def _sync(self) -> None:
        self.file.overwrite(self.head)
        self.file.sync()

    def _let_go(self) -> None:
        super()._let_go()
        self.file.forget()


class NewDirectory(_New):
    """A directory of files that appears complete, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        Where it is to appear; nothing may be there yet.
    calls : Calls
        The operating system.
    buffer_nbytes : int
        Small writes are gathered up to so many bytes per file.

    Raises
    ------
    FileExistsError
        Something is there already.
    LockedError
        Another writer is at work on the same path.
    OSError
        The folder above is missing or cannot be written to.

    Attributes
    ----------
    stage : str
        The directory under its hidden name.
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
        self._folders: list[str] = []  # below the stage, each after the one it lies in
        self._stage = Stage(self.path, self.said, calls, None)
        self.stage = self._stage.path
        try:
            self._refuse()  # another writer may have finished before this one had the lock
        except BaseException:
            self.abort()
            raise

    def file(self, name: str) -> NewFile:
        """Make a file in it, and the folders that ``name`` lies in."""
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

    def adopt(self) -> None:
        """Take over what a library has written below ``stage``: it is synced before it appears."""
        for below, folders, files in os.walk(self.stage):
            self._folders += [os.path.join(below, name) for name in folders]
            for path in (os.path.join(below, name) for name in files):
                nbytes = os.path.getsize(path)
                fd = self._calls.append(path)
                self._files.append(NewFile(path, self._calls, 0, fd=fd, before=nbytes))
                self._files[-1].finish()

    def _sync(self) -> None:
        for new in self._files:
            new.finish()
        for folder in reversed(self._folders):
            self._calls.fsync_directory(folder)
        self._calls.fsync_directory(self.stage)

    def abort(self) -> None:
        """Remove what was written.  Does nothing after ``commit`` or ``abort``."""
        for new in self._files:
            with contextlib.suppress(OSError):
                new.close()
        super().abort()
