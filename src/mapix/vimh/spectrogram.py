"""Spectrograms of audio in numpy: settings as the info JSON records them, bands, decibels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "Spectrogram"]

FRAMES = 256  # transformed at once
MOST_FRAMES = 65535  # columns of a VIMH image
MOST_FFT = 1 << 20
TYPES = ("mel", "log", "stft")
METHODS = ("mapix", "synthesised")
WINDOWS = ("hann", "hamming", "blackman", "rectangular")
CHANNELS = {
    "mono": "Gray",
    "left": "Left",
    "right": "Right",
    "temporal_envelope": "Gray_temporal_envelope",
    "spectral_envelope": "Gray_spectral_envelope",
}
"""Channel of an image -> its name in ``channel_labels``."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrogram:
    """Settings of spectrograms.  Row 0 is the lowest band, column k the k-th hop.

    Attributes
    ----------
    sample_rate : int
        Of the audio, Hz.
    type : {"mel", "log", "stft"}
        Bands that are evenly spaced in mel or in octaves, overlapping triangles; or the lowest bins
        of the Fourier transform themselves.
    n_bins : int
        Rows of an image; of ``"stft"`` at most ``n_fft // 2 + 1``.
    n_fft, n_window, hop_length : int
        Samples of a transform, of a window (by default ``n_fft``), and from one column to the next.
    window_type : {"hann", "hamming", "blackman", "rectangular"}
        Shape of the window.
    freq_min, freq_max : float
        Lowest and highest centre of the bands, Hz; by default up to 0.9 of half the sample rate.
    floor_db : float
        Level of silence.  0 dB is the bin of a sine of full scale.
    pre_emphasis : float
        ``x[n] - pre_emphasis * x[n - 1]`` is transformed.
    """

    sample_rate: int
    type: str = "mel"
    n_bins: int = 64
    n_fft: int = 1024
    n_window: int = 0
    hop_length: int = 256
    window_type: str = "hann"
    freq_min: float = 40.0
    freq_max: float = 0.0
    floor_db: float = -100.0
    pre_emphasis: float = 0.0

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"type must be {', '.join(TYPES)}, got {self.type!r}")
        if self.window_type not in WINDOWS:
            raise ValueError(f"window_type must be {', '.join(WINDOWS)}, got {self.window_type!r}")
        object.__setattr__(self, "n_window", self.n_window or self.n_fft)
        object.__setattr__(self, "freq_max", self.freq_max or 0.45 * self.sample_rate)
        for name in ("sample_rate", "n_bins", "n_fft", "n_window", "hop_length"):
            if not 0 < getattr(self, name) <= MOST_FFT:
                raise ValueError(f"{name} must be in 1..{MOST_FFT}, got {getattr(self, name)}")
        if self.n_window > self.n_fft:
            raise ValueError(f"n_window must be at most n_fft, {self.n_fft}, got {self.n_window}")
        most = self.n_fft // 2 + 1 if self.type == "stft" else MOST_FRAMES
        if self.n_bins > most:
            raise ValueError(f"n_bins must be at most {most} for {self.type}, got {self.n_bins}")
        if not 0 < self.freq_min < self.freq_max <= self.sample_rate / 2:
            raise ValueError(
                "freq_min and freq_max must be above 0, in order, and at most half the sample "
                f"rate, {self.sample_rate / 2:g} Hz: got {self.freq_min:g} and {self.freq_max:g}"
            )
        if not math.isfinite(self.floor_db) or not 0 <= self.pre_emphasis < 1:
            raise ValueError("floor_db must be a number, and pre_emphasis in 0..1")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the settings, without the sample rate."""
        return tuple(f.name for f in fields(cls) if f.name != "sample_rate")

    @classmethod
    def of_info(cls, info: Mapping[str, Any]) -> Spectrogram | None:
        """Return the settings that an info JSON records; None of those of other programs.

        A synthesiser has no transform: one of about four hops takes its place.
        """
        config, mel = info.get("spectrogram_config"), info.get("mel_config")
        if not isinstance(config, Mapping) or config.get("method") not in METHODS:
            return None
        given = {k: v for k, v in config.items() if k in cls.__dataclass_fields__}
        try:
            if "n_fft" not in given:
                given["n_fft"] = 1 << (4 * given["hop_length"]).bit_length()
            if isinstance(mel, Mapping):
                given["freq_min"] = mel["freq_min"]
                given["freq_max"] = mel["freq_max_ratio"] * given["sample_rate"] / 2
            return cls(**given, pre_emphasis=info.get("pre_emphasis_coefficient", 0.0))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return None

    def info(self) -> dict[str, Any]:
        """Return the keys of the info JSON that record the settings."""
        own = ("sample_rate", "type", "n_fft", "n_window", "hop_length", "window_type", "n_bins")
        config = {name: getattr(self, name) for name in own} | {"method": "mapix"}
        ratio = self.freq_max / (self.sample_rate / 2)
        return {
            "sample_rate": self.sample_rate,
            "pre_emphasis_coefficient": self.pre_emphasis,
            "spectrogram_config": config | {"floor_db": self.floor_db},
            "mel_config": {"freq_min": self.freq_min, "freq_max_ratio": ratio},
        }

    def width(self, samples: int) -> int:
        """Return the number of columns of so many samples."""
        return max(1, -(-samples // self.hop_length))

    def frequencies(self) -> Floats:
        """Return the centre of each row in Hz, float64 (n_bins,), ascending."""
        if self.type == "stft":
            return np.arange(self.n_bins, dtype=np.float64) * (self.sample_rate / self.n_fft)
        return self._centres()[1:-1]

    def _centres(self) -> Floats:
        """Return the centres of the bands, and of one more on either side."""
        steps = np.arange(-1, self.n_bins + 1) / max(self.n_bins - 1, 1)
        if self.type == "log":
            octaves: Floats = self.freq_min * (self.freq_max / self.freq_min) ** steps
            return octaves
        low, high = (1127 * math.log1p(f / 700) for f in (self.freq_min, self.freq_max))
        found: Floats = 700 * np.expm1((low + steps * (high - low)) / 1127)
        return found

    @lru_cache(maxsize=4)  # noqa: B019 - of settings, which are small, and few
    def bands(self) -> Floats:
        """Return the weight of each bin in each band, float64 (n_bins, n_fft // 2 + 1)."""
        bin_hz = self.sample_rate / self.n_fft
        f = np.arange(self.n_fft // 2 + 1) * bin_hz
        if self.type == "stft":
            return np.eye(self.n_bins, len(f))
        centres = self._centres()
        # a triangle is never narrower than a bin, so that no band is empty
        below, above = (np.maximum(np.diff(c), bin_hz) for c in (centres[:-1], centres[1:]))
        middle = centres[1:-1, None]
        rise = 1 - (middle - f) / below[:, None]
        fall = 1 - (f - middle) / above[:, None]
        return np.clip(np.minimum(rise, fall), 0, 1)

    def power(self, samples: NDArray[np.float32]) -> Floats:
        """Return the power in each band, float64 (n_bins, columns).

        Parameters
        ----------
        samples : ndarray
            float32 (n,), full scale is -1..1.
        """
        columns = self.width(len(samples))
        if columns > MOST_FRAMES:
            raise ValueError(
                f"{columns} columns, an image has at most {MOST_FRAMES}: duration= cuts, or a "
                "larger hop_length= is needed"
            )
        if self.pre_emphasis:
            earlier = np.concatenate([samples[:1], samples[:-1]])
            samples = (samples - self.pre_emphasis * earlier).astype(np.float32)
        padded = np.zeros(self.padded(columns), np.float32)
        padded[self.before : self.before + len(samples)] = samples
        scale = 2 / self.window().sum()
        out = np.empty((self.n_bins, columns))
        for at in range(0, columns, FRAMES):
            found = self.transform(padded, at, min(at + FRAMES, columns))
            out[:, at : at + len(found)] = self._in_bands((np.abs(found) * scale) ** 2)
        return out

    def _in_bands(self, power: Floats) -> Floats:
        """Return the power in each band, (n_bins, columns), of the power in each bin, transposed.

        The products are small: threads of a BLAS would take longer to meet than to compute.
        """
        if self.type == "stft":
            return power[:, : self.n_bins].T
        found: Floats = np.einsum("bf,cf->bc", self.bands(), power)
        return found

    @property
    def before(self) -> int:
        """Samples of silence before a sound: column k shows the window around hop k's middle."""
        return max(self.n_window // 2 - self.hop_length // 2, 0)

    @property
    def skip(self) -> int:
        """Samples from the beginning of a hop to that of a window which is shorter."""
        return max(self.hop_length // 2 - self.n_window // 2, 0)

    def padded(self, columns: int) -> int:
        """Return the number of samples that so many columns show, with the silence around."""
        return self.before + columns * self.hop_length + self.n_window

    def transform(self, padded: NDArray[Any], begin: int, end: int) -> NDArray[np.complex128]:
        """Return the transforms of some columns, complex (end - begin, n_fft // 2 + 1)."""
        step = padded.itemsize
        at = (self.skip + begin * self.hop_length) * step
        steps = self.hop_length * step, step
        some = np.ndarray((end - begin, self.n_window), padded.dtype, padded, at, steps)
        return np.fft.rfft(some * self.window(), self.n_fft)

    def window(self) -> Floats:
        """Return the window, float64 (n_window,)."""
        n = self.n_window
        if self.window_type == "rectangular":
            return np.ones(n)
        shape = {"hann": np.hanning, "hamming": np.hamming, "blackman": np.blackman}
        return shape[self.window_type](n + 1)[:-1]  # periodic, as is usual for spectra

    def decibels(self, power: Floats) -> Floats:
        """Return power in dB, at least ``floor_db``."""
        return 10 * np.log10(np.maximum(power, 10 ** (self.floor_db / 10)))

    def image(self, audio: dict[str, NDArray[np.float32]], channels: tuple[str, ...]) -> Floats:
        """Return an image in dB, float64 (n_bins, columns, channels).

        Parameters
        ----------
        audio : dict
            ``mono``, and ``left`` and ``right`` where they are channels: samples, float32 (n,).
        channels : tuple of str
            Of ``CHANNELS``.  An envelope is the mean power over the bands, or over time, in all
            rows or columns.
        """
        powers = {name: self.power(samples) for name, samples in audio.items()}
        if "mono" in powers:
            mono = powers["mono"]
            powers["temporal_envelope"] = np.broadcast_to(mono.mean(axis=0), mono.shape)
            powers["spectral_envelope"] = np.broadcast_to(mono.mean(axis=1)[:, None], mono.shape)
        return np.stack([self.decibels(powers[name]) for name in channels], axis=2)
