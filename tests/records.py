"""Helpers that several test modules share: data files, stored files, facts about this process."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import pytest

import mapix
from mapix import cache
from mapix.vimh import layout, record_types
from slow_vimh import record

needs_c = pytest.mark.skipif(
    not record_types.FAST, reason="mapix._record is not built, or MAPIX_PURE=1"
)

MIXED = [record(2 + i % 3, 3, 1 + i % 2, [(i % 4, i)] * (i % 3), seed=i) for i in range(40)]


def settle(path: Path) -> Path:
    """Wait until the times of a file are old enough for an index of it to be stored."""
    age = time.time_ns() - path.stat().st_ctime_ns
    time.sleep(max(0, cache.FINE_NS * 1.2 - age) / 1e9)
    return path


def stored() -> list[Path]:
    """Return the files in the cache folder, sorted."""
    folder = Path(cache.cache_folder())
    return sorted(folder.iterdir()) if folder.exists() else []


def store(path: Path, data: bytes) -> Path:
    """Write a data file, let its index be stored, and return the path of the index."""
    path.write_bytes(data)
    before = set(stored())
    mapix.open(settle(path), dialect=14).close()
    (index,) = set(stored()) - before
    return index


def content(ds: Any) -> list[Any]:
    """Return offset, shape, pixels and labels of all records of a VIMH dataset."""
    return [(r.offset, r.image.shape, r.image.tobytes(), r.labels) for r in ds]


def never_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test fail if a VIMH file is indexed from here on."""

    def refuse(*a: Any, **k: Any) -> None:
        raise AssertionError("the file was walked again")

    monkeypatch.setattr(layout, "walk", refuse)


def crc32c(data: bytes) -> int:
    """Compute CRC32C bit by bit: the reference implementation."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def mapped(path: Path) -> bool:
    """Return whether this process maps the file."""
    return str(path) in Path("/proc/self/maps").read_text()


def anonymous() -> int:
    """Return the number of bytes of this process that no file backs."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.partition("Anonymous:")[2].split()[0]) << 10


def lacks_memory(*args: object, **options: object) -> None:
    raise MemoryError


def descriptors() -> int:
    """Return the number of open descriptors, after objects without references were collected."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
