"""Rows of one type and shape, one after the other in a file: views, lazy parts, batches.

The formats that are arrays (IDX, PINK, NPY) share this: a format states where the numbers begin, of
what type and shape they are, and how the file is opened again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mapix import _native
from mapix.dataset import FileDataset
from mapix.errors import MapixError, UnsupportedError
from mapix.limits import MOST_SIDE
from mapix.selection import Rows, axes
from mapix.source import Source
from mapix.views import exported, selected

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.augmentation import Draws
    from mapix.batch import Apart, Batch, Prepared, Samples
    from mapix.byte_ranges import ByteRange, Kind, Walk
    from mapix.columns import Column
    from mapix.dataset import Progress
    from mapix.options import BatchOptions, Crop, Layout
    from mapix.placement import Placement
    from mapix.plans import Map
    from mapix.report import Report
    from mapix.row_batches import Plan
    from mapix.statistics import Sums

__all__ = ["RowArray", "stored"]

MOST_NAMED = 1024  # columns of labels; of more all have one name
MOST_PLANS = 64  # sets of options that are remembered
MOST_LOADED_NBYTES = 4 << 20  # labels that are loaded at once, and held
BLOCK_NBYTES = 8 << 20  # rows that are read at once in a scan of all rows
SUMS_NBYTES = 1 << 20  # rows whose pixels are summed at once: they stay in a processor's cache
MOST_LISTED = 10  # rows that a report names
MOST_SHOWN = 64  # elements of a row whose values are shown


def stored(
    rows: ArrayLike, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[int, memoryview]:
    """Return the number of rows, and their bytes as a file of that type stores them.

    Raises
    ------
    ValueError
        The rows have another shape, or ``dtype`` does not hold one of the numbers.  Floats may lose
        digits, but not become infinite.
    TypeError
        The rows are floats, and ``dtype`` is an integer type.
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
        else:  # a comparison in the type of the rows does not see that -1 became 255
            held = np.can_cast(array.dtype, dtype) or np.array_equal(made, array)
    if not held:
        raise ValueError(f"numbers that {dtype} does not hold")
    return len(array), made.reshape(-1).view(np.uint8).data


class RowArray(FileDataset["NDArray[Any]"]):
    """Rows of a file.  Base class of the datasets that are arrays; made by ``mapix.open``.

    Indexing with an integer gives a row as a read-only view; with a slice, indices or a mask it
    gives a lazy part.  A tuple means what it means to numpy: ``a[0, 3]`` is line 3 of row 0,
    ``a[:5, 0]`` the first lines of five rows.  Integers and slices choose views, arrays choose
    copies.

    Parameters
    ----------
    source : Source
        The file that was opened.
    dtype : numpy.dtype
        Type of the numbers as the file has them, byte order included.
    shape : tuple of int
        Dimensions, rows first; all rows lie in the file.
    at : int
        Byte of the first number.
    numbers : Source, optional
        The file with the numbers, where that is not ``source``: those of a ``.gz`` lie in the
        cache.
    labels : RowArray, optional
        A row, often of one number, for each row.
    planar : bool
        Whether rows of three dimensions are (channels, h, w), and not (h, w, channels).
    options : mapping, optional
        Options with which the file was opened.
    """

    def __init__(
        self,
        source: Source,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        at: int,
        *,
        numbers: Source | None = None,
        labels: RowArray | None = None,
        planar: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(source, shape[0], options)
        self.labels = labels
        self._numbers = source if numbers is None else numbers
        self._dtype = dtype
        self._native_dtype = dtype.newbyteorder("=")
        self._shape = shape
        self._at = at
        self._row_nbytes = dtype.itemsize * math.prod(shape[1:])
        self._n = shape[0]
        self._layout = "NCHW" if planar and len(shape) == 4 else "NHWC"  # of rows in the file
        self._plans: dict[BatchOptions, Plan] = {}
        self._names = () if labels is None else _names(labels._shape[1:])
        self._loaded: list[Apart] = []  # all rows, once they were loaded as labels
        self._arrays: dict[int, _native.Array] = {}

    # --- what it is -------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers as the file has them, byte order included."""
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions, rows first."""
        return (self._n, *self._shape[1:])

    @property
    def ndim(self) -> int:
        """Number of dimensions, rows included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of all rows."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self._n * self._row_nbytes

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of each row, in the file's order; None of rows that are not numbers."""
        return self._shape[1:] if self._dtype.kind in "biuf" else None

    def __len__(self) -> int:
        return self._n

    def view(self) -> NDArray[Any]:
        """Return the array in the file's type, read-only, aliasing the file, aligned or not.

        Copies: none, except for parts chosen by indices.  The view of a ``.gz`` aliases the
        decompressed file in the cache.  Lifetime: outlives ``close()``.
        """
        if isinstance(self._rows, np.ndarray):
            return self._copied(self._rows)
        found: NDArray[Any] = np.ndarray(self._shape, self._dtype, self._numbers.view, self._at)
        return selected(found, self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy made under the guard; with ``copy=False`` the view of the file."""
        if self._decodes:
            return super().__array__(dtype, copy)
        if copy is False:
            return exported(self.view(), dtype, copy)
        return exported(self._copied(self.rows).reshape(self.shape), dtype)

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        """Return the rows for libraries that read Arrow: numbers, or tensors.  Needs pyarrow.

        Copies: yes, under the guard.
        """
        from mapix.arrow_capsules import array_capsules

        return array_capsules((np.asarray(self), None), requested_schema)

    def _copied(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows of the file in the file's type, copied under the guard."""
        made = np.empty((len(rows), *self._shape[1:]), self._dtype)
        if made.size:
            self._array(1).gather(self._numbers.mapping, rows, made)
        return made

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int and 0 <= key < self._n:  # the usual key; the others go through checks
            return self._record(key if self._rows is None else int(self._rows[key]))
        if isinstance(key, tuple):
            return self._within(key)
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        rows = range(self._n) if self._rows is None else self._rows
        return (self._record(int(row)) for row in rows)

    def _within(self, key: tuple[Any, ...]) -> Any:
        """Return what a tuple of indices means to numpy.

        A view where integers and slices choose it and rows are views; otherwise a copy of the
        chosen rows under the guard, indexed by numpy.
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
        return self.batch(rows, labels=None).images[(again, *rest)]

    @property
    def _decodes(self) -> bool:
        """Whether ``_decode`` computes rows from the numbers of the file."""
        return False

    @property
    def _aliases(self) -> bool:
        """Whether all rows are one view.  A subclass that decodes rows overrides it."""
        return not isinstance(self._rows, np.ndarray)

    def _record(self, row: int) -> NDArray[Any]:
        begin = self._at + row * self._row_nbytes
        view = self._numbers.viewed(begin, self._row_nbytes)
        return np.ndarray(self._shape[1:], self._dtype, view, begin)

    def _image(self, row: int) -> NDArray[Any] | None:
        """Return the pixels of a row: a copy made under the guard, which a cut file cannot kill."""
        if self._dtype.kind not in "biuf":
            return None
        made = np.empty((1, *self._shape[1:]), self._native_dtype)
        found: NDArray[Any] = self._native_rows(np.array([row]), made)[0, ...]
        return found.transpose(1, 2, 0) if self._layout == "NCHW" else found

    def _part(self, rows: Rows) -> Self:
        part = super()._part(rows)
        part._n = self._shape[0] if rows is None else len(rows)
        part.labels = None if self.labels is None else self.labels._part(rows)
        return part

    def of(self, rows: Rows) -> Self:
        """Return the part of the complete file that these rows of it are."""
        return self._part(rows)

    def __getitems__(self, indices: ArrayLike) -> Samples:
        """Return rows by one gather, each with its label where there are labels.

        PyTorch's DataLoader calls it: the loader makes ``images`` of the rows, or ``[images,
        labels]``.
        """
        from mapix.batch import Samples

        batch = self.batch(indices)
        return Samples(batch.images, batch.labels)

    # --- batches ----------------------------------------------------------------------------------

    def _gather(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch:
        from mapix.row_batches import gathered

        return gathered(self, rows, options, out)

    def _prepare(self, options: BatchOptions) -> Prepared | None:
        from mapix.row_batches import prepared

        return prepared(self, options)

    def _gather_augmented(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        plan = self._plan(options)
        layout = options.layout or self._layout
        shape = draws.augment.shape(plan.shape, layout, self.path)
        if not plan.canvas[0]:
            made = options._replace(dtype=plan.dtype.name)
            if len(self._shape) == 4:
                made = made._replace(layout=layout)
            return super()._gather_augmented(rows, made, draws, out)
        from mapix.row_batches import augmented

        return augmented(self, plan, shape, rows, options, draws, out)

    def _plan(self, options: BatchOptions) -> Plan:
        """Return what a set of options means, worked out once per file."""
        found = self._plans.get(options)
        if found is None:
            from mapix.row_batches import planned

            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            found = self._plans.setdefault(options, planned(self, options))
        return found

    @functools.cached_property
    def _hwc(self) -> tuple[int, int, int]:
        """(h, w, c) of rows that are images; of others the first sides, and 1."""
        sides = (*self._shape[1:], 1, 1, 1)[:3]
        h, w, c = (*sides[1:], sides[0]) if self._layout == "NCHW" else sides
        return h, w, c

    @functools.cached_property
    def _picture(self) -> tuple[int, int, int] | None:
        """(h, w, c) by which the C core handles rows; None where it does not know their type.

        Rows of one dimension are one line of pixels.
        """
        if (
            self._dtype != np.uint8
            or len(self._shape) > 4
            or type(self)._decode != RowArray._decode
        ):
            return None
        h, w, c = self._hwc if len(self._shape) > 2 else (1, self._row_nbytes, 1)
        return (h, w, c) if min(h, w, c) > 0 and max(h, w, c) <= MOST_SIDE else None

    def batch_shape(
        self,
        indices: ArrayLike,
        layout: Layout | None = None,
        *,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
    ) -> tuple[int, ...]:
        """Return the shape that ``batch`` with these options would give its images.

        Reads no pixels.
        """
        from mapix.options import BatchOptions, canvas_size

        options = BatchOptions(layout=layout, pad=canvas_size(pad), crop=crop)
        return (len(self._rows_of(indices)), *self._plan(self._possible(options)).shape)

    @functools.cached_property
    def _index(self) -> _native.Table:
        """The rows as pictures, for the C core."""
        assert self._picture is not None
        return _native.Table(
            nrecords=self._shape[0],
            stride=self._row_nbytes,
            first=(self._at, *self._picture, 0),
            entries=None,
            head_nbytes=0,
            interleaved=self._layout == "NHWC",
            format=self.FAMILY,
        )

    def _native_rows(
        self, rows: NDArray[np.int64], made: NDArray[Any], threads: int = 1
    ) -> NDArray[Any]:
        """Fill an array with rows in this machine's byte order, decoded, and return it."""
        swap = self._swap
        if made.size and swap:
            self._array(swap).gather(self._numbers.mapping, rows, made, threads)
        elif made.size:
            made[...] = self._copied(rows).reshape(made.shape)
        self._decode(made)
        return made

    @functools.cached_property
    def _swap(self) -> int:
        """Bytes of a number that are reversed; 1 for none, 0 where only numpy can reverse them."""
        if self._dtype.isnative:
            return 1
        size = self._dtype.itemsize
        return size if self._dtype.kind in "iufmM" and size in (2, 4, 8) else 0

    def _values_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows of the complete file in this machine's byte order, as labels of a batch.

        A small file is loaded at the first call; later calls check that it has not changed.
        """
        if not self._loaded:
            from mapix.options import BatchOptions

            if self._shape[0] * self._row_nbytes > MOST_LOADED_NBYTES:
                return self._gather(rows, BatchOptions(), None).images
            from mapix.batch import Apart

            every = np.arange(self._shape[0])
            loaded = self._gather(every, BatchOptions(), None).images
            self._loaded.append(Apart(loaded, self._numbers, _names(self._shape[1:])))
        return self._loaded[0].of(rows)

    @functools.cached_property
    def _one_shape(self) -> NDArray[np.uint16]:
        """(h, w, c) of all rows, uint16 (3,), as a batch states them."""
        return np.array([min(side, MOST_SIDE) for side in self._hwc], np.uint16)

    def placement(self, **options: Any) -> Placement:
        """Describe where the rows lie in the file and in a batch, for copies on a device.

        Parameters
        ----------
        **options
            As for ``batch``.

        Raises
        ------
        UnsupportedError
            ``batch`` converts these numbers in a way that is not a copy by the device.
        """
        from mapix.batch import affine
        from mapix.options import BatchOptions, canvas_size, numbers
        from mapix.placement import Placement

        for name, plain in (("mean", numbers), ("std", numbers), ("pad", canvas_size)):
            if name in options:
                options[name] = plain(options[name])
        checked = self._possible(BatchOptions(**options))
        plan = self._plan(checked)
        if self._decodes:
            raise UnsupportedError(f"{self.path}: rows are computed from the numbers of the file")
        record, canvas, pairs = (1, self._row_nbytes, 1), (1, self._row_nbytes, 1), None
        layout, planar, swap = "NHWC", False, self._swap
        if plan.recipe is not None and self._picture is not None:
            record, canvas = self._picture, plan.canvas
            layout, planar = "NHWC" if plan.recipe.nhwc else "NCHW", self._layout == "NCHW"
            pairs = affine(plan.dtype.name, checked.scale, checked.mean, checked.std, canvas[2])
        elif not plan.copies or not swap:
            raise UnsupportedError(f"{self.path}: {self._dtype} numbers are converted by ds.batch")
        return Placement(
            mapping=self._numbers.mapping,
            nrecords=self._shape[0],
            rows=self._rows,
            entries=None,
            first_at=self._at,
            stride=self._row_nbytes,
            nlabels=0,
            record=record,
            head_nbytes=0,
            interleaved=not planar,
            canvas=canvas,
            fit=plan.fit,
            layout=layout,
            swap=swap,
            affine=pairs,
            pad_value=checked.pad_value,
            shape=plan.shape,
            out=plan.dtype,
        )

    def _array(self, swap: int) -> _native.Array:
        """Return the rows for the C core, which reverses the bytes of numbers of ``swap`` bytes."""
        found = self._arrays.get(swap)
        if found is None:
            found = self._arrays[swap] = _native.Array(
                at=self._at, row_nbytes=self._row_nbytes, nrows=self._shape[0], swap=swap
            )
        return found

    def _decode(self, made: NDArray[Any]) -> None:
        """Turn numbers as the file has them into those of the rows, in place; for subclasses."""

    def blocks(self, nbytes: int = BLOCK_NBYTES, *, reuse: bool = False) -> Iterator[NDArray[Any]]:
        """Yield all rows in order, copied under the guard, some at a time, in bounded memory.

        With ``reuse`` all blocks share one array, which the next block overwrites.
        """
        step = max(1, nbytes // max(1, self._row_nbytes))
        room = None
        if reuse:
            room = np.empty((min(step, self._n), *self._shape[1:]), self._native_dtype)
        in_order = self._rows is None or (isinstance(self._rows, range) and self._rows.step == 1)
        mapping = self._numbers.mapping
        if in_order:  # the kernel reads ahead, which it does not do for random rows
            mapping.advise("sequential")
        try:
            for at in range(0, self._n, step):
                rows = np.arange(at, min(at + step, self._n))
                yield self.batch(rows, room, labels=None).images
        finally:
            if in_order:
                mapping.advise("random")

    def _pixel_sums(self, progress: Progress | None) -> list[Sums] | None:
        from mapix.statistics import sums_of

        if self._dtype.kind not in "biuf":
            return None
        channels: list[Sums] = []
        done = 0
        for block in self.blocks(SUMS_NBYTES, reuse=True):
            found = [sums_of(plane) for plane in self._planes(block)]
            channels = [a | b for a, b in zip(channels, found, strict=True)] if done else found
            done += len(block)
            if progress is not None:
                progress(done, self._n)
        return channels

    def _planes(self, block: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the pixels of each channel of rows, (k, ...)."""
        if block.ndim != 4:
            return [block]
        axis = 1 if self._layout == "NCHW" else 3
        return list(np.moveaxis(block, axis, 0))

    def _record_sizes(self) -> int:
        labels = 0 if self.labels is None else self.labels._row_nbytes
        return self._row_nbytes + labels

    def _prefetch(self, rows: NDArray[np.int64]) -> int:
        if not self._row_nbytes:
            return 0
        from mapix.batch import Lookout

        return self._array(1).willneed(self._numbers.mapping, rows, Lookout.MANY)

    # --- labels and columns -----------------------------------------------------------------------

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        assert self.labels is not None
        values = self.labels._values_of(rows)
        return values, np.ones(values.shape, np.bool_)

    def _labels_apart(self) -> RowArray | None:
        return self.labels

    def _label_names(self) -> tuple[str, ...]:
        return self._names

    def _column_names(self) -> tuple[str, ...]:
        names = self._label_names()
        several = self.labels is not None and math.prod(self.labels._shape[1:]) != len(names)
        return () if several else names

    def _column(self, name: str) -> Column:
        from mapix.columns import Column

        assert self.labels is not None
        k = self._label_names().index(name)
        values = self.labels._values_of(self.rows).reshape(self._n, len(self._names))
        return Column(name, np.ascontiguousarray(values[:, k]))

    # --- facts and health -------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {
            "dtype": self._dtype.str if self._dtype.names is None else str(self._dtype),
            "shape": list(self.shape),
            "labels": None if self.labels is None else self.labels.path,
            **super()._facts(),
        }

    def _summary(self) -> str:
        from mapix.text import array_text, counted

        more = ", with labels" if self.labels is not None else ""
        what = array_text(self.shape[1:], self.dtype)
        return f"{counted(len(self), self.RECORDS)}, {what}{more}"

    def _explained(self, row: int) -> dict[str, Any]:
        how = f"a read-only view of the file from byte {self._at + row * self._row_nbytes} on"
        if self._numbers is not self.source:
            how = "a read-only view of the decompressed file in the cache"
        return {"reads_nbytes": self._row_nbytes, "swaps": self._view_swaps(), "how": how}

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        from mapix.byte_ranges import Walk

        walk = Walk(self._numbers, 0)
        self._walk_header(walk)
        found = walk.found + self._row_ranges(row, "pixels" if len(self._shape) > 1 else "data")
        if self.labels is not None:
            walk = Walk(self.labels._numbers, 0)
            self.labels._walk_header(walk)
            found += walk.found + self.labels._row_ranges(row, "label")
        return found

    @property
    def _strides(self) -> tuple[int, ...]:
        """Bytes from row to row, column to column and channel to channel of an image."""
        size, sides = self._dtype.itemsize, self._shape[1:]
        if self._dtype.kind not in "biuf" or not 1 <= len(sides) <= 3:
            return ()
        if self._layout == "NCHW":
            _, h, w = sides
            return w * size, size, h * w * size
        inner = [size * math.prod(sides[k + 1 :]) for k in range(len(sides))]
        return tuple(inner) if len(sides) > 1 else (0, size)

    def _walk_header(self, walk: Walk) -> None:
        """Name the bytes of the file before its first row, from the walk's place on."""

    def _row_ranges(self, row: int, kind: Kind) -> list[ByteRange]:
        """Return the place of a row's numbers; of few records their fields one by one."""
        from mapix.byte_ranges import ByteRange, Walk

        walk = Walk(self._numbers, self._at + row * self._row_nbytes)
        shape, count = self._shape[1:], math.prod(self._shape[1:])
        fields = self._dtype.fields
        shown = " x ".join(map(str, shape))
        text = f"{shown} of {self._dtype}" if shown else ""
        if count <= MOST_SHOWN and self._row_nbytes and self._dtype.names is None:
            raw = self._numbers.read(walk.at, self._row_nbytes)
            text = ", ".join(map(str, np.frombuffer(raw, self._dtype)))
        name = "label" if kind == "label" else "row"
        walk.take(name, kind, self._row_nbytes, text, self._strides if kind == "pixels" else ())
        if fields is None or count > MOST_SHOWN or not self._row_nbytes:
            return walk.found
        at = walk.found[0].at
        values = np.frombuffer(self._numbers.read(at, self._row_nbytes), self._dtype)
        return [
            ByteRange(
                f"{field}[{k}]" if shape else field,
                "data",
                at + k * self._dtype.itemsize + offset[1],
                offset[0].itemsize,
                str(values[field][k]),
                self._numbers,
            )
            for k in range(count)
            for field, offset in sorted(fields.items(), key=lambda item: item[1][1])
        ]

    def _view_swaps(self) -> str:
        if self._dtype.isnative:
            return ""
        return f"the view has the file's byte order ({self._dtype.str}): numpy swaps in each use"

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        from mapix.text import array_text

        plan = self._plan(options)
        size = math.prod(plan.shape) * plan.dtype.itemsize
        arithmetic = ", (number * scale - mean) / std" if options.arithmetic else ""
        same = plan.dtype == self._native_dtype and not arithmetic
        what = array_text((len(rows), *plan.shape), plan.dtype)
        by = "by the C core in one pass" if plan.recipe or plan.copies else "by numpy"
        swaps = "" if self._dtype.isnative else f"numbers of {self._dtype.str}, in the same pass"
        return {
            "reads_nbytes": len(rows) * self._row_nbytes,
            "copies_nbytes": len(rows) * size,
            "swaps": swaps,
            "converts": "" if same else f"{self._native_dtype} to {plan.dtype}{arithmetic}",
            "how": f"records are copied {by} to {what}",
        }

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Check that all rows can be read, that floats are finite, and that labels fit.

        Parameters
        ----------
        progress : callable, optional
            ``progress(rows_done, rows_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.

        Returns
        -------
        Report
            ``damaged`` are rows with numbers that are not finite.
        """
        from mapix.report import Report

        file = self._part(None)
        nbytes = file._n * file._row_nbytes
        report = Report(self.path, file._n, nbytes, ["the size of the file"])
        self._check(file, report, progress, map)
        if file.labels is not None:
            report.checked.append("labels")
            if len(file.labels) != file._n:
                report.problems.append(
                    f"{file._n} rows, {len(file.labels)} labels in {file.labels.path}"
                )
            report.problems += file.labels.verify(map=map).problems
        return report

    def _check(
        self, file: Self, report: Report, progress: Progress | None, map: Map | None
    ) -> None:
        """Read all rows of the complete file into a report; subclasses add what they know."""
        from mapix.plans import over

        finite = self._dtype.kind in "fc"
        report.checked += ["all bytes", "finite numbers"] if finite else ["all bytes"]
        try:
            for damaged in over(file, partial(_unusable, finite), map=map, progress=progress):
                report.damaged += damaged
        except MapixError as e:
            report.problems.append(str(e))
        if report.damaged:
            listed = ", ".join(str(row) for row in report.damaged[:MOST_LISTED])
            more = ", ..." if len(report.damaged) > MOST_LISTED else ""
            report.problems.append(
                f"{self.path}: numbers that are not finite in {len(report.damaged)} rows: "
                f"{listed}{more}"
            )

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        super().close()
        self._numbers.close()
        if self.labels is not None:
            self.labels.close()


def _unusable(finite: bool, part: RowArray, progress: Progress | None) -> list[int]:
    """Read rows; return the numbers of those with numbers that are not finite, if asked for."""
    found, done, rows = [], 0, part.rows
    for block in part.blocks(reuse=True):
        if finite:
            good = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
            found += rows[done : done + len(block)][~good].tolist()
        done += len(block)
        if progress is not None:
            progress(done, part._n)
    return found


def _names(row_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the columns of labels that lie in a file of their own."""
    if len(row_shape) == 1 and row_shape[0] <= MOST_NAMED:
        return tuple(f"label_{k}" for k in range(row_shape[0]))
    return ("label",)
