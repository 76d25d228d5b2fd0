"""A small synthesiser, as log-frequency spectrograms that are computed without audio.

A sound is a sawtooth after a low-pass filter that opens with velocity and follows the note.  Its
fundamental falls as ``exp(-t / decay_time)``; higher harmonics fall faster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix.vimh.parameters import Parameter

__all__ = ["BANDS", "HEADS", "HOP", "LOWEST_HZ", "OCTAVES", "Sounds", "draw", "render"]

Floats = NDArray[np.float32]
LOWEST_HZ, OCTAVES = 55.0, 8  # lower edge of the lowest band, A1; up to 14 kHz
BANDS, HOP = 64, 1 / 64  # bands of the uniform dataset, seconds per frame
FLOOR_DB = -78.0  # noise, relative to the fundamental at velocity 127
SILENCE = -60.0  # natural logarithm of a power that no byte can show
WINDOWS = ((7.0, 0.080), (16.0, 0.030), (75.0, 0.006))  # of analysis: Hz and seconds of blur
NOTES = range(36, 97)
HEADS = (
    Parameter("note_number", 0, NOTES[0], NOTES[-1], 1, description="MIDI note, 69 is A4"),
    Parameter("velocity", 1, 24, 120, 8, description="MIDI velocity: loudness and brightness"),
    Parameter("log10_decay_time", 2, -1.2, 0.4, 0.1, description="log10 of seconds to fall to 1/e"),
)
# quantiles of the power of noise in a band that averages eight bins
NOISE = np.sort(np.random.default_rng(9).gamma(8, 1 / 8, 4096))[8::16].astype(np.float32)


class Sounds(NamedTuple):
    """Settings of n sounds: three labels, and the seconds of silence before each sound."""

    note: NDArray[Any]
    velocity: NDArray[Any]
    log10_decay: NDArray[Any]
    onset: NDArray[Any]

    def codes(self) -> dict[str, Any]:
        """Return the labels as VIMH has them."""
        return {p.name: p.quantise(v) for p, v in zip(HEADS, self[:3], strict=True)}


def draw(n: int, rng: np.random.Generator) -> Sounds:
    """Return settings of ``n`` sounds, evenly spread over the ranges of ``HEADS``."""
    note, velocity = (rng.integers(int(p.min), int(p.max), n, endpoint=True) for p in HEADS[:2])
    decay = rng.uniform(HEADS[2].min, HEADS[2].max, n)
    return Sounds(note, velocity, decay, rng.uniform(1, 6, n) * HOP)


def _bands(h: int) -> NDArray[np.float64]:
    """Return the centres of ``h`` bands in Hz, ascending: row 0 of an image is the lowest."""
    return LOWEST_HZ * 2 ** (OCTAVES * (np.arange(h) + 0.5) / h)


@lru_cache(maxsize=16)
def _combs(h: int, hz: float) -> Floats:
    """Return the log power of a sawtooth in each band, float32 (notes, h)."""
    bands = _bands(h)
    width = np.hypot(0.42 * bands * (2 ** (OCTAVES / h) - 1), hz)[:, None]
    combs = np.empty((len(NOTES), h), np.float32)
    for row, f0 in zip(combs, 440 * 2 ** ((np.array(NOTES) - 69) / 12), strict=True):
        k = np.arange(1, int(bands[-1] * 1.1 / f0) + 1)
        lobes = np.exp(-(((bands[:, None] - k * f0) / width) ** 2))
        row[:] = np.log(np.maximum(lobes @ (1.0 / k**2), np.exp(SILENCE)))
    return combs


def render(s: Sounds, h: int, w: int, c: int, rng: np.random.Generator) -> Floats:
    """Return spectrograms in dB, float32 (n, h, w, c), c = 1 or 3 windows; lowest band first."""
    windows = WINDOWS if c == 3 else WINDOWS[1:2]
    return np.stack([_analysed(s, h, w, *window, rng) for window in windows], axis=3)


def _analysed(s: Sounds, h: int, w: int, hz: float, blur: float, rng: Any) -> Floats:
    hardness = s.velocity[:, None] / 127.0
    harmonic = np.maximum(_bands(h) / (440 * 2 ** ((s.note[:, None] - 69) / 12)), 1.0)
    level = _combs(h, hz)[s.note - NOTES[0]] + 3.0 * np.log(hardness)
    # two poles whose corner opens from 2 to 32 times the fundamental; the noise has power 1
    level -= 2.0 * np.log1p((harmonic / 2 ** (1 + 4 * hardness)) ** 2) + FLOOR_DB / 10 * np.log(10)
    rate = 2.0 * np.minimum(1 + 0.08 * (harmonic - 1), 4.0) / 10 ** s.log10_decay[:, None]
    t = (np.arange(w) + 0.5) * HOP - s.onset[:, None]
    rise = -np.logaddexp(0, -8 * t / (blur + HOP / 2))  # a window begins before the sound does
    power = rate.astype(np.float32)[:, :, None] * np.minimum(-t, 0).astype(np.float32)[:, None, :]
    power += level.astype(np.float32)[:, :, None]
    power += rise.astype(np.float32)[:, None, :]
    np.exp(np.maximum(power, SILENCE, out=power), out=power)
    power += NOISE[rng.integers(0, 256, power.shape, np.uint8)]
    db: Floats = np.log(power, out=power) * np.float32(10 / np.log(10)) + np.float32(FLOOR_DB)
    return db
