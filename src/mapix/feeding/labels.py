"""Labels of a batch as tensors."""

from __future__ import annotations

from typing import Any

import torch

from mapix.batch import Batch

__all__ = ["IGNORE", "as_dict", "as_tensors", "ignoring"]

IGNORE = -100  # the class that PyTorch's losses leave out


def ignoring(values: Any, present: Any, unit: str | None) -> Any:
    """Classes with IGNORE where a label is missing, in place; other units as they are."""
    if unit == "class" and present is not None and not present.all():
        values[~present] = IGNORE
    return values


def as_dict(values: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Labels (b, heads) as name -> (b,), views; labels of another shape are one column."""
    if values.ndim == 2 and values.shape[1] == len(names):
        return {name: values[:, k] for k, name in enumerate(names)}
    return {names[0]: values}


def as_tensors(batch: Batch, unit: str | None) -> torch.Tensor | None:
    """Labels of a batch, on the CPU, its own memory; None where it has none."""
    if batch.labels is None or batch.present is None:
        return None
    return torch.from_numpy(ignoring(batch.labels, batch.present, unit))
