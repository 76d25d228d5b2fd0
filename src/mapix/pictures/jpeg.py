"""JPEG files decoded by simplejpeg, where it is installed: Pillow's pixels, in less time.

Both use libjpeg-turbo with the same settings.  Pillow reads the header, and it decides what is
damaged: a file of which simplejpeg reports anything, a warning included, is decoded by Pillow.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decoded", "is_decoded_here", "library"]

COLOURS = {"L": "Gray", "RGB": "RGB"}  # Pillow's modes -> simplejpeg's names
LEAST_SIDE = 64  # smaller pictures gain nothing, and several scales could give their size


@cache
def library() -> Any:
    """Return the module ``simplejpeg``, which holds no GIL while it decodes; None without it."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def is_decoded_here(picture: Any) -> bool:
    """Return whether ``decoded`` decodes such a picture of Pillow's, opened and not yet decoded."""
    usual = picture.format == "JPEG" and picture.mode in COLOURS
    return usual and min(picture.size) >= LEAST_SIDE and library() is not None


def decoded(picture: Any, data: bytes, full: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a picture for which ``is_decoded_here`` was true.

    Parameters
    ----------
    picture : PIL.Image.Image
        Opened by Pillow; its ``draft`` may have set a smaller size.
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
    least = (0, 0) if size == full else size
    try:
        stated = library().decode_jpeg_header(data, *least)
        if stated[:2] != size:  # nothing is allocated for a size that was not checked
            return None
        found = library().decode_jpeg(
            data, COLOURS[picture.mode], min_height=least[0], min_width=least[1]
        )
    except Exception:  # a decoder may raise anything for bytes of unknown origin
        return None
    pixels: NDArray[np.uint8] = found
    return pixels
