"""``mapix convert SOURCE TARGET``."""

from __future__ import annotations

import argparse
from typing import Any

from mapix import conversion, registry
from mapix.text import percent

__all__ = ["add"]

_VALUES = {"big": ">", "little": "<", "none": False}


def add(commands: Any) -> None:
    """Add ``convert`` to the program's commands."""
    classes = dict(conversion.target_classes())
    parser = commands.add_parser("convert")
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET", help="a new file or directory")
    parser.add_argument("--to", choices=classes, help="by default by the ending of TARGET")
    parser.add_argument("--split", help="the only one to convert")
    parser.add_argument("--axes", choices=("HW", "HWC", "CHW"), help="dimensions of a row of IDX")
    parser.add_argument("--size", help="HEIGHTxWIDTH of the images of an image folder")
    parser.add_argument("--fit", help="how: resize, letterbox, cover, pad or crop")
    parser.add_argument("--mode", help="channels: L, LA, RGB or RGBA")
    parser.add_argument("--threads", type=int, help="threads that decode images")
    parser.add_argument(
        "--lossy", action="store_true", help="go on when something is lost, and report it"
    )
    options: dict[str, Any] = {}
    for where in classes.values():
        options |= registry.resolved(where).arguments
    for name, how in options.items():
        parser.add_argument(f"--{name}", **how)
    parser.set_defaults(run=_convert, options=tuple(options))


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
    for name in a.options:
        value = getattr(a, name)
        if value is not None:
            given[name] = _VALUES.get(value, value)
    made = conversion.convert(
        a.source,
        a.target,
        to=a.to,
        split=a.split,
        lossy=a.lossy,
        axes=a.axes,
        images=_images(a),
        progress=percent,
        **given,
    )
    print(made)
