"""Image folders: lines found, a first record, a record by name, a batch."""

from __future__ import annotations

from typing import Any

import pytest

import mapix
from comparison.folder import SIZE, metadata, pictures
from mapix.folder.lines import Lines
from mapix.source import Source


def test_lines(benchmark: Any) -> None:
    """All lines of a metadata file, from its path on."""
    path = metadata()
    assert benchmark(lambda: len(Lines(Source(path)))) > 0


def test_first_line(benchmark: Any) -> None:
    """From a path to a record, of a file of any size."""
    path = metadata()
    assert benchmark(lambda: mapix.open(path)[0].metadata)


def test_names(benchmark: Any) -> None:
    """The table of names, which reads all lines."""
    path = metadata()
    found = benchmark.pedantic(lambda: mapix.open(path).find("0000001.jpg"), rounds=2)
    assert found.tolist() == [1]


@pytest.mark.parametrize("threads", [1, 2])
def test_batch(benchmark: Any, threads: int) -> None:
    """Read, decoded, covered, cut."""
    pytest.importorskip("PIL.Image")
    ds = mapix.open(pictures())
    options = {"size": SIZE, "fit": "cover", "dtype": "float32", "scale": 1 / 255}
    assert len(benchmark(lambda: ds.batch(range(32), threads=threads, **options))) == 32
