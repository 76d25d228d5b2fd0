"""Every exception and warning that mapix raises on purpose.

``OSError`` passes through as the system gave it; misuse of a function is a plain ``TypeError``,
``ValueError`` or ``IndexError``.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings

__all__ = [
    "ClosedError",
    "FileChangedError",
    "FormatError",
    "LimitError",
    "LockedError",
    "LossError",
    "MapixError",
    "MapixWarning",
    "SizeError",
    "TruncatedError",
    "UnknownFormatError",
    "UnsupportedError",
    "warn",
]


class MapixError(Exception):
    """Base of all errors of mapix."""


class MapixWarning(UserWarning):
    """Something about a file is odd, and mapix went on: the message says what and how."""


class FormatError(MapixError, ValueError):
    """The bytes of a file break its format.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    format : str
        Name of the format that it was read as.
    reason : str
        What was expected and what was found.
    record : int, optional
        0-based number of the record.
    at : int, optional
        Byte offset in the file.

    Attributes
    ----------
    path, format, reason, record, at
        As given.
    recognised : bool
        False where nothing but its failure to read the file speaks for the format.
    """

    recognised = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: str = "",
        reason: str = "",
        *,
        record: int | None = None,
        at: int | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.format = format
        self.reason = reason
        self.record = record
        self.at = at
        if not format:  # a loader that raises a worker's error again has nothing but its text
            super().__init__(self.path)
            return
        place = format
        if record is not None:
            place += f" record {record}"
        if at is not None:
            place += f" at byte {at}"
        super().__init__(f"{self.path}: {place}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders in data loaders; keyword arguments need help to.
        return _rebuild, (type(self), self.path, self.format, self.reason, self.record, self.at)


def _rebuild(
    kind: type[FormatError], path: str, format: str, reason: str, record: int | None, at: int | None
) -> FormatError:
    return kind(path, format, reason, record=record, at=at)


class TruncatedError(FormatError):
    """A file ends inside a record.  The message says how many whole records come before."""


class SizeError(FormatError):
    """A size in a file is impossible: zero, or larger than the file."""


class UnknownFormatError(FormatError):
    """No format recognises a file; the message lists what was tried and why each refused."""


class FileChangedError(MapixError, OSError):
    """A file is not, or no longer, the one that was opened.  ``filename`` names it."""

    def __init__(self, path: str | os.PathLike[str], reason: str = "") -> None:
        self.reason = reason
        super().__init__(errno.ESTALE, reason, os.fspath(path))

    def __str__(self) -> str:
        # With no reason, ``path`` is a whole text: how loaders raise a worker's error again.
        return f"{self.filename}: {self.reason}" if self.reason else str(self.filename)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.filename, self.reason)


class LimitError(MapixError, ValueError):
    """A named limit was reached; the message says which one and how to raise it."""


class LossError(MapixError, ValueError):
    """A conversion would lose something; ``lossy=True`` allows it.

    Attributes
    ----------
    path, format : str
        The target.
    lost : tuple of str
        What it has no place for.
    """

    def __init__(self, path: str, format: str = "", lost: tuple[str, ...] = ()) -> None:
        self.path, self.format, self.lost = path, format, lost
        if not format:  # a whole text: how loaders raise a worker's error again
            super().__init__(path)
            return
        listed = "; ".join(lost)
        super().__init__(f"{path}: {format} would lose: {listed}; lossy=True allows it")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.format, self.lost)


class LockedError(MapixError, OSError):
    """Another process is writing there."""


class ClosedError(MapixError, ValueError):
    """The dataset was closed.  Arrays taken from it earlier stay valid."""


class UnsupportedError(MapixError, NotImplementedError):
    """The request makes sense, but not for this file; the message names the way that works."""


def warn(message: str) -> None:
    """Issue a MapixWarning that points at the caller's own code, not into this package."""
    level = 1
    frame = sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mapix"):
        frame = frame.f_back
        level += 1
    warnings.warn(message, MapixWarning, stacklevel=level)
