"""Catalogues: their bytes, what they know without opening a shard, and how they are changed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import struct
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from mapix import catalogue, iid, vimh
from mapix.__main__ import main
from mapix.catalogue import layout, packing
from mapix.catalogue.file import CatalogueFile
from mapix.catalogue.shards import Shards
from mapix.columns import column_of
from mapix.expression import Bounds, bounds_of, evaluate
from mapix.registry import Candidate
from mapix.store import SYSTEM, NewWhole
from model_disk import ModelDisk
from records import crc32c, descriptors, settle
from slow_vimh import pack, record
from test_store import Failing

SIZES = (3, 1, 0, 4, 2)
PLAIN: dict[str, Any] = {"dialect": 14, "info": False}


def shard(folder: Path, k: int, n: int = 3, *, label: int = 0) -> Path:
    """A VIMH file whose labels are k * 10 + i."""
    path = folder / f"{k:03}.vimh"
    path.write_bytes(
        pack([record(4, 5, 1, [(label, (10 * k + i) % 256)], seed=k) for i in range(n)])
    )
    return settle(path)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A folder of shards, and their catalogue."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "shards").mkdir()
    paths = [shard(folder / "shards", k, n) for k, n in enumerate(SIZES)]
    path = folder / "all.catalogue"
    found = catalogue.write(folder / "shards", path, format="vimh")
    assert found[:3] == (str(path), len(SIZES), sum(SIZES))
    assert found.added == tuple(map(str, paths))
    return folder


@pytest.fixture
def shards(tmp_path, template) -> list[Path]:
    shutil.copytree(template / "shards", tmp_path / "shards")  # with their times
    return sorted((tmp_path / "shards").iterdir())


@pytest.fixture
def made(tmp_path, template, shards) -> Path:
    return Path(shutil.copy2(template / "all.catalogue", tmp_path))


def codes(ds: Any) -> list[int]:
    return [int(v) for v in ds.columns["param_0"].values.tolist()]


EXPECTED = [10 * k + i for k, n in enumerate(SIZES) for i in range(n)]


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """The numbers of the shards that are opened."""
    found: list[int] = []
    real = Shards._opened

    def noted(self: Shards, k: int) -> Any:
        found.append(k)
        return real(self, k)

    monkeypatch.setattr(Shards, "_opened", noted)
    return found


# --- the bytes ------------------------------------------------------------------------------------


def slow(data: bytes) -> list[Any]:
    """What a catalogue states, read as docs/catalogue.md describes it."""
    magic, version, entry_nbytes, crc = struct.unpack_from("<16sIII", data)
    assert (magic, version, entry_nbytes) == (b"mapix catalogue\n", 1, 512)
    assert crc == crc32c(data[:24])
    slots = [data[at : at + 1024] for at in (1024, 2048)]
    slot = max(filter(partial(counts, data), slots), key=lambda s: struct.unpack_from("<Q", s)[0])
    schemas_at, schemas_nbytes, names_at, nnames = struct.unpack_from("<4Q", slot, 16)
    schemas_crc, names_crc, entries_crc, nblocks, flags = struct.unpack_from("<4IQ", slot, 48)
    text = data[schemas_at : schemas_at + schemas_nbytes]
    assert schemas_crc == crc32c(text)
    schemas, entries = json.loads(text), []
    for k in range(nblocks):
        at, _, used = struct.unpack_from("<QII", slot, 72 + 16 * k)
        entries += [data[at + 512 * i : at + 512 * (i + 1)] for i in range(used)]
    assert entries_crc == crc32c(b"".join(entries))
    shared = hashes(data, names_at, nnames, names_crc)
    found = []
    for k, entry in enumerate(entries):
        nrecords, size, blob_at, blob_nbytes, blob_crc = struct.unpack_from("<QQQII", entry)
        own_at, nown, own_crc, schema = struct.unpack_from("<QQII", entry, 32)
        file = struct.unpack_from("<QQQqqIIIIq", entry, 56)
        ndim, nranges = struct.unpack_from("<II", entry, 120)
        shape = struct.unpack_from("<8I", entry, 128)[:ndim] if ndim < 9 else None
        blob = data[blob_at : blob_at + blob_nbytes]
        assert blob_crc == crc32c(blob)
        assert struct.unpack_from("<I", entry, 168)[0] == crc32c(blob[24 * nranges :])
        ranges = [struct.unpack_from("<ddI", blob, 24 * i) for i in range(nranges)]
        stated = json.loads(blob[24 * nranges :])
        names = [h >> 20 for h in shared + hashes(data, own_at, nown, own_crc) if h % 2**20 == k]
        found.append((nrecords, size, schemas[schema], file, shape, ranges, stated, sorted(names)))
    return [flags, found]


def counts(data: bytes, slot: bytes) -> bool:
    """Whether a slot counts: its checksum fits, and what it states lies in its bytes."""
    _, nbytes, schemas_at, schemas_nbytes, names_at, nnames = struct.unpack_from("<6Q", slot)
    nblocks, flags = struct.unpack_from("<IQ", slot, 60)
    if crc32c(slot[:1020]) != struct.unpack_from("<I", slot, 1020)[0] or nbytes > len(data):
        return False
    if not 1 <= nblocks <= 59 or flags > 3:
        return False
    blocks = [struct.unpack_from("<QII", slot, 72 + 16 * k) for k in range(nblocks)]
    places = [(at, at + 512 * room) for at, room, _ in blocks]
    places.append((schemas_at, schemas_at + schemas_nbytes))
    if nnames:
        places.append((names_at, names_at + 8 * nnames + 4 * -(-nnames // 8192)))
    return (
        all(4096 <= begin <= end <= nbytes for begin, end in places)
        and all(used <= room for _, room, used in blocks)
        and 0 < sum(used for _, _, used in blocks) <= 1 << 20
    )


def hashes(data: bytes, at: int, n: int, crc: int) -> list[int]:
    found = data[at : at + 8 * n]
    npages = -(-n // 8192)
    sums = data[at + 8 * n : at + 8 * n + 4 * npages]
    assert crc == (crc32c(sums) if n else 0)
    for k, one in enumerate(struct.unpack(f"<{npages}I", sums)):
        assert one == crc32c(found[k * 65536 : (k + 1) * 65536])
    return list(struct.unpack(f"<{n}Q", found))


def quickly(path: Path) -> list[Any]:
    """The same by the reader."""
    file = CatalogueFile(Candidate(path))
    values, which = file.names_of_shards()
    found = []
    for k, e in enumerate(file.entries):
        schema = file.schemas[e["schema"]]
        stated, f = file.entry(k), file.entry(k).fingerprint
        times = (f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns, f.mode, f.uid, f.gid, f.nlink)
        sample = -1 if f.sample is None else f.sample
        shards, ranges = file.ranges(int(e["schema"]))
        own = ranges[shards.tolist().index(k)][["low", "high", "flags"]].tolist()
        where = os.path.relpath(stated.path, path.parent)
        found.append(
            (
                int(e["nrecords"]),
                int(e["nbytes"]),
                json.loads(json.dumps(vars(schema))),
                (*times, sample),
                file.shape(k),
                own,
                {"path": where, "options": stated.options},
                sorted((values[which == k] >> np.uint64(20)).tolist()),
            )
        )
    for run in file.runs():
        assert not Shards._check_run(file_like(file), run)
    return [file.slot.named + 2 * file.slot.ranged, found]


def file_like(file: CatalogueFile) -> Any:
    class Like:
        pass

    like = Like()
    like.file, like.path = file, file.path  # type: ignore[attr-defined]
    return like


def archive(folder: Path, k: int, names: list[str]) -> Path:
    path = folder / f"a{k:04}.iid"
    with iid.Writer(path) as out:
        for i, name in enumerate(names):
            out.add("cells", name, np.ones((2, 2), bool), at=(i % 50, k))
    return settle(path)


@pytest.fixture
def archives(tmp_path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    for k in range(6):
        archive(folder, k, [f"s{i}" for i in range(k, 40, 6)] + ["twice"] * (k in (2, 5)))
    catalogue.write(folder, tmp_path / "a.catalogue")
    return tmp_path / "a.catalogue"


def test_the_layout_is_what_the_slow_reader_reads(made, archives, tmp_path):
    for path in (made, archives):
        assert quickly(path) == slow(path.read_bytes())
    other = shard(tmp_path, 77, label=1)
    catalogue.add(made, [shard(tmp_path / "shards", 9), other], format="vimh")
    catalogue.add(archives, archive(tmp_path, 9, ["new", "s3"]))
    for path in (made, archives):
        assert quickly(path) == slow(path.read_bytes())
    flags, found = slow(archives.read_bytes())
    assert flags == 3
    assert sum(len(names) for *_, names in found) == 44
    _, found = slow(made.read_bytes())
    assert found[3][5] == [(30.0, 33.0, 1)]
    assert found[2][2]["columns"] == []  # an empty file has no labels
    assert found[-1][2]["columns"] == ["param_1"]
    assert found[-1][6] == {"path": "077.vimh", "options": found[0][6]["options"]}


@pytest.mark.parametrize("step", [151, pytest.param(7, marks=pytest.mark.slow)])
def test_damaged_bytes_are_found(made, archives, step, monkeypatch):
    """A file that is cut, or in which a byte differs, is the same catalogue or an error."""
    monkeypatch.setattr(packing, "SPARE", 1)
    catalogue.refresh(made)
    catalogue.refresh(archives)
    for path in (made, archives):
        data, expected = path.read_bytes(), quickly(path)
        bad = path.with_name("bad.catalogue")
        rng, refused = random.Random(step), list[str]()
        places = range(rng.randrange(step), len(data), step)
        changed = [data[:n] for n in range(rng.randrange(step), len(data), max(step, 7))]
        for at in places:
            value = data[at] ^ rng.choice((0xFF, 1, 0x80))
            changed.append(data[:at] + bytes([value]) + data[at + 1 :])
        for other in changed:
            bad.write_bytes(other)
            try:
                found = quickly(bad)
            except mapix.MapixError as e:
                refused.append(str(e))
            else:
                assert found == expected
        assert len(refused) > len(changed) / 3
        assert all("bad.catalogue" in text for text in refused)
        bad.write_bytes(data + b"more")  # of a writer that was killed
        assert quickly(bad) == expected


WRONG_SLOTS = {
    "an unknown flag": (64, "<Q", 0x80003),
    "no shards": (84, "<I", 0),
    "a block of 2^31 entries": (80, "<I", 1 << 31),
    "60 blocks": (60, "<I", 60),
    "more bytes than the file": (8, "<Q", 1 << 40),
    "schemas in the header": (16, "<Q", 4095),
    "hashes outside": (32, "<Q", (1 << 64) - 8),
}


@pytest.mark.parametrize("which", WRONG_SLOTS)
def test_a_slot_with_right_checksum_that_cannot_be_does_not_count(archives, which):
    """The other slot counts; where both are so, there is an error: seeds 2 and 11 of the fuzzer."""
    at, form, value = WRONG_SLOTS[which]
    data, expected = bytearray(archives.read_bytes()), quickly(archives)
    for wrong in ((layout.SLOTS[0],), (layout.SLOTS[1],), layout.SLOTS):
        bad = bytearray(data)
        for slot in wrong:
            struct.pack_into("<Q", bad, slot, 99)  # newer than the other one
            struct.pack_into(form, bad, slot + at, value)
            struct.pack_into("<I", bad, slot + 1020, crc32c(bytes(bad[slot : slot + 1020])))
        archives.write_bytes(bad)
        if len(wrong) == 1:
            assert quickly(archives) == slow(bytes(bad)) == expected
        else:
            with pytest.raises(mapix.FormatError, match="both slots are damaged"):
                quickly(archives)


def rewritten(path: Path, change: Any) -> None:
    """Change the entries and the slot of a catalogue, and make all checksums fit."""
    data = bytearray(path.read_bytes())
    slot = layout.newest_slot(bytes(data[: layout.HEAD_NBYTES]), len(data), str(path))
    entries = np.frombuffer(
        data, layout.ENTRY, slot.nshards, slot.blocks[0][0]
    )  # a view that is writable
    fields = {**vars(slot)} | (change(entries, data) or {})
    fields["entries_crc"] = fields.get("entries_crc_", crc32c(entries.tobytes()))
    fields.pop("entries_crc_", None)
    packed = layout.packed_slot(layout.Slot(**fields))
    for at in layout.SLOTS:
        data[at : at + len(packed)] = packed
    path.write_bytes(data)


@pytest.mark.parametrize("other", [b'"ra.dom"', b"[10, 99]"])
def test_options_that_the_format_does_not_have_name_the_catalogue(made, other):
    def change(entries: Any, data: Any) -> None:
        for e in entries:
            place = slice(int(e["blob_at"]), int(e["blob_at"]) + int(e["blob_nbytes"]))
            blob = bytes(data[place]).replace(b'"random"', other)
            assert other in blob
            data[place] = blob
            e["blob_crc"] = crc32c(blob)
            e["text_crc"] = crc32c(blob[24 * int(e["nranges"]) :])

    rewritten(made, change)
    with pytest.raises(mapix.FormatError, match=r"catalogue.*options of .* are not understood"):
        mapix.open(made)[0]


HOSTILE = {
    "nrecords": (1 << 63, "records"),
    "blob_at": ((1 << 64) - 8, "blob"),
    "blob_nbytes": (0xFFFFFFFF, "blob"),
    "nranges": (7, "ranges"),
    "schema": (9, "schema"),
    "nnames": ((1 << 64) - 1, "names"),
    "names_at": ((1 << 64) - 1, ""),  # without names it means nothing
    "ndim": (9, "dimensions"),
}


@pytest.mark.parametrize("field", HOSTILE)
def test_hostile_entries(made, field):
    value, reason = HOSTILE[field]

    def change(entries: Any, _: Any) -> None:
        entries[1][field] = value

    rewritten(made, change)
    if not reason:
        assert codes(mapix.open(made)) == EXPECTED
        return
    with pytest.raises(mapix.FormatError, match=f"catalogue record 1: .*{reason}"):
        mapix.open(made)


def test_hostile_slots(made, tmp_path):
    copy = tmp_path / "copy.catalogue"
    huge = (1 << 64) - 16
    for fields in (
        {"nbytes": huge},
        {"schemas_at": huge},
        {"schemas_nbytes": huge},
        {"nnames": huge, "names_at": 4096},
        {"names_at": huge, "nnames": 2},
        {"blocks": ()},
        {"blocks": ((4096, 1, 2),)},
        {"blocks": ((huge, 5, 5),)},
        {"blocks": ((4096, 0xFFFFFFFF, 5),)},
        {"blocks": ((4096, 5, 0),)},
    ):
        shutil.copy(made, copy)
        rewritten(copy, lambda entries, data, fields=fields: fields)
        with pytest.raises(mapix.FormatError, match="both slots"):
            mapix.open(copy)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"family": "vimh"', b'"family": "vimx"', "vimx"),
        (b'"family": "vimh"', b'"family": 123456', "text expected"),
        (b'"columns": ["param_0"]', b'"columns": "012345678"', "list expected"),
        (b'[{"family"', b'({"family"', "not understood"),
    ],
)
def test_hostile_schemas(made, old, new, reason):
    def change(_: Any, data: Any) -> dict[str, Any]:
        at = bytes(data).index(b'[{"family"')
        data[at:] = bytes(data[at:]).replace(old, new)
        return {"schemas_crc": crc32c(bytes(data[at:]))}

    rewritten(made, change)
    with pytest.raises((mapix.FormatError, ValueError), match=reason):
        mapix.open(made)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"strict": true', b'"strixt": true', "strixt"),
        (b'"order": "CHW"', b'"order": "CHX"', "order must be"),
        (b'"order": "CHW"', b'"order": "HWC"', ""),
        (b'"options": {', b'"options": [', "not understood"),
        (b'"order": "CHW"', b'"order": [[1]]', "a path and options expected"),
        (b'"order": "CHW"', b'"order": ["C"]', "order must be"),
        (b'"access": "random"', b'"access": [1, 222]', "options of .*not understood"),
        (b'"access": "random"', b'"access": "mandom"', "access must be one of random"),
        (b"shards/", b"shar\\u/", "not understood"),
        (b"shards/", b"nowhe//", "removed, or moved"),
    ],
)
def test_hostile_blobs(made, old, new, reason):
    """Of one shard; the others are read nevertheless."""

    def change(entries: Any, data: Any) -> None:
        e = entries[3]
        begin, end = int(e["blob_at"]), int(e["blob_at"]) + int(e["blob_nbytes"])
        data[begin:end] = bytes(data[begin:end]).replace(old, new)
        e["blob_crc"] = crc32c(bytes(data[begin:end]))

    rewritten(made, change)
    ds = mapix.open(made)
    assert ds[0].labels == {"param_0": 0}
    assert ds[-1].labels == {"param_0": 41}
    if reason:
        with pytest.raises((mapix.MapixError, ValueError), match=reason):
            ds[4]


def test_a_count_that_is_wrong_is_an_error_of_the_shard(made):
    def change(entries: Any, _: Any) -> None:
        entries[3]["nrecords"] = 5

    rewritten(made, change)
    ds = mapix.open(made)
    assert len(ds) == sum(SIZES) + 1
    with pytest.raises(mapix.FormatError, match=r"catalogue record 3: .*003.vimh.* 5, .*got \(4"):
        ds[4]
    report = ds.verify()
    assert not report.ok
    assert "003.vimh" in report.problems[0]


def test_a_catalogue_does_not_hold_catalogues(made, tmp_path):
    found = catalogue.write([made], tmp_path / "two.catalogue")
    assert found.shards == len(SIZES)  # those of the other one
    assert codes(mapix.open(tmp_path / "two.catalogue")) == EXPECTED


# --- shards that are opened when they are used ----------------------------------------------------


def test_a_shard_is_opened_when_it_is_used(made, opened):
    ds = mapix.open(made)
    assert opened == [0, 2]  # they show all columns: an empty file has no labels
    opened.clear()
    assert len(ds) == sum(SIZES)
    assert ds.image_shape == (4, 5, 1)
    assert list(ds.columns) == ["param_0"]
    assert ds[5].labels == {"param_0": 31}
    assert opened == [3]
    assert ds.batch([4, 7, 3, 0]).labels.ravel().tolist() == [30, 33, 10, 0]
    assert opened == [3, 1]
    assert ds[3:6].columns["param_0"].values.tolist() == [10, 30, 31]
    assert opened == [3, 1]
    assert codes(ds) == EXPECTED
    assert sorted(opened) == [1, 3, 4]
    with pytest.raises(IndexError, match="shard 5 of 5"):
        ds.parts[5]
    assert [len(part) for part in ds.parts[-2:]] == [4, 2]
    ds.close()
    assert ds.closed
    for act in (lambda: ds[0], lambda: ds.batch([0]), lambda: ds.parts[1]):
        with pytest.raises(mapix.ClosedError, match=r"closed"):
            act()


def test_shards_of_a_batch_are_asked_for_before_the_first_is_opened(made, shards, monkeypatch):
    ds = mapix.open(made)
    happened: list[Any] = []
    opened = Shards._opened
    monkeypatch.setattr(Shards, "_opened", lambda s, k: happened.append(k) or opened(s, k))
    monkeypatch.setattr(
        "mapix.catalogue.shards.ask_for_ends", lambda path: happened.append(Path(path).name)
    )
    assert ds.batch([4, 7, 3, 0]).labels.ravel().tolist() == [30, 33, 10, 0]
    assert happened == [shards[1].name, shards[3].name, 1, 3]
    happened.clear()
    ds.batch([4, 7, 3, 0])
    assert happened == []
    shards[1].write_bytes(b"")
    again = mapix.open(made)
    with pytest.raises(mapix.FileChangedError, match=shards[1].name):
        again.batch([4, 7, 3, 0])


def test_a_bounded_number_stays_open(made, opened):
    ds = mapix.open(made, most_open=2)
    for rows in ([0, 3, 4, 8], [8, 0, 3, 9], [1, 4, 5, 9]):
        assert ds.batch(rows).labels.ravel().tolist() == [EXPECTED[k] for k in rows]
        assert len(ds.parts._open) <= 2
        assert all(len(j._held) <= 2 for j in ds._joints.values())
    opened.clear()
    for k in (1, 3, 1, 3, 1):
        ds.parts[k]
    assert len(opened) <= 2
    ds.parts[4], ds.parts[3], ds.parts[1]
    assert list(ds.parts._open) == [3, 1]
    with pytest.raises(ValueError, match="most_open"):
        mapix.open(made, most_open=0)


def test_a_condition_opens_shards_in_which_it_may_hold(made, opened):
    ds = mapix.open(made)
    opened.clear()
    assert ds.where("param_0 > 100").rows.tolist() == []
    assert ds.where("param_0 == 20 or param_0 + 1 < 0").rows.tolist() == []
    assert opened == []
    assert ds.where("param_0 > 31 and param_0 < 40").rows.tolist() == [6, 7]
    assert opened == [3]
    assert ds[::-1].where("param_0 >= 33 and not param_0 > 40").rows.tolist() == [8, 7]
    assert sorted(opened) == [3, 4]


def test_without_ranges_all_shards_are_asked(tmp_path, shards, opened):
    path = tmp_path / "plain.catalogue"
    catalogue.write(shards, path, format="vimh", ranges=False)
    ds = mapix.open(path)
    assert ds.where("param_0 > 31 and param_0 < 40").rows.tolist() == [6, 7]
    assert len(opened) == len(SIZES)


@pytest.mark.parametrize("how", ["write", "cut", "grow", "replace", "remove"])
def test_a_shard_that_changed_is_named(made, shards, how):
    ds = mapix.open(made)
    path = shards[3]
    data = path.read_bytes()
    if how == "write":
        path.write_bytes(bytes([data[0]]) + data[1:-1] + b"x")
    elif how == "replace":
        path.with_name("new").write_bytes(data)
        os.replace(path.with_name("new"), path)
    elif how == "remove":
        path.unlink()
    else:
        path.write_bytes(data + data[:37] if how == "grow" else data[:-37])  # a record
    assert ds[0].labels == {"param_0": 0}
    assert ds.batch([3, 9]).labels.ravel().tolist() == [10, 41]
    for act in (lambda: ds[5], lambda: ds.batch([0, 5]), lambda: ds.where("param_0 > 30")):
        with pytest.raises(mapix.FileChangedError, match=r"003.vimh: .*refresh the catalogue") as e:
            act()
        assert e.value.filename == str(path)
    assert "003.vimh" in "".join(ds.verify().problems)
    found = catalogue.refresh(made)
    assert [Path(p).name for p in found.refreshed + found.removed] == ["003.vimh"]
    assert bool(found.removed) == (how == "remove")


def test_the_first_shard_may_be_the_one_that_changed(made, shards):
    shards[0].unlink()
    ds = mapix.open(made)
    assert ds[3].labels == {"param_0": 10}
    with pytest.raises(mapix.FileChangedError, match=r"000.vimh"):
        ds[0]
    for path in shards[1:]:
        path.unlink()
    with pytest.raises(mapix.FileChangedError, match=r"00\d.vimh"):
        mapix.open(made)


def test_shards_move_with_their_catalogue(made, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy2(made, other)
    shutil.copytree(tmp_path / "shards", other / "shards")  # with their times
    shutil.rmtree(tmp_path / "shards")
    assert codes(mapix.open(other / made.name)) == EXPECTED


def test_paths_are_relative_through_links(tmp_path, shards):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "shards" / "005.vimh").symlink_to(shards[0])
    path = tmp_path / "link" / "all.catalogue"
    catalogue.write([tmp_path / "link" / "shards", shards[1]], path, format="vimh")
    file = CatalogueFile(Candidate(path))
    texts = [json.loads(file.blob(k)[24 * int(e["nranges"]) :]) for k, e in enumerate(file.entries)]
    assert [text["path"] for text in texts] == [f"shards/{k:03}.vimh" for k in range(6)]


def test_pickles(made, tmp_path):
    ds = mapix.open(made)
    data = pickle.dumps(ds[3:])
    assert len(data) < 1500
    again = pickle.loads(data)
    assert codes(again) == EXPECTED[3:]
    catalogue.add(made, shard(tmp_path, 8), format="vimh")
    with pytest.raises(mapix.FileChangedError, match=made.name):
        pickle.loads(data)


def test_descriptors(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    arrays = [folder / f"{k:03}.npy" for k in range(60)]
    for k, path in enumerate(arrays):
        np.save(path, np.full((2, 3, 3), k, np.uint8))
    catalogue.write(folder, tmp_path / "n.catalogue")
    before = descriptors()
    ds = mapix.open(tmp_path / "n.catalogue")
    assert descriptors() <= before + 3
    assert ds.batch(np.arange(120)).images[:, 0, 0].tolist() == [k // 2 for k in range(120)]
    assert descriptors() < before + 64


# --- changes --------------------------------------------------------------------------------------


def test_adding_writes_an_entry_and_the_slots(made, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "SPARE", 3)
    catalogue.refresh(made)
    reader = mapix.open(made)
    for k in range(8):
        known = made.read_bytes()
        found = catalogue.add(made, shard(tmp_path / "shards", 10 + k, 1), format="vimh")
        assert found.shards == len(SIZES) + k + 1
        now = made.read_bytes()
        differ = np.frombuffer(known, np.uint8) != np.frombuffer(now[: len(known)], np.uint8)
        sectors = set((np.flatnonzero(differ) // 512).tolist())
        assert sectors & {2, 3}
        assert sectors & {4, 5}
        assert len(sectors - {2, 3, 4, 5}) <= 1  # an entry, or it is in a new block
        assert len(now) - len(known) < 300 + 512 * 4 * (k in (3, 7))
    assert len(CatalogueFile(Candidate(made)).slot.blocks) == 3
    assert len(mapix.open(made)) == sum(SIZES) + 8
    assert codes(reader) == EXPECTED  # what it opened
    assert catalogue.add(made, tmp_path / "shards", format="vimh").added == ()
    assert catalogue.refresh(made).shards == len(SIZES) + 8
    assert len(CatalogueFile(Candidate(made)).slot.blocks) == 1
    assert len(mapix.open(made)) == sum(SIZES) + 8


def test_adding_what_does_not_fit(made, tmp_path):
    data = made.read_bytes()
    with vimh.Writer(tmp_path / "x", [vimh.Parameter("param_0", 0, max=9.0)]) as out:
        out.append(np.zeros((4, 5), np.uint8), codes={"param_0": 1})
    with pytest.raises(mapix.FormatError, match="parameter"):
        catalogue.add(made, tmp_path / "x", format="vimh")
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    with pytest.raises(mapix.FormatError, match="cannot be joined"):
        catalogue.add(made, tmp_path / "x.npy")
    with pytest.raises(FileNotFoundError):
        catalogue.add(made, tmp_path / "nothing")
    assert made.read_bytes() == data
    assert not (tmp_path / f".{made.name}.writing").exists()
    with pytest.raises(FileExistsError):
        catalogue.write(tmp_path / "shards", made, format="vimh")
    with pytest.raises(ValueError, match="no dataset"):
        catalogue.write(tmp_path / "shards", tmp_path / "new.catalogue")  # VIMH has no marks
    assert not (tmp_path / "new.catalogue").exists()


def test_removing(made, shards):
    found = catalogue.remove(made, [shards[0], shards[3]])
    assert [Path(p).name for p in found.removed] == ["000.vimh", "003.vimh"]
    assert codes(mapix.open(made)) == [10, 40, 41]
    catalogue.remove(made, shards[2])  # the only one without labels
    assert len(CatalogueFile(Candidate(made)).schemas) == 1
    assert codes(mapix.open(made)) == [10, 40, 41]
    with pytest.raises(ValueError, match=r"no shard .*000"):
        catalogue.remove(made, shards[0])
    with pytest.raises(ValueError, match="no shard would be left"):
        catalogue.remove(made, shards[0].parent)
    assert codes(mapix.open(made)) == [10, 40, 41]


def test_writers_exclude_one_another(made, tmp_path):
    new = shard(tmp_path, 8)
    other = NewWhole(made, replace=True)
    try:
        for act in (
            lambda: catalogue.add(made, new, format="vimh"),
            lambda: catalogue.remove(made, new),
            lambda: catalogue.refresh(made),
        ):
            with pytest.raises(mapix.LockedError):
                act()
    finally:
        other.abort()
    assert codes(mapix.open(made)) == EXPECTED


def states(disk: ModelDisk, path: Path) -> Iterator[bytes]:
    for state in disk.crashes:
        if str(path) in state:
            yield state[str(path)]


@pytest.mark.parametrize("spare", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_no_power_cut_leaves_a_part_of_what_is_added(made, tmp_path, spare, monkeypatch):
    """Old shards or all of them, whatever of the bytes has reached the disk."""
    monkeypatch.setattr(packing, "SPARE", spare)
    monkeypatch.setattr(packing, "SHARE", 1 << 30)
    catalogue.refresh(made)
    new = [shard(tmp_path, 70 + k, 2, label=k) for k in range(2)]
    old, disk = slow(made.read_bytes()), ModelDisk(str(tmp_path))
    disk.put(str(made), made.read_bytes())
    disk.seeds = 3
    catalogue.add(made, new, format="vimh", calls=disk)
    assert slow(made.read_bytes()) == old  # the model has the new bytes
    after = slow(disk.inodes[str(made)].now)
    assert after[1][: len(SIZES)] == old[1]
    assert len(after[1]) == len(SIZES) + 2
    found = {"old": 0, "new": 0}
    for data in set(states(disk, made)):
        found["old" if slow(data) == old else "new"] += 1
        assert slow(data) in (old, after)
    assert found["old"] > 5
    assert found["new"] > 1
    disk.crashes.clear()
    disk.look()
    assert all(slow(data) == after for data in states(disk, made))


def test_the_model_bites(made, tmp_path):
    """Without syncs, the same look finds what is wrong."""
    disk = ModelDisk(str(tmp_path), "fsync")
    disk.put(str(made), made.read_bytes())
    disk.seeds = 8
    new = shard(tmp_path, 70)
    old = slow(made.read_bytes())
    catalogue.add(made, new, format="vimh", calls=disk)
    after = slow(disk.inodes[str(made)].now)
    wrong = 0
    for data in set(states(disk, made)):
        try:
            wrong += slow(data) not in (old, after)
        except (AssertionError, ValueError, struct.error):
            wrong += 1
    assert wrong > 0


def test_each_call_may_fail(made, tmp_path):
    data, new = made.read_bytes(), shard(tmp_path, 8)
    old = quickly(made)
    for at in range(1, 60, 1 if "MAPIX_ALL_TESTS" in os.environ else 4):
        made.write_bytes(data)
        calls = Failing(at, errno.ENOSPC)
        try:
            catalogue.add(made, new, format="vimh", calls=calls)
        except OSError:
            found = quickly(made)
            assert found == old or len(found[1]) == len(SIZES) + 1
            assert not (tmp_path / f".{made.name}.writing").exists()
            catalogue.add(made, new, format="vimh")  # and it goes on from there
        assert len(quickly(made)[1]) == len(SIZES) + 1
        if calls.ncalls < at:
            break
    assert at > 8
    made.write_bytes(data)
    catalogue.refresh(made, calls=SYSTEM)


# --- names ----------------------------------------------------------------------------------------


def test_a_name_is_found_by_its_hash(archives, tmp_path, opened):
    a = mapix.open(archives)
    opened.clear()
    assert a.name(int(a.find("cells", "s13")[0])) == (b"cells", b"s13")
    assert set(opened) <= {1, 13 % 6}
    opened.clear()
    assert len(a.find("cells", "twice")) == 2
    assert a.find("cells", "nothing").tolist() == []
    assert a.find("nothing", "s13").tolist() == []
    found = a.find("cells", ["s3", "nothing", "s4"]).tolist()
    assert found[1] == -1
    assert [a.name(found[k])[1] for k in (0, 2)] == [b"s3", b"s4"]
    catalogue.add(archives, archive(tmp_path, 9, ["new", "twice"]))
    b = mapix.open(archives)
    opened.clear()
    assert b.find("cells", "new").tolist() == [len(a)]
    assert opened == [6]
    assert len(b.find("cells", "twice")) == 3
    plain = tmp_path / "plain.catalogue"
    catalogue.write(tmp_path / "archives", plain, names=False)
    c = mapix.open(plain)
    assert len(c.find("cells", "twice")) == 2
    catalogue.remove(archives, tmp_path / "archives" / "a0002.iid")
    d = mapix.open(archives)
    assert len(d.find("cells", "twice")) == 2
    for k in (0, 1, 3, 21, 33):
        assert d.name(int(d.find("cells", f"s{k}")[0]))[1] == b"s%d" % k
    assert pickle.loads(pickle.dumps(d[4:6])).archive.path == str(archives)
    assert d.verify().ok


@pytest.mark.parametrize("n", [0, 1, 8191, 8192, 8193, 40_000])
def test_pages_of_hashes(n, tmp_path):
    """Against a scan of all of them; hashes that are spread unevenly, too."""
    rng = np.random.default_rng(n)
    for spread in (64, 50):
        values = rng.integers(0, 1 << spread, n, np.uint64, endpoint=False) & ~packing.LOW
        values[: n // 3] = values[0] if n else 0  # one name of many records
        run = np.sort(values | rng.integers(0, 3, n).astype(np.uint64))
        sums = packing._sums(run)
        path = tmp_path / "hashes"
        path.write_bytes(b"x" * 4096 + run.tobytes() + sums)
        file = CatalogueFile.__new__(CatalogueFile)
        file._data, file.path = mapix.source.Source(path), "hashes"  # type: ignore[attr-defined]
        where = (4096, n, crc32c(sums) if n else 0)
        asked = [*values[:3].tolist(), *values[-3:].tolist(), 0, 5 << 20, (1 << 64) - (1 << 20)]
        for value in asked:
            low, high = value, value + (1 << 20)
            found = np.concatenate([np.empty(0, np.uint64), *file._between(where, low, high)])
            expected = run[(run >= np.uint64(low)) & (run <= np.uint64(high - 1))]
            assert found.tolist() == expected.tolist()


def test_facts_and_reports_of_many_files_are_short(archives, tmp_path):
    facts = mapix.open(archives).describe()
    assert facts["shards"] == 6
    assert "files" not in facts
    folder = tmp_path / "n"
    folder.mkdir()
    for k in range(70):
        np.save(folder / f"{k:03}.npy", np.full((2, 3), k, np.uint8))
    catalogue.write(folder, tmp_path / "n.catalogue")
    with (folder / "033.npy").open("ab") as out:
        out.write(b"x")
    report = mapix.open(tmp_path / "n.catalogue").verify()
    assert report.nrecords == 138
    assert len(report.checked) < 10
    assert len(report.problems) == 1
    assert "033.npy" in report.problems[0]


def test_threads_share_a_catalogue(made):
    ds = mapix.open(made, most_open=1)
    wrong: list[Any] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(30):
            rows = rng.integers(0, len(ds), 8)
            found = ds.batch(rows).labels.ravel().tolist()
            if found != [EXPECTED[k] for k in rows.tolist()]:
                wrong.append(found)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_of_other_families(tmp_path):
    from test_joined_families import tar

    for k in range(3):
        tar(tmp_path / f"t{k}", 3 * k, 3 * k + 3)
    catalogue.write(tmp_path, tmp_path / "t.catalogue")
    ds = mapix.open(tmp_path / "t.catalogue")
    for k in range(9):
        assert ds.parts.with_name((b"n%d" % k,)).tolist() == [k // 3]
    assert ds.parts.with_name((b"no",)).tolist() == []


# --- conditions on ranges -------------------------------------------------------------------------

NUMBERS = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
TERMS = st.recursive(
    st.sampled_from(["a", "b", "2", "-1", "0.5"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%"), inner),
    max_leaves=4,
)
TESTS = st.recursive(
    st.builds("{} {} {}".format, TERMS, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), TERMS)
    | st.sampled_from(["a < b < 2", "a", "not b", "'x' in t", "t == 'x'", "-a > 1"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("not {}".format, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(
    text=TESTS,
    a=st.lists(st.none() | NUMBERS, min_size=1, max_size=4),
    b=st.lists(NUMBERS | st.just(float("inf")), min_size=4, max_size=4),
)
def test_ranges_exclude_only_what_is_false_for_all(text, a, b):
    from mapix.catalogue.drafting import _range

    columns = {
        "a": column_of("a", a),
        "b": column_of("b", b[: len(a)]),
        "t": column_of("t", ["x", "y", "x", ""][: len(a)]),
    }
    known = {}
    for name, column in columns.items():
        low, high, flags, _ = _range(column)
        known[name] = Bounds(
            np.array([low]), np.array([high]), np.array([flags & 1 != 0]), np.array([flags == 2])
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found, names = evaluate(text, columns)
        except ValueError:
            return  # numbers are compared with a text
    mask = np.broadcast_to(np.asarray(found, bool), (len(a),)).copy()
    for name in names:
        mask &= columns[name].present
    if mask.any():
        assert bounds_of(text, known, 1).all()


def test_ranges_exclude():
    low, high = np.array([0.0, 5.0]), np.array([4.0, 9.0])
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    known = {"a": Bounds(low, high, yes, no), "t": Bounds(low, high, no, no)}
    for text, expected in {
        "a > 4": [False, True],
        "a >= 4": [True, True],
        "not a <= 4": [False, True],
        "a == 4.5": [False, False],
        "2 * a - 1 < 8": [True, False],
        "4 < a < 5": [False, False],
        "a * a > 80 or a < 0": [False, True],
        "a / 2 > 100": [True, True],
        "t > 100": [True, True],
        "a > 4 and t == 'x'": [False, True],
        "missing > 1": [False, False],
        "1 > 2": [False, False],
    }.items():
        assert bounds_of(text, known, 2).tolist() == expected, text


def test_each_shard_is_indexed(tmp_path):
    (tmp_path / "shards").mkdir()
    for k in range(2):
        with mapix.vimh.Writer(tmp_path / "shards" / str(k)) as out:
            for i in range(5):
                out.append(np.full((3 + i % 2, 4, 3), i + k, np.uint8))
    catalogue.write(tmp_path / "shards", tmp_path / "all.catalogue")
    paths = [tmp_path / "shards" / str(k) for k in range(2)]
    wanted = [str(path / "train.mapix") for path in paths]
    for several in (tmp_path / "all.catalogue", paths):
        assert mapix.index(several) == wanted
        for place in wanted:
            os.unlink(place)
    mapix.index(tmp_path / "all.catalogue")
    assert mapix.open(tmp_path / "all.catalogue")[9].image.max() == 5


# --- repairing ------------------------------------------------------------------------------------


def test_repairing(made, shards, tmp_path, capsys):
    whole = shards[3].read_bytes()
    shards[3].write_bytes(whole[:-5])  # its last record is cut
    shards[1].unlink()
    new = tmp_path / "new"
    assert main(["repair", str(made), str(new)]) == 1
    said = capsys.readouterr().out
    assert "001.vimh: left out" in said
    assert f"{new}/000003-003.vimh: 3 records" in said
    assert sorted(p.name for p in new.iterdir()) == ["000003-003.vimh", made.name]
    assert codes(mapix.open(new / made.name)) == [0, 1, 2, 30, 31, 32, 40, 41]
    assert shards[3].read_bytes() == whole[:-5]
    new.rename(tmp_path / "moved")
    assert len(mapix.open(tmp_path / "moved" / made.name)) == 8
    for path in shards:
        path.write_bytes(b"")
        path.unlink()
    with pytest.raises(mapix.UnsupportedError, match="no shard could be saved"):
        mapix.registry.resolved(mapix.registry.named("catalogue").repair)(made, new)
    assert not new.exists()


# --- the command ----------------------------------------------------------------------------------


def test_the_command(tmp_path, shards, capsys):
    def run(*argv: str) -> Any:
        assert main([*argv, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    out = str(tmp_path / "c.catalogue")
    found = run("catalogue", str(tmp_path / "shards"), "-o", out, "--format", "vimh")
    assert (found["shards"], found["records"]) == (len(SIZES), sum(SIZES))
    assert found["catalogue_nbytes"] == os.path.getsize(out)
    new = str(shard(tmp_path, 8))
    assert run("catalogue", "--add", new, "-o", out, "--format", "vimh")["added"] == [new]
    assert run("info", out)["records"] == sum(SIZES) + 3
    assert run("query", out, "param_0 > 80")["records"] == [11, 12]
    assert run("catalogue", "--remove", new, "-o", out)["removed"] == [new]
    shards[1].unlink()
    assert run("catalogue", "--refresh", "-o", out)["removed"] == [str(shards[1])]
    assert main(["catalogue", "-o", out]) == 3
    assert main(["catalogue", "--refresh", new, "-o", out]) == 3
    assert main(["catalogue", new, "-o", out]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["verify", out]) == 0


# --- many, and large ------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_files(tmp_path, opened):
    folder = tmp_path / "many"
    folder.mkdir()
    records = [record(3, 4, 1, [(0, k)], seed=k) for k in range(256)]
    for k in range(10_000):
        (folder / f"{k:05}.vimh").write_bytes(pack([records[k % 256], records[(k + 1) % 256]]))
    path = tmp_path / "many.catalogue"
    seen: list[tuple[int, int]] = []
    catalogue.write(
        folder, path, format="vimh", progress=lambda *numbers: seen.append(numbers), **PLAIN
    )
    assert seen[-1] == (10_000, 10_000)
    before = descriptors()
    ds = mapix.open(path, most_open=500)
    assert len(opened) == 1
    assert len(ds) == 20_000
    assert descriptors() <= before + 3
    rng = np.random.default_rng(0)
    for _ in range(12):
        rows = rng.integers(0, len(ds), 256)
        opened.clear()
        batch = ds.batch(rows)
        labels = (rows // 2 + rows % 2) % 256
        assert batch.labels.ravel().tolist() == labels.tolist()
        assert len(opened) <= len(set((rows // 2).tolist()))
        assert any(joint is not None for joint in ds._joints.values())  # one call
        assert len(ds.parts._open) <= 500
        assert descriptors() < before + 64
    opened.clear()
    found = ds.where("param_0 == 7")
    assert len(opened) < 150
    assert found.rows.tolist() == [
        2 * k + j for k in range(10_000) for j in (0, 1) if (k + j) % 256 == 7
    ]
    catalogue.add(path, shard(tmp_path, 1), format="vimh", **PLAIN)
    assert len(mapix.open(path)) == 20_003


@pytest.mark.slow
@pytest.mark.maps
@pytest.mark.linux
def test_ten_terabytes(tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    shape = (5 << 30) // 4096, 64, 64
    first = folder / "000.npy"
    np.lib.format.open_memmap(first, "w+", np.uint8, shape).flush()
    head = first.read_bytes()[:128]
    for k in range(2000):
        path = folder / f"{k:05}.npy"
        path.write_bytes(head)
        os.truncate(path, 128 + (5 << 30))
    first.unlink()
    with (folder / "01723.npy").open("r+b") as out:
        out.seek(128 + 4096 * 77)
        out.write(bytes(range(64)))
    catalogue.write(folder, tmp_path / "large.catalogue")
    ds = mapix.open(tmp_path / "large.catalogue")
    assert len(ds) == 2000 * shape[0]
    assert ds.describe()["nbytes"] > 10 * 10**12
    row = 1723 * shape[0] + 77
    assert ds[row][0].tolist() == list(range(64))
    batch = ds.batch([row, len(ds) - 1, 0, row + 1, row])
    assert batch.images.any(axis=(1, 2)).tolist() == [True, False, False, False, True]
