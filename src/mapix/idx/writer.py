"""Writing IDX files: streamed, complete or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mapix.errors import LimitError
from mapix.idx.layout import CODES, MOST_DIMS, pack
from mapix.rowarray import stored
from mapix.store import SYSTEM, Calls, Closing, NewWhole, one_at_a_time

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

__all__ = ["Writer", "write"]

MOST_ROWS = 2**32 - 1
COPY_STEP_NBYTES = 1 << 20
WRITE_STEP_NBYTES = 16 << 20


class Writer(Closing):
    """A new IDX file, written row by row or in arrays, in bounded memory.

    The file appears, complete, when the writer is closed.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    dtype : dtype
        uint8, int8, int16, int32, float32 or float64.
    row_shape : tuple of int
        Dimensions of a row; () for a column of numbers.
    byteorder : {">", "<"}
        ``">"`` for MNIST and most programs, ``"<"`` for VisualRBM.
    replace : bool
        Whether an existing file may be replaced, in one step.
    calls : mapix.store.Calls
        System calls; for tests.
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
        self._hold(byteorder, code, (0, *(int(d) for d in row_shape)))
        self._out = NewWhole(path, calls, replace=replace)
        self._out.write(self._head())  # written again by close, when the number of rows is known

    def _hold(self, byteorder: str, code: str, shape: tuple[int, ...]) -> None:
        """Take over type and shape of the array, of which ``shape[0]`` rows are written."""
        self._byteorder, self._code = byteorder, code
        self.dtype = np.dtype(byteorder + code)
        self.nrows, self.row_shape = shape[0], shape[1:]

    def _head(self) -> bytes:
        """Return the header for the rows so far; its size does not depend on their number."""
        return pack(self._byteorder, self._code, (self.nrows, *self.row_shape))

    def append(self, row: ArrayLike) -> None:
        """Write one row."""
        self.extend(np.asarray(row)[None])

    def extend(self, rows: ArrayLike) -> None:
        """Write rows, ``(n, *row_shape)``; the type of the file has to hold their numbers."""
        n, data = stored(rows, self.row_shape, self.dtype)
        with self._turn:
            if self.nrows + n > MOST_ROWS:
                raise LimitError(f"{self._out.said}: more than {MOST_ROWS} rows")
            self._out.write(data)
            self.nrows += n

    @one_at_a_time
    def close(self) -> None:
        """Write the header, sync the file, and give it its name."""
        self._out.head = self._head()
        self._out.commit()

    @one_at_a_time
    def abort(self) -> None:
        """Remove the unfinished file."""
        self._out.abort()


def write(path: str | os.PathLike[str], array: ArrayLike, **options: Any) -> None:
    """Write an array as an IDX file; options as for ``Writer``."""
    rows = np.asarray(array)
    if rows.ndim == 0:
        raise ValueError("an array of at least one dimension is needed")
    with Writer(path, rows.dtype, rows.shape[1:], **options) as out:
        step = max(1, WRITE_STEP_NBYTES // max(1, rows[:1].nbytes))
        for at in range(0, len(rows), step):
            out.extend(rows[at : at + step])
