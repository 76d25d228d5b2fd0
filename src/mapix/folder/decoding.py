"""Files to pictures, by Pillow; pictures to arrays."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.errors import LimitError, UnsupportedError

if TYPE_CHECKING:
    from mapix.folder.record import Record

__all__ = ["MODES", "as_array", "decode", "opened", "pillow", "shape_of"]

USUAL = ("PNG", "JPEG", "BMP", "GIF", "PPM")  # what Pillow knows without loading more
# Formats that are pictures and nothing else: EPS, for one, is a programme that Pillow has run.
OTHERS = ("WEBP", "TIFF", "AVIF", "JPEG2000", "MPO", "TGA", "ICO", "DIB", "SGI", "PCX", "QOI")
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
PLAIN = ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
BECOMES = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
DEEP = {"I": np.int32, "F": np.float32} | dict.fromkeys(PLAIN[6:], np.uint16)
ORIENTATION = 0x0112  # EXIF's tag
ON_ITS_SIDE = (5, 6, 7, 8)  # its values that make rows of columns


def pillow() -> Any:
    """The module ``PIL.Image``, or UnsupportedError that names the extra."""
    try:
        from PIL import Image
    except ImportError as e:
        reason = "pictures are decoded by Pillow, which is not installed: pip install 'mapix[view]'"
        raise UnsupportedError(reason) from e
    return Image


def opened(data: bytes, record: Record) -> Any:
    """A file as Pillow's picture, its header read and its size within the limit."""
    image = pillow()
    try:
        picture = _identified(image, data)
    except image.UnidentifiedImageError as e:
        raise record.decode_error("no picture of a known kind") from e
    except (image.DecompressionBombError, image.DecompressionBombWarning) as e:
        raise LimitError(f"{record.path}: {e}") from e
    except Exception as e:  # what a decoder makes of bytes that somebody has chosen
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    npixels, limit = picture.width * picture.height, record.settings.max_pixels
    if npixels > limit:
        raise LimitError(
            f"{record.path}: {picture.width} x {picture.height} pixels, more than the limit of "
            f"{limit}; max_pixels= of open raises it"
        )
    return picture


def _identified(image: Any, data: bytes) -> Any:
    image.preinit()
    known = [f for f in USUAL if f in image.OPEN]
    try:
        return image.open(io.BytesIO(data), formats=known)
    except image.UnidentifiedImageError:
        image.init()
        known = [f for f in OTHERS if f in image.OPEN]
        return image.open(io.BytesIO(data), formats=known)


def decode(
    data: bytes, record: Record, draft: tuple[int, int] | None = None
) -> tuple[Any, tuple[int, int]]:
    """A file as Pillow's picture, decoded and turned as its EXIF orientation says, and its (h, w).

    Parameters
    ----------
    data : bytes
        The file.
    record : Record
        Whose it is.
    draft : (h, w), optional
        JPEG may be decoded smaller, but not below this; (h, w) is what it would have been.

    Raises
    ------
    FormatError
        It is no picture of a known kind, or damaged.
    LimitError
        It has more pixels than ``max_pixels``.
    """
    picture = opened(data, record)
    full = picture.height, picture.width
    try:
        if draft is not None and picture.format == "JPEG":
            side = max(draft)  # whichever way it is turned afterwards
            picture.draft(None, (side, side))
        picture.load()
        turned = picture.getexif().get(ORIENTATION, 1) if record.settings.orientation else 1
        if turned != 1:
            from PIL import ImageOps

            picture = ImageOps.exif_transpose(picture)
    except Exception as e:
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    return picture, full[::-1] if turned in ON_ITS_SIDE else full


def _text(e: Exception) -> str:
    return " ".join(str(e).split()) or type(e).__name__


def plain(picture: Any) -> Any:
    """A picture in a mode that is an array: palettes and other colour spaces become RGB."""
    mode = picture.mode
    if mode in PLAIN:
        return picture
    if mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture.convert(BECOMES.get(mode, "RGB"))


def as_array(picture: Any) -> NDArray[Any]:
    """A picture as an array (h, w, c), in this machine's byte order; its own memory."""
    found = np.array(plain(picture))
    if not found.dtype.isnative:
        found = found.astype(found.dtype.newbyteorder("="))
    return found[:, :, None] if found.ndim == 2 else found


def shape_of(data: bytes, record: Record) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """(h, w, c) and type that a file's ``image`` will have, by its header alone."""
    picture = opened(data, record)
    h, w = picture.height, picture.width
    try:
        turned = picture.getexif().get(ORIENTATION, 1) if record.settings.orientation else 1
    except Exception as e:  # as ``decode``: EXIF is bytes that somebody has chosen
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    h, w = (w, h) if turned in ON_ITS_SIDE else (h, w)
    mode = picture.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
    elif mode not in PLAIN:
        mode = BECOMES.get(mode, "RGB")
    return (h, w, MODES.get(mode, 1)), np.dtype(DEEP.get(mode, np.uint8))
