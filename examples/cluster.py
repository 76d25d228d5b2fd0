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
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np

import mapix
import mapix.dask
from mapix.report import Report

SHARDS, PICTURES, SIDE = 200, 24, 96


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


def run(folder: Path, workers: int, kill_after: int | None) -> None:
    """Convert and verify all shards on a local cluster."""
    from distributed import Client, LocalCluster

    shards = shards_of(folder)
    there = sum(os.path.exists(target) for _, target in shards)
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
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


def measure(folder: Path, workers: int, rounds: int = 3) -> None:
    """Time serial runs and runs of workers in turn, each of the same shards."""
    from distributed import Client, LocalCluster

    walls: dict[str, list[float]] = {"serial": [], "workers": []}
    cpus: dict[str, list[float]] = {"serial": [], "workers": []}
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        runs = {"serial": map, "workers": mapix.dask.map(client, size=5)}
        for _ in range(rounds):
            for name, how in runs.items():
                shutil.rmtree(folder / "timed", ignore_errors=True)
                begin, before = time.perf_counter(), cpu_of(client)
                list(how(convert_and_verify, shards_of(folder, "timed")))
                walls[name].append(time.perf_counter() - begin)
                cpus[name].append(cpu_of(client) - before)
    for name in runs:
        wall, cpu = min(walls[name]), min(cpus[name])
        print(f"{name}: {wall:.2f} s, {cpu:.2f} CPU s (the best of {rounds})")
    ratios = [a / b for a, b in zip(walls["serial"], walls["workers"], strict=True)]
    print(
        f"{workers} workers are {min(ratios):.2f} to {max(ratios):.2f} times as fast; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


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
