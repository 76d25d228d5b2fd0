"""PINK's files, mapix alone: from a path to an entry, batches, best matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.pink import write_data, write_map

N, SIDE, NNEURONS = 2_000, 64, 37


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data at odd bytes, and a hexagonal mapping."""
    folder = tmp_path_factory.mktemp("pink")
    rng = np.random.default_rng(0)
    write_data(folder / "data.bin", rng.random((N, SIDE, SIDE), np.float32), header=["odd ones"])
    write_map(folder / "map.bin", rng.random((20_000, NNEURONS), np.float32), layout="hexagonal")
    return folder / "data.bin", folder / "map.bin"


def test_open(benchmark: Any, files: tuple[Path, Path]) -> None:
    """A path to a copy of an entry."""
    benchmark(lambda: np.array(mapix.open(files[0])[N - 1]))


def test_batch(benchmark: Any, files: tuple[Path, Path]) -> None:
    """256 random entries into an array."""
    a = mapix.open(files[0])
    rows = np.random.default_rng(1).integers(0, N, 256)
    out = np.empty((256, SIDE, SIDE), np.float32)
    benchmark(lambda: a.batch(rows, out))


def test_best_matches(benchmark: Any, files: tuple[Path, Path]) -> None:
    """The nearest neuron of all entries."""
    m = mapix.open(files[1])
    assert benchmark(m.best_match).shape == (20_000,)
