"""The files that mapix stores for itself: where they lie, which are trusted, how they are written.

Stored indexes and cached bytes are used without reading the data file again.  So they are trusted
only if no other user can have written them (``distrusted``).  They appear complete or not at all,
and a process that is killed leaves no file in the folder (``replacing``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import zlib
from collections.abc import Iterator
from typing import Protocol

from mapix import _native
from mapix.locations import cache_folder
from mapix.source import COARSE_NS, Fingerprint, Source

__all__ = ["cache_folder", "cache_place", "distrusted", "racy_for", "replacing", "trusted"]

FOLDER_MODE = 0o700  # permissions of a new cache folder
FILE_MODE = 0o644  # permissions of a new file; the umask takes some of them away
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
UNNAMED = "/proc/self/fd"
OLD_S = 86_400  # age in seconds at which files that a killed process left are removed
FINE_NS = 40_000_000  # four times the longest tick of the clock that sets file times
TRIES = 9  # attempts to name a new file while other processes do the same


class Writing(Protocol):
    """An object with the ``write`` of a file."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Write all of data at the end."""


def cache_place(path: str, what: str, suffix: str = ".mapix", *, folder: str | None = None) -> str:
    """Return the path in the cache of the data named ``what``, derived from the file ``path``.

    ``folder`` is ``cache_folder()`` where it is known.
    """
    folder = cache_folder() if folder is None else folder
    # Two checksums, not a digest: importing hashlib takes megabytes and milliseconds.  If two files
    # share a name, no harm is done, since a stored file states which file it was made from.
    name = os.fsencode(os.path.abspath(path)) + b"\0" + what.encode()
    return f"{folder}/{zlib.crc32(name):08x}{_native.crc32c(name):08x}{suffix}"


def distrusted(path: str, found: Fingerprint, data: Fingerprint) -> str | None:
    """Return the reason why a stored file is not trusted, or None if it is trusted.

    Its owner must be this user, root, or the owner of the data file.  Other users must not have
    write permission, except a group that may also write to the data file: a user who can write to
    the data needs no forged index.  All users must not be able to replace files in its folder.

    Parameters
    ----------
    path : str
        The stored file.
    found, data : Fingerprint
        Fingerprints of the stored file, from its open descriptor, and of the data file.
    """
    why = _native.distrust(path, found.owner, data.owner)
    if why == _native.OF_ANOTHER:
        return f"its owner is user {found.uid}, not this user, root, or the owner of the data"
    if why == _native.WRITABLE:
        return f"other users may write to it (mode {stat.S_IMODE(found.mode):04o})"
    if why == _native.REPLACEABLE:
        return "all users may replace files in its folder (no sticky bit)"
    return None


def trusted(place: str, data: Source) -> Source | None:
    """Open a stored file; return None if it is not trusted for the data file.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    found = Source(place)
    return None if distrusted(place, found.fingerprint, data.fingerprint) else found


def racy_for(source: Source) -> float:
    """Return the seconds until the times of a file identify its content; 0 from then on.

    A file that was written a moment ago can be written again within the same tick of the clock.
    """
    f = source.fingerprint
    tick = COARSE_NS if f.mtime_ns % 1_000_000_000 == 0 else FINE_NS
    left = max(f.mtime_ns, f.ctime_ns) + tick - time.time_ns()
    return max(0, left + 1_000_000) / 1e9 if left >= 0 else 0.0


@contextlib.contextmanager
def replacing(place: str) -> Iterator[Writing]:
    """Write a new file that appears at ``place`` complete and synced, or not at all.

    The file has no name until then, so a process that is killed leaves nothing in the folder.  An
    old file is removed just before: a reader finds the old one, none, or the new one.  If the file
    system has no files without a name, ``store.NewWhole`` writes the file.

    Raises
    ------
    OSError
        The folder cannot be created or written to, or the disk is full.
    """
    folder, name = os.path.split(os.path.abspath(place))
    _make(folder)
    if folder == os.path.abspath(cache_folder()):
        _clear(folder)
    fd = _unnamed(folder)
    if fd is None:
        from mapix.store import NewWhole  # here: whoever reads stored files imports this module

        with NewWhole(place, replace=True) as out:
            yield out
        os.chmod(place, stat.S_IMODE(os.stat(place).st_mode) & ~OTHERS_WRITE)
        return
    try:
        with os.fdopen(fd, "wb", closefd=False) as f:
            yield f
            f.flush()
            os.fsync(fd)
            _name(fd, folder, name)
    finally:
        os.close(fd)


def _make(folder: str) -> None:
    if not os.path.isdir(folder):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, FOLDER_MODE)


def _unnamed(folder: str) -> int | None:
    """Open a new file without a name in a folder; return None if the system has no such files."""
    if not hasattr(os, "O_TMPFILE") or not os.access(UNNAMED, os.F_OK):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
    except (IsADirectoryError, NotImplementedError):
        return None  # an old kernel reads the flag as O_DIRECTORY
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # NFS, FUSE, FAT
            return None
        raise


def _name(fd: int, folder: str, name: str) -> None:
    """Name a file that has no name; an old file of that name is removed."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(TRIES):
            try:
                os.link(f"{UNNAMED}/{fd}", name, dst_dir_fd=at)  # dst_dir_fd: follow the link
                break
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=at)
        else:
            raise FileExistsError(f"{folder}/{name}: other processes write it again and again")
        os.fsync(at)
    finally:
        os.close(at)


def _clear(folder: str) -> None:
    """Remove files that killed processes left in the cache a day ago or earlier."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith((".tmp", ".writing")):
                continue
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - OLD_S:
                    os.unlink(entry.path)
