"""The compiled core's function for rows of PNG files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapix._native.core import ffi, lib

__all__ = ["rows"]


def rows(
    filtered: bytes, nrows: int, nbytes: int, pixel_nbytes: int, above: NDArray[np.uint8]
) -> NDArray[np.uint8] | None:
    """Return rows without their filters, uint8 (nrows, nbytes); None for an unknown filter."""
    if len(filtered) != nrows * (nbytes + 1) or above.shape != (nbytes,):
        raise ValueError(f"{len(filtered)} bytes for {nrows} rows of {nbytes}")
    out = np.empty((nrows, nbytes), np.uint8)
    given = ffi.from_buffer("uint8_t[]", filtered), nrows, nbytes, pixel_nbytes
    into = ffi.from_buffer("uint8_t[]", out, require_writable=True)
    before = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(above))
    return None if lib.mapix_png_rows(*given, before, into) else out
