"""Decoders that are faster than Pillow, where they are installed, with Pillow's pixels.

simplejpeg decodes JPEG, by the libjpeg-turbo that Pillow has, and imagecodecs PNG and WebP.  They
hold no GIL meanwhile.  Pillow reads the header, and it decides what is damaged: a file that another
library refuses is decoded by Pillow.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decoded", "decoder_of", "library"]

LIBRARIES = {"JPEG": "simplejpeg", "PNG": "imagecodecs", "WEBP": "imagecodecs"}
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
OF_JPEG = {"L": "Gray", "RGB": "RGB"}  # Pillow's modes -> simplejpeg's names
LEAST_SIDE = 64  # smaller pictures gain nothing, and several scales of a JPEG could give their size


@cache
def library(name: str) -> Any:
    """Return a module; None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def decoder_of(picture: Any) -> str:
    """Return the name of the library that decodes a picture of Pillow's, opened and not decoded.

    "Pillow", or one that ``decoded`` uses.
    """
    name = LIBRARIES.get(picture.format)
    if name is None or min(picture.size) < LEAST_SIDE or library(name) is None:
        return "Pillow"
    usual = picture.mode in (OF_JPEG if picture.format == "JPEG" else CHANNELS)
    if picture.format == "PNG":  # grey of less than 8 bits and transparent colours are Pillow's
        raw = [tile[3] for tile in picture.tile]
        usual = usual and raw == [picture.mode] and "transparency" not in picture.info
    return name if usual and not getattr(picture, "is_animated", False) else "Pillow"


def decoded(picture: Any, data: bytes, full: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a picture for which ``decoder_of`` has named a library other than Pillow.

    Parameters
    ----------
    picture : PIL.Image.Image
        Opened by Pillow; ``draft`` of a JPEG may have set a smaller size.
    data : bytes
        The file.
    full : tuple of int
        (h, w) in the file.

    Returns
    -------
    ndarray or None
        uint8 (h, w, c), as stored: no orientation is applied.  None: Pillow has to decode it.
    """
    size = picture.height, picture.width
    try:  # nothing is allocated for a size that was not checked
        return (
            _jpeg(picture, data, size, full) if picture.format == "JPEG" else _other(picture, data)
        )
    except MemoryError:  # Pillow's pixels would differ a little
        raise
    except Exception:  # a decoder may raise anything for bytes of unknown origin
        return None


def _jpeg(
    picture: Any, data: bytes, size: tuple[int, int], full: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """Decode a JPEG; a warning of libjpeg is an error."""
    simplejpeg = library("simplejpeg")
    h, w = (0, 0) if size == full else size
    if simplejpeg.decode_jpeg_header(data, h, w)[:2] != size:
        return None
    colours = OF_JPEG[picture.mode]
    found: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours, min_height=h, min_width=w)
    return found


def _other(picture: Any, data: bytes) -> NDArray[np.uint8]:
    """Decode PNG or WebP into an array of the size that Pillow has read."""
    imagecodecs, c = library("imagecodecs"), CHANNELS[picture.mode]
    decode = imagecodecs.png_decode if picture.format == "PNG" else imagecodecs.webp_decode
    found = np.empty((picture.height, picture.width, c)[: 3 if c > 1 else 2], np.uint8)
    decode(data, out=found)
    return found if c > 1 else found[:, :, None]
