"""``mapix show``: records as pictures, in the terminal or in a file."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any

from mapix.commands.arguments import add_paths, add_records, natural, opened
from mapix.commands.output import CommandError, UsageError

__all__ = ["add"]

DESCRIPTION = """Draw records side by side with their numbers and labels; of an archive all its
segments in their image, of a SOM its neurons at their places (--range shows single ones). Into a
file .png, or in the terminal: as a picture where it takes pictures (kitty's protocol), else by half
blocks of 24-bit colour, or of 256 colours."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_records(parser)
    parser.add_argument("-n", "--number", type=natural, default=16, help="of records (16)")
    parser.add_argument("--size", type=natural, help="pixels of a record's longer side")
    parser.add_argument("--across", type=natural, metavar="N", help="records side by side")
    parser.add_argument("-o", dest="out", metavar="FILE.png", help="a new file")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    target = arguments.out
    if target is not None and not target.endswith(".png"):
        raise UsageError(f"{target}: pictures are written as .png")
    pictures = target is not None or takes_pictures()
    with opened(arguments) as ds:
        drawn = _drawn(arguments, ds, pictures)
    if target is None:
        sys.stdout.write(in_terminal(drawn))
        return
    from mapix.drawing import png
    from mapix.store import NewWhole

    with NewWhole(target) as out:
        out.write(png(drawn))


def _drawn(arguments: argparse.Namespace, ds: Any, pictures: bool) -> Any:
    """Return what is shown, uint8 (h, w, 3)."""
    import numpy as np

    from mapix.commands.records import captions
    from mapix.drawing import contact_sheet

    everything = arguments.where is arguments.range is arguments.sort is None
    if everything and (overview := ds._overview()) is not None:
        return overview[0]
    wide = shutil.get_terminal_size().columns
    size = arguments.size or (128 if pictures else max(8, min(32, wide // 4 - 1)))
    n = min(arguments.number, len(ds))
    found = [ds._drawing(row, size) for row in ds._rows_of(np.arange(n)).tolist()]
    known = [i for i, picture in enumerate(found) if picture is not None]
    if not known:
        raise CommandError(f"{ds.path}: no {ds.RECORDS} with anything to draw")
    images = [found[i] for i in known]
    if pictures:
        return contact_sheet(images, arguments.across, captions(ds, known), gap=8)
    across = arguments.across or max(1, wide // (max(i.shape[1] for i in images) + 1))
    return contact_sheet(images, across, gap=1)


def takes_pictures() -> bool:
    """Return whether stdout is a terminal with kitty's protocol, by what it says of itself."""
    if not sys.stdout.isatty() or os.environ.get("TMUX"):
        return False
    known = ("KITTY_WINDOW_ID", "GHOSTTY_RESOURCES_DIR")
    return any(map(os.environ.get, known)) or os.environ.get("TERM") == "xterm-kitty"


def in_terminal(drawn: Any) -> str:
    """Return a picture, uint8 (h, w, 3), as text for this terminal."""
    from mapix.drawing import half_blocks, png

    if takes_pictures():
        return kitty(png(drawn))
    text = half_blocks(drawn, shutil.get_terminal_size().columns)
    if os.environ.get("COLORTERM") in ("truecolor", "24bit") or not sys.stdout.isatty():
        return text
    return with_256_colours(text)


def kitty(data: bytes) -> str:
    """Return a PNG file in kitty's graphics protocol, in pieces of 4096 characters."""
    import base64

    text = base64.b64encode(data).decode()
    pieces = [text[at : at + 4096] for at in range(0, len(text), 4096)]
    found = []
    for k, piece in enumerate(pieces):
        head = "a=T,f=100," if k == 0 else ""
        found.append(f"\x1b_G{head}m={int(k + 1 < len(pieces))};{piece}\x1b\\")
    return "".join(found) + "\n"


def with_256_colours(text: str) -> str:
    """Return text whose 24-bit colours are the nearest of the 6 x 6 x 6 cube of 256 colours."""
    import re

    def nearest(found: re.Match[str]) -> str:
        steps = [
            0 if v < 48 else 1 if v < 115 else (v - 35) // 40 for v in map(int, found.groups()[1:])
        ]
        return f"{found[1]}8;5;{16 + 36 * steps[0] + 6 * steps[1] + steps[2]}"

    return re.sub(r"([34])8;2;(\d+);(\d+);(\d+)", nearest, text)
