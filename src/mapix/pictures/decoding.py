"""Decode the files of pictures, with Pillow or faster libraries, and turn them into arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.drawing import thumbnail
from mapix.errors import FormatError, LimitError, check_memory
from mapix.optional import library
from mapix.pictures.decoders import decoded, decoder_of
from mapix.pictures.depth import GREY, Numbers, numbers_of, read, turned

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BESIDES",
    "MAX_PIXELS",
    "MODES",
    "EncodedPicture",
    "Header",
    "as_array",
    "decode",
    "decoded_header",
    "header_of",
    "image_of",
    "pillow",
    "plain",
    "small_picture",
]

MAX_PIXELS = 89_478_485  # above it Pillow warns of a decompression bomb

USUAL = ("PNG", "JPEG", "BMP", "GIF", "PPM")  # Pillow reads these without loading more plugins
# Only formats that are pictures and nothing else: an EPS file, for one, is a program.
OTHERS = ("WEBP", "TIFF", "AVIF", "JPEG2000", "MPO", "TGA", "ICO", "DIB", "SGI", "PCX", "QOI")
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
"""Modes of 8 bits -> their channels."""
PLAIN = (*MODES, *GREY)
BECOMES = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
TRANSPARENT = ("1", "L", "RGB", *GREY)  # modes for which PNG may name a transparent colour
CAMERA_TAGS = {0x8769, 0x8825}  # of TIFF: they lead to EXIF; the other tags state the layout
EXIF_OF_PNG = (b"eXIf", b"Raw profile type", b"com.adobe.xmp")  # in chunks that may hold EXIF
CHUNKS_OF_EXIF = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
FIRST_CHUNK, CHUNK_NBYTES = 8, 12  # of PNG: its place, and bytes of a chunk beside its data
MOST_CHUNKS = 1 << 12  # that are visited one by one
ORIENTATION = 0x0112  # EXIF's tag
GROUND = (192, 192, 192, 255)  # below pictures with transparent parts
ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that exchange height and width


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """The bytes of a picture's file, its name for errors, and limits.

    Attributes
    ----------
    data : bytes
        The file, in memory of its own: a decoder must not read the mapping of a file, which another
        process might cut.
    name : str
        Name of the picture.
    path : str
        The file that holds the picture or its name; errors begin with it.
    error : callable, optional
        ``error(reason)`` makes the error about bytes that cannot be decoded, with record and byte;
        by default a FormatError of ``path`` that states the name.
    max_pixels : int
        A picture of more pixels is a LimitError.
    orientation : bool
        Whether the picture is turned as its EXIF orientation states.
    """

    data: bytes
    name: str
    path: str
    error: Callable[[str], FormatError] | None = None
    max_pixels: int = MAX_PIXELS
    orientation: bool = True

    def broken(self, reason: str) -> FormatError:
        """Return the error about bytes that cannot be decoded."""
        if self.error is not None:
            return self.error(reason)
        return FormatError(self.path, "picture", f"{self.name}: {reason}")


def pillow() -> Any:
    """Return the module ``PIL.Image``.

    Raises
    ------
    UnsupportedError
        Pillow is not installed; the message names the extra.
    """
    return library("PIL.Image", "images")


def _opened(file: EncodedPicture) -> Any:
    """Return Pillow's picture with its header read and its size within the limit."""
    image = pillow()
    try:
        picture = _identified(image, file.data)
    except image.UnidentifiedImageError as e:
        raise file.broken("not a picture of a known format") from e
    except (image.DecompressionBombError, image.DecompressionBombWarning) as e:
        raise LimitError(f"{file.path}: {file.name}: {e}") from e
    except MemoryError:
        raise
    except Exception as e:  # a decoder may raise anything for bytes of unknown origin
        raise _undecodable(file, e) from e
    if picture.width * picture.height > file.max_pixels:
        raise LimitError(
            f"{file.path}: {file.name}: {picture.width} x {picture.height} pixels, more than the "
            f"limit of {file.max_pixels}; max_pixels= of open raises it"
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
    file: EncodedPicture, draft: tuple[int, int] | None = None, arrays: bool = False
) -> tuple[Any, tuple[int, int]]:
    """Decode a picture, and turn it as its EXIF orientation states.

    Parameters
    ----------
    file : EncodedPicture
        What to decode.
    draft : (h, w), optional
        A JPEG may be decoded at a smaller size, but not below this one.
    arrays : bool
        Return an array (h, w, c) where that has more bits than Pillow's picture, which has 8 bits
        of each number where there are several channels; and where another library decodes.

    Returns
    -------
    picture : PIL.Image.Image or ndarray
        The decoded picture.
    size : (h, w)
        Its size without ``draft``.

    Raises
    ------
    FormatError
        The format is not known, or the picture is damaged.
    LimitError
        It has more pixels than ``max_pixels``.
    """
    picture = _opened(file)
    full = picture.height, picture.width
    numbers = _numbers(picture, file)
    found: Any = None
    try:
        if arrays and numbers.dtype != np.uint8:
            found = read(picture, numbers, file.data)
        else:
            here = arrays and decoder_of(picture) != "Pillow"
            if draft is not None and picture.format == "JPEG":
                side = max(draft)  # both sides: the picture may be turned afterwards
                picture.draft(None, (side, side))
            found = decoded(picture, file.data, full) if here else None
            if found is None:
                picture.load()
        orientation = _orientation(_exif(picture, file.data)) if file.orientation else 1
        if found is not None:
            found = turned(found, orientation)
        elif orientation == 1:
            found = picture
        else:
            from PIL import ImageOps

            found = ImageOps.exif_transpose(picture)
    except MemoryError:
        raise
    except Exception as e:
        raise _undecodable(file, e) from e
    return found, full[::-1] if orientation in ON_ITS_SIDE else full


def image_of(file: EncodedPicture) -> NDArray[Any]:
    """Decode a picture to an array (h, w, c), C-contiguous, in memory of its own."""
    found = decode(file, arrays=True)[0]
    return np.ascontiguousarray(found) if isinstance(found, np.ndarray) else as_array(found)


def small_picture(file: EncodedPicture, size: int) -> NDArray[np.uint8]:
    """Return a picture as uint8 (h, w, 3), within size x size; what is transparent is grey.

    A JPEG is decoded at a smaller size, as far as its format allows it.
    """
    found = decode(file, draft=(size, size), arrays=True)[0]
    if isinstance(found, np.ndarray):
        return thumbnail(found, size)
    found = plain(found)
    if found.mode in ("LA", "RGBA"):
        ground = pillow().new("RGBA", found.size, GROUND)
        found = pillow().alpha_composite(ground, found.convert("RGBA"))
    return thumbnail(as_array(found), size)


def _exif(picture: Any, data: bytes) -> Any:
    """Return a picture's EXIF.  Pillow would decode a PNG to find it: its bytes are searched."""
    if picture.format == "PNG" and not _may_hold_exif(data):
        return {}
    return picture.getexif()


def _may_hold_exif(data: bytes) -> bool:
    """Return whether a PNG may hold EXIF: whether any of its chunks may, or the words occur."""
    at = FIRST_CHUNK
    for _ in range(MOST_CHUNKS):
        kind = data[at + 4 : at + 8]
        if kind in (b"IEND", b""):
            return False
        if kind in CHUNKS_OF_EXIF:
            break
        at += CHUNK_NBYTES + int.from_bytes(data[at : at + 4], "big")
    return any(word in data for word in EXIF_OF_PNG)


def _orientation(exif: Any) -> int:
    found = exif.get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _numbers(picture: Any, file: EncodedPicture) -> Numbers:
    try:
        found = numbers_of(picture)
    except MemoryError:
        raise
    except Exception as e:  # tags are bytes of unknown origin
        raise _undecodable(file, e) from e
    if found.unreadable:
        raise file.broken(f"cannot be decoded: {found.unreadable}")
    return found


def _undecodable(file: EncodedPicture, e: Exception) -> FormatError:
    """Return the error about a picture; raise MemoryError if Pillow had no memory.

    Of TIFF, Pillow has the same error for sizes that overflow.
    """
    if bytes(file.data[:2]) not in (b"II", b"MM"):
        check_memory(e)
    return file.broken(f"cannot be decoded: {' '.join(str(e).split()) or type(e).__name__}")


def plain(picture: Any) -> Any:
    """Return a picture in a mode that is an array: palettes and other colour spaces become RGB."""
    mode = picture.mode
    if mode in PLAIN:
        return picture
    if mode == "P":
        return picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture.convert(BECOMES.get(mode, "RGB"))


def as_array(picture: Any) -> NDArray[Any]:
    """Return Pillow's picture as an array (h, w, c) in native byte order.  Copies: yes."""
    found = np.array(plain(picture))
    if not found.dtype.isnative:
        found = found.astype(found.dtype.newbyteorder("="))
    return found[:, :, None] if found.ndim == 2 else found


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from the header of a picture's file.

    Attributes
    ----------
    shape : tuple of int
        (h, w, c) of the array.
    dtype : dtype
        Of the array.
    besides : tuple of str
        What the file holds that the array does not: keys of ``BESIDES``.
    orientation : int
        EXIF's, 1..8, whether or not the picture is turned.
    format : str
        Pillow's name of the format: "PNG".
    decoder : str
        The library that decodes the picture for an array: "Pillow", "simplejpeg"
        or "imagecodecs".
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    besides: tuple[str, ...]
    orientation: int
    format: str
    decoder: str = "Pillow"


BESIDES = {
    "frames": "later frames",
    "depth": "bits beyond the 8 that are decoded",
    "colours": "colours that are not RGB (CMYK, YCbCr, LAB)",
    "transparency": "a transparent colour",
    "profile": "a colour profile",
    "exif": "EXIF",
}


def header_of(file: EncodedPicture) -> Header:
    """Return what the header of a picture states, without decoding its pixels."""
    return _header(_opened(file), file)


def decoded_header(file: EncodedPicture) -> Header:
    """Return the header of a picture whose pixels were decoded without an error.

    Raises
    ------
    FormatError
        It is damaged.
    """
    picture = _opened(file)
    found = _header(picture, file)
    try:
        picture.load()
    except MemoryError:
        raise
    except Exception as e:
        raise _undecodable(file, e) from e
    return found


def _header(picture: Any, file: EncodedPicture) -> Header:
    numbers = _numbers(picture, file)
    decoder = decoder_of(picture) if numbers.dtype == np.uint8 else "Pillow"
    h, w = picture.height, picture.width
    mode, format = picture.mode, str(picture.format)
    if mode == "P":
        mode = "RGBA" if "transparency" in picture.info else "RGB"
    elif mode not in PLAIN:
        mode = BECOMES.get(mode, "RGB")
    try:
        exif = _exif(picture, file.data)
        orientation = _orientation(exif)
        besides = tuple(_besides(picture, numbers, set(exif), file.orientation))
    except MemoryError:
        raise
    except Exception as e:  # as in ``decode``: these are bytes of unknown origin
        raise _undecodable(file, e) from e
    on_its_side = file.orientation and orientation in ON_ITS_SIDE
    shape = (*((w, h) if on_its_side else (h, w)), numbers.channels or MODES.get(mode, 1))
    return Header(shape, numbers.dtype, besides, orientation, format, decoder)


def _besides(picture: Any, numbers: Numbers, exif: set[int], turned: bool) -> Iterator[str]:
    info, mode = picture.info, picture.mode
    if numbers.reduced:
        yield "depth"
    if mode not in (*PLAIN, *BECOMES, "P"):
        yield "colours"
    if "transparency" in info and mode in TRANSPARENT:
        yield "transparency"
    if info.get("icc_profile"):
        yield "profile"
    exif = exif & CAMERA_TAGS if picture.format == "TIFF" else exif
    if exif - ({ORIENTATION} if turned else set()):
        yield "exif"
    if getattr(picture, "is_animated", False):  # last: it may seek to the next frame
        yield "frames"
