"""Data files that the benchmarks run on: made once, kept in benchmarks/data (or $MAPIX_BENCH_DATA).

``uniform``: 300,000 records of 32 x 32 x 3, two labels (0.93 GB).
``mixed``: 200,000 records, h and w 16..64, c 1 or 3, 0..8 labels (0.64 GB).
``mixed_tenth``: a tenth of the same kind, to see what grows with the number of records.
``mixed7``: the same records seven times (4.5 GB), for what only shows beyond the caches.
``large``: 10,000 records of 224 x 224 x 3 (1.5 GB), for indexing a cold disk.

``$MAPIX_BENCH_RECORDS`` sets the number of uniform records; the other files shrink or grow with it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("MAPIX_BENCH_DATA", Path(__file__).parent / "data"))
COUNTS = {"uniform": 300_000, "mixed": 200_000, "mixed_tenth": 20_000}
COUNTS |= {"mixed7": 1_400_000, "large": 10_000}
CHUNK = 4096
BLOCK = 1 << 20  # bytes of one read() of a sequential pass


def count(name: str) -> int:
    """How many records the file of that name has."""
    wanted = int(os.environ.get("MAPIX_BENCH_RECORDS", COUNTS["uniform"]))
    return max(COUNTS[name] * wanted // COUNTS["uniform"], 1)


def _alike(path: Path, n: int, h: int, w: int, c: int, nlabels: int) -> None:
    rng = np.random.default_rng(0)
    head = np.array([h, w, c], "<u2").tobytes() + np.array([-80, 0], "<f4").tobytes()
    head += bytes([nlabels])
    size = len(head) + 2 * nlabels + h * w * c
    with open(path, "wb") as f:
        for begin in range(0, n, CHUNK):
            m = min(CHUNK, n - begin)
            block = rng.integers(0, 256, (m, size), dtype=np.uint8)
            block[:, : len(head)] = np.frombuffer(head, np.uint8)
            block[:, len(head) : len(head) + 2 * nlabels : 2] = np.arange(nlabels)
            f.write(block)


def _mixed(path: Path, n: int) -> None:
    rng = np.random.default_rng(1)
    hs, ws = rng.integers(16, 65, (2, n))
    cs = rng.choice([1, 3], n)
    counts = rng.integers(0, 9, n)
    spec = np.array([-80, 0], "<f4").tobytes()
    with open(path, "wb") as f:
        for h, w, c, k in zip(hs.tolist(), ws.tolist(), cs.tolist(), counts.tolist(), strict=True):
            pairs = np.empty((k, 2), np.uint8)
            pairs[:, 0] = rng.permutation(8)[:k]
            pairs[:, 1] = rng.integers(0, 256, k)
            head = np.array([h, w, c], "<u2").tobytes() + spec + bytes([k])
            f.write(head + pairs.tobytes() + rng.bytes(h * w * c))


def _sevenfold(path: Path) -> None:
    with open(path, "wb") as f:
        for _ in range(7):
            with open(dataset("mixed"), "rb") as one:
                shutil.copyfileobj(one, f, BLOCK)


MAKERS = {
    "uniform": lambda path: _alike(path, count("uniform"), 32, 32, 3, 2),
    "mixed": lambda path: _mixed(path, count("mixed")),
    "mixed_tenth": lambda path: _mixed(path, count("mixed_tenth")),
    "mixed7": _sevenfold,
    "large": lambda path: _alike(path, count("large"), 224, 224, 3, 2),
}


def dataset(name: str) -> Path:
    """The file of that name, made on first use."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    usual = count(name) == COUNTS[name]
    path = FOLDER / (f"{name}.vimh" if usual else f"{name}-{count(name)}.vimh")
    if not path.exists():
        part = path.with_suffix(".part")
        MAKERS[name](part)
        part.rename(path)
    return path


# --- the page cache -----------------------------------------------------------------------------


def photograph(
    rng: np.random.Generator, size: tuple[int, int], *, grey_noise: bool = False
) -> np.ndarray:
    """Soft shapes with noise, as a photograph has them: uint8 (h, w, 3)."""
    from PIL import Image

    h, w = size
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    image = np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC), np.int16)
    noise = rng.normal(0, 6, (h, w, 1 if grey_noise else 3))
    return (image + noise).clip(0, 255).astype(np.uint8)


def files_of(path: Path) -> Iterator[Path]:
    """The file itself, or all files of a folder."""
    if path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file())
    elif path.exists():
        yield path


def read_through(path: Path) -> int:
    """Read a file front to back, a megabyte at a time; its size."""
    total, block = 0, bytearray(BLOCK)
    with open(path, "rb", buffering=0) as f:
        while n := f.readinto(block):
            total += n
    return total


def refill(path: Path) -> None:
    """Drop a file or folder from the page cache and read it front to back, so that it is held in
    large pages: without this, figures can be off by a factor of seven."""
    evict(path)
    for p in files_of(path):
        read_through(p)


def evict(path: Path) -> None:
    """Drop a file or folder from the page cache.  Pages that anybody has mapped stay: see
    ``resident``."""
    for p in files_of(path):
        fd = os.open(p, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def resident(path: Path) -> float:
    """Share of the pages of a file or folder that are in the page cache."""
    there = pages = 0
    for p in files_of(path):
        if not _nbytes(p):
            continue
        with mapped(p) as m:
            data, flags = (
                np.frombuffer(m, np.uint8),
                np.empty(-(-len(m) // mmap.PAGESIZE), np.uint8),
            )
            failed = _mincore(data.ctypes.data, len(data), flags.ctypes.data)
            del data  # or the map could not be closed
            if failed:
                raise OSError(ctypes.get_errno(), f"mincore: {p}")
            there += int((flags & 1).sum())
            pages += len(flags)
    return there / max(pages, 1)


class Held:
    """Files that are in the page cache, and stay there."""

    def __init__(self) -> None:
        self._maps: dict[Path, list[mmap.mmap]] = {}

    def take(self, path: Path) -> None:
        """Refill the page cache with a file or folder and lock it in memory, where allowed."""
        refill(path)
        self._maps[path] = [mapped(p) for p in files_of(path) if _nbytes(p)]
        for m in self._maps[path]:
            data = np.frombuffer(m, np.uint8)
            failed = _mlock(data.ctypes.data, len(data))
            del data  # or the map could not be closed
            if failed:
                why = os.strerror(ctypes.get_errno())
                print(f"page cache: {path.name} is not locked: {why}", file=sys.stderr)

    def touch(self, *paths: Path) -> None:
        """Look at every page.  Hosts of virtual machines take note of memory that is idle for
        seconds, and then the first look at it is slow, whoever has it."""
        for path in paths:
            for m in self._maps.get(path, []):
                np.frombuffer(m, np.uint8)[:: mmap.PAGESIZE].max()

    def close(self) -> None:
        """Unlock all."""
        for m in (m for maps in self._maps.values() for m in maps):
            m.close()


@contextmanager
def held(*paths: Path) -> Iterator[Held]:
    """Refill the page cache with files and folders, and keep them there: some machines give idle
    pages back within seconds, and what was meant to be warm is then read from disk.

    Where the memory cannot be locked, a warning says so, and what is measured may be slower.
    """
    hold = Held()
    try:
        for path in dict.fromkeys(paths):
            hold.take(path)
        yield hold
    finally:
        hold.close()


def _nbytes(path: Path) -> int:
    return path.stat().st_size


def mapped(path: Path) -> mmap.mmap:
    """A whole file, read-only."""
    with open(path, "rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def populate(path: Path) -> None:
    """Fault in, front to back, all that this process has mapped of a file or folder.

    What a reader pays for a fresh mapping is one thing, what a record costs it for good another.
    """
    wanted = {str(p.resolve()) for p in files_of(path)}
    with open("/proc/self/maps") as f:
        for line in f:
            span, _, _, _, _, *name = line.split(maxsplit=5)
            if name and name[0].strip() in wanted:
                begin, end = (int(x, 16) for x in span.split("-"))
                # EINVAL from kernels before 5.14: then the first rounds do it
                _madvise(begin, end - begin, MADV_POPULATE_READ)


MADV_POPULATE_READ = 22
_libc = ctypes.CDLL(None, use_errno=True)
_mincore = _libc.mincore
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_mlock = _libc.mlock
_mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
