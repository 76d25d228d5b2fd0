"""PNG files, thumbnails, contact sheets and half blocks, against values known otherwise."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest

from mapix.colour import palette
from mapix.drawing import contact_sheet, half_blocks, png, png_file, thumbnail
from mapix.drawing.letters import written
from mapix.drawing.scaling import MISSING, brightened

RNG = np.random.default_rng(0)


def decoded(raw: bytes) -> np.ndarray:
    """Decode a PNG file from the standard's description alone: filters 0 to 2, no interlacing."""
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(raw):
        (n,) = struct.unpack_from(">I", raw, at)
        kind, data = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + n]
        assert struct.unpack_from(">I", raw, at + 8 + n) == (zlib.crc32(kind + data),)
        chunks.append((kind, data))
        at += 12 + n
    assert (chunks[0][0], chunks[-1]) == (b"IHDR", (b"IEND", b""))
    w, h, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [0, 0, 0]
    c, nbytes = {0: 1, 4: 2, 2: 3, 6: 4}[colour], depth // 8
    data = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    stride = w * c * nbytes
    assert len(data) == h * (stride + 1)
    above, rows = np.zeros(stride, int), []
    for y in range(h):
        how, *line = data[y * (stride + 1) : (y + 1) * (stride + 1)]
        line = np.array(line)
        if how == 1:
            for x in range(c * nbytes, stride):
                line[x] = (line[x] + line[x - c * nbytes]) % 256
        elif how == 2:
            line = (line + above) % 256
        else:
            assert how == 0
        rows.append(line.astype(np.uint8).tobytes())
        above = line
    return np.frombuffer(b"".join(rows), f">u{nbytes}").reshape(h, w, c)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5, 1), (4, 9, 2), (6, 4, 3), (3, 8, 4)])
def test_png_holds_exactly_the_numbers(dtype, shape, monkeypatch):
    noise = RNG.integers(0, 256 ** np.dtype(dtype).itemsize, shape).astype(dtype)
    smooth = (np.add.outer(*map(np.arange, shape[:2])) * 3).astype(dtype)
    smooth = smooth if len(shape) == 2 else np.dstack([smooth] * shape[2])
    for array in noise, smooth, noise[::-1, ::-1]:
        found = decoded(png(array))
        np.testing.assert_array_equal(found.reshape(shape), array)
    monkeypatch.setattr(png_file, "STRIPE_NBYTES", 20)  # many stripes
    np.testing.assert_array_equal(decoded(png(noise)).reshape(shape), noise)


def test_png_is_read_by_pillow():
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for shape, mode in (((9, 7), "L"), ((9, 7, 2), "LA"), ((9, 7, 3), "RGB"), ((9, 7, 4), "RGBA")):
        array = RNG.integers(0, 256, shape).astype(np.uint8)
        found = image.open(io.BytesIO(png(array)))
        assert found.mode == mode
        np.testing.assert_array_equal(np.asarray(found), array)
    deep = RNG.integers(0, 65536, (5, 6)).astype(np.uint16)
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(png(deep)))), deep)


def test_png_of_smooth_pictures_is_small():
    ramp = np.add.outer(np.arange(256), np.arange(256)).astype(np.uint8)
    assert len(png(ramp)) < 2000


@pytest.mark.parametrize(
    ("array", "error", "text"),
    [
        (np.zeros((2, 2), np.float32), TypeError, "uint8 or uint16, got float32"),
        (np.zeros((2, 2), np.int8), TypeError, "got int8"),
        (np.zeros((2, 2), np.uint32), TypeError, "got uint32"),
        (np.zeros((2, 2, 5), np.uint8), ValueError, r"got \(2, 2, 5\)"),
        (np.zeros(3, np.uint8), ValueError, r"got \(3,\)"),
        (np.zeros((0, 3), np.uint8), ValueError, "at least 1 x 1 pixel, got 0 x 3"),
    ],
)
def test_png_refuses(array, error, text):
    with pytest.raises(error, match=text):
        png(array)


# --- thumbnails -----------------------------------------------------------------------------------


def averaged(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """The mean of the area below each pixel: each pixel repeated, so that all areas are blocks."""
    old = image.shape
    fine = image.astype(float).repeat(h, axis=0).repeat(w, axis=1)
    return fine.reshape(h, old[0], w, old[1], -1).mean(axis=(1, 3))


@pytest.mark.parametrize(("shape", "size"), [((10, 10), 4), ((12, 30), 10), ((7, 5), 3)])
def test_areas_are_averaged_downwards(shape, size):
    image = RNG.integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = thumbnail(image, size)
    h, w = found.shape[:2]
    assert max(h, w) == size
    assert abs(h / w - shape[0] / shape[1]) <= 0.5 / w + 0.5 / h
    assert np.abs(found - averaged(image, h, w)).max() <= 0.5 + 1e-6


def test_pixels_are_repeated_upwards():
    image = np.array([[0, 100, 255]], np.uint8)
    found = thumbnail(image, (9, 10))
    assert found.shape == (3, 9, 3)  # a whole number of times
    np.testing.assert_array_equal(found[..., 0], image.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (np.array([[0, 7, 255]], np.uint8), [0, 7, 255]),
        (np.array([[False, True]]), [0, 255]),
        (np.array([[10, 20, 30]], np.int16), [0, 128, 255]),
        (np.array([[1000, 3000]], np.uint16), [0, 255]),
        (np.array([[-1.0, 0, 1, np.inf, -np.inf]]), [0, 128, 255, 255, 0]),
        (np.array([[5, 5]], np.float32), [0, 0]),
        (np.array([[-1.7e308, 0, 1.7e308]]), [0, 128, 255]),
        (np.array([[0, 1 << 63]], np.uint64), [0, 255]),
        (np.array([[0, 1]], np.float16), [0, 255]),
        (np.array([0, 51], np.uint8), [0, 51]),  # a vector is one row
    ],
)
def test_ranges(image, grey):
    found = thumbnail(image, (1, image.size))
    np.testing.assert_array_equal(found, np.repeat(np.array([grey])[..., None], 3, axis=2))


def test_a_range_is_given():
    image = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
    found = thumbnail(image, 5, value_range=(1000, 3000))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_nan_is_grey_and_not_averaged():
    image = np.array([[0.0, np.nan, 1, 1], [0, 0, np.nan, np.nan], [np.nan] * 4, [np.nan] * 4])
    assert thumbnail(image, 4)[0, :, 0].tolist() == [0, MISSING[0], 255, 255]
    found = thumbnail(image, 2)
    assert found[..., 0].tolist() == [[0, 255], [MISSING[0]] * 2]
    assert (thumbnail(np.full((3, 3), np.nan), 3) == MISSING).all()


def test_channels():
    image = np.zeros((1, 1, 4), np.uint8)
    image[0, 0] = 10, 20, 30, 0
    assert thumbnail(image, 1)[0, 0].tolist() == [10, 20, 30]
    assert thumbnail(image[..., :2], 1)[0, 0].tolist() == [15, 15, 15]
    five = np.array([[[0, 10, 20, 30, 40]]], np.uint8)
    assert thumbnail(five, 1)[0, 0].tolist() == [20, 20, 20]
    some = np.array([[[0, np.nan], [np.nan, np.nan], [1, 1]]])
    assert thumbnail(some, 3)[0, :, 0].tolist() == [0, MISSING[0], 255]


def test_colours():
    colours = palette()
    image = np.array([[0, 100, 255]], np.uint8)
    np.testing.assert_array_equal(thumbnail(image, 3, colours)[0], colours[[0, 100, 255]])
    rgb = np.array([[[1, 2, 3]]], np.uint8)
    assert thumbnail(rgb, 1, colours).tolist() == [[[1, 2, 3]]]


def test_large_images_are_sampled():
    large = np.broadcast_to(np.uint8(7), (60_000, 60_000))  # 3.6 GB if it were copied
    found = thumbnail(large, 32)
    assert found.shape == (32, 32, 3)
    assert (found == 7).all()
    half = np.zeros((4000, 4000), np.uint8)
    half[:, 2000:] = 200
    found = thumbnail(half, 10)
    assert found[0, :, 0].tolist() == [0] * 5 + [200] * 5


@pytest.mark.parametrize(
    ("image", "size", "error"),
    [
        (np.array([["a"]]), 4, TypeError),
        (np.zeros((2, 2), complex), 4, TypeError),
        (np.zeros((0, 2)), 4, ValueError),
        (np.zeros((2, 2, 2, 2)), 4, ValueError),
        (np.zeros((2, 2)), 0, ValueError),
    ],
)
def test_thumbnails_refuse(image, size, error):
    with pytest.raises(error, match="numbers|an image|at least 1"):
        thumbnail(image, size)


# --- sheets and terminals -------------------------------------------------------------------------


def test_contact_sheet_puts_each_picture_into_the_middle_of_its_cell():
    images = [np.full((2, 4, 3), 1, np.uint8), np.full((4, 2, 3), 2, np.uint8)]
    images.append(np.full((4, 4, 3), 3, np.uint8))
    page = contact_sheet(images, columns=2, gap=1, ground=(0, 0, 9))
    assert page.shape == (11, 11, 3)
    want = np.zeros((11, 11), int)
    want[2:4, 1:5] = 1
    want[1:5, 7:9] = 2
    want[6:10, 1:5] = 3
    np.testing.assert_array_equal(page[..., 0], want)
    assert (page[want == 0] == (0, 0, 9)).all()
    assert contact_sheet(images[:1], gap=0).shape == (2, 4, 3)
    assert contact_sheet([images[2]] * 9, gap=0).shape == (12, 12, 3)
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])


def test_letters_are_as_drawn():
    rows = ["".join(".#"[v] for v in row) for row in written("Ag1", 99).tolist()]
    assert rows == [
        "..................",
        ".###..........#...",
        "#...#........##...",
        "#...#..####...#...",
        "#####.#...#...#...",
        "#...#.#...#...#...",
        "#...#..####...#...",
        "#...#.....#..###..",
        ".......###........",
        "..................",
    ]
    letters = [written(chr(c), 6).tobytes() for c in range(32, 127)]
    assert len(set(letters)) == 95  # each is another one


@pytest.mark.parametrize(
    ("text", "as_if"),
    [("Zoë", "Zoe"), ("a\tb", "a b"), ("abcdefgh", "abc.."), ("字", "☃")],
)
def test_text_is_made_ascii_and_cut(text, as_if):
    np.testing.assert_array_equal(written(text, 30), written(as_if, 30))
    assert written(text * 1000, 30).shape[1] <= 30


def test_captions_are_below_their_pictures():
    images = [np.zeros((12, 18, 3), np.uint8)] * 3
    page = contact_sheet(images, 2, ["abc", "d\nee"], gap=0, ground=(0, 0, 0), ink=(9, 9, 9))
    assert page.shape == (2 * (12 + 20), 36, 3)
    want = np.zeros((64, 36), bool)
    want[12:22, :18] = written("abc", 18)
    want[12:22, 18:24] = written("d", 18)
    want[22:32, 18:30] = written("ee", 18)
    np.testing.assert_array_equal(page[..., 2] == 9, want)
    with pytest.raises(ValueError, match="4 captions of 3 pictures"):
        contact_sheet(images, captions=["a"] * 4)


def test_half_blocks():
    picture = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(3, 2, 3)
    text = half_blocks(picture, 80)
    lines = text.split("\n")
    assert lines[0] == (
        "\x1b[38;2;0;1;2m\x1b[48;2;6;7;8m\u2580\x1b[38;2;3;4;5m\x1b[48;2;9;10;11m\u2580\x1b[0m"
    )
    assert lines[1] == "\x1b[38;2;12;13;14m\u2580\x1b[38;2;15;16;17m\u2580\x1b[0m"
    assert lines[2:] == [""]


def test_half_blocks_fit_the_width():
    text = half_blocks(np.zeros((100, 200), np.uint8), 40)
    plain = re.sub("\x1b[^m]*m", "", text).splitlines()
    assert [len(line) for line in plain] == [40] * 10  # 20 rows of pixels
    assert text.count("\x1b[38") == 10  # one colour is set once per line


def test_bytes_of_few_values_are_drawn_with_contrast():
    dim = [np.full((2, 2, 3), 16, np.uint8), None, np.full((1, 1, 3), 4, np.uint8)]
    found = brightened(dim)
    assert found[1] is None
    assert [int(found[k].min()) for k in (0, 2)] == [255, 63]
    for usual in ([np.full((2, 2, 3), 32, np.uint8)], [np.zeros((1, 1, 3), np.uint8)], [None]):
        assert all(a is b for a, b in zip(brightened(usual), usual, strict=True))
