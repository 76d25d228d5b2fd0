"""``mapix show``: records as pictures, in the terminal or in a file."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any

from mapix.commands import terminal
from mapix.commands.arguments import add_paths, add_records, natural, opened
from mapix.commands.output import CommandError, UsageError, write_picture

__all__ = ["add"]

DESCRIPTION = """Draw records side by side with their numbers and labels; of an archive all its
segments in their image, of a SOM its neurons at their places (--range shows single ones). Into a
file .png, or in the terminal: as a picture where it takes pictures (kitty's protocol, or sixel),
else by half blocks of 24-bit colour, or of 256 colours."""


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
    graphics = terminal.graphics() if target is None else None
    with opened(arguments) as ds:
        drawn = _drawn(arguments, ds, target is not None or graphics is not None)
    if target is None:
        sys.stdout.write(in_terminal(drawn, graphics))
        return
    write_picture(target, drawn)


def _drawn(arguments: argparse.Namespace, ds: Any, pictures: bool) -> Any:
    """Return what is shown, uint8 (h, w, 3)."""
    import numpy as np

    from mapix.drawing import contact_sheet
    from mapix.drawing.scaling import brightened
    from mapix.notebook import captions

    everything = arguments.where is arguments.range is arguments.sort is None
    if everything and (overview := ds._overview()) is not None:
        return overview[0]
    wide = shutil.get_terminal_size().columns
    size = arguments.size or (128 if pictures else max(8, min(32, wide // 4 - 1)))
    n = min(arguments.number, len(ds))
    found = brightened([ds._drawing(row, size) for row in ds._rows_of(np.arange(n)).tolist()])
    known = {i: picture for i, picture in enumerate(found) if picture is not None}
    if not known:
        why = ds._without_pixels() or f"no {ds.RECORDS} with pixels to draw; `mapix ls` lists them"
        raise CommandError(f"{ds.path}: {why if n else f'there are no {ds.RECORDS}'}")
    images = list(known.values())
    if pictures:
        indices = np.array(list(known))
        texts = captions(ds, indices, ds._rows_of(indices).tolist())
        return contact_sheet(images, arguments.across, texts, gap=8)
    across = arguments.across or max(1, wide // (max(i.shape[1] for i in images) + 1))
    return contact_sheet(images, across, gap=1)


def in_terminal(drawn: Any, graphics: str | None = None) -> str:
    """Return a picture, uint8 (h, w, 3), as text for this terminal: see ``terminal.graphics``."""
    from mapix.drawing import half_blocks, png

    if graphics == "kitty":
        return terminal.kitty(png(drawn))
    if graphics == "sixel":
        return terminal.sixel(drawn)
    text = half_blocks(drawn, shutil.get_terminal_size().columns)
    if os.environ.get("COLORTERM") in ("truecolor", "24bit") or not sys.stdout.isatty():
        return text
    return with_256_colours(text)


def with_256_colours(text: str) -> str:
    """Return text whose 24-bit colours are the nearest of the 6 x 6 x 6 cube of 256 colours."""
    import re

    def nearest(found: re.Match[str]) -> str:
        steps = [
            0 if v < 48 else 1 if v < 115 else (v - 35) // 40 for v in map(int, found.groups()[1:])
        ]
        return f"{found[1]}8;5;{16 + 36 * steps[0] + 6 * steps[1] + steps[2]}"

    return re.sub(r"([34])8;2;(\d+);(\d+);(\d+)", nearest, text)
