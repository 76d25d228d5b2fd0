"""``mapix iid from-coco``: a COCO file as archives, one for each image."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from mapix.commands.output import emit, progress

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
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.coco_reading import from_coco

    target, arguments.out = arguments.out, None
    with progress(f"writing {target}") as show:
        found = from_coco(
            arguments.file,
            target,
            masks=arguments.masks,
            attributes=not arguments.no_attributes,
            progress=show,
        )
    emit(arguments, {"path": target, **asdict(found)}, f"{target}: {found}")
