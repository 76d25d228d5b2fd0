"""``mapix vimh ...``: the tools as commands."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.output import emit, progress
from mapix.registry import open_dataset
from mapix.text import counted_splits
from mapix.vimh.audio_dataset import from_audio
from mapix.vimh.spectrogram import CHANNELS, TYPES, WINDOWS, Spectrogram
from mapix.vimh.synthesis import synth

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``vimh`` and its tools to the program's commands."""
    below = commands.add_parser("vimh").add_subparsers(dest="tool", required=True, metavar="TOOL")
    _add_audio(below.add_parser("from-audio", help="spectrograms of a folder of sounds"))
    _add_synth(below.add_parser("synth", help="spectrograms of a synthesiser's sounds"))


def _add_audio(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write a VIMH dataset of the spectrograms of a folder of sounds."
    parser.add_argument("folder", metavar="FOLDER", help="WAV files; others with soundfile")
    parser.add_argument(
        "--parameters",
        required=True,
        metavar="FILE",
        help="CSV or JSONL: file_name, labels, and perhaps split",
    )
    _add_out(parser)
    parser.add_argument("--sample-rate", type=int, metavar="HZ", help="resamples (with scipy)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="cut, or fill sounds")
    parser.add_argument(
        "--channels",
        type=lambda text: text.split(","),
        default=["mono"],
        metavar="NAMES",
        help=f"with commas between: {', '.join(CHANNELS)}",
    )
    parser.add_argument(
        "--range",
        action="append",
        default=[],
        type=_range,
        metavar="NAME=MIN:MAX:STEP",
        help="of a parameter, by default that of its values; more than once",
    )
    parser.add_argument("--train-share", type=float, default=0.8, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=0, help="draws the sounds for training")
    parser.add_argument(
        "--in-order", action="store_true", help="the first sounds are for training, as originally"
    )
    parser.add_argument("--output", choices=("binary", "pickle", "both"), default="binary")
    defaults: Any = Spectrogram(44100)
    choices = {"type": TYPES, "window_type": WINDOWS}
    for name in Spectrogram.names():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(getattr(defaults, name)),
            choices=choices.get(name),
            metavar=None if name in choices else "N",
        )
    parser.set_defaults(run=_from_audio)


def _add_synth(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write a VIMH dataset of a small synthesiser's sounds."
    parser.add_argument("config", metavar="CONFIG", help="JSON: n_samples, seed, parameters ...")
    _add_out(parser)
    parser.add_argument("--output", choices=("binary", "pickle", "both"), default="binary")
    parser.set_defaults(run=_synth)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *("-o", "--out"),
        dest="target",
        required=True,
        metavar="OUT",
        help="a new directory; an existing one gets one with the original's name",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(out=None)


def _range(text: str) -> tuple[str, tuple[float, ...]]:
    name, _, numbers = text.rpartition("=")
    try:
        found = tuple(map(float, numbers.split(":")))
    except ValueError:
        found = ()
    if not name or len(found) != 3:
        raise argparse.ArgumentTypeError(f"NAME=MIN:MAX:STEP expected, got {text!r}")
    return name, found


def _from_audio(a: argparse.Namespace) -> None:
    given = {name: getattr(a, name) for name in Spectrogram.names()}
    with progress(f"transforming {a.folder}") as shown:
        path = from_audio(
            a.folder,
            a.target,
            a.parameters,
            sample_rate=a.sample_rate,
            duration=a.duration,
            channels=a.channels,
            ranges=dict(a.range),
            train_share=a.train_share,
            seed=None if a.in_order else a.seed,
            options={"output": a.output},
            progress=shown,
            **{name: value for name, value in given.items() if value is not None},
        )
    _report(a, path)


def _synth(a: argparse.Namespace) -> None:
    with progress(f"synthesising {a.config}") as shown:
        path = synth(a.config, a.target, options={"output": a.output}, progress=shown)
    _report(a, path)


def _report(a: argparse.Namespace, path: str) -> None:
    """Print what was written."""
    with open_dataset(path, format="vimh") as ds:
        records = {name: ds.info[f"{name}_samples"] for name in ds.splits}
    emit(a, {"path": path, "records": records}, f"{path}: {counted_splits(records)}")
