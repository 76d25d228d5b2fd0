"""A relative path is one at the time of opening: what was opened works from anywhere."""

from __future__ import annotations

import copy
import multiprocessing as mp
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.vimh.pickle_writer import write_batch

IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)


def records(path: str) -> None:
    parameters = [mapix.vimh.Parameter("note", 0, min=0.0, max=255.0, step=1.0)]
    with mapix.vimh.Writer(path, parameters) as out:
        for k, image in enumerate(IMAGES):
            out.append(image[:, :, None], {"note": float(k)})


def archive(path: str) -> None:
    with mapix.iid.Writer(path, {"a": 1}) as out:
        for k in range(5):
            out.add("d", str(k), np.ones((2, 2), bool), groups=["g"], at=(k, 0))


def folder(path: str, split: str = "") -> None:
    pytest.importorskip("PIL")
    with mapix.folder.Writer(path) as out:
        for k, image in enumerate(IMAGES):
            out.append(f"{k}.png", image, split=split or None)


def mapped(path: str) -> None:
    squares = np.square(IMAGES.reshape(5, 4, 4).astype("<f4"))
    Path(path).write_bytes(np.array([5, 4, 4, 1], "<i4").tobytes() + squares.tobytes())


def turned(path: str) -> None:
    one = np.zeros((5, 16), np.dtype([("flip", "u1"), ("angle", "<f4")]))
    one["angle"] = np.arange(16)
    head = np.array([2, 3, 5, 0, 2, 4, 4], "<i4")
    Path(path).write_bytes(head.tobytes() + one.tobytes())


def batch_file(path: str) -> None:
    records(path)
    with open(f"{path}/train_batch", "wb") as out:
        write_batch(f"{path}/train", out.write, (4, 4, 1))
    os.unlink(f"{path}/train")


def shards(path: str) -> None:
    for k in range(2):
        archive(f"{path}-{k:05}-of-00002.iid")


def sum_of(x: Any) -> Any:
    """Numbers that depend on what the file holds, read anew."""
    if isinstance(x, mapix.iid.Archive):
        return len(x), x.meta["a"], int(x.masks([0, len(x) - 1]).flat.sum()), x.groups["g"].keys[-1]
    if isinstance(x, mapix.folder.ImageFolder):
        assert os.path.getsize(x[1].path) == x[1].nbytes
        return len(x), int(x.batch([1, 4]).images.sum())
    if hasattr(x, "__getitems__") and not hasattr(x, "batch"):  # of torch
        return len(x), float(sum(x[i][0].sum() for i in range(len(x))))
    images = x.batch([1, len(x) - 1]).images
    if images.dtype.names:
        return len(x), float(images["angle"].sum())
    return len(x), float(images.sum())


FAMILIES: dict[str, tuple[Any, Any]] = {
    "vimh": (records, lambda p: mapix.open(p)),
    "vimh file": (records, lambda p: mapix.open(f"{p}/train")),
    "vimh info": (
        records,
        lambda p: mapix.open(f"{p}/train", info=f"{p}/vimh_dataset_info.json"),
    ),
    "vimh part": (records, lambda p: mapix.open(p)[[3, 1, 4]]),
    "vimh pickle": (batch_file, lambda p: mapix.open(p)),
    "joined": (records, lambda p: mapix.open([p, p])),
    "joined part": (records, lambda p: mapix.open([p, p])[2:9]),
    "iid": (archive, lambda p: mapix.open(p, format="iid")),
    "iid sharded": (shards, lambda p: mapix.open(f"{p}-00000-of-00002.iid")),
    "idx": (
        lambda p: mapix.idx.write(p, IMAGES),
        lambda p: mapix.open(p, format="idx"),
    ),
    "idx with labels": (
        lambda p: (
            mapix.idx.write(f"{p}-images-idx3-ubyte", IMAGES),
            mapix.idx.write(f"{p}-labels-idx1-ubyte", np.arange(5, dtype=np.uint8)),
        ),
        lambda p: mapix.open(f"{p}-images-idx3-ubyte"),
    ),
    "pink data": (
        lambda p: mapix.pink.write_data(p, IMAGES.astype("f4")),
        lambda p: mapix.open(p),
    ),
    "pink som": (
        lambda p: mapix.pink.write_som(p, IMAGES[:4].astype("f4"), (2, 2)),
        lambda p: mapix.open(p),
    ),
    "pink mapping": (mapped, lambda p: mapix.open(p, format="pink", kind="map", version=1)),
    "pink rotation": (turned, lambda p: mapix.open(p)),
    "folder": (folder, lambda p: mapix.open(p)),
    "folder split": (lambda p: folder(p, "train"), lambda p: mapix.open(p, split="train")),
    "folder root": (folder, lambda p: mapix.open(p, root=".")),
    "compat vimh": (records, lambda p: _vimh(p)),
    "torch": (records, lambda p: _torch(p)),
}


def _vimh(path: str) -> Any:
    pytest.importorskip("torch")
    from mapix.compat.vimh import VIMHDataset

    return VIMHDataset(path)


def _torch(path: str) -> Any:
    pytest.importorskip("torch")
    from mapix.torch import Dataset

    return Dataset(path)


@pytest.fixture(params=FAMILIES)
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Something opened by a relative path, in a directory that is no longer the current one."""
    make, open_it = FAMILIES[request.param]
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make("data")
    found = open_it("data")
    assert "here" not in repr(found)  # messages name what the user wrote
    want = sum_of(found)
    monkeypatch.chdir(tmp_path / "there")
    return request.param, found, want


def test_reading_copies_and_pickles(opened):
    name, ds, want = opened
    assert sum_of(ds) == want
    assert sum_of(copy.copy(ds)) == want
    assert sum_of(copy.deepcopy(ds)) == want
    again = pickle.loads(pickle.dumps(ds))
    assert sum_of(again) == want
    os.chdir("/")
    assert sum_of(pickle.loads(pickle.dumps(again))) == want
    if hasattr(ds, "verify") and "part" not in name:
        assert ds.verify().ok


@pytest.fixture(scope="module")
def worker() -> Any:
    with mp.get_context("spawn").Pool(1) as pool:
        yield pool


def test_a_spawned_worker(opened, worker):
    _, ds, want = opened
    assert worker.apply(sum_of, (ds,)) == want


def test_what_is_written_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    records("data")
    archive("a.iid")
    ds, a = mapix.open("data"), mapix.open("a.iid")
    monkeypatch.chdir(tmp_path / "there")
    assert ds.keep_index() == str(tmp_path / "data" / "train.mapix")
    assert mapix.open(tmp_path / "data").index.stored
    assert mapix.open(ds.splits["train"]).index.stored
    mapix.iid.edit(a, meta={"a": 2})
    assert mapix.open(tmp_path / "a.iid").meta == {"a": 2}
    assert os.listdir() == []


def test_the_original_data_module(tmp_path, monkeypatch):
    pytest.importorskip("lightning", reason="needs Lightning: pip install 'mapix[lightning]'")
    from mapix.compat.vimh import VIMHDataModule

    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    records("data")
    module = VIMHDataModule("data", batch_size=2, val_share=0.4)
    monkeypatch.chdir(tmp_path / "there")
    module.prepare_data()
    module.setup("fit")
    assert len(module.data_train) + len(module.data_val) == 5
    assert module.data_dir == "data"


def test_the_original_iidfile(tmp_path, monkeypatch):
    from mapix.compat.iidfile import IIDFile

    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    archive("a.iid")
    file = IIDFile("a.iid")
    monkeypatch.chdir(tmp_path / "there")
    file.meta.data["a"] = 7
    file.save()
    assert file.fpath == "a.iid"
    assert os.listdir() == []
    again = mapix.open(tmp_path / "a.iid")
    assert (len(again), again.meta) == (5, {"a": 7})
