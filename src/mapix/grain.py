"""Sources of data for Grain: records, or complete batches.

>>> from mapix.grain import Batches                                          # doctest: +SKIP
>>> batches = grain.MapDataset.source(Batches(ds, 256, epochs=10))           # doctest: +SKIP
>>> for batch in batches.to_iter_dataset():                                  # doctest: +SKIP
...     train(batch["images"], batch["label"])

Importing this module does not import Grain: its sources are any objects that have a length and are
indexed by numbers.
"""

from __future__ import annotations

import operator
from typing import Any

from mapix.dataset import Dataset
from mapix.loader import Plan
from mapix.sampling import Sampling
from mapix.selection import single

__all__ = ["Batches", "Records"]


class Records:
    """The records of a dataset, one by one.

    ``source[i]`` is a dict: ``image``, as ``ds.batch`` makes it, and each label by its name.
    Pickles as the dataset does: each worker process opens the file itself.

    Parameters
    ----------
    ds : mapix.Dataset
        A dataset, or a part of one.
    **options
        Options of ``ds.batch``.

    Notes
    -----
    Copies: each image once.  Cost: a call of ``batch`` per record; ``Batches`` is far faster.
    """

    def __init__(self, ds: Dataset[Any], **options: Any) -> None:
        self.dataset, self.options = ds, options
        ds.batch([], **options)  # raises errors of wrong options here, not in a worker

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.dataset.batch([operator.index(index)], **self.options)
        labels = {name: values[0] for name, (values, _) in batch.labels_by_name().items()}
        return {"image": batch.images[0], **labels}

    def __repr__(self) -> str:  # Grain compares it when it restores a state
        return f"mapix.grain.Records({_named(self.dataset)}, {self.options})"


class Batches:
    """The batches of ``mapix.Loader``, by number: an element is a complete batch.

    Element ``i`` is batch ``i % n`` of epoch ``i // n`` of an order without a table, n being the
    batches per epoch; so Grain resumes, skips and shares them among processes at no cost.  It is a
    dict: ``images``, each label by its name, and ``rows``, the record numbers, int64 (b,).

    Parameters
    ----------
    ds : mapix.Dataset
        A dataset, or a part of one.
    batch_size : int
        Records per batch.
    epochs : int
        Epochs that the source holds; each has its own order.
    shuffle, seed, drop_last, rank, world, order
        As for ``mapix.Loader``.
    **options
        Options of ``ds.batch``.

    Notes
    -----
    Copies: each image once, into arrays of its own.  Pickles as the dataset does.
    """

    def __init__(
        self,
        ds: Dataset[Any],
        batch_size: int,
        *,
        epochs: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        order: Sampling | None = None,
        **options: Any,
    ) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        self.dataset, self.epochs, self.options = ds, epochs, options
        self.plan = Plan(
            len(ds),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world=world,
            sampling=order,
        )
        ds.batch([], **options)  # raises errors of wrong options here, not in a worker

    def __len__(self) -> int:
        return self.plan.nbatches() * self.epochs

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = single(index, len(self), self.dataset.path, "batches")
        epoch, k = divmod(number, self.plan.nbatches())
        rows = self.plan.rows(epoch, k * self.plan.step)
        batch = self.dataset.batch(rows, **self.options)
        labels = {name: values for name, (values, _) in batch.labels_by_name().items()}
        return {"images": batch.images, **labels, "rows": rows}

    def __repr__(self) -> str:  # Grain compares it when it restores a state
        plan = self.plan
        order = "" if plan.sampling is None else f", order {plan.sampling.digest()}"
        return (
            f"mapix.grain.Batches({_named(self.dataset)}, {plan.batch_size}, epochs={self.epochs}, "
            f"shuffle={plan.shuffle}, seed={plan.seed}, drop_last={plan.drop_last}, "
            f"rank={plan.rank}, world={plan.world}{order}, {self.options})"
        )


def _named(ds: Dataset[Any]) -> str:
    return f"{ds.FAMILY}, {len(ds)} records"
