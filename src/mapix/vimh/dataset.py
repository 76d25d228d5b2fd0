"""A VIMH file, or a part of one, as a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mapix import views
from mapix.errors import UnsupportedError
from mapix.selection import Rows, positions
from mapix.vimh import record_types
from mapix.vimh.batching import Batching
from mapix.vimh.files import PICKLE_SUFFIX
from mapix.vimh.gatherer import Gatherer
from mapix.vimh.info_json import shape_of
from mapix.vimh.parameters import LEVELS
from mapix.vimh.record_types import Record

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.annotations import Annotations
    from mapix.augmentation import Draws
    from mapix.batch import Batch, Prepared
    from mapix.byte_ranges import ByteRange
    from mapix.options import BatchOptions, Crop, Layout
    from mapix.placement import Placement
    from mapix.plans import Map
    from mapix.report import Report
    from mapix.source import Fingerprint
    from mapix.statistics import Sums
    from mapix.vimh.batch_plan import BatchPlan
    from mapix.vimh.labels import Column
    from mapix.vimh.layout import Progress
    from mapix.vimh.parameters import Parameters
    from mapix.vimh.salvage import Saved

__all__ = ["Dataset"]

INT64 = np.dtype(np.int64)
MOST_SHOWN = 6  # heads in ``repr``


class Dataset(record_types.Rows, Batching):
    """Records of a VIMH file, by number.  Made by ``mapix.open``.

    Indexing with an integer gives a Record, with a slice or an array of indices (or a boolean mask)
    a lazy dataset of those records.  Datasets pickle as path, options and fingerprint, never as
    data: a worker opens the file itself, and refuses another file.

    Copies: none, except where a method states it.  Lifetime: arrays taken from a dataset stay
    valid after ``close()``.  Threads: any number, also across fork.  Cost: O(1) per record.

    Attributes
    ----------
    source : Source
        The open file.
    index : RecordIndex
        Places and shapes of its records.
    info : dict
        The info JSON as it was found; empty without one.
    splits : dict
        Name -> path of the splits beside the file, itself included, from the root of the file
        system.
    interleaved : bool
        Whether pixels are taken as (h, w, c) in the file (``order="HWC"``).
    directory : str or None
        The directory that was opened without ``split``: ``verify`` checks all of its data files.
    """

    UNPICKLED = ("directory",)
    directory: str | None = None
    _table: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None = None  # all label columns

    def __init__(
        self,
        info: Mapping[str, Any],
        *,
        gatherer: Gatherer,
        options: Mapping[str, Any],
        rows: Rows = None,
    ) -> None:
        self.source = gatherer.source
        self.index = gatherer.index
        self.info = info
        self.interleaved = gatherer.interleaved
        self._options = options
        self._rows = rows
        self._n = self.index.nrecords if rows is None else len(rows)
        self._gatherer = gatherer  # shared with sub-datasets: nothing in it depends on rows
        if isinstance(rows, np.ndarray):
            self._bind(gatherer, self._n, 0, 0, rows)
        else:
            line = range(self._n) if rows is None else rows
            self._bind(gatherer, self._n, line.start, line.step, None)

    # --- facts ------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.source.path

    @property
    def splits(self) -> Mapping[str, str]:
        """Name -> path of the splits beside the file, from the root of the file system.

        They are searched for at the first use.
        """
        return self._gatherer.splits

    @property
    def split_name(self) -> str:
        """Name of the file without the suffix of pickles: of a dataset directory, the split."""
        return os.path.basename(self.path).removesuffix(PICKLE_SUFFIX)

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
    def image_shape(self) -> tuple[int, int, int] | None:
        """(h, w, c) of all records of a uniform file; None of mixed sizes and of an empty file."""
        return self.index.first[1:4] if self.index.stride else None

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
    def offsets(self) -> NDArray[np.int64]:
        """Byte of each record in the file, int64 (n,).  Copies: 8 bytes per record."""
        return self._of_rows(self.index.offsets())

    @property
    def shapes(self) -> NDArray[np.uint16]:
        """(h, w, c) of each record, uint16 (n, 3), read-only.

        Copies: none, except of datasets selected by an array of indices.
        """
        return self._of_rows(self.index.shapes())

    @property
    def label_counts(self) -> NDArray[np.uint8]:
        """Number of labels of each record, uint8 (n,)."""
        return self._of_rows(self._gatherer.label_counts())

    def _of_rows(self, array: NDArray[Any]) -> NDArray[Any]:
        if isinstance(self._rows, np.ndarray):
            return array[self._rows]
        return views.selected(array, self._rows)

    def _facts(self) -> dict[str, Any]:
        heads = ("id", "name", "num_classes", "min", "max", "step", "scale", "description")
        records: dict[str, Any] = {}
        if self._n:
            counts, shapes = self.label_counts, self.shapes
            records = {
                "smallest_shape": shapes.min(axis=0).tolist(),
                "largest_shape": shapes.max(axis=0).tolist(),
                "fewest_labels": int(counts.min()),
                "most_labels": int(counts.max()),
            }
        return {
            "nbytes": self.source.nbytes,
            "encoding": f"{self.header_nbytes}-byte headers" if self.header_nbytes else "pickle",
            "dtype": "uint8",
            "uniform": self.uniform,
            **records,
            "stored_index": self.index.stored,
            "heads": [{k: getattr(p, k) for k in heads} for p in self.parameters.values()],
            "fixed": [
                {"name": p.name, "value": p.min, "description": p.description}
                for p in self.parameters.fixed.values()
            ],
            "unknown_ids": list(self.unknown_ids),
            "info": dict(self.info),
        }

    def _summary(self) -> str:
        from mapix.text import counted

        if not self._n:
            sizes = "empty"
        elif self.uniform:
            sizes = " x ".join(map(str, self.index.first[1:4]))
        else:
            sizes = "mixed sizes"
        heads = ", ".join(f"{k}: {v}" for k, v in list(self.heads.items())[:MOST_SHOWN])
        return f"{counted(self._n, self.RECORDS)}, {sizes}, heads {{{heads}}}"

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        return self._gatherer.thumbnail(row, size)

    # --- all records at once, as views ------------------------------------------------------------

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
            array = self._gatherer.uniform_images(shape_of(self.info) or (0, 0, 0))
        return views.selected(array, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the images as ``batch`` does, copied; with ``copy=False`` those of ``images``.

        Raises
        ------
        UnsupportedError
            Records differ in size; not all bytes of a remote object are there.
        ValueError
            ``copy`` is False, and ``dtype`` or an index array needs a copy.
        """
        if copy is False and self.index.uniform and not isinstance(self._rows, np.ndarray):
            return views.exported(self.images, dtype, copy)
        return super().__array__(dtype, copy)

    def _label_view(self, which: int) -> NDArray[np.uint8]:
        rows = self._uniform("label_bytes" if which else "label_ids")
        return views.selected(self._gatherer.uniform_labels(which), rows)

    @property
    def label_bytes(self) -> NDArray[np.uint8]:
        """Codes of all records of a uniform file, uint8 (n, N) in file order, read-only view."""
        return self._label_view(1)

    @property
    def label_ids(self) -> NDArray[np.uint8]:
        """Parameter ids that go with ``label_bytes``, uint8 (n, N), read-only view."""
        return self._label_view(0)

    # --- records ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._n

    # the first base has __getitem__, and calls this for keys that are not an int in range
    _pick = Batching.__getitem__  # type: ignore[assignment]

    def _count(self) -> int:
        return self.index.nrecords

    def _record(self, row: int) -> Record:
        return self._gatherer.record(row)

    def _image(self, row: int) -> NDArray[Any] | None:
        """Return the pixels of a record: a copy made under the guard."""
        from mapix.options import BatchOptions

        options = BatchOptions(layout="NHWC", labels=None)
        found: NDArray[Any] = self._gather(np.array([row], np.int64), options, None).images[0]
        return found

    def _part(self, rows: Rows) -> Dataset:
        return Dataset(
            self.info,
            gatherer=self._gatherer,
            options=self._options,
            rows=rows,
        )

    # --- columns ----------------------------------------------------------------------------------

    def _column_names(self) -> tuple[str, ...]:
        return self._gatherer.label_columns[1]

    _label_names = _column_names

    def _column(self, name: str) -> Column:
        from mapix.vimh.labels import Column

        file, rows = self._gatherer, self._rows
        parameter = file.parameters[name]
        known = None if parameter.id is None else file.known_column(parameter.id)
        if known is not None:
            codes, present = known
            if rows is not None:
                codes, present = codes[self.rows], None if present is None else present[self.rows]
            return Column(parameter, codes, present)
        if self._table is None:
            # each column in one piece: it is read much more often than the file
            table = file.label_table(self.rows)
            self._table = np.ascontiguousarray(table[0].T), np.ascontiguousarray(table[1].T)
            if rows is None:
                file.keep_labels(*self._table)
        k = self._column_names().index(name)
        codes, present = self._table[0][k], self._table[1][k]
        return Column(parameter, codes, None if present.all() else present)

    def label_array(
        self, labels: str = "raw"
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]]:
        """Return all labels as ``batch`` does: values (n, heads), presence, names.

        Reads the labels alone, in one scan.  Copies: yes.
        """
        from mapix.batch import translated

        self._check_unit(labels)
        file = self._gatherer
        codes, present = file.label_table(self.rows)
        names = file.label_columns[1]
        if labels == "raw":
            return codes, present, names
        missing = -1 if labels == "class" else np.nan
        return translated(codes, present, file.table(labels), missing), present, names

    # --- batches ----------------------------------------------------------------------------------

    def _rows_of(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Return the numbers in the file of indices; the C core checks those of a complete file."""
        if self._rows is None:
            array = indices if type(indices) is np.ndarray else np.asarray(indices)
            if array.dtype == INT64 and array.ndim == 1:
                return array if array.flags.c_contiguous else np.ascontiguousarray(array)
            return positions(indices, self._n, self.path)
        return super()._rows_of(indices)

    def _plan(self, options: BatchOptions) -> BatchPlan:
        return self._gatherer.plan(options, self._possible)

    def _prepare(self, options: BatchOptions) -> Prepared | None:
        return self._plan(options).prepared(self._gatherer)

    def _gather(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch:
        file = self._gatherer
        return file.plan(options, self._possible).batch(file, rows, out)

    def _gather_augmented(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        file = self._gatherer
        return file.plan(options, self._possible).batch(file, rows, out, draws)

    def batch_shape(
        self,
        indices: ArrayLike,
        layout: Layout | None = None,
        *,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
    ) -> tuple[int, int, int, int]:
        """Return the shape of ``batch(...).images`` with these options; reads the index alone."""
        from mapix.options import batch_options

        rows = self._rows_of(indices)
        plan = self._plan(batch_options(pad=pad, crop=crop))
        h, w, c, _ = plan.canvas(self._gatherer, rows)
        return (len(rows), c, h, w) if layout == "NCHW" else (len(rows), h, w, c)

    def placement(self, **options: Any) -> Placement:
        """Describe where the pixels lie in the file and in a batch of these options of ``batch``.

        For copies that ``batch`` does not make itself, such as those of a GPU.

        Raises
        ------
        UnsupportedError
            The batches of these options have no common shape, or carry more than images and labels.
        """
        from mapix.options import batch_options

        return self._plan(batch_options(**options)).placement(self._gatherer, self._rows)

    def _prefetch(self, rows: NDArray[np.int64]) -> int:
        return self._gatherer.willneed(rows)

    def advise(self, access: Literal["random", "sequential", "normal"]) -> None:
        """Tell the kernel how the file will be read; files are opened as ``"random"``."""
        self.source.mapping.advise(access)

    def _explained(self, row: int) -> dict[str, Any]:
        h, w, c = (int(side) for side in self.index.shapes()[row])
        how = f"a view of {h * w * c:,} bytes at their place in {self._gatherer.pixels.path}"
        how = how if self.interleaved else f"{how}, planes shown as (h, w, c) by strides"
        return {"reads_nbytes": h * w * c, "how": how}

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        return self._plan(options).explained(self._gatherer, rows)

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        from mapix.vimh.explaining import byte_ranges

        return byte_ranges(self._gatherer, row)

    def _annotations(self, row: int) -> Annotations:
        from mapix.annotations import Annotations, Unit

        found = self._gatherer.record(row).spec_range
        if found is None or found[0] == found[1]:
            return Annotations()
        low, high = found
        return Annotations(unit=Unit((high - low) / LEVELS, low, "dB"))

    # --- health -----------------------------------------------------------------------------------

    def _pixel_sums(self, progress: Progress | None) -> list[Sums]:
        from mapix.statistics import Sums
        from mapix.vimh.statistics import stored_moments

        moments = stored_moments(self._gatherer, self._rows, progress)
        return [Sums(n, *rest) if n else Sums() for n, *rest in moments.tolist()]

    def _stored_sums(self) -> list[Sums] | None:
        known = self._gatherer.index.moments
        stored = self._rows is None and known is not None and known.sound()
        return self._pixel_sums(None) if stored else None

    def _record_sizes(self) -> int | NDArray[np.int64]:
        index = self.index
        if index.entries is None:
            return index.stride
        sizes = np.diff(index.offsets(), append=index.nbytes)
        return sizes if self._rows is None else sizes[self.rows]

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Check everything in the file: structure, checksums, info JSON, labels.

        Of a directory that was opened without ``split`` all data files are checked: a problem of
        another file names that file.  ``mapix.vimh.verify`` gives a report for each file.

        The file is indexed anew, whatever index there is, and compared with the index in use.
        Checksums are those of a stored index (``mapix.index``); without them nothing can show
        whether pixels changed, and the report does not claim it.

        Parameters
        ----------
        progress : callable, optional
            ``progress(bytes_done, bytes_total)``.
        map : callable or int, optional
            What compares checksums and statistics in parts: see ``statistics``.

        Returns
        -------
        Report
            Its ``ok`` states whether no problem was found.
        """
        from mapix.vimh import checking

        return checking.verify_dataset(self, progress, map)

    def keep_index(
        self,
        *,
        labels: bool = True,
        checksums: bool = True,
        progress: Progress | bool | None = None,
        map: Map | None = None,
    ) -> str:
        """Store the index beside the file, and return its path: see ``mapix.index``."""
        from mapix.progress import shown
        from mapix.vimh import indexing

        report = shown(progress, "indexing", "bytes")
        return indexing.keep_index(
            self, labels=labels, checksums=checksums, progress=report, map=map
        )

    def repair(
        self, path: str | os.PathLike[str], progress: Progress | bool | None = None
    ) -> Saved:
        """Write all complete records to a new file; see ``mapix.vimh.repair``."""
        from mapix.vimh import salvage

        saved = salvage.repair(
            self.source.full_path,
            path,
            dialect=self.header_nbytes,
            sums=self.index.checksums,
            index=self.index,
            progress=progress,
        )
        assert isinstance(saved, salvage.Saved)  # of a file
        return saved

    # --- life -------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.source.closed

    def close(self) -> None:
        """Release the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        self._gatherer.close()

    def _schema(self) -> str:
        kind = "records" if self._gatherer.fixed_nbytes else "pickle"
        return " ".join([kind, *map(repr, self.parameters.values())])

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        return self.source.full_path, dict(self._options), self.source.identity
