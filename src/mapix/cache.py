"""Files that mapix stores for itself: where they are, who may have written them, how they appear.

Stored indexes and cached bytes are used without reading the data file again, so what they say is
believed only when nobody else can have written them (``distrusted``). They appear complete or not
at all, and a process that is killed leaves nothing behind (``replacing``).
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
from mapix.source import Fingerprint, Source
from mapix.store import NewWhole

__all__ = ["cache_folder", "cache_place", "distrusted", "racy_for", "replacing", "trusted"]

FOLDER_MODE = 0o700  # of a cache folder that mapix makes
FILE_MODE = 0o644  # the umask takes from it; nobody but the owner has to write
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
UNNAMED = "/proc/self/fd"
OLD_S = 86_400  # seconds after which what a killed process left in the cache is cleared away
COARSE_NS = 2_000_000_000  # FAT and old NFS tick every one or two seconds
FINE_NS = 40_000_000  # elsewhere the kernel's tick, at most 10 ms, and some more
TRIES = 9  # at giving a new file its name while others do the same


class Writing(Protocol):
    """What a stored file is written through."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Write all of it at the end."""


def cache_folder() -> str:
    """Return the cache folder: ``$MAPIX_CACHE_DIR``, or ``mapix`` in the user's cache folder."""
    own = os.environ.get("MAPIX_CACHE_DIR")
    if own:
        return own
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mapix")


def cache_place(path: str, what: str, suffix: str = ".mapix") -> str:
    """Return the path in the cache of ``what`` was made of the file ``path``."""
    # Two sums, not a digest: hashlib is some megabytes and milliseconds at import, and a name that
    # two files share does no harm, since what is stored says what it was made for.
    name = os.fsencode(os.path.abspath(path)) + b"\0" + what.encode()
    return os.path.join(cache_folder(), f"{zlib.crc32(name):08x}{_native.crc32c(name):08x}{suffix}")


def distrusted(path: str, found: Fingerprint, data: Fingerprint) -> str | None:
    """Return why a stored file is not believed, or None when it is.

    It is believed when its owner is this user, root, or the owner of the data file, when nobody may
    write to it but them and a group that may write to the data file as well, and when it does not
    lie in a folder in which anybody may replace files of others. Who can write to the data has no
    use for a forged index.

    Parameters
    ----------
    path : str
        The stored file.
    found, data : Fingerprint
        Of the stored file, from its open descriptor, and of the data file.
    """
    if found.uid not in (os.geteuid(), 0, data.uid):
        return f"it belongs to user {found.uid}: not this user, root, or the owner of the data"
    shared = data.mode & stat.S_IWGRP if data.gid == found.gid else 0
    if found.mode & OTHERS_WRITE & ~shared:
        return f"others than its owner may write to it (mode {stat.S_IMODE(found.mode):04o})"
    folder = os.stat(os.path.dirname(path) or ".").st_mode
    if folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
        return "anybody may replace files in its folder (no sticky bit)"
    return None


def trusted(place: str, data: Source) -> Source | None:
    """Open a stored file of the data file; None when it must not be believed.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    found = Source(place)
    return None if distrusted(place, found.fingerprint, data.fingerprint) else found


def racy_for(source: Source) -> float:
    """Return the seconds until what is made of a file can be bound to its times; 0 from then on.

    What was written a moment ago may be written again without its times telling.
    """
    f = source.fingerprint
    tick = COARSE_NS if f.mtime_ns % 1_000_000_000 == 0 else FINE_NS
    left = max(f.mtime_ns, f.ctime_ns) + tick - time.time_ns()
    return max(0, left + 1_000_000) / 1e9 if left >= 0 else 0.0


@contextlib.contextmanager
def replacing(place: str) -> Iterator[Writing]:
    """Write a new file, which is at ``place`` once it is complete and on disk, or not at all.

    It has no name until then, so a process that is killed leaves nothing in the folder. A file that
    is there already is removed in the moment before: a reader finds the old one, none, or the new
    one. Where the file system has no files without a name, ``store.NewWhole`` writes it.

    Raises
    ------
    OSError
        The folder cannot be made or written to, or the disk is full.
    """
    folder, name = os.path.split(os.path.abspath(place))
    _make(folder)
    if folder == os.path.abspath(cache_folder()):
        _clear(folder)
    fd = _unnamed(folder)
    if fd is None:
        with NewWhole(place, replace=True) as out:
            yield out
        os.chmod(place, stat.S_IMODE(os.stat(place).st_mode) & ~OTHERS_WRITE)
        return
    with os.fdopen(fd, "wb") as f:
        yield f
        f.flush()
        os.fsync(fd)
        _name(fd, folder, name)


def _make(folder: str) -> None:
    if not os.path.isdir(folder):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, FOLDER_MODE)


def _unnamed(folder: str) -> int | None:
    """A new file without a name in a folder; None where there is no such thing."""
    if not os.access(UNNAMED, os.F_OK):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
    except (IsADirectoryError, NotImplementedError):
        return None  # a kernel that does not know the flag takes it for O_DIRECTORY
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # NFS, FUSE, FAT
            return None
        raise


def _name(fd: int, folder: str, name: str) -> None:
    """Give a file that has no name its name, in the place of the file that has it."""
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
            raise FileExistsError(f"{folder}/{name}: others keep writing it")
        os.fsync(at)
    finally:
        os.close(at)


def _clear(folder: str) -> None:
    """Remove from the cache what killed processes have left there, a day ago or earlier."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith((".tmp", ".writing")):
                continue
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - OLD_S:
                    os.unlink(entry.path)
