"""Distances of entries from neurons: best matches, counts, outliers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.colour import palette
from mapix.columns import Column
from mapix.drawing.scaling import drawn
from mapix.options import BatchOptions
from mapix.pink.file import PinkOnSom
from mapix.pink.layout import Header
from mapix.selection import Rows, single
from mapix.source import Source

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Mapping"]

BLOCK_NBYTES = 1 << 20  # distances that are compared at once: they stay in a processor's cache


ROOTS = "square roots of the squared distances that version 1 stores"


class Mapping(PinkOnSom):
    """Distances of entries from the neurons of a SOM, (n, neurons).

    Columns are ``best_match``, the number of the nearest neuron, and ``best_distance``.  Version 1
    stores the squares of distances.  ``view()`` gives the numbers of the file; all other methods
    give distances, unless the file was opened with ``raw=True``.  NaN counts as infinite.

    Attributes
    ----------
    squared : bool
        Whether the file has squares.
    raw : bool
        Whether squares are given as they are.
    """

    def __init__(self, source: Source, header: Header, *, raw: bool = False) -> None:
        super().__init__(source, header, raw=raw)
        self.squared = header.version == 1
        self.raw = raw
        self._matches: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def _record(self, row: int) -> NDArray[Any]:
        """Return the distances of an entry: a view, or roots of squares; both are read-only."""
        if not self._decodes:
            return super()._record(row)
        found = self._root(self._copied(np.array([row]))[0])
        found.flags.writeable = False
        return found

    def _decode(self, made: NDArray[Any]) -> None:
        if self._decodes:
            self._root(made)

    @property
    def _decodes(self) -> bool:
        return self.squared and not self.raw

    @property
    def _aliases(self) -> bool:
        return super()._aliases and not self._decodes

    def _explained(self, row: int) -> dict[str, Any]:
        found = super()._explained(row)
        if self._decodes:
            copied = {"copies_nbytes": self._row_nbytes, "decodes": ROOTS, "swaps": ""}
            found |= {**copied, "how": "a copy of the distances, made under the guard"}
        return found

    def _explained_batch(self, rows: NDArray[np.int64], options: BatchOptions) -> dict[str, Any]:
        decodes = ROOTS if self._decodes else ""
        return super()._explained_batch(rows, options) | {"decodes": decodes}

    def _part(self, rows: Rows) -> Self:
        part = super()._part(rows)
        part._matches = None
        return part

    def _column_names(self) -> tuple[str, ...]:
        return "best_match", "best_distance"

    def _column(self, name: str) -> Column:
        if self._matches is None:
            self._matches = self._best()
        best, distance = self._matches
        present = None if (best >= 0).all() else best >= 0
        if name == "best_match":
            return Column(name, best, present, description="number of the nearest neuron")
        return Column(name, distance, present, description="distance from the nearest neuron")

    @staticmethod
    def _root(made: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # the root of a negative number is NaN
            np.sqrt(made, out=made)
        return made

    def distances(self, *, raw: bool | None = None) -> NDArray[Any]:
        """Return the distances of all entries, (n, neurons): ``view()``, or roots of squares.

        Parameters
        ----------
        raw : bool, optional
            Whether squares stay squares; by default as the file was opened.
        """
        keep = self.raw if raw is None else raw
        if keep or not self.squared:
            return self.view()
        rooted = self._part(self._rows)
        rooted.raw = False
        return rooted.batch(np.arange(self._n)).images

    def best_match(self, index: int | None = None) -> Any:
        """Return the nearest neuron of an entry, or of all.

        Parameters
        ----------
        index : int, optional
            The entry; all by default.

        Returns
        -------
        int, or ndarray
            Number of the neuron, the first of those that are equally near; -1 where all distances
            are NaN or infinite.  Of all entries: int64 (n,).  ``lattice.position`` gives places.
        """
        if index is not None:
            row = single(index, self._n, self.path, "entries")
            near = _numbers(self.batch([row]).images)[0]
            best = int(near.argmin())
            return -1 if math.isinf(near[best]) else best
        return self._best()[0]

    def best_distance(self) -> NDArray[np.float64]:
        """Return the distance of each entry from its nearest neuron, (n,), or infinity."""
        return self._best()[1]

    def _best(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        found, away = np.empty(self._n, np.int64), np.empty(self._n, np.float64)
        end = 0
        for block in self.blocks(BLOCK_NBYTES, reuse=True):
            at, end = end, end + len(block)
            every = np.arange(len(block))
            best = block.argmin(axis=1)  # of a row with NaN: the first NaN
            near = block[every, best]
            if np.isnan(near).any():
                block = _numbers(block)
                best = block.argmin(axis=1)
                near = block[every, best]
            away[at:end] = near
            found[at:end] = np.where(np.isinf(near), -1, best)
        return found, away

    def top_k(
        self, k: int, indices: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the k nearest neurons of entries, nearest first.

        Parameters
        ----------
        k : int
            1 to the number of neurons.
        indices : array_like of int, or a boolean mask, optional
            The entries; all by default.

        Returns
        -------
        tuple of ndarray
            Numbers of neurons, int64 (b, k), -1 where a distance is NaN or infinite; and their
            distances, (b, k), infinite there.
        """
        if not 1 <= k <= self.nneurons:
            raise ValueError(f"k must be 1..{self.nneurons}, got {k}")
        part = self if indices is None else self[np.asarray(indices)]
        dtype = self.dtype.newbyteorder("=") if self.dtype.kind == "f" else np.dtype(np.float64)
        near = np.empty((len(part), k), np.int64)
        away = np.empty((len(part), k), dtype)
        end = 0
        for block in part.blocks(BLOCK_NBYTES, reuse=True):
            at, end = end, end + len(block)
            block = _numbers(block)
            # stable: of neurons that are equally near the first comes first, as in best_match
            ranked = np.argsort(block, axis=1, kind="stable")[:, :k]
            away[at:end] = block.take(ranked + np.arange(len(block))[:, None] * block.shape[1])
            near[at:end] = np.where(np.isinf(away[at:end]), -1, ranked)
        return near, away

    def counts(self) -> NDArray[np.int64]:
        """Return the number of entries that are nearest to each neuron, int64 (neurons,)."""
        best = self.best_match()
        return np.bincount(best[best >= 0], minlength=self.nneurons)

    def heatmap(self) -> NDArray[Any]:
        """Return ``counts()`` by place: ``[q, r]`` of a hexagon, masked outside of it."""
        return self.lattice.dense(self.counts())

    def outliers(self, n: int) -> NDArray[np.int64]:
        """Return the ``n`` entries that are farthest from their nearest neuron, farthest first."""
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        return np.argsort(-self.best_distance(), kind="stable")[:n]

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        """Draw the distances of an entry at the places of the neurons."""
        found = self._image(row)
        placed = None if found is None else self._placed(found.reshape(-1))
        return super()._drawing(row, size) if placed is None else drawn(placed, size, palette())

    def picture(self, values: ArrayLike | None = None, size: int = 48, gap: int = 2) -> Image:
        """Draw the heatmap: a colour at the place of each neuron.

        Parameters
        ----------
        values : array_like, optional
            A number for each neuron; ``counts()`` by default.  NaN is grey.
        size, gap : int
            Pixels of a neuron's height, and between two.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[images]'``.
        """
        from mapix.pink.picture import cells

        return cells(
            self.counts() if values is None else np.asarray(values), self.lattice, size, gap
        )


def _numbers(block: NDArray[Any]) -> NDArray[Any]:
    """Return distances, (b, neurons), with infinity in place of NaN."""
    if block.dtype.kind != "f":
        return block.astype(np.float64)
    np.copyto(block, np.inf, where=np.isnan(block))
    return block
