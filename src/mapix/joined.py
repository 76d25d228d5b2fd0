"""Several datasets of one format, one after the other, as one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import columns
from mapix.augmentation import Draws
from mapix.batch import Batch, given
from mapix.byte_ranges import ByteRange
from mapix.columns import Column
from mapix.dataset import Annotations, Dataset, Progress
from mapix.errors import FormatError, UnsupportedError
from mapix.joint import Columns, JointGather, joint_gather
from mapix.options import BatchOptions, Crop, Layout
from mapix.report import Report
from mapix.selection import Rows

if TYPE_CHECKING:
    from mapix.source import Fingerprint
    from mapix.statistics import Sums

__all__ = ["Joined"]

R = TypeVar("R", covariant=True)
Where = slice | NDArray[np.int64]
Asked = tuple[Dataset[Any], NDArray[np.int64], Where]
MOST_JOINTS = 64  # sets of options that are remembered
MISSING = {"u": 0, "i": -1, "f": np.nan}  # labels that a record lacks, by kind of number


class Joined(Dataset[R]):
    """Several datasets of one format as one.  Made by ``mapix.open([...])``.

    Record i is found by bisection among the parts.  Batches and columns have the columns of all
    parts; a value is missing where the part does not have the column.

    Parameters
    ----------
    parts : sequence of Dataset
        At least one, of one format; joined datasets count as their parts.
    rows : range or ndarray, optional
        Which records, counted through all parts.

    Attributes
    ----------
    parts : tuple of Dataset
        The datasets.

    Raises
    ------
    FormatError
        The parts are of different formats, or their images differ in type or shape.
    """

    def __init__(self, parts: Sequence[Dataset[R]], *, rows: Rows = None) -> None:
        if not parts:
            raise ValueError("at least one dataset is needed")
        found: list[Dataset[R]] = []
        for ds in parts:
            if isinstance(ds, Joined) and ds._rows is not None:
                raise UnsupportedError(
                    f"{ds.path}: a part of joined datasets cannot be joined again; join first"
                )
            found += ds.parts if isinstance(ds, Joined) else [ds]
        self.parts: tuple[Dataset[R], ...] = tuple(found)
        self._ends = np.cumsum([len(ds) for ds in found])
        self._rows = rows
        self._joints: dict[BatchOptions, JointGather | None] = {}
        # the family of its parts, in place of the class's
        names = ("FAMILY", "RECORDS", "NAMES")
        vars(self).update({name: getattr(found[0], name) for name in names})
        self._check()

    FAMILY = "joined"

    def _check(self) -> None:
        """Raise FormatError where the parts do not fit together."""
        first = self.parts[0]
        filled = [ds for ds in self.parts if len(ds)]
        shapes = [ds.image_shape for ds in filled]
        for ds in self.parts:
            if ds.FAMILY != first.FAMILY:
                reason = f"it cannot be joined to {first.path}, which is of {first.FAMILY}"
                raise FormatError(ds.path, ds.FAMILY, reason)
        for ds, shape in zip(filled, shapes, strict=True):
            if shape != shapes[0]:
                reason = f"images of {shape}, in {filled[0].path} they are of {shapes[0]}"
                raise FormatError(ds.path, ds.FAMILY, reason)
            dtype, expected = (_native_dtype(part) for part in (ds, filled[0]))
            if dtype != expected:
                reason = f"numbers of {dtype}, in {filled[0].path} they are of {expected}"
                raise FormatError(ds.path, ds.FAMILY, reason)

    @property
    def path(self) -> str:
        """Path of the first file, and how many more there are."""
        more = len(self.parts) - 1
        return self.parts[0].path + (f" and {more} more" if more else "")

    @property
    def closed(self) -> bool:
        """Whether all parts are closed."""
        return all(ds.closed for ds in self.parts)

    def close(self) -> None:
        """Close all parts."""
        self._joints.clear()
        for ds in self.parts:
            ds.close()

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of the pixels of each record where all are alike; None of mixed ones."""
        return next((ds.image_shape for ds in self.parts if len(ds)), self.parts[0].image_shape)

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
            yield self.parts[0], rows, slice(0, 0)
        part = np.searchsorted(self._ends, rows, side="right")
        for k in np.unique(part).tolist():
            at = np.flatnonzero(part == k)
            begin = int(self._ends[k - 1]) if k else 0
            adjacent = int(at[-1]) - int(at[0]) + 1 == len(at)
            where = slice(int(at[0]), int(at[-1]) + 1) if adjacent else at
            yield self.parts[k], rows[at] - begin, where

    # --- columns ----------------------------------------------------------------------------------

    def _column_names(self) -> Sequence[str]:
        return list(dict.fromkeys(name for ds in self.parts for name in ds._column_names()))

    def _label_names(self) -> Sequence[str]:
        return list(dict.fromkeys(name for ds in self.parts for name in ds._label_names()))

    def _column(self, name: str) -> Column:
        known = [ds.columns.get(name) for ds in self.parts]
        first = next(column for column in known if column is not None)
        values = self._concatenated(
            [None if column is None else column.values for column in known], first.values.dtype
        )
        present = None
        if not all(column is not None and column.complete for column in known):
            has = [None if column is None else column.present for column in known]
            present = self._concatenated(has, np.dtype(np.bool_))
        return Column(name, values, present, unit=first.unit, description=first.description)

    def _concatenated(
        self, arrays: Sequence[NDArray[Any] | None], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Return an array of each part, zeros of a part without one, for this dataset's records."""
        filled = [
            np.zeros(len(ds), dtype) if array is None else array
            for ds, array in zip(self.parts, arrays, strict=True)
        ]
        found = np.concatenate(filled)
        return found if self._rows is None else found[self.rows]

    def label_array(
        self, labels: str = "raw"
    ) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]] | None:
        """Return all labels as ``batch`` gives them: values, presence, names; None without labels.

        Reads no pixels.  Copies: yes.
        """
        found = [ds.label_array(labels) for ds in self.parts]
        ends = [0, *self._ends.tolist()]
        places = map(slice, ends[:-1], ends[1:])
        pieces = [(*f, at) for f, at in zip(found, places, strict=True) if f is not None]
        if not pieces:
            return None
        values, present, names = self._merged(pieces, ends[-1])
        rows = self.rows
        return values[rows], present[rows], names

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
        joint = self._joint(options) if len(rows) else None
        return self._gather_by_part(rows, options, out) if joint is None else joint.batch(rows, out)

    def _gather_augmented(
        self,
        rows: NDArray[np.int64],
        options: BatchOptions,
        draws: Draws,
        out: NDArray[Any] | Batch | None,
    ) -> Batch:
        return self._gather_by_part(rows, options, out, draws)

    def _joint(self, options: BatchOptions) -> JointGather | None:
        """Return how records of all parts are gathered by one call; None where that is not so."""
        joints = self._joints
        if options in joints:
            return joints.get(options)
        if len(joints) >= MOST_JOINTS:
            joints.clear()
        filled = [ds for ds in self.parts if len(ds)]
        columns = None if options.labels is None else self._label_columns()
        found = joints[options] = joint_gather(filled, options, columns)
        return found

    def _label_columns(self) -> Columns | None:
        """Return the columns of labels that lie in the records: see ``joint_gather``."""
        return None

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
            shape = self.parts[0].batch_shape([], layout, pad=pad, crop=crop)
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
        return sum(ds.prefetch(indices) for ds, indices, _ in self._by_part(rows))

    # --- facts and health -------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {"parts": [{"path": ds.path, "records": len(ds)} for ds in self.parts]}

    def _summary(self) -> str:
        return f"{len(self)} {self.RECORDS} in {len(self.parts)} files"

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
        found = [ds._pixel_sums(_shifted(progress, *at)) for ds, at in self._progressing()]
        known = [sums for sums in found if sums is not None]
        channels = range(max(map(len, known), default=0))
        if not known:
            return None
        return [reduce(or_, (sums[k] for sums in known if k < len(sums))) for k in channels]

    def _progressing(self) -> Iterator[tuple[Dataset[R], tuple[int, int]]]:
        """Yield each part with the number of records before it, and of all."""
        for ds, end in zip(self.parts, self._ends.tolist(), strict=True):
            yield ds, (end - len(ds), self._count())

    def verify(self, progress: Progress | None = None) -> Report:
        """Check all parts; a problem names its file.

        Parameters
        ----------
        progress : callable, optional
            ``progress(done, total)``, of each part.
        """
        report = Report(self.path)
        for ds, (before, _) in self._progressing():
            found = ds.verify(progress)
            report.nrecords += found.nrecords
            report.nbytes += found.nbytes
            report.checked.append(f"{found.path}: {', '.join(found.checked)}")
            report.problems += [f"{found.path}: {problem}" for problem in found.problems]
            report.damaged += [before + i for i in found.damaged]
            report.unchecked = list(dict.fromkeys([*report.unchecked, *found.unchecked]))
        return report

    def warm(self, progress: Progress | None = None) -> None:
        """Read all files into the page cache, one after the other: see ``Dataset.warm``."""
        for ds in self.parts:
            ds.warm(progress)

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        raise UnsupportedError(f"{self.path}: several files have no one path")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rejoined, (type(self), self.parts, self._rows)


def _native_dtype(ds: Dataset[Any]) -> np.dtype[Any] | None:
    """Return the type of a dataset's numbers in this machine's byte order; None where not known."""
    dtype: np.dtype[Any] | None = getattr(ds, "dtype", None)
    return None if dtype is None else dtype.newbyteorder("=")


def _rejoined(kind: type[Joined[Any]], parts: Sequence[Dataset[Any]], rows: Rows) -> Joined[Any]:
    return kind(parts, rows=rows)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return a callable that reports a part's records among those of all parts."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


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
