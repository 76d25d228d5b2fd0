"""Where the bytes of a record lie, in every family, against bytes that are written here."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.byte_ranges import ByteRange, hex_dump
from mapix.dataset import Annotations
from mapix.tfrecord.layout import masked

PIXELS = bytes(range(10, 22))


def told(found: list[ByteRange]) -> list[tuple[str, str, bytes, str]]:
    """Name, kind, bytes and text of ranges; the bytes are those of the files, read anew."""
    made = []
    for r in found:
        data = Path(r.path).read_bytes()[r.at : r.at + r.nbytes]
        assert len(data) == r.nbytes
        assert data == r.read()
        made.append((r.name, r.kind, data, r.text))
    return made


def tiled(found: list[ByteRange], begin: int, end: int) -> None:
    """The ranges cover bytes ``begin`` to ``end`` of one file, each once."""
    assert [r.at for r in found] == [begin, *(r.at + r.nbytes for r in found[:-1])]
    assert found[-1].at + found[-1].nbytes == end


def vimh(head: bytes, labels: bytes) -> bytes:
    return struct.pack("<3H", 2, 3, 2) + head + bytes([len(labels) // 2]) + labels + PIXELS


def test_vimh_with_a_spec_range(tmp_path: Path) -> None:
    path = tmp_path / "train"
    record = vimh(struct.pack("<2f", -80, -29), b"\0\x33\1\xff")
    path.write_bytes(record * 3)
    (tmp_path / "vimh_dataset_info.json").write_text(
        json.dumps(
            {
                "parameter_names": ["note", "velocity"],
                "parameter_mappings": {"note": {"min": 50, "max": 55, "step": 1}},
            }
        )
    )
    ds = mapix.open(path)
    n = len(record)
    found = ds.byte_ranges(1)
    tiled(found, n, 2 * n)
    assert told(found) == [
        ("height", "header", b"\2\0", "2"),
        ("width", "header", b"\3\0", "3"),
        ("channels", "header", b"\2\0", "2"),
        ("spec_min", "header", struct.pack("<f", -80), "-80"),
        ("spec_max", "header", struct.pack("<f", -29), "-29"),
        ("number of labels", "header", b"\2", "2"),
        ("note", "label", b"\0\x33", "id 0, code 51: 51"),
        ("velocity", "label", b"\1\xff", "id 1, code 255: 255"),
        ("pixels", "pixels", PIXELS, "2 x 3 x 2 of uint8, one plane per channel"),
    ]
    assert ds[1:].byte_ranges(-1) == ds.byte_ranges(2)
    unit = ds._annotations(1).unit
    assert unit is not None
    assert unit.name == "dB"
    assert (unit.scale, unit.offset) == pytest.approx((0.2, -80))
    with pytest.raises(IndexError, match="3"):
        ds.byte_ranges(3)
    with pytest.raises(TypeError, match="one record"):
        ds.byte_ranges(slice(2))  # type: ignore[arg-type]


def test_vimh_of_six_bytes(tmp_path: Path) -> None:
    path = tmp_path / "train"
    record = vimh(b"", b"\7\2")
    path.write_bytes(record * 3)
    ds = mapix.open(path)
    assert [(r.name, r.at) for r in ds.byte_ranges(2)] == [
        *(("height", 2 * 21), ("width", 44), ("channels", 46)),
        *(("number of labels", 48), ("param_7", 49), ("pixels", 51)),
    ]
    assert ds._annotations(0) == Annotations()


def test_idx_with_labels(tmp_path: Path) -> None:
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    images.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 3) + PIXELS)
    labels.write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 2) + b"\4\5")
    found = mapix.open(images).byte_ranges(1)
    assert told(found) == [
        ("byte order", "header", b"\0\0", "big-endian"),
        ("type", "header", b"\x08", "uint8"),
        ("number of dimensions", "header", b"\3", "3"),
        ("dimension 0", "header", b"\0\0\0\2", "2"),
        ("dimension 1", "header", b"\0\0\0\2", "2"),
        ("dimension 2", "header", b"\0\0\0\3", "3"),
        ("row", "pixels", PIXELS[6:], ", ".join(map(str, PIXELS[6:]))),
        ("byte order", "header", b"\0\0", "big-endian"),
        ("type", "header", b"\x08", "uint8"),
        ("number of dimensions", "header", b"\1", "1"),
        ("dimension 0", "header", b"\0\0\0\2", "2"),
        ("label", "label", b"\5", "5"),
    ]
    assert {r.path for r in found} == {str(images), str(labels)}
    joined = mapix.open([images, images])
    assert joined.byte_ranges(3) == found


def test_a_row_of_many_numbers_and_little_endian(tmp_path: Path) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(b"\xff\xff\x0d\2" + struct.pack("<2I", 2, 100) + bytes(800))
    found = mapix.open(path).byte_ranges(0)
    assert [r.text for r in found] == [
        "little-endian",
        "float32",
        "2",
        "2",
        "100",
        "100 of float32",
    ]


def pink(kind: int, *numbers: int, data: bytes, comment: bytes = b"") -> bytes:
    return comment + struct.pack(f"<{2 + len(numbers)}i", 2, kind, *numbers) + data


def test_pink(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    floats = np.arange(12, dtype="<f4")
    path.write_bytes(
        pink(0, 0, 2, 0, 2, 2, 3, data=floats.tobytes(), comment=b"# a\n# END OF HEADER\n")
    )
    found = told(mapix.open(path).byte_ranges(1))
    assert [(name, text) for name, _, _, text in found] == [
        ("comment", repr("# a\n# END OF HEADER\n")),
        *(("version", "2"), ("kind", "0"), ("data type", "0"), ("entries", "2")),
        *(("layout of an entry", "0"), ("number of dimensions of an entry", "2")),
        *(("dimension 0 of an entry", "2"), ("dimension 1 of an entry", "3")),
        ("row", "6.0, 7.0, 8.0, 9.0, 10.0, 11.0"),
    ]
    assert found[-1][1:3] == ("pixels", floats[6:].tobytes())
    path.write_bytes(pink(1, 0, 1, 2, 3, 3, 0, 1, 1, data=floats[:7].tobytes()))
    som = mapix.open(path)
    assert som.layout == "hexagonal"
    assert [r.name for r in som.byte_ranges(6)][3:] == [
        *("layout of the SOM", "number of dimensions of the SOM"),
        *("dimension 0 of the SOM", "dimension 1 of the SOM"),
        *("layout of a neuron", "number of dimensions of a neuron", "dimension 0 of a neuron"),
        "row",
    ]
    assert som.byte_ranges(6)[-1].at == path.stat().st_size - 4
    entry = struct.pack("<Bf", 1, 0.5) + struct.pack("<Bf", 0, 1.5)
    path.write_bytes(pink(3, 1, 0, 1, 2, data=entry))
    rotation = told(mapix.open(path).byte_ranges(0))
    assert [(name, text) for name, _, _, text in rotation][-4:] == [
        *(("flip[0]", "1"), ("angle[0]", "0.5"), ("flip[1]", "0"), ("angle[1]", "1.5")),
    ]
    assert b"".join(data for *_, data, _ in rotation[-4:]) == entry


@pytest.mark.parametrize(
    ("numbers", "data", "names"),
    [
        ((2, 1, 2, 2), bytes(32), ["entries", "channels", "height", "width"]),
        (
            (1, 2, 1, 1, 2, 2),
            bytes(32),
            ["channels", "width of the SOM", "height of the SOM", "depth of the SOM"],
        ),
    ],
)
def test_pink_1(tmp_path: Path, numbers: tuple[int, ...], data: bytes, names: list[str]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(struct.pack(f"<{len(numbers)}i", *numbers) + data)
    found = mapix.open(path, version=1).byte_ranges(0)
    assert [r.name for r in found][: len(names)] == names
    assert [int(r.text) for r in found[:-1]] == list(numbers)


def test_npy_and_npz(tmp_path: Path) -> None:
    array = np.arange(12, dtype=">u2").reshape(2, 2, 3)
    np.save(tmp_path / "a.npy", array)
    found = mapix.open(tmp_path / "a.npy").byte_ranges(1)
    tiled(found[:-1], 0, 128)
    assert [(r.name, r.kind, r.at, r.nbytes) for r in found] == [
        *(("magic", "header", 0, 6), ("version", "header", 6, 2)),
        *(("length of the header", "header", 8, 2), ("header", "header", 10, 118)),
        ("row", "pixels", 140, 12),
    ]
    assert found[-1].read() == array[1].tobytes()
    assert "descr" in found[3].text
    np.savez(tmp_path / "a.npz", images=array, labels=np.array([3, 4]))
    found = mapix.open(tmp_path / "a.npz").byte_ranges(1)
    assert [r.name for r in found[:2]] == ["zip header", "magic"]
    assert found[0].read(4) == b"PK\3\4"
    assert found[0].text == "member 'images.npy'"
    assert (found[-1].name, found[-1].kind, found[-1].text) == ("label", "label", "4")
    np.savez_compressed(tmp_path / "b.npz", images=array)
    found = mapix.open(tmp_path / "b.npz").byte_ranges(1)
    assert [r.name for r in found] == ["magic", "version", "length of the header", "header", "row"]
    assert found[-1].read() == array[1].tobytes()


def test_fields_of_records(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = np.array([(1, 2.5), (3, 4.5)], [("id", "<i2"), ("size", "<f8")])
    np.save(path, array)
    found = mapix.open(path).byte_ranges(1)[-2:]
    assert told(found) == [
        ("id", "data", b"\3\0", "3"),
        ("size", "data", struct.pack("<d", 4.5), "4.5"),
    ]


def test_iid(tmp_path: Path) -> None:
    path = tmp_path / "a.iid"
    mask = np.eye(3, dtype=np.uint8)
    parts = np.zeros((5, 5), np.uint8)
    parts[0, 0] = parts[4, 3:] = 1
    with mapix.iid.Writer(path) as out:
        out.add("cells", "a", mask)
        out.add("cells", "bc", parts, at=(10, 20))
    ds = mapix.open(path)
    found = told(ds.byte_ranges(1))
    assert [(name, text) for name, _, _, text in found] == [
        *(("key", "1"), ("offset of the name", "18"), ("length of the name", "19")),
        *(("offset", "30"), ("length", "42")),
        *(("key", "1"), ("length of the domain", "5"), ("length of the iid", "2")),
        *(("domain", "'cells'"), ("iid", "'bc'")),
        *(("key", "1"), ("minr", "10"), ("minc", "20"), ("maxr", "15"), ("maxc", "25")),
        ("area", "3"),
        *(("length of region 0", "13"), ("minr of region 0", "10"), ("minc of region 0", "20")),
        *(("maxr of region 0", "11"), ("maxc of region 0", "21")),
        ("mask of region 0", "1 x 1, one bit per pixel"),
        *(("length of region 1", "13"), ("minr of region 1", "14"), ("minc of region 1", "23")),
        *(("maxr of region 1", "15"), ("maxc of region 1", "25")),
        ("mask of region 1", "1 x 2, one bit per pixel"),
    ]
    assert [data for _, kind, data, _ in found if kind == "pixels"] == [b"\x80", b"\xc0"]
    assert ds[[1]].byte_ranges(0) == ds.byte_ranges(1)
    joined = mapix.open([path, path])
    assert joined.byte_ranges(3) == ds.byte_ranges(1)


def test_iid_of_2018(tmp_path: Path) -> None:
    path = tmp_path / "a.iid"
    with mapix.iid.Writer(path) as out:
        out.add("d", "a", np.ones((1, 1), np.uint8))
        out.add("d", "b", np.ones((2, 4), np.uint8))
    data = bytearray(path.read_bytes())
    ds = mapix.open(path)
    at = next(r.at for r in ds.byte_ranges(1) if r.name == "area")
    data[at - 12 : at - 8], data[at : at + 4] = data[at : at + 4], data[at - 12 : at - 8]
    ds.close()
    path.write_bytes(data)
    found = mapix.open(path).byte_ranges(1)
    swapped = [(r.name, r.text, r.at) for r in found if r.name in ("key", "area")][-2:]
    assert swapped == [("area", "8", at - 12), ("key", "1", at)]


def test_tar(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as out:
        for name, data in [
            ("x.cls", b"1"),
            ("y.cls", b"7"),
            ("y.txt", b"seven"),
            ("y.bin", PIXELS),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    found = mapix.open(path).byte_ranges(1)
    tiled(found[:16], 1024, 1024 + 513)
    shown = {r.name: (r.kind, r.text) for r in found[:16]}
    assert shown["name"] == ("name", "y.cls")
    assert shown["size"] == ("header", "00000000001")
    assert shown["checksum"][0] == "checksum"
    contents = [r for r in found if r.name in ("cls", "txt", "bin")]
    assert told(contents) == [
        ("cls", "label", b"7", "7"),
        ("txt", "label", b"seven", "seven"),
        ("bin", "data", PIXELS, ""),
    ]


def example(**features: bytes) -> bytes:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    entries = b"".join(
        field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()
    )
    return field(1, entries)


def test_tfrecord(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    integers, raw = b"\x1a\x03\x0a\x01\x05", b"\x0a\x0e\x0a\x0c" + PIXELS
    one = b"\x1a\x03\x0a\x01\x03", b"\x1a\x03\x0a\x01\x04"
    records = [example(label=integers, height=one[0], width=one[1], image=raw), b"no message"]
    data = b"".join(
        (size := struct.pack("<Q", len(r)))
        + struct.pack("<I", masked(size))
        + r
        + struct.pack("<I", masked(r))
        for r in records
    )
    path.write_bytes(data)
    ds = mapix.open(path)
    found = ds.byte_ranges(0)
    tiled(found, 0, 16 + len(records[0]))
    values = [(name, kind, raw, text) for name, kind, raw, text in told(found) if name != "message"]
    assert values == [
        ("length", "header", data[:8], str(len(records[0]))),
        ("checksum of the length", "checksum", data[8:12], ""),
        ("label", "label", integers, "5"),
        ("height", "data", one[0], "3"),
        ("width", "data", one[1], "4"),
        ("image", "pixels", raw, "12 bytes"),
        ("checksum of the data", "checksum", data[found[-1].at :][:4], ""),
    ]
    other = ds.byte_ranges(1)
    tiled(other, 16 + len(records[0]), len(data))
    assert [r.name for r in other] == [
        *("length", "checksum of the length", "data", "checksum of the data"),
    ]


def test_folder(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    line = {
        "file_name": "a.png",
        "caption": "nothing",
        "objects": {"bbox": [[1, 2, 3, 1.5]], "categories": ["cat"]},
    }
    text = json.dumps(line)
    (tmp_path / "metadata.jsonl").write_text(f"\n{text}\n")
    ds = mapix.open(tmp_path)
    data = (tmp_path / "a.png").read_bytes()
    first, second = told(ds.byte_ranges(0))
    assert first[:2] == ("line", "label")
    assert first[2] == f"{text}\n".encode()
    assert second == ("a.png", "pixels", data, "the picture's file")
    assert ds._annotations(0) == Annotations([(1.0, 2.0, 3.0, 1.5)], ["cat"], "nothing", None)


def test_a_folder_without_the_picture(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{"file_name"\n')
    ds = mapix.open(tmp_path)
    assert [r.read() for r in ds.byte_ranges(0)] == [b'{"file_name": "a.png"}\n']
    assert [r.read() for r in ds.byte_ranges(1)] == [b'{"file_name"\n']


def test_a_plain_format_states_where_its_pixels_lie(tmp_path: Path) -> None:
    from mapix.dataset import FileDataset
    from mapix.source import Source

    class Plain(FileDataset[Any]):
        FAMILY = "plain"

        def _record(self, row: int) -> Any:
            if row == 0:
                return np.ndarray((2, 3), "u1", self.source.view, 4, (1, 2))
            return np.ndarray((2, 3), "u1", self.source.view, 4 + 6 * row + 5, (-3, -1))

        def verify(self, progress: Any = None) -> Any: ...

    path = tmp_path / "a"
    path.write_bytes(b"head" + PIXELS)
    ds = Plain(Source(path), 2)
    assert told(ds.byte_ranges(1)) == [("pixels", "pixels", PIXELS[6:], "2 x 3 of uint8")]
    assert ds._annotations(0) == Annotations()
    assert ds.byte_ranges(1)[0].strides == ()
    np.testing.assert_array_equal(pixels_by_strides(ds, 0, "u1"), ds[0])


def pixels_by_strides(ds: Any, i: int, dtype: str) -> Any:
    """The pixels of a record from the bytes of its file, by place and strides."""
    (found,) = (r for r in ds.byte_ranges(i) if r.strides)
    data = Path(found.path).read_bytes()[found.at : found.at + found.nbytes]
    shape = ds._image(int(ds.rows[i])).shape
    strides = found.strides if len(shape) == len(found.strides) else (*found.strides, 0)
    return np.ndarray(shape, dtype, data, 0, strides)


@pytest.mark.parametrize("order", ["CHW", "HWC"])
def test_strides_of_vimh(tmp_path: Path, order: str) -> None:
    path = tmp_path / "train"
    path.write_bytes(vimh(b"", b"\7\2") * 3)
    ds = mapix.open(path, order=order)
    np.testing.assert_array_equal(pixels_by_strides(ds, 1, "u1"), ds[1].image)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("axes", ["HWC", "CHW"])
def test_strides_of_rows(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    array = np.arange(3 * np.prod(shape), dtype=">u2").reshape(3, *shape)
    np.save(tmp_path / "a.npy", array)
    ds = mapix.open(tmp_path / "a.npy", axes=axes)
    if len(shape) == 1:
        (found,) = (r for r in ds.byte_ranges(2) if r.strides)
        assert found.strides == (0, 2)
        return
    np.testing.assert_array_equal(pixels_by_strides(ds, 2, ">u2"), ds._image(2))


def test_a_dump(tmp_path: Path) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(struct.pack(">4B2I", 0, 0, 8, 2, 1, 20) + b"0123456789abcdefghij")
    shown = hex_dump(mapix.open(path).byte_ranges(0), most=18)
    digits = "30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66"
    row = ", ".join(str(b) for b in b"0123456789abcdefghij")
    assert [re.split("  +", line) for line in shown.splitlines()] == [
        [f"{path}:"],
        ["00000000", "00 00", "..", "byte order = big-endian"],
        ["00000002", "08", ".", "type = uint8"],
        ["00000003", "02", ".", "number of dimensions = 2"],
        ["00000004", "00 00 00 01", "....", "dimension 0 = 1"],
        ["00000008", "00 00 00 14", "....", "dimension 1 = 20"],
        ["0000000c", digits, "0123456789abcdef", f"row = {row[:79]}…"],
        ["0000001c", "67 68", "gh"],
        ["0000001e", "... 2 more bytes"],
    ]
    assert shown.splitlines()[1].index("byte") == shown.splitlines()[6].index("row")


def test_a_dump_moves_no_cursor(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("a.txt")
        member.size = 9
        tar.addfile(member, io.BytesIO(b"\x1b[2J\x00 end"))
    lines = hex_dump(mapix.open(tmp_path / "a.tar").byte_ranges(0)).splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[-1].endswith("txt = \\x1b[2J\\x00 end")


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(vimh(b"", b"\7\2") * 400)
    ds = mapix.open(path)
    found = ds.byte_ranges(399)
    with path.open("r+b") as f:
        f.truncate(40)
    with pytest.raises(mapix.FileChangedError):
        found[-1].read()
    with pytest.raises(mapix.FileChangedError):
        ds.byte_ranges(399)
