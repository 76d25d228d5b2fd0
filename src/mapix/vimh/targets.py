"""Training targets that the original computes: soft class targets, decay times of spectrograms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["decay_time", "soft_targets"]

DECAY_RANGE = (-3.0, 1.0)  # log10 of seconds
NO_DECAY = -1.0
DECAY_DB = 60.0  # a sound has decayed when its level fell by so much
LEAST_COLUMNS = 3  # of a spectrogram, for a line through their levels


def soft_targets(classes: ArrayLike, num_classes: int, width: float) -> NDArray[np.float32]:
    """Turn class numbers into distributions: a Gaussian around each class, for ordinal regression.

    ``exp(-((k - class) / width)**2 / 2)`` over k = 0..num_classes-1, divided by its sum.

    Parameters
    ----------
    classes : array_like
        int (n,); negative ones (missing labels) give rows of zeros.
    num_classes : int
        Classes of the head.
    width : float
        Standard deviation in classes; 0 gives ones and zeros.

    Returns
    -------
    ndarray
        float32 (n, num_classes), rows summing to 1.
    """
    if not width >= 0:
        raise ValueError(f"width must be 0 or more, got {width}")
    at = np.asarray(classes, np.int64)
    distance = np.arange(num_classes) - at[..., None]
    if width == 0:
        found = (distance == 0).astype(np.float64)
    else:
        found = np.exp(-0.5 * (distance / width) ** 2)
        found /= found.sum(axis=-1, keepdims=True)
    found[at < 0] = 0
    soft: NDArray[np.float32] = found.astype(np.float32)
    return soft


def decay_time(
    image: ArrayLike, duration: float, spec_range: tuple[float, float] | None = (-80.0, 0.0)
) -> float:
    """Return log10 of the seconds in which the sound of a spectrogram decays by 60 dB.

    A line is fitted through the levels of the columns, in dB, from the loudest to the last.

    Parameters
    ----------
    image : array_like
        uint8 (h, w) or (h, w, c): frequency by time; of several channels the first.
    duration : float
        Seconds that the columns cover.
    spec_range : (float, float), optional
        dB of bytes 0 and 255.

    Returns
    -------
    float
        Clipped to -3..1; -1 where nothing decays, or there are fewer than three columns.
    """
    x = np.asarray(image, np.float64)
    x = x[..., 0] if x.ndim == 3 else x
    low, high = spec_range or (-80.0, 0.0)
    if not (duration > 0 and math.isfinite(low) and math.isfinite(high)):
        return NO_DECAY
    power = np.mean(10 ** ((low + x / 255 * (high - low)) / 10), axis=0)
    level = 10 * np.log10(np.maximum(power, 1e-300))
    tail = level[int(np.argmax(level)) :]
    if len(tail) < LEAST_COLUMNS:
        return NO_DECAY
    seconds = np.arange(len(tail)) * (duration / len(level))
    slope = float(np.polyfit(seconds, tail, 1)[0])  # dB per second
    if slope >= 0 or math.isclose(slope, 0.0, abs_tol=1e-12):
        return NO_DECAY
    return float(np.clip(math.log10(-DECAY_DB / slope), *DECAY_RANGE))
