"""PINK's files: opening, batches, best matches, writing, beside what one writes with numpy."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix
from comparison.report import Goal, Report
from comparison.rounds import Case, repeats, seconds, told
from data_files import FOLDER, refill
from mapix.pink import Writer

SIDE, NSMALL, NLARGE = 64, 1_000, 30_000
NENTRIES, NNEURONS = 200_000, 91
B, NBATCHES = 256, 20
HEADER = ["three bytes off"]  # the numbers do not begin at a multiple of four

Array = np.ndarray[Any, Any]


def _count(n: int) -> int:
    return max(300, n * int(os.environ.get("MAPIX_BENCH_RECORDS", "300000")) // 300_000)


def _data(n: int) -> Path:
    path = FOLDER / f"pink-data-{n}.bin"
    if not path.exists():
        told(f"making {path.name}")
        rng = np.random.default_rng(0)
        with Writer(path, "data", (SIDE, SIDE), n=n, header=HEADER) as out:
            for at in range(0, n, 1000):
                out.extend(rng.random((min(1000, n - at), SIDE, SIDE), np.float32))
    return path


def _mapping() -> Path:
    n = _count(NENTRIES)
    path = FOLDER / f"pink-map-{n}.bin"
    if not path.exists():
        told(f"making {path.name}")
        rng = np.random.default_rng(0)
        with Writer(path, "map", som_shape=(11, 11), layout="hexagonal", n=n) as out:
            for at in range(0, n, 10_000):
                out.extend(rng.random((min(10_000, n - at), NNEURONS), np.float32))
    return path


def _header(path: Path) -> tuple[int, tuple[int, ...]]:
    """Where the numbers begin, and their shape: data and mappings, as a script reads them."""
    with path.open("rb") as f:
        line = f.readline()
        while line.startswith(b"#") and line != b"# END OF HEADER\n":
            line = f.readline()
        if not line.startswith(b"#"):
            f.seek(0)
        _, kind, _, n, _, ndim = struct.unpack("<6i", f.read(24))
        dims = struct.unpack(f"<{ndim}i", f.read(4 * ndim))
        at = f.tell()
    if kind == 2:
        dims = ((path.stat().st_size - at) // (4 * n),)
    return at, (n, *dims)


def memmap(path: Path) -> Array:
    """Who knows the format and numpy."""
    at, shape = _header(path)
    return np.memmap(path, "<f4", "r", at, shape)


def fromfile(path: Path) -> Array:
    """All of it read, as PINK's scripts do."""
    at, shape = _header(path)
    return np.fromfile(path, "<f4", offset=at).reshape(shape)


READERS: dict[str, Callable[[Path], Any]] = {
    "mapix": mapix.open,
    "np.memmap": memmap,
    "np.fromfile": fromfile,
}


def opening(report: Report, path: Path) -> None:
    """A path to a copy of the last entry."""
    want = np.array(fromfile(path)[-1])

    def timed(reader: Callable[[Path], Any]) -> Callable[[], float]:
        def once() -> Array:
            return np.array(reader(path)[-1])

        np.testing.assert_array_equal(once(), want)

        def run() -> float:
            n = repeats(once)
            return seconds(lambda: [once() for _ in range(n)]) / n

        return run

    cases = [Case(name, timed(reader)) for name, reader in READERS.items()]
    report.table(
        f"PINK data of {path.stat().st_size >> 20} MiB: open and last entry",
        "us",
        "np.memmap",
        cases,
        [Goal("mapix", "faster", 10, "np.fromfile")],
    )


def batches(report: Report, path: Path) -> None:
    """Random entries, copied into one array; they lie at odd bytes."""
    rng = np.random.default_rng(1)
    a, mapped, ready = mapix.open(path), memmap(path), fromfile(path)
    out = np.empty((B, SIDE, SIDE), np.float32)

    def timed(work: Callable[[Array], Any]) -> Callable[[], float]:
        def run() -> float:
            rows = [rng.integers(0, len(a), B) for _ in range(NBATCHES)]
            return seconds(lambda: [work(r) for r in rows]) / NBATCHES

        return run

    rows = rng.integers(0, len(a), B)
    np.testing.assert_array_equal(a.batch(rows, out).images, ready[rows])
    np.testing.assert_array_equal(mapped[rows], ready[rows])
    take = timed(lambda r: np.take(ready, r, 0, out=out, mode="clip"))
    cases = [
        Case("mapix", timed(lambda r: a.batch(r, out))),
        Case("mapix, new arrays", timed(lambda r: a.batch(r))),
        Case("np.memmap", timed(lambda r: mapped[r])),
        Case("np.stack of views", timed(lambda r: np.stack([mapped[i] for i in r]))),
        Case("np.take from memory", take, "all of it read before"),
    ]
    goal = Goal("mapix", "share", 0.8, "np.take from memory")
    report.table(
        f"PINK data, {B} random entries of {SIDE} x {SIDE}", "us", goal.against, cases, [goal]
    )


def matches(report: Report, path: Path) -> None:
    """The nearest neuron of every entry, from the path on."""
    want = fromfile(path).argmin(axis=1)
    np.testing.assert_array_equal(mapix.open(path).best_match(), want)
    ready = fromfile(path)
    cases = [
        Case("mapix", lambda: seconds(lambda: mapix.open(path).best_match())),
        Case("np.memmap", lambda: seconds(lambda: memmap(path).argmin(axis=1))),
        Case("np.fromfile", lambda: seconds(lambda: fromfile(path).argmin(axis=1))),
        Case("argmin alone", lambda: seconds(lambda: ready.argmin(axis=1)), "all of it in memory"),
    ]
    report.table(
        f"PINK mapping, best matches of {len(want):,} entries on {NNEURONS} neurons",
        "ms",
        "np.fromfile",
        cases,
        [Goal("mapix", "faster", 1, "np.fromfile")],
    )


def writing(report: Report, path: Path) -> None:
    """Entries at hand into a file that is on the disk."""
    ready = fromfile(path)
    place = FOLDER / "pink-written.bin"

    def ours() -> None:
        mapix.pink.write_data(place, ready, replace=True)

    def plain() -> None:
        with place.open("wb") as f:
            f.write(struct.pack("<8i", 2, 0, 0, len(ready), 0, 2, SIDE, SIDE))
            ready.tofile(f)
            f.flush()
            os.fsync(f.fileno())

    ours()
    data = place.read_bytes()
    plain()
    if data != place.read_bytes():
        raise AssertionError("the two files differ")
    del data
    cases = [
        Case("mapix", lambda: seconds(ours), "a new file, renamed into place"),
        Case("tofile, and fsync", lambda: seconds(plain)),
    ]
    report.table(
        f"PINK data of {path.stat().st_size >> 20} MiB written",
        "ms",
        "tofile, and fsync",
        cases,
        [Goal("mapix", "share", 0.7, "tofile, and fsync")],
    )
    place.unlink()


def measure(report: Report, long: bool) -> None:
    """All of them."""
    del long
    small, large, mapping = _data(_count(NSMALL)), _data(_count(NLARGE)), _mapping()
    for path in (small, large, mapping):
        refill(path)
    opening(report, small)
    opening(report, large)
    batches(report, large)
    matches(report, mapping)
    writing(report, large)
