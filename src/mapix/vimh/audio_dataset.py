"""A VIMH dataset of the spectrograms of a folder of sounds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.progress import Progress, shown
from mapix.rooted import Root
from mapix.vimh.audio import Audio, resampled
from mapix.vimh.files import SPLITS
from mapix.vimh.parameter_table import read_table
from mapix.vimh.spectrogram import CHANNELS, MOST_FRAMES, Spectrogram
from mapix.vimh.writer import TRAIN_SHARE, Writer, spectrogram_bytes

__all__ = ["from_audio", "original_name", "place_of"]

SYNTH = "audio"  # synth_type of the info JSON
ENVELOPES = ("temporal_envelope", "spectral_envelope")


def from_audio(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    parameters: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    duration: float | None = None,
    channels: Sequence[str] = ("mono",),
    ranges: Mapping[str, tuple[float, float, float]] | None = None,
    train_share: float = TRAIN_SHARE,
    seed: int | None = 0,
    info: Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> str:
    """Write a VIMH dataset of the spectrograms of sounds, one after the other.

    Parameters
    ----------
    folder : str or os.PathLike
        The sounds.  WAV of 8 to 32-bit integers needs nothing more; WAV of floats, FLAC, Ogg and
        others need soundfile (``pip install 'mapix[sound]'``).
    path : str or os.PathLike
        The dataset directory, which must not exist yet; or an existing directory, which gets one
        that is named as the original names its own
        (``vimh-64x87x1_22050Hz_1p0s_1000dss_audio_2p``).
    parameters : str or os.PathLike
        A CSV or JSONL file with a column ``file_name``; every other column becomes a label, or a
        fixed parameter.  A column ``split`` names each sound's split.
    sample_rate : int, optional
        Hz; by default that of the first sound.  Others are resampled, which needs scipy.
    duration : float, optional
        Seconds to which sounds are cut, or filled with silence.  By default each keeps its length,
        and so images have different widths.
    channels : sequence of str
        Of the images: ``mono``, ``left``, ``right``, ``temporal_envelope`` (the mean power of each
        column in all rows), ``spectral_envelope`` (that of each row in all columns).
    ranges : mapping of str to (float, float, float), optional
        Name -> min, max and step of parameters; by default those of the values.
    train_share : float
        Share of the sounds that are for training, where no column names splits.
    seed : int or None
        They are drawn at random; with None they are the first ones, as in the original.
    info : mapping, optional
        More keys of the info JSON.
    progress : callable or True, optional
        ``progress(sounds_done, sounds)``; True shows a bar.
    options : mapping, optional
        Of ``mapix.vimh.Writer``: ``output``, ``index``, ``dialect``.
    **settings
        Of the spectrograms: ``type`` (``"mel"``, ``"log"``, ``"stft"``), ``n_bins``, ``n_fft``,
        ``n_window``, ``hop_length``, ``window_type``, ``freq_min``, ``freq_max``, ``floor_db``,
        ``pre_emphasis``.  The info JSON records them.

    Returns
    -------
    str
        Path of the dataset.

    Raises
    ------
    FormatError
        A sound or the file of parameters is damaged.  Nothing is written then.
    UnsupportedError
        soundfile or scipy is needed, and not installed.
    """
    table = read_table(parameters, ranges)
    root, names = Root(folder), tuple(channels)
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise ValueError(f"channels must be of {', '.join(CHANNELS)}, got {unknown or 'none'}")
    if duration is not None and not 0 < duration < MOST_FRAMES:
        raise ValueError(f"duration must be above 0 and below {MOST_FRAMES} s, got {duration}")
    if sample_rate is None:
        with Audio(root, table.files[0]) as first:
            rate = first.sample_rate
    else:
        rate = sample_rate
    how = Spectrogram(rate, **settings)
    reader = _Reader(root, how, names, duration, resample=sample_rate is not None)
    splits = _splits(table.splits, train_share, seed)
    target = path
    known: dict[str, Any] = {"synth_type": SYNTH, "channel_labels": [CHANNELS[n] for n in names]}
    if duration is not None:
        known["duration"] = duration
    if os.path.isdir(path):
        if duration is None:
            raise ValueError(
                f"{os.fspath(path)} is a directory: name a new one in it, or give duration=, which "
                "is part of the name that the original gives"
            )
        shape = how.n_bins, how.width(round(duration * rate)), len(names)
        more = {"n": len(table.files), "synth": SYNTH, "parameters": len(table.parameters)}
        target = place_of(path, shape, rate, duration, **more)
    report = shown(progress, "transforming", "sounds")
    with Writer(
        target,
        table.parameters,
        fixed=table.fixed,
        info={**known, **how.info(), **(info or {})},
        splits=tuple(dict.fromkeys((*SPLITS, *splits))),
        **dict(options or {}),
    ) as out:
        for k, (file, split) in enumerate(zip(table.files, splits, strict=True)):
            image, spec_range = spectrogram_bytes(reader.image(file))
            codes = {name: values[k] for name, values in table.codes.items()}
            out.append(image, codes=codes, spec_range=spec_range, split=split)
            if report is not None:
                report(k + 1, len(splits))
    return os.fspath(target)


class _Reader:
    """Reads sounds as images in dB."""

    def __init__(
        self,
        root: Root,
        how: Spectrogram,
        channels: tuple[str, ...],
        duration: float | None,
        *,
        resample: bool,
    ) -> None:
        self.root, self.how, self.channels, self.resample = root, how, channels, resample
        self.samples = None if duration is None else max(1, round(duration * how.sample_rate))
        self.needed = {"mono" if name in ENVELOPES else name for name in channels}
        if self.samples is not None and how.width(self.samples) > MOST_FRAMES:
            raise ValueError(
                f"duration= of {duration} s is {how.width(self.samples)} columns, an image has at "
                f"most {MOST_FRAMES}; a larger hop_length= makes fewer"
            )

    def image(self, name: str) -> NDArray[np.float64]:
        """Return the image of a sound."""
        rate = self.how.sample_rate
        with Audio(self.root, name) as sound:
            if sound.sample_rate != rate and not self.resample:
                raise ValueError(
                    f"{sound.path} has {sound.sample_rate} Hz, the first sound {rate}: "
                    f"sample_rate={rate} resamples (with scipy)"
                )
            most = self.samples if self.samples is not None else MOST_FRAMES * self.how.hop_length
            there = -(-sound.nframes * rate // sound.sample_rate)
            if self.samples is None and there > most:
                raise ValueError(
                    f"{sound.path} has {self.how.width(there)} columns, an image at most "
                    f"{MOST_FRAMES}: duration= cuts them, a larger hop_length= makes fewer"
                )
            audio = sound.read(self.needed, -(-most * sound.sample_rate // rate))
        for key, samples in audio.items():
            samples = resampled(samples, sound.sample_rate, rate)
            if self.samples is not None:
                samples = samples[: self.samples]
                samples = np.pad(samples, (0, self.samples - len(samples)))
            if not np.isfinite(samples).all():
                raise ValueError(f"{sound.path}: samples are not numbers")
            audio[key] = samples
        return self.how.image(audio, self.channels)


def _splits(named: Sequence[str | None], share: float, seed: int | None) -> list[str]:
    """Return the split of each sound."""
    if any(named):
        return [split or SPLITS[0] for split in named]
    if not 0 <= share <= 1:
        raise ValueError(f"train_share must be in 0..1, got {share}")
    n = len(named)
    order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    test = set(order[int(share * n) :].tolist())
    return [SPLITS[k in test] for k in range(n)]


def original_name(
    shape: tuple[int, int, int], rate: int, duration: float, *, n: int, synth: str, parameters: int
) -> str:
    """Return the name that the original gives a dataset directory."""
    size = "x".join(map(str, shape))
    seconds = str(float(duration)).replace(".", "p")
    return f"vimh-{size}_{rate}Hz_{seconds}s_{n}dss_{synth}_{parameters}p"


def place_of(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    rate: int,
    duration: float,
    **more: Any,
) -> str:
    """Return the path of a new dataset below an existing directory."""
    return os.path.join(path, original_name(shape, rate, duration, **more))
