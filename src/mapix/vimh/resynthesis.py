"""Sounds from spectrograms: phases by the algorithm of Griffin and Lim, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapix.errors import UnsupportedError
from mapix.vimh.spectrogram import Spectrogram

__all__ = ["MOST_COLUMNS", "sound"]

TURNS = 24
SHARPENING = 30
MOMENTUM = 0.9
MOST_COLUMNS = 1024  # of a spectrogram that is turned into sound
LOUDEST = 0.9


def sound(db: NDArray[np.float32], how: Spectrogram) -> NDArray[np.float32]:
    """Return a sound whose spectrogram is about the given one.

    The power of each band is spread over its bins; phases start at random, always the same ones,
    and are made consistent.  Levels are relative: the loudest sample is 0.9.

    Parameters
    ----------
    db : ndarray
        float32 (n_bins, columns); beyond 1024 columns the sound ends.
    how : Spectrogram
        The settings with which it was computed.

    Returns
    -------
    ndarray
        float32 (columns * hop_length,), at ``how.sample_rate``.

    Raises
    ------
    UnsupportedError
        Windows do not overlap by half, so that nothing connects the phases.
    """
    if 2 * how.hop_length > how.n_window:
        raise UnsupportedError(
            f"hops of {how.hop_length} samples are more than half a window of {how.n_window}: "
            "there is no sound to be had of them"
        )
    bands = how.bands()
    power = 10 ** (np.asarray(db, np.float64)[:, :MOST_COLUMNS] / 10)
    shares = np.maximum(bands.sum(axis=0), 1e-9)[:, None]
    spread, both = bands.T @ power / shares, bands.T @ bands
    for _ in range(SHARPENING):  # towards power that is not negative, and has these bands
        spread *= bands.T @ power / np.maximum(both @ spread, 1e-30)
    size = np.sqrt(spread).T
    columns = len(size)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, size.shape)
    spectrum, before = size * np.exp(1j * phase), np.zeros(size.shape, np.complex128)
    for _ in range(TURNS):
        found = how.transform(_added(spectrum, how), 0, columns)
        wanted = found + MOMENTUM * (found - before)
        before = found
        spectrum = size * wanted / np.maximum(np.abs(wanted), 1e-12)
    padded = _added(spectrum, how)
    samples = padded[how.before :][: columns * how.hop_length]
    if how.pre_emphasis:
        for k in range(1, len(samples)):
            samples[k] += how.pre_emphasis * samples[k - 1]
    loudest = float(np.abs(samples).max(initial=0))
    return (samples * (LOUDEST / loudest if loudest else 0)).astype(np.float32)


def _added(spectrum: NDArray[np.complex128], how: Spectrogram) -> NDArray[np.float64]:
    """Return the samples whose transforms are nearest to a spectrum, with the silence around."""
    window = how.window()
    frames = np.fft.irfft(spectrum, how.n_fft)[:, : how.n_window] * window
    out, weight = (np.zeros(how.padded(len(spectrum))) for _ in range(2))
    for k, frame in enumerate(frames):
        at = how.skip + k * how.hop_length
        out[at : at + how.n_window] += frame
        weight[at : at + how.n_window] += window**2
    found: NDArray[np.float64] = out / np.maximum(weight, 1e-3 * weight.max())
    return found
