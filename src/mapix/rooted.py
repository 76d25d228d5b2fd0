"""Names that a file tells: opened beneath one directory, whatever they say.

The other opener beside ``source.py``, which maps what is opened here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from mapix import descriptors
from mapix.errors import FileChangedError, LimitError

__all__ = ["Root", "absolute"]

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
MOST_LINKS = 40  # symbolic links followed on the way to one file, as in Linux


class Root:
    """A directory, and the files beneath it: no name leads out of it.

    Absolute names, ``..`` and symbolic links that leave are refused, by the kernel itself
    (``openat2``) where it can, else by a walk of our own, a component at a time; so are things that
    are no regular files, without waiting for any of them.  Links that stay beneath are followed.

    Parameters
    ----------
    path : str or os.PathLike
        A directory.
    """

    __slots__ = ("_is", "full_path", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.full_path = absolute(self.path)
        fd = _folder(self.path)
        found = os.fstat(fd)
        self._is = found.st_dev, found.st_ino
        descriptors.keep(id(self), fd)

    def __del__(self, close: Callable[[int], None] = descriptors.close) -> None:
        close(id(self))

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        """The directory, open: the one that it was, or FileChangedError.

        Nobody else has the descriptor meanwhile, so that nobody closes it; another thread opens one
        of its own.
        """
        fd = descriptors.take(id(self))
        if fd < 0:
            fd = _folder(self.full_path)
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != self._is:
                os.close(fd)
                raise FileChangedError(self.path, "another directory has its path; open it again")
        try:
            yield fd
        finally:
            descriptors.keep(id(self), fd)

    def open(self, name: str) -> int:
        """A descriptor of a regular file, for reading; the caller's to close.

        Raises
        ------
        OSError
            There is no such file, it is no regular file, or the name leaves the directory (EXDEV).
        """
        try:
            raw = os.fsencode(name)
        except UnicodeEncodeError as e:
            raise OSError(errno.EILSEQ, f"{name!r} is no name of a file", self.path) from e
        parts = raw.split(b"/")
        if not parts[0] or b".." in parts or b"\0" in raw:
            raise self._leaves(name)
        try:
            fd = descriptors.opened(lambda: self._open(raw, parts))
        except FileChangedError:
            raise
        except OSError as e:
            if e.errno == errno.EXDEV:
                raise self._leaves(name) from e
            raise OSError(e.errno, os.strerror(e.errno or 0), self._named(name)) from e
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(f"{self._named(name)}: not a regular file")
        return fd

    def _open(self, name: bytes, parts: list[bytes]) -> int:
        with self._descriptor() as root:
            fd = _beneath(root, name)
            return _walk(root, parts) if fd is None else fd

    def read(self, name: str, limit: int) -> bytes:
        """A whole file as bytes, refused with LimitError above ``limit``."""
        fd = self.open(name)
        try:
            return _read_all(fd, limit, self._named(name))
        finally:
            os.close(fd)

    def nbytes(self, name: str) -> int:
        """Size of a file."""
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


def absolute(path: str) -> str:
    """A path from the root of the file system, component by component as it was given."""
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _folder(path: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return descriptors.opened(lambda: os.open(path, flags))


def _read_all(fd: int, limit: int, path: str) -> bytes:
    size = os.fstat(fd).st_size
    if size > limit:
        raise LimitError(f"{path}: {size} bytes, more than the limit of {limit} bytes")
    data = os.read(fd, size + 1)
    if len(data) != size:
        # read() may give less than there is, but a file that fits the limit comes at once or moved
        pieces = [data]
        while pieces[-1] and sum(map(len, pieces)) <= size:
            pieces.append(os.read(fd, size + 1))
        data = b"".join(pieces)
    if len(data) != size:
        raise FileChangedError(path, f"the file had {size} bytes, while it was read {len(data)}")
    return data


SYS_OPENAT2 = 437  # the same number on all machines but alpha
RESOLVE = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_openat2: Callable[[int, bytes], int] | bool | None = True  # True: not looked for yet


def _find_openat2() -> Callable[[int, bytes], int] | None:
    """The system call, as a function that gives a descriptor or raises OSError; None without it."""
    import ctypes
    import struct

    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    syscall.restype = ctypes.c_long
    how = struct.pack("=3Q", READ, 0, RESOLVE)
    number, size = ctypes.c_long(SYS_OPENAT2), ctypes.c_size_t(len(how))

    def call(fd: int, name: bytes) -> int:
        found = int(syscall(number, ctypes.c_int(fd), ctypes.c_char_p(name), how, size))
        if found < 0:
            raise OSError(ctypes.get_errno(), "openat2")
        return found

    return call


def _beneath(fd: int, name: bytes) -> int | None:
    """``openat2``; None where the kernel does not have it, does not let us, or was disturbed."""
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
        if e.errno == errno.EAGAIN:  # somebody renamed something on the way
            return None
        raise


def _walk(root: int, parts: list[bytes]) -> int:
    """What ``openat2`` does, a component at a time; ``..`` of a link goes back the way we came."""
    left, links = parts[::-1], 0
    way: list[int] = []  # descriptors of the directories between root and here
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
                    raise OSError(errno.EXDEV, "a link that leaves")
                os.close(way.pop())
                left = left or [b"."]
                continue
            flags = os.O_PATH | os.O_DIRECTORY if left else READ
            try:
                found = os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            except OSError as e:
                if e.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                link = _link(part, here, e)
                links += 1
                if link.startswith(b"/"):
                    raise OSError(errno.EXDEV, "a link that leaves") from e
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, "too many links") from e
                left += link.split(b"/")[::-1]
                continue
            if not left:
                return found
            way.append(found)
    finally:
        for fd in way:
            os.close(fd)


def _link(name: bytes, fd: int, error: OSError) -> bytes:
    """Where a link leads to; ``error`` when it is none."""
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:
        raise error from None
