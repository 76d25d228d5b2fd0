"""Jobs in one thread and in pools of two and four: ``python benchmarks/pools.py FOLDER``.

Statistics, checks and checksums of VIMH (370 MB), floats (246 MB) and photos (160 of 800 x 600),
from the page cache; the ways take turns.  The first lines are the ceiling: hashes by two threads,
which share nothing.  Where they are below 1.5 the machine has no core to spare, and no gain of a
job can be seen.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import mapix

RUNS = 7
POOLS = (None, 2, 4)
Job = Callable[[int | None], Any]


def write(folder: Path) -> None:
    """Write the data where it is not there."""
    rng = np.random.default_rng(0)
    if folder.exists():
        return
    (folder / "photos").mkdir(parents=True)
    with mapix.vimh.Writer(folder / "vimh") as out:
        for _ in range(12):
            out.extend(rng.integers(0, 256, (10_000, 32, 32, 3)).astype("u1"), split="train")
    mapix.index(folder / "vimh" / "train", checksums=True)
    np.save(folder / "floats.npy", rng.random((60_000, 32, 32)).astype("f4"))
    from PIL import Image

    for k in range(160):
        small = Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype("u1"))
        large = small.resize((800, 600), Image.Resampling.BICUBIC)
        large.save(folder / "photos" / f"{k:03d}.jpg", quality=90)


def hashed(pool: int | None) -> None:
    """Hash twice, by two threads or one."""
    data = bytes(40_000_000)
    with ThreadPoolExecutor(pool or 1) as threads:
        list(threads.map(hashlib.sha256, (data, data)))


def jobs(folder: Path) -> dict[str, Job]:
    """Return what is measured."""
    found: dict[str, Job] = {"ceiling: two hashes": hashed}
    for name in ("vimh", "floats.npy", "photos"):
        ds = mapix.open(folder / name)
        found[f"{name}: verify"] = lambda pool, ds=ds: ds.verify(map=pool)
        if name != "vimh":  # those of an index with checksums are stored
            found[f"{name}: statistics"] = lambda pool, ds=ds: ds.statistics(map=pool)
    index = folder / "vimh" / "train"
    found["vimh: index, checksums"] = lambda pool: mapix.index(index, checksums=True, map=pool)
    return found


def main(folder: Path) -> None:
    """Print a line for each job: gain of wall-clock time, and how much more CPU time it takes."""
    write(folder)
    print(f"| job | ms | {' | '.join(f'map={k}: gain, CPU' for k in POOLS[1:])} |")
    for name, job in jobs(folder).items():
        walls: list[list[float]] = [[] for _ in POOLS]
        cpus: list[list[float]] = [[] for _ in POOLS]
        for _ in range(RUNS):
            for k, pool in enumerate(POOLS):
                wall, cpu = time.perf_counter(), time.process_time()
                job(pool)
                walls[k].append(time.perf_counter() - wall)
                cpus[k].append(time.process_time() - cpu)
        wall, *others = map(statistics.median, walls)
        cpu, *more = map(statistics.median, cpus)
        shown = [f"{wall / w:.2f}, {c / cpu:.2f}" for w, c in zip(others, more, strict=True)]
        print(f"| {name} | {1e3 * wall:.0f} | {' | '.join(shown)} |", flush=True)
    print("load:", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
