"""mapix's loaders beside other loaders: samples per second, and what a training step waits.

    python benchmarks/loaders.py [--rounds N] [--quick] [--json FILE]

Records of 3 KB in random order, batches of 256, uint8, all in the page cache.  A step of training
is a consumer that takes 1 ms without using a processor, as a GPU does; the cost of a loader is the
time of a step beyond that.  The results of all loaders are compared with the file before anything
is timed.  Makes its data at the first run (0.3 GB, and as much for each other format).
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

B = 256
STEP_SECONDS = 1e-3
STEPS, DRAINED = 50, 96  # batches that are taken with a consumer, and without
GROUP = 16  # batches whose mean counts
LOOP, KNOWN, CONSUMER = "C loop", "C loop, order known before", "consumer alone"
Batches = Iterator[tuple[Any, Any]]
Epoch = Callable[[], Batches]  # a new epoch
FILES = ("mapix", "C gather", "np.memmap, fixed stride", "pyarrow", "LMDB", "bagz")
FILES += ("h5py", "Hugging Face")


def _by_batch(store: Any, n: int) -> Epoch:
    """The loop that people write: a permutation, and a batch for each part of it."""
    rng = np.random.default_rng(1)

    def epoch() -> Batches:
        order = rng.permutation(n)
        for k in range(0, n - B + 1, B):
            yield store.batch(order[k : k + B])

    return epoch


def _c_loop(store: Any, n: int, *, ordering: bool) -> Epoch:
    """The same over plain C, into one array, with labels.

    The order comes from the C function of mapix, as in a loader; or it is known beforehand.
    """
    from mapix import _native

    a = store.alike
    known, out = np.random.default_rng(2).permutation(n), np.empty((B, a.c, a.h, a.w), np.uint8)
    keys = itertools.count(3)

    def epoch() -> Batches:
        key = next(keys)
        for begin in range(0, n - B + 1, GROUP * B):
            count = min(GROUP * B, (n - begin) // B * B)
            order = known[begin : begin + count]
            if ordering:
                order = _native.permute(n, key, begin, count)
            for k in range(0, count, B):
                yield store.batch(order[k : k + B], out)

    return epoch


def _mapix(source: Path) -> dict[str, Epoch]:
    import mapix

    ds = mapix.open(source)

    def loader(ahead: int) -> Epoch:
        made = mapix.Loader(ds, B, drop_last=True, ahead=ahead, layout="NCHW")
        return lambda: ((batch.images, batch.labels) for batch in made)

    return {f"mapix.Loader, ahead={k}": loader(k) for k in (0, 2)}


def _torch(source: Path) -> dict[str, Epoch]:
    """PyTorch's loader over an item at a time, as it is usually written, and over mapix."""
    import torch
    from torch.utils.data import DataLoader

    import mapix
    import mapix.torch
    from contenders.memmap import Memmap

    torch.set_num_threads(1)
    store = Memmap(source)

    class Items(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return int(store.alike.n)

        def __getitem__(self, i: int) -> Any:
            image, labels = store.images[i], store.labels[i]
            return torch.from_numpy(image.copy()), torch.from_numpy(labels.copy())

    ds = mapix.open(source)
    ours = mapix.torch.Loader(ds, B, drop_last=True, dtype="uint8", labels="raw", as_dict=False)
    data = mapix.torch.Dataset(ds, dtype="uint8", labels="raw", as_dict=False)
    found: dict[str, Epoch] = {"mapix.torch.Loader, ahead=2": lambda: iter(ours)}
    for name, source_of in (("np.memmap", Items()), ("mapix.torch.Dataset", data)):
        for workers in (0, 2):
            loader: Any = DataLoader(
                source_of,
                B,
                shuffle=True,
                drop_last=True,
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            found[f"DataLoader, {workers} workers, {name}"] = loader.__iter__
    return found


def _webdataset(source: Path) -> dict[str, Epoch]:
    """Tar shards have no random access: a buffer of samples is shuffled."""
    from contenders import named

    store: Any = named("WebDataset")(source)

    def epoch() -> Batches:
        samples = iter(store.samples.shuffle(2048, initial=2048))
        from contenders.base import views

        while len(part := list(itertools.islice(samples, B))) == B:
            pairs = [views(sample["vimh"]) for sample in part]
            yield np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    return {"WebDataset, shuffle(2048)": epoch}


def _loaders(stores: Any) -> tuple[dict[str, Epoch], dict[str, str]]:
    """All loaders, and why others are left out."""
    n = stores.open["mapix"].alike.n
    found: dict[str, Epoch] = {}
    if "C gather" in stores.open:
        for name, ordering in ((LOOP, True), (KNOWN, False)):
            found[name] = _c_loop(stores.open["C gather"], n, ordering=ordering)
    left_out = {**stores.left_out, "ffcv": "does not install here"}
    for make, name in ((_mapix, "mapix"), (_torch, "PyTorch"), (_webdataset, "WebDataset")):
        try:
            found |= make(stores.source)
        except ImportError as e:
            left_out[name] = str(e)
    for name, store in stores.open.items():
        if name not in ("mapix", "C gather"):
            found[f"{name}, a batch at a time"] = _by_batch(store, n)
    return found, left_out


# --- checks and measures ------------------------------------------------------------------------


def _endless(epoch: Epoch) -> Batches:
    while True:
        yield from epoch()


class Truth:
    """The file's own records, found by their first eight pixels."""

    def __init__(self, store: Any) -> None:
        self.images, self.labels = store.images, store.labels
        self.keys = self._keys(np.ascontiguousarray(store.images[:, 0, 0, :8]))
        self.order = np.argsort(self.keys)
        if len(np.unique(self.keys)) != len(self.keys):
            raise ValueError("two records begin alike")

    @staticmethod
    def _keys(pixels: Any) -> Any:
        return np.ascontiguousarray(pixels).view(np.uint64).ravel()

    def check(self, name: str, batches: Batches) -> None:
        """Refuse to measure what gives other records, or some of them twice."""
        seen = set()
        for images, labels in itertools.islice(batches, 10):
            pixels = np.array(images)
            keys = self._keys(pixels[:, 0, 0, :8])
            at = np.searchsorted(self.keys, keys, sorter=self.order)
            rows = self.order[np.minimum(at, len(self.order) - 1)]
            right = np.array_equal(pixels, self.images[rows]) and len(rows) == B
            if not right or not np.array_equal(np.array(labels), self.labels[rows]):
                raise AssertionError(f"{name}: a batch is not what the file holds")
            seen.update(rows.tolist())
        if len(seen) != 10 * B:
            raise AssertionError(f"{name}: {10 * B - len(seen)} records came twice")


def _drained(batches: Batches) -> float:
    """Seconds per sample of a loop that does nothing else."""
    next(batches)
    times = []
    for _ in range(DRAINED):
        began = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - began)
    # means, because a loader with a thread or workers gives some batches at once; the least of
    # them, because other jobs may interrupt the rest
    return min(statistics.mean(times[k : k + GROUP]) for k in range(0, DRAINED, GROUP)) / B


def _stepped(batches: Batches | None) -> float:
    """Seconds of a step: a batch is fetched and consumed."""
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        if batches is not None:
            next(batches)
        time.sleep(STEP_SECONDS)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _measure(report: Any) -> None:
    from comparison.report import RATE, Goal
    from comparison.rounds import Case
    from comparison.stores import opened

    with opened("uniform", FILES) as stores:
        loaders, left_out = _loaders(stores)
        truth = Truth(stores.open["np.memmap, fixed stride"])
        streams = {}
        for name, epoch in loaders.items():
            stores.touch("mapix")
            truth.check(name, epoch())
            streams[name] = _endless(epoch)
        plain = [Case(name, lambda s=stream: _drained(s)) for name, stream in streams.items()]
        goals = [Goal("mapix.Loader, ahead=0", "share", 0.97, LOOP)]
        title = f"loop over a loader, batch {B} of 3 KB, random order, samples"
        report.table(title, RATE, LOOP, plain, goals, left_out)
        steps = [Case(CONSUMER, lambda: _stepped(None))]
        steps += [Case(name, lambda s=stream: _stepped(s)) for name, stream in streams.items()]
        goals = [
            Goal(name, "at most", 1.05, CONSUMER)
            for name in ("mapix.Loader, ahead=2", "mapix.torch.Loader, ahead=2")
        ]
        title = f"a step of training: a batch of {B}, and 1 ms of a device"
        report.table(title, "us", CONSUMER, steps, goals)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a small file: to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    os.environ.setdefault("MAPIX_BENCH_RECORDS", "20000" if args.quick else "100000")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="mapix-bench-") as cache:
        os.environ["MAPIX_CACHE_DIR"] = cache
        from comparison import machine
        from comparison.report import Report
        from data_files import FOLDER

        FOLDER.mkdir(parents=True, exist_ok=True)
        facts = machine.facts(FOLDER)
        print("\n".join(f"{name + ':':10} {fact}" for name, fact in facts.items()), flush=True)
        report = Report(args.rounds, facts, lambda text: print(text, flush=True))
        _measure(report)
        print("\n" + "\n".join(report.summary()))
        if args.json:
            report.save(args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
