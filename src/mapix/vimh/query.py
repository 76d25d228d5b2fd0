"""Parts of a dataset: by conditions on labels, in an order, by shares and shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.vimh.expression import evaluate
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


class Query:
    """What ``Dataset`` inherits; all of it gives lazy datasets over the same file."""

    _labels: Labels | None = None

    @property
    def labels(self: Any) -> Labels:
        """Name -> column of labels, read without the images; see ``mapix.vimh.labels.Labels``."""
        if self._labels is None:
            self._labels = Labels(self._gatherer, self.rows)
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
                mask &= self.labels[name].present
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

    def split(self: Any, share: float = 0.8, *, seed: int | None = None) -> tuple[Dataset, Dataset]:
        """Two parts: ``int(share * n)`` records, and the others.

        Parameters
        ----------
        share : float
            0..1.
        seed : int, optional
            Chooses at random, the same way each time; both parts keep the order of the file.
            Without it the first records are the first part, as the original splits.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be 0..1, got {share}")
        n = len(self)
        first = int(share * n)
        if seed is None:
            return self[:first], self[first:]
        chosen = np.zeros(n, bool)
        chosen[np.random.default_rng(seed).permutation(n)[:first]] = True
        return self[chosen], self[~chosen]

    def shard(self: Any, rank: int, world: int) -> Dataset:
        """Every ``world``-th record from number ``rank`` on: for one of ``world`` readers."""
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0..{world - 1}, got {rank}")
        part: Dataset = self[rank::world]
        return part
