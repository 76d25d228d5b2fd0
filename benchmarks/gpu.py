"""How fast batches arrive on a GPU: every way of mapix, the ways people write, and the limits.

    python benchmarks/gpu.py [--data FOLDER] [--rounds N] [--json FILE] [--cpu]

Needs PyTorch with a GPU, and mapix; makes its own data (3.1 GB) and takes less than four minutes.
``--cpu`` needs no GPU: it makes less data, and compares batches on the CPU with ``ds.batch``.
Before anything is timed, batches of each family and option are compared with ``ds.batch``, by each
way that takes them.  Measures run interleaved, and the table gives the median of the rounds, in
samples per second that are on the GPU.  The last lines compare with the goals of the project, by
ratios within rounds.  What fails is reported, and the rest goes on; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import struct
import sys
import tempfile
import time
import traceback
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
NFILES = 100  # of the same records as "small": more than those of which the GPU computes the order
FEW_FILES = 10
WORKERS = 8
NUMBERS = {"mean": MEAN, "std": STD}
Measure = Callable[[], float]
failures: list[str] = []
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


def divided(folder: Path, path: Path, name: str) -> list[Path]:
    """The same records in several files of equal size."""
    n, h, w, c = SETS[name]
    raw = np.memmap(path, np.uint8, "r").reshape(n, HEAD + h * w * c)
    paths = [folder / f"{name}_{k}" for k in range(NFILES)]
    for path, part in zip(paths, np.array_split(raw, NFILES), strict=True):
        if not path.exists() or path.stat().st_size != part.nbytes:
            path.write_bytes(part.tobytes())
    return paths


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


# --- equality -------------------------------------------------------------------------------------


def same(ds: Any, loader: Any, most: int = 20, **options: Any) -> None:
    """Compare batches and labels with ``ds.batch``."""
    kind = loader.dtype
    labels = loader.options.get("labels")
    if labels is not None:
        options["labels"] = labels
    for k, (images, found) in enumerate(loader):
        rows = loader.plan.rows(0, k * loader.plan.step)
        want = ds.batch(rows, layout=loader.options.get("layout"), **options)
        expected = torch.from_numpy(want.images)
        expected = expected if kind is None else expected.to(kind)
        if not torch.equal(images.cpu(), expected):
            raise AssertionError(f"batch {k} of {ds!r} differs: {loader.explain()}")
        if want.labels is not None:
            values = np.where(want.present, want.labels, -100) if labels == "class" else want.labels
            for j, name in enumerate(want.names):
                if not np.array_equal(found[name].cpu().numpy(), values[:, j], equal_nan=True):
                    raise AssertionError(f"labels {name} of batch {k} of {ds!r} differ")
        if k == most:
            return


def families(folder: Path) -> dict[str, tuple[list[Path], dict[str, Any], dict[str, Any]]]:
    """Files of each family, options of ``open``, and options that its batches need."""
    rng, made = np.random.default_rng(0), {}
    numbers = rng.integers(0, 256, (3, 150, 9, 7), np.uint8)
    for k in range(3):
        for name, (h, w) in {"alike": (5, 7), "mixed": (0, 0)}.items():
            with open(folder / f"{name}_{k}", "wb") as f:
                for i in range(150):
                    shape = (h or 2 + (i + k) % 9, w or 3 + i % 7, 3)
                    n = 2 - (name == "mixed" and i % 2)
                    f.write(
                        struct.pack("<HHHff", *shape, -80, 0) + bytes([n, 0, i, 3, k][: 1 + 2 * n])
                    )
                    f.write(rng.bytes(int(np.prod(shape))))
        np.save(folder / f"{k}.npy", numbers[k])
        mapix.idx.write(folder / f"{k}-images-idx3-ubyte", numbers[k])
        mapix.idx.write(folder / f"{k}.idx", numbers[k].astype(">i4"))
        mapix.pink.write_data(folder / f"{k}.bin", numbers[k].astype(np.float32))

    def paths(pattern: str) -> list[Path]:
        return [folder / pattern.format(k) for k in range(3)]

    vimh = {"dialect": 14}
    made["vimh"] = paths("alike_{}"), vimh, {}
    made["vimh, mixed sizes"] = paths("mixed_{}"), vimh, {"pad": (6, 8), "crop": True}
    made["npy"] = paths("{}.npy"), {}, {}
    made["idx, bytes"] = paths("{}-images-idx3-ubyte"), {}, {}
    made["idx, numbers"] = paths("{}.idx"), {}, {"dtype": None, "layout": None}
    made["pink"] = paths("{}.bin"), {}, {"dtype": None, "layout": None}
    return made


FORMS: list[dict[str, Any]] = [
    {"dtype": "uint8"},
    {"dtype": "uint8", "layout": "NHWC", "labels": "raw"},
    {"dtype": "float32", "scale": 1 / 255, "mean": 0.5, "std": 0.25},
    {"dtype": "float16", "layout": "NHWC", "labels": "physical"},
    {"dtype": "bfloat16", "mean": 3.5, "labels": "normalised"},
]


def equality(folder: Path, device: str | None) -> int:
    """Compare each family, option and way, of one file and of several; return how many were."""
    ways = ("pages", "pinned", "plain") if device else (None,)
    count = 0
    for name, (paths, opening, needed) in families(folder).items():
        for several in (False, True):
            ds = mapix.open(paths if several else paths[0], **opening)
            for form in [needed] if "dtype" in needed else [{**form, **needed} for form in FORMS]:
                if not getattr(ds, "heads", None):
                    form.pop("labels", None)
                for way in ways:
                    limits = (None, 16 << 12) if way == "pages" else (None,)
                    for limit in limits:
                        what = (
                            f"{name}, {len(paths) if several else 1} files, {form}, {way}, {limit}"
                        )
                        with reported(what):
                            loader = mapix.torch.Loader(
                                ds, 16, device=device, way=way, pin_limit=limit, **form
                            )
                            plain = {k: v for k, v in form.items() if k not in ("layout", "labels")}
                            if plain["dtype"] == "bfloat16":
                                plain["dtype"] = "float32"
                            same(ds, loader, **plain)
                            loader.close()
                            count += 1
    return count


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Report an error of what follows, and go on."""
    try:
        yield
    except Exception:
        failures.append(what)
        print(f"FAILED: {what}\n{traceback.format_exc()}", flush=True)


# --- training -------------------------------------------------------------------------------------


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


# --- what is timed --------------------------------------------------------------------------------


def measures(folder: Path, name: str) -> dict[str, Measure]:
    """What is timed on one data set."""
    shape = SETS[name]
    path = make(folder, name)
    ds = mapix.open(path, dialect=14)
    ds.warm()
    nbytes = int(np.prod(shape[1:]))
    found: dict[str, Measure] = {}
    found["limit: pinned copies"] = lambda: limit(nbytes, max(256, (64 << 20) // nbytes))

    def loader(of: Any, way: str, batch: int, dtype: str, **more: Any) -> Any:
        """Return a loader, whose first batches are compared."""
        options = {**NUMBERS, **more} if dtype != "uint8" else more
        made = mapix.torch.Loader(
            of, batch, device="cuda", way=way, dtype=dtype, drop_last=True, **options
        )
        loaders.append(made)
        numbers = {} if dtype == "uint8" else {**NUMBERS, "dtype": "float32"}
        with reported(f"{name}, {way}, {dtype}, batch {batch}: equality"):
            same(of, made, 3, **numbers)
        return made

    for batch in (64, 256, 1024) if name == "small" else (64, 256):
        for dtype in ("uint8", "bfloat16"):
            made = loader(ds, "pages", batch, dtype)
            found[f"pages, {dtype}, batch {batch}"] = lambda m=made: rate(endless(m))
    several = divided(folder, path, name) if name == "small" else []
    for nfiles in (FEW_FILES, NFILES) if several else ():
        joined = mapix.open(several[:nfiles], dialect=14)
        joined.warm()
        made = loader(joined, "pages", 256, "bfloat16")
        found[f"pages, bfloat16, batch 256, {nfiles} files"] = lambda m=made: rate(endless(m))
    for order, files in [("shuffle", 1), ("Blocks", 1), *([("Blocks", NFILES)] if several else [])]:
        # opened again: other loaders have pinned all of the maps that are open
        again = mapix.open(path if files == 1 else several, dialect=14)
        most = path.stat().st_size // 2
        more: dict[str, Any] = {"pin_limit": most, "threads": WORKERS}
        if order == "Blocks":
            parts = {"window_nbytes": most // 5, "block_nbytes": most // 64}
            more["order"] = Blocks.of(again, **parts)
        made = loader(again, "pages", 256, "bfloat16", **more)
        what = f"pages, half of {files} files pinned, {order}"
        found[what] = lambda m=made: rate(endless(m))
    for threads in (1, 4, 8):
        made = loader(ds, "pinned", 256, "bfloat16", threads=threads)
        found[f"pinned, bfloat16, batch 256, {threads} threads"] = lambda m=made: rate(endless(m))
    made = loader(ds, "plain", 256, "bfloat16", threads=4)
    found["plain, bfloat16, batch 256, 4 threads"] = lambda m=made: rate(endless(m))
    found["resident on the GPU, bfloat16, batch 256"] = lambda: rate(resident(path, shape, 256))
    data = mapix.torch.Dataset(ds, dtype="uint8")
    args = {"batch_size": 256, "shuffle": True, "pin_memory": True, "drop_last": True}
    here = DataLoader(data, collate_fn=mapix.torch.collate, **args)
    found["DataLoader over mapix.torch, 0 workers"] = lambda: rate(endless(here, peer))
    workers = DataLoader(
        Memmap(path, shape), num_workers=WORKERS, persistent_workers=True, prefetch_factor=4, **args
    )
    found[f"DataLoader over np.memmap, {WORKERS} workers"] = lambda: rate(
        endless(workers, peer), 1.0
    )
    if name == "small":
        fed = loader(ds, "pages", 256, "bfloat16")
        found["train, batch 256, pages"] = lambda: rate(training(endless(fed)))
        still = one_batch(fed)
        found["train, batch 256, one resident batch"] = lambda: rate(training(still))
        found["CPU of the feeding thread"] = lambda: feeding_share(fed)
    return found


loaders: list[Any] = []  # of a data set
windows: list[str] = []  # how many records of each loader came through the CPU


def feeding_share(loader: Any) -> float:
    """CPU seconds of this process per second, while batches are used for a millisecond each."""
    begin, cpu = time.perf_counter(), time.process_time()
    for k, _ in enumerate(loader):
        time.sleep(0.001)  # a step of a millisecond: the GPU's, not the CPU's
        if k == 500:
            break
    return (time.process_time() - cpu) / (time.perf_counter() - begin)


def check_on_cpu(folder: Path) -> None:
    """What needs no GPU: the data, and that batches on the CPU are those of ``ds.batch``."""
    with tempfile.TemporaryDirectory(dir=folder) as small:
        count = equality(Path(small), None)
    print(f"{count} loaders of all families and options: batches on the CPU equal ds.batch")
    for name, shape in SETS.items():
        SETS[name] = (shape[0] // 100, *shape[1:])
        path = make(folder, name)
        files = divided(folder, path, name) if name == "small" else [path, path]
        joined = mapix.open(files, dialect=14)
        for ds in (mapix.open(path, dialect=14), joined):
            same(ds, mapix.torch.Loader(ds, 100, dtype="uint8"))
            floats = mapix.torch.Loader(ds, 100, dtype="bfloat16", **NUMBERS)
            same(ds, floats, **NUMBERS, dtype="float32")
        image, label = Memmap(path, SETS[name])[7]
        assert torch.equal(image, torch.from_numpy(joined.batch([7], layout="NCHW").images[0]))
        assert label == int(joined.batch([7]).labels[0, 0])
        print(f"{name}: batches on the CPU equal ds.batch")


# --- results --------------------------------------------------------------------------------------

LIMIT = "limit: pinned copies"
PEER = f"DataLoader over np.memmap, {WORKERS} workers"
GOALS = [  # set, what, by what it is divided, at least (or with a minus sign, at most)
    ("small", "pages, uint8, batch 256", LIMIT, 0.85),
    ("small", "pages, bfloat16, batch 256", LIMIT, 0.85),
    ("small", f"pages, bfloat16, batch 256, {FEW_FILES} files", LIMIT, 0.85),
    ("large", "pages, uint8, batch 256", LIMIT, 0.88),
    ("large", "pages, bfloat16, batch 256", LIMIT, 0.88),
    ("large", "pinned, bfloat16, batch 256, 8 threads", LIMIT, 0.55),
    ("small", "pages, bfloat16, batch 256", PEER, 80),
    ("small", "train, batch 256, pages", "train, batch 256, one resident batch", 0.97),
    ("small", "CPU of the feeding thread", None, -0.20),
]


def goal(times: dict[str, dict[str, list[float]]], name: str, what: str, by: str | None) -> float:
    """Return the median of the ratios of each round."""
    over = times[name][what]
    under = [1.0] * len(over) if by is None else times[name][by]
    return statistics.median(a / b for a, b in zip(over, under, strict=False))


def report(times: dict[str, dict[str, list[float]]]) -> None:
    """Print the tables, and the goals."""
    for name, each in times.items():
        most = statistics.median(each[LIMIT]) if each.get(LIMIT) else float("nan")
        print(f"\n{name} ({' x '.join(map(str, SETS[name]))}), samples a second")
        for k, values in each.items():
            if values and not k.startswith("CPU"):
                v = statistics.median(values)
                print(f"  {k:48} {v:12,.0f}  {v / most:5.2f} of the limit")
    print("\ngoals: medians of the ratios of each round")
    for name, what, by, least in GOALS:
        try:
            value = goal(times, name, what, by)
        except (KeyError, statistics.StatisticsError):
            print(f"  not measured: {name}: {what}")
            continue
        met = value <= -least if least < 0 else value >= least
        of = "" if by is None else f" / {by}"
        sign = "at most" if least < 0 else "at least"
        found = f"{'met   ' if met else 'MISSED'} {value:7.3f} ({sign} {abs(least)})"
        print(f"  {found}  {name}: {what}{of}")
    for text in windows:
        print(f"  {text}")


def processor() -> str:
    """Return the model of this machine's processor."""
    with contextlib.suppress(OSError, IndexError), open("/proc/cpuinfo") as f:
        return next(line.split(": ")[1].strip() for line in f if line.startswith("model name"))
    return platform.processor()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "mapix-gpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file that gets all figures after each round")
    parser.add_argument("--cpu", action="store_true", help="compare batches, and time nothing")
    a = parser.parse_args()
    a.data.mkdir(parents=True, exist_ok=True)
    if a.cpu:
        check_on_cpu(a.data)
        sys.exit(1 if failures else 0)
    if not torch.cuda.is_available():
        parser.exit(1, "PyTorch finds no CUDA GPU: pass --cpu to compare batches on the CPU\n")
    begin = time.perf_counter()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, mapix {mapix.__version__}")
    print(f"{os.cpu_count()} x {processor()}, Linux {platform.release()}")
    with tempfile.TemporaryDirectory(dir=a.data) as small:
        count = equality(Path(small), "cuda")
    print(f"{count} loaders of all families, options and ways equal ds.batch", flush=True)
    times: dict[str, dict[str, list[float]]] = {}
    for name in SETS:
        found = measures(a.data, name)
        print(f"{name}: made and compared ({time.perf_counter() - begin:.0f} s)", flush=True)
        each = times[name] = {k: [] for k in found}
        for k in range(a.rounds):
            for what, measure in found.items():
                with reported(f"{name}: {what}"):
                    each[what].append(measure())
            if a.json:
                a.json.write_text(json.dumps(times, indent=1))
            print(f"{name}: round {k + 1} ({time.perf_counter() - begin:.0f} s)", flush=True)
        texts = [made.explain().splitlines()[0] for made in loaders]
        windows.extend(f"{name}: {t.split('; ')[-1]}" for t in texts if "windows" in t)
        for made in loaders:
            made.close()
        loaders.clear()
    report(times)
    for what in failures:
        print(f"FAILED: {what}")
    print(f"{time.perf_counter() - begin:.0f} s in all")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
