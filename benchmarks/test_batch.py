"""Batches of 256 random records, other ones each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data_files import dataset

DTYPES = ("uint8", "float32", "float16")
LAYOUTS = ("NCHW", "NHWC")
NORMALISED = {"scale": 1 / 255, "mean": (0.45, 0.5, 0.55), "std": (0.25, 0.225, 0.25)}


def _options(ds: Any, dtype: str) -> dict[str, Any]:
    """Normalisation for floats; per channel only where all records have three."""
    if dtype == "uint8":
        return {}
    return NORMALISED if ds.uniform else {"scale": 1 / 255, "mean": 0.5, "std": 0.25}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch(benchmark: Any, ds: Any, draw: Callable[[], Any], dtype: str, layout: str) -> None:
    """Into an output that is reused; mixed sizes padded to 64 x 64."""
    how = {"dtype": dtype, "layout": layout, **_options(ds, dtype)}
    if not ds.uniform:
        how["pad"] = (64, 64)
    out = np.empty_like(ds.batch(draw(), **how).images)
    if not ds.uniform:  # batches without any 3-channel record are smaller
        out = None
    benchmark(lambda: ds.batch(draw(), out, **how))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark: Any, ds: Any, draw: Callable[[], Any], threads: int) -> None:
    """One and two threads, bytes as they are."""
    how: dict[str, Any] = {"layout": "NCHW"} if ds.uniform else {"flat": True}
    benchmark(lambda: ds.batch(draw(), threads=threads, **how))


def test_fixed_cost(benchmark: Any, ds: Any) -> None:
    """A batch of one: what a call costs."""
    how: dict[str, Any] = {"layout": "NCHW"} if ds.uniform else {"flat": True}
    benchmark(lambda: ds.batch([0], **how))


@pytest.mark.parametrize("labels", ["raw", "normalised", "physical", "class", None])
def test_labels(benchmark: Any, ds: Any, draw: Callable[[], Any], labels: str | None) -> None:
    """Units of the labels."""
    how: dict[str, Any] = {"layout": "NCHW"} if ds.uniform else {"flat": True}
    benchmark(lambda: ds.batch(draw(), labels=labels, **how))


def test_take(benchmark: Any, ds: Any, draw: Callable[[], Any]) -> None:
    """np.take of complete records: numpy's fastest way, for comparison."""
    if not ds.uniform:
        pytest.skip("a mixed file is no array")
    rows = np.memmap(dataset("uniform"), np.uint8, "r").reshape(len(ds), -1)
    plain, out = np.asarray(rows), np.empty((256, rows.shape[1]), np.uint8)
    benchmark(lambda: plain.take(draw(), 0, out, "clip"))
