"""One record at a time: image and labels as numpy arrays, in random order."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, flush_caches, repeats, seconds
from comparison.stores import Stores, indexed, opened
from data_files import populate

MOST = 20_000  # records a round
PYTHON, VIEWS, C_TYPE = "Python mmap + struct", "np.memmap, fixed stride", "C type, two views"
RECORD = "mapix, ds[i]"
WALKED, AGAIN, FIRST = "mapix, walked", "mapix, stored index", "mapix, stored, first use"


def _case(name: str, get: Callable[[int], Any], n: int, touch: Callable[[], None]) -> Case:
    """Random records, other ones each round, none of them in the cache."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    count = 0

    def run() -> float:
        nonlocal count
        if not count:
            some = rng.integers(0, n, MOST).tolist()
            count = max(repeats(lambda: get(some.pop()), 0.02, MOST - 500), 20)
        rows = rng.integers(0, n, count).tolist()
        touch()
        flush_caches()
        return seconds(lambda: _read(get, rows)) / count

    return Case(name, run)


def _read(get: Callable[[int], Any], rows: list[int]) -> None:
    for i in rows:
        get(i)


def _cases(stores: Stores, n: int) -> list[Case]:
    def case(name: str, store: str, get: Callable[[int], Any]) -> Case:
        return _case(name, get, n, lambda: stores.touch(store))

    cases = [
        case(C_TYPE if name == "C gather" else name, name, store.getter())
        for name, store in stores.open.items()
    ]
    if stores.source.name.startswith("uniform"):
        cases.insert(1, case(RECORD, "mapix", stores.open["mapix"].record_getter()))
    return cases


def _images(report: Report, stores: Stores) -> None:
    """One view: ``ds.images[i]`` beside the same of an array in memory."""
    images = stores.open["mapix"].ds.images
    if type(images) is not np.ndarray:
        raise AssertionError(f"ds.images is a {type(images)}")
    plain = np.zeros(images.shape, np.uint8)  # pages that stay untouched cost nothing
    n, own = len(images), "numpy's own, in memory"
    arrays = {"mapix": images, own: plain}
    cases = [_case(k, a.__getitem__, n, lambda: None) for k, a in arrays.items()]
    goals = [Goal("mapix", "at most", 1.1, own)]
    report.table("get, ds.images[i]: uniform, per record", "ns", own, cases, goals)


class Own:
    """``ds[i]`` of a mixed file by one kind of index."""

    def __init__(self, stores: Stores, index: str) -> None:
        self.stores, self.index = stores, index
        self.open()

    def open(self) -> None:
        """Open the file anew: no record of it was used yet."""
        self.ds = mapix.open(self.stores.source, index=self.index)
        if self.ds.index.stored != (self.index == "auto"):
            raise AssertionError(f"index={self.index!r}, and stored is {self.ds.index.stored}")
        self.ds.shapes.max()  # the table
        populate(self.stores.source)

    def getter(self) -> Callable[[int], Any]:
        """As users write it."""
        ds = self.ds

        def get(i: int) -> Any:
            record = ds[i]
            return record.image, record.label_bytes

        return get

    def get(self, i: int) -> Any:
        """The same of the dataset that is open now."""
        record = self.ds[i]
        return record.image, record.label_bytes

    def touch(self) -> None:
        self.stores.touch("mapix")

    def renew(self) -> None:
        self.open()
        self.touch()


def _ways(stores: Stores, n: int) -> list[Case]:
    """The kinds of index: walked by this process; stored, records used before; and never yet."""
    walked, again, first = Own(stores, "never"), Own(stores, "auto"), Own(stores, "auto")
    for i in range(n):
        again.get(i)
    return [
        _case(WALKED, walked.getter(), n, walked.touch),
        _case(AGAIN, again.getter(), n, again.touch),
        _case(FIRST, first.get, n, first.renew),
    ]


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    with opened("uniform") as stores:
        n = len(stores.open["mapix"].ds)
        _images(report, stores)
        goals = [
            Goal("mapix", "at most", 2, VIEWS),
            Goal(RECORD, "at most", 2, VIEWS),
        ]
        title = f"get, image and labels of a random record: uniform, {n:,} records"
        cases = _cases(stores, n)
        report.table(title, "ns", VIEWS, cases, goals, stores.left_out)
    indexed("mixed")
    with opened("mixed") as stores:
        n = len(stores.open["mapix"].ds)
        goals = [Goal(way, "at most", 1.5, C_TYPE) for way in (WALKED, AGAIN)]
        goals += [Goal(way, "at most", 1.2, PYTHON) for way in (WALKED, AGAIN, FIRST)]
        title = f"get, image and labels of a random record: mixed, {n:,} records"
        cases = [c for c in _cases(stores, n) if c.name != "mapix"] + _ways(stores, n)
        report.table(title, "ns", PYTHON, cases, goals, stores.left_out)
