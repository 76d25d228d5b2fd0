"""A file that is larger than what may be pinned: windows of it, and memory for the other records.

On the emulation of a GPU: ``emulated_gpu.py``.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import _native
from mapix.sampling import Blocks
from mapix.source import Source
from slow_vimh import pack, record

torch = pytest.importorskip("torch")
from emulated_gpu import PAGE, emulate  # noqa: E402
from mapix.gpu.job import Files  # noqa: E402
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


def shards(folder: Any, sizes: list[int], *, mixed: bool = False) -> list[Any]:
    """Paths of VIMH files of these numbers of records, of 212 bytes where they are alike."""
    folder.mkdir(exist_ok=True)
    for k, n in enumerate(sizes):
        shape = (lambda i, k=k: (2 + (i + k) % 9, 3 + i % 7, 3)) if mixed else (lambda i: (8, 8, 3))
        records = [record(*shape(i), [(0, i % 256), (3, k)], seed=1000 * k + i) for i in range(n)]
        (folder / f"shard_{k}").write_bytes(pack(records))
    return [folder / f"shard_{k}" for k in range(len(sizes))]


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


@pytest.mark.parametrize("nfiles", [1, 5])
def test_blocks_that_fit_need_no_copies(tmp_path, ds, driver, loaders, nfiles):
    """Blocks of a page, shuffled three at a time: two pages each, of two groups in one launch.

    Launches that may still be reading are of four groups at most, whose windows all fit, also with
    another page for each end of a file.
    """
    nbytes = ds.source.nbytes
    if nfiles > 1:
        ds = mapix.open(shards(tmp_path / "more", [200, 200, 200, 200, 177]), dialect=14)
    order = Blocks.of(ds, window_nbytes=3 * PAGE, block_nbytes=PAGE)
    loader = loaders(ds, 16, order=order, dtype="uint8", pin_limit=2 * LIMIT)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class")
    assert staged(loader) == (0, 2 * len(ds))
    assert driver.most <= 2 * LIMIT < nbytes
    assert driver.npins < 2 * 2.4 * nbytes / PAGE


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


def arrays(folder: Any, suffix: str, sizes: list[int]) -> list[Any]:
    """Paths of arrays of bytes (n, 7, 9), or of big-endian numbers for IDX."""
    rng = np.random.default_rng(0)
    for k, n in enumerate(sizes):
        numbers = rng.integers(0, 256, (n, 7, 9), np.uint8)
        if suffix == "npy":
            np.save(folder / f"{k}.npy", numbers)
        else:
            mapix.idx.write(folder / f"{k}.idx", numbers.astype(suffix))
    return [folder / f"{k}.{'npy' if suffix == 'npy' else 'idx'}" for k in range(len(sizes))]


SIZES = [300, 1, 140, 77, 20, 190]
FAMILIES = {
    "vimh": (lambda folder: shards(folder, SIZES), {"dtype": "uint8", "labels": "raw"}),
    "vimh, mixed": (
        lambda folder: shards(folder, SIZES, mixed=True),
        {"pad": (6, 8), "crop": True, "pad_value": 3.0, "dtype": "float32", "mean": [1, 2, 3]},
    ),
    "idx, bytes": (lambda folder: arrays(folder, "u1", SIZES), {"dtype": "float16", "scale": 0.5}),
    "idx, numbers": (lambda folder: arrays(folder, ">i4", SIZES), {"dtype": None, "layout": None}),
    "npy": (lambda folder: arrays(folder, "npy", SIZES), {"dtype": "bfloat16", "std": 3.0}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("joined", "how"),
    [
        *(("list", how) for how in ("complete", "shuffled", "in order", "blocks")),
        *(("catalogue", how) for how in ("complete", "blocks")),
    ],
)
def test_several_files(tmp_path, driver, loaders, family, joined, how):
    make, options = FAMILIES[family]
    paths = make(tmp_path)
    opening = {"dialect": 14} if family.startswith("vimh") else {}
    ds = mapix.open(paths, **opening)
    nbytes = sum(path.stat().st_size for path in paths)
    if joined == "catalogue":
        mapix.catalogue.write(paths, tmp_path / "all.catalogue", **opening)
        ds = mapix.open(tmp_path / "all.catalogue", most_open=2)
    pinned = sum(-(-path.stat().st_size // PAGE) * PAGE for path in paths)
    more: dict[str, Any] = {"pin_limit": pinned if how == "complete" else 14 * PAGE}
    if how == "blocks":
        more["order"] = Blocks.of(ds, window_nbytes=PAGE, block_nbytes=PAGE)
    elif how == "in order":
        more["shuffle"] = False
    loader = loaders(ds, 16, **options, **more)
    known = {"layout": "NCHW", **options}
    if family.startswith("vimh"):
        known = {"labels": "class", **known}
    if options["dtype"] == "bfloat16":
        known["dtype"] = "float32"
    same(ds, loader, **known)
    text = loader.explain().splitlines()[0]
    assert f"{nbytes} bytes in 6 files" in text
    assert driver.most <= more["pin_limit"]
    if how == "complete":
        assert text.endswith("6 files, which are pinned")
        assert driver.npins == 6
        return
    count, records = staged(loader)
    assert records == 2 * len(ds)
    if how == "in order":
        assert count == 0
    part = ds[700:20:-3]
    same(part, loaders(part, 16, **options, pin_limit=14 * PAGE), **known)


def test_more_files_than_are_checked_after_each_launch(tmp_path, driver, loaders, monkeypatch):
    """Only the files that a launch reads are checked then."""
    from mapix.feeding import pages

    monkeypatch.setattr(pages, "FEW_FILES", 3)
    paths = shards(tmp_path, [20] * 8)
    ds = mapix.open(paths, dialect=14)
    loader = loaders(ds, 4, dtype="uint8", pin_limit=1 << 30)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class")
    checked: list[int] = []
    check, maps = _native.check, [part.source.mapping for part in ds.parts]
    monkeypatch.setattr(pages._native, "check", lambda m: (checked.append(maps.index(m)), check(m)))
    for rank in range(3):  # chunks of 8 batches, divided among ranks
        loader = loaders(ds, 4, dtype="uint8", pin_limit=1 << 30, rank=rank, world=3)
        checked.clear()
        rows = [loader.plan.rows(0, k * loader.plan.step) for k in range(len(loader))]
        read = [np.unique(np.concatenate(rows[k : k + 8]) // 20) for k in range(0, len(rows), 8)]
        list(loader)
        assert checked == np.concatenate(read).tolist()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_catalogue_opens_shards_when_it_needs_them(tmp_path, loaders, monkeypatch, mixed):
    """Where only the shape of a batch is asked for, it opens none but the one that is open."""
    paths = shards(tmp_path, [20] * 5, mixed=mixed)
    mapix.catalogue.write(paths, tmp_path / "all.catalogue", dialect=14)
    ds = mapix.open(tmp_path / "all.catalogue")
    opened: list[int] = []
    real = type(ds.parts)._opened
    monkeypatch.setattr(
        type(ds.parts), "_opened", lambda self, k: (opened.append(k), real(self, k))[1]
    )
    pad = {"pad": (6, 8), "crop": True} if mixed else {}
    placement = ds.placement(**pad)
    assert (len(placement.parts), placement.nrecords) == (5, 100)
    assert placement.shape_known is not mixed
    assert opened == []
    assert [first for first, _ in placement.parts] == [0, 20, 40, 60, 80]
    assert sorted(opened) == [1, 2, 3, 4]
    here = mapix.Loader(ds, 16, **pad)  # with buffers, if the shape is known
    for k, batch in enumerate(here):
        want = ds.batch(here.plan.rows(0, 16 * k), **pad)
        assert batch.images.tolist() == want.images.tolist()
    if mixed:
        with pytest.raises(mapix.UnsupportedError, match=r"mixed sizes need pad=\(h, w\)"):
            ds.placement()
    for way in ("pages", "pinned"):
        loader = loaders(ds, 16, way=way, dtype="uint8", pin_limit=1 << 30, **pad)
        same(ds, loader, dtype="uint8", layout="NCHW", labels="class", **pad)


def test_more_files_than_are_mapped(tmp_path, loaders, monkeypatch):
    from mapix.feeding import pages

    monkeypatch.setattr(pages, "MOST_FILES", 2)
    ds = mapix.open(shards(tmp_path, [3, 4, 5]), dialect=14)
    loader = loaders(ds, 4, way=None)
    assert loader.explain().splitlines()[1:] == [
        "not pages: 3 files: at most 2 are mapped at a time"
    ]


def test_a_driver_that_refuses_one_of_several_files(tmp_path, driver, loaders):
    ds = mapix.open(shards(tmp_path, [300, 300, 300]), dialect=14)
    driver.limit = 40 * PAGE
    loader = loaders(ds, 16, dtype="uint8", way=None, pin_limit=1 << 30)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class")
    text = loader.explain().splitlines()
    assert text[0].startswith("pinned: ")
    assert text[1] == "not pages: cuMemHostRegister_v2: CUDA_ERROR_OUT_OF_MEMORY"
    assert driver.npins == 2
    assert driver.pinned == {}


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
    assert f"allows {5 * PAGE} to be pinned, in windows of at most {PAGE}" in loader.explain()
    assert "the driver pins no more (cuMemHostRegister_v2: CUDA_ERROR_OUT" in loader.explain()


@pytest.mark.parametrize("limit", [1 << 30, LIMIT])
def test_a_driver_that_pins_nothing(ds, driver, loaders, limit):
    driver.limit = 0
    loader = loaders(ds, 16, dtype="uint8", way=None, pin_limit=limit)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class")
    assert loader.explain().splitlines() == [
        "pinned: a thread gathers 2 batches at a time into pinned memory: converted batches",
        "not pages: cuMemHostRegister_v2: CUDA_ERROR_OUT_OF_MEMORY",
    ]


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


@pytest.mark.parametrize("change", ["cut", "replaced", "rewritten"])
@pytest.mark.parametrize("limit", [1 << 30, LIMIT])
def test_one_of_several_files_that_changes(tmp_path, loaders, driver, change, limit):
    """It is an error once a launch reads that file; launches of others go on before it."""
    paths = shards(tmp_path, [300, 300, 300])
    loader = loaders(
        mapix.open(paths, dialect=14), 8, shuffle=False, dtype="uint8", pin_limit=limit
    )
    one, good = iter(loader), mapix.open(paths[0], dialect=14)
    seen = [next(one)[0].clone()]
    if change == "cut":
        os.truncate(paths[2], 10_000)
    elif change == "rewritten":
        paths[2].write_bytes(paths[2].read_bytes()[::-1])
    else:
        data = paths[2].read_bytes()
        os.truncate(paths[2], 5)  # the old file, which is mapped
        paths[2].unlink()
        paths[2].write_bytes(data)
    with pytest.raises(mapix.FileChangedError, match=str(paths[2])):
        seen.extend(images.clone() for images, _ in one)
    if limit == LIMIT:  # a launch reads one or two files
        assert 300 // 8 < len(seen) <= 600 // 8
    for k, images in enumerate(seen[: 300 // 8]):
        rows = range(8 * k, 8 * k + 8)
        assert torch.equal(images, torch.from_numpy(good.batch(rows, layout="NCHW").images))


@pytest.mark.parametrize("limit", [1 << 30, LIMIT])
def test_an_interrupt_while_launches_are_ahead(ds, loaders, driver, monkeypatch, limit):
    loader = loaders(ds, 8, dtype="uint8", pin_limit=limit)
    launcher, calls = loader._feed().kernel, []
    launch = launcher.launch

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        launch(*arguments)

    monkeypatch.setattr(launcher, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(loader)
    same(ds, loader, dtype="uint8", layout="NCHW", labels="class", begin=1)
    assert not [t for t in threading.enumerate() if t.name == "mapix-ahead"]
    loader.close()
    assert driver.pinned == {}


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


def test_windows_are_released_after_the_thread(ds, loaders, driver, monkeypatch):
    """As when the interpreter ends while the thread is about to launch."""
    loader = loaders(ds, 8, dtype="uint8")
    feeder, began, pinned = loader._feed(), threading.Event(), []
    launch = feeder.kernel.launch

    def slow(*arguments: Any) -> None:
        began.set()
        time.sleep(0.1)
        pinned.append(len(driver.pinned))
        launch(*arguments)

    monkeypatch.setattr(feeder.kernel, "launch", slow)
    one = iter(loader)
    next(one)
    began.clear()
    assert began.wait(60)  # the thread launches into the next slot
    feeder._release()
    assert driver.pinned == {}
    one.close()
    assert len(pinned) >= 2
    assert all(pinned)


AT_EXIT = """
import atexit, ctypes, signal, sys
sys.path.insert(0, {tests!r})
atexit.register(lambda: print("pinned at exit", len(driver.pinned), driver.npins > 0, flush=True))
import mapix, mapix.torch
from emulated_gpu import Driver, Cuda
from mapix.feeding import slots, ways
from mapix.gpu import driver as module
from mapix.gpu.job import Job
kernel = ctypes.CDLL({kernel!r})
kernel.mapix_gather.argtypes = [ctypes.POINTER(Job), ctypes.c_uint64]
driver = Driver(kernel)
module.load = lambda: driver
slots.Cuda = ways.Cuda = Cuda
slots.CHUNK_RECORDS = 32
loaders = [
    mapix.torch.Loader(mapix.open({paths!r}, dialect=14), 8, device="cuda", pin_limit=limit)
    for limit in (1 << 30, {limit})
]
iterations = [iter(loader) for loader in loaders]
for one in iterations:
    next(one)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "sys.exit(3)", "signal.raise_signal(signal.SIGINT)"])
def test_nothing_is_pinned_at_exit(tmp_path, kernel, end):  # noqa: F811
    """Iterations are under way, and a thread launches ahead; no loader is closed."""
    paths = [str(path) for path in shards(tmp_path, [300, 300])]
    names = {"tests": os.path.dirname(__file__), "kernel": kernel._name, "limit": LIMIT}
    program = AT_EXIT.format(**names, paths=paths, end=end)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "pinned at exit 0 True\n", done.stderr
    assert done.returncode == {"": 0, "sys.exit(3)": 3}.get(end, -signal.SIGINT)


# --- windows --------------------------------------------------------------------------------------


def test_the_least_recently_used_window_goes(ds, driver):
    windows = Windows([ds.source.mapping], 3 * PAGE)
    assert not windows.complete
    assert windows.window_nbytes == PAGE
    users = iter(range(1000))

    def hold(*pages: int, user: int | None = None) -> list[bool]:
        begins = np.array(pages) * PAGE + 10
        number = next(users) if user is None else user
        here = windows.hold(number, np.zeros(len(pages), np.int64), begins, begins + 20)
        if user is None:
            windows.leave(number)
        assert len(driver.pinned) <= 3
        return here.tolist()

    base = _native.base_of(ds.source.mapping)
    pinned = lambda: sorted((a - base) // PAGE for a in driver.pinned)  # noqa: E731
    assert pinned() == [0]  # which shows that the driver can
    assert hold(0, 1, 2) == [True] * 3
    assert hold(0) == [True]
    assert hold(9) == [True]
    assert pinned() == [0, 2, 9]
    assert hold(0, 2, user=-1) == [True] * 2
    assert hold(9, user=-2) == [True]
    assert hold(5) == [False]  # all are read by a launch
    assert hold(2, user=-1) == [True]
    windows.leave(-2)
    assert hold(5, 6) == [True, True]
    assert pinned() == [2, 5, 6]
    windows.leave(-1)
    assert hold(4, 5, 6, 7) == [False, True, True, False]  # more than fit: none is released
    assert pinned() == [2, 5, 6]
    across = np.array([6 * PAGE - 1, 7 * PAGE - 1]), np.array([6 * PAGE + 1] * 2)
    assert windows.hold(0, np.zeros(2, np.int64), *across).tolist() == [True, True]
    windows.close()
    assert driver.pinned == {}
    assert hold(1) == [False]


def mappings(tmp_path: Any, sizes: list[int]) -> list[Any]:
    for k, nbytes in enumerate(sizes):
        (tmp_path / f"file_{k}").write_bytes(bytes([k + 1]) * nbytes)
    return [Source(tmp_path / f"file_{k}").mapping for k in range(len(sizes))]


def test_files_that_fit_are_pinned_at_once(tmp_path, driver):
    maps = mappings(tmp_path, [1, 3 * PAGE, 2 * PAGE + 1])
    windows = Windows(maps, 7 * PAGE)
    assert windows.complete
    want = {_native.base_of(m): n * PAGE for m, n in zip(maps, (1, 3, 3), strict=True)}
    assert driver.pinned == want
    windows.close()
    windows.close()
    assert driver.pinned == {}
    windows = Windows(maps, 7 * PAGE - 1)
    assert not windows.complete
    windows.close()


def test_windows_of_several_files(tmp_path, driver):
    """Small files have small windows, and bytes are counted, not windows."""
    maps = mappings(tmp_path, [100, 300 * PAGE, PAGE, 3 * PAGE])
    windows = Windows(maps, 128 * PAGE)
    assert windows.window_nbytes == 2 * PAGE
    bases = [_native.base_of(m) for m in maps]

    def hold(*places: tuple[int, int], nbytes: int = 1) -> list[bool]:
        which, at = np.array(places).T
        return windows.hold(0, which, at * PAGE, at * PAGE + nbytes).tolist()

    def pinned() -> list[tuple[int, int, int]]:
        """File, page, number of pages."""
        return sorted(
            (k, (a - base) // PAGE, n // PAGE)
            for a, n in driver.pinned.items()
            for k, base in enumerate(bases)
            if base <= a < base + maps[k].nbytes
        )

    assert hold((3, 2), (0, 0), (2, 0), (1, 5)) == [True] * 4
    assert pinned() == [(0, 0, 1), (1, 4, 2), (2, 0, 1), (3, 2, 1)]
    assert hold((1, 1), nbytes=PAGE) == [True]  # the end of a window
    assert hold((1, 1), nbytes=PAGE + 1) == [True]  # and a byte of the next one
    assert [p for p in pinned() if p[0] == 1] == [(1, 0, 2), (1, 2, 2), (1, 4, 2)]
    # 9 of 128 pages are pinned, and 244 more do not fit: 59 windows are, and none is released
    assert hold(*((1, page) for page in range(6, 250))) == [True] * 118 + [False] * 126
    assert (0, 0, 1) in pinned()
    assert hold((1, 200)) == [True]  # one page is free, and that of the smallest file is the oldest
    assert sum(driver.pinned.values()) == 128 * PAGE
    assert (0, 0, 1) not in pinned()
    assert driver.most == 128 * PAGE
    windows.close()
    assert driver.pinned == {}


def test_the_bytes_of_records(tmp_path, ds):
    (tmp_path / "mixed").mkdir()
    mixed = vimh(
        tmp_path / "mixed", [record(2 + i, 3, 2, [(0, 1)] * (i % 3), seed=i) for i in range(9)]
    )
    rows = np.array([3, 0, 8])
    for data, placement in ((mixed, mixed.placement(pad=(20, 3))), (ds, ds.placement())):
        begins, ends = Files(placement).spans(rows, np.zeros(3, np.int64))
        for row, begin, end in zip(rows, begins, ends, strict=True):
            raw = data.source.view[begin:end]
            packed = record(*data[row].image.shape, []).pack()
            assert bytes(raw[:6]) == packed[:6]
            assert (
                bytes(raw[-data[row].image.size :])
                == np.ascontiguousarray(np.moveaxis(data[row].image, 2, 0)).tobytes()
            )
            assert end - begin == 14 + 1 + 2 * raw[14] + data[row].image.size
