"""Stored indexes: used when they are this file's, and never believed otherwise."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.vimh import index_store
from records import content, never_walk, settle, stored
from slow_vimh import pack, record


@pytest.fixture(autouse=True)
def small_files_count(monkeypatch):
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)


def make(path: Path, *, mixed: bool, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(1, 9, (300, 2)).tolist() if mixed else [[6, 5]] * 300
    path.write_bytes(
        pack([record(h, w, 1, [(0, i & 255)], seed=i) for i, (h, w) in enumerate(shapes)])
    )
    return settle(path)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_second_open_walks_nothing(tmp_path, monkeypatch, mixed):
    path = make(tmp_path / "f", mixed=mixed)
    first = mapix.open(path)
    (file,) = stored()
    assert not first.index.stored
    never_walk(monkeypatch)
    second = mapix.open(path)
    assert second.index.stored
    assert content(second) == content(first)
    assert second.index.ids == first.index.ids
    assert second.shapes.tolist() == first.shapes.tolist()
    assert (
        second.batch(range(300), flat=True).images == first.batch(range(300), flat=True).images
    ).all()
    assert [p.name for p in tmp_path.iterdir()] == ["f"], "nothing lies beside the data"
    assert file.stat().st_size == index_store.HEAD_NBYTES + (16 * 300 if mixed else 0)


def test_index_can_be_left_out_and_rebuilt(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path, index="never")
    assert stored() == []
    mapix.open(path)
    (file,) = stored()
    inode = file.stat().st_ino
    assert not mapix.open(path, index="never").index.stored
    assert not mapix.open(path, index="rebuild").index.stored
    assert stored()[0].stat().st_ino != inode
    with pytest.raises(ValueError, match="index must be"):
        mapix.open(path, index="maybe")


def test_options_have_their_own_index(tmp_path):
    path = make(tmp_path / "f", mixed=False)
    mapix.open(path)
    mapix.open(path, dialect=14)
    assert len(stored()) == 2


def test_a_file_written_just_now_is_not_remembered(tmp_path, monkeypatch):
    path = make(tmp_path / "f", mixed=False)
    written = path.stat().st_ctime_ns
    for after, remembered in (
        (1_000_000, 0),
        (index_store.FINE_NS - 1, 0),
        (index_store.FINE_NS + 1, 1),
    ):
        monkeypatch.setattr(time, "time_ns", lambda after=after: written + after)
        mapix.open(path)
        assert len(stored()) == remembered


@pytest.mark.parametrize("how", ["rewritten", "replaced", "cut", "time restored"])
def test_a_changed_file_is_walked_again(tmp_path, how):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path)
    assert len(stored()) == 1
    times = path.stat()
    data = path.read_bytes()
    other = pack([record(3, 3, 1, [(1, 1)])])
    if how == "replaced":
        (tmp_path / "new").write_bytes(data)
        os.replace(tmp_path / "new", path)
    else:
        same_size = data[:-1] + bytes([data[-1] ^ 1])
        path.write_bytes({"cut": other}.get(how, same_size))
    if how == "time restored":
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert not mapix.open(path).index.stored


def test_chmod_and_links_do_not_matter(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    ds = mapix.open(path)
    path.chmod(0o400)
    assert len(ds.batch([0], flat=True)) == 1  # an open file goes on
    os.link(path, tmp_path / "link")
    assert len(ds.batch([0], flat=True)) == 1


def damaged(file: Path):
    data = file.read_bytes()
    for at in (*range(0, index_store._PREFIX.size + index_store._FIELDS.size, 5),):
        yield data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    for n in (0, 1, 19, 100, 4095, 4096, len(data) - 16, len(data) - 1):
        yield data[:n]


def test_a_damaged_index_is_not_believed(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    want = content(mapix.open(path))
    (file,) = stored()
    for bad in damaged(file):
        file.write_bytes(bad)
        ds = mapix.open(path)
        assert not ds.index.stored
        assert content(ds) == want


def poison(file: Path, row: int, **fields: int) -> None:
    """Change a table entry; the header does not know."""
    at = index_store.HEAD_NBYTES + 16 * row
    data = bytearray(file.read_bytes())
    at_n, h, w, c = struct.unpack_from("<QHHH", data, at)
    offset = fields.get("at", at_n & ((1 << 56) - 1))
    n = fields.get("n", at_n >> 56)
    struct.pack_into(
        "<QHHH",
        data,
        at,
        offset | n << 56,
        fields.get("h", h),
        fields.get("w", w),
        fields.get("c", c),
    )
    file.write_bytes(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"at": 1 << 50},
        {"at": 10**6},
        {"at": 3},
        {"h": 65535, "w": 65535, "c": 65535},
        {"h": 0},
        {"n": 255},
        {"h": 7, "w": 1},
    ],
)
def test_a_poisoned_entry_never_gives_other_bytes(tmp_path, fields):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path)
    (file,) = stored()
    poison(file, 17, **fields)
    ds = mapix.open(path)
    assert ds.index.stored
    with pytest.raises(mapix.FormatError, match="index"):
        ds[17]
    with pytest.raises(mapix.FormatError, match=r"record 17 at byte .*index"):
        ds.batch([3, 17], pad=(300, 300), crop=True)
    with pytest.raises(mapix.FormatError, match="index"):
        ds.batch([3, 17], flat=True)  # before any memory is asked for
    assert ds[15].labels == {"param_0": 15}  # 16 has to end where 17 begins
    assert content(mapix.open(path, index="rebuild"))[17][3] == {"param_0": 17}


def test_a_cache_that_cannot_be_written_is_no_trouble(tmp_path, monkeypatch):
    path = make(tmp_path / "f", mixed=True)
    for place in ("/dev/null/x", "/proc/nothing"):
        monkeypatch.setenv("MAPIX_CACHE_DIR", place)
        assert len(mapix.open(path)) == 300
    monkeypatch.delenv("MAPIX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert index_store.cache_folder() == str(tmp_path / "xdg" / "mapix")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert index_store.cache_folder() == str(Path.home() / ".cache" / "mapix")


def test_a_partial_index_warns_each_time(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    with open(path, "ab") as f:
        f.write(b"\x05\x00")
    settle(path)
    for again in (False, True):
        with pytest.warns(mapix.MapixWarning, match="300 complete records; the last 2 bytes"):
            ds = mapix.open(path, strict=False)
        assert ds.index.stored == again
    with pytest.raises(mapix.TruncatedError):
        mapix.open(path)
