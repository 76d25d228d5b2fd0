"""Convert and verify 200 shards on the workers of a dask cluster; killed, it goes on.

    python examples/cluster.py FOLDER               # convert and verify what is not there yet
    python examples/cluster.py FOLDER --demo        # the same, killed in the middle, and again
    python examples/cluster.py FOLDER --measure     # times of two workers beside those of one

FOLDER gets shards of pictures (``in``), unless it has some, and the VIMH datasets made of them
(``out``).  A shard is a task: its dataset appears when it is complete, so what is there is done.
Needs ``pip install 'mapix[dask,images]'``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mapix
import mapix.dask
import mapix.plans
from mapix.report import Report

if TYPE_CHECKING:
    from distributed import Client

SHARDS, PICTURES, SIDE = 200, 24, 96
TOGETHER = 10  # shards of a task when times are measured: 0.2 s
SETTINGS = {
    # without MALLOC_TRIM_THRESHOLD_, by which each block of pixels is new memory of the system
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1},
    "distributed.worker.profile.enabled": False,  # it samples the workers' stacks all the time
    # what each process does all the time: 75 ms of CPU per second by default, 13 so
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
}


def make_shards(folder: Path, shards: int) -> None:
    """Write tar shards of PNG pictures with a label each."""
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(shards):
        with tarfile.open(folder / f"{k:05}.tar", "w") as out:
            for i in range(PICTURES):
                smooth = rng.integers(0, 256, (8, 8, 3), np.uint8)
                picture, png = Image.fromarray(smooth).resize((SIDE, SIDE)), io.BytesIO()
                picture.save(png, "PNG")
                for ending, data in (("png", png.getvalue()), ("cls", str(i % 10).encode())):
                    member = tarfile.TarInfo(f"{k:05}-{i:05}.{ending}")
                    member.size = len(data)
                    out.addfile(member, io.BytesIO(data))


def convert_and_verify(shard: tuple[str, str]) -> Report:
    """Convert one shard unless that is done, and return the report of the new dataset."""
    source, target = shard
    if not os.path.exists(target):
        mapix.convert(source, target, to="vimh", lossy=True)
    with mapix.open(target, split="train") as ds:
        return ds.verify()


def shards_of(folder: Path, name: str = "out") -> list[tuple[str, str]]:
    """Return source and target of each shard."""
    (folder / name).mkdir(exist_ok=True)
    sources = sorted((folder / "in").glob("*.tar"))
    return [(str(path), str(folder / name / path.stem)) for path in sources]


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """Yield a client of new workers, which have a thread each."""
    import dask
    from distributed import Client, LocalCluster

    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set(SETTINGS), LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def run(folder: Path, workers: int, kill_after: int | None) -> None:
    """Convert and verify all shards on a local cluster."""
    shards = shards_of(folder)
    there = sum(os.path.exists(target) for _, target in shards)
    with local_cluster(workers) as client:
        reports = []
        for report in mapix.dask.map(client)(convert_and_verify, shards):
            reports.append(report)
            if len(reports) == kill_after:
                os.killpg(0, signal.SIGKILL)  # this process and all workers, as a power cut would
        made = Report.merge(str(folder / "out"), reports)
    print(
        f"{there} of {len(shards)} shards were there; {made.nrecords} records are verified: "
        f"{'no problems' if made.ok else made.problems}"
    )


def demo(folder: Path, workers: int) -> None:
    """Kill a run in the middle, start it again, and compare with a run that was not disturbed."""
    command = [sys.executable, __file__, str(folder), "--workers", str(workers)]
    killed = subprocess.run(
        [*command, "--kill-after", str(len(shards_of(folder)) // 2)], start_new_session=True
    )
    names = sorted(os.listdir(folder / "out"))
    there = [name for name in names if not name.startswith(".")]
    print(
        f"killed (exit code {killed.returncode}): {len(there)} datasets are there, "
        f"{len(names) - len(there)} hidden ones are not complete"
    )
    subprocess.run(command, check=True)
    for source, target in shards_of(folder, "serial"):
        mapix.convert(source, target, to="vimh", lossy=True)
    same = all(
        (folder / "out" / path.parent.name / path.name).read_bytes() == path.read_bytes()
        for path in (folder / "serial").rglob("*")
        if path.is_file()
    )
    print(f"the same bytes as a run that was not disturbed: {same}")
    if not same or killed.returncode != -signal.SIGKILL:
        raise SystemExit(1)


def measure(folder: Path, workers: int, rounds: int = 5) -> None:
    """Time serial runs, a pool of processes and workers of dask in turn, on the same shards.

    The ceiling is what the machine gives: as many processes, each with an equal share of the shards
    as its only task.
    """
    walls: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn) as pool, local_cluster(workers) as client:
        share = -(-len(shards_of(folder)) // workers)
        runs = {
            "serial": map,
            "ceiling": mapix.plans.grouped(pool.map, share),
            "pool": mapix.plans.grouped(pool.map, TOGETHER),
            "dask": mapix.dask.map(client, size=TOGETHER),
        }
        for k in range(rounds + 1):
            for name, how in runs.items():
                shutil.rmtree(folder / "timed", ignore_errors=True)
                shards = shards_of(folder, "timed")
                before, begin = cpu_of(client), time.perf_counter()
                inside = sum(how(cpu_of_shard, shards))
                wall = time.perf_counter() - begin
                if k:  # in the first round the workers import what they need
                    walls.setdefault(name, []).append(wall)
                    spent = cpu_of(client) - before if name == "dask" else inside
                    cpus.setdefault(name, []).append(spent)
    for name in runs:
        ratios = [a / b for a, b in zip(walls["serial"], walls[name], strict=True)]
        most = (1 if name == "serial" else workers) * min(cpus["serial"]) / min(cpus[name])
        of_ceiling = statistics.median(
            a / b for a, b in zip(walls["ceiling"], walls[name], strict=True)
        )
        print(
            f"{name}: {min(walls[name]):.2f} s, {min(cpus[name]):.2f} CPU s (best of {rounds}), "
            f"{min(ratios):.2f} to {max(ratios):.2f} times as fast as serial, {of_ceiling:.2f} of "
            f"the ceiling; by CPU time at most {most:.2f}"
        )
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def cpu_of_shard(shard: tuple[str, str]) -> float:
    """Convert and verify a shard, and return the CPU time that this took."""
    before = cpu_seconds()
    convert_and_verify(shard)
    return cpu_seconds() - before


def cpu_seconds() -> float:
    """Return the CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_of(client: object) -> float:
    """Return the CPU time of this process and all workers."""
    return cpu_seconds() + sum(client.run(cpu_seconds).values())  # type: ignore[attr-defined]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--kill-after", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    if not (given.folder / "in").exists():
        make_shards(given.folder / "in", given.shards)
    if given.demo:
        demo(given.folder, given.workers)
    elif given.measure:
        measure(given.folder, given.workers)
    else:
        run(given.folder, given.workers, given.kill_after)


if __name__ == "__main__":
    main()
