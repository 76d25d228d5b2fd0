"""Batches of uniform records of several files: one call gives what a call per file gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from mapix import idx
from mapix.options import batch_options
from slow_vimh import pack, record

Paths = list[Path]


def vimh(folder: Path) -> Paths:
    """Both dialects; files lack labels, and one has no records."""
    found = []
    for k, (n, ids, head) in enumerate([(5, (0, 1), 14), (0, (), 14), (3, (1,), 6), (9, (7,), 14)]):
        labels = [[(i, 10 * k + j) for i in ids] for j in range(n)]
        records = [record(4, 5, 3, pairs, head=head, seed=j) for j, pairs in enumerate(labels)]
        found.append(folder / f"v{k}.vimh")
        found[-1].write_bytes(pack(records))
    return found


def mnist(folder: Path) -> Paths:
    rng = np.random.default_rng(1)
    found = []
    for k, n in enumerate((4, 7, 2)):
        path = folder / f"m{k}-images-idx3-ubyte"
        idx.write(path, rng.integers(0, 256, (n, 6, 5), np.uint8))
        labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        idx.write(labels, rng.integers(0, 10, n, np.uint8))
        found.append(path)
    return found


def swapped(folder: Path) -> Paths:
    """Big-endian numbers, whose bytes are reversed; rows that are no pictures."""
    rng = np.random.default_rng(2)
    found = [folder / f"f{k}.idx" for k in range(3)]
    for k, path in enumerate(found):
        idx.write(path, rng.standard_normal((3 + k, 7), np.float32))
    return found


def rgb(folder: Path) -> Paths:
    rng = np.random.default_rng(3)
    found = [folder / f"n{k}.npy" for k in range(2)]
    for path in found:
        np.save(path, rng.integers(0, 256, (6, 4, 3, 3), np.uint8))
    return found


MAKERS = {"vimh": vimh, "mnist": mnist, "swapped": swapped, "rgb": rgb}
PICTURES = (
    {},
    {"labels": None, "layout": "NCHW"},
    {"dtype": "float32", "layout": "NCHW", "scale": 0.5, "mean": 3.0, "std": 2.0},
    {"dtype": "float16", "layout": "NHWC", "threads": 2},
    {"pad": (8, 9, 3), "pad_value": 7.0},
    {"pad": (3, 9, 3), "crop": True},
    {"labels": "class"},
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Paths]:
    folder = tmp_path_factory.mktemp("joint")
    return {name: make(folder) for name, make in MAKERS.items()}


def joined(paths: Paths) -> Any:
    known = {"format": "vimh"} if paths[0].suffix == ".vimh" else {}  # one of them is empty
    return mapix.open([str(path) for path in paths], **known)


def by_part(ds: Any, rows: Any, options: dict[str, Any]) -> Any:
    """The same batch by one call per file: with the joint way switched off."""
    ds._joints.clear()
    ds._joints[batch_options(**options)] = None
    try:
        return ds.batch(rows, **options)
    finally:
        ds._joints.clear()


def same(got: Any, want: Any) -> None:
    for name in ("images", "labels", "present", "shapes"):
        a, b = getattr(got, name), getattr(want, name)
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a is None or a.dtype == b.dtype
    assert got.names == want.names


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_one_call_gives_what_a_call_per_file_gives(files, name, data):
    ds = joined(files[name])
    options = data.draw(st.sampled_from(PICTURES if name != "swapped" else ({}, {"threads": 2})))
    rows = data.draw(st.lists(st.integers(-len(ds), len(ds) - 1), min_size=1, max_size=40))
    want = by_part(ds, rows, options)
    got = ds.batch(rows, **options)
    assert any(joint is not None for joint in ds._joints.values())
    same(got, want)
    out = np.empty((len(rows) + 1, *want.images.shape[1:]), want.images.dtype)
    again = ds.batch(rows, out, **options)
    assert np.shares_memory(again.images, out)
    same(again, want)
    part = ds[rows]  # a lazy part of the sequence
    same(part.batch(range(len(rows))[::-1], **options), ds.batch(rows[::-1], **options))


def test_every_record_is_its_own(files):
    """Against the records of the files themselves, one by one."""
    for name, paths in files.items():
        ds = joined(paths)
        alone = [a for path in paths if path.stat().st_size for a in mapix.open(path)]
        images = ds.batch(range(len(ds))).images
        for i, a in enumerate(alone):
            np.testing.assert_array_equal(images[i], getattr(a, "image", a), err_msg=f"{name} {i}")


@pytest.mark.parametrize("name", ["vimh", "mnist"])
def test_a_file_that_is_cut_is_named(tmp_path, name):
    paths = MAKERS[name](tmp_path)
    ds = joined(paths)
    n, last = len(ds), paths[-1]
    ds.batch([0, n - 1])
    os.truncate(last, 0)
    with pytest.raises(mapix.FileChangedError, match=last.name):
        ds.batch([0, n - 1])
    ds.batch([0, 1])  # files without a record in the batch do not count


def test_a_harmless_change_is_accepted(tmp_path):
    paths = mnist(tmp_path)
    ds = joined(paths)
    want = ds.batch(range(len(ds)))
    for path in paths:
        path.chmod(0o600)
    same(ds.batch(range(len(ds))), want)


def test_a_header_that_differs_is_refused(tmp_path):
    """Each header is compared with the table, as in a batch of one file."""
    paths = vimh(tmp_path)
    ds = joined([paths[0], paths[3]])
    ds.batch([0])
    joint = next(iter(ds._joints.values()))
    table = joint._held[1].part._table.pointer
    table.first.h, table.first.w = 5, 4  # as many pixels, another shape
    with pytest.raises((mapix.FormatError, ValueError), match=paths[3].name):
        ds.batch([0, len(ds) - 1])


def test_closed_parts_are_refused(files):
    ds = joined(files["mnist"])
    ds.batch([0, 5])
    ds.parts[1].close()
    ds.batch([0])
    with pytest.raises(mapix.ClosedError):
        ds.batch([0, 5])
    ds.close()
    with pytest.raises(mapix.ClosedError):
        ds.batch([0])


def test_other_records_take_a_call_per_file(tmp_path, files):
    """Mixed sizes, canvases that depend on the batch, and labels that differ between files."""
    mixed = tmp_path / "mixed"
    mixed.write_bytes(pack([record(4, 5, 3, []), record(5, 5, 3, [])]))
    ds = joined([files["vimh"][0], mixed])
    assert ds.batch([0, 5, 6], pad=True).images.shape == (3, 5, 5, 3)
    ds = joined(files["vimh"])
    ds.batch([0, 5], crop=True)
    ds.batch([0, 5], spec_range=True)
    assert set(ds._joints.values()) == {None}
    for bad in ({"threads": 0}, {"labels": "no"}, {"dtype": "no"}, {"layout": "no"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ds.batch([0], **bad)
    lonely = tmp_path / "x-images-idx3-ubyte"
    idx.write(lonely, np.zeros((2, 6, 5), np.uint8))
    ds = joined([files["mnist"][0], lonely])
    assert ds.batch([0, 5]).present.tolist() == [True, False]
    assert ds.batch([0, 5], labels=None).labels is None
