"""Files to pictures, by Pillow; pictures to arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.errors import LimitError, UnsupportedError
from mapix.folder.depth import GREY, Numbers, numbers_of, read, turned

if TYPE_CHECKING:
    from mapix.folder.record import Record

__all__ = [
    "MODES",
    "Header",
    "as_array",
    "checked",
    "decode",
    "header_of",
    "opened",
    "pillow",
    "plain",
]

USUAL = ("PNG", "JPEG", "BMP", "GIF", "PPM")  # what Pillow knows without loading more
# Formats that are pictures and nothing else: EPS, for one, is a programme that Pillow has run.
OTHERS = ("WEBP", "TIFF", "AVIF", "JPEG2000", "MPO", "TGA", "ICO", "DIB", "SGI", "PCX", "QOI")
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
PLAIN = (*MODES, *GREY)
BECOMES = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
TRANSPARENT = ("1", "L", "RGB", *GREY)  # modes beside which PNG may name a transparent colour
OF_CAMERAS = {0x8769, 0x8825}  # TIFF's tags that lead to EXIF: the others say how it is stored
EXIF_OF_PNG = (b"eXIf", b"Raw profile type", b"com.adobe.xmp")  # where PNG has it
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
    data: bytes, record: Record, draft: tuple[int, int] | None = None, deep: bool = False
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
    deep : bool
        Whether a picture that is deeper than 8 bits comes as an array (h, w, c) of its own numbers.
        Pillow's picture has 8 bits of each, where there are several channels.

    Raises
    ------
    FormatError
        It is no picture of a known kind, or damaged.
    LimitError
        It has more pixels than ``max_pixels``.
    """
    picture = opened(data, record)
    full = picture.height, picture.width
    numbers = _numbers(picture, record)
    try:
        if deep and numbers.dtype != np.uint8:
            found: Any = read(picture, numbers, data)
            orientation = _orientation(_exif(picture, data)) if record.settings.orientation else 1
            found = turned(found, orientation)
        else:
            if draft is not None and picture.format == "JPEG":
                side = max(draft)  # whichever way it is turned afterwards
                picture.draft(None, (side, side))
            picture.load()
            orientation = _orientation(_exif(picture, data)) if record.settings.orientation else 1
            found = picture
            if orientation != 1:
                from PIL import ImageOps

                found = ImageOps.exif_transpose(picture)
    except Exception as e:
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    return found, full[::-1] if orientation in ON_ITS_SIDE else full


def _exif(picture: Any, data: bytes) -> Any:
    """EXIF of a picture.  Pillow decodes a PNG to find it, so its bytes are searched first."""
    if picture.format == "PNG" and not any(word in data for word in EXIF_OF_PNG):
        return {}
    return picture.getexif()


def _orientation(exif: Any) -> int:
    """EXIF's orientation, 1..8."""
    found = exif.get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _numbers(picture: Any, record: Record) -> Numbers:
    try:
        found = numbers_of(picture)
    except Exception as e:  # tags are bytes that somebody has chosen
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    if found.unreadable:
        raise record.decode_error(f"cannot be decoded: {found.unreadable}")
    return found


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


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a picture's file says of it.

    Attributes
    ----------
    shape : tuple of int
        (h, w, c) of ``record.image``.
    dtype : dtype
        Of ``record.image``.
    besides : tuple of str
        What the file holds beside that image: keys of ``BESIDES``.
    orientation : int
        EXIF's, 1..8, whether or not it is followed.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    besides: tuple[str, ...]
    orientation: int


BESIDES = {
    "frames": "later frames",
    "depth": "bits beyond the 8 that are decoded",
    "colours": "colours that are not RGB (CMYK, YCbCr, LAB)",
    "transparency": "a transparent colour",
    "profile": "a colour profile",
    "exif": "EXIF",
}


def header_of(data: bytes, record: Record) -> Header:
    """What ``image`` will be, and what else a file holds, by its header alone."""
    return _header(opened(data, record), data, record)


def checked(data: bytes, record: Record) -> Header:
    """The same of a picture that was decoded: FormatError if it is damaged."""
    picture = opened(data, record)
    found = _header(picture, data, record)
    try:
        picture.load()
    except Exception as e:
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    return found


def _header(picture: Any, data: bytes, record: Record) -> Header:
    numbers = _numbers(picture, record)
    h, w = picture.height, picture.width
    mode = picture.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
    elif mode not in PLAIN:
        mode = BECOMES.get(mode, "RGB")
    try:
        exif = _exif(picture, data)
        orientation = _orientation(exif)
        besides = tuple(_besides(picture, numbers, set(exif), record))
    except Exception as e:  # as ``decode``: what is asked for is bytes that somebody has chosen
        raise record.decode_error(f"cannot be decoded: {_text(e)}") from e
    on_its_side = record.settings.orientation and orientation in ON_ITS_SIDE
    shape = (*((w, h) if on_its_side else (h, w)), numbers.channels or MODES.get(mode, 1))
    return Header(shape, numbers.dtype, besides, orientation)


def _besides(picture: Any, numbers: Numbers, exif: set[int], record: Record) -> Iterator[str]:
    info, mode = picture.info, picture.mode
    if numbers.reduced:
        yield "depth"
    if mode not in (*PLAIN, *BECOMES, "P"):
        yield "colours"
    if "transparency" in info and mode in TRANSPARENT:
        yield "transparency"
    if info.get("icc_profile"):
        yield "profile"
    exif = exif & OF_CAMERAS if picture.format == "TIFF" else exif
    if exif - ({ORIENTATION} if record.settings.orientation else set()):
        yield "exif"
    if getattr(picture, "is_animated", False):  # last: it may go on to the next frame
        yield "frames"
