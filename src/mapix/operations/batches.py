"""Batches and labels of a dataset by its contract alone: ``mapix.Dataset`` documents them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.augmentation import Draws
    from mapix.batch import Batch
    from mapix.dataset import Dataset
    from mapix.options import BatchOptions

__all__ = ["assembled_of", "label_array", "labels_of"]


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
