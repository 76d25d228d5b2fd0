"""A VIMH file, or a part of one, as a sequence of records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import view
from mapix.batch import Batch, Dtype, Layout, batches, translated
from mapix.errors import UnsupportedError
from mapix.placement import Placement
from mapix.selection import Rows, compose, integer, part, position, positions
from mapix.vimh import record_batch as record_batch  # registers Record
from mapix.vimh import record_types
from mapix.vimh.care import Care
from mapix.vimh.gatherer import Gatherer
from mapix.vimh.parameters import Parameters, Unit
from mapix.vimh.query import Query
from mapix.vimh.record_types import Record

if TYPE_CHECKING:
    from mapix.vimh.joined import Joined

__all__ = ["Dataset"]


class Dataset(record_types.Rows, Query, Care):
    """Records of a VIMH file, by number.  Made by ``mapix.open``.

    Indexing with an integer gives a Record, with a slice or an array of indices (or a boolean mask)
    a lazy dataset of those records.  Datasets pickle as path, options and fingerprint, never as
    data: a worker opens the file itself, and refuses one that is not the same.

    Copies: none, but for ``batch`` and what says so.  Lifetime: arrays taken from a dataset stay
    valid after ``close()``.  Threads: any number, also across fork.  Cost: O(1) per record.

    Attributes
    ----------
    source : Source
        The open file.
    index : RecordIndex
        Where its records are.
    info : dict
        The info JSON as it was found; empty without one.
    splits : dict
        Name -> path of the splits that lie beside the file, itself included, from the root of the
        file system.
    interleaved : bool
        Whether pixels are taken as (h, w, c) in the file (``order="HWC"``).
    directory : str or None
        The directory that was opened without ``split``: ``verify`` checks all of its data files.
    """

    def __init__(
        self,
        info: Mapping[str, Any],
        *,
        gatherer: Gatherer,
        options: Mapping[str, Any],
        splits: Mapping[str, str],
        rows: Rows = None,
    ) -> None:
        self.source = gatherer.source
        self.index = gatherer.index
        self.info = info
        self.interleaved = gatherer.interleaved
        self.splits = splits
        self.directory: str | None = None
        self._options = options
        self._rows = rows
        self._n = self.index.nrecords if rows is None else len(rows)
        self._gatherer = gatherer  # shared with sub-datasets: nothing in it depends on rows
        if isinstance(rows, np.ndarray):
            self._bind(gatherer, self._n, 0, 0, rows)
        else:
            line = range(self._n) if rows is None else rows
            self._bind(gatherer, self._n, line.start, line.step, None)

    # --- what it is -----------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The file."""
        return self.source.path

    @property
    def header_nbytes(self) -> int:
        """Bytes of a record's header before the label count: the dialect, 6 or 14.

        0 in a pickle, where images have no header and labels lie elsewhere.
        """
        return self.index.head_nbytes

    @property
    def uniform(self) -> bool:
        """Whether all records of the file have one shape and one number of labels."""
        return self.index.uniform

    @property
    def parameters(self) -> Parameters:
        """The labels: those of the info JSON, then ``param_<id>`` for ids that it does not name.

        Label columns of batches come in this order.
        """
        return self._gatherer.parameters

    @property
    def heads(self) -> dict[str, int]:
        """Name -> number of classes, as the original computes it."""
        return self._gatherer.parameters.heads

    @property
    def unknown_ids(self) -> tuple[int, ...]:
        """Label ids that occur in the file and that the info JSON does not name."""
        named = len(self.info.get("parameter_names", ()))  # their ids are 0..named-1
        return tuple(i for i in self._gatherer.ids if i >= named) if self.info else ()

    @property
    def rows(self) -> NDArray[np.int64]:
        """Record numbers in the file that this dataset stands for, int64 (n,).  Copies: yes."""
        if self._rows is None:
            return np.arange(self._n, dtype=np.int64)
        return np.asarray(self._rows, dtype=np.int64)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Byte of each record in the file, int64 (n,).  Copies: 8 bytes a record."""
        return self._of_rows(self.index.offsets())

    @property
    def shapes(self) -> NDArray[np.uint16]:
        """(h, w, c) of each record, uint16 (n, 3), read-only.

        Copies: none, but for datasets selected by an array of indices.
        """
        return self._of_rows(self.index.shapes())

    @property
    def label_counts(self) -> NDArray[np.uint8]:
        """Number of labels of each record, uint8 (n,)."""
        return self._of_rows(self._gatherer.label_counts())

    def _of_rows(self, array: NDArray[Any]) -> NDArray[Any]:
        if isinstance(self._rows, np.ndarray):
            return array[self._rows]
        return view.selected(array, self._rows)

    # --- all records at once, as views ----------------------------------------------------------

    def _uniform(self, what: str) -> range | None:
        if not self.index.uniform:
            raise UnsupportedError(
                f"{self.path}: {what} needs records of one size, and this file mixes them; use "
                "ds[i] for a view of one record, ds.batch(...) for many (pad=, crop= or flat=True)"
            )
        if isinstance(self._rows, np.ndarray):
            raise UnsupportedError(
                f"{self.path}: {what} of an index array cannot be a view; use ds.batch(...)"
            )
        return self._rows

    @property
    def images(self) -> NDArray[np.uint8]:
        """All images of a uniform file, uint8 (n, h, w, c), read-only, aliasing the file.

        Copies: none.  Lifetime: outlives ``close()``.  Threads: any.  Cost: O(1).
        """
        rows = self._uniform("images")
        array = self._gatherer.images
        if array is None:  # an empty or a closed file
            array = self._gatherer.uniform_images(self._info_shape() or (0, 0, 0))
        return view.selected(array, rows)

    def _info_shape(self) -> tuple[int, int, int] | None:
        dims = [self.info.get(k) for k in ("height", "width", "channels")]
        return tuple(dims) if all(type(d) is int and 0 < d < 65536 for d in dims) else None  # type: ignore[return-value]

    def _label_view(self, which: int) -> NDArray[np.uint8]:
        rows = self._uniform("label_bytes" if which else "label_ids")
        return view.selected(self._gatherer.uniform_labels(which), rows)

    @property
    def label_bytes(self) -> NDArray[np.uint8]:
        """Codes of all records of a uniform file, uint8 (n, N) in file order, read-only view."""
        return self._label_view(1)

    @property
    def label_ids(self) -> NDArray[np.uint8]:
        """Parameter ids that go with ``label_bytes``, uint8 (n, N), read-only view."""
        return self._label_view(0)

    # --- one record, some records ---------------------------------------------------------------

    def __len__(self) -> int:
        return self._n

    if TYPE_CHECKING:  # at run time the base has it: nothing is to stand between it and ds[i]

        @overload
        def __getitem__(self, key: int) -> Record: ...
        @overload
        def __getitem__(self, key: slice | ArrayLike) -> Dataset: ...
        def __getitem__(self, key: Any) -> Record | Dataset: ...

    def _pick(self, key: Any) -> Record | Dataset:
        """What ``self[key]`` is where the key is not an int in range."""
        number = integer(key)
        if number is not None:
            return self[position(number, self._n, self.path)]
        return self._with_rows(part(key, self._rows, self._n, self.path))

    def _with_rows(self, rows: Rows) -> Dataset:
        return Dataset(
            self.info,
            gatherer=self._gatherer,
            options=self._options,
            splits=self.splits,
            rows=rows,
        )

    def __iter__(self) -> Iterator[Record]:
        for i in range(self._n):
            yield self[i]

    # --- batches --------------------------------------------------------------------------------

    def _file_rows(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Record numbers for the C core, which checks their range itself."""
        if self._rows is not None:
            return compose(self._rows, positions(indices, self._n, self.path))
        array = np.asarray(indices)
        if array.dtype == np.int64 and array.ndim == 1:
            return np.ascontiguousarray(array)
        return positions(indices, self._n, self.path)

    def batch(
        self,
        indices: ArrayLike,
        out: NDArray[Any] | Batch | None = None,
        dtype: Dtype = "uint8",
        layout: Layout = "NHWC",
        *,
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        pad: bool | tuple[int, ...] = False,
        crop: bool | Literal["centre", "corner"] = False,
        pad_value: float = 0.0,
        flat: bool = False,
        labels: Unit | None = "raw",
        spec_range: bool = False,
        threads: int = 1,
    ) -> Batch:
        """Copy records into one contiguous batch, cast, normalised and transposed on the way.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask
            Records, in any order, repeated or not; negative ones count from the end.
        out : ndarray or Batch, optional
            C-contiguous array of the right dtype and shape (or with more rows) to fill.
        dtype : {"uint8", "float32", "float16"}
            Type of ``images``.
        layout : {"NHWC", "NCHW"}
            Order of ``images``.  NCHW is the order of real files, and faster.
        scale, mean, std : float or array_like, optional
            Floats come out as ``(byte * scale - mean) / std``, mean and std one number or one a
            channel; by default as the bytes' own values, 0..255.  Rounded once to float32.
        pad : bool, (h, w) or (h, w, c)
            Records of mixed sizes: True puts each into the corner of a canvas of the largest h and
            w of the batch, and the largest c of the file; (h, w) or (h, w, c) fixes the canvas.
        crop : bool or {"centre", "corner"}
            Cut what exceeds the canvas: (h, w) of ``pad``, or without it the smallest of the batch.
            True is centre.
        pad_value : float
            What padding is filled with, in units of the output.
        flat : bool
            No canvas: all images back to back as bytes, with ``offsets``.
        labels : {"raw", "normalised", "physical", "class"} or None
            Unit of the labels.
        spec_range : bool
            Whether the batch also carries spec_min and spec_max of its records.
        threads : int
            Threads that copy, 1 to 16.

        Returns
        -------
        Batch
            See there.

        Raises
        ------
        IndexError
            An index is out of range.
        ValueError
            Records of different sizes without pad, crop or flat; arguments that do not fit.
        FileChangedError
            The file was written to, cut or replaced since it was opened.
        LimitError
            ``pad=True`` would take more than 1 GiB and 64 times the bytes of the images.

        Notes
        -----
        Copies: each image once.  Lifetime: the batch owns its arrays.  Threads: any number of
        calls at once, the GIL is released.  Cost: one pass over the records' bytes.
        """
        file = self._gatherer
        order = file.order(
            *(dtype, layout, scale, mean, std, pad, crop, pad_value),
            *(flat, labels, spec_range, threads),
        )
        return order.batch(file, self._file_rows(indices), out)

    def batch_shape(
        self,
        indices: ArrayLike,
        layout: Layout = "NHWC",
        *,
        pad: bool | tuple[int, ...] = False,
        crop: bool | Literal["centre", "corner"] = False,
    ) -> tuple[int, int, int, int]:
        """Shape that ``batch`` with these options would give its images; reads the index alone."""
        rows = self._file_rows(indices)
        order = self._gatherer.order(layout=layout, pad=pad, crop=crop, labels=None)
        h, w, c, _ = order.canvas(self._gatherer, rows)
        return (len(rows), h, w, c) if layout == "NHWC" else (len(rows), c, h, w)

    def placement(self, **options: Any) -> Placement:
        """Where the pixels lie in the file and in a batch of these options of ``batch``.

        For copies that ``batch`` does not make itself, as those of a GPU.

        Raises
        ------
        UnsupportedError
            The batches of these options have no common shape, or carry more than images and labels.
        """
        return self._gatherer.order(**options).placement(self._gatherer, self._rows)

    def label_array(
        self, labels: Unit = "raw"
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]]:
        """All labels as ``batch`` gives them: values (n, heads), presence, names.

        Reads the labels alone, in one pass.  Copies: yes.
        """
        file = self._gatherer
        codes, present = file.label_table(self.rows)
        if labels == "raw":
            return codes, present, file.label_columns[1]
        missing = -1 if labels == "class" else np.nan
        return (
            translated(codes, present, file.table(labels), missing),
            present,
            file.label_columns[1],
        )

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[Batch]:
        """Batches of all records, or of ``order``, the next one fetched from disk ahead of use.

        Parameters
        ----------
        batch_size : int
            Records a batch; the last one may be smaller.
        order : array_like of int, optional
            Indices, for instance a permutation; by default 0..n-1.
        drop_last : bool
            Leave a smaller last batch out.
        **options
            As for ``batch``.
        """
        indices = np.arange(self._n) if order is None else positions(order, self._n, self.path)
        return batches(self, batch_size, indices, drop_last=drop_last, options=options)

    def prefetch(self, indices: ArrayLike) -> int:
        """Ask the kernel to read these records from disk in the background.

        Does nothing for records that seem to be in memory.  Call it one batch ahead.

        Returns
        -------
        int
            How many records were asked for.
        """
        rows = self._file_rows(indices)
        return self._gatherer.willneed(rows) if len(rows) else 0

    def warm(self, progress: Any = None) -> None:
        """Read the file into the page cache, front to back, at the disk's sequential speed.

        Worth it before random epochs over a file that fits into memory.  ``progress`` is called as
        ``progress(bytes_done, bytes_total)``.
        """
        for done in self.source.warm():
            if progress is not None:
                progress(done, self.source.nbytes)

    def advise(self, access: Literal["random", "sequential", "normal"]) -> None:
        """Tell the kernel how the file will be read; ``"random"`` is what it is opened with."""
        self.source.mapping.advise(access)

    def joined(self, others: Sequence[Any]) -> Joined:
        """Itself and others, one behind the other: what ``mapix.open([...])`` gives."""
        from mapix.vimh.joined import join

        return join([self, *others])

    # --- life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        self._gatherer.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        from mapix.vimh.opening import reopen

        what = dict(self._options), self.source.identity, self._rows
        return reopen, (self.source.full_path, *what)

    def __repr__(self) -> str:
        if self.source.closed:
            return f"<mapix.vimh.Dataset {self.path}: closed>"
        if not self._n:
            what = "empty"
        elif self.uniform:
            h, w, c = self.index.first[1:4]
            what = f"{h} x {w} x {c}"
        else:
            what = "mixed sizes"
        heads = ", ".join(f"{k}: {v}" for k, v in list(self.heads.items())[:6])
        return f"<mapix.vimh.Dataset {self.path}: {self._n} records, {what}, heads {{{heads}}}>"
