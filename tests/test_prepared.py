"""Batches with options that were used before: the same batches, and the same errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.vimh import Parameter

N = 50


@pytest.fixture(params=["vimh", "idx", "npy"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
    if request.param == "vimh":
        with mapix.vimh.Writer(tmp_path / "d", [Parameter("a", 0), Parameter("b", 1)]) as out:
            out.extend(images, codes={"a": rng.integers(0, 256, N), "b": np.arange(N)})
        return mapix.open(tmp_path / "d")
    if request.param == "npy":
        np.save(tmp_path / "images.npy", images)
        return mapix.open(tmp_path / "images.npy")
    mapix.idx.write(tmp_path / "train-images-idx3-ubyte", images[..., 0].copy())
    mapix.idx.write(tmp_path / "train-labels-idx1-ubyte", np.arange(N, dtype=np.uint8))
    return mapix.open(tmp_path / "train-images-idx3-ubyte")


OPTIONS: list[dict[str, Any]] = [
    {},
    {"labels": None},
    {"dtype": "float32", "scale": 1 / 255, "mean": 0.5, "std": 0.25},
    {"dtype": "float32", "layout": "NCHW", "mean": [0.5], "std": np.array([2.0])},
    {"dtype": "float16", "threads": 2},
    {"labels": "class"},
    {"pad": (8, 8), "pad_value": 3},
]


def same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_second_batch_is_what_a_new_dataset_gives(opened: Any, options: Any) -> None:
    for ds in (opened, opened[::-2], opened[[5, 1, 7]]):
        first = ds.batch([0], **options)
        for rows in ([1, 0, -1], np.array([2, 2, -3]), np.empty(0, np.int64), [True] * len(ds)):
            with mapix.open(opened.path) as anew:
                want = anew[ds.rows].batch(rows, **options)
            for out in (None, np.empty_like(want.images)):
                found = ds.batch(rows, out, **options)
                for name in ("images", "labels", "present", "shapes"):
                    assert same(getattr(found, name), getattr(want, name)), name
                assert found.names == want.names == first.names
                assert out is None or found.images is out
                assert not found.shapes.flags.writeable or found.shapes.flags.owndata
        assert len(ds._prepared) <= 1


def test_options_are_told_apart_and_still_checked(opened: Any) -> None:
    rows = np.arange(3)
    plain = opened.batch(rows)
    assert opened._prepared, "a known set of options"
    assert opened.batch(rows, dtype="float32").images.dtype == np.float32
    assert opened.batch(rows, labels=None).labels is None
    assert same(opened.batch(rows).images, plain.images)
    for wrong in ({"pad": 0.5}, {"threads": 0}, {"dtype": "int7"}, {"scale": 2.0}, {"crop": "x"}):
        with pytest.raises(ValueError, match=r"pad|threads|dtype|crop"):
            opened.batch(rows, **wrong)
    for k in range(40):
        opened.batch(rows, dtype="float32", scale=float(k))
    assert 0 < len(opened._prepared) <= 16
    for bad in ([N], [-N - 1]):
        with pytest.raises(IndexError, match=f"{N} records"):
            opened.batch(np.array(bad))
    with pytest.raises(ValueError, match="out must be"):
        opened.batch(rows, np.empty((2, 2), np.uint8))


@pytest.mark.maps
def test_files_that_change_and_datasets_that_are_closed(opened: Any) -> None:
    rows = np.arange(3)
    before = opened.batch(rows)
    os.chmod(opened.path, 0o600)  # harmless
    assert same(opened.batch(rows).images, before.images)
    os.utime(opened.path, ns=(1, 1))
    with pytest.raises(mapix.FileChangedError):
        opened.batch(rows)
    opened.close()
    with pytest.raises(mapix.ClosedError):
        opened.batch(rows)
