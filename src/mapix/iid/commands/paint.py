"""``mapix iid paint``: a label map as a file."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths
from mapix.commands.output import UsageError, emit, progress
from mapix.iid.commands.segments import add_choice, chosen_keys, opened_archive
from mapix.text import counted

__all__ = ["add"]

ENDINGS = (".npy", ".tif", ".tiff", ".png")
DESCRIPTION = """Write a label map, strip by strip: for each pixel key + 1 of the topmost segment, 0
without one; as .npy, .tif or .png, of 16 bits where all keys fit, else of 32."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_choice(parser)
    parser.add_argument(
        "--order", choices=("key", "area"), default="key", help="on top: highest key, or smallest"
    )
    parser.add_argument(
        "--rgb", action="store_true", help="of .png: in three channels, as COCO's panoptic files"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.add_argument("-o", dest="out", metavar="FILE", required=True, help="a new file")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.label_files import save_labels

    target, arguments.out = arguments.out, None
    if not target.endswith(ENDINGS):
        raise UsageError(
            f"{target}: the name has to end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    with opened_archive(arguments) as archive, progress(f"painting {archive.path}") as show:
        keys = chosen_keys(archive, arguments)
        how = {"order": arguments.order, "rgb": arguments.rgb}
        save_labels(archive, target, keys, progress=show, **how)
        h, w = archive.shape
    facts = {"path": target, "shape": [h, w], "segments": len(keys)}
    emit(arguments, facts, f"{target}: {h} x {w}, labels of {counted(len(keys), 'segment')}")
