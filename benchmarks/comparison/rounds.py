"""How everything is measured: interleaved rounds, medians, ratios of the same round."""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FLUSH_NBYTES = 64 << 20  # beyond the last-level cache of common machines
_flush = np.zeros(0, np.uint8)


def flush_caches() -> None:
    """Write over more memory than the last-level cache holds."""
    global _flush
    if not len(_flush):
        _flush = np.zeros(FLUSH_NBYTES, np.uint8)
    _flush[::64] += 1


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table.

    Attributes
    ----------
    name : str
        Of the contender.
    run : callable
        Does one round and returns its result: seconds per unit of work, or whatever the measure
        counts.  It times itself, so that it can prepare what is not to be timed.
    note : str
        Said behind the line.
    """

    name: str
    run: Callable[[], float]
    note: str = ""


@dataclass(slots=True)
class Taken:
    """Results of the rounds that were completed: one list a case, entry r of each from round r."""

    values: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median over the rounds."""
        return statistics.median(self.values[name])

    def ratio(self, name: str, against: str) -> float:
        """Median over the rounds of a case's result divided by another's in the same round."""
        pairs = zip(self.values[name], self.values[against], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def difference(self, name: str, against: str) -> float:
        """The same with a difference."""
        pairs = zip(self.values[name], self.values[against], strict=True)
        return statistics.median(a - b for a, b in pairs)


def interleave(title: str, cases: list[Case], rounds: int, taken: Taken) -> None:
    """Run all cases once a round, each round in another order; results go to ``taken``.

    Nobody then always follows the same neighbour or profits from a quiet minute.  The first round
    does not count: it warms up.  A case that raises is left out from then on, and said to be.
    Ctrl-C leaves the whole rounds so far in ``taken``.
    """
    order = random.Random(title)
    live = list(cases)
    taken.values.update({case.name: [] for case in cases})
    for r in range(rounds + 1):
        now = f"{title}: round {r}/{rounds}" if r else f"{title}: warming up"
        found: dict[str, float] = {}
        for case in order.sample(live, len(live)):
            told(f"{now}: {case.name}")
            gc.collect()
            gc.disable()
            try:
                found[case.name] = case.run()
            except Exception as e:  # one contender's trouble must not cost the others their run
                taken.failed[case.name] = f"{type(e).__name__}: {e}"
            finally:
                gc.enable()
        live = [c for c in live if c.name in found]
        if r:
            for name, value in found.items():
                taken.values[name].append(value)
        for name in taken.failed:
            taken.values.pop(name, None)
    told("")


def told(what: str) -> None:
    """Progress, on one line of a terminal; nothing where stderr is none."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what[:150]}", end="", file=sys.stderr, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def repeats(work: Callable[[], object], target: float = 0.02, most: int = 20_000) -> int:
    """How many calls take about ``target`` seconds."""
    work()
    took = max(seconds(work), 1e-9)
    if took < target / 100:
        took = seconds(lambda: [work() for _ in range(100)]) / 100
    return max(1, min(most, int(target / took)))
