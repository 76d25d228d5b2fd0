"""How far each entry is from each neuron, and what follows from that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.columns import Column
from mapix.pink.file import PinkOnSom
from mapix.pink.layout import Header
from mapix.selection import Rows, single
from mapix.source import Source

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Mapping"]

PASS_NBYTES = 1 << 20  # of distances looked at together: what a processor's cache holds


class Mapping(PinkOnSom):
    """Distances, (n, neurons).

    Version 1 keeps the squares of distances.  ``view()`` is always what the file has; everything
    else gives distances, unless it was opened with ``raw=True``.  A distance that is no number
    counts as infinite.

    Attributes
    ----------
    squared : bool
        Whether the file has squares.
    raw : bool
        Whether they are handed out as they are.
    """

    def __init__(self, source: Source, header: Header, *, raw: bool = False) -> None:
        super().__init__(source, header, raw=raw)
        self.squared = header.version == 1
        self.raw = raw
        self._matches: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def _record(self, row: int) -> NDArray[Any]:
        """Distances of one entry: a view, or, of squares, new numbers that are read-only too."""
        if self.raw or not self.squared:
            return super()._record(row)
        found = self._root(self._copied(np.array([row]))[0])
        found.flags.writeable = False
        return found

    def _decode(self, made: NDArray[Any]) -> None:
        if self.squared and not self.raw:
            self._root(made)

    @property
    def _aliases(self) -> bool:
        return super()._aliases and (self.raw or not self.squared)

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
        with np.errstate(invalid="ignore"):  # of what is below zero it is NaN
            np.sqrt(made, out=made)
        return made

    def distances(self, *, raw: bool | None = None) -> NDArray[Any]:
        """Distances of all entries, (n, neurons): ``view()``, or, of squares, a copy.

        ``raw`` says whether squares stay squares; by default as the file was opened.
        """
        keep = self.raw if raw is None else raw
        if keep or not self.squared:
            return self.view()
        rooted = self._part(self._rows)
        rooted.raw = False
        return rooted.batch(np.arange(self._n)).images

    def best_match(self, index: int | None = None) -> Any:
        """The nearest neuron of an entry, or of all.

        Parameters
        ----------
        index : int, optional
            Which entry.

        Returns
        -------
        int, or ndarray
            Number of the neuron, the first of those that are equally near; -1 where no distance is
            a number.  Of all entries: int64 (n,).  ``lattice.position`` gives their places.
        """
        if index is not None:
            row = single(index, self._n, self.path, "entries")
            near = _numbers(self.batch([row]).images)[0]
            best = int(near.argmin())
            return -1 if math.isinf(near[best]) else best
        return self._best()[0]

    def best_distance(self) -> NDArray[np.float64]:
        """Distance of each entry from its nearest neuron, (n,); infinite where there is none."""
        return self._best()[1]

    def _best(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        found, away = np.empty(self._n, np.int64), np.empty(self._n, np.float64)
        end = 0
        for block in self.blocks(PASS_NBYTES, reuse=True):
            at, end = end, end + len(block)
            every = np.arange(len(block))
            best = block.argmin(axis=1)  # where there is a NaN, that
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
        """The k nearest neurons of entries, nearest first.

        Parameters
        ----------
        k : int
            How many, 1 to the number of neurons.
        indices : array_like of int, or a boolean mask, optional
            Which entries; all by default.

        Returns
        -------
        tuple of ndarray
            Numbers of neurons, int64 (b, k), -1 where a distance is no number; and their
            distances, (b, k), infinite there.
        """
        if not 1 <= k <= self.nneurons:
            raise ValueError(f"k must be 1..{self.nneurons}, got {k}")
        part = self if indices is None else self[np.asarray(indices)]
        dtype = self.dtype.newbyteorder("=") if self.dtype.kind == "f" else np.dtype(np.float64)
        near = np.empty((len(part), k), np.int64)
        away = np.empty((len(part), k), dtype)
        end = 0
        for block in part.blocks(PASS_NBYTES, reuse=True):
            at, end = end, end + len(block)
            block = _numbers(block)
            # stable: of those equally near the first comes first, as best_match has it
            order = np.argsort(block, axis=1, kind="stable")[:, :k]
            away[at:end] = np.take_along_axis(block, order, axis=1)
            near[at:end] = np.where(np.isinf(away[at:end]), -1, order)
        return near, away

    def counts(self) -> NDArray[np.int64]:
        """How many entries are nearest to each neuron, int64 (neurons,)."""
        best = self.best_match()
        return np.bincount(best[best >= 0], minlength=self.nneurons)

    def heatmap(self) -> NDArray[Any]:
        """``counts()`` by place: ``[q, r]`` of a hexagon, masked outside of it."""
        return self.lattice.dense(self.counts())

    def outliers(self, n: int) -> NDArray[np.int64]:
        """The ``n`` entries that are farthest from their nearest neuron, farthest first."""
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        return np.argsort(-self.best_distance(), kind="stable")[:n]

    def picture(self, values: ArrayLike | None = None, size: int = 48, gap: int = 2) -> Image:
        """A colour for each neuron where it lies: the heatmap.

        Parameters
        ----------
        values : array_like, optional
            A number for each neuron; ``counts()`` by default.  Those that are no number are grey.
        size, gap : int
            Pixels of a neuron's height, and between two.

        Returns
        -------
        PIL.Image.Image
            RGB.  Needs Pillow: ``pip install 'mapix[view]'``.
        """
        from mapix.pink.picture import cells

        return cells(
            self.counts() if values is None else np.asarray(values), self.lattice, size, gap
        )


def _numbers(block: NDArray[Any]) -> NDArray[Any]:
    """Distances, (b, neurons), with infinity for what is no number."""
    if block.dtype.kind != "f":
        return block.astype(np.float64)
    np.copyto(block, np.inf, where=np.isnan(block))
    return block
