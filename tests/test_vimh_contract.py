"""What a VIMH dataset, and several joined, do as ``mapix.Dataset``; compared with numpy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import mapix
from mapix import idx
from mapix.dataset import Dataset
from mapix.joined import Joined
from mapix.statistics import PixelStatistics, summed
from mapix.vimh import Parameter, Writer
from slow_vimh import pack, record

NOTE = Parameter("note", 0, min=50.0, max=52.0, step=0.5, num_classes=5, description="of a piano")
LOUD = Parameter("loud", 1, min=0.0, max=127.0, step=1.0, num_classes=128)
CODES = [(0, 10), (191, None), (255, 255), (None, 0), (7, 200), (191, 9), (30, 9), (30, 10)]


def image(i: int, mixed: bool) -> np.ndarray:
    shape = (2 + i % 3 if mixed else 3, 4, 1 + i % 2 if mixed else 2)
    return np.random.default_rng(i).integers(0, 256, shape, np.uint8)


@pytest.fixture(params=[False, True], ids=["uniform", "mixed"])
def folder(tmp_path, request):
    with Writer(tmp_path / "made", [NOTE, LOUD], fixed={"tempo": 96.0}) as out:
        for i, (note, loud) in enumerate(CODES):
            codes = {"note": note, "loud": loud}
            codes = {name: code for name, code in codes.items() if code is not None}
            split = "test" if i > 5 else "train"
            out.append(image(i, request.param), codes=codes, split=split)
    return tmp_path / "made"


@pytest.fixture
def ds(folder):
    return mapix.open(folder)


def expected(k: int, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Codes of one label in the file, and presence."""
    pairs = [pair[k] for pair in CODES[:n]]
    return np.array([c or 0 for c in pairs]), np.array([c is not None for c in pairs])


def test_columns_are_labels_in_physical_units(ds):
    assert list(ds.columns) == ["note", "loud"]
    assert ds.labels is ds.columns
    codes, present = expected(0)
    note = ds.columns["note"]
    assert (note.name, note.description, note.numeric) == ("note", "of a piano", True)
    np.testing.assert_array_equal(note.present, present)
    np.testing.assert_allclose(note.values[present], (50 + codes / 255 * 2)[present])
    assert np.isnan(note.filled()[3])
    classes = np.rint((note.values - 50) / 0.5).astype(int)
    assert note.groups().tolist() == np.where(present, classes, -1).tolist()
    unique, counts = note.counts()
    np.testing.assert_array_equal(unique, np.unique(note.values[present]))
    np.testing.assert_array_equal(counts, np.unique(note.values[present], return_counts=True)[1])
    assert note.class_counts().tolist() == np.bincount(classes[present], minlength=5).tolist()


def test_weights_and_strata_are_by_class(ds):
    codes, present = expected(0)
    classes = np.rint(codes / 255 * 4).astype(int)  # 0 3 4 - 0 3
    want = np.zeros(6)
    for k in np.flatnonzero(present):
        want[k] = 1 / ((classes == classes[k]) & present).sum()
    np.testing.assert_allclose(ds.weights("note"), want * present.sum() / want.sum())
    both = present & expected(1)[1]  # without a label that is asked for there is no weight
    assert (ds.weights()[~both] == 0).all()
    first, rest = ds.split(0.5, seed=3, stratify="note")
    assert sorted([*first.rows, *rest.rows]) == list(range(6))
    assert [sum(first.labels["note"].classes.filled(-1) == k) for k in (0, 3)] == [1, 1]


@pytest.mark.parametrize("rows", [None, slice(1, 4), [5, 0, 0]])
def test_statistics_are_those_of_numpy(ds, rows):
    part = ds if rows is None else ds[rows]
    found = part.statistics()
    channels = max(r.shape[2] for r in part)
    for c in range(channels):
        pixels = np.concatenate([r.image[..., c].ravel() for r in part if r.shape[2] > c])
        assert found.pixels.count[c] == pixels.size
        assert found.pixels.mean[c] == pytest.approx(pixels.mean())
        assert found.pixels.std[c] == pytest.approx(pixels.std())
        assert (found.pixels.min[c], found.pixels.max[c]) == (pixels.min(), pixels.max())
    numpy = PixelStatistics.of(summed((r.image for r in part), len(part)))
    assert numpy.mean.tolist() == found.pixels.mean[: len(numpy.mean)].tolist()  # exact
    assert numpy.std.tolist() == found.pixels.std[: len(numpy.std)].tolist()
    note = part.columns["note"]
    values = note.values[note.present]
    s = found.columns["note"]
    assert found.labels is found.columns
    assert (s.n, s.missing) == (len(values), len(part) - len(values))
    assert (s.mean, s.std) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert s.median == pytest.approx(np.median(values))
    assert s.class_counts.sum() == s.n


def test_facts(ds, folder):
    facts = ds.describe()
    shapes = np.array([r.shape for r in ds])
    assert facts["format"] == "vimh"
    assert facts["path"] == str(folder / "train")
    assert facts["records"] == 6
    assert facts["nbytes"] == (folder / "train").stat().st_size
    assert facts["encoding"] == "14-byte headers"
    assert facts["smallest_shape"] == shapes.min(axis=0).tolist()
    assert facts["largest_shape"] == shapes.max(axis=0).tolist()
    assert (facts["fewest_labels"], facts["most_labels"]) == (1, 2)
    assert facts["heads"][0] == {
        **{"id": 0, "name": "note", "num_classes": 5, "min": 50.0, "max": 52.0, "step": 0.5},
        **{"scale": "linear", "description": "of a piano"},
    }
    assert [(p["name"], p["value"]) for p in facts["fixed"]] == [("tempo", 96.0)]
    assert facts["splits"] == {name: str(folder / name) for name in ("train", "test")}
    assert facts["columns"] == [{"name": n, "label": True} for n in ("note", "loud")]
    assert facts["info"]["parameter_names"] == ["note", "loud"]
    assert facts["stored_index"] is False
    assert "smallest_shape" not in ds[:0].describe()


def test_explanations(ds):
    record = ds[2]
    found = ds.explain(2)
    assert (found["reads_nbytes"], found["copies_nbytes"]) == (record.image.nbytes, 0)
    assert f"a view of {record.image.nbytes} bytes" in found["how"]
    rows = [0, 2]
    found = ds.explain(batch=rows, pad=True, dtype="float32", scale=0.5, threads=2)
    batch = ds.batch(rows, pad=True, dtype="float32", scale=0.5)
    assert found["copies_nbytes"] == batch.images.nbytes
    assert found["reads_nbytes"] == sum(ds[i].nbytes for i in rows)
    assert found["converts"] == "uint8 to float32, scaled and shifted, to NHWC, padded"
    flat = ds.explain(batch=rows, flat=True)
    assert flat["copies_nbytes"] == ds.batch(rows, flat=True).images.nbytes
    assert flat["converts"] == ""
    with pytest.raises(TypeError, match="no what="):
        ds.explain(batch=rows, what=1)


def test_a_sequence(ds):
    assert isinstance(ds, Dataset)
    with pytest.raises(TypeError, match="True"):
        ds[True]
    with pytest.raises(TypeError):
        ds[1:][np.bool_(True)]
    assert not ds.closed
    assert type(ds[2:]) is type(ds)
    again = pickle.loads(pickle.dumps(ds[[4, 1]]))
    assert again.rows.tolist() == [4, 1]
    record = pickle.loads(pickle.dumps(ds[4]))
    np.testing.assert_array_equal(record.image, ds[4].image)
    ds.close()
    assert ds.closed
    assert "closed" in repr(ds)


def test_options_of_a_batch_are_checked_in_one_place(ds):
    for bad in ({"labels": "cents"}, {"threads": 0}, {"crop": "left"}, {"layout": "CHWN"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ds.batch([0], pad=True, **bad)
    with pytest.raises(ValueError, match="flat=True"):
        ds.batch([0], flat=True, pad=True)
    with pytest.raises(ValueError, match="pad must be"):
        ds.batch([0], pad=(0, 3))


def test_a_column_of_a_part_is_not_read_again_from_other_records(ds):
    whole, part = ds.labels["loud"], ds[[5, 3]].labels["loud"]
    assert part.raw.tolist() == [9, 0]
    assert whole.raw.tolist() == [10, None, 255, 0, 200, 9]


# --- several files --------------------------------------------------------------------------------


def test_joined_facts_and_statistics(folder):
    both = mapix.open([folder / "train", folder / "test"])
    one = [mapix.open(folder / name) for name in ("train", "test")]
    assert isinstance(both, Joined)
    assert both.columns["note"].raw.tolist() == [pair[0] for pair in CODES]
    every = both.statistics()
    by_hand = PixelStatistics.of(summed((r.image for r in both), len(both)))
    assert every.pixels.mean.tolist() == by_hand.mean.tolist()
    assert every.pixels.std.tolist() == by_hand.std.tolist()
    assert every.pixels.count.sum() == sum(d.statistics().pixels.count.sum() for d in one)
    part = both[5:7].statistics()
    assert part.pixels.count.sum() == sum(both[i].image.size for i in (5, 6))
    facts = both.describe()
    assert facts["parts"] == [{"path": d.path, "records": len(d)} for d in one]
    assert both.explain(7) == one[1].explain(1)
    asked = both.explain(batch=[7, 0], pad=True)
    assert asked["reads_nbytes"] == both[7].nbytes + both[0].nbytes
    report = both.verify()
    assert report.ok
    assert report.nrecords == len(CODES)
    codes, present, names = both.label_array()
    assert names == ("note", "loud")
    assert codes[present].tolist() == [c for pair in CODES for c in pair if c is not None]
    with pytest.raises(mapix.UnsupportedError, match="mixed sizes need pad="):
        both.placement()


@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
def test_joined_reports_the_file_that_is_damaged(folder):
    data = bytearray((folder / "test").read_bytes())
    (folder / "test").write_bytes(data[:-3])
    both = mapix.open([folder / "train", folder / "test"], strict=False)
    report = both.verify()
    assert not report.ok
    assert all(problem.startswith(f"{folder / 'test'}: ") for problem in report.problems)


@pytest.fixture
def arrays(tmp_path):
    a = np.arange(5 * 12, dtype=np.uint8).reshape(5, 3, 4)
    b = a[:3] + 100
    for name, pixels in (("train", a), ("t10k", b)):
        idx.write(tmp_path / f"{name}-images-idx3-ubyte", pixels)
        labels = np.arange(len(pixels), dtype=np.uint8)
        idx.write(tmp_path / f"{name}-labels-idx1-ubyte", labels)
    paths = [tmp_path / f"{name}-images-idx3-ubyte" for name in ("train", "t10k")]
    return mapix.open(paths), np.concatenate([a, b]), np.r_[0:5, 0:3]


def test_arrays_joined(arrays):
    ds, pixels, labels = arrays
    assert type(ds) is Joined
    assert (ds.FAMILY, len(ds), ds.image_shape) == ("idx", 8, (3, 4))
    np.testing.assert_array_equal(np.stack(list(ds)), pixels)
    for rows in ([7, 0, 3, 6], [5, 6, 7], [], [1, 2]):
        batch = ds.batch(rows)
        np.testing.assert_array_equal(batch.images, pixels[rows].reshape(batch.images.shape))
        np.testing.assert_array_equal(batch.labels, labels[rows])
        out = np.empty((6, 3, 4), np.float32)
        into = ds.batch(rows, out=out, dtype="float32", scale=2.0)
        assert np.shares_memory(into.images, out) or not rows
        np.testing.assert_array_equal(into.images, 2.0 * pixels[rows])
    assert ds.batch_shape([7, 0]) == (2, 3, 4)
    assert ds.batch_shape([7, 0], "NCHW", pad=(5, 5)) == (2, 1, 5, 5)
    assert ds.batch([7, 0], pad=(5, 5), layout="NCHW").images.shape == (2, 1, 5, 5)
    part = pickle.loads(pickle.dumps(ds[4:][::-1]))
    np.testing.assert_array_equal(np.stack(list(part)), pixels[4:][::-1])
    np.testing.assert_array_equal(part.batch([0, -1]).images, pixels[[7, 4]])
    assert ds.statistics().pixels.mean[0] == pytest.approx(pixels.mean())
    assert ds.prefetch([0, 7]) >= 0
    ds.warm()
    assert ds.verify().ok
    ds.close()
    assert ds.closed


def test_datasets_that_do_not_fit_are_not_joined(arrays, tmp_path):
    ds, pixels, _ = arrays
    idx.write(tmp_path / "wide", np.zeros((2, 3, 5), np.uint8))
    idx.write(tmp_path / "floats", np.zeros((2, 3, 4), np.float32))
    (tmp_path / "vimh").write_bytes(pack([record(3, 4, 1, [(0, 1)])] * 2))
    for other, what in (("wide", r"\(3, 5\).*\(3, 4\)"), ("floats", "float32.*uint8")):
        with pytest.raises(mapix.FormatError, match=what) as e:
            ds.joined([mapix.open(tmp_path / other)])
        assert other in str(e.value)
    with pytest.raises(mapix.FormatError, match="which is of idx"):
        ds.joined([mapix.open(tmp_path / "vimh", dialect=14)])
    with pytest.raises(mapix.UnsupportedError, match="join first"):
        ds[1:].joined([ds])
    assert len(ds.joined([ds, ds.parts[0]])) == 2 * len(pixels) + 5
