"""Statistics of a dataset: the pixels of each channel, and the columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.columns import Column

if TYPE_CHECKING:
    from mapix.dataset import Dataset

__all__ = ["ColumnStatistics", "PixelStatistics", "Statistics", "statistics"]

REPORT_RECORDS = 256  # records between two calls of progress


@dataclass(frozen=True, slots=True, eq=False)
class PixelStatistics:
    """Statistics of the pixels of each channel; of integers the sums are exact.

    Attributes
    ----------
    count : ndarray
        int64 (c,): pixels.
    mean, std : ndarray
        float64 (c,), in the file's own numbers; std is that of all pixels, not of a sample.
    min, max : ndarray
        float64 (c,), or of the file's integer type; 0 where there are no pixels.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    min: NDArray[Any]
    max: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ColumnStatistics:
    """Statistics of one column.

    Attributes
    ----------
    name : str
        Name of the column.
    n, missing : int
        Records that have a value, and that lack it.
    min, max, mean, std, median : float
        Of numbers; NaN without any, and for other values.
    unique : ndarray
        (u,): the values that occur, ascending.
    counts : ndarray
        int64 (u,): how often each occurs.
    """

    name: str
    n: int
    missing: int
    min: float
    max: float
    mean: float
    std: float
    median: float
    unique: NDArray[Any]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, column: Column) -> ColumnStatistics:
        """Return the statistics of a column."""
        present = np.asarray(column.present)
        values = column.values[present]
        if values.dtype.kind == "O":
            unique, counts = _counted(values)
        else:
            unique, counts = np.unique(values, return_counts=True)
        number = column.numeric and len(values)
        exact = values.astype(np.float64) if number else np.full(1, math.nan)
        return cls(
            name=column.name,
            n=len(values),
            missing=int((~present).sum()),
            min=float(exact.min()),
            max=float(exact.max()),
            mean=float(exact.mean()),
            std=float(exact.std()),
            median=float(np.median(exact)),
            unique=unique,
            counts=counts,
        )

    def histogram(self, bins: int = 10) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return counts (bins,) and edges (bins + 1,) of the values, which are numbers."""
        counts, edges = np.histogram(self.unique.astype(np.float64), bins, weights=self.counts)
        return counts.astype(np.int64), edges


def _counted(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the different values of an array of objects, and how often each occurs."""
    known: dict[Any, int] = {}
    for value in values.tolist():
        known[value] = known.get(value, 0) + 1
    names = sorted(known)
    unique = np.empty(len(names), object)
    unique[:] = names
    return unique, np.array([known[name] for name in names], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What ``ds.statistics()`` returns.

    Attributes
    ----------
    n : int
        Records.
    pixels : PixelStatistics or None
        None where records have no pixels of their own.
    columns : mapping of str to ColumnStatistics
        By name.
    """

    n: int
    pixels: PixelStatistics | None
    columns: Mapping[str, Any]

    def __str__(self) -> str:
        lines = [f"{self.n} records"]
        if (p := self.pixels) is not None:
            lines += [
                f"  channel {k}: mean {p.mean[k]:.3f}, std {p.std[k]:.3f}, "
                f"{p.min[k]:g}..{p.max[k]:g}, {p.count[k]} pixels"
                for k in range(len(p.count))
            ]
        for s in self.columns.values():
            spread = "" if math.isnan(s.mean) else f"{s.min:g}..{s.max:g}, mean {s.mean:.4g}, "
            std = "" if math.isnan(s.std) else f"std {s.std:.4g}, "
            lines.append(f"  {s.name}: {spread}{std}{len(s.unique)} values, {s.missing} missing")
        return "\n".join(lines)


def statistics(
    ds: Dataset[Any], progress: Callable[[int, int], object] | None = None
) -> Statistics:
    """Return the statistics of any dataset: one pass over its images."""
    columns = {name: ColumnStatistics.of(ds.columns[name]) for name in ds.columns}
    return Statistics(len(ds), _pixels(ds, progress), columns)


def _pixels(
    ds: Dataset[Any], progress: Callable[[int, int], object] | None
) -> PixelStatistics | None:
    sums: list[list[Any]] = []  # of each channel: count, sum, sum of squares, min, max
    integers = True
    n = len(ds)
    for i, row in enumerate(ds.rows.tolist()):
        image = ds._image(row)
        if image is None:
            return None
        integers &= image.dtype.kind in "biu"
        planes = [image[..., k] for k in range(image.shape[2])] if image.ndim == 3 else [image]
        while len(sums) < len(planes):
            sums.append([0, 0, 0, math.inf, -math.inf])
        for total, plane in zip(sums, planes, strict=False):
            _add(total, plane)
        if progress is not None and ((i + 1) % REPORT_RECORDS == 0 or i + 1 == n):
            progress(i + 1, n)
    return PixelStatistics(
        np.array([t[0] for t in sums], np.int64),
        np.array([t[1] / t[0] if t[0] else math.nan for t in sums], np.float64),
        np.array([_std(*t[:3]) for t in sums], np.float64),
        np.array([t[3] if t[0] else 0 for t in sums], np.int64 if integers else np.float64),
        np.array([t[4] if t[0] else 0 for t in sums], np.int64 if integers else np.float64),
    )


def _add(total: list[Any], plane: NDArray[Any]) -> None:
    """Add the pixels of a plane; integers up to 32 bits as whole numbers of any size."""
    if not plane.size:
        return
    if plane.dtype.kind in "biu" and plane.dtype.itemsize <= 4:
        wide = plane.astype(np.int64)
        first = int(wide.sum())
        if plane.dtype.itemsize <= 2:
            second = int((wide * wide).sum())
        else:
            second = sum(int(v) * int(v) for v in wide.ravel().tolist())
        low, high = int(wide.min()), int(wide.max())
    else:
        exact = plane.astype(np.float64)
        first, second = float(exact.sum()), float((exact * exact).sum())  # type: ignore[assignment]
        low, high = float(exact.min()), float(exact.max())  # type: ignore[assignment]
    total[0] += plane.size
    total[1] += first
    total[2] += second
    total[3] = min(total[3], low)
    total[4] = max(total[4], high)


def _std(n: int, first: Any, second: Any) -> float:
    """Return the standard deviation: n * squares - sum^2 in whole numbers does not cancel."""
    return math.sqrt(max(n * second - first * first, 0)) / n if n else math.nan
