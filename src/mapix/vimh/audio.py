"""Audio files: WAV by the standard library, other kinds by soundfile."""

from __future__ import annotations

import io
import os
import wave
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mapix.errors import FormatError, UnsupportedError
from mapix.optional import library
from mapix.rooted import Root

__all__ = ["Audio"]

STEP_FRAMES = 1 << 16  # read at once
EXTRA = "sound"


class Audio:
    """An open audio file.

    Parameters
    ----------
    root : Root
        The folder.
    name : str
        Of the file in it.

    Attributes
    ----------
    path : str
        For errors.
    sample_rate, nchannels, nframes : int
        Hz, channels, samples of each channel.

    Raises
    ------
    OSError
        It cannot be opened, or leads out of the folder.
    FormatError
        It is damaged, or not audio.
    UnsupportedError
        Its kind needs soundfile, which is not installed.
    """

    def __init__(self, root: Root, name: str) -> None:
        self.path = os.path.join(root.path, name)
        self._file = io.BufferedReader(io.FileIO(self.path, opener=lambda *_: root.open(name)))
        try:
            is_wave = self._file.read(4) == b"RIFF"
            self._file.seek(0)
            self._wave = self._as_wave() if is_wave else None
            if self._wave is None:
                self._open_other(is_wave=is_wave)
        except BaseException:
            self._file.close()
            raise

    def _as_wave(self) -> wave.Wave_read | None:
        """Open a WAV file of integers; None of another one, such as of floats."""
        try:
            found = wave.open(self._file, "rb")  # noqa: SIM115
        except (wave.Error, EOFError) as e:
            if str(e).startswith("unknown format"):
                self._file.seek(0)
                return None
            reason = str(e) or "the file ends inside its header"
            raise FormatError(self.path, "WAV", reason) from e
        if (
            not 1 <= found.getsampwidth() <= 4
            or not found.getnchannels()
            or not found.getframerate()
        ):
            raise FormatError(
                self.path,
                "WAV",
                f"expected samples of 8, 16, 24 or 32 bits, a channel and a sample rate, got "
                f"{8 * found.getsampwidth()} bits, {found.getnchannels()} channels, "
                f"{found.getframerate()} Hz",
            )
        frame_nbytes = found.getsampwidth() * found.getnchannels()
        there = (os.fstat(self._file.fileno()).st_size - self._file.tell()) // frame_nbytes
        if found.getnframes() > there:
            raise FormatError(
                self.path,
                "WAV",
                f"the header states {found.getnframes()} samples, there are {there}",
            )
        self.sample_rate, self.nchannels = found.getframerate(), found.getnchannels()
        self.nframes = found.getnframes()
        return found

    def _open_other(self, *, is_wave: bool) -> None:
        try:
            soundfile = library("soundfile", EXTRA)
        except UnsupportedError as e:
            what = "WAV of floats, or another encoding than integers" if is_wave else "not WAV"
            raise UnsupportedError(f"{self.path}: {what}: {e}") from e
        try:
            self._other: Any = soundfile.SoundFile(self._file)
        except soundfile.SoundFileError as e:
            raise FormatError(self.path, "audio", str(e)) from e
        self.sample_rate, self.nchannels = self._other.samplerate, self._other.channels
        self.nframes = self._other.frames

    def read(self, names: set[str], most: int) -> dict[str, NDArray[np.float32]]:
        """Read samples from the start of the file.

        Parameters
        ----------
        names : set of str
            ``mono``, the mean of all channels, ``left`` and ``right``, the first and second one.
        most : int
            Samples at most.

        Returns
        -------
        dict
            Name -> float32 (n,), full scale is -1..1.
        """
        n = min(self.nframes, most)
        out = {name: np.empty(n, np.float32) for name in names}
        for at in range(0, n, STEP_FRAMES):
            part = slice(at, min(at + STEP_FRAMES, n))
            block = self._next(part.stop - at)
            if len(block) != part.stop - at:
                reason = f"{self.nframes} samples expected, reading ends at {at + len(block)}"
                raise FormatError(self.path, "audio", reason)
            for name, samples in out.items():
                if name == "mono":
                    samples[part] = block.mean(axis=1)
                else:
                    samples[part] = block[:, min(int(name == "right"), self.nchannels - 1)]
        return out

    def _next(self, n: int) -> NDArray[np.float32]:
        """Return the next n samples of all channels, float32 (n, channels)."""
        if self._wave is None:
            found: NDArray[np.float32] = self._other.read(n, dtype="float32", always_2d=True)
            return found
        width = self._wave.getsampwidth()
        raw = np.frombuffer(self._wave.readframes(n), np.uint8)
        raw = raw[: len(raw) // (width * self.nchannels) * width * self.nchannels]
        if width == 1:
            numbers = raw.astype(np.float32) - 128
        elif width == 3:
            wide = np.zeros((len(raw) // 3, 4), np.uint8)
            wide[:, 1:] = raw.reshape(-1, 3)
            numbers = (wide.view("<i4")[:, 0] >> 8).astype(np.float32)
        else:
            numbers = raw.view(f"<i{width}").astype(np.float32)
        return (numbers / np.float32(1 << (8 * width - 1))).reshape(-1, self.nchannels)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Return samples at another rate, by scipy's polyphase filter."""
    if rate == wanted:
        return samples
    signal = library("scipy.signal", EXTRA)
    divisor = int(np.gcd(rate, wanted))
    found: NDArray[np.float32] = signal.resample_poly(samples, wanted // divisor, rate // divisor)
    return found.astype(np.float32, copy=False)
