"""The base of models and schedules, which are read completely when they are opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, Self

from mapix.errors import UnsupportedError
from mapix.report import Report

__all__ = ["Loaded"]


class Loaded:
    """A file that was read completely.  It can be used like a dataset: closed, described, verified.

    Attributes
    ----------
    path : str or None
        The file that it was read from.
    """

    FAMILY: ClassVar[str] = "visualrbm"
    SEVERAL: ClassVar[str] = "several schedules cannot be opened as one"
    PARTS: ClassVar[str] = "stages"
    path: str | None

    def _facts(self) -> dict[str, Any]:
        """Return the facts for ``describe``: plain data."""
        raise NotImplementedError

    def _problems(self) -> list[str]:
        """Return the problems for ``verify``: those that do not prevent reading."""
        return []

    def describe(self) -> dict[str, Any]:
        """Return the facts as plain data, which JSON can hold."""
        return {"format": self.FAMILY, "path": self.path or "", **self._facts()}

    def verify(self, progress: Callable[[int, int], object] | None = None) -> Report:
        """Check what opening the file does not: that numbers are finite, and that layers fit."""
        checked = ["the complete text", "finite numbers", "layers"]
        path = self.path or ""
        nbytes = os.path.getsize(path) if os.path.isfile(path) else 0
        parts = len(getattr(self, self.PARTS))
        report = Report(path, parts, nbytes, checked, self._problems(), unit=self.PARTS)
        if progress is not None:
            progress(1, 1)
        return report

    def joined(self, others: Any) -> Any:
        """Raise UnsupportedError."""
        raise UnsupportedError(self.SEVERAL)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise UnsupportedError(f"{type(self).__name__}: not one array, but layers or parameters")

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
