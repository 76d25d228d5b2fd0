"""``mapix iid at``: the segments that have a pixel."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_opening
from mapix.commands.output import UsageError, add_output
from mapix.iid.commands.segments import emit_segments, opened_archive

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="several are read as one")
    parser.add_argument("x", metavar="X", type=int, help="column of the pixel")
    parser.add_argument("y", metavar="Y", type=int, help="row of the pixel")
    add_opening(parser)
    parser.add_argument("--box", action="store_true", help="segments whose box has the pixel")
    parser.add_argument("--topmost", action="store_true", help="only the one that paint shows")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with opened_archive(arguments) as archive:
        height, width = archive.shape
        if height and not (0 <= arguments.x < width and 0 <= arguments.y < height):
            raise UsageError(
                f"{archive.path}: the image is {width} pixels wide and {height} high, X "
                f"{arguments.x} and Y {arguments.y} are outside of it"
            )
        keys = archive.at(arguments.x, arguments.y, exact=not arguments.box)
        emit_segments(arguments, archive, keys[-1:] if arguments.topmost else keys)
