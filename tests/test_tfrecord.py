"""TFRecord files: a slow reader, an independent writer, other programs, and hostile files."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.source import Mapping
from mapix.testing import FormatTests
from mapix.tfrecord import example
from mapix.tfrecord.example import ExampleError, parse
from records import crc32c

# --- an independent writer and an independent reader ----------------------------------------------


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % (1 << 32)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return (
        length
        + struct.pack("<I", mask(crc32c(length)))
        + data
        + struct.pack("<I", mask(crc32c(data)))
    )


def varint(n: int) -> bytes:
    n %= 1 << 64
    made = b""
    while n > 127:
        made += bytes([n % 128 + 128])
        n //= 128
    return made + bytes([n])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values: list[Any], *, packed: bool = True) -> bytes:
    """A Feature of bytes, floats or integers."""
    if isinstance(values[0], bytes):
        return field(1, b"".join(field(1, v) for v in values))
    if isinstance(values[0], float):
        parts = [struct.pack("<f", v) for v in values]
        return field(
            2, field(1, b"".join(parts)) if packed else b"".join(b"\x0d" + p for p in parts)
        )
    parts = [varint(v) for v in values]
    return field(3, field(1, b"".join(parts)) if packed else b"".join(b"\x08" + p for p in parts))


def entry(name: bytes | str, content: bytes) -> bytes:
    key = name.encode() if isinstance(name, str) else name
    return field(1, field(1, key) + field(2, content))


def message(features: dict[str, list[Any]], **options: bool) -> bytes:
    return field(1, b"".join(entry(k, feature(v, **options)) for k, v in features.items()))


def slow_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError
        value += (data[at] % 128) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            if value >= 1 << 64:
                raise ValueError
            return value, at


def slow_fields(data: bytes) -> list[tuple[int, Any]]:
    """Number and content of each field: bytes, an integer, or, of fixed width, bytes in a list."""
    found: list[tuple[int, Any]] = []
    at = 0
    while at < len(data):
        tag, at = slow_varint(data, at)
        wire = tag & 7
        if not 0 < tag >> 3 < 1 << 29:
            raise ValueError
        if wire == 0:
            value, at = slow_varint(data, at)
            found.append((tag >> 3, value))
        elif wire == 2:
            n, at = slow_varint(data, at)
            if at + n > len(data):
                raise ValueError
            found.append((tag >> 3, data[at : at + n]))
            at += n
        elif wire in (1, 5):
            n = 8 if wire == 1 else 4
            if at + n > len(data):
                raise ValueError
            found.append((tag >> 3, [data[at : at + n]]))
            at += n
        else:
            raise ValueError
    return found


def slow_feature(data: bytes) -> tuple[int, list[Any]]:
    kind, values = 0, []
    for number, content in slow_fields(data):
        if number not in (1, 2, 3) or not isinstance(content, bytes):
            continue
        if number != kind:
            kind, values = number, []
        for n, value in slow_fields(content):
            if n != 1:
                continue
            if kind == 1 and isinstance(value, bytes):
                values.append(value)
            elif kind == 2 and isinstance(value, list) and len(value[0]) == 4:
                values.append(struct.unpack("<f", value[0])[0])
            elif kind == 2 and isinstance(value, bytes):
                values += [v[0] for v in struct.iter_unpack("<f", value)]
            elif kind == 3 and isinstance(value, int):
                values.append(value)
            elif kind == 3 and isinstance(value, bytes):
                at = 0
                while at < len(value):
                    v, at = slow_varint(value, at)
                    values.append(v)
    if kind == 3:
        values = [v - (1 << 64) if v >> 63 else v for v in values]
    return kind, values


def slow_example(data: bytes) -> dict[str, list[Any]]:
    """Name -> values, or ValueError."""
    found: dict[str, list[Any]] = {}
    for number, features in slow_fields(data):
        if number != 1 or not isinstance(features, bytes):
            continue
        for n, item in slow_fields(features):
            if n != 1 or not isinstance(item, bytes):
                continue
            name, content = b"", b""
            for k, part in slow_fields(item):
                if isinstance(part, bytes):
                    name, content = (
                        (part, content) if k == 1 else (name, part) if k == 2 else (name, content)
                    )
            found[name.decode()] = slow_feature(content)[1]
    return found


def slow(data: bytes) -> list[Any] | None:
    """Data and features of each record; None where a length, a checksum or a message is wrong."""
    found = []
    at = 0
    while at < len(data):
        if at + 12 > len(data):
            return None
        length, check = struct.unpack_from("<QI", data, at)
        if check != mask(crc32c(data[at : at + 8])) or at + 16 + length > len(data):
            return None
        content = data[at + 12 : at + 12 + length]
        if struct.unpack_from("<I", data, at + 12 + length)[0] != mask(crc32c(content)):
            return None
        try:
            found.append((content, slow_example(content)))
        except (ValueError, struct.error):
            return None
        at += 16 + length
    return found


def plain(record: Any) -> dict[str, list[Any]]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else [bytes(v) for v in value]
        for name, value in record.features.items()
    }


def comparable(features: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Features whose NaNs equal one another: fuzzing makes some."""
    return {name: ["NaN" if v != v else v for v in values] for name, values in features.items()}


def opened(tmp_path: Path, data: bytes, name: str = "x.tfrecord", **options: Any) -> Any:
    (tmp_path / name).write_bytes(data)
    return mapix.open(tmp_path / name, **options)


RAW = [
    {"image_raw": [bytes(range(6))], "height": [2], "width": [3], "label": [4], "w": [0.5]},
    {"image_raw": [bytes(range(9, 3, -1))], "height": [2], "width": [3], "label": [-1]},
]


class TestTfrecord(FormatTests):
    def sample(self, folder: Path) -> Path:
        path = folder / "x.tfrecord"
        path.write_bytes(b"".join(record(message(features)) for features in RAW))
        return path

    def read_slowly(self, data: bytes) -> list[Any] | None:
        found = slow(data)
        return None if found is None else [(content, comparable(f)) for content, f in found]

    def content(self, dataset: Any) -> list[Any]:
        return [(bytes(r.bytes), comparable(plain(r))) for r in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray[Any, Any]]:
        return [record.image, np.frombuffer(record.bytes, np.uint8)]

    def damaged(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """A quarter of the matrix: the slow reader takes a millisecond."""
        for k, found in enumerate(super().damaged(data)):
            if k % 4 == 0:
                yield found


def png(pixels: np.ndarray) -> bytes:
    """A PNG of bytes (h, w)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    h, w = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    front = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + front + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


IMAGES = [np.arange(12, dtype=np.uint8).reshape(3, 4) * k for k in (1, 2)]


class TestTfrecordOfPictures(TestTfrecord):
    @pytest.fixture(autouse=True)
    def _pillow(self) -> None:
        pytest.importorskip("PIL", reason="pictures need Pillow")

    def sample(self, folder: Path) -> Path:
        path = folder / "x.tfrecord"
        path.write_bytes(
            b"".join(
                record(message({"image/class/label": [k], "image/encoded": [png(image)]}))
                for k, image in enumerate(IMAGES)
            )
        )
        return path

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray[Any, Any]]:
        return [np.frombuffer(record["image/encoded"][0], np.uint8)]

    def test_damaged_files(self, path: Path) -> None:
        """As ``TestTfrecord``."""


# --- what other programs write --------------------------------------------------------------------


def test_the_checksum_is_the_published_one():
    assert crc32c(b"123456789") == 0xE3069283
    assert mapix.tfrecord.layout.masked(b"123456789") == mask(0xE3069283)


def test_files_by_the_tfrecord_package(tmp_path):
    tfrecord = pytest.importorskip("tfrecord", reason="tfrecord is not installed")
    path = str(tmp_path / "train-00000-of-00001")
    writer = tfrecord.TFRecordWriter(path)
    for k in range(4):
        writer.write(
            {
                "image": (bytes([k] * 8), "byte"),
                "label": (k - 2, "int"),
                "weights": ([k / 2, 1.0], "float"),
            }
        )
    writer.close()
    ds = mapix.open(path)
    assert ds.FAMILY == "tfrecord"
    original = list(tfrecord.tfrecord_loader(path, None, None))
    for k, (found, wanted) in enumerate(zip(ds, original, strict=True)):
        assert bytes(found["image"][0]) == bytes(wanted["image"])
        assert found["label"].tolist() == wanted["label"].tolist() == [k - 2]
        np.testing.assert_array_equal(found["weights"], wanted["weights"])
        assert found.label == k - 2
    assert ds.columns["label"].values.tolist() == [-2, -1, 0, 1]
    assert ds.columns["weights"].values.tolist() == [(k / 2, 1.0) for k in range(4)]
    assert ds.verify().ok


def test_messages_by_the_protobuf_package(tmp_path):
    """Random features, serialised by protobuf itself from a description made here."""
    pb = pytest.importorskip("google.protobuf.descriptor_pb2", reason="protobuf is not installed")
    from google.protobuf import descriptor_pool, message_factory

    made = pb.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    for name, kind in (("BytesList", 12), ("FloatList", 2), ("Int64List", 3)):
        made.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=3)
    one = made.message_type.add(name="Feature")
    one.oneof_decl.add(name="kind")
    for k, name in enumerate(("BytesList", "FloatList", "Int64List"), 1):
        one.field.add(
            name=f"f{k}", number=k, type=11, label=1, type_name=f".t.{name}", oneof_index=0
        )
    features = made.message_type.add(name="Features")
    item = features.nested_type.add(name="FeatureEntry")
    item.options.map_entry = True
    item.field.add(name="key", number=1, type=9, label=1)
    item.field.add(name="value", number=2, type=11, label=1, type_name=".t.Feature")
    features.field.add(
        name="feature", number=1, type=11, label=3, type_name=".t.Features.FeatureEntry"
    )
    made.message_type.add(name="Example").field.add(
        name="features", number=1, type=11, label=1, type_name=".t.Features"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(made)
    example_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))
    rng = np.random.default_rng(5)
    for _ in range(30):
        wanted: dict[str, list[Any]] = {}
        built = example_class()
        for k in range(rng.integers(0, 5)):
            n = int(rng.integers(0, 90))
            target = built.features.feature[f"é{k}"]
            values: list[Any] = [
                [rng.bytes(int(rng.integers(0, 200))) for _ in range(n)],
                rng.standard_normal(n).astype(np.float32).tolist(),
                (rng.integers(-(1 << 62), 1 << 62, n) >> rng.integers(0, 62, n)).tolist(),
            ][k % 3]
            getattr(target, f"f{k % 3 + 1}").value.extend(values)
            wanted[f"é{k}"] = values
        data = built.SerializeToString()
        ds = opened(tmp_path, record(data))
        assert plain(ds[0]) == wanted == slow_example(data)


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_values_of_all_kinds(tmp_path, packed):
    features: dict[str, list[Any]] = {
        "ints": [0, 1, -1, 127, 128, (1 << 63) - 1, -(1 << 63)],
        "many": list(range(-100, 1000)),
        "floats": [0.0, -1.5, 3.25],
        "bytes": [b"", b"abc"],
    }
    data = message(features, packed=packed)
    ds = opened(tmp_path, record(data))
    assert plain(ds[0]) == features == slow_example(data)
    assert ds[0]["ints"].dtype == np.int64
    assert ds[0]["floats"].dtype == np.float32
    view = ds[0]["bytes"][1]
    assert view.readonly
    assert np.shares_memory(np.frombuffer(view, np.uint8), np.frombuffer(ds.source.view, np.uint8))
    assert "ints" in ds[0]
    with pytest.raises(KeyError, match="record 0 has no feature 'x'; it has ints, many"):
        ds[0]["x"]
    again = pickle.loads(pickle.dumps(ds[0]))
    assert plain(again) == features


def test_unusual_messages_are_read_as_protobuf_defines():
    twice = field(1, entry("a", feature([1])) + entry("a", feature([2])))
    assert parse(twice)["a"].tolist() == [2]
    split = field(1, entry("a", feature([1]))) + field(1, entry("b", feature([2.0])))
    assert list(parse(split)) == ["a", "b"]
    kinds = field(1, entry("a", feature([b"x"]) + feature([3]) + feature([4])))
    assert parse(kinds)["a"].tolist() == [3, 4]
    mixed = field(1, entry("a", field(3, b"\x08\x05" + field(1, b"\x06\x07") + b"\x08\x08")))
    assert parse(mixed)["a"].tolist() == [5, 6, 7, 8]
    unknown = b"\x50\x01" + field(7, b"x") + b"\x5d1234" + b"\x5912345678" + twice
    assert parse(unknown)["a"].tolist() == [2]
    assert parse(field(1, entry("a", b"")))["a"] == ()
    assert parse(field(1, field(1, field(2, feature([1])))))[""].tolist() == [1]
    assert parse(b"") == {}
    long = field(1, entry("a", field(3, field(1, b"\x81\x80\x00" * 40))))
    assert parse(long)["a"].tolist() == [1] * 40


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a", "ends inside it"),
        (b"\x0a\x05ab", "5 bytes, 2 are left"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "are left"),
        (b"\x0a" + b"\xff" * 10 + b"\x01", "up to 64 bits"),
        (b"\x80" * 11, "up to 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "up to 64 bits"),
        (b"\x00\x00", "field number"),
        (b"\xfa\xff\xff\xff\x7f\x00", "field number"),
        (b"\x0b\x0c", "wire type 0, 1, 2 or 5 expected, got 3"),
        (b"\x0e", "wire type"),
        (b"\x0d123", "4 bytes, 3 are left"),
        (b"\x09123", "8 bytes, 3 are left"),
        (field(1, entry(b"\xff", feature([1]))), "UTF-8"),
        (field(1, entry("a", field(2, field(1, b"12345")))), "floats of 4 bytes"),
        (field(1, entry("a", field(3, field(1, b"\x80")))), "ends inside it"),
        (field(1, entry("a", field(3, field(1, b"\x80" * 100)))), "ends inside it"),
        (field(1, entry("a", field(3, field(1, b"\x01" * 99 + b"\x80")))), "ends inside it"),
        (field(1, entry("a", field(3, field(1, b"\xff" * 10 + b"\x01" * 90)))), "up to 64 bits"),
        (field(1, entry("a", field(3, field(1, b"\xff" * 9 + b"\x02" + b"\x01" * 90)))), "64 bits"),
        (b"not a message at all", "expected"),
    ],
)
def test_messages_that_are_broken(tmp_path, data, reason):
    with pytest.raises(ExampleError, match=reason):
        parse(data)
    with pytest.raises((ValueError, struct.error), match="|".join(("", "unpack"))):
        slow_example(data)
    ds = opened(tmp_path, record(message({"a": [1]})) + record(data))
    assert bytes(ds[1].bytes) == data
    with pytest.raises(
        mapix.FormatError, match=r"x.tfrecord: tfrecord record 1 at byte \d+: a tf.train"
    ):
        _ = ds[1].features
    assert ds.verify().damaged == [1]


def test_deep_nesting_is_not_followed():
    data = b""
    for _ in range(2000):
        data = field(1, data)
    with pytest.raises(ExampleError, match="UTF-8"):  # the third level is a name
        parse(data)
    shallow = field(1, field(1, field(1, field(1, field(1, b"")))))
    assert parse(shallow) == {"\n\x02\n\0": ()}


def test_limits_of_values(tmp_path, monkeypatch):
    monkeypatch.setattr(example, "MOST_VALUES", 100)
    monkeypatch.setattr(example, "MOST_NUMBERS", 100)
    for values, options in (
        ([b""] * 101, {}),
        ([1] * 101, {"packed": False}),
        ([1.0] * 101, {"packed": False}),
        ([1] * 101, {}),
    ):
        with pytest.raises(mapix.LimitError, match="more than MOST_"):
            parse(message({"a": values}, **options))
    with pytest.raises(mapix.LimitError, match="features"):
        parse(message({str(k): [1] for k in range(101)}))
    ds = opened(tmp_path, record(message({"a": [b""] * 101})), max_record_nbytes=1000)
    with pytest.raises(mapix.LimitError, match="x.tfrecord: record 0: more than MOST_VALUES"):
        _ = ds[0].features
    ds = opened(tmp_path, record(bytes(1001)), "y.tfrecord", max_record_nbytes=1000)
    with pytest.raises(mapix.LimitError, match="1001 bytes.*limit of 1000; max_record_nbytes"):
        _ = ds[0].features
    assert len(ds[0].bytes) == 1001


# --- images, labels, columns ----------------------------------------------------------------------


def test_pictures(tmp_path):
    pytest.importorskip("PIL", reason="pictures need Pillow")
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (k + 2, 5), np.uint8) for k in range(3)]
    data = [
        {"other": [b"BMnot"], "image/encoded": [png(images[0])], "image/class/label": [7]},
        {"name": [b"x"], "picture": [png(images[1])], "label": [8]},
        {"picture": [png(images[2])], "label": [1, 2]},
    ]
    ds = opened(tmp_path, b"".join(record(message(d)) for d in data))
    for found, image in zip(ds, images, strict=True):
        np.testing.assert_array_equal(found.image[:, :, 0], image)
    assert [r.label for r in ds] == [7, 8, None]
    batch = ds.batch([1, 0, 2], pad=True, labels="class")
    for canvas, image in zip(batch.images, (images[1], images[0], images[2]), strict=True):
        np.testing.assert_array_equal(canvas[: len(image), :, 0], image)
    assert np.ravel(batch.labels).tolist() == [8, 7, -1]
    assert np.ravel(ds.batch([1, 2], pad=True).present).tolist() == [True, False]
    assert ds.batch([0, 1], size=(4, 4), fit="resize").images.shape == (2, 4, 4, 1)
    assert "PNG" in ds.explain(0)["decodes"]
    assert ds.verify().ok


def test_raw_images(tmp_path):
    pixels = np.arange(24, dtype=np.uint8)
    shapes = [
        ({"height": [2], "width": [4], "depth": [3]}, (2, 4, 3)),
        ({"image/height": [4], "image/width": [3], "image/channels": [2]}, (4, 3, 2)),
        ({"image_height": [4], "image_width": [6]}, (4, 6, 1)),
        ({"height": [2], "width": [4], "depth": [4]}, None),
        ({"height": [0], "width": [4]}, None),
        ({"height": [-2], "width": [-12]}, None),
        ({"height": [2.0], "width": [12]}, None),
        ({"height": [1 << 40], "width": [1 << 40], "depth": [1 << 40]}, None),
        ({}, None),
    ]
    data = [{**{"image_raw": [pixels.tobytes()], "z": [b"y"]}, **d} for d, _ in shapes]
    ds = opened(tmp_path, b"".join(record(message(d)) for d in data))
    for found, (_, shape) in zip(ds, shapes, strict=True):
        if shape is None:
            assert found.image is None
        else:
            np.testing.assert_array_equal(found.image, pixels.reshape(shape))
            assert np.shares_memory(found.image, np.frombuffer(ds.source.view, np.uint8))
    with pytest.raises(mapix.UnsupportedError, match="no pixels"):
        ds.batch([0, 3])


def test_columns(tmp_path):
    data = [
        {
            "label": [3],
            "image/format": [b"png"],
            "box": [1.0, 2.0],
            "big": [b"x" * 2000],
            "bin": [b"\xff"],
        },
        {"label": [-4], "image/format": ["é".encode()], "score": [0.5], "words": [b"a", b"b"]},
        {"many": [1] * 100},
    ]
    ds = opened(tmp_path, b"".join(record(message(d)) for d in data))
    found = {name: column.filled().tolist() for name, column in ds.columns.items()}
    sizes = [len(message(d)) for d in data]
    np.testing.assert_equal(
        found,
        {
            "nbytes": sizes,
            "label": [3, -4, np.nan],
            "image_format": ["png", "é", None],
            "box": [(1.0, 2.0), None, None],
            "score": [np.nan, 0.5, np.nan],
            "words": [None, ("a", "b"), None],
        },
    )
    assert ds.columns["image_format"].description == "feature image/format"
    assert ds.where("label < 0 and image_format == 'é'").rows.tolist() == [1]
    assert ds[::-1].sort_by("label").rows.tolist() == [1, 0, 2]
    assert ds.weights().tolist() == [1, 1, 0]
    assert ds.describe()["features"] == ["label", "image/format", "box", "big", "bin"]


# --- lengths and checksums ------------------------------------------------------------------------


def test_files_that_were_cut(tmp_path):
    whole = b"".join(record(message({"a": [k]})) for k in range(3))
    one = len(whole) // 3
    for nbytes, complete in ((1, 0), (one - 1, 0), (one + 5, 1), (one + 12, 1), (3 * one - 4, 2)):
        with pytest.raises(
            mapix.TruncatedError, match=f"record {complete} .*{complete} complete records"
        ):
            opened(tmp_path, whole[:nbytes], f"{nbytes}.tfrecord")
        with pytest.warns(mapix.MapixWarning, match="the rest is not read"):
            ds = mapix.open(tmp_path / f"{nbytes}.tfrecord", strict=False)
        assert [r["a"].tolist() for r in ds] == [[k] for k in range(complete)]
    assert len(opened(tmp_path, b"", "empty.tfrecord")) == 0


def test_lengths_that_do_harm(tmp_path):
    good = record(b"")
    for length in ((1 << 64) - 1, 1 << 63, 1 << 62, 100):
        packed = struct.pack("<Q", length)
        bad = packed + struct.pack("<I", mask(crc32c(packed))) + bytes(50)
        with pytest.raises(
            mapix.TruncatedError, match=f"record of {length + 16} bytes expected, 62"
        ):
            opened(tmp_path, good + bad)
    with pytest.raises(mapix.FormatError, match="record 1 at byte 24: a length with the checksum"):
        opened(tmp_path, good + bytes(50))


def test_checksums_of_data(tmp_path):
    data = bytearray(record(message({"a": [1]})) * 3)
    data[len(data) // 3 + 14] ^= 1
    ds = opened(tmp_path, bytes(data))
    assert ds[0]["a"].tolist() == [1]
    assert len(ds[1].bytes) == len(ds[0].bytes)
    with pytest.raises(mapix.FormatError, match=r"record 1 at byte \d+: data with the checksum"):
        ds[1]["a"]
    report = ds.verify()
    assert report.damaged == [1]
    assert len(report.problems) == 1
    with pytest.raises(mapix.FormatError, match="record 1"):
        _ = dict(ds.columns)


# --- the contract -------------------------------------------------------------------------------


def test_detection(tmp_path):
    data = record(message({"a": [1]}))
    for name in ("train-00000-of-00002", "x.tfrec", "x.bin"):
        assert opened(tmp_path, data, name).FAMILY == "tfrecord"
    with pytest.raises(mapix.FormatError, match="bad.tfrecord"):
        opened(tmp_path, b"something else entirely", "bad.tfrecord")


def test_prefetch_asks_for_the_data(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Mapping, "willneed", lambda m, at, nbytes: asked.append((at, nbytes)))
    ds = opened(tmp_path, record(b"abc") + record(b"") + record(b"de"))
    assert ds.prefetch([2, 0]) == 2
    assert asked == [(19 + 16 + 12, 2), (12, 3)]


def test_several_files_as_one(tmp_path):
    paths = []
    for k in range(2):
        paths.append(tmp_path / f"{k}.tfrecord")
        paths[-1].write_bytes(b"".join(record(message({"label": [10 * k + i]})) for i in range(2)))
    ds = mapix.open(paths)
    assert [r.label for r in ds] == [0, 1, 10, 11]
    assert [r.label for r in ds.where("label >= 1")] == [1, 10, 11]
    assert [r.label for r in pickle.loads(pickle.dumps(ds[::2]))] == [0, 10]
