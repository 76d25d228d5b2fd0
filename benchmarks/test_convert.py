"""Conversions, beside copying the file: bytes a second are what to look at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import mapix

TARGETS: dict[str, dict[str, Any]] = {
    "vimh": {"to": "vimh"},
    "vimh6": {"to": "vimh", "dialect": 6},
    "pickle": {"to": "vimh", "output": "pickle"},
    "npz": {},
    "npy": {},
    "idx": {"label": False},
    "parquet": {},
}


@pytest.fixture
def target(tmp_path: Path) -> Any:
    """Gives another path at each call, and removes the one before."""
    made: list[Path] = []

    def another(name: str) -> Path:
        while made:
            old = made.pop()
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        made.append(tmp_path / f"x.{name}")
        return made[-1]

    yield another
    another("")


@pytest.mark.parametrize("name", TARGETS)
def test_convert(benchmark: Any, path: Path, ds: Any, target: Any, name: str) -> None:
    """The whole file; pictures and labels as the target has room for them."""
    if not ds.uniform and name in ("pickle", "npy", "idx"):
        pytest.skip("holds records of one shape")
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    benchmark.extra_info["nbytes"] = path.stat().st_size
    benchmark.pedantic(
        lambda to: mapix.convert(path, to, lossy=True, **TARGETS[name]),
        setup=lambda: ((target(name),), {}),
        rounds=3,
    )


def test_copy(benchmark: Any, path: Path, target: Any) -> None:
    """cp, and fsync: what the conversions are measured against."""

    def copy(to: Path) -> None:
        shutil.copyfile(path, to)
        with to.open("r+b") as f:
            os.fsync(f.fileno())

    benchmark.extra_info["nbytes"] = path.stat().st_size
    benchmark.pedantic(copy, setup=lambda: ((target("copy"),), {}), rounds=3)
