"""Compare what two threads do in the time of one, with or without the GIL.

    python benchmarks/threads.py

Prints, for each operation, how much two threads do in the time of one (2 x is perfect, 1 x is no
gain), and the CPU time of the same work by two threads in units of that by one: medians of rounds
in turns.  Threads share a dataset, or each opens its own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from mapix.vimh import Parameter, Writer

N, ROUNDS, ROUND_S = 6000, 7, 0.012
Act = Callable[[], Any]


def prepare(folder: Path) -> None:
    """Write a VIMH file, an archive, and pictures if Pillow is there."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    with Writer(folder / "vimh", [Parameter("a", 0), Parameter("b", 1)]) as out:
        out.extend(images, codes={name: rng.integers(0, 256, N) for name in "ab"})
    with mapix.iid.Writer(folder / "a.iid", index=True) as out:
        for i in range(3000):
            out.add("d", f"n{i}", rng.random((8, 8)) < 0.8, at=(i % 97, i % 53))
    try:
        from PIL import Image
    except ImportError:
        return
    (folder / "pictures").mkdir()
    for i in range(32):
        picture = rng.integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(picture).save(folder / "pictures" / f"{i}.jpg")


def operations(folder: Path) -> dict[str, tuple[str, Callable[[Any], Act]]]:
    """Return name -> file, and what makes the work of one thread on a dataset."""
    rows = np.random.default_rng(1).integers(0, N, 256)

    def batch(ds: Any) -> Act:
        out = np.empty((256, 32, 32, 3), np.uint8)
        return lambda: ds.batch(rows, out)

    found = {
        "batch of 256": ("vimh", batch),
        "ds[i]": ("vimh", lambda ds: lambda: [None for i in range(256) if ds[i] is None]),
        "ds[i].image": (
            "vimh",
            lambda ds: lambda: [None for i in range(256) if ds[i].image is None],
        ),
        "ds[i].labels": ("vimh", lambda ds: lambda: [ds[i].labels for i in range(256)]),
        "a.find": ("a.iid", lambda a: lambda: [a.find("d", "n77") for _ in range(100)]),
        "a[i].mask()": ("a.iid", lambda a: lambda: [a[i].mask() for i in range(100)]),
    }
    if (folder / "pictures").exists():
        options = {"size": (64, 64), "fit": "resize"}
        decode = lambda ds: lambda: ds.batch(np.arange(32), **options)  # noqa: E731
        found["decode 32 JPEGs of 200 x 200"] = ("pictures", decode)
    return found


def seconds(acts: list[Act], n: int) -> tuple[float, float]:
    """Return the time, and the CPU time, in which threads do something n times each."""

    def run(act: Act) -> None:
        for _ in range(n):
            act()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    wall, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - wall, time.process_time() - cpu


def compared(one: Act, other: Act) -> tuple[float, float]:
    """Return how much two threads do in the time of one, and for how much CPU time."""
    for act in (one, other):
        act()
    start = time.perf_counter()
    one()
    n = max(1, int(ROUND_S / (time.perf_counter() - start)))
    ratios = []
    for _ in range(ROUNDS):
        alone, together = seconds([one], 2 * n), seconds([one, other], n)
        ratios.append((alone[0] / together[0], together[1] / alone[1]))
    wall, cpu = zip(*ratios, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    """Measure, and print a line for each operation."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if gil else 'without'} the GIL")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for what, (path, make) in operations(folder).items():
            shared = mapix.open(folder / path)
            ways = {
                "one dataset": (shared, shared),
                "one each": (shared, mapix.open(folder / path)),
            }
            for way, (first, second) in ways.items():
                speed, cost = compared(make(first), make(second))
                print(f"{what}, {way}: {speed:.2f} x, CPU time {cost:.2f} x", flush=True)


if __name__ == "__main__":
    main()
