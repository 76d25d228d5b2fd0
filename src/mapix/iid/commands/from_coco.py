"""``mapix iid from-coco``: a COCO file as archives, one for each image."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", help="the JSON file, also a panoptic one")
    parser.add_argument(
        "-o",
        dest="out",
        metavar="PATH",
        required=True,
        help="a new directory; or NAME.iid, for a file of one image",
    )
    parser.add_argument(
        "--masks", metavar="FOLDER", help="PNG files of a panoptic file (default: beside it)"
    )
    parser.add_argument(
        "--no-attributes", action="store_true", help="without what segments do not hold"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.coco_reading import from_coco

    found = from_coco(
        arguments.file,
        arguments.out,
        masks=arguments.masks,
        attributes=not arguments.no_attributes,
    )
    print(f"{arguments.out}: {found}")
