"""VisualRBM's models, from JSON and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.visualrbm import RestrictedBoltzmannMachine


@pytest.fixture(scope="module")
def model() -> Any:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(500, 784)) * 0.1
    return RestrictedBoltzmannMachine(weights, np.zeros(784), np.zeros(500))


@pytest.mark.parametrize("strict", [False, True])
def test_open(benchmark: Any, model: Any, tmp_path: Path, strict: bool) -> None:
    model.write(tmp_path / "x.json")
    assert benchmark(mapix.open, tmp_path / "x.json", strict=strict) == model


@pytest.mark.parametrize("compat", [None, "visualrbm"])
def test_write(benchmark: Any, model: Any, tmp_path: Path, compat: Any) -> None:
    benchmark(model.write, tmp_path / "x.json", compat=compat, replace=True)


@pytest.mark.parametrize("approx", [None, "visualrbm"])
def test_hidden(benchmark: Any, model: Any, approx: Any) -> None:
    rows = np.random.default_rng(1).normal(size=(64, 784)).astype(np.float32)
    benchmark(model.hidden, rows, approx=approx)
