"""A stored index that grows with its file: what is written, and what kills and power cuts leave."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mapix
from mapix.source import Source
from mapix.store import SYSTEM
from mapix.vimh import index_store, layout
from model_disk import ModelDisk
from records import content, crc32c, settle, stored
from slow_vimh import pack, record

OLD, NEW = 40, 47
ENTRY = struct.Struct("<QHHHH")
KEY = "vimh:None:True:None:None"


@pytest.fixture(autouse=True)
def small_files_count(monkeypatch):
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)


def records(begin: int, end: int, *, mixed: bool = True) -> list[Any]:
    return [
        record(3 + i % 5 if mixed else 6, 4, 1, [(0, i), (1, 7 * i & 255)], seed=i)
        for i in range(begin, end)
    ]


def make(path: Path, *, mixed: bool = True) -> Path:
    """Write a file and let its index be stored; return the path of the index."""
    path.write_bytes(pack(records(0, OLD, mixed=mixed)))
    mapix.open(settle(path))
    (place,) = stored()
    return place


def grow(path: Path, begin: int = OLD, end: int = NEW, *, mixed: bool = True) -> None:
    with path.open("ab") as f:
        f.write(pack(records(begin, end, mixed=mixed)))
    settle(path)


def slots(data: bytes) -> dict[int, tuple[int, ...]]:
    """Read the header bit by bit: generation -> (records, bytes, stride, CRC32C, first entry)."""
    found = {}
    for at in (0, 1024):
        if len(data) < at + 322:
            continue
        magic, version, crc = struct.unpack_from("<8sII", data, at)
        fields = data[at + 16 : at + 16 + 306]
        if magic == b"MAPIXIDX" and version == 5 and crc == crc32c(fields):
            n, nbytes, stride = struct.unpack_from("<3Q", fields, 192)
            (entries_crc,) = struct.unpack_from("<I", fields, 270)
            generation, entries_at = struct.unpack_from("<2Q", fields, 290)
            found[generation] = n, nbytes, stride, entries_crc, entries_at
    return found


def check(data: bytes, path: Path, counts: tuple[int, ...], *, mixed: bool = True) -> int:
    """Compare an index with the file; return of how many records it is."""
    known = slots(data)
    n, nbytes, stride, crc, at = known[max(known)]
    truth = layout.walk(Source(path), 14).index
    assert n in counts
    assert nbytes == (truth.offsets()[n] if n < truth.nrecords else truth.nbytes)
    if not mixed:
        assert stride == truth.stride > 0
        return n
    table = data[at : at + 16 * n]
    assert crc32c(table) == crc
    want = [(int(e[0]), e[1], e[2], e[3], 0) for e in truth.entries[:n].tolist()]
    assert list(ENTRY.iter_unpack(table)) == want
    return n


def grown(path: Path) -> tuple[Source, Any, Any]:
    source = Source(path)
    before = index_store.load(source, KEY)
    assert before is not None
    assert before.grown
    after = layout.grown(source, before, None)
    assert after is not None
    return source, before, after


@pytest.mark.parametrize("mixed", [False, True])
def test_what_was_stored_stays_where_it_is(tmp_path, monkeypatch, mixed):
    path = tmp_path / "f"
    place = make(path, mixed=mixed)
    inode = place.stat().st_ino
    walked = []
    real = layout.walk

    def spy(*a: Any, **k: Any) -> Any:
        walked.append(k["after"])
        return real(*a, **k)

    for begin, end in ((OLD, NEW), (NEW, 48), (48, 60)):
        table = place.read_bytes()[4096:]
        grow(path, begin, end, mixed=mixed)
        with monkeypatch.context() as patched:
            patched.setattr(layout, "walk", spy)
            ds = mapix.open(path)
        assert len(ds) == end
        assert ds.index.stored
        data = place.read_bytes()
        assert place.stat().st_ino == inode
        assert data[4096:].startswith(table)
        assert len(data) == 4096 + (16 * end if mixed else 0)
    assert [after.nrecords for after in walked] == [OLD, NEW, 48]
    assert check(data, path, (60,), mixed=mixed) == 60
    assert content(ds) == content(mapix.open(path, index="never"))
    assert ds.index.ids == (0, 1)
    assert ds.verify().ok
    assert stored() == [place]


def test_labels_in_an_index_are_not_those_of_a_file_that_grew(tmp_path):
    path = tmp_path / "f"
    place = make(path)
    assert mapix.open(path).labels["param_0"].codes.tolist() == list(range(OLD))
    assert mapix.open(path).index.columns is not None
    (place,) = stored()
    inode = place.stat().st_ino
    grow(path)
    ds = mapix.open(path)
    assert place.stat().st_ino == inode
    assert check(place.read_bytes(), path, (NEW,)) == NEW
    assert ds.index.columns is None
    assert ds.labels["param_0"].codes.tolist() == list(range(NEW))
    assert mapix.open(path).index.columns is not None


def test_another_file_at_the_path_has_an_index_of_its_own(tmp_path):
    path = tmp_path / "f"
    place = make(path)
    old = place.read_bytes()
    saved = tmp_path / "saved"
    os.link(place, saved)
    shutil.copy2(path, tmp_path / "new")
    os.replace(tmp_path / "new", path)
    grow(path)
    assert content(mapix.open(path)) == content(mapix.open(path, index="never"))
    assert saved.read_bytes() == old
    (other,) = stored()
    assert other != place
    assert check(other.read_bytes(), path, (NEW,)) == NEW


def test_records_of_another_size_begin_a_table(tmp_path):
    path = tmp_path / "f"
    make(path, mixed=False)
    grow(path)
    assert len(mapix.open(path)) == NEW
    (place,) = stored()
    assert check(place.read_bytes(), path, (NEW,)) == NEW


def test_power_cuts(tmp_path):
    """Any sector of what was not synced may be old, zeros or new; the file may have any size."""
    path = tmp_path / "f"
    place = make(path)
    old = place.read_bytes()
    grow(path, OLD, 160)
    found = set()
    for left_out in ("", "fsync"):
        place.write_bytes(old)
        source, before, after = grown(path)
        disk = ModelDisk(str(tmp_path), left_out)
        disk.put(str(place), old)
        disk.seeds = 12
        index_store.extend(source, before, after, KEY, disk)
        states = {state[str(place)] for state in disk.crashes}
        if left_out:
            assert not all(valid(state, path) for state in states)  # the model sees it
            continue
        assert len(states) > 8
        for state in states:
            found.add(check(state, path, (OLD, 160)))
            place.write_bytes(state)
            ds = mapix.open(path)
            assert ds.index.stored
            assert len(ds) == 160
            assert [r.offset for r in ds] == after_offsets(path)
    assert found == {OLD, 160}


def valid(state: bytes, path: Path) -> bool:
    try:
        return bool(check(state, path, (OLD, 160)))
    except AssertionError:
        return False


def after_offsets(path: Path) -> list[int]:
    return layout.walk(Source(path), 14).index.offsets().tolist()


class Failing:
    """The operating system, of which the call number ``when`` fails, or does a part of its work."""

    def __init__(self, when: int, error: BaseException) -> None:
        self.left, self.error = when, error

    def __getattr__(self, name: str) -> Any:
        real = getattr(SYSTEM, name)

        def call(*args: Any) -> Any:
            self.left -= 1
            if self.left:
                return real(*args)
            if name == "overwrite":
                fd, data, at = args
                real(fd, data[: len(data) // 2], at)
            if name == "close":
                real(*args)
            raise self.error

        return call


class Killed(BaseException):
    """What nobody catches."""


def failing(path: Path, error: BaseException) -> Iterator[int]:
    """Extend an index again and again, one call more each time; yield the number of calls."""
    for when in range(1, 20):
        source, before, after = grown(path)
        calls = Failing(when, error)
        with contextlib.suppress(Killed):
            index_store.extend(source, before, after, KEY, calls)
        yield when
        if calls.left > 0:
            break


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "full")])
def test_killed_and_failing_at_any_call(tmp_path, error):
    path = tmp_path / "f"
    place = make(path)
    old = place.read_bytes()
    grow(path)
    counts = []
    want = content(mapix.open(path, index="never"))
    for _ in failing(path, error):
        counts.append(check(place.read_bytes(), path, (OLD, NEW)))
        ds = mapix.open(path)
        assert ds.index.stored
        assert content(ds) == want
        assert check(place.read_bytes(), path, (NEW,)) == NEW
        place.write_bytes(old)
    assert len(counts) > 7
    assert counts[0] == OLD
    assert counts[-1] == NEW


@pytest.mark.parametrize("at_work", [False, True])
def test_two_that_extend_at_once(tmp_path, at_work):
    path = tmp_path / "f"
    place = make(path)
    grow(path)
    ours = grown(path)
    if at_work:
        fd = SYSTEM.reopen(str(place))
        SYSTEM.lock(fd)
        assert index_store.extend(*ours, KEY) is None
        assert check(place.read_bytes(), path, (OLD,)) == OLD
        ds = mapix.open(path)  # it is copied, and replaces the one that is locked
        SYSTEM.close(fd)
    else:
        mapix.open(path)
        data = place.read_bytes()
        found = index_store.extend(*ours, KEY)
        assert found is not None
        assert found.nrecords == NEW
        assert place.read_bytes() == data
        ds = mapix.open(path)
    assert content(ds) == content(mapix.open(path, index="never"))
    assert check(place.read_bytes(), path, (NEW,)) == NEW


def test_flips_and_truncations_of_an_index_that_grew(tmp_path):
    path = tmp_path / "f"
    place = make(path)
    grow(path)
    mapix.open(path)
    good = place.read_bytes()
    want = content(mapix.open(path, index="never"))
    size = len(good)
    bad = [good[:n] for n in (0, 321, 1024, 1200, 4095, 4096, size - 16 * 7, size - 1)]
    bad += [good + bytes(16)]
    for at in (*range(0, 322, 29), *range(1024, 1024 + 322, 29), 1015, 2000):
        bad.append(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
    for data in bad:
        place.write_bytes(data)
        assert content(mapix.open(path)) == want
    for at in range(4096, size, 101):  # an entry is compared with its record, and the next entry
        place.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        ds = mapix.open(path)
        for i, right in enumerate(want):
            try:
                assert content([ds[i]]) == [right]
            except mapix.FormatError:
                assert 0 <= (at - 4096) // 16 - i <= 1
