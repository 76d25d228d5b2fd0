"""``mapix iid overlay``: segments over their image."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths
from mapix.commands.output import UsageError, write_picture
from mapix.iid.commands.segments import add_choice, box_of, chosen_keys, opened_archive

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_choice(parser)
    parser.add_argument("--image", metavar="FILE", help="that was segmented: a picture or .npy")
    parser.add_argument("--bbox", type=box_of, metavar="MINR,MINC,MAXR,MAXC", help="a window")
    parser.add_argument("--opacity", type=float, default=0.45, help="of the segments, 0 to 1")
    parser.add_argument("-o", dest="out", metavar="FILE.png", required=True, help="a new picture")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.overlay import overlay

    if not arguments.out.endswith(".png"):
        raise UsageError(f"{arguments.out}: pictures are written as .png")
    if not 0 <= arguments.opacity <= 1:
        raise UsageError(f"--opacity has to be 0 to 1, got {arguments.opacity}")
    with opened_archive(arguments) as archive:
        keys = chosen_keys(archive, arguments)
        image = None if arguments.image is None else _image(arguments.image)
        drawn = overlay(archive, image, keys, bbox=arguments.bbox, opacity=arguments.opacity)
    write_picture(arguments.out, drawn)


def _image(path: str) -> Any:
    import numpy as np

    from mapix.registry import open_dataset
    from mapix.viewer.companions import picture

    if path.endswith(".npy"):
        return np.array(open_dataset(path, format="npy"))
    found = picture(path)
    return found[..., :1] if found.shape[2] == 2 else found  # of grey and alpha grey alone
