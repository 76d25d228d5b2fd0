"""The difference of two datasets: records, columns, pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.columns import naming
from mapix.report import report_progress

if TYPE_CHECKING:
    from mapix.columns import Column
    from mapix.dataset import Dataset

__all__ = ["Difference", "difference"]

ROUNDING_ERRORS = 1e-6  # of the arithmetic on floats

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass
class Difference:
    """State what differs between two datasets; records are numbered as in the first one.

    Attributes
    ----------
    by : str
        How records were paired: "name", or "number".
    only_first, only_second : list of int
        Records without a partner, by number in their dataset.
    columns_first, columns_second : list of str
        Columns that only one of them has.
    columns : dict of str to list of int
        Column -> records whose values differ.
    rounded : dict of str to float
        Column -> the most by which storing may have changed its values, for columns of which no
        value differs by more: a format may store one of 256 numbers in place of each.
    shapes, types, pixels : list of int
        Records whose pixels differ in shape, in type, and in numbers.
    largest : float
        The largest difference of two numbers.
    """

    by: str
    only_first: list[int] = field(default_factory=list)
    only_second: list[int] = field(default_factory=list)
    columns_first: list[str] = field(default_factory=list)
    columns_second: list[str] = field(default_factory=list)
    columns: dict[str, list[int]] = field(default_factory=dict)
    rounded: dict[str, float] = field(default_factory=dict)
    shapes: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)
    largest: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not any(value for name, value in vars(self).items() if name != "by")


def difference(
    a: Dataset[Any],
    b: Dataset[Any],
    *,
    pixels: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> Difference:
    """Compare two datasets, of any formats.

    Records are paired by name where both datasets name each record differently, else by number.
    Images (h, w) and (h, w, 1) are equal, and so are numbers of other byte orders.

    Parameters
    ----------
    a, b : Dataset
        The datasets.
    pixels : bool
        Whether pixels are compared, or columns alone.
    progress : callable, optional
        ``progress(records_done, records_total)``.
    """
    found, (ours, theirs) = _paired(a, b)
    found.columns_first = [name for name in a.columns if name not in b.columns]
    found.columns_second = [name for name in b.columns if name not in a.columns]
    for name in a.columns:
        if name in b.columns:
            wrong = _unequal(a.columns[name], ours, b.columns[name], theirs)
            if wrong.any():
                found.columns[name] = ours[wrong].tolist()
                most = _rounding(a.columns[name], ours[wrong], b.columns[name], theirs[wrong])
                found.rounded |= {} if most is None else {name: most}
    if pixels:
        rows_a, rows_b = a._rows_of(ours).tolist(), b._rows_of(theirs).tolist()
        for k, (row_a, row_b) in enumerate(zip(rows_a, rows_b, strict=True)):
            _compare(found, int(ours[k]), a._content(row_a), b._content(row_b))
            report_progress(progress, k + 1, len(rows_a))
    return found


def _paired(a: Dataset[Any], b: Dataset[Any]) -> tuple[Difference, Pairs]:
    """Return a difference with the records that have no partner, and the pairs."""
    names_a, names_b = _names(a), _names(b)
    if names_a is None or names_b is None:
        n = min(len(a), len(b))
        found = Difference("number", list(range(n, len(a))), list(range(n, len(b))))
        both = np.arange(n)
        return found, (both, both)
    pairs = [(i, names_b[name]) for name, i in names_a.items() if name in names_b]
    found = Difference("name")
    found.only_first = [i for name, i in names_a.items() if name not in names_b]
    found.only_second = [i for name, i in names_b.items() if name not in names_a]
    paired = np.array(pairs, np.int64).reshape(-1, 2)
    return found, (paired[:, 0], paired[:, 1])


def _names(ds: Dataset[Any]) -> dict[Any, int] | None:
    """Return name -> record where each record has a name of its own."""
    columns = naming(ds.columns, ds.NAMES)
    if columns is None:
        return None
    names = zip(*(column.values.tolist() for column in columns), strict=True)
    found = {name: i for i, name in enumerate(names)}
    return found if len(found) == len(ds) else None


def _unequal(
    a: Column, ours: NDArray[np.int64], b: Column, theirs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pairs of records have other values, (n,)."""
    there_a, there_b = a.present[ours], b.present[theirs]
    values_a, values_b = a.values[ours], b.values[theirs]
    if values_a.dtype.kind == "O" or values_b.dtype.kind == "O":
        pairs = zip(values_a.tolist(), values_b.tolist(), strict=True)
        other = np.fromiter((x != y for x, y in pairs), np.bool_, len(ours))
    else:
        other = values_a != values_b
        if values_a.dtype.kind == values_b.dtype.kind == "f":
            other &= ~(np.isnan(values_a) & np.isnan(values_b))
    unequal: NDArray[np.bool_] = (there_a != there_b) | (there_a & other)
    return unequal


def _rounding(
    a: Column, ours: NDArray[np.int64], b: Column, theirs: NDArray[np.int64]
) -> float | None:
    """Return the most by which storing may have changed values; None where they differ by more."""
    steps = ((a.rounding(), ours), (b.rounding(), theirs))
    may = [step[rows] for step, rows in steps if step is not None]
    if not may or not (a.numeric and b.numeric):
        return None
    if not (a.present[ours].all() and b.present[theirs].all()):
        return None
    most = np.sum(may, axis=0)
    gap = np.abs(a.values[ours].astype(np.float64) - b.values[theirs].astype(np.float64))
    return float(most.max()) if (gap <= most * (1 + ROUNDING_ERRORS)).all() else None


def _compare(found: Difference, i: int, one: NDArray[Any] | None, two: NDArray[Any] | None) -> None:
    if one is None or two is None:
        if one is not two:
            found.shapes.append(i)
        return
    one, two = (x[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x for x in (one, two))
    if one.dtype.newbyteorder("=") != two.dtype.newbyteorder("="):
        found.types.append(i)
    if one.shape != two.shape:
        found.shapes.append(i)
        return
    if one.dtype.kind in "biuf" and two.dtype.kind in "biuf":
        both_nan = (one != one) & (two != two)
        other = (one != two) & ~both_nan
        if other.any():
            found.pixels.append(i)
            gap = np.abs(one[other].astype(np.float64) - two[other].astype(np.float64))
            found.largest = max(found.largest, float(gap[gap == gap].max(initial=0)))
    elif one.tobytes() != two.tobytes():
        found.pixels.append(i)
