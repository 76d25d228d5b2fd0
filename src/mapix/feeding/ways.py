"""Choose one of three ways from a file to a GPU's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from mapix.errors import MapixError, UnsupportedError
from mapix.feeding.cuda import Cuda
from mapix.feeding.labels import mixed
from mapix.feeding.pages import Pages
from mapix.feeding.pinned import Pinned
from mapix.feeding.slots import Value

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Feeder", "choose"]


class Feeder(Protocol):
    """Bring the batches of a loader to its device.

    Attributes
    ----------
    way : str
        Name of the way.
    text : str
        Description of the way, for ``explain``.
    """

    way: str
    text: str

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""

    def close(self) -> None:
        """Release memory and pages."""


class Plain:
    """Gather batches on the CPU, and copy each when it is requested."""

    way = "plain"
    text = "each batch is gathered on the CPU and copied when it is requested"

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""
        loader, cuda = self._loader, Cuda(self._loader.device)
        for batch in loader.host_batches(epoch, position, nbatches):
            images = cuda.sent(torch.from_numpy(batch.images), loader.dtype)
            yield mixed(images, _moved(loader.labels_of(batch), cuda), batch.shares)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _moved(labels: Any, cuda: Cuda) -> Any:
    if isinstance(labels, dict):
        return {k: cuda.sent(v) for k, v in labels.items()}
    return None if labels is None else cuda.sent(labels)


FEEDERS: dict[str, type[Any]] = {"pages": Pages, "pinned": Pinned, "plain": Plain}


def choose(loader: Loader, ways: Sequence[str]) -> tuple[Feeder, list[str]]:
    """Return the first way that works, and the reasons why those before it do not.

    Raises
    ------
    UnsupportedError
        No way works.
    """
    reasons: list[str] = []
    Cuda(loader.device)  # without a GPU, no way works
    if loader.device.type != "cuda":
        reasons = [f"pages and pinned need CUDA; the device is {loader.device}"]
        ways = [way for way in ways if way == Plain.way]
    for way in ways:
        try:
            return FEEDERS[way](loader), reasons
        except (MapixError, RuntimeError) as e:
            reasons.append(f"not {way}: {e}")
    raise UnsupportedError("; ".join(reasons))
