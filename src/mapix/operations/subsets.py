"""Conditions on columns, and weights of classes: see ``mapix.Dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.expression import evaluate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.dataset import Dataset

__all__ = ["fulfils", "weights"]


def fulfils(ds: Dataset[Any], condition: str) -> NDArray[np.bool_]:
    """Return for which records a condition, as text, holds: bool (n,)."""
    found, names = evaluate(condition, ds.columns)
    mask = np.broadcast_to(np.asarray(found, bool), (len(ds),)).copy()
    for name in names:
        column = ds.columns[name]
        if not column.complete:
            mask &= column.present
    return mask


def weights(ds: Dataset[Any], *names: str, power: float = 1.0) -> NDArray[np.float64]:
    """Return sampling weights that balance classes, float64 (n,), of mean 1."""
    columns = [ds._named(name) for name in names or ds._label_names()]
    if not columns:
        return np.ones(len(ds))
    group, present = np.zeros(len(ds), np.int64), np.ones(len(ds), np.bool_)
    for column in columns:
        classes = column.groups()
        present &= classes >= 0
        _, group = np.unique(
            group * (int(classes.max(initial=0)) + 2) + classes, return_inverse=True
        )
    counts = np.bincount(group[present], minlength=int(group.max(initial=0)) + 1)
    found = np.zeros(len(ds))
    found[present] = 1.0 / counts[group[present]] ** power
    total = found.sum()
    return found * (present.sum() / total) if total else found
