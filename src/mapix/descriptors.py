"""A bounded number of open descriptors for any number of open files.

A file is mapped, and a folder is remembered by its device and inode, so that neither needs its
descriptor.  Those of the files that were opened last, and of the folders that were used last, are
kept, because they show more than a path does: a file that was replaced by a rename can still be
checked.  The oldest ones are closed.

There is no lock: each step is one operation of a dict.  A child of ``fork`` has copies of its own.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable

__all__ = ["close", "held", "keep", "opened", "take"]

LEAST, MOST = 3, 256  # descriptors that are kept, however many the process may have
SHARE = 8  # one in so many of those that the process may have

_kept: dict[int, int] = {}  # key -> descriptor, the oldest first


def _most() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if allowed == resource.RLIM_INFINITY else max(LEAST, min(MOST, allowed // SHARE))


def keep(key: int, fd: int) -> None:
    """Keep a descriptor as the newest one of ``key``; it may be closed at any time."""
    before = _kept.pop(key, -1)
    _kept[key] = fd
    if before >= 0:
        os.close(before)
    while len(_kept) > LEAST and len(_kept) > _most() and _close_oldest():
        pass


def held(key: int) -> int:
    """The descriptor of ``key``, -1 without one.

    Another thread may close it, and its number may be another file's, before it is used.
    """
    return _kept.get(key, -1)


def take(key: int) -> int:
    """The descriptor of ``key``, which is the caller's from here on; -1 without one."""
    return _kept.pop(key, -1)


def close(
    key: int,
    pop: Callable[[int, int], int] = _kept.pop,
    shut: Callable[[int], None] = os.close,
) -> None:
    """Close the descriptor of ``key``, if there is one; also when modules are gone."""
    fd = pop(key, -1)
    if fd >= 0:
        shut(fd)


def _close_oldest() -> bool:
    """Close one; False when there is none."""
    try:
        key = next(iter(_kept))
    except StopIteration:
        return False
    except RuntimeError:  # another thread kept one just now
        return True
    close(key)
    return True


def opened(call: Callable[[], int]) -> int:
    """Return what ``call`` opens; close descriptors that are kept when there are too many."""
    while True:
        try:
            return call()
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE) or not _close_oldest():
                raise
