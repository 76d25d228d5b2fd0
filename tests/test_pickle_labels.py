"""Labels of pickles, stored in the cache: the same labels, and only those of this very file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix.vimh import pickle_labels
from mapix.vimh.pickle_file import PickledBatch
from records import settle

N = 40
INFO = {"height": 2, "width": 2, "channels": 3}  # so that the size is not read from the pickle


@pytest.fixture(autouse=True)
def small_pickles_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pickle_labels, "LEAST_RECORDS", 1)
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "cache"))


def batch(how: str, first: int = 0) -> dict[str, Any]:
    data = {"data": np.zeros((N, 12), np.uint8), "height": 2, "width": 2, "channels": 3}
    rows = range(first, first + N)
    if how == "flat":
        return {**data, "fine_labels": list(rows), "coarse_labels": [i % 20 for i in rows]}
    if how == "none":
        return data
    labels = [[2, 1, i, 7, 255 - i] for i in rows]
    if how == "mixed":
        labels = [[i % 3, *[5, i, 9, 1][: 2 * (i % 3)]] for i in rows]
    if how == "twice":
        labels = [[2, 4, 0, 4, i] for i in rows]
    return {**data, "vimh_labels": labels}


def seen(ds: Any) -> Any:
    return (
        [(r.labels, r.values, r.nlabels, r.label_ids.tolist(), r.label_bytes.tolist()) for r in ds],
        {name: (c.codes.tolist(), c.present.tolist()) for name, c in ds.labels.items()},
        ds.label_counts.tolist(),
        ds.heads,
        ds.batch([0, -1, 3]).labels.tolist(),
    )


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> Any:
        raise AssertionError("the rest of the pickle is read")

    monkeypatch.setattr(PickledBatch, "rest", fail)


def stored(folder: Path) -> list[Path]:
    return list((folder / "cache").glob("*.labels"))


@pytest.mark.parametrize("how", ["alike", "mixed", "twice", "flat", "none"])
def test_stored_labels_are_those_of_the_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(batch(how)))
    settle(path)
    want = seen(mapix.open(path, info=INFO, index="never"))
    assert not stored(tmp_path)
    assert seen(mapix.open(path, info=INFO)) == want
    (place,) = stored(tmp_path)
    ds = mapix.open(path, info=INFO)
    assert ds._gatherer.check_labels()
    with monkeypatch.context() as patch:
        unread(patch)
        ds = mapix.open(path, info=INFO)
        assert seen(ds) == want
        with pytest.raises(AssertionError, match="is read"):
            _ = seen(mapix.open(path, info=INFO, index="rebuild"))
    good = place.read_bytes()
    for k in range(len(good)):
        place.write_bytes(good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :])
        assert pickle_labels.load(ds.source, N, ("labels", "fine_labels", "coarse_labels")) is None
    for bad in (b"", good[:50], good[:-1], good + b"x"):
        place.write_bytes(bad)
        assert seen(mapix.open(path, info=INFO)) == want
    place.chmod(0o666)
    assert pickle_labels.load(ds.source, N, ("labels", "fine_labels", "coarse_labels")) is None


def test_of_a_label_that_is_listed_twice_the_last_code_counts(tmp_path: Path) -> None:
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(batch("twice")))
    settle(path)
    for _ in range(2):  # as read, and as stored
        ds = mapix.open(path, info=INFO)
        assert ds.labels["param_4"].codes.tolist() == list(range(N))
        assert ds[3].labels == {"param_4": 3}
        assert ds.batch([5]).labels.tolist() == [[5]]


def test_labels_of_another_content_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(batch("alike")))
    settle(path)
    was = mapix.open(path)
    assert was[0].labels == {"param_1": 0, "param_7": 255}
    times = path.stat().st_mtime_ns
    path.write_bytes(pickle.dumps(batch("alike", first=3)))
    os.utime(path, ns=(times, times))
    assert mapix.open(path)[0].labels == {"param_1": 3, "param_7": 252}


def test_verify_compares_stored_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(batch("alike")))
    settle(path)
    ds = mapix.open(path)
    with monkeypatch.context() as patch:  # labels of another pickle, stored for this one
        other = label_rows_of(batch("alike", first=1))
        patch.setattr(PickledBatch, "_read_labels", lambda _: other)
        _ = ds[0].labels
    assert mapix.open(path)[0].labels == {"param_1": 1, "param_7": 254}
    problems = " ".join(map(str, mapix.open(path).verify().problems))
    assert "labels in the cache do not match the pickle" in problems
    assert mapix.open(path, index="rebuild")[0].labels == {"param_1": 0, "param_7": 255}


@pytest.mark.parametrize(("each", "alike"), [(2, 2), (-1, 1), (1, 1), (3, 1), (-2, 0), (4, 0)])
def test_forged_headers_are_refused(tmp_path: Path, each: int, alike: int) -> None:
    path = tmp_path / "train_batch"
    path.write_bytes(pickle.dumps(batch("alike")))
    settle(path)
    ds = mapix.open(path, info=INFO)
    want = seen(ds)
    (place,) = stored(tmp_path)
    data, head = place.read_bytes(), pickle_labels._HEAD
    assert data[head.size :] == bytes([1, 7, *range(N), *range(255, 255 - N, -1)])  # columns
    fields = list(head.unpack_from(data))
    assert fields[8:10] == [2, 1]
    fields[8:10] = each, alike
    front = head.pack(*fields)[:-4]
    own = _native.crc32c(front).to_bytes(4, "little")
    place.write_bytes(front + own + data[head.size :])
    assert pickle_labels.load(ds.source, N, ("labels", "fine_labels", "coarse_labels")) is None
    assert seen(mapix.open(path, info=INFO)) == want


def label_rows_of(found: dict[str, Any]) -> pickle_labels.LabelRows:
    pairs = np.array([row[1:] for row in found["vimh_labels"]], np.uint8).reshape(-1, 2)
    return pickle_labels.LabelRows(pairs, 2, N)
