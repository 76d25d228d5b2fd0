"""The calls of the operating system that writers use, collected in one table.

A writer never calls ``os`` itself. It calls the methods of a ``Calls`` object, so that a test can
replace the operating system by a model of a disk, let any one call fail, or run a second writer
between any two calls.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
from collections.abc import Callable
from typing import Protocol

__all__ = ["NEW_MODE", "PRIVATE_MODE", "SYSTEM", "Calls"]

NEW_MODE = 0o666  # permissions of a new file; the umask takes some of them away
PRIVATE_MODE = 0o600  # permissions of a new file until it gets those of the file that it replaces


class Calls(Protocol):
    """The calls of the operating system that a writer makes; each raises OSError on failure."""

    def mkdir(self, path: str) -> None:
        """Create a directory; raise FileExistsError if the path exists."""

    def open(self, path: str, mode: int = NEW_MODE) -> int:
        """Create a file and open it for writing; raise FileExistsError if the path exists."""

    def reopen(self, path: str) -> int:
        """Open an existing file or directory in order to lock it; do not follow links."""

    def append(self, path: str) -> int:
        """Open an existing file for writing at its end."""

    def scratch(self, path: str) -> int:
        """Open a new file without a name, for writing and reading, in the folder of ``path``.

        If the file system has no files without a name, the file is created at ``path`` and unlinked
        at once.
        """

    def lock(self, fd: int) -> None:
        """Lock an open file or directory; raise BlockingIOError if another process holds it."""

    def same(self, fd: int, path: str) -> bool:
        """Return whether a path refers to the file that a descriptor is open for."""

    def exists(self, path: str) -> bool:
        """Return whether the path exists; a dangling link counts."""

    def like(self, fd: int, path: str) -> None:
        """Copy permissions, group and owner of ``path`` to an open file, where allowed."""

    def size(self, fd: int) -> int:
        """Return the size of an open file in bytes."""

    def truncate(self, fd: int, nbytes: int) -> None:
        """Truncate a file to ``nbytes``."""

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of data at the end; return how many bytes were written."""

    def overwrite(self, fd: int, data: memoryview, at: int) -> int:
        """Write some of data over the bytes at ``at``; return how many bytes were written."""

    def read(self, fd: int, nbytes: int, at: int) -> bytes:
        """Read some of the bytes at ``at``; return no bytes at the end of the file."""

    def fsync(self, fd: int) -> None:
        """Wait until the file's bytes are on the disk."""

    def close(self, fd: int) -> None:
        """Close a descriptor, which releases its lock."""

    def fsync_directory(self, path: str) -> None:
        """Wait until the names in a directory are on the disk."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory."""

    def rename(self, old: str, new: str) -> None:
        """Rename in one step; a file at the new path is replaced."""

    def appear(self, old: str, new: str) -> None:
        """Rename in one step; raise FileExistsError if the new path exists."""

    def unlink(self, path: str) -> None:
        """Remove a file."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""

    def rmtree(self, path: str) -> None:
        """Remove a directory and everything in it; links are removed, not followed."""


class _System:
    """The operating system itself."""

    mkdir = staticmethod(os.mkdir)
    listdir = staticmethod(os.listdir)
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
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(os.path.dirname(path), flags | os.O_TMPFILE, PRIVATE_MODE)
            except OSError as e:
                # FUSE, NFS and old kernels do not know the flag
                if e.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                    raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # left by a killed writer: the caller holds the lock of its stage
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
            except PermissionError:  # the wrong group gets no more permissions than all others
                mode = mode & ~0o070 | (mode & 0o007) << 3 & mode
        with contextlib.suppress(PermissionError):  # FAT and some mounts have no permissions
            os.fchmod(fd, mode)

    @staticmethod
    def rmtree(path: str) -> None:
        import shutil  # here, because most processes never need it and it takes long to import

        shutil.rmtree(path)  # works with descriptors, so that a link put in its way is not followed

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
        # Old kernels, file systems and sandboxes without the call: the lock excludes other writers
        if error in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            if not os.path.lexists(new):
                os.rename(old, new)
                return
            error = errno.EEXIST
        if error:
            raise OSError(error, os.strerror(error), new)


@functools.cache
def _renameat2() -> Callable[[bytes, bytes], int] | None:
    """Return the system call that renames without replacing, as a function that returns errno.

    None if the C library does not have it.
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
