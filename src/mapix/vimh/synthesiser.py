"""A small synthesiser, as log-frequency spectrograms that are computed without audio.

A sound is a sawtooth after a low-pass filter that opens with velocity and follows the note.  Its
fundamental falls as ``exp(-t / decay_time)``; higher harmonics fall faster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["HOP", "LOWEST_HZ", "OCTAVES", "SAMPLE_RATE", "SETTINGS", "Sounds", "in_bytes", "render"]

Floats = NDArray[np.float32]
LOWEST_HZ, OCTAVES = 55.0, 8  # lower edge of the lowest band, A1; up to 14 kHz
SAMPLE_RATE = 28160  # of audio that has just these bands
HOP = 1 / 64  # seconds per frame
SILENCE = -60.0  # natural logarithm of a power that no byte can show
WINDOWS = ((7.0, 0.080), (16.0, 0.030), (75.0, 0.006))  # of analysis: Hz and seconds of blur
# quantiles of the power of noise in a band that averages eight bins
NOISE = np.sort(np.random.default_rng(9).gamma(8, 1 / 8, 4096))[8::16].astype(np.float32)


class Setting(NamedTuple):
    """A parameter of the synthesiser: its value where none is given, its range."""

    default: float
    least: float
    most: float
    description: str


SETTINGS = {
    "note_number": Setting(60, 24, 120, "MIDI note, 69 is A4"),
    "velocity": Setting(100, 1, 127, "MIDI velocity: loudness and brightness"),
    "log10_decay_time": Setting(-0.4, -3, 2, "log10 of seconds to fall to 1/e"),
    "onset": Setting(0.03, 0, 60, "seconds of silence before the sound"),
    "cutoff_octaves": Setting(0, -4, 4, "octaves by which the filter is more open"),
    "harmonic_decay": Setting(0.08, 0, 1, "how much faster each harmonic falls than the one below"),
    "noise_db": Setting(-78, -140, 0, "noise, relative to the fundamental at velocity 127"),
}


class Sounds(NamedTuple):
    """Settings of n sounds: (n,) each, or one number for all; see ``SETTINGS``."""

    note: ArrayLike
    velocity: ArrayLike
    log10_decay: ArrayLike
    onset: ArrayLike
    cutoff: ArrayLike = SETTINGS["cutoff_octaves"].default
    harmonic_decay: ArrayLike = SETTINGS["harmonic_decay"].default
    noise_db: ArrayLike = SETTINGS["noise_db"].default


def bands(h: int) -> NDArray[np.float64]:
    """Return the centres of ``h`` bands in Hz, ascending: row 0 of an image is the lowest."""
    return LOWEST_HZ * 2 ** (OCTAVES * (np.arange(h) + 0.5) / h)


def _combs(h: int, hz: float, f0: NDArray[np.float64]) -> Floats:
    """Return the log power of sawtooths in each band, float32 (n, h)."""
    different, which = np.unique(f0, return_inverse=True)
    return np.stack([_comb(h, hz, float(f)) for f in different])[which]


@lru_cache(maxsize=4096)
def _comb(h: int, hz: float, f0: float) -> Floats:
    centres = bands(h)
    width = np.hypot(0.42 * centres * (2 ** (OCTAVES / h) - 1), hz)[:, None]
    k = np.arange(1, int(centres[-1] * 1.1 / f0) + 1)
    lobes = np.exp(-(((centres[:, None] - k * f0) / width) ** 2))
    return np.log(np.maximum(lobes @ (1.0 / k**2), np.exp(SILENCE))).astype(np.float32)


def render(s: Sounds, h: int, w: int, c: int, rng: np.random.Generator) -> Floats:
    """Return spectrograms in dB, float32 (n, h, w, c), c = 1 or 3 windows; lowest band first."""
    windows = WINDOWS if c == 3 else WINDOWS[1:2]
    n = max(np.size(values) for values in s)
    columns = Sounds(*(np.broadcast_to(np.asarray(v, np.float64), (n,))[:, None] for v in s))
    return np.stack([_analysed(columns, h, w, *window, rng) for window in windows], axis=3)


def _analysed(s: Any, h: int, w: int, hz: float, blur: float, rng: np.random.Generator) -> Floats:
    """Return spectrograms of sounds whose settings are columns, (n, 1)."""
    hardness = s.velocity / 127.0
    f0 = 440 * 2 ** ((s.note - 69) / 12)
    harmonic = np.maximum(bands(h) / f0, 1.0)
    level = _combs(h, hz, f0[:, 0]) + 3.0 * np.log(hardness)
    # two poles whose corner opens from 2 to 32 times the fundamental; the noise has power 1
    corner = 2 ** (1 + 4 * hardness + s.cutoff)
    level -= 2.0 * np.log1p((harmonic / corner) ** 2) + s.noise_db / 10 * np.log(10)
    faster = np.minimum(1 + s.harmonic_decay * (harmonic - 1), 4.0)
    rate = 2.0 * faster / 10**s.log10_decay
    t = (np.arange(w) + 0.5) * HOP - s.onset
    rise = -np.logaddexp(0, -8 * t / (blur + HOP / 2))  # a window begins before the sound does
    power = rate.astype(np.float32)[:, :, None] * np.minimum(-t, 0).astype(np.float32)[:, None, :]
    power += level.astype(np.float32)[:, :, None]
    power += rise.astype(np.float32)[:, None, :]
    np.exp(np.maximum(power, SILENCE, out=power), out=power)
    power += NOISE[rng.integers(0, 256, power.shape, np.uint8)]
    db: Floats = np.log(power, out=power) * np.float32(10 / np.log(10))
    db += s.noise_db.astype(np.float32)[:, :, None]
    return db


def in_bytes(db: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Return spectrograms as bytes, each scaled from its lowest to its highest level.

    Returns
    -------
    images : ndarray
        uint8 (n, h, w, c).
    ranges : ndarray
        float32 (n, 2): spec_min and spec_max.
    """
    low, high = (f(axis=(1, 2, 3), keepdims=True) for f in (db.min, db.max))
    images = np.rint((db - low) * (255 / np.where(high > low, high - low, 1))).astype(np.uint8)
    return images, np.stack([low.ravel(), high.ravel()], axis=1)
