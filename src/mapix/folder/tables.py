"""``metadata.csv`` and ``metadata.parquet``: a row for each record."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mapix.errors import FormatError
from mapix.folder.layout import FILE_NAME, NAME
from mapix.folder.listing import ListedFile, Rows
from mapix.optional import library

if TYPE_CHECKING:
    from mapix.source import Fingerprint

__all__ = ["CsvFile", "ParquetFile"]

INTEGER = re.compile(r"[+-]?\d{1,18}")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
BOOLEANS = {"True": True, "False": False, "true": True, "false": False}


def _names_pictures(name: str) -> bool:
    return name == FILE_NAME or name.endswith(f"_{FILE_NAME}")


class Table(ListedFile):
    """Columns of equal length, by name."""

    values: dict[str, Sequence[Any]]

    def _found(self, values: dict[str, Sequence[Any]], numbers: Sequence[int] | None) -> None:
        if not any(map(_names_pictures, values)):
            names = ", ".join(values) or "none"
            reason = f"a column file_name or *_file_name expected; the columns: {names[:200]}"
            raise FormatError(self.path, NAME, reason)
        self.values = values
        self.lines: Any = Rows(self, len(next(iter(values.values()))), numbers)

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the values of a record; None where there is none."""
        _ = self.source.mapping  # ClosedError
        return {name: column[row] for name, column in self.values.items()}


class CsvFile(Table):
    """A ``metadata.csv`` in UTF-8: names in the first line, commas, quotes as RFC 4180 has them.

    A column whose values are all numbers, or all true or false, is one of these; empty values are
    missing, and all others are text.
    """

    has_lines = True

    def _open(self, expect: Fingerprint | None) -> None:
        self.source = self._opened_source(expect)
        data = bytes(self.source.read(0, self.source.nbytes)) if self.source.nbytes else b""
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            raise FormatError(self.path, NAME, f"not UTF-8: {e.reason}", at=e.start) from e
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows: list[list[str]] = []
        numbers: list[int] = []
        try:
            names = next(reader, [])
            after = reader.line_num
            for row in reader:
                number, after = after + 1, reader.line_num
                if not row:
                    continue  # a blank line
                if len(row) != len(names):
                    reason = f"line {number}: {len(names)} values expected, got {len(row)}"
                    raise FormatError(self.path, NAME, reason)
                rows.append(row)
                numbers.append(number)
        except csv.Error as e:
            raise FormatError(self.path, NAME, f"line {reader.line_num}: {e}") from e
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FormatError(self.path, NAME, f"line 1: the column {twice[:80]!r} occurs twice")
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        self._found(
            {
                name: list(column) if _names_pictures(name) else _typed(column)
                for name, column in zip(names, columns, strict=True)
            },
            numbers,
        )


def _typed(values: Sequence[str]) -> list[Any]:
    """Return numbers, or booleans, where all values that are not empty are; None for empty."""
    given = [value for value in values if value]
    convert: Any = str
    if given and all(map(INTEGER.fullmatch, given)):
        convert = int
    elif given and all(map(NUMBER.fullmatch, given)):
        convert = float
    elif given and all(value in BOOLEANS for value in given):
        convert = BOOLEANS.__getitem__
    return [convert(value) if value else None for value in values]


class ParquetFile(Table):
    """A ``metadata.parquet``, read by pyarrow: ``pip install 'mapix[arrow]'``.

    Columns of pictures' bytes are left out.  Names of classes are those that Hugging Face's
    ``ClassLabel`` states.
    """

    def _open(self, expect: Fingerprint | None) -> None:
        pa = library("pyarrow", "arrow")
        parquet = library("pyarrow.parquet", "arrow")
        self.source = self._opened_source(expect)
        data = bytes(self.source.read(0, self.source.nbytes)) if self.source.nbytes else b""
        try:
            table = parquet.read_table(pa.BufferReader(data))
            values = {
                name: table.column(name).to_pylist()
                for name, kind in zip(table.column_names, table.schema.types, strict=True)
                if not _holds_bytes(pa, kind)
            }
        except (pa.ArrowException, OSError, ValueError) as e:
            reason = " ".join(str(e).split())[:200]
            raise FormatError(self.path, NAME, f"not a Parquet file: {reason}") from e
        self.classes = _class_names(table.schema.metadata or {})
        self._found({name: list(map(_plain, column)) for name, column in values.items()}, None)

    def place_of(self, row: int) -> str:
        """Return the front of errors about a record."""
        return f"row {row}: "


def _holds_bytes(pa: Any, kind: Any) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return binary or (
        pa.types.is_struct(kind) and any(_holds_bytes(pa, field.type) for field in kind)
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; of dates and decimals their text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return str(value)


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """Return the names of the classes of ``label`` from the schema's metadata."""
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
