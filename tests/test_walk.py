"""The walks of the C core against each other and against the slow reader."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapix import _native
from mapix.errors import FileChangedError, MapixError
from mapix.source import Source
from mapix.vimh import layout
from slow_vimh import pack, read, record

FOLDER_PER_TEST = [HealthCheck.function_scoped_fixture]


def source_of(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return Source(path)


def all_entries(source: Source, head: int, how: str, capacity: int, step: int):
    """Walk a whole file in pieces; (offsets, shapes, counts, ids, status, where)."""
    walk = _native.Walk(head)
    scratch = _native.scratch()
    parts, status = [], 0
    while walk.at < source.nbytes and not status:
        entries = np.zeros(capacity, _native.ENTRY)
        stop = walk.at + step
        if how == "table":
            status, n = walk.table(source.mapping, stop, entries, scratch)
        else:
            status, n = walk.hop(source.mapping, stop, entries)
        parts.append(entries[:n])
    entries = np.concatenate([np.zeros(0, _native.ENTRY), *parts])
    where = walk.where if status else None
    return entries, walk.at, walk.nrecords, walk.ids, status, where


def same(a, b) -> bool:
    return a[0].tobytes() == b[0].tobytes() and a[1:] == b[1:]


shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
labels = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=5)
files = st.lists(st.tuples(shapes, labels), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=FOLDER_PER_TEST)
@given(
    what=files,
    head=st.sampled_from([6, 14]),
    cut=st.integers(0, 30),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=2),
    capacity=st.integers(1, 50),
    step=st.integers(1, 2000),
)
def test_walks_agree_with_the_slow_reader(tmp_path, what, head, cut, flips, capacity, step):
    data = bytearray(pack([record(*s, p, head=head, seed=i) for i, (s, p) in enumerate(what)]))
    for at, value in flips:
        data[at % len(data)] = value
    data = bytes(data[: max(1, len(data) - cut)])
    source = source_of(tmp_path / "f", data)
    slow, end = read(data, head)
    table = all_entries(source, head, "table", capacity, step)
    hop = all_entries(source, head, "hop", capacity, step)
    assert same(table, hop)
    entries, at, n, ids, status, _ = table
    assert (at, n) == (end, len(slow))
    assert (status == 0) == (end == len(data))
    assert (entries["at_n"] & np.uint64(_native.AT_MASK)).tolist() == [r.at for r in slow]
    assert (entries["at_n"] >> np.uint64(56)).tolist() == [len(r.pairs) for r in slow]
    assert [tuple(e)[1:4] for e in entries.tolist()] == [(r.h, r.w, r.c) for r in slow]
    assert ids == tuple(sorted({i for r in slow for i, _ in r.pairs}))
    reading = layout.walk(source, head)
    assert reading.index.nrecords == len(slow)
    assert reading.index.nbytes == end
    assert reading.complete == (end == len(data))
    assert reading.index.offsets().tolist() == [r.at for r in slow]
    assert reading.index.shapes().tolist() == [[r.h, r.w, r.c] for r in slow]
    assert reading.index.ids == ids


def many(rng: np.random.Generator, n: int, kind: str, head: int) -> bytes:
    """Files of thousands of records: enough for windows of chains."""
    parts = []
    for i in range(n):
        if kind == "dark":  # pixels that look like headers
            image_value, h, w, c = 1, 4, 4, 1
        else:
            image_value = None
            h, w = rng.integers(1, 24, 2).tolist()
            c = int(rng.choice([1, 3]))
        if kind == "late" and i > n // 2:
            h, w = h + 300, w + 300  # nothing that was seen before looks like this
        k = int(rng.integers(0, 5))
        pairs = rng.integers(0, 256, (k, 2), dtype=np.uint8).tobytes()
        spec = b"\x01\x00" * 4 if head == 14 else b""
        head_bytes = np.array([h, w, c], "<u2").tobytes() + spec + bytes([k])
        size = h * w * c
        image = rng.bytes(size) if image_value is None else b"\x01\x00" * (size // 2)
        if kind == "nested" and size > 200:
            image = (head_bytes[:-1] + b"\x00" + bytes(9)) * (size // (len(head_bytes) + 9) + 1)
        parts.append(head_bytes + pairs + image[:size].ljust(size, b"\x01"))
    return b"".join(parts)


@pytest.mark.parametrize("kind", ["mixed", "dark", "late", "nested"])
@pytest.mark.parametrize("head", [6, 14])
@pytest.mark.parametrize("tail", [0, 5])
def test_chains_give_exactly_the_plain_hops_answer(tmp_path, kind, head, tail):
    n = 400 if kind == "late" else 6000
    data = many(np.random.default_rng(7), n, kind, head) + b"\x02\x00\x02\x00\x09"[:tail]
    source = source_of(tmp_path / "f", data)
    hop = all_entries(source, head, "hop", 10**5, 1 << 40)
    assert hop[2] == n
    assert (hop[4] == 0) == (tail == 0)
    for capacity, step in ((10**5, 1 << 40), (1000, 1 << 40), (10**5, 100_000), (333, 65_537)):
        assert same(all_entries(source, head, "table", capacity, step), hop), (capacity, step)
    assert layout.walk(source, head).index.entries.tobytes() == hop[0].tobytes()


def test_ids_are_those_of_the_records_before(tmp_path):
    """A table that is full in the middle of a chain: the rest of the chain has other ids."""
    n, full = 4000, 2990
    sizes = np.random.default_rng(0).integers(20, 40, (n, 2)).tolist()
    parts = [record(h, w, 1, [(0 if i < full else 9, 1)], seed=0) for i, (h, w) in enumerate(sizes)]
    source = source_of(tmp_path / "f", pack(parts))
    walk, entries = _native.Walk(14), np.zeros(n, _native.ENTRY)
    assert walk.table(source.mapping, 1 << 40, entries[:full], _native.scratch()) == (0, full)
    assert walk.ids == (0,)
    assert walk.table(source.mapping, 1 << 40, entries[full:], _native.scratch()) == (0, n - full)
    assert walk.ids == (0, 9)


@pytest.mark.parametrize("head", [6, 14])
@pytest.mark.parametrize("common", [(), (1,), (0, 1, 2), (0, 1, 2, 9, 200), tuple(range(8))])
def test_an_id_that_one_record_alone_has_is_found(tmp_path, head, common):
    """Ids that all records have, and in the middle of a chain one more, anywhere in a list."""
    sizes = np.random.default_rng(0).integers(5, 20, (600, 2)).tolist()
    pairs = [(i, 7) for i in common]
    parts = [record(h, w, 1, pairs, head=head, seed=0).pack() for h, w in sizes]
    for rare in {len(common), 255} - {*common}:
        for place in (0, 3, 7, 8):
            listed = [(0, 255)] * place + [(rare, 3)]
            parts[401] = record(9, 9, 1, listed, head=head, seed=0).pack()
            source = source_of(tmp_path / f"{rare}-{place}", b"".join(parts))
            want = {*common, rare} | ({0} if place else set())
            assert layout.walk(source, head).index.ids == tuple(sorted(want))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 31, 40, 41, 1000])
@pytest.mark.parametrize("nlabels", [0, 1, 3, 4, 5, 9])
def test_runs_of_alike_records(tmp_path, n, nlabels):
    records = [record(3, 5, 1, [(k, i & 255) for k in range(nlabels)], seed=i) for i in range(n)]
    source = source_of(tmp_path / "f", pack(records))
    reading = layout.walk(source, 14)
    assert reading.complete
    assert reading.index.stride == len(records[0].pack())
    assert reading.index.nrecords == n
    assert reading.index.ids == tuple(range(nlabels))
    assert not reading.index.ids_differ
    if nlabels and n > 1:  # one record that lists other ids: still one stride, and it is said
        records[n // 2].pairs[0] = (99, 0)
        reading = layout.walk(source_of(tmp_path / "g", pack(records)), 14)
        assert reading.index.stride
        assert reading.index.ids_differ
        assert set(reading.index.ids) == {*range(nlabels), 99}


@pytest.mark.parametrize("at", [0, 1, 5, 8, 30, 99])
def test_a_run_that_breaks_becomes_a_table(tmp_path, at):
    records = [record(3, 5, 1, [(0, i)], seed=i) for i in range(100)]
    records[at] = record(2, 5, 1, [(0, 1)])
    reading = layout.walk(source_of(tmp_path / "f", pack(records)), 14)
    assert reading.complete
    assert not reading.index.stride
    offsets = np.cumsum([0] + [len(r.pack()) for r in records])[:-1]
    assert reading.index.offsets().tolist() == offsets.tolist()


def test_a_pair_count_that_differs_is_not_alike(tmp_path):
    records = [record(3, 5, 1, [(0, 1)], seed=i) for i in range(50)]
    records[20] = record(3, 5, 1, [(0, 1), (1, 2)])
    reading = layout.walk(source_of(tmp_path / "f", pack(records)), 14)
    assert not reading.index.uniform
    assert reading.index.label_counts().tolist() == [1] * 20 + [2] + [1] * 29


def test_progress_is_told(tmp_path):
    data = many(np.random.default_rng(3), 2000, "mixed", 14)
    told = []
    layout.walk(source_of(tmp_path / "f", data), 14, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(data), len(data))
    assert all(a <= b for (a, _), (b, _) in zip(told, told[1:], strict=False))


def test_ctrl_c_is_obeyed_between_steps(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    source = source_of(tmp_path / "f", many(np.random.default_rng(3), 2000, "mixed", 14))
    with pytest.raises(KeyboardInterrupt):
        layout.walk(source, 14, stop)


@pytest.mark.maps
def test_a_file_that_moves_while_it_is_walked(tmp_path):
    path = tmp_path / "f"
    source = source_of(path, pack([record(30, 30, 1, [], seed=i) for i in range(100)]))
    before = _native.faults_caught()
    os.truncate(path, 4096)
    with pytest.raises(FileChangedError, match="had 91500 bytes, now it has 4096"):
        layout.walk(source, 14)
    assert _native.faults_caught() > before


def test_walks_refuse_nonsense(tmp_path):
    source = source_of(tmp_path / "f", bytes(100))
    walk = _native.Walk(7)
    assert walk.run(source.mapping, 1) == 9
    with pytest.raises(MapixError, match="status 9"):
        raise _native.problem(9, walk.where, "f", "vimh")
