"""Uniform records of several files: a batch by one call of the C core, not one for each file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.batch import Batch, Lookout, Recipe, given, same_shapes
from mapix.errors import ClosedError, UnsupportedError
from mapix.options import BatchOptions
from mapix.parts import Parts
from mapix.placement import Placement
from mapix.selection import Rows

__all__ = ["JointGather", "Labels", "placed"]

FEW = 1024  # open datasets that all calls name, which is faster than naming some
COPIED = ("dtype", "layout", "scale", "mean", "std", "pad", "crop", "pad_value")
Columns = tuple[NDArray[np.int16], tuple[str, ...]]


class Labels(NamedTuple):
    """Where labels come from.

    Attributes
    ----------
    names : tuple of str
        Names of the columns of labels.
    columns : ndarray or None
        int16 (256,): the column of each label id of labels that lie in the records; None of labels
        in files of their own.
    """

    names: tuple[str, ...]
    columns: NDArray[np.int16] | None = None


class _Held(NamedTuple):
    """A dataset whose records are gathered, and where they lie."""

    dataset: Any
    part: _native.JointPart


class _Asked:
    """Some of the datasets, as one sequence.

    Attributes
    ----------
    datasets : list of Dataset
        The datasets.
    joint : Joint
        Where their records lie.
    """

    __slots__ = ("datasets", "joint")

    def __init__(self, held: Sequence[_Held], counts: NDArray[np.int64]) -> None:
        self.datasets = [each.dataset for each in held]
        family = self.datasets[0].FAMILY
        self.joint = _native.Joint([each.part for each in held], counts, family)


class JointGather:
    """One set of options of ``batch``, worked out for the records of several datasets.

    A dataset is opened, and its placement is compared with that of the first one, when a batch has
    one of its records.

    Parameters
    ----------
    parts : Parts
        Complete files of one format.
    options : BatchOptions
        Checked.
    labels : Labels, optional
        The labels that batches have; None without any.

    Raises
    ------
    UnsupportedError
        Records of these options are not gathered by one call.
    """

    def __init__(self, parts: Parts | _Apart, options: BatchOptions, labels: Labels | None) -> None:
        by_batch = options.pad is True or (options.crop and not options.pad)
        if options.more or by_batch:
            raise UnsupportedError("a batch that depends on its records")
        self._parts, self._options, self._labels = parts, options, labels
        self._wanted = {name: getattr(options, name) for name in COPIED}
        self._ends = np.cumsum(parts.counts)
        self._lookout = Lookout()
        self._held: dict[int, _Held] = {}
        like = self._first(int(np.flatnonzero(parts.counts)[0]))
        self._like = like
        self._way = _way(like)
        self._copies = like.head_nbytes == 0 and like.record == (1, like.stride, 1) == like.canvas
        columns = None if labels is None else labels.columns
        self._names = () if labels is None or columns is None else labels.names
        self._beside = None
        if labels is not None and columns is None:
            self._beside = JointGather(_Apart(parts, labels), BatchOptions(labels=None), None)
        self._few = None
        numbers = np.flatnonzero(parts.counts)
        if not parts.lazy and len(numbers) <= FEW:
            self._few = _Asked(self._hold(numbers), parts.counts[numbers])
        self._recipe = None
        if not self._copies:
            arithmetic = (None,) * 3 if like.affine is None else options[2:5]
            self._recipe = Recipe(
                *(like.out.name, like.layout, *arithmetic),
                c=like.canvas[2],
                fit=like.fit,
                pad_value=like.pad_value,
                columns=columns,
                names=self._names,
            )

    def _first(self, k: int) -> Placement:
        """Return the placement of a dataset, with whose others are compared."""
        ds = self._parts[k]
        like = self._placement(ds)
        # one record as its own file gives it, which also checks the options
        one = ds._gather(np.zeros(1, np.int64), self._options, None)
        self._shape = one.shapes[0].copy()
        if one.images.shape[1:] != like.shape or one.images.dtype != like.out:
            raise UnsupportedError("batches are not what the placement describes")
        return like

    def _placement(self, ds: Any) -> Placement:
        """Return where the records of a dataset lie.

        Raises
        ------
        UnsupportedError
            One call does not gather them.
        """
        found: Placement = ds.placement(**self._wanted)
        if ds._rows is not None or found.entries is not None:
            raise UnsupportedError("records at places of their own")
        return found

    def _part(self, k: int) -> _Held:
        """Open a dataset; raise UnsupportedError if its records are not like those of the first."""
        ds = self._parts[k]
        p = self._placement(ds)
        if _way(p) != self._way or (
            self._labels is not None
            and self._labels.columns is None
            and tuple(ds._label_names()) != self._labels.names
        ):
            raise UnsupportedError("records that differ from file to file")
        h, w, c = (0, 0, 0) if self._copies else p.record
        table = _native.Table(
            nrecords=p.nrecords,
            stride=p.stride,
            first=(p.first_at, h, w, c, p.nlabels),
            entries=None,
            head_nbytes=p.head_nbytes,
            interleaved=p.interleaved,
            format=ds.FAMILY,
        )
        found = self._held[k] = _Held(ds, _native.JointPart(p.mapping, table))
        return found

    def _asked(self, rows: NDArray[np.int64]) -> tuple[_Asked, NDArray[np.int64]]:
        """Return the datasets of records, and numbers of the records in these datasets alone."""
        if self._few is not None:
            return self._few, rows
        which = np.searchsorted(self._ends, rows, side="right")
        numbers, inverse = np.unique(which, return_inverse=True)
        counts = self._parts.counts[numbers]
        found = _Asked(self._hold(numbers), counts)
        shift = self._ends[numbers] - np.cumsum(counts)
        return found, rows - shift[inverse.reshape(-1)]

    def _hold(self, numbers: NDArray[np.int64]) -> list[_Held]:
        known = self._held
        self._parts.expect(k for k in numbers.tolist() if k not in known)
        found = [known.get(k) or self._part(k) for k in numbers.tolist()]
        for k in list(known)[: max(0, len(known) - self._parts.most_open)]:
            known.pop(k, None)
        return found

    def willneed(self, rows: NDArray[np.int64]) -> int:
        """Ask for records that are not in memory, and return how many were asked for."""
        asked, numbers = self._asked(rows)
        return asked.joint.willneed(numbers, Lookout.MANY)

    def batch(self, rows: NDArray[np.int64], out: NDArray[Any] | Batch | None) -> Batch:
        """Gather records, counted through all files; labels as they are stored.

        Raises
        ------
        UnsupportedError
            The files of these records are not gathered by one call.
        """
        n, like, recipe = len(rows), self._like, self._recipe
        asked, numbers = self._asked(rows)
        shape = (n, *like.shape)
        images = np.empty(shape, like.out) if out is None else given(out, shape, like.out)
        plan = _native.new_gather(None if recipe is None else recipe.template)
        images_at = _native.writable(images)
        plan.images, plan.images_nbytes = images_at, images.nbytes
        if recipe is None:
            plan.swap = like.swap
        plan.h, plan.w = like.canvas[:2]
        plan.nthreads, plan.probe = self._options.threads, self._lookout.probes()
        if self._copies or not like.fit:  # then records of another shape are an error
            shapes = same_shapes(self._shape, n)
        else:
            shapes = np.empty((n, 3), np.uint16)
            shapes_at = _native.writable(shapes)
            plan.shapes = _native.cast("uint16_t *", shapes_at)
        labels = present = None
        names = self._names
        if names:
            labels = np.empty((n, len(names)), np.uint8)
            present = np.empty(labels.shape, np.bool_)
            labels_at, present_at = _native.writable(labels), _native.writable(present)
            plan.labels, plan.present = labels_at, present_at
        read, nasked = asked.joint.gather(numbers, plan)
        if plan.probe:
            self._lookout.saw(nasked)
        for k in read.tolist():
            if asked.datasets[k].closed:
                raise ClosedError(f"{asked.datasets[k].path}: the dataset is closed")
        if self._beside is not None and self._labels is not None:
            labels, names = self._beside.batch(rows, None).images, self._labels.names
            present = np.ones(labels.shape, np.bool_)
        return Batch(images, labels, present, shapes, None, None, names)


class _Places(Sequence[tuple[int, Placement]]):
    """Where the records of each of several datasets lie.

    Parameters
    ----------
    parts : Parts
        The datasets; those without records are left out.
    options : dict
        Options of ``placement``.
    """

    def __init__(self, parts: Parts, options: dict[str, Any]) -> None:
        self._parts, self._options = parts, options
        self._numbers = np.flatnonzero(parts.counts)
        self._begins = np.cumsum(parts.counts) - parts.counts
        if not len(self):
            raise UnsupportedError(f"{parts.path}: there are no records")
        self.first = self._of(0)

    def _of(self, k: int) -> Placement:
        found: Placement = self._parts[int(self._numbers[k])].placement(**self._options)
        return found

    def __repr__(self) -> str:
        return f"({len(self)})"

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, k: Any) -> Any:
        """Return the number of the first record of a dataset, and where its records lie."""
        if isinstance(k, slice):
            return tuple(self[i] for i in range(*k.indices(len(self))))
        first, found = self.first, self._of(k)
        if _way(found) != _way(first) or found.rows is not None:
            raise UnsupportedError(
                f"{found.mapping.path}: records are copied in another way than those of "
                f"{first.mapping.path}"
            )
        return int(self._begins[self._numbers[k]]), found


def placed(parts: Parts, rows: Rows, options: dict[str, Any]) -> Placement:
    """Return where the records of several datasets lie; see ``Joined.placement``."""
    places = _Places(parts, options)
    shapes = parts.shapes()
    known = len(shapes) == 1 and None not in shapes
    if not known and isinstance(options.get("pad", False), bool):
        raise UnsupportedError(f"{parts.path}: records of mixed sizes need pad=(h, w)")
    if not known and not parts.lazy:
        for _ in places:  # raises UnsupportedError where a file has another shape
            pass
        known = True
    nrecords = int(parts.counts.sum())
    return replace(places.first, nrecords=nrecords, rows=rows, parts=places, shape_known=known)


def _way(p: Placement) -> tuple[Any, ...]:
    """Return what must be equal so that records of two files are put into a batch alike."""
    affine = None if p.affine is None else p.affine.tobytes()
    copied = p.record == (1, p.stride, 1)
    return (
        *(p.canvas, p.fit, p.layout, p.swap, p.shape, p.out, p.pad_value, p.head_nbytes > 0),
        *(affine, copied, p.stride if copied else 0),
    )


class _Apart(Sequence[Any]):
    """The labels of datasets, in files of their own."""

    def __init__(self, parts: Parts | _Apart, labels: Labels) -> None:
        self._parts, self._names = parts, labels.names
        self.counts: NDArray[np.int64] = parts.counts
        self.most_open: int = parts.most_open
        self.lazy: bool = parts.lazy

    def __len__(self) -> int:
        return len(self._parts)

    def expect(self, numbers: Iterable[int]) -> None:
        """Do nothing: the datasets of the labels are open."""

    def __getitem__(self, k: Any) -> Any:
        ds = self._parts[k]
        found = ds._labels_apart()
        if found is None or len(found) != len(ds) or tuple(ds._label_names()) != self._names:
            raise UnsupportedError("labels that differ from file to file")
        return found
