"""An IDX file as an array, and as rows for a loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.batch import Batch, Dtype, Recipe, gather
from mapix.errors import UnsupportedError
from mapix.formats.idx import NAME, Header
from mapix.selection import Rows, compose, positions
from mapix.source import Source
from mapix.view import selected

__all__ = ["IdxArray"]

MOST_SIDE = 65535


def _factors(n: int) -> tuple[int, int, int] | None:
    """Three numbers up to 65535 whose product is n; None for sizes that have none."""
    if n <= MOST_SIDE:
        return 1, n, 1
    for a in range(n // MOST_SIDE + (n % MOST_SIDE > 0), MOST_SIDE + 1):
        if n % a == 0 and n // a <= MOST_SIDE:
            return a, n // a, 1
    return None


def _recipe(dtype: str, scale: Any = None, mean: Any = None, std: Any = None) -> Recipe:
    """Rows as pictures of one channel, as large as they are, without labels."""
    return Recipe(
        dtype, "NHWC", scale, mean, std, c=1, fit=0, pad_value=0.0, columns=None, names=()
    )


class IdxArray:
    """Rows of an IDX file.  Made by ``mapix.open``.

    Indexing with an integer gives a row as a read-only view, with a slice, indices or a mask a lazy
    part.  Pickles as path and fingerprint.

    Attributes
    ----------
    source : Source
        The file that was opened.
    header : Header
        Byte order, type and dimensions.
    labels : IdxArray or None
        The labels that lie beside a file of images (``...-labels-idx1-ubyte``), row for row.
    """

    def __init__(
        self,
        source: Source,
        header: Header,
        *,
        numbers: Source | None = None,
        labels: IdxArray | None = None,
        rows: Rows = None,
    ) -> None:
        self.source = source
        self.header = header
        self.labels = labels
        self._numbers = source if numbers is None else numbers  # a .gz's lie in the cache
        self._rows = rows
        self._n = header.shape[0] if rows is None else len(rows)

    # --- what it is -------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The file."""
        return self.source.path

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the numbers as the file has them, byte order included."""
        return self.header.dtype

    @property
    def byteorder(self) -> Literal[">", "<"]:
        """``">"``: MNIST's; ``"<"``: VisualRBM's."""
        return self.header.order

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions, rows first."""
        return (self._n, *self.header.shape[1:])

    def __len__(self) -> int:
        return self._n

    def view(self) -> NDArray[Any]:
        """The array, in the file's type, read-only, aliasing the file.

        Copies: none, but for parts chosen by indices.  Of a ``.gz`` it aliases the decompressed
        file in the cache.  Lifetime: outlives ``close()``.
        """
        found: NDArray[Any] = np.ndarray(
            self.header.shape, self.dtype, self._numbers.view, self.header.nbytes
        )
        if self._rows is None or isinstance(self._rows, range):
            return selected(found, self._rows)
        return found[self._rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.view(), dtype=dtype, copy=copy)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int | np.integer):
            if not -self._n <= key < self._n:
                raise IndexError(f"{self.path}: index {key} of {self._n} rows")
            row = int(key) % self._n
            at = row if self._rows is None else int(self._rows[row])
            begin = self.header.nbytes + at * self.header.row_nbytes
            return np.ndarray(self.header.shape[1:], self.dtype, self._numbers.view, begin)
        rows: Rows
        if isinstance(key, slice):
            base = range(self._n) if self._rows is None else self._rows
            rows = base[key]
        else:
            rows = compose(self._rows, positions(key, self._n, self.path))
        labels = None if self.labels is None else self.labels[key]
        return IdxArray(self.source, self.header, numbers=self._numbers, labels=labels, rows=rows)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(self._n))

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
            ``images`` are (b, *row shape); ``labels`` uint8 (b, 1) where labels lie beside.

        Notes
        -----
        Copies: each row once, under the guard against files that shrink; bytes are made floats in
        the same pass.
        """
        rows = compose(self._rows, positions(indices, self._n, self.path))
        code = self.header.code
        fused = (
            code == "u1"
            and len(self.header.shape) <= 3
            and dtype in (None, "uint8", "float32", "float16")
        )
        if fused and all(0 < d <= MOST_SIDE for d in self.header.shape[1:]):
            images = self._fused(rows, out, dtype or "uint8", scale, mean, std, threads)
        else:
            images = self._plain(rows, out, dtype, scale, mean, std)
        labels = present = None
        if self.labels is not None:
            labels = self.labels.batch(indices).images.reshape(-1, 1)
            present = np.ones(labels.shape, np.bool_)
        h, w = (*self.header.shape[1:], 1, 1)[:2]
        shapes = np.broadcast_to(
            np.array([min(h, MOST_SIDE), min(w, MOST_SIDE), 1], np.uint16), (len(rows), 3)
        )
        return Batch(
            images, labels, present, shapes, None, None, () if labels is None else ("label",)
        )

    def _gathered(
        self,
        rows: NDArray[np.int64],
        sides: tuple[int, int, int],
        recipe: Recipe,
        out: Any,
        threads: int,
    ) -> NDArray[Any]:
        h, w, c = sides
        index = _native.VimhIndex(
            nrecords=self.header.shape[0],
            stride=self.header.row_nbytes,
            first=(self.header.nbytes, h, w, c, 0),
            entries=None,
            head_nbytes=0,
            interleaved=True,
        )
        shapes = np.broadcast_to(np.array(sides, np.uint16), (len(rows), 3))
        found = gather(
            self._numbers.mapping,
            index,
            rows,
            recipe,
            h=h,
            w=w,
            shapes=shapes,
            out=out,
            threads=min(threads, 16),
        )
        return found.images

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
        inner = self.header.shape[1:]
        h, w = ((1, 1, *inner))[-2:]
        recipe = _recipe(dtype, scale, mean, std)
        shaped = (len(rows), *inner)
        target = None
        if out is not None:
            target = _fits(out, shaped, np.dtype(dtype)).reshape(len(rows), h, w, 1)
        return self._gathered(rows, (h, w, 1), recipe, target, threads).reshape(shaped)

    def _plain(
        self, rows: NDArray[np.int64], out: Any, dtype: str | None, scale: Any, mean: Any, std: Any
    ) -> NDArray[Any]:
        native = self.dtype.newbyteorder("=")
        shaped = (len(rows), *self.header.shape[1:])
        made = np.empty(shaped, native)
        raw = made.reshape(len(rows), -1).view(np.uint8) if made.size else None
        sides = _factors(self.header.row_nbytes)
        if raw is not None and sides is not None:
            self._gathered(rows, sides, _recipe("uint8"), raw.reshape(len(rows), *sides), 1)
        elif raw is not None:
            for k, row in enumerate(rows.tolist()):
                at = self.header.nbytes + row * self.header.row_nbytes
                raw[k] = np.frombuffer(
                    _native.copy(self._numbers.mapping, at, self.header.row_nbytes, NAME), np.uint8
                )
        if self.dtype != native:
            made.byteswap(inplace=True)
        wanted = native if dtype is None else np.dtype(dtype)
        if scale is not None or mean is not None or std is not None:
            if wanted.kind != "f":
                raise ValueError("scale, mean and std need a dtype of floats")
            numbers = made.astype(np.float64) * (1.0 if scale is None else scale)
            made = (numbers - np.asarray(0.0 if mean is None else mean)) / np.asarray(
                1.0 if std is None else std
            )
        if out is None:
            return made.astype(wanted, copy=False)
        target = _fits(out, shaped, wanted)
        np.copyto(target, made, casting="unsafe")
        return target

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[Batch]:
        """Batches of all rows, or of ``order``."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        indices = np.arange(self._n) if order is None else positions(order, self._n, self.path)
        end = len(indices) - len(indices) % batch_size if drop_last else len(indices)
        for begin in range(0, end, batch_size):
            yield self.batch(indices[begin : min(begin + batch_size, end)], **options)

    # --- life -------------------------------------------------------------------------------------

    def joined(self, others: Any) -> Any:
        """Refused: several IDX files are one by ``mapix.idx.write`` of their rows."""
        raise UnsupportedError(f"{self.path}: several IDX files cannot be opened as one")

    def close(self) -> None:
        """Let go of the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        self.source.close()
        self._numbers.close()
        if self.labels is not None:
            self.labels.close()

    def __enter__(self) -> IdxArray:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        from mapix.idx.opening import reopen

        return reopen, (self.path, self.source.fingerprint, self.labels is not None, self._rows)

    def __repr__(self) -> str:
        if self.source.closed:
            return f"<mapix.idx.IdxArray {self.path}: closed>"
        more = ", with labels" if self.labels is not None else ""
        return f"<mapix.idx.IdxArray {self.path}: {self.dtype.str} {self.shape}{more}>"


def _fits(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    ok = isinstance(out, np.ndarray) and out.dtype == dtype and out.flags.c_contiguous
    if not ok or out.shape[1:] != shape[1:] or len(out) < shape[0]:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(
            f"out must be C-contiguous {dtype} of shape {shape} (or with more rows), got {got}"
        )
    found: NDArray[Any] = out[: shape[0]]
    return found
