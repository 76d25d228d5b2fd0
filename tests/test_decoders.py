"""Faster decoders: Pillow's pixels, and Pillow's opinion on what is damaged."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.pictures import EncodedPicture, decoders, decoding
from mapix.pictures.decoding import decode, header_of, image_of, small_picture
from test_tfrecord import message
from test_tfrecord import record as example

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
pytest.importorskip("simplejpeg")
pytest.importorskip("imagecodecs")
features = pytest.importorskip("PIL.features")
if not features.check_feature("libjpeg_turbo"):
    pytest.skip("needs a Pillow with libjpeg-turbo", allow_module_level=True)

KINDS: dict[str, dict[str, Any]] = {
    "usual": {},
    "grey": {"mode": "L"},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "optimized": {"optimize": True, "quality": 40},
    **{f"orientation {k}": {"orientation": k} for k in (2, 3, 6, 7)},
}

OTHERS: dict[str, dict[str, Any]] = {
    **{f"PNG {mode}": {"mode": mode, "format": "PNG"} for mode in ("L", "LA", "RGB", "RGBA")},
    **{f"WebP {mode}": {"mode": mode, "format": "WEBP"} for mode in ("RGB", "RGBA")},
    "WebP lossless": {"format": "WEBP", "lossless": True},
    "PNG turned": {"format": "PNG", "orientation": 6},
}


def scene(h: int, w: int) -> Any:
    """A picture like a photograph: soft shapes, and a little noise."""
    rng = np.random.default_rng(h * w)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
    pixels = np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((pixels + rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8))


def encoded(
    h: int, w: int, mode: str = "RGB", orientation: int = 1, format: str = "JPEG", **save: Any
) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    found = scene(h, w).convert(mode)
    if mode in ("LA", "RGBA"):
        found.putalpha(scene(h, w).convert("L"))
    found.save(out, format, exif=exif, **save)
    return out.getvalue()


def file(data: bytes) -> EncodedPicture:
    return EncodedPicture(data, "a.jpg", "shard")


@pytest.fixture
def used(monkeypatch):
    """How many pictures were decoded by another library, as a list of their shapes."""
    found: list[tuple[int, ...]] = []
    real = decoding.decoded

    def counted(picture: Any, data: bytes, full: tuple[int, int]) -> Any:
        pixels = real(picture, data, full)
        if pixels is not None:
            found.append(pixels.shape)
        return pixels

    monkeypatch.setattr(decoding, "decoded", counted)
    return found


@pytest.fixture
def without(monkeypatch):
    """Return a function that calls another one with Pillow alone."""

    def call(do: Any) -> Any:
        with monkeypatch.context() as m:
            m.setattr(decoders, "library", lambda name: None)
            return do()

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_pillows(kind, used, without):
    data = encoded(100, 171, **KINDS[kind])
    for draft in (None, (50, 50), (20, 21), (12, 3)):
        found, full = decode(file(data), draft, arrays=True)
        assert isinstance(found, np.ndarray)
        want, size = without(lambda draft=draft: decode(file(data), draft))
        assert full == size
        np.testing.assert_array_equal(found.squeeze(), np.asarray(want))
    assert [max(shape) for shape in used] == [171, 86, 43, 22]
    np.testing.assert_array_equal(image_of(file(data)), without(lambda: image_of(file(data))))
    small = small_picture(file(data), 40)
    np.testing.assert_array_equal(small, without(lambda: small_picture(file(data), 40)))
    assert header_of(file(data)).decoder == "simplejpeg"
    assert without(lambda: header_of(file(data))).decoder == "Pillow"


@pytest.mark.parametrize("kind", OTHERS)
def test_pixels_of_other_formats_are_pillows(kind, used, without):
    data = encoded(65, 71, **OTHERS[kind])
    want = without(lambda: image_of(file(data)))
    np.testing.assert_array_equal(image_of(file(data)), want)
    assert len(used) == 1
    assert header_of(file(data)).decoder == "imagecodecs"


@pytest.mark.parametrize("size", [(63, 200), (200, 63), (1, 1), (8, 8)])
def test_small_pictures_are_pillows(size, used):
    data = encoded(*size)
    decode(file(data), (4, 4), arrays=True)
    assert image_of(file(data)).shape == (*size, 3)
    assert used == []
    assert header_of(file(data)).decoder == "Pillow"


def test_what_pillow_decodes(used):
    several = {"save_all": True, "append_images": [scene(70, 80).rotate(180)]}
    for options in (
        {"mode": "CMYK"},
        *({"format": "MPO"} | several, {"format": "PNG"} | several, {"format": "WEBP"} | several),
        *({"format": "PNG", "mode": "P"}, {"format": "PNG", "mode": "1"}, {"format": "BMP"}),
        {"format": "PNG", "mode": "L", "bits": 4},
        {"format": "PNG", "transparency": (1, 2, 3)},
    ):
        data = encoded(70, 80, **options)
        assert image_of(file(data)).shape[:2] == (70, 80)
        assert header_of(file(data)).decoder == "Pillow", options
    assert used == []
    assert isinstance(decode(file(encoded(70, 80)))[0], Image.Image)  # as ``record.pil()`` wants


def outcome(data: bytes) -> Any:
    try:
        return image_of(file(data)).tobytes()
    except (mapix.FormatError, mapix.LimitError) as e:
        return str(e)


@pytest.mark.parametrize("kind", ["usual", "progressive", "grey", "PNG RGBA", "WebP RGB"])
def test_damaged_is_what_pillow_finds_damaged(kind, used, without):
    """Cut or with bytes changed: the same pixels, or the same error, as with Pillow alone."""
    data = encoded(66, 67, **(KINDS | OTHERS)[kind])
    rng = np.random.default_rng(4)
    damaged = [data[:n] for n in (len(data) - 1, len(data) - 2, len(data) - 40, 700, 300, 3)]
    damaged += [data + b"\0" * 9, data[:-2] + b"\0" * 7 + data[-2:]]
    for _ in range(40):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 1 + rng.integers(3)):
            changed[at] = rng.integers(256)
        damaged.append(bytes(changed))
    found = [outcome(d) for d in damaged]
    n = len(used)
    assert found == [without(lambda d=d: outcome(d)) for d in damaged]
    assert 0 < n < len(damaged)  # changed bytes may be harmless, and then Pillow is not asked
    assert sum(isinstance(f, str) for f in found) > 4
    assert found[4].startswith("shard: picture: a.jpg: ")


def test_no_memory_for_a_size_that_pillow_did_not_read(monkeypatch):
    """A header that the two libraries understand differently."""

    decoded = []

    class Other:
        @staticmethod
        def decode_jpeg_header(data: bytes, *least: int) -> tuple[Any, ...]:
            return 60000, 60000, "YCbCr", "420"

        @staticmethod
        def decode_jpeg(*args: Any, **options: Any) -> Any:
            decoded.append(options)

    data = encoded(70, 80)
    want = image_of(file(data))
    monkeypatch.setattr(decoders, "library", lambda name: Other)
    np.testing.assert_array_equal(image_of(file(data)), want)
    assert decoded == []


BATCHES = [
    {"fit": "cover", "draft": True},
    {"fit": "resize", "resample": "box", "mode": "L"},
    {"fit": "letterbox", "dtype": "float32", "layout": "NCHW", "scale": 1 / 255, "mean": 0.5},
    {"fit": "crop", "size": (60, 60), "mode": "RGBA"},
    {"fit": "cover", "resample": "nearest", "dtype": "float16", "draft": True},
    {"fit": "resize", "resample": "lanczos", "dtype": "uint16", "draft": True},
]


def dataset(folder: Path, family: str, files: dict[str, bytes]) -> Any:
    """Pictures in a dataset of a family, as other programs write them."""
    if family == "folder":
        with mapix.folder.Writer(folder / "f") as out:
            for name, data in files.items():
                out.append(name, data)
        return mapix.open(folder / "f")
    path = folder / f"x.{family}"
    if family == "tar":
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    elif family == "tfrecord":
        examples = [message({"image/encoded": [data]}) for data in files.values()]
        path.write_bytes(b"".join(map(example, examples)))
    else:
        pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
        pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
        column = [{"bytes": data, "path": name} for name, data in files.items()]
        pq.write_table(pa.table({"image": column}), path)
    return mapix.open(path)


@pytest.mark.parametrize("family", ["folder", "tar", "tfrecord", "parquet"])
def test_batches_of_all_families(tmp_path, family, used, without):
    files = {
        f"{k}.jpg": encoded(90 + k, 130 - 5 * k, **options)
        for k, options in enumerate(KINDS.values())
    }
    png = io.BytesIO()
    scene(80, 70).save(png, "PNG")
    ds = dataset(tmp_path, family, files | {"last.png": png.getvalue()})
    assert len(ds) == len(KINDS) + 1
    for options in BATCHES:
        options = {"size": (32, 24), "mode": "RGB"} | options
        batch = ds.batch(range(len(ds)), threads=2, **options)
        want = without(lambda o=options: ds.batch(range(len(ds)), **o))
        np.testing.assert_array_equal(batch.images, want.images)
        np.testing.assert_array_equal(batch.places, want.places)
    assert len(used) == len(BATCHES) * (len(KINDS) + 1)
    assert ds.explain(0)["decodes"] == "JPEG by simplejpeg"
    both = ds.explain(batch=[0, len(ds) - 1], size=(32, 24), fit="cover", mode="RGB")
    assert both["decodes"] == "JPEG by simplejpeg; PNG by imagecodecs"


def test_the_distance_of_a_draft(tmp_path):
    """What the documentation states of ``draft=True``, on a picture like a photograph."""
    with mapix.folder.Writer(tmp_path / "f") as out:
        out.append("a.jpg", encoded(768, 1024, quality=88))
    ds = mapix.open(tmp_path / "f")
    a, b = (ds.batch([0], size=(224, 224), fit="resize", draft=d).images for d in (False, True))
    distance = np.abs(a.astype(int) - b)
    assert distance.mean() < 1
    assert distance.max() <= 12
