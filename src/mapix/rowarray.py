"""Rows of one type and shape, one behind the other in a file: views, lazy parts, batches.

What the formats that are arrays share (IDX, PINK): a format says where the numbers begin, of what
type and shape they are, and how the file is opened again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.batch import Batch, Dtype, Lookout, Recipe, Samples, affine, batches, gather
from mapix.errors import UnsupportedError
from mapix.placement import Placement
from mapix.selection import Rows, axes, chosen, compose, positions
from mapix.source import Source
from mapix.view import selected

__all__ = ["RowArray", "stored"]

MOST_SIDE = 65535
MOST_NAMED = 1024  # columns of labels; of more all have one name
BLOCK_NBYTES = 8 << 20  # of rows handled at once in a pass over all


def _recipe(dtype: str, scale: Any = None, mean: Any = None, std: Any = None) -> Recipe:
    """Rows as pictures of one channel, as large as they are, without labels."""
    return Recipe(
        dtype, "NHWC", scale, mean, std, c=1, fit=0, pad_value=0.0, columns=None, names=()
    )


def stored(
    rows: ArrayLike, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[int, memoryview]:
    """Rows as a file of that type has them: how many, and their bytes.

    Raises
    ------
    ValueError
        They are of another shape, or ``dtype`` does not hold one of the numbers.  Floats may lose
        digits, but not become infinite.
    TypeError
        They are floats, and ``dtype`` is not.
    """
    array = np.asarray(rows)
    if array.shape[1:] != row_shape or array.ndim == 0:
        raise ValueError(f"rows of shape {row_shape} expected, got {array.shape[1:]}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"rows of numbers expected, got {array.dtype}")
    if array.dtype.kind == "f" and dtype.kind != "f":
        raise TypeError(f"{array.dtype} rows for a file of {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.ascontiguousarray(array, dtype)
        if array.dtype.kind == "f":
            held = made.itemsize >= array.itemsize or not np.any(np.isinf(made) & ~np.isinf(array))
        elif dtype.kind == "f":
            held = np.array_equal(made.astype(array.dtype), array)
        else:  # there and back again -1 would be 255, and then -1
            held = np.can_cast(array.dtype, dtype) or np.array_equal(made, array)
    if not held:
        raise ValueError(f"numbers that {dtype} does not hold")
    return len(array), made.reshape(-1).view(np.uint8).data


class RowArray:
    """Rows of a file.  Base of what formats hand out; made by ``mapix.open``.

    Indexing with an integer gives a row as a read-only view, with a slice, indices or a mask a lazy
    part.  A tuple is what it is to numpy: ``a[0, 3]`` is line 3 of row 0, ``a[:5, 0]`` the first
    lines of five rows; views where ints and slices choose them, copies where arrays do.  Pickles as
    path and fingerprint.

    Parameters
    ----------
    source : Source
        The file that was opened.
    dtype : numpy.dtype
        Of the numbers as the file has them, byte order included.
    shape : tuple of int
        Dimensions, rows first; proven to lie in the file.
    at : int
        Byte of the first number.
    numbers : Source, optional
        Where the numbers lie, when that is not ``source`` (a ``.gz``'s lie in the cache).
    labels : RowArray, optional
        A row, often of one number, for each row.
    """

    SEVERAL = "several files of this format cannot be opened as one"

    def __init__(
        self,
        source: Source,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        at: int,
        *,
        numbers: Source | None = None,
        labels: RowArray | None = None,
    ) -> None:
        self.source = source
        self.labels = labels
        self._numbers = source if numbers is None else numbers
        self._dtype = dtype
        self._shape = shape
        self._at = at
        self._row_nbytes = dtype.itemsize * math.prod(shape[1:])
        self._rows: Rows = None
        self._n = shape[0]

    # --- what it is -------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The file."""
        return self.source.path

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers as the file has them, byte order included."""
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions, rows first."""
        return (self._n, *self._shape[1:])

    def __len__(self) -> int:
        return self._n

    def view(self) -> NDArray[Any]:
        """The array, in the file's type, read-only, aliasing the file, aligned or not.

        Copies: none, but for parts chosen by indices.  Of a ``.gz`` it aliases the decompressed
        file in the cache.  Lifetime: outlives ``close()``.
        """
        if isinstance(self._rows, np.ndarray):
            return self._copied(self._rows)
        found: NDArray[Any] = np.ndarray(self._shape, self._dtype, self._numbers.view, self._at)
        return selected(found, self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy made under the guard; with ``copy=False`` the view of the file."""
        wanted = self._dtype if dtype is None else np.dtype(dtype)
        if copy is False:
            if wanted != self._dtype:
                raise ValueError(f"{self.path}: {self._dtype} as {wanted} needs a copy")
            return self.view()
        rows = np.arange(self._shape[0]) if self._rows is None else np.asarray(self._rows, np.int64)
        return self._copied(rows).reshape(self.shape).astype(wanted, copy=False)

    def _copied(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of the file in the file's type, copied under the guard."""
        made = np.empty((len(rows), *self._shape[1:]), self._dtype)
        if made.size:
            self._array(swap=1).gather(self._numbers.mapping, rows, made, "rows")
        return made

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int and 0 <= key < self._n:  # the usual key; the rest is decided elsewhere
            return self._row(key if self._rows is None else int(self._rows[key]))
        if isinstance(key, tuple):
            return self._within(key)
        found = chosen(key, self._rows, self._n, self.path, "rows")
        return self._row(found) if isinstance(found, int) else self.of(found)

    def _within(self, key: tuple[Any, ...]) -> Any:
        """What a tuple of indices is to numpy.

        A view where ints and slices choose it, and the rows lie in the file as they are handed out;
        else a copy of the chosen rows under the guard, indexed by numpy.
        """
        index = axes(key, (self._n, *self._shape[1:]), self.path)
        first, rest = index[0], tuple(index[1:])
        if not any(isinstance(k, np.ndarray) for k in index):
            if isinstance(first, int) and any(isinstance(k, slice) for k in rest):
                return self[first][rest]
            if isinstance(first, slice) and self._aliases:
                return RowArray.view(self)[tuple(index)]
        rows = np.atleast_1d(np.arange(self._n)[first])
        again = {int: 0, slice: slice(None)}.get(type(first), np.arange(len(rows)))
        return self.batch(rows).images[(again, *rest)]

    @property
    def _aliases(self) -> bool:
        """Whether all rows are one view; for subclasses that decode rows, too."""
        return not isinstance(self._rows, np.ndarray)

    def _row(self, row: int) -> NDArray[Any]:
        begin = self._at + row * self._row_nbytes
        return np.ndarray(self._shape[1:], self._dtype, self._numbers.view, begin)

    def of(self, rows: Rows) -> Self:
        """The part of the whole file that these rows of it are; how a pickle comes back."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part._rows, part._n = rows, self._shape[0] if rows is None else len(rows)
        part.labels = None if self.labels is None else self.labels.of(rows)
        return part

    def __iter__(self) -> Iterator[NDArray[Any]]:
        rows = range(self._n) if self._rows is None else self._rows
        return (self._row(int(row)) for row in rows)

    def __getitems__(self, indices: ArrayLike) -> Samples:
        """Rows by one gather, each with its label where labels lie beside.

        What PyTorch's DataLoader asks for: it makes ``images`` of them, or ``[images, labels]``.
        """
        batch = self.batch(indices)
        return Samples(batch.images, batch.labels)

    # --- batches ----------------------------------------------------------------------------------

    def batch(
        self,
        indices: ArrayLike,
        out: NDArray[Any] | None = None,
        dtype: Dtype | None = None,
        *,
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        threads: int = 1,
    ) -> Batch:
        """Copy rows into one contiguous array in this machine's byte order.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask
            Rows, in any order, repeated or not.
        out : ndarray, optional
            C-contiguous, of the right type and shape (or with more rows).
        dtype : {"uint8", "float32", "float16"}, optional
            The file's own type by default.
        scale, mean, std : float or array_like, optional
            Floats are ``(number * scale - mean) / std``: one number each.
        threads : int
            Threads that copy.

        Returns
        -------
        Batch
            ``images`` are (b, *row shape); ``labels``, where they lie beside, (b, *their row shape)
            in their file's type: (b,) of MNIST's, ``names`` being ``label``; (b, k) of rows of k
            numbers, ``label_0`` to ``label_<k - 1>`` (``label`` of more than 1024).  ``present`` is
            all True.

        Notes
        -----
        Copies: each row once, under the guard against files that shrink; numbers are turned round,
        and bytes are made floats, in the same pass.
        """
        rows = compose(self._rows, positions(indices, self._n, self.path))
        if self._is_fused(dtype):
            images = self._fused(rows, out, dtype or "uint8", scale, mean, std, threads)
        else:
            images = self._plain(rows, out, dtype, scale, mean, std, threads)
        labels = present = None
        if self.labels is not None:
            labels = self.labels.batch(indices).images
            present = np.ones(labels.shape, np.bool_)
        h, w = (*self._shape[1:], 1, 1)[:2]
        shapes = np.broadcast_to(
            np.array([min(h, MOST_SIDE), min(w, MOST_SIDE), 1], np.uint16), (len(rows), 3)
        )
        return Batch(
            images,
            labels,
            present,
            shapes,
            None,
            None,
            () if labels is None else _names(labels.shape[1:]),
        )

    def _is_fused(self, dtype: Any) -> bool:
        """Whether rows are handled as pictures of one channel; all of ``dtype`` are known there."""
        return (
            self._dtype == np.uint8
            and len(self._shape) <= 3
            and dtype in (None, "uint8", "float32", "float16")
            and all(0 < d <= MOST_SIDE for d in self._shape[1:])
        )

    def _fused(
        self,
        rows: NDArray[np.int64],
        out: Any,
        dtype: str,
        scale: Any,
        mean: Any,
        std: Any,
        threads: int,
    ) -> NDArray[Any]:
        """Bytes as pictures of one channel: what turns VIMH's into floats does it for them, too."""
        h, w = (1, 1, *self._shape[1:])[-2:]
        shaped = (len(rows), *self._shape[1:])
        target = None
        if out is not None:
            target = _fits(out, shaped, np.dtype(dtype)).reshape(len(rows), h, w, 1)
        index = _native.VimhIndex(
            nrecords=self._shape[0],
            stride=self._row_nbytes,
            first=(self._at, h, w, 1, 0),
            entries=None,
            head_nbytes=0,
            interleaved=True,
        )
        found = gather(
            self._numbers.mapping,
            index,
            rows,
            _recipe(dtype, scale, mean, std),
            h=h,
            w=w,
            shapes=np.broadcast_to(np.array([h, w, 1], np.uint16), (len(rows), 3)),
            out=target,
            threads=threads,
        )
        return found.images.reshape(shaped)

    def _plain(
        self,
        rows: NDArray[np.int64],
        out: Any,
        dtype: str | None,
        scale: Any,
        mean: Any,
        std: Any,
        threads: int,
    ) -> NDArray[Any]:
        native = self._dtype.newbyteorder("=")
        wanted = native if dtype is None else np.dtype(dtype)
        shaped = (len(rows), *self._shape[1:])
        target = None if out is None else _fits(out, shaped, wanted)
        arithmetic = not (scale is None and mean is None and std is None)
        if arithmetic and wanted.kind != "f":
            raise ValueError("scale, mean and std need a dtype of floats")
        straight = target is not None and wanted == native and not arithmetic
        made = target if target is not None and straight else np.empty(shaped, native)
        if made.size:
            swap = 1 if self._dtype.isnative else self._dtype.itemsize
            self._array(swap).gather(self._numbers.mapping, rows, made, "rows", threads)
        self._decode(made)
        if arithmetic:
            numbers = made.astype(np.float64) * (1.0 if scale is None else scale)
            made = (numbers - np.asarray(0.0 if mean is None else mean)) / np.asarray(
                1.0 if std is None else std
            )
        if target is None:
            return made.astype(wanted, copy=False)
        if not straight:
            np.copyto(target, made, casting="unsafe")
        return target

    def placement(
        self,
        *,
        dtype: Dtype | None = None,
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
    ) -> Placement:
        """Where the rows lie in the file and in a batch of these options of ``batch``.

        For copies that ``batch`` does not make itself, as those of a GPU.

        Raises
        ------
        UnsupportedError
            ``batch`` converts these numbers in a way that is not described here.
        """
        native = self._dtype.newbyteorder("=")
        shape = self._shape[1:]
        plain = scale is None and mean is None and std is None
        if type(self)._decode is not RowArray._decode:
            raise UnsupportedError(f"{self.path}: rows are computed from the numbers of the file")
        h, w, out, pairs = 1, self._row_nbytes, native, None
        if self._is_fused(dtype):
            h, w = (1, 1, *shape)[-2:]
            out = np.dtype(dtype or "uint8")
            pairs = affine(out.name, scale, mean, std, 1)
        elif not plain or np.dtype(native if dtype is None else dtype) != native:
            raise UnsupportedError(f"{self.path}: {self._dtype} numbers are converted by ds.batch")
        return Placement(
            mapping=self._numbers.mapping,
            nrecords=self._shape[0],
            rows=self._rows,
            entries=None,
            first_at=self._at,
            stride=self._row_nbytes,
            nlabels=0,
            record=(h, w, 1),
            head_nbytes=0,
            interleaved=True,
            canvas=(h, w, 1),
            fit=0,
            layout="NHWC",
            swap=1 if self._dtype.isnative else self._dtype.itemsize,
            affine=pairs,
            pad_value=0.0,
            shape=shape,
            out=out,
        )

    def label_array(
        self, labels: str = "raw"
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]] | None:
        """All labels as ``batch`` gives them: values, presence, names; None without labels."""
        if self.labels is None:
            return None
        values = self.labels.batch(np.arange(self._n)).images
        return values, np.ones(values.shape, np.bool_), _names(values.shape[1:])

    def _array(self, swap: int = 1) -> _native.Array:
        """The rows for the core, which reverses the bytes of each number of ``swap`` bytes."""
        return _native.Array(
            at=self._at, row_nbytes=self._row_nbytes, nrows=self._shape[0], swap=swap
        )

    def _decode(self, made: NDArray[Any]) -> None:
        """Turn numbers as the file has them into those that rows are, in place; for subclasses."""

    def blocks(self, nbytes: int = BLOCK_NBYTES, *, reuse: bool = False) -> Iterator[NDArray[Any]]:
        """All rows in order, copied under the guard some at a time: a pass in bounded memory.

        With ``reuse`` they come in the same array, which the next ones overwrite.
        """
        step = max(1, nbytes // max(1, self._row_nbytes))
        room = None
        if reuse:
            native = self._dtype.newbyteorder("=")
            room = np.empty((min(step, self._n), *self._shape[1:]), native)
        in_order = self._rows is None or (isinstance(self._rows, range) and self._rows.step == 1)
        mapping = self._numbers.mapping
        if in_order:  # the kernel reads ahead, which for random rows it is told not to
            mapping.advise("sequential")
        try:
            for at in range(0, self._n, step):
                yield self.batch(np.arange(at, min(at + step, self._n)), room).images
        finally:
            if in_order:
                mapping.advise("random")

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[Batch]:
        """Batches of all rows, or of ``order``, the next one fetched from disk ahead of use."""
        indices = np.arange(self._n) if order is None else positions(order, self._n, self.path)
        return batches(self, batch_size, indices, drop_last=drop_last, options=options)

    def prefetch(self, indices: ArrayLike) -> int:
        """Ask the kernel to read these rows from disk in the background.

        Does nothing for rows that seem to be in memory.  Call it one batch ahead.

        Returns
        -------
        int
            How many rows were asked for.
        """
        rows = compose(self._rows, positions(indices, self._n, self.path))
        if not len(rows) or not self._row_nbytes:
            return 0
        return self._array().willneed(self._numbers.mapping, rows, Lookout.PROBES, "rows")

    # --- life -------------------------------------------------------------------------------------

    def joined(self, others: Any) -> Any:
        """Refused: rows of several files become one file by writing them again."""
        raise UnsupportedError(f"{self.path}: {self.SEVERAL}")

    def close(self) -> None:
        """Let go of the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        self.source.close()
        self._numbers.close()
        if self.labels is not None:
            self.labels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = f"mapix.{type(self).__module__.split('.')[1]}.{type(self).__name__}"
        if self.source.closed:
            return f"<{name} {self.path}: closed>"
        return f"<{name} {self.path}: {self._told()}>"

    def _told(self) -> str:
        """What it is, for ``repr``."""
        more = ", with labels" if self.labels is not None else ""
        return f"{self.dtype.str} {self.shape}{more}"


@functools.lru_cache(8)
def _names(row_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the columns of labels that lie in a file of their own."""
    if len(row_shape) == 1 and row_shape[0] <= MOST_NAMED:
        return tuple(f"label_{k}" for k in range(row_shape[0]))
    return ("label",)


def _fits(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    ok = isinstance(out, np.ndarray) and out.dtype == dtype and out.flags.c_contiguous
    if not ok or out.shape[1:] != shape[1:] or len(out) < shape[0]:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(
            f"out must be C-contiguous {dtype} of shape {shape} (or with more rows), got {got}"
        )
    found: NDArray[Any] = out[: shape[0]]
    return found
