"""The open file that all datasets over it share: its index in C, its labels, its plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import _native, views
from mapix.errors import FileChangedError, FormatError, UnsupportedError
from mapix.registry import reopen
from mapix.selection import spread
from mapix.source import Fingerprint, Source
from mapix.vimh import index_store, record_types
from mapix.vimh.parameters import Parameters
from mapix.vimh.record_index import Columns, RecordIndex
from mapix.vimh.record_types import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.batch import Batch, Lookout
    from mapix.options import BatchOptions
    from mapix.vimh.batch_plan import BatchPlan

__all__ = ["Gatherer"]

MOST_PLANS = 64
STEP_RECORDS = 1 << 16  # between two checks for Ctrl-C
# Headers that a stored stride is compared with: before a view of a record, and of all.
BEFORE_A_VIEW, BEFORE_ALL_VIEWS = 4, 256  # each may be a page read from disk
DENSE = 4  # up to so many records of the file per record asked for, all are read in one go


def _reopened(path: str, options: Mapping[str, Any], expect: Fingerprint) -> Gatherer:
    """Open the file of a pickled record again, or raise FileChangedError."""
    found: Gatherer = reopen("vimh", path, options, expect, None)._gatherer
    return found


class Gatherer(record_types.File):
    """An open file, its index in C, its labels and its plans of batches.

    All datasets over the file share it.  Rows are record numbers of the file, int64 (b,); the C
    core checks their range.
    """

    def __init__(
        self,
        source: Source,
        index: RecordIndex,
        named: Parameters,
        *,
        interleaved: bool,
        access: str = "random",
    ) -> None:
        # Opening must be cheap: what a first record does not need is made when it is first used.
        self.source = source
        self.pixels = source  # file with the images; of a pickle that was decoded, one in the cache
        self.index = index
        self.interleaved = interleaved
        self.access = access  # how the file will be read: advice for the kernel
        # bytes of a record's header and label count; 0 in pickles, whose labels lie elsewhere
        self.fixed_nbytes = index.head_nbytes + 1 if index.head_nbytes else 0
        self._named = named
        self._plans: dict[BatchOptions, BatchPlan] = {}
        self.options: Mapping[str, Any] = {}  # of ``open``, for pickles of records
        self.key: str | None = None  # of the stored index; None where none is stored
        self._confirmed = 0  # headers that a stored stride was compared with
        self._sound: bool | None = None  # whether the stored labels are: checked once
        self._tables: dict[str, NDArray[Any]] = {}
        self._heads: dict[int, tuple[str, tuple[float, ...]]] = {}

    @cached_property
    def parameters(self) -> Parameters:
        """Labels: named ones, then ``param_<id>`` for ids that occur without a name."""
        return self._named.with_ids(self.ids)

    @property
    def ids(self) -> tuple[int, ...]:
        """All label ids that occur, ascending."""
        return self.index.ids

    @cached_property
    def lookout(self) -> Lookout:
        """Decides which batches are checked for records that are not in memory."""
        from mapix.batch import Lookout

        return Lookout()

    @cached_property
    def splits(self) -> dict[str, str]:
        """Name -> full path of the splits beside the file."""
        from mapix.vimh.files import splits_beside

        return splits_beside(self.source.full_path)

    def label_counts(self) -> NDArray[np.uint8]:
        """Return the number of labels of each record, uint8 (n,)."""
        return self.index.label_counts()

    @cached_property
    def images(self) -> NDArray[np.uint8] | None:
        """Of a uniform file: all images, as one view made once.

        None, too, where each record has to be confirmed, or brought, on its own.
        """
        return self.uniform_images() if self._alike else None

    @cached_property
    def codes(self) -> NDArray[np.uint8] | None:
        """Of a uniform file: all label codes, as one view made once; None as for ``images``."""
        return self.uniform_labels(1) if self._alike else None

    @property
    def _alike(self) -> bool:
        index = self.index
        return bool(index.stride) and not index.sampled and not self.pixels.mapping.remote

    @cached_property
    def most_channels(self) -> int:
        """The largest number of channels in the file.

        That of a stored index is confirmed by one record: else it might make batches of any size.
        A number that is too small shows in the first batch with a record of more.
        """
        index = self.index
        if index.stored and index.entries is not None:
            row = index.widest()
            if row is None:
                reason = (
                    f"the index states {index.channels} channels, which no record has; open with "
                    "index='rebuild'"
                )
                raise FormatError(self.source.path, "vimh", reason)
            self._find(row)
        return index.most_channels()

    @cached_property
    def native(self) -> _native.Table:
        """The index, for the C core."""
        return self.index.native(interleaved=self.interleaved)

    @cached_property
    def label_columns(self) -> tuple[NDArray[np.int16], tuple[str, ...]]:
        """Column of each label id, int16 (256,), and the names of the columns."""
        return self.parameters.columns(), tuple(self.parameters.names)

    @cached_property
    def _one_shape(self) -> NDArray[np.uint16]:
        return np.array(self.index.first[1:4], np.uint16)

    def uniform_images(self, empty: tuple[int, int, int] = (0, 0, 0)) -> NDArray[np.uint8]:
        """Return all images of a uniform file, (n, h, w, c); (0, *empty) without records."""
        at, h, w, c, n = self.index.first
        shape = (h, w, c) if self.index.nrecords else empty
        at += self.fixed_nbytes + 2 * n
        self._confirm(self.index.nrecords if self.index.sampled else BEFORE_ALL_VIEWS)
        return views.uniform_images(
            self.pixels.view, at, self.index.nrecords, self.index.stride, shape, self.interleaved
        )

    def uniform_labels(self, which: int) -> NDArray[np.uint8]:
        """Return ids (0) or codes (1) of all records of a uniform file, (n, N)."""
        at, _, _, _, n = self.index.first
        at += self.fixed_nbytes
        self._confirm(self.index.nrecords if self.index.sampled else BEFORE_ALL_VIEWS)
        return views.uniform_labels(
            self.source.view, at, self.index.nrecords, self.index.stride, n, which
        )

    def _ready(self) -> None:
        """Attach the file; the base class calls it for a first record, and after ``close``."""
        mapping, index = self.pixels.mapping, self.index
        self._confirm(BEFORE_A_VIEW)
        # A stored entry, and a stored stride that was made for another file, must agree with the
        # header in the file.
        find = _native.FIND if index.stored and (index.sampled or not index.stride) else 0
        self._attach(
            mapping.memory,
            index.nrecords,
            index.stride,
            index.first,
            index.entries,
            index.chain_end,
            index.head_nbytes,
            self.interleaved,
            _native.FIND_NONE if mapping.remote else find,  # ``_find`` brings records
        )
        if self.source.closed:  # by another thread, before there was anything to detach
            self._detach()

    def _confirm(self, most: int) -> None:
        """Compare a stored stride with up to ``most`` headers of the file, evenly spread.

        Raises
        ------
        FormatError
            They differ.
        """
        index = self.index
        if not (index.stored and index.stride) or self._confirmed >= min(most, index.nrecords):
            return
        mapping = self.pixels.mapping
        if not self.native.agrees(mapping, most):
            rows = spread(index.nrecords, most)
            for at in range(0, len(rows), STEP_RECORDS):
                part = rows[at : at + STEP_RECORDS]
                self.native.gather(mapping, part, _native.new_gather())  # headers alone
        self._confirmed = min(most, index.nrecords)

    def _find(self, row: int) -> tuple[int, int, int, int]:
        mapping = self.pixels.mapping
        if mapping.remote:
            places, sizes = self.native.ranges(np.array([row]))
            mapping.hold(int(places[0]), int(sizes[0]))
        return self.native.find(mapping, row)

    def _located(self) -> tuple[Any, int, int]:
        return *self.source.mapping.located, _native.COPY

    def _head(self, id: int) -> tuple[str, tuple[float, ...]]:
        known = self._heads.get(id)
        if known is None:
            from mapix.vimh.labels import CODES

            p = self.parameters.by_id(id)
            known = self._heads[id] = p.name, tuple(p.dequantise(CODES).tolist())
        return known

    def _pairs(self, record: Record) -> list[tuple[int, int]]:
        at = record.offset + self.fixed_nbytes
        pairs = _native.copy(self.source.mapping, at, 2 * record.nlabels, "vimh")
        return list(zip(pairs[::2], pairs[1::2], strict=True))

    def labels_beside(self, record: Record, which: int) -> NDArray[np.uint8]:
        """Return ids (0) or codes (1) of a record of a file whose labels lie elsewhere."""
        raise NotImplementedError

    def label_table(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return codes (0 where missing) and presence of records, (b, heads); reads no pixels."""
        from mapix.batch import label_codes

        columns, names = self.label_columns
        codes = np.empty((len(rows), len(names)), np.uint8)
        present = np.empty((len(rows), len(names)), np.bool_)
        mapping = self.source.mapping
        # Readahead helps where most of a file is read front to back, not for a few records.
        through = len(rows) > 1 and int(rows[-1]) - int(rows[0]) < DENSE * len(rows)
        mapping.advise("sequential" if through else self.access)
        try:
            for at in range(0, len(rows), STEP_RECORDS):
                part = slice(at, at + STEP_RECORDS)
                label_codes(
                    *(mapping, self.native, rows[part], columns), *(codes[part], present[part])
                )
        finally:
            mapping.advise(self.access)
        return codes, present

    def known_column(self, id: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None:
        """Return a label of all records from the stored index; None where it does not have it.

        Codes, and presence: None where no record lacks the label.
        """
        table = self.index.columns
        if table is None:
            return None
        if self._sound is None:
            self._sound = table.sound()
        n = self.index.nrecords
        if not self._sound:
            return None
        if id not in self.index.ids:
            return np.zeros(n, np.uint8), np.zeros(n, np.bool_)
        try:
            codes, *present = table.column(self.index.ids.index(id))
        except FileChangedError:  # the stored index was cut: the file has the labels as well
            self._sound = False
            return None
        return codes, present[0] != 0 if present else None

    def keep_labels(self, codes: NDArray[np.uint8], present: NDArray[np.bool_]) -> None:
        """Put the labels of all records, (heads, n), into the stored index, if there is one."""
        if self.key is None or self.index.columns is not None:
            return
        self.index = self.index._replace(columns=self.columns_of(codes, present))
        index_store.store(self.source, self.index, self.key)

    def columns_of(self, codes: NDArray[np.uint8], present: NDArray[np.bool_]) -> Columns:
        """Return codes and presence by heads, (heads, n), as columns by ids, for the index."""
        names = self.label_columns[1]
        order = [names.index(self.parameters.by_id(i).name) for i in self.index.ids]
        missing = None if present[order].all() else present[order].view(np.uint8)
        return Columns(codes[order], missing)

    def complete(
        self, batch: Batch, rows: NDArray[np.int64], *, labels: bool, spec_range: bool
    ) -> None:
        """Put labels and ranges that lie elsewhere into a batch of images."""
        raise NotImplementedError

    def labels_of(self, record: Record) -> dict[str, int]:
        """Return ``record.labels``."""
        return {self._head(id)[0]: code for id, code in self._pairs(record)}

    def values_of(self, record: Record) -> dict[str, float]:
        """Return ``record.values``."""
        found = ((self._head(id), code) for id, code in self._pairs(record))
        return {name: values[code] for (name, values), code in found}

    def spec_range_of(self, record: Record) -> tuple[float, float] | None:
        """Return ``record.spec_range``."""
        if self.index.head_nbytes != 14:
            return None
        raw = _native.copy(self.source.mapping, record.offset + 6, 8, "vimh")
        low, high = np.frombuffer(raw, "<f4")
        return float(low), float(high)

    def decibels_of(self, record: Record) -> NDArray[np.float32]:
        """Return ``record.decibels``."""
        from mapix.vimh.levels import decibels

        found = self.spec_range_of(record)
        if found is None:
            raise UnsupportedError(
                f"{self.source.path}: record {record.index} has no decibels: the file states no "
                "spec_min and spec_max (headers of 6 bytes, or a pickle without scale_factors)"
            )
        from mapix.options import BatchOptions

        # copied under the guard, as all small reads
        image = self.plan(BatchOptions(labels=None)).batch(self, np.array([record.index]), None)
        try:
            return decibels(image.images[0], found)
        except UnsupportedError as e:
            raise UnsupportedError(f"{self.source.path}: record {record.index}: {e}") from None

    def repr_of(self, record: Record) -> str:
        """Return ``repr(record)``."""
        from mapix.text import printable

        h, w, c = record.shape
        path = printable(self.source.path)
        return f"<Record {record.index} of {path}: {h} x {w} x {c}, {record.nlabels} labels>"

    def array_of(self, record: Record, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return ``record.__array__(dtype, copy)``."""
        return views.exported(record.image, dtype, copy)

    def html_of(self, record: Record) -> str:
        """Return ``record._repr_html_()``: the picture and the labels."""
        from mapix.notebook import facts_of, record_html

        def facts() -> dict[str, str]:
            values = facts_of(self.values_of(record))
            return {**values, "shape": " x ".join(map(str, record.shape))}

        return record_html(record, lambda size: self.thumbnail(record.index, size), facts)

    def thumbnail(self, row: int, size: int) -> NDArray[np.uint8] | None:
        """Return a picture of a record, uint8 (h, w, 3); None of one of too many pixels."""
        from mapix.drawing.scaling import MOST_DRAWN_PIXELS, drawn
        from mapix.options import BatchOptions

        h, w, c = self.record(row).shape
        if not 0 < h * w * c <= MOST_DRAWN_PIXELS:
            return None
        # copied under the guard: a view of a file that is cut meanwhile would end the process
        plan = self.plan(BatchOptions(labels=None))
        return drawn(plan.batch(self, np.array([row]), None).images[0], size)

    def check_cached(self) -> bool:
        """Return whether decoded images and factors, if there are any, are those of the file."""
        return True

    def check_labels(self) -> bool:
        """Return whether stored labels, if there are any, are those of the file."""
        return True

    def over(self, index: RecordIndex) -> Gatherer:
        """Return a gatherer of the same file with another index."""
        how: dict[str, Any] = {"interleaved": self.interleaved, "access": self.access}
        return Gatherer(self.source, index, self._named, **how)

    def __reduce__(self) -> tuple[Any, ...]:
        # records of one file share the file that is opened again
        return _reopened, (self.source.full_path, dict(self.options), self.source.identity)

    def close(self) -> None:
        """Release the file, and the views of it."""
        self.source.close()
        self._detach()
        for name in ("images", "codes"):
            self.__dict__.pop(name, None)

    def plan(
        self, options: BatchOptions, check: Callable[[BatchOptions], BatchOptions] | None = None
    ) -> BatchPlan:
        """Return the plan for options of a batch, which are checked once: plans are cached."""
        found = self._plans.get(options)
        if found is None:
            from mapix.vimh.batch_plan import BatchPlan

            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            found = self._plans[options] = BatchPlan(check(options) if check else options)
        return found

    def same_shapes(self, b: int) -> NDArray[np.uint16]:
        """Return the one shape of a uniform file, b times, as a read-only view."""
        from mapix.batch import same_shapes

        return same_shapes(self._one_shape, b)

    def table(self, unit: str) -> NDArray[Any]:
        """Return the value of each code of each label in a unit, (heads, 256)."""
        if unit not in self._tables:
            self._tables[unit] = self.parameters.table(unit)
        return self._tables[unit]

    def willneed(self, rows: NDArray[np.int64]) -> int:
        """Ask the kernel for the pages of ``rows``; see ``Dataset.prefetch``."""
        return self.native.willneed(self.pixels.mapping, rows, self.lookout.MANY)
