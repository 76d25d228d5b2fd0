"""Open files below one directory by names that come from a data file.

No name leads out of the directory.  ``source`` maps the files that are opened here.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable

from mapix import descriptors
from mapix.copies import FolderCopies
from mapix.errors import FileChangedError, LimitError
from mapix.locations import absolute

__all__ = ["ABSENT", "Root"]

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
ABSENT = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES)
)
"""Numbers of the errors of a name without a file that may be read; a disk that fails has others."""
MOST_LINKS = 40  # symbolic links followed on the path to one file, as in Linux


class Root:
    """Open files below a directory; a name that leads out of it is an error.

    Absolute names, ``..`` and symbolic links that lead out are refused: by the kernel
    (``openat2``), or by Python code that opens one component at a time.  Files that are not regular
    are refused too, and opening never blocks.  Links that stay below the directory are followed.

    Parameters
    ----------
    path : str or os.PathLike
        A directory.
    """

    __slots__ = ("_copies", "_is", "_key", "full_path", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.full_path = absolute(self.path)
        self._copies: FolderCopies[tuple[bytes, os.stat_result]] = FolderCopies()
        key = self._key = id(self)
        fd = _folder(self.path)
        try:
            found = os.fstat(fd)
            self._is = found.st_dev, found.st_ino
        except BaseException:
            os.close(fd)
            raise
        descriptors.keep(key, fd)

    def __del__(self, close: Callable[[int], None] = descriptors.close) -> None:
        close(getattr(self, "_key", 0))

    def _again(self) -> int:
        """Open the directory again; raise FileChangedError if it was replaced."""
        fd = _folder(self.full_path)
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != self._is:
                raise FileChangedError(self.path, "another directory has its path; open it again")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open(self, name: str) -> int:
        """Open a regular file for reading and return its descriptor, which the caller closes.

        Raises
        ------
        OSError
            There is no such file, it is not a regular file, or the name leads out of the directory
            (EXDEV).
        """
        try:
            raw = os.fsencode(name)
        except UnicodeEncodeError as e:
            raise OSError(errno.EILSEQ, f"{name!r} is not a valid file name", self.path) from e
        parts = raw.split(b"/")
        if not parts[0] or b".." in parts or b"\0" in raw:
            raise self._leaves(name)
        try:
            fd = descriptors.opened(self._open, raw, parts)
        except FileChangedError:
            raise
        except OSError as e:
            if e.errno == errno.EXDEV:
                raise self._leaves(name) from e
            raise OSError(e.errno, os.strerror(e.errno or 0), self._named(name)) from e
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(f"{self._named(name)}: not a regular file")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _open(self, name: bytes, parts: list[bytes]) -> int:
        # The directory's descriptor is out of the pool meanwhile, so no other thread can close it;
        # another thread opens its own.
        key = self._key
        root = descriptors.take(key)
        if root < 0:
            root = self._again()
        try:
            fd = _by_kernel(root, name)
            return _by_components(root, parts) if fd is None else fd
        finally:
            descriptors.keep(key, root)

    def held(self, name: str) -> tuple[bytes, os.stat_result] | None:
        """Return a file of a snapshot, as ``read`` found it when the snapshot was made.

        None if the directory was not opened for a snapshot, or the snapshot is being made.
        """
        return self._copies.held(name, self._named)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file; raise LimitError above ``limit`` bytes."""
        held = self.held(name)
        if held is not None:
            return held[0]
        fd = self.open(name)
        try:
            data = _read_all(fd, limit, self._named(name))
            if self._copies.wants(name):
                self._copies.hold(name, len(data), (data, os.fstat(fd)))
        finally:
            os.close(fd)
        return data

    def first(self, name: str, nbytes: int) -> bytes:
        """Return the first bytes of a file; all of a shorter one."""
        held = self.held(name)
        if held is not None:
            return held[0][:nbytes]
        fd = self.open(name)
        try:
            return os.pread(fd, nbytes, 0)
        finally:
            os.close(fd)

    def nbytes(self, name: str) -> int:
        """Return the size of a file in bytes."""
        held = self.held(name)
        if held is not None:
            return len(held[0])
        fd = self.open(name)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _named(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _leaves(self, name: str) -> OSError:
        reason = f"the name {name!r} leaves the folder, or could"
        return OSError(errno.EXDEV, reason, self.path)


def _folder(path: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return descriptors.opened(os.open, path, flags)


def _read_all(fd: int, limit: int, path: str) -> bytes:
    size = os.fstat(fd).st_size
    if size > limit:
        raise LimitError(f"{path}: the file has {size} bytes, above the limit of {limit} bytes")
    data = os.read(fd, size + 1)
    if len(data) != size:
        # read() may return fewer bytes than there are; otherwise the file changed
        pieces = [data]
        while pieces[-1] and sum(map(len, pieces)) <= size:
            pieces.append(os.read(fd, size + 1))
        data = b"".join(pieces)
    if len(data) != size:
        raise FileChangedError(
            path, f"the file had {size} bytes, and {len(data)} while it was read; read it again"
        )
    return data


# of directories on the way to a file; systems without O_PATH open them for reading
PASSING_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
SYS_OPENAT2 = 437  # the same number on all architectures except alpha
RESOLVE = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_openat2: Callable[[int, bytes], int] | bool | None = True  # True: not searched for yet


def _find_openat2() -> Callable[[int, bytes], int] | None:
    """Return the system call as a function that returns a descriptor; None if there is none."""
    if sys.platform != "linux":  # the number is another call there
        return None
    import ctypes
    import struct

    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    syscall.restype = ctypes.c_long
    how = struct.pack("=3Q", READ_FLAGS, 0, RESOLVE)
    number, size = ctypes.c_long(SYS_OPENAT2), ctypes.c_size_t(len(how))

    def call(fd: int, name: bytes) -> int:
        found = int(syscall(number, ctypes.c_int(fd), ctypes.c_char_p(name), how, size))
        if found < 0:
            raise OSError(ctypes.get_errno(), "openat2")
        return found

    return call


def _by_kernel(fd: int, name: bytes) -> int | None:
    """Open by ``openat2``; return None if the kernel lacks it, forbids it or was disturbed."""
    global _openat2
    if _openat2 is True:
        _openat2 = _find_openat2()
    if not callable(_openat2):
        return None
    try:
        while True:
            try:
                return _openat2(fd, name)
            except InterruptedError:
                continue
    except OSError as e:
        if e.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG):
            _openat2 = None  # an old kernel, or a sandbox
            return None
        if e.errno == errno.EAGAIN:  # another process renamed a component of the path
            return None
        raise


def _by_components(root: int, parts: list[bytes]) -> int:
    """Do what ``openat2`` does, one component at a time; ``..`` in a link returns to the parent."""
    left, links = parts[::-1], 0
    way: list[int] = []  # descriptors of the directories between root and the current one
    try:
        while True:
            part = left.pop()
            here = way[-1] if way else root
            if part in (b"", b"."):
                if left:
                    continue
                part = b"."
            if part == b"..":
                if not way:
                    raise OSError(errno.EXDEV, "a link leads out of the folder")
                os.close(way.pop())
                left = left or [b"."]
                continue
            flags = PASSING_FLAGS if left else READ_FLAGS
            way.append(-1)  # its place, as there might be no memory for it later
            try:
                found = os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            except OSError as e:
                way.pop()
                if e.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                link = _link(part, here, e)
                links += 1
                if link.startswith(b"/"):
                    raise OSError(errno.EXDEV, "a link leads out of the folder") from e
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, "too many links") from e
                left += link.split(b"/")[::-1]
                continue
            if not left:
                return found
            way[-1] = found
    finally:
        k = len(way)
        while k:  # neither an iterator nor pop(), which allocate
            k -= 1
            if way[k] >= 0:
                descriptors.shut(way[k])


def _link(name: bytes, fd: int, error: OSError) -> bytes:
    """Return the target of a link; raise ``error`` if it is not a link."""
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:
        raise error from None
