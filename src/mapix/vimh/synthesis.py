"""VIMH datasets of a small synthesiser's sounds, from a configuration in JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from mapix.errors import FormatError
from mapix.progress import Progress, shown
from mapix.source import read_small
from mapix.vimh.audio_dataset import place_of
from mapix.vimh.parameters import Parameter
from mapix.vimh.synthesiser import HOP, SAMPLE_RATE, SETTINGS, Sounds, bands, in_bytes, render
from mapix.vimh.writer import TRAIN_SHARE, Writer

__all__ = ["synth"]

WHAT = "configuration"
CONFIG_NBYTES = 1 << 20  # a larger one is refused
BLOCK_RECORDS = 256  # rendered at once, of images up to 64 x 64
BLOCK_PIXELS = BLOCK_RECORDS * 64 * 64
MOST_PIXELS = 1 << 24  # of an image
MOST_CLASSES = 1 << 16
DEFAULTS: dict[str, Any] = {
    "n_samples": 1000,
    "seed": 0,
    "train_share": TRAIN_SHARE,
    "height": 64,
    "width": 64,
    "channels": 1,
    "parameters": {"note_number": {"min": 36, "max": 96, "step": 1}},
}


def synth(
    config: Mapping[str, Any] | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    progress: Progress | bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Write a VIMH dataset of synthetic sounds, in bounded memory.

    Parameters
    ----------
    config : mapping, str or os.PathLike
        A JSON file or its content.  ``n_samples``, ``seed``, ``train_share`` (of the first
        records), ``height``, ``width`` (of 1/64 s each), ``channels`` (1, or 3 windows), and
        ``parameters``: name -> a number for all sounds, or ``{"min":, "max":, "step":}``, from
        which each sound draws one of the values; without a step any number of the range.
        ``mapix.vimh.synthesiser.SETTINGS`` has the names; those that are not given are fixed.
    path : str or os.PathLike
        The dataset directory, which must not exist yet; or an existing directory, which gets one
        that is named as the original names its own.
    progress : callable or True, optional
        ``progress(records_done, records)``; True shows a bar.
    options : mapping, optional
        Of ``mapix.vimh.Writer``: ``output``, ``index``, ``dialect``.

    Returns
    -------
    str
        Path of the dataset.

    Raises
    ------
    FormatError
        The file is not JSON.
    ValueError
        A key is not known, or its value does not fit.

    Notes
    -----
    The same configuration makes the same bytes, on one machine and with one version of numpy:
    other ones may round logarithms differently.
    """
    given = _read(config)
    made = {**DEFAULTS, **given}
    _check(made)
    n, (h, w, c) = made["n_samples"], (made[k] for k in ("height", "width", "channels"))
    varying, fixed = _parameters(made["parameters"])
    report = shown(progress, "synthesising", "sounds")
    duration = w * HOP
    target = os.fspath(path)
    if os.path.isdir(path):
        more = {"n": n, "synth": "saw", "parameters": len(varying)}
        target = place_of(path, (h, w, c), SAMPLE_RATE, duration, **more)
    ntrain = int(made["train_share"] * n)
    step = max(1, min(BLOCK_RECORDS, BLOCK_PIXELS // (h * w * c)))
    with Writer(
        target, varying, fixed=fixed, info=_info(made, duration), **dict(options or {})
    ) as out:
        for block, at in enumerate(range(0, n, step)):
            count = min(step, n - at)
            rng = np.random.default_rng([made["seed"], block])
            values = {p.name: _drawn(p, count, rng, made["parameters"]) for p in varying}
            sounds = Sounds(*({**fixed, **values}[name] for name in SETTINGS))
            images, ranges = in_bytes(render(sounds, h, w, c, rng))
            codes = {p.name: p.quantise(values[p.name]) for p in varying}
            border = min(max(ntrain - at, 0), count)
            for split, rows in ("train", slice(border)), ("test", slice(border, count)):
                some = {name: column[rows] for name, column in codes.items()}
                out.extend(images[rows], codes=some, spec_range=ranges[rows], split=split)
            if report is not None:
                report(at + count, n)
    return target


def _read(config: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    path = os.fspath(config)
    try:
        found = json.loads(read_small(path, CONFIG_NBYTES))
    except (ValueError, RecursionError) as e:
        raise FormatError(path, WHAT, str(e)) from e
    if not isinstance(found, dict):
        raise FormatError(path, WHAT, f"expected an object, got {type(found).__name__}")
    return found


def _check(made: Mapping[str, Any]) -> None:
    unknown = sorted(set(made) - set(DEFAULTS))
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; a configuration has {', '.join(DEFAULTS)}")
    limits = {"n_samples": (1, 1 << 40), "seed": (0, 1 << 63), "height": (1, 65535)}
    for name, (least, most) in {**limits, "width": (1, 65535), "channels": (1, 3)}.items():
        if type(made[name]) is not int or not least <= made[name] <= most:
            raise ValueError(f"{name} must be an integer in {least}..{most}, got {made[name]!r}")
    if made["channels"] == 2 or made["height"] * made["width"] * made["channels"] > MOST_PIXELS:
        raise ValueError(f"channels must be 1 or 3, and an image at most {MOST_PIXELS} bytes")
    share = made["train_share"]
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"train_share must be in 0..1, got {share!r}")
    if not isinstance(made["parameters"], Mapping):
        raise ValueError("parameters must be an object: name -> number, or min, max and step")


def _parameters(given: Mapping[str, Any]) -> tuple[list[Parameter], dict[str, float]]:
    """Return the parameters that vary, in the order of the configuration, and the fixed ones."""
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise ValueError(f"unknown parameter {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    varying: list[Parameter] = []
    fixed = {name: float(s.default) for name, s in SETTINGS.items() if name not in given}
    for name, value in given.items():
        setting = SETTINGS[name]
        entry = value if isinstance(value, Mapping) else {"min": value, "max": value}
        if not {"min", "max"} <= set(entry) <= {"min", "max", "step"}:
            raise ValueError(f"{name} must be a number, or have min, max and perhaps step")
        numbers = {key: _number(name, key, number) for key, number in entry.items()}
        low, high = numbers["min"], numbers["max"]
        if not setting.least <= low <= high <= setting.most:
            raise ValueError(
                f"{name} must be in {setting.least}..{setting.most}, min not above max: got "
                f"{low:g}..{high:g}"
            )
        if low == high:
            fixed[name] = low
            continue
        step = numbers.get("step", (high - low) / 255)
        if not (high - low) / MOST_CLASSES < step <= high - low:
            raise ValueError(f"{name}: step must be above 0 and at most max - min, got {step:g}")
        classes = round((high - low) / step) + 1
        text = setting.description
        varying.append(Parameter(name, len(varying), low, high, step, classes, description=text))
    return varying, fixed


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: {key} must be a number, got {value!r}")
    return float(value)


def _drawn(p: Parameter, n: int, rng: np.random.Generator, given: Mapping[str, Any]) -> Any:
    """Return values of a parameter: of its steps, or of the range if the configuration has none."""
    if "step" not in given[p.name]:
        return rng.uniform(p.min, p.max, n)
    return np.minimum(p.min + rng.integers(0, p.num_classes, n) * p.step, p.max)


def _info(made: Mapping[str, Any], duration: float) -> dict[str, Any]:
    h, centres = made["height"], bands(made["height"])
    return {
        "sample_rate": SAMPLE_RATE,
        "duration": duration,
        "synth_type": "additive_saw",
        "spectrogram_config": {
            "sample_rate": SAMPLE_RATE,
            "type": "log",
            "hop_length": int(HOP * SAMPLE_RATE),
            "n_bins": h,
            "method": "synthesised",
        },
        "mel_config": {
            "freq_min": float(centres[0]),
            "freq_max_ratio": float(centres[-1] / (SAMPLE_RATE / 2)),
        },
        "generation_info": {"by": "mapix.vimh.synth", "config": dict(made)},
    }
