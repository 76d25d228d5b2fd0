"""Measure catalogues: ``python benchmarks/catalogue.py FOLDER [--shards N]``.

Files are made in FOLDER once.  Small VIMH files are opened one by one, as a list, and as a
catalogue; sparse arrays of 1 GB stand for large ones; the names of 1,000 archives are sought among
20 million, most of which are hashes without a segment.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from mapix import catalogue
from mapix.catalogue import drafting

BATCH = 256
ROUNDS = 60
SPARSE_NBYTES = 1 << 30
NAMES = 20_000  # of an archive, in its catalogue


def timed(what: str, act: Callable[[], Any]) -> Any:
    """Run once, and print how long it took, and how many descriptors are held more."""
    before = descriptors()
    begin = time.perf_counter()
    found = act()
    seconds = time.perf_counter() - begin
    print(f"{what:58} {seconds * 1e3:10.2f} ms  {descriptors() - before:4} descriptors")
    return found


def often(what: str, act: Callable[[Any], Any], arguments: Iterator[Any]) -> None:
    """Run several times, and print the median and the least of the times."""
    times = []
    for argument in arguments:
        begin = time.perf_counter()
        act(argument)
        times.append(time.perf_counter() - begin)
    print(f"{what:58} {statistics.median(times) * 1e3:10.3f} ms, at least {min(times) * 1e3:.3f}")


def descriptors() -> int:
    """Return the number of open descriptors."""
    return len(os.listdir("/proc/self/fd"))


def vimh_files(folder: Path, n: int) -> list[Path]:
    """Make files of five records."""
    header = np.array([8, 8, 3], "<u2").tobytes() + bytes(8)
    paths = [folder / f"{k:06}.vimh" for k in range(n)]
    if not paths[-1].exists():
        folder.mkdir(exist_ok=True)
        for k, path in enumerate(paths):
            pixels = bytes([k % 256]) * 192
            labels = (bytes([1, 0, (k + j) % 256]) for j in range(5))
            path.write_bytes(b"".join(header + label + pixels for label in labels))
    return paths


def sparse_arrays(folder: Path, n: int) -> list[Path]:
    """Make arrays of 1 GB, without a block on the disk after their headers."""
    shape = SPARSE_NBYTES // (64 * 64 * 3), 64, 64, 3
    paths = [folder / f"{k:06}.npy" for k in range(n)]
    if not paths[-1].exists():
        folder.mkdir(exist_ok=True)
        np.lib.format.open_memmap(paths[0], "w+", np.uint8, shape).flush()
        head = paths[0].read_bytes()[:128] if n else b""
        for path in paths:
            path.write_bytes(head)
            os.truncate(path, 128 + int(np.prod(shape)))
    return paths


def archives(folder: Path, n: int) -> list[Path]:
    """Make archives of 20 segments."""
    paths = [folder / f"{k:06}.iid" for k in range(n)]
    if not paths[-1].exists():
        folder.mkdir(exist_ok=True)
        for k, path in enumerate(paths):
            with mapix.iid.Writer(path) as out:
                for i in range(20):
                    out.add("cells", f"{k}-{i}", np.ones((3, 3), bool), at=(i, i))
    return paths


def of_many(folder: Path, n: int) -> None:
    """Measure small files."""
    paths, listed = vimh_files(folder / "vimh", n), folder / "vimh.catalogue"
    listed.unlink(missing_ok=True)
    options = {"dialect": 14, "info": False}
    print(f"\n{n} VIMH files of 5 records")
    joined = timed("mapix.open([...])", lambda: mapix.open(paths, **options))
    written = timed("catalogue.write", lambda: catalogue.write(paths, listed, **options))
    print(f"  {os.path.getsize(listed)} bytes for {written.records} records")
    mapix.open(listed)  # imports
    ds = timed("mapix.open(catalogue)", lambda: mapix.open(listed))
    last = len(ds) - 7
    timed("first record", lambda: ds[last])
    timed("first batch of 256 random records", lambda: ds.batch(batches(ds, 1)[0]))
    often("batches of 256 random records, shards not open", ds.batch, iter(batches(ds, ROUNDS)))
    for k in range(n):
        ds.parts[k]
    for row in range(0, len(ds), BATCH * 5):
        ds.batch(np.arange(row, min(row + BATCH * 5, len(ds))))
    often("the same, shards open", ds.batch, iter(batches(ds, ROUNDS)))
    often("the same of mapix.open([...])", joined.batch, iter(batches(ds, ROUNDS)))
    few = mapix.open(listed)
    timed("where('param_0 == 300')", lambda: few.where("param_0 == 300"))
    timed("the same again", lambda: few.where("param_0 == 300"))
    timed("where('param_0 == 3'), of 2 % of the files", lambda: few.where("param_0 == 3"))
    new = folder / "new.vimh"
    new.write_bytes(paths[0].read_bytes())
    timed("catalogue.add", lambda: catalogue.add(listed, new, **options))


def batches(ds: Any, n: int) -> list[Any]:
    """Return random indices."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, len(ds), BATCH) for _ in range(n)]


def of_large(folder: Path, n: int) -> None:
    """Measure sparse files."""
    paths, listed = sparse_arrays(folder / "npy", n), folder / "npy.catalogue"
    if not listed.exists():
        catalogue.write(paths, listed)
    print(f"\n{n} arrays of 1 GB, sparse")
    mapix.open(listed)
    ds = timed("mapix.open(catalogue)", lambda: mapix.open(listed))
    print(f"  {len(ds)} records, {ds.describe()['nbytes'] / 1e12:.1f} TB")
    timed("first record", lambda: ds[len(ds) - 1])
    often("batches of 256 random records", ds.batch, iter(batches(ds, ROUNDS)))


def of_names(folder: Path, n: int) -> None:
    """Measure names."""
    paths, listed = archives(folder / "iid", n), folder / "iid.catalogue"
    real = drafting.hashes_of
    rng = np.random.default_rng(0)

    def padded(ds: Any) -> Any:
        more = rng.integers(0, 1 << 64, NAMES - len(ds), np.uint64)
        return np.concatenate([real(ds), more])

    if not listed.exists():
        drafting.hashes_of = padded
        catalogue.write(paths, listed)
        drafting.hashes_of = real
    print(f"\n{n} archives, {NAMES * n} names, {os.path.getsize(listed) / 1e6:.0f} MB")
    ds = timed("mapix.open(catalogue)", lambda: mapix.open(listed))
    names = [f"{k}-{k % 20}" for k in rng.permutation(n).tolist()]
    timed("the first find", lambda: ds.find("cells", names[0]))
    often("find, archives not open", lambda name: ds.find("cells", name), iter(names[1:500]))
    often("find, archives open", lambda name: ds.find("cells", name), iter(names[:500]))
    often("find of a name that is not there", lambda name: ds.find("no", name), iter(names[:500]))
    other = mapix.open(paths)
    timed("the first find of mapix.open([...])", lambda: other.find("cells", names[0]))


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--archives", type=int, default=1000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    of_many(arguments.folder, arguments.shards)
    of_large(arguments.folder, arguments.shards)
    of_names(arguments.folder, arguments.archives)


if __name__ == "__main__":
    main()
