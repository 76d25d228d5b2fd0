"""``mapix iid paint``: a label map as a file."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths
from mapix.commands.output import CommandError, UsageError, emit
from mapix.iid.commands.segments import add_choice, box_of, chosen_keys, opened_archive

__all__ = ["add"]

MOST_LABELS = 65535  # of a PNG file of 16 bits
DESCRIPTION = """Write a label map: for each pixel key + 1 of the topmost segment, 0 without one; as
.npy, int32 (h, w), or .png of 16 bits. The pixels that segments lose are counted."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_choice(parser)
    parser.add_argument("--bbox", type=box_of, metavar="MINR,MINC,MAXR,MAXC", help="a window")
    parser.add_argument(
        "--order", choices=("key", "area"), default="key", help="on top: highest key, or smallest"
    )
    parser.add_argument("--json", action="store_true", help="print what is lost as JSON")
    parser.add_argument("-o", dest="out", metavar="FILE", required=True, help=".npy or .png")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import io

    import numpy as np

    from mapix.drawing import png
    from mapix.iid.label_maps import label_map
    from mapix.store import NewWhole

    target, arguments.out = arguments.out, None
    if not target.endswith((".npy", ".png")):
        raise UsageError(f"{target}: the name has to end in .npy or .png")
    with opened_archive(arguments) as archive:
        keys = chosen_keys(archive, arguments)
        found = label_map(archive, keys, arguments.bbox, order=arguments.order)
    if target.endswith(".npy"):
        out = io.BytesIO()
        np.save(out, found.labels)
        data = out.getvalue()
    else:
        most = int(found.labels.max(initial=0))
        if most > MOST_LABELS:
            raise CommandError(
                f"{target}: label {most}, a PNG file holds up to {MOST_LABELS}; name it .npy"
            )
        data = png(found.labels.astype(np.uint16))
    with NewWhole(target) as file:
        file.write(data)
    facts = {"path": target, "shape": found.labels.shape, "lost": found.lost, "gone": found.gone}
    h, w = found.labels.shape
    emit(arguments, facts, f"{target}: labels of {len(keys)} segments, {h} x {w}; {found}")
