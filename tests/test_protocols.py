"""Protocols: what numpy, Arrow and DLPack make of each object that users hold."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import every_operation
import mapix
from mapix.columns import Column, Columns, column_of

REFUSALS = (mapix.MapixError, ValueError, TypeError)
QUICK = ("vimh", "iid", "idx", "pink map", "coco annotations")  # the others in CI
FAMILIES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in every_operation.families()
]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(every_operation, "N", 6)
    monkeypatch.setattr(every_operation, "LAST", 5)
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=FAMILIES)
def opened(request, tmp_path):
    if request.param == "folder":
        pytest.importorskip("PIL")
    family = every_operation.families()[request.param]
    (tmp_path / "data").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mapix.MapixWarning)
        return family.open(family.make(tmp_path / "data"))


PACKAGES = [
    getattr(mapix, name) for name in mapix.__all__ if inspect.ismodule(getattr(mapix, name))
]
FACTS = {mapix.pink.Lattice, mapix.vimh.Parameter, mapix.vimh.Parameters, mapix.visualrbm.Layer}
"""Public classes that describe data, and hold none of their own."""


def is_data(obj: Any) -> bool:
    """Whether users may take an object for data: one of a class that a package lists."""
    listed = {getattr(package, name) for package in PACKAGES for name in package.__all__}
    kinds = {kind for kind in listed if isinstance(kind, type)} - FACTS
    return isinstance(obj, (*kinds, mapix.Dataset, Columns, Column))


def held(obj: Any) -> Iterator[Any]:
    """An object, and what its public attributes hold."""
    yield obj
    for name in dir(obj):
        if name.startswith("_") or inspect.isroutine(inspect.getattr_static(obj, name)):
            continue
        with suppress(*REFUSALS):
            value = getattr(obj, name)
            yield value
            yield from value[:1] if isinstance(value, list | tuple) else ()


def everything(ds: Any) -> Iterator[Any]:
    """What users get from a dataset, or from a model."""
    yield from held(ds)
    if not isinstance(ds, mapix.Dataset):
        return
    yield from held(ds[2])
    yield from (ds[1:4], ds[::-2], ds[[3, 3]], *ds.columns.values())
    for make in (
        lambda: ds.batch([1, 3], **({} if ds.image_shape else {"pad": True})),
        lambda: mapix.Loader(ds, 2),
        lambda: ds.joined([ds]),
        lambda: ds.masks([1, 3]),
        lambda: ds.select(groups="g"),
        lambda: mapix.iid.label_map(ds),
        lambda: ds.groups["g"],
        lambda: ds[2].annotations[0],
    ):
        with suppress(*REFUSALS, AttributeError):
            yield make()


def test_every_object_of_a_family(opened):
    numpy_gets_an_array_or_a_refusal(opened)
    if isinstance(opened, mapix.Dataset):
        records_are_their_images_and_pickle(opened)
        if opened.image_shape is not None:
            arrays_are_what_batches_have(opened)


def numpy_gets_an_array_or_a_refusal(opened):
    kinds = set()
    for obj in everything(opened):
        kind = type(obj)
        if kind in kinds or not is_data(obj):
            continue
        kinds.add(kind)
        assert hasattr(kind, "__array__"), f"{kind}: numpy would make an array of one object"
        try:
            found = np.asarray(obj)
        except REFUSALS as e:
            with pytest.raises(type(e), match=re.escape(str(e))):
                np.array(obj)
            continue
        assert found.ndim, kind
        assert found.dtype != object or isinstance(obj, Column), kind
        copied = np.array(obj, copy=True)
        assert not np.may_share_memory(found, copied)
        equal(copied, found)
        if found.dtype.kind in "biuf":
            equal(np.asarray(obj, np.float64), found.astype(np.float64))
        with suppress(*REFUSALS):
            equal(np.array(obj, copy=False), found)
        with pytest.raises(REFUSALS):
            np.array(obj, np.complex64, copy=False)
    assert kinds
    if isinstance(opened, mapix.Dataset):
        assert {type(opened), type(opened.columns)} <= kinds


def equal(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def arrays_are_what_batches_have(opened):
    for part in (opened, opened[1:5], opened[::-2], opened[[3, 3]], opened[:0]):
        want = part.batch(np.arange(len(part)), labels=None).images
        found = np.asarray(part).reshape(want.shape)
        np.testing.assert_array_equal(found, want)
        exported = np.from_dlpack(part)
        np.testing.assert_array_equal(exported.reshape(want.shape), want)
        assert exported.dtype.isnative
        with pytest.raises(BufferError):
            part.__dlpack__(copy=False)
    assert opened.__dlpack_device__() == (1, 0)


def records_are_their_images_and_pickle(opened):
    record = opened[2]
    again = pickle.loads(pickle.dumps(record))
    assert type(again) is type(record)
    if "coco" in opened.FAMILY:  # images without pictures, annotations without pixels
        assert again.metadata == record.metadata
        return
    want = opened._content(2)
    np.testing.assert_array_equal(np.asarray(record), want)
    np.testing.assert_array_equal(np.asarray(again), want)


def test_every_object_of_tables(tmp_path):
    pytest.importorskip("pyarrow")
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4)).astype("u1")
    mapix.idx.write(tmp_path / "x.idx", images)
    mapix.convert(tmp_path / "x.idx", tmp_path / "x.parquet")
    ds = mapix.open(tmp_path / "x.parquet")
    numpy_gets_an_array_or_a_refusal(ds)
    records_are_their_images_and_pickle(ds)
    np.testing.assert_array_equal(np.asarray(ds[2]), images[2])


def test_rows_are_like_arrays(tmp_path):
    images = np.arange(60, dtype=">i4").reshape(5, 3, 4)
    mapix.idx.write(tmp_path / "x.idx", images)
    ds = mapix.open(tmp_path / "x.idx")
    for part, want in ((ds, images), (ds[1:3], images[1:3]), (ds[[4, 0]], images[[4, 0]])):
        for name in ("shape", "ndim", "size", "nbytes", "dtype"):
            assert getattr(part, name) == getattr(want, name), name
        assert len(part) == len(want)


def test_columns_refuse_with_a_hint():
    columns = Columns(["a"], lambda name: Column(name, np.arange(3)))
    with pytest.raises(mapix.UnsupportedError, match="pyarrow.table"):
        np.asarray(columns)


def test_columns_share_their_memory():
    values = np.arange(3.0)
    column = Column("a", values)
    assert np.shares_memory(np.from_dlpack(column), values)
    assert column.__dlpack_device__() == (1, 0)
    assert np.shares_memory(np.asarray(column), values)


# --- Arrow ----------------------------------------------------------------------------------------

COLUMNS = Columns(
    ["n", "x", "t", "b", "boxes", "big"],
    {
        "n": Column("n", np.array([3, 0, 5], np.uint8), np.array([True, False, True])),
        "x": column_of("x", [1.5, 2, None]),
        "t": column_of("t", ["a", None, "é"]),
        "b": column_of("b", [True, False, True]),
        "boxes": column_of("boxes", [[1.0, 2.0], [], [3.0]]),
        "big": Column("big", np.array([1, 2, 1 << 40], ">i8")),
    }.__getitem__,
)
ROWS = [
    {"n": 3, "x": 1.5, "t": "a", "b": True, "boxes": [1.0, 2.0], "big": 1},
    {"n": None, "x": 2.0, "t": None, "b": False, "boxes": [], "big": 2},
    {"n": 5, "x": None, "t": "é", "b": True, "boxes": [3.0], "big": 1 << 40},
]


def test_columns_are_a_table_of_arrow():
    pa = pytest.importorskip("pyarrow")
    table = pa.table(COLUMNS)
    assert table.to_pylist() == ROWS
    assert table.schema.field("n").type == pa.uint8()
    for name, column in COLUMNS.items():
        assert pa.array(column).to_pylist() == [row[name] for row in ROWS]
    values = np.arange(5, dtype=np.int32)
    buffer = pa.array(Column("a", values)).buffers()[1]
    assert buffer.address == values.ctypes.data  # no copy


def test_rows_and_batches_are_arrays_of_arrow(tmp_path):
    pa = pytest.importorskip("pyarrow")
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 2)).astype("u1")
    mapix.idx.write(tmp_path / "x-images-idx3-ubyte", images)
    mapix.idx.write(tmp_path / "x-labels-idx1-ubyte", np.arange(4, dtype="u1"))
    ds = mapix.open(tmp_path / "x-images-idx3-ubyte")
    assert pa.array(ds.labels[1:]).to_pylist() == [1, 2, 3]
    np.testing.assert_array_equal(pa.array(ds[1:]).to_numpy_ndarray(), images[1:])
    assert pa.table(ds.batch([3, 1])).to_pylist() == [{"label": 3}, {"label": 1}]
    assert pa.table(ds.batch([3, 1], labels=None)).num_columns == 0
    with mapix.vimh.Writer(
        tmp_path / "v", [mapix.vimh.Parameter(n, i) for i, n in enumerate("ab")]
    ) as out:
        out.append(images[0], codes={"a": 7, "b": 8})
        out.append(images[0], codes={"a": 9})
    batch = mapix.open(tmp_path / "v").batch([0, 1])
    assert pa.table(batch).to_pylist() == [{"a": 7, "b": 8}, {"a": 9, "b": None}]


def test_without_pyarrow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(mapix.UnsupportedError, match=r"mapix\[arrow\]"):
        COLUMNS.__arrow_c_stream__()
    with pytest.raises(mapix.UnsupportedError, match=r"mapix\[arrow\]"):
        COLUMNS["n"].__arrow_c_array__()
