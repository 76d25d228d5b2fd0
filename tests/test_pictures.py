"""Batches of pictures: pad= and crop= of all datasets, and size=, fit= of pictures."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

import mapix
from mapix.assembly import assembled
from mapix.options import BatchOptions, checked
from mapix.pictures import EncodedPicture
from mapix.pictures.decoding import decode, header_of, image_of

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

SIZES = ((5, 8), (6, 3), (4, 4))


def picture(h: int, w: int, c: int = 3) -> np.ndarray:
    return np.random.default_rng(h * w).integers(0, 256, (h, w, c), np.uint8)


@pytest.fixture
def ds(tmp_path):
    records = [
        {"file_name": f"{h}x{w}.png", "image": picture(h, w), "objects": ([[1, 1, 2, 2]], ["x"])}
        for h, w in SIZES
    ]
    mapix.folder.write(tmp_path / "f", records)
    return mapix.open(tmp_path / "f")


CANVASES = [
    {"pad": True, "pad_value": 7},
    {"pad": (6, 9)},
    {"pad": (6, 8, 4), "pad_value": 3},
    {"crop": True},
    {"crop": "corner"},
    {"pad": (5, 4), "crop": True, "layout": "NCHW"},
    {"pad": (5, 4), "crop": "corner", "pad_value": 9},
    {"pad": True, "crop": True, "dtype": "float32", "scale": 0.5, "mean": 1.0},
]


@pytest.mark.parametrize("options", CANVASES, ids=str)
def test_pad_and_crop_mean_what_they_mean_everywhere(ds, options):
    want = assembled("f", [picture(h, w) for h, w in SIZES], checked(BatchOptions(**options)))
    found = ds.batch([0, 1, 2], threads=2, **options)
    np.testing.assert_array_equal(found.images, want.images)
    np.testing.assert_array_equal(found.shapes, [(h, w, 3) for h, w in SIZES])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"pad": True}, {"fit": "pad"}),
        ({"pad": (7, 9)}, {"fit": "pad", "size": (7, 9)}),
        ({"pad": (7, 9)}, {"pad": True, "size": (7, 9)}),
        ({"crop": True, "size": (4, 3)}, {"fit": "crop", "size": (4, 3)}),
        ({"crop": "corner", "size": (4, 3)}, {"fit": "crop", "size": (4, 3), "crop": "corner"}),
        ({"pad": (5, 4), "crop": True}, {"fit": "pad", "size": (5, 4), "crop": True}),
        ({"pad": (5, 4), "crop": True}, {"fit": "crop", "size": (5, 4), "pad": True}),
    ],
)
def test_one_canvas_by_two_names(ds, one, other):
    a, b = (ds.batch([0, 1, 2], **options) for options in (one, other))
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.places, b.places)


def test_boxes_move_with_what_is_cut(ds):
    cut = ds.batch([0, 1, 2], crop=True)
    assert cut.images.shape == (3, 4, 3, 3)
    # 5 x 8 loses (5 - 4) // 2 rows and (8 - 3) // 2 columns, 6 x 3 one row, 4 x 4 no row
    assert [b.tolist() for b in cut.boxes] == [[[-1, 1, 2, 2]], [[1, 0, 2, 2]], [[1, 1, 2, 2]]]
    np.testing.assert_array_equal(cut.images[0], picture(5, 8)[:4, 2:5])
    both = ds.batch([0, 1], pad=(4, 9), crop=True)
    assert [b.tolist() for b in both.boxes] == [[[1, 1, 2, 2]], [[1, 0, 2, 2]]]
    corner = ds.batch([0], pad=(4, 4), crop="corner")
    assert corner.boxes[0].tolist() == [[1, 1, 2, 2]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"fit": "resize", "size": (3, 3), "pad": True}, "pad= and crop= do not"),
        ({"fit": "letterbox", "size": (3, 3), "crop": True}, "pad= and crop= do not"),
        ({"size": (3, 3), "pad": (4, 4)}, "two sizes"),
        ({"pad": (4, 4)}, r"5x8\.png: 5 x 8 pixels do not fit into 4 x 4 .*crop=True"),
        ({"pad": (9, 9, 1)}, r"5x8\.png has 3 channels, pad= is for 1"),
        ({"fit": "crop"}, "needs size"),
        ({}, "pad=True and crop=True need no size"),
    ],
)
def test_what_contradicts_itself_is_refused(ds, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ds.batch([0, 1, 2], **options)


def test_shapes_that_options_state(ds):
    for options in (
        {"size": (7, 9), "fit": "resize", "mode": "L"},
        {"size": (7, 9), "fit": "letterbox", "mode": "RGBA", "layout": "NCHW"},
        {"pad": (7, 9), "mode": "RGB"},
        {"pad": (7, 9, 4)},
    ):
        assert ds.batch_shape([2, 0], **options) == ds.batch([2, 0], **options).images.shape
    assert ds.batch_shape([0], size=(7, 9), fit="resize") is None  # channels are in the files
    assert ds.batch_shape([0], mode="RGB", crop=True) is None
    with pytest.raises(TypeError, match="sise"):
        ds.batch_shape([0], sise=(1, 1))


def test_options_that_pictures_do_not_have(ds):
    with pytest.raises(TypeError, match="turn"):
        next(ds.batches(2, turn=90))
    with pytest.raises(mapix.UnsupportedError, match="folder records are not copied by a device"):
        ds.placement()


def test_bytes_from_anywhere():
    out = io.BytesIO()
    Image.fromarray(picture(5, 8)).save(out, "PNG")
    file = EncodedPicture(out.getvalue(), "a.png", "shard.tar", max_pixels=40)
    np.testing.assert_array_equal(image_of(file), picture(5, 8))
    assert header_of(file).shape == (5, 8, 3)
    assert header_of(file).format == "PNG"
    small = EncodedPicture(file.data, "a.png", "shard.tar", max_pixels=39)
    with pytest.raises(mapix.LimitError, match=r"shard\.tar: a\.png: 8 x 5 pixels.* limit of 39"):
        decode(small)
    cut = EncodedPicture(file.data[:-30], "a.png", "shard.tar")
    with pytest.raises(mapix.FormatError, match=r"shard\.tar: picture: a\.png: cannot be decoded"):
        decode(cut)

    def error(reason: str) -> mapix.FormatError:
        return mapix.FormatError("x", "tar", reason, record=3, at=512)

    with pytest.raises(mapix.FormatError, match="x: tar record 3 at byte 512: not a picture"):
        decode(EncodedPicture(b"text", "a.png", "shard.tar", error))


EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
AS_HEX = b"\nexif\n%8d\n" % (6 + len(EXIF)) + (b"Exif\0\0" + EXIF).hex().encode()


def png_with(*, before=(), after=()):
    """Return a PNG with chunks before and after its pixels."""
    pixels = picture(5, 8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">2I5B", 8, 5, 8, 2, 0, 0, 0)),
        *(*before, (b"IDAT", zlib.compress(rows)), *after),
        (b"IEND", b""),
    ]
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed), pixels


@pytest.mark.parametrize(
    "chunks",
    [
        {"before": [(b"eXIf", EXIF)]},
        {"after": [(b"eXIf", EXIF)]},
        {"after": [(b"tEXt", b"Comment\0a"), (b"eXIf", EXIF)]},
        {"before": [(b"prVt", b"")] * 5000, "after": [(b"eXIf", EXIF)]},
        {"before": [(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(AS_HEX))]},
        {"before": [(b"tEXt", b"Raw profile type exif\0" + AS_HEX)]},
    ],
    ids=["before", "after", "after a text", "after many chunks", "compressed", "text"],
)
def test_exif_of_a_png_wherever_it_is(chunks):
    data, pixels = png_with(**chunks)
    file = EncodedPicture(data, "a.png", "shard.tar")
    np.testing.assert_array_equal(image_of(file), np.rot90(pixels, -1))
    assert header_of(file).orientation == 6


def test_words_of_exif_in_other_chunks_are_none():
    data, pixels = png_with(before=[(b"prVt", b"eXIf" + EXIF)])
    file = EncodedPicture(data, "a.png", "shard.tar")
    np.testing.assert_array_equal(image_of(file), pixels)
    assert header_of(file).orientation == 1
