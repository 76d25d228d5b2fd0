"""Count what operations do, in numbers that are the same on every machine: a regression gate.

    python benchmarks/counts.py [--write]

Compares with ``counts.json`` beside this file, and exits with 1 where a count differs; ``--write``
replaces the file.  Fewer is better: a change that makes a count smaller writes the file again, one
that makes it larger has to say why.

calls
    Calls of mapix's own functions in Python, by ``sys.setprofile``.
arrays, array_nbytes
    Arrays of numpy that the operation made and that its result keeps, by ``tracemalloc``.
page_faults
    Pages that the kernel had to map, by ``getrusage``: only of operations that make no large array,
    and open no file, because the other numbers depend on the C library and the kernel.
system_calls
    Calls of the operating system for files and signals, by strace; left out where it is missing.
    Those for memory alone depend on the C library.

Bytes that an operation copies are those of its arrays.  Instructions are not counted: they depend
on the compiler and on numpy's build, and most machines that run CI do not have the counter.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from mapix.vimh import Parameter, Writer

STORED = Path(__file__).with_suffix(".json")
PACKAGE = str(Path(mapix.__file__).parent)
N = 6000  # records of 3 KB: a file that gets a stored index
WARM = 3  # runs before the one that is counted
STEPS = 16  # of a loader, which asks for pages in some of them
MARK = "/mapix-counts-"
NUMPY = np.lib.tracemalloc_domain
REPEATS = 3
SMALL_NBYTES = 1 << 16
OF_MEMORY = ("brk", "munmap", "mremap", "mprotect", "futex", "getrandom")

Operations = dict[str, Callable[[], Any]]


def prepare(folder: Path) -> None:
    """Write the datasets."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    codes = {"a": rng.integers(0, 256, N), "b": rng.integers(0, 256, N)}
    with Writer(folder / "vimh", [Parameter("a", 0), Parameter("b", 1)]) as out:
        out.extend(images, codes=codes)
    shutil.copyfile(folder / "vimh" / "train", folder / "alone.vimh")
    np.save(folder / "images.npy", images)
    with mapix.iid.Writer(folder / "archive.iid") as archive:
        for i in range(N):
            row, column = divmod(i, 80)
            mask = np.ones((8, 8 + i % 3), bool)
            archive.add("cell", f"{i}", mask, at=(9 * row, 12 * column), groups=[f"g{i % 5}"])
    mapix.idx.write(folder / "train-images-idx3-ubyte", images[:, :28, :28, 0].copy())
    mapix.idx.write(folder / "train-labels-idx1-ubyte", codes["a"].astype(np.uint8))
    time.sleep(0.1)  # an index is stored once the times of its file show later changes


def operations(folder: Path) -> Operations:
    """Return name -> what is counted; what a name ends with is part of no measurement."""
    rows = np.random.default_rng(1).integers(0, N, 256)
    vimh, idx = mapix.open(folder / "vimh"), mapix.open(folder / "train-images-idx3-ubyte")
    npy, archive = mapix.open(folder / "images.npy"), mapix.open(folder / "archive.iid")
    record, segment, names = vimh[7], archive[77], [str(i) for i in rows]
    image, out = np.zeros((32, 32, 3), np.uint8), vimh.batch(rows).images
    writer = Writer(folder / f"new-{os.getpid()}", [Parameter("a", 0), Parameter("b", 1)])
    steps = iter(mapix.Loader(vimh, 16, seed=0, ahead=0))

    def first_record(name: str) -> Any:
        ds = mapix.open(folder / name)
        return ds, ds[0].image

    return {
        "open a known VIMH directory": lambda: mapix.open(folder / "vimh"),
        "open a known VIMH file, first record": lambda: first_record("alone.vimh"),
        "open an IDX file, first row": lambda: mapix.open(folder / "train-images-idx3-ubyte")[0],
        "open an npy file, first row": lambda: mapix.open(folder / "images.npy")[0],
        "open an archive, first mask": lambda: mapix.open(folder / "archive.iid")[0].mask(),
        "ds[i].image": lambda: vimh[9].image,
        "record.labels": lambda: record.labels,
        "record.values": lambda: record.values,
        "ds.batch of 256, VIMH": lambda: vimh.batch(rows),
        "ds.batch of 256, VIMH, into out": lambda: vimh.batch(rows, out=out),
        "ds.batch of 256, VIMH, float32": lambda: vimh.batch(rows, dtype="float32", scale=1 / 255),
        "ds.batch of 256, IDX with labels": lambda: idx.batch(rows),
        "ds.batch of 256, npy": lambda: npy.batch(rows),
        f"{STEPS} steps of a Loader": lambda: [len(next(steps)) for _ in range(STEPS)],
        "Writer.append": lambda: writer.append(image, {"a": 1.0, "b": 2.0}),
        "archive.find, one name": lambda: archive.find("cell", "77"),
        "archive.find, 256 names": lambda: archive.find("cell", names),
        "archive.at": lambda: archive.at(100, 100),
        "archive.region": lambda: archive.region((90, 90, 200, 200)),
        "archive.group": lambda: archive.groups["g1"],
        "segment.mask": lambda: segment.mask(),
        "segment.polygon": lambda: segment.polygon(),
    }


def calls_of(act: Callable[[], Any]) -> int:
    """Return how many of mapix's functions an operation calls."""
    count = 0

    def saw(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        code = frame.f_code
        # comprehensions are functions in some versions of Python
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name[0] != "<":
            count += 1

    sys.setprofile(saw)
    try:
        kept = act()
    finally:
        sys.setprofile(None)
    del kept
    return count


def arrays_of(act: Callable[[], Any]) -> tuple[int, int]:
    """Return how many arrays the result of an operation keeps, and their bytes."""
    tracemalloc.start()
    try:
        kept = act()
        found = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    del kept
    only = found.filter_traces([tracemalloc.DomainFilter(True, NUMPY)])
    sizes = [trace.size for trace in only.traces]
    return len(sizes), sum(sizes)


def page_faults_of(act: Callable[[], Any]) -> int:
    """Return how many pages the kernel maps for an operation that has run before."""

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    found = []
    for _ in range(REPEATS):
        before = faults()
        kept = act()
        found.append(faults() - before)
        del kept
    return min(found)  # the others are of Python's own memory, which grows now and then


def counted(folder: Path) -> dict[str, dict[str, int]]:
    """Return the counts of Python and numpy."""
    found = {}
    for name, act in operations(folder).items():
        for _ in range(WARM):
            act()
        arrays, nbytes = arrays_of(act)
        found[name] = {"calls": calls_of(act), "arrays": arrays, "array_nbytes": nbytes}
        if nbytes <= SMALL_NBYTES and not name.startswith("open"):
            found[name]["page_faults"] = page_faults_of(act)
    return found


def traced(folder: Path) -> None:
    """Run each operation between two marks in the list of system calls."""
    for k, act in enumerate(operations(folder).values()):
        for _ in range(WARM):
            act()
        os.access(f"{MARK}{k}", os.F_OK)
        kept = act()
        os.access(f"{MARK}end", os.F_OK)
        del kept


def system_calls(folder: Path) -> dict[int, int] | None:
    """Return number of an operation -> its system calls; None without strace."""
    if shutil.which("strace") is None:
        return None
    log = folder / "strace"
    me = [sys.executable, __file__, "--traced", str(folder)]
    done = subprocess.run(["strace", "-o", str(log), *me], capture_output=True, text=True)
    if done.returncode:
        return None  # a container that forbids it
    found: dict[int, int] = {}
    now = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        mark = re.search(rf'"{MARK}(\w+)"', line)
        if mark:
            now = None if mark[1] == "end" else int(mark[1])
            found.update({} if now is None else {now: 0})
            continue
        name = line.split("(")[0]
        of_memory = name in OF_MEMORY or (name == "mmap" and "MAP_ANONYMOUS" in line)
        if now is not None and name.isidentifier() and not of_memory:
            found[now] += 1
    return found


def measured() -> dict[str, dict[str, int]]:
    """Return name of an operation -> its counts."""
    folder = Path(tempfile.mkdtemp(prefix="mapix-counts-"))
    os.environ["MAPIX_CACHE_DIR"] = str(folder / "cache")
    try:
        prepare(folder)
        found = counted(folder)
        calls = system_calls(folder)
        for k, counts in enumerate(found.values()):
            if calls is not None:
                counts["system_calls"] = calls[k]
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def differences(stored: dict[str, dict[str, int]], found: dict[str, dict[str, int]]) -> list[str]:
    """Return what differs, a line for each; counts that could not be taken are no difference."""
    lines = [f"{name}: only in one of both" for name in stored.keys() ^ found.keys()]
    for name in stored.keys() & found.keys():
        for what, n in found[name].items():
            if stored[name].get(what) != n:
                lines.append(f"{name}: {what}: {stored[name].get(what)} stored, {n} found")
    return sorted(lines)


def main() -> int:
    """Compare, or write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"replace {STORED.name}")
    parser.add_argument("--traced", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.traced:
        traced(args.traced)
        return 0
    found = measured()
    for name, counts in found.items():
        print(f"{name:40} " + ", ".join(f"{what} {n}" for what, n in counts.items()))
    if args.write:
        STORED.write_text(json.dumps(found, indent=2) + "\n")
        return 0
    wrong = differences(json.loads(STORED.read_text()), found)
    print("\n".join(wrong) or "as stored")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
