"""The compiled core's tiles: small pictures of arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.core import OK, constant, ffi, lib, writable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_TILE_SIDE", "TILE", "draw_batch", "draw_tiles"]

MOST_TILE_SIDE = 512
TILE = np.dtype(
    [("at", "u8"), ("h", "u4"), ("w", "u4"), ("low", "f8"), ("high", "f8")],
)
_PICTURE = np.dtype(
    [
        ("data", "u8"),
        ("row", "i8"),
        ("col", "i8"),
        ("channel", "i8"),
        ("h", "u4"),
        ("w", "u4"),
        ("c", "u4"),
        ("type", "u4"),
    ]
)
assert _PICTURE.itemsize == ffi.sizeof("mapix_picture")
assert TILE.itemsize == ffi.sizeof("mapix_tile")
_TYPES = {"|u1": 0, "|i1": 1, "<u2": 2, "<i2": 3, "<u4": 4, "<i4": 5, "<f4": 6, "<f8": 7}


def draw_tiles(
    images: Sequence[NDArray[Any] | None],
    size: int,
    *,
    nchannels: int = 1,
    channel: int = 0,
    value_range: tuple[float, float] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return tiles of images: small pictures of bytes, one after the other.

    Parameters
    ----------
    images : sequence of ndarray
        (h, w, c) of numbers of up to 32 bits, or float64, in this machine's byte order; None
        gives a tile without pixels.
    size : int
        1..512: images with a longer side are scaled down to it, others keep their size.
    nchannels : {1, 3}
        3 for the first three channels; 1 for ``channel`` alone.
    channel : int
        Of images that have fewer, the last one.
    value_range : (low, high), optional
        Numbers that become 0 and 255; by default the lowest and the highest of each tile.

    Returns
    -------
    pixels : ndarray
        uint8, all tiles.
    tiles : ndarray
        ``TILE``: where each begins, its sides, and its range.
    """
    pictures = np.zeros(len(images), _PICTURE)
    pictures[:] = [_EMPTY if image is None else _picture(image) for image in images]
    return _drawn(pictures, size, nchannels, channel, value_range)


def draw_batch(
    images: NDArray[Any],
    size: int,
    *,
    nchannels: int = 1,
    channel: int = 0,
    value_range: tuple[float, float] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return tiles of a batch, (n, h, w, c), as ``draw_tiles`` does."""
    pictures = np.zeros(len(images), _PICTURE)
    if len(images):
        pictures[:] = _picture(images[0])
        steps = np.arange(len(images), dtype=np.int64) * images.strides[0]
        pictures["data"] = images.ctypes.data + steps
    return _drawn(pictures, size, nchannels, channel, value_range)


_EMPTY = (0, 0, 0, 0, 0, 0, 0, 0)


def _picture(image: NDArray[Any]) -> tuple[int, ...]:
    kind = _TYPES.get(image.dtype.str)
    if kind is None or image.ndim != 3 or not image.size:
        raise ValueError(f"no tile of {image.dtype} {image.shape}")
    return (image.ctypes.data, *image.strides, *image.shape, kind)


def _drawn(
    pictures: NDArray[Any],
    size: int,
    nchannels: int,
    channel: int,
    value_range: tuple[float, float] | None,
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    n = len(pictures)
    h, w = pictures["h"].astype(np.int64), pictures["w"].astype(np.int64)
    most = np.minimum(h, size) * np.minimum(w, size) * nchannels
    pixels, tiles = np.empty(int(most.sum()), np.uint8), np.zeros(n, TILE)
    how = ffi.new("mapix_tiling *")
    how.size, how.nchannels, how.channel = size, nchannels, channel
    how.own_range = value_range is None
    how.low, how.high = value_range or (0.0, 0.0)
    status = lib.mapix_tiles(
        *(constant(pictures, "mapix_picture *"), n, how, writable(pixels), pixels.nbytes),
        ffi.cast("mapix_tile *", writable(tiles)),
    )
    if status != OK:
        raise ValueError(f"no tiles of {n} images: size {size}, {nchannels} channels")
    used = int(tiles["at"][-1]) + int(tiles["h"][-1]) * int(tiles["w"][-1]) * nchannels if n else 0
    return pixels[:used], tiles
