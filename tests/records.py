"""Files that the tests of ds[i] share, and what they ask of a process."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import pytest

import mapix
from mapix.vimh import index_store, record_types
from slow_vimh import record

needs_c = pytest.mark.skipif(
    not record_types.FAST, reason="mapix._record is not built, or MAPIX_PURE=1"
)

MIXED = [record(2 + i % 3, 3, 1 + i % 2, [(i % 4, i)] * (i % 3), seed=i) for i in range(40)]


def store(path: Path, data: bytes) -> Path:
    """Make a data file whose index is kept; where that is."""
    path.write_bytes(data)
    folder = Path(index_store.cache_folder())
    before = set(folder.iterdir()) if folder.exists() else set()
    age = time.time_ns() - path.stat().st_ctime_ns
    time.sleep(max(0, index_store.FINE_NS * 1.2 - age) / 1e9)
    mapix.open(path, dialect=14).close()
    (kept,) = set(folder.iterdir()) - before
    return kept


def mapped(path: Path) -> bool:
    """Whether this process maps the file."""
    return str(path) in Path("/proc/self/maps").read_text()


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.partition("Anonymous:")[2].split()[0]) << 10


def descriptors() -> int:
    """Open descriptors of this process, without those of objects that nothing refers to."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
