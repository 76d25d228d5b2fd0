"""Every exception and warning class of mapix.

``OSError`` passes through as the system raised it.  Wrong arguments raise a plain ``TypeError``,
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
    "OptionError",
    "SizeError",
    "TruncatedError",
    "UnknownFormatError",
    "UnsupportedError",
    "check_memory",
    "warn",
]


class MapixError(Exception):
    """Base class of all errors of mapix."""


class MapixWarning(UserWarning):
    """A file is unusual, but mapix continues; the message states what was found and assumed."""


class FormatError(MapixError, ValueError):
    """The bytes of a file break its format.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    format : str
        Name of the format as which the file was read.
    reason : str
        What was expected, and what was found.
    record : int, optional
        Number of the record, from 0.
    at : int, optional
        Byte offset in the file.

    Attributes
    ----------
    path, format, reason, record, at
        The arguments.
    recognised : bool
        False if nothing in the file or its name points to this format: it was only a guess.
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
        if not format:  # data loaders raise a worker's error again with its text as sole argument
            super().__init__(self.path)
            return
        place = format
        if record is not None:
            place += f" record {record}"
        if at is not None:
            place += f" at byte {at}"
        super().__init__(f"{self.path}: {place}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        # Data loaders pickle exceptions of workers; by default keyword arguments are lost.
        return _rebuild, (type(self), self.path, self.format, self.reason, self.record, self.at)


def _rebuild(
    kind: type[FormatError], path: str, format: str, reason: str, record: int | None, at: int | None
) -> FormatError:
    return kind(path, format, reason, record=record, at=at)


class TruncatedError(FormatError):
    """A file ends inside a record; the message states how many complete records precede it."""


class SizeError(FormatError):
    """A size stated in a file is impossible: zero, or larger than the file."""


class UnknownFormatError(FormatError):
    """No format recognises a file; the message lists the formats tried, each with its reason."""


class FileChangedError(MapixError, OSError):
    """A file was changed or replaced since it was opened.  ``filename`` is its path."""

    def __init__(self, path: str | os.PathLike[str], reason: str = "") -> None:
        self.reason = reason
        super().__init__(errno.ESTALE, reason, os.fspath(path))

    def __str__(self) -> str:
        # data loaders raise a worker's error again with its text as sole argument
        return f"{self.filename}: {self.reason}" if self.reason else str(self.filename)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.filename, self.reason)


class LimitError(MapixError, ValueError):
    """A limit was reached; the message names it and states how to raise it."""


class LossError(MapixError, ValueError):
    """A conversion would lose data; ``lossy=True`` allows it.

    Attributes
    ----------
    path, format : str
        Path and format of the target.
    lost : tuple of str
        Names of what the target cannot store.
    """

    def __init__(self, path: str, format: str = "", lost: tuple[str, ...] = ()) -> None:
        self.path, self.format, self.lost = path, format, lost
        if not format:  # data loaders raise a worker's error again with its text as sole argument
            super().__init__(path)
            return
        listed = "; ".join(lost)
        super().__init__(f"{path}: {format} would lose: {listed}; pass lossy=True to allow it")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.format, self.lost)


class LockedError(MapixError, OSError):
    """Another writer is at work on the same path; try again later."""


class ClosedError(MapixError, ValueError):
    """The dataset is closed.  Arrays that were taken from it before stay valid."""


class OptionError(MapixError, TypeError):
    """A format has no such option; the message lists those that it has."""


class UnsupportedError(MapixError, NotImplementedError):
    """The request is valid, but not for this file; the message names an alternative."""


def check_memory(error: Exception) -> None:
    """Raise MemoryError if zlib, Pillow or numpy had none: they report damaged data instead."""
    text = str(error)
    without = isinstance(error, SystemError) and "without" in text and "exception" in text
    if without or text.startswith(("Error -4 ", "out of memory")):
        raise MemoryError(text) from error


def warn(message: str) -> None:
    """Issue a MapixWarning that points at the caller's line outside this package."""
    level = 1
    frame = sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mapix"):
        frame = frame.f_back
        level += 1
    warnings.warn(message, MapixWarning, stacklevel=level)
