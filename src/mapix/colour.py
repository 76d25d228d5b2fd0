"""A colour map from dark violet over orange to pale yellow; lightness is linear in the value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lightness", "palette"]

# sRGB colours on the path; the value of each follows from its lightness
CORNERS = (
    (16, 10, 32),
    (48, 20, 84),
    (100, 30, 120),
    (162, 44, 112),
    (214, 72, 78),
    (243, 124, 44),
    (251, 184, 66),
    (254, 246, 214),
)


def lightness(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the CIE lightness L*, 0..100, of sRGB colours 0..255: shape (..., 3) to (...)."""
    x = np.asarray(rgb, np.float64) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    cube = np.cbrt(luminance)
    found: NDArray[np.float64] = np.where(
        luminance > 216 / 24389, 116 * cube - 16, luminance * 24389 / 27
    )
    return found


def palette() -> NDArray[np.uint8]:
    """Return the sRGB colours of the values 0..255, uint8 (256, 3)."""
    fine = np.linspace(0, len(CORNERS) - 1, 4096)
    corners = np.array(CORNERS, np.float64)
    path = np.stack([np.interp(fine, range(len(corners)), part) for part in corners.T], axis=1)
    light = lightness(path)
    wanted = np.linspace(light[0], light[-1], 256)
    at = np.interp(wanted, light, np.arange(len(path)))
    found: NDArray[np.uint8] = np.rint(path[np.rint(at).astype(int)]).astype(np.uint8)
    return found
