"""Epochs in random order: through PyTorch's DataLoader without workers, and by hand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from comparison.report import RATE, Goal, Report
from comparison.rounds import Case, seconds
from comparison.stores import Stores, enter, opened
from contenders import SEQUENTIAL, named

B = 256
LIMIT = "C gather"
READERS = ("mapix", LIMIT, "np.memmap, fixed stride", "pyarrow", "LMDB", "bagz")


class Batches:
    """A map-style dataset that gives whole batches, over the ``batch`` of a contender."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __len__(self) -> int:
        return int(self.store.alike.n)

    def __getitems__(self, indices: list[int]) -> Any:
        import torch

        images, labels = self.store.batch(np.asarray(indices, np.int64))
        return torch.from_numpy(images), torch.from_numpy(np.ascontiguousarray(labels))


def _as_it_is(batch: Any) -> Any:
    return batch


def _case(stores: Stores, name: str, data: Any, collate: Any) -> Case:
    from torch.utils.data import DataLoader

    loader = DataLoader(data, batch_size=B, shuffle=True, collate_fn=collate)

    def epoch() -> int:
        n = 0
        for images, _ in loader:
            n += len(images)
        return n

    def run() -> float:
        stores.touch(name)
        return seconds(epoch) / len(data)

    if epoch() != len(data):
        raise AssertionError(f"{name}: an epoch is not {len(data)} samples")
    return Case(name, run)


def _sequential(name: str, path: Path) -> Case:
    """A format without random access: front to back, by hand, on a part of the records."""
    store: Any = named(name)(path)

    def pass_over() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(1 for _ in store)

    n = pass_over()
    note = f"in order, no loader, {n:,} samples"
    return Case(name, lambda: seconds(pass_over) / n, note)


def _with_torch(report: Report, stores: Stores) -> None:
    title = f"DataLoader epoch, batch {B}, num_workers=0, uint8: uniform, samples"
    try:
        import torch

        import mapix.torch
    except ImportError as e:
        report.table(title, RATE, LIMIT, [], [], {"DataLoader": str(e)})
        return
    torch.set_num_threads(1)
    left_out = dict(stores.left_out)
    ready = Stores(stores.source)
    enter(ready, "uniform", SEQUENTIAL)
    left_out |= ready.left_out
    data = mapix.torch.Dataset(stores.source, dtype="uint8", layout="NCHW", labels="raw")
    cases = [_case(stores, "mapix", data, mapix.torch.collate)]
    for name, store in stores.open.items():
        if name != "mapix":
            cases.append(_case(stores, name, Batches(store), _as_it_is))
    cases += [_sequential(n, stores.source) for n in SEQUENTIAL if n not in left_out]
    goals = [Goal("mapix", "share", 0.95, LIMIT)]
    report.table(title, RATE, LIMIT, cases, goals, left_out)


def _by_hand(report: Report, stores: Stores) -> None:
    """``ds.batches`` beside a plain loop over the C gather."""
    ds, limit = stores.open["mapix"].ds, stores.open[LIMIT]
    n, a = len(ds), limit.alike
    rng = np.random.default_rng(11)
    out, again = (np.empty((B, a.c, a.h, a.w), np.uint8) for _ in range(2))

    def plain(order: Any, into: Any) -> None:
        for k in range(0, n - B + 1, B):
            limit.batch(order[k : k + B], into)

    def mapix_batches(order: Any, into: Any) -> None:
        for _ in ds.batches(B, order, drop_last=True, layout="NCHW", out=into):
            pass

    def case(name: str, epoch: Any, into: Any, note: str = "") -> Case:
        def run() -> float:
            order = rng.permutation(n)
            stores.touch("mapix")  # the same file for all
            return seconds(lambda: epoch(order, into)) / (n // B * B)

        return Case(name, run, note)

    cases = [
        case("mapix", mapix_batches, out, "out= reused"),
        case("mapix, fresh output", mapix_batches, None),
        case("C loop", plain, again, "output reused"),
        case("C loop, fresh output", plain, None),
    ]
    goals = [
        Goal("mapix", "share", 0.95, "C loop"),
        Goal("mapix, fresh output", "share", 0.95, "C loop, fresh output"),
    ]
    title = f"epoch without a loader, batch {B}, uint8: uniform, samples"
    report.table(title, RATE, "C loop", cases, goals)


def measure(report: Report, long: bool) -> None:
    """All tables of this measure."""
    with opened("uniform", READERS) as stores:
        _with_torch(report, stores)
        _by_hand(report, stores)
