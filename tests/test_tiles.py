"""The core's tiles equal a reference implementation in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mapix import _native

MOST_SAMPLES = 8


def side(n: int, longer: int, size: int) -> int:
    return n if longer <= size else max(1, (2 * n * size + longer) // (2 * longer))


def stretches(ntiles: int, n: int) -> list[np.ndarray[Any, Any]]:
    found = []
    for i in range(ntiles):
        begin, end = i * n // ntiles, (i + 1) * n // ntiles
        step = max(1, (end - begin) // MOST_SAMPLES)
        found.append(np.arange(begin, max(end, begin + 1), step))
    return found


def reference(image: Any, size: int, nchannels: int, channel: int, value_range: Any) -> Any:
    """The tile of an image (h, w, c), and its range, in plain numpy."""
    h, w, c = image.shape
    channels = [k if c >= 3 else 0 for k in range(3)] if nchannels == 3 else [min(channel, c - 1)]
    lines = stretches(side(h, max(h, w), size), h)
    columns = stretches(side(w, max(h, w), size), w)
    if value_range is None:
        read = image[np.ix_(np.concatenate(lines), np.concatenate(columns), channels)]
        read = read.astype(float)[np.isfinite(read)]
        value_range = (read.min(), read.max()) if read.size else (0.0, 0.0)
    low, high = value_range
    scale = 255 / (high - low) if high > low else 1.0
    tile = np.zeros((len(lines), len(columns), len(channels)), np.uint8)
    for y, x, k in np.ndindex(*tile.shape):
        part = image[np.ix_(lines[y], columns[x], [channels[k]])].astype(float)
        part = part[np.isfinite(part)]
        if part.size:
            tile[y, x, k] = np.rint(np.clip((part.sum() / part.size - low) * scale, 0, 255))
    return tile, value_range


def image(dtype: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(sum(shape))
    if dtype[0] == "f":
        made = np.rint(rng.normal(100, 90, shape)).astype(dtype)  # sums are exact
        made[0, 0] = np.nan
        made[-1, -1, 0] = np.inf
        return made
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -(1 << 20)), min(info.max, 1 << 20), shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5, 7, 1), (12, 9, 3), (70, 5, 4), (1, 90, 2), (3, 62, 1)])
def test_tiles_equal_the_reference(dtype: str, shape: tuple[int, ...]):
    first = image(dtype, shape)
    images = [first, None, first[::-1, ::-1]]
    for size, nchannels, channel, value_range in (
        (4, 3, 0, None),
        (512, 1, 1, (0.0, 255.0)),
        (7, 1, 7, (-3.0, 200.5)),
    ):
        how = {"nchannels": nchannels, "channel": channel, "value_range": value_range}
        pixels, tiles = _native.draw_tiles(images, size, **how)
        assert (tiles["h"][1], tiles["w"][1]) == (0, 0)
        for i in (0, 2):
            want, (low, high) = reference(images[i], size, nchannels, channel, value_range)
            got = pixels[tiles["at"][i] :][: want.size].reshape(want.shape)
            np.testing.assert_array_equal(got, want)
            assert (tiles["h"][i], tiles["w"][i]) == want.shape[:2]
            assert (tiles["low"][i], tiles["high"][i]) == (low, high)
        assert len(pixels) == sum(int(h) * int(w) for h, w in tiles[["h", "w"]]) * nchannels


def test_a_batch_is_drawn_as_its_images():
    batch = np.random.default_rng(2).integers(0, 256, (7, 30, 20, 3), np.uint8)
    for some in (batch, batch[::-1], batch[:, ::2], batch[:0]):
        pixels, tiles = _native.draw_batch(some, 16, nchannels=3, value_range=(0, 255))
        want, same = _native.draw_tiles(list(some), 16, nchannels=3, value_range=(0, 255))
        np.testing.assert_array_equal(pixels, want)
        np.testing.assert_array_equal(tiles, same)


def test_bytes_of_their_own_size_are_copied():
    batch = np.random.default_rng(3).integers(0, 256, (3, 16, 16, 1), np.uint8)
    pixels, _ = _native.draw_batch(batch, 16, value_range=(0, 255))
    np.testing.assert_array_equal(pixels, batch.reshape(-1))


def test_numbers_that_are_not_finite_alone_are_black():
    nothing = np.full((4, 4, 1), np.nan, np.float32)
    pixels, tiles = _native.draw_tiles([nothing], 8)
    assert not pixels.any()
    assert (tiles["low"][0], tiles["high"][0]) == (0, 0)


@pytest.mark.parametrize("size", [4, 64])
def test_numbers_near_the_largest_do_not_overflow(size: int):
    most = np.finfo(np.float64).max
    steps = np.linspace(-1, 1, 60).reshape(1, 60, 1).repeat(60, axis=0)
    pixels, tiles = _native.draw_tiles([steps * most, steps * most / 2, steps], size)
    huge, half, small = (pixels[at : at + h * w] for at, h, w in tiles[["at", "h", "w"]])
    np.testing.assert_array_equal(huge, small)
    np.testing.assert_array_equal(half, small)
    assert (tiles["low"][0], tiles["high"][0]) == (-most, most)
    pixels, _ = _native.draw_tiles([steps * most], size, value_range=(-1.0, 1.0))
    assert set(np.unique(pixels)) <= {0, 128, 255}


@pytest.mark.parametrize("size", [0, 513])
def test_sizes_beyond_the_limit_are_refused(size: int):
    with pytest.raises(ValueError, match="size"):
        _native.draw_tiles([np.zeros((2, 2, 1), np.uint8)], size)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 2, 1), ">f4"),
        np.zeros((2, 2, 1), np.int64),
        np.zeros((2, 2), np.uint8),
        np.zeros((0, 2, 1), np.uint8),
    ],
)
def test_what_cannot_be_drawn_is_refused(bad: Any):
    with pytest.raises(ValueError, match="no tile"):
        _native.draw_tiles([bad], 8)
    with pytest.raises(ValueError, match="channels"):
        _native.draw_tiles([np.zeros((2, 2, 1), np.uint8)], 8, nchannels=2)
