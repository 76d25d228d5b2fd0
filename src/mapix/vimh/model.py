"""Input shape, heads and losses of a network for a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mapix.vimh.parameters import Parameter

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.joined import Joined

__all__ = ["Head", "ModelConfig", "model_config"]

Loss = Literal["cross_entropy", "ordinal_regression", "mse"]

CLASSES_MOST = 256  # a code has so many values


@dataclass(frozen=True, slots=True)
class Head:
    """One output of a network.

    Attributes
    ----------
    name : str
        Name of the parameter.
    num_classes : int
        Outputs of a head that classifies.
    min, max, step : float
        Range and step of the parameter, in its own unit.
    loss : {"cross_entropy", "ordinal_regression", "mse"}
        ``cross_entropy`` for class numbers (parameters without an order of their own, or of two
        classes); ``ordinal_regression`` for steps of a range, where a near miss is less wrong than
        a far one (``mapix.vimh.soft_targets`` makes targets for it); ``mse`` for values without
        steps, where all 256 codes would be classes.
    """

    name: str
    num_classes: int
    min: float
    max: float
    step: float
    loss: Loss


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Result of ``model_config``.

    Attributes
    ----------
    input_shape : (c, h, w) or None
        Shape of the images, in PyTorch's order; None for mixed sizes.
    heads : tuple of Head
        In the order of the label columns.
    """

    input_shape: tuple[int, int, int] | None
    heads: tuple[Head, ...]

    @property
    def heads_config(self) -> dict[str, int]:
        """Name -> number of classes."""
        return {head.name: head.num_classes for head in self.heads}

    @property
    def losses(self) -> dict[str, Loss]:
        """Name -> loss."""
        return {head.name: head.loss for head in self.heads}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a JSON or YAML file."""
        return asdict(self)


def _loss(p: Parameter) -> Loss:
    if p.direct or p.num_classes <= 2:
        return "cross_entropy"
    return "mse" if p.num_classes >= CLASSES_MOST else "ordinal_regression"


def model_config(ds: Dataset | Joined) -> ModelConfig:
    """Return input shape, heads, classes and losses of a network for a dataset.

    Parameters
    ----------
    ds : Dataset or Joined
        Opened by ``mapix.open``.

    Returns
    -------
    ModelConfig
        Parameters that are fixed have no head.
    """
    shape = None
    if ds.uniform and len(ds):
        h, w, c = (int(d) for d in ds.shapes[0])
        shape = (c, h, w)
    heads = tuple(
        Head(p.name, p.num_classes, p.min, p.max, p.step, _loss(p)) for p in ds.parameters.values()
    )
    return ModelConfig(shape, heads)
