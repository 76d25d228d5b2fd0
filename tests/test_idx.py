"""IDX arrays: goldens of the original programs, a slow reader, and writing."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
import mapix.idx
from conftest import GOLDEN
from mapix.assembly import assembled
from mapix.idx import IdxArray, Writer, write
from mapix.options import BatchOptions, checked
from mapix.testing import FormatTests

IDX = GOLDEN / "idx"
TOLD = json.loads((IDX / "manifest.json").read_text())["files"]
FILES = {k.removeprefix("idx/"): v for k, v in TOLD.items() if k.endswith((".idx", ".idx.gz"))}
FILES = {k: v for k, v in FILES.items() if (IDX / k).exists()}
GOOD = {k: v for k, v in FILES.items() if "values_sha256" in v}
CODES = {8: "u1", 9: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
SIZED = ("layout", "pad", "crop")
LETTERS = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}


def slow(data: bytes) -> tuple[str, str, list[int], list] | None:
    """By struct alone: order, type, dimensions, numbers; None where it is no IDX file."""
    if len(data) < 4 or data[:2] not in (b"\0\0", b"\xff\xff") or data[2] not in CODES:
        return None
    order, code, ndim = ">" if data[0] == 0 else "<", CODES[data[2]], data[3]
    if ndim == 0 or ndim > 32 or len(data) < 4 + 4 * ndim:
        return None
    dims = list(struct.unpack_from(f"{order}{ndim}I", data, 4))
    n = int(np.prod([int(d) for d in dims], dtype=object))
    if len(data) != 4 + 4 * ndim + n * struct.calcsize(LETTERS[code]):
        return None
    return (
        order,
        code,
        dims,
        list(struct.unpack_from(f"{order}{n}{LETTERS[code]}", data, 4 + 4 * ndim)),
    )


@pytest.mark.parametrize("name", GOOD)
def test_goldens(name):
    told = GOOD[name]
    a = mapix.open(IDX / name)
    assert isinstance(a, IdxArray)
    assert a.byteorder == {"big": ">", "little": "<"}[told["endian"]]
    assert a.dtype.str[-2:] == told["dtype"]
    assert list(a.shape) == told["dims"]
    values = a.view().astype(a.dtype.newbyteorder("<"))
    assert hashlib.sha256(values.tobytes()).hexdigest() == told["values_sha256"]
    assert not a.view().flags.writeable
    assert a.view().base is not None
    raw = (IDX / name).read_bytes()
    raw = gzip.decompress(raw) if name.endswith(".gz") else raw
    _, code, dims, numbers = slow(raw)
    np.testing.assert_array_equal(np.array(numbers, code).reshape(dims), a.view())
    if len(a):
        batch = a.batch(range(len(a)))
        np.testing.assert_array_equal(batch.images, a.view())
        assert batch.images.dtype == a.dtype.newbyteorder("=")
        assert batch.images.dtype.isnative


@pytest.mark.parametrize("name", sorted(set(FILES) - set(GOOD)))
def test_what_the_original_rejects(name):
    assert FILES[name]["original_idxinfo"] != "accept"
    with pytest.raises(mapix.FormatError):
        mapix.open(IDX / name)


@pytest.mark.parametrize("name", [n for n in GOOD if not n.endswith(".gz")])
def test_goldens_are_written_again(name, tmp_path):
    a = mapix.open(IDX / name)
    with Writer(tmp_path / "x", a.dtype, a.shape[1:], byteorder=a.byteorder) as out:
        for row in a:
            out.append(row)
    assert (tmp_path / "x").read_bytes() == (IDX / name).read_bytes()
    write(tmp_path / "y.idx", a.view(), byteorder=a.byteorder)
    assert (tmp_path / "y.idx").read_bytes() == (IDX / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["x", "y.idx"]


class TestConformance(FormatTests):
    def sample(self, folder: Path) -> Path:
        path = folder / "sample.idx"
        write(path, np.arange(24, dtype=np.int16).reshape(4, 3, 2) - 5)
        return path

    def read_slowly(self, data: bytes):
        found = slow(data)
        if found is None or found[2][0] == 0:
            return None if found is None else []
        _, code, dims, numbers = found
        return [(code, r.shape, r.tobytes()) for r in np.array(numbers, code).reshape(dims)]

    def content(self, dataset):
        of = dataset.dtype
        native = of.newbyteorder("=")
        return [(of.str[-2:], row.shape, row.astype(native).tobytes()) for row in dataset]

    def arrays(self, dataset, record):
        return [record, dataset.view()]


@pytest.mark.parametrize("code", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("row", [(), (7,), (5, 6), (2, 3, 4)])
def test_batches(tmp_path, code, order, row):
    rng = np.random.default_rng(0)
    n = 40
    if code[0] == "f":
        want = rng.normal(size=(n, *row)).astype(code)
    else:
        want = rng.integers(np.iinfo(code).min, np.iinfo(code).max, (n, *row), code)
    path = tmp_path / "a.idx"
    write(path, want, byteorder=order)
    a = mapix.open(path)
    rows = [3, -1, 3, 0, 39]
    np.testing.assert_array_equal(a.batch(rows).images, want[rows])
    part = a[::-2][[1, 4]]
    np.testing.assert_array_equal(part.batch([1, 0]).images, want[::-2][[4, 1]])
    np.testing.assert_array_equal(part.view(), want[::-2][[1, 4]])
    np.testing.assert_array_equal(a[5:1:-1].view(), want[5:1:-1])
    out = np.empty((7, *row), code)
    a.batch(rows, out=out)
    np.testing.assert_array_equal(out[:5], want[rows])
    floats = a.batch(rows, dtype="float32", scale=0.5, mean=1.0, std=4.0).images
    expected = ((want[rows].astype(np.float64) * 0.5 - 1) / 4).astype(np.float32)
    np.testing.assert_allclose(floats, expected, rtol=1e-6, atol=1e-6)
    assert floats.dtype == np.float32
    assert sum(len(b.images) for b in a.batches(16)) == n
    assert sum(len(b.images) for b in a.batches(16, drop_last=True)) == 32
    with pytest.raises(ValueError, match="out must be"):
        a.batch(rows, out=np.empty((5, 99), code))
    again = pickle.loads(pickle.dumps(a[3:9]))
    np.testing.assert_array_equal(again.view(), want[3:9])


def test_rows_longer_than_a_side(tmp_path):
    for m in (65536, 70001, 65537 * 2):  # 65537 is a prime that fits no side
        want = np.arange(2 * m, dtype=np.uint8).reshape(2, m)
        write(tmp_path / f"{m}.idx", want)
        assert (mapix.open(tmp_path / f"{m}.idx").batch([1, 0]).images == want[::-1]).all()


def mnist(folder: Path, *, compressed: bool = False) -> np.ndarray:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (30, 28, 28), np.uint8)
    for split, some in (("train", images[:20]), ("t10k", images[20:])):
        write(folder / f"{split}-images-idx3-ubyte", some)
        write(folder / f"{split}-labels-idx1-ubyte", np.arange(len(some), dtype=np.uint8) % 10)
    for path in list(folder.iterdir()) if compressed else ():
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return images


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_mnist_as_torchvision_lays_it_out(tmp_path, compressed, below):
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    images = mnist(folder, compressed=compressed)
    for _ in range(2):
        a = mapix.open(tmp_path)
        assert a.shape == (20, 28, 28)
        batch = a.batch([7, 19], dtype="float32", scale=1 / 255)
        np.testing.assert_allclose(batch.images, images[[7, 19]] / np.float32(255), rtol=1e-6)
        assert batch.labels.tolist() == [7, 9]
        assert batch.names == ("label",)
    assert mapix.open(tmp_path, split="test").shape == (10, 28, 28)
    name = "train-images-idx3-ubyte" + (".gz" if compressed else "")
    one = mapix.open(folder / name, labels=False)
    assert one.labels is None
    assert one.batch([0]).labels is None
    assert a[5:7].batch([1]).labels.tolist() == [6]
    assert (pickle.loads(pickle.dumps(a[5:7])).batch([1]).labels == 6).all()
    with pytest.raises(ValueError, match="split"):
        mapix.open(folder / name, split="train")
    with pytest.raises(ValueError, match="split"):
        mapix.open(tmp_path, format="idx", split="valid")


def relatives(folder: Path, prefix: str, sep: str = "-", test: str = "t10k") -> dict:
    """Files of a relative of MNIST: pictures by split, whose labels are their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for split, name, n in (("train", "train", 6), ("test", test, 3)):
        found[split] = np.random.default_rng(n).integers(0, 256, (n, 5, 4), np.uint8)
        write(folder / f"{prefix}{name}-images{sep}idx3-ubyte", found[split])
        labels = np.arange(n, dtype=np.uint8)
        write(folder / f"{prefix}{name}-labels{sep}idx1-ubyte", labels)
    return found


@pytest.mark.parametrize(
    ("below", "prefix", "sep", "test"),
    [
        ("", "", ".", "t10k"),  # Kaggle's
        ("", "", "-", "t10k"),
        ("FashionMNIST/raw", "", "-", "t10k"),
        ("KMNIST/raw", "", "-", "t10k"),
        ("raw", "emnist-letters-", "-", "test"),
        ("EMNIST/raw", "emnist-balanced-", "-", "test"),
        ("QMNIST/raw", "qmnist-", "-", "test"),
    ],
)
def test_directories_of_mnists_relatives(tmp_path, below, prefix, sep, test):
    images = relatives(tmp_path / below, prefix, sep, test)
    for split, want in images.items():
        a = mapix.open(tmp_path, split=split)
        batch = a.batch([2, 0])
        np.testing.assert_array_equal(batch.images, want[[2, 0]])
        assert batch.labels.tolist() == [2, 0]
    assert mapix.open(tmp_path).shape == images["train"].shape


def test_labels_of_qmnist(tmp_path):
    """Eight numbers a digit: its class, the series, the writer, ..."""
    relatives(tmp_path, "qmnist-", test="test")
    labels = np.random.default_rng(0).integers(0, 10**6, (6, 8)).astype(np.int32)
    (tmp_path / "qmnist-train-labels-idx1-ubyte").unlink()
    write(tmp_path / "qmnist-train-labels-idx2-int", labels)
    for a in (mapix.open(tmp_path), mapix.open(tmp_path / "qmnist-train-images-idx3-ubyte")):
        batch = a.batch([5, 1, 1])
        np.testing.assert_array_equal(batch.labels, labels[[5, 1, 1]])
        assert batch.labels.dtype == np.int32
        assert batch.present.shape == (3, 8)
        assert batch.names == tuple(f"label_{k}" for k in range(8))
    assert mapix.open(tmp_path / "qmnist-train-labels-idx2-int").shape == (6, 8)


@pytest.mark.parametrize("shape", [(20, 3), (20, 1), (20, 2, 2), (20, 0), (20, 1025)])
def test_labels_of_several_numbers_stay_with_their_images(tmp_path, shape):
    """One row of the label file for each image, whatever a row is."""
    mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    labels = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    write(tmp_path / "train-labels-idx1-ubyte", labels)
    a = mapix.open(tmp_path)
    for rows in ([2, 1], [], [19, 0, 0], np.arange(20) % 3 == 0):
        batch = a.batch(rows)
        np.testing.assert_array_equal(
            batch.labels, labels[np.arange(20, dtype=int)[rows] if len(rows) else slice(0)]
        )
        assert batch.labels.shape == batch.present.shape
        assert batch.labels.dtype == np.int16
    np.testing.assert_array_equal(a[::-2].batch([0, 3]).labels, labels[::-2][[0, 3]])
    columns = shape[1] if len(shape) == 2 and shape[1] < 1025 else None
    want = ("label",) if columns is None else tuple(f"label_{k}" for k in range(columns))
    assert batch.names == want


def test_several_datasets_in_one_directory(tmp_path):
    relatives(tmp_path / "raw", "emnist-balanced-", test="test")
    relatives(tmp_path / "raw", "emnist-letters-", test="test")
    with pytest.raises(mapix.FormatError, match=r"several datasets; open one of the files: raw"):
        mapix.open(tmp_path)
    relatives(tmp_path / "raw", "")  # MNIST's own names go first, as they always did
    assert mapix.open(tmp_path).path.endswith("raw/train-images-idx3-ubyte")
    for name in ("MNIST", "FashionMNIST"):
        relatives(tmp_path / "data" / name / "raw", "")
    with pytest.raises(mapix.FormatError, match="MNIST/raw/train.*FashionMNIST/raw/train"):
        mapix.open(tmp_path / "data", split="train")
    assert mapix.open(tmp_path / "data" / "FashionMNIST").shape == (6, 5, 4)


def test_a_directory_of_many_names_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.idx.names.MOST_NAMES", 20)
    for k in range(30):
        (tmp_path / f"{k}.txt").touch()
    relatives(tmp_path, "qmnist-", test="test")
    with pytest.raises(mapix.MapixError, match="no IDX files in it"):
        mapix.open(tmp_path)
    relatives(tmp_path, "")
    assert mapix.open(tmp_path).shape == (6, 5, 4)


def test_names_that_are_alike(tmp_path):
    """A dash goes before a dot, pictures of one channel before others, plain before compressed."""
    name = "train-images{}idx{}-ubyte"
    for k, (sep, ndim) in enumerate([(".", 3), ("-", 4), ("-", 3)]):
        write(tmp_path / name.format(sep, ndim), np.zeros((k + 1, 2) + (1,) * (ndim - 2), np.uint8))
        assert len(mapix.open(tmp_path, labels=False)) == (1, 1, 3)[k]
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    assert len(mapix.open(tmp_path)) == 3
    (tmp_path / "train-labels-idx1-ubyte").mkdir()
    assert mapix.open(tmp_path).labels is None


def test_rows_without_numbers_are_limited(tmp_path):
    """Nothing in a file proves how many there are: a program that goes through them must end."""
    for shape, good in [
        ((65536, 0), True), ((65537, 0), False), ((2**32 - 1, 0), False), ((65536, 3, 0, 2), True),
        ((65537, 3, 0, 2), False), ((0, 2**32 - 1), True), ((0, 2**31, 2**28), True),
        ((0, 2**31, 2**28 + 1), False), ((0, 2**31, 2**32 - 1), False), ((5, 0, 2**32 - 1), True),
        ((5, 0, 2**32 - 1, 2**31), False),
    ]:  # fmt: skip
        head = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        (tmp_path / "a.idx").write_bytes(head)
        if not good:
            with pytest.raises(mapix.LimitError, match=r"MOST_EMPTY|larger than any disk"):
                mapix.open(tmp_path / "a.idx")
            continue
        a = mapix.open(tmp_path / "a.idx")
        assert a.shape == shape
        n = shape[0]
        assert a.view().shape == np.asarray(a).shape == shape
        assert sum(1 for _ in a) == n
        assert sum(len(b) for b in a.blocks()) == n
        some = [0, n - 1] if n else []
        batch = a.batch(some)
        assert batch.images.shape == (len(some), *shape[1:])
        assert len(batch) == len(some)
        assert a.batch(some, dtype="float32", scale=0.5).images.dtype == np.float32
        assert a[::-1].shape == shape
        assert a[some].view().shape == (len(some), *shape[1:])
        assert [len(b) for b in a[:5].batches(2)] == ([2, 2, 1] if n else [])
        assert a.prefetch(some) == 0
        if n:
            assert a[-1].shape == a[0, ...].shape == shape[1:]
            assert a[0].size == 0


def test_labels_have_to_be_as_many(tmp_path):
    mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    write(tmp_path / "train-labels-idx1-ubyte", np.zeros(19, np.uint8))
    with pytest.raises(mapix.FormatError, match="20 images, 19 labels"):
        mapix.open(tmp_path)


def test_compressed_files_are_bounded(tmp_path):
    good = (IDX / "be_u8_3x4x5.idx").read_bytes()
    path = tmp_path / "x.idx.gz"
    for data, complaint in (
        (gzip.compress(good + bytes(10_000_000)), "more"),  # a bomb of what the header does not say
        (gzip.compress(good[:-1]), "76 bytes of data expected, 75"),
        (gzip.compress(good)[:-9], "too early"),
        (b"\x1f\x8b" + b"noise" * 9, "not gzip at all"),
        (gzip.compress(b"\0\0\x09"), "0000 or ffff|header|type"),
    ):
        path.write_bytes(data)
        with pytest.raises(mapix.FormatError, match=complaint):
            mapix.open(path)
    huge = struct.pack(">2BBB2I", 0, 0, 8, 2, 2**32 - 1, 2**32 - 1)
    path.write_bytes(gzip.compress(huge))
    with pytest.raises(mapix.LimitError, match="larger than any disk"):
        mapix.open(path)


def test_what_was_not_closed_is_told(tmp_path):
    with pytest.raises(mapix.FormatError, match="was not closed"):
        mapix.open(IDX / "bad_noclose_header0.idx")


def test_what_a_writer_refuses(tmp_path):
    with pytest.raises(TypeError, match="dtype must be"):
        Writer(tmp_path / "x", np.uint16)
    with pytest.raises(ValueError, match="byteorder"):
        Writer(tmp_path / "x", np.uint8, byteorder="=")
    with Writer(tmp_path / "x", np.int8, (2,)) as out:
        with pytest.raises(ValueError, match="does not hold"):
            out.append([1, 200])
        with pytest.raises(ValueError, match="expected, got"):
            out.append([1, 2, 3])
        with pytest.raises(TypeError, match="float64 rows"):
            out.append([1.5, 2.0])
        out.append([1, -2])
    assert mapix.open(tmp_path / "x").view().tolist() == [[1, -2]]

    def fail():
        with Writer(tmp_path / "y", np.int8) as out:
            out.append(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(FileExistsError):
        Writer(tmp_path / "x", np.int8)


def test_a_file_that_changes_is_told(tmp_path):
    write(tmp_path / "x.idx", np.zeros((9, 4), np.float32))
    a = mapix.open(tmp_path / "x.idx")
    a.batch([1])
    os.truncate(tmp_path / "x.idx", 30)
    with pytest.raises(mapix.FileChangedError):
        a.batch([8])
    with pytest.raises(mapix.TruncatedError, match="156 bytes, the file has 30"):
        mapix.open(tmp_path / "x.idx")


def test_other_files_are_not_taken_for_it(tmp_path):
    from slow_vimh import pack, record

    (tmp_path / "v").write_bytes(pack([record(3, 3, 1, [], seed=1)] * 9))
    assert type(mapix.open(tmp_path / "v", dialect=14)).__name__ == "Dataset"
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"text"))
    with pytest.raises(mapix.MapixError):
        mapix.open(tmp_path / "x.gz")


def test_prefetch_and_batches_ahead(tmp_path):
    array = np.arange(1000 * 50, dtype=np.float32).reshape(1000, 50)
    write(tmp_path / "x.idx", array)
    a = mapix.open(tmp_path / "x.idx")
    assert a.prefetch([]) == 0
    assert a.prefetch([3, 999]) in (0, 2)  # whether they are in memory is the kernel's
    found = [b.images for b in a[::-1].batches(64)]
    np.testing.assert_array_equal(np.concatenate(found), array[::-1])
    with pytest.raises(IndexError):
        a.prefetch([1000])
    with pytest.raises(ValueError, match="batch_size"):
        list(a.batches(0))


# --- what every dataset can do --------------------------------------------------------------------


def test_labels_are_columns(tmp_path):
    images = mnist(tmp_path)
    a = mapix.open(tmp_path)
    assert list(a.columns) == ["label"]
    assert a.columns["label"].values.tolist() == [k % 10 for k in range(20)]
    assert a.where("label == 3 or label > 8").rows.tolist() == [3, 9, 13, 19]
    assert a[::-1].where("label < 2").rows.tolist() == [11, 10, 1, 0]
    assert a.sort_by("label", descending=True).rows.tolist()[:3] == [9, 19, 8]
    part = a.where(lambda c: c["label"] == 7)
    np.testing.assert_array_equal(part.batch([0, 1]).images, images[[7, 17]])
    assert part.batch([1], labels="class").labels.dtype == np.int64
    assert a.batch([3], labels=None).labels is None
    train, test = a.split(0.5, seed=1, stratify="label")
    assert sorted(train.columns["label"].values.tolist()) == list(range(10))
    assert sorted([*train.rows, *test.rows]) == list(range(20))
    assert a[:15].weights().tolist() == pytest.approx([0.75] * 5 + [1.5] * 5 + [0.75] * 5)
    assert a.statistics().columns["label"].counts.tolist() == [2] * 10
    with pytest.raises(ValueError, match="labels must be one of class, raw"):
        a.batch([0], labels="physical")
    with pytest.raises(TypeError, match="no index|not an index"):
        a[True]
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    write(tmp_path / "train-labels-idx1-ubyte", np.arange(60, dtype=np.int32).reshape(20, 3))
    b = mapix.open(tmp_path)
    assert b.where("label_2 - label_0 == 2 and label_1 > 50").rows.tolist() == [17, 18, 19]
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    write(tmp_path / "train-labels-idx1-ubyte", np.zeros((20, 2, 2), np.uint8))
    assert list(mapix.open(tmp_path).columns) == []  # a label that is an array is not one value


def test_labels_that_change_are_an_error(tmp_path):
    mnist(tmp_path)
    a = mapix.open(tmp_path)
    for _ in range(2):
        assert a.batch([3]).labels.tolist() == [3]
    with (tmp_path / "train-labels-idx1-ubyte").open("r+b") as f:
        f.seek(-1, os.SEEK_END)
        f.write(b"\x55")
    os.utime(tmp_path / "train-labels-idx1-ubyte", ns=(1, 1))
    with pytest.raises(mapix.FileChangedError, match="labels-idx1"):
        a.batch([3])


def test_labels_too_many_to_load_are_gathered(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.rowarray.MOST_LOADED_NBYTES", 10)
    mnist(tmp_path)
    a = mapix.open(tmp_path)
    for _ in range(2):
        assert a[::-1].batch([3, 0, 3]).labels.tolist() == [6, 9, 6]
    assert a.labels._loaded == []


def test_facts_and_splits(tmp_path):
    mnist(tmp_path)
    names = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
    want = {split: str(tmp_path / name) for split, name in names.items()}
    for split, path in want.items():
        assert mapix.open(tmp_path, split=split).splits == mapix.open(path).splits == want
    facts = mapix.open(tmp_path).describe()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["byteorder"], facts["dtype"], facts["shape"]) == (">", "|u1", [20, 28, 28])
    assert facts["labels"] == str(tmp_path / "train-labels-idx1-ubyte")
    assert facts["columns"] == [{"name": "label", "label": True}]
    write(tmp_path / "alone.idx", np.zeros((3, 2), np.uint8))
    assert mapix.open(tmp_path / "alone.idx").splits == {}
    relatives(tmp_path, "emnist-letters-", test="test")  # another dataset has splits of its own
    other = mapix.open(tmp_path / "emnist-letters-train-images-idx3-ubyte").splits
    assert other == {
        "train": str(tmp_path / "emnist-letters-train-images-idx3-ubyte"),
        "test": str(tmp_path / "emnist-letters-test-images-idx3-ubyte"),
    }


def test_verify_checks_both_splits(tmp_path):
    mnist(tmp_path)
    report = mapix.open(tmp_path).verify()
    assert (report.ok, report.nrecords, report.nbytes) == (True, 30, 30 * 784)
    assert mapix.open(tmp_path / "train-images-idx3-ubyte").verify().nrecords == 20
    with (tmp_path / "t10k-images-idx3-ubyte").open("ab") as f:
        f.write(b"more")
    report = mapix.open(tmp_path).verify()
    assert len(report.problems) == 1
    assert "t10k-images-idx3-ubyte" in report.problems[0]
    assert mapix.open(tmp_path / "train-images-idx3-ubyte").verify().ok
    values = np.zeros((30, 2), ">f8")
    values[[4, 20], 1] = np.nan, -np.inf
    write(tmp_path / "x.idx", values)
    seen = []
    report = mapix.open(tmp_path / "x.idx")[:3].verify(lambda *done: seen.append(done))
    assert report.damaged == [4, 20]
    assert "not finite in 2 rows: 4, 20" in str(report)
    assert seen == [(30, 30)]


def test_explain_states_swaps_and_copies(tmp_path):
    write(tmp_path / "b.idx", np.arange(12, dtype=np.int32).reshape(4, 3))
    write(tmp_path / "l.idx", np.arange(12, dtype=np.int32).reshape(4, 3), byteorder="<")
    big, little = mapix.open(tmp_path / "b.idx"), mapix.open(tmp_path / "l.idx")
    one = big.explain(2)
    assert (one["reads_nbytes"], one["copies_nbytes"]) == (12, 0)
    assert ">i4" in one["swaps"]
    assert "byte 36" in one["how"]  # 12 bytes of header, and two rows
    assert little.explain(2)["swaps"] == ""
    batch = big.explain(batch=[0, 3], dtype="float16")
    assert (batch["reads_nbytes"], batch["copies_nbytes"]) == (24, 12)
    assert ">i4" in batch["swaps"]
    assert batch["converts"] == "int32 to float16"
    assert little.explain(batch=[0])["converts"] == little.explain(batch=[0])["swaps"] == ""


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (6, 5, 2)])
@pytest.mark.parametrize("code", ["u1", "i2", "f4"])
def test_batches_are_those_of_the_reference(tmp_path, code, shape):
    """The C core, and numpy for what it does not convert, against ``mapix.assembly``."""
    rng = np.random.default_rng(3)
    want = rng.integers(0, 120, (9, *shape)).astype(code)
    write(tmp_path / "a.idx", want)
    a = mapix.open(tmp_path / "a.idx")
    rows = [8, 0, 0, 3]
    c = shape[2] if len(shape) == 3 else 1
    for options in (
        {},
        {"layout": "NCHW"},
        {"layout": "NHWC", "dtype": "float32"},
        {"pad": (8, 9)},
        {"pad": (8, 9, c + 1), "pad_value": 5.0, "layout": "NCHW", "dtype": "float32"},
        {"pad": (4, 9), "crop": "corner"},
        {"pad": (3, 4), "crop": True, "dtype": "float16", "scale": 0.5},
        {"crop": True},
        {"dtype": "float32", "scale": 1 / 255, "mean": tuple(np.arange(c) / 3), "std": 0.3},
        {"dtype": "float32", "mean": 3.0, "layout": "NCHW", "threads": 2},
        {"dtype": "uint16"},
        {"dtype": "int32", "layout": "NCHW"},
    ):
        expected = assembled("x", list(want[rows]), checked(BatchOptions(**options))).images
        found = a.batch(rows, **options)
        np.testing.assert_array_equal(found.images, expected, str(options))
        assert found.images.dtype == expected.dtype
        assert found.images.flags.c_contiguous
        assert found.shapes.tolist() == [[*shape, 1][:3]] * 4
        assert a.batch_shape(rows, **{k: v for k, v in options.items() if k in SIZED}) == (
            expected.shape
        )
        room = np.zeros((6, *expected.shape[1:]), expected.dtype)
        a.batch(rows, room, **options)
        np.testing.assert_array_equal(room[:4], expected)
        assert not room[4:].any()
    with pytest.raises(ValueError, match="scale, mean and std need dtype"):
        a.batch(rows, dtype="uint8", scale=2.0)
    with pytest.raises(ValueError, match="mean and std must be"):
        a.batch(rows, dtype="float32", mean=(1.0,) * (c + 1))
    with pytest.raises(ValueError, match="std must not be zero"):
        a.batch(rows, dtype="float32", std=0.0)
    assert a.header.order == a.header.byteorder == ">"


def test_statistics_are_exact(tmp_path):
    want = np.random.default_rng(3).integers(-300, 300, (900, 6, 5, 3)).astype(np.int16)
    write(tmp_path / "a.idx", want)
    seen = []
    found = mapix.open(tmp_path / "a.idx").statistics(lambda *done: seen.append(done)).pixels
    np.testing.assert_array_equal(found.count, [900 * 30] * 3)
    np.testing.assert_allclose(found.mean, want.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, want.std(axis=(0, 1, 2)), rtol=1e-12)
    assert found.min.tolist() == want.min(axis=(0, 1, 2)).tolist()
    assert seen[-1] == (900, 900)


def test_labels_beside_files_with_plain_names(tmp_path):
    for stem in ("a-", "a_", ""):
        mapix.idx.write(
            tmp_path / f"{stem}images.idx", np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
        )
        mapix.idx.write(tmp_path / f"{stem}labels.idx", np.array([7, 3], np.uint8))
        with mapix.open(tmp_path / f"{stem}images.idx") as ds:
            assert ds.columns["label"].values.tolist() == [7, 3]
    with mapix.open(tmp_path / "a-labels.idx") as ds:
        assert ds.labels is None


def test_labels_that_the_disk_does_not_find(tmp_path, monkeypatch):
    """An error of the disk is not taken for a missing file."""
    write(tmp_path / "x-images-idx3-ubyte", np.zeros((2, 3, 4), np.uint8))
    write(tmp_path / "x-labels-idx1-ubyte", np.zeros(2, np.uint8))
    usual = os.stat

    def failing(path: Any, **options: Any) -> os.stat_result:
        if "labels" in str(path):
            raise OSError(errno.EIO, "the disk", str(path))
        return usual(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(OSError, match="labels"):
        mapix.open(tmp_path / "x-images-idx3-ubyte")
