"""The compiled core's function that brings a picture of bytes to another size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.core import OK, ffi, lib
from mapix._native.records import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CODES", "FILTERS", "resize"]

FILTERS = ("box", "bilinear", "hamming", "bicubic", "lanczos")
"""Names of filters, as Pillow's; the position is the core's code."""

CODES = {np.dtype(name): code for name, code in DTYPES.items()}
"""Types of the output; a lookup by ``dtype.name`` takes 4 us."""


def resize(
    pixels: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    resample: str,
    to: NDArray[Any],
    affine: NDArray[np.float32] | None = None,
) -> None:
    """Scale a part of a picture into an array.

    Parameters
    ----------
    pixels : ndarray
        uint8 (h, w, c), c 1..4.  Copied first unless the bytes of each line lie together.
    box : (left, top, right, bottom)
        The part, in pixels; within the picture.
    resample : {"box", "bilinear", "hamming", "bicubic", "lanczos"}
        The filter.
    to : ndarray
        uint8, float16 or float32 (h, w, c), with any steps that are not negative.
    affine : ndarray, optional
        float32 (c, 2): floats are fma(byte, a, b).

    Raises
    ------
    ValueError
        Arguments are wrong.
    """
    h, w, c = pixels.shape
    to_h, to_w, channels = to.shape
    if c != channels or resample not in FILTERS or pixels.dtype != np.uint8:
        raise ValueError(f"no {resample!r} from {pixels.dtype} {pixels.shape} to {to.shape}")
    if pixels.strides[1:] != (c, 1) or pixels.strides[0] < 0:
        pixels = np.ascontiguousarray(pixels)
    r = ffi.new("mapix_resizing *")
    r.pixels, r.row = _address(pixels), pixels.strides[0]
    r.h, r.w, r.c = h, w, c
    r.filter, r.box = FILTERS.index(resample), box
    r.to, r.to_h, r.to_w, r.dtype = _address(to), to_h, to_w, CODES[to.dtype]
    size = to.itemsize
    r.to_row, r.to_col, r.to_channel = (step // size for step in to.strides)
    if affine is not None:
        r.affine = ffi.cast("float *", _address(affine))
    nbytes = lib.mapix_resize_scratch(r)
    scratch = np.empty(nbytes // 8, np.float64)
    if not nbytes or lib.mapix_resize(r, ffi.cast("void *", _address(scratch)), nbytes) != OK:
        raise ValueError(f"no {resample!r} of {box} of {pixels.shape} to {to.shape}")


def _address(array: NDArray[Any]) -> Any:
    """Return a pointer to an array's first number, whatever its steps; it keeps nothing alive."""
    if array.flags.c_contiguous:
        return ffi.from_buffer("uint8_t[]", array)
    return ffi.cast("uint8_t *", array.ctypes.data)  # 2 us more
