"""The datasets that a joined dataset consists of: open ones, or those of a catalogue."""

from __future__ import annotations

import abc
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OpenParts", "Parts"]

Shape = tuple[int, ...] | None


class Parts(Sequence[Any]):
    """Datasets of one family, one after the other.  ``parts[k]`` opens one that is not open.

    Attributes
    ----------
    counts : ndarray
        int64 (k,): records of each dataset.
    path : str
        Their path, for messages.
    most_open : int
        Datasets of which a user should hold references, once there are more.
    nbytes : int or None
        Bytes of all files, where they are known without opening a dataset.
    named : bool
        Whether ``with_name`` knows the datasets of a name.
    lazy : bool
        Whether datasets are opened when they are used.
    """

    counts: NDArray[np.int64]
    path: str
    most_open: int = sys.maxsize
    nbytes: int | None = None
    named: bool = False
    lazy: bool = True

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[Any]:
        raise UnsupportedError("datasets are one array each: np.asarray(parts[k])")

    @property
    @abc.abstractmethod
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close all of them."""

    @property
    @abc.abstractmethod
    def examples(self) -> Sequence[Any]:
        """At least one of the datasets; together they have all columns, labels and parameters."""

    @abc.abstractmethod
    def shapes(self) -> set[Shape]:
        """Return the values of ``image_shape`` of datasets that have records."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what ``describe`` states of them: plain data."""

    def expect(self, numbers: Iterable[int]) -> None:
        """Prepare that these datasets are used next, one after the other.

        Those that have to be opened are asked for at once, so that their openings do not wait for
        the disk one by one.
        """
        del numbers

    def sizes(self) -> list[int]:
        """Return the bytes of the records of each dataset, about."""
        return [ds._total_size() for ds in self]

    def checked(self) -> list[str]:
        """Return what ``problems`` checks."""
        return []

    def problems(self) -> list[str]:
        """Return what is wrong with the list of the datasets itself."""
        return []

    def reopening(self) -> tuple[str, str, dict[str, Any], Any] | None:
        """Return format, path, options and fingerprint for a pickle; None of open datasets."""
        return None

    def possible(self, condition: str) -> NDArray[np.bool_] | None:
        """Return which datasets may have a record that fulfils a condition, bool (k,).

        None where nothing is known.
        """
        del condition
        return None

    def with_name(self, name: Sequence[bytes]) -> NDArray[np.int64] | None:
        """Return the numbers of datasets that may have a record of a name, ascending.

        None where nothing is known.  A name has a part for each column of ``NAMES``.
        """
        del name
        return None


class OpenParts(tuple[Any, ...], Parts):
    """Datasets that are open.

    Parameters
    ----------
    parts : iterable of Dataset
        At least one.
    """

    counts: NDArray[np.int64]
    lazy = False

    def __new__(cls, parts: Iterable[Any]) -> OpenParts:
        """Make the tuple."""
        made = super().__new__(cls, parts)
        made.counts = np.array([len(ds) for ds in made], np.int64)
        return made

    @property
    def path(self) -> str:  # type: ignore[override]
        """Path of the first file, and how many more there are."""
        more = len(self) - 1
        return f"{self[0].path}{f' and {more} more' if more else ''}"

    @property
    def closed(self) -> bool:
        """Whether all are closed."""
        return all(ds.closed for ds in self)

    def close(self) -> None:
        """Close all of them."""
        for ds in self:
            ds.close()

    @property
    def examples(self) -> Sequence[Any]:
        """All of them."""
        return self

    def shapes(self) -> set[Shape]:
        """Return the values of ``image_shape`` of datasets that have records."""
        return {ds.image_shape for ds in self if len(ds)}

    def facts(self) -> dict[str, Any]:
        """Return path and number of records of each."""
        return {"parts": [{"path": ds.path, "records": len(ds)} for ds in self]}
