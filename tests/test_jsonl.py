"""Lines of a text file: the core beside a slow twin, and one line as a value."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mapix
from mapix._native.lines import Lines as Pass
from mapix.folder.lines import Lines, value_of
from mapix.source import Source

BLANKS = b" \t\r"


def slow(data: bytes) -> tuple[list[int], list[int], int, int]:
    """A byte at a time: begins and numbers of lines that are not blank, all lines, the longest."""
    begins, numbers, nlines, longest = [], [], 0, 0
    at = begin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] != 10:
            end += 1
        nlines += 1
        if any(b not in BLANKS for b in data[begin:end]):
            begins.append(begin)
            numbers.append(nlines)
            longest = max(longest, end - begin)
        at = begin = end + 1
    return begins, numbers, nlines, longest


def found(path: Path, step: int, room: int) -> tuple[list[int], list[int], int, int]:
    """The same by the core, ``step`` bytes and ``room`` lines a call."""
    mapping, state = Source(path).mapping, Pass()
    begins, numbers = [], []
    while state.at < mapping.nbytes:
        a, b = np.full(room + 1, 77, np.uint64), np.full(room + 1, 77, np.uint64)
        n = state.find(mapping, state.at + step, a[:room], b[:room])
        assert a[room] == b[room] == 77
        assert n <= room
        begins += a[:n].tolist()
        numbers += b[:n].tolist()
    assert state.nrecords == len(begins)
    return begins, numbers, state.nlines, state.longest


ALPHABET = st.sampled_from([b"\n", b"\n", b"\r", b" ", b"\t", b"a", b"{}", b"\0", b"\xef\xbb\xbf"])


@settings(max_examples=400, deadline=None)
@given(pieces=st.lists(ALPHABET, max_size=60), step=st.integers(1, 40), room=st.integers(1, 9))
@example([], 1, 1)
@example([b"\xef\xbb\xbf"], 1, 1)
@example([b"\xef\xbb\xbf", b"\n", b"a"], 2, 1)
@example([b"a", b"\r", b"\n", b"\r", b"\n", b"b"], 1, 2)
def test_the_core_finds_what_the_slow_twin_finds(tmp_path_factory, pieces, step, room):
    data = b"".join(pieces)
    path = tmp_path_factory.mktemp("lines") / "x"
    path.write_bytes(data)
    want = slow(data)
    assert found(path, step, room) == want
    lines = Lines(Source(path))
    n = len(want[0])
    assert [lines.has(k) for k in range(n + 2)] == [True] * n + [False] * 2
    assert len(lines) == n
    assert lines.numbers().tolist() == want[1]
    assert [lines.number(k) for k in range(n)] == want[1]
    assert lines.longest == want[3]
    assert lines.nlines == want[2]
    ends = [*want[0][1:], len(data)][:n]
    texts = [data[a:b] for a, b in zip(want[0], ends, strict=True)]
    stripped = [t.rstrip(BLANKS + b"\n") for t in texts]
    assert [t.rstrip(BLANKS + b"\n") for t in lines] == stripped
    assert [lines.line(k).rstrip(BLANKS + b"\n") for k in range(n)] == stripped


def test_many_lines_in_blocks(tmp_path, monkeypatch):
    from mapix.folder import lines

    monkeypatch.setattr(lines, "BLOCK_NBYTES", 1000)
    monkeypatch.setattr(lines, "FIRST_STEP_NBYTES", 64)
    monkeypatch.setattr(lines, "MOST_STEP_NBYTES", 900)
    monkeypatch.setattr(lines, "FIRST_CAPACITY", 8)
    rng = np.random.default_rng(0)
    values = [
        {"n": k, "x": "y" * int(rng.integers(0, 3000 if k % 50 == 0 else 90))} for k in range(999)
    ]
    path = tmp_path / "x"
    path.write_text("\n\n".join(json.dumps(v) for v in values))
    lines = Lines(Source(path))
    assert lines.value(0) == values[0]
    assert lines._known.state.nrecords < 100  # no more was looked at than had to be
    assert [lines.parsed(k, line) for k, line in enumerate(lines)] == values
    assert lines.numbers().tolist() == list(range(1, 1998, 2))
    assert all(lines.value(k) == values[k] for k in rng.integers(0, 999, 50).tolist())
    with pytest.raises(IndexError, match="999 of 999"):
        lines.value(999)


def test_a_file_that_is_cut_or_written_to(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b'{"a": 1}\n' * 100_000)
    lines = Lines(Source(path))
    lines.value(0)
    os.truncate(path, 5000)
    with pytest.raises(mapix.FileChangedError):
        len(lines)
    with pytest.raises(mapix.FileChangedError):
        lines.value(0)


def test_a_harmless_change_is_gone_on_over(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"{}\n" * 10)
    lines = Lines(Source(path))
    path.chmod(0o600)
    assert len(lines) == 10
    path.chmod(0o644)
    assert lines.numbers().tolist() == list(range(1, 11))


def test_long_lines_are_limited(tmp_path):
    path = tmp_path / "x"
    line = json.dumps("x" * 98).encode()
    assert len(line) == 100
    path.write_bytes(b"1\n" + line + b"\n" + b"\n" * 5000 + b"2\n" + line + b"3\n")
    lines = Lines(Source(path), 100)
    assert lines.value(1) == "x" * 98  # blank lines behind it are not its own
    assert lines.value(2) == 2
    with pytest.raises(
        mapix.LimitError, match=r"line 5004 at byte 5105 .*limit of 100 bytes.*max_line"
    ):
        lines.value(3)
    with pytest.raises(mapix.LimitError, match="max_line_nbytes"):
        list(lines)


@pytest.mark.maps
def test_a_sparse_terabyte(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    os.truncate(path, 1 << 40)
    lines = Lines(Source(path))
    assert lines.value(0) == {"a": 1}
    assert lines.value(1) == {"a": 2}  # known from the first look
    assert lines._known.state.at <= 1 << 17


@pytest.mark.parametrize(
    ("data", "reason", "at"),
    [
        (b'{"a": 1', "not JSON", 7),
        (b'["\xc3\xa9", x]', "not JSON", 7),  # bytes are counted, not letters
        (b'{"a": 1} {}', "Extra data", 9),
        (b'{"a": "\xff"}', "not UTF-8", 7),
        (b"\0", "not JSON", 0),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice", 0),
        (b"[" * 100_000, "nested too deeply", 0),
        (b'{"a":' * 100_000, "nested too deeply", 0),
        (b"[" + b"9" * 5000 + b"]", "too many digits", 0),
        (b'"a\nb"', "Invalid control character", 2),
        (b"nul", "not JSON", 0),
        (b"", "not JSON", 0),
        ("{}".encode("utf-16"), "not UTF-8", 0),
    ],
)
def test_what_is_no_json(data, reason, at):
    with pytest.raises(ValueError, match=reason) as e:
        value_of(data)
    assert e.value.at == at


def test_what_python_writes_is_read():
    for value in (float("inf"), -0.0, 10**300, "\ud800", {"a": [None, True, 1.5, "é☃"]}, 2**70):
        assert value_of(json.dumps(value).encode() + b" \r\n") == value
        assert value_of(b"\t" + json.dumps(value, ensure_ascii=True).encode()) == value
    assert value_of(b"[NaN]")[0] != value_of(b"[NaN]")[0]


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_any_value(value):
    assert value_of(json.dumps(value).encode()) == value


def test_threads_find_the_same(tmp_path):
    import threading

    path = tmp_path / "x"
    path.write_bytes(b"".join(b'{"n": %d}\n' % k for k in range(30_000)))
    for _ in range(5):
        lines = Lines(Source(path))
        bad = []

        def read(lines=lines, bad=bad):
            for k in range(0, 30_000, 997):
                if lines.value(k) != {"n": k}:
                    bad.append(k)
            if len(lines) != 30_000:
                bad.append(-1)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert bad == []
