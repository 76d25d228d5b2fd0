"""Convert the labels of a batch to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mapix.batch import Batch

__all__ = ["IGNORE", "as_dict", "as_tensors", "ignoring", "mixed"]

IGNORE = -100  # the class that PyTorch's losses ignore


def ignoring(values: Any, present: Any, unit: str | None) -> Any:
    """Set missing labels to IGNORE, in place, if the unit is classes; return ``values``."""
    if unit == "class" and present is not None and not present.all():
        values[~present] = IGNORE
    return values


def as_dict(values: torch.Tensor, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return labels (b, heads) as name -> view (b,); labels of another shape have one name."""
    if values.ndim == 2 and values.shape[1] == len(names):
        return {name: values[:, k] for k, name in enumerate(names)}
    return {names[0]: values}


def mixed(images: Any, labels: Any, shares: NDArray[np.float32] | None) -> tuple[Any, ...]:
    """Return images and labels; with mixup, also the labels of the partners, and the shares.

    Each image's partner is the one at its place in reverse order.
    """
    if shares is None:
        return images, labels
    if isinstance(labels, dict):
        others: Any = {name: values.flip(0) for name, values in labels.items()}
    else:
        others = None if labels is None else labels.flip(0)
    return images, labels, others, torch.from_numpy(shares).to(images.device)


def as_tensors(batch: Batch, unit: str | None) -> torch.Tensor | None:
    """Return the labels of a batch as a CPU tensor over its memory; None if it has no labels."""
    if batch.labels is None or batch.present is None:
        return None
    return torch.from_numpy(ignoring(batch.labels, batch.present, unit))
