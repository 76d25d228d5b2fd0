"""Pictures deeper than 8 bits: their own numbers, 8 bits by a stated rule, or a refusal."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import mapix

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")

GREY = (np.arange(20) * 3000 % 65536).astype(np.uint16).reshape(4, 5)
TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG's colour type


def png16(array: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, made by hand: Pillow writes grey ones alone."""
    h, w, c = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">2I5B", w, h, 16, TYPES[c], 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(array: np.ndarray, order: str = "<", form: int = 1, planar: int = 1) -> bytes:
    """An uncompressed TIFF, made by hand."""
    h, w, c = array.shape
    bits = array.dtype.itemsize * 8
    data = array.transpose(2, 0, 1) if planar == 2 else array
    pixels = data.astype(array.dtype.newbyteorder(order)).tobytes()
    strip = len(pixels) // (c if planar == 2 else 1)
    extra = b"".join(struct.pack(f"{order}H", bits) for _ in range(c))
    many = planar == 2
    at_strips = 8 + len(extra)
    at_counts = at_strips + 4 * c
    at_pixels = at_counts + 4 * c
    begins = [at_pixels + k * strip for k in range(c)]
    blob = extra + struct.pack(f"{order}{c}I", *begins) + struct.pack(f"{order}{c}I", *[strip] * c)

    def short(value: int) -> bytes:
        return struct.pack(f"{order}HH", value, 0)

    def long(value: int) -> bytes:
        return struct.pack(f"{order}I", value)

    tags = [
        (256, 4, 1, long(w)),
        (257, 4, 1, long(h)),
        (258, 3, c, long(8) if c > 2 else short(bits)),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(2 if c > 1 else 1)),
        (273, 4, c if many else 1, long(at_strips) if many else long(begins[0])),
        (277, 3, 1, short(c)),
        (278, 4, 1, long(h)),
        (279, 4, c if many else 1, long(at_counts) if many else long(strip)),
        (284, 3, 1, short(planar)),
        (339, 3, 1, short(form)),
    ]
    if c == 4:
        tags.insert(10, (338, 3, 1, short(2)))
    head = (b"II*\0" if order == "<" else b"MM\0*") + long(at_pixels + len(pixels))
    ifd = struct.pack(f"{order}H", len(tags))
    ifd += b"".join(struct.pack(f"{order}HHI", *t[:3]) + t[3] for t in tags) + long(0)
    return head + blob + pixels + ifd


def saved(array: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    lines = "".join(json.dumps({"file_name": name}) + "\n" for name in files)
    (path / "metadata.jsonl").write_text(lines)
    return path


def numbers(*shape: int, dtype: str = "u2", seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    found = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    found.reshape(-1)[:2] = limits.min, limits.max
    return found


# --- as they are ----------------------------------------------------------------------------------

WIDE = numbers(4, 5, 1, dtype="i4", seed=1)
DEEP = {
    "grey.png": (saved(GREY, "PNG"), GREY[..., None]),
    "grey.tif": (saved(GREY, "TIFF"), GREY[..., None]),
    "la.png": (png16(numbers(4, 5, 2)), numbers(4, 5, 2)),
    "rgb.png": (png16(numbers(4, 5, 3)), numbers(4, 5, 3)),
    "rgba.png": (png16(numbers(4, 5, 4)), numbers(4, 5, 4)),
    "rgb-little.tif": (tiff(numbers(4, 5, 3)), numbers(4, 5, 3)),
    "rgb-big.tif": (tiff(numbers(4, 5, 3), ">"), numbers(4, 5, 3)),
    "rgba-big.tif": (tiff(numbers(4, 5, 4), ">"), numbers(4, 5, 4)),
    "int32.tif": (tiff(WIDE, form=2), WIDE),
    "uint32.tif": (tiff(WIDE.view("u4"), form=1), WIDE.view("u4")),
    "int8.tif": (tiff(numbers(4, 5, 1, dtype="i1"), form=2), numbers(4, 5, 1, dtype="i1")),
    "pixels.pgm": (b"P5 5 4 65535\n" + GREY.astype(">u2").tobytes(), GREY[..., None]),
    "pixels.ppm": (
        b"P6 5 4 65535\n" + numbers(4, 5, 3).astype(">u2").tobytes(),
        numbers(4, 5, 3),
    ),
    "float.tif": (
        saved(np.linspace(-1, 1e9, 20, dtype=np.float32).reshape(4, 5), "TIFF"),
        np.linspace(-1, 1e9, 20, dtype=np.float32).reshape(4, 5, 1),
    ),
}


@pytest.mark.parametrize("name", DEEP)
def test_numbers_are_those_of_the_file(tmp_path, name):
    data, want = DEEP[name]
    ds = mapix.open(folder(tmp_path / "f", {name: data}))
    found = ds[0].image
    assert (found.dtype, found.shape) == (want.dtype, want.shape)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, want)
    with pytest.raises(ValueError, match=f"pictures of {want.dtype}: pass dtype='float32'"):
        ds.batch([0])
    with pytest.raises(ValueError, match="pictures of"):
        ds.batch([0], dtype="uint8")
    floats = ds.batch([0], dtype="float32", layout="NCHW").images[0]
    np.testing.assert_array_equal(floats.transpose(1, 2, 0), want.astype(np.float32))
    kind = {"int8": "int32"}.get(want.dtype.name, want.dtype.name)
    np.testing.assert_array_equal(ds.batch([0], dtype=kind).images[0], want)
    scaled = ds.batch([0], dtype="float32", scale=2.0, mean=3.0, std=0.5).images[0]
    np.testing.assert_allclose(scaled, (want.astype(np.float64) * 2 - 3) * 2, rtol=1e-6)


def test_integers_that_do_not_fit_are_refused(tmp_path):
    ds = mapix.open(folder(tmp_path / "f", {k: v for k, (v, _) in DEEP.items()}))
    with pytest.raises(ValueError, match=r"int32\.tif: numbers of int32 do not fit into .*uint16"):
        ds.batch(ds.find("int32.tif"), dtype="uint16")
    with pytest.raises(ValueError, match="float32 do not fit"):
        ds.batch(ds.find("float.tif"), dtype="int32")
    with pytest.raises(ValueError, match="float16 does not reach"):
        ds.batch(ds.find("rgb.png"), dtype="float16")
    half = ds.batch(ds.find("rgb.png"), dtype="float16", scale=1 / 65535).images
    np.testing.assert_allclose(half[0], numbers(4, 5, 3) / 65535, atol=1e-3)
    with pytest.raises(ValueError, match=r"pad_value must be 0\.\.65535 for uint16"):
        ds.batch([0], dtype="uint16", pad_value=70_000)


# --- 8 bits by a rule, or not ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "pixels.pgm"])
def test_sixteen_bits_of_grey_become_eight_by_their_range(tmp_path, name):
    ds = mapix.open(folder(tmp_path / "f", {name: DEEP[name][0]}))
    want = np.floor(GREY / 257 + 0.5).astype(np.uint8)
    assert want.ravel()[:4].tolist() == [0, 12, 23, 35]
    grey = ds.batch([0], mode="L").images[0, :, :, 0]
    np.testing.assert_array_equal(grey, want)
    for channel in ds.batch([0], mode="RGB").images[0].transpose(2, 0, 1):
        np.testing.assert_array_equal(channel, want)
    floats = ds.batch([0], mode="L", dtype="float32", scale=1 / 255).images[0, :, :, 0]
    np.testing.assert_allclose(floats, GREY / 65535, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("name", ["rgb.png", "rgba.png", "la.png", "rgb-big.tif", "pixels.ppm"])
def test_sixteen_bits_of_colour_become_eight_by_their_range(tmp_path, name):
    data, pixels = DEEP[name]
    ds = mapix.open(folder(tmp_path / "f", {name: data}))
    mode = {2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    want = np.floor(pixels / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(ds.batch([0], mode=mode).images[0], want)
    assert {0, 255} <= set(want.ravel().tolist())


@pytest.mark.parametrize("name", ["int32.tif", "uint32.tif", "float.tif", "int8.tif"])
def test_numbers_without_a_range_are_not_clipped(tmp_path, name):
    ds = mapix.open(folder(tmp_path / "f", {name: DEEP[name][0]}))
    for mode in ("L", "RGB"):
        with pytest.raises(
            ValueError, match=rf"{name}: numbers of .* have no range by which mode="
        ):
            ds.batch([0], mode=mode)
        with pytest.raises(ValueError, match="have no range"):
            mapix.convert(ds, tmp_path / "x.npz", images={"mode": mode}, lossy=True)
    assert not (tmp_path / "x.npz").exists()


def test_bits_that_decoders_leave_out_are_reported(tmp_path):
    planes = tiff(numbers(4, 5, 3), planar=2)
    plain = b"P3 5 4 1000\n" + b" ".join(b"%d" % (k * 16) for k in range(60))
    files = {"planes.tif": planes, "plain.ppm": plain}
    ds = mapix.open(folder(tmp_path / "f", files))
    with pytest.raises(mapix.FormatError, match=r"planes\.tif: .*16 bits that lie one after"):
        _ = ds[0].image
    assert ds[1].image.dtype == np.uint8
    with pytest.raises(mapix.LossError, match="bits beyond the 8 that are decoded: plain.ppm"):
        mapix.convert(ds[1:], tmp_path / "x.npz")
    assert [(f.code, f.line) for f in ds.verify().findings] == [("picture", 1), ("depth", 2)]


# --- scaled ---------------------------------------------------------------------------------------


def test_deep_pictures_are_scaled_as_shallow_ones(tmp_path):
    """The same filters, alpha included: 257 times a picture of bytes is scaled to 257 times it."""
    rng = np.random.default_rng(3)
    for c, mode in ((1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")):
        small = rng.integers(0, 256, (12, 10, c)).astype(np.uint8)
        files = {"a.png": saved(small[:, :, 0] if c == 1 else small, "PNG")}
        files["b.png"] = png16(small.astype(np.uint16) * 257)
        ds = mapix.open(folder(tmp_path / mode, files))
        for fit in ("resize", "letterbox", "cover", "crop"):
            for resample in ("bilinear", "nearest"):
                how = {"size": (7, 9), "fit": fit, "resample": resample}
                want = ds.batch([0], **how).images.astype(int)
                found = ds.batch([1], dtype="uint16", **how).images / 257
                alpha = want[..., -1:] if c in (2, 4) else 255
                off = np.abs(found - want) * (alpha / 255)  # colours of what is not seen are free
                assert off.max() <= 2, (mode, fit, resample)
                as_bytes = ds.batch([1], mode=mode, **how).images
                np.testing.assert_array_equal(as_bytes, want)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_shallow_ones(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(GREY).save(out, "PNG", exif=exif)
    small = io.BytesIO()
    Image.fromarray((GREY >> 8).astype(np.uint8)).save(small, "PNG", exif=exif)
    ds = mapix.open(folder(tmp_path / "f", {"a.png": out.getvalue(), "b.png": small.getvalue()}))
    np.testing.assert_array_equal(ds[0].image >> 8, ds[1].image)
    assert ds.batch([0], dtype="uint16").shapes.tolist() == [list(ds[1].image.shape)]


# --- elsewhere ------------------------------------------------------------------------------------


def test_conversions_keep_the_numbers_or_report_it(tmp_path):
    data, want = DEEP["rgb.png"]
    ds = folder(tmp_path / "f", {"rgb.png": data})
    assert mapix.convert(ds, tmp_path / "a.npz").lost == ()
    with np.load(tmp_path / "a.npz") as z:
        np.testing.assert_array_equal(z["images"][0], want)
    with pytest.raises(mapix.LossError, match="16 bits .*number / 257"):
        mapix.convert(ds, tmp_path / "b.npz", images={"mode": "RGB"})
    mapix.convert(ds, tmp_path / "b.npz", images={"mode": "RGB"}, lossy=True)
    with np.load(tmp_path / "b.npz") as z:
        np.testing.assert_array_equal(z["images"][0], np.floor(want / 257 + 0.5))
    assert (
        mapix.convert(ds, tmp_path / "c.npz", images={"size": (2, 3), "fit": "resize"}).lost == ()
    )
    with np.load(tmp_path / "c.npz") as z:
        assert (z["images"].dtype, z["images"].shape) == (np.uint16, (1, 2, 3, 3))


@pytest.mark.torch
def test_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
    mapix_torch = pytest.importorskip("mapix.torch")
    files = {k: DEEP[k][0] for k in ("grey.png", "int32.tif")}
    ds = folder(tmp_path / "f", files)
    image, _ = mapix_torch.Images(ds, mode="L")[0]
    np.testing.assert_array_equal(image[0].numpy(), np.floor(GREY / 257 + 0.5))
    with pytest.raises(ValueError, match="have no range"):
        mapix_torch.Images(ds, mode="RGB")[1]
    np.testing.assert_array_equal(mapix_torch.Images(ds)[0][0][0].numpy(), GREY)
    image, _ = mapix_torch.Images(ds, dtype="int32")[1]
    assert image.dtype == torch.int32
    np.testing.assert_array_equal(image[0].numpy(), WIDE[:, :, 0])


def test_a_sheet_shows_deep_pictures_from_black_to_white(tmp_path):
    from mapix.folder.drawing import drawn

    array = np.array([[1000, 2000], [1000, 2000]], np.uint16)
    ds = mapix.open(folder(tmp_path / "f", {"a.png": saved(array, "PNG")}))
    found = np.asarray(drawn(ds[0], 40, 40))
    assert found[20, 2].tolist() == [0, 0, 0]
    assert found[20, -3].tolist() == [255, 255, 255]
