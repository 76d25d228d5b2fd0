"""``mapix iid from-labels``: a label map as an archive."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mapix.commands.output import UsageError, emit
from mapix.text import counted

__all__ = ["add"]

DESCRIPTION = """Write a label map, of one number per pixel, as an archive. Each number except 0
becomes a segment, which is named by the number."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("file", metavar="FILE", help=".png, .tif or .npy")
    parser.add_argument("-o", dest="out", metavar="NAME.iid", required=True, help="a new archive")
    parser.add_argument("--domain", help="of the segments (default: the name of FILE)")
    parser.add_argument("--background", type=int, default=0, help="number without a segment (0)")
    parser.add_argument(
        "--rgb", action="store_true", help="three channels are one number, as in panoptic files"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.label_files import read_labels
    from mapix.iid.label_maps import add_label_map
    from mapix.iid.writer import Writer

    target, arguments.out = arguments.out, None
    if not target.endswith(".iid"):
        raise UsageError(f"{target}: the name has to end in .iid")
    labels = read_labels(arguments.file, rgb=arguments.rgb)
    h, w = labels.shape
    domain = arguments.domain or os.path.splitext(os.path.basename(arguments.file))[0]
    with Writer(target, {"image": {"height": h, "width": w}}) as out:
        keys = add_label_map(out, labels, domain, background=arguments.background)
    facts = {"path": target, "shape": [h, w], "segments": len(keys)}
    emit(arguments, facts, f"{target}: {h} x {w}, {counted(len(keys), 'segment')}")
