"""How fast batches arrive on a GPU: every way of mapix, the ways people write, and the limits.

    python benchmarks/gpu.py [--data FOLDER] [--rounds N] [--json FILE] [--cpu]

Needs PyTorch with a GPU, and mapix; makes its own data (2.2 GB) and takes less than four minutes.
``--cpu`` needs no GPU: it makes less data, and compares batches on the CPU with ``ds.batch``.
All results are compared with ``ds.batch`` before anything is timed.  Measures run interleaved, and
the table gives the median of the rounds, in samples per second that are on the GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

import mapix
import mapix.torch
from mapix.sampling import Blocks

SETS = {"small": (300_000, 32, 32, 3), "large": (8_000, 224, 224, 3)}
MEAN, STD = (120.0, 118.0, 110.0), (60.0, 61.0, 62.0)
SECONDS = 0.5  # of each measure in a round
HEAD = 14 + 1 + 2  # bytes of a record before its image: header, count, one label


def make(folder: Path, name: str) -> Path:
    """A VIMH file of random pixels; the records of a block share them."""
    n, h, w, c = SETS[name]
    path = folder / f"{name}_train"
    size = HEAD + h * w * c
    if path.exists() and path.stat().st_size == n * size:
        return path
    rng = np.random.default_rng(0)
    step = max(1, (32 << 20) // size)
    with open(path, "wb") as f:
        for begin in range(0, n, step):
            block = np.empty((min(step, n - begin), size), np.uint8)
            block[:, :14] = np.frombuffer(struct.pack("<HHHff", h, w, c, -80, 0), np.uint8)
            block[:, 14], block[:, 15] = 1, 0
            block[:, 16] = rng.integers(0, 10, len(block))
            block[:, HEAD:] = rng.integers(0, 256, h * w * c, np.uint8)
            block[:, HEAD] = np.arange(len(block)) % 251
            f.write(block)
    return path


class Memmap(torch.utils.data.Dataset):
    """What people write: an item at a time out of np.memmap."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.shape, self.map = path, shape, None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, i: int) -> Any:
        if self.map is None:
            n, h, w, c = self.shape
            raw = np.memmap(self.path, np.uint8, "r").reshape(n, HEAD + h * w * c)
            self.map = raw
        row = self.map[i]
        h, w, c = self.shape[1:]
        return torch.from_numpy(np.array(row[HEAD:]).reshape(c, h, w)), int(row[HEAD - 1])


def normalised(images: torch.Tensor) -> torch.Tensor:
    """What a peer does on the GPU with the bytes that arrive."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return ((images.float() - mean) / std).to(torch.bfloat16)


def rate(batches: Callable[[], Iterator[Any]], seconds: float = SECONDS) -> float:
    """Samples a second of an endless stream of batches, the GPU's work included."""
    stream = batches()
    for _ in range(3):
        next(stream)
    torch.cuda.synchronize()
    begin, n = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for _ in range(4):
            n += len(next(stream)[0])
    torch.cuda.synchronize()
    found = n / (time.perf_counter() - begin)
    stream.close()
    return found


def endless(loader: Any, then: Callable[[Any], Any] = lambda x: x) -> Callable[[], Iterator[Any]]:
    """Epoch after epoch."""

    def batches() -> Iterator[Any]:
        while True:
            for images, labels in loader:
                yield then(images), labels

    return batches


def peer(images: torch.Tensor) -> torch.Tensor:
    """A peer's batch, copied and normalised."""
    return normalised(images.cuda(non_blocking=True))


def limit(nbytes: int, batch: int) -> float:
    """Samples a second of copies out of pinned memory, one after another."""
    host = torch.empty(batch * nbytes, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device="cuda")

    def batches() -> Iterator[Any]:
        while True:
            there.copy_(host, non_blocking=True)
            yield range(batch), None

    return rate(batches)


def resident(path: Path, shape: tuple[int, ...], batch: int) -> Callable[[], Iterator[Any]]:
    """All images on the GPU already, indexed there."""
    n, h, w, c = shape
    raw = torch.from_numpy(np.memmap(path, np.uint8, "r").reshape(n, -1)[:, HEAD:].copy())
    images = raw.cuda().view(n, c, h, w)

    def batches() -> Iterator[Any]:
        while True:
            order = torch.randperm(n, device="cuda")
            for k in range(0, n - batch + 1, batch):
                yield normalised(images[order[k : k + batch]]), None

    return batches


def check(ds: Any, loader: Any, kind: torch.dtype, **options: Any) -> None:
    """Every byte of some batches, and the labels."""
    for k, (images, labels) in enumerate(loader):
        rows = loader.plan.rows(loader.epoch, k * loader.plan.step)
        want = ds.batch(rows, layout="NCHW", labels="class", **options)
        expected = torch.from_numpy(want.images).to(kind)
        assert torch.equal(images.cpu(), expected), (loader.explain(), k)
        assert torch.equal(next(iter(labels.values())).cpu(), torch.from_numpy(want.labels[:, 0]))
        if k == 20:
            break


class Net(torch.nn.Module):
    """A small network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 4, 4),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 64, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        return self.layers(x)


def training(batches: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
    """The same batches, each trained on."""
    net = Net().cuda().bfloat16()
    optimiser = torch.optim.SGD(net.parameters(), 0.01)

    def steps() -> Iterator[Any]:
        for images, labels in batches():
            target = next(iter(labels.values())) if isinstance(labels, dict) else labels
            optimiser.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(net(images).float(), target.cuda())
            loss.backward()
            optimiser.step()
            yield images, labels

    return steps


def one_batch(loader: Any) -> Callable[[], Iterator[Any]]:
    """The same resident batch again and again: what the network alone can do."""
    images, labels = next(iter(loader))
    images, labels = images.clone(), {k: v.clone() for k, v in labels.items()}

    def batches() -> Iterator[Any]:
        while True:
            yield images, labels

    return batches


def measures(folder: Path, name: str) -> dict[str, Callable[[], float]]:
    """What is timed on one data set."""
    shape = SETS[name]
    path = make(folder, name)
    ds = mapix.open(path, dialect=14)
    ds.warm()
    nbytes = int(np.prod(shape[1:]))
    numbers = {"mean": MEAN, "std": STD}
    found: dict[str, Callable[[], float]] = {}
    found["limit: pinned copies"] = lambda: limit(nbytes, max(256, (64 << 20) // nbytes))
    held: list[Any] = []

    def loader(way: str, batch: int, dtype: str, **more: Any) -> Any:
        options = {**numbers, **more} if dtype != "uint8" else more
        made = mapix.torch.Loader(
            ds, batch, device="cuda", way=way, dtype=dtype, drop_last=True, **options
        )
        held.append(made)
        return made

    for dtype, kind in (("uint8", torch.uint8), ("bfloat16", torch.bfloat16)):
        for way in ("pages", "pinned", "plain"):
            options = {} if dtype == "uint8" else {**numbers, "dtype": "float32"}
            tried = loader(way, 100, dtype)
            check(ds, tried, kind, **options)
            tried.close()
    batches = (64, 256, 1024) if name == "small" else (64, 256)
    for batch in batches:
        for dtype in ("uint8", "bfloat16"):
            made = loader("pages", batch, dtype)
            found[f"pages, {dtype}, batch {batch}"] = lambda m=made: rate(endless(m))
    size, limit_nbytes = path.stat().st_size, path.stat().st_size // 2
    for order in ("shuffle", "Blocks"):  # half of the file may be pinned
        more = {"pin_limit": limit_nbytes, "threads": 8}
        if order == "Blocks":
            parts = {"window_nbytes": limit_nbytes // 5, "block_nbytes": limit_nbytes // 64}
            more["order"] = Blocks.of(ds, **parts)
        made = loader("pages", 256, "bfloat16", **more)
        found[f"pages, half of {size >> 20} MiB pinned, {order}"] = lambda m=made: rate(endless(m))
    for threads in (1, 4, 8):
        made = loader("pinned", 256, "bfloat16", ahead=4, threads=threads)
        found[f"pinned, bfloat16, batch 256, {threads} threads"] = lambda m=made: rate(endless(m))
    made = loader("plain", 256, "bfloat16", threads=4)
    found["plain, bfloat16, batch 256, 4 threads"] = lambda m=made: rate(endless(m))
    found["resident on the GPU, bfloat16, batch 256"] = lambda: rate(resident(path, shape, 256))
    data = mapix.torch.Dataset(ds, dtype="uint8")
    args = {"batch_size": 256, "shuffle": True, "pin_memory": True, "drop_last": True}
    here = DataLoader(data, collate_fn=mapix.torch.collate, **args)
    found["DataLoader over mapix.torch, 0 workers"] = lambda: rate(endless(here, peer))
    workers = DataLoader(
        Memmap(path, shape), num_workers=8, persistent_workers=True, prefetch_factor=4, **args
    )
    found["DataLoader over np.memmap, 8 workers"] = lambda: rate(endless(workers, peer), 1.0)
    if name == "small":
        fed = loader("pages", 256, "bfloat16")
        found["train, batch 256, pages"] = lambda: rate(training(endless(fed)))
        still = one_batch(fed)
        found["train, batch 256, one resident batch"] = lambda: rate(training(still))
    return found


def feeding_share(folder: Path) -> float:
    """CPU seconds of this process per second of training that is fed by the pages, less the
    network's own.
    """
    ds = mapix.open(make(folder, "small"), dialect=14)
    loader = mapix.torch.Loader(
        ds, 256, device="cuda", way="pages", dtype="bfloat16", mean=MEAN, std=STD, drop_last=True
    )
    begin, cpu = time.perf_counter(), time.thread_time()
    for _ in loader:
        time.sleep(0.001)  # a step of a millisecond: the GPU's, not the CPU's
    share = (time.thread_time() - cpu) / (time.perf_counter() - begin)
    loader.close()
    return share


def check_on_cpu(folder: Path) -> None:
    """What needs no GPU: the data, and that batches on the CPU are those of ``ds.batch``."""
    for name, shape in SETS.items():
        SETS[name] = (shape[0] // 100, *shape[1:])
        ds = mapix.open(make(folder, name), dialect=14)
        numbers = {"mean": MEAN, "std": STD}
        check(ds, mapix.torch.Loader(ds, 100, dtype="uint8"), torch.uint8)
        floats = mapix.torch.Loader(ds, 100, dtype="bfloat16", **numbers)
        check(ds, floats, torch.bfloat16, **numbers, dtype="float32")
        image, label = Memmap(folder / f"{name}_train", SETS[name])[7]
        assert torch.equal(image, torch.from_numpy(ds.batch([7], layout="NCHW").images[0]))
        assert label == int(ds.batch([7]).labels[0, 0])
        print(f"{name}: batches on the CPU equal ds.batch")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "mapix-gpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu", action="store_true", help="compare batches, and time nothing")
    a = parser.parse_args()
    a.data.mkdir(parents=True, exist_ok=True)
    if a.cpu:
        check_on_cpu(a.data)
        return
    if not torch.cuda.is_available():
        parser.exit(1, "PyTorch finds no CUDA GPU: pass --cpu to compare batches on the CPU\n")
    begin = time.perf_counter()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, mapix {mapix.__version__}")
    results: dict[str, dict[str, float]] = {}
    for name in SETS:
        found = measures(a.data, name)
        print(f"{name}: all ways equal ds.batch ({time.perf_counter() - begin:.0f} s)", flush=True)
        times: dict[str, list[float]] = {k: [] for k in found}
        for _ in range(a.rounds):
            for k, measure in found.items():
                times[k].append(measure())
        medians = results[name] = {k: statistics.median(v) for k, v in times.items()}
        most = medians["limit: pinned copies"]
        print(f"\n{name} ({' x '.join(map(str, SETS[name]))}), samples a second")
        for k, v in medians.items():
            print(f"  {k:48} {v:12,.0f}  {v / most:5.2f} of the limit")
        del found
    share = results["cpu"] = {"feeding thread": feeding_share(a.data)}
    print(f"\nCPU of the feeding thread, a step of 1 ms: {share['feeding thread']:.3f} of a core")
    print(f"{time.perf_counter() - begin:.0f} s in all")
    if a.json:
        a.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
