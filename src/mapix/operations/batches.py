"""Batches and labels of a dataset by its contract alone: ``mapix.Dataset`` documents them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import UnsupportedError
from mapix.options import BatchOptions, batch_options, canvas_size, checked, numbers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.augmentation import Draws
    from mapix.batch import Batch
    from mapix.dataset import Dataset
    from mapix.options import Crop, Layout

__all__ = [
    "assembled_of",
    "augmented",
    "batch_of",
    "batch_shape",
    "label_array",
    "labels_of",
    "loading",
    "possible",
]

MOST_PREPARED = 16  # sets of options


def possible(ds: Dataset[Any], options: BatchOptions) -> BatchOptions:
    """Return checked options; raise UnsupportedError where the family has no such batches."""
    if ds.NO_BATCH:
        raise UnsupportedError(
            f"{ds.path}: {ds.RECORDS} of {ds.FAMILY} do not go into a batch: {ds.NO_BATCH}"
        )
    for name in options.given():
        if name not in ds.BATCH_OPTIONS:
            has = ", ".join(n for n in BatchOptions._fields if n in ds.BATCH_OPTIONS)
            raise UnsupportedError(
                f"{ds.path}: batches of {ds.FAMILY} have no {name}=; "
                f"they have {has or 'no options'}"
            )
    for name, _ in options.more:
        if name not in ds.MORE_OPTIONS:
            raise TypeError(f"{ds.path}: batches of {ds.FAMILY} have no {name}=")
    if options.labels is not None:
        ds._check_unit(options.labels)
    return checked(options)


def batch_of(
    ds: Dataset[Any],
    indices: ArrayLike,
    out: NDArray[Any] | Batch | None,
    given: tuple[Any, ...],
    augment: Draws | None,
    *,
    again: bool,
) -> Batch:
    """Return a batch; ``given`` are its options in the order of ``BatchOptions``.

    With ``again``, batches with these options are prepared for the next calls.
    """
    dtype, layout, scale, mean, std, pad, *more = given
    options = ds._possible(
        BatchOptions(*(dtype, layout, scale, numbers(mean), numbers(std), canvas_size(pad), *more))
    )
    found = ds._gathered(ds._rows_of(indices), options, out, augment)
    prepared = ds._prepare(options) if again else None
    if prepared is not None:
        known = {} if len(ds._prepared) >= MOST_PREPARED else dict(ds._prepared)
        ds._prepared = {**known, given: prepared}
    return found


def augmented(
    ds: Dataset[Any],
    rows: NDArray[np.int64],
    options: BatchOptions,
    out: NDArray[Any] | Batch | None,
    augment: Draws,
) -> Batch:
    """Gather records of the file with random changes."""
    from mapix.augmentation import Draws, mix

    if not isinstance(augment, Draws):
        raise TypeError(
            f"augment must be what Augment(...).draws(positions, epoch) returns, "
            f"got {type(augment).__name__}"
        )
    if len(augment) != len(rows):
        raise ValueError(f"augment has {len(augment)} positions for {len(rows)} records")
    by_batch = options.pad is True or (options.crop and not options.pad)
    if by_batch and ds.image_shape is None:
        raise ValueError(
            f"{ds.path}: augment needs pad=(h, w): otherwise pad and crop depend on the batch"
        )
    found = ds._gather_augmented(rows, options, augment, out)
    if augment.augment.mixup:
        found.partners, found.shares = mix(found.images, augment), augment.shares
    return found


def loading(
    ds: Dataset[Any], options: dict[str, Any]
) -> Callable[[NDArray[np.int64], NDArray[Any] | None], Batch]:
    """Return a function of rows and output for loaders: ``batch``, with the rows of the batch."""
    if ds._rows is None and options.get("labels") != "class":
        prepared = ds._prepare(ds._possible(batch_options(**options)))
        if prepared is not None:
            return prepared.loaded

    def loaded(rows: NDArray[np.int64], out: NDArray[Any] | None) -> Batch:
        found = ds.batch(rows, out, **options)
        found.rows = rows
        return found

    return loaded


def batch_shape(
    ds: Dataset[Any],
    indices: ArrayLike,
    layout: Layout | None,
    *,
    pad: bool | tuple[int, ...],
    crop: Crop,
) -> tuple[int, ...] | None:
    """Return the shape that ``batch`` with these options would give its images, if it is known."""
    n, shape = len(ds._rows_of(indices)), ds.image_shape
    sides = canvas_size(pad)
    if shape is not None and not (layout or sides or crop):
        return (n, *shape)
    if shape is not None:
        shape = (*shape, 1)[:3]
    if isinstance(sides, tuple) and (shape is not None or len(sides) == 3):
        shape = (*sides, *(shape or ())[2:])[:3]
    if shape is None:
        return None
    h, w, c = shape
    return (n, c, h, w) if layout == "NCHW" else (n, h, w, c)


def assembled_of(
    ds: Dataset[Any],
    rows: NDArray[np.int64],
    options: BatchOptions,
    out: NDArray[Any] | Batch | None,
    draws: Draws | None = None,
) -> Batch:
    """Read each record's ``_image``, and put it into a batch by numpy."""
    from mapix.assembly import assembled

    images = []
    for row in rows.tolist():
        image = ds._image(row)
        if image is None:
            raise UnsupportedError(f"{ds.path}: {ds.FAMILY} records have no pixels")
        images.append(image)
    labels, present, names = None, None, tuple(ds._label_names())
    if options.labels is not None and names:
        labels, present = ds._labels_of(names, rows)
    return assembled(
        *(ds.path, images, options, out),
        labels=labels,
        present=present,
        names=() if labels is None else names,
        row_shape=ds.image_shape or (0, 0, 0),
        augment=draws,
    )


def labels_of(
    ds: Dataset[Any], names: tuple[str, ...], rows: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return labels of records of the file, by number: values and presence (b, names)."""
    whole: Dataset[Any] = ds
    if ds._rows is not None:
        if ds._whole is None:
            ds._whole = ds._part(None)
        whole = ds._whole
    columns = [whole.columns[name] for name in names]
    values = np.stack([column.values[rows] for column in columns], axis=1)
    present = np.stack([column.present[rows] for column in columns], axis=1)
    if values.dtype == np.int64:
        values[~present] = -1  # int64 labels are class numbers: see ``_as_classes``
    return values, present


def label_array(
    ds: Dataset[Any], labels: str = "raw"
) -> tuple[NDArray[Any], NDArray[np.bool_], tuple[str, ...]] | None:
    """Return all labels as ``batch`` gives them: values, presence, names; None without labels."""
    from mapix.batch import Batch

    ds._check_unit(labels)
    names = tuple(ds._label_names())
    if not names:
        return None
    values, present = ds._labels_of(names, ds.rows)
    shapes = np.empty((len(values), 3), np.uint16)
    batch = Batch(values, values, present, shapes, None, None, names)
    found = ds._as_classes(batch) if labels == "class" else batch
    return np.asarray(found.labels), present, names
