"""Pictures in another size by the core: the bytes that Pillow's filters give, cast on the way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mapix._native import simd
from mapix._native.resize import FILTERS, resize

LEVELS = range(3)
REACH = dict(zip(FILTERS, (0.5, 1.0, 1.0, 2.0, 3.0), strict=True))
SMOOTH = ("box", "bilinear", "hamming")  # without negative weights


@pytest.fixture(autouse=True)
def _level():
    yield
    simd(2)


def picture(rng: np.random.Generator, h: int, w: int, c: int) -> np.ndarray:
    """Noise, or black and white, which makes sums overshoot."""
    noise = rng.integers(0, 256, (h, w, c), np.uint8)
    return noise if rng.random() < 0.5 else (noise > 127).astype(np.uint8) * 255


def whole(pixels: np.ndarray) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])


def resized(
    pixels: np.ndarray, size: tuple[int, int], resample: str, box: Any = None
) -> np.ndarray:
    found = np.empty((*size, pixels.shape[2]), np.uint8)
    resize(pixels, box or whole(pixels), resample, found)
    return found


# --- the definition -------------------------------------------------------------------------------


def weight(resample: str, x: float) -> float:
    d, sinc = abs(x), float(np.sinc(x))
    if d >= REACH[resample] and resample != "box":
        return 0.0
    if resample == "box":
        return float(d <= 0.5)
    if resample == "bilinear":
        return 1 - d
    if resample == "hamming":
        return sinc * (0.54 + 0.46 * math.cos(math.pi * x))
    if resample == "lanczos":
        return sinc * float(np.sinc(x / 3))
    return 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2


def slow_line(line: np.ndarray, n: int, resample: str, low: float, high: float) -> np.ndarray:
    """Scale a line (w, c) to n pixels, each a sum over all of the line."""
    scale = (high - low) / n
    found = []
    for x in range(n):
        centre = low + (x + 0.5) * scale
        weights = [weight(resample, (k + 0.5 - centre) / max(1.0, scale)) for k in range(len(line))]
        found.append(np.asarray(weights) @ line / sum(weights))
    return np.clip(np.array(found), 0, 255)


@pytest.mark.parametrize("resample", FILTERS)
def test_each_byte_is_the_rounded_sum_over_the_line(resample):
    rng = np.random.default_rng(1)
    for w, n, low, high in ((23, 7, 0, 23), (9, 20, 0, 9), (31, 5, 3.3, 27.9), (6, 1, 0, 6)):
        pixels = picture(rng, 2, w, 3)
        want = [slow_line(line.astype(float), n, resample, low, high) for line in pixels]
        found = resized(pixels, (2, n), resample, (low, 0.0, high, 2.0))
        assert np.abs(found - np.array(want)).max() <= 0.5 + 1e-3
        turned = np.ascontiguousarray(pixels.transpose(1, 0, 2))
        found = resized(turned, (n, 2), resample, (0.0, low, 2.0, high))
        assert np.abs(found.transpose(1, 0, 2) - np.array(want)).max() <= 0.5 + 1e-3


# --- Pillow ---------------------------------------------------------------------------------------


def pillows(
    pixels: np.ndarray, size: tuple[int, int], resample: str, box: tuple[float, ...]
) -> np.ndarray:
    """Pillow's result, one direction after the other: versions differ in which one is first."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    how = image.Resampling[resample.upper()]
    (h, w, c), (to_h, to_w), (left, top, right, bottom) = pixels.shape, size, box
    found = image.fromarray(pixels if c == 3 else pixels[:, :, 0])
    if h - to_h > max(0, 2 * (w - to_w)):
        found = found.resize((w, to_h), how, (0, top, w, bottom))
        found = found.resize((to_w, to_h), how, (left, 0, right, to_h))
    else:
        found = found.resize((to_w, h), how, (left, 0, right, h))
        found = found.resize((to_w, to_h), how, (0, top, to_w, bottom))
    return np.asarray(found).reshape(*size, c)


@pytest.mark.parametrize("resample", FILTERS)
def test_the_bytes_are_pillows(resample):
    rng = np.random.default_rng(FILTERS.index(resample))
    sides = [int(n) for n in rng.integers(1, 70, 120)]
    for k, (h, w, to_h, to_w) in enumerate(zip(*[iter(sides)] * 4, strict=True)):
        pixels = picture(rng, h, w, 1 if k % 4 == 0 else 3)
        x, y = (np.sort(rng.random(2) * side * 0.4 + [0, side * 0.5]) for side in (w, h))
        box = (float(x[0]), float(y[0]), float(x[1]), float(y[1])) if k % 2 else whole(pixels)
        want = pillows(pixels, (to_h, to_w), resample, box)
        for level in LEVELS:
            simd(level)
            found = resized(pixels, (to_h, to_w), resample, box)
            np.testing.assert_array_equal(found, want, f"{pixels.shape} {to_h} {to_w} {box}")


@pytest.mark.parametrize("resample", FILTERS)
def test_the_distance_to_any_version_of_pillow(resample):
    """At most 1 where no weight is negative, whichever direction that version takes first."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    rng = np.random.default_rng(9)
    coarse = image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    for size in ((160, 120), (90, 200), (61, 67)):
        pixels = np.asarray(coarse.resize(size, image.Resampling.BICUBIC))
        want = np.asarray(
            image.fromarray(pixels).resize((64, 48), image.Resampling[resample.upper()])
        )
        distance = np.abs(resized(pixels, (48, 64), resample).astype(int) - want)
        assert distance.max() <= (1 if resample in SMOOTH else 3)
        assert distance.mean() <= 0.25


# --- where it goes --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_numbers_of_any_type_at_any_place(dtype, level):
    simd(level)
    pixels = picture(np.random.default_rng(2), 11, 40, 3)
    affine = np.array([[0.5, -3], [1 / 255, 0], [-2, 7]], np.float32)
    for size in ((5, 37), (11, 40), (11, 9), (20, 40)):
        want = resized(pixels, size, "bilinear").astype(dtype)
        if dtype != "uint8":
            table = np.arange(256)[:, None] * affine[:, 0].astype(np.longdouble) + affine[:, 1]
            table = table.astype(np.float32).astype(dtype)
            bytes_ = resized(pixels, size, "bilinear")
            want = np.stack([table[bytes_[:, :, k], k] for k in range(3)], axis=2)
        canvas = np.full((4, size[0] + 2, size[1] + 3), 9, dtype)
        planes = canvas[:3, 1:-1, 2:-1].transpose(1, 2, 0)
        resize(pixels, whole(pixels), "bilinear", planes, affine)
        np.testing.assert_array_equal(planes, want)
        assert (canvas == 9).sum() >= canvas.size - 3 * size[0] * size[1]
        canvas = np.full((size[0] + 2, size[1] + 3, 5), 9, dtype)
        resize(pixels, whole(pixels), "bilinear", canvas[1:-1, 2:-1, 1:4], affine)
        np.testing.assert_array_equal(canvas[1:-1, 2:-1, 1:4], want)
        assert (canvas[:, :, [0, 4]] == 9).all()
        assert (canvas[[0, -1]] == 9).all()
        # lines that are cast at once, where all channels are cast alike, and others
        for pairs in (np.repeat(affine[:1], 3, axis=0), affine):
            canvas = np.full((size[0], size[1] + 1, 3), 9, dtype)
            resize(pixels, whole(pixels), "bilinear", canvas[:, :-1], pairs)
            apart = np.full((3, *size), 9, dtype)
            resize(pixels, whole(pixels), "bilinear", apart.transpose(1, 2, 0), pairs)
            np.testing.assert_array_equal(canvas[:, :-1], apart.transpose(1, 2, 0))
            np.testing.assert_array_equal(canvas[:, :-1, 0], want[:, :, 0])
            assert (canvas[:, -1] == 9).all()


def test_pixels_of_any_steps():
    pixels = picture(np.random.default_rng(3), 20, 30, 3)
    for view in (pixels[3:17, 4:29], pixels[::-1], pixels[:, ::-1], pixels.swapaxes(0, 1)):
        found = resized(view, (6, 7), "bicubic")
        np.testing.assert_array_equal(found, resized(view.copy(), (6, 7), "bicubic"))
    np.testing.assert_array_equal(resized(pixels, (20, 30), "box"), pixels)


@pytest.mark.parametrize(
    "box",
    [
        *((-0.5, 0, 4, 3), (0, 0, 4.5, 3), (0, 0, 4, 3.1), (2, 0, 2, 3), (0, 2, 4, 1)),
        *((math.nan, 0, 4, 3), (0, 0, math.inf, 3)),
    ],
)
def test_parts_that_are_none(box):
    with pytest.raises(ValueError, match="'box' of"):
        resized(np.zeros((3, 4, 3), np.uint8), (2, 2), "box", box)


def test_wrong_arguments():
    pixels = np.zeros((3, 4, 3), np.uint8)
    for wrong, to, resample in (
        (pixels, (2, 2, 1), "box"),
        (pixels, (2, 2, 3), "nearest"),
        (pixels.astype(np.int8), (2, 2, 3), "box"),
        (np.zeros((3, 4, 5), np.uint8), (2, 2, 5), "box"),
        (pixels, (0, 2, 3), "box"),
        (pixels, (2, 65536, 3), "box"),
        (np.zeros((1, 65536, 1), np.uint8), (2, 2, 1), "box"),
    ):
        with pytest.raises(ValueError, match=rf"no '{resample}'"):
            resize(wrong, whole(wrong), resample, np.zeros(to, np.uint8))
