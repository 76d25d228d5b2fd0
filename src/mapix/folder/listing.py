"""Records of an image folder that no ``metadata.jsonl`` lists: the base of the other listings."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import ClosedError, FileChangedError, FormatError
from mapix.folder.layout import NAME
from mapix.folder.metadata_file import MetadataFile
from mapix.locations import absolute
from mapix.source import Fingerprint, fingerprint_of_object, is_url

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FolderSource", "ListedFile", "Rows"]


class FolderSource:
    """A folder in the place of a metadata file: nothing is mapped.

    Parameters
    ----------
    path : str
        The folder.
    names : sequence of str
        Names of its pictures: its fingerprint.
    expect : Fingerprint, optional
        The folder has to have the same pictures.

    Raises
    ------
    FileChangedError
        It has others.
    """

    nbytes = 0

    def __init__(self, path: str, names: Sequence[str], expect: Fingerprint | None = None) -> None:
        self.path, self.full_path, self.closed = path, absolute(path), False
        sample = 0
        for name in names:
            sample = zlib.crc32(os.fsencode(name) + b"\0", sample)
        own = fingerprint_of_object("", 0, 0) if is_url(path) else Fingerprint.of(os.stat(path))
        self.identity = own._replace(size=len(names), mtime_ns=0, ctime_ns=0, sample=sample)
        if expect is not None and (expect.size, expect.sample) != (len(names), sample):
            raise FileChangedError(f"{path}: the folder has other pictures than it had")

    @property
    def mapping(self) -> None:
        """Raise ClosedError after ``close``."""
        if self.closed:
            raise ClosedError(f"{self.path}: the dataset is closed")

    def warm(self) -> Iterator[int]:
        """Yield nothing: there is no file to read."""
        return iter(())

    def close(self) -> None:
        """Let further calls raise ClosedError."""
        self.closed = True


class Rows:
    """Numbers of lines, and errors, as ``mapix.folder.lines.Lines`` has them.

    Parameters
    ----------
    file : ListedFile
        Whose ``metadata(row)`` is a line.
    n : int
        Number of records.
    numbers : sequence of int, optional
        Number of the line of each record; by default 1, 2, 3 ...
    """

    longest = 0

    def __init__(self, file: ListedFile, n: int, numbers: Sequence[int] | None = None) -> None:
        self._file, self._n = file, n
        self._numbers = range(1, n + 1) if numbers is None else numbers
        self.source = file.source

    def __len__(self) -> int:
        return self._n

    @property
    def nlines(self) -> int:
        """Number of the last line."""
        return self._numbers[-1] if self._n else 0

    def has(self, row: int) -> bool:
        """Return whether there is a record of that number, from 0."""
        return row < self._n

    def number(self, row: int) -> int:
        """Return the number of the line of a record, from 1."""
        return self._numbers[row]

    def numbers(self) -> NDArray[np.int64]:
        """Return the ``number`` of all records, int64 (n,)."""
        return np.array(self._numbers, np.int64)

    def begin(self, row: int) -> int:
        """Return 0: the byte of a record is not known."""
        del row
        return 0

    def line(self, row: int) -> bytes:
        """Return a record as a line of a ``metadata.jsonl``."""
        import json

        return json.dumps(self._file.metadata(row)).encode()

    def __iter__(self) -> Iterator[bytes]:
        return map(self.line, range(self._n))

    def error(self, row: int, reason: str, at: int = 0) -> FormatError:
        """Return the error about a record."""
        place = self._file.place_of(row)
        reason = reason if reason.startswith(place) else place + reason  # the picture's name
        return FormatError(self._file.path, NAME, reason, record=row)


class ListedFile(MetadataFile):
    """A listing that is not a ``metadata.jsonl``.

    A subclass finds its records in ``_open``, and overrides ``metadata``.

    Parameters
    ----------
    place, settings, expect
        As for ``MetadataFile``.

    Attributes
    ----------
    has_lines : bool
        Whether records are lines of a text file.
    """

    has_lines = False
    is_jsonl = False

    def _open(self, expect: Fingerprint | None) -> None:
        """See ``MetadataFile``."""
        raise NotImplementedError

    def place_of(self, row: int) -> str:
        """Return the front of errors about a record."""
        return f"line {self.lines.number(row)}: " if self.has_lines else ""

    def all_metadata(self) -> Iterator[dict[str, Any]]:
        """Yield the values of all records."""
        return map(self.metadata, range(len(self.lines)))

    quick_metadata = all_metadata
