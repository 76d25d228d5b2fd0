"""``mapix repair``: what is no VIMH file is refused, what was lost is told, directories."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.__main__ import main
from mapix.vimh import Parameter, Writer, repair
from mapix.vimh.salvage import SavedDirectory
from slow_vimh import pack, record

GOLDEN = Path(__file__).parent / "golden"


def picture(path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((16, 16), np.uint8)).save(path, "png")
    return path


FOREIGN = {
    "iid": lambda folder: next(iter(sorted((GOLDEN / "iid").rglob("*.iid")))),
    "idx": lambda folder: (
        (folder / "x").write_bytes(struct.pack(">4I", 0x0803, 5, 4, 4) + bytes(80)) and folder / "x"
    ),
    "png": lambda folder: picture(folder / "x.png"),
    "program": lambda folder: Path(sys.executable).resolve(),
    "text": lambda folder: Path(__file__),
    "zeros": lambda folder: (folder / "x").write_bytes(bytes(100_000)) and folder / "x",
    "pickle": lambda folder: GOLDEN / "vimh" / "mnist_28x28x1_1p" / "train_batch",
    "noise": lambda folder: (
        (folder / "x").write_bytes(np.random.default_rng(0).bytes(100_000)) and folder / "x"
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_vimh_file_is_refused(tmp_path, capsys, kind):
    path = FOREIGN[kind](tmp_path)
    before = sorted(tmp_path.iterdir())
    known = kind in ("iid", "idx", "pickle")  # by its first bytes
    assert main(["repair", str(path), str(tmp_path / "new")]) == (2 if known else 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("cannot be repaired, only " if kind in ("iid", "idx") else "repair saves") in err
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "train").touch()
    with pytest.raises(mapix.FormatError, match="no complete record"):
        repair(tmp_path / "train", tmp_path / "new")
    with pytest.raises(FileNotFoundError):
        repair(tmp_path / "nothing", tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["train"]


def test_the_help_says_what_it_repairs(capsys):
    with pytest.raises(SystemExit):
        main(["repair", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "records of a damaged file" in text
    assert "1 when something was" in text


PARAMETERS = [Parameter("a", 0), Parameter("b", 1)]


def dataset(path: Path, n: int = 20, **options) -> Path:
    rng = np.random.default_rng(0)
    with Writer(path, PARAMETERS, **options) as out:
        for i in range(n):
            image = rng.integers(0, 256, (4, 5, 1), np.uint8)
            split = "train" if i < 0.8 * n else "test"
            out.append(image, codes={"a": i, "b": 7}, split=split, spec_range=(-60, 0))
    return path


def damage(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as f:
        f.seek(at)
        f.write(data)


def content(path: Path, split: str) -> list:
    with mapix.open(path, split=split) as ds:
        return [(r.image.tolist(), r.labels) for r in ds]


@pytest.mark.parametrize("dialect", [14, 6])
def test_a_directory(tmp_path, capsys, dialect):
    old = dataset(tmp_path / "old", dialect=dialect)
    whole = {split: content(old, split) for split in ("train", "test")}
    size = (old / "train").stat().st_size // 16
    damage(old / "train", 3 * size, b"\xff" * 6)
    with (old / "test").open("r+b") as f:
        f.truncate(3 * size + 5)
    before = {p.name: p.read_bytes() for p in old.iterdir()}
    assert main(["repair", str(old), str(tmp_path / "new")]) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path / 'new' / 'train'}: 15 records" in out
    assert f"lost: bytes {3 * size} to {4 * size}" in out
    assert f"lost: bytes {3 * size} to {3 * size + 5}" in out
    assert content(tmp_path / "new", "train") == whole["train"][:3] + whole["train"][4:]
    assert content(tmp_path / "new", "test") == whole["test"][:3]
    info = json.loads((tmp_path / "new" / "vimh_dataset_info.json").read_text())
    was = json.loads(before["vimh_dataset_info.json"])
    assert (info["train_samples"], info["test_samples"], info["total_samples"]) == (15, 3, 18)
    counts = ("train_samples", "test_samples", "total_samples", "n_samples")
    assert {k: v for k, v in info.items() if k not in counts} == {
        k: v for k, v in was.items() if k not in counts
    }
    assert {p.name: p.read_bytes() for p in old.iterdir()} == before
    assert main(["repair", str(tmp_path / "new"), str(tmp_path / "again")]) == 0
    assert "nothing was lost" in capsys.readouterr().out
    with pytest.raises(FileExistsError):
        repair(old, tmp_path / "new")


def test_a_split_of_which_nothing_is_left(tmp_path):
    """Its dialect is that of the other split; the other one's records are saved."""
    old = dataset(tmp_path / "old", dialect=6)
    (old / "test").write_bytes(b"\xff" * 77)
    saved = repair(old, tmp_path / "new")
    assert isinstance(saved, SavedDirectory)
    assert (saved.files["train"].nrecords, saved.files["test"].nrecords) == (16, 0)
    assert saved.files["test"].lost == [(0, 77)]
    assert not saved.complete
    assert mapix.open(tmp_path / "new").header_nbytes == 6


def test_the_first_header_is_damaged(tmp_path):
    """The info JSON says what records look like."""
    old = dataset(tmp_path / "old")
    whole = content(old, "train")
    damage(old / "train", 0, b"\xff" * 6)
    assert repair(old / "train", tmp_path / "new").nrecords == 15
    with mapix.open(tmp_path / "new") as ds:
        assert [r.image.tolist() for r in ds] == [image for image, _ in whole[1:]]
    (old / "vimh_dataset_info.json").unlink()
    with pytest.raises(mapix.FormatError, match="no complete record"):
        repair(old / "train", tmp_path / "new2")


def test_what_else_is_in_a_directory(tmp_path):
    both = dataset(tmp_path / "both", output="both")
    damage(both / "vimh_dataset_info.json", 0, b"!")
    saved = repair(both, tmp_path / "new")
    assert sorted(saved.left_out) == ["test_batch", "train_batch", "vimh_dataset_info.json"]
    assert saved.nrecords == 20
    assert "train_batch: left out" in str(saved)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["test", "train"]
    pickles = dataset(tmp_path / "pickles", output="pickle")
    with pytest.raises(mapix.UnsupportedError, match="no binary file"):
        repair(pickles, tmp_path / "new2")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(mapix.FormatError, match="repair saves VIMH datasets alone"):
        repair(tmp_path / "pictures", tmp_path / "new2")
    assert not (tmp_path / "new2").exists()


def test_shards(tmp_path):
    folder = dataset(tmp_path / "d", 40)
    data = (folder / "train").read_bytes()
    (folder / "train").unlink()
    size = len(data) // 32
    for k, (a, b) in enumerate(((0, 10), (10, 20), (20, 32))):
        part = data[a * size : b * size - (3 if k == 1 else 0)]
        (folder / f"train-{k:05}-of-00003").write_bytes(part)
    saved = repair(folder, tmp_path / "new")
    assert [s.nrecords for s in saved.files.values()] == [10, 9, 12, 8]
    assert len(mapix.open(tmp_path / "new")) == 31
    info = json.loads((tmp_path / "new" / "vimh_dataset_info.json").read_text())
    assert (info["train_samples"], info["total_samples"]) == (31, 39)


def test_many_damaged_stretches_are_no_damage(tmp_path, monkeypatch):
    """A file of other bytes between every few records costs no more than it should."""
    four = pack([record(1, 1, 1, [], seed=i) for i in range(4)])
    (tmp_path / "f").write_bytes((four + b"\xff" * 3) * 3000)
    with pytest.raises(mapix.LimitError, match="damaged stretches"):
        repair(tmp_path / "f", tmp_path / "new", dialect=14)
    (tmp_path / "g").write_bytes((four + b"\xff" * 3) * 900)
    assert repair(tmp_path / "g", tmp_path / "new", dialect=14).nrecords == 3600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "g", "new"]


def test_one_record_by_chance_is_no_vimh_file(tmp_path):
    one = pack([record(1, 1, 1, [], seed=1)])
    (tmp_path / "f").write_bytes(one + b"\xff" * 1000)
    with pytest.raises(mapix.FormatError, match="no complete record"):
        repair(tmp_path / "f", tmp_path / "new")
    assert repair(tmp_path / "f", tmp_path / "new", dialect=14).nrecords == 1


def test_a_file_that_fits_both_dialects(tmp_path):
    """The info JSON decides, or the user."""
    both = b"\1\0\1\0\1\0" + b"\4" + bytes([9, 1, 8, 1, 7, 1, 6]) + b"\0\5"
    (tmp_path / "train").write_bytes(both * 3)
    with pytest.raises(mapix.FormatError, match="both dialects fit"):
        repair(tmp_path / "train", tmp_path / "new")
    assert repair(tmp_path / "train", tmp_path / "new", dialect=6).nrecords == 3
    info = {"height": 1, "width": 1, "channels": 1, "parameter_names": ["a"]}
    (tmp_path / "vimh_dataset_info.json").write_text(json.dumps(info))
    assert repair(tmp_path / "train", tmp_path / "again").nrecords == 3


def test_places_that_only_look_like_a_record(tmp_path, monkeypatch):
    """Nearly all are seen through in whole arrays; the others are limited by the file's size."""
    from mapix import _native
    from mapix.vimh import salvage

    calls = []
    real = _native.Walk.hop
    monkeypatch.setattr(_native.Walk, "hop", lambda *a: calls.append(1) or real(*a))
    large = record(58, 58, 58, [])  # as two bytes again and again
    tail = b"\xff" * 6 + b"\x3a\0" * 420_000 + bytes(200_000)
    (tmp_path / "f").write_bytes(pack([large]) + tail)
    saved = repair(tmp_path / "f", tmp_path / "new", dialect=14)
    assert saved.nrecords == 1
    assert len(calls) < 3000
    monkeypatch.setattr(salvage, "FEW_TRIES", 10)
    monkeypatch.setattr(salvage, "TRY_NBYTES", 1 << 20)
    with pytest.raises(mapix.LimitError, match="11 places that look like a record"):
        repair(tmp_path / "f", tmp_path / "new2", dialect=14)
    assert not (tmp_path / "new2").exists()


# --- verify ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["train", "test", "test_batch", None])
def test_verify_checks_all_splits(tmp_path, capsys, bad):
    folder = dataset(tmp_path / "d", output="both")
    if bad:
        data = (folder / bad).read_bytes()
        (folder / bad).write_bytes(data[:-4])
    assert main(["verify", str(folder)]) == (1 if bad else 0)
    out = capsys.readouterr().out
    for name in ("train", "test", "train_batch", "test_batch"):
        assert f"{folder / name}: " in out
    assert out.count("no problems") == (3 if bad else 4)
    for split in ("train", "test"):
        hit = bad is not None and bad.startswith(split)
        assert main(["verify", str(folder), "--split", split]) == hit
        assert capsys.readouterr().out.count("checked") == 2
    reports = mapix.vimh.verify(folder)
    assert [Path(r.path).name for r in reports if not r.ok] == ([bad] if bad else [])
    (folder / "train").unlink()
    assert len(mapix.vimh.verify(folder / "test")) == 1
    assert len(mapix.vimh.verify(folder, "train")) == 1


def test_verify_of_a_dataset_without_training_records(tmp_path, capsys):
    folder = dataset(tmp_path / "d")
    (folder / "train").unlink()
    assert main(["verify", str(folder)]) == 0
    assert "4 records" in capsys.readouterr().out
    assert main(["verify", str(folder), "--split", "train"]) == 2
    assert "no data file of train" in capsys.readouterr().err
