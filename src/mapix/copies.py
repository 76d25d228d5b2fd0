"""Count what a snapshot copies into memory, and tell whoever opens a file that it is made."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Generic, TypeVar

from mapix.errors import LimitError

__all__ = ["Copies", "FolderCopies", "copying", "current"]

T = TypeVar("T")


class Copies:
    """Count what one snapshot has copied.

    Parameters
    ----------
    path : str
        Of the dataset, for the message.
    most_nbytes : int
        Of all files together.

    Attributes
    ----------
    complete : bool
        Whether the snapshot is made: nothing is copied after that.
    """

    def __init__(self, path: str, most_nbytes: int) -> None:
        self._path, self._most = path, most_nbytes
        self._nbytes = 0
        self.refused: LimitError | None = None
        self.complete = False

    def take(self, nbytes: int) -> None:
        """Count the bytes of a file before it is copied; raise LimitError above the limit."""
        self._nbytes += nbytes
        if self._nbytes > self._most:
            self.refused = LimitError(
                f"{self._path}: a snapshot of it copies {self._nbytes} bytes or more into memory, "
                f"above the limit of {self._most} bytes: pass max_nbytes= to allow more, or copy "
                "records by batch() or numpy.array()"
            )
            raise self.refused


_CURRENT: ContextVar[Copies | None] = ContextVar("mapix snapshot", default=None)


def current() -> Copies | None:
    """Return the snapshot that this thread makes; None if it makes none."""
    return _CURRENT.get()


class FolderCopies(Generic[T]):
    """The files of one folder that the snapshot which this thread makes has copied, by name."""

    __slots__ = ("_copies", "_files")

    def __init__(self) -> None:
        self._copies = current()
        self._files: dict[str, T] = {}

    def held(self, name: str, path_of: Callable[[str], str]) -> T | None:
        """Return what was held of a file; None if there is no snapshot, or it is being made.

        Raises
        ------
        FileNotFoundError
            The snapshot is made, without this file; ``path_of(name)`` is for the message.
        """
        if self._copies is None or not self._copies.complete:
            return None
        try:
            return self._files[name]
        except KeyError:
            reason = "the file is not in the snapshot"
            raise FileNotFoundError(errno.ENOENT, reason, path_of(name)) from None

    def wants(self, name: str) -> bool:
        """Return whether a snapshot is to hold a file that it does not hold yet."""
        return self._copies is not None and name not in self._files

    def hold(self, name: str, nbytes: int, content: T) -> None:
        """Hold a file of ``nbytes`` that is wanted; raise LimitError above the limit."""
        if self._copies is not None:
            self._copies.take(nbytes)
        self._files[name] = content


@contextlib.contextmanager
def copying(path: str, most_nbytes: int) -> Iterator[None]:
    """Let all files that this thread opens be copied into memory.

    Raises
    ------
    LimitError
        They have more than ``most_nbytes`` bytes together.
    """
    copies = Copies(path, most_nbytes)
    before = _CURRENT.set(copies)
    try:
        yield
    finally:
        _CURRENT.reset(before)
        copies.complete = True
    if copies.refused is not None:  # whoever reads files that may be missing goes on after it
        raise copies.refused
