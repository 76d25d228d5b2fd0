"""The lattice of the neurons of a self-organising map: a rectangle, block or hexagon of cells.

A hexagon of side d is stored row by row: row r has ``d - abs(R - r)`` cells, ``R = (d - 1) / 2``,
from column q = ``max(0, R - r)`` on.  (q, r) are axial coordinates: the six cells around one are
(+-1, 0), (0, +-1), (+1, -1) and (-1, +1) away.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.pink.layout import Layout, hexagonal

__all__ = ["Lattice"]

IntArray = NDArray[np.int64]


class Lattice:
    """Cells, numbered as in a file, and their places.

    Attributes
    ----------
    layout : {"cartesian", "hexagonal"}
        Kind of the lattice.
    shape : tuple of int
        Dimensions; of a hexagon its width and height.
    size : int
        Number of cells.
    """

    def __init__(self, layout: Layout, shape: tuple[int, ...]) -> None:
        self.layout = layout
        self.shape = tuple(shape[:2]) if layout == "hexagonal" else tuple(shape)
        cells = hexagonal(self.shape) if layout == "hexagonal" else math.prod(self.shape)
        if cells is None:
            raise ValueError(f"a hexagon is as wide as high, and odd, not {self.shape}")
        self.size = cells

    @property
    def radius(self) -> int:
        """Rings around the middle of a hexagon."""
        return self.shape[0] // 2

    @cached_property
    def _rows(self) -> tuple[IntArray, IntArray]:
        """First cell of each row of a hexagon (and the end), and the row's first column."""
        r = np.arange(self.shape[0])
        sizes = self.shape[0] - np.abs(self.radius - r)
        return np.concatenate([[0], np.cumsum(sizes)]), np.maximum(0, self.radius - r)

    @cached_property
    def positions(self) -> IntArray:
        """Places of all cells, (n, dimensions); of a hexagon (n, 2): q, r."""
        found = np.stack(np.broadcast_arrays(*self.position(np.arange(self.size))), axis=-1)
        found.flags.writeable = False
        return found

    def position(self, index: ArrayLike) -> tuple[Any, ...]:
        """Return the place of a cell, or of many: an int or array per coordinate (q, r).

        Raises
        ------
        IndexError
            There is no cell of that number.
        """
        at = np.asarray(index)
        if at.dtype.kind not in "iu" and at.size:
            raise TypeError(f"cells are numbered by ints, got {at.dtype}")
        if at.size and (at.min() < 0 or at.max() >= self.size):
            raise IndexError(f"cell {at.min()}..{at.max()} of {self.size}")
        at = at.astype(np.int64)
        if self.layout == "hexagonal":
            starts, first = self._rows
            r = np.searchsorted(starts, at, side="right") - 1
            found: tuple[Any, ...] = (at - starts[r] + first[r], r)
        else:
            found = np.unravel_index(at, self.shape)
        return tuple(int(x) if np.ndim(x) == 0 else x for x in found)

    def index(self, *position: ArrayLike) -> Any:
        """Return the number of the cell at a place, or of many: ``index(q, r)`` of a hexagon.

        Missing coordinates are 0 where the lattice has one cell in their direction.

        Raises
        ------
        IndexError
            There is no cell.
        """
        if all(isinstance(x, int | np.integer) for x in position):
            one = self._one(*position)  # type: ignore[arg-type]
            if one is not None:
                return one
        missing = self.shape[len(position) :]
        if len(position) > len(self.shape) or any(d != 1 for d in missing):
            raise IndexError(f"{len(position)} coordinates, the lattice is {self.shape}")
        given = np.broadcast_arrays(*position, *(0 for _ in missing))
        for x in given:
            if x.dtype.kind not in "iu" and x.size:
                raise TypeError(f"coordinates are ints, got {x.dtype}")
        places = [x.astype(np.int64) for x in given]
        inside = self._inside(places)
        if not np.all(inside):
            bad = tuple(int(x[~inside][0]) if np.ndim(x) else int(x) for x in places)
            raise IndexError(f"no cell at {bad} of a {self.layout} lattice {self.shape}")
        if self.layout == "hexagonal":
            q, r = places
            starts, first = self._rows
            found = starts[r] + q - first[r]
        else:
            found = np.ravel_multi_index(tuple(places), self.shape)
        return int(found) if np.ndim(found) == 0 else found

    def _one(self, *place: int) -> int | None:
        """Return ``index`` of one place of integers, in a tenth of the time; None if outside."""
        if len(place) != len(self.shape) or not all(
            0 <= x < d for x, d in zip(place, self.shape, strict=True)
        ):
            return None
        found = 0
        if self.layout == "cartesian":
            for x, d in zip(place, self.shape, strict=True):
                found = found * d + int(x)
            return found
        (q, r), side, radius = (int(x) for x in place), self.shape[0], self.radius
        if abs(q + r - 2 * radius) > radius:
            return None
        rows = min(r, side - r)  # rows above, or from this one on: their sizes grow by one
        cells = rows * (side - radius) + rows * (rows - 1) // 2
        return (cells if r <= radius else self.size - cells) + q - max(0, radius - r)

    def _inside(self, places: list[IntArray]) -> NDArray[np.bool_]:
        inside = np.ones(places[0].shape, np.bool_)
        for x, d in zip(places, self.shape, strict=True):
            inside &= (x >= 0) & (x < d)
        if self.layout == "hexagonal":
            q, r = places
            inside &= np.abs(q + r - 2 * self.radius) <= self.radius
        return inside

    def distance(self, a: ArrayLike, b: ArrayLike) -> Any:
        """Return the distance between cells, as PINK counts it in training.

        Parameters
        ----------
        a, b : array_like of int
            Numbers of cells; broadcast against one another.

        Returns
        -------
        int or float, or ndarray
            In a hexagon: rings, int64.  Else the Euclidean distance, float64.
        """
        steps = [np.subtract(x, y) for x, y in zip(self.position(a), self.position(b), strict=True)]
        if self.layout == "hexagonal":
            q, r = steps
            found: Any = np.maximum(np.maximum(np.abs(q), np.abs(r)), np.abs(q + r))
            return int(found) if np.ndim(found) == 0 else found
        found = np.sqrt(sum(np.square(x, dtype=np.float64) for x in steps))
        return float(found) if np.ndim(found) == 0 else found

    def neighbours(self, index: int, rings: float = 1) -> IntArray:
        """Return the numbers of the other cells at most ``rings`` away, ascending."""
        away = self.distance(index, np.arange(self.size))
        return np.flatnonzero((away > 0) & (away <= rings))

    @cached_property
    def pairs(self) -> IntArray:
        """Cells that touch, each pair once, (m, 2): first the lower number.

        Cells touch that are 1 away: six around a cell of a hexagon; two in each direction of a
        cartesian lattice.
        """
        numbers = np.full(self.shape, -1, np.int64)
        numbers[tuple(self.positions.T)] = np.arange(self.size)
        if self.layout == "hexagonal":
            steps: list[tuple[int, ...]] = [(1, 0), (0, 1), (-1, 1)]
        else:
            steps = [tuple(row) for row in np.eye(len(self.shape), dtype=np.int64).tolist()]
        found = [np.empty((0, 2), np.int64)]
        for step in steps:
            here = tuple(
                slice(max(0, -k), n - max(0, k)) for k, n in zip(step, self.shape, strict=True)
            )
            there = tuple(
                slice(max(0, k), n - max(0, -k)) for k, n in zip(step, self.shape, strict=True)
            )
            pair = np.stack([numbers[here].reshape(-1), numbers[there].reshape(-1)], axis=1)
            found.append(np.sort(pair[(pair >= 0).all(axis=1)], axis=1))
        touching: IntArray = np.concatenate(found)
        touching.flags.writeable = False
        return touching

    def dense(self, values: ArrayLike) -> NDArray[Any]:
        """Return values of the cells, (n, ...), as an array that is indexed by place.

        Returns
        -------
        ndarray
            Cartesian: ``values`` in the lattice's shape, no copy.  Hexagonal: a masked array
            (d, d, ...) whose ``[q, r]`` is the cell's; masked outside the hexagon, and NaN there
            when of floats.
        """
        array = np.asarray(values)
        if array.shape[:1] != (self.size,):
            raise ValueError(f"values of {self.size} cells expected, got {array.shape}")
        if self.layout == "cartesian":
            return array.reshape(*self.shape, *array.shape[1:])
        blank = np.nan if array.dtype.kind == "f" else 0
        found = np.full((*self.shape, *array.shape[1:]), blank, array.dtype.newbyteorder("="))
        mask = np.ones(found.shape, np.bool_)
        q, r = self.positions.T
        found[q, r], mask[q, r] = array, False
        return np.ma.MaskedArray(found, mask)

    def __repr__(self) -> str:
        dims = " x ".join(map(str, self.shape))
        return f"<mapix.pink.Lattice {self.layout} {dims}: {self.size} cells>"
