"""The loader for PyTorch, which yields batches as tensors on the CPU or on a GPU."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data as torch_data

from mapix import loader
from mapix.batch import Batch
from mapix.feeding.labels import as_dict as by_name
from mapix.feeding.labels import as_tensors, mixed

__all__ = ["Loader"]

WAYS = ("pages", "pinned", "plain")
DEFAULTS = {"dtype": "float32", "layout": "NCHW", "labels": "class"}


class Loader(loader.Loader):
    """Yield batches of a dataset as tensors ``(images, labels)``, on the CPU or on a GPU.

    With mixup, batches are ``(images, labels, others, shares)``: ``others`` are the labels of the
    images that were mixed in, and ``shares``, float32 (b,), is what each image kept of itself.

    Parameters
    ----------
    ds : mapix.Dataset
        A dataset, or a part of one.
    batch_size, shuffle, seed, drop_last, rank, world, weights, order, batch_sampler, ahead, copy
    augment
        As for ``mapix.Loader``.  The ways ``pages`` and ``pinned`` ignore ``ahead``: they gather
        4,096 records, or 64 MiB, at a time.
    device : torch.device or str, optional
        Device of the tensors: the CPU by default, ``"cuda"``, ``"cuda:1"``.
    way : {"pages", "pinned", "plain"}, optional
        How records reach a GPU.  By default, the first way that works is chosen; ``explain()``
        states which one, and why.

        * ``pages``: the GPU reads the pages of the file, which are pinned while the loader exists;
          of a file larger than ``pin_limit``, windows are pinned.
        * ``pinned``: a thread gathers into pinned buffers, which are copied on a separate stream;
          the GPU converts bytes to floats, unless ``augment`` or ``pad`` add other values.
        * ``plain``: a thread gathers, and each batch is copied when it is requested.
    pin_limit : int, optional
        Bytes of the file that may be pinned; half of this machine's memory by default.
    as_dict : bool
        Whether labels are a dict of name -> tensor (b,), or one tensor (b, heads).
    **options
        Options of ``ds.batch``; ``dtype`` may also be ``"bfloat16"``.  The defaults are float32,
        ``labels="class"`` and, for images of two or three dimensions, ``layout="NCHW"``.

    Notes
    -----
    For PyTorch it is an iterable dataset, whose items are batches: ``DataLoader(loader,
    batch_size=None)`` and torchdata's ``StatefulDataLoader`` take it, without workers.

    Lifetime: a batch is overwritten after the next one was requested, on the GPU in the order of
    the current stream; ``copy=True`` gives each batch its own memory.  If you work on a stream
    other than the one that was current at the request, make it wait for that stream, and that
    stream for it.  A file that changed raises FileChangedError, also if the GPU reads it.  Each
    process of a distributed job registers its file for its own GPU.
    """

    def __init__(
        self,
        ds: Any,
        batch_size: int | None = None,
        *,
        device: torch.device | str | None = None,
        way: str | None = None,
        pin_limit: int | None = None,
        as_dict: bool = True,
        **options: Any,
    ) -> None:
        known = dict(DEFAULTS)
        if ds.image_shape is not None and len(ds.image_shape) not in (2, 3):
            del known["layout"]  # rows of numbers, which have no channels
        own = {k: options.pop(k) for k in tuple(options) if k in OWN}
        wanted = {**known, **options}
        self.dtype: torch.dtype | None = None
        if wanted.get("dtype") == "bfloat16":  # numpy has no such type
            self.dtype = torch.bfloat16
            wanted["dtype"] = "float32"
        super().__init__(ds, batch_size, **own, **wanted)
        self.as_dict = as_dict
        self.device = torch.device("cpu" if device is None else device)
        if way is not None and way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
        if pin_limit is not None and pin_limit < 0:
            raise ValueError(f"pin_limit must be at least 0, got {pin_limit}")
        self.pin_limit = pin_limit
        self._way = way
        self._reasons: list[str] = []
        self._feeder: Any = None

    # --- which way --------------------------------------------------------------------------------

    def explain(self) -> str:
        """Return a text on how batches reach the device, and why no faster way is used."""
        sampling = self.plan.sampling
        order = [] if sampling is None else [f"order: {sampling.explain()}"]
        if self.device.type == "cpu":
            ahead = f"gathered {self.ahead} batches ahead by a thread"
            how = ahead if self.ahead else "each batch is gathered when it is requested"
            return "\n".join([f"cpu: {how}", *order])
        feeder = self._feed()
        return "\n".join([f"{feeder.way}: {feeder.text}", *self._reasons, *order])

    def _feed(self) -> Any:
        """Return the feeder of the GPU, which is chosen at the first use."""
        if self._feeder is None:
            from mapix.feeding import ways

            wanted = WAYS if self._way is None else (self._way,)
            self._feeder, self._reasons = ways.choose(self, wanted)
        return self._feeder

    def close(self) -> None:
        """Release pinned pages and buffers; the loader allocates them again when it is used."""
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.close()

    # --- iteration --------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        worker = torch_data.get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise RuntimeError(
                f"each of {worker.num_workers} workers would yield all batches: this loader has a "
                "thread of its own, so pass num_workers=0"
            )
        if self.device.type == "cpu":
            for batch in super().__iter__():
                images = torch.from_numpy(batch.images)
                images = images if self.dtype is None else images.to(self.dtype)
                yield mixed(images, self.labels_of(batch), batch.shares)
            return
        feeder = self._feed()
        self._begin()
        for batch in feeder.batches(self.epoch, self._position, self.plan.nbatches(self._position)):
            self._advance()
            yield batch
        self._end()

    def shares(self, epoch: int, position: int) -> NDArray[np.float32] | None:
        """Return what images of the batch at a position keep in mixup; None without mixup."""
        if self.augment is None or not self.augment.mixup:
            return None
        return self.augment.draws(self.plan.positions(position), epoch).shares

    def labels_of(self, batch: Batch) -> Any:
        """Return the labels of a batch as CPU tensors."""
        found = as_tensors(batch, self.options.get("labels"))
        return by_name(found, batch.names) if self.as_dict and found is not None else found


OWN = tuple(
    name
    for name, p in inspect.signature(loader.Loader.__init__).parameters.items()
    if p.kind is inspect.Parameter.KEYWORD_ONLY
)

torch_data.IterableDataset.register(Loader)
