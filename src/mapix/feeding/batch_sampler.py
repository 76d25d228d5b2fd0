"""A batch sampler for PyTorch's DataLoader, in the orders of mapix's loaders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mapix.loader import Plan
from mapix.sampling import Sampling

__all__ = ["BatchSampler"]


class BatchSampler:
    """Yield the record numbers of each batch, as one array.

    PyTorch's own samplers yield an int for each record, which costs more than copying a small one.

    >>> sampler = mapix.torch.BatchSampler(len(data), 256, seed=1)   # doctest: +SKIP
    >>> loader = DataLoader(data, batch_sampler=sampler)             # doctest: +SKIP

    Parameters
    ----------
    n : int
        Records of the dataset, which is indexed with arrays: ``mapix.torch.Dataset``, or a dataset
        that ``mapix.open`` returns.
    batch_size, shuffle, seed, drop_last, rank, world, order
        As for ``mapix.Loader``, whose batches it names.

    Notes
    -----
    Each iteration is the next epoch; ``set_epoch`` chooses one.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        order: Sampling | None = None,
    ) -> None:
        self._plan = Plan(
            n,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world=world,
            sampling=order,
        )
        self.batch_size, self.drop_last = batch_size, drop_last  # what DataLoader and others read
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._plan.nbatches()

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for k in range(len(self)):
            yield self._plan.rows(epoch, k * self._plan.step)
