"""A small synthesiser, heard as log-frequency spectrograms: labels in, pictures out.

A sound is a sawtooth behind a low-pass filter that opens with velocity and follows the note.  Its
fundamental falls as ``exp(-t / decay_time)``, higher harmonics fall faster, and the hammer is heard
as a short burst of noise.  The power in each band and frame is worked out directly, without any
audio in between: that is what makes tens of thousands of sounds a second possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BANDS",
    "HEADS",
    "HOP",
    "LOWEST_HZ",
    "OCTAVES",
    "WINDOWS",
    "Head",
    "Sounds",
    "band_hz",
    "codes",
    "draw",
    "note_name",
    "render",
]

FloatArray = NDArray[np.float32]

LOWEST_HZ = 55.0  # lower edge of the lowest band: A1
OCTAVES = 8  # up to 14 kHz
BANDS = 64  # of the uniform dataset
HOP = 1 / 64  # seconds from one frame to the next

HARMONIC_DAMPING = 0.08  # how much faster each further harmonic falls
DAMPING_LIMIT = 4.0  # and no harmonic falls faster than this many times the fundamental
FLOOR_DB = -78.0  # noise, against the fundamental at velocity 127
BURST_DB = 26.0  # the hammer above that noise, at velocity 127
BURST_SECONDS = 0.018  # and its decay time
SILENCE = -60.0  # natural log of a power that no byte can show
POOL_NVALUES = 1 << 20  # random values that all noise is cut from


@dataclass(frozen=True, slots=True)
class Head:
    """A label: its name, its range in physical units, the distance of its classes."""

    name: str
    min: float
    max: float
    step: float
    description: str


HEADS = (
    Head("note_number", 36, 96, 1, "MIDI note number, 69 is A4 at 440 Hz"),
    Head("velocity", 24, 120, 8, "MIDI velocity: loudness and brightness"),
    Head("log10_decay_time", -1.2, 0.4, 0.1, "log10 of the seconds to fall to 1/e"),
)


@dataclass(frozen=True, slots=True)
class Window:
    """How the analysis looks: a long window hears pitch sharply, a short one hears time sharply."""

    name: str
    hz: float  # width in frequency
    seconds: float  # blur in time


MIDDLE = Window("middle band", 16.0, 0.030)
WINDOWS = (Window("narrow band", 7.0, 0.080), MIDDLE, Window("wide band", 75.0, 0.006))


@dataclass(frozen=True, slots=True)
class Sounds:
    """Settings of n sounds.

    Attributes
    ----------
    note : ndarray
        MIDI note numbers, int64 (n,).
    velocity : ndarray
        MIDI velocities, int64 (n,).
    log10_decay : ndarray
        log10 of the decay time of the fundamental in seconds, float64 (n,).
    onset : ndarray
        Seconds of silence before the sound, float64 (n,); in no label.
    """

    note: NDArray[np.int64]
    velocity: NDArray[np.int64]
    log10_decay: NDArray[np.float64]
    onset: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.note)

    def __getitem__(self, rows: slice) -> Sounds:
        return Sounds(
            self.note[rows], self.velocity[rows], self.log10_decay[rows], self.onset[rows]
        )


def draw(n: int, rng: np.random.Generator) -> Sounds:
    """Settings of ``n`` sounds, evenly spread over the ranges of ``HEADS``."""
    note, velocity, decay = HEADS
    return Sounds(
        note=rng.integers(int(note.min), int(note.max), n, endpoint=True),
        velocity=rng.integers(int(velocity.min), int(velocity.max), n, endpoint=True),
        log10_decay=rng.uniform(decay.min, decay.max, n),
        onset=rng.uniform(1, 6, n) * HOP,
    )


def codes(sounds: Sounds) -> NDArray[np.uint8]:
    """Labels as the file has them, uint8 (n, 3).

    ``(value - min) / (max - min) * 255``, truncated, in the order of ``HEADS``.
    """
    columns = (sounds.note, sounds.velocity, sounds.log10_decay)
    scaled = [(v - h.min) / (h.max - h.min) * 255 for v, h in zip(columns, HEADS, strict=True)]
    return np.clip(np.stack(scaled, axis=1), 0, 255).astype(np.uint8)


def note_name(note: int) -> str:
    """Name of a MIDI note number: 69 is A4, 61 is C#4."""
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    return f"{names[note % 12]}{note // 12 - 1}"


def band_hz(h: int) -> NDArray[np.float64]:
    """Centres of ``h`` bands in Hz, float64 (h,), ascending: row 0 of a picture is the lowest."""
    return LOWEST_HZ * 2 ** (OCTAVES * (np.arange(h) + 0.5) / h)


def _note_hz(note: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 440.0 * 2 ** ((note - 69) / 12)
    return found


@lru_cache(maxsize=16)
def _combs(h: int, window: Window) -> FloatArray:
    """Natural log of the power of a sawtooth in each band, for each note: float32 (notes, h)."""
    head = HEADS[0]
    bands = band_hz(h)
    spacing = bands * (2 ** (OCTAVES / h) - 1)
    width = np.hypot(0.42 * spacing, window.hz)
    combs = np.empty((round(head.max - head.min) + 1, h), np.float32)
    for row, f0 in zip(combs, _note_hz(np.arange(int(head.min), int(head.max) + 1)), strict=True):
        k = np.arange(1, int(bands[-1] * 1.1 / f0) + 1)
        lobes = np.exp(-0.5 * ((bands[:, None] - k * f0) / width[:, None]) ** 2)
        row[:] = np.log(np.maximum(lobes**2 @ (1.0 / k**2), np.exp(SILENCE)))
    return combs


@lru_cache(maxsize=2)
def _pool(seed: int) -> FloatArray:
    """Noise power about 1, as a band that averages a few bins has it: float32 (POOL_NVALUES,)."""
    shape = np.float32(8)  # bins that a band averages
    found = np.random.default_rng(seed).standard_gamma(shape, POOL_NVALUES, dtype=np.float32)
    found /= shape
    return found


def _noise(n: int, nvalues: int, rng: np.random.Generator) -> FloatArray:
    """Noise power for ``n`` pictures, float32 (n, nvalues), each cut from the pool somewhere."""
    pool = _pool(20_09)
    starts = rng.integers(0, len(pool) - nvalues, n)
    out = np.empty((n, nvalues), np.float32)
    for row, start in zip(out, starts.tolist(), strict=True):
        row[:] = pool[start : start + nvalues]
    return out


def _through(
    sounds: Sounds, h: int, w: int, window: Window, rng: np.random.Generator
) -> FloatArray:
    """Power in dB through one window, float32 (n, h, w)."""
    f0 = _note_hz(sounds.note)[:, None]
    hardness = sounds.velocity[:, None] / 127.0
    harmonic = np.maximum(band_hz(h)[None, :] / f0, 1.0)
    level = _combs(h, window)[sounds.note - int(HEADS[0].min)] + 3.0 * np.log(hardness)
    # two poles whose corner opens from 2 to 32 times the fundamental
    level -= 2.0 * np.log1p((harmonic / 2 ** (1 + 4 * hardness)) ** 2)
    level -= FLOOR_DB / 10 * np.log(10)  # the noise has power 1 from here on
    damping = np.minimum(1 + HARMONIC_DAMPING * (harmonic - 1), DAMPING_LIMIT)
    rate = 2.0 * damping / 10 ** sounds.log10_decay[:, None]

    t = (np.arange(w) + 0.5) * HOP - sounds.onset[:, None]
    # the window sees the sound before it has begun: power rises over its length
    blur = window.seconds + HOP / 2
    rise = np.log(np.maximum(1 / (1 + np.exp(-8 * t / blur)), 1e-30))
    burst = np.exp(-np.maximum(t, 0) / BURST_SECONDS - (np.minimum(t, 0) * 2 / blur) ** 2)
    burst *= 10 ** (BURST_DB / 10) * hardness**3

    power = rate.astype(np.float32)[:, :, None] * -np.maximum(t, 0).astype(np.float32)[:, None, :]
    power += level.astype(np.float32)[:, :, None]
    power += rise.astype(np.float32)[:, None, :]
    np.exp(np.maximum(power, SILENCE, out=power), out=power)
    noise = _noise(len(sounds), h * w, rng).reshape(power.shape)
    noise *= (1 + burst).astype(np.float32)[:, None, :]
    power += noise
    np.log(power, out=power)
    power *= np.float32(10 / np.log(10))
    power += np.float32(FLOOR_DB)
    return power


def render(sounds: Sounds, h: int, w: int, c: int, rng: np.random.Generator) -> FloatArray:
    """Spectrograms of sounds.

    Parameters
    ----------
    sounds : Sounds
        Settings of n sounds.
    h, w : int
        Bands and frames: the lowest band first, ``HOP`` seconds a frame.
    c : {1, 3}
        1: the middle window; 3: long, middle and short window, see ``WINDOWS``.
    rng : numpy.random.Generator
        For the noise.

    Returns
    -------
    ndarray
        Power in dB, float32 (n, c, h, w).

    Raises
    ------
    ValueError
        ``c`` is neither 1 nor 3.
    """
    if c not in (1, 3):
        raise ValueError(f"c must be 1 or 3, got {c}")
    windows = WINDOWS if c == 3 else (MIDDLE,)
    return np.stack([_through(sounds, h, w, window, rng) for window in windows], axis=1)
