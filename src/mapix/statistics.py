"""Statistics of a dataset: the pixels of each channel, and the columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import zip_longest
from operator import or_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from mapix.columns import Column, merged_counts
from mapix.plans import Map, over
from mapix.report import report_progress
from mapix.text import counted, plain_line, printable

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from mapix.dataset import Dataset

__all__ = [
    "ColumnStatistics",
    "PixelStatistics",
    "Statistics",
    "Sums",
    "column_statistics",
    "columns_of_all",
    "of_all",
    "statistics",
    "summed",
    "sums_of",
]

MOST_BARS = 32  # of a plot
MOST_NAMES = 8  # of columns that ``repr`` lists
STEP = 1 << 15  # integers that are squared at once: their squares stay in the processor's cache

Progress = Callable[[int, int], object]


Sum: TypeAlias = "int | Fraction | float"


class Sums(NamedTuple):
    """Sums over the pixels of one channel, which do not depend on the order of the records.

    Of integers they are exact.  Of floats, those of one record are rounded, and the sum of the
    records' sums is exact; where it is not finite, it is a float.
    """

    n: int = 0
    total: Sum = 0
    squares: Sum = 0
    low: float = math.inf
    high: float = -math.inf

    def __or__(self, other: Sums) -> Sums:
        """Return the sums over the pixels of both."""
        return Sums(
            *(self.n + other.n, _plus(self.total, other.total), _plus(self.squares, other.squares)),
            *(min(self.low, other.low), max(self.high, other.high)),
        )


def _plus(a: Sum, b: Sum) -> Sum:
    """Return the sum of two; one that is not finite stays as it is."""
    if isinstance(a, float) and not math.isfinite(a):
        return a + b if isinstance(b, float) else a
    return b if isinstance(b, float) and not math.isfinite(b) else a + b


@dataclass(frozen=True, slots=True, eq=False)
class PixelStatistics:
    """Statistics of the pixels of each channel; of integers they are exact, rounded once.

    Attributes
    ----------
    count : ndarray
        int64 (c,): pixels.
    mean, std : ndarray
        float64 (c,), in the file's own numbers; std is that of all pixels, not of a sample.
    min, max : ndarray
        (c,), int64 of integers, else float64; 0 where there are no pixels.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    min: NDArray[Any]
    max: NDArray[Any]
    _sums: tuple[Sums, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        channels = [f"{self.min[k]:g}..{self.max[k]:g}" for k in range(min(len(self.count), 4))]
        more = ", ..." if len(self.count) > len(channels) else ""
        n, pixels = len(self.count), int(self.count.sum())
        what = f"{counted(n, 'channel')}, {counted(pixels, 'pixel')}"
        return f"<PixelStatistics: {what}, {', '.join(channels)}{more}>"

    @classmethod
    def of(cls, channels: Sequence[Sums]) -> PixelStatistics:
        """Return the statistics of channels."""
        integers = all(isinstance(s.low, int) for s in channels if s.n)
        kind = np.int64 if integers else np.float64
        return cls(
            np.array([s.n for s in channels], np.int64),
            np.array([_float(s.total, s.n) for s in channels], np.float64),
            np.array([_std(s) for s in channels], np.float64),
            np.array([s.low if s.n else 0 for s in channels], kind),
            np.array([s.high if s.n else 0 for s in channels], kind),
            tuple(channels),
        )


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
    class_counts : ndarray or None
        int64 (classes,): records of each class; None where the values are not classes.
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
    class_counts: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        return f"<ColumnStatistics {printable(self.name)}: {self._text()}>"

    def _text(self) -> str:
        spread = ""
        if self._numeric:
            spread = f"{self.min:g}..{self.max:g}, mean {self.mean:.4g}, std {self.std:.4g}, "
        return f"{spread}{counted(len(self.unique), 'distinct value')}, {self.missing:,} missing"

    @classmethod
    def of(cls, column: Column) -> ColumnStatistics:
        """Return the statistics of a column."""
        unique, counts = column.counts()
        missing = len(column) - int(counts.sum())
        return cls._counted(column.name, missing, unique, counts, column.class_counts())

    @classmethod
    def _counted(
        cls,
        name: str,
        missing: int,
        unique: NDArray[Any],
        counts: NDArray[np.int64],
        classes: NDArray[np.int64] | None,
    ) -> ColumnStatistics:
        n = int(counts.sum())
        if unique.dtype.kind in "biuf" and n:
            exact = unique.astype(np.float64)
            mean = _fsum(exact * counts) / n
            spread = _fsum((exact - mean) ** 2 * counts) / n
            ends = np.cumsum(counts)
            middle = (exact[np.searchsorted(ends, k, side="right")] for k in ((n - 1) // 2, n // 2))
            numbers = float(exact[0]), float(exact[-1]), mean, math.sqrt(spread), sum(middle) / 2
        else:
            numbers = (math.nan,) * 5
        return cls(name, n, missing, *numbers, unique, counts, classes)

    @classmethod
    def merge(cls, parts: Sequence[ColumnStatistics]) -> ColumnStatistics:
        """Return the statistics of a column of which these are of parts, at least one."""
        unique, counts = merged_counts([(s.unique, s.counts) for s in parts])
        known = [s.class_counts for s in parts if s.class_counts is not None]
        classes = None
        if known:
            rows = zip_longest(*(c.tolist() for c in known), fillvalue=0)
            classes = np.array([sum(row) for row in rows], np.int64)
        missing = sum(s.missing for s in parts)
        return cls._counted(parts[0].name, missing, unique, counts, classes)

    def histogram(self, bins: int = 10) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return counts (bins,) and edges (bins + 1,) of the values, which are numbers."""
        counts, edges = np.histogram(self.unique.astype(np.float64), bins, weights=self.counts)
        return counts.astype(np.int64), edges

    def bars(self, most: int) -> tuple[list[int], list[str]]:
        """Return heights and names of at most so many bars, for plots.

        Each value has a bar; of numbers that are too many, each bin of a histogram, which is named
        by its lower edge; of other values the most frequent ones.
        """
        if len(self.unique) <= most:
            names = [f"{v:g}" if self._numeric else str(v) for v in self.unique.tolist()]
            return self.counts.tolist(), names
        if self._numeric:
            found, edges = self.histogram(most)
            return found.tolist(), [f"{edge:g}" for edge in edges[:-1]]
        order = np.argsort(-self.counts, kind="stable")[:most]
        return self.counts[order].tolist(), [str(v) for v in self.unique[order].tolist()]

    @property
    def _numeric(self) -> bool:
        return not math.isnan(self.mean)


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Result of ``ds.statistics()``.

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
    columns: Mapping[str, ColumnStatistics]

    @property
    def labels(self) -> Mapping[str, ColumnStatistics]:
        """The same as ``columns``."""
        return self.columns

    @classmethod
    def merge(cls, parts: Iterable[Statistics]) -> Statistics:
        """Return the statistics of a dataset from those of its parts, in any order.

        They are those of ``ds.statistics()``, bit for bit, where each part has the columns of the
        dataset with the same types; a column that a part lacks is missing in all of its records.

        Raises
        ------
        ValueError
            There are no parts.
        """
        every = list(parts)
        if not every:
            raise ValueError("statistics of at least one part are needed")
        sums = of_all(None if s.pixels is None else s.pixels._sums for s in every)
        pixels = None if sums is None else PixelStatistics.of(sums)
        n = sum(s.n for s in every)
        return cls(n, pixels, columns_of_all([(s.n, s.columns) for s in every]))

    def __str__(self) -> str:
        lines = [counted(self.n, "record")]
        if (p := self.pixels) is not None:
            lines += [
                f"  channel {k}: mean {p.mean[k]:.3f}, std {p.std[k]:.3f}, "
                f"{p.min[k]:g}..{p.max[k]:g}, {counted(p.count[k], 'pixel')}"
                for k in range(len(p.count))
            ]
        lines += [f"  {s.name}: {s._text()}" for s in self.columns.values()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        lines = [f"<Statistics of {counted(self.n, 'record')}"]
        if self.pixels is not None:
            lines.append(repr(self.pixels)[1:-1])
        if self.columns:
            names = [printable(name) for name in self.columns]
            more = f", {len(names) - MOST_NAMES} others" if len(names) > MOST_NAMES else ""
            lines.append(f"columns: {', '.join(names[:MOST_NAMES])}{more}")
        return "\n ".join(lines) + ">"

    def _repr_html_(self) -> str:
        from mapix.notebook import statistics_html

        return statistics_html(self)

    def plot(self, *names: str) -> Any:
        """Draw how often the values of columns occur.

        Parameters
        ----------
        *names : str
            The columns; by default all.

        Returns
        -------
        matplotlib.figure.Figure
            A plot of bars for each column.  Needs matplotlib: ``pip install 'mapix[view]'``.
            Notebooks show it; elsewhere ``figure.savefig(path)`` writes it.

        Raises
        ------
        UnsupportedError
            There are no columns, or matplotlib is not installed.
        KeyError
            There is no column of a name.
        """
        from mapix.errors import UnsupportedError
        from mapix.optional import library

        chosen = [self.columns[name] for name in names or self.columns]
        if not chosen:
            raise UnsupportedError("there are no columns to plot")
        pyplot = library("matplotlib.pyplot", "view")
        across = math.ceil(math.sqrt(len(chosen)))
        down = -(-len(chosen) // across)
        figure, axes = pyplot.subplots(
            down, across, figsize=(4 * across, 2.6 * down), squeeze=False, layout="constrained"
        )
        pyplot.close(figure)  # a notebook shows what a cell returns, and would show it twice
        for axis, s in zip(axes.ravel(), chosen, strict=False):
            if s._numeric:
                wide = np.diff(s.unique).min() if 1 < len(s.unique) <= MOST_BARS else None
                if wide is None and len(s.unique) > 1:
                    counts, edges = s.histogram(MOST_BARS)
                    axis.bar(edges[:-1], counts, np.diff(edges), align="edge")
                else:
                    axis.bar(s.unique, s.counts, 0.8 * (wide or 1))
            else:
                heights, labels = s.bars(MOST_BARS)
                axis.bar(range(len(heights)), heights)
                shown = [plain_line(label, 12).replace("$", r"\$") for label in labels]
                axis.set_xticks(range(len(heights)), shown, rotation=90)
            axis.set_title(printable(s.name).replace("$", r"\$"))
        for axis in axes.ravel()[len(chosen) :]:
            axis.set_visible(False)
        return figure


def statistics(
    ds: Dataset[Any], progress: Progress | None = None, map: Map | None = None
) -> Statistics:
    """Return the statistics of any dataset: one scan of its images."""
    sums = ds._stored_sums()
    if sums is None:
        sums = of_all(over(ds, _pixel_sums, map=map, progress=progress))
    pixels = None if sums is None else PixelStatistics.of(sums)
    return Statistics(len(ds), pixels, ds._column_statistics(map))


def _pixel_sums(part: Dataset[Any], progress: Progress | None) -> list[Sums] | None:
    found = part._pixel_sums(progress)
    return [] if found is None and not len(part) else found


def column_statistics(ds: Dataset[Any]) -> dict[str, ColumnStatistics]:
    """Return the statistics of all columns of a dataset."""
    return {name: ColumnStatistics.of(column) for name, column in ds.columns.items()}


def of_all(parts: Iterable[Sequence[Sums] | None]) -> list[Sums] | None:
    """Return the sums of all channels of parts; None where records of a part have no pixels."""
    known: list[Sequence[Sums]] = []
    for sums in parts:
        if sums is None:
            return None
        known.append(sums)
    return [reduce(or_, some) for some in zip_longest(*known, fillvalue=Sums())]


def columns_of_all(
    parts: Sequence[tuple[int, Mapping[str, ColumnStatistics]]],
) -> dict[str, ColumnStatistics]:
    """Return the statistics of columns of parts of n records each."""
    found = {}
    for name in dict.fromkeys(name for _, columns in parts for name in columns):
        some = [columns[name] for _, columns in parts if name in columns]
        lacking = sum(n for n, columns in parts if name not in columns)
        merged = ColumnStatistics.merge(some)
        found[name] = replace(merged, missing=merged.missing + lacking) if lacking else merged
    return found


def summed(
    images: Iterable[NDArray[Any] | None], n: int, progress: Progress | None = None
) -> list[Sums] | None:
    """Return the sums of the channels of n images; None where records have no images."""
    channels: list[Sums] = []
    for i, image in enumerate(images):
        if image is None:
            return None
        planes = [image[..., k] for k in range(image.shape[2])] if image.ndim == 3 else [image]
        channels += [Sums()] * (len(planes) - len(channels))
        for k, plane in enumerate(planes):
            channels[k] |= sums_of(plane[None])
        report_progress(progress, i + 1, n)
    return channels


def sums_of(records: NDArray[Any]) -> Sums:
    """Return the sums of one channel of records, (k, ...).

    Of integers up to 32 bits they are whole numbers of any size.  Of other numbers each record is
    summed as float64, in an order that depends on its shape alone.
    """
    if not records.size:
        return Sums()
    if records.dtype.kind not in "biu" or records.dtype.itemsize > 4:
        flat = np.ascontiguousarray(records.reshape(len(records), -1), np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite sums are results
            total, squares = (_exact(x.sum(axis=1)) for x in (flat, flat * flat))
        return Sums(records.size, total, squares, float(flat.min()), float(flat.max()))
    flat = records.reshape(-1)
    return reduce(or_, (_whole(flat[at : at + STEP]) for at in range(0, flat.size, STEP)))


def _whole(values: NDArray[Any]) -> Sums:
    """Return the sums of integers of up to 32 bits, (n,), at most ``STEP`` of them."""
    wide = values.astype(np.int64)
    if values.dtype.itemsize <= 2:
        squares = int(wide @ wide)
    else:  # squares of 32 bits, added up, exceed 64
        high, low = wide >> 16, wide & 0xFFFF
        parts = (int(a @ b) for a, b in ((high, high), (high, low), (low, low)))
        squares = sum(part << shift for part, shift in zip(parts, (32, 17, 0), strict=True))
    return Sums(values.size, int(wide.sum()), squares, int(values.min()), int(values.max()))


def _exact(values: NDArray[np.float64]) -> Sum:
    """Return the exact sum of floats; a float where it is not finite."""
    from fractions import Fraction  # here: it imports decimal, and arrays import this module

    if not np.isfinite(values).all():
        return float(values.sum())
    left, parts = values.tolist(), []
    try:
        while part := math.fsum(left):  # the sum, rounded, then what rounding left
            parts.append(part)
            left.append(-part)
    except OverflowError:
        return sum(map(Fraction, values.tolist()), Fraction())
    return sum(map(Fraction, parts), Fraction())


def _fsum(values: NDArray[np.float64]) -> float:
    """Return the sum of floats, rounded once, so that it does not depend on their order."""
    try:
        return math.fsum(values.tolist())
    except (OverflowError, ValueError):  # not finite
        return float(values.sum())


def _float(number: Sum, divisor: int) -> float:
    if not divisor:
        return math.nan
    try:
        return float(number / divisor)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _std(s: Sums) -> float:
    """Return the standard deviation: n * squares - sum^2 is exact, so it does not cancel."""
    n = s.n
    if not n:
        return math.nan
    spread = _plus(n * s.squares, -s.total * s.total)
    return math.sqrt(max(_float(spread, 1), 0)) / n
