"""Image folders without a metadata.jsonl: classes, tables, YOLO, and names of accented letters."""

from __future__ import annotations

import gc
import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix.folder import lint
from mapix.folder.yolo import class_names

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")


def put(folder: Path, *names: str, size: tuple[int, int] = (4, 3)) -> Path:
    """Write pictures whose first number is their place in ``names``."""
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.full((size[1], size[0], 3), 9, np.uint8)
        array[0, 0] = k
        Image.fromarray(array).save(path)
    return folder


def names_of(ds) -> list[str]:
    return [record.file_name for record in ds]


def imagefolder(folder: Path, cache: Path) -> tuple[dict, list[dict]]:
    """Features and rows, as Hugging Face's imagefolder finds them."""
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), cache_dir=str(cache), split="train"
    )
    rows = [{**row, "image": np.asarray(row["image"])} for row in found]
    features = dict(found.features)
    del found
    gc.collect()  # it leaves files open
    return features, rows


def firsts(ds) -> list[int]:
    return [int(record.image[0, 0, 0]) for record in ds]


# --- a folder per class ---------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path) -> Path:
    return put(
        tmp_path / "t", "dog/2.png", "cat/b.bmp", "dog/10.png", "cat/a.png", "cat/deep/0.png",
        "zebra/x.PNG", "cat/a-b/1.png",
    )  # fmt: skip


def test_sub_folders_are_classes_as_for_torchvision(tree):
    (tree / "cat" / "notes.txt").write_text("no picture")
    (tree / "cat" / ".hidden.png").write_bytes(b"")
    (tree / ".git").mkdir()
    ds = mapix.open(tree)
    # torchvision.datasets.ImageFolder(tree).samples: sorted(os.walk), names sorted as text
    walked = []
    for k, name in enumerate(("cat", "dog", "zebra")):
        for below, _, files in sorted(os.walk(tree / name)):
            walked += [
                (os.path.relpath(os.path.join(below, f), tree), k)
                for f in sorted(files)
                if f.lower().endswith((".png", ".bmp")) and f[0] != "."
            ]
    assert [(r.file_name, r.metadata["label"]) for r in ds] == walked
    assert ds.classes == ("cat", "dog", "zebra")
    assert ds.columns["label"].values.tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert len(ds.where("class_name == 'dog'")) == 2
    batch = ds.batch([0, 6], mode="RGB")
    assert batch.labels.tolist() == [[0], [2]]
    assert batch.labels.dtype == np.int64
    assert ds["dog/10.png"].image[0, 0, 0] == 2
    assert ds.path == str(tree)
    assert ds.describe()["classes"] == ["cat", "dog", "zebra"]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_hugging_face_reads_the_same_classes(tmp_path):
    put(tmp_path / "t", "b/1.png", "a/2.png", "b/0.png")
    features, rows = imagefolder(tmp_path / "t", tmp_path / "c")
    ds = mapix.open(tmp_path / "t")
    assert features["label"].names == list(ds.classes)
    theirs = sorted((int(row["image"][0, 0, 0]), row["label"]) for row in rows)
    assert sorted(zip(firsts(ds), ds.columns["label"].values.tolist(), strict=True)) == theirs


def test_folders_called_train_and_test_are_splits(tmp_path):
    put(tmp_path / "t", "train/a/0.png", "train/b/1.png", "test/a/2.png")
    put(tmp_path / "t", "test/b/0.png")
    ds = mapix.open(tmp_path / "t")
    assert ds.split_name == "train"
    assert list(ds.splits) == ["train", "test"]
    assert names_of(ds) == ["a/0.png", "b/1.png"]
    test = mapix.open(tmp_path / "t", split="test")
    assert names_of(test) == ["a/2.png", "b/0.png"]
    assert test.classes == ("a", "b")
    assert names_of(mapix.open(tmp_path / "t" / "test")) == names_of(test)
    again = pickle.loads(pickle.dumps(test))
    assert (again.split_name, names_of(again)) == ("test", names_of(test))
    assert ds.verify().ok
    with pytest.raises(ValueError, match="no split 'dev'; there are: train, test"):
        mapix.open(tmp_path / "t", split="dev")


def test_a_plain_folder_has_no_classes(tmp_path):
    ds = mapix.open(put(tmp_path / "t", "b.png", "a.jpg", "below/c.png"))
    assert names_of(ds) == ["a.jpg", "b.png", "below/c.png"]
    assert ds.classes == ()
    assert list(ds.columns) == ["file_name", "width", "height"]
    assert ds.columns["width"].values.tolist() == [4, 4, 4]
    assert ds.batch([1]).labels is None
    assert mapix.open(put(tmp_path / "u", "only/c.png", "only/d.png")).classes == ()


def test_a_folder_whose_pictures_changed_is_refused_by_pickles(tree):
    ds = mapix.open(tree)
    data, one = pickle.dumps(ds[2:4]), pickle.dumps(ds[3])
    assert names_of(pickle.loads(data)) == names_of(ds[2:4])
    assert pickle.loads(one).file_name == ds[3].file_name
    os.rename(tree / "dog" / "2.png", tree / "dog" / "3.png")
    with pytest.raises(mapix.FileChangedError, match="other pictures"):
        pickle.loads(data)
    with pytest.raises(FileNotFoundError, match=r"dog/2\.png"):
        _ = ds["dog/2.png"].image


def test_closed_and_shown(tree):
    ds = mapix.open(tree)
    assert "7 records" in repr(ds)
    assert ds._repr_html_().count("<img") == 7
    (tree / "dog" / "2.png").write_bytes(b"no picture")
    html = ds._repr_html_()  # one that is damaged does not hide the others
    assert html.count("<img") == 6
    assert html.count("not shown") > 0
    ds.warm()
    ds.close()
    assert "closed" in repr(ds)
    with pytest.raises(mapix.ClosedError):
        _ = ds[0].metadata


def test_links_out_of_the_folder_are_refused(tree, tmp_path):
    put(tmp_path, "secret.png")
    (tree / "dog" / "out.png").symlink_to(tmp_path / "secret.png")
    (tree / "loop").symlink_to(tree)
    ds = mapix.open(tree)
    assert ds.classes == ("cat", "dog", "zebra")
    with pytest.raises(mapix.FormatError, match=r"dog/out\.png.*leaves the folder"):
        _ = ds["dog/out.png"].image
    assert [f.code for f in lint(tree).findings] == ["refused"]


def test_nothing_is_written(tree):
    before = {p: p.stat().st_mtime_ns for p in tree.rglob("*")}
    ds = mapix.open(tree)
    ds.batch([0], mode="RGB")
    ds.verify()
    assert {p: p.stat().st_mtime_ns for p in tree.rglob("*")} == before


def test_folders_without_pictures_are_unknown(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.txt").write_text("x")
    with pytest.raises(mapix.UnknownFormatError, match="and no pictures"):
        mapix.open(tmp_path / "a")
    with pytest.raises(mapix.FormatError, match="and no pictures"):
        mapix.open(tmp_path / "a", format="folder")


def test_folders_that_are_nested_too_deeply(tmp_path):
    put(tmp_path / "t", "a/0.png", "b/" + "/".join("d" * 40) + "/0.png")
    with pytest.raises(mapix.LimitError, match="nested more than 32 deep"):
        mapix.open(tmp_path / "t")


def test_it_is_converted(tree, tmp_path):
    mapix.convert(tree, tmp_path / "out", to="folder")
    out = mapix.open(tmp_path / "out")
    ds = mapix.open(tree)
    assert names_of(out) == names_of(ds)
    assert [r.metadata["class_name"] for r in out] == [r.metadata["class_name"] for r in ds]


# --- tables ---------------------------------------------------------------------------------------

CSV = (
    "\ufefffile_name,label,text,mask_file_name,score,flag,zip\r\n"
    '0.png,3,"a ""cat"", and\r\na dog",1.png,0.5,True,007\r\n'
    "\r\n"
    "1.png,,,0.png,1e3,False,1x\r\n"
)


@pytest.fixture
def table(tmp_path) -> Path:
    put(tmp_path / "t", "0.png", "1.png")
    (tmp_path / "t" / "metadata.csv").write_bytes(CSV.encode())
    return tmp_path / "t"


def test_metadata_csv(table):
    ds = mapix.open(table)
    assert ds[0].metadata == {
        "file_name": "0.png",
        "label": 3,
        "text": 'a "cat", and\r\na dog',
        "mask_file_name": "1.png",
        "score": 0.5,
        "flag": True,
        "zip": "007",
    }
    assert ds[1].metadata["label"] is None
    assert ds[1].metadata["score"] == 1000.0
    assert [record.line for record in ds] == [2, 5]
    assert ds[0].file("mask_file_name").image[0, 0, 0] == 1
    assert mapix.open(table, key="mask_file_name")[0].image[0, 0, 0] == 1
    assert ds._annotations(0).caption == ds[0].metadata["text"]
    assert ds.columns["label"].present.tolist() == [True, False]
    assert names_of(mapix.open(table / "metadata.csv")) == ["0.png", "1.png"]
    assert names_of(pickle.loads(pickle.dumps(ds))) == names_of(ds)
    assert {f.code for f in ds.verify().findings} == {"duplicate"}  # two lines name each


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_hugging_face_reads_the_same_csv(table, tmp_path):
    (table / "metadata.csv").write_text(
        'file_name,label,text,score\n0.png,3,a cat,0.5\n1.png,4,"b, c",2\n'
    )
    _, rows = imagefolder(table, tmp_path / "c")
    ds = mapix.open(table)
    for row, record in zip(rows, ds, strict=True):
        np.testing.assert_array_equal(row.pop("image"), record.image)
        assert row == {k: v for k, v in record.metadata.items() if k != "file_name"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file_name,a\n0.png\n", "line 2: 2 values expected, got 1"),
        ("file_name\n0.png\n1.png,x\n", "line 3: 1 values expected, got 2"),
        ("file_name,a,a\n0.png,1,2\n", "line 1: the column 'a' occurs twice"),
        ('file_name\n"0.png\n', "line 2: unexpected end of data"),
        ("name\n0.png\n", r"a column file_name or \*_file_name expected; the columns: name"),
        ("", "the columns: none"),
    ],
)
def test_bad_csv(table, text, reason):
    (table / "metadata.csv").write_text(text)
    with pytest.raises(mapix.FormatError, match=reason) as e:
        mapix.open(table)
    assert str(table / "metadata.csv") in str(e.value)


def test_csv_that_is_not_utf_8(table):
    (table / "metadata.csv").write_bytes(b"file_name\n\xff.png\n")
    with pytest.raises(mapix.FormatError, match="at byte 10: not UTF-8"):
        mapix.open(table)


def test_names_in_a_table_stay_beneath_the_folder(table, tmp_path):
    put(tmp_path, "secret.png")
    (table / "metadata.csv").write_text("file_name\n../secret.png\n/etc/passwd\n9.png\n")
    ds = mapix.open(table)
    for row, word in ((0, "secret"), (1, "passwd")):
        with pytest.raises((mapix.FormatError, OSError), match=rf"line {row + 2}|{word}"):
            _ = ds[row].image
    found = [(f.code, f.line) for f in lint(table).findings if f.code != "unlisted"]
    assert found == [("refused", 2), ("refused", 3), ("missing", 4)]


def test_jsonl_is_read_before_tables(table):
    (table / "metadata.jsonl").write_text('{"file_name": "1.png"}\n')
    assert names_of(mapix.open(table)) == ["1.png"]


def test_metadata_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    put(tmp_path / "t", "0.png", "1.png")
    features = (
        b'{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    )
    made = pa.table(
        {
            "file_name": ["0.png", "1.png"],
            "label": [1, None],
            "objects": [{"bbox": [[1.0, 0, 2, 2]], "categories": [5]}, None],
            "image": [{"bytes": b"x", "path": "p"}, None],
        }
    ).replace_schema_metadata({b"huggingface": features})
    parquet.write_table(made, tmp_path / "t" / "metadata.parquet")
    ds = mapix.open(tmp_path / "t")
    assert ds.classes == ("cat", "dog")
    assert list(ds[0].metadata) == ["file_name", "label", "objects"]
    assert ds[0].objects.bbox.tolist() == [[1, 0, 2, 2]]
    assert ds.columns["label"].filled().tolist()[0] == 1
    assert ds.verify().ok
    (tmp_path / "t" / "metadata.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(mapix.FormatError, match="metadata.parquet[^$]*not a Parquet file"):
        mapix.open(tmp_path / "t")


# --- YOLO -----------------------------------------------------------------------------------------


def yolo(folder: Path, image: str, lines: str) -> Path:
    put(folder, f"images/{image}.png", size=(40, 20))
    path = folder / "labels" / f"{image}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines)
    return folder


def test_yolo(tmp_path):
    folder = yolo(tmp_path / "y", "a", "1 0.5 0.5 0.25 0.5\n\n7 0.1 0.2 0.2 0.4\n")
    yolo(folder, "b", "0 0.25 0.5 0.75 0.5 0.5 1.0\n")  # a polygon
    put(folder, "images/c.png")  # without boxes
    (folder / "classes.txt").write_text("cat\ndog\n")
    ds = mapix.open(folder)
    assert names_of(ds) == ["images/a.png", "images/b.png", "images/c.png"]
    assert ds.classes == ("cat", "dog")
    np.testing.assert_allclose(ds[0].objects.bbox, [[15, 5, 10, 10], [0, 0, 8, 8]], atol=1e-9)
    assert ds[0].objects.categories == ["dog", 7]
    assert ds[1].objects.bbox.tolist() == [[10, 10, 20, 10]]
    assert len(ds[2].objects) == 0
    assert ds.columns["object_count"].values.tolist() == [2, 1, 0]
    assert [len(b) for b in ds.batch([0, 1]).boxes] == [2, 1]
    assert ds.verify().ok
    assert names_of(pickle.loads(pickle.dumps(ds))) == names_of(ds)


def test_boxes_of_pictures_that_exif_turns(tmp_path):
    """Boxes are those of the picture as it is shown: 20 wide, 40 high."""
    folder = yolo(tmp_path / "y", "a", "0 0.5 0.25 1 0.5\n")
    os.unlink(folder / "images" / "a.png")
    picture = Image.fromarray(np.zeros((20, 40, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder / "images" / "a.jpg", exif=exif)
    ds = mapix.open(folder)
    assert ds[0].image.shape == (40, 20, 3)
    assert ds[0].objects.bbox.tolist() == [[0, 0, 20, 20]]
    as_stored = mapix.open(folder, orientation=False)
    assert as_stored[0].image.shape == (20, 40, 3)
    assert as_stored[0].objects.bbox.tolist() == [[0, 0, 40, 10]]


def test_splits_of_yolo_are_in_images_or_around_them(tmp_path):
    inside = yolo(yolo(tmp_path / "a", "train/x", "0 .5 .5 1 1\n"), "val/y", "")
    (inside / "data.yaml").write_text("names: [thing]\n")
    around = yolo(tmp_path / "b" / "train", "x", "0 .5 .5 1 1\n").parent
    yolo(around / "valid", "y", "")
    (around / "data.yaml").write_text("names:\n  0: thing\n")
    for folder, splits, name in (
        (inside, ["train", "val"], "images/train/x.png"),
        (around, ["train", "valid"], "images/x.png"),
    ):
        ds = mapix.open(folder)
        assert list(ds.splits) == splits
        assert names_of(ds) == [name]
        assert ds[0].objects.categories == ["thing"]
        assert ds[0].objects.bbox.tolist() == [[0, 0, 40, 20]]
        assert len(mapix.open(folder, split=splits[1])[0].objects) == 0
        assert pickle.loads(pickle.dumps(ds)).split_name == "train"
        assert ds.verify().nrecords == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x 0.5 0.5 1 1", "line 2: the number of a class expected, got 'x'"),
        ("0 0.5 0.5 1", "line 2: a class and 4 numbers, or a polygon, expected, got 4 values"),
        ("0 0.5 nan 1 1", "line 2: a number expected, got 'nan'"),
    ],
)
def test_bad_lines_of_yolo_name_file_and_line(tmp_path, line, reason):
    folder = yolo(tmp_path / "y", "a", f"0 0.5 0.5 1 1\n{line}\n")
    with pytest.raises(mapix.FormatError, match=reason) as e:
        _ = mapix.open(folder)[0].objects
    assert str(folder / "labels" / "a.txt") in str(e.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: ['a, b', \"c\", d]  # three\nnc: 3\n", ("a, b", "c", "d")),
        ("path: x\nnames:\n  - a  # first\n  - 'b # c'\nnc: 2\n", ("a", "b # c")),
        ("names:\n- a\n- b\n", ("a", "b")),
        ("names:\n  0: a\n  2: c\n\n  # no more\ntrain: x\n", ("a", "1", "c")),
        ("names: {0: a, 1: 'b'}\n", ("a", "b")),
        ("nc: 1\n", ()),
        ("names: [zoë]\n", ("zoë",)),
    ],
)
def test_names_in_yaml(tmp_path, text, names):
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    assert class_names(str(tmp_path)) == names
    try:
        import yaml
    except ImportError:
        return
    found = yaml.safe_load(text).get("names", [])
    found = dict(enumerate(found)) if isinstance(found, list) else found
    assert all(names[k] == name for k, name in found.items())


@pytest.mark.parametrize("text", ["names: &x\n", "names:\n  a: b\n", "names: {a}\n"])
def test_names_in_other_yaml_are_refused(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(mapix.FormatError, match=r"data\.yaml.*line [12]: a list of names"):
        class_names(str(tmp_path))
    (tmp_path / "data.yaml").write_text("names:\n  99999999: a\n")
    with pytest.raises(mapix.LimitError, match="more than 65536 classes"):
        class_names(str(tmp_path))


# --- accented letters -----------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_found_in_both_forms(tmp_path, named, stored):
    name = "höhe/naïve é.png"
    on_disk = unicodedata.normalize(stored, name)
    put(tmp_path / "t", on_disk)
    line = unicodedata.normalize(named, name)
    (tmp_path / "t" / "metadata.csv").write_text(f"file_name\n{line}\n", encoding="utf-8")
    ds = mapix.open(tmp_path / "t")
    assert ds[0].image.shape == (3, 4, 3)
    assert len(ds.find(on_disk)) == len(ds.find(line)) == 1
    assert lint(tmp_path / "t").ok
