"""Writing PINK's files of version 2: streamed, complete or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mapix.errors import LimitError
from mapix.pink.layout import (
    CODES,
    END,
    KINDS,
    MOST_DIMS,
    MOST_INT,
    RECORD,
    Kind,
    Layout,
    hexagonal,
    pack,
)
from mapix.rowarray import stored
from mapix.store import SYSTEM, Calls, Closing, NewWhole, one_at_a_time

__all__ = ["Writer", "records", "write_data", "write_map", "write_rot", "write_som"]

Path = str | os.PathLike[str]
WRITE_STEP_NBYTES = 16 << 20


def comment_bytes(header: Sequence[str] | bytes) -> bytes:
    """Return lines of comment as bytes of a file: each with a ``#``, and a line that ends them."""
    if isinstance(header, bytes):
        lines = header.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        lines = lines if header else []
    else:
        if isinstance(header, str):
            raise TypeError("header= has to be a sequence of lines (str), or bytes")
        lines = list(header)
    if any("\n" in line for line in lines):
        raise ValueError("a line of header= holds a line break")
    end = END.decode().rstrip("\n")
    lines = [line if line.startswith("#") else f"# {line}".rstrip() for line in lines]
    lines = [line for line in lines if line != end]
    text = "".join(f"{line}\n" for line in [*lines, end]) if lines else ""
    return text.encode("utf-8", "surrogateescape")


class Writer(Closing):
    """A new file of PINK's version 2, written row by row or in arrays, in bounded memory.

    The file appears, complete, when the writer is closed.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    kind : {"data", "som", "map", "rot"}
        Kind of the rows: entries; neurons; distances of an entry from all neurons; ``records`` of
        an entry for all neurons.
    row_shape : tuple of int, optional
        Dimensions of an entry of data, or of a neuron of a SOM: (length,), (h, w) or
        (channels, h, w).
    som_shape : tuple of int, optional
        Dimensions of the SOM; of a hexagon (d, d), d odd.
    layout : {"cartesian", "hexagonal"}
        Layout of the SOM.
    dtype : dtype
        float32, the only type that PINK's own programs read, or another of the ten types.
    header : sequence of str, or bytes
        Lines of comment; each gets a ``#``, and ``# END OF HEADER`` follows the last.
    n : int, optional
        Number of rows; by default as many as are written.
    strict_spec : bool
        Whether a hexagonal layout is stated as 1, as in PINK's document.  PINK's programs write 0,
        and recognise hexagons by the length of a file; some of its scripts fail on 1.
    replace : bool
        Whether an existing file may be replaced, in one step.
    calls : mapix.store.Calls
        System calls; for tests.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind = "data",
        row_shape: tuple[int, ...] | None = None,
        *,
        som_shape: tuple[int, ...] | None = None,
        layout: Layout = "cartesian",
        dtype: DTypeLike = np.float32,
        header: Sequence[str] | bytes = (),
        n: int | None = None,
        strict_spec: bool = False,
        replace: bool = False,
        calls: Calls = SYSTEM,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        native = np.dtype(dtype)
        self._code = native.kind + str(native.itemsize)
        if self._code not in CODES:
            raise TypeError(f"dtype must be one of {', '.join(CODES)}, got {native}")
        self.kind: Kind = kind
        self.dtype = RECORD if kind == "rot" else np.dtype("<" + self._code)
        self._dims, self._inner, self.row_shape, cells = _shapes(kind, row_shape, som_shape, layout)
        n = cells if kind == "som" else n
        if n is not None and not 0 <= n <= MOST_INT:
            raise ValueError(f"n must be 0..{MOST_INT}, got {n}")
        self._field = int(strict_spec and layout == "hexagonal")
        self._comment = comment_bytes(header)
        self._n = n
        self.nrows = 0
        self._out = NewWhole(path, calls, replace=replace)
        self._out.write(self._head(n or 0))  # if n is not known, close writes it again

    def _head(self, n: int) -> bytes:
        dims, inner = self._dims, self._inner
        comment = self._comment
        return pack(self.kind, self._code, n, dims, inner, field=self._field, comment=comment)

    def append(self, row: ArrayLike) -> None:
        """Write one row."""
        self.extend(np.asarray(row)[None])

    def extend(self, rows: ArrayLike) -> None:
        """Write rows, ``(n, *row_shape)``; the type of the file has to hold their numbers.

        Floats may lose digits, but not become infinite.
        """
        if self.kind == "rot":
            found = np.asarray(rows)
            if found.dtype.names != RECORD.names:
                raise TypeError(f"records of flip and angle expected, got {found.dtype}")
            if found.shape[1:] != self.row_shape:
                raise ValueError(f"rows of shape {self.row_shape} expected, got {found.shape[1:]}")
            made = records(found["flip"], found["angle"])
            n, data = len(made), made.reshape(-1).view(np.uint8).data
        else:
            n, data = stored(rows, self.row_shape, self.dtype)
        most = MOST_INT if self._n is None else self._n
        with self._turn:
            if self.nrows + n > most:
                raise LimitError(f"{self._out.said}: more than {most} rows")
            self._out.write(data)
            self.nrows += n

    @one_at_a_time
    def close(self) -> None:
        """Sync the file, and give it its name.

        Raises
        ------
        ValueError
            There are fewer rows than ``n``, or than neurons of the SOM.  No file is made.
        """
        if self._n not in (None, self.nrows):
            self.abort()
            raise ValueError(f"{self._out.said}: {self._n} rows expected, {self.nrows} were given")
        self._out.head = self._head(self.nrows)
        self._out.commit()

    @one_at_a_time
    def abort(self) -> None:
        """Remove the unfinished file."""
        self._out.abort()


def _shapes(
    kind: Kind,
    row_shape: tuple[int, ...] | None,
    som_shape: tuple[int, ...] | None,
    layout: Layout,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Return both dimensions of the header, those of a row, and the number of cells of the SOM."""
    rows = None if row_shape is None else _dims("row_shape", row_shape)
    if (rows is None) == (kind in ("data", "som")):
        raise ValueError(f"row_shape is for data and som, and needed there; kind is {kind}")
    if (som_shape is None) == (kind != "data"):
        raise ValueError(f"som_shape is for som, map and rot, and needed there; kind is {kind}")
    if layout not in ("cartesian", "hexagonal"):
        raise ValueError(f"layout must be cartesian or hexagonal, got {layout!r}")
    if som_shape is None:
        if layout != "cartesian":
            raise ValueError("data is cartesian")
        return rows or (), (), rows or (), 0
    dims = _dims("som_shape", som_shape)
    cells = hexagonal(dims) if layout == "hexagonal" else math.prod(dims)
    if cells is None:
        raise ValueError(f"a hexagon is as wide as high, and odd, not {dims}")
    return dims, rows or (), rows if kind == "som" and rows else (cells,), cells


def _dims(name: str, dims: Sequence[int]) -> tuple[int, ...]:
    found = tuple(int(d) for d in dims)
    if not 1 <= len(found) <= MOST_DIMS or not all(1 <= d <= MOST_INT for d in found):
        raise ValueError(f"{name} of 1 to {MOST_DIMS} positive numbers expected, got {found}")
    return found


def records(flip: ArrayLike, angle: ArrayLike) -> NDArray[Any]:
    """Return flips and angles as the records of a rotation file.

    Parameters
    ----------
    flip : array_like of bool, or of 0 and 1
        Whether entries were flipped.
    angle : array_like of float
        Radians, finite; of the same shape.
    """
    flips, angles = np.asarray(flip), np.asarray(angle)
    if flips.shape != angles.shape:
        raise ValueError(f"flips of {flips.shape}, angles of {angles.shape}")
    found = np.empty(flips.shape, RECORD)
    found["flip"] = flips
    with np.errstate(over="ignore"):
        found["angle"] = angles
    if not np.isin(flips, (0, 1)).all() or not np.isfinite(found["angle"]).all():
        raise ValueError("flips of 0 and 1, and finite angles expected")
    return found


def write_data(path: Path, entries: ArrayLike, **options: Any) -> None:
    """Write entries, (n, length), (n, h, w) or (n, channels, h, w); options as for ``Writer``."""
    array = np.asarray(entries)
    _write(path, "data", array, row_shape=array.shape[1:], **options)


def write_som(
    path: Path,
    neurons: ArrayLike,
    som_shape: tuple[int, ...] | None = None,
    *,
    layout: Layout = "cartesian",
    **options: Any,
) -> None:
    """Write a SOM.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    neurons : array_like
        ``(*som_shape, *neuron shape)``, or all neurons by number, ``(n, *neuron shape)``.
    som_shape : tuple of int, optional
        Needed for a cartesian SOM; that of a hexagon follows from the number of neurons.
    layout : {"cartesian", "hexagonal"}
        Layout of the SOM.
    **options
        As for ``Writer``.
    """
    array = np.asarray(neurons)
    dims = _side(len(array)) if som_shape is None and layout == "hexagonal" else som_shape
    if dims is None:
        raise ValueError("som_shape is needed for a cartesian SOM")
    if layout == "cartesian" and array.shape[: len(dims)] == tuple(dims):
        array = array.reshape(math.prod(dims), *array.shape[len(dims) :])
    _write(path, "som", array, array.shape[1:], som_shape=dims, layout=layout, **options)


def _side(n: int) -> tuple[int, int]:
    """Return width and height of the hexagon of n cells."""
    side = (math.isqrt(max(12 * n - 3, 0)) // 3) | 1
    if hexagonal((side, side)) != n:
        raise ValueError(f"{n} neurons make no hexagon, as 1, 7, 19, 37 ... do")
    return side, side


def write_map(
    path: Path,
    distances: ArrayLike,
    som_shape: tuple[int, ...] | None = None,
    *,
    layout: Layout = "cartesian",
    **options: Any,
) -> None:
    """Write distances, (n, neurons); ``som_shape`` and options as for ``write_som``."""
    array = np.asarray(distances)
    dims = _of_rows(array, som_shape, layout)
    _write(path, "map", array, som_shape=dims, layout=layout, **options)


def write_rot(
    path: Path,
    flip: ArrayLike,
    angle: ArrayLike,
    som_shape: tuple[int, ...] | None = None,
    *,
    layout: Layout = "cartesian",
    **options: Any,
) -> None:
    """Write flips and angles, (n, neurons) each; ``som_shape`` and options as for ``write_som``."""
    array = records(flip, angle)
    dims = _of_rows(array, som_shape, layout)
    _write(path, "rot", array, som_shape=dims, layout=layout, **options)


def _of_rows(
    array: NDArray[Any], som_shape: tuple[int, ...] | None, layout: Layout
) -> tuple[int, ...]:
    if array.ndim != 2:
        raise ValueError(f"(n, neurons) expected, got {array.shape}")
    if som_shape is not None:
        return som_shape
    if layout != "hexagonal":
        raise ValueError("som_shape is needed for a cartesian SOM")
    return _side(array.shape[1])


def _write(
    path: Path,
    kind: Kind,
    array: NDArray[Any],
    row_shape: tuple[int, ...] | None = None,
    **options: Any,
) -> None:
    with Writer(path, kind, row_shape, n=len(array), **options) as out:
        step = max(1, WRITE_STEP_NBYTES // max(1, array[:1].nbytes))
        for at in range(0, len(array), step):
            out.extend(array[at : at + step])
