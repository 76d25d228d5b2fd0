"""From any format to any other: the same numbers, or a refusal that says what would be lost."""

from __future__ import annotations

import json
import math
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mapix
import mapix.conversion.stream
import mapix.idx
import mapix.iid
import mapix.vimh
from conftest import GOLDEN
from mapix import FormatError, LossError, UnsupportedError
from slow_vimh import pack, read, record

VIMH = GOLDEN / "vimh"


def picture(i: int, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, shape).astype(np.uint8)


def mnist(folder: Path, n: int = 40, dtype: str = "u1", classes: int = 10) -> Path:
    """A directory as torchvision lays it out; made by struct's twin in numpy, not by mapix."""
    folder.mkdir()
    for name, count in (("train", n), ("t10k", n // 4)):
        images = np.stack([picture(i) for i in range(count)])
        labels = (np.arange(count) % classes).astype(f">{dtype}")
        code = {"u1": 8, "i2": 11, "i4": 12}[dtype]
        head = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = bytes([0, 0, code, 1]) + np.array([count], ">u4").tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(autouse=True, params=[1 << 20, 100], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", request.param)


# --- IDX and VIMH ---------------------------------------------------------------------------------


def test_a_pair_of_idx_files_becomes_a_dataset_with_one_head_and_back(tmp_path):
    source = mnist(tmp_path / "mnist")
    made = mapix.convert(source, tmp_path / "v", to="vimh")
    assert (made.records, made.lost) == ({"train": 40, "test": 10}, ())
    ds = mapix.open(tmp_path / "v")
    assert ds.heads == {"label": 10}
    np.testing.assert_array_equal(ds.images[:, :, :, 0], [picture(i) for i in range(40)])
    np.testing.assert_array_equal(ds.labels["label"].classes, np.arange(40) % 10)
    back = mapix.convert(tmp_path / "v", tmp_path / "back", to="idx")
    assert back.lost == ()
    assert files(tmp_path / "back") == files(source)


@pytest.mark.parametrize("classes", [2, 3, 10, 37, 100, 255, 256])
def test_every_class_number_comes_back(tmp_path, classes):
    source = mnist(tmp_path / "mnist", 300, classes=classes)
    mapix.convert(source, tmp_path / "v", to="vimh")
    ds = mapix.open(tmp_path / "v")
    np.testing.assert_array_equal(ds.labels["label"].classes, np.arange(300) % classes)


def test_one_file_and_its_byte_order(tmp_path):
    source = mnist(tmp_path / "mnist") / "train-images-idx3-ubyte"
    target = tmp_path / "some-images-idx3-ubyte"
    mapix.convert(source, target, byteorder="<")
    a = mapix.open(target)
    assert a.byteorder == "<"
    np.testing.assert_array_equal(a.view(), mapix.open(source).view())
    np.testing.assert_array_equal(a.labels.view(), np.arange(40) % 10)
    with pytest.raises(ValueError, match="labels have their place"):
        mapix.convert(source, tmp_path / "x.idx")
    with pytest.raises(LossError, match="label label"):
        mapix.convert(source, tmp_path / "x.idx", label=False)
    assert not (tmp_path / "x.idx").exists()
    mapix.convert(source, tmp_path / "x.idx", label=False, lossy=True)
    assert mapix.open(tmp_path / "x.idx").labels is None


def test_labels_without_a_place_are_refused(tmp_path):
    source = mnist(tmp_path / "mnist", 300, "i2", 300)
    with pytest.raises(UnsupportedError, match=r"class numbers 0..299"):
        mapix.convert(source, tmp_path / "v", to="vimh", lossy=True)
    assert os.listdir(tmp_path) == ["mnist"]


def test_heads_with_ranges_are_not_dropped_in_silence(tmp_path):
    note = mapix.vimh.Parameter("note", 0, min=50, max=52, step=0.5)
    loud = mapix.vimh.Parameter("loud", 1, min=0, max=3, step=1)
    with mapix.vimh.Writer(tmp_path / "v", [note, loud], info={"sample_rate": 8000}) as out:
        for i in range(12):
            values = {"note": 50 + i % 5 / 2, "loud": i % 4}
            out.append(picture(i), values, spec_range=(-80.0, float(i)))
    target = tmp_path / "x-images-idx3-ubyte"
    with pytest.raises(ValueError, match="label= has to name one of note, loud"):
        mapix.convert(tmp_path / "v" / "train", target)
    with pytest.raises(LossError) as caught:
        mapix.convert(tmp_path / "v" / "train", target, label="note")
    assert caught.value.lost == (
        "spec_min and spec_max of the records",
        "what the info JSON says: sample_rate",
        "label loud",
        "name, range and classes of label note",
    )
    assert not target.exists()
    made = mapix.convert(tmp_path / "v" / "train", target, label="note", lossy=True)
    assert made.lost == caught.value.lost
    assert "lost: label loud" in str(made)
    expected = mapix.open(tmp_path / "v").labels["note"].classes
    np.testing.assert_array_equal(mapix.open(target).labels.view(), expected)
    raw = tmp_path / "raw-images-idx3-ubyte"
    mapix.convert(tmp_path / "v" / "train", raw, label="note", unit="raw", lossy=True)
    codes = mapix.open(tmp_path / "v").labels["note"].codes
    np.testing.assert_array_equal(mapix.open(raw).labels.view(), codes)


def test_colour_pictures_need_axes_on_the_way_back(tmp_path):
    with mapix.vimh.Writer(tmp_path / "v") as out:
        for i in range(7):
            out.append(picture(i, (4, 5, 3)))
    mapix.convert(tmp_path / "v" / "train", tmp_path / "x.idx")
    assert mapix.open(tmp_path / "x.idx").shape == (7, 4, 5, 3)
    with pytest.raises(UnsupportedError, match="axes="):
        mapix.convert(tmp_path / "x.idx", tmp_path / "w", to="vimh")
    mapix.convert(tmp_path / "x.idx", tmp_path / "w", to="vimh", axes="HWC")
    assert (tmp_path / "w" / "train").read_bytes() == (tmp_path / "v" / "train").read_bytes()


def test_colour_pictures_with_labels_in_a_directory(tmp_path):
    label = mapix.vimh.Parameter("label", 0, min=0, max=4, step=1, num_classes=5)
    with mapix.vimh.Writer(tmp_path / "v", [label]) as out:
        for i in range(10):
            for split in ("train", "test"):
                out.append(picture(i, (4, 5, 3)), {"label": i % 5}, split=split)
    mapix.convert(tmp_path / "v", tmp_path / "i", to="idx")
    assert "t10k-images-idx4-ubyte" in files(tmp_path / "i")
    a = mapix.open(tmp_path / "i", split="test")
    assert a.shape == (10, 4, 5, 3)
    np.testing.assert_array_equal(a.labels.view(), np.arange(10) % 5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "int8"])
def test_other_numbers_become_bytes_only_when_they_are(tmp_path, dtype):
    whole = np.arange(60).reshape(3, 4, 5).astype(dtype)
    mapix.idx.write(tmp_path / "whole.idx", whole)
    assert mapix.convert(tmp_path / "whole.idx", tmp_path / "v", to="vimh").lost == ()
    np.testing.assert_array_equal(mapix.open(tmp_path / "v").images[..., 0], whole)
    less = (whole - 30) / 4 if whole.dtype.kind == "f" else whole - 30
    mapix.idx.write(tmp_path / "less.idx", less)
    with pytest.raises(LossError, match=f"numbers of {dtype}"):
        mapix.convert(tmp_path / "less.idx", tmp_path / "w", to="vimh")
    made = mapix.convert(tmp_path / "less.idx", tmp_path / "w", to="vimh", lossy=True)
    assert len(made.lost) == 1
    ds = mapix.open(tmp_path / "w")
    for i, image in enumerate(less):
        low, high = ds[i].spec_range
        assert (low, high) == (image.min(), image.max())
        step = (high - low) / 255
        np.testing.assert_allclose(low + ds[i].image[..., 0] * step, image, atol=step / 2 * 1.001)


# --- VIMH and VIMH --------------------------------------------------------------------------------


def mixed(folder: Path) -> Path:
    """Records of mixed sizes and labels, one id without a name."""
    folder.mkdir()
    records = [
        replace(
            record(2 + i % 3, 3, 1 + i % 2, [(i % 4, i), (5, 7)][: i % 3], seed=i),
            spec=(-1.0, i + 0.5),
        )
        for i in range(30)
    ]
    (folder / "train").write_bytes(pack(records))
    return folder


def test_records_of_any_sizes_and_labels(tmp_path):
    source = mixed(tmp_path / "m")
    mapix.convert(source, tmp_path / "v", to="vimh")
    assert (tmp_path / "v" / "train").read_bytes() == (source / "train").read_bytes()
    with pytest.raises(LossError, match="spec_min and spec_max"):
        mapix.convert(source, tmp_path / "six", to="vimh", dialect=6)
    mapix.convert(source, tmp_path / "six", to="vimh", dialect=6, lossy=True)
    six = mapix.open(tmp_path / "six")
    assert six.header_nbytes == 6
    for a, b in zip(six, mapix.open(source), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.labels == b.labels
    mapix.convert(tmp_path / "six", tmp_path / "fourteen", to="vimh")
    assert read((tmp_path / "fourteen" / "train").read_bytes(), 14) is not None
    assert mapix.open(tmp_path / "fourteen").header_nbytes == 14
    with pytest.raises(UnsupportedError, match="one shape"):
        mapix.convert(source, tmp_path / "p", to="vimh", output="pickle")


@pytest.mark.parametrize("name", ["generator_custom_32x32x3", "rgb_32x32x3_doc_example"])
def test_pickles_and_binary_files_of_the_original(tmp_path, name):
    source = VIMH / name
    if not (source / "train").exists():
        mapix.convert(source, tmp_path / "v", to="vimh")
        pickled, binary = mapix.open(source), mapix.open(tmp_path / "v")
        assert (pickled.header_nbytes, binary.header_nbytes) == (0, 14)
        np.testing.assert_array_equal(binary.images, pickled.images)
        np.testing.assert_array_equal(binary.label_bytes, pickled.label_bytes)
        return
    mapix.convert(source, tmp_path / "v", to="vimh", output="both")
    for file in ("train", "test", "train_batch", "test_batch"):
        assert (tmp_path / "v" / file).read_bytes() == (source / file).read_bytes()
    info = json.loads((tmp_path / "v" / "vimh_dataset_info.json").read_text())
    assert info == json.loads((source / "vimh_dataset_info.json").read_text())


def test_an_empty_split(tmp_path):
    mapix.convert(VIMH / "single_sample_train_empty", tmp_path / "v", to="vimh")
    assert (tmp_path / "v" / "train").read_bytes() == b""
    target = tmp_path / "x-images-idx3-ubyte"
    mapix.convert(tmp_path / "v" / "train", target, label=False, lossy=True)
    assert mapix.open(target).shape[0] == 0


def test_a_part_of_a_dataset(tmp_path):
    ds = mapix.open(mixed(tmp_path / "m"))
    part = ds[[5, 3, 3, 28]]
    mapix.convert(part, tmp_path / "v", to="vimh")
    made = mapix.open(tmp_path / "v")
    assert len(made) == 4
    for a, b in zip(made, part, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert len(ds) == 30  # still open
    mapix.convert(mapix.open([tmp_path / "m", tmp_path / "v"]), tmp_path / "both", to="vimh")
    assert len(mapix.open(tmp_path / "both")) == 34


# --- arrays and tables ----------------------------------------------------------------------------


def test_npz_holds_everything(tmp_path):
    source = VIMH / "rgb_32x32x3_doc_example"
    ds = mapix.open(source)
    made = mapix.convert(source, tmp_path / "x.npz", split="train")
    assert made.lost == ()
    with np.load(tmp_path / "x.npz") as z:
        np.testing.assert_array_equal(z["images"], ds.images)
        for name, p in ds.parameters.items():
            np.testing.assert_array_equal(z[f"label/{name}"], ds.labels[name].codes)
            assert z[f"present/{name}"].all()
            assert z[f"range/{name}"].tolist() == [p.min, p.max, p.step]
        np.testing.assert_array_equal(z["spec_range"], [r.spec_range for r in ds])
        assert json.loads(z["info.json"]) == ds.info
    again = mapix.open(tmp_path / "x.npz")
    assert list(again.columns) == list(ds.columns)
    for part, rows in ((again, ds), (pickle.loads(pickle.dumps(again[1:])), ds[1:])):
        for name, column in rows.columns.items():
            np.testing.assert_array_equal(part.columns[name].values, column.values)


def test_npz_with_one_label_opens_with_it(tmp_path):
    mapix.convert(mnist(tmp_path / "mnist"), tmp_path / "x.npz", split="train")
    ds, again = mapix.open(tmp_path / "mnist"), mapix.open(tmp_path / "x.npz")
    np.testing.assert_array_equal(again.batch([2, 0]).labels, ds.batch([2, 0]).labels)
    np.testing.assert_array_equal(again.columns["label"].values, ds.columns["label"].values)
    assert mapix.open(tmp_path / "x.npz", labels=False).labels is None


def test_npz_with_labels_that_do_not_fit(tmp_path):
    images, path = np.zeros((3, 2, 2), "u1"), tmp_path / "x.npz"
    for members, expected in (
        ({"label/a": np.zeros(2)}, r"label/a of shape \(3,\) expected, got \(2,\)"),
        ({"label/a": np.zeros(3), "present/a": np.ones((3, 2))}, r"present/a of shape \(3,\)"),
        ({"label/a": np.zeros(3), "range/a": np.arange(3)}, "range/a of three floats expected"),
    ):
        np.savez(path, images=images, **members)
        with pytest.raises(FormatError, match=expected):
            mapix.open(path)


def test_npz_of_mixed_sizes(tmp_path):
    source = mixed(tmp_path / "m")
    mapix.convert(source, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as z:
        pixels, offsets, shapes = z["images"], z["offsets"], z["shapes"]
    for i, r in enumerate(mapix.open(source)):
        assert tuple(shapes[i]) == r.image.shape
        image = pixels[offsets[i] : offsets[i + 1]].reshape(shapes[i])
        np.testing.assert_array_equal(image, r.image)
    with pytest.raises(UnsupportedError, match="images of mixed sizes back to back"):
        mapix.open(tmp_path / "x.npz")
    assert mapix.open(tmp_path / "x.npz", member="images").shape == pixels.shape


def test_npy_is_the_numbers_alone(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    mapix.idx.write(tmp_path / "x.idx", array)
    assert mapix.convert(tmp_path / "x.idx", tmp_path / "x.npy").lost == ()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), array)
    assert np.load(tmp_path / "x.npy").dtype == np.float32
    with pytest.raises(LossError, match="label label"):
        mapix.convert(mnist(tmp_path / "mnist"), tmp_path / "y.npy", split="train")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_tables(tmp_path, kind, encoding):
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    if encoding == "png":
        pytest.importorskip("PIL", reason="needs Pillow")
    source = VIMH / "rgb_32x32x3_doc_example"
    ds = mapix.open(source)
    path = tmp_path / f"x.{kind}"
    mapix.convert(source, path, split="train", encoding=encoding)
    if kind == "parquet":
        table = parquet.read_table(path)
    else:
        with pa.OSFile(str(path)) as f:
            table = pa.ipc.open_file(f).read_all()
    assert table.num_rows == len(ds)
    rows = table.to_pylist()
    for row, r in zip(rows, ds, strict=True):
        assert tuple(row["shape"]) == r.image.shape
        if encoding == "raw":
            image = np.frombuffer(row["image"], np.uint8).reshape(row["shape"])
        else:
            import io

            import PIL.Image

            image = np.asarray(PIL.Image.open(io.BytesIO(row["image"]["bytes"])))
        np.testing.assert_array_equal(image, r.image)
        for name in ds.parameters:
            assert row[f"{name}_code"] == r.labels[name]
            assert row[name] == pytest.approx(r.values[name])
        assert (row["spec_min"], row["spec_max"]) == r.spec_range
    about = json.loads(table.schema.metadata[b"mapix"])
    assert about["info"] == ds.info


def test_row_groups_are_collected_from_blocks(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    monkeypatch.setattr("mapix.conversion.stream.BLOCK_NBYTES", 1)  # a block for each row
    monkeypatch.setattr("mapix.conversion.tables.Parquet.group_nbytes", 400)  # 3 rows of 110 bytes
    array = np.random.default_rng(0).integers(0, 256, (10, 100), np.uint8)
    np.save(tmp_path / "x.npy", array)
    calls = []
    path = tmp_path / "x.parquet"
    mapix.convert(tmp_path / "x.npy", path, progress=lambda done, total: calls.append(done))
    about = parquet.ParquetFile(path).metadata
    groups = [about.row_group(k).num_rows for k in range(about.num_row_groups)]
    assert groups == [3, 3, 3, 1]
    assert calls[-1] == 10
    found = parquet.read_table(path).column("image").to_pylist()
    assert found == [row.tobytes() for row in array]
    monkeypatch.setattr("mapix.conversion.tables.Parquet.group_nbytes", 1)
    mapix.convert(tmp_path / "x.npy", tmp_path / "y.parquet")
    assert parquet.ParquetFile(tmp_path / "y.parquet").metadata.num_row_groups == 10


def test_labels_that_records_lack_are_null_in_tables(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    source = mixed(tmp_path / "m")
    mapix.convert(source, tmp_path / "x.parquet")
    ds = mapix.open(source)
    for row, r in zip(parquet.read_table(tmp_path / "x.parquet").to_pylist(), ds, strict=True):
        for name in ds.parameters:
            assert row[f"{name}_code"] == r.labels.get(name)
    with pytest.raises(UnsupportedError, match="PNG holds uint8 in 1, 3 or 4 channels, not .*npz"):
        mapix.convert(source, tmp_path / "y.parquet", encoding="png")


@pytest.mark.filterwarnings("ignore")
def test_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    source = mnist(tmp_path / "mnist")
    mapix.convert(source, tmp_path / "hf", to="huggingface")
    found = datasets.load_from_disk(str(tmp_path / "hf"))
    assert {k: len(v) for k, v in found.items()} == {"train": 40, "test": 10}
    for i in (0, 7, 39):
        row = found["train"][i]
        np.testing.assert_array_equal(np.asarray(row["image"]), picture(i))
        assert row["label"] == i % 10
    assert sorted(os.listdir(tmp_path)) == ["hf", "mnist"]


def test_a_segmentation_archive_as_a_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    from mapix.iid import coco

    rng = np.random.default_rng(4)
    with mapix.iid.Writer(tmp_path / "a.iid", meta={"who": "me"}) as out:
        masks = [rng.random((3 + i % 4, 5)) < 0.6 for i in range(20)]
        for i, mask in enumerate(masks):
            mask[0, 0] = mask[-1, -1] = True
            out.add("d", f"cell-{i}", mask, at=(i, 2 * i), groups=["even"] if i % 2 == 0 else [])
    mapix.convert(tmp_path / "a.iid", tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    about = json.loads(table.schema.metadata[b"mapix"])
    assert about["meta"] == {"who": "me"}
    rows = table.to_pylist()
    for i, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        assert (row["domain"], row["iid"]) == (b"d", f"cell-{i}".encode())
        assert row["groups"] == (["even"] if i % 2 == 0 else [])
        assert (row["minr"], row["minc"], row["area"]) == (i, 2 * i, mask.sum())
        found, box = coco.decode({"size": about["size"], "counts": row["rle"]})
        assert box == (row["minr"], row["minc"], row["maxr"], row["maxc"])
        np.testing.assert_array_equal(found, mask)
    with pytest.raises(UnsupportedError, match="parquet or arrow"):
        mapix.convert(tmp_path / "a.iid", tmp_path / "a.npz")


# --- manners --------------------------------------------------------------------------------------


def test_what_is_there_stays(tmp_path):
    source = mnist(tmp_path / "mnist")
    (tmp_path / "x.npz").write_text("mine")
    with pytest.raises(FileExistsError):
        mapix.convert(source, tmp_path / "x.npz", split="train")
    assert (tmp_path / "x.npz").read_text() == "mine"
    for to in ("vimh", "idx"):
        with pytest.raises(FileExistsError):
            mapix.convert(source, source, to=to)


def test_an_interruption_leaves_nothing(tmp_path):
    source = mnist(tmp_path / "mnist")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for name, options in (
        ("v", {"to": "vimh"}),
        ("i", {"to": "idx"}),
        ("x-images-idx3-ubyte", {"split": "train"}),
        ("x.npz", {"split": "train"}),
        ("x.npy", {"split": "train", "lossy": True}),
    ):
        with pytest.raises(KeyboardInterrupt):
            mapix.convert(source, tmp_path / name, progress=stop, **options)
        assert os.listdir(tmp_path) == ["mnist"], name


def test_progress_counts_records(tmp_path):
    source = mnist(tmp_path / "mnist")
    seen = []
    mapix.convert(source, tmp_path / "v", to="vimh", progress=lambda *a: seen.append(a))
    assert seen[-1] == (50, 50)
    assert seen == sorted(seen)


def test_what_is_misunderstood(tmp_path):
    source = mnist(tmp_path / "mnist")
    with pytest.raises(ValueError, match="to= has to name a format"):
        mapix.convert(source, tmp_path / "x")
    with pytest.raises(ValueError, match="to= has to be one of"):
        mapix.convert(source, tmp_path / "x", to="gif")
    with pytest.raises(ValueError, match="split= has to name one of train, test"):
        mapix.convert(source, tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError):
        mapix.convert(tmp_path / "nowhere", tmp_path / "x.npz")
    with pytest.raises(UnsupportedError, match="not images"):
        mapix.convert(source / "train-labels-idx1-ubyte", tmp_path / "v", to="vimh")


def test_a_loss_crosses_processes():
    import pickle

    error = LossError("x.idx", "idx", ("this", "that"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.lost) == (str(error), error.lost)


# --- PINK -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_through_pink_and_back(tmp_path, channels):
    with mapix.vimh.Writer(tmp_path / "v") as out:
        for i in range(9):
            out.append(picture(i, (6, 6, channels)))
    source = tmp_path / "v" / "train"
    assert mapix.convert(source, tmp_path / "x.bin").lost == ()
    data = mapix.open(tmp_path / "x.bin")
    assert (data.kind, data.version, data.dtype.str) == ("data", 2, "<f4")
    assert data.shape == ((9, 6, 6) if channels == 1 else (9, 3, 6, 6))
    mapix.convert(tmp_path / "x.bin", tmp_path / "w", to="vimh")
    assert (tmp_path / "w" / "train").read_bytes() == source.read_bytes()


def test_what_pink_has_no_place_for(tmp_path):
    source = mnist(tmp_path / "mnist")
    with pytest.raises(LossError) as caught:
        mapix.convert(source, tmp_path / "x.bin", split="train")
    assert caught.value.lost == ("label label",)
    mapix.idx.write(tmp_path / "x.idx", np.array([[[1 / 3]]]))
    with pytest.raises(LossError, match="digits of float64"):
        mapix.convert(tmp_path / "x.idx", tmp_path / "x.bin")
    mapix.convert(tmp_path / "x.idx", tmp_path / "x.bin", lossy=True, header=["a third"])
    assert mapix.open(tmp_path / "x.bin").header == ("# a third",)
    with pytest.raises(LossError, match="lines of comment"):
        mapix.convert(tmp_path / "x.bin", tmp_path / "x.npy")


@pytest.mark.parametrize("kind", ["som", "map", "rot"])
def test_pink_files_of_version_1_become_version_2(tmp_path, kind):
    name = {"som": "som_v1_cart_3x2", "map": "map_v1_cart_3x2", "rot": "rot_v1_cart_3x2"}[kind]
    source = GOLDEN / "pink" / f"{name}.bin"
    mapix.convert(source, tmp_path / "x.bin", opening={"kind": kind})
    old, new = mapix.open(source, kind=kind), mapix.open(tmp_path / "x.bin")
    assert (new.version, new.kind) == (2, kind)
    got, want = (a.batch(np.arange(len(a))).images.ravel() for a in (new, old))
    if kind == "rot":  # version 1 counted angles the other way round
        np.testing.assert_allclose((got["angle"] + want["angle"]) / math.tau, 1, atol=1e-6)
        got, want = got["flip"], want["flip"]
    np.testing.assert_array_equal(got, want)
    with pytest.raises(LossError, match="how its neurons lie"):
        mapix.convert(source, tmp_path / "x.npy", opening={"kind": kind})
    mapix.convert(source, tmp_path / "x.npy", opening={"kind": kind}, lossy=True)
    rows = old.batch(np.arange(len(old))).images
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), rows)


# --- VisualRBM ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["json", "npz", "safetensors"])
def test_models(tmp_path, end):
    if end == "safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors")
    source = GOLDEN / "visualrbm" / "tools" / "rbm_8x4_Sigmoid.json"
    model = mapix.open(source)
    made = mapix.convert(source, tmp_path / f"x.{end}")
    assert made.records == {"layers": 1}
    if end == "json":
        assert mapix.open(tmp_path / "x.json") == model
    elif end == "npz":
        np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["Weights"], model.weights)
    else:
        from safetensors.numpy import load_file

        np.testing.assert_array_equal(
            load_file(tmp_path / "x.safetensors")["Weights"], model.weights
        )
    with pytest.raises(UnsupportedError, match="a model becomes json, npz or safetensors"):
        mapix.convert(source, tmp_path / "v", to="vimh")
    with pytest.raises(UnsupportedError, match="are written of VisualRBM's models alone"):
        mapix.convert(mnist(tmp_path / "mnist"), tmp_path / f"y.{end}", split="train", to="json")


# --- image folders --------------------------------------------------------------------------------


def images_of(folder: Path, *, sizes: bool = False, channels: int = 3) -> Path:
    """A folder of PNG files with a category each."""
    pytest.importorskip("PIL", reason="needs Pillow")
    import mapix.folder

    with mapix.folder.Writer(folder) as out:
        for i in range(12):
            shape = (6 + i % 3 * sizes, 5, channels)
            out.append(
                f"sub/{i:02}.png",
                picture(i, shape[:2] if channels == 1 else shape),
                categories=[("cat", "dog", "bird")[i % 3]] if i != 5 else None,
                caption=f"picture {i}" if i % 2 else None,
            )
    return folder


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_folder_becomes_records(tmp_path, channels):
    source = images_of(tmp_path / "f", sizes=True, channels=channels)
    with pytest.raises(LossError) as caught:
        mapix.convert(source, tmp_path / "v", to="vimh")
    assert caught.value.lost == ("file names", "fields of the lines: caption")
    mapix.convert(source, tmp_path / "v", to="vimh", lossy=True, images={"threads": 2})
    ds = mapix.open(tmp_path / "v")
    assert ds.heads == {"category": 3}
    assert ds.parameters["category"].description == "bird, cat, dog"
    for i, r in enumerate(ds):
        expected = picture(i, (6 + i % 3, 5, channels))
        np.testing.assert_array_equal(r.image, expected)
        assert len(r.labels) == (i != 5)
    names = ["cat", "dog", "bird"]
    classes = ds.labels["category"].classes
    told = [None if c is np.ma.masked else ("bird", "cat", "dog")[c] for c in classes]
    assert told == [names[i % 3] if i != 5 else None for i in range(12)]


def test_pictures_of_other_sizes_are_fitted_when_told(tmp_path):
    source = images_of(tmp_path / "f", sizes=True)
    part = mapix.open(source)[[0, 1, 2, 3]]
    target = tmp_path / "x-images-idx4-ubyte"
    with pytest.raises(UnsupportedError, match="one shape"):
        mapix.convert(part, target, lossy=True)
    how = {"size": (8, 8), "fit": "resize", "mode": "RGB"}
    mapix.convert(part, target, lossy=True, images=how)
    a = mapix.open(target)
    np.testing.assert_array_equal(a.view(), part.batch(range(4), **how).images)
    np.testing.assert_array_equal(a.labels.view(), [1, 2, 0, 1])
    grey = tmp_path / "g-images-idx3-ubyte"
    mapix.convert(part, grey, lossy=True, images=how | {"mode": "L"})
    assert mapix.open(grey).shape == (4, 8, 8)


def test_folders_in_tables_and_arrays_lose_nothing(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    source = images_of(tmp_path / "f", sizes=True)
    made = mapix.convert(source, tmp_path / "x.parquet")
    assert made.lost == ()
    for i, row in enumerate(parquet.read_table(tmp_path / "x.parquet").to_pylist()):
        image = np.frombuffer(row["image"], np.uint8).reshape(row["shape"])
        np.testing.assert_array_equal(image, picture(i, (6 + i % 3, 5, 3)))
        assert row["file_name"] == f"sub/{i:02}.png"
        assert row["caption"] == (f"picture {i}" if i % 2 else None)
        assert row["category"] == ([1, 2, 0][i % 3] if i != 5 else None)
    mapix.convert(source, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as z:
        assert z["classes/category"].tolist() == ["bird", "cat", "dog"]
        lines = [json.loads(line) for line in z["records.jsonl"].splitlines()]
    assert lines[1] == {"file_name": "sub/01.png", "caption": "picture 1"}


def test_deep_pictures_and_others_in_one_folder(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow")
    deep = (np.arange(30).reshape(5, 6) * 2000).astype(np.uint16)
    with mapix.folder.Writer(tmp_path / "f") as out:
        out.append("a.png", picture(0, (5, 6)))
        out.append("b.png", deep)
    mapix.convert(tmp_path / "f", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as z:
        images = z["images"]
    assert images.dtype == np.uint16
    np.testing.assert_array_equal(images[0, :, :, 0], picture(0, (5, 6)))
    np.testing.assert_array_equal(images[1, :, :, 0], deep)
    with pytest.raises(LossError, match="numbers of uint16"):
        mapix.convert(tmp_path / "f", tmp_path / "v", to="vimh")
    with pytest.raises(UnsupportedError, match="no numbers of uint16"):
        mapix.convert(tmp_path / "f", tmp_path / "x.idx")


@pytest.mark.parametrize("name", ["x.npz", "v"])
def test_each_picture_is_decoded_once(tmp_path, monkeypatch, name):
    source = images_of(tmp_path / "f", sizes=True)
    from mapix.pictures import decoding

    decoded, decode = [], decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    to = None if "." in name else "vimh"
    mapix.convert(source, tmp_path / name, to=to, lossy=True)
    assert len(decoded) == 12


def test_records_become_an_image_folder(tmp_path):
    pytest.importorskip("PIL", reason="needs Pillow")
    source = mnist(tmp_path / "mnist")
    made = mapix.convert(source, tmp_path / "f", to="folder")
    assert (made.records, made.lost) == ({"train": 40, "test": 10}, ())
    ds = mapix.open(tmp_path / "f", split="test")
    for i, r in enumerate(ds):
        np.testing.assert_array_equal(r.image[..., 0], picture(i))
        assert r.metadata["label"] == i % 10
    note = mapix.vimh.Parameter("note", 0, min=50, max=52, step=0.5)
    with mapix.vimh.Writer(tmp_path / "v", [note]) as out:
        out.append(picture(0, (4, 5, 3)), {"note": 51.0}, spec_range=(-80.0, 0.0))
        out.append(picture(1, (5, 5, 3)))
    with pytest.raises(LossError, match="ranges of labels note"):
        mapix.convert(tmp_path / "v", tmp_path / "g", to="folder")
    mapix.convert(tmp_path / "v", tmp_path / "g", to="folder", split="train", lossy=True)
    one, two = mapix.open(tmp_path / "g")
    assert one.metadata["note_code"] == 127
    assert one.metadata["note"] == pytest.approx(51, abs=0.01)
    assert (one.metadata["spec_min"], "note" in two.metadata) == (-80.0, False)
    np.testing.assert_array_equal(two.image, picture(1, (5, 5, 3)))


def test_a_folder_through_vimh_and_back(tmp_path):
    source = images_of(tmp_path / "f", sizes=True)
    mapix.convert(source, tmp_path / "v", to="vimh", lossy=True)
    mapix.convert(tmp_path / "v" / "train", tmp_path / "g", to="folder", lossy=True)
    for a, b in zip(mapix.open(tmp_path / "g"), mapix.open(source), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


# --- the command ----------------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    from mapix.__main__ import main

    source = mnist(tmp_path / "mnist")
    assert main(["convert", str(source), str(tmp_path / "v"), "--to", "vimh"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'v'}: vimh, 50 records: 40 train, 10 test\n"
    target = str(tmp_path / "x.npy")
    assert main(["convert", str(source), target, "--split", "train"]) == 2
    assert "would lose: label label" in capsys.readouterr().err
    assert main(["convert", str(source), target, "--split", "train", "--lossy"]) == 0
    assert capsys.readouterr().out.endswith("lost: label label\n")
    target = str(tmp_path / "x-images-idx3-ubyte")
    args = ["--split", "train", "--byteorder", "little", "--label", "none", "--lossy"]
    assert main(["convert", str(source), target, *args]) == 0
    assert mapix.open(target).byteorder == "<"
    folder = images_of(tmp_path / "f", sizes=True)
    target = str(tmp_path / "y-images-idx3-ubyte")
    how = ["--size", "8x9", "--fit", "cover", "--mode", "L", "--threads", "2", "--label", "none"]
    assert main(["convert", str(folder), target, *how, "--lossy"]) == 0
    assert mapix.open(target).shape == (12, 8, 9)
    assert main(["convert", str(folder), target + "2", "--size", "8"]) == 3
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


def test_missing_labels_are_known_to_be_missing(tmp_path):
    """A conversion warns of none, and writes none: the source states which are missing."""
    from mapix.vimh import Parameter, Writer

    names = [Parameter("a", 0), Parameter("b", 1), Parameter("c", 2)]
    with Writer(tmp_path / "v", names) as out:
        for i in range(9):
            codes = {"a": i, "b": i if i % 2 else None, "c": None}
            out.append(np.full((2, 3), i, np.uint8), codes=codes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapix.convert(mapix.open(tmp_path / "v")[1:], tmp_path / "w", to="vimh")
    found = [r.labels for r in mapix.open(tmp_path / "w")]
    assert found == [{"a": i} | ({"b": i} if i % 2 else {}) for i in range(1, 9)]


def test_the_old_name_of_the_targets_warns():
    import mapix.conversion

    with pytest.warns(DeprecationWarning, match="target_classes"):
        names = mapix.conversion.NAMES
    assert {"vimh", "idx", "pink", "folder", "npy", "npz", "parquet", "arrow"} <= set(names)
