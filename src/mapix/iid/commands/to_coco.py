"""``mapix iid to-coco``: archives as a COCO file."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("path", metavar="PATH", help="an archive, or a directory of archives")
    parser.add_argument("file", metavar="FILE", help="the JSON file to write")
    parser.add_argument(
        "--segmentation",
        choices=("rle", "counts", "polygons"),
        default="rle",
        help="masks as compressed run lengths, as numbers, or as outlines (default: rle)",
    )
    parser.add_argument(
        "--categories", nargs="+", metavar="GROUP", help="groups that are categories (default: all)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.coco_writing import to_coco

    to_coco(
        arguments.path,
        arguments.file,
        segmentation=arguments.segmentation,
        categories=arguments.categories,
    )
