"""Open, read and name files by their paths, or by the URLs of remote objects."""

from __future__ import annotations

import errno
import os
import stat

from mapix import descriptors
from mapix.errors import LimitError, MapixError
from mapix.rooted import is_url

# O_NONBLOCK: opening a FIFO must not hang; for regular files it has no effect.
READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
END_NBYTES = 16 << 10  # of a file, of which opening reads headers and trailers


def open_file(path: str | os.PathLike[str] | bytes) -> int:
    """Return a descriptor for reading; where there are too many, close others of mapix."""
    try:
        return os.open(path, READ_FLAGS)
    except OSError as e:
        if e.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    return descriptors.opened(lambda: os.open(path, READ_FLAGS))


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
