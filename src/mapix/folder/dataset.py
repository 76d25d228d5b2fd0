"""An image folder as a sequence of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.batch import Batch, Layout
from mapix.errors import UnsupportedError
from mapix.folder.batching import ImageBatch, Order, PictureDtype, Team
from mapix.folder.core import Core
from mapix.folder.fitting import Fit
from mapix.folder.record import Record
from mapix.report import Report
from mapix.selection import Rows, compose, integer, part, position, positions

__all__ = ["ImageFolder"]


class ImageFolder:
    """Records of a ``metadata.jsonl``, and the pictures that they name.  Made by ``mapix.open``.

    Indexing with an integer gives a ``Record``, with a file name the record that has it, with a
    slice, indices or a mask a lazy part.  Lines are found and parsed as they are asked for.
    Pickles as path and fingerprint of the metadata file.

    Attributes
    ----------
    split : str or None
        The split that was opened.
    splits : tuple of str
        Names of the sub-folders that hold a metadata file.
    """

    def __init__(
        self,
        core: Core,
        *,
        rows: Rows = None,
        split: str | None = None,
        splits: tuple[str, ...] = (),
    ) -> None:
        self._core = core
        self._rows = rows
        self.split = split
        self.splits = splits

    # --- what it is -------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The metadata file."""
        return self._core.path

    @property
    def folder(self) -> str:
        """Where it lies, from the root of the file system; file names are relative to it."""
        return self._core.files.full_folder

    def __len__(self) -> int:
        _ = self._core.source.mapping  # ClosedError
        return len(self._core.lines) if self._rows is None else len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._by_name(key)
        number = integer(key)
        if number is not None:
            return Record(self._core, self._row(number))
        rows = part(key, self._rows, len(self), self.path)
        return ImageFolder(self._core, rows=rows, split=self.split, splits=self.splits)

    def _row(self, i: int) -> int:
        if self._rows is None and i >= 0 and self._core.lines.has(i):
            return i  # the lines behind it are not looked for
        i = position(i, len(self), self.path)
        return i if self._rows is None else int(self._rows[i])

    def _by_name(self, name: str) -> Record:
        found = self.find(name)
        if len(found) != 1:
            reason = "no record names" if not len(found) else f"{len(found)} records name"
            more = "; find() gives them" if len(found) else ""
            raise KeyError(f"{self.path}: {reason} {name!r}{more}")
        record: Record = self[int(found[0])]
        return record

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and len(self.find(name)) > 0

    def find(self, name: str) -> NDArray[np.int64]:
        """Positions of the records that name a file, in any of their keys, ascending, int64 (k,).

        The first call reads all lines: some microseconds each, with ``orjson`` installed fewer.
        """
        rows = self._core.rows_named(name)
        if self._rows is None:
            return rows
        return np.flatnonzero(np.isin(np.asarray(self._rows), rows)).astype(np.int64)

    def __iter__(self) -> Iterator[Record]:
        if self._rows is not None:
            return (Record(self._core, int(row)) for row in self._rows)
        return (Record(self._core, i, m) for i, m in enumerate(self._core.all_metadata()))

    def column(self, key: str) -> list[Any]:
        """What all records have under a key of their lines; None where they have nothing."""
        return [record.metadata.get(key) for record in self]

    # --- batches ----------------------------------------------------------------------------------

    def batch(
        self,
        indices: ArrayLike,
        out: NDArray[Any] | Batch | None = None,
        dtype: PictureDtype | None = None,
        *,
        layout: Layout = "NHWC",
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        size: tuple[int, int] | None = None,
        fit: str = "exact",
        mode: str | None = None,
        pad_value: float = 0.0,
        resample: str = "bilinear",
        draft: bool = False,
        threads: int = 1,
    ) -> ImageBatch:
        """Read and decode pictures into one contiguous array.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask
            Records, in any order, repeated or not.
        out : ndarray or Batch, optional
            C-contiguous, of the right type and shape (or with more rows).
        dtype : {"uint8", "uint16", "int32", "uint32", "float32", "float16"}, optional
            uint8 by default.  Pictures deeper than 8 bits need floats, which are their numbers
            rounded to that type, or an integer type that holds them, which has them as they are.
        layout : {"NHWC", "NCHW"}
            Order of the images.
        scale, mean, std : float or array_like, optional
            Floats are ``(number * scale - mean) / std``, per channel.
        size : (h, w), optional
            Of the output.
        fit : {"exact", "resize", "letterbox", "cover", "pad", "crop"}
            How a picture of another size gets there.  ``"exact"``: not at all.  Scaled:
            ``"resize"`` to h x w, whatever becomes of its shape; ``"letterbox"`` to lie within,
            centred, the rest padded; ``"cover"`` to cover it, the middle cut out.  Not scaled:
            ``"pad"`` puts it top left, without ``size`` on a canvas of the largest h and w of the
            batch; ``"crop"`` cuts out the middle.
        mode : {"L", "LA", "RGB", "RGBA"}, optional
            What all pictures are converted to, 8 bits a channel; without it they have to be alike.
            16 bits become 8 by number / 257, rounded.  Deeper pictures are refused: their files do
            not state a range of numbers.
        pad_value : float
            What is padded with, in units of the output.
        resample : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
            Pillow's filters.
        draft : bool
            Whether JPEG may be decoded at half, a quarter or an eighth of its size where that is
            still as large as needed: 2.4 times as fast from 1500 x 2000 to 224 x 224, and
            slightly other pixels.
        threads : int
            Threads that read and decode; Pillow lets them run side by side.

        Returns
        -------
        ImageBatch
            ``images``, ``shapes`` (of the pictures as they were), ``boxes``, ``places``,
            ``records``.

        Raises
        ------
        ValueError
            Sizes or channels differ and nothing was said about it; arguments that do not fit;
            numbers that ``dtype`` does not hold, or for which ``mode`` has no rule.
        FormatError
            A picture cannot be decoded, or its name is refused.

        Notes
        -----
        Copies: the file once (by ``read``, so that files cut short do no harm), and the pixels that
        Pillow decoded once.
        """
        order = Order(
            Fit(_size(size), fit, mode, resample, draft),
            *(dtype, layout, scale, mean, std, pad_value),
        )
        with Team(threads) as team:
            return self._begun(indices, order, out, team, team)()

    def _begun(
        self, indices: ArrayLike, order: Order, out: Any, decoders: Team, putters: Team
    ) -> Callable[[], ImageBatch]:
        rows = compose(self._rows, positions(indices, len(self), self.path))
        records = [Record(self._core, int(row)) for row in rows]
        wait = decoders.begin(order.fitted, records)
        return lambda: order.batch(records, wait(), out, putters)

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[ImageBatch]:
        """Batches of all records, or of ``order``; options as for ``batch``, but ``out``.

        With threads, the next batch is decoded while the last one is used.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        n = len(self)
        indices = np.arange(n) if order is None else positions(order, n, self.path)
        end = len(indices) - len(indices) % batch_size if drop_last else len(indices)
        parts = [indices[k : min(k + batch_size, end)] for k in range(0, end, batch_size)]
        return self._batches(parts, **options)

    def _batches(
        self,
        parts: list[NDArray[np.int64]],
        dtype: PictureDtype | None = None,
        *,
        layout: Layout = "NHWC",
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        size: tuple[int, int] | None = None,
        fit: str = "exact",
        mode: str | None = None,
        pad_value: float = 0.0,
        resample: str = "bilinear",
        draft: bool = False,
        threads: int = 1,
    ) -> Iterator[ImageBatch]:
        order = Order(
            Fit(_size(size), fit, mode, resample, draft),
            *(dtype, layout, scale, mean, std, pad_value),
        )
        with Team(threads) as team:
            waiting, alone = None, Team(1)  # the team is at the next batch: not behind that
            for part in parts:
                begun = self._begun(part, order, None, team, alone)
                if waiting is not None:
                    yield waiting()
                waiting = begun
            if waiting is not None:
                yield waiting()

    # --- checks -----------------------------------------------------------------------------------

    def verify(self, progress: Any = None) -> Report:
        """``mapix.folder.lint`` of this folder."""
        from mapix.folder.checking import check

        return check(self, progress=progress)

    # --- life -------------------------------------------------------------------------------------

    def joined(self, others: Any) -> Any:
        """Refused, so far."""
        raise UnsupportedError(f"{self.path}: several image folders cannot be opened as one")

    def close(self) -> None:
        """Let go of file and folder.  ``bytes`` of records stay valid; calls raise ClosedError."""
        self._core.close()

    def __enter__(self) -> ImageFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        from mapix.folder.opening import reopen

        core = self._core
        rows = self._rows
        what = (core.source.full_path, core.files.root, core.source.identity, core.settings)
        return reopen, (*what, rows, self.split, self.splits)

    def __repr__(self) -> str:
        if self._core.source.closed:
            return f"<mapix.folder.ImageFolder {self.path}: closed>"
        return f"<mapix.folder.ImageFolder {self.path}: {len(self)} records>"


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    found = tuple(size) if isinstance(size, tuple | list) else ()
    if len(found) != 2 or not all(isinstance(n, int) and 0 < n <= 65535 for n in found):
        raise ValueError(f"size must be (h, w), each 1..65535, got {size!r}")
    return found
