"""Records that were taken one by one as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mapix.batch import Batch
from mapix.options import BatchOptions

__all__ = ["batch_of"]


def batch_of(records: Sequence[Any]) -> Batch:
    """Return records of one or of several files as a batch: raw labels by name, 0 where missing.

    Raises
    ------
    ValueError
        The records have different sizes.
    """
    files = list({id(record._file): record._file for record in records}.values())
    pieces = []
    for file in files:
        at = [k for k, record in enumerate(records) if record._file is file]
        rows = np.array([records[k].index for k in at], np.int64)
        pieces.append((at, file.plan(BatchOptions()).batch(file, rows, None)))
    if len(files) == 1:
        only: Batch = pieces[0][1]
        return only
    names = tuple(dict.fromkeys(name for _, piece in pieces for name in piece.names))
    images: list[Any] = [None] * len(records)
    labels = np.zeros((len(records), len(names)), np.uint8)
    present = np.zeros(labels.shape, np.bool_)
    for at, piece in pieces:
        for k, image in zip(at, piece.images, strict=True):
            images[k] = image
        columns = [names.index(name) for name in piece.names]
        labels[np.ix_(at, columns)] = piece.labels
        present[np.ix_(at, columns)] = piece.present
    stacked = np.stack(images)
    shapes = np.array([image.shape for image in images], np.uint16)
    return Batch(stacked, labels, present, shapes, None, None, names)
