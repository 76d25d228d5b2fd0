"""Orders of the records of an epoch, other than a plain shuffle.

Each order is a function of numbers: a seed gives the same records on every machine, and any
position is computed without those before it.  So every order can be resumed
and divided among ranks.

>>> loader = mapix.Loader(ds, 256, order=Stratified(ds, "label"))            # doctest: +SKIP
"""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix import _native
from mapix.selection import distinct

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mapix.dataset import Dataset

__all__ = ["Blocks", "Bucketed", "Sampling", "Stratified", "Weighted", "random_words", "spread"]

IntArray: TypeAlias = "NDArray[np.int64]"
MASK = (1 << 64) - 1
CHANCE_BITS = 53  # what weights are rounded to: 2**-53 of their sum
BLOCK_NBYTES = 256 << 10  # of records that are read together
WINDOW_NBYTES = 256 << 20  # of records that are shuffled together
BUCKET_STEPS = 8  # steps whose records are shuffled among one another


class Sampling(abc.ABC):
    """Records by position.

    Attributes
    ----------
    n : int
        Positions of an epoch.
    """

    n: int

    @abc.abstractmethod
    def records(self, key: int, positions: IntArray) -> IntArray:
        """Return the records at positions 0..n-1 of the epoch that ``key`` names, int64."""

    @abc.abstractmethod
    def digest(self) -> int:
        """Return a number for all that the order depends on, for the state of a loader."""

    def soon(self, key: int, positions: IntArray) -> IntArray:
        """Return records to ask the disk for while those at ``positions`` are gathered, int64.

        By default none: a loader asks for the batches that come next.
        """
        del key, positions
        return np.empty(0, np.int64)

    def explain(self) -> str:
        """Return a line that describes the order, for ``explain`` of a loader."""
        return f"{type(self).__name__} of {self.n} records"


def ranks(classes: IntArray) -> IntArray:
    """Return how many records of its class stand before each record, int64 (n,)."""
    counts = np.bincount(classes)
    found = np.empty(len(classes), np.int64)
    begins = np.repeat(np.cumsum(counts) - counts, counts)
    found[np.argsort(classes, kind="stable")] = np.arange(len(classes)) - begins
    return found


def spread(classes: IntArray) -> IntArray:
    """Return an order in which each beginning holds the classes in the shares of all records.

    The k-th of m records of a class stands at (k + 1/2) / m of the way.

    Parameters
    ----------
    classes : ndarray
        int64 (n,), 0 or more.
    """
    places = (ranks(classes) + 0.5) / np.bincount(classes)[classes]
    return np.argsort(places, kind="stable")


def permuted(n: int, key: int, positions: IntArray) -> IntArray:
    """Return what a random order of 0..n-1 has at positions."""
    return _native.permute_at(n, key & MASK, positions)


def random_words(key: int, positions: IntArray) -> NDArray[np.uint64]:
    """Return a random number of 64 bits for each position: the finaliser of SplitMix64."""
    with np.errstate(over="ignore"):
        k = (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        k += np.uint64(key & MASK)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            k = (k ^ k >> np.uint64(shift)) * np.uint64(factor)
    return k ^ k >> np.uint64(31)


def _sum(*parts: Any) -> int:
    """Return the CRC of numbers and arrays."""
    import zlib

    crc = 0
    for part in parts:
        crc = zlib.crc32(np.ascontiguousarray(part).tobytes(), crc)
    return crc


class Weighted(Sampling):
    """Records at random, with replacement, with chances in proportion to weights.

    Parameters
    ----------
    weights : array_like
        (records,), not negative, not all 0: ``ds.weights("label")`` balances classes.
    n : int, optional
        Positions of an epoch; by default as many as there are records.

    Notes
    -----
    Chances are exact to 2**-53 of the sum.  Memory: 8 bytes per record.
    """

    def __init__(self, weights: ArrayLike, n: int | None = None) -> None:
        chances = np.asarray(weights, np.float64)
        if chances.ndim != 1 or not (np.isfinite(chances) & (chances >= 0)).all():
            raise ValueError("weights must be a 1-D array of finite numbers, none negative")
        total = math.fsum(chances.tolist())  # the same on every machine, unlike a sum by SIMD
        if not total > 0:
            raise ValueError("weights must not all be 0")
        self.n = len(chances) if n is None else n
        shares = np.rint(chances / total * 2.0**CHANCE_BITS).astype(np.int64)
        # what rounding left over goes to the largest, so that the sum is a power of two
        shares[int(np.argmax(shares))] += (1 << CHANCE_BITS) - int(shares.sum())
        self._ends = np.cumsum(shares)

    def records(self, key: int, positions: IntArray) -> IntArray:
        """See ``Sampling``."""
        drawn = random_words(key, positions) >> np.uint64(64 - CHANCE_BITS)
        return np.searchsorted(self._ends, drawn.astype(np.int64), side="right").astype(np.int64)

    def digest(self) -> int:
        """See ``Sampling``."""
        return _sum(self.n, self._ends)


class Stratified(Sampling):
    """Take each record once, with about the same shares of the classes in each batch.

    Parameters
    ----------
    ds : Dataset, or array_like of int
        The dataset; or the class of each record, int (n,).
    *names : str
        Columns whose classes count, in combination.

    Notes
    -----
    Records without a value are a class of their own.  Memory: 24 bytes per record.
    """

    def __init__(self, ds: Dataset[Any] | ArrayLike, *names: str) -> None:
        if names:
            keys = np.stack([ds.columns[name].groups() for name in names], axis=1)  # type: ignore[union-attr]
            classes = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
        else:
            classes = np.unique(np.asarray(ds), return_inverse=True)[1].reshape(-1)
        self.n = len(classes)
        self._members = np.argsort(classes, kind="stable")  # records, class after class
        self._counts = np.bincount(classes)
        self._begins = np.cumsum(self._counts) - self._counts
        of = np.repeat(np.arange(len(self._counts)), self._counts)
        line = spread(of)
        # in order of classes, a record's rank is how far it stands from the first of its class
        self._class, self._rank = of[line].astype(np.int32), line - self._begins[of[line]]

    def records(self, key: int, positions: IntArray) -> IntArray:
        """See ``Sampling``."""
        of, rank = self._class[positions], self._rank[positions]
        found = np.empty(len(positions), np.int64)
        for c in distinct(of).tolist():
            at = np.flatnonzero(of == c)
            inner = permuted(int(self._counts[c]), key + 1 + c, rank[at])
            found[at] = self._members[self._begins[c] + inner]
        return found

    def digest(self) -> int:
        """See ``Sampling``."""
        return _sum(self.n, self._members, self._counts)


class Bucketed(Sampling):
    """Each record once, with records of similar size in one batch: less padding.

    Parameters
    ----------
    sizes : array_like
        (n,) numbers: what a record counts for, such as the larger side, or height times width.
    step : int
        Records that all ranks take together: batch size times number of ranks.

    Notes
    -----
    Records of 8 steps that follow one another by size are shuffled among one another, and so are
    the steps.  Memory: 16 bytes per record.
    """

    def __init__(self, sizes: ArrayLike, step: int) -> None:
        if step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        self._sizes = np.asarray(sizes)
        self._line = np.argsort(self._sizes, kind="stable").astype(np.int64)
        self.n, self._step = len(self._line), step
        self._waste: float | None = None

    @property
    def waste(self) -> float:
        """Padding per unit of ``sizes``, if each step is padded to its largest record.

        0.05 means that 5 % is added.  It is that of the order with key 0; other epochs differ
        little.  Computed once, in some 50 ns per record.
        """
        if self._waste is None:
            line = self._sizes[self.records(0, np.arange(self.n, dtype=np.int64))]
            begins = np.arange(0, self.n, self._step)
            counts = np.diff(begins, append=self.n)
            padded = float((np.maximum.reduceat(line, begins) * counts).sum()) if self.n else 0.0
            total = float(line.sum(dtype=np.float64))
            self._waste = padded / total - 1 if total else 0.0
        return self._waste

    def explain(self) -> str:
        """See ``Sampling``."""
        return f"{super().explain()}; padding adds {self.waste:.1%} to their sizes"

    def records(self, key: int, positions: IntArray) -> IntArray:
        """See ``Sampling``."""
        step, nsteps = self._step, self.n // self._step
        at = positions.copy()
        full = positions < nsteps * step
        if full.any():
            which = permuted(nsteps, key, positions[full] // step)
            at[full] = which * step + positions[full] % step
        window = step * BUCKET_STEPS
        for w in distinct(at // window).tolist():
            here = np.flatnonzero(at // window == w)
            begin = w * window
            size = min(window, self.n - begin)
            at[here] = begin + permuted(size, key + 1 + w, at[here] - begin)
        return self._line[at]

    def digest(self) -> int:
        """See ``Sampling``."""
        return _sum(self.n, self._step, self._line)


class Blocks(Sampling):
    """Each record once: blocks of neighbours in a random order, shuffled within windows of blocks.

    For files larger than memory: each page of the file is read once per epoch.  The order is less
    random than a shuffle, since records of one block lie in one window.

    Parameters
    ----------
    n : int
        Records.
    block : int
        Records of a block, which are read together.
    window : int
        Blocks of a window: what has to fit in memory.
    """

    def __init__(self, n: int, block: int, window: int) -> None:
        if block < 1 or window < 1:
            raise ValueError(f"block and window must be at least 1, got {block} and {window}")
        self.n, self._block, self._window = n, min(block, max(n, 1)), window

    @classmethod
    def of(
        cls,
        ds: Dataset[Any],
        window_nbytes: int = WINDOW_NBYTES,
        block_nbytes: int = BLOCK_NBYTES,
    ) -> Blocks:
        """Return an order for a file: blocks of 256 KiB, windows of 256 MiB.

        Parameters
        ----------
        ds : Dataset
            A complete file, or several.
        window_nbytes, block_nbytes : int
            Bytes of a window and of a block.
        """
        nbytes = ds._total_size()
        each = max(1, nbytes // max(1, len(ds)))
        block = max(1, block_nbytes // each)
        return cls(len(ds), block, max(2, window_nbytes // (block * each)))

    def records(self, key: int, positions: IntArray) -> IntArray:
        """See ``Sampling``."""
        n, block = self.n, self._block
        nblocks = n // block
        at = positions.copy()
        full = positions < nblocks * block
        window = block * self._window
        for w in distinct(positions[full] // window).tolist():
            here = np.flatnonzero(full & (positions // window == w))
            begin = w * window
            size = min(window, nblocks * block - begin)
            at[here] = begin + permuted(size, key + 1 + w, positions[here] - begin)
        return self._in_blocks(key, at)

    def _in_blocks(self, key: int, at: IntArray) -> IntArray:
        """Return records of blocks in random order, not yet shuffled among one another."""
        n, block = self.n, self._block
        nblocks = n // block
        found = at.copy()
        full = at < nblocks * block
        which, inner = np.divmod(at[full], block)
        found[full] = permuted(nblocks, key, which) * block + inner
        # where blocks begin differs from epoch to epoch, and so which records the last few are
        shift = int(random_words(key, np.zeros(1, np.int64))[0] % np.uint64(max(n, 1)))
        return (found + shift) % max(n, 1)

    def soon(self, key: int, positions: IntArray) -> IntArray:
        """Return neighbours of the next window; at the beginning also those of the first one."""
        if not len(positions):
            return positions
        window, begin = self._block * self._window, int(positions.min())
        end = int(positions.max()) + 1
        first = 0 if begin == 0 else begin + window
        return self._in_blocks(key, np.arange(first, min(end + window, self.n), dtype=np.int64))

    def digest(self) -> int:
        """See ``Sampling``."""
        return _sum(self.n, self._block, self._window)
