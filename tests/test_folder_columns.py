"""Image folders as datasets: columns, labels, facts, health, pickles, several as one."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.folder.record import HEADER_NBYTES, Record

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")


def encoded(h: int, w: int, format: str = "PNG", **options: Any) -> bytes:
    """A picture of h x w pixels, as the bytes of a file."""
    out = io.BytesIO()
    Image.fromarray(np.arange(h * w * 3, dtype=np.uint8).reshape(h, w, 3)).save(
        out, format, **options
    )
    return out.getvalue()


def made(folder: Path, lines: list[dict[str, Any]], files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metadata.jsonl").write_text(text)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


LINES = [
    {
        "file_name": "a.png",
        "caption": "a cat",
        "label": 3,
        "score": 0.5,
        "flag": True,
        "categories": ["cat", "dog"],
        "objects": {"bbox": [[0, 0, 1, 1], [1, 1, 1, 1]], "categories": ["cat", "tree"]},
        "other": {"a": 1},
    },
    {
        "file_name": "b.png",
        "caption": None,
        "label": None,
        "score": 2,
        "objects": {"bbox": [[0, 0, 1, 2]], "categories": ["cat"]},
    },
    {"file_name": "c.png", "label": 0, "flag": False, "categories": []},
]
FILES = {"a.png": encoded(2, 3), "b.png": encoded(4, 5), "c.png": encoded(6, 2)}


@pytest.fixture
def ds(tmp_path):
    return mapix.open(made(tmp_path / "f", LINES, FILES))


# --- columns --------------------------------------------------------------------------------------


def test_columns_are_the_fields_of_lines(ds):
    lines = ("caption", "label", "score", "flag")
    derived = ("width", "height", "object_categories", "object_count")
    assert tuple(ds.columns) == ("file_name", *lines, "categories", *derived)
    found = {name: (c.values.tolist(), c.present.tolist()) for name, c in ds.columns.items()}
    assert found == {
        "file_name": (["a.png", "b.png", "c.png"], [True] * 3),
        "caption": (["a cat", "", ""], [True, False, False]),
        "label": ([3, 0, 0], [True, False, True]),
        "score": ([0.5, 2.0, 0.0], [True, True, False]),
        "flag": ([True, False, False], [True, False, True]),
        "categories": ([("cat", "dog"), ("cat",), ()], [True] * 3),
        "width": ([3, 5, 2], [True] * 3),
        "height": ([2, 4, 6], [True] * 3),
        "object_categories": ([("cat", "tree"), ("cat",), ""], [True, True, False]),
        "object_count": ([2, 1, 0], [True, True, False]),
    }
    kinds = {name: column.values.dtype.kind for name, column in ds.columns.items()}
    assert (kinds["label"], kinds["score"], kinds["flag"], kinds["width"]) == ("i", "f", "b", "i")
    assert ds.columns["width"].unit == "pixels"


def test_conditions_on_columns(ds):
    assert ds.where("'cat' in categories and width > 3").rows.tolist() == [1]
    assert ds.where("'cat' in categories").rows.tolist() == [0, 1]
    assert ds.where("object_count == 1 or label == 0").rows.tolist() == []  # each lacks one of them
    assert ds.where("score >= 0.5")[::-1].columns["height"].values.tolist() == [4, 2]
    assert ds.sort_by("height", descending=True).columns["file_name"].values[0] == "c.png"
    assert ds[1:].columns["label"].present.tolist() == [False, True]
    assert ds[[2, 0]].weights().tolist() == [1.0, 1.0]


def test_parts_take_columns_of_the_file_where_they_are_known(ds, monkeypatch):
    part = ds[[2, 0]].columns["label"].values.tolist()  # of their own lines
    assert ds.columns["label"].values.tolist() == [3, 0, 0]
    monkeypatch.setattr(Record, "metadata", property(lambda _: pytest.fail("a line is parsed")))
    assert ds[[2, 0]].columns["label"].values.tolist() == part == [0, 3]


def test_a_key_after_the_first_lines_is_no_column(tmp_path):
    lines = [{"file_name": "a.png", "k": k} for k in range(300)]
    lines[255]["last"] = 1
    lines[256]["late"] = 1
    ds = mapix.open(made(tmp_path / "f", lines, {}))
    assert "last" in ds.columns
    assert "late" not in ds.columns
    assert ds.column("late")[256] == 1
    assert ds.columns["k"].values.tolist() == list(range(300))


def test_names_of_columns_survive_a_damaged_line(tmp_path):
    folder = made(tmp_path / "f", LINES, FILES)
    with open(folder / "metadata.jsonl", "ab") as f:
        f.write(b'{"file_name": \n')
    ds = mapix.open(folder)
    assert "caption" in ds.columns
    with pytest.raises(mapix.FormatError, match=r"metadata\.jsonl: .*line 4"):
        _ = ds.columns["caption"]


def test_sizes_in_lines_are_not_searched_in_files(tmp_path):
    lines = [{"file_name": "a.png", "width": 7, "height": 9}, {"file_name": "b.png", "width": 8}]
    ds = mapix.open(made(tmp_path / "f", lines, {}))
    assert ds.columns["width"].values.tolist() == [7, 8]
    assert ds.columns["height"].present.tolist() == [True, False]
    other = mapix.open(made(tmp_path / "g", [{"file_name": "a.png"}], {}))
    with pytest.raises(FileNotFoundError):
        _ = other.columns["width"]


def test_columns_are_the_same_without_orjson(tmp_path, monkeypatch):
    pytest.importorskip("orjson")
    values = [1, -(1 << 63), 1 << 64, 1e-300, 0.1, 3.0, "x", "é", [1, 2], [0.5], True, None]
    lines = [{"file_name": f"{k}.png", "v": v, f"k{k}": v} for k, v in enumerate(values)]
    folder = made(tmp_path / "f", lines, {})
    found = [mapix.open(folder).columns]
    monkeypatch.setattr("mapix.folder.metadata_file._quick_parser", lambda: None)
    found.append(mapix.open(folder).columns)
    for name in ("v", *(f"k{k}" for k in range(len(values)))):
        one, two = (columns[name] for columns in found)
        assert one.values.dtype == two.values.dtype
        assert one.values.tolist() == two.values.tolist()
        assert one.present.tolist() == two.present.tolist()


@pytest.mark.parametrize("turn", [True, False])
def test_the_header_of_a_jpeg_is_enough(tmp_path, monkeypatch, turn):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(1).integers(0, 256, (400, 300, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=95, exif=exif)
    assert len(out.getvalue()) > HEADER_NBYTES
    folder = made(tmp_path / "f", [{"file_name": "a.jpg"}], {"a.jpg": out.getvalue()})
    ds = mapix.open(folder, orientation=turn)
    assert ds[0].shape == ds[0].image.shape == ((300, 400, 3) if turn else (400, 300, 3))
    monkeypatch.setattr(Record, "read", lambda _: pytest.fail("all of the file is read"))
    assert ds[0].shape[0] == (300 if turn else 400)


def test_a_header_beyond_the_first_bytes_is_found(tmp_path):
    profile = bytes(3 * HEADER_NBYTES)
    files = {"a.jpg": encoded(6, 4, "JPEG", icc_profile=profile)}
    files["b.tif"] = encoded(150, 160, "TIFF")
    assert all(len(data) > HEADER_NBYTES for data in files.values())
    ds = mapix.open(made(tmp_path / "f", [{"file_name": n} for n in files], files))
    assert [r.shape for r in ds] == [(6, 4, 3), (150, 160, 3)]


# --- labels ---------------------------------------------------------------------------------------


def test_whole_numbers_are_labels(ds, monkeypatch):
    for unit in ("raw", "class"):
        batch = ds.batch([1, 0, 2], pad=True, labels=unit)
        assert batch.labels.tolist() == [[-1], [3], [0]]
        assert batch.labels.dtype == np.int64
        assert batch.present.tolist() == [[False], [True], [True]]
        assert batch.names == ("label",)
    assert ds.batch([0], labels=None).labels is None
    values, present, names = ds[[2, 0]].label_array()
    assert (values.tolist(), present.all(), names) == ([[0], [3]], True, ("label",))
    monkeypatch.setattr(
        "mapix.folder.metadata_file.MetadataFile.quick_metadata",
        lambda _: pytest.fail("all lines are read"),
    )
    assert ds.batch([0]).labels.tolist() == [[3]]
    assert next(iter(ds.batches(1))).labels.tolist() == [[3]]


def test_texts_are_classes_in_their_order(tmp_path):
    lines = [{"file_name": "a.png", "label": v} for v in ("zebra", "ant", None, "cat", "ant")]
    ds = mapix.open(made(tmp_path / "f", lines, FILES))
    assert ds.batch([0, 1, 2]).labels[:2].tolist() == [["zebra"], ["ant"]]
    batch = ds[1:].batch([0, 1, 2, 3], labels="class")
    assert batch.labels.tolist() == [[0], [-1], [1], [0]]
    assert batch.labels.dtype == np.int64
    values, present, _ = ds.label_array("class")
    assert values.tolist() == [[2], [0], [-1], [1], [0]]
    assert present.sum() == 4


def test_other_labels(tmp_path):
    lines = [{"file_name": "a.png", "label": v} for v in (1.5, 2.0)]
    ds = mapix.open(made(tmp_path / "f", lines, FILES))
    assert ds.batch([1]).labels.tolist() == [[2.0]]
    with pytest.raises(mapix.UnsupportedError, match="not class numbers"):
        ds.batch([1], labels="class")
    with pytest.raises(ValueError, match="labels must be one of class, raw or None"):
        ds.batch([1], labels="physical")
    # text after 256 numbers: the column is text, and so are the labels of batches that have it
    lines = [{"file_name": "a.png", "label": 1} for _ in range(256)] + lines
    late = mapix.open(made(tmp_path / "g", lines, FILES))
    assert late.batch([0]).labels.dtype == np.int64
    assert late.batch([0, 256]).labels.tolist() == [[1.0], [1.5]]
    without = mapix.open(made(tmp_path / "h", [{"file_name": "a.png"}], FILES))
    assert without.batch([0]).labels is None
    assert without.label_array() is None


# --- facts and health -----------------------------------------------------------------------------


def splits(tmp_path: Path) -> Path:
    for name in ("train", "test"):
        made(tmp_path / "d" / name, LINES, FILES)
    return tmp_path / "d"


def test_facts_are_plain_data(tmp_path):
    ds = mapix.open(splits(tmp_path), split="test")
    facts = json.loads(json.dumps(ds.describe()))
    assert facts["format"] == "folder"
    assert facts["records"] == 3
    assert facts["split"] == ds.split_name == "test"
    assert facts["folder"] == str(tmp_path / "d" / "test")
    assert facts["splits"] == {n: str(tmp_path / "d" / n) for n in ("train", "test")}
    assert {"name": "label", "label": True} in facts["columns"]
    assert facts["metadata_nbytes"] == (tmp_path / "d" / "test" / "metadata.jsonl").stat().st_size


def test_explain_states_what_is_read_and_decoded(ds):
    found = ds.explain(1)
    assert found["reads_nbytes"] == len(FILES["b.png"])
    assert found["copies_nbytes"] == len(FILES["b.png"]) + 4 * 5 * 3
    assert found["decodes"] == "PNG by Pillow"
    found = ds.explain(batch=[0, 1], size=(7, 6), fit="resize", dtype="float32", mean=[0.5] * 3)
    read = len(FILES["a.png"]) + len(FILES["b.png"])
    assert found["reads_nbytes"] == read
    assert found["copies_nbytes"] == read + 2 * 7 * 6 * 3 * 4
    assert found["converts"] == "to float32"
    assert "scaled (resize, bilinear)" in found["how"]
    with pytest.raises(TypeError, match="sise"):
        ds.explain(batch=[0], sise=(7, 6))


def test_verify_checks_all_splits(tmp_path):
    folder, calls = splits(tmp_path), []
    (folder / "train" / "b.png").unlink()
    with open(folder / "test" / "metadata.jsonl", "a") as f:
        f.write('{"file_name": "d.png"}\n')
    report = mapix.open(folder, split="test").verify(lambda *a: calls.append(a))
    findings = [(f.code, Path(f.path).parent.name, f.line) for f in report.findings]
    assert ("missing", "train", 2) in findings
    assert ("missing", "test", 4) in findings
    assert report.nrecords == 7
    assert calls[-1] == (7, 7)
    assert len(mapix.folder.lint(folder).findings) == len(findings)
    only = mapix.folder.lint(folder, split="train")
    assert (only.nrecords, {Path(f.path).parent.name for f in only.findings}) == (3, {"train"})


def test_warm_reads_each_file_once(tmp_path):
    lines = [{"file_name": name} for name in ("a.png", "b.png", "a.png")]
    ds, calls = mapix.open(made(tmp_path / "f", lines, FILES)), []
    ds.warm(lambda *a: calls.append(a))
    total = ds.metadata_file.source.nbytes + len(FILES["a.png"]) + len(FILES["b.png"])
    assert calls[-1] == (total, total)
    calls.clear()
    ds[:1].warm(lambda *a: calls.append(a))
    assert calls[-1][1] == total - len(FILES["b.png"])


def test_statistics_of_pixels_and_fields(tmp_path):
    ds = mapix.open(made(tmp_path / "f", LINES, FILES))
    found = ds.statistics()
    pixels = np.concatenate([r.image.reshape(-1, 3) for r in ds])
    np.testing.assert_allclose(found.pixels.mean, pixels.mean(axis=0))
    assert found.columns["width"].mean == pytest.approx(10 / 3)
    assert found.columns["caption"].missing == 2


# --- pickles, several folders ---------------------------------------------------------------------


def test_pickles_hold_the_split_and_its_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits(tmp_path)
    ds = mapix.open("d", split="test", orientation=False, max_pixels=999)[[2, 0]]
    stored = pickle.dumps((ds, ds[0], ds[1]))
    monkeypatch.chdir("/")
    again, one, two = pickle.loads(stored)
    assert again.split_name == "test"
    assert list(again.splits) == ["train", "test"]
    assert again.rows.tolist() == [2, 0]
    assert again.metadata_file.settings == ds.metadata_file.settings
    assert (one.index, two.caption) == (2, "a cat")
    assert one._file is two._file
    with open(tmp_path / "d" / "test" / "metadata.jsonl", "a") as f:
        f.write("{}\n")
    with pytest.raises(mapix.FileChangedError, match=r"test/metadata\.jsonl"):
        pickle.loads(stored)


def test_several_folders_as_one(tmp_path):
    folders = [made(tmp_path / n, LINES, FILES) for n in "ab"]
    ds, options = mapix.open(folders), {"size": (5, 4), "fit": "letterbox", "mode": "RGB"}
    one = mapix.open(folders[0])
    batch, want = ds.batch([4, 0, 2], **options), one.batch([1, 0, 2], **options)
    np.testing.assert_array_equal(batch.images, want.images)
    assert batch.labels.tolist() == [[-1], [3], [0]]
    assert [b.tolist() for b in batch.boxes] == [b.tolist() for b in want.boxes]
    assert [r.file_name for r in batch.records] == ["b.png", "a.png", "c.png"]
    assert sum(len(b) for b in ds.batches(4, threads=2, **options)) == 6
    assert ds.where("'dog' in categories").rows.tolist() == [0, 3]
    np.testing.assert_array_equal(
        ds.batch([0, 5], pad=True).images, one.batch([0, 2], pad=True).images
    )
    assert ds.verify().nrecords == 6
    again = pickle.loads(pickle.dumps(ds[[5, 1]]))
    assert [r.file_name for r in again] == ["c.png", "b.png"]
