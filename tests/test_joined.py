"""Several files as one: compared with one file of the same records."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix.batch import Lookout
from mapix.vimh import Joined, Parameter, Writer

A = Parameter("a", 0, min=0.0, max=10.0, step=2.5, num_classes=5)
B = Parameter("b", 1, min=-1.0, max=1.0, step=1.0, num_classes=3)
SIZES = (7, 0, 13, 1, 9)


def records(mixed: bool):
    rng = np.random.default_rng(0)
    for i in range(sum(SIZES)):
        h = 4 + (i % 3 if mixed else 0)
        c = 1 + (i % 2 if mixed else 0)
        codes = {"a": i * 8} | ({"b": 255 - i} if i % 3 else {})
        yield rng.integers(0, 256, (h, 5, c), np.uint8), codes, (-80.0, float(i))


def write(path, chosen) -> None:
    with Writer(path, [A, B]) as out:
        for image, codes, spec in chosen:
            out.append(image, codes=codes, spec_range=spec)


@pytest.fixture(params=[False, True], ids=["uniform", "mixed"])
def both(tmp_path, request):
    every = list(records(request.param))
    write(tmp_path / "whole", every)
    paths, at = [], 0
    for k, n in enumerate(SIZES):
        write(tmp_path / str(k), every[at : at + n])
        paths.append(tmp_path / str(k))
        at += n
    return mapix.open(tmp_path / "whole"), mapix.open(paths)


ORDERS = [
    list(range(30)),
    [29, 0, 8, 8, 7, 6, 20, 21, 22, -1],
    [1, 2, 3],
    [8, 9, 21, 22],
    [0, 8, 1, 9, 2],
    [],
]


@pytest.mark.parametrize("order", ORDERS, ids=range(len(ORDERS)))
@pytest.mark.parametrize(
    "options",
    [
        {"pad": True},
        {"pad": (6, 7), "layout": "NCHW", "dtype": "float32", "scale": 0.5},
        {"crop": True},
        {"pad": True, "labels": "class", "spec_range": True},
        {"pad": True, "labels": "physical"},
        {"pad": True, "labels": None},
        {"flat": True, "labels": "normalised"},
        {},
    ],
    ids=lambda o: ",".join(o) or "plain",
)
def test_batches(both, order, options):
    whole, parts = both
    shapes = {tuple(s) for s in whole.shapes[order].tolist()} if order else set()
    if not whole.uniform and not options and len(shapes) > 1:
        with pytest.raises(ValueError, match="pad="):
            parts.batch(order)
        return
    want, got = whole.batch(order, **options), parts.batch(order, **options)
    for name in ("images", "labels", "present", "shapes", "spec_range", "offsets"):
        a, b = getattr(want, name), getattr(got, name)
        if order or name != "images":
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert got.names == want.names
    if not options.get("flat") and order:
        keep = {k: options[k] for k in ("pad", "crop", "layout") if k in options}
        assert parts.batch_shape(order, **keep) == got.images.shape
        out = np.empty((len(order) + 2, *got.images.shape[1:]), got.images.dtype)
        again = parts.batch(order, out=out, **options)
        assert again.images.base is out or np.shares_memory(again.images, out)
        np.testing.assert_array_equal(again.images, want.images)
        with pytest.raises(ValueError, match="out must be"):
            parts.batch(order, out=np.empty((1, 1, 1, 1), np.uint8), **options)


def test_records_and_parts(both):
    whole, parts = both
    assert isinstance(parts, Joined)
    assert len(parts) == len(whole) == 30
    assert parts.heads == whole.heads
    assert (parts.shapes == whole.shapes).all()
    for i in (0, 6, 7, 19, 20, 21, 29, -1, -30):
        assert (parts[i].image == whole[i].image).all()
        assert parts[i].values == whole[i].values
    for i in (30, -31):
        with pytest.raises(IndexError, match="of 30 records"):
            parts[i]
    part = parts[::-3][[1, 4, 5]]
    assert (part[2].image == whole[::-3][5].image).all()
    assert part.rows.tolist() == whole[::-3][[1, 4, 5]].rows.tolist()
    mask = np.arange(30) % 4 == 0
    assert [r.labels for r in parts[mask]] == [r.labels for r in whole[mask]]
    with pytest.raises(mapix.UnsupportedError, match="spans"):
        parts.images  # noqa: B018
    assert "30 records in 5 files" in repr(parts)


def test_queries(both):
    whole, parts = both
    for text in ("a > 3 and b <= 0.5", "not b > 0", "a + b > 5"):
        assert parts.where(text).rows.tolist() == whole.where(text).rows.tolist()
    assert (
        parts.sort_by("b", descending=True).rows.tolist()
        == whole.sort_by("b", descending=True).rows.tolist()
    )
    assert [len(p) for p in parts.split(0.7, seed=1, stratify="b")] == [21, 9]
    assert parts.shard(1, 4).rows.tolist() == whole.shard(1, 4).rows.tolist()
    assert parts.weights("a").tolist() == whole.weights("a").tolist()
    some = parts.where("a > 3")
    assert some.labels["b"].codes.tolist() == whole.where("a > 3").labels["b"].codes.tolist()
    want = [b.labels.tolist() for b in whole.batches(8, pad=True)]
    assert [b.labels.tolist() for b in parts.batches(8, pad=True)] == want


def test_pickling_and_closing(both):
    whole, parts = both
    again = pickle.loads(pickle.dumps(parts[5:25]))
    assert [r.labels for r in again] == [r.labels for r in whole[5:25]]
    with parts:
        pass
    with pytest.raises(mapix.ClosedError):
        parts.batch([0], pad=True)


def test_parameters_have_to_agree(tmp_path):
    for name, parameter in (
        ("x", A),
        ("range", Parameter("a", 0, min=0.0, max=9.0, step=2.5, num_classes=5)),
        ("name", Parameter("other", 0)),
    ):
        with Writer(tmp_path / name, [parameter]) as out:
            out.append(np.zeros((2, 2), np.uint8), codes={parameter.name: 1})
    for other in ("range", "name"):
        with pytest.raises(mapix.FormatError, match="parameter|label id"):
            mapix.open([tmp_path / "x", tmp_path / other])
    assert len(mapix.open([tmp_path / "x", tmp_path / "x"])) == 2
    assert len(mapix.open([tmp_path / "x"])) == 1
    with pytest.raises(ValueError, match="no path"):
        mapix.open([])


def test_records_of_several_files_are_asked_for_by_one_call(tmp_path, monkeypatch):
    paths = [tmp_path / f"{k}.npy" for k in range(3)]
    for path in paths:
        np.save(path, np.zeros((5, 2, 2, 1), np.uint8))
    ds = mapix.open(paths)
    rows = [14, 0, 7, 7]
    assert ds.prefetch(rows) == ds.prefetch([]) == 0  # in memory; file by file
    ds.batch(rows)
    monkeypatch.setattr(type(ds.parts[0]), "prefetch", None)  # from now on together
    assert ds.prefetch(rows) == ds.prefetch([]) == 0
    monkeypatch.setattr(Lookout, "MANY", _native.PROBE_NONE)
    assert ds.prefetch(rows) == 4
    os.truncate(paths[1], 100)  # bytes that are gone are no error before they are read
    assert ds.prefetch(rows) == 4
    with pytest.raises(IndexError):
        ds.prefetch([15])


def test_files_without_names_may_have_other_ids(tmp_path):
    from slow_vimh import pack, record

    (tmp_path / "a").write_bytes(pack([record(2, 3, 1, [(4, 9)], seed=1)] * 2))
    (tmp_path / "b").write_bytes(pack([record(2, 3, 1, [(7, 8)], seed=2)] * 2))
    ds = mapix.open([tmp_path / "a", tmp_path / "b"], dialect=14)
    batch = ds.batch([3, 0])
    assert batch.names == ("param_4", "param_7")
    assert batch.labels.tolist() == [[0, 8], [9, 0]]
    assert batch.present.tolist() == [[False, True], [True, False]]
    assert ds.labels["param_7"].raw.tolist() == [None, None, 8, 8]


def test_shards_of_a_split(tmp_path):
    every = list(records(False))
    for k in range(3):
        write(tmp_path / "w", every[k * 10 : k * 10 + 10])
        (tmp_path / "w" / "train").rename(tmp_path / f"train-{k:05}-of-00003")
        info = tmp_path / "w" / "vimh_dataset_info.json"
        info.write_text(info.read_text().replace('"train_samples": 10', '"train_samples": 30'))
        info.rename(tmp_path / "vimh_dataset_info.json")
        for left in (tmp_path / "w").iterdir():
            left.unlink()
        (tmp_path / "w").rmdir()
    ds = mapix.open(tmp_path)
    assert len(ds) == 30
    assert ds[25].labels == every[25][1]
    assert ds.heads == {"a": 5, "b": 3}
    (tmp_path / "train-00001-of-00003").unlink()
    with pytest.raises(mapix.FormatError, match="missing: train-00001-of-00003"):
        mapix.open(tmp_path)


def test_cifar_10_as_a_whole(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (5, 4, 3072), np.uint8)
    for k in range(5):
        batch = {"data": data[k], "labels": [k, 1, 2, 9 - k]}
        (tmp_path / f"data_batch_{k + 1}").write_bytes(pickle.dumps(batch, 2))
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": data[0], "labels": [1, 2, 3, 4]}))
    ds = mapix.open(tmp_path)
    assert len(ds) == 20
    assert ds.heads == {"labels": 10}
    assert (ds[7].image == data[1, 3].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert ds.batch([19, 0, 4], labels="class").labels.ravel().tolist() == [5, 0, 1]
    assert len(mapix.open(tmp_path, split="test")) == 4
