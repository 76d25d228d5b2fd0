"""Statistics against numpy over everything; weights, strata, soft targets, decay."""

from __future__ import annotations

import time

import numpy as np
import pytest

import mapix
from mapix.vimh import Parameter, Writer, decay_time, index_store, soft_targets

A = Parameter("a", 0, min=0.0, max=10.0, step=2.5, num_classes=5)
B = Parameter("b", 1, min=-1.0, max=1.0, step=1.0, num_classes=3)


def make(path, *, mixed: bool, n: int = 300):
    rng = np.random.default_rng(4)
    images = [
        rng.integers(
            i % 7, 200, (5 + (i % 3 if mixed else 0), 6, 2 + (i % 2 if mixed else 0)), np.uint8
        )
        for i in range(n)
    ]
    a = rng.choice(256, n, p=np.r_[np.full(64, 0.01), np.full(192, 0.36 / 192)])
    with Writer(path, [A, B]) as out:
        for i, image in enumerate(images):
            codes = {"a": int(a[i])} | ({"b": i % 256} if i % 5 else {})
            out.append(image, codes=codes)
    return images, a


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("order", ["CHW", "HWC"])
def test_pixels_are_numpys(tmp_path, mixed, order):
    make(tmp_path / "d", mixed=mixed)
    ds = mapix.open(tmp_path / "d", order=order)
    for part in (ds, ds[10:200:3], ds[[5, 5, 7]]):
        found = part.statistics().pixels
        for k in range(max(r.shape[2] for r in ds)):
            pixels = np.concatenate(
                [r.image[:, :, k].ravel() for r in part if r.shape[2] > k] or [[]]
            )
            assert found.count[k] == len(pixels)
            if len(pixels):
                assert found.mean[k] == pytest.approx(pixels.mean(), rel=1e-12)
                assert found.std[k] == pytest.approx(pixels.std(), rel=1e-12)
                assert (found.min[k], found.max[k]) == (pixels.min(), pixels.max())
            else:
                assert np.isnan(found.mean[k])


def test_pixels_of_pickles_and_of_nothing(tmp_path):
    with Writer(tmp_path / "d", output="pickle") as out:
        out.extend(np.arange(240, dtype=np.uint8).reshape(2, 10, 12))
    assert mapix.open(tmp_path / "d").statistics().pixels.mean.tolist() == [119.5]
    assert "0 records" in str(mapix.open(tmp_path / "d", split="test").statistics())


def test_sums_are_exact_where_floats_are_not(tmp_path):
    with Writer(tmp_path / "d") as out:
        image = np.full((400, 400), 255, np.uint8)
        image[0, 0] = 254
        out.extend(np.broadcast_to(image, (50, 400, 400)))
    found = mapix.open(tmp_path / "d").statistics().pixels
    n = 160000
    assert found.std[0] == pytest.approx(np.sqrt((n - 1) / n**2), rel=1e-12)


def test_they_are_kept_in_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)
    make(tmp_path / "d", mixed=True)
    time.sleep(index_store.FINE_NS * 1.2 / 1e9)
    path = tmp_path / "d" / "train"
    want = mapix.open(path).statistics()
    monkeypatch.setattr("mapix._native.Table.moments", None)
    seen = mapix.open(path)
    assert seen.index.moments is not None
    assert seen.index.columns is not None
    assert seen.statistics().pixels.std.tolist() == want.pixels.std.tolist()
    assert str(seen.statistics()) == str(want)


def test_labels(tmp_path):
    _, a = make(tmp_path / "d", mixed=False)
    ds = mapix.open(tmp_path / "d")
    found = ds.statistics().labels
    values = A.dequantise(a)
    s = found["a"]
    assert (s.n, s.missing, s.name) == (300, 0, "a")
    for name, want in (
        ("min", values.min()),
        ("max", values.max()),
        ("mean", values.mean()),
        ("std", values.std()),
        ("median", np.median(values)),
    ):
        assert getattr(s, name) == pytest.approx(want, rel=1e-12), name
    unique, counts = np.unique(values, return_counts=True)
    assert s.unique.tolist() == unique.tolist()
    assert s.counts.tolist() == counts.tolist()
    assert s.class_counts.tolist() == np.bincount(A.class_of(a), minlength=5).tolist()
    assert s.histogram(7)[0].tolist() == np.histogram(values, 7)[0].tolist()
    assert found["b"].missing == 60
    assert "missing" in str(ds.statistics())


def test_weights_balance_classes(tmp_path):
    make(tmp_path / "d", mixed=False)
    ds = mapix.open(tmp_path / "d")
    weights = ds.weights("a")
    classes = ds.labels["a"].classes
    sums = np.bincount(classes, weights, minlength=5)
    assert sums == pytest.approx(np.full(5, 60.0))
    both = ds.weights()
    assert (both[::5] == 0).all()
    assert both.sum() == pytest.approx(240)
    joint = classes[both > 0] * 3 + ds.labels["b"].classes[both > 0]
    groups = np.bincount(joint, both[both > 0])
    assert np.ptp(groups[groups > 0]) == pytest.approx(0)
    assert ds.weights("a", power=0).tolist() == [1.0] * 300
    drawn = ds.draw(5000, weights=weights, seed=1)
    shares = np.bincount(drawn.labels["a"].classes, minlength=5) / 5000
    assert shares == pytest.approx(np.full(5, 0.2), abs=0.03)
    assert (drawn.rows == ds.draw(5000, weights=weights, seed=1).rows).all()
    with pytest.raises(ValueError, match="weights"):
        ds.draw(3, weights=[-1.0] * 300)
    with pytest.raises(ValueError, match="weights"):
        ds.draw(3, weights=[1.0])
    assert len(ds.draw(4)) == 4


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_strata_have_the_same_shares(tmp_path, share):
    make(tmp_path / "d", mixed=False)
    ds = mapix.open(tmp_path / "d")
    first, second = ds.split(share, seed=3, stratify=["a", "b"])
    assert len(first) == int(share * 300)
    assert sorted([*first.rows, *second.rows]) == list(range(300))
    for name in ("a", "b"):
        whole = np.bincount(ds.labels[name].classes.filled(-1) + 1)
        part = np.bincount(first.labels[name].classes.filled(-1) + 1, minlength=len(whole))
        assert (np.abs(part - share * whole) <= 6).all()
    one, _ = ds.split(share, seed=3, stratify="a")
    whole = np.bincount(ds.labels["a"].classes)
    assert (np.abs(np.bincount(one.labels["a"].classes, minlength=5) - share * whole) <= 1).all()
    assert (ds.split(share, seed=4, stratify="a")[0].rows != one.rows).any() or share in (0.0, 1.0)
    with pytest.raises(ValueError, match="seed"):
        ds.split(stratify="a")


def test_soft_targets():
    found = soft_targets([0, 3, -1], 5, 1.0)
    assert found.shape == (3, 5)
    assert found.dtype == np.float32
    assert found[:2].sum(axis=1) == pytest.approx(1)
    assert found[2].tolist() == [0] * 5
    assert found[1].argmax() == 3
    assert found[1, 2] / found[1, 3] == pytest.approx(np.exp(-0.5))
    assert found[1, 2] == found[1, 4]
    assert soft_targets([2], 4, 0).tolist() == [[0, 0, 1, 0]]
    with pytest.raises(ValueError, match="width"):
        soft_targets([1], 3, -1)


@pytest.mark.parametrize("seconds", [0.05, 0.5, 3.0])
def test_decay_of_a_known_sound(seconds):
    duration, w = 0.5, 64
    db = -60 / seconds * np.arange(w) * duration / w
    low = float(db.min()) - 1
    image = np.rint((np.broadcast_to(db, (16, w)) - low) / (0 - low) * 255).astype(np.uint8)
    assert decay_time(image, duration, (low, 0.0)) == pytest.approx(np.log10(seconds), abs=0.01)
    assert decay_time(image[..., None], duration, (low, 0.0)) == decay_time(
        image, duration, (low, 0)
    )


def test_decay_of_what_does_not_decay():
    rising = np.broadcast_to(np.arange(64, dtype=np.uint8), (8, 64))
    assert decay_time(rising, 1.0) == -1
    assert decay_time(np.full((8, 64), 9, np.uint8), 1.0) == -1
    assert decay_time(np.zeros((8, 2), np.uint8), 1.0) == -1
    assert decay_time(rising[:, ::-1], 0.0) == -1
    assert decay_time(rising[:, ::-1], 1.0, (np.nan, 0.0)) == -1
    steep = np.zeros((8, 64), np.uint8)
    steep[:, 0] = 255
    assert -3 <= decay_time(steep, 1e-6) <= 1
