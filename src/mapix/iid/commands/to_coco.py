"""``mapix iid to-coco``: archives as a COCO file."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_new, new_file
from mapix.commands.output import emit, progress
from mapix.text import counted

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("path", metavar="PATH", help="an archive, or a directory of archives")
    add_new(parser, "the JSON file to write", "FILE")
    parser.add_argument(
        "--segmentation",
        choices=("rle", "counts", "polygons"),
        default="rle",
        help="masks as compressed run lengths, as numbers, or as outlines (default: rle)",
    )
    parser.add_argument(
        "--categories", nargs="+", metavar="GROUP", help="groups that are categories (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.coco_writing import to_coco
    from mapix.registry import open_dataset

    target = new_file(arguments)
    with progress(f"writing {target}") as show:
        to_coco(
            arguments.path,
            target,
            segmentation=arguments.segmentation,
            categories=arguments.categories,
            progress=show,
        )
    with open_dataset(target, format="coco") as made:
        images, segments = len(made), len(made.annotations)
    facts = {"path": target, "images": images, "segments": segments}
    text = f"{target}: {counted(images, 'image')}, {counted(segments, 'segment')}"
    emit(arguments, facts, text)
