"""From a path to the first record."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import mapix


def _first(path: Path, index: str) -> Any:
    with mapix.open(path, index=index) as ds:
        record = ds[0]
        return record.image.copy(), record.label_bytes.copy()


def test_stored_index(benchmark: Any, path: Path) -> None:
    """The usual case: the file was opened before."""
    mapix.open(path).close()
    with mapix.open(path) as ds:
        if not ds.index.stored:
            pytest.skip("the file is too small or too young for a stored index")
    benchmark(_first, path, "auto")


def test_no_stored_index(benchmark: Any, path: Path) -> None:
    """The first time."""
    benchmark.pedantic(_first, (path, "never"), rounds=7, warmup_rounds=1, iterations=1)


def test_unpickle(benchmark: Any, ds: Any) -> None:
    """What a worker of a loader does when it starts."""
    sent = pickle.dumps(ds)
    benchmark(lambda: pickle.loads(sent).close())


def test_subset(benchmark: Any, ds: Any) -> None:
    """A lazy dataset of every other record."""
    assert len(benchmark(lambda: ds[::2])) == (len(ds) + 1) // 2
