"""The metadata file of an image folder: its lines, the files that they name, and its columns."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.folder.files import Files, Settings
from mapix.folder.layout import NAME, canonical, kind, spellings
from mapix.folder.lines import Lines
from mapix.locations import absolute
from mapix.registry import reopen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.columns import Column
    from mapix.errors import FormatError
    from mapix.folder.names import HashedNames, ParsedNames
    from mapix.folder.splits import Place
    from mapix.source import Fingerprint, Source

__all__ = ["MetadataFile"]

MOST_QUICK_NBYTES = 1 << 16  # longer lines are parsed by ``json`` alone, with its limits


class MetadataFile:
    """An open metadata file, and the directory of its pictures: what a folder's records share.

    Parameters
    ----------
    place : Place
        Where it lies.
    settings : Settings
        Options of ``open``.
    expect : Fingerprint, optional
        The file has to be this one.

    Raises
    ------
    OSError
        It cannot be opened.
    FileChangedError
        It is another file than ``expect``.

    Attributes
    ----------
    source, files, lines
        The file, the files that its lines name, its lines.
    place, settings
        As given.
    directory : str or None
        The folder that holds the splits, from the root of the file system.
    classes : tuple of str
        Names of the classes that ``label`` numbers; empty where they are not known.
    columns : dict of str to Column
        Columns of all records that were read so far.
    fields, labels_are_numbers
        See ``mapix.folder.fields``.
    """

    classes: tuple[str, ...] = ()
    is_jsonl = True

    def __init__(self, place: Place, settings: Settings, expect: Fingerprint | None = None) -> None:
        self.place, self.settings = place, settings
        self.columns: dict[str, Column] = {}
        self.fields: dict[str, Any] | None = None
        self.labels_are_numbers = True
        self.directory = None if place.directory is None else absolute(place.directory)
        self._by_name: HashedNames | ParsedNames | None = None
        self._open(expect)

    def _open(self, expect: Fingerprint | None) -> None:
        """Open the file, and find the records: set ``files``, ``source`` and ``lines``."""
        self.source = self._opened_source(expect)
        self.lines = Lines(self.source, self.settings.max_line_nbytes, NAME)

    def _opened_source(self, expect: Fingerprint | None) -> Source:
        """Open the file that lists the records, and the folder that it lies in."""
        folder, name = os.path.split(self.place.path)
        self.files = Files(folder or ".", self.place.root)
        return self.files.source(name, expect=expect)

    def reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        """Return path, options of ``open`` and fingerprint, for a pickle."""
        s, place = self.settings, self.place
        options: dict[str, Any] = {
            "key": s.key,
            "orientation": s.orientation,
            "root": self.files.root,
            "max_line_nbytes": s.max_line_nbytes,
            "max_image_nbytes": s.max_image_nbytes,
            "max_pixels": s.max_pixels,
        }
        if self.directory is None:
            return self.source.full_path, options, self.source.identity
        return self.directory, {**options, "split": place.split}, self.source.identity

    def __reduce__(self) -> tuple[Any, ...]:
        # Records pickle with their metadata file: those of one pickle share the file opened again.
        return _reopened, self.reopening()

    @property
    def path(self) -> str:
        """Path of the metadata file."""
        return self.source.path

    def error(self, row: int, reason: str) -> FormatError:
        """Return the error about a record."""
        return self.lines.error(row, reason)

    def metadata(self, row: int) -> dict[str, Any]:
        """Return a parsed line."""
        return self._object(row, self.lines.value(row))

    def _object(self, row: int, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(row, f"an object expected, got {kind(value)}")
        return value

    def all_metadata(self) -> Iterator[dict[str, Any]]:
        """Yield all lines, parsed; the file is copied in blocks."""
        for row, line in enumerate(self.lines):
            yield self._object(row, self.lines.parsed(row, line))

    def quick_metadata(self) -> Iterator[dict[str, Any]]:
        """Yield all lines, parsed by ``orjson`` where it is installed and finds the same."""
        return self.some_metadata(None)

    def some_metadata(self, rows: NDArray[np.int64] | None) -> Iterator[dict[str, Any]]:
        """Yield lines by number, int64, ascending (None: all), as ``quick_metadata`` does."""
        quick = _quick_parser()
        numbers = itertools.count() if rows is None else rows.tolist()
        for row, line in zip(numbers, self.lines.some(rows), strict=False):
            known = None if quick is None or len(line) > MOST_QUICK_NBYTES else quick(line)
            yield self._object(row, self.lines.parsed(row, line) if known is None else known)

    def rows_named(self, name: str) -> NDArray[np.int64]:
        """Return the numbers of the records that name a file, int64, ascending.

        Cost: the first call reads all lines.
        """
        if self._by_name is None:
            self._by_name = self._read_names()
        found = np.empty(0, np.int64)
        for spelling in spellings(canonical(name)):
            found = self._by_name.rows(spelling)
            if len(found):
                break
        return found

    def _read_names(self) -> HashedNames | ParsedNames:
        from mapix.folder.names import HashedNames, ParsedNames

        return (
            HashedNames(self)
            if self.is_jsonl
            else ParsedNames(self, enumerate(self.all_metadata()))
        )

    def close(self) -> None:
        """Release the file and the directory."""
        self.source.close()
        self.files.close()


def _reopened(path: str, options: dict[str, Any], expect: Fingerprint) -> MetadataFile:
    found: MetadataFile = reopen(NAME, path, options, expect, None).metadata_file
    return found


def _quick_parser() -> Any:
    """Return a parser by ``orjson``, which returns None for lines that ``json`` has to parse.

    ``orjson`` does not report keys that occur twice.  A line with as many colons as keys were found
    has no such key; all other lines are left to ``json``.
    """
    try:
        import orjson
    except ImportError:
        return None
    loads = orjson.loads

    def quick(line: bytes) -> dict[str, Any] | None:
        try:
            found = loads(line)
        except ValueError:
            return None
        if type(found) is not dict:
            return None
        nkeys = len(found) + sum(len(v) for v in found.values() if type(v) is dict)
        return found if nkeys == line.count(b":") else None

    return quick
