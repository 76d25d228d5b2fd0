"""Uniform records of several files: a batch by one call of the C core, not one for each file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.batch import Batch, Lookout, Recipe, given
from mapix.errors import ClosedError, UnsupportedError
from mapix.options import BatchOptions
from mapix.placement import Placement

__all__ = ["JointGather", "joint_gather"]

COPIED = ("dtype", "layout", "scale", "mean", "std", "pad", "crop", "pad_value")
Columns = tuple[NDArray[np.int16], tuple[str, ...]]


class JointGather:
    """One set of options of ``batch``, worked out for the records of several datasets.

    Made by ``joint_gather``.  Holds the files mapped.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        placements: Sequence[Placement],
        options: BatchOptions,
        columns: Columns | None,
        beside: JointGather | None,
    ) -> None:
        like = self._like = placements[0]
        self._parts, self._options, self._beside = parts, options, beside
        self._names = () if columns is None else columns[1]
        self._lookout = Lookout()
        self._copies = like.head_nbytes == 0 and like.record == (1, like.stride, 1) == like.canvas
        self._same = len({p.record for p in placements}) == 1
        mappings = [p.mapping for p in placements]
        tables = [self._table(p) for p in placements]
        self._native = _native.Joint(mappings, tables, parts[0].FAMILY)
        self._recipe = None
        if not self._copies:
            arithmetic = (None,) * 3 if like.affine is None else options[2:5]
            self._recipe = Recipe(
                *(like.out.name, like.layout, *arithmetic),
                c=like.canvas[2],
                fit=like.fit,
                pad_value=like.pad_value,
                columns=None if columns is None else columns[0],
                names=self._names,
            )
        # one record as its own file gives it, which also checks the options
        one = parts[0]._gather(np.zeros(1, np.int64), options, None)
        self._shape = one.shapes[0]
        if one.images.shape[1:] != like.shape or one.images.dtype != like.out:
            raise UnsupportedError("batches are not what the placement describes")

    def _table(self, p: Placement) -> _native.Table:
        h, w, c = (0, 0, 0) if self._copies else p.record
        return _native.Table(
            nrecords=p.nrecords,
            stride=p.stride,
            first=(p.first_at, h, w, c, p.nlabels),
            entries=None,
            head_nbytes=p.head_nbytes,
            interleaved=p.interleaved,
        )

    def batch(self, rows: NDArray[np.int64], out: NDArray[Any] | Batch | None) -> Batch:
        """Gather records, counted through all files; labels as they are stored."""
        n, like, recipe = len(rows), self._like, self._recipe
        shape = (n, *like.shape)
        images = np.empty(shape, like.out) if out is None else given(out, shape, like.out)
        plan = _native.new_gather(None if recipe is None else recipe.template)
        images_at = _native.writable(images)
        plan.images, plan.images_nbytes = images_at, images.nbytes
        if recipe is None:
            plan.swap = like.swap
        plan.h, plan.w = like.canvas[:2]
        plan.nthreads, plan.probe = self._options.threads, self._lookout.probes()
        shapes = np.empty((n, 3), np.uint16)
        if self._same:
            shapes[:] = self._shape
        else:
            shapes_at = _native.writable(shapes)
            plan.shapes = _native.cast("uint16_t *", shapes_at)
        labels = present = None
        if self._names:
            labels = np.empty((n, len(self._names)), np.uint8)
            present = np.empty(labels.shape, np.bool_)
            labels_at, present_at = _native.writable(labels), _native.writable(present)
            plan.labels, plan.present = labels_at, present_at
        read, nasked = self._native.gather(rows, plan)
        if plan.probe:
            self._lookout.saw(nasked)
        for k in read.tolist():
            if self._parts[k].closed:
                raise ClosedError(f"{self._parts[k].path}: the dataset is closed")
        names = self._names
        if self._beside is not None:
            labels, names = self._beside.batch(rows, None).images, self._parts[0]._label_names()
            present = np.ones(labels.shape, np.bool_)
        return Batch(images, labels, present, shapes, None, None, tuple(names))


def _agree(placements: Sequence[Placement]) -> bool:
    """Return whether all batches are made in the same way."""
    pairs = {None if p.affine is None else p.affine.tobytes() for p in placements}
    ways = {(p.canvas, p.fit, p.layout, p.swap, p.shape, p.out, p.pad_value) for p in placements}
    copied = {p.record == (1, p.stride, 1) for p in placements}
    uniform = all(p.entries is None for p in placements)
    return uniform and len(pairs) == len(ways) == len(copied) == 1


def _beside(parts: Sequence[Any]) -> JointGather | None:
    """Return how labels in files of their own are gathered; None of parts without labels.

    Raises
    ------
    UnsupportedError
        They differ from part to part.
    """
    if not any(ds._label_names() for ds in parts):
        return None
    apart = [ds._labels_apart() for ds in parts]
    fit = all(b is not None and len(b) == len(a) for a, b in zip(parts, apart, strict=True))
    same = len({tuple(ds._label_names()) for ds in parts}) == 1
    found = joint_gather(apart, BatchOptions(labels=None), None) if fit and same else None
    if found is None:
        raise UnsupportedError("labels that differ from part to part")
    return found


def joint_gather(
    parts: Sequence[Any], options: BatchOptions, columns: Columns | None
) -> JointGather | None:
    """Return how one call gathers records of all parts; None where it takes one for each part.

    Parameters
    ----------
    parts : sequence of Dataset
        Complete files of one format, each with a record.
    options : BatchOptions
        Checked.
    columns : tuple, optional
        Of labels in the records: column of each label id, int16 (256,), and the columns' names.
    """
    by_batch = options.pad is True or (options.crop and not options.pad)
    if options.more or by_batch or any(ds._rows is not None for ds in parts):
        return None
    wanted = {name: getattr(options, name) for name in COPIED}
    try:
        placements = [ds.placement(**wanted) for ds in parts]
        if not _agree(placements):
            return None
        beside = None if options.labels is None or columns is not None else _beside(parts)
        return JointGather(parts, placements, options, columns, beside)
    except UnsupportedError:
        return None
