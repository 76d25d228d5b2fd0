"""Routes of the grid: tiles of records, drawn by the C core."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.drawing.scaling import DIM
from mapix.errors import FileChangedError, MapixError
from mapix.selection import spread
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View
from mapix.viewer.table import records_at

__all__ = ["ROUTES", "canonical", "copies", "image_of"]

VERSION = 1
MOST_TILES = 4096
MOST_NBYTES = 32 << 20  # of a reply
CHUNK_NUMBERS = 1 << 18  # of images that are copied at once: they stay in a processor's cache
MOST_THREADS = 4
SAMPLE = 256  # records whose numbers give the range of all
FEW = 16  # the same, of bytes
UNREADABLE, SELECTED = 2, 1
BINARY = "application/octet-stream"


def canonical(image: NDArray[Any]) -> NDArray[Any] | None:
    """Return an image as (h, w, c), of a type that the C core draws; None without pixels."""
    if image.dtype.kind not in "biuf" or not image.size:
        return None
    if image.ndim < 2:
        image = image.reshape(1, -1)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim > 3:  # one below the other
        image = image.reshape(-1, image.shape[-2], 1)
    if image.dtype == np.bool_:
        image = image.view(np.uint8) * np.uint8(255)
    if image.dtype.kind == "f" and image.dtype.itemsize not in (4, 8):
        return image.astype(np.float32 if image.dtype.itemsize < 4 else np.float64)
    if image.dtype.kind in "iu" and image.dtype.itemsize > 4:
        return image.astype(np.float64)
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def image_of(view: View, record: int) -> NDArray[Any] | None:
    """Return what the grid shows of a record, (h, w, c), as ``canonical`` does."""
    found = view.ds._thumbnail(int(view.ds._rows_of([record])[0]))
    return None if found is None else canonical(np.asarray(found))


def copies(ds: Any) -> tuple[int, ...] | None:
    """Return the shape of all records where a batch has them as they are; else None."""
    from mapix.dataset import Dataset

    shape: tuple[int, ...] | None = ds.image_shape
    plain = type(ds)._thumbnail is Dataset._thumbnail and not ds.NO_BATCH
    if shape is None or len(shape) not in (2, 3) or "layout" not in ds.BATCH_OPTIONS or not plain:
        return None
    return shape


def drawn(
    view: View, records: NDArray[np.int64], size: int, **how: Any
) -> tuple[list[NDArray[np.uint8]], NDArray[Any], NDArray[Any]]:
    """Return tiles of records: pixels, the table of tiles, and the sides of the images."""
    ds = view.ds
    shape = copies(ds)
    numbers = math.prod(shape) if shape else 0
    step = max(1, min(MOST_TILES, CHUNK_NUMBERS // numbers)) if numbers else 64
    pixels, tables = [], []
    sides = np.zeros((len(records), 2), np.uint32)
    for begin in range(0, len(records), step):
        some = records[begin : begin + step]
        batch = ds.batch(some, layout="NHWC", labels=None).images if numbers else None
        if batch is not None and batch.dtype.str in ("|u1", "|i1", "<u2", "<i2", "<f4", "<f8"):
            found, table = _native.draw_batch(batch, size, **how)
            sides[begin : begin + len(some)] = batch.shape[1:3]
        else:
            images = _decoded(view, some.tolist())
            found, table = _native.draw_tiles([_barcode(image) for image in images], size, **how)
            for i, image in enumerate(images):
                sides[begin + i] = (0, 0) if image is None else image.shape[:2]
        pixels.append(found)
        tables.append(table)
    return pixels, np.concatenate(tables) if tables else np.empty(0, _native.TILE), sides


def _decoded(view: View, records: list[int]) -> list[NDArray[Any] | None]:
    """Return the images of records, read by a few threads: decoders release the GIL."""
    if len(records) < 2:
        return [_readable(view, i) for i in records]
    with ThreadPoolExecutor(MOST_THREADS) as pool:
        return list(pool.map(lambda i: _readable(view, i), records))


def _barcode(image: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return a row of numbers as lines that are all alike, to be seen; other images as they are."""
    if image is None or len(image) > 1 or image.shape[1] < 8:
        return image
    return np.broadcast_to(image, (image.shape[1] // 4, *image.shape[1:]))


def _readable(view: View, record: int) -> NDArray[Any] | None:
    """Return the image of a record; None if this one is damaged."""
    try:
        return image_of(view, record)
    except FileChangedError:
        raise
    except (MapixError, OSError, ValueError):
        return None


def range_of(view: View, channels: tuple[int, int]) -> tuple[float, float]:
    """Return the range of all records' numbers: of the type, or as a sample of records has it."""
    nchannels, channel = channels

    def found() -> tuple[float, float]:
        records = spread(len(view.ds), SAMPLE)
        image = next((x for i in records if (x := _readable(view, int(i))) is not None), None)
        if image is None:
            return 0.0, 255.0
        if image.dtype == np.uint8:
            if image.max(initial=0) >= DIM:
                return 0.0, 255.0
            records = spread(len(view.ds), FEW)
            _, table, _ = drawn(view, records, 64, nchannels=nchannels, channel=channel)
            most = float(table["high"].max())
            return 0.0, most if 0 < most < DIM else 255.0
        _, table, sides = drawn(view, records, 64, nchannels=nchannels, channel=channel)
        there = sides[:, 0] > 0
        return float(table["low"][there].min()), float(table["high"][there].max())

    key = ("range", nchannels, min(channel, 64))
    return view.cached(key, found)  # type: ignore[no-any-return]


def _channels(request: Request) -> tuple[int, int]:
    """Return the number of channels that are drawn, and the first one."""
    wanted = request.text("channel", "0")
    if wanted == "rgb":
        return 3, 0
    return 1, request.integer("channel", 0, most=65535)


def _given_range(view: View, request: Request, channels: tuple[int, int]) -> Any:
    wanted = request.text("range", "auto")
    if wanted == "tile":
        return None
    if wanted == "auto":
        return range_of(view, channels)
    try:
        low, high = map(float, wanted.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RefusedError(400, f"range must be auto, tile or LOW,HIGH, got {wanted!r}")
    return low, high


def tiles(view: View, request: Request) -> Reply:
    """Return tiles of the records at positions ``start`` .. ``start + count``.

    Little-endian: u32 version, n, channels and 0; f64 record, low and high (n each); u32 h and w of
    the images, h and w of the tiles, and flags (n each: 1 selected, 2 unreadable); then the pixels.
    """
    size = request.integer("size", 64, least=1, most=_native.MOST_TILE_SIDE)
    channels = _channels(request)
    most = min(MOST_TILES, max(1, MOST_NBYTES // (size * size * channels[0])))
    records = records_at(view, request, most)
    how = _given_range(view, request, channels)
    pixels, table, sides = drawn(
        *(view, records, size), nchannels=channels[0], channel=channels[1], value_range=how
    )
    flags = np.where(view.mask[records], SELECTED, 0) | np.where(table["h"] == 0, UNREADABLE, 0)
    parts = [
        np.array([VERSION, len(records), channels[0], 0], "<u4"),
        *(np.asarray(x, "<f8") for x in (records, table["low"], table["high"])),
        *(np.asarray(x, "<u4") for x in (*sides.T, table["h"], table["w"], flags)),
        *pixels,
    ]
    return Reply(b"".join(part.tobytes() for part in parts), BINARY)


def value_range(view: View, request: Request) -> Reply:
    """Return the range that ``range=auto`` means."""
    low, high = range_of(view, _channels(request))
    return Reply.json({"low": low, "high": high})


ROUTES = {"tiles": tiles, "range": value_range}
