"""Bytes of spectrograms back to decibels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.errors import UnsupportedError
from mapix.vimh.parameters import LEVELS

__all__ = ["decibels"]


def decibels(images: ArrayLike, spec_range: ArrayLike) -> NDArray[np.float32]:
    """Return spectrograms in dB: ``spec_min + byte / 255 * (spec_max - spec_min)``.

    Parameters
    ----------
    images : array_like
        uint8: one image of any shape, or the images of a batch, (b, ...), in any layout.
    spec_range : array_like
        (2,): spec_min and spec_max of the image, ``record.spec_range``; or (b, 2), one for each
        image, ``batch.spec_range``.

    Returns
    -------
    ndarray
        float32, of the shape of ``images``.  Each number is computed in float64, and rounded once.

    Raises
    ------
    TypeError
        The images are not uint8: numbers that were scaled say nothing of their bytes.
    UnsupportedError
        A range is not finite: the file has none (the 6-byte dialect), or the writer had none.

    Examples
    --------
    >>> decibels(np.array([[0, 51, 255]], np.uint8), (-80.0, 0.0))
    array([[-80., -64.,   0.]], dtype=float32)
    """
    codes = np.asarray(images)
    if codes.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {codes.dtype}: take a batch with dtype='uint8'")
    ranges = np.asarray(spec_range, np.float64)
    each = ranges.ndim == 2
    if ranges.shape not in ((2,), (len(codes) if codes.ndim else 0, 2)):
        raise ValueError(f"spec_range must be (2,) or (b, 2), got shape {ranges.shape}")
    if not np.isfinite(ranges).all():
        raise UnsupportedError(
            "no decibels: spec_min and spec_max are not numbers, the file does not state them"
        )
    ranges = ranges.reshape(-1, 2)
    low, high = ranges[:, :1], ranges[:, 1:]
    tables = (low + np.arange(LEVELS + 1) / LEVELS * (high - low)).astype(np.float32)
    out = np.empty(codes.shape, np.float32)
    if not each:
        np.take(tables[0], codes, out=out)
        return out
    for table, image, target in zip(tables, codes, out, strict=True):
        np.take(table, image, out=target)
    return out
