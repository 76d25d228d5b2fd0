"""Tar shards: a slow reader, the original programs, and archives made to do harm."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.source import Mapping
from mapix.tar.index import split_name
from mapix.testing import FormatTests

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
END = bytes(1024)


# --- an independent reader, and an independent writer ---------------------------------------------


def octal(field: bytes) -> int:
    """A number of a header, by a loop."""
    if field[0] == 0x80:
        number = 0
        for byte in field[1:]:
            number = number * 256 + byte
        return number
    text = field.split(b"\0")[0].strip(b" ")
    number = 0
    for digit in text:
        if not 0x30 <= digit <= 0x37:
            raise ValueError(text)
        number = number * 8 + digit - 0x30
    return number


def slow(data: bytes) -> list[tuple[str, dict[str, bytes]]] | None:
    """Key and members of each record, by struct and loops; None of an archive that is broken.

    For archives without extended headers.
    """
    records: list[tuple[str, dict[str, bytes]]] = []
    at = 0
    while True:
        if at + 512 > len(data):
            return None
        block = data[at : at + 512]
        if block == bytes(512):
            return records
        fields = struct.unpack("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x", block)
        name, size, stated, kind, magic, prefix = (fields[k] for k in (0, 4, 6, 7, 9, 15))
        total = signed = 0
        for k, byte in enumerate(block):
            value = 32 if 148 <= k < 156 else byte
            total += value
            signed += value - 256 if value > 127 else value
        try:
            if octal(stated) not in (total, signed):
                return None
            nbytes = octal(size)
        except ValueError:
            return None
        name = name.split(b"\0")[0]
        if magic == b"ustar\0" and prefix[0]:
            name = prefix.split(b"\0")[0] + b"/" + name
        at += 512
        if kind in (b"1", b"2", b"3", b"4", b"5", b"6"):
            continue
        if kind not in (b"0", b"\0", b"7"):
            return None
        if at + nbytes > len(data):
            return None
        path = name.decode("utf-8", "surrogateescape")
        base = path.split("/")[-1]
        if "." in base[1:] and not base.startswith("."):
            key = path[: len(path) - len(base)] + base.split(".")[0]
            extension = base[len(base.split(".")[0]) + 1 :].lower()
            if not records or records[-1][0] != key:
                records.append((key, {}))
            if extension in records[-1][1]:
                return None
            records[-1][1][extension] = data[at : at + nbytes]
        at += (nbytes + 511) // 512 * 512


def header(name: bytes, size: int | bytes, kind: bytes = b"0", **fields: bytes) -> bytes:
    """A ustar header with its checksum."""
    digits = size if isinstance(size, bytes) else b"%011o\0" % size
    made = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8s1s100s6s2s",
            name,
            b"0000644\0",
            b"0000000\0",
            b"0000000\0",
            digits,
            b"00000000000\0",
            b" " * 8,
            kind,
            fields.get("link", b""),
            fields.get("magic", b"ustar\0"),
            b"00",
        ).ljust(512, b"\0")
    )
    made[345:500] = fields.get("prefix", b"").ljust(155, b"\0")
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def member(name: bytes, content: bytes, kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header and the blocks of a file."""
    return header(name, len(content), kind, **fields) + content + bytes(-len(content) % 512)


def pax(**values: str | bytes) -> bytes:
    """A pax header in front of a member."""
    text = b""
    for key, value in values.items():
        rest = b" %s=%s\n" % (key.encode(), value if isinstance(value, bytes) else value.encode())
        n = len(rest) + 1
        while len(b"%d" % n) + len(rest) != n:
            n += 1
        text += b"%d" % n + rest
    return member(b"pax", text, b"x")


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def pgm(pixels: list[list[int]]) -> bytes:
    return b"P5 %d %d 255\n" % (len(pixels[0]), len(pixels)) + b"".join(map(bytes, pixels))


def archive(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive by Python's tarfile."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def opened(tmp_path: Path, data: bytes, name: str = "shard.tar", **options: Any) -> Any:
    (tmp_path / name).write_bytes(data)
    return mapix.open(tmp_path / name, **options)


def content(ds: Any) -> list[tuple[str, dict[str, bytes]]]:
    return [(r.key, {x: bytes(view) for x, view in r.members.items()}) for r in ds]


class Tar(FormatTests):
    """Samples of arrays and of pictures share this."""

    MAX_SAMPLE_NBYTES = 8192
    MEMBERS: dict[str, bytes]

    def sample(self, folder: Path) -> Path:
        path = folder / "shard.tar"
        parts = [member(name.encode(), data) for name, data in self.MEMBERS.items()]
        path.write_bytes(b"".join(parts) + END)
        return path

    def read_slowly(self, data: bytes) -> list[Any] | None:
        return slow(data)

    def content(self, dataset: Any) -> list[Any]:
        return content(dataset)

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray[Any, Any]]:
        return [np.frombuffer(view, np.uint8) for view in record.members.values()]

    def damaged(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """A matrix of cuts and bytes: a third of those that are not zero, and others."""
        for n in range(0, len(data), 61):
            yield f"cut to {n} bytes", data[:n]
        for at in range(len(data)):
            if at % 97 == 0 or (data[at] and at % 3 == 0):
                for value in {data[at] ^ 0xFF, data[at] ^ 1}:
                    yield f"byte {at} = {value}", data[:at] + bytes([value]) + data[at + 1 :]
        for tail in (b"\0", b"\xff" * 7, data[:5]):
            yield f"{len(tail)} bytes more", data + tail


class TestTar(Tar):
    MEMBERS = {
        "a/0.npy": npy(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        "a/0.cls": b"3",
        "a/1.npy": npy(np.arange(6, 12, dtype=np.uint8).reshape(2, 3)),
        "a/1.cls": b"7",
    }

    def arrays(self, dataset: Any, record: Any) -> list[np.ndarray[Any, Any]]:
        return [record["npy"], *super().arrays(dataset, record)]


class TestTarOfPictures(Tar):
    MEMBERS = {
        "0.pgm": pgm([[1, 2, 3], [4, 5, 6]]),
        "0.json": b'{"width": 3, "name": "x"}',
        "1.pgm": pgm([[10], [20], [30]]),
        "1.txt": b"a text",
        "1.cls": b"1",
    }

    @pytest.fixture(autouse=True)
    def _pillow(self) -> None:
        pytest.importorskip("PIL", reason="pictures need Pillow")

    def test_damaged_files(self, path: Path) -> None:
        """The same headers as those of ``TestTar``."""


# --- what the original programs write -------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_archives_by_tarfile(tmp_path, form):
    folder = "d" * 90
    members = {
        "a.cls": b"1",
        "a.txt": b"t" * 700,
        f"{folder}/b.SEG.PTH": b"p",
        f"{folder}/b.bin": b"",
        "c.x.y": bytes(512),
    }
    if form != "ustar":  # which has no place for it
        members[f"{'n' * 300}/{'é' * 120}.bin"] = b"long"
    data = archive(members, FORMATS[form])
    expected = [
        ("a", {"cls": b"1", "txt": b"t" * 700}),
        (f"{folder}/b", {"seg.pth": b"p", "bin": b""}),
        ("c", {"x.y": bytes(512)}),
    ]
    if form != "ustar":
        expected.append((f"{'n' * 300}/{'é' * 120}", {"bin": b"long"}))
    ds = opened(tmp_path, data)
    assert content(ds) == expected
    assert ds.verify().ok
    with tarfile.open(tmp_path / "shard.tar") as original:
        places = [(m.offset_data, m.size) for m in original.getmembers()]
    index = ds.core.index
    assert list(zip(index.begins.tolist(), index.sizes.tolist(), strict=True)) == places


def test_archives_by_the_tar_program(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.cls").write_bytes(b"%d" % k)
        (folder / f"{k}.txt").write_bytes(b"text" * k)
    for name in ("gnu", "ustar", "posix", "v7"):
        out = tmp_path / f"{name}.tar"
        run = subprocess.run(
            ["tar", f"--format={name}", "--sort=name", "-cf", out, "-C", folder, "."],
            capture_output=True,
            check=False,
        )
        if run.returncode:
            pytest.skip("no GNU tar")
        ds = mapix.open(out)
        assert content(ds) == [(f"./{k}", {"cls": b"%d" % k, "txt": b"text" * k}) for k in range(3)]
        assert ds.describe()["skipped"] == {"directories": 1}


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_shards_by_webdataset(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    path = str(tmp_path / "out.tar")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 5, 4, 3), np.uint8)
    with webdataset.TarWriter(path) as out:
        for k, image in enumerate(images):
            out.write(
                {
                    "__key__": f"d/s{k}",
                    "cls": k,
                    "txt": f"no {k}",
                    "npy": image,
                    "json": {"k": k, "half": k / 2, "tags": ["a"] * k},
                }
            )
    ds = mapix.open(path)
    original = list(webdataset.WebDataset(path, shardshuffle=False))
    assert [r.key for r in ds] == [sample["__key__"] for sample in original]
    for record, sample in zip(ds, original, strict=True):
        assert {k: bytes(v) for k, v in record.members.items()} == {
            k: v for k, v in sample.items() if not k.startswith("__")
        }
    for k, record in enumerate(ds):
        assert (record.cls, record.txt) == (k, f"no {k}")
        assert record.json == {"k": k, "half": k / 2, "tags": ["a"] * k}
        np.testing.assert_array_equal(record["npy"], images[k])
    batch = ds.batch([2, 0])
    np.testing.assert_array_equal(batch.images, images[[2, 0]])
    assert np.ravel(batch.labels).tolist() == [2, 0]


def test_names_become_keys_as_webdataset_makes_them():
    names = {
        "a.jpg": ("a", "jpg"),
        "a/b.c/d.seg.PNG": ("a/b.c/d", "seg.png"),
        "./x.cls": ("./x", "cls"),
        "noextension": None,
        "dir.d/noextension": None,
        ".hidden": None,
        "__meta.x__": None,
        "d/__meta.x__": ("d/__meta", "x__"),
        "a.": ("a", ""),
    }
    assert {name: split_name(name) for name in names} == names
    tariterators = pytest.importorskip("webdataset.tariterators", reason="no webdataset")
    for name, found in names.items():
        if "__" not in name:
            key, extension = tariterators.base_plus_ext(name)
            assert (key and (key, extension.lower())) == found, name


# --- values ---------------------------------------------------------------------------------------


def test_values_by_extension(tmp_path):
    array = np.arange(12, dtype=">i2").reshape(3, 4)
    ds = opened(
        tmp_path,
        archive(
            {
                "a.npy": npy(array),
                "a.f.npy": npy(np.asfortranarray(array)),
                "a.cls": b" 42\n",
                "a.index": b"-7",
                "a.txt": "é".encode(),
                "a.json": b'[1, {"b": null}]',
                "a.bin": b"\0\1",
                "b.bin": b"",
            }
        ),
    )
    record = ds[0]
    np.testing.assert_array_equal(record["npy"], array)
    np.testing.assert_array_equal(record["f.npy"], array)
    assert record["npy"].dtype == ">i2"
    assert np.shares_memory(record["npy"], np.frombuffer(record.members["npy"], np.uint8))
    assert np.shares_memory(record["npy"], np.frombuffer(ds.source.view, np.uint8))
    assert not record["npy"].flags.writeable
    assert record["cls"] == record.cls == 42
    assert record["index"] == -7
    assert record.txt == "é"
    assert record.json == [1, {"b": None}]
    assert record["bin"] == b"\0\1"
    assert isinstance(record["bin"], memoryview)
    assert record["bin"].readonly
    assert "cls" in record
    assert "jpg" not in record
    assert (ds[1].cls, ds[1].txt, ds[1].json, ds[1].image) == (None, None, None, None)
    with pytest.raises(KeyError, match="no 'jpg'; it has npy, f.npy"):
        record["jpg"]
    again = pickle.loads(pickle.dumps(record))
    assert (again.key, again.cls, again.index) == ("a", 42, 0)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("cls", b"x", "decimal digits"),
        ("cls", b"1" * 20, "decimal digits"),
        ("cls", "²".encode(), "decimal digits"),
        ("cls", b"", "decimal digits"),
        ("txt", b"\xff", "UTF-8"),
        ("json", b"{", "JSON expected"),
        ("json", b"[" * 100_000, "nested|JSON expected"),
        ("npy", b"\x93NUMPY", ".npy file"),
        ("npy", b"x" * 300, ".npy file"),
        ("npy", npy(np.zeros(3))[:-1], "takes 24 bytes, 23"),
        ("npy", npy(np.zeros(3)) + b"x", "takes 24 bytes, 25"),
        ("npy", npy(np.array([{}], object)), "Python objects"),
        ("npy", npy(np.zeros(1)).replace(b"(1,)", b"(-1,)"), "shape of numbers|header"),
        ("npy", npy(np.zeros(10)).replace(b"(10,)", b"(9e9)"), "header|shape"),
        ("npy", npy(np.zeros(1)).replace(b"(1,), }   ", b"(1<<60,), }"), "header"),
    ],
)
def test_values_that_are_broken(tmp_path, name, data, reason):
    ds = opened(tmp_path, archive({"a.bin": b"", f"b.{name}": data}))
    with pytest.raises(
        mapix.FormatError, match=f"shard.tar: tar record 1 at byte 1024: b.{name}: .*({reason})"
    ):
        ds[1][name]
    report = ds.verify()
    assert report.damaged == [1]
    assert len(report.problems) == 1


def test_limits_of_values(tmp_path):
    ds = opened(
        tmp_path,
        archive({"a.txt": b"x" * 100, "a.png": b"y" * 100}),
        max_value_nbytes=99,
        max_image_nbytes=98,
    )
    with pytest.raises(mapix.LimitError, match="100 bytes.*limit of 99.*max_value_nbytes"):
        _ = ds[0].txt
    with pytest.raises(mapix.LimitError, match="limit of 98.*max_image_nbytes"):
        _ = ds[0].image
    again = pickle.loads(pickle.dumps(ds))
    with pytest.raises(mapix.LimitError, match="limit of 99"):
        _ = again[0].txt


def test_columns(tmp_path):
    ds = opened(
        tmp_path,
        archive(
            {
                "0.cls": b"5",
                "0.json": b'{"width": 3, "ok": true, "tags": ["x"], "deep": {"a": 1}}',
                "1.txt": b"hello",
                "1.json": b'{"width": 4.5, "key": "own"}',
                "2.cls": b"-1",
                "2.seg.png": b"12345",
                "2.json": b"[1]",
            }
        ),
    )
    found = {name: column.filled().tolist() for name, column in ds.columns.items()}
    np.testing.assert_equal(
        found,
        {
            "key": ["0", "1", "2"],
            "cls": [5, np.nan, -1],
            "txt": [None, "hello", None],
            "cls_nbytes": [1, np.nan, 2],
            "json_nbytes": [57, 28, 3],
            "txt_nbytes": [np.nan, 5, np.nan],
            "seg_png_nbytes": [np.nan, np.nan, 5],
            "width": [3, 4.5, np.nan],
            "ok": [1, np.nan, np.nan],
            "tags": [("x",), None, None],
            "json_key": [None, "own", None],
        },
    )
    assert [r.key for r in ds.where("cls >= -1 and seg_png_nbytes < 6")] == ["2"]
    assert [r.key for r in ds.where("key != '0'").where("width > 4")] == ["1"]
    assert [r.key for r in ds[::-1].sort_by("cls")] == ["2", "0", "1"]
    assert ds.weights().tolist() == [1, 0, 1]
    facts = ds.describe()
    assert facts["members"] == 7
    assert facts["extensions"] == {"cls": 2, "json": 3, "txt": 1, "seg.png": 1}


def test_pictures(tmp_path):
    pil = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    rng = np.random.default_rng(2)
    members, images = {}, []
    for k, (h, w) in enumerate([(8, 6), (5, 9)]):
        images.append(rng.integers(0, 256, (h, w, 3), np.uint8))
        out = io.BytesIO()
        pil.fromarray(images[-1]).save(out, "PNG")
        members[f"{k}.bin"] = b"no picture"
        members[f"{k}.png"] = out.getvalue()
        members[f"{k}.cls"] = b"%d" % k
    ds = opened(tmp_path, archive(members))
    for record, image in zip(ds, images, strict=True):
        np.testing.assert_array_equal(record.image, image)
    batch = ds.batch([1, 0], pad=(10, 10), threads=2)
    for image, pixels, (h, w, _) in zip(batch.images, images[::-1], batch.shapes, strict=True):
        np.testing.assert_array_equal(image[:h, :w], pixels)
        assert not image[h:].any()
    assert np.ravel(batch.labels).tolist() == [1, 0]
    small = ds.batch([0, 1], size=(4, 4), fit="resize", mode="L", dtype="float32", scale=1 / 255)
    assert small.images.shape == (2, 4, 4, 1)
    wanted = np.asarray(
        pil.fromarray(images[0]).convert("L").resize((4, 4), pil.Resampling.BILINEAR)
    )
    np.testing.assert_allclose(small.images[0, :, :, 0], wanted / 255, atol=1e-6)
    assert [len(b) for b in ds.batches(1, size=(4, 4), fit="cover")] == [1, 1]
    assert "PNG" in ds.explain(0)["decodes"]
    assert ds.verify().ok


def test_pictures_that_do_harm(tmp_path):
    pytest.importorskip("PIL", reason="pictures need Pillow")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    front = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    )
    bomb = front + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    ds = opened(tmp_path, archive({"0.png": bomb, "1.png": b"not one", "2.png": b""}))
    with pytest.raises(mapix.LimitError, match="shard.tar"):
        _ = ds[0].image
    for k in (1, 2):
        with pytest.raises(mapix.FormatError, match=f"shard.tar: tar record {k}.*{k}.png"):
            _ = ds[k].image
    assert ds.verify().damaged == [0, 1, 2]
    with pytest.raises(mapix.UnsupportedError, match="no picture|no pixels"):
        opened(tmp_path, archive({"0.bin": b""}), "b.tar").batch([0])


# --- headers --------------------------------------------------------------------------------------


def test_sizes_in_base_256_and_in_pax(tmp_path):
    data = header(b"a.cls", b"\x80" + (1).to_bytes(11, "big")) + b"1".ljust(512, b"\0")
    data += pax(path="long/name.cls", size="1", mtime="1.5")
    data += header(b"short", b"00000000000\0") + b"2".ljust(512, b"\0")
    ds = opened(tmp_path, data + END)
    assert content(ds) == [("a", {"cls": b"1"}), ("long/name", {"cls": b"2"})]


def test_old_archives(tmp_path):
    """v7: no magic; a name that ends with a slash is a directory; signed checksums."""
    one = bytearray(member(b"\xe9.cls", b"1", b"\0", magic=b""))
    total = sum(one[:148]) + 8 * 32 + sum(one[156:512])
    one[148:156] = b"%06o\0 " % (total - 256)
    data = header(b"d/", 0, b"\0", magic=b"") + bytes(one)
    ds = opened(tmp_path, data + END)
    assert content(ds) == [("\udce9", {"cls": b"1"})]
    assert mapix.open(tmp_path / "shard.tar").describe()["skipped"] == {"directories": 1}


def test_what_is_skipped(tmp_path):
    data = header(b"d/", 0, b"5") + member(b"a.cls", b"1")
    data += header(b"a.txt", 700, b"1", link=b"b.txt") + header(b"a.jpg", 0, b"2", link=b"x")
    data += header(b"fifo", 0, b"6") + header(b"tty", 0, b"3") + member(b"label", b"x" * 600, b"D")
    data += member(b"README", b"about") + member(b"b.cls", b"2")
    with pytest.warns(mapix.MapixWarning, match="2 links are skipped, the first is 'a.txt'"):
        ds = opened(tmp_path, data + END)
    assert content(ds) == [("a", {"cls": b"1"}), ("b", {"cls": b"2"})]
    assert ds.describe()["skipped"] == {
        "directories": 1,
        "hard links": 1,
        "symbolic links": 1,
        "FIFOs": 1,
        "devices": 1,
        "members of other types": 1,
        "files without a key or an extension": 1,
    }


@pytest.mark.parametrize(
    "data",
    [
        member(b"a.cls", b"1", b"S"),
        pax(**{"GNU.sparse.major": "1", "path": "a.cls"}) + member(b"x", b"1"),
    ],
)
def test_sparse_files_are_refused(tmp_path, data):
    with pytest.raises(mapix.UnsupportedError, match="'a.cls'.*sparse.*--sparse"):
        opened(tmp_path, data + END)


def test_keys_that_come_back_are_new_records(tmp_path):
    data = member(b"a.cls", b"1") + member(b"b.cls", b"2") + member(b"a.txt", b"3")
    assert [r.key for r in opened(tmp_path, data + END)] == ["a", "b", "a"]
    with pytest.raises(
        mapix.FormatError, match="record 0 at byte 1024: the member 'a.CLS' is there twice"
    ):
        opened(tmp_path, member(b"a.cls", b"1") + member(b"a.CLS", b"1") + END, "twice.tar")


def test_archives_that_were_cut(tmp_path):
    whole = b"".join(
        member(b"%d.%s" % (k, x), b"12345") for k in range(3) for x in (b"cls", b"txt")
    )
    for nbytes, complete in (
        (5 * 1024 + 100, 2),
        (5 * 1024 + 514, 2),
        (5 * 1024, 3),
        (4 * 1024 + 514, 2),
        (2 * 1024 + 100, 0),
        (100, 0),
    ):
        with pytest.raises(mapix.TruncatedError, match=f"{complete} complete records come before"):
            opened(tmp_path, whole[:nbytes], f"{nbytes}.tar")
        with pytest.warns(mapix.MapixWarning, match="the rest is not read"):
            ds = mapix.open(tmp_path / f"{nbytes}.tar", strict=False)
        assert [r.key for r in ds] == ["0", "1", "2"][:complete]
    with pytest.raises(mapix.TruncatedError, match="two blocks of zeros"):
        opened(tmp_path, whole, "noend.tar")
    for describing in (pax(path="2.png"), pax(path="3.png")):  # of the last record, or of another
        with pytest.raises(mapix.TruncatedError, match="an extended header.* 2 complete records"):
            opened(tmp_path, whole + describing[:517], "pax.tar")


def test_bytes_after_the_end(tmp_path):
    one = member(b"a.cls", b"1") + END
    with pytest.warns(mapix.MapixWarning, match="bytes after the end"):
        ds = opened(tmp_path, one + one)
    assert len(ds) == 1
    assert len(opened(tmp_path, one + bytes(20_000), "padded.tar")) == 1
    assert len(opened(tmp_path, bytes(10_240), "empty.tar")) == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header(b"a.cls", b"\xff" * 12), "size of 0"),
        (header(b"a.cls", b"\x80" + b"\xff" * 11), "size of 0"),
        (header(b"a.cls", b"\xc0" + bytes(11)), "size of 0"),
        (header(b"a.cls", b"-0000000001\0"), "octal digits"),
        (header(b"a.cls", b"0o000000001\0"), "octal digits"),
        (header(b"a.cls", b"00000000009\0"), "octal digits"),
        (header(b"a.cls", b"\x80" + (1 << 61).to_bytes(11, "big")), "are left in the file"),
        (header(b"a.cls", b"77777777777\0"), "are left in the file"),
        (pax(size="-1") + member(b"a.cls", b"1"), "pax size"),
        (pax(size="9" * 30) + member(b"a.cls", b"1"), "pax size"),
        (pax(size="9" * 19) + member(b"a.cls", b"1"), "are left in the file"),
        (pax(path="x.cls"), "expected after an extended header"),
        (member(b"x", b"5 a=b\n", b"x") + member(b"a.cls", b"1"), "pax record"),
        (member(b"x", b"99 a=b\n", b"x") + member(b"a.cls", b"1"), "pax record"),
        (member(b"x", b"0 a=b\n", b"x") + member(b"a.cls", b"1"), "pax record"),
        (member(b"x", b"nothing", b"x") + member(b"a.cls", b"1"), "pax record"),
        (member(b"g", b"9 path=x\n", b"g") + member(b"a.cls", b"1"), "path of all members"),
        (header(b"x", 1 << 30, b"x"), "MAX_EXTENDED_NBYTES"),
        (header(b"x", 1 << 30, b"L"), "MAX_EXTENDED_NBYTES"),
        (header(b"x", 1000, b"L"), "are left in the file"),
    ],
)
def test_headers_that_do_harm(tmp_path, data, reason):
    with pytest.raises(mapix.MapixError, match=f"bad.tar.*{reason}"):
        opened(tmp_path, data + END, "bad.tar")


def test_a_wrong_checksum_is_named(tmp_path):
    bad = bytearray(member(b"a.cls", b"1") + member(b"b.cls", b"2"))
    bad[1024] ^= 1
    with pytest.raises(
        mapix.FormatError, match=r"tar at byte 1024: a header with the checksum \d+ expected"
    ):
        opened(tmp_path, bytes(bad) + END)


def test_many_extended_headers_in_a_row(tmp_path):
    """They are read in a loop, and the first that states something counts."""
    data = pax(path="first.cls") + pax(path="second.cls") * 3000 + member(b"a.cls", b"1")
    assert content(opened(tmp_path, data + END)) == [("first", {"cls": b"1"})]


# --- the contract -------------------------------------------------------------------------------


def test_detection(tmp_path):
    data = member(b"a.cls", b"1") + member(b"b.cls", b"2") + END
    for name in ("noname", "x.tar", "x.bin"):
        assert type(opened(tmp_path, data, name)).__name__ == "TarShard"
    with pytest.raises(mapix.FormatError, match="no.tar"):
        opened(tmp_path, b"no archive" * 100, "no.tar")


def test_prefetch_asks_for_all_members_of_a_record(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Mapping, "willneed", lambda m, at, nbytes: asked.append((at, nbytes)))
    data = archive({"0.cls": b"1", "1.cls": b"1", "1.txt": b"x" * 700, "2.cls": b"2"})
    ds = opened(tmp_path, data)
    assert ds[1:].prefetch([1, 0]) == 2
    assert asked == [(5 * 512 + 1024 + 512, 1), (3 * 512, 1024 + 700)]


def test_several_shards_as_one(tmp_path):
    paths = []
    for k in range(3):
        path = tmp_path / f"s{k}.tar"
        path.write_bytes(
            b"".join(member(b"%d%d.cls" % (k, i), b"%d" % (10 * k + i)) for i in range(k + 1)) + END
        )
        paths.append(path)
    ds = mapix.open(paths)
    assert [r.cls for r in ds] == [0, 10, 11, 20, 21, 22]
    assert [r.key for r in ds.where("cls > 10")] == ["11", "20", "21", "22"]
    assert ds[-1].cls == 22
    again = pickle.loads(pickle.dumps(ds[1:3]))
    assert [r.cls for r in again] == [10, 11]


def test_batches_of_several_shards(tmp_path):
    """Pictures of all shards are placed at once: on one canvas, and with all options."""
    pytest.importorskip("PIL", reason="pictures need Pillow")
    images = [np.full((2 + k, 5 - k), 10 * k + 1, np.uint8) for k in range(4)]
    for k in range(2):
        members = {}
        for i in (2 * k, 2 * k + 1):
            members[f"{i}.pgm"] = pgm(images[i].tolist())
            if k:
                members[f"{i}.cls"] = b"%d" % i
        (tmp_path / f"{k}.tar").write_bytes(archive(members))
    ds = mapix.open([tmp_path / "0.tar", tmp_path / "1.tar"])
    order = [3, 0, 2, 1]
    batch = ds.batch(order, pad=True, labels="class")
    assert batch.images.shape == (4, 5, 5, 1)
    for canvas, i in zip(batch.images[:, :, :, 0], order, strict=True):
        h, w = images[i].shape
        np.testing.assert_array_equal(canvas[:h, :w], images[i])
        assert canvas.sum() == images[i].sum()
    assert batch.labels.tolist() == [[3], [-1], [2], [-1]]
    assert batch.present.tolist() == [[True], [False], [True], [False]]
    sized = ds.batch(order, size=(2, 2), fit="crop", threads=2).images
    assert sized[:, 0, 0, 0].tolist() == [31, 1, 21, 11]
    assert [len(b) for b in ds[1:].batches(2, size=(2, 2), fit="resize")] == [2, 1]
    np.testing.assert_array_equal(ds._image(2)[:, :, 0], images[2])
    assert pickle.loads(pickle.dumps(ds)).batch([3], pad=True).labels.tolist() == [[3]]
    arrays = {f"{k}.npy": npy(np.full(3, k)) for k in range(2)}
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).write_bytes(archive(arrays))
    plain = mapix.open([tmp_path / "a.tar", tmp_path / "b.tar"])
    assert plain.batch([3, 0, 1]).images.tolist() == [[1] * 3, [0] * 3, [1] * 3]
    with pytest.raises(mapix.UnsupportedError, match="size= of batch"):
        plain.batch([0], size=(2, 2))


def test_conversion_by_the_contract(tmp_path):
    pytest.importorskip("PIL", reason="pictures need Pillow")
    images = [np.full((2, 3), 9 * k, np.uint8) for k in range(3)]
    members = {}
    for k, image in enumerate(images):
        members |= {f"{k}.pgm": pgm(image.tolist()), f"{k}.cls": b"%d" % (5 - k)}
    opened(tmp_path, archive(members))
    assert mapix.convert(tmp_path / "shard.tar", tmp_path / "out.npz").lost == ()
    with np.load(tmp_path / "out.npz") as made:
        np.testing.assert_array_equal(made["images"].reshape(3, 2, 3), images)
        assert made["label/cls"].tolist() == [5, 4, 3]


def test_torch_takes_a_shard(tmp_path):
    pytest.importorskip("PIL", reason="pictures need Pillow")
    pytest.importorskip("torch", reason="torch is not installed")
    from mapix.torch import Dataset

    members = {"0.pgm": pgm([[1, 2, 3]]), "0.cls": b"4", "1.pgm": pgm([[6], [7]])}
    opened(tmp_path, archive(members))
    made = Dataset(tmp_path / "shard.tar", batch_options={"size": (1, 1), "fit": "crop"})
    images, labels = made[[0, 1]]
    assert images.flatten().tolist() == [2, 6]
    assert labels["cls"].tolist() == [4, -100]


def test_no_pillow_for_arrays_and_values(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    members = {
        f"{k}.{x}": d
        for k in range(2)
        for x, d in (("npy", npy(np.full((2, 3), k))), ("cls", b"5"))
    }
    ds = opened(tmp_path, archive(members))
    assert ds.batch([1, 0]).images.sum(axis=(1, 2)).tolist() == [6, 0]
    report = ds.verify()
    assert report.ok
    assert "pictures" not in report.checked
    pictures = opened(tmp_path, archive({"0.png": b"x"}), "p.tar")
    with pytest.raises(mapix.UnsupportedError, match="Pillow"):
        _ = pictures[0].image


def test_a_record_of_many_members(tmp_path):
    """A directory of frames is one record; its members are found by a table."""
    members = {f"frame.{k:05d}.cls": b"%d" % k for k in range(2000)}
    ds = opened(tmp_path, archive(members))
    assert len(ds) == 1
    assert ds[0]["01999.cls"] == 1999
    assert ds.verify().ok
    assert len(ds.columns) == 1 + 64  # sizes of the first 64 extensions alone
    with pytest.raises(KeyError, match="00019.cls and 1980 more"):
        ds[0]["x"]
