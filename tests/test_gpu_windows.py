"""A file that is larger than what may be pinned: windows of it, and memory for the other records.

On the emulation of a GPU: ``emulated_gpu.py``.
"""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix.sampling import Blocks
from slow_vimh import pack, record

torch = pytest.importorskip("torch")
from emulated_gpu import PAGE, emulate  # noqa: E402
from mapix.gpu.job import spans  # noqa: E402
from mapix.gpu.windows import Windows  # noqa: E402
from test_gpu import same  # noqa: E402
from test_gpu_kernel import kernel  # noqa: E402, F401

pytestmark = pytest.mark.torch
LIMIT = 16 * PAGE


@pytest.fixture
def driver(monkeypatch, kernel):  # noqa: F811
    from mapix.feeding import slots

    monkeypatch.setattr(slots, "CHUNK_RECORDS", 32)
    return emulate(monkeypatch, kernel)


@pytest.fixture
def loaders(driver):
    import mapix.torch

    made: list[Any] = []

    def make(ds: Any, batch: int, **options: Any) -> Any:
        options = {"way": "pages", "pin_limit": LIMIT, **options}
        made.append(mapix.torch.Loader(ds, batch, device="cuda", **options))
        made[-1].where = "cpu"
        return made[-1]

    yield make
    for loader in made:
        loader.close()
    assert driver.pinned == {}


def vimh(folder: Any, records: list[Any]) -> Any:
    (folder / "train").write_bytes(pack(records))
    return mapix.open(folder / "train", dialect=14)


@pytest.fixture
def ds(tmp_path):
    """50 pages."""
    return vimh(tmp_path, [record(8, 8, 3, [(0, i % 256), (3, 7)], seed=i) for i in range(977)])


def staged(loader: Any) -> tuple[int, int]:
    """How many records came through pinned memory, and how many in all: from ``explain``."""
    words = loader.explain().splitlines()[0].split()
    return int(words[-4]), int(words[-2])


OPTIONS = [
    {"dtype": "uint8"},
    {"dtype": "float32", "scale": 1 / 255, "mean": 0.5, "std": [0.25, 0.5, 0.125]},
    {"dtype": "bfloat16", "layout": "NHWC", "labels": "raw"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_those_of_the_dataset(ds, driver, loaders, shuffle, options):
    known = {"layout": "NCHW", "labels": "class", **options}
    if known["dtype"] == "bfloat16":
        known["dtype"] = "float32"
    loader = loaders(ds, 16, shuffle=shuffle, **options)
    same(ds, loader, **known)
    assert 0 < driver.most <= LIMIT
    count, records = staged(loader)
    assert records == 2 * len(ds)
    if shuffle:
        share = 1 - LIMIT / ds.source.nbytes
        assert abs(count / records - share) < 0.05
    else:
        assert count == 0
        assert driver.npins == 2 * -(-ds.source.nbytes // PAGE)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_shuffle_does_not_pin_and_release_for_ever(ds, driver, loaders, options):
    """All launches of an epoch but the last, smaller one need more windows than fit."""
    for _ in loaders(ds, 16, shuffle=True, **options):
        pass
    assert 16 <= driver.npins < 2 * 16


def test_blocks_that_fit_need_no_copies(ds, driver, loaders):
    """Blocks of a page, shuffled three at a time: two pages each, of two groups in one launch.

    Launches that may still be reading are of four groups at most, whose windows all fit.
    """
    order = Blocks.of(ds, window_nbytes=3 * PAGE, block_nbytes=PAGE)
    loader = loaders(ds, 16, order=order, dtype="uint8", pin_limit=2 * LIMIT)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class")
    assert staged(loader) == (0, 2 * len(ds))
    assert driver.most <= 2 * LIMIT < ds.source.nbytes
    assert driver.npins < 2 * 2.2 * ds.source.nbytes / PAGE


@pytest.mark.parametrize("shuffle", [False, True])
def test_mixed_sizes_parts_and_ranks(tmp_path, loaders, shuffle):
    records = [record(2 + i % 30, 3 + i % 17, 1 + i % 3, [(0, i % 9)], seed=i) for i in range(600)]
    part = vimh(tmp_path, records)[590:3:-1]
    options = {"pad": (16, 12), "crop": True, "pad_value": 7.0, "dtype": "float32"}
    for rank in range(2):
        loader = loaders(part, 16, shuffle=shuffle, rank=rank, world=2, seed=5, **options)
        for k, (images, labels) in enumerate(loader):
            rows = loader.plan.rows(0, k * loader.plan.step)
            want = part.batch(rows, layout="NCHW", labels="class", **options)
            assert torch.equal(images, torch.from_numpy(want.images))
            assert labels["param_0"].tolist() == want.labels[:, 0].tolist()
        assert k == len(loader) - 1


def test_records_larger_than_a_window(tmp_path, loaders):
    rows = np.random.default_rng(0).integers(0, 99, (40, 3000)).astype(">i4")
    mapix.idx.write(tmp_path / "x.idx", rows)
    ds = mapix.open(tmp_path / "x.idx")
    for shuffle in (False, True):
        loader = loaders(ds, 4, shuffle=shuffle, dtype=None)
        found = torch.cat([images.clone() for images, _ in loader]).numpy()
        assert found.tolist() == rows[loader.plan.order(0, 0, 40)].tolist()
        assert staged(loader)[1] == 40


def test_a_driver_that_pins_less(ds, driver, loaders):
    driver.limit = 5 * PAGE
    loader = loaders(ds, 16, dtype="uint8", shuffle=False)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class")
    assert driver.most <= 5 * PAGE
    assert "allows 5 windows" in loader.explain()
    driver.limit = 0
    same(ds, loaders(ds, 16, dtype="uint8"), dtype="uint8", layout="NCHW", labels="class")


def test_too_little_for_a_page(ds, loaders):
    import mapix.torch

    loader = loaders(ds, 16, pin_limit=PAGE - 1, way=None)
    lines = loader.explain().splitlines()
    assert lines[0].startswith("pinned: ")
    assert lines[1] == f"not pages: pin_limit={PAGE - 1} is less than a page of {PAGE} bytes"
    assert loaders(ds, 16, pin_limit=1 << 30).explain().endswith("bytes, which are pinned")
    with pytest.raises(ValueError, match="pin_limit must be at least 0, got -1"):
        mapix.torch.Loader(ds, 16, pin_limit=-1)


def test_a_batch_sampler_goes_the_plain_way(ds, loaders):
    import mapix.torch

    listed = [[3, 1, 2], [976]]
    loader = mapix.torch.Loader(ds, batch_sampler=listed, device="cuda", dtype="uint8")
    assert loader.explain().splitlines()[0].startswith("plain: ")
    assert "not pages: batch_sampler= names batches of any size" in loader.explain()
    for rows, (images, labels) in zip(listed, loader, strict=True):
        want = ds.batch(rows, layout="NCHW", labels="class")
        assert images.tolist() == want.images.tolist()
        assert labels["param_0"].tolist() == want.labels[:, 0].tolist()


# --- the file changes, the loader ends ------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, LIMIT])
@pytest.mark.parametrize("change", ["cut", "cut to nothing", "written", "replaced and written"])
def test_a_file_that_changes_while_launches_are_ahead(ds, tmp_path, loaders, change, limit):
    """What is pinned outlives the cut; no batch that was gathered afterwards is returned."""
    loader = loaders(ds, 8, dtype="uint8", seed=1, pin_limit=limit)
    one, seen, path = iter(loader), 0, tmp_path / "train"
    (images, _), rows = next(one), loader.plan.rows(0, 0)
    want = ds.batch(rows, layout="NCHW").images
    if change == "written":
        with open(path, "r+b") as f:
            f.write(b"x")
    elif change == "replaced and written":
        old = path.rename(tmp_path / "old")
        path.write_bytes(old.read_bytes())
        os.truncate(old, 100)
    else:
        os.truncate(path, 5000 if change == "cut" else 0)
    assert torch.equal(images, torch.from_numpy(want))

    def rest() -> None:
        nonlocal seen
        for _ in one:
            seen += 1

    with pytest.raises(mapix.FileChangedError):
        rest()
    assert seen <= 3  # the rest of the launch that was checked before, of 4 batches
    assert not [t for t in threading.enumerate() if t.name == "mapix-ahead"]


def test_pages_that_are_pinned_survive_a_cut(ds, tmp_path, loaders, driver):
    """The launch itself gives the old bytes, as on a GPU; only the check refuses them."""
    loader = loaders(ds, 8, dtype="uint8", pin_limit=None)
    feeder = loader._feed()
    want = ds.batch(loader.plan.rows_of(0, 0, 4), layout="NCHW").images
    os.truncate(tmp_path / "train", 0)
    (chunk, *_) = feeder.chunks(0, 0, 4)
    feeder._network.copy_(
        torch.from_numpy(_native.permute_network(len(ds), loader.plan.key(0)).view(np.int32))
    )
    feeder._launch(0, chunk)
    feeder.slots[0].ready.synchronize()
    assert torch.equal(feeder.slots[0].images, torch.from_numpy(want))
    assert int(feeder._failed[0][0]) == 0
    with pytest.raises(mapix.FileChangedError):
        feeder._check(0, chunk)


@pytest.mark.parametrize("way", ["pages", "pinned"])
@pytest.mark.parametrize("limit", [None, LIMIT])
def test_a_loader_that_is_closed_or_left(ds, loaders, driver, way, limit):
    loader = loaders(ds, 8, dtype="uint8", way=way, pin_limit=limit)
    one = iter(loader)
    next(one)
    loader.close()
    assert driver.pinned == {}
    with pytest.raises(mapix.ClosedError, match="closed during this iteration"):
        list(one)
    for _ in loader:
        break
    gc.collect()
    assert not [t for t in threading.enumerate() if t.name == "mapix-ahead"]
    one = iter(loader)
    next(one)
    del one, loader
    gc.collect()
    assert not [t for t in threading.enumerate() if t.name == "mapix-ahead"]


# --- windows --------------------------------------------------------------------------------------


def test_the_least_recently_used_window_goes(ds, driver):
    windows = Windows(ds.source.mapping, 3 * PAGE)

    def hold(*pages: int, in_use: set[int] = frozenset()) -> list[bool]:
        begins = np.array(pages) * PAGE + 10
        here, held = windows.hold(begins, begins + 20, set(in_use))
        assert held == {p for p, h in zip(pages, here, strict=True) if h}
        assert len(driver.pinned) <= 3
        return here.tolist()

    base = _native.base_of(ds.source.mapping)
    pinned = lambda: sorted((a - base) // PAGE for a in driver.pinned)  # noqa: E731
    assert hold(0, 1, 2) == [True] * 3
    assert hold(0) == [True]
    assert hold(9) == [True]
    assert pinned() == [0, 2, 9]
    assert hold(5, in_use={0, 2, 9}) == [False]
    assert hold(5, 6, in_use={2}) == [True, True]
    assert pinned() == [2, 5, 6]
    assert hold(4, 5, 6, 7) == [False, True, True, False]  # more than fit: none is released
    assert pinned() == [2, 5, 6]
    across = windows.hold(
        np.array([6 * PAGE - 1, 7 * PAGE - 1]), np.array([6 * PAGE + 1] * 2), set()
    )
    assert across[0].tolist() == [True, True]
    windows.close()
    assert driver.pinned == {}
    assert hold(1) == [False]


def test_the_bytes_of_records(tmp_path, ds):
    (tmp_path / "mixed").mkdir()
    mixed = vimh(
        tmp_path / "mixed", [record(2 + i, 3, 2, [(0, 1)] * (i % 3), seed=i) for i in range(9)]
    )
    rows = np.array([3, 0, 8])
    for data, placement in ((mixed, mixed.placement(pad=(20, 3))), (ds, ds.placement())):
        begins, ends = spans(placement, rows)
        for row, begin, end in zip(rows, begins, ends, strict=True):
            raw = data.source.view[begin:end]
            packed = record(*data[row].image.shape, []).pack()
            assert bytes(raw[:6]) == packed[:6]
            assert (
                bytes(raw[-data[row].image.size :])
                == np.ascontiguousarray(np.moveaxis(data[row].image, 2, 0)).tobytes()
            )
            assert end - begin == 14 + 1 + 2 * raw[14] + data[row].image.size
