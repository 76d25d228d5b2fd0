"""Writing IDX files: streamed, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mapix.errors import LimitError
from mapix.formats.idx import CODES, MOST_DIMS, pack
from mapix.store import SYSTEM, Calls, Closing, NewWhole, Spill

__all__ = ["Writer", "write"]

MOST_ROWS = 2**32 - 1
STEP = 1 << 20


class Writer(Closing):
    """A new IDX file, written row by row or in arrays, in bounded memory.

    The number of rows is known at the end: rows are put aside, and the file appears, whole, when
    the writer is closed.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    dtype : dtype
        uint8, int8, int16, int32, float32 or float64.
    row_shape : tuple of int
        Dimensions of a row; () for a column of numbers.
    byteorder : {">", "<"}
        ``">"`` as MNIST's and everybody's, ``"<"`` as VisualRBM writes.
    replace : bool
        Whether a file that is there may be replaced, in one step.
    calls : mapix.store.Calls
        The operating system; for tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dtype: DTypeLike,
        row_shape: tuple[int, ...] = (),
        *,
        byteorder: Literal[">", "<"] = ">",
        replace: bool = False,
        calls: Calls = SYSTEM,
    ) -> None:
        native = np.dtype(dtype)
        code = native.kind + str(native.itemsize)
        if code not in CODES.values():
            raise TypeError(f"dtype must be one of {', '.join(CODES.values())}, got {native}")
        if byteorder not in (">", "<"):
            raise ValueError(f"byteorder must be > or <, got {byteorder!r}")
        if len(row_shape) >= MOST_DIMS or not all(0 <= d <= MOST_ROWS for d in row_shape):
            raise ValueError(f"rows of shape {row_shape} do not fit the format")
        self.dtype = np.dtype(byteorder + code)
        self.row_shape = tuple(int(d) for d in row_shape)
        self.nrows = 0
        self._code, self._order = code, byteorder
        self._out = NewWhole(os.fspath(path), calls, replace=replace)
        try:
            self._rows = Spill(f"{self._out.file.path}.rows", calls)
        except BaseException:
            self._out.abort()
            raise

    def append(self, row: ArrayLike) -> None:
        """Write one row."""
        self.extend(np.asarray(row)[None])

    def extend(self, rows: ArrayLike) -> None:
        """Write rows, (n, *row_shape), of a type whose numbers the file's type holds."""
        array = np.asarray(rows)
        if array.shape[1:] != self.row_shape:
            raise ValueError(f"rows of shape {self.row_shape} expected, got {array.shape[1:]}")
        made = array.astype(self.dtype)
        if array.dtype.kind != "f" and not np.array_equal(made, array):
            raise ValueError(f"numbers that {self.dtype} does not hold")
        if array.dtype.kind == "f" and self.dtype.kind != "f":
            raise TypeError(f"{array.dtype} rows for a file of {self.dtype}")
        if self.nrows + len(array) > MOST_ROWS:
            raise LimitError(f"{self._out.path}: more than {MOST_ROWS} rows")
        if made.size:
            self._rows.write(np.ascontiguousarray(made).reshape(-1).view(np.uint8).data)
        self.nrows += len(array)

    def _rows_before(self) -> Iterator[bytes | bytearray]:
        """Bytes of rows that come before those written."""
        return iter(())

    def _settled(self) -> None:
        """Called when all is written, before the file appears."""

    def close(self) -> None:
        """Put header and rows together, sync the file, and let it appear."""
        try:
            self._out.write(pack(self._order, self._code, (self.nrows, *self.row_shape)))
            for piece in self._rows_before():
                self._out.write(piece)
            for piece in self._rows.pieces(STEP):
                self._out.write(piece)
            self._settled()
        except BaseException:
            self.abort()
            raise
        self._rows.drop()
        self._out.commit()

    def abort(self) -> None:
        """Remove what was written."""
        self._rows.drop()
        self._out.abort()


def write(path: str | os.PathLike[str], array: ArrayLike, **options: Any) -> None:
    """Write an array as an IDX file; options as for ``Writer``."""
    rows = np.asarray(array)
    if rows.ndim == 0:
        raise ValueError("an array of at least one dimension is needed")
    with Writer(path, rows.dtype, rows.shape[1:], **options) as out:
        step = max(1, (STEP * 16) // max(1, rows[:1].nbytes))
        for at in range(0, len(rows), step):
            out.extend(rows[at : at + step])
