"""The compiled core's functions for random changes of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mapix._native.core import CData, IntArray, ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mix", "new_augment"]


def new_augment(
    key: int,
    positions: IntArray,
    size: tuple[int, int],
    pad: tuple[int, int],
    flips: Sequence[int],
    cut: tuple[int, int],
) -> CData:
    """Make a ``mapix_augment``; the caller keeps ``positions`` alive."""
    c = ffi.new("mapix_augment *")
    c.key = key
    c.positions = ffi.from_buffer("int64_t[]", positions)
    c.h, c.w = size
    c.pad_h, c.pad_w = pad
    c.flip, c.flip_vertical = flips
    c.cut_h, c.cut_w = cut
    return c


def mix(images: NDArray[np.float32], shares: NDArray[np.float32]) -> None:
    """Mix images (b, ...) in place with those in reverse order: ``mapix_mix``."""
    n = len(images)
    if images.dtype != np.float32 or shares.dtype != np.float32 or shares.shape != (n,):
        raise ValueError(f"float32 images, and a share for each, expected: {shares.shape}")
    into = ffi.from_buffer("float[]", images, require_writable=True)
    if n and lib.mapix_mix(into, n, images.size // n, ffi.from_buffer("float[]", shares)):
        raise ValueError("images and shares must be arrays")
