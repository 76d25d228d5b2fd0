"""One record at a time: image and labels as numpy arrays, in random order."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from comparison.report import Goal, Report
from comparison.rounds import Case, flush_caches, repeats, seconds
from comparison.stores import Stores, opened

MOST = 20_000  # records a round
PYTHON, VIEWS, C_TYPE = "Python mmap + struct", "np.memmap, fixed stride", "C type, two views"
RECORD = "mapix, ds[i]"


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
    with opened("mixed") as stores:
        n = len(stores.open["mapix"].ds)
        goals = [
            Goal("mapix", "at most", 1.2, PYTHON),
            Goal("mapix", "at most", 1.5, C_TYPE),
        ]
        title = f"get, image and labels of a random record: mixed, {n:,} records"
        cases = _cases(stores, n)
        report.table(title, "ns", PYTHON, cases, goals, stores.left_out)
