"""Count what a snapshot copies into memory, and tell whoever opens a file that it is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from mapix.errors import LimitError

__all__ = ["MOST_COPIED_NBYTES", "Copies", "copying", "current"]

MOST_COPIED_NBYTES = 1 << 30


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
