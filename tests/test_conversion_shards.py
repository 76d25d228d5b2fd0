"""Conversion to numbered files: all of them together hold what one file would."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
import mapix.catalogue
import mapix.conversion.stream
import mapix.iid
from mapix import LossError, UnsupportedError
from mapix.__main__ import main
from mapix.text import counted
from test_conversion_contract import Toy, images

N = 17
PLACES = {
    "npy": "x.npy",
    "npz": "x.npz",
    "idx": "x-images-idx3-ubyte",
    "vimh": "x",
    "pink": "x.bin",
    "folder": "x",
    "parquet": "x.parquet",
    "arrow": "x.arrow",
    "tar": "x.tar",
    "tfrecord": "x.tfrecord",
}
NEEDS = {
    "parquet": "pyarrow",
    "arrow": "pyarrow",
    **dict.fromkeys(("folder", "tar", "tfrecord"), "PIL"),
}


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Blocks of which a shard has several, and that shards cut."""
    monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", 150)


def uniform() -> Toy:
    """The largest class number is in the last shard, a missing one in the first."""
    kind: list[Any] = [["a", "b", "c"][k % 3] for k in range(N - 1)]
    return Toy(images(*[(4, 5, 3)] * N), ("kind",), kind=[*kind, "z"], score=[0.5] * 9 + [None] * 8)


def mixed() -> Toy:
    shapes = [(4, 5, 3)] * 6 + [(2, 3, 3)] * 5 + [(4 + k, 5, 3) for k in range(6)]
    counts: list[Any] = [None, *range(N - 1)]
    return Toy(images(*shapes), ("count",), count=counts, note=[f"n{k}" for k in range(N)])


def records(source: Path, folder: Path) -> Path:
    """A dataset of VIMH with codes, ranges of the pixels, and sizes that differ."""
    note = mapix.vimh.Parameter("note", 0, min=50, max=52, step=0.5)
    with mapix.vimh.Writer(folder / "v", [note], info={"sample_rate": 8000}) as out:
        for k, image in enumerate(mixed().images):
            values = {"note": 50 + k % 5 / 2} if k % 7 else {}
            out.append(image, values, spec_range=(-80.0, float(k)))
    return folder / "v" / "train"


def columns(ds: Any) -> dict[str, tuple[Any, Any]]:
    found = {}
    for name in ds.columns:
        column = ds.columns[name]
        values = [v if p else None for v, p in zip(column.values, column.present, strict=True)]
        found[name] = [v.tolist() if hasattr(v, "tolist") else v for v in values]
    return found


def same(found: Any, want: Any, *, but: str = "") -> None:
    """Record by record."""
    assert len(found) == len(want)
    for k in range(len(want)):
        one, other = found._image(int(found.rows[k])), want._image(int(want.rows[k]))
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    mine, theirs = columns(found), columns(want)
    assert mine.keys() == theirs.keys()
    for name in theirs.keys() - {but}:
        assert repr(mine[name]) == repr(theirs[name]), name


@pytest.mark.parametrize("to", PLACES)
@pytest.mark.parametrize("source", ["uniform", "mixed", "records"])
def test_shards_hold_what_one_file_holds(tmp_path, to, source, monkeypatch):
    if source == "uniform":  # one block for all
        monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", 1 << 20)
    if to in NEEDS:
        pytest.importorskip(NEEDS[to])
    ds = records(Path(), tmp_path) if source == "records" else globals()[source]()
    if source != "uniform" and to in ("npy", "idx", "pink"):
        with pytest.raises(UnsupportedError, match="of one shape"):
            mapix.convert(ds, tmp_path / PLACES[to], to=to, shards=4, lossy=True)
        return
    if source != "uniform" and to == "npz":  # numpy reads it, mapix does not
        return check_mixed_npz(ds, tmp_path)
    (tmp_path / "one").mkdir()
    steps: list[tuple[int, int]] = []
    options: dict[str, Any] = {"to": to, "lossy": True}
    one = mapix.convert(ds, tmp_path / "one" / PLACES[to], **options)
    made = mapix.convert(
        ds,
        tmp_path / PLACES[to],
        shards=4,
        progress=lambda *done: steps.append(done),
        **options,
    )
    assert (made.records, made.lost) == (one.records, one.lost)
    assert steps[-1] == (N, N)
    begin, end = PLACES[to].partition(".")[::2] if to != "idx" else ("x", "")
    dot = f".{end}" if end else "-images-idx3-ubyte" if to == "idx" else ""
    names = [f"{begin}-{k:05}-of-00004{dot}" for k in range(4)]
    assert [os.path.basename(path) for path in made.shards] == names
    parts = [mapix.open(path) for path in made.shards]
    assert [len(part) for part in parts] == [4, 4, 4, 5]
    names_of_files = "file_name" if to == "folder" and source == "records" else ""
    same(mapix.open(made.shards), mapix.open(one.path), but=names_of_files)
    mapix.catalogue.write(made.shards, tmp_path / "all.catalogue")
    same(mapix.open(tmp_path / "all.catalogue"), mapix.open(one.path), but=names_of_files)
    return None


def check_mixed_npz(ds: Any, folder: Path) -> None:
    one = dict(np.load(mapix.convert(ds, folder / "one.npz").path))
    parts = [dict(np.load(path)) for path in mapix.convert(ds, folder / "x.npz", shards=4).shards]
    for name in one.keys() - {"offsets", "info.json", "records.jsonl"}:
        arrays = [part[name] for part in parts]
        if name.startswith(("classes/", "range/")):
            assert all((array == one[name]).all() for array in arrays)
        else:
            np.testing.assert_array_equal(np.concatenate(arrays), one[name])
    for part in parts:
        assert part["offsets"][-1] == part["images"].size
        assert part.keys() == one.keys()
        assert part.get("info.json") == one.get("info.json")
    if "records.jsonl" in one:
        assert b"".join(bytes(part["records.jsonl"]) for part in parts) == one["records.jsonl"]


def test_shards_of_an_image_folder_are_copies(tmp_path):
    pytest.importorskip("PIL")
    mapix.convert(mixed(), tmp_path / "f", to="folder")
    made = mapix.convert(tmp_path / "f", tmp_path / "g", to="folder", shards=3)
    back = mapix.open(made.shards)
    for record, other in zip(mapix.open(tmp_path / "f"), back, strict=True):
        assert record.encoded().data == other.encoded().data
        assert record.metadata == other.metadata
    assert made.lost == ()


def test_shards_of_all_splits(tmp_path):
    some = Toy(uniform().images, ("kind",), kind=uniform().values["kind"])
    splits = {"train": some[:12], "test": some[12:]}
    made = mapix.convert(splits, tmp_path / "v", to="vimh", shards=5)
    assert made.records == {"train": 12, "test": 5}
    for split, part in splits.items():
        parts = [mapix.open(path, split=split) for path in made.shards]
        np.testing.assert_array_equal(
            np.concatenate([p.images for p in parts]), part.batch(range(len(part))).images
        )
    with pytest.raises(ValueError, match="5 records of test cannot fill 6 shards"):
        mapix.convert(splits, tmp_path / "w", to="vimh", shards=6)
    made = mapix.convert(tmp_path / "v-00000-of-00005", tmp_path / "w", to="vimh", shards=1)
    assert made.records == {"train": 2, "test": 1}
    empty = mapix.convert(splits["train"], tmp_path / "y", to="vimh")
    mapix.convert(empty.path, tmp_path / "z", to="vimh", shards=2)  # its test split has no records


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"shards": 1}, [N]),
        ({"records_per_shard": 5}, [4, 4, 4, 5]),
        ({"records_per_shard": 100}, [N]),
        ({"shard_nbytes": 6 * 60}, [5, 6, 6]),
        ({"shard_nbytes": 1}, [1] * N),
    ],
)
def test_how_many_shards(tmp_path, options, sizes):
    made = mapix.convert(uniform(), tmp_path / "x.npz", **options)
    assert [len(mapix.open(path)) for path in made.shards] == sizes
    assert len(os.listdir(tmp_path)) == len(sizes)
    number = counted(len(sizes), "shard")
    assert str(made).startswith(f"{made.shards[0]} ...: npz, {number}, 17 records")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"shards": 0}, ValueError, "shards must be 1 or more, got 0"),
        ({"shards": N + 1}, ValueError, "17 records cannot fill 18 shards"),
        ({"shards": 2.0}, TypeError, "shards must be a whole number"),
        ({"shard_nbytes": True}, TypeError, "shard_nbytes must be a whole number"),
        ({"shards": 2, "records_per_shard": 2}, ValueError, "one of shards, records_per_shard"),
    ],
)
def test_what_is_no_number_of_shards(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        mapix.convert(uniform(), tmp_path / "x.npz", **options)
    assert os.listdir(tmp_path) == []


def test_no_shard_appears_unless_all_do(tmp_path):
    class Breaks(Toy):
        error: BaseException = OSError("broken")

        def _image(self, row: int) -> Any:
            if row == 10:
                raise self.error
            return super()._image(row)

    for error in (OSError("broken"), KeyboardInterrupt()):
        ds = Breaks(uniform().images)
        ds.error = error
        with pytest.raises(type(error)):
            mapix.convert(ds, tmp_path / "x.npy", shards=4)
        assert os.listdir(tmp_path) == []
    with pytest.raises(LossError, match="label kind"):
        mapix.convert(uniform(), tmp_path / "x.npy", shards=4)
    assert os.listdir(tmp_path) == []
    mapix.convert(uniform(), tmp_path / "x.npy", shards=4, lossy=True)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError, match="x-00000-of-00004.npy exists already"):
        mapix.convert(uniform(), tmp_path / "x.npy", shards=2, lossy=True)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(3)
    with mapix.iid.Writer(tmp_path / "a.iid", {"image": {"width": 60, "height": 50}}) as out:
        for k in range(N):
            mask = rng.random((2 + k % 5, 3 + k % 4)) < 0.6
            mask[0, 0] = True
            out.add(
                f"d{k % 2}", f"s{k}", mask, at=(k, 2 * k), groups=["a"] if k % 3 else ["b", "a"]
            )
    return mapix.open(tmp_path / "a.iid")


def test_shards_of_an_archive(archive, tmp_path):
    steps: list[tuple[int, int]] = []
    made = mapix.convert(
        archive, tmp_path / "s.iid", shards=4, progress=lambda *done: steps.append(done)
    )
    assert (made.records, len(made.shards), steps[-1]) == ({"segments": N}, 4, (N, N))
    mapix.catalogue.write(made.shards, tmp_path / "all.catalogue")
    for path in (made.shards[2], made.shards, tmp_path / "all.catalogue"):
        back = mapix.open(path)
        assert back.find("d1", "s3").tolist() == [3]
        assert back.names() == archive.names()
        assert back.meta == archive.meta
        assert back.table()["groups"] == archive.table()["groups"]
        for one, other in zip(back, archive, strict=True):
            np.testing.assert_array_equal(one.mask(), other.mask())
    part = mapix.convert(archive[::-1], tmp_path / "r.iid", records_per_shard=9)
    assert mapix.open(part.shards[0]).names() == archive.names()[::-1]


def test_shards_of_an_archive_as_tables(archive, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    made = mapix.convert(archive, tmp_path / "s.parquet", shard_nbytes=archive.nbytes // 4 + 1)
    rows = [pq.read_table(path).to_pylist() for path in made.shards]
    assert [len(some) for some in rows] == [4, 4, 4, 5]
    mapix.convert(archive, tmp_path / "one.parquet")
    assert list(itertools.chain(*rows)) == pq.read_table(tmp_path / "one.parquet").to_pylist()


def test_a_file_without_records_has_no_shards(tmp_path):
    model = mapix.visualrbm.RestrictedBoltzmannMachine(np.ones((2, 3)), np.zeros(3), np.zeros(2))
    with pytest.raises(UnsupportedError, match="no records that shards could hold"):
        mapix.convert(model, tmp_path / "m.json", shards=2)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_shards_for_huggingface(tmp_path):
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("PIL")
    mapix.convert(uniform(), tmp_path / "x.npz")
    made = mapix.convert(tmp_path / "x.npz", tmp_path / "h", to="huggingface", axes="HWC", shards=2)
    rows = [row for path in made.shards for row in datasets.load_from_disk(path)]
    for row, image in zip(rows, uniform().images, strict=True):
        np.testing.assert_array_equal(np.asarray(row["image"]), image)


def test_the_command_line_writes_shards(tmp_path, capsys):
    mapix.convert(uniform(), tmp_path / "x.npz")
    assert main(["convert", str(tmp_path / "x.npz"), str(tmp_path / "y.npz"), "--json",
                 "--records-per-shard", "6"]) == 0  # fmt: skip
    made = json.loads(capsys.readouterr().out)
    assert len(made["shards"]) == 3
    want = mapix.open(tmp_path / "x.npz")
    same(mapix.open(made["shards"]), want)
    assert main(["merge", *made["shards"], "-o", str(tmp_path / "m.npz"), "--shards", "2"]) == 0
    assert "2 shards, 17 records" in capsys.readouterr().out
    again = [str(tmp_path / f"m-{k:05}-of-00002.npz") for k in range(2)]
    same(mapix.open(again), want)
    command = ["split", *again, "-o", str(tmp_path / "s.npz"), "--share", "0.5", "--shards", "2"]
    assert main(command) == 0
    halves = [str(tmp_path / f"s-{part}-{k:05}-of-00002.npz")
              for part in ("train", "test") for k in range(2)]  # fmt: skip
    same(mapix.open(halves), want)
    before = sorted(os.listdir(tmp_path))
    os.remove(halves[0])
    os.remove(halves[1])
    assert main(command) == 2  # nothing of the first part is written where the second is there
    assert "s-test-00000-of-00002.npz" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == [n for n in before if "s-train" not in n]
    assert main(["convert", str(tmp_path / "x.npz"), "y.npz", "--shards", "2",
                 "--shard-nbytes", "9"]) == 3  # fmt: skip
    assert "--shards or --shard-nbytes, not both" in capsys.readouterr().err
