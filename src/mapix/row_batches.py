"""Batches of rows of one type and shape: by the C core in one pass, or by numpy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import _native
from mapix.assembly import assembled, converted
from mapix.batch import Batch, Lookout, Prepared, Recipe, gather, given, same_shapes
from mapix.errors import UnsupportedError
from mapix.text import array_text, type_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.augmentation import Draws
    from mapix.options import BatchOptions
    from mapix.rowarray import RowArray

__all__ = ["Plan", "augmented", "gathered", "planned", "prepared"]

FUSED_DTYPES = ("uint8", "float32", "float16")  # types that the C core makes of bytes


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One set of options, worked out for the rows of a file.

    Attributes
    ----------
    shape : tuple of int
        Shape of a row in the batch.
    dtype : numpy.dtype
        Type of the batch.
    recipe, index : Recipe and Table, or None
        For the C core; None where numpy makes the batch.
    canvas : tuple of int
        (h, w, c) that the C core fills; 0 where it copies rows as they are.
    fit : int
        ``_native.PAD``, ``CROP`` and ``CENTRE``, or-ed.
    copies : bool
        Whether the numbers of the file are copied as they are, apart from their byte order.
    lookout : Lookout
        Decides when the disk is asked for rows first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    recipe: Recipe | None = None
    index: _native.Table | None = None
    canvas: tuple[int, int, int] = (0, 0, 0)
    fit: int = 0
    copies: bool = False
    lookout: Lookout = field(default_factory=Lookout)


def gathered(
    file: RowArray, rows: NDArray[np.int64], options: BatchOptions, out: NDArray[Any] | Batch | None
) -> Batch:
    """Copy rows of the file, by number, into a batch: see ``Dataset._gather``."""
    plan = file._plans.get(options) or file._plan(options)
    if plan.recipe is None:
        images = _in_numpy(file, rows, options, plan, out)
        shapes = same_shapes(file._one_shape, len(rows))
        found = Batch(images, None, None, shapes, None, None, ())
    else:
        found = _fused(file, rows, plan, out, options.threads)
    return _labelled(file, found, rows, options)


def prepared(file: RowArray, options: BatchOptions) -> Prepared | None:
    """Return batches with these options as prepared ones: see ``Dataset._prepare``."""
    plan = file._plans.get(options) or file._plan(options)
    apart = None
    if file.labels is not None and options.labels is not None:
        if not file.labels._loaded:
            return None
        apart = file.labels._loaded[0]
    if plan.recipe is None or plan.index is None:
        return None
    return Prepared(
        *(file._numbers, plan.index, plan.recipe),
        canvas=plan.canvas[:2],
        shape=plan.shape,
        record=file._one_shape,
        threads=options.threads,
        labels=apart,
        lookout=True,
    )


def augmented(
    file: RowArray,
    plan: Plan,
    shape: tuple[int, ...],
    rows: NDArray[np.int64],
    options: BatchOptions,
    draws: Draws,
    out: NDArray[Any] | Batch | None,
) -> Batch:
    """Copy rows of the file into a batch with random changes, which has images of ``shape``."""
    size = draws.augment.size(*plan.canvas[:2])
    plan = replace(plan, shape=shape)
    found = _fused(file, rows, plan, out, options.threads, draws.native(size))
    return _labelled(file, found, rows, options)


def _labelled(
    file: RowArray, found: Batch, rows: NDArray[np.int64], options: BatchOptions
) -> Batch:
    """Put labels into a batch, if they are wanted, and return it."""
    if file.labels is not None and options.labels is not None:
        found.labels, found.names = file.labels._values_of(rows), file._names
        found.present = np.ones(found.labels.shape, np.bool_)
    return found


def planned(file: RowArray, options: BatchOptions) -> Plan:
    """Return what a set of options means for the rows of a file."""
    shape, native = file._shape[1:], file._native_dtype
    dtype = native if options.dtype is None else np.dtype(options.dtype)
    if native.kind not in "biuf" and (dtype != native or options.arithmetic):
        raise UnsupportedError(
            f"{file.path}: records of {type_name(native)} are not converted to numbers"
        )
    if options.arithmetic and dtype.kind != "f":
        raise ValueError("scale, mean and std need dtype float32 or float16")
    canvas, fit = _canvas(file, options), 0
    if canvas is not None:
        fit = (_native.PAD if options.pad else 0) | (_native.CROP if options.crop else 0)
        fit |= _native.CENTRE if options.crop and options.crop != "corner" else 0
        planar = (options.layout or file._layout) == "NCHW"
        shape = (canvas[2], *canvas[:2]) if planar else canvas
    copies = dtype == native and not options.arithmetic
    plain = canvas is None or (
        canvas == file._hwc
        and (options.layout in (None, file._layout) or canvas[2] == 1)  # the same bytes
    )
    if file._picture is None or dtype.name not in FUSED_DTYPES:
        recipe = index = None
        if copies and plain and file._swap and file._row_nbytes and not file._decodes:
            recipe, index = Recipe.copying(dtype, file._swap), file._array(file._swap).table
        return Plan(shape, dtype, recipe, index, fit=fit, copies=copies and plain)
    canvas = file._picture if canvas is None else canvas
    layout = options.layout or file._layout
    recipe = Recipe(
        *(dtype.name, layout, options.scale, options.mean, options.std),
        c=canvas[2],
        fit=fit,
        pad_value=options.pad_value,
        columns=None,
        names=(),
    )
    return Plan(shape, dtype, recipe, file._index, canvas, fit, copies and plain)


def _canvas(file: RowArray, options: BatchOptions) -> tuple[int, int, int] | None:
    """Return (h, w, c) of images in a batch; None where rows keep their own shape.

    Raises
    ------
    ValueError
        Rows are not images, or exceed the canvas without ``crop``.
    """
    if not (options.layout or options.pad or options.crop):
        return None
    if len(file._shape) not in (3, 4) or file._dtype.kind not in "biuf":
        raise ValueError(
            f"{file.path}: layout, pad and crop need images of two or three dimensions, "
            f"got {array_text(file._shape[1:], file._dtype)}"
        )
    h, w, c = file._hwc
    if not isinstance(options.pad, tuple):
        return h, w, c
    canvas = (options.pad[0], options.pad[1], (*options.pad, c)[2])
    if c > canvas[2]:
        raise ValueError(f"{file.path}: {c} channels exceed the {canvas[2]} of pad=")
    if not options.crop and (h > canvas[0] or w > canvas[1]):
        raise ValueError(
            f"{file.path}: images of {h} x {w} exceed pad={canvas[:2]}: pass crop=True"
        )
    return canvas


def _fused(
    file: RowArray,
    rows: NDArray[np.int64],
    plan: Plan,
    out: NDArray[Any] | Batch | None,
    threads: int,
    augment: _native.CData = None,
) -> Batch:
    """Return a batch made by the C core, in one pass."""
    assert plan.recipe is not None
    assert plan.index is not None
    n, (h, w, c) = len(rows), plan.canvas
    if not c and out is None:
        out = np.empty((n, *plan.shape), plan.dtype)
    return gather(
        file._numbers.mapping,
        plan.index,
        rows,
        plan.recipe,
        h=h,
        w=w,
        shape=(n, *plan.shape),
        shapes=same_shapes(file._one_shape, n),
        out=out,
        threads=threads,
        augment=augment,
        lookout=plan.lookout,
    )


def _in_numpy(
    file: RowArray,
    rows: NDArray[np.int64],
    options: BatchOptions,
    plan: Plan,
    out: NDArray[Any] | Batch | None,
) -> NDArray[Any]:
    """Return a batch of numbers that the C core copies, and numpy converts."""
    shape = (len(rows), *plan.shape)
    target = None if out is None else given(out, shape, plan.dtype)
    if plan.copies:
        made = np.empty(shape, plan.dtype) if target is None else target
        return file._native_rows(rows, made, options.threads)
    made = np.empty((len(rows), *file._shape[1:]), file._native_dtype)
    made = file._native_rows(rows, made, options.threads)
    if file._layout == "NCHW":
        made = made.transpose(0, 2, 3, 1)
    if options.layout or options.pad or options.crop:
        options = options._replace(layout=options.layout or file._layout)
        found = assembled(
            *(file.path, list(made), options, target), row_shape=file._hwc, dtype=plan.dtype
        )
        return found.images
    made = converted(made, options, plan.dtype, file._hwc[2] if len(file._shape) == 4 else 1)
    if file._layout == "NCHW":
        made = made.transpose(0, 3, 1, 2)
    if target is None:
        return np.ascontiguousarray(made)
    np.copyto(target, made, casting="unsafe")
    return target
