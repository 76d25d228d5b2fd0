"""Rows of one array, copied and turned round in C: compared with numpy, and cut under it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from mapix import _native
from mapix.source import Source


def slowly(data: bytes, at: int, size: int, n: int, swap: int, rows: list[int]) -> bytes:
    """A row, and a number, at a time."""
    made = b""
    for row in rows:
        row = row + n if row < 0 else row
        raw = data[at + row * size : at + (row + 1) * size]
        made += b"".join(raw[k : k + swap][::-1] for k in range(0, size, swap))
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "f"
    data = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    path.write_bytes(data)
    return Source(str(path)), data


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_reference_agrees(file, data):
    source, raw = file
    swap = data.draw(st.sampled_from([1, 2, 4, 8]))
    size = swap * data.draw(st.integers(1, 80))
    at = data.draw(st.integers(0, 50))
    n = data.draw(st.integers(1, (len(raw) - at) // size))
    rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=40))
    threads = data.draw(st.sampled_from([1, 2]))
    array = _native.Array(at=at, row_nbytes=size, nrows=n, swap=swap)
    want = slowly(raw, at, size, n, swap, rows)
    before = _native.simd()
    try:
        for level in (0, 1, 2):
            _native.simd(level)
            to = np.empty(len(want), np.uint8)
            array.gather(source.mapping, np.array(rows, np.int64), to, threads)
            assert to.tobytes() == want
    finally:
        _native.simd(before)


@pytest.mark.parametrize("row", [10, 11, 2**62, -11, -(2**63)])
def test_rows_out_of_range(file, row):
    array = _native.Array(at=0, row_nbytes=100, nrows=10, swap=1)
    to = np.empty(300, np.uint8)
    with pytest.raises(IndexError, match=f"index {row} at position 1 of 10"):
        array.gather(file[0].mapping, np.array([3, row, 4]), to)
    with pytest.raises(IndexError):
        array.willneed(file[0].mapping, np.array([3, row, 4]), 0)


@pytest.mark.parametrize(
    ("at", "size", "n"),
    [
        (0, 100_001, 1),
        (1, 1000, 100),
        (100_001, 1, 1),
        (0, 2**63, 2),
        (2**56 - 1, 1, 1),
        (0, 8, 2**61),
    ],
)
def test_an_array_that_is_not_in_the_file(file, at, size, n):
    array = _native.Array(at=at, row_nbytes=size, nrows=n, swap=1)
    mapping, last = file[0].mapping, np.array([n - 1])
    array.gather(mapping, np.array([], np.int64), np.empty(0, np.uint8))
    if size < 1 << 20:
        with pytest.raises(mapix.FormatError, match=f"{size} bytes, .* left in file"):
            array.gather(mapping, last, np.empty(size, np.uint8))
    with pytest.raises(mapix.FormatError, match=f"{size} bytes, .* left in file"):
        array.willneed(mapping, last, 0)


def test_an_array_beyond_every_file():
    with pytest.raises(ValueError, match=f"a record at byte {2**56}"):
        _native.Array(at=2**56, row_nbytes=1, nrows=1)


def test_room_is_checked(file):
    array = _native.Array(at=0, row_nbytes=100, nrows=10, swap=1)
    with pytest.raises(ValueError, match="space for 199"):
        array.gather(file[0].mapping, np.array([0, 1]), np.empty(199, np.uint8))
    bad = _native.Array(at=0, row_nbytes=100, nrows=10, swap=8)  # 100 bytes are no whole numbers
    with pytest.raises(mapix.MapixError, match="internal error"):
        bad.gather(file[0].mapping, np.array([0]), np.empty(100, np.uint8))


def test_a_file_that_is_cut_meanwhile(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(1 << 20))
    source = Source(str(path))
    array = _native.Array(at=0, row_nbytes=4096, nrows=256, swap=4)
    rows = np.arange(256)
    to = np.empty(1 << 20, np.uint8)
    array.gather(source.mapping, rows, to, 2)
    with path.open("r+b") as f:
        f.truncate(5000)
    with pytest.raises(mapix.FileChangedError):
        array.gather(source.mapping, rows, to, 2)


def test_rows_in_memory_are_not_asked_for(file):
    array = _native.Array(at=0, row_nbytes=1000, nrows=100, swap=1)
    rows = np.arange(100)
    array.gather(file[0].mapping, rows, np.empty(100_000, np.uint8))
    assert array.willneed(file[0].mapping, rows, 4) == 0
    assert array.willneed(file[0].mapping, rows, 0) == 100
