"""Many records as one contiguous batch: one C call that copies each byte once."""

from __future__ import annotations

import abc
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from mapix import _native
from mapix._native.compiled import fast
from mapix.arrow_capsules import stream_capsule
from mapix.registry import COLLATED, resolved
from mapix.selection import single
from mapix.source import Mapping, Source
from mapix.text import brief
from mapix.views import exported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Apart",
    "AskedAhead",
    "Batch",
    "Collatable",
    "Lookout",
    "Pair",
    "Prepared",
    "Recipe",
    "Row",
    "Samples",
    "affine",
    "batches",
    "batches_ahead",
    "gather",
    "given",
    "in_unit",
    "label_codes",
    "same_shapes",
    "translated",
]

MOST_ASKED = 32  # batches whose pages are asked for before they are needed
ASKED_RECORDS = 2048  # in these batches, about
ASKED_NBYTES = 32 << 20  # of these batches, about

IntArray: TypeAlias = "NDArray[np.int64]"


@dataclass(slots=True, eq=False)
class Batch:
    """Result of ``batch``.  Its arrays are its own, or the given ``out``: writable, contiguous.

    Attributes
    ----------
    images : ndarray
        (b, h, w, c) or (b, c, h, w); with ``flat=True`` all bytes of all images back to back,
        each as the file has it.
    labels : ndarray or None
        Of VIMH (b, heads), in the unit that was asked for: uint8 raw (0 where missing), float32
        normalised or physical (NaN where missing), int64 class (-1 where missing).  Of IDX the
        rows of the label file as they are: (b,), or (b, k) of rows of k numbers.
    present : ndarray or None
        bool, as ``labels``: False where a record lacks the label.
    shapes : ndarray
        uint16 (b, 3): h, w, c of each record before padding or cropping (read-only where all
        records of the file are alike).
    spec_range : ndarray or None
        float32 (b, 2): spec_min, spec_max, when asked for; NaN in the 6-byte dialect.
    offsets : ndarray or None
        With ``flat=True``: int64 (b + 1,), image i is ``images[offsets[i]:offsets[i + 1]]``.
    names : tuple of str
        Names of the label columns.
    rows : ndarray or None
        Of a ``Loader``'s batch: int64 (b,), which records they are.
    shares, partners : ndarray or None
        With mixup: float32 and int64 (b,).  Image i is ``shares[i]`` of record i, and the rest of
        record ``partners[i]`` of the batch, whose labels are ``labels[partners[i]]``.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None
    present: NDArray[np.bool_] | None
    shapes: NDArray[np.uint16]
    spec_range: NDArray[np.float32] | None
    offsets: NDArray[np.int64] | None
    names: tuple[str, ...]
    rows: NDArray[np.int64] | None = field(default=None, kw_only=True)
    shares: NDArray[np.float32] | None = field(default=None, kw_only=True)
    partners: NDArray[np.int64] | None = field(default=None, kw_only=True)

    __repr__ = brief

    def _repr_html_(self) -> str:
        from mapix.notebook import batch_html

        return batch_html(self)

    def __len__(self) -> int:
        return len(self.shapes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the images, for ``np.asarray(batch)``: without a copy unless one is needed."""
        return exported(self.images, dtype, copy)

    def __dlpack__(self, **options: Any) -> Any:
        """Return the images, for ``from_dlpack(batch)`` of other libraries, without a copy."""
        return self.images.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the device of the images: the CPU."""
        kind, number = self.images.__dlpack_device__()
        return int(kind), int(number)

    def labels_by_name(self) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Return the labels by name: values and presence, (b,) each, as views.

        Rows of labels that have one name are one entry, (b, k).  Empty without labels.
        """
        labels, there = self.labels, self.present
        if labels is None:
            return {}
        if labels.ndim != 2 or labels.shape[1] != len(self.names):
            return {self.names[0]: (labels, there if labels.ndim == 1 else None)}
        return {
            name: (labels[:, k], None if there is None else there[:, k])
            for k, name in enumerate(self.names)
        }

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the labels for libraries that read Arrow, null where missing.  Needs pyarrow."""
        return stream_capsule(self.labels_by_name(), requested_schema)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """Return the arrays, and the names of labels: a batch is a tree for PyTorch and JAX.

        ``mapix.torch`` and ``mapix.jax`` register it.
        """
        return tuple(getattr(self, name) for name in _ARRAYS), self.names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], arrays: Sequence[Any]) -> Batch:
        """Return a batch of the leaves of ``tree_flatten``, which may be of any type."""
        return cls(**dict(zip(_ARRAYS, arrays, strict=True)), names=names)


_ARRAYS = tuple(each.name for each in fields(Batch) if each.name != "names")


class Collatable(metaclass=abc.ABCMeta):  # noqa: B024 - families are its virtual subclasses
    """A record several of which make a batch; families register their types of records.

    PyTorch's default collate function knows records by this class.
    """

    @classmethod
    def __subclasshook__(cls, kind: type) -> Any:
        return True if kind in COLLATED else NotImplemented

    @classmethod
    def add(cls, kind: type, make: Callable[[Sequence[Any]], Batch]) -> None:
        """Register a type of records, and the function that makes a batch of several."""
        COLLATED[kind] = make

    @classmethod
    def batch_of(cls, records: Sequence[Any]) -> Batch:
        """Return records of one registered type as a batch."""
        found: Batch = resolved(COLLATED[type(records[0])])(records)
        return found


class Row(np.ndarray[Any, Any]):
    """A row of a batch, as an array of a type that PyTorch's default collate function knows."""


class Pair(tuple[Any, ...]):
    """A row of a batch and its label; the same."""

    __slots__ = ()


class Samples(Sequence[Any]):
    """The rows of a batch one by one: a ``Row`` each, with labels a ``Pair`` each.

    What ``__getitems__`` of arrays returns.  PyTorch's loaders make one tensor of the list that
    they get; with ``mapix.torch`` imported, of ``images`` at once.

    Attributes
    ----------
    images : ndarray
        (b, ...), in this machine's byte order.
    labels : ndarray or None
        (b, ...).
    """

    __slots__ = ("images", "labels")

    def __init__(self, images: NDArray[Any], labels: NDArray[Any] | None) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(len(self)))]
        i = single(key, len(self), "a batch", "rows")
        row = self.images[i, ...].view(Row)
        return row if self.labels is None else Pair((row, self.labels[i]))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class Lookout:
    """Decides when to check whether a file is in memory, so that it is read before it is needed.

    A check costs some per cent of a batch.  So after batches that were in memory the next one, then
    three, seven, and at most fifteen are not checked, and others briefly.  After a batch that was
    not in memory each one is checked again, at many records: in a random epoch, more and more of
    them are in memory, and a batch that is not asked for is read record by record.  Concurrent
    threads may check once too often.
    """

    __slots__ = ("_gap", "_skip")

    FEW = 2  # records of a batch that are checked
    MANY = 64  # the check ends at the first that is not in memory
    MOST = 15

    def __init__(self) -> None:
        self._gap = self._skip = 0

    def probes(self) -> int:
        """Return the number of records of the next batch to check."""
        skip = self._skip  # another thread may change it meanwhile: it must not become negative
        if skip:
            self._skip = skip - 1
            return 0
        return self.FEW if self._gap else self.MANY

    def saw(self, nasked: int) -> None:
        """Note the result of a check: how many records had to be asked for."""
        self._gap = 0 if nasked else min(2 * self._gap + 1, self.MOST)
        self._skip = self._gap

    def ask(self, prefetch: Callable[[IntArray], int], rows: IntArray) -> int:
        """Check the records of a batch, and have the kernel read what is not in memory.

        Parameters
        ----------
        prefetch : callable
            ``Dataset.prefetch``, which checks many records.
        rows : ndarray
            int64 (b,).

        Returns
        -------
        int
            How many batches after this one need no check.
        """
        some = rows[:: len(rows) // self.FEW + 1]
        in_memory = self._gap and not prefetch(some)
        self.saw(0 if in_memory else prefetch(rows))
        return self._skip


class AskedAhead:
    """The rows of batches, in order; the kernel is asked for their records before they are used.

    An iteration yields lists of consecutive batches.  Batches that are in memory are checked less
    and less often: see ``Lookout``.

    Parameters
    ----------
    rows : iterator of ndarray
        int64 (b,) for each batch.
    prefetch : callable
        ``Dataset.prefetch``.
    soon : iterator of ndarray, optional
        Other records to ask for with each batch.

    Attributes
    ----------
    distance : int
        How many batches ahead; ``batches_ahead`` of a batch, once there was one.
    """

    def __init__(
        self,
        rows: Iterator[IntArray],
        prefetch: Callable[[IntArray], int],
        soon: Iterator[IntArray] | None = None,
    ) -> None:
        self._rows, self._prefetch, self._soon, self.distance = rows, prefetch, soon, 1

    def __iter__(self) -> Iterator[list[IntArray]]:
        lookout, distance = Lookout(), 1
        # the first batch is used at once
        asked = list(islice(self._rows, 1)) if self._soon is None else []
        for rows in self._rows:
            skip = lookout.ask(self._prefetch, rows if self._soon is None else next(self._soon))
            asked += (rows, *islice(self._rows, skip))
            if self._soon is not None:
                deque(islice(self._soon, skip), 0)
            if len(asked) > distance:
                yield asked[:-distance]
                del asked[:-distance]
                distance = self.distance
        yield asked


def batches(
    ds: Any, batch_size: int, indices: IntArray, *, drop_last: bool, options: dict[str, Any]
) -> Iterator[Batch]:
    """Yield batches of a dataset's ``indices``; the next ones are read from disk ahead of use."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    end = len(indices) - len(indices) % batch_size if drop_last else len(indices)
    begins = range(0, end, batch_size)
    ahead = AskedAhead((indices[k : min(k + batch_size, end)] for k in begins), ds.prefetch)
    for rows in chain.from_iterable(ahead):
        found = ds.batch(rows, **options)
        ahead.distance = batches_ahead(found.images)
        yield found


def batches_ahead(images: NDArray[Any]) -> int:
    """Return how many batches like these images to read from disk ahead of use."""
    nbytes, n = max(1, images.nbytes), max(1, len(images))
    return max(1, min(MOST_ASKED, ASKED_RECORDS // n, ASKED_NBYTES // nbytes))


class Recipe:
    """Instructions of the C core for a set of options of a batch: made once, then reused.

    Parameters
    ----------
    dtype, layout : str
        Of the images.
    scale, mean, std : float or array_like, optional
        See ``affine``.
    c : int
        Channels of the output.
    fit : int
        ``_native.PAD``, ``CROP`` and ``CENTRE``, or-ed.
    pad_value : float
        In units of the output.
    columns : ndarray or None
        Label column of each id, int16 (256,); None for no labels.
    names : tuple of str
        Names of the columns.
    """

    __slots__ = ("_keep", "address", "c", "dtype", "names", "nhwc", "template")

    def __init__(
        self,
        dtype: str,
        layout: str,
        scale: float | None,
        mean: ArrayLike | None,
        std: ArrayLike | None,
        *,
        c: int,
        fit: int,
        pad_value: float,
        columns: NDArray[np.int16] | None,
        names: tuple[str, ...],
    ) -> None:
        if dtype not in _native.DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_native.DTYPES)}, got {dtype!r}")
        if layout not in _native.LAYOUTS:
            raise ValueError(f"layout must be NHWC or NCHW, got {layout!r}")
        if dtype == "uint8" and not (0 <= pad_value <= 255 and pad_value == int(pad_value)):
            raise ValueError(f"pad_value must be 0..255 for uint8, got {pad_value}")
        self.dtype = np.dtype(dtype)
        self.nhwc = layout == "NHWC"
        self.names = names
        plan = _native.new_gather()
        plan.dtype = _native.DTYPES[dtype]
        plan.layout = _native.LAYOUTS[layout]
        plan.c = c
        plan.fit = fit
        plan.pad_value = pad_value
        plan.ncolumns = len(names)
        self._keep = []
        pairs = affine(dtype, scale, mean, std, c)
        if pairs is not None:
            self._keep.append(_native.constant(pairs, "float[]"))
            plan.affine = self._keep[-1]
        if columns is not None:
            self._keep.append(_native.constant(columns, "int16_t[]"))
            plan.columns = self._keep[-1]
        self.template = plan
        self.address = _native.address_of(plan)
        self.c = c

    @classmethod
    def copying(cls, dtype: np.dtype[Any], swap: int) -> Recipe:
        """Return the recipe of rows as the file has them, bytes of each number reversed.

        ``swap`` is the size of the numbers, or 1 where their bytes keep their order.
        """
        made = cls.__new__(cls)
        made.dtype, made.nhwc, made.names, made.c, made._keep = dtype, True, (), 1, []
        made.template = _native.new_gather()
        made.template.swap = swap
        made.address = _native.address_of(made.template)
        return made

    def augmented(self, augment: _native.CData) -> Recipe:
        """Return the same recipe with random changes, for one batch."""
        made = copy(self)
        made.template = _native.new_gather(self.template)
        made.template.augment = augment
        made.address = _native.address_of(made.template)
        made._keep = [*self._keep, augment]
        return made


def affine(
    dtype: str, scale: float | None, mean: ArrayLike | None, std: ArrayLike | None, c: int
) -> NDArray[np.float32] | None:
    """Return pairs (a, b) of each channel, float32 (c, 2): a byte becomes fma(byte, a, b).

    That is ``(byte * scale - mean) / std``, with a and b computed in float64; None for uint8.
    """
    if dtype == "uint8":
        if scale is not None or mean is not None or std is not None:
            raise ValueError("scale, mean and std need dtype float32 or float16")
        return None
    divisor = np.asarray(1.0 if std is None else std, dtype=np.float64)
    offset = np.asarray(0.0 if mean is None else mean, dtype=np.float64)
    if not (divisor != 0).all():
        raise ValueError("std must not be zero")
    out = np.empty((c, 2), dtype=np.float32)
    try:
        out[:, 0] = (1.0 if scale is None else scale) / divisor
        out[:, 1] = -offset / divisor
    except ValueError as e:
        raise ValueError(
            f"mean and std must be numbers or {c} of them, one per channel; "
            f"got shapes {offset.shape} and {divisor.shape}"
        ) from e
    return out


def given(out: NDArray[Any] | Batch, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the first rows of the output array of a caller, which must fit."""
    array = out.images if isinstance(out, Batch) else out
    usual = type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    if usual and array.flags.carray:  # contiguous, aligned and writable
        return array
    if not isinstance(array, np.ndarray):
        raise TypeError(f"out must be an ndarray or a Batch, got {type(out).__name__}")
    flags = array.flags
    found = array.shape
    fits = found == shape or (found[1:] == shape[1:] and found and found[0] >= shape[0])
    if array.dtype != dtype or not fits or not flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous {dtype} of shape {shape} (or with more rows), "
            f"got {array.dtype} {array.shape}"
        )
    if not flags.writeable:
        raise ValueError("out is read-only")
    return array if found == shape else array[: shape[0]]


def gather(
    mapping: Mapping,
    index: _native.Table,
    rows: IntArray,
    recipe: Recipe,
    *,
    h: int = 0,
    w: int = 0,
    shape: tuple[int, ...] | None = None,
    offsets: NDArray[np.int64] | None = None,
    shapes: NDArray[np.uint16] | None = None,
    spec_range: bool = False,
    out: NDArray[Any] | Batch | None = None,
    threads: int = 1,
    lookout: Lookout | None = None,
    augment: _native.CData = None,
) -> Batch:
    """Copy records into a batch.

    Parameters
    ----------
    mapping, index
        The file and its index.
    rows : ndarray
        int64 (b,), negative ones count from the end.
    recipe : Recipe
        Type, layout, arithmetic, labels.
    h, w : int
        Size of the output; with ``augment``, of the canvas before the changes, 0 for none.
    shape : tuple of int, optional
        Shape of the images, if it differs from that of pictures (b, h, w, c) or (b, c, h, w).
    offsets : ndarray, optional
        int64 (b + 1,), where each image begins in flat output: no canvas.
    shapes : ndarray, optional
        uint16 (b, 3), where the shapes are known; gathered otherwise.
    spec_range : bool
        Whether spec_min and spec_max are wanted.
    out : ndarray or Batch, optional
        Where the images go.
    threads : int
        Threads that copy, 1 to 16.
    lookout : Lookout, optional
        Decides whether the kernel is asked for the records first.
    augment : CData, optional
        Random changes of the images, and the size of the output.

    Returns
    -------
    Batch
        Labels raw.

    Notes
    -----
    Copies: every image once.  Lifetime: the arrays are the caller's.  Threads: any number of
    calls at once; the GIL is released.  Cost: one scan of the bytes of the records.
    """
    b = len(rows)
    if offsets is not None:
        shape = (int(offsets[b]),)
    elif shape is None:
        side = (h, w) if augment is None else (augment.h, augment.w)
        shape = (b, *side, recipe.c) if recipe.nhwc else (b, recipe.c, *side)
    if augment is not None:
        recipe = recipe.augmented(augment)
    target = shape if out is None else given(out, shape, recipe.dtype)
    probe = 0 if lookout is None else lookout.probes()
    what = (rows, target, h, w, offsets, shapes is None, spec_range, threads, probe)
    done = (_slowly if fast is None else _fast)(mapping, index, recipe, *what)
    images, labels, present, found, spec, nasked = done
    if lookout is not None and probe:
        lookout.saw(nasked)
    if shapes is None:
        shapes = found
    return Batch(images, labels, present, shapes, spec, offsets, recipe.names)


class Apart(NamedTuple):
    """Labels that lie in a file of their own, and were loaded.

    Attributes
    ----------
    values : ndarray
        (n, ...), C-contiguous, in this machine's byte order: a row for each record.
    source : Source
        The file.
    names : tuple of str
        Names of the columns.
    """

    values: NDArray[Any]
    source: Source
    names: tuple[str, ...]

    def of(self, rows: IntArray) -> NDArray[Any]:
        """Return the labels of records; raise FileChangedError if the file has changed."""
        _native.check(self.source.mapping)
        found: NDArray[Any] = self.values.take(rows, axis=0)
        return found


class _Fallback:
    """``mapix._record.Prepared`` where there is no C module."""

    __slots__ = ()

    def _bind(self, *what: Any) -> None:
        """Do nothing: there is no fast way."""

    def made(self, rows: Any, out: Any) -> Batch | None:
        """Return None: ``gather`` makes all batches."""

    def loaded(self, rows: Any, out: Any) -> Batch:
        """Return a batch with its rows."""
        found: Batch = self.gather(rows, out)  # type: ignore[attr-defined]
        found.rows = rows
        return found


if TYPE_CHECKING or fast is None:  # noqa: SIM108 - types
    _Base = _Fallback
else:
    _Base = fast.Prepared


class Prepared(_Base):
    """Batches of one set of options, from one file: all that is known before their rows.

    ``made(rows, out)`` is the fast way: one call without Python, for int64 rows and for an output
    that fits exactly.  It returns None for other arguments, and if anything goes wrong; then
    ``gather`` makes the batch, or raises.  ``loaded(rows, out)`` does both, and sets ``rows`` of
    the batch.

    It refers to no dataset, so a dataset can keep it without a cycle.

    Parameters
    ----------
    source : Source
        The file.
    index : Table
        Its index.
    recipe : Recipe
        Type, layout, arithmetic, labels.
    canvas : (int, int)
        h and w of the output.
    shape : tuple of int
        Shape of an image of the output.
    record : array_like, optional
        h, w, c of each record; None where these differ.
    threads : int
        Threads that copy, 1 to 16.
    flat : bool
        Whether the images are bytes back to back.
    spec_range : bool
        Whether spec_min and spec_max are wanted.
    unit : (ndarray, number), optional
        (heads, 256), the value of each code of each label, and that of missing labels: see
        ``translated``.
    labels : Apart, optional
        Labels that lie in a file of their own.
    lookout : bool
        Whether records are asked for first: see ``Lookout``.
    """

    __slots__ = (
        "_flat_nbytes",
        "_index",
        "_labels",
        "_more",
        "_record",
        "_source",
        "_unit",
        "recipe",
        "shape",
    )

    def __init__(
        self,
        source: Source,
        index: _native.Table,
        recipe: Recipe,
        *,
        canvas: tuple[int, int],
        shape: tuple[int, ...],
        record: ArrayLike | None,
        threads: int,
        flat: bool = False,
        spec_range: bool = False,
        unit: tuple[NDArray[Any], float] | None = None,
        labels: Apart | None = None,
        lookout: bool = False,
    ) -> None:
        self._source, self._index, self.recipe, self.shape = source, index, recipe, shape
        self._record = None if record is None else np.array(record, np.uint16)
        self._flat_nbytes = math.prod(shape) if flat else 0
        self._unit, self._labels = unit, labels
        self._more: dict[str, Any] = {
            "h": canvas[0],
            "w": canvas[1],
            "threads": threads,
            "spec_range": spec_range,
            "lookout": Lookout() if lookout else None,
        }
        table = None if unit is None else np.ascontiguousarray(unit[0])
        missing = None if unit is None or table is None else np.array([unit[1]], table.dtype)
        asking = (Lookout.FEW, Lookout.MANY, Lookout.MOST) if lookout else (0, 0, 0)
        self._bind(
            *(Batch, (_native.GATHER, _native.CHECK), (index, recipe)),
            *((index.address, recipe.address), source, asking, recipe.dtype, (*canvas, threads)),
            *(shape, self._flat_nbytes, spec_range, self._record),
            recipe.names if labels is None else labels.names,
            (None, None) if labels is None else (labels.values, labels.source),
            (table, missing),
        )

    def gather(self, rows: IntArray, out: NDArray[Any] | Batch | None) -> Batch:
        """Copy records into a batch: see ``gather``, whose errors it raises."""
        b, record = len(rows), self._record
        offsets = np.arange(b + 1) * self._flat_nbytes if self._flat_nbytes else None
        shape = (b, *self.shape)
        if out is None and offsets is None:
            out = np.empty(shape, self.recipe.dtype)
        found = gather(
            *(self._source.mapping, self._index, rows, self.recipe),
            shape=shape,
            offsets=offsets,
            shapes=None if record is None else same_shapes(record, b),
            out=out,
            **self._more,
        )
        if self._labels is not None:
            found.labels, found.names = self._labels.of(rows), self._labels.names
            found.present = np.ones(found.labels.shape, np.bool_)
        return found if self._unit is None else in_unit(found, *self._unit)


def same_shapes(record: NDArray[np.uint16], b: int) -> NDArray[np.uint16]:
    """Return one shape b times, uint16 (b, 3), as a read-only view."""
    found: NDArray[np.uint16] = np.ndarray((b, 3), np.uint16, record, 0, (0, 2))
    found.flags.writeable = False
    return found


def _fast(mapping: Mapping, index: _native.Table, recipe: Recipe, *what: Any) -> tuple[Any, ...]:
    """Do what ``_slowly`` does in C."""
    while True:
        where = (_native.GATHER, mapping.located, index.address, recipe.address)
        done: tuple[Any, ...] = fast.gather(*where, *what)
        if len(done) == 6:
            return done
        if done[0] == _native.SYSTEM:  # errno is only known to cffi's own calls
            return _slowly(mapping, index, recipe, *what)
        if done[0] == _native.CHANGED:
            mapping.settle(lambda: index.ranges(what[0]))
        else:
            index.failed(done[0], done[1:], mapping)


def _slowly(
    mapping: Mapping,
    index: _native.Table,
    recipe: Recipe,
    rows: IntArray,
    given: NDArray[Any] | tuple[int, ...],
    h: int,
    w: int,
    offsets: NDArray[np.int64] | None,
    with_shapes: bool,
    with_spec: bool,
    threads: int,
    probe: int,
) -> tuple[Any, ...]:
    """Return images, labels, present, shapes, spec_range, and the number of records asked for."""
    b = len(rows)
    plan = _native.new_gather(recipe.template)
    labels = present = shapes = spec = None
    images = np.empty(given, recipe.dtype) if isinstance(given, tuple) else given
    plan.h, plan.w = h, w
    # each pointer must outlive the call, hence a name of its own
    images_at = _native.writable(images)
    plan.images = images_at
    plan.images_nbytes = len(images_at)
    if offsets is not None:
        offsets_at = _native.constant(offsets, "uint8_t[]")
        plan.flat_at = _native.cast("uint64_t *", offsets_at)
    if plan.columns:
        labels = np.empty((b, len(recipe.names)), np.uint8)
        present = np.empty((b, len(recipe.names)), np.bool_)
    if labels is not None and present is not None and recipe.names:
        labels_at, present_at = _native.writable(labels), _native.writable(present)
        plan.labels, plan.present = labels_at, present_at
    if with_shapes:
        shapes = np.empty((b, 3), np.uint16)
        shapes_at = _native.writable(shapes)
        plan.shapes = _native.cast("uint16_t *", shapes_at)
    if with_spec:
        spec = np.empty((b, 2), np.float32)
        spec_at = _native.writable(spec)
        plan.spec_range = _native.cast("float *", spec_at)
    plan.nthreads = threads
    plan.probe = probe
    return images, labels, present, shapes, spec, index.gather(mapping, rows, plan)


def label_codes(
    mapping: Mapping,
    index: _native.Table,
    rows: IntArray,
    columns: NDArray[np.int16],
    codes: NDArray[np.uint8],
    present: NDArray[np.bool_],
) -> None:
    """Fill in the labels of records, without their images.

    Parameters
    ----------
    mapping, index, rows
        As for ``gather``.
    columns : ndarray
        int16 (256,): column of each label id, or -1.
    codes, present : ndarray
        uint8 and bool (b, heads), C-contiguous: what is filled in.
    """
    plan = _native.new_gather()
    columns_at = _native.constant(columns, "int16_t[]")
    codes_at, present_at = _native.writable(codes), _native.writable(present)
    plan.columns = columns_at
    plan.ncolumns = codes.shape[1]
    if codes.size:
        plan.labels, plan.present = codes_at, present_at
        index.gather(mapping, rows, plan)


def translated(
    codes: NDArray[np.uint8], present: NDArray[np.bool_], table: NDArray[Any], missing: float
) -> NDArray[Any]:
    """Return the values of codes (b, heads) in ``table`` (heads, 256); ``missing`` where absent."""
    values: NDArray[Any] = table.take(codes + np.arange(codes.shape[1]) * table.shape[1])
    if not present.all():
        values[~present] = missing
    return values


def in_unit(batch: Batch, table: NDArray[Any], missing: float) -> Batch:
    """Replace raw labels by their values in ``table`` (heads, 256), and return the batch."""
    if batch.labels is not None and batch.present is not None:
        batch.labels = translated(batch.labels, batch.present, table, missing)
    return batch
