"""Open, read and name files by their paths, or by the URLs of remote objects."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from mapix import _native, descriptors
from mapix.errors import LimitError, MapixError
from mapix.locations import is_url

# O_NONBLOCK: opening a FIFO must not hang; for regular files it has no effect.
READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
FRONT_NBYTES = 512  # of a file, by which it is recognised
END_NBYTES = 16 << 10  # of a file, of which opening reads headers and trailers


class Entry(Protocol):
    """Describe what ``scan`` yields: the part of ``os.DirEntry`` that URLs have, too."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def path(self) -> str:
        """Its path; that of a folder below a URL ends with a slash."""

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a folder."""

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a file."""


def open_file(path: str | os.PathLike[str] | bytes) -> int:
    """Return a descriptor for reading; where there are too many, close others of mapix."""
    try:
        return os.open(path, READ_FLAGS)
    except OSError as e:
        if e.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    return descriptors.opened(os.open, path, READ_FLAGS)


def opened(path: str, nfront: int = FRONT_NBYTES, *, wait: bool = True) -> _native.OpenFile:
    """Open a file for reading and read its first bytes; the caller closes it.

    Where there are too many descriptors, others of mapix are closed.  Without ``wait``, first bytes
    that are not in memory are asked for, and read by ``OpenFile.read``.
    """
    raw, file = os.fsencode(path), _native.OpenFile()
    while reason := file.open(raw, nfront, wait=wait):
        _retry(reason, path)
    return file


def opened_index(
    path: str, owner: tuple[int, int, int], nbytes: int, options: bytes
) -> _native.OpenFile:
    """Open a stored index, as ``opened``, and read its header: see ``OpenFile.open_index``."""
    raw, file = os.fsencode(path), _native.OpenFile()
    while reason := file.open_index(raw, owner, nbytes, options):
        _retry(reason, path)
    return file


def _retry(reason: int, path: str) -> None:
    """Return if opening a file may succeed now; else raise OSError."""
    many = reason in (errno.EMFILE, errno.ENFILE)
    if reason != errno.EINTR and not (many and descriptors.close_oldest()):
        raise OSError(reason, os.strerror(reason), path)


def taken(open: Callable[[], int]) -> _native.OpenFile:
    """Read the first bytes of a file that a function opens; the caller closes it."""
    file = _native.OpenFile()
    file.take(open, FRONT_NBYTES)
    return file


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
        fd = open_file(path)
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
    fd = open_file(path)
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


def ask_for_ends(path: str) -> None:
    """Have the kernel read both ends of a local file, in the background.

    Of many files that are opened after that, one after the other, none waits for the disk.  A file
    that cannot be opened is not an error here.
    """
    if is_url(path) or not hasattr(os, "posix_fadvise"):
        return
    try:
        fd = open_file(path)
    except OSError:
        return
    try:
        nbytes = os.fstat(fd).st_size
        os.posix_fadvise(fd, 0, END_NBYTES, os.POSIX_FADV_WILLNEED)
        if nbytes > END_NBYTES:
            begin = max(nbytes - END_NBYTES, END_NBYTES)
            os.posix_fadvise(fd, begin, nbytes - begin, os.POSIX_FADV_WILLNEED)
    except OSError:  # a pipe
        pass
    finally:
        os.close(fd)


def is_listed(folder: str) -> bool:
    """Return whether ``scan`` lists a folder: not of the URL of a web server.

    Of the URL of an object store it costs a request, unless the folder was listed just before.
    """
    if not is_url(folder):
        return True
    from mapix import remote

    return remote.is_listed(folder)


def scan(folder: str) -> AbstractContextManager[Iterator[Entry]]:
    """Return the entries of a folder, as ``os.scandir`` does, also of the URL of one.

    Raises
    ------
    OSError
        It is not there, or cannot be listed.
    LimitError
        More than two million objects are below the URL.
    """
    if not is_url(folder):
        return os.scandir(folder)
    from mapix import remote

    return contextlib.nullcontext(remote.entries(folder))


def is_folder(path: str) -> bool:
    """Return whether a path is a directory; a URL is one if it ends with a slash."""
    return path.endswith("/") if is_url(path) else os.path.isdir(path)


def is_file(path: str) -> bool:
    """Return whether a path is a file, or the URL of an object; a URL costs a request.

    Raises
    ------
    OSError
        The disk does not tell: labels that lie in a file must not be missing without an error.
    """
    if not is_url(path):
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except OSError as e:
            if e.errno in (errno.EIO, errno.ENOMEM, errno.ESTALE):
                raise
            return False
        except ValueError:  # a NUL in it
            return False
    from mapix import remote

    known = remote.is_there(path)
    if known is not None:
        return known
    try:
        remote.opened(path)
    except (OSError, MapixError):
        return False
    return True


def path_beside(path: str, name: str) -> str:
    """Return the path of the file of that name in the folder of a file, or beside an object."""
    if "://" not in path or not is_url(path):
        return path[: path.rfind("/") + 1] + name
    plain, query = _without_query(path)
    return f"{plain.rpartition('/')[0]}/{name}{query}"


def real_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file or folder without links in it; a URL as it is."""
    text = os.fspath(path)
    return text if is_url(text) else os.path.realpath(text)


def folder_in(folder: str, name: str) -> str:
    """Return the path of a folder in a folder; its URL ends with a slash."""
    return os.path.join(folder, name, "") if is_url(folder) else os.path.join(folder, name)


def _without_query(url: str) -> tuple[str, str]:
    """Return a URL without its query, and the query; keys of object stores have none."""
    plain, mark, query = url.partition("?") if url.startswith("http") else (url, "", "")
    return plain, mark + query


def name_of(path: str) -> str:
    """Return the name of a file, or of an object."""
    return os.path.basename(_without_query(path)[0] if is_url(path) else path)


def read_beside(path: str, limit: int) -> bytes | None:
    """Return the content of a small file; None where there is none.

    Raises
    ------
    LimitError
        It has more than ``limit`` bytes.
    """
    if "://" not in path or not is_url(path):
        return read_small(path, limit) if os.access(path, os.F_OK) else None
    try:
        return read_small(path, limit)
    except (FileNotFoundError, PermissionError):  # some stores refuse what is not there
        return None
