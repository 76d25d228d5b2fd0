"""Data files that the benchmarks run on: made once, kept in benchmarks/data (or $MAPIX_BENCH_DATA).

``uniform``: 300,000 records of 32 x 32 x 3, two labels (0.93 GB).
``mixed``: 200,000 records, h and w 16..64, c 1 or 3, 0..8 labels (0.64 GB).
``large``: 10,000 records of 224 x 224 x 3 (1.5 GB), for indexing a cold disk.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("MAPIX_BENCH_DATA", Path(__file__).parent / "data"))
CHUNK = 4096


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


MAKERS = {
    "uniform": lambda path: _alike(path, 300_000, 32, 32, 3, 2),
    "mixed": lambda path: _mixed(path, 200_000),
    "large": lambda path: _alike(path, 10_000, 224, 224, 3, 2),
}


def dataset(name: str) -> Path:
    """The file of that name, made on first use."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.vimh"
    if not path.exists():
        part = path.with_suffix(".part")
        MAKERS[name](part)
        part.rename(path)
    return path


def refill(path: Path) -> None:
    """Drop the file from the page cache and read it front to back, so that it is held in large
    pages: without this, figures can be off by a factor of seven."""
    evict(path)
    with open(path, "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


def evict(path: Path) -> None:
    """Drop the file from the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
