"""Directories of Arrow and Parquet files, as Hugging Face's datasets and its Hub lay them out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import mapix
from mapix.__main__ import main

pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")


def arrow_file(path: Path, values: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"n": list(values), "text": [f"t{k}" for k in values]})
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


def saved(folder: Path, *files: range) -> Path:
    names = [f"data-{k:05}-of-{len(files):05}.arrow" for k in range(len(files))]
    for name, values in zip(names, files, strict=True):
        arrow_file(folder / name, values)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def saved_dict(folder: Path) -> Path:
    saved(folder / "test", range(100, 104))
    saved(folder / "train", range(5), range(5, 8))
    (folder / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    return folder


def cache(folder: Path) -> Path:
    arrow_file(folder / "my-set-train-00000-of-00002.arrow", range(5))
    arrow_file(folder / "my-set-train-00001-of-00002.arrow", range(5, 8))
    arrow_file(folder / "my-set-test.arrow", range(100, 104))
    arrow_file(folder / "cache-0123-train.arrow", range(900, 999))
    (folder / "dataset_info.json").write_text('{"splits": {"test": {}, "train": {}}}')
    return folder


def hub(folder: Path) -> Path:
    arrow_file(folder / "data" / "test-00000-of-00001-a09b74b3ef9c3b56.parquet", range(100, 104))
    arrow_file(folder / "data" / "train-00001-of-00002.parquet", range(5, 8))
    arrow_file(folder / "data" / "train-00000-of-00002.parquet", range(5))
    (folder / "README.md").write_text("---\n---\n")
    return folder


def numbers(ds: Any) -> list[int]:
    return [row["n"] for row in ds]


@pytest.mark.parametrize("made", [saved_dict, cache, hub])
def test_splits(tmp_path: Path, made: Any) -> None:
    folder = made(tmp_path / "x")
    ds = mapix.open(folder)
    assert numbers(ds) == ds.columns["n"].values.tolist() == list(range(8))
    assert list(ds.splits) == ["train", "test"]
    assert all(Path(place).is_dir() for place in ds.splits.values())
    assert len(ds.parts) == 2
    assert numbers(mapix.open(folder, split="test")) == list(range(100, 104))
    with pytest.raises(ValueError, match="no split 'dev'; there are: train, test"):
        mapix.open(folder, split="dev")
    for again in (pickle.loads(pickle.dumps(ds[2:7])), ds[2:7].snapshot()):
        assert numbers(again) == [2, 3, 4, 5, 6]
        assert again.path == ds.path
        assert again.splits == ds.splits
    assert numbers(ds.where("n >= 4 and text != 't6'")) == [4, 5, 7]


def test_a_directory_without_splits(tmp_path: Path) -> None:
    folder = saved(tmp_path / "x", range(3), range(3, 4))
    ds = mapix.open(folder)
    assert numbers(ds) == [0, 1, 2, 3]
    assert ds.splits == {}
    assert ds.path == str(folder)
    with pytest.raises(ValueError, match="no split 'train'; there are: none"):
        mapix.open(folder, split="train")
    with pytest.raises(ValueError, match="is a file"):
        mapix.open(folder / "data-00000-of-00002.arrow", split="train")


def test_a_split_has_to_be_chosen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        arrow_file(tmp_path / f"{name}-00000-of-00001.parquet", range(3))
    with pytest.raises(ValueError, match="choose one of its splits by split=: a, b"):
        mapix.open(tmp_path)


def test_the_command_line_reads_all_splits(tmp_path: Path, capsys: Any) -> None:
    folder = saved_dict(tmp_path / "x")
    assert main(["verify", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(r["records"], r["ok"]) for r in found] == [(8, True), (4, True)]
    assert main(["diff", str(folder), str(folder)]) == 0
    assert main(["diff", str(folder), str(saved(tmp_path / "y", range(8)))]) == 2
    assert "y has no splits, the other one has train, test" in capsys.readouterr().err
    (folder / "test" / "data-00000-of-00001.arrow").write_bytes(b"")
    assert main(["verify", str(folder)]) == 1
    assert "data-00000-of-00001.arrow" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset_dict.json", "{", "is not JSON"),
        ("dataset_dict.json", "[]", "a JSON object expected"),
        ("dataset_dict.json", '{"splits": []}', "a list 'splits' expected"),
        ("dataset_dict.json", '{"splits": ["../x"]}', r"name of a file .* got '\.\./x'"),
        ("dataset_dict.json", '{"splits": ["other"]}', "other/state.json.*missing"),
        ("train/state.json", '{"_data_files": 3}', "a list '_data_files' expected"),
        ("train/state.json", '{"_data_files": [{"filename": 3}]}', "got 3"),
        ("train/state.json", '{"_data_files": [{"filename": ".."}]}', r"got '\.\.'"),
        ("train/state.json", '{"_data_files": [{"filename": "no.arrow"}]}', "no.arrow.*missing"),
    ],
)
def test_damaged_lists(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = saved_dict(tmp_path / "x")
    (folder / file).write_text(text)
    with pytest.raises(mapix.FormatError, match=message):
        mapix.open(folder)


@pytest.mark.parametrize("made", [cache, hub])
def test_a_missing_shard(tmp_path: Path, made: Any) -> None:
    folder = made(tmp_path / "x")
    (lost,) = folder.rglob("*train-00000-of-00002*")
    lost.unlink()
    with pytest.raises(mapix.FormatError, match=r"2 files of .*train expected, got .*00001"):
        mapix.open(folder)


def test_other_directories_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"splits": [], "name": "of TensorFlow"}')
    arrow_file(tmp_path / "mine.parquet", range(3))
    arrow_file(tmp_path / "mine.arrow", range(3))
    with pytest.raises(mapix.UnknownFormatError, match=r"open what is in it: .*mine\.arrow"):
        mapix.open(tmp_path)


def test_what_datasets_writes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"n": list(range(9))})
    whole.save_to_disk(str(tmp_path / "one"), num_shards=3)
    assert numbers(mapix.open(tmp_path / "one")) == list(range(9))
    assert len(mapix.open(tmp_path / "one").parts) == 3
    halves = whole.train_test_split(0.3, seed=1)
    halves.save_to_disk(str(tmp_path / "two"))
    for name in ("train", "test"):
        assert numbers(mapix.open(tmp_path / "two", split=name)) == halves[name]["n"]
    halves["train"].to_parquet(str(tmp_path / "train-00000-of-00001.parquet"))
    files = {"train": str(tmp_path / "train-00000-of-00001.parquet")}
    datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    (info,) = (tmp_path / "cache").rglob("dataset_info.json")
    assert numbers(mapix.open(info.parent)) == halves["train"]["n"]
