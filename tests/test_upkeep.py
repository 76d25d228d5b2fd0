"""Indexes beside files, files that grow, verify and repair."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.__main__ import main
from mapix.vimh import index_store, layout, repair
from records import content, never_walk, settle
from slow_vimh import pack, record


@pytest.fixture(autouse=True)
def small_files_count(monkeypatch):
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)


def records(n: int, *, mixed: bool, first: int = 0) -> list:
    return [
        record(
            3 + (i % 5 if mixed else 0),
            4,
            1,
            [(0, i & 255), (1, 7 * i & 255)][: 1 + (i % 2 if mixed else 1)],
            seed=i,
        )
        for i in range(first, first + n)
    ]


def make(path: Path, n: int = 400, *, mixed: bool = False) -> Path:
    path.write_bytes(pack(records(n, mixed=mixed)))
    return settle(path)


@pytest.mark.parametrize("mixed", [False, True])
def test_an_index_beside_the_file(tmp_path, monkeypatch, mixed):
    path = make(tmp_path / "train", mixed=mixed)
    want = content(mapix.open(path, index="never"))
    place = mapix.index(path)
    assert place == f"{path}.mapix"
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "nothing"))
    never_walk(monkeypatch)
    monkeypatch.setattr(mapix.vimh.Dataset.batch, "__doc__", None)
    ds = mapix.open(path)
    assert ds.index.stored
    assert content(ds) == want
    assert ds.index.checksums.sound()
    column = ds.labels["param_1"]
    assert column.present.all() != mixed
    assert column.codes.base is not None  # of the mapped index
    found = [r.labels.get("param_1", 0) for r in ds]
    assert column.codes.tolist() == found
    assert ds[::3].labels["param_1"].codes.tolist() == found[::3]
    assert not os.path.exists(tmp_path / "nothing")


@pytest.mark.parametrize("mixed", [False, True])
def test_labels_that_were_read_are_kept(tmp_path, monkeypatch, mixed):
    path = make(tmp_path / "f", mixed=mixed)
    want = mapix.open(path).labels["param_1"]
    monkeypatch.setattr("mapix.batch.label_codes", None)  # nobody reads the file for them
    again = mapix.open(path).labels["param_1"]
    assert (again.codes == want.codes).all()
    assert (again.present == want.present).all()
    assert mapix.open(path).labels["param_0"].codes.tolist() == [i & 255 for i in range(400)]


def test_stored_labels_are_not_believed_when_they_were_changed(tmp_path):
    path = make(tmp_path / "f")
    want = mapix.open(path).labels["param_1"].codes.tolist()
    (kept,) = Path(index_store.cache_folder()).iterdir()
    data = bytearray(kept.read_bytes())
    data[index_store.HEAD_NBYTES + 5] ^= 1
    kept.write_bytes(data)
    ds = mapix.open(path)
    assert ds.index.columns is not None
    assert ds.labels["param_1"].codes.tolist() == want


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_of_a_file_that_grew_the_new_part_is_walked(tmp_path, monkeypatch, mixed, alike):
    path = make(tmp_path / "f", mixed=mixed)
    mapix.open(path)
    walked = []
    real = layout.walk

    def spy(source, head, progress=None, *, after=None):
        walked.append(0 if after is None else after.nbytes)
        return real(source, head, progress, after=after)

    monkeypatch.setattr(layout, "walk", spy)
    before = path.stat().st_size
    with path.open("ab") as f:
        f.write(pack(records(9, mixed=not alike, first=400)))
    for _ in range(2):
        ds = mapix.open(path)
        fresh = mapix.open(path, index="never", dialect=14)
        assert len(ds) == 409
        assert content(ds) == content(fresh)
        assert ds.index.ids == fresh.index.ids
        assert (
            ds.batch(range(409), pad=True).labels == fresh.batch(range(409), pad=True).labels
        ).all()
        assert ds.labels["param_1"].codes.tolist() == fresh.labels["param_1"].codes.tolist()
        settle(path)
    assert walked[0] == before


def test_what_was_changed_before_it_grew_is_seen(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path)
    with path.open("r+b") as f:
        f.write(pack(records(400, mixed=True, first=2)))
        f.write(pack(records(3, mixed=False)))
    assert content(mapix.open(path)) == content(mapix.open(path, index="never"))


def test_grown_by_something_else_is_an_error_as_ever(tmp_path):
    path = make(tmp_path / "f")
    mapix.open(path)
    with path.open("ab") as f:
        f.write(b"\3\0\4\0\1\0half")
    with pytest.raises(mapix.TruncatedError, match="400 complete records"):
        mapix.open(path, dialect=14)
    with pytest.warns(mapix.MapixWarning, match="are not a record"):
        assert len(mapix.open(path, dialect=14, strict=False)) == 400


def test_a_clock_that_was_set_back(tmp_path):
    """Times ahead of the clock prove nothing: no index is kept, nobody waits for that day."""
    path = make(tmp_path / "f")
    ahead = time.time_ns() + 86_400_000_000_000
    os.utime(path, ns=(ahead, ahead))
    settle(path)
    mapix.open(path)
    folder = Path(index_store.cache_folder())
    assert not folder.exists() or list(folder.iterdir()) == []
    with pytest.raises(OSError, match="ahead of the clock"):
        mapix.index(path)
    assert sorted(os.listdir(tmp_path)) == ["f"]


# --- verify ---------------------------------------------------------------------------------------


def test_verify_finds_a_changed_pixel(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    mapix.index(path)
    seen = []
    report = mapix.open(path).verify(lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.checked == ["structure", "labels", "checksums"]
    assert seen[-1][0] == seen[-1][1]
    times = path.stat()
    where = mapix.open(path)[77]
    kept = Path(f"{path}.mapix").read_bytes()
    with path.open("r+b") as f:
        f.seek(where.offset + where.nbytes - 1)
        f.write(bytes([where.image[-1, -1, 0] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    forged = bytearray(kept)
    now = os.stat(path)
    fields = index_store._FIELDS.size
    at = index_store._PREFIX.size
    forged[at + 32 : at + 40] = now.st_ctime_ns.to_bytes(8, "little")
    from mapix import _native

    forged[12:16] = _native.crc32c(bytes(forged[at : at + fields])).to_bytes(4, "little")
    Path(f"{path}.mapix").write_bytes(forged)
    ds = mapix.open(path)
    assert ds.index.checksums is not None
    report = ds.verify()
    assert not report.ok
    assert report.damaged == [77]
    assert "1 records have changed: 77" in str(report)
    saved = ds.repair(tmp_path / "new")
    assert saved.damaged == [77]
    assert saved.nrecords == 399
    assert content(mapix.open(tmp_path / "new"))[77][2] == ds[78].image.tobytes()


def test_verify_tells_what_the_info_json_gets_wrong(tmp_path):
    with mapix.vimh.Writer(tmp_path / "d", [mapix.vimh.Parameter("a", 0)]) as out:
        out.append(np.zeros((2, 2), np.uint8), codes={"a": 1})
    assert mapix.open(tmp_path / "d").verify().ok
    info = tmp_path / "d" / "vimh_dataset_info.json"
    info.write_text(info.read_text().replace('"train_samples": 1', '"train_samples": 7'))
    with pytest.warns(mapix.MapixWarning):
        report = mapix.open(tmp_path / "d").verify()
    assert "7 samples" in report.problems[0]


def test_verify_finds_an_index_of_other_records(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path)
    (kept,) = Path(index_store.cache_folder()).iterdir()
    data = bytearray(kept.read_bytes())
    data[index_store.HEAD_NBYTES + 16 * 5 : index_store.HEAD_NBYTES + 16 * 6] = data[
        index_store.HEAD_NBYTES + 16 * 10 : index_store.HEAD_NBYTES + 16 * 11
    ]
    kept.write_bytes(data)
    report = mapix.open(path).verify()
    assert any("index='rebuild'" in p for p in report.problems)


def test_verify_of_a_directory_checks_all_splits(tmp_path):
    folder = tmp_path / "d"
    note = mapix.vimh.Parameter("note", 0, min=0.0, max=255.0, step=1.0)
    with mapix.vimh.Writer(folder, [note]) as out:
        for i in range(20):
            split = "test" if i % 4 == 0 else "train"
            out.append(np.full((4, 4, 1), i, np.uint8), {"note": i}, split=split)
    assert mapix.open(folder).verify().ok
    with open(folder / "test", "ab") as f:
        f.write(b"x")
    for opened, ok in (
        (mapix.open(folder), False),
        (mapix.open(folder, split="train"), True),
        (mapix.open(folder / "train"), True),
        (mapix.open(folder)[:3], True),
    ):
        report = opened.verify()
        assert report.ok == ok
        assert ok or str(folder / "test") in report.problems[0]


def test_verify_of_pickles(tmp_path):
    golden = Path(__file__).parent / "golden" / "vimh" / "mnist_28x28x1_1p" / "train_batch"
    assert mapix.open(golden).verify().ok


# --- repair ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
def test_repair_of_a_cut_file(tmp_path, mixed):
    data = pack(records(50, mixed=mixed))
    path = tmp_path / "f"
    path.write_bytes(data[:-3])
    saved = repair(path, tmp_path / "g", dialect=14)
    last = len(pack(records(50, mixed=mixed)[49:]))
    assert (saved.nrecords, saved.nbytes) == (49, len(data) - last)
    assert saved.lost == [(len(data) - last, len(data) - 3)]
    assert (tmp_path / "g").read_bytes() == data[:-last]
    assert path.read_bytes() == data[:-3]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dialect", [6, 14])
def test_repair_of_a_hole(tmp_path, mixed, dialect):
    """A header overwritten, bytes missing, bytes too many: the others are saved."""
    all_of = records(60, mixed=mixed)
    parts = [replace(r, spec=r.spec if dialect == 14 else None).pack() for r in all_of]
    for kind in ("zeros", "missing", "more", "header"):
        broken = {
            "zeros": bytes(len(parts[20])),
            "missing": parts[20][5:],
            "more": parts[20] + b"\1\2\3",
            "header": b"\xff\xff" + parts[20][2:],
        }[kind]
        path, new = tmp_path / kind, tmp_path / f"{kind}-new"
        path.write_bytes(b"".join([*parts[:20], broken, *parts[21:]]))
        saved = repair(path, new, dialect=dialect)
        kept = new.read_bytes()
        want = [*parts[:20], *([parts[20]] if kind == "more" else []), *parts[21:]]
        assert kept == b"".join(want), kind
        assert saved.nrecords == len(want)
        assert sum(b - a for a, b in saved.lost) == path.stat().st_size - len(kept)
        assert len(mapix.open(new, dialect=dialect)) == len(want)
        assert "lost: bytes" in str(saved)


def test_repair_of_a_good_file_and_of_nothing(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    saved = mapix.open(path).repair(tmp_path / "g")
    assert saved.lost == []
    assert "nothing was lost" in str(saved)
    assert (tmp_path / "g").read_bytes() == path.read_bytes()
    (tmp_path / "noise").write_bytes(bytes(1000))
    with pytest.raises(mapix.FormatError, match="no complete record was found"):
        repair(tmp_path / "noise", tmp_path / "h")
    with pytest.raises(FileExistsError):
        repair(path, tmp_path / "g")
    assert sorted(os.listdir(tmp_path)) == ["f", "g", "noise"]


def test_a_writer_that_died_is_no_obstacle_and_a_living_one_is(tmp_path):
    from mapix.store import NewWhole

    path = make(tmp_path / "f")
    (tmp_path / ".g.writing").write_bytes(b"left over")
    assert repair(path, tmp_path / "g").nrecords == 400
    with NewWhole(str(tmp_path / "h")) as out:
        out.write(b"1")
        with pytest.raises(mapix.LockedError):
            repair(path, tmp_path / "h")
    assert (tmp_path / "h").read_bytes() == b"1"


def test_commands(tmp_path, capsys):
    path = make(tmp_path / "f")
    assert main(["index", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}.mapix\n"
    assert main(["verify", str(path)]) == 0
    assert "no problems" in capsys.readouterr().out
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert main(["verify", str(path)]) == 1
    assert main(["repair", str(path), str(tmp_path / "g"), "--open", "dialect=14"]) == 1
    assert "399 records" in capsys.readouterr().out
    assert main(["repair", str(tmp_path / "g"), str(tmp_path / "h")]) == 0
    assert "nothing was lost" in capsys.readouterr().out
    with pytest.raises(mapix.UnsupportedError, match="pickles"):
        mapix.index(Path(__file__).parent / "golden" / "vimh" / "mnist_28x28x1_1p" / "train_batch")


@pytest.mark.parametrize(("n", "stored"), [(49, False), (50, True)])
def test_small_files_of_many_records_have_a_stored_index(tmp_path, monkeypatch, n, stored):
    monkeypatch.setattr(index_store, "STORE_NBYTES", 16 << 20)
    assert index_store.STORE_RECORDS == 16_384
    monkeypatch.setattr(index_store, "STORE_RECORDS", 50)
    path = make(tmp_path / "train", n, mixed=True)
    want = content(mapix.open(path))
    ds = mapix.open(path)
    assert (ds.index.stored, len(ds)) == (stored, n)
    assert content(ds) == want
