"""Several datasets of one format, one after the other, as one dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import columns
from mapix.annotations import Annotations
from mapix.augmentation import Draws
from mapix.batch import Batch, given
from mapix.byte_ranges import ByteRange
from mapix.columns import Column
from mapix.dataset import Dataset, Progress
from mapix.errors import FormatError, MapixError, UnsupportedError
from mapix.expression import names_in
from mapix.joint import JointGather, Labels, placed
from mapix.options import BatchOptions, Crop, Layout
from mapix.parts import OpenParts, Parts
from mapix.plans import PART_NBYTES, Map, Piece, cut, mapped
from mapix.report import Report
from mapix.selection import Rows, distinct
from mapix.text import counted

if TYPE_CHECKING:
    from mapix.placement import Placement
    from mapix.source import Fingerprint
    from mapix.statistics import ColumnStatistics, Sums

__all__ = ["Joined"]

R = TypeVar("R", covariant=True)
Where = slice | NDArray[np.int64]
Asked = tuple[Dataset[Any], NDArray[np.int64], Where]
FileItem = tuple[Piece, int, dict[str, Any]]
MOST_JOINTS = 64  # sets of options that are remembered
SHARES = 1000  # of a part, in which progress is counted
MISSING = {"u": 0, "i": -1, "f": np.nan}  # labels that a record lacks, by kind of number


class Joined(Dataset[R]):
    """Several datasets of one format as one.  Made by ``mapix.open([...])``, or of a catalogue.

    Record i is found by bisection among the parts.  Batches and columns have the columns of all
    parts; a value is missing where the part does not have the column.

    Parameters
    ----------
    parts : sequence of Dataset, or Parts
        At least one, of one format; joined datasets count as their parts.
    rows : range or ndarray, optional
        Which records, counted through all parts.

    Attributes
    ----------
    parts : sequence of Dataset
        The datasets.  Those of a catalogue are opened when they are used.

    Raises
    ------
    FormatError
        The parts are of different formats, or their images differ in type or shape.
    """

    parts: Parts

    def __init__(self, parts: Sequence[Dataset[R]], *, rows: Rows = None) -> None:
        if not parts:
            raise ValueError("at least one dataset is needed")
        self.parts = parts if isinstance(parts, Parts) else OpenParts(_parts_of(parts))
        self._ends = np.cumsum(self.parts.counts)
        self._rows = rows
        self._joints: dict[BatchOptions, JointGather | None] = {}
        examples = self.parts.examples
        for ds in examples:
            if ds.FAMILY != examples[0].FAMILY:
                of = f"{examples[0].path}, which is of {examples[0].FAMILY}"
                raise FormatError(ds.path, ds.FAMILY, f"it cannot be joined to {of}")
        # the family of its parts, in place of the class's
        names = ("FAMILY", "RECORDS", "NAMES")
        vars(self).update({name: getattr(examples[0], name) for name in names})
        self._check()
        self._image_shape = self._shape_of_all()
        self._known_columns = _distinct(ds._column_names() for ds in examples)
        self._known_labels = _distinct(ds._label_names() for ds in examples)

    FAMILY = "joined"

    def _check(self) -> None:
        """Raise FormatError where the parts, which are of one format, do not fit together."""
        filled = [ds for ds in self.parts.examples if len(ds)]
        for ds in filled:
            if ds.image_shape != filled[0].image_shape:
                reason = f"images of {ds.image_shape}, in {filled[0].path} they are of "
                raise FormatError(ds.path, ds.FAMILY, f"{reason}{filled[0].image_shape}")
            dtype, expected = (_native_dtype(part) for part in (ds, filled[0]))
            if dtype != expected:
                reason = f"numbers of {dtype}, in {filled[0].path} they are of {expected}"
                raise FormatError(ds.path, ds.FAMILY, reason)

    def _shape_of_all(self) -> tuple[int, ...] | None:
        """Return the shape of the pixels of each record where all are alike."""
        shapes = self.parts.shapes()
        found: tuple[int, ...] | None = self.parts.examples[0].image_shape
        return found if not shapes else shapes.pop() if len(shapes) == 1 else None

    @property
    def path(self) -> str:
        """Path of the catalogue; or of the first file, and how many more there are."""
        return self.parts.path

    @property
    def closed(self) -> bool:
        """Whether all parts are closed."""
        return self.parts.closed

    def close(self) -> None:
        """Close all parts."""
        self._joints.clear()
        self.parts.close()

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of the pixels of each record where all are alike; None of mixed ones."""
        return self._image_shape

    # --- records ----------------------------------------------------------------------------------

    def _count(self) -> int:
        return int(self._ends[-1])

    def _place(self, row: int) -> tuple[Dataset[R], int]:
        """Return the part of a record, and the record's index in it."""
        k = int(np.searchsorted(self._ends, row, side="right"))
        return self.parts[k], row - (int(self._ends[k - 1]) if k else 0)

    def _record(self, row: int) -> R:
        part, i = self._place(row)
        return part[i]

    def _image(self, row: int) -> NDArray[Any] | None:
        part, i = self._place(row)
        return part._image(int(part._rows_of([i])[0]))

    def _content(self, row: int) -> NDArray[Any] | None:
        part, i = self._place(row)
        return part._content(int(part._rows_of([i])[0]))

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        part, i = self._place(row)
        return part.byte_ranges(i)

    def _annotations(self, row: int) -> Annotations:
        part, i = self._place(row)
        return part._annotations(int(part._rows_of([i])[0]))

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        part, i = self._place(row)
        return part._drawing(int(part._rows_of([i])[0]), size)

    def _sample(self, rows: NDArray[np.int64]) -> Mapping[str, Column]:
        samples = [
            (ds._sample(ds._rows_of(asked)), np.arange(len(rows))[where])
            for ds, asked, where in self._by_part(rows)
        ]
        names = dict.fromkeys(name for sample, _ in samples for name in sample)
        return columns.Columns(names, lambda name: _merged(name, samples, len(rows)))

    def _part(self, rows: Rows) -> Self:
        made = type(self).__new__(type(self))
        vars(made).update(vars(self), _rows=rows, _columns_known=None)
        return made

    def _by_part(self, rows: NDArray[np.int64]) -> Iterator[Asked]:
        """Yield each part that is asked, indices into it, and their places in the batch.

        Of a batch without records the first part is asked for none.
        """
        if not len(rows):
            yield self.parts.examples[0], rows, slice(0, 0)
        part = np.searchsorted(self._ends, rows, side="right")
        numbers = distinct(part).tolist()
        self.parts.expect(numbers)
        for k in numbers:
            at = np.flatnonzero(part == k)
            begin = int(self._ends[k - 1]) if k else 0
            adjacent = int(at[-1]) - int(at[0]) + 1 == len(at)
            where = slice(int(at[0]), int(at[-1]) + 1) if adjacent else at
            yield self.parts[k], rows[at] - begin, where

    # --- columns ----------------------------------------------------------------------------------

    def _asked(self) -> Iterator[tuple[Any, NDArray[np.int64] | None, Where]]:
        """Yield each part that has a record of this dataset, indices into it, and their places.

        The indices are None where all records of a part are asked for, in order.
        """
        if self._rows is not None:
            if len(self._rows):
                yield from self._by_part(self.rows)
            return
        for k, (begin, end) in enumerate(self._stretches()):
            yield self.parts[k], None, slice(begin, end)

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Yield the first record of each part, and the one after the last."""
        ends = self._ends.tolist()
        return zip([0, *ends[:-1]], ends, strict=True)

    def _column_names(self) -> Sequence[str]:
        return self._known_columns

    def _label_names(self) -> Sequence[str]:
        return self._known_labels

    def _class_names(self) -> Mapping[str, Sequence[str]]:
        first, *others = (ds._class_names() for ds in self.parts.examples)
        return first if all(other == first for other in others) else {}

    def _column(self, name: str) -> Column:
        known: list[tuple[Column | None, NDArray[np.int64] | None, Where, int]] = [
            (ds.columns.get(name), which, where, len(ds)) for ds, which, where in self._asked()
        ]
        first = next((column for column, *_ in known if column is not None), None)
        if first is None:  # only other parts have it
            found = (ds.columns.get(name) for ds in self.parts.examples)
            first = next(column for column in found if column is not None)
        values = self._placed(
            [(None if c is None else c.values, *rest) for c, *rest in known], first.values.dtype
        )
        present = None
        if not all(column is not None and column.complete for column, *_ in known):
            has = [(None if c is None else c.present, *rest) for c, *rest in known]
            present = self._placed(has, np.dtype(np.bool_))
        return Column(name, values, present, unit=first.unit, description=first.description)

    def _placed(self, arrays: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return arrays of parts as one: of each its indices, its places, and its records."""
        pieces = [
            np.zeros(n if which is None else len(which), dtype)
            if array is None
            else array
            if which is None
            else array[which]
            for array, which, _, n in arrays
        ]
        if not pieces:
            return np.empty(0, dtype)
        if self._rows is None:
            return np.concatenate(pieces)
        found = np.empty((len(self), *pieces[0].shape[1:]), np.result_type(*pieces))
        for piece, (_, _, where, _) in zip(pieces, arrays, strict=True):
            found[where] = piece
        return found

    def _rows_named(self, name: Sequence[str]) -> NDArray[np.int64] | None:
        numbers = self.parts.with_name([os.fsencode(text) for text in name])
        if numbers is None:
            return None
        found = [np.empty(0, np.int64)]
        for k in numbers.tolist():
            part, wanted = self.parts[k], list(map(str, name))
            columns = [part.columns[of].values.tolist() for of in part.NAMES]
            rows = [
                i
                for i, values in enumerate(zip(*columns, strict=True))
                if list(map(str, values)) == wanted
            ]
            found.append(np.array(rows, np.int64) + int(self._ends[k] - self.parts.counts[k]))
        return np.concatenate(found)

    def where(self, condition: str | Callable[[Mapping[str, Any]], ArrayLike] | ArrayLike) -> Self:
        """Return the records for which a condition holds, in their order: see ``Dataset.where``.

        A condition as text is evaluated part by part.  Parts of a catalogue are not opened where
        the ranges of their columns exclude that it holds.
        """
        if not isinstance(condition, str):
            return super().where(condition)
        return self[self._found(condition)]

    def _found(self, condition: str) -> NDArray[np.int64]:
        """Return the indices of the records that fulfil a condition, int64, ascending."""
        names = names_in(condition, self._column_names())
        possible = self.parts.possible(condition)
        found = [np.empty(0, np.int64)]
        if self._rows is None:
            for k, (begin, _) in enumerate(self._stretches()):
                if possible is None or possible[k]:
                    found.append(self._fulfilling(self.parts[k], None, names, condition) + begin)
            return np.concatenate(found)
        rows = self.rows
        at = np.arange(len(rows))
        if possible is not None:
            at = at[possible[np.searchsorted(self._ends, rows, side="right")]]
        for ds, which, where in self._by_part(rows[at]) if len(at) else ():
            found.append(at[where][self._fulfilling(ds, which, names, condition)])
        return np.sort(np.concatenate(found))

    def _fulfilling(
        self,
        ds: Dataset[R],
        which: NDArray[np.int64] | None,
        names: Sequence[str],
        condition: str,
    ) -> NDArray[np.int64]:
        """Return which records of a part fulfil a condition; none where it lacks a column."""
        part = ds if which is None else ds[which]
        if not all(name in part.columns for name in names):
            return np.empty(0, np.int64)
        return np.flatnonzero(part._fulfils(condition))

    def _fulfils(self, condition: str) -> NDArray[np.bool_]:
        mask = np.zeros(len(self), np.bool_)
        mask[self._found(condition)] = True
        return mask

    def label_array(
        self, labels: str = "raw"
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]] | None:
        """Return all labels as ``batch`` gives them: values, presence, names; None without labels.

        Reads no pixels.  Copies: yes.
        """
        self._check_unit(labels)
        pieces = []
        for ds, which, where in self._asked():
            found = (ds if which is None else ds[which]).label_array(labels)
            pieces += [] if found is None else [(*found, where)]
        return self._merged(pieces, len(self)) if pieces else None

    def _merged(
        self, pieces: Sequence[tuple[NDArray[Any], Any, tuple[str, ...], Where]], n: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]]:
        """Return labels of all parts under the names of all of them: values, presence, names."""
        names = tuple(self._label_names())
        first = pieces[0][0]
        columns = first.shape[1:] if pieces[0][2] == names else (len(names),)
        values = np.full((n, *columns), MISSING.get(first.dtype.kind, 0), first.dtype)
        present = np.zeros((n, *columns), np.bool_)
        for labels, there, labelled, where in pieces:
            there = True if there is None else there
            if labelled == names:
                values[where], present[where] = labels, there
            else:
                at = np.arange(n)[where][:, None], [names.index(name) for name in labelled]
                values[at], present[at] = labels, there
        return values, present, names

    # --- batches ----------------------------------------------------------------------------------

    def _gather(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch:
        found = self._joint_batch(rows, options, out)
        return self._gather_by_part(rows, options, out) if found is None else found

    def _gather_augmented(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        return self._gather_by_part(rows, options, out, draws)

    def _joint_batch(
        self, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
    ) -> Batch | None:
        """Gather records of all parts by one call; None where that takes one for each part."""
        if not len(rows):
            return None
        joints = self._joints
        try:
            joint = joints[options]
        except KeyError:
            if len(joints) >= MOST_JOINTS:
                joints.clear()
            joint = joints[options] = self._joint(options)
        if joint is None:
            return None
        try:
            return joint.batch(rows, out)
        except UnsupportedError:
            joints[options] = None  # some parts differ
            return None

    def _joint(self, options: BatchOptions) -> JointGather | None:
        labels = None if options.labels is None else self._labels_of_records()
        try:
            return JointGather(self.parts, options, labels)
        except UnsupportedError:
            return None

    def placement(self, **options: Any) -> Placement:
        """Describe where the pixels lie in the files and in a batch, for copies on a device.

        Opens one shard of a catalogue; ``parts`` opens the others when they are read.

        Raises
        ------
        UnsupportedError
            Open files' records are copied in different ways, or batches have no common shape.
        """
        return placed(self.parts, self._rows, options)

    def _labels_of_records(self) -> Labels | None:
        """Return where the labels of records are; None without labels."""
        names = tuple(self._label_names())
        return Labels(names) if names else None

    def _gather_by_part(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        out: NDArray[Any] | Batch | None,
        draws: Draws | None = None,
    ) -> Batch:
        """Copy records by part.

        Records of one part that are adjacent in the batch are gathered into their place, others
        are copied once more.
        """
        n, asked = len(rows), list(self._by_part(rows))
        canvas = None
        if draws is None or options.pad or options.crop:
            canvas = self._canvas(asked, options.pad, options.crop)
        if options.pad or options.crop:
            options = options._replace(pad=canvas or options.pad)
        pieces: list[tuple[Batch, Where]] = []
        images = None
        for ds, indices, where in asked:
            adjacent = isinstance(where, slice)
            if images is not None:
                place: Any = images[where] if adjacent else None
            else:
                place = out if adjacent and len(asked) == 1 else None
            if draws is None:
                piece = ds._gather(ds._rows_of(indices), options, place)
            else:
                part = ds._rows_of(indices)
                piece = ds._gather_augmented(part, options, draws[where], place)
            if images is None:
                shape, dtype = (n, *piece.images.shape[1:]), piece.images.dtype
                if adjacent and len(asked) == 1:
                    images = piece.images
                else:
                    images = np.empty(shape, dtype) if out is None else given(out, shape, dtype)
            if images is not piece.images and place is None:
                images[where] = piece.images
            pieces.append((piece, where))
        assert images is not None  # at least one part is asked
        return self._batch_of(pieces, images, n)

    def _canvas(self, asked: Sequence[Asked], pad: Any, crop: Any) -> tuple[int, ...] | None:
        """Return (h, w, c) of one canvas for the records of all parts; None where none is known."""
        if self.image_shape is not None and not pad and not crop:
            return None
        known = (ds.batch_shape(indices, "NHWC", pad=pad, crop=crop) for ds, indices, _ in asked)
        found = {shape[1:] for shape in known if shape is not None}
        if len(found) < 2:
            return found.pop() if found else None
        if not pad and not crop:
            raise ValueError(
                f"{self.path}: records of {sorted(found)}: pass pad= or crop= for records of mixed "
                "sizes"
            )
        side = min if crop and not pad else max
        h, w = (side(canvas[k] for canvas in found) for k in (0, 1))
        return h, w, max(canvas[2] for canvas in found)

    def batch_shape(
        self,
        indices: ArrayLike,
        layout: Layout | None = None,
        *,
        pad: bool | tuple[int, ...] = False,
        crop: Crop = False,
    ) -> tuple[int, ...] | None:
        """Return the shape of ``batch(...).images`` with these options; None where not known."""
        rows = self._rows_of(indices)
        if self.image_shape is not None:
            shape = self.parts.examples[0].batch_shape([], layout, pad=pad, crop=crop)
            return None if shape is None else (len(rows), *shape[1:])
        canvas = self._canvas(list(self._by_part(rows)), pad, crop)
        if canvas is None:
            return None
        h, w, c = canvas
        return (len(rows), c, h, w) if layout == "NCHW" else (len(rows), h, w, c)

    def _batch_of(
        self, pieces: Sequence[tuple[Batch, Where]], images: NDArray[Any], n: int
    ) -> Batch:
        """Return the pieces of a batch as one, around its images."""
        labelled = [(p.labels, p.present, p.names, at) for p, at in pieces if p.labels is not None]
        labels, present, names = self._merged(labelled, n) if labelled else (None, None, ())
        if all(p.present is None for p, _ in pieces) and len(labelled) == len(pieces):
            present = None
        shapes = np.empty((n, 3), np.uint16)
        spec = None
        for piece, where in pieces:
            shapes[where] = piece.shapes
            if piece.spec_range is not None:
                spec = np.full((n, 2), np.nan, np.float32) if spec is None else spec
                spec[where] = piece.spec_range
        return Batch(images, labels, present, shapes, spec, None, names)

    def _prefetch(self, rows: NDArray[np.int64]) -> int:
        joint = next((known for known in self._joints.values() if known is not None), None)
        if joint is not None and len(rows):
            try:
                return joint.willneed(rows)
            except UnsupportedError:  # parts that differ from those of earlier batches
                pass
        return sum(ds.prefetch(indices) for ds, indices, _ in self._by_part(rows))

    # --- facts and health -------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return self.parts.facts()

    def _summary(self) -> str:
        return f"{counted(len(self), self.RECORDS)} in {counted(len(self.parts), 'file')}"

    def _explained(self, row: int) -> dict[str, Any]:
        part, i = self._place(row)
        return part.explain(i)

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        asked = self._by_part(rows)
        found = [ds._explained_batch(ds._rows_of(part), options) for ds, part, _ in asked]
        total = {k: sum(f.get(k, 0) for f in found) for k in ("reads_nbytes", "copies_nbytes")}
        said = {
            k: "; ".join(dict.fromkeys(f[k] for f in found if f.get(k)))
            for k in ("decodes", "swaps", "converts", "how")
        }
        return {**total, **said}

    def _pixel_sums(self, progress: Progress | None) -> list[Sums] | None:
        if self._rows is not None:
            return super()._pixel_sums(progress)
        channels: list[Sums] = []
        known = False
        for k, (ds, show) in enumerate(self._each(progress)):
            found = ds._pixel_sums(show)
            if found is None and self.parts.counts[k]:
                return None
            known = known or found is not None
            for channel, sums in enumerate(found or ()):
                if channel < len(channels):
                    channels[channel] |= sums
                else:
                    channels.append(sums)
        return channels if known else None

    # --- in parts ---------------------------------------------------------------------------------

    def _column_statistics(self, map: Map | None) -> dict[str, ColumnStatistics]:
        from mapix.statistics import columns_of_all

        if map is None or self._rows is not None:
            return super()._column_statistics(map)
        found = mapped(map, _columns_of_file, self._files())
        return columns_of_all(list(zip(self.parts.counts.tolist(), found, strict=True)))

    def _files(self) -> list[FileItem]:
        """Return the parts as arguments of tasks, for ``_file``: none is opened."""
        if self.parts.reopening() is None:
            return [
                (Piece(ds, ds._rows), -1, {name: getattr(ds, name) for name in ds.UNPICKLED})
                for ds in self.parts
            ]
        whole = Piece(self._part(None), None)
        return [(whole, k, {}) for k in range(len(self.parts))]

    def _record_sizes(self) -> int | NDArray[np.int64]:
        known = []
        for ds, which, where in self._asked():
            sizes = np.broadcast_to(np.asarray(ds._record_sizes(), np.int64), (len(ds),))
            known.append((sizes, which, where, len(ds)))
        return self._placed(known, np.dtype(np.int64)) if known else np.empty(0, np.int64)

    def _total_size(self) -> int:
        return sum(self.parts.sizes()) if self._rows is None else super()._total_size()

    def _cut(self, nbytes: int) -> Iterator[tuple[Self, Rows]]:
        """Yield the parts of ``plan``: several small files, or records of a large one."""
        if self._rows is not None:
            yield from super()._cut(nbytes)
            return
        first, total = 0, 0
        for k, size in enumerate(self.parts.sizes()):
            if first < k and total + size > nbytes:
                yield self._stretch(first, k)
                first, total = k, 0
            total += size
            if size > nbytes:
                ds, (one, rows) = self.parts[k], self._stretch(k, k + 1)
                for begin, end in cut(ds._record_sizes(), len(ds), nbytes):
                    yield one, rows[begin:end]
                first, total = k + 1, 0
        if first < len(self.parts):
            yield self._stretch(first, len(self.parts))

    def _cut_at(self, edges: Iterable[tuple[int, int]]) -> Iterator[tuple[Self, Rows]]:
        for whole, rows in super()._cut_at(edges):
            yield self._narrowed(whole, np.asarray(rows, np.int64))

    def _stretch(self, first: int, end: int) -> tuple[Self, range]:
        """Return some successive parts, and their records; what pickles as a path stays one."""
        if self.parts.reopening() is None:
            return type(self)(self.parts[first:end]), range(int(self.parts.counts[first:end].sum()))
        return self._part(None), range(
            int(self._ends[first - 1]) if first else 0, int(self._ends[end - 1])
        )

    def _narrowed(self, whole: Self, rows: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64]]:
        """Return the parts that have some records, and the numbers of these in them."""
        if self.parts.reopening() is not None or not len(rows):
            return whole, rows
        asked = np.searchsorted(self._ends, rows, side="right")
        numbers, which = np.unique(asked, return_inverse=True)
        kept = self.parts.counts[numbers]
        moved = (self._ends - self.parts.counts)[numbers] - (np.cumsum(kept) - kept)
        made = type(self)([self.parts[k] for k in numbers.tolist()])
        return made, rows - moved[which.reshape(-1)]

    # --- health -----------------------------------------------------------------------------------

    def _each(self, progress: Progress | None) -> Iterator[tuple[Dataset[R], Progress | None]]:
        """Yield each part, and a callable for its progress: in thousandths of a part."""
        n = len(self.parts)
        for k in range(n):
            yield self.parts[k], None if progress is None else _Share(progress, k, n)
            if progress is not None:
                progress(SHARES * (k + 1), SHARES * n)

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Check all parts; a problem names its file.

        A part that cannot be opened, or that is not what its catalogue states, is a problem, too.

        Parameters
        ----------
        progress : callable, optional
            ``progress(done, total)``, in thousandths of a part.
        map : callable or int, optional
            What runs the check: see ``statistics``.  A file is a task; where one is larger than 256
            MiB, each file is checked in parts, one file after the other.
        """
        report = Report(self.path)
        report.checked += self.parts.checked()
        report.problems += self.parts.problems()
        n = len(self.parts)
        for k, found in enumerate(self._reports(progress, map)):
            if isinstance(found, Report):
                report.add(found, int(self._ends[k] - self.parts.counts[k]))
            else:
                report.problems.append(found)
            if progress is not None:
                progress(SHARES * (k + 1), SHARES * n)
        return report

    def _reports(self, progress: Progress | None, map: Map | None) -> Iterator[Report | str]:
        """Yield the report of each part, or why there is none."""
        if map is not None and max(self.parts.sizes()) <= PART_NBYTES:
            yield from mapped(map, _report_of_file, self._files())
            return
        n = len(self.parts)
        for k in range(n):
            show = None if progress is None else _Share(progress, k, n)
            yield _report_of(lambda k=k: self.parts[k], show, map)  # type: ignore[misc]

    def warm(self, progress: Progress | None = None) -> None:
        """Read all files into the page cache, one after the other: see ``Dataset.warm``.

        Parameters
        ----------
        progress : callable, optional
            ``progress(done, total)``, in thousandths of a part.
        """
        for ds, show in self._each(progress):
            ds.warm(show)

    def keep_index(self, **options: Any) -> list[str]:
        """Index all files, and store the index of each: see ``mapix.index``.

        Returns
        -------
        list of str
            Paths of the indexes.

        Raises
        ------
        UnsupportedError
            The format needs no index.
        """
        progress = options.pop("progress", None)
        found = []
        for ds, show in self._each(progress):
            keep = getattr(ds, "keep_index", None)
            if keep is None:
                raise UnsupportedError(
                    f"{ds.path}: files of {ds.FAMILY} need no index: they open at once"
                )
            found.append(keep(**options, progress=show))
        return found

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        return self._origin()[1:]

    def _origin(self) -> tuple[str, str, dict[str, Any], Fingerprint]:
        known = self.parts.reopening()
        if known is None:
            raise UnsupportedError(f"{self.path}: several files have no one path")
        return known

    def _snapshot(self) -> Any:
        return self._of([ds._snapshot() for ds in self.parts])

    def _of(self, parts: Sequence[Dataset[R]]) -> Self:
        """Return the same records of other datasets of the same files."""
        return type(self)(parts, rows=self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.parts.reopening() is not None:
            return super().__reduce__()
        return _rejoined, (type(self), tuple(self.parts), self._rows)


def _file(item: FileItem) -> Any:
    """Return the dataset that an item of ``Joined._files`` stands for."""
    piece, k, unpickled = item
    ds: Any = piece.part
    if k >= 0:
        return ds.parts[k]
    vars(ds).update(unpickled)
    return ds


def _columns_of_file(item: FileItem) -> dict[str, ColumnStatistics]:
    from mapix.statistics import column_statistics

    return column_statistics(_file(item))


def _report_of_file(item: FileItem) -> Report | str:
    return _report_of(lambda: _file(item), None, None)


def _report_of(
    open_: Callable[[], Dataset[Any]], progress: Progress | None, map: Map | None
) -> Report | str:
    try:
        return open_().verify(progress, map=map)
    except (MapixError, OSError) as e:
        return str(e)


class _Share:
    """Show the progress of one part as that of all: SHARES steps for each part."""

    def __init__(self, progress: Progress, k: int, n: int) -> None:
        self._progress, self._k, self._n = progress, k, n

    def __call__(self, done: int, total: int) -> None:
        if done < total:
            self._progress(SHARES * self._k + SHARES * done // total, SHARES * self._n)


def _parts_of(parts: Sequence[Dataset[Any]]) -> Iterator[Dataset[Any]]:
    """Yield datasets; of joined ones their parts."""
    for ds in parts:
        if not isinstance(ds, Joined):
            yield ds
            continue
        if ds._rows is not None:
            raise UnsupportedError(
                f"{ds.path}: a part of joined datasets cannot be joined again; join first"
            )
        yield from ds.parts


def _distinct(names: Iterator[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for some in names for name in some))


def _native_dtype(ds: Dataset[Any]) -> np.dtype[Any] | None:
    """Return the type of a dataset's numbers in this machine's byte order; None where not known."""
    dtype: np.dtype[Any] | None = getattr(ds, "dtype", None)
    return None if dtype is None else dtype.newbyteorder("=")


def _rejoined(kind: type[Joined[Any]], parts: Sequence[Dataset[Any]], rows: Rows) -> Joined[Any]:
    return kind(parts, rows=rows)


def _merged(
    name: str, samples: Sequence[tuple[Mapping[str, Column], NDArray[np.int64]]], n: int
) -> Column:
    """Return a column of n records from those of parts; each has the places of its values."""
    known = [(sample[name], places) for sample, places in samples if name in sample]
    alike = {column.values.dtype for column, _ in known}
    values = np.zeros(n, alike.pop() if len(alike) == 1 else object)
    present = np.zeros(n, np.bool_)
    for column, places in known:
        values[places], present[places] = column.values, column.present
    return Column(name, values, present, unit=known[0][0].unit)
