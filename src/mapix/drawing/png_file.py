"""Write PNG files: ISO/IEC 15948."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["png", "png_pieces"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> grey, grey and alpha, RGB, RGBA
STRIPE_NBYTES = 1 << 20  # filtered and compressed at once
MOST_SIDE = (1 << 31) - 1
NONE, SUB, UP = 0, 1, 2  # types of filters


def png(array: NDArray[Any], *, level: int = 6) -> bytes:
    """Return an array as the bytes of a PNG file, which holds exactly its numbers.

    Parameters
    ----------
    array : ndarray
        uint8 or uint16, of any byte order: grey (h, w) or (h, w, 1), grey and alpha (h, w, 2),
        RGB (h, w, 3) or RGBA (h, w, 4).
    level : int
        Of zlib, 0..9.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        The array has another type.
    ValueError
        It has another shape, or no pixels.
    """
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise TypeError(f"a PNG file holds uint8 or uint16, got {array.dtype}")
    planes = array[..., None] if array.ndim == 2 else array
    if planes.ndim != 3 or planes.shape[2] not in COLOUR_TYPES:
        raise ValueError(f"a PNG file holds (h, w) or (h, w, 1 to 4), got {array.shape}")
    h, w, c = planes.shape
    if not 0 < h <= MOST_SIDE or not 0 < w <= MOST_SIDE:
        raise ValueError(f"a PNG file holds at least 1 x 1 pixel, got {h} x {w}")
    step = max(1, STRIPE_NBYTES // (w * c * array.dtype.itemsize))
    strips = (planes[at : at + step] for at in range(0, h, step))
    return b"".join(png_pieces(planes.shape, array.dtype, strips, level=level))


def png_pieces(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strips: Iterable[NDArray[Any]],
    *,
    level: int = 6,
) -> Iterator[bytes]:
    """Yield the bytes of a PNG file of (h, w, c), made of successive strips of its rows.

    Raises
    ------
    ValueError
        The strips have another number of rows than ``shape``.
    """
    h, w, c = shape
    width = c * dtype.itemsize
    yield SIGNATURE + _chunk(
        b"IHDR", struct.pack(">IIBBBBB", w, h, 8 * dtype.itemsize, COLOUR_TYPES[c], 0, 0, 0)
    )
    engine, done = zlib.compressobj(level), 0
    above = np.zeros(w * width, np.uint8)
    for strip in strips:
        rows = np.ascontiguousarray(strip, f">u{dtype.itemsize}")
        raw = rows.reshape(len(rows), -1).view(np.uint8)
        data = engine.compress(_filtered(raw, above, width).data)
        above, done = raw[-1], done + len(rows)
        if data:
            yield _chunk(b"IDAT", data)
    if done != h:
        raise ValueError(f"a PNG file of {h} rows, {done} were given")
    yield _chunk(b"IDAT", engine.flush())
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def _filtered(
    raw: NDArray[np.uint8], above: NDArray[np.uint8], pixel_nbytes: int
) -> NDArray[np.uint8]:
    """Return each row (n, nbytes) with the filter that leaves the smallest differences."""
    sub, up = raw.copy(), raw.copy()
    sub[:, pixel_nbytes:] -= raw[:, :-pixel_nbytes]
    up[1:] -= raw[:-1]
    up[0] -= above
    ways = (raw, sub, up)
    sizes = [np.abs(way.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for way in ways]
    best = np.argmin(sizes, axis=0)
    out = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
    out[:, 0] = np.array((NONE, SUB, UP), np.uint8)[best]
    for number, way in enumerate(ways):
        out[best == number, 1:] = way[best == number]
    return out
