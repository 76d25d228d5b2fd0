"""A pool that bounds the number of open descriptors, whatever the number of open files.

A file is mapped, and a folder is identified by its device and inode, so neither needs a descriptor.
The pool holds the descriptors of the files that were opened last and of the folders that were used
last, because a descriptor shows more than a path: a file that was replaced by a rename can still be
checked.  The oldest descriptors are closed.

There is no lock: each step is one operation of a dict.  A forked child has its own copies.

A descriptor is a number, so nothing closes it when an exception is raised between the call that
opens it and the code that closes it.  Python raises MemoryError wherever it allocates.  Therefore
nothing is allocated there: a key is made before the call, and a descriptor is never an argument
of a call that might fail.  Functions on that way have no closures either: when Python 3.11 or 3.12
has no memory for the variables of a closure, the arguments of the call live for ever.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

__all__ = ["close", "close_oldest", "held", "keep", "opened", "shut", "take"]

LEAST, MOST = 3, 48  # bounds of the pool's size
SHARE = 8  # between the bounds, the pool has 1/SHARE of the descriptors that the process may open

_pool: dict[int, int] = {}  # key -> descriptor, the oldest first


def _most() -> int:
    import resource  # here: a process that opens few files does not need it

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if allowed == resource.RLIM_INFINITY else max(LEAST, min(MOST, allowed // SHARE))


def keep(key: int, fd: int) -> bool:
    """Add a descriptor under ``key``; the pool closes it when it needs space.

    Returns whether it is open.  Without memory it is closed at once, or one more than there should
    be stays open.
    """
    before = _pool.pop(key, -1)
    try:
        _pool[key] = fd
    except MemoryError:
        shut(fd)
    if before >= 0:
        shut(before)
    try:
        while len(_pool) > LEAST and len(_pool) > _most() and close_oldest():
            pass
    except MemoryError:
        pass
    return _pool.get(key, -1) == fd


def shut(fd: int) -> None:
    """Close a descriptor of something that was only read, and ignore an error."""
    try:  # noqa: SIM105  (suppress() allocates)
        os.close(fd)
    except OSError:
        pass


def held(key: int) -> int:
    """Return the descriptor of ``key``, or -1.

    Another thread may close it, and its number may belong to another file, before it is used.
    """
    return _pool.get(key, -1)


def take(key: int) -> int:
    """Remove the descriptor of ``key`` from the pool and return it, or -1; the caller owns it."""
    return _pool.pop(key, -1)


def close(
    key: int,
    pop: Callable[[int, int], int] = _pool.pop,
    shut: Callable[[int], None] = os.close,
) -> None:
    """Close the descriptor of ``key``, if there is one.

    The defaults let this work while the interpreter shuts down and module globals are gone.
    """
    fd = pop(key, -1)
    if fd >= 0:
        try:  # noqa: SIM105  (see shut)
            shut(fd)
        except OSError:  # the file was only read
            pass


def close_oldest() -> bool:
    """Close the oldest descriptor; return False if the pool is empty."""
    try:
        key = next(iter(_pool))
    except StopIteration:
        return False
    except RuntimeError:  # another thread changed the dict
        return True
    close(key)
    return True


def opened(call: Callable[..., int], *arguments: object) -> int:
    """Return the descriptor that a call opens; close others of the pool if there are too many."""
    while True:
        try:
            return call(*arguments)
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE) or not close_oldest():
                raise
