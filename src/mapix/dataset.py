"""The contract: what every family of datasets that ``mapix.open`` returns can do."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Self,
    TypeVar,
    overload,
)

import numpy as np

from mapix.errors import UnsupportedError
from mapix.limits import MOST_COPIED_NBYTES, PART_NBYTES, check_limits
from mapix.registry import Deferred, reopen, resolved
from mapix.selection import Rows, chosen, compose, positions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.annotations import Annotations, Unit
    from mapix.augmentation import Draws
    from mapix.batch import Batch, Prepared
    from mapix.byte_ranges import ByteRange
    from mapix.columns import Column, Columns
    from mapix.options import BatchOptions, Crop, Dtype, Layout
    from mapix.placement import Placement
    from mapix.plans import Map
    from mapix.progress import Progress
    from mapix.report import Report
    from mapix.source import Fingerprint, Source
    from mapix.statistics import ColumnStatistics, Statistics, Sums
else:
    Progress = Callable[[int, int], object]

__all__ = ["Annotations", "Dataset", "FileDataset", "Progress", "Unit"]

# Fields of ``BatchOptions`` in their order; its class is made when a batch is.
OPTIONS = (
    *("dtype", "layout", "scale", "mean", "std", "pad", "crop", "pad_value", "labels", "threads"),
    "more",
)
LABELS = OPTIONS.index("labels")

R = TypeVar("R", covariant=True)


class Dataset(abc.ABC, Generic[R]):
    """Records of a file, or of several, by number.  Made by ``mapix.open``.

    Indexing with an integer gives a record; with a slice, a 1-D array of indices or a boolean mask
    it gives a lazy dataset of those records.  A dataset pickles as path, options, fingerprint and
    record numbers, never as data: a worker opens the file itself, and refuses another file.

    A subclass sets ``FAMILY``, assigns ``_rows``, and implements the abstract methods; everything
    else follows from these.  ``docs/formats.md`` leads through an example.

    Attributes
    ----------
    FAMILY : str
        Name of the format in the registry.
    BATCH_OPTIONS : frozenset of str
        Options of ``batch`` that the family has; by default all.
    NO_BATCH : str
        Of a family whose records do not go into a batch: what to use instead, as in "use x";
        empty for all others.
    MORE_OPTIONS : frozenset of str
        Options of ``batch`` that only this family has: those of ``BatchOptions.more``.
    LABEL_UNITS : frozenset of str
        Units that ``labels=`` of ``batch`` may ask for.  A family supplies "raw"; "class" is made
        of it here, where raw labels are whole numbers, unless the family supplies int64 itself.
    NAMES : tuple of str
        Columns that together name a record; empty where records have no names.
    JOINED : str, callable or None
        Called with a list of datasets by ``joined``; None where the family cannot join them.
    UNPICKLED : tuple of str
        Names of attributes that a pickle leaves out, and that ``verify`` needs: what was opened as
        a directory is checked as one by other workers, too.
    PANELS : tuple of str
        ``"module:NAME"`` of each panel of the viewer that only this family has: see
        ``mapix.viewer.panels.Panel``.
    """

    FAMILY: ClassVar[str]
    RECORDS: ClassVar[str] = "records"
    BATCH_OPTIONS: ClassVar[frozenset[str]] = frozenset(OPTIONS)
    NO_BATCH: ClassVar[str] = ""
    MORE_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    LABEL_UNITS: ClassVar[frozenset[str]] = frozenset({"raw", "class"})

    NAMES: ClassVar[tuple[str, ...]] = ()
    JOINED: ClassVar[Deferred | None] = "mapix.joined:Joined"
    UNPICKLED: ClassVar[tuple[str, ...]] = ()
    PANELS: ClassVar[tuple[Deferred, ...]] = ()

    _rows: Rows = None
    _columns_known: Columns | None = None
    _prepared: Mapping[Hashable, Prepared] = MappingProxyType({})  # batches, by their options
    _whole: Any = None  # all records of the file: made when a part needs their labels

    def __init_subclass__(cls, **options: Any) -> None:
        """Let ``progress=True`` show a bar, also in the formats of other packages."""
        super().__init_subclass__(**options)
        for name, task, unit in (("verify", "checking", "steps"), ("warm", "reading", "bytes")):
            if name in vars(cls):
                setattr(cls, name, _with_bar(vars(cls)[name], task, unit))
        if "verify" in vars(cls) and not _has_argument(vars(cls)["verify"], "map"):
            cls.verify = _without_map(cls.verify)  # type: ignore[method-assign]
        if "verify" in vars(cls):
            cls.verify = _in_own_words(cls.verify)  # type: ignore[method-assign]

    # --- what a subclass supplies -----------------------------------------------------------------

    @property
    @abc.abstractmethod
    def path(self) -> str:
        """Path of the file."""

    @property
    @abc.abstractmethod
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the file.  Arrays taken from it stay valid; further calls raise ClosedError."""

    @abc.abstractmethod
    def _count(self) -> int:
        """Return the number of all records of the file."""

    @abc.abstractmethod
    def _record(self, row: int) -> R:
        """Return a record by its number in the file, 0 <= row < ``_count()``."""

    @abc.abstractmethod
    def _part(self, rows: Rows) -> Self:
        """Return the dataset of these records of the file (None: all of them)."""

    @abc.abstractmethod
    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        """Return full path, options of ``open`` and fingerprint, for a pickle."""

    def _snapshot(self) -> Any:
        """Return this dataset, opened again: all files that are opened meanwhile are copied.

        A family that opens files later, such as pictures when they are decoded, overrides it, and
        reads these files here.
        """
        return reopen(*self._origin(), self._rows)

    def _gather(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch:
        """Copy records of the file, by number, into a batch.

        By default each record's ``_image`` is read and put into the batch by numpy; a family with
        a faster way overrides it.
        """
        return self._assembled(rows, options, out)

    def _prepare(self, options: BatchOptions) -> Prepared | None:
        """Return batches with these options as prepared ones; None where ``_gather`` makes each.

        A family may do so where batches depend on nothing but the rows: then later calls with the
        same options skip what is the same for all of them.
        """
        del options
        return None

    def _loading(
        self, options: dict[str, Any]
    ) -> Callable[[NDArray[np.int64], NDArray[Any] | None], Batch]:
        """Return a function of rows and output for loaders: ``batch``, with the rows of the batch.

        It skips what ``batch`` does for options that differ from call to call.
        """
        from mapix.operations.batches import loading

        return loading(self, options)

    def _gather_augmented(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        """Copy records of the file, by number, into a batch with random changes, except mixup.

        By default as ``_gather`` does by default; a family with a faster way overrides it.
        """
        if options.more or options.labels not in (None, "raw", "class"):
            given = [name for name, _ in options.more] or [f"labels={options.labels!r}"]
            raise UnsupportedError(
                f"{self.path}: batches of {self.FAMILY} have no augment= with {', '.join(given)}"
            )
        return self._assembled(rows, options, out, draws)

    def _assembled(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        out: NDArray[Any] | Batch | None,
        draws: Draws | None = None,
    ) -> Batch:
        """Read each record's ``_image``, and put it into a batch by numpy."""
        from mapix.operations.batches import assembled_of

        return assembled_of(self, rows, options, out, draws)

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return labels of records of the file, by number: values and presence (b, names)."""
        from mapix.operations.batches import labels_of

        return labels_of(self, names, rows)

    @abc.abstractmethod
    def verify(self, progress: Any = None, *, map: Map | None = None) -> Report:
        """Check everything in the file; of a directory, all of its files.

        Parameters
        ----------
        progress : callable or True, optional
            ``progress(done, total)``; True shows a bar.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.  A family
            passes it to ``mapix.plans.over``; one whose method lacks it checks in one part.

        Returns
        -------
        Report
            Its ``ok`` states whether no problem was found.
        """

    def _image(self, row: int) -> NDArray[Any] | None:
        """Return the pixels of a record, (h, w) or (h, w, c); None where records have none.

        By default the record itself where it is an array, or its ``image``.
        """
        record: Any = self._record(row)
        found = record if isinstance(record, np.ndarray) else getattr(record, "image", None)
        return found

    def _without_pixels(self) -> str:
        """Return why ``_image`` returns None, and what can be done, for errors; "" by default."""
        return ""

    def _thumbnail(self, row: int) -> NDArray[Any] | None:
        """Return what stands for a record in pictures of many: its ``_image`` by default.

        A family without pixels may give something else to see; (h, w) or (h, w, c), a copy.
        """
        return self._image(row)

    def _content(self, row: int) -> NDArray[Any] | None:
        """Return the array that a record holds: its pixels, or other numbers; of segments a mask.

        ``mapix get``, ``diff`` and ``bench`` read it.  None where a record is not an array.
        """
        found = self._image(row)
        if found is not None:
            return found
        record: Any = self._record(row)
        return record if isinstance(record, np.ndarray) else None

    def _column_names(self) -> Sequence[str]:
        """Return the names of the columns; by default none."""
        return ()

    def _column(self, name: str) -> Column:
        """Return a column of this dataset's records, by one of ``_column_names()``."""
        raise KeyError(name)

    def _labels_apart(self) -> Dataset[Any] | None:
        """Return the dataset of labels in a file of their own: its row i is that of record i."""
        return None

    def _schema(self) -> str:
        """Return what files must have in common, beside the names of columns, to be read alike.

        A catalogue opens one file of each such text; all that a joined dataset states of its
        columns and labels must follow from these files.
        """
        return ""

    def _rows_named(self, name: Sequence[str]) -> NDArray[np.int64] | None:
        """Return the records of a name, by number in the file; it has a part for each of ``NAMES``.

        None where the names of all records have to be read for that.
        """
        del name
        return None

    def _name_hashes(self) -> NDArray[np.uint64] | None:
        """Return a hash of each record's name, uint64 (n,); None: of the columns ``NAMES``.

        They are stored, so they must never change: see "Names" in docs/catalogue.md.
        """
        return None

    def _label_names(self) -> Sequence[str]:
        """Return the names of the columns that are labels: what ``weights()`` balances."""
        return ()

    def _class_names(self) -> Mapping[str, Sequence[str]]:
        """Return the names of classes, by the label that numbers them; empty if not known."""
        return {}

    def _facts(self) -> dict[str, Any]:
        """Return what only this family states, for ``describe``: plain data."""
        return {}

    def _summary(self) -> str:
        """Return what ``repr`` states of an open dataset."""
        from mapix.text import counted

        return counted(len(self), self.RECORDS)

    def _sample(self, rows: NDArray[np.int64]) -> Mapping[str, Column]:
        """Return the columns of a few records of the file, by number, for ``repr`` and notebooks.

        A family whose columns are read of all records at once overrides this method: here, only
        these records must be read.
        """
        return self._part(rows).columns

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        """Return a picture of a record of the file, uint8 (h, w, 3), within size x size.

        For notebooks, ``show`` and viewers.  By default ``mapix.drawing.thumbnail`` of
        ``_thumbnail``; None without one, and of images of more than 64 million numbers.
        """
        from mapix.drawing.scaling import MOST_DRAWN_PIXELS, drawn

        if self.image_shape is not None and math.prod(self.image_shape) > MOST_DRAWN_PIXELS:
            return None
        return drawn(self._thumbnail(row), size)

    def _overview(self) -> tuple[NDArray[np.uint8], str] | None:
        """Return one picture of all records, uint8 (h, w, 3), and its caption; by default None."""
        return None

    def _prefetch(self, rows: NDArray[np.int64]) -> int:
        """Ask for records of the file, by number; return how many were asked for."""
        del rows
        return 0

    def _pixel_sums(self, progress: Progress | None) -> list[Sums] | None:
        """Return sums over the pixels of each channel, for ``statistics``; None without pixels."""
        from mapix.statistics import summed

        return summed(map(self._image, self.rows.tolist()), len(self), progress)

    def _stored_sums(self) -> list[Sums] | None:
        """Return ``_pixel_sums`` where they are stored; by default None."""
        return None

    def _column_statistics(self, map: Map | None) -> dict[str, ColumnStatistics]:
        """Return the statistics of all columns.  ``map`` is for those that lie in many files."""
        from mapix.statistics import column_statistics

        del map
        return column_statistics(self)

    def _record_sizes(self) -> int | NDArray[np.int64]:
        """Return the bytes of each of this dataset's records in its files, for ``plan``.

        int64 (n,), or one number where all are alike.  By default they are those of
        ``_byte_ranges`` that are not headers; a family with a faster way overrides it.
        """
        from mapix.operations.places import record_sizes

        return record_sizes(self)

    def _total_size(self) -> int:
        """Return the bytes of all of this dataset's records in its files: see ``_record_sizes``."""
        sizes = self._record_sizes()
        return sizes * len(self) if isinstance(sizes, int) else int(sizes.sum())

    def _files_nbytes(self) -> int:
        """Return the bytes of all files of the dataset, for catalogues."""
        source = getattr(self, "source", None)
        return int(self._reopening()[2].size if source is None else source.nbytes)

    def _cut(self, nbytes: int) -> Iterator[tuple[Self, Rows]]:
        """Yield the parts of ``plan``: see ``_cut_at``."""
        from mapix.plans import cut

        yield from self._cut_at(cut(self._record_sizes(), len(self), nbytes))

    def _cut_at(self, edges: Iterable[tuple[int, int]]) -> Iterator[tuple[Self, Rows]]:
        """Yield the parts of some first records and ends, for tasks.

        Of each a dataset of complete files, the same object where it can be, and the numbers of the
        part's records in it.
        """
        whole = self._part(None)
        rows = range(len(self)) if self._rows is None else self._rows
        for begin, end in edges:
            yield whole, rows[begin:end]

    def _explained(self, row: int) -> dict[str, Any]:
        """Return what ``self[i]`` does for a record of the file: see ``explain``."""
        del row
        return {}

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        """Return where the fields of a record of the file lie: see ``byte_ranges``."""
        del row
        return []

    def _annotations(self, row: int) -> Annotations:
        """Return what is shown over and beside the pixels of a record: by default nothing."""
        from mapix.annotations import Annotations

        del row
        return Annotations()

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        """Return what ``batch`` does for records of the file: see ``explain``."""
        del rows, options
        return {}

    # --- a sequence -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count() if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, key: int) -> R: ...
    @overload
    def __getitem__(self, key: slice | ArrayLike) -> Self: ...
    def __getitem__(self, key: Any) -> Any:
        found = chosen(key, self._rows, len(self), self.path, self.RECORDS)
        return self._record(found) if isinstance(found, int) else self._part(found)

    def __iter__(self) -> Iterator[R]:
        for i in range(len(self)):
            yield self[i]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the records in the file, int64 (n,).  Copies: yes."""
        if self._rows is None:
            return np.arange(len(self), dtype=np.int64)
        return np.array(self._rows, dtype=np.int64)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the images of all records, for ``np.asarray(ds)``: those of ``batch``, a copy.

        Raises
        ------
        UnsupportedError
            Records have no common shape, or no pixels.
        ValueError
            ``copy`` is False: ``images`` or ``view()`` of some families is a view.
        """
        from mapix.operations.exports import array_of

        return array_of(self, dtype, copy)

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        """Return the images of all records, for ``from_dlpack(ds)`` of other libraries: a copy.

        A view of a file would not do: not all libraries refuse to write to what is read-only.
        """
        from mapix.operations.exports import dlpack_of

        return dlpack_of(self, copy=copy, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the device of the copy: the CPU."""
        return 1, 0

    def _rows_of(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Return the numbers in the file of indices into this dataset, checked."""
        return compose(self._rows, positions(indices, len(self), self.path))

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of the pixels of each record where all are alike; None of mixed ones, and without.

        ``layout``, ``pad`` and ``crop`` of ``batch`` need two or three dimensions.
        """
        return None

    # --- columns ----------------------------------------------------------------------------------

    @property
    def columns(self) -> Columns:
        """Name -> column of one value per record, read without the pixels."""
        if self._columns_known is None:
            from mapix.columns import Columns

            # read by a second dataset of the same records: in a reference cycle the file would
            # stay mapped until the garbage collector runs
            self._columns_known = Columns(self._column_names(), self._part(self._rows)._column)
        return self._columns_known

    def where(self, condition: str | Callable[[Mapping[str, Any]], ArrayLike] | ArrayLike) -> Self:
        """Return the records for which a condition holds, in their order.

        Parameters
        ----------
        condition : str, callable or array_like
            Text about columns (``"note_number > 51 and velocity <= 81"``, ``"'cat' in caption"``):
            comparisons, ``and or not in``, ``+ - * / %``, numbers, quoted text and names.  A record
            without a value that the text names is left out.  Or a callable that gets name ->
            values (NaN or None where missing) and returns a mask; or the mask, bool (n,), or
            indices.

        Raises
        ------
        ValueError
            The text is not understood, or a mask does not fit.
        """
        if isinstance(condition, str):
            mask = self._fulfils(condition)
        elif callable(condition):
            from mapix.columns import Filled

            mask = np.asarray(condition(Filled(self.columns)))
        else:
            mask = np.asarray(condition)
        return self[mask]

    def _fulfils(self, condition: str) -> NDArray[np.bool_]:
        """Return for which records a condition, as text, holds: bool (n,)."""
        from mapix.operations.subsets import fulfils

        return fulfils(self, condition)

    def sort_by(self, name: str, *, descending: bool = False) -> Self:
        """Return the same records in the order of a column.

        Equal values keep their order.  Records without a value come last.
        """
        return self[self._named(name).sort_keys(descending=descending)]

    def weights(self, *names: str, power: float = 1.0) -> NDArray[np.float64]:
        """Return sampling weights that balance classes, float64 (n,), of mean 1.

        Parameters
        ----------
        *names : str
            Columns; with several, each combination of their classes counts as one.  By default all
            labels.
        power : float
            1 balances the classes, 0 leaves them as they are, 0.5 is in between.

        Returns
        -------
        ndarray
            1 / (number of records of the same class) ** power, scaled; 0 where a value is missing.
            For ``torch.utils.data.WeightedRandomSampler``, or ``ds.draw``.
        """
        from mapix.operations.subsets import weights

        return weights(self, *names, power=power)

    def draw(self, n: int, *, weights: ArrayLike | None = None, seed: int | None = None) -> Self:
        """Draw records at random, with replacement, with chances in proportion to weights.

        Parameters
        ----------
        n : int
            How many.
        weights : array_like, optional
            (len(self),), not negative; equal by default.  See ``weights``.
        seed : int, optional
            The same seed draws the same records.
        """
        p = None if weights is None else np.asarray(weights, np.float64)
        if p is not None:
            if p.shape != (len(self),) or not (p >= 0).all() or not p.sum() > 0:
                raise ValueError(f"weights must be {len(self)} numbers, none negative, not all 0")
            p = p / p.sum()
        return self[np.random.default_rng(seed).choice(len(self), n, p=p)]

    def split(
        self,
        share: float = 0.8,
        *,
        seed: int | None = None,
        stratify: str | Sequence[str] | None = None,
    ) -> tuple[Self, Self]:
        """Return two parts: ``int(share * n)`` records, and the others.

        Parameters
        ----------
        share : float
            0..1.
        seed : int, optional
            Chooses at random, the same way each time; both parts keep the order of the file.
            Without it the first records are the first part.
        stratify : str or sequence of str, optional
            Columns whose classes get the same shares in both parts, as nearly as complete records
            allow; records without a value are a class of their own.  Needs a seed.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be 0..1, got {share}")
        n = len(self)
        first = int(share * n)
        if seed is None:
            if stratify is not None:
                raise ValueError("stratify needs a seed")
            return self[:first], self[first:]
        chosen_ = np.zeros(n, bool)
        order = np.random.default_rng(seed).permutation(n)
        if stratify is not None:
            from mapix.sampling import spread

            names = [stratify] if isinstance(stratify, str) else list(stratify)
            keys = np.stack([self._named(name).groups() for name in names], axis=1)[order]
            _, classes = np.unique(keys, axis=0, return_inverse=True)
            order = order[spread(classes.reshape(-1))]
        chosen_[order[:first]] = True
        return self[chosen_], self[~chosen_]

    def shard(
        self, rank: int, world: int, *, equal: Literal["drop", "repeat"] | None = None
    ) -> Self:
        """Return every ``world``-th record from number ``rank`` on, for one of ``world`` readers.

        Parameters
        ----------
        rank, world : int
            Number of the reader, 0..world-1, and how many readers there are.
        equal : {"drop", "repeat"}, optional
            How all readers get the same number of records, as training that synchronises after
            each batch needs it.  ``"drop"`` leaves the last ``n % world`` records out;
            ``"repeat"`` gives the first ones again.  By default some readers get one record more.

        Raises
        ------
        ValueError
            ``rank`` is out of range, or ``equal`` is another word.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0..{world - 1}, got {rank}")
        n = len(self)
        if equal == "repeat":
            each = -(-n // world)
            return self[np.arange(rank, each * world, world) % max(n, 1)]
        if equal not in (None, "drop"):
            raise ValueError(f"equal must be drop, repeat or None, got {equal!r}")
        return self[rank : n - n % world if equal else n : world]

    def plan(self, nbytes: int = PART_NBYTES) -> list[Self]:
        """Return the dataset in parts of successive records, for jobs of several workers.

        Parameters
        ----------
        nbytes : int
            Bytes of a part in its files, about: a part ends with the record that completes them.
            Several files are cut between files where these are smaller.

        Returns
        -------
        list of Dataset
            Lazy datasets; in their order they have each record once.  Each pickles as path,
            fingerprint and record numbers.  The same dataset has the same plan.

        Raises
        ------
        ValueError
            ``nbytes`` is less than 1.
        """
        if nbytes < 1:
            raise ValueError(f"nbytes must be at least 1, got {nbytes}")
        return [whole._part(rows) for whole, rows in self._cut(nbytes)]

    def _named(self, name: str) -> Column:
        """Return a column.

        Raises
        ------
        KeyError
            There is none of that name; the message lists the names.
        """
        if name not in self.columns:
            there = ", ".join(self.columns) or "none"
            raise KeyError(f"{self.path}: there is no column {name!r}; the columns: {there}")
        return self.columns[name]

    # --- batches ----------------------------------------------------------------------------------

    def batch(
        self,
        indices: ArrayLike,
        out: NDArray[Any] | Batch | None = None,
        dtype: Dtype | None = None,
        layout: Layout | None = None,
        *,
        scale: float | None = None,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
        pad_value: float = 0.0,
        labels: str | None = "raw",
        threads: int = 1,
        augment: Draws | None = None,
    ) -> Batch:
        """Copy records into one contiguous batch, cast, normalised and transposed on the way.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask
            Records, in any order, repeated or not; negative ones count from the end.
        out : ndarray or Batch, optional
            C-contiguous array of the right dtype and shape (or with more rows) to fill.
        dtype : {"uint8", "uint16", "int32", "uint32", "float32", "float16"}, optional
            Type of ``images``; by default the family's own.
        layout : {"NHWC", "NCHW"}, optional
            Order of the dimensions of ``images``; by default the family's own.
        scale, mean, std : float or array_like, optional
            Floats are ``(number * scale - mean) / std``; mean and std are one number, or one for
            each channel.
        pad : bool, (h, w) or (h, w, c)
            Records of mixed sizes: True puts each into the corner of a canvas of the largest h and
            w of the batch; (h, w) or (h, w, c) sets the canvas.
        crop : bool or {"centre", "corner"}
            Cut what exceeds the canvas: (h, w) of ``pad``, or without it the smallest of the batch.
            True is centre.
        pad_value : float
            Value of the padding, in units of the output.
        labels : {"raw", "class"} or another unit of the family, or None
            "raw": labels as the file has them; "class": int64 class numbers, -1 where missing;
            None: no labels.
        threads : int
            Threads that copy, 1 to 16.
        augment : mapix.augmentation.Draws, optional
            Random changes on the way: ``mapix.Augment(...).draws(positions, epoch)``.

        Returns
        -------
        Batch

        Raises
        ------
        UnsupportedError
            The family does not have one of the options.
        IndexError
            An index is out of range.
        ValueError
            Records of different sizes without ``pad`` or ``crop``; arguments that do not fit.
        FileChangedError
            The file was written to, cut or replaced since it was opened.

        Notes
        -----
        Copies: each image once.  Lifetime: the batch owns its arrays.  Threads: any number of
        calls at once.
        """
        given = (dtype, layout, scale, mean, std, pad, crop, pad_value, labels, threads)
        return self._batched(indices, out, given, augment)

    def _batched(
        self,
        indices: ArrayLike,
        out: NDArray[Any] | Batch | None,
        given: tuple[Any, ...],
        augment: Draws | None,
    ) -> Batch:
        """Return a batch; ``given`` are its options in the order of ``BatchOptions``."""
        prepared = None
        again = augment is None
        if again:
            try:
                prepared = self._prepared.get(given)
            except TypeError:  # a list or an array is among the options
                again = False
        if prepared is not None:
            found = prepared.made(indices if self._rows is None else self._rows_of(indices), out)
            if found is None:
                found = prepared.gather(self._rows_of(indices), out)
        else:
            from mapix.operations.batches import batch_of

            found = batch_of(self, indices, out, given, augment, again=again)
        return self._as_classes(found) if given[LABELS] == "class" else found

    def _gathered(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        out: NDArray[Any] | Batch | None,
        augment: Draws | None,
    ) -> Batch:
        """Gather records of the file, with random changes or without."""
        if augment is None:
            return self._gather(rows, options, out)
        from mapix.operations.batches import augmented

        return augmented(self, rows, options, out, augment)

    def _as_classes(self, batch: Batch) -> Batch:
        """Turn raw labels into int64 class numbers, -1 where missing."""
        if batch.labels is not None and batch.labels.dtype != np.int64:
            if batch.labels.dtype.kind not in "biu":
                raise UnsupportedError(
                    f"{self.path}: labels of {batch.labels.dtype} are not class numbers; "
                    "pass labels='raw' or None"
                )
            batch.labels = batch.labels.astype(np.int64)
            if batch.present is not None:
                batch.labels[~batch.present] = -1
        return batch

    def _possible(self, options: BatchOptions) -> BatchOptions:
        """Return checked options.

        Raises
        ------
        UnsupportedError
            The family does not have one of them, or has no batches.
        """
        from mapix.operations.batches import possible

        return possible(self, options)

    def batch_shape(
        self,
        indices: ArrayLike,
        layout: Layout | None = None,
        *,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
    ) -> tuple[int, ...] | None:
        """Return the shape that ``batch`` with these options would give its images.

        Reads no pixels.  None where the shape depends on pixels, or on records of mixed sizes.
        """
        from mapix.operations.batches import batch_shape

        return batch_shape(self, indices, layout, pad=pad, crop=crop)

    def _check_unit(self, unit: str) -> None:
        """Raise ValueError where the family has no such unit of labels."""
        if unit not in self.LABEL_UNITS:
            units = ", ".join(sorted(self.LABEL_UNITS))
            raise ValueError(f"labels must be one of {units} or None, got {unit!r}")

    def batches(
        self,
        batch_size: int,
        order: ArrayLike | None = None,
        *,
        drop_last: bool = False,
        **options: Any,
    ) -> Iterator[Batch]:
        """Yield batches of all records, or of ``order``; the next one is read from disk ahead.

        Parameters
        ----------
        batch_size : int
            Records per batch; the last one may be smaller.
        order : array_like of int, optional
            Indices, for instance a permutation; by default 0..n-1.
        drop_last : bool
            Leave a smaller last batch out.
        **options
            As for ``batch``.
        """
        from mapix.batch import batches

        n = len(self)
        indices = np.arange(n) if order is None else positions(order, n, self.path)
        return batches(self, batch_size, indices, drop_last=drop_last, options=options)

    def prefetch(self, indices: ArrayLike) -> int:
        """Ask the kernel to read these records from disk in the background.

        Does nothing for records that seem to be in memory.  Call it one batch ahead.

        Returns
        -------
        int
            How many records were asked for.
        """
        rows = self._rows_of(indices)
        return self._prefetch(rows) if len(rows) else 0

    def placement(self, **options: Any) -> Placement:
        """Describe where the pixels lie in the file and in a batch, for copies on a device.

        Raises
        ------
        UnsupportedError
            Batches of these options are not copies at fixed places.
        """
        del options
        raise UnsupportedError(f"{self.path}: {self.FAMILY} records are not copied by a device")

    def label_array(
        self, labels: str = "raw"
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]] | None:
        """Return all labels as ``batch`` gives them: values, presence, names; None without labels.

        Reads no pixels.  Copies: yes.
        """
        from mapix.operations.batches import label_array

        return label_array(self, labels)

    # --- what people see --------------------------------------------------------------------------

    def show(
        self,
        indices: ArrayLike | None = None,
        *,
        size: int = 128,
        columns: int | None = None,
    ) -> Any:
        """Draw records side by side, each with its number and its labels.

        Parameters
        ----------
        indices : array_like of int, or a boolean mask, optional
            The records; by default at most 16, spread evenly.
        size : int
            Pixels of the longer side of each record.
        columns : int, optional
            Records side by side.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[images]'``.

        Raises
        ------
        UnsupportedError
            Records have no pixels, or Pillow is not installed.
        """
        from mapix.notebook import sheet

        which = None if indices is None else positions(indices, len(self), self.path)
        return sheet(self, which, size, columns)

    def _shown_names(self) -> Iterable[str]:
        """Return the names of columns that ``repr`` lists: those of the first record."""
        return self._sample(self._rows_of([0])) if len(self) else ()

    def _repr_html_(self) -> str:
        """Return what notebooks show: at most 16 pictures, and ranges of columns of a sample."""
        from mapix.notebook import dataset_html

        return dataset_html(self)

    def _described(self) -> str:
        """Return path and summary; of a file that cannot be read the reason."""
        from mapix.operations.descriptions import described

        return described(self)

    def __repr__(self) -> str:
        from mapix.operations.descriptions import representation

        return representation(self)

    # --- facts and health -------------------------------------------------------------------------

    @property
    def splits(self) -> Mapping[str, str]:
        """Name -> path of the splits of the directory, from the root of the file system."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the facts about the dataset as plain data, which JSON can hold.

        Returns
        -------
        dict
            ``format``, ``path``, ``records``, ``columns`` (a list of dicts), ``splits``, and what
            the family states besides.  Cost: no pixel is read.
        """
        from mapix.operations.descriptions import describe

        return describe(self)

    def statistics(
        self, progress: Progress | bool | None = None, *, map: Map | None = None
    ) -> Statistics:
        """Return statistics of the pixels of each channel, and of the columns.

        Parameters
        ----------
        progress : callable or True, optional
            ``progress(records_done, records_total)``; True shows a bar.
        map : callable or int, optional
            What runs the job in parts: anything that is called like ``map``, such as the ``map`` of
            a pool, or a number of threads.  The result is the same, bit for bit.
        """
        from mapix.progress import shown
        from mapix.statistics import statistics

        return statistics(self, shown(progress, "reading"), map)

    def warm(self, progress: Any = None) -> None:
        """Read the file into the page cache, front to back, at the disk's sequential speed.

        Worth it before random epochs over a file that fits into memory.

        Parameters
        ----------
        progress : callable or True, optional
            ``progress(bytes_done, bytes_total)``; True shows a bar.
        """
        from mapix.operations.places import warm

        warm(self, progress)

    def snapshot(self, max_nbytes: int = MOST_COPIED_NBYTES) -> Self:
        """Copy the files of this dataset into memory, and return the dataset on the copies.

        Nothing that happens to the files afterwards concerns the snapshot: other processes may cut
        and rewrite them, also while views of the snapshot are read.  Records, columns and batches
        are equal to those of this dataset.  A pickle of the snapshot stands for the files, as that
        of any dataset does: if they were changed, unpickling raises FileChangedError.

        Copies: all bytes of the files, which are read once, whatever records this dataset has; of
        files with a picture each, those of its records.  The copies are private memory of this
        process.  Lifetime: until the snapshot is closed and the last view of it is deleted.

        Parameters
        ----------
        max_nbytes : int
            The most bytes of files to copy; by default 1 GiB.

        Raises
        ------
        FileChangedError
            A file is not the one that was opened, or was written to while it was copied.
        LimitError
            The files have more bytes.
        """
        from mapix.copies import copying

        check_limits(max_nbytes=max_nbytes)
        with copying(self.path, max_nbytes):
            found: Self = self._snapshot()
        return found

    def explain(
        self, index: int | None = None, *, batch: ArrayLike | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return what ``ds[index]``, or ``ds.batch(batch, **options)``, does, as plain data.

        Returns
        -------
        dict
            ``reads_nbytes`` (bytes of the file that are read), ``copies_nbytes`` (bytes that are
            copied to memory of their own; 0 for a view), ``decodes``, ``swaps`` and ``converts``
            (text, empty where nothing of the kind happens), and ``how`` (a sentence).

        Raises
        ------
        ValueError
            Neither, or both, of ``index`` and ``batch`` were given.
        """
        from mapix.operations.descriptions import explain

        return explain(self, index, batch=batch, **options)

    def byte_ranges(self, index: int) -> list[ByteRange]:
        """Return where the fields of a record lie in its files, and what their bytes mean.

        For debuggers of formats: ``mapix.byte_ranges.hex_dump`` turns the result into text.

        Parameters
        ----------
        index : int
            The record; negative ones count from the end.

        Returns
        -------
        list of ByteRange
            File by file, in the order of the bytes; header fields that describe all records of the
            file come first.  Bytes in none of the ranges belong to other records, or their meaning
            is not known.  Empty where the family does not state it.

        Raises
        ------
        IndexError
            There is no such record.
        FileChangedError
            The file was cut or changed.
        """
        row = chosen(index, self._rows, len(self), self.path, self.RECORDS)
        if not isinstance(row, int):
            raise TypeError(f"the index of one record expected, got {type(index).__name__}")
        return self._byte_ranges(row)

    # --- life -------------------------------------------------------------------------------------

    def joined(self, others: Sequence[Any]) -> Any:
        """Return this dataset and others of its format, one after the other, as one.

        Raises
        ------
        FormatError
            They differ in the type or the shape of their images.
        UnsupportedError
            The format cannot join datasets.
        """
        if self.JOINED is None:
            raise UnsupportedError(
                f"{self.path}: several {self.FAMILY} files cannot be opened as one"
            )
        return resolved(self.JOINED)([self, *others])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _origin(self) -> tuple[str, str, dict[str, Any], Fingerprint]:
        """Return format, full path, options of ``open`` and fingerprint, for a pickle."""
        return self.FAMILY, *self._reopening()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (*self._origin(), self._rows)


class FileDataset(Dataset[R]):
    """Records of one file that is open: what most formats begin with.

    A subclass sets ``FAMILY``, implements ``_record`` and ``verify``, and overrides what it has.

    Parameters
    ----------
    source : Source
        The open file: ``candidate.source`` of what the registry passes to ``open``.
    nrecords : int
        Records of the file.
    options : mapping, optional
        With which it was opened, and is opened again in another process.

    Attributes
    ----------
    source : Source
        As given.
    """

    def __init__(
        self, source: Source, nrecords: int, options: Mapping[str, Any] | None = None
    ) -> None:
        self.source = source
        self._rows = None  # read at each access: an attribute of the object is found sooner
        self._nrecords = nrecords
        self._options = dict(options or {})

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.source.path

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.source.closed

    def close(self) -> None:
        """Release the file.  Arrays taken from it stay valid; further calls raise ClosedError."""
        self.source.close()

    def _count(self) -> int:
        return self._nrecords

    def _part(self, rows: Rows) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._rows, made._columns_known = rows, None
        return made

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        return self.source.full_path, self._options, self.source.identity

    def _facts(self) -> dict[str, Any]:
        return {"nbytes": self.source.nbytes}

    def _image(self, row: int) -> NDArray[Any] | None:
        """Return the pixels of a record.  A view of the file is copied under the guard.

        So a batch, or statistics, of a file that is cut meanwhile raise FileChangedError.
        """
        found = super()._image(row)
        place = None if found is None else self._place_of(found)
        if found is None or place is None:
            return found
        at, nbytes, offset = place
        return np.ndarray(
            found.shape, found.dtype, self.source.read(at, nbytes), offset, found.strides
        )

    def _place_of(self, array: NDArray[Any]) -> tuple[int, int, int] | None:
        """Return where a view of the file lies: its first byte, length, and offset of ``[0, 0]``.

        None of other arrays, and of empty ones.
        """
        from mapix.operations.places import place_of

        return place_of(self, array)

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        """Return the place of the pixels, where they are a view of the file."""
        image = super()._image(row)
        place = None if image is None else self._place_of(image)
        if image is None or place is None:
            return []
        from mapix.byte_ranges import ByteRange

        text = f"{' x '.join(map(str, image.shape))} of {image.dtype}"
        at, nbytes, offset = place
        strides = image.strides if image.ndim in (2, 3) and not offset else ()
        return [ByteRange("pixels", "pixels", at, nbytes, text, self.source, strides)]

    def _explained(self, row: int) -> dict[str, Any]:
        image = super()._image(row)
        if image is None:
            return {"how": "nothing is read until an attribute is used"}
        file = np.frombuffer(self.source.mapping.memory, np.uint8)
        aliases = np.may_share_memory(image, file)
        copied = 0 if aliases else image.nbytes
        how = "a view of the file" if aliases else "an array of its own"
        return {"reads_nbytes": image.nbytes, "copies_nbytes": copied, "how": how}

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        images = [image for row in rows.tolist() if (image := self._image(row)) is not None]
        nbytes = sum(image.nbytes for image in images)
        native = images[0].dtype if images else np.dtype(np.uint8)
        wanted = native if options.dtype is None else np.dtype(options.dtype)
        return {
            "reads_nbytes": nbytes,
            "copies_nbytes": nbytes // native.itemsize * wanted.itemsize,
            "swaps": "" if native.isnative else f"{native.str} to this machine's byte order",
            "converts": "" if wanted == native.newbyteorder("=") else f"{native} to {wanted}",
            "how": "numpy copies one image after the other",
        }


def __getattr__(name: str) -> Any:
    """Import ``Annotations`` and ``Unit``, which were defined here, when they are used."""
    if name not in ("Annotations", "Unit"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mapix.annotations import Annotations, Unit

    return Annotations if name == "Annotations" else Unit


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _has_argument(method: Callable[..., Any], name: str) -> bool:
    while hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    code = getattr(method, "__code__", None)
    return code is None or name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _with_bar(method: Callable[..., Any], task: str, unit: str) -> Callable[..., Any]:
    """Return a method that has an argument ``progress``, and shows a bar for ``progress=True``."""

    @wraps(method)
    def made(self: Any, progress: Any = None, **options: Any) -> Any:
        if progress is not None:
            from mapix.progress import shown

            progress = shown(progress, task, unit)
        return method(self, progress=progress, **options)

    return made


def _in_own_words(method: Callable[..., Report]) -> Callable[..., Report]:
    """Return ``verify`` whose report calls the records as the family does."""

    @wraps(method)
    def made(self: Any, *args: Any, **options: Any) -> Report:
        report = method(self, *args, **options)
        report.unit = self.RECORDS
        return report

    return made


def _without_map(method: Callable[..., Report]) -> Callable[..., Report]:
    """Return ``verify`` of a family that checks in one part, whatever ``map`` is."""

    @wraps(method)
    def made(self: Any, progress: Any = None, *, map: Map | None = None, **options: Any) -> Report:
        del map
        return method(self, progress, **options)

    return made
