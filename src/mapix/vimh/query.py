"""Parts of a dataset: by conditions on labels, in an order, by shares and shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.expression import evaluate
from mapix.vimh.labels import Labels

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset

__all__ = ["Query"]


class _Physical(Mapping[str, NDArray[np.float64]]):
    """Name -> physical values; NaN where missing."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self._labels[name].physical.filled(np.nan)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


def _spread(order: NDArray[np.int64], classes: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """An order in which each beginning holds the classes in the shares of the whole, nearly."""
    keys = np.stack(classes, axis=1)[order]
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    by_group = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    rank = np.empty(len(order), np.int64)
    rank[by_group] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    # the k-th of m records of a class stands at (k + 1/2) / m of the way
    return order[np.argsort((rank + 0.5) / counts[group], kind="stable")]


class Query:
    """What ``Dataset`` inherits; all of it gives lazy datasets over the same file."""

    _labels: Labels | None = None

    @property
    def labels(self: Any) -> Labels:
        """Name -> column of labels, read without the images; see ``mapix.vimh.labels.Labels``."""
        if self._labels is None:
            self._labels = Labels(self._gatherer, None if self._rows is None else self.rows)
        found: Labels = self._labels
        return found

    def where(
        self: Any, condition: str | Callable[[Mapping[str, Any]], ArrayLike] | ArrayLike
    ) -> Dataset:
        """The records for which a condition holds, in their order.

        Parameters
        ----------
        condition : str, callable or array_like
            Text in physical units (``"note_number > 51 and velocity <= 81"``): comparisons,
            ``and or not``, ``+ - * / %``, numbers and names.  A record that lacks a label that
            the text names is left out.  Or a callable that gets name -> physical values (NaN where
            missing) and gives a mask; or the mask, bool (n,), or indices.

        Raises
        ------
        ValueError
            The text is not understood, or a mask does not fit.
        """
        if isinstance(condition, str):
            found, names = evaluate(condition, self.labels)
            mask = np.broadcast_to(np.asarray(found, bool), (len(self),)).copy()
            for name in names:
                column = self.labels[name]
                if not column.complete:
                    mask &= column.present
        elif callable(condition):
            mask = np.asarray(condition(_Physical(self.labels)))
        else:
            mask = np.asarray(condition)
        part: Dataset = self[mask]
        return part

    def sort_by(self: Any, name: str, *, descending: bool = False) -> Dataset:
        """The same records ordered by a label; those that are alike keep their order.

        Records that lack the label come last.
        """
        column = self.labels[name]
        values = column.by_code[column.codes]
        key = np.where(column.present, -values if descending else values, np.inf)
        part: Dataset = self[np.argsort(key, kind="stable")]
        return part

    def weights(self: Any, *names: str, power: float = 1.0) -> NDArray[np.float64]:
        """Sampling weights that make classes alike often, float64 (n,), of mean 1.

        Parameters
        ----------
        *names : str
            Heads; with several, each combination of their classes counts as one.  All by default.
        power : float
            1 balances the classes, 0 leaves them as they are, 0.5 is in between.

        Returns
        -------
        ndarray
            1 / (number of records of the same class) ** power, scaled; 0 where a label is missing.
            For ``torch.utils.data.WeightedRandomSampler``, or ``ds.draw``.
        """
        from mapix.vimh.statistics import balanced

        columns = [self.labels[name] for name in names or self.labels]
        if not columns:
            return np.ones(len(self))
        return balanced(columns, power)

    def draw(
        self: Any, n: int, *, weights: ArrayLike | None = None, seed: int | None = None
    ) -> Dataset:
        """Draw records at random, with replacement, with chances in proportion to weights.

        Parameters
        ----------
        n : int
            How many.
        weights : array_like, optional
            (len(self),), not negative; alike by default.  See ``weights``.
        seed : int, optional
            The same seed gives the same records.
        """
        p = None if weights is None else np.asarray(weights, np.float64)
        if p is not None:
            if p.shape != (len(self),) or not (p >= 0).all() or not p.sum() > 0:
                raise ValueError(f"weights must be {len(self)} numbers, none negative, not all 0")
            p = p / p.sum()
        part: Dataset = self[np.random.default_rng(seed).choice(len(self), n, p=p)]
        return part

    def split(
        self: Any,
        share: float = 0.8,
        *,
        seed: int | None = None,
        stratify: str | Sequence[str] | None = None,
    ) -> tuple[Dataset, Dataset]:
        """Two parts: ``int(share * n)`` records, and the others.

        Parameters
        ----------
        share : float
            0..1.
        seed : int, optional
            Chooses at random, the same way each time; both parts keep the order of the file.
            Without it the first records are the first part, as the original splits.
        stratify : str or sequence of str, optional
            Heads whose classes are to have the same shares in both parts, as nearly as whole
            records allow; records without the label are a class of their own.  Needs a seed.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be 0..1, got {share}")
        n = len(self)
        first = int(share * n)
        if seed is None:
            if stratify is not None:
                raise ValueError("stratify needs a seed")
            return self[:first], self[first:]
        chosen = np.zeros(n, bool)
        order = np.random.default_rng(seed).permutation(n)
        if stratify is not None:
            names = [stratify] if isinstance(stratify, str) else list(stratify)
            order = _spread(order, [self.labels[name].classes.filled(-1) for name in names])
        chosen[order[:first]] = True
        return self[chosen], self[~chosen]

    def shard(
        self: Any, rank: int, world: int, *, equal: Literal["drop", "repeat"] | None = None
    ) -> Dataset:
        """Return every ``world``-th record from number ``rank`` on, for one of ``world`` readers.

        Parameters
        ----------
        rank, world : int
            Number of the reader, 0..world-1, and how many readers there are.
        equal : {"drop", "repeat"}, optional
            How all readers get the same number of records, as training that synchronises after
            each batch needs it.  ``"drop"`` leaves the last ``n % world`` records out;
            ``"repeat"`` gives the first ones again.  By default some readers get one record more.

        Raises
        ------
        ValueError
            ``rank`` is out of range, or ``equal`` is another word.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0..{world - 1}, got {rank}")
        n = len(self)
        if equal == "repeat":
            each = -(-n // world)
            again: Dataset = self[np.arange(rank, each * world, world) % max(n, 1)]
            return again
        if equal not in (None, "drop"):
            raise ValueError(f"equal must be drop, repeat or None, got {equal!r}")
        part: Dataset = self[rank : n - n % world if equal else n : world]
        return part
