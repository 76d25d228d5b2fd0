"""The loader for PyTorch: batches as tensors, on the CPU or on a GPU, ahead of their use."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from mapix import loader
from mapix.batch import Batch
from mapix.feeding.labels import as_dict as by_name
from mapix.feeding.labels import as_tensors

__all__ = ["Loader"]

WAYS = ("pages", "pinned", "plain")
DEFAULTS = {"dtype": "float32", "layout": "NCHW", "labels": "class"}


class Loader(loader.Loader):
    """Batches of a dataset as tensors: ``(images, labels)``, on the CPU or on a GPU.

    Parameters
    ----------
    ds : dataset
        What ``mapix.open`` returned, or a part of it.
    batch_size, shuffle, seed, drop_last, rank, world, ahead, copy
        As for ``mapix.Loader``.  Two ways to a GPU, ``pages`` and ``pinned``, have their own number
        of batches ahead: 4,096 records at a time, or 64 MiB.
    device : torch.device or str, optional
        Where the tensors are to be: the CPU by default, ``"cuda"``, ``"cuda:1"``.
    way : {"pages", "pinned", "plain"}, optional
        How records reach a GPU, by default the first that can be taken; ``explain()`` states which
        one and why.

        * ``pages``: the GPU reads the file's own pages.  They are pinned in memory while the
          loader lives.
        * ``pinned``: a thread gathers into pinned buffers, which are copied on a stream of their
          own; bytes become floats on the GPU.
        * ``plain``: a thread gathers, and each batch is copied when it is asked for.
    as_dict : bool
        Labels as a dict of name -> tensor (b,), or as one tensor (b, heads).
    **options
        For ``batch`` of the dataset; ``dtype`` may be ``"bfloat16"`` too.  By default float32 and,
        where the dataset has these options, ``layout="NCHW"`` and ``labels="class"``.

    Notes
    -----
    Lifetime: a batch is written over some time after the next one was asked for, on the GPU in
    the order of the current stream; ``copy=True`` gives each batch memory of its own.  Work on
    another stream than the one that was current when the batch was asked for has to wait for it,
    and has to be waited for.  A file that changed raises FileChangedError, also where the GPU reads
    it.  Each process of a distributed job registers its file for its own GPU.
    """

    def __init__(
        self,
        ds: Any,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        way: str | None = None,
        as_dict: bool = True,
        **options: Any,
    ) -> None:
        names = inspect.signature(ds.batch).parameters
        known = {k: v for k, v in DEFAULTS.items() if k in names}
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
        self._way = way
        self._reasons: list[str] = []
        self._feeder: Any = None

    # --- which way --------------------------------------------------------------------------------

    def explain(self) -> str:
        """How batches reach the device, and why no faster way is taken."""
        if self.device.type == "cpu":
            ahead = f"gathered {self.ahead} batches ahead by a thread"
            return f"cpu: {ahead if self.ahead else 'each batch is gathered when it is asked for'}"
        feeder = self._feed()
        return "\n".join([f"{feeder.way}: {feeder.text}", *self._reasons])

    def _feed(self) -> Any:
        """What brings batches to the GPU; chosen at the first use."""
        if self._feeder is None:
            from mapix.feeding import ways

            wanted = WAYS if self._way is None else (self._way,)
            self._feeder, self._reasons = ways.choose(self, wanted)
        return self._feeder

    def close(self) -> None:
        """Release pinned pages and buffers; the loader makes them again when it is used."""
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.close()

    # --- passes -----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        if self.device.type == "cpu":
            for batch in super().__iter__():
                images = torch.from_numpy(batch.images)
                yield images if self.dtype is None else images.to(self.dtype), self.labels_of(batch)
            return
        feeder = self._feed()
        self._begin()
        for batch in feeder.batches(self.epoch, self._position, self.plan.nbatches(self._position)):
            self._advance()
            yield batch
        self._end()

    def labels_of(self, batch: Batch) -> Any:
        """Labels of a batch as tensors on the CPU."""
        found = as_tensors(batch, self.options.get("labels"))
        return by_name(found, batch.names) if self.as_dict and found is not None else found


OWN = tuple(
    name
    for name, p in inspect.signature(loader.Loader.__init__).parameters.items()
    if p.kind is inspect.Parameter.KEYWORD_ONLY
)
