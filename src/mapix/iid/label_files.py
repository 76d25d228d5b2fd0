"""Files of label maps, strip by strip: ``.npy``, TIFF and PNG."""

from __future__ import annotations

import importlib.util
import io
import math
import os
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mapix._native.png import rows as png_rows
from mapix.drawing.png_file import png_pieces
from mapix.errors import (
    FileChangedError,
    FormatError,
    LimitError,
    TruncatedError,
    UnsupportedError,
    check_memory,
)
from mapix.iid.argument_checks import KeysLike
from mapix.optional import library
from mapix.registry import open_dataset
from mapix.source import Source, is_url
from mapix.store import NewWhole

if TYPE_CHECKING:
    from mapix.iid.archive import Archive

__all__ = ["read_labels", "read_png", "save_labels", "write_strips"]

STRIP_PIXELS = 1 << 20  # that are in memory at once
MOST_PIXELS = 1 << 30  # of a file, by default
MOST_BAND_PIXELS = 1 << 28  # of a strip, or a row of tiles, of TIFF
DECODED_NBYTES = 64 << 20  # of strips or tiles that are decoded at once, if one has fewer
MOST_SLACK_NBYTES = 1 << 16  # after the pixels of a strip
DEFLATED = (8, 32946)
# Those of TIFF whose decoder is given the number of bytes to return: none, CCITT, LZW, deflate,
# PackBits, LZMA, zstd.  The headers of others (JPEG, PNG) state sizes of their own.
COMPRESSIONS = (1, 2, 3, 4, 5, *DEFLATED, 32773, 34925, 50000)
MOST_OF_16_BITS = (1 << 16) - 1
MOST_OF_RGB = (1 << 24) - 1
PNG = b"\x89PNG\r\n\x1a\n"
PNG_HEAD = struct.Struct(">IIBBBBB")
CHUNK_HEAD = struct.Struct(">I4s")
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types of PNG
READ_NBYTES = 1 << 20

Shape = tuple[int, ...]


# --- in -------------------------------------------------------------------------------------------


def read_labels(
    path: str | os.PathLike[str], *, rgb: bool = False, max_pixels: int = MOST_PIXELS
) -> NDArray[Any]:
    """Return the label map in a ``.npy``, TIFF or PNG file, (h, w), read-only.

    Parameters
    ----------
    path : str or os.PathLike
        The file, by any name; its first bytes state what it is.  TIFF needs tifffile.
    rgb : bool
        Whether three channels of 8 bits are one number, as in COCO's panoptic files: red + 256 *
        green + 65536 * blue.
    max_pixels : int
        A file of more is a LimitError; 1 Gi by default.

    Returns
    -------
    ndarray
        Integers.  Of ``.npy`` and plain TIFF a view of the file; otherwise a view of a temporary
        file (in ``TMPDIR``), which is removed with the array: a map of any size needs little
        memory.

    Raises
    ------
    FormatError
        The file is damaged, or of another kind.
    ValueError
        It has not one integer per pixel.
    UnsupportedError
        tifffile is not installed, or the kind of the file is not read.
    """
    name = os.fspath(path)
    source = Source(name)
    front = source.read(0, min(len(PNG), source.nbytes))
    if front == PNG:
        found = _read_png(source, rgb, max_pixels)
    elif front[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        found = _read_tiff(source, max_pixels)
    elif front.startswith(b"\x93NUMPY"):
        dataset = open_dataset(name, format="npy")
        if is_url(name):  # a view needs all bytes
            dataset.warm()
        found = dataset.view()
    else:
        raise FormatError(name, "label map", "a .npy, TIFF or PNG file expected")
    if rgb and found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.uint8:
        found = _numbers(found)
    if found.ndim != 2 or found.dtype.kind not in "biu":
        hint = "; rgb=True reads red, green and blue as one" if found.ndim == 3 else ""
        raise ValueError(
            f"{name}: {found.dtype} of shape {found.shape} is not one number per pixel, an "
            f"integer{hint}"
        )
    found.flags.writeable = False
    return found


def read_png(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Return the labels of a PNG of one channel, int64 (h, w): see ``read_labels``."""
    return read_labels(path).astype(np.int64)


def _numbers(channels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    found: NDArray[np.uint32] = channels[..., 0].astype(np.uint32)
    for k in (1, 2):
        found |= channels[..., k].astype(np.uint32) << np.uint32(8 * k)
    return found


def _check_size(shape: Shape, path: str, max_pixels: int) -> None:
    if shape[0] * shape[1] > max_pixels:
        raise LimitError(
            f"{path}: {shape[0]} x {shape[1]} pixels, more than max_pixels = {max_pixels}"
        )


def _stored(strips: Iterable[NDArray[Any]], shape: Shape, dtype: Any, path: str) -> NDArray[Any]:
    """Write strips to a temporary file without a name; return a view of it."""
    if not shape[0] * shape[1]:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        nbytes = 0
        for strip in strips:
            nbytes += file.write(np.ascontiguousarray(strip, dtype).reshape(-1).view(np.uint8).data)
        file.flush()
        source = Source.unnamed(file.fileno(), path, nbytes)
    return np.frombuffer(source.view, dtype).reshape(shape)


def _read_png(source: Source, rgb: bool, max_pixels: int) -> NDArray[Any]:
    chunks = _Chunks(source)
    kind, raw = chunks.next()
    if kind != b"IHDR" or len(raw) != PNG_HEAD.size:
        raise FormatError(source.path, "png", "no header", at=len(PNG))
    w, h, depth, colour, _, _, interlaced = PNG_HEAD.unpack(raw)
    if colour not in CHANNELS or depth not in (1, 2, 4, 8, 16) or not w or not h:
        reason = f"{w} x {h} pixels of {depth} bits, colour type {colour}"
        raise FormatError(source.path, "png", reason, at=len(PNG) + CHUNK_HEAD.size)
    if interlaced:
        raise UnsupportedError(
            f"{source.path}: interlaced PNG files are not read as label maps: save it again without"
        )
    channels = CHANNELS[colour]
    dtype = np.dtype(">u2" if depth == 16 else np.uint8)
    numbers = rgb and channels == 3 and depth == 8
    if channels > 1 and not numbers:
        return np.broadcast_to(np.zeros(1, dtype), (h, w, channels))  # for the caller's error
    _check_size((h, w), source.path, max_pixels)
    stored = np.dtype(np.uint32) if numbers else dtype.newbyteorder("=")
    return _stored(_png_strips(chunks, h, w, depth, numbers), (h, w), stored, source.path)


def _png_strips(
    chunks: _Chunks, h: int, w: int, depth: int, numbers: bool
) -> Iterator[NDArray[Any]]:
    """Yield strips of the rows of a PNG file; ``numbers``: RGB as one number."""
    nbits = depth * (3 if numbers else 1)
    nbytes = (w * nbits + 7) // 8
    above, at = np.zeros(nbytes, np.uint8), 0
    for data, nrows in chunks.rows(h, nbytes, max(1, STRIP_PIXELS // w)):
        strip = png_rows(data, nrows, nbytes, max(1, nbits // 8), above)
        if strip is None:
            reason = f"an unknown filter in rows {at} to {at + nrows}"
            raise FormatError(chunks.source.path, "png", reason)
        above, at = strip[-1].copy(), at + nrows
        if numbers:
            yield _numbers(strip.reshape(nrows, w, 3))
        elif depth == 16:
            yield strip.view(">u2")
        else:
            yield strip if depth == 8 else _pixels(strip, depth)[:, :w]


def _pixels(rows: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Return the pixels of rows that have several in a byte, the first in its high bits."""
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    found: NDArray[np.uint8] = rows[:, :, np.newaxis] >> shifts & np.uint8((1 << depth) - 1)
    return found.reshape(len(rows), -1)


class _Chunks:
    """The chunks of a PNG file; their checksums are checked."""

    def __init__(self, source: Source) -> None:
        self.source, self.at = source, len(PNG)

    def _read(self, nbytes: int) -> bytes:
        if nbytes > self.source.nbytes - self.at:
            left = self.source.nbytes - self.at
            reason = f"{nbytes} bytes expected, {left} are left"
            raise TruncatedError(self.source.path, "png", reason, at=self.at)
        found = self.source.read(self.at, nbytes)
        self.at += nbytes
        return found

    def next(self) -> tuple[bytes, bytes]:
        """Return kind and data of the next chunk, which is small."""
        nbytes, kind = CHUNK_HEAD.unpack(self._read(CHUNK_HEAD.size))
        if nbytes > READ_NBYTES:
            raise LimitError(f"{self.source.path}: png: a chunk {kind!r} of {nbytes} bytes")
        raw = self._read(nbytes)
        self._check(zlib.crc32(raw, zlib.crc32(kind)), kind)
        return kind, raw

    def _check(self, crc: int, kind: bytes) -> None:
        stated = int.from_bytes(self._read(4), "big")
        if stated != crc:
            reason = f"chunk {kind!r} has the CRC {crc:08x}, {stated:08x} is stated"
            raise FormatError(self.source.path, "png", reason, at=self.at - 4)

    def _data(self) -> Iterator[bytes]:
        """Yield the data of all IDAT chunks, in pieces."""
        begun = False
        while True:
            nbytes, kind = CHUNK_HEAD.unpack(self._read(CHUNK_HEAD.size))
            if kind == b"IEND" or (begun and kind != b"IDAT"):
                return
            if kind == b"IDAT":
                begun, crc = True, zlib.crc32(kind)
                for left in range(nbytes, 0, -READ_NBYTES):
                    piece = self._read(min(left, READ_NBYTES))
                    crc = zlib.crc32(piece, crc)
                    yield piece
                self._check(crc, kind)
            else:
                if nbytes > self.source.nbytes - self.at:
                    self._read(nbytes)
                self.at += nbytes + 4

    def rows(self, h: int, row_nbytes: int, step: int) -> Iterator[tuple[bytes, int]]:
        """Yield filtered rows, ``step`` at a time, and how many they are."""
        engine, held, done = zlib.decompressobj(), bytearray(), 0
        want = min(step, h) * (row_nbytes + 1)
        for piece in self._data():
            raw = piece
            while raw and done < h:
                try:
                    held += engine.decompress(raw, want - len(held))
                except zlib.error as e:
                    check_memory(e)
                    reason = f"row {done} cannot be decompressed: {e}"
                    raise FormatError(self.source.path, "png", reason, at=self.at) from e
                raw = engine.unconsumed_tail
                if len(held) == want:
                    nrows = want // (row_nbytes + 1)
                    yield bytes(held), nrows
                    held.clear()
                    done += nrows
                    want = min(step, h - done) * (row_nbytes + 1)
                elif not raw or engine.eof:
                    break
        if done < h:
            reason = f"{h} rows expected, the data ends in row {done}"
            raise TruncatedError(self.source.path, "png", reason, at=self.at)


def _read_tiff(source: Source, max_pixels: int) -> NDArray[Any]:
    tifffile = library("tifffile", "images")
    file: Any = source.path
    if is_url(source.full_path):
        deque(source.warm(), 0)  # all of it, by few requests
        file = io.BufferedReader(_Reader(source))
    try:
        with tifffile.TiffFile(file) as opened:
            return _page(opened.pages[0], source, max_pixels)
    except (LimitError, UnsupportedError, FormatError, FileChangedError):
        raise
    except MemoryError:
        raise
    except Exception as e:  # a decoder may raise anything for bytes of unknown origin
        reason = f"cannot be decoded: {' '.join(str(e).split()) or type(e).__name__}"
        raise FormatError(source.path, "tiff", reason) from e


class _Reader(io.RawIOBase):
    """The bytes of a source as a file, for tifffile."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.nbytes}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        n = max(0, min(len(into), self._source.nbytes - self._at))
        into[:n] = self._source.read(self._at, n)
        self._at += n
        return n


def _page(page: Any, source: Source, max_pixels: int) -> NDArray[Any]:
    shape, dtype = tuple(map(int, page.shape)), page.dtype
    if len(shape) != 2 or dtype is None or dtype.kind not in "biu":
        return np.empty((0,) * len(shape), np.float64 if dtype is None else dtype)
    if not shape[0] * shape[1]:
        raise FormatError(source.path, "tiff", f"{shape[0]} x {shape[1]} pixels")
    nbytes = shape[0] * shape[1] * dtype.itemsize
    if page.is_memmappable and page.dataoffsets[0] + nbytes <= source.nbytes:
        stored = dtype.newbyteorder(page.parent.byteorder)
        return np.ndarray(shape, stored, source.view, page.dataoffsets[0])
    _check_size(shape, source.path, max_pixels)
    bands = _bands(page, shape, source, max_pixels)
    return _stored(bands, shape, np.dtype(dtype).newbyteorder("="), source.path)


def _segment_shape(page: Any, h: int) -> Shape:
    """Return rows and columns of a tile, or of a strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    # a strip of 2**32 - 1 rows is all of the picture
    return min(int(page.rowsperstrip), h), int(page.imagewidth)


def _check_segments(page: Any, h: int, source: Source, max_pixels: int) -> None:
    """Compare what a page states of its strips or tiles with the file, before one is decoded.

    Raises
    ------
    LimitError
        They have many more pixels than the picture, or one of them too many.
    UnsupportedError
        They are compressed such that their own headers decide how much memory decoding takes.
    FormatError
        The file lists fewer than the picture has.
    TruncatedError
        One is not in the file.
    """
    path, (rows, columns) = source.path, _segment_shape(page, h)
    n, listed = math.prod(page.chunked), (page.dataoffsets, page.databytecounts)
    what = "tiles" if page.is_tiled else "strips"
    if page.compression not in COMPRESSIONS:
        raise UnsupportedError(
            f"{path}: label maps in TIFF files with compression {int(page.compression)} are not "
            "read; save it again with deflate"
        )
    if min(map(len, listed)) < n:
        reason = f"{n} {what} expected, the file lists {min(map(len, listed))}"
        raise FormatError(path, "tiff", reason)
    most = min(MOST_BAND_PIXELS, max_pixels)
    if rows * max(columns, int(page.imagewidth)) > most:
        raise LimitError(
            f"{path}: {what} of {rows} x {columns} pixels, more than {most} in a row of them; "
            "write it again in smaller ones"
        )
    if page.is_tiled and n * rows * columns > max_pixels:
        raise LimitError(
            f"{path}: {n} tiles of {rows} x {columns} pixels, more than max_pixels = {max_pixels}"
        )
    for k, (at, nbytes) in enumerate(zip(*listed, strict=False)):
        if nbytes > source.nbytes or at > source.nbytes - nbytes:
            reason = f"{what[:-1]} {k} of {nbytes} bytes expected, the file has {source.nbytes}"
            raise TruncatedError(path, "tiff", reason, at=int(at))


def _check_inflated(page: Any, nbytes: int, source: Source) -> None:
    """Raise a FormatError for deflated strips or tiles of more than ``nbytes``, and a few.

    For tifffile without imagecodecs, which takes memory for whatever they have.
    """
    for at, n in zip(page.dataoffsets, page.databytecounts, strict=False):
        if n and at:
            engine = zlib.decompressobj()
            engine.decompress(source.read(int(at), int(n)), nbytes + MOST_SLACK_NBYTES)
            if engine.unconsumed_tail:
                reason = f"{n} bytes are decompressed to more than {nbytes + MOST_SLACK_NBYTES}"
                raise FormatError(source.path, "tiff", reason, at=int(at))


def _bands(page: Any, shape: Shape, source: Source, max_pixels: int) -> Iterator[NDArray[Any]]:
    """Yield strips of a page, or rows of its tiles; those that the file leaves out are zeros."""
    h, w = shape
    _check_segments(page, h, source, max_pixels)
    height, width = _segment_shape(page, h)
    nbytes = height * width * page.dtype.itemsize
    if page.compression in DEFLATED and importlib.util.find_spec("imagecodecs") is None:
        _check_inflated(page, nbytes, source)
    # how many are decoded at once; tifffile counts the bytes that are read for them
    most = max(1, DECODED_NBYTES // nbytes)
    least = min((int(n) for n in page.databytecounts if n), default=0)
    top, band = 0, np.zeros((min(height, h), w), page.dtype)
    for data, where, _ in page.segments(buffersize=(most - 1) * least):
        row, column = int(where[2]), int(where[3])
        while row > top:
            yield band
            top += len(band)
            band = np.zeros((min(height, h - top), w), page.dtype)
        if data is not None:
            tile = data.reshape(data.shape[-3], data.shape[-2])[: len(band), : w - column]
            band[: len(tile), column : column + tile.shape[1]] = tile
    yield band


# --- out ------------------------------------------------------------------------------------------


def save_labels(
    archive: Archive,
    path: str | os.PathLike[str],
    keys: KeysLike | None = None,
    *,
    rgb: bool = False,
    replace: bool = False,
    progress: Callable[[int, int], object] | None = None,
    **options: Any,
) -> None:
    """Paint segments into a file of one number per pixel: key + 1 of the topmost one, or 0.

    The image is painted and written strip by strip: it may have any size.  ``label_map`` counts
    the pixels that overlaps lose.

    Parameters
    ----------
    archive, keys, **options
        As for ``archive.paint``; ``order`` says which segment is on top.
    path : str or os.PathLike
        ``.npy``, ``.tif``, ``.tiff`` or ``.png``.  Numbers have 16 bits if all fit, else 32.
    rgb : bool
        Of PNG, which holds 16 bits per channel: write red + 256 * green + 65536 * blue, as COCO's
        panoptic files have it.
    replace : bool
        Whether to replace a file.
    progress : callable, optional
        ``progress(rows_done, rows_total)``.

    Raises
    ------
    LimitError
        A label does not fit: above 65535 in a PNG (16,777,215 with ``rgb``).
    ValueError
        The path ends otherwise.
    """
    h, w = archive.shape
    some = archive._some(keys)
    step = max(1, STRIP_PIXELS // max(w, 1))

    def strips() -> Iterator[NDArray[np.int32]]:
        for at in range(0, h, step):
            painted = archive.paint(some, (at, 0, min(at + step, h), w), background=-1, **options)
            painted += 1
            yield painted
            if progress is not None:
                progress(min(at + step, h), h)

    most = int(some.max(initial=0)) + 1 if len(some) else 0
    write_strips(path, (h, w), strips(), most, rgb=rgb, replace=replace)


def write_strips(
    path: str | os.PathLike[str],
    shape: Shape,
    strips: Iterable[NDArray[Any]],
    most: int,
    *,
    rgb: bool = False,
    replace: bool = False,
) -> None:
    """Write strips of rows of a label map, whose numbers are 0..``most``, to a file."""
    name = os.fspath(path)
    ending = os.path.splitext(name)[1].lower()
    if rgb and ending != ".png":
        raise ValueError(f"{name}: rgb=True is for PNG files")
    dtype = np.dtype(np.uint16 if most <= MOST_OF_16_BITS else np.uint32)
    if ending == ".png":
        limit = MOST_OF_RGB if rgb else MOST_OF_16_BITS
        if most > limit:
            others = ".npy and .tif" if rgb else "rgb=True, .npy and .tif"
            raise LimitError(
                f"{name}: label {most}, a PNG holds up to {limit}; {others} hold larger ones"
            )
        pieces = _png(shape, strips, rgb)
    elif ending == ".npy":
        pieces = _npy(shape, strips, dtype)
    elif ending in (".tif", ".tiff"):
        pieces = iter(())
    else:
        raise ValueError(f"{name}: a label map is written as .npy, .tif or .png, not {ending!r}")
    with NewWhole(path, replace=replace) as out:
        if ending in (".tif", ".tiff"):
            _tiff(out, shape, strips, dtype)
        for piece in pieces:
            out.write(piece)


def _png(shape: Shape, strips: Iterable[NDArray[Any]], rgb: bool) -> Iterator[bytes]:
    if not rgb:
        yield from png_pieces(
            (*shape, 1), np.dtype(np.uint16), (s.astype(np.uint16) for s in strips)
        )
        return
    channels = (np.stack([s & 255, s >> 8 & 255, s >> 16], axis=2).astype(np.uint8) for s in strips)
    yield from png_pieces((*shape, 3), np.dtype(np.uint8), channels)


def _npy(shape: Shape, strips: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[Any]:
    head = io.BytesIO()
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    npy.write_array_header_1_0(head, about)
    yield head.getvalue()
    for strip in strips:
        yield strip.astype(dtype).reshape(-1).view(np.uint8).data


def _tiff(
    out: NewWhole, shape: Shape, strips: Iterable[NDArray[Any]], dtype: np.dtype[Any]
) -> None:
    """Write a TIFF file (6.0) of strips that zlib compresses."""
    places: list[int] = []
    sizes: list[int] = []
    nrows = 0
    out.write(bytes(8))
    at = 8
    for strip in strips:
        nrows = nrows or len(strip)
        data = zlib.compress(np.ascontiguousarray(strip, dtype.newbyteorder("<")).tobytes(), 6)
        data += bytes(len(data) % 2)
        places.append(at)
        sizes.append(len(data))
        out.write(data)
        at += len(data)
    n = len(places)
    out.write(struct.pack(f"<{2 * n}I", *places, *sizes))
    lists = (at, at + 4 * n) if n > 1 else (places[0] if n else 0, sizes[0] if n else 0)
    tags = [  # tag, type (3: 16 bits, 4: 32 bits), count, value or place
        *((256, 4, 1, shape[1]), (257, 4, 1, shape[0]), (258, 3, 1, 8 * dtype.itemsize)),
        *((259, 3, 1, 8), (262, 3, 1, 1), (273, 4, n, lists[0]), (277, 3, 1, 1)),
        *((278, 4, 1, max(nrows, 1)), (279, 4, n, lists[1]), (339, 3, 1, 1)),
    ]
    directory = at + 8 * n
    if directory > (1 << 32) - 1000:
        raise LimitError(f"{out.path}: a TIFF file ends at 4 GiB; .npy has no limit")
    out.write(struct.pack("<H", len(tags)))
    for tag in tags:
        out.write(struct.pack("<HHII", *tag))
    out.write(bytes(4))
    out.head = struct.pack("<2sHI", b"II", 42, directory)
