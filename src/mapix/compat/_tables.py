"""The kinds of data that a card holds: how each is saved, loaded, and split.

A library is imported when data of it are loaded; data that a caller passes prove that it is there.
"""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapix.compat._model import ValidationError
from mapix.errors import FormatError, UnsupportedError
from mapix.optional import library

__all__ = ["COMPARISONS", "KINDS", "Kind", "kind_of", "read_array", "write_array"]

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def needed(name: str) -> Any:
    """Import the library whose data are loaded."""
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise UnsupportedError(f"{name} is needed to load these data: pip install {name}") from e


def existing(path: str) -> str:
    """Return the path of a file of a card, if it is one: nothing waits for a pipe."""
    if not os.path.isfile(path):
        raise FormatError(f"{path}: a file of the card is missing")
    return path


def write_array(array: NDArray[Any], path: str) -> None:
    """Write an array as ``.npy``, never as a pickle."""
    if array.dtype.hasobject:
        raise ValidationError("data: an array of Python objects could only be saved as a pickle")
    np.save(path, array, allow_pickle=False)


def read_array(path: str) -> NDArray[Any]:
    """Read a ``.npy`` file of exactly the size that its header states; nothing is executed."""
    existing(path)
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # compares header and file
        expected = mapped.offset + mapped.nbytes
        del mapped
        if os.path.getsize(path) != expected:
            raise FormatError(
                f"{path}: {os.path.getsize(path)} bytes, {expected} expected by its header"
            )
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, AttributeError, OverflowError, SyntaxError) as e:
        raise FormatError(f"{path}: not an array of NumPy's: {e}") from e
    return found


class Kind:
    """One kind of data.

    Attributes
    ----------
    NAME : str
        In the card's file.
    FILE : str
        The file in the card's directory.
    """

    NAME: ClassVar[str]
    FILE: ClassVar[str] = "data.parquet"
    MODULE: ClassVar[str]
    CLASS: ClassVar[str]

    def is_of(self, data: Any) -> bool:
        """Return whether data are of this kind, without importing anything."""
        module = sys.modules.get(self.MODULE)
        return module is not None and isinstance(data, getattr(module, self.CLASS))

    def save(self, data: Any, path: str) -> None:
        """Write data to a new file."""
        parquet, arrow = library("pyarrow.parquet", "arrow"), library("pyarrow", "arrow")
        try:
            parquet.write_table(self.table_of(arrow, data), path)
        except (arrow.ArrowException, TypeError) as e:
            raise ValidationError(f"data: Parquet cannot hold them: {e}") from e

    def load(self, path: str) -> Any:
        """Read data from a file."""
        parquet, arrow = library("pyarrow.parquet", "arrow"), library("pyarrow", "arrow")
        try:
            return self.of_table(parquet.read_table(existing(path)))
        except arrow.ArrowException as e:
            raise FormatError(f"{path}: not a Parquet table: {e}") from e

    def table_of(self, arrow: Any, data: Any) -> Any:
        """Return data as a table of pyarrow's."""
        raise NotImplementedError

    def of_table(self, table: Any) -> Any:
        """Return data from a table of pyarrow's."""
        raise NotImplementedError

    def names(self, data: Any) -> Sequence[Any]:
        """Return the names of the columns."""
        return list(data.columns)

    def compared(self, data: Any, name: Any, compare: str, value: Any) -> Any:
        """Return the rows in which a column compares so with a value."""
        raise NotImplementedError

    def rows(self, data: Any, rows: slice | NDArray[np.int64]) -> Any:
        """Return some rows."""
        return data[rows]

    def apart(self, data: Any, names: Sequence[Any]) -> tuple[Any, Any]:
        """Return all other columns, and the named ones."""
        raise NotImplementedError


class NumpyKind(Kind):
    """Arrays: their columns have numbers."""

    NAME, FILE, MODULE, CLASS = "numpy", "data.npy", "numpy", "ndarray"

    def is_of(self, data: Any) -> bool:
        """Return whether data are an array without a mask, of at least one dimension."""
        return isinstance(data, np.ndarray) and not isinstance(data, np.ma.MaskedArray)

    def save(self, data: Any, path: str) -> None:
        """Write an array."""
        write_array(data, path)

    def load(self, path: str) -> Any:
        """Read an array."""
        return read_array(path)

    def names(self, data: Any) -> Sequence[Any]:
        """Return the numbers of the columns."""
        return range(data.shape[1] if data.ndim > 1 else 0)

    def compared(self, data: Any, name: Any, compare: str, value: Any) -> Any:
        """Return rows by a column's values."""
        return data[COMPARISONS[compare](data[:, name], value)]

    def apart(self, data: Any, names: Sequence[Any]) -> tuple[Any, Any]:
        """Return the other columns and the named ones."""
        return np.delete(data, list(names), axis=1), data[:, list(names)]


class PandasKind(Kind):
    """Tables of pandas, with their index."""

    NAME, MODULE, CLASS = "pandas", "pandas", "DataFrame"

    def table_of(self, arrow: Any, data: Any) -> Any:
        """Return a table; its metadata describe index and types."""
        return arrow.Table.from_pandas(data)

    def of_table(self, table: Any) -> Any:
        """Return a DataFrame."""
        needed("pandas")
        return table.to_pandas()

    def compared(self, data: Any, name: Any, compare: str, value: Any) -> Any:
        """Return rows by a column's values."""
        return data[COMPARISONS[compare](data[name], value)]

    def rows(self, data: Any, rows: slice | NDArray[np.int64]) -> Any:
        """Return rows by their place."""
        return data.iloc[rows]

    def apart(self, data: Any, names: Sequence[Any]) -> tuple[Any, Any]:
        """Return the other columns and the named ones."""
        return data.drop(columns=list(names)), data[list(names)]


class PolarsKind(Kind):
    """Tables of polars."""

    NAME, MODULE, CLASS = "polars", "polars", "DataFrame"

    def table_of(self, arrow: Any, data: Any) -> Any:
        """Return a table."""
        return data.to_arrow()

    def of_table(self, table: Any) -> Any:
        """Return a DataFrame."""
        return needed("polars").from_arrow(table)

    def compared(self, data: Any, name: Any, compare: str, value: Any) -> Any:
        """Return rows by a column's values."""
        return data.filter(COMPARISONS[compare](data[name], value))

    def apart(self, data: Any, names: Sequence[Any]) -> tuple[Any, Any]:
        """Return the other columns and the named ones."""
        return data.drop(list(names)), data.select(list(names))


class ArrowKind(Kind):
    """Tables of pyarrow."""

    NAME, MODULE, CLASS = "pyarrow", "pyarrow", "Table"
    FUNCTIONS: ClassVar[dict[str, str]] = dict(
        zip(
            COMPARISONS,
            ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"],
            strict=True,
        )
    )

    def table_of(self, arrow: Any, data: Any) -> Any:
        """Return the table."""
        return data

    def of_table(self, table: Any) -> Any:
        """Return the table."""
        return table

    def names(self, data: Any) -> Sequence[Any]:
        """Return the names of the columns."""
        return list(data.column_names)

    def compared(self, data: Any, name: Any, compare: str, value: Any) -> Any:
        """Return rows by a column's values."""
        compute = library("pyarrow.compute", "arrow")
        return data.filter(getattr(compute, self.FUNCTIONS[compare])(data[name], value))

    def rows(self, data: Any, rows: slice | NDArray[np.int64]) -> Any:
        """Return rows by their place."""
        if isinstance(rows, slice):
            return data.slice(rows.start, rows.stop - rows.start)
        return data.take(rows)

    def apart(self, data: Any, names: Sequence[Any]) -> tuple[Any, Any]:
        """Return the other columns and the named ones."""
        return data.drop_columns(list(names)), data.select(list(names))


KINDS: dict[str, Kind] = {
    kind.NAME: kind for kind in (NumpyKind(), PandasKind(), PolarsKind(), ArrowKind())
}


def kind_of(data: Any) -> Kind:
    """Return the kind of data.

    Raises
    ------
    ValidationError
        They are of none; the message lists all.
    """
    for kind in KINDS.values():
        if kind.is_of(data):
            return kind
    raise ValidationError(
        "data: an ImageDataset, an array of numpy, a DataFrame of pandas or polars, or a Table of "
        f"pyarrow expected, got {type(data).__name__}"
    )
