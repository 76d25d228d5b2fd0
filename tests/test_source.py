from __future__ import annotations

import ctypes
import errno
import gc
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import _native, errors
from mapix.source import Source, ask_for_ends, file_map, read_small
from mapix.source.reserved import HUGE_NBYTES
from records import crc32c, needs_c, settle
from records import descriptors as descriptors_open
from slow_vimh import pack, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(pack([record(30, 40, 3, [(0, i)], seed=i) for i in range(50)]))
    return path


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.maps
def test_the_mapping_lives_as_long_as_its_last_array(path):
    fds = descriptors_open()
    ds = mapix.open(path)
    image = ds[3].image[5:, ::2]
    whole = ds.images
    want = image.copy()
    ds.close()
    del ds
    gc.collect()
    assert mapped(path)
    np.testing.assert_array_equal(image, want)
    del whole
    assert mapped(path)
    del image
    gc.collect()
    assert not mapped(path)
    assert descriptors_open() == fds


@pytest.mark.maps
def test_large_files_begin_at_a_huge_page(tmp_path):
    path, n = tmp_path / "large", 5 * HUGE_NBYTES + 123
    with open(path, "wb") as f:
        f.truncate(n)  # a hole, which reads as zeros
        f.seek(n - 3)
        f.write(b"end")
    source = Source(path)
    mapping = source.mapping
    assert _native.base_of(mapping) % HUGE_NBYTES == 0
    assert len(source.view) == mapping.nbytes == n
    for access in ("sequential", "random"):
        mapping.advise(access)
    mapping.willneed(n - 3, 3)
    assert source.read(n - 3, 3) == b"end"
    assert source.view[-3:] == b"end"
    last = np.frombuffer(source.view, np.uint8)[-3:]
    source.close()
    del source, mapping
    gc.collect()
    assert mapped(path)
    assert last.tobytes() == b"end"
    del last
    gc.collect()
    assert not mapped(path)


def test_views_of_large_files_keep_their_memory(tmp_path):
    path = tmp_path / "data"
    one = record(60, 60, 3, [(0, 7)])
    path.write_bytes(pack([one] * (HUGE_NBYTES // (60 * 60 * 3) + 1)))
    ds = mapix.open(path)
    images = [ds[0].image, ds[len(ds) - 1].image, ds.images[3]]
    for image in images:
        owner = image.base
        while isinstance(owner, np.ndarray):
            owner = owner.base
        assert not isinstance(owner, memoryview)  # which can be released
        if hasattr(owner, "close"):  # Python's mmap, where mapix has no own type
            with pytest.raises(BufferError):
                owner.close()
        np.testing.assert_array_equal(image, one.hwc())
    assert ds[5].labels == {"param_0": 7}


def test_opening_and_closing_leaks_nothing(path):
    mapix.open(path).batch([0])
    fds = descriptors_open()
    for _ in range(200):
        with mapix.open(path) as ds:
            ds.batch([0, 1])
    gc.collect()
    assert descriptors_open() == fds
    assert not mapped(path)


def test_close_while_threads_gather(path):
    want = mapix.open(path).batch(range(50)).images
    closed = []

    def gather(ds: mapix.vimh.Dataset) -> None:
        try:
            while True:
                np.testing.assert_array_equal(ds.batch(range(50)).images, want)
        except mapix.ClosedError:
            closed.append(1)

    for _ in range(30):
        ds = mapix.open(path)
        threads = [threading.Thread(target=gather, args=(ds,)) for _ in range(3)]
        for t in threads:
            t.start()
        ds.close()
        for t in threads:
            t.join()
    assert len(closed) == 90


@needs_c
@pytest.mark.maps
def test_a_batch_holds_the_file_that_another_thread_closes(path, monkeypatch):
    """The core reads the map without the GIL, and nobody else refers to it any more."""
    held: list[bool] = []

    def run(*order: Any) -> int:
        if prepared:
            ds.close()
            gc.collect()
            held.append(mapped(path))
        return 0

    kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)
    called = ctypes.CFUNCTYPE(ctypes.c_int, *kinds, ctypes.c_void_p, ctypes.c_void_p)(run)
    monkeypatch.setattr(_native, "GATHER", ctypes.cast(called, ctypes.c_void_p).value)
    ds, rows, prepared = mapix.open(path), np.arange(50), False
    ds.batch(rows)
    prepared = True
    ds.batch(rows)
    assert held == [True]
    assert not mapped(path)


def test_nobody_can_unmap_under_an_array(path):
    image = mapix.open(path)[0].image
    base = image
    while isinstance(base, np.ndarray):
        base = base.base
    gc.collect()
    if hasattr(memory := getattr(base, "obj", base), "close"):  # Python's mmap
        with pytest.raises(BufferError):
            memory.close()
    del base, memory
    gc.collect()
    assert image.sum() > 0


def test_changes_are_told_apart(path):
    def difference() -> str | None:
        return before.difference(Source(path).fingerprint)

    before = Source(path).fingerprint
    assert difference() is None
    path.chmod(0o600)
    assert difference() is None
    times = path.stat()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert "written to" in difference()
    before = Source(path).fingerprint
    os.utime(path, ns=(times.st_atime_ns + 5, times.st_mtime_ns + 1))
    assert "change time" in difference()
    with open(path, "ab") as f:
        f.write(b"x")
    assert "bytes, now it has" in difference()
    os.replace(path, path.with_name("b"))
    path.write_bytes(b"y")
    assert "replaced" in difference()


@pytest.mark.parametrize("how", ["shrink", "grow", "rewrite", "rewrite and restore the time"])
def test_a_batch_from_a_file_that_moved_is_refused(path, how):
    ds = mapix.open(path)
    record_3 = ds[3]
    before = path.stat()
    if how == "shrink":
        os.truncate(path, 4096)
    elif how == "grow":
        with open(path, "ab") as f:
            f.write(b"more")
    else:
        with open(path, "r+b") as f:
            f.write(b"\0")
    if how.endswith("time"):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for act in (
        lambda: ds.batch([40]),
        lambda: record_3.labels,
        lambda: record_3.spec_range,
        lambda: ds.warm(),
    ):
        with pytest.raises(mapix.FileChangedError, match="open it again") as e:
            act()
        assert e.value.filename == str(path)
        assert isinstance(e.value, OSError)


def test_a_file_replaced_by_rename_is_read_on(path):
    """The old file is still there for whoever holds it: nothing moved under us."""
    ds = mapix.open(path)
    want = ds.batch([7]).images
    path.with_name("new").write_bytes(b"something else")
    os.replace(path.with_name("new"), path)
    np.testing.assert_array_equal(ds.batch([7]).images, want)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no posix_fadvise here")
def test_asking_for_ends(tmp_path, monkeypatch):
    asked: list[tuple[int, int]] = []
    real = os.posix_fadvise
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, *what: asked.append(what) or real(fd, *what)
    )
    k, need = 1 << 10, os.POSIX_FADV_WILLNEED
    before = descriptors_open()
    for nbytes, last in (
        (0, None),
        (16 * k, None),
        (16 * k + 1, 1),
        (20 * k, 4 * k),
        (99 * k, 16 * k),
    ):
        (tmp_path / "f").write_bytes(bytes(nbytes))
        asked.clear()
        ask_for_ends(str(tmp_path / "f"))
        second = [] if last is None else [(nbytes - last, last, need)]
        assert asked == [(0, 16 * k, need), *second]
    os.mkfifo(tmp_path / "pipe")  # nothing of these is an error, and none is waited for
    for name in ("pipe", "missing", "."):
        ask_for_ends(str(tmp_path / name))
    ask_for_ends("https://host.invalid/f")
    assert descriptors_open() == before


def test_read_small(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(mapix.LimitError, match="limit of 4"):
        read_small(path, 4)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_small(tmp_path / "fifo", 5)


def test_copy_is_bounded(path):
    mapping = Source(path).mapping
    assert _native.copy(mapping, 0, 6, "x") == path.read_bytes()[:6]
    assert _native.copy(mapping, mapping.nbytes, 0, "x") == b""
    for at, n in ((0, mapping.nbytes + 1), (mapping.nbytes + 1, 0), (2**63, 2**62)):
        if n < 2**32:
            with pytest.raises(mapix.FormatError, match="left in file"):
                _native.copy(mapping, at, n, "x")


def test_crc32c():
    assert _native.crc32c(b"123456789") == 0xE3069283
    best = _native.simd()
    data = np.random.default_rng(0).bytes(100)
    try:
        for level in range(best + 1):
            _native.simd(level)
            for n in range(60):
                assert _native.crc32c(data[:n]) == crc32c(data[:n])
                assert _native.crc32c(data[n:], _native.crc32c(data[:n])) == crc32c(data)
    finally:
        _native.simd(best)


def test_errors_cross_process_borders():
    for e in (
        errors.TruncatedError("p", "vimh", "why", record=3, at=9),
        errors.FormatError("p", "vimh", "why"),
        errors.FileChangedError("p", "moved"),
        errors.LimitError("much"),
    ):
        again = pickle.loads(pickle.dumps(e))
        assert type(again) is type(e)
        assert str(again) == str(e)
    assert str(errors.TruncatedError("p", "vimh", "why", record=3, at=9)) == (
        "p: vimh record 3 at byte 9: why"
    )
    assert str(errors.FileChangedError("p", "moved")) == "p: moved"
    # PyTorch's loaders call the class with the worker's whole text
    for kind in (errors.FileChangedError, errors.TruncatedError, errors.ClosedError):
        assert str(kind("Caught it in worker 0")) == "Caught it in worker 0"


# --- files that are read instead of mapped --------------------------------------------------------


def test_a_file_is_read_where_maps_are_not_wanted(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(200)) * 50)
    settle(path)
    monkeypatch.setattr(file_map, "backend", "pread")
    source = Source(path)
    assert not mapped(path)
    assert bytes(source.view) == source.read(0, 10_000) == path.read_bytes()
    assert source.view.readonly
    array = np.frombuffer(source.view, np.uint8)
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    os.truncate(path, 10)
    assert array.tobytes() == bytes(range(200)) * 50  # a view survives what kills a map's reader
    with pytest.raises(mapix.FileChangedError, match="had 10000 bytes, now it has 10"):
        source.read(0, 10)
    monkeypatch.setattr(file_map, "backend", "sendfile")
    with pytest.raises(ValueError, match="MAPIX_BACKEND is 'sendfile'"):
        Source(path)


def test_a_file_that_the_system_does_not_map_is_read(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"content")

    def refuses(nbytes: int, fd: int, path: str, *, shared: bool) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(file_map, "mapped", refuses)
    assert bytes(Source(path).view) == b"content"


@pytest.mark.parametrize("change", ["cut", "written"])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, change):
    path = tmp_path / "f"
    path.write_bytes(bytes(10_000))
    settle(path)
    monkeypatch.setattr(file_map, "backend", "pread")
    real = os.preadv

    def meanwhile(fd: int, buffers: Any, at: int) -> int:
        if at == 0:
            os.truncate(path, 5000) if change == "cut" else path.write_bytes(bytes(10_000))
            return real(fd, [buffers[0][:4096]], at)
        return real(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", meanwhile)
    if change == "cut":
        with pytest.raises(mapix.FileChangedError, match="had 10000 bytes, now it has 5000"):
            Source(path)
    else:
        source = Source(path)
        with pytest.raises(mapix.FileChangedError, match="modification time changed"):
            source.read(0, 1)
