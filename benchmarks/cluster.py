"""Jobs over plans: costs of their tasks on this machine, and 64 nodes simulated from them.

    python benchmarks/cluster.py            # measures and prints the tables of docs/scaling.md

A task's cost is CPU time.  The simulation has one scheduler, which takes a millisecond for each
task it hands out (distributed: 0.3 to 1 ms measured by others, 3 ms with the way there and back on
this machine), nodes with some cores, and a start of some seconds.  Storage has no limit in it.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mapix
from mapix.plans import pieces

NODES, CORES = 64, 16
START = 3.0  # seconds until a cluster's workers are there
SCHEDULING = 1e-3  # seconds of the scheduler for a task
THREAD = 1e-4  # seconds for a part in a task's own pool
PART = 256 << 20
SIZE, GOAL = 10 << 40, 0.9  # of the dataset, and of the efficiency
GROUPS = (1, 16, None)  # parts of a task; None: all of a node


def simulated(
    parts: int, cost: float, group: int, *, nodes: int, cores: int, start: float = START
) -> float:
    """Return the seconds of a job: tasks of ``group`` parts of ``cost`` CPU seconds each.

    A task of one part takes a core; a task of several takes a node, with a pool inside.
    """
    slots = [0.0] * (nodes * cores if group == 1 else nodes)
    heapq.heapify(slots)
    handed, end, left = 0.0, 0.0, parts
    while left:
        here = min(group, left)
        left -= here
        handed += SCHEDULING
        begin = max(heapq.heappop(slots), handed)
        wall = cost if group == 1 else -(-here // cores) * (cost + THREAD)
        heapq.heappush(slots, begin + wall)
        end = max(end, begin + wall)
    return start + end


def efficiency(
    cost: float, nbytes: int, group: int | None, *, nodes: int = NODES, start: float = START
) -> float:
    """Return ideal time / time of a job; without ``group`` each node gets one task."""
    parts = -(-nbytes // PART)
    group = -(-parts // nodes) if group is None else group
    seconds = simulated(parts, cost, group, nodes=nodes, cores=CORES, start=start)
    return parts * cost / (nodes * CORES) / seconds


def least_terabytes(cost: float) -> int:
    """Return the size from which two levels reach 0.9 on 64 nodes, their start included."""
    return next(tb for tb in range(1, 10_000) if efficiency(cost, tb << 40, None) >= GOAL)


def most_nodes(cost: float) -> int:
    """Return how many nodes two levels keep 0.9 busy with 10 TB, their start included."""
    fits = [n for n in range(1, NODES + 1) if efficiency(cost, SIZE, None, nodes=n) >= GOAL]
    return max(fits, default=0)


def cpu(act: Callable[[], object]) -> float:
    """Return the CPU seconds of a call: the best of three."""
    best = np.inf
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF)
        act()
        after = resource.getrusage(resource.RUSAGE_SELF)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return float(best)


def costs(folder: Path, nbytes: int) -> dict[str, float]:
    """Return the CPU seconds that 256 MiB cost in each job."""
    heads = [mapix.vimh.Parameter("a", 0)]
    images = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    with mapix.vimh.Writer(folder / "d", heads) as out:
        for _ in range(max(1, nbytes // images.nbytes)):
            out.extend(images, codes={"a": np.arange(64)})
    mapix.index(folder / "d")
    ds = mapix.open(folder / "d")
    scale = PART / ds.source.nbytes
    found = {
        "statistics": cpu(lambda: ds[::1]._pixel_sums(None)) * scale,
        "verify": cpu(ds.verify) * scale,
        "decode": cpu(lambda: [ds.batch(np.arange(k, k + 64)) for k in range(0, len(ds), 64)])
        * scale,
    }
    few = ds[:640]
    mapix.convert(few, folder / "pictures", to="folder", lossy=True)
    made = mapix.open(folder / "pictures")
    size = int(np.sum(made._record_sizes()))
    again = iter(range(9))
    convert = cpu(lambda: mapix.convert(made, folder / f"v{next(again)}", to="vimh", lossy=True))
    found["convert PNG"] = convert * PART / size
    return found


def overheads(folder: Path) -> tuple[float, int]:
    """Return the seconds that a part of a plan costs to pickle and open, and its bytes."""
    import pickle

    ds = mapix.open(folder / "d")
    piece = pieces(ds, 1 << 20)[0]
    raw = pickle.dumps(piece)
    begin = time.perf_counter()
    for _ in range(200):
        len(pickle.loads(pickle.dumps(piece)).part)
    return (time.perf_counter() - begin) / 200, len(raw)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nbytes", type=int, default=128 << 20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = costs(Path(folder), given.nbytes)
        seconds, size = overheads(Path(folder))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"a part: {size} bytes pickled, {seconds * 1e3:.2f} ms to pickle and open\n")
    print(
        "| job | CPU s for 256 MiB | 1 part a task | 16 | all parts of a node | the same, cluster "
        "running | 64 nodes reach 0.9 from | nodes that reach 0.9 with 10 TB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, cost in found.items():
        shares = [efficiency(cost, SIZE, group) for group in GROUPS]
        shares.append(efficiency(cost, SIZE, None, start=0.0))
        text = " | ".join(f"{share:.2f}" for share in shares)
        print(f"| {name} | {cost:.3f} | {text} | {least_terabytes(cost)} TB | {most_nodes(cost)} |")


if __name__ == "__main__":
    main()
