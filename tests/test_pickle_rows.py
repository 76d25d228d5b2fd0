"""Rows of small numbers in a pickle, read in C: each bound from both sides, beside a slow reader.

Where a row ends, how many there is room for, which number of the memo it has: a row that is not
exactly as expected ends the reading, and nothing behind the rows that were read is written.
"""

from __future__ import annotations

import pickle
import pickletools
import struct

import numpy as np
import pytest

from mapix import _native
from mapix._native.core import ffi, lib

POISON = 0xA5
MEMO = {"memoize": 70_000, "put": 253, "long put": 70_000}
KINDS = list(MEMO)


def named(kind: str, number: int) -> bytes:
    if kind == "memoize":
        return b"\x94"
    return b"q" + bytes([number]) if kind == "put" else b"r" + struct.pack("<I", number)


def row(numbers: list[int], name: bytes) -> bytes:
    body = b"".join(b"K" + bytes([x]) for x in numbers)
    if len(numbers) > 1:
        body = b"(" + body + b"e"
    elif numbers:
        body += b"a"
    return b"]" + name + body


def numbers_of(n: int, i: int) -> list[int]:
    return [(7 * i + 3 * k) % 256 for k in range(n)]


def written(n: int, count: int, kind: str) -> list[bytes]:
    """Rows as pickle writes them; a memo of two bytes ends at number 255."""
    first = MEMO[kind]
    return [row(numbers_of(n, i), named(kind, first + i)) for i in range(count)]


def rows_at(data: bytes, memo: int, out: np.ndarray, room: int, at: int = 0) -> tuple[int, int]:
    """``mapix_pickle_rows`` over bytes that no file backs: where it stopped, and how many rows."""
    keep = _native.buffer_of(data)
    mapping = ffi.new("mapix_map *", {"base": keep, "nbytes": len(data), "fd": -1})
    run, into = ffi.new("mapix_pickle_run *"), _native.writable(out)
    status = lib.mapix_pickle_rows(mapping, at, memo, out.shape[1], into, room, run)
    assert status == _native.OK
    return run.at, run.nrows


def read(data: bytes, n: int, room: int, kind: str, at: int = 0) -> tuple[int, int]:
    """The same for rows of a kind: those found are the first written, and no more is written."""
    out = np.full((room + 2, n), POISON, np.uint8)
    stop, found = rows_at(data, MEMO[kind], out, room, at)
    assert found <= room
    assert out[:found].tolist() == [numbers_of(n, i) for i in range(found)]
    assert (out[room:] == POISON).all()
    return stop, found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 511])
def test_a_file_that_ends_anywhere(n: int, kind: str) -> None:
    rows = written(n, 3, kind)
    data = b"".join(rows)
    ends = np.cumsum([len(r) for r in rows]).tolist()
    cuts = range(len(data) + 1)
    for cut in (
        cuts if n < 4 else [0, 1, *(e + k for e in ends for k in (-2, -1, 0)), len(data) - 3]
    ):
        found = sum(end <= cut for end in ends)
        at = ends[found - 1] if found else 0
        assert read(data[:cut], n, 5, kind) == (at, found), cut


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("room", [0, 1, 2, 3, 4])
def test_room_for_less_or_more(room: int, n: int, kind: str) -> None:
    rows = written(n, 3, kind)
    found = min(room, 3)
    stop = sum(len(r) for r in rows[:found])
    assert read(b"".join(rows) + b".", n, room, kind) == (stop, found)


@pytest.mark.parametrize("kind", ["put", "long put"])
@pytest.mark.parametrize("off", [-1, 1, 2])
def test_a_number_of_the_memo_that_is_another(kind: str, off: int) -> None:
    rows = written(2, 3, kind)
    rows[1] = row(numbers_of(2, 1), named(kind, (MEMO[kind] + 1 + off) % 256))
    assert read(b"".join(rows), 2, 5, kind) == (len(rows[0]), 1)


def test_a_memo_of_one_byte_ends_at_255() -> None:
    """Number 256 takes the longer opcode: the shorter one would name 0."""
    rows = [row(numbers_of(2, i), named("put", (253 + i) % 256)) for i in range(5)]
    assert read(b"".join(rows), 2, 5, "put")[1] == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_any_byte_that_is_another(n: int, kind: str) -> None:
    """Only the numbers themselves are free."""
    rows = written(n, 3, kind)
    name = 1 + len(named(kind, 0))
    free = {name + (n > 1) + 2 * k + 1 for k in range(n)}
    for k in range(len(rows[1])):
        for other in (rows[1][k] ^ 1, 0, 255, ord("K"), ord("("), ord("]")):
            if k in free or other == rows[1][k]:
                continue
            wrong = rows[1][:k] + bytes([other]) + rows[1][k + 1 :]
            _, found = read(rows[0] + wrong + rows[2], n, 5, kind)
            assert found == 1, (k, other)


def test_numbers_that_take_another_opcode() -> None:
    rows = written(2, 3, "memoize")
    wide = b"]\x94(K\x07M\x01\x01e"
    assert read(rows[0] + wide + rows[2], 2, 5, "memoize") == (len(rows[0]), 1)


def test_begins_at_the_end_or_behind_it() -> None:
    data = b"".join(written(2, 3, "memoize"))
    for at in (len(data), len(data) + 1, 2**64 - 1):
        assert read(data, 2, 5, "memoize", at) == (at, 0)


@pytest.mark.parametrize("protocol", range(1, 6))
def test_rows_that_pickle_wrote(protocol: int) -> None:
    want = [[i % 256, 7, 9] for i in range(40)]
    data = pickle.dumps(want, protocol)
    lists = [at for op, _, at in pickletools.genops(data) if op.name == "EMPTY_LIST"]
    out = np.empty((100, 3), np.uint8)
    _, found = rows_at(data, 1, out, 100, lists[1])
    assert out[:found].tolist() == want
