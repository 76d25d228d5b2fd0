"""An open Arrow or Parquet file: its groups of rows, and what its schema says of them."""

from __future__ import annotations

import io
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.arrow.stream import FILE_BEGIN, Stream, is_stream, rows_of_batches
from mapix.errors import FileChangedError, FormatError, LimitError, MapixError
from mapix.optional import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Source

__all__ = ["TableFile"]

MOST_GROUP_NBYTES = 1 << 30
FRONT_NBYTES = 512  # of which is decided whether it is a stream
MOST_GROUPS = 1 << 20
MOST_ROWS_PER_NBYTE = 1 << 12  # what is stated is not in proportion to what is there
IMAGE, SHAPE = "image", "shape"


class _Reader(io.RawIOBase):
    """The bytes of a source, copied under the guard, for pyarrow."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._source.nbytes)[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._source.nbytes - self._at)
        found = self._source.read(self._at, left if size < 0 else min(size, left))
        self._at += len(found)
        return found


class TableFile:
    """The groups of rows of a file: record batches of Arrow, row groups of Parquet.

    Parameters
    ----------
    source : Source
        The file.
    format : {"arrow", "parquet"}
        What it is.
    max_group_nbytes : int
        Largest group that is read.

    Attributes
    ----------
    types : list of (str, pyarrow.DataType)
        Name and type of each column.
    names : list of str
        Names of the columns.
    ends : ndarray
        Number of rows up to the end of each group, int64.
    about : dict
        What ``mapix.convert`` wrote: dtype, axes, labels, info; empty of other files.
    features : dict
        Features as Hugging Face's ``datasets`` write them: name -> description.

    Raises
    ------
    FormatError
        It is damaged.
    LimitError
        A group is too large.
    """

    def __init__(self, source: Source, format: str, max_group_nbytes: int) -> None:
        self.source, self.format, self.limit = source, format, max_group_nbytes
        self.pa = library("pyarrow", "arrow")
        self._lock = threading.Lock()
        self._last: tuple[int, tuple[str, ...] | None, Any] = (-1, None, None)
        with self._errors():
            self._open()
            self.types = [(field.name, field.type) for field in self.schema]
            metadata = self.schema.metadata or {}
        self.names = [name for name, _ in self.types]
        self.about = self._json(metadata.get(b"mapix"))
        features = self._json(metadata.get(b"huggingface")).get("info")
        features = features.get("features") if isinstance(features, dict) else None
        self.features: dict[str, Any] = features if isinstance(features, dict) else {}

    def _open(self) -> None:
        reader = self.pa.PythonFile(_Reader(self.source), mode="r")
        if self.format == "parquet":
            self._file = library("pyarrow.parquet", "arrow").ParquetFile(reader)
            about = self._file.metadata
            ngroups = about.num_row_groups
            sizes = [about.row_group(k).num_rows for k in range(min(ngroups, MOST_GROUPS))]
            self.schema = self._file.schema_arrow
        else:
            stream = is_stream(self.source.read(0, min(FRONT_NBYTES, self.source.nbytes)))
            self._file = Stream(self.source) if stream else self.pa.ipc.open_file(reader)
            ngroups = self._file.num_record_batches
            sizes = rows_of_batches(self.source, 0 if stream else FILE_BEGIN)
            if len(sizes) != ngroups:  # a file of before Arrow 0.15, whose messages differ
                sizes = [self._file.get_batch(k).num_rows for k in range(min(ngroups, MOST_GROUPS))]
            self.schema = self._file.schema
        if ngroups > MOST_GROUPS:
            raise LimitError(f"{self.source.path}: {self.format}: more than {MOST_GROUPS} groups")
        most = MOST_ROWS_PER_NBYTE * self.source.nbytes
        if not 0 <= min(sizes, default=0) <= sum(sizes) <= most:
            raise LimitError(
                f"{self.source.path}: {self.format}: {sum(sizes)} rows in {self.source.nbytes} "
                f"bytes, more than {MOST_ROWS_PER_NBYTE} per byte; write it again without "
                "compression, if it is not damaged"
            )
        self.ends: NDArray[np.int64] = np.cumsum(np.array(sizes, np.int64))

    def _errors(self) -> _Errors:
        return _Errors(self)

    def _json(self, raw: bytes | None) -> dict[str, Any]:
        """Return metadata; {} where it is not an object."""
        try:
            found = json.loads(raw or b"{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def group(self, k: int, columns: tuple[str, ...] | None = None) -> Any:
        """Return a group as a ``pyarrow.Table``; the last one is cached."""
        with self._lock:
            last, names, table = self._last
            if last == k and (names is None or (columns and set(columns) <= set(names))):
                return table
            with self._errors():
                if self.format == "parquet":
                    about = self._file.metadata.row_group(k)
                    if about.total_byte_size > self.limit:
                        raise LimitError(
                            f"{self.source.path}: parquet: row group {k} has "
                            f"{about.total_byte_size} bytes, more than {self.limit}; "
                            "max_group_nbytes= of open raises the limit"
                        )
                    table = self._file.read_row_group(k, columns=columns and list(columns))
                else:
                    table = self.pa.Table.from_batches([self._file.get_batch(k)])
                    table = table.select(list(columns)) if columns else table
                table.validate(full=True)
            if table.num_rows != (stated := int(np.diff(self.ends, prepend=0)[k])):
                reason = f"group {k} has {table.num_rows} rows, {stated} are stated"
                raise FormatError(self.source.path, self.format, reason)
            self._last = k, columns, table
            return table

    def row(self, row: int) -> dict[str, Any]:
        """Return the values of a row by name."""
        k = int(np.searchsorted(self.ends, row, "right"))
        first = int(self.ends[k - 1]) if k else 0
        table = self.group(k)
        with self._errors():
            found: dict[str, Any] = table.slice(row - first, 1).to_pylist()[0]
        return found

    def column(self, name: str) -> list[Any]:
        """Return all values of a column; only that column is read."""
        found: list[Any] = []
        for k in range(len(self.ends)):
            table = self.group(k, (name,))
            with self._errors():
                found += table.column(name).to_pylist()
        return found


class _Errors:
    """Turn errors of pyarrow, which is given bytes of unknown origin, into FormatError."""

    def __init__(self, file: TableFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, MapixError | FileChangedError):
            return
        if not isinstance(error, Exception):
            return
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise FormatError(
            self._file.source.path, self._file.format, f"cannot be read: {reason}"
        ) from error
