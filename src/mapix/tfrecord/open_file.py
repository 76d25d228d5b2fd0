"""An open file, which its datasets and records share: index, options, columns."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mapix.columns import Column, column_of, identifier
from mapix.errors import FormatError, LimitError
from mapix.pictures.decoding import MAX_PIXELS
from mapix.registry import reopen
from mapix.tfrecord.example import ExampleError, Value, parse
from mapix.tfrecord.layout import CRC_NBYTES, NAME, data_problem

if TYPE_CHECKING:
    from mapix.source import Fingerprint, Source
    from mapix.tfrecord.index import Index

__all__ = ["MAX_RECORD_NBYTES", "OpenFile", "Settings"]

MAX_RECORD_NBYTES = 256 << 20
MOST_COLUMNS = 256
MOST_TEXT_NBYTES = 1024  # longer bytes are not a column
MOST_VALUES = 64  # of a record in a column; longer lists are not a column
NBYTES = "nbytes"


class Settings(NamedTuple):
    """Options of ``open``: see ``open_path``."""

    strict: bool = True
    orientation: bool = True
    max_record_nbytes: int = MAX_RECORD_NBYTES
    max_pixels: int = MAX_PIXELS

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {k: v for k, v in self._asdict().items() if v != self._field_defaults[k]}


@dataclass(slots=True, eq=False)
class OpenFile:
    """An open file.  Pickles as path, options and fingerprint."""

    source: Source
    index: Index
    settings: Settings
    known: dict[str, Column] | None = None
    lock: Any = field(default_factory=threading.Lock)

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.source.path

    def begin(self, row: int) -> int:
        """Return the byte where the data of a record begin."""
        return int(self.index.begins[row])

    def view(self, row: int) -> memoryview:
        """Return the data of a record, aliasing the file."""
        begin = self.begin(row)
        nbytes = int(self.index.sizes[row])
        return self.source.viewed(begin, nbytes)[begin : begin + nbytes]

    def read(self, row: int) -> bytes:
        """Return a copy of the data of a record, made under the guard, after its checksum.

        Raises
        ------
        FormatError
            The checksum is wrong.
        LimitError
            The record has more bytes than ``max_record_nbytes``.
        """
        begin, nbytes = self.begin(row), int(self.index.sizes[row])
        limit = self.settings.max_record_nbytes
        if nbytes > limit:
            raise LimitError(
                f"{self.path}: record {row} has {nbytes} bytes, more than the limit of {limit}; "
                "max_record_nbytes= of open raises it"
            )
        found = self.source.read(begin, nbytes + CRC_NBYTES)
        data = found[:nbytes]
        problem = data_problem(data, found[nbytes:])
        if problem is not None:
            raise FormatError(self.path, NAME, problem, record=row, at=begin)
        return data

    def parsed(self, row: int, data: bytes) -> dict[str, Value]:
        """Return the features of a record's data.

        Raises
        ------
        FormatError
            They are not a ``tf.train.Example``.
        """
        try:
            return parse(data)
        except ExampleError as e:
            at = self.begin(row) + e.at
            what = f"a tf.train.Example expected: {e.reason}"
            raise FormatError(self.path, NAME, what, record=row, at=at) from e
        except LimitError as e:
            raise LimitError(f"{self.path}: record {row}: {e}") from e

    def columns(self) -> dict[str, Column]:
        """Return the columns of all records, by name.

        Cost: the first call reads and parses all records: the file at the speed of the disk, and
        10 to 20 us per record.
        """
        with self.lock:
            if self.known is None:
                self.source.mapping.advise("sequential")
                try:
                    self.known = self.columns_of(range(len(self.index.begins)))
                finally:
                    self.source.mapping.advise("normal")
            return self.known

    def columns_of(self, rows: Sequence[int]) -> dict[str, Column]:
        """Return the columns of some records, for which only these are read."""
        values: dict[str, list[Any]] = {}
        refused: set[str] = set()
        for at, row in enumerate(rows):
            data = self.read(row)
            for name, value in self.parsed(row, data).items():
                if name in refused:
                    continue
                found = _plain(value, data)
                if found is _REFUSED or (name not in values and len(values) >= MOST_COLUMNS):
                    refused.add(name)
                    values.pop(name, None)
                    continue
                if name not in values:
                    values[name] = [None] * len(rows)
                values[name][at] = found
        sizes = self.index.sizes[np.asarray(rows, np.int64)]
        columns = {NBYTES: Column(NBYTES, sizes, unit="bytes")}
        for name, found in values.items():
            if any(value is not None for value in found):
                title = identifier(name, columns)
                columns[title] = column_of(title, found, description=f"feature {name}")
        return columns

    def __reduce__(self) -> tuple[Any, ...]:
        source = self.source
        return _core, (source.full_path, self.settings.given(), source.identity)


_REFUSED = object()


def _plain(value: Value, data: bytes) -> Any:
    """Return values as a column has them: one number or text, or a list; ``_REFUSED`` of others."""
    if len(value) > MOST_VALUES:
        return _REFUSED
    if isinstance(value, np.ndarray):
        found = value.tolist()
    else:
        if any(part.end - part.begin > MOST_TEXT_NBYTES for part in value):
            return _REFUSED
        try:
            found = [data[part.begin : part.end].decode() for part in value]
        except UnicodeDecodeError:
            return _REFUSED
    return found[0] if len(found) == 1 else found or None


def _core(path: str, options: dict[str, Any], expect: Fingerprint) -> OpenFile:
    """Return what a pickled core stands for: the same file again, or FileChangedError."""
    core: OpenFile = reopen(NAME, path, options, expect, None).core
    return core
