"""NumPy's files: written by numpy, read again by slow readers, and hostile ones."""

from __future__ import annotations

import ast
import io
import math
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as original

import mapix
from mapix.npy import NpyArray, NpzArray
from mapix.testing import FormatTests

LETTERS = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
LETTERS |= {"f2": "e", "f4": "f", "f8": "d"}


def slow_npy(data: bytes) -> list[tuple[str, list]] | None:
    """Return the rows of an array of numbers, read one by one; None of other bytes."""
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        return None
    form = "<H" if data[6] == 1 else "<I"
    begin = 8 + struct.calcsize(form)
    if len(data) < begin:
        return None
    (nbytes,) = struct.unpack_from(form, data, 8)
    if begin + nbytes > len(data) or nbytes > 65536:
        return None
    try:
        text = data[begin : begin + nbytes].decode("utf-8" if data[6] == 3 else "latin-1")
        stated = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return None
    if not isinstance(stated, dict) or sorted(stated) != ["descr", "fortran_order", "shape"]:
        return None
    descr, shape = stated["descr"], stated["shape"]
    if stated["fortran_order"] is not False or not isinstance(shape, tuple) or not shape:
        return None
    order = descr[0] if descr[:1] in "<>=|" else "="
    code = descr.lstrip("<>=|") if len(descr) < 4 else ""
    if code not in LETTERS or not all(type(n) is int and n >= 0 for n in shape):
        return None
    size, at = struct.calcsize(f"={LETTERS[code]}"), begin + nbytes
    if len(data) != at + size * math.prod(shape) or (0 in shape[1:] and shape[0] > 65536):
        return None
    end = {"|": "=", "=": "="}.get(order, order)
    numbers = [
        struct.unpack_from(end + LETTERS[code], data, k)[0] for k in range(at, len(data), size)
    ]
    step = math.prod(shape[1:])
    rows = [numbers[k * step : (k + 1) * step] for k in range(shape[0])]
    return [(code, [*row]) for row in rows]


def slow_npz(data: bytes) -> list[tuple[str, list]] | None:
    """Return the rows of the only member of an archive without zip64 and compression."""
    end = len(data) - 22
    if end < 0 or data[end : end + 4] != b"PK\5\6":
        return None
    disk, first, here, count, size, at, comment = struct.unpack_from("<4H2IH", data, end + 4)
    if (disk, first, here, count, comment) != (0, 0, 1, 1, 0) or at + size != end:
        return None
    if size < 46 or data[at : at + 4] != b"PK\1\2":
        return None
    flags, method, _, _, _, stored, nbytes = struct.unpack_from("<4H3I", data, at + 8)
    n_name, n_extra, n_comment, disk, _, _, local = struct.unpack_from("<5H2I", data, at + 28)
    if 46 + n_name + n_extra + n_comment != size or flags & 1 or method or stored != nbytes:
        return None
    if disk not in (0, 65535) or local + 30 > at or data[local : local + 4] != b"PK\3\4":
        return None
    name = data[at + 46 : at + 46 + n_name]
    same, same_method = struct.unpack_from("<2H", data, local + 6)
    l_name, l_extra = struct.unpack_from("<2H", data, local + 26)
    begin = local + 30 + l_name + l_extra
    if same & 1 or same_method != method or data[local + 30 : local + 30 + l_name] != name:
        return None
    try:
        text = name.decode("utf-8" if flags & 0x800 else "cp437")
    except UnicodeDecodeError:
        return None
    if not text.endswith(".npy") or begin + nbytes > at:
        return None
    return slow_npy(data[begin : begin + nbytes])


class Arrays(FormatTests):
    def content(self, dataset: Any) -> list[Any]:
        return [(dataset.dtype.str[-2:], row.ravel().tolist()) for row in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray]:
        return [record, dataset.view()]


class TestNpy(Arrays):
    def sample(self, folder: Path) -> Path:
        np.save(folder / "sample.npy", np.arange(24, dtype=">i2").reshape(4, 3, 2) - 5)
        return folder / "sample.npy"

    def read_slowly(self, data: bytes) -> list[Any] | None:
        return slow_npy(data)


class TestNpz(Arrays):
    def sample(self, folder: Path) -> Path:
        np.savez(folder / "sample.npz", np.arange(24, dtype="<u4").reshape(4, 3, 2))
        return folder / "sample.npz"

    def read_slowly(self, data: bytes) -> list[Any] | None:
        return slow_npz(data)


# --- types and orders -----------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", [*LETTERS, "b1", "c8", "c16", "S5", "U3", "M8[ms]", "m8[D]", "V6"])
def test_types_are_those_that_numpy_reads(tmp_path, code, order):
    dtype = np.dtype(order + code)
    raw = np.random.default_rng(1).integers(0, 100, (5, 2 * dtype.itemsize), np.uint8)
    if code == "U3":
        want = np.array([["abc", "ä"], ["", "x"]], dtype)
    elif code == "b1":
        want = (raw % 2).astype(bool)
    else:
        want = raw.view(dtype)
    np.save(tmp_path / "a.npy", want)
    a = mapix.open(tmp_path / "a.npy")
    assert isinstance(a, NpyArray)
    assert (a.shape, a.dtype, a.ndim) == (want.shape, want.dtype, 2)
    np.testing.assert_array_equal(a.view(), np.load(tmp_path / "a.npy"))
    np.testing.assert_array_equal(np.asarray(a), want)
    np.testing.assert_array_equal(a.batch([-1, 0]).images, want[[-1, 0]])
    assert a.batch([0]).images.dtype == dtype.newbyteorder("=")
    np.testing.assert_array_equal(a[1], want[1])
    if dtype.kind not in "biuf":
        with pytest.raises(mapix.UnsupportedError, match="not converted to numbers"):
            a.batch([0], dtype="float32")
        with pytest.raises(ValueError, match="layout, pad and crop need images"):
            a.batch([0], layout="NCHW")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_and_records(tmp_path, version):
    name = "größe" if version == (3, 0) else "size"
    dtype = np.dtype([(name, ">i4"), ("mark", "S3"), ("at", "<f8", (2,)), ("on", "?")], align=True)
    want = np.zeros(6, dtype)
    want[name], want["mark"], want["on"] = [3, -1, 7, 7, 0, 2], b"ab", [1, 0, 1, 1, 0, 0]
    want["at"] = np.arange(12).reshape(6, 2) / 3
    with (tmp_path / "a.npy").open("wb") as f, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        original.write_array(f, want, version)
    a = mapix.open(tmp_path / "a.npy")
    assert a.describe()["version"] == f"{version[0]}.{version[1]}"
    for found in (a.view(), a.batch([*range(6)]).images, np.asarray(a)):
        for field in dtype.names:
            np.testing.assert_array_equal(found[field], want[field])
    assert list(a.columns) == [name, "mark", "on"]
    assert a.where(lambda c: c[name] == 7).rows.tolist() == [2, 3]
    assert a.sort_by(name).rows.tolist() == [1, 4, 5, 0, 2, 3]
    assert a.columns["mark"].values.tolist() == [b"ab"] * 6
    assert a.columns[name].values.dtype.isnative
    assert a.image_shape is None
    assert a.statistics().columns[name].max == 7
    assert pickle.loads(pickle.dumps(a[2:4])).view()[name].tolist() == [7, 7]


def test_images_of_any_order_of_channels(tmp_path):
    want = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4), np.uint8)
    np.save(tmp_path / "chw.npy", want)
    np.save(tmp_path / "hwc.npy", np.ascontiguousarray(want.transpose(0, 2, 3, 1)))
    chw = mapix.open(tmp_path / "chw.npy", axes="CHW")
    hwc = mapix.open(tmp_path / "hwc.npy")
    assert (chw.image_shape, hwc.image_shape) == ((3, 5, 4), (5, 4, 3))
    for options in (
        {},
        {"dtype": "float32", "scale": 1 / 255, "mean": (0.1, 0.2, 0.3), "std": 0.5},
        {"pad": (8, 8)},
        {"pad": (4, 9), "crop": "corner", "pad_value": 7},
        {"pad": (4, 3, 4), "crop": True, "dtype": "float16"},
        {"dtype": "int32"},
    ):
        for layout in ("NCHW", "NHWC"):
            a, b = (ds.batch([6, 0, -1], layout=layout, **options).images for ds in (chw, hwc))
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(chw.batch([1]).images, want[[1]])
    np.testing.assert_array_equal(hwc.batch([1], layout="NCHW").images, want[[1]])
    assert chw.batch_shape([0, 1], "NHWC", pad=(8, 9)) == (2, 8, 9, 3)
    for ds in (chw, hwc):
        assert ds.statistics().pixels.mean == pytest.approx(want.mean(axis=(0, 2, 3)))
    again = pickle.loads(pickle.dumps(chw[1:]))
    np.testing.assert_array_equal(again.batch([0], layout="NHWC").images, hwc.batch([1]).images)
    with pytest.raises(ValueError, match="axes"):
        mapix.open(tmp_path / "chw.npy", axes="WHC")
    with pytest.raises(ValueError, match="exceed pad"):
        chw.batch([0], pad=(2, 2))
    with pytest.raises(ValueError, match="channels exceed"):
        chw.batch([0], pad=(9, 9, 2))


# --- hostile headers ------------------------------------------------------------------------------


def array(text: str | bytes, data: bytes = b"", version: int = 2) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("utf-8")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I", len(raw)) + raw + data


def header(shape: str = "(2, 2)", descr: str = "'<i2'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (header("(-2, -4)"), mapix.FormatError, "tuple of dimensions"),
        (header("(2.0, 4)"), mapix.FormatError, "tuple of dimensions"),
        (header("(True, 4)"), mapix.FormatError, "tuple of dimensions"),
        (header("[2, 4]"), mapix.FormatError, "tuple of dimensions"),
        (header(f"({2**62}, {2**62})"), mapix.LimitError, "larger than any disk"),
        (header(f"(0, {2**63})"), mapix.LimitError, "larger than any disk"),
        (header(f"({10**4000},)"), mapix.LimitError, "larger than any disk"),
        (header("(70000, 0)"), mapix.LimitError, "MOST_EMPTY"),
        (header("(3, 2)"), mapix.TruncatedError, "takes"),
        (header("(1, 2)"), mapix.FormatError, "takes"),
        (header("()"), mapix.UnsupportedError, "no rows"),
        (header(f"({'1, ' * 33})"), mapix.LimitError, "33 dimensions"),
        (header(descr="'|O'"), mapix.UnsupportedError, "never loads"),
        (header(descr="[('a', '<i2'), ('b', '|O')]"), mapix.UnsupportedError, "never loads"),
        (header(descr="'<f16'"), mapix.FormatError, "not a type of numbers"),
        (header(descr="'i4,f8'"), mapix.FormatError, "not a type of numbers"),
        (header(descr="'V0'"), mapix.UnsupportedError, "0 bytes"),
        (header(descr="'V2000000000'"), mapix.UnsupportedError, "2000000000 bytes"),
        (header(descr="'M8[zz]'"), mapix.FormatError, "type"),
        (header(descr="[('a', '<i2'), ('a', '<i2')]"), mapix.FormatError, "type"),
        (header(descr="[('a', '<i2', (2000000000,))]"), mapix.FormatError, "bytes"),
        (header(descr="[('a', '<i2', (-1,))]"), mapix.FormatError, "a shape expected"),
        (header(descr="[]"), mapix.FormatError, "fields"),
        (header(descr="[('', '|V8')]"), mapix.FormatError, "no field has a name"),
        (header(descr="[(3, '<i2')]"), mapix.FormatError, "a name expected"),
        (header(descr="7"), mapix.FormatError, "fields"),
        (header(descr=f"{'[(chr, ' * 3}"), mapix.FormatError, "not a Python literal"),
        (header(fortran="1"), mapix.FormatError, "fortran_order"),
        (header(fortran="True"), mapix.UnsupportedError, "ascontiguousarray"),
        ("{'descr': '<i2', 'shape': (2, 2)}", mapix.FormatError, "header with"),
        ("__import__('os').abort()", mapix.FormatError, "not a Python literal"),
        ("(" * 60000, mapix.FormatError, "not a Python literal"),
        ("-" * 60000 + "1", mapix.FormatError, "not a Python literal"),
        ("[" * 150 + "]" * 150, mapix.FormatError, "header with|not a Python literal"),
        (b"\xff\xfe\xfd", mapix.FormatError, "not a Python literal"),
        (b"\0" * 20, mapix.FormatError, "not a Python literal"),
        (" " * 70000, mapix.LimitError, "MOST_HEADER_NBYTES"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_hostile_headers(tmp_path, text, kind, reason, version):
    path = tmp_path / "a.npy"
    path.write_bytes(array(text, bytes(8), version))
    with pytest.raises(kind, match=reason) as e:
        mapix.open(path)
    assert str(path) in str(e.value)


def test_headers_that_are_fine(tmp_path):
    path = tmp_path / "a.npy"
    for text, shape in (
        (header("(2L, 2L)"), (2, 2)),  # as Python 2 wrote it
        (header("(1, 4)", fortran="True"), (1, 4)),
        (header("(4,)", fortran="True"), (4,)),
        (header("(2, 2)") + "# a comment", (2, 2)),
        (header("(65536, 0)") + " ", (65536, 0)),
    ):
        path.write_bytes(array(text, b"\1\0\2\0\3\0\4\0" if 0 not in shape else b""))
        a = mapix.open(path)
        assert a.shape == shape
        assert a.view().ravel().tolist() == [1, 2, 3, 4][: a.view().size]
    np.save(path, np.asfortranarray(np.arange(6).reshape(2, 3)))
    with pytest.raises(mapix.UnsupportedError, match="Fortran order"):
        mapix.open(path)
    np.save(path, np.array([{}, "x"], object), allow_pickle=True)
    with pytest.raises(mapix.UnsupportedError, match="never loads"):
        mapix.open(path)
    for data in (b"", b"\x93NUM", b"\x93NUMPY\1\0", b"\x93NUMPY\1\0\x76", b"\x93NUMPY\4\0ab"):
        path.write_bytes(data)
        with pytest.raises(mapix.FormatError, match=r"a\.npy"):
            mapix.open(path, format="npy")


def test_numbers_that_are_not_finite_are_found(tmp_path):
    values = np.zeros((20, 3), "f4")
    values[[3, 17], 1] = np.nan, np.inf
    np.save(tmp_path / "a.npy", values)
    report = mapix.open(tmp_path / "a.npy")[5:].verify()
    assert not report.ok
    assert report.damaged == [3, 17]
    assert "not finite in 2 rows: 3, 17" in str(report)


# --- archives -------------------------------------------------------------------------------------

X = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
Y = np.array([3, 1, 4, 1, 5], ">i2")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("arr_0", "y")])
def test_images_with_labels(tmp_path, save, names):
    save(tmp_path / "a.npz", **dict(zip(names, (X, Y), strict=True)), other=np.zeros(3))
    for _ in range(2):  # the second time from the cache
        a = mapix.open(tmp_path / "a.npz")
        assert isinstance(a, NpzArray)
        np.testing.assert_array_equal(a.view(), X)
        batch = a.batch([4, 0])
        np.testing.assert_array_equal(batch.images, X[[4, 0]])
        assert (batch.labels.tolist(), batch.names) == ([5, 3], ("label",))
        assert a.columns["label"].values.tolist() == Y.tolist()
        assert a.where("label == 1").rows.tolist() == [1, 3]
        assert a.verify().ok
        assert a.label_array()[0].tolist() == Y.tolist()
        part = pickle.loads(pickle.dumps(a[[3, 2]]))
        assert part.batch([0, 1]).labels.tolist() == [1, 4]
        facts = a.describe()
        assert facts["members"] == [*names, "other"]
        assert facts["labels"] == names[1]
        assert facts["compressed"] == (save is np.savez_compressed)
        a.close()


def test_which_array_is_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:3])
    with pytest.raises(
        mapix.UnsupportedError, match="several arrays .x_train, y_train, .*pass member"
    ):
        mapix.open(path)
    a = mapix.open(path, images="x_train", labels="y_train")
    assert a.batch([2]).labels.tolist() == [4]
    assert pickle.loads(pickle.dumps(a)).batch([2]).labels.tolist() == [4]
    assert mapix.open(path, images="x_train").labels is None
    assert mapix.open(path, member="y_test.npy").view().tolist() == [3, 1, 4]
    with pytest.raises(mapix.FormatError, match="2 rows in 'x_test', 3 labels in 'y_test'"):
        mapix.open(path, images="x_test", labels="y_test")
    with pytest.raises(mapix.FormatError, match="no array 'z'; there: x_train"):
        mapix.open(path, member="z")
    with pytest.raises(ValueError, match="member="):
        mapix.open(path, member="x_train", labels="y_train")
    np.savez(path, y=Y)
    assert mapix.open(path).member == "y"
    np.savez(path, x=X, y=Y)
    assert mapix.open(path, labels=False).labels is None
    assert mapix.open(path, member="x").labels is None
    np.savez(path)
    with pytest.raises(mapix.FormatError, match="no arrays"):
        mapix.open(path)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as z:
        z.writestr("readme.txt", "text")
    with pytest.raises(mapix.FormatError, match="looks like a zip archive"):
        mapix.open(tmp_path / "b.zip")


def test_archives_above_4_gib(tmp_path, monkeypatch):
    """The records that such archives have, in a small one."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    np.savez(tmp_path / "a.npz", first=np.zeros(99), images=X, labels=Y)
    data = (tmp_path / "a.npz").read_bytes()
    assert b"PK\6\6" in data
    assert b"PK\6\7" in data
    a = mapix.open(tmp_path / "a.npz")
    np.testing.assert_array_equal(a.view(), X)
    assert a.batch([0]).labels.tolist() == [3]
    end = data.index(b"PK\6\6")
    for at, value in ((end + 4, 1), (end + 24, 9), (end + 40, 9), (data.index(b"PK\6\7") + 8, 1)):
        bad = bytearray(data)
        bad[at] ^= value
        (tmp_path / "b.npz").write_bytes(bad)
        with pytest.raises(mapix.FormatError, match="npz"):
            mapix.open(tmp_path / "b.npz")


def archive(*members: tuple[str, np.ndarray], method: int = zipfile.ZIP_STORED) -> bytearray:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, values in members:
            raw = io.BytesIO()
            np.save(raw, values)
            z.writestr(name, raw.getvalue())
    return bytearray(out.getvalue())


def refused(path: Path, data: bytes, kind: type, reason: str, **options: Any) -> None:
    path.write_bytes(data)
    with pytest.raises(kind, match=reason) as e:
        mapix.open(path, **options)
    assert str(path) in str(e.value)


def test_hostile_archives(tmp_path):
    path = tmp_path / "a.npz"
    two = archive(("x.npy", X), ("y.npy", Y))
    first, second = two.index(b"PK\1\2"), two.rindex(b"PK\1\2")

    bad = two.copy()  # both members are the first one's bytes
    bad[second + 42 : second + 46] = bad[first + 42 : first + 46]
    refused(path, bad, mapix.FormatError, "the next member begins at byte 0")
    bad = two.copy()  # the second one lies in the directory
    bad[second + 42 : second + 46] = struct.pack("<I", first - 40)
    refused(path, bad, mapix.FormatError, "the directory begins")
    bad = two.copy()
    bad[second + 42 : second + 46] = struct.pack("<I", 2**32 - 2)
    refused(path, bad, mapix.FormatError, "the directory begins")
    bad = two.copy()  # encrypted
    bad[first + 8] |= 1
    refused(path, bad, mapix.UnsupportedError, "encrypted")
    bad = two.copy()
    bad[6] |= 1
    refused(path, bad, mapix.FormatError, "contradicts")
    bad = two.copy()  # the local header is longer than what follows leaves
    bad[28:30] = b"\xff\xff"
    refused(path, bad, mapix.FormatError, "what follows begins")
    bad = two.copy()  # sizes that need a zip64 field, which is not there
    bad[first + 24 : first + 28] = b"\xff" * 4
    refused(path, bad, mapix.FormatError, "zip64 field")
    bad = two.copy()  # more members than there are
    bad[-12:-10] = bad[-14:-12] = struct.pack("<H", 3)
    refused(path, bad, mapix.FormatError, "member 2 expected")
    bad = two.copy()
    bad[-12:-10] = bad[-14:-12] = struct.pack("<H", 1)
    refused(path, bad, mapix.FormatError, "bytes after the last of 1 members")
    bad = two.copy()  # of several volumes
    bad[-18] = 1
    refused(path, bad, mapix.FormatError, "volumes")
    bad = two.copy()
    bad[-10:-6] = struct.pack("<I", 2**31)
    refused(path, bad, mapix.LimitError, "MOST_DIRECTORY_NBYTES")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, of two names
        same = archive(("x.npy", X), ("x.npy", X))
    refused(path, same, mapix.FormatError, "two members are named 'x.npy'")
    refused(path, two[:-1], mapix.TruncatedError, "no end of a zip directory")
    refused(path, b"", mapix.TruncatedError, "no end of a zip directory")
    objects = archive(("x.npy", np.array([{}, 1], object)))
    refused(path, objects, mapix.UnsupportedError, "member x.npy.*never loads")
    other = archive(("x.npy", X), method=zipfile.ZIP_BZIP2)
    refused(path, other, mapix.UnsupportedError, "method 12")
    bad = two.copy()  # a name that is not UTF-8
    bad[first + 9] |= 8
    bad[first + 46] = 0xFF
    refused(path, bad, mapix.FormatError, "is not UTF-8")


def test_crc_is_checked(tmp_path):
    path = tmp_path / "a.npz"
    stored = archive(("x.npy", X))
    at = stored.index(b"PK\1\2")
    stored[at + 16] ^= 1
    path.write_bytes(stored)
    report = mapix.open(path).verify()  # a view is opened without a scan of its bytes
    assert "CRC32" in str(report.problems)
    packed = archive(("x.npy", X), method=zipfile.ZIP_DEFLATED)
    packed[packed.index(b"PK\1\2") + 16] ^= 1
    refused(path, packed, mapix.FormatError, "has the CRC32")


def test_bombs(tmp_path):
    path = tmp_path / "a.npz"
    packed = archive(("x.npy", np.zeros(1 << 20, np.uint8)), method=zipfile.ZIP_DEFLATED)
    at = packed.index(b"PK\1\2")
    bad = packed.copy()  # states more than it has, and more than is allowed
    bad[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
    refused(path, bad, mapix.LimitError, "above the limit")
    bad = packed.copy()  # has more than it states
    bad[at + 24 : at + 28] = struct.pack("<I", 1000)
    refused(path, bad, mapix.FormatError, "1000 bytes of data expected, more found")
    bad = packed.copy()
    bad[at + 24 : at + 28] = struct.pack("<I", (1 << 20) + 129)
    refused(path, bad, mapix.FormatError, "data expected|CRC32")
    for k in range(200, 260):
        bad = packed.copy()
        bad[k] ^= 0x55
        refused(path, bad, mapix.FormatError, r"CRC32|decompressed|too early|data expected")
    stored = archive(("x.npy", X))
    at = stored.index(b"PK\1\2")
    stored[at + 24] ^= 1
    refused(path, stored, mapix.FormatError, "are stored, of")
    path.write_bytes(packed)
    assert mapix.open(path).shape == (1 << 20,)


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", x=X, y=Y)
    mapix.idx.write(tmp_path / "t-images-idx3-ubyte", X)
    mapix.idx.write(tmp_path / "t-labels-idx1-ubyte", np.zeros(5, np.uint8))
    mapix.pink.write_data(tmp_path / "d.bin", X)
    opened: list[str] = []
    usual = mapix._native.OpenFile.open

    def counted(file: Any, path: bytes, nfront: int, **how: bool) -> int:
        opened.append(Path(os.fsdecode(path)).name)
        return usual(file, path, nfront, **how)

    monkeypatch.setattr(mapix._native.OpenFile, "open", counted)
    for name, more in (
        ("a.npy", []),
        ("b.npz", []),
        ("t-images-idx3-ubyte", ["t-labels-idx1-ubyte"]),
        ("d.bin", []),
    ):
        mapix.open(tmp_path / name)
        assert opened == [name, *more]
        opened.clear()


def test_conversion_from_and_to(tmp_path):
    np.savez(tmp_path / "a.npz", images=X, labels=Y)
    mapix.convert(tmp_path / "a.npz", tmp_path / "t-images-idx3-ubyte")
    found = mapix.open(tmp_path / "t-images-idx3-ubyte")
    np.testing.assert_array_equal(found.view(), X)
    assert found.labels.view().tolist() == Y.tolist()
    np.save(tmp_path / "a.npy", X)
    mapix.convert(tmp_path / "a.npy", tmp_path / "b.npy")
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_archives_as_scikit_learn_names_their_arrays(tmp_path):
    images, target = np.arange(24, dtype=np.uint8).reshape(6, 2, 2), np.arange(6) % 4
    np.savez(tmp_path / "a.npz", data=images.reshape(6, 4), target=target, images=images)
    with mapix.open(tmp_path / "a.npz") as ds:
        assert ds.columns["label"].values.tolist() == target.tolist()
        assert np.array_equal(ds[3], images[3])
    np.savez(tmp_path / "b.npz", data=images.reshape(6, 4), target=target)
    with mapix.open(tmp_path / "b.npz") as ds:
        assert ds.batch([5, 1]).labels.tolist() == [1, 1]
        assert np.array_equal(ds[2], images[2].reshape(-1))
    np.savez(tmp_path / "c.npz", images=images, target=np.arange(3))
    with mapix.open(tmp_path / "c.npz") as ds:  # of something else
        assert list(ds.columns) == []
