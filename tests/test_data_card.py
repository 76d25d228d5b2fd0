"""opsml's data cards: the document's example in full, every kind of data, hostile files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.compat.opsml import (
    CardInfo,
    DataCard,
    DataSplit,
    ImageDataset,
    ImageMetadata,
    ValidationError,
)
from test_compat_opsml import documents_example

SPLITS = [
    {"label": "train", "column_name": "foo", "column_value": 6, "inequality": "<"},
    DataSplit(label="test", column_name="foo", column_value=6),
    DataSplit(label="some", indices=[4, 0]),
    DataSplit(label="first", start=0, stop=3),
]
COLUMNS = {"foo": [1, 2, 3, 4, 5, 6], "bar": list("abcdef"), "y": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]}


def test_the_documents_example_to_its_last_line(tmp_path, monkeypatch):
    """As printed there, but for the package's name, and with arguments in place of kwargs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images" / "more").mkdir(parents=True)
    (tmp_path / "my_images" / "0001.png").write_bytes(b"picture")
    (tmp_path / "my_images" / "more" / "x.txt").write_bytes(b"")
    kwargs = {"name": "pictures", "repository": "mlops", "contact": "a@b.c", "version": "1.0.0"}
    record, image_dataset = documents_example()

    # Create DataCard
    card = DataCard(
        data = image_dataset,
        **kwargs
    )  # fmt: skip

    assert card.data is image_dataset
    written = Path("my_images/metadata.jsonl").read_bytes()
    Path("my_images/metadata.jsonl").write_bytes(b"older\n")  # the card has the objects' records
    card.save("card")
    shutil.rmtree("my_images")
    loaded = DataCard.load("card")
    assert {key: getattr(loaded, key) for key in kwargs} == kwargs
    loaded.load_data()
    assert loaded.data.image_dir == os.path.join("card", "images")
    assert Path("card/images/metadata.jsonl").read_bytes() == written
    assert Path("card/images/0001.png").read_bytes() == b"picture"
    assert Path("card/images/more/x.txt").read_bytes() == b""
    assert loaded.data.open()[0].metadata == record.model_dump()
    with pytest.raises(ValidationError, match=r"data.open\(\)"):
        loaded.split_data()
    DataCard(data=ImageDataset(image_dir="card/images", metadata="metadata.jsonl")).save("again")
    assert DataCard.load("again").data.metadata == "metadata.jsonl"
    assert Path("again/images/metadata.jsonl").read_bytes() == written


def tables(kind: str):
    """Return a table of six rows, and a function that returns its columns as lists."""
    if kind == "pandas":
        pandas = pytest.importorskip("pandas", reason="needs pandas")
        return pandas.DataFrame(COLUMNS, index=list("uvwxyz")), lambda t: t.to_dict("list")
    if kind == "polars":
        polars = pytest.importorskip("polars", reason="needs polars")
        return polars.DataFrame(COLUMNS), lambda t: t.to_dict(as_series=False)
    return pytest.importorskip("pyarrow").table(COLUMNS), lambda t: t.to_pydict()


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_tables(kind, tmp_path):
    pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'mapix[arrow]'")
    table, plain = tables(kind)
    info = CardInfo(name="data", team="mlops", user_email="user@mlops.com")
    card = DataCard(info=info, data=table, data_splits=SPLITS, dependent_vars=["y"])
    card.save(tmp_path / "card")
    assert sorted(os.listdir(tmp_path / "card")) == ["card.json", "data.parquet", "indices-2.npy"]
    loaded = DataCard.load(tmp_path / "card")
    assert (loaded.name, loaded.repository, loaded.contact) == ("data", "mlops", "user@mlops.com")
    assert kind in repr(loaded)
    assert type(loaded.data) is type(table)
    assert plain(loaded.data) == COLUMNS
    if kind == "pandas":
        assert list(loaded.data.index) == list("uvwxyz")
        assert loaded.data.dtypes.equals(table.dtypes)
    for splits in (card.split_data(), loaded.split_data()):
        wanted = {"train": [0, 1, 2, 3, 4], "test": [5], "some": [4, 0], "first": [0, 1, 2]}
        for label, rows in wanted.items():
            found = getattr(splits, label)
            left = {name: [COLUMNS[name][k] for k in rows] for name in ("foo", "bar")}
            assert plain(found.X) == left
            assert plain(found.y) == {"y": [COLUMNS["y"][k] for k in rows]}
    bad = DataCard(data=table, splits=[{"label": "a", "column_name": "fool", "column_value": 1}])
    with pytest.raises(ValidationError, match="no column 'fool'; there are foo, bar, y"):
        bad.split_data()


ARRAYS = [
    np.arange(24, dtype="<i2").reshape(6, 4),
    np.asfortranarray(np.arange(24, dtype=">f8").reshape(6, 4)),
    np.array(7.5),
    np.zeros((0, 3), "u1"),
    np.zeros(3, [("é", "<i4"), ("b", "S3")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: str(a.dtype))
def test_arrays(array, tmp_path):
    DataCard(data=array).save(tmp_path / "card")
    found = DataCard.load(tmp_path / "card").data
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


def test_splits_of_an_array(tmp_path):
    array = np.arange(24).reshape(6, 4)
    splits = [
        DataSplit(label="train", column_name=0, column_value=np.int64(8), inequality=">="),
        {"label": "test", "indices": np.array([5, 5], "u1")},
        {"label": "none", "indices": []},
        {"label": "rest", "start": 4, "stop": 6},
    ]
    DataCard(data=array, splits=splits, dependent_vars=[3, 1]).save(tmp_path / "card")
    found = DataCard.load(tmp_path / "card").split_data()
    for label, rows in {"train": [2, 3, 4, 5], "test": [5, 5], "none": [], "rest": [4, 5]}.items():
        split = getattr(found, label)
        np.testing.assert_array_equal(split.X, array[rows][:, [0, 2]])
        np.testing.assert_array_equal(split.y, array[rows][:, [3, 1]])
    plain = DataCard(data=array, splits=[{"label": "a", "stop": 2}]).split_data().a
    assert plain.y is None
    np.testing.assert_array_equal(plain.X, array[:2])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"data": [1, 2]}, "an ImageDataset, an array of numpy, .* got list"),
        ({"data": np.ma.zeros(3)}, "got MaskedArray"),
        ({"version": "one"}, "version: as 1.2.0 expected, got 'one'"),
        ({"name": 3}, "name: text expected, got int"),
        ({"info": {}}, "info: a CardInfo expected, got dict"),
        ({"tags": {"a": 1}}, "tags: texts expected"),
        ({"dependent_vars": [1.5]}, "dependent_vars: names or numbers"),
        ({"splits": [3]}, "splits: a DataSplit or a dict expected, got int"),
        ({"splits": [{"label": "a", "rows": 3}]}, r"splits: unknown \['rows'\]"),
        ({"splits": [{"stop": 3}]}, "splits: label is missing"),
        ({"splits": [{"label": "a"}]}, "split 'a': one of column_name"),
        ({"splits": [{"label": "a", "stop": 1, "indices": [0]}]}, "split 'a': one of"),
        ({"splits": [{"label": "a", "stop": 1, "start": 2}]}, "0 <= start <= stop"),
        ({"splits": [{"label": "a", "stop": True}]}, "whole numbers"),
        ({"splits": [{"label": "a", "indices": [0.5]}]}, "whole numbers"),
        ({"splits": [{"label": "a", "indices": [3, -1]}]}, "index -1 is below 0"),
        ({"splits": [{"label": "a", "stop": 1}] * 2}, "two have one label"),
        (
            {"splits": [{"label": "a", "column_name": "x", "column_value": 1, "inequality": "in"}]},
            "inequality 'in' is not of == != < <= > >=",
        ),
        ({"splits": [{"label": "a", "column_name": "x"}]}, "column_value: text or a number"),
    ],
)
def test_values_that_do_not_fit(values, reason):
    with pytest.raises(ValidationError, match=reason):
        DataCard(**values)


def test_splits_that_do_not_fit_the_data():
    array = np.zeros((3, 2))
    for split, reason in (
        ({"indices": [0, 3]}, "row 3 of 3"),
        ({"stop": 4}, "up to row 4 of 3"),
        ({"column_name": 2, "column_value": 1}, "no column 2; there are 0, 1"),
    ):
        with pytest.raises(ValidationError, match=f"split 'a': .*{reason}"):
            DataCard(data=array, splits=[{"label": "a", **split}]).split_data()
    with pytest.raises(ValidationError, match="splits: the card has none"):
        DataCard(data=array).split_data()


def test_what_cannot_be_saved_leaves_nothing(tmp_path):
    objects = np.array([1, "a", None], object)
    with pytest.raises(ValidationError, match="Python objects"):
        DataCard(data=objects).save(tmp_path / "card")
    (tmp_path / "pictures").mkdir()
    os.symlink("/etc/hostname", tmp_path / "pictures" / "0.png")
    images = ImageDataset(image_dir=str(tmp_path / "pictures"), metadata=ImageMetadata(records=[]))
    with pytest.raises(ValidationError, match=r"0.png: a link or a device"):
        DataCard(data=images).save(tmp_path / "card")
    os.unlink(tmp_path / "pictures" / "0.png")
    with pytest.raises(ValidationError, match="within its own pictures"):
        DataCard(data=images).save(tmp_path / "pictures" / "card")
    assert os.listdir(tmp_path) == ["pictures"]
    assert os.listdir(tmp_path / "pictures") == []
    DataCard(name="empty").save(tmp_path / "card")
    assert DataCard.load(tmp_path / "card").data is None
    with pytest.raises(FileExistsError):
        DataCard().save(tmp_path / "card")


class Bomb:
    executed = False

    def __reduce__(self):
        return setattr, (Bomb, "executed", True)


def changed(folder: Path, **values) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | values))


def test_hostile_cards(tmp_path):
    folder = tmp_path / "card"
    DataCard(data=np.arange(6), splits=[{"label": "a", "indices": [1]}]).save(folder)
    good = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(reason: str, read=lambda card: card.data) -> None:
        with pytest.raises((mapix.FormatError, mapix.LimitError), match=reason):
            read(DataCard.load(folder))
        for name, data in good.items():
            (folder / name).write_bytes(data)

    header = good["data.npy"]
    (folder / "data.npy").write_bytes(header.replace(b"(6,)", b"(9" + b"9" * 14 + b",)")[:176])
    refused(r"data.npy: ")
    (folder / "data.npy").write_bytes(header + b"more")
    refused(r"data.npy: 180 bytes, 176 expected")
    for name in ("data.npy", "indices-0.npy"):
        with open(folder / name, "wb") as out:
            np.save(out, np.array([Bomb()], object), allow_pickle=True)
        refused(f"{name}: not an array")
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        refused(f"{name}: not an array")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(mapix.FormatError, match=f"{name}: a file of the card is missing"):
            DataCard.load(folder).load_data()
        (folder / name).unlink()
        (folder / name).write_bytes(good[name])
    assert not Bomb.executed
    for text, reason in (
        (b"{", "not JSON"),
        (b"[]", "an object of JSON expected, got list"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "the file of a data card expected"),
        (b" " * ((16 << 20) + 1), "larger than the limit"),
    ):
        (folder / "card.json").write_bytes(text)
        refused(reason)
    for values, reason in (
        ({"format_version": 2}, "version 2 is not known"),
        ({"data": {"kind": "../x"}}, "kind 'images'|kind images"),
        ({"data": {"kind": ["numpy"]}}, "card.json: "),
        ({"data": {"kind": "images"}}, "name of the metadata file"),
        ({"splits": [{"label": "a", "indices": "/etc/passwd", "start": {}}]}, "start with stop"),
        ({"splits": {}}, "card.json: "),
        ({"dependent_vars": None}, "card.json: "),
        ({"name": []}, "name: text expected"),
    ):
        changed(folder, **values)
        refused(reason)
    changed(folder, data={"kind": "images", "metadata": "../../x.jsonl"})
    (folder / "images").mkdir()
    with pytest.raises(ValidationError, match=r"name of a .jsonl file"):
        DataCard.load(folder).load_data()


def test_a_hostile_table(tmp_path):
    pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'mapix[arrow]'")
    table, _ = tables("pyarrow")
    DataCard(data=table).save(tmp_path / "card")
    (tmp_path / "card" / "data.parquet").write_bytes(b"PAR1 not a table PAR1")
    with pytest.raises(mapix.FormatError, match=r"data.parquet: not a Parquet table"):
        DataCard.load(tmp_path / "card").load_data()


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(mapix.UnsupportedError, match=r"pip install 'mapix\[arrow\]'"):
        DataCard(data=pandas.DataFrame(COLUMNS)).save(tmp_path / "card")
    assert os.listdir(tmp_path) == []
