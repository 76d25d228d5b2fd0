"""Label maps in files: strips, memory, other programs' files, hostile ones; GeoJSON."""

from __future__ import annotations

import json
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.iid import (
    Writer,
    add_label_map,
    label_files,
    label_map,
    read_labels,
    read_png,
    save_labels,
    to_geojson,
)
from mapix.iid.geojson import rings_of
from mapix.iid.segment import polygons


def cells(h: int, w: int, step: int = 16) -> np.ndarray[Any, Any]:
    """A label map of cells on a grid, as programs for microscopes write it."""
    y, x = np.mgrid[:h, :w]
    inside = (y % step - step // 2) ** 2 + (x % step - step // 2) ** 2 < (step // 2 - 1) ** 2
    return np.where(inside, y // step * (w // step + 1) + x // step + 1, 0).astype(np.int32)


def archive_of(path: Path, labels: np.ndarray[Any, Any]) -> Any:
    h, w = labels.shape
    with Writer(path, {"image": {"height": h, "width": w}}) as out:
        add_label_map(out, labels, "cells")
    return mapix.open(path)


@pytest.mark.parametrize("name", ["x.npy", "x.png", "x.tif", "rgb.png"])
def test_maps_that_mapix_writes(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("mapix.iid.label_files.STRIP_PIXELS", 700)
    if name.endswith(".tif"):
        pytest.importorskip("tifffile", reason="needs tifffile")
    labels = cells(70, 90)
    values = np.unique(labels)[1:]
    archive = archive_of(tmp_path / "a.iid", labels)
    rgb = name == "rgb.png"
    done: list[int] = []
    save_labels(archive, tmp_path / name, rgb=rgb, progress=lambda k, n: done.append(k))
    found = read_labels(tmp_path / name, rgb=rgb)
    wanted = np.searchsorted(values, labels) + 1
    wanted[labels == 0] = 0
    assert np.array_equal(found, wanted)
    assert not found.flags.writeable
    assert done[-1] == 70
    assert len(done) == 10
    again = tmp_path / f"again.{name}"
    label_map(archive).save(again, rgb=rgb)
    assert np.array_equal(read_labels(again, rgb=rgb), wanted)
    back = archive_of(tmp_path / "back.iid", found)
    assert back.paint().tolist() == archive.paint().tolist()


def test_large_labels_need_room(tmp_path: Path) -> None:
    labels = np.arange(70_000, dtype=np.int32).reshape(200, 350)
    found = mapix.iid.LabelMap(labels, {}, [])
    with pytest.raises(mapix.LimitError, match="label 69999, a PNG holds up to 65535; rgb=True"):
        found.save(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
    found.save(tmp_path / "x.png", rgb=True)
    assert np.array_equal(read_labels(tmp_path / "x.png", rgb=True), labels)
    with pytest.raises(ValueError, match="rgb=True reads red"):
        read_labels(tmp_path / "x.png")
    found.save(tmp_path / "x.npy")
    assert read_labels(tmp_path / "x.npy").dtype == np.uint32
    for bad in ("x.jpg", "x"):
        with pytest.raises(ValueError, match=r"written as \.npy, \.tif or \.png"):
            found.save(tmp_path / bad)
    with pytest.raises(ValueError, match="is for PNG"):
        found.save(tmp_path / "y.npy", rgb=True)
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "x.npy")


def test_memory_does_not_grow_with_the_map(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("mapix.iid.label_files.STRIP_PIXELS", 1 << 16)
    monkeypatch.setattr("mapix.iid.label_maps.STRIPE_PIXELS", 1 << 16)
    monkeypatch.setattr("mapix.store.BUFFER_NBYTES", 1 << 16)  # of each file that is written
    h = w = 1024
    small = np.zeros((h, w), np.uint16)
    small[: h // 2, : w // 2] = cells(h // 2, w // 2, 64)
    archive = archive_of(tmp_path / "a.iid", small)
    save_labels(archive, tmp_path / "x.png")
    save_labels(archive, tmp_path / "x.npy")
    archive.paint((0, 0, 1, 1))
    del small
    peaks = {}
    for name, act in {
        "write": lambda: save_labels(archive, tmp_path / "y.png"),
        "read": lambda: read_labels(tmp_path / "x.png"),
        "png": lambda: archive_of(tmp_path / "b.iid", read_labels(tmp_path / "x.png")).close(),
        "npy": lambda: archive_of(tmp_path / "c.iid", read_labels(tmp_path / "x.npy")).close(),
    }.items():
        tracemalloc.start()
        act()
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "b.iid").read_bytes() == (tmp_path / "c.iid").read_bytes()
    npixels = h * w
    assert peaks["write"] < 2 * npixels, peaks  # int32 of all pixels would be 4 bytes each
    assert peaks["read"] < npixels, peaks
    assert peaks["png"] < 3 * npixels, peaks
    assert peaks["npy"] < 3 * npixels, peaks


# --- files of other programs ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "I;16", "P"])
def test_png_files_of_pillow(tmp_path: Path, mode: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    labels = cells(40, 60, 8) % 250
    rng = np.random.default_rng(0)
    labels[::3] = rng.integers(0, 250, labels[::3].shape)
    array = labels.astype(np.uint16 if mode == "I;16" else np.uint8)
    made = image.fromarray(array)
    if mode == "P":
        made.putpalette(list(range(256)) * 3)
    made.save(tmp_path / "x.png", optimize=mode == "L")
    assert np.array_equal(read_labels(tmp_path / "x.png"), labels)
    assert np.array_equal(read_png(tmp_path / "x.png"), labels)
    assert read_png(tmp_path / "x.png").dtype == np.int64


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_files_with_several_pixels_in_a_byte(tmp_path: Path, depth: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    rng = np.random.default_rng(depth)
    for w in (1, 7, 8, 9, 61):
        labels = rng.integers(0, 1 << depth, (13, w), np.uint8)
        made = image.fromarray(labels)
        made.putpalette(list(range(48)))
        made.save(tmp_path / "x.png", bits=depth)
        assert (tmp_path / "x.png").read_bytes()[24:26] == bytes([depth, 3])
        assert np.array_equal(read_labels(tmp_path / "x.png"), labels)


def test_png_files_of_few_bits_with_every_filter(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("mapix.iid.label_files.STRIP_PIXELS", 1)
    rows = [b"\0\x1b", b"\1\x01", b"\2\x01", b"\3\x01", b"\4\x01"]
    (tmp_path / "x.png").write_bytes(png_file(3, 5, b"".join(rows), 2))
    # 0x1b, 0x01, 0x02, 0x02, 0x03: a filter works on bytes, not on pixels; the fourth is padding
    wanted = [[0, 1, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert read_labels(tmp_path / "x.png").tolist() == wanted


def test_tiff_files_of_tifffile(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs tifffile")
    labels = cells(70, 90).astype(np.int32)
    kinds: list[dict[str, Any]] = [
        {},
        {"byteorder": ">"},
        {"compression": "zlib", "rowsperstrip": 9},
        {"tile": (32, 48)},
        {"tile": (32, 48), "compression": "zlib"},
        {"bigtiff": True},
    ]
    for k, kind in enumerate(kinds):
        tifffile.imwrite(tmp_path / f"{k}.tif", labels, **kind)
        found = read_labels(tmp_path / f"{k}.tif")
        assert np.array_equal(found, labels), kind
    tifffile.imwrite(tmp_path / "one.tif", labels, compression="zlib", rowsperstrip=70)
    data = (tmp_path / "one.tif").read_bytes()
    rows = struct.pack("<HHII", 278, 4, 1, 70)
    assert rows in data
    for n, expected in ((2**32 - 1, labels), (0, None)):  # all rows, as some programs state them
        (tmp_path / "one.tif").write_bytes(data.replace(rows, struct.pack("<HHII", 278, 4, 1, n)))
        if expected is not None:
            assert np.array_equal(read_labels(tmp_path / "one.tif"), expected)
        else:
            with pytest.raises(mapix.FormatError, match=r"one\.tif"):
                read_labels(tmp_path / "one.tif")
    archive = archive_of(tmp_path / "a.iid", read_labels(tmp_path / "3.tif"))
    save_labels(archive, tmp_path / "back.tif")
    assert tifffile.imread(tmp_path / "back.tif").dtype == np.uint16
    assert np.array_equal(tifffile.imread(tmp_path / "back.tif") > 0, labels > 0)
    tifffile.imwrite(tmp_path / "f.tif", labels.astype(np.float32))
    with pytest.raises(ValueError, match="not one number per pixel"):
        read_labels(tmp_path / "f.tif")
    whole = (tmp_path / "2.tif").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(whole)
        bad[int(rng.integers(0, 300))] = int(rng.integers(256))
        (tmp_path / "bad.tif").write_bytes(bad[: int(rng.integers(1, len(bad)))])
        try:
            read_labels(tmp_path / "bad.tif")
        except (mapix.MapixError, ValueError) as e:
            assert "bad.tif" in str(e)  # noqa: PT017  # some damages change nothing


def test_labels_of_scikit_image(tmp_path: Path) -> None:
    measure = pytest.importorskip("skimage.measure", reason="needs scikit-image")
    rng = np.random.default_rng(0)
    labels = measure.label(rng.random((50, 60)) > 0.6)
    np.save(tmp_path / "x.npy", labels)
    archive = archive_of(tmp_path / "a.iid", read_labels(tmp_path / "x.npy"))
    assert len(archive) == labels.max()
    for segment, wanted in zip(archive, measure.regionprops(labels), strict=True):
        assert segment.bbox == wanted.bbox
        assert segment.area == wanted.area


# --- hostile PNG files ----------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(w: int, h: int, rows: bytes, depth: int = 8, colour: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_hostile_png_files(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    good = png_file(3, 2, b"\0abc\2\1\1\1")
    path.write_bytes(good)
    assert read_labels(path).tolist() == [[97, 98, 99], [98, 99, 100]]
    for data, kind, words in (
        (png_file(3, 2, b"\0abc\5abc"), mapix.FormatError, "unknown filter"),
        (png_file(3, 2, b"\0abc"), mapix.TruncatedError, "ends in row 0"),
        (png_file(1 << 20, 1 << 20, b""), mapix.LimitError, "max_pixels"),
        (png_file(0, 2, b""), mapix.FormatError, "0 x 2"),
        (png_file(8, 1, b"\0", 1), mapix.TruncatedError, "ends in row 0"),
        (png_file(8, 1, b"\0", 4, 2), ValueError, "not one number per pixel"),
        (good[:-20], mapix.TruncatedError, "are left"),
        (good.replace(b"IHDR", b"IHDS"), mapix.FormatError, "CRC"),
        (b"\x89PNG\r\n\x1a\n", mapix.TruncatedError, "0 are left"),
        (b"no picture", mapix.FormatError, "TIFF or PNG"),
        (good[:-30] + b"\xff" * 30, mapix.MapixError, "x.png"),
    ):
        path.write_bytes(data)
        with pytest.raises(kind, match=words):
            read_labels(path)
    for at in range(8, len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            found = read_labels(path)
        except (mapix.MapixError, ValueError) as e:
            assert "x.png" in str(e)  # noqa: PT017  # damages of the last chunk change nothing
            continue
        assert found.tolist() == [[97, 98, 99], [98, 99, 100]]


# --- GeoJSON --------------------------------------------------------------------------------------


def test_geojson_of_a_segment_with_a_hole(tmp_path: Path) -> None:
    mask = np.ones((3, 4), bool)
    mask[1, 1] = False
    with Writer(tmp_path / "a.iid") as out:
        out.add("slide", "one", mask, at=(5, 10), groups=["iscrowd", "cell", "big"])
        out.add("", "two", np.eye(2))
        out.add("", "none", np.zeros((1, 1)))
    archive = mapix.open(tmp_path / "a.iid")
    found = to_geojson(archive)
    one, two = found["features"]
    assert one["geometry"]["type"] == "Polygon"
    outline, hole = one["geometry"]["coordinates"]
    assert outline[0] == outline[-1]
    assert sorted(outline[1:]) == [[10, 5], [10, 8], [14, 5], [14, 8]]
    assert sorted(hole[1:]) == [[11, 6], [11, 7], [12, 6], [12, 7]]
    groups = [g for g in archive.groups if g != "iscrowd"]
    assert one["properties"] == {
        "objectType": "annotation",
        "name": "one",
        "classification": {"name": groups[0]},
        "groups": groups,
        "domain": "slide",
    }
    assert two["geometry"]["type"] == "MultiPolygon"
    assert two["properties"] == {"objectType": "annotation", "name": "two"}
    to_geojson(archive, tmp_path / "a.json", [1], object_type="detection")
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert read["features"] == [{**two, "properties": {"objectType": "detection", "name": "two"}}]


def test_polygons_are_valid_for_shapely() -> None:
    geometry = pytest.importorskip("shapely.geometry", reason="needs shapely")
    rng = np.random.default_rng(0)
    for k in range(400):
        h, w = (int(v) for v in rng.integers(1, 9, 2))
        mask = rng.random((h, w)) < (0.3, 0.5, 0.7, 0.9)[k % 4]
        found = rings_of(polygons(mask))
        shapes = [geometry.Polygon(rings[0], rings[1:]) for rings in found]
        assert all(s.is_valid for s in shapes), mask.astype(int)
        whole = geometry.MultiPolygon(shapes)
        assert whole.is_valid, mask.astype(int)
        assert whole.area == mask.sum()
        for y in range(h):
            for x in range(w):
                assert whole.contains(geometry.Point(x + 0.5, y + 0.5)) == mask[y, x]


# --- hostile TIFF files ---------------------------------------------------------------------------


def tiff_file(w: int, h: int, tags: dict[int, int | list[int]], data: bytes = b"") -> bytes:
    """A TIFF of one channel of 8 bits, by hand; ``data`` lies at byte 8."""
    fields = {256: w, 257: h, 258: 8, 259: 1, 262: 1, 277: 1} | tags
    at = 8 + len(data)
    end, more, entries = at + 6 + 12 * len(fields), b"", b""
    for tag in sorted(fields):
        value = fields[tag]
        values = value if isinstance(value, list) else [value]
        raw = struct.pack(f"<{len(values)}I", *values)
        place = raw if len(raw) == 4 else struct.pack("<I", end + len(more))
        more += b"" if len(raw) == 4 else raw
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    head = b"II*\0" + struct.pack("<I", at) + data + struct.pack("<H", len(fields))
    return head + entries + bytes(4) + more


OFFSETS, NROWS, COUNTS = 273, 278, 279
TILE_W, TILE_H, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
ZEROS = zlib.compress(bytes(1 << 20))
HOSTILE_TIFFS = {
    "no columns": (
        tiff_file(0, 2**32 - 1, {OFFSETS: 8, NROWS: 1, COUNTS: 4}, b"1234"),
        (mapix.FormatError, "4294967295 x 0 pixels"),
    ),
    "tiles of one pixel": (
        tiff_file(1 << 15, 1 << 13, {TILE_W: 1, TILE_H: 1, TILE_OFFSETS: 8, TILE_COUNTS: 1}, b"x"),
        (mapix.FormatError, "268435456 tiles expected, the file lists 1"),
    ),
    "strips of one row": (
        tiff_file(1, 1 << 24, {259: 8, NROWS: 1, OFFSETS: [8, 9], COUNTS: [1, 1]}, b"xy"),
        (mapix.FormatError, "16777216 strips expected, the file lists 2"),
    ),
    "a tile of 2^30 pixels": (
        tiff_file(
            *(16, 16, {259: 8, TILE_W: 1 << 20, TILE_H: 1 << 10, TILE_OFFSETS: 8, TILE_COUNTS: 9}),
            b"123456789",
        ),
        (mapix.LimitError, "tiles of 1024 x 1048576 pixels"),
    ),
    "tiles much wider than the picture": (
        tiff_file(
            *(
                1,
                600 << 12,
                {259: 8, TILE_W: 1 << 12, TILE_H: 1 << 12}
                | {TILE_OFFSETS: [8] * 600, TILE_COUNTS: [8] * 600},
            ),
            b"12345678",
        ),
        (mapix.LimitError, "600 tiles of 4096 x 4096 pixels, more than max_pixels"),
    ),
    "a strip after the end": (
        tiff_file(2, 2, {259: 8, OFFSETS: 8, NROWS: 2, COUNTS: 2**32 - 1}),
        (mapix.TruncatedError, "strip 0 of 4294967295 bytes expected"),
    ),
    "JPEG": (
        tiff_file(2, 2, {259: 7, OFFSETS: 8, NROWS: 2, COUNTS: 4}, b"1234"),
        (mapix.UnsupportedError, "compression 7"),
    ),
}


@pytest.mark.parametrize("which", HOSTILE_TIFFS)
def test_hostile_tiff_files(tmp_path: Path, which: str) -> None:
    """Each took minutes, or gigabytes: an error comes before anything is decoded."""
    pytest.importorskip("tifffile", reason="needs tifffile")
    data, (kind, words) = HOSTILE_TIFFS[which]
    path = tmp_path / "x.tif"
    path.write_bytes(data)
    with pytest.raises(kind, match=words) as caught:
        read_labels(path)
    assert "x.tif" in str(caught.value)


def test_tiff_files_that_are_odd_and_right(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("tifffile", reason="needs tifffile")
    path = tmp_path / "x.tif"
    tile = zlib.compress(bytes(range(256)))
    tiles = {259: 8, TILE_W: 16, TILE_H: 16}
    tiles |= {TILE_OFFSETS: [8, 8, 0, 8], TILE_COUNTS: [len(tile), len(tile), 0, len(tile)]}
    path.write_bytes(tiff_file(20, 30, tiles, tile))  # three tiles have the same bytes
    square = np.arange(256, dtype=np.uint8).reshape(16, 16)
    whole = np.block([[square, square], [0 * square, square]])[:30, :20]
    assert np.array_equal(read_labels(path), whole)
    monkeypatch.setattr(label_files, "DECODED_NBYTES", 1)  # one after the other
    assert np.array_equal(read_labels(path), whole)
    strips = {NROWS: 2, OFFSETS: [9, 20], COUNTS: [10, 5]}
    path.write_bytes(tiff_file(5, 3, strips, b"." + bytes(range(10)) + b"." + b"abcde"))
    assert read_labels(path).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], list(b"abcde")]


def test_a_strip_that_is_a_bomb_without_imagecodecs(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("tifffile", reason="needs tifffile")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    path = tmp_path / "x.tif"
    strip = {259: 8, NROWS: 4, OFFSETS: 8}
    path.write_bytes(tiff_file(5, 4, strip | {COUNTS: len(ZEROS)}, ZEROS))
    with pytest.raises(mapix.FormatError, match=r"x\.tif.*are decompressed to more than 65556"):
        read_labels(path)
    good = zlib.compress(bytes(range(20)))
    path.write_bytes(tiff_file(5, 4, strip | {COUNTS: len(good)}, good))
    assert read_labels(path).ravel().tolist() == list(range(20))
