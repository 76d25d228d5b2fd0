"""Batches of known options are made by one call in C; they are those that Python makes."""

from __future__ import annotations

import gc
import os
import weakref
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.batch import Batch, Prepared
from mapix.vimh.record_types import FAST
from slow_vimh import pack, record

SHAPE = (4, 5, 3)
FIELDS = ("images", "labels", "present", "shapes", "spec_range", "offsets")
PIXELS: list[dict[str, Any]] = [
    {},
    {"dtype": "float32", "scale": 0.5, "layout": "NCHW", "mean": (1.0, 2.0, 3.0), "std": 2.0},
    {"pad": (6, 9), "pad_value": 7},
    {"pad": (3, 7, 4), "crop": "corner", "layout": "NCHW", "threads": 2},
]
UNITS: list[dict[str, Any]] = [
    {"labels": "normalised"},
    {"labels": "physical", "dtype": "float16"},
    {"labels": "class"},
    {"labels": None, "spec_range": True},
]


def same(batch: Batch, wanted: Batch) -> None:
    assert batch.names == wanted.names
    for name in FIELDS:
        found, want = getattr(batch, name), getattr(wanted, name)
        assert (found is None) == (want is None), name
        if want is not None:
            assert found.dtype == want.dtype
            np.testing.assert_array_equal(found, want, name)


def vimh(folder, *, mixed: bool = False):
    sizes = [(4 + i % 3, 5, 3) if mixed else SHAPE for i in range(40)]
    labels = [[(0, i), (7, 255 - i)] if i % 5 or not mixed else [(7, 3)] for i in range(40)]
    records = [record(*size, each) for size, each in zip(sizes, labels, strict=True)]
    for i, each in enumerate(records):
        each.image = bytes(i + k & 255 for k in range(len(each.image)))
        each.spec = (-1.5, float(i))
    path = folder / "train"
    path.write_bytes(pack(records))
    return mapix.open(path, dialect=14)


def idx(folder, dtype: str = "u1"):
    rng = np.random.default_rng(3)
    numbers = rng.integers(0, 200, (50, 6, 7)).astype(dtype)
    mapix.idx.write(folder / "train-images-idx3-ubyte", numbers)
    mapix.idx.write(folder / "train-labels-idx1-ubyte", rng.integers(0, 10, 50, np.uint8))
    return mapix.open(folder / "train-images-idx3-ubyte")


def npy(folder, dtype: str):
    path = folder / "a.npy"
    np.save(path, np.random.default_rng(3).normal(size=(50, 6, 7)).astype(dtype))
    return mapix.open(path)


def open_kind(kind: str, folder):
    if kind in ("vimh", "mixed"):
        return vimh(folder, mixed=kind == "mixed")
    if kind.startswith("npy"):
        return npy(folder, kind.removeprefix("npy "))
    return idx(folder)


CASES = [("vimh", options) for options in (*PIXELS, *UNITS, {"flat": True})]
CASES += [("mixed", {"pad": (6, 5), **options}) for options in UNITS]
CASES += [
    ("idx", options) for options in ({}, {"dtype": "float32", "scale": 2.0}, {"labels": None})
]
CASES += [("npy >f4", {}), ("npy <f8", {}), ("npy >i2", {"labels": None})]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_a_known_set_of_options_gives_the_same_batches(tmp_path, monkeypatch, kind, options):
    ds = open_kind(kind, tmp_path)
    rng = np.random.default_rng(0)
    rows = [rng.integers(-len(ds), len(ds), b) for b in (7, 0, 1, 31)]
    again = {"dialect": 14} if ds.FAMILY == "vimh" else {}
    wanted = [mapix.open(ds.path, **again).batch(each, **options) for each in rows]
    ds.batch([0], **options)  # the first one prepares them
    assert len(ds._prepared) == 1
    if FAST:
        monkeypatch.setattr(Prepared, "gather", None)
    for each, want in zip(rows, wanted, strict=True):
        given = each.copy()
        same(ds.batch(given, **options), want)
        out = np.empty_like(want.images)
        got = ds.batch(given, out, **options)
        assert got.images is out
        assert got.images.flags.writeable
        same(got, want)
        np.testing.assert_array_equal(given, each)
        assert not got.shapes.flags.writeable or kind == "mixed"
    n = len(ds)
    part = ds[n - 1 :: -2]
    part.batch([0], **options)
    same(part.batch(np.array([1, 3]), **options), ds.batch(np.array([n - 3, n - 7]), **options))


@pytest.mark.parametrize("kind", ["vimh", "mixed", "idx", "npy >f4"])
def test_other_arguments_are_those_of_python(tmp_path, kind):
    options = {"pad": (6, 5)} if kind == "mixed" else {}
    ds = open_kind(kind, tmp_path)
    rows = np.array([3, 1, -2])
    want = ds.batch(rows, **options)
    room = np.zeros((5, *want.images.shape[1:]), want.images.dtype)
    for given, out in [
        *(
            ([3, 1, -2], None),
            (rows.astype(np.int32), None),
            (np.array([3, 0, 1, 0, -2])[::2], None),
        ),
        *((rows, room), (rows, want), (tuple(rows.tolist()), np.empty_like(want.images))),
    ]:
        expected = Batch(**{k: getattr(want, k) for k in (*FIELDS, "names")})
        expected.images = want.images.copy()
        got = ds.batch(given, out, **options)
        same(got, expected)
        assert out is not room or np.shares_memory(got.images, room)
    mask = np.zeros(len(ds), bool)
    mask[[1, 3]] = True
    same(ds.batch(mask, **options), ds.batch(np.array([1, 3]), **options))
    with pytest.raises(IndexError, match=f"index {len(ds)} at position 1 of {len(ds)} records"):
        ds.batch(np.array([0, len(ds)]), **options)
    with pytest.raises(IndexError, match=f"index {-len(ds) - 1} at position 0"):
        ds.batch(np.array([-len(ds) - 1]), **options)
    for bad, message in (
        (np.empty_like(want.images[:2]), "shape"),
        (np.empty(want.images.shape, "u4"), "uint32"),
        (np.asfortranarray(np.empty_like(want.images)), "C-contiguous"),
    ):
        with pytest.raises(ValueError, match=message):
            ds.batch(rows, bad, **options)
    with pytest.raises(ValueError, match="out is read-only"):
        ds.batch(
            rows,
            np.frombuffer(bytes(want.images.nbytes), want.images.dtype).reshape(want.images.shape),
            **options,
        )
    with pytest.raises((TypeError, ValueError)):
        ds.batch(np.array([0.5]), **options)


@pytest.mark.parametrize("kind", ["vimh", "idx", "npy >f4"])
def test_a_file_that_changed_is_found(tmp_path, kind):
    ds = open_kind(kind, tmp_path)
    rows = np.array([0, 2])
    ds.batch(rows), ds.batch(rows)
    with open(ds.path, "r+b") as f:
        f.write(f.read(1))
        os.utime(f.fileno(), ns=(0, 0))
    with pytest.raises(mapix.FileChangedError):
        ds.batch(rows)
    ds.close()
    with pytest.raises(mapix.ClosedError):
        ds.batch(rows)


def test_a_label_file_that_changed_is_found(tmp_path):
    ds = idx(tmp_path)
    rows = np.array([0, 2])
    ds.batch(rows), ds.batch(rows)
    os.truncate(ds.labels.path, 20)
    with pytest.raises(mapix.FileChangedError):
        ds.batch(rows)
    assert ds.batch(rows, labels=None).labels is None


def test_fewer_labels_than_rows_are_an_error(tmp_path):
    ds = idx(tmp_path)
    ds.labels._n = 10
    ds.labels._shape = (10,)
    ds.batch(np.array([9])), ds.batch(np.array([9]))
    with pytest.raises(IndexError):
        ds.batch(np.array([10]))


def test_what_was_prepared_keeps_no_dataset(tmp_path):
    ds = vimh(tmp_path)
    ds.batch([0]), ds.batch(np.array([0]))
    seen = weakref.ref(ds)
    gc.disable()
    try:
        del ds
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not FAST, reason="without the C module")
def test_what_cannot_be_bound_is_refused(tmp_path):
    from mapix._native.compiled import fast

    made = fast.Prepared()
    assert made.made(np.array([0]), None) is None
    with pytest.raises(TypeError):
        made.made(np.array([0]))
    ds = vimh(tmp_path)
    ds.batch([0])
    (known,) = ds._prepared.values()
    with pytest.raises((TypeError, ValueError)):
        known._bind()
