"""What there is to know of a whole dataset: its pixels, exactly, and its labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.vimh import index_store
from mapix.vimh.labels import Column
from mapix.vimh.layout import Progress
from mapix.vimh.record_index import Moments

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.gatherer import Gatherer

__all__ = ["ColumnStatistics", "PixelStatistics", "Statistics", "decay_time", "soft_targets"]

STEP_NBYTES = 256 << 20  # looked at between two looks at Ctrl-C
DECAY_RANGE = (-3.0, 1.0)  # log10 of seconds
NO_DECAY = -1.0
DECAY_DB = 60.0  # what a sound has decayed by when it is over
LEAST_COLUMNS = 3  # of a spectrogram, for a line through them


@dataclass(frozen=True, slots=True, eq=False)
class PixelStatistics:
    """The pixels of each channel, exactly: sums are whole numbers.

    Attributes
    ----------
    count : ndarray
        int64 (c,): pixels.
    mean, std : ndarray
        float64 (c,), in bytes 0..255; std is that of all pixels, not of a sample.
    min, max : ndarray
        uint8 (c,); 0 where there are no pixels.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    min: NDArray[np.uint8]
    max: NDArray[np.uint8]

    @classmethod
    def of(cls, moments: NDArray[np.void]) -> PixelStatistics:
        """From the sums that the C core gives, exactly rounded once."""
        rows = [[int(x) for x in m] for m in moments.tolist()]
        means = [s / n if n else math.nan for n, s, *_ in rows]
        # n * squares - sum^2 in whole numbers: the usual formula would cancel
        stds = [math.sqrt(n * q - s * s) / n if n else math.nan for n, s, q, *_ in rows]
        return cls(
            np.array([n for n, *_ in rows], np.int64),
            np.array(means),
            np.array(stds),
            np.array([low if n else 0 for n, _, _, low, _ in rows], np.uint8),
            np.array([high for *_, high in rows], np.uint8),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ColumnStatistics:
    """One label of all records.

    Attributes
    ----------
    name : str
        Of the parameter.
    n, missing : int
        Records that have it, and that lack it.
    min, max, mean, std, median : float
        Physical values; NaN when no record has it.
    unique : ndarray
        float64 (u,): the values that occur, ascending.
    counts : ndarray
        int64 (u,): how often.
    class_counts : ndarray
        int64 (num_classes,).
    """

    name: str
    n: int
    missing: int
    min: float
    max: float
    mean: float
    std: float
    median: float
    unique: NDArray[np.float64]
    counts: NDArray[np.int64]
    class_counts: NDArray[np.int64]

    @classmethod
    def of(cls, column: Column) -> ColumnStatistics:
        """From a column: by counting its 256 codes."""
        by_code = np.bincount(column.codes[column.present], minlength=256)
        values = column.by_code
        order = np.argsort(values, kind="stable")
        unique, first = np.unique(values[order], return_index=True)
        counts = np.add.reduceat(by_code[order], first)
        unique, counts = unique[counts > 0], counts[counts > 0]
        n = int(counts.sum())
        mean = float(unique @ counts) / n if n else math.nan
        spread = float(((unique - mean) ** 2) @ counts) / n if n else math.nan
        classes = np.zeros(column.parameter.num_classes, np.int64)
        np.add.at(classes, column.parameter.class_of(np.arange(256)), by_code)
        return cls(
            name=column.parameter.name,
            n=n,
            missing=len(column) - n,
            min=float(unique[0]) if n else math.nan,
            max=float(unique[-1]) if n else math.nan,
            mean=mean,
            std=math.sqrt(spread) if n else math.nan,
            median=_median(unique, counts),
            unique=unique,
            counts=counts,
            class_counts=classes,
        )

    def histogram(self, bins: int = 10) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts (bins,) and edges (bins + 1,) of the physical values."""
        counts, edges = np.histogram(self.unique, bins, weights=self.counts)
        return counts.astype(np.int64), edges


def _median(unique: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    n = int(counts.sum())
    if not n:
        return math.nan
    behind = np.cumsum(counts)
    low, high = (unique[np.searchsorted(behind, k, side="right")] for k in ((n - 1) // 2, n // 2))
    return float(low + high) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What ``ds.statistics()`` gives: ``pixels``, and ``labels`` by name."""

    n: int
    pixels: PixelStatistics
    labels: Mapping[str, ColumnStatistics]

    def __str__(self) -> str:
        p = self.pixels
        channels = (
            f"  channel {k}: mean {p.mean[k]:.3f}, std {p.std[k]:.3f}, "
            f"{p.min[k]}..{p.max[k]}, {p.count[k]} pixels"
            for k in range(len(p.count))
        )
        heads = (
            f"  {s.name}: {s.min:g}..{s.max:g}, mean {s.mean:.4g}, std {s.std:.4g}, "
            f"{len(s.unique)} values, {s.missing} missing"
            for s in self.labels.values()
        )
        return "\n".join([f"{self.n} records", *channels, *heads])


def statistics(ds: Dataset, progress: Progress | None = None) -> Statistics:
    """``ds.statistics``."""
    labels = {name: ColumnStatistics.of(ds.labels[name]) for name in ds.labels}
    return Statistics(len(ds), PixelStatistics.of(_moments(ds, progress)), labels)


def moments_of(
    file: Gatherer, rows: NDArray[np.int64], progress: Progress | None = None
) -> NDArray[np.void]:
    """Return the sums over the pixels of each channel of records.  Cost: a scan of the pixels."""
    total, n = np.zeros(file.most_channels, _native.MOMENTS), len(rows)
    total["low"] = 255
    each = file.index.nbytes // max(1, file.index.nrecords)
    step = max(1, STEP_NBYTES // max(1, each))
    for at in range(0, n, step):
        part = file.native.moments(file.pixels.mapping, rows[at : at + step], len(total))
        for key in ("count", "sum", "squares"):
            total[key] += part[key]
        total["low"] = np.minimum(total["low"], part["low"])
        total["high"] = np.maximum(total["high"], part["high"])
        if progress is not None:
            progress(min(at + step, n), n)
    return total


def _moments(ds: Dataset, progress: Progress | None) -> NDArray[np.void]:
    """Of a whole file: those of its stored index, or the sums that are kept there from now on."""
    file, n = ds._gatherer, len(ds)
    whole = ds._rows is None
    known = file.index.moments
    if whole and known is not None and known.sound():
        return known.values
    total = moments_of(file, ds.rows, progress)
    if whole and n and file.key is not None:
        file.index = replace(file.index, moments=Moments(total))
        index_store.store(file.source, file.index, file.key)
    return total


# --- what the original computes from labels and images --------------------------------------------


def soft_targets(classes: ArrayLike, num_classes: int, width: float) -> NDArray[np.float32]:
    """Class numbers as distributions: a Gaussian around each class, as regression by classes wants.

    ``exp(-((k - class) / width)**2 / 2)`` over k = 0..num_classes-1, divided by its sum.

    Parameters
    ----------
    classes : array_like
        int (n,); negative ones (missing labels) give rows of zeros.
    num_classes : int
        Of the head.
    width : float
        Standard deviation in classes; 0 gives ones and zeros.

    Returns
    -------
    ndarray
        float32 (n, num_classes), rows summing to 1.
    """
    if not width >= 0:
        raise ValueError(f"width must be 0 or more, got {width}")
    at = np.asarray(classes, np.int64)
    distance = np.arange(num_classes) - at[..., None]
    if width == 0:
        found = (distance == 0).astype(np.float64)
    else:
        found = np.exp(-0.5 * (distance / width) ** 2)
        found /= found.sum(axis=-1, keepdims=True)
    found[at < 0] = 0
    soft: NDArray[np.float32] = found.astype(np.float32)
    return soft


def decay_time(
    image: ArrayLike, duration: float, spec_range: tuple[float, float] | None = (-80.0, 0.0)
) -> float:
    """log10 of the seconds in which the sound of a spectrogram decays by 60 dB.

    A line through the level of the columns, in dB, from the loudest on to the end.

    Parameters
    ----------
    image : array_like
        uint8 (h, w) or (h, w, c): frequency by time; of several channels the first.
    duration : float
        Seconds that the columns cover.
    spec_range : (float, float), optional
        dB of bytes 0 and 255.

    Returns
    -------
    float
        Clipped to -3..1; -1 where nothing decays, or there is too little to tell.
    """
    x = np.asarray(image, np.float64)
    x = x[..., 0] if x.ndim == 3 else x
    low, high = spec_range or (-80.0, 0.0)
    if not (duration > 0 and math.isfinite(low) and math.isfinite(high)):
        return NO_DECAY
    power = np.mean(10 ** ((low + x / 255 * (high - low)) / 10), axis=0)
    level = 10 * np.log10(np.maximum(power, 1e-300))
    tail = level[int(np.argmax(level)) :]
    if len(tail) < LEAST_COLUMNS:
        return NO_DECAY
    seconds = np.arange(len(tail)) * (duration / len(level))
    slope = float(np.polyfit(seconds, tail, 1)[0])  # dB a second
    if slope >= 0 or math.isclose(slope, 0.0, abs_tol=1e-12):
        return NO_DECAY
    return float(np.clip(math.log10(-DECAY_DB / slope), *DECAY_RANGE))


def balanced(columns: list[Column], power: float) -> NDArray[np.float64]:
    """``ds.weights``: 1 / (records of the same classes)**power, scaled; 0 where one is missing."""
    n = len(columns[0])
    group = np.zeros(n, np.int64)
    present = np.ones(n, bool)
    for column in columns:
        classes = column.parameter.class_of(np.arange(256))[column.codes]
        _, group = np.unique(group * column.parameter.num_classes + classes, return_inverse=True)
        present &= column.present
    counts = np.bincount(group[present], minlength=int(group.max(initial=0)) + 1)
    found: NDArray[Any] = np.zeros(n)
    found[present] = 1.0 / counts[group[present]] ** power
    total = found.sum()
    return found * (present.sum() / total) if total else found
