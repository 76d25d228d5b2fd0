"""``mapix convert SOURCE TARGET``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mapix import conversion

__all__ = ["add"]

# Options of targets, by the name that they have there
_OPTIONS: dict[str, dict[str, Any]] = {
    "dialect": {"type": int, "choices": (14, 6), "help": "VIMH: bytes of the record header"},
    "output": {"choices": ("binary", "pickle", "both"), "help": "VIMH: which files"},
    "byteorder": {"choices": ("big", "little"), "help": "IDX"},
    "label": {"help": "IDX: the label to write; none for none"},
    "unit": {"choices": ("class", "raw"), "help": "IDX: class numbers, or codes"},
    "encoding": {"choices": ("raw", "png"), "help": "tables: of the images"},
}
_MEANT = {"big": ">", "little": "<", "none": False}


def add(commands: Any) -> None:
    """Add ``convert`` to the program's commands."""
    parser = commands.add_parser("convert", help="write a dataset in another format")
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET", help="a new file or directory")
    parser.add_argument("--to", choices=conversion.NAMES, help="by default what TARGET ends with")
    parser.add_argument("--split", help="the only one to convert")
    parser.add_argument("--axes", choices=("HW", "HWC", "CHW"), help="of IDX rows")
    parser.add_argument("--size", help="of an image folder's pictures: HEIGHTxWIDTH")
    parser.add_argument("--fit", help="how they get there: resize, letterbox, cover, pad or crop")
    parser.add_argument("--mode", help="what they become: L, LA, RGB or RGBA")
    parser.add_argument("--threads", type=int, help="threads that decode them")
    parser.add_argument(
        "--lossy", action="store_true", help="go on when something is lost, and say what"
    )
    for name, how in _OPTIONS.items():
        parser.add_argument(f"--{name}", **how)
    parser.set_defaults(run=_convert)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{done:,} of {total:,} records", end=end, file=sys.stderr, flush=True)


def _images(a: argparse.Namespace) -> dict[str, Any]:
    """Options of an image folder's ``batch``."""
    given = {name: getattr(a, name) for name in ("fit", "mode", "threads", "size")}
    if a.size is not None:
        height, _, width = a.size.partition("x")
        if not (height.isdigit() and width.isdigit()):
            raise ValueError(f"--size of HEIGHTxWIDTH expected, got {a.size!r}")
        given["size"] = (int(height), int(width))
    return {name: value for name, value in given.items() if value is not None}


def _convert(a: argparse.Namespace) -> None:
    given: dict[str, Any] = {}
    for name in _OPTIONS:
        value = getattr(a, name)
        if value is not None:
            given[name] = _MEANT.get(value, value)
    made = conversion.convert(
        a.source,
        a.target,
        to=a.to,
        split=a.split,
        lossy=a.lossy,
        axes=a.axes,
        images=_images(a),
        progress=_progress,
        **given,
    )
    print(made)
