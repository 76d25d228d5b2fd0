"""Pictures whose numbers are deeper than 8 bits, or wider than Pillow's array of them.

Pillow has no mode for several channels of 16 bits: it decodes only the high byte of each number.
If it unpacks the same bytes in the other byte order, it decodes the low byte.  Together they are
the numbers of the file.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Numbers", "eight_bits", "numbers_of", "read", "scaled_channels", "turned"]

BYTE = np.dtype(np.uint8)
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
GREY = {"I": np.dtype(np.int32), "F": np.dtype(np.float32)} | dict.fromkeys(
    ("I;16", "I;16L", "I;16B", "I;16N"), np.dtype(np.uint16)
)
BITS_PER_SAMPLE, SAMPLE_FORMAT, PLANAR = 258, 339, 284  # tags of TIFF
SIGNED = 2  # a sample format
SEPARATE = 2  # a planar configuration
OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if np.little_endian else "L"}
DEEPEST = 65535  # of 16 bits


class Numbers(NamedTuple):
    """The type of the numbers of a picture's file, and how they are decoded.

    Attributes
    ----------
    dtype : dtype
        Type of the decoded numbers.
    channels : int
        Of deep pictures; 0 where Pillow's mode states it.
    how : str
        ``"pillow"``: Pillow's own array; ``"view"``: its bytes as another type; ``"cast"``: its
        numbers as another type; ``"pair"``: high and low bytes separately; ``"pixmap"``: PPM.
    reduced : bool
        Whether the file has more bits than are decoded.
    unreadable : str
        Why Pillow would decode wrong pixels; empty if it does not.
    """

    dtype: np.dtype[Any] = BYTE
    channels: int = 0
    how: Literal["pillow", "view", "cast", "pair", "pixmap"] = "pillow"
    reduced: bool = False
    unreadable: str = ""


def numbers_of(picture: Any) -> Numbers:
    """Return the type of the numbers of an opened picture, before it is decoded."""
    mode, tiles = picture.mode, getattr(picture, "tile", None) or ()
    codec = tiles[0][0] if tiles else ""
    args = tiles[0][3] if tiles else ""
    raw = str((args or ("",))[0] if isinstance(args, tuple) else args or "")
    if picture.format == "TIFF":
        found = _of_tiff(picture, raw)
        if found is not None:
            return found
    if picture.format == "PPM" and mode == "I":
        return Numbers(np.dtype(np.uint16), 1, "cast")
    if codec in ("ppm", "ppm_plain") and mode == "RGB" and int(args[1]) > 255:
        if codec == "ppm":
            return Numbers(np.dtype(np.uint16), 3, "pixmap")
        return Numbers(reduced=True)
    if mode in GREY:
        return Numbers(GREY[mode], 1)
    family, deep, _ = raw.partition(";16")
    if deep:
        if family in CHANNELS and (family == mode or (family, mode) == ("LA", "RGBA")):
            return Numbers(np.dtype(np.uint16), CHANNELS[family], "pair")
        return Numbers(reduced=True)
    return Numbers(reduced=codec == "SGI16" or _deep_codestream(picture))


def _of_tiff(picture: Any, raw: str) -> Numbers | None:
    """Return the numbers of a TIFF whose tags state more than Pillow's mode; None of others."""
    tags = picture.tag_v2
    bits = tuple(tags.get(BITS_PER_SAMPLE, (1,)))
    form = tuple(tags.get(SAMPLE_FORMAT, (1,)))
    if len(bits) > 1 and max(bits) > 8 and tags.get(PLANAR) == SEPARATE:
        return Numbers(unreadable=f"channels of {max(bits)} bits that lie one after the other")
    if picture.mode == "I" and bits[0] == 32 and form[0] != SIGNED:
        return Numbers(np.dtype(np.uint32), 1, "view")
    if picture.mode == "L" and bits[0] == 8 and form[0] == SIGNED:
        return Numbers(np.dtype(np.int8), 1, "view")
    return None


def _deep_codestream(picture: Any) -> bool:
    """Return whether JPEG 2000 or AVIF has more than 8 bits; Pillow decodes 8 unless it is grey."""
    if picture.format not in ("JPEG2000", "AVIF"):
        return False
    picture.fp.seek(0)
    head = picture.fp.read(1 << 12)
    picture.fp.seek(0)
    if picture.format == "AVIF":
        at = head.find(b"pixi")  # version and flags, count, bits of each channel
        return (
            at >= 0
            and max(head[at + 9 : at + 9 + (head[at + 8 : at + 9] or b"\0")[0]], default=0) > 8
        )
    at = head.find(b"\xff\x51")  # SIZ: 36 bytes, count, then bits, sampling, sampling of each
    count = int.from_bytes(head[at + 38 : at + 40], "big")
    return at >= 0 and any((b & 127) + 1 > 8 for b in head[at + 40 : at + 40 + 3 * count : 3])


def read(picture: Any, numbers: Numbers, data: bytes) -> NDArray[Any]:
    """Decode an opened picture of numbers other than uint8 to (h, w, c) in native byte order.

    Parameters
    ----------
    picture : PIL.Image.Image
        Opened, not decoded.
    numbers : Numbers
        Of ``numbers_of``.
    data : bytes
        The file.
    """
    dtype = numbers.dtype
    if numbers.how == "pair":
        return _pairs(picture, numbers.channels, data)
    if numbers.how == "pixmap":
        tile = picture.tile[0]
        shape = (picture.height, picture.width, numbers.channels)
        words = np.frombuffer(data, ">u2", int(np.prod(shape)), tile[2]).reshape(shape)
        most = tile[3][1]
        found = np.minimum(words, most).astype(np.float64) * (DEEPEST / most)
        return np.asarray(np.rint(found), dtype)
    picture.load()
    pixels: NDArray[Any] = np.array(picture)
    if numbers.how == "view":
        pixels = pixels.view(dtype)
    return pixels.astype(dtype, copy=False)[:, :, None]


def _pairs(picture: Any, channels: int, data: bytes) -> NDArray[np.uint16]:
    from PIL import Image

    family, _, order = _raw(picture.tile[0]).partition(";16")
    if family == "LA":  # four bytes per pixel, as RGBA of 8 bits: all bytes are decoded
        flat = _unpacked(picture, "RGBA")
        return flat.view(">u2").astype(np.uint16)
    again = Image.open(io.BytesIO(data), formats=[picture.format])
    high = _unpacked(picture, f"{family};16{order}")
    low = _unpacked(again, f"{family};16{OTHER_ORDER[order]}")
    found = high.astype(np.uint16)
    found <<= 8
    found |= low
    return found[:, :, :channels]


def _raw(tile: Any) -> str:
    args = tile[3]
    return str(args[0] if isinstance(args, tuple) else args)


def _unpacked(picture: Any, raw: str) -> NDArray[np.uint8]:
    """Decode a picture with its bytes unpacked in another way."""
    picture.tile = [
        (*tile[:3], (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw)
        for tile in picture.tile
    ]
    picture.load()
    return np.array(picture)


def turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of an array (h, w, c), turned as an EXIF orientation states."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def eight_bits(array: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return 8 bits of 16: number / 257, rounded, so that 0 stays 0 and 65535 becomes 255."""
    return ((array.astype(np.uint32) * 2 + 257) // 514).astype(np.uint8)


def scaled_channels(
    array: NDArray[Any], size: tuple[int, int], how: Any, box: tuple[float, float, float, float]
) -> NDArray[np.float32]:
    """Scale the part ``box`` of an array (h, w, c) to a size (h, w) by Pillow's filters; float32.

    Colours are weighted by their opacity, as Pillow does with pictures of 8 bits.
    """
    from PIL import Image

    floats = array.astype(np.float32)
    weighed = array.shape[2] in (2, 4) and how != Image.Resampling.NEAREST
    if weighed:
        floats[:, :, :-1] *= floats[:, :, -1:] / DEEPEST
    planes = [
        Image.fromarray(np.ascontiguousarray(floats[:, :, k])).resize(size[::-1], how, box=box)
        for k in range(array.shape[2])
    ]
    found = np.stack([np.asarray(plane) for plane in planes], axis=2)
    if weighed:
        alpha = found[:, :, -1:] / DEEPEST
        np.divide(found[:, :, :-1], alpha, out=found[:, :, :-1], where=alpha > 0)
    return found
