"""``mapix iid subset``: some segments as a new archive."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths
from mapix.commands.output import emit
from mapix.iid.commands.segments import add_choice, chosen_keys, opened_archive
from mapix.text import counted

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_choice(parser)
    parser.add_argument("-o", dest="out", metavar="FILE", required=True, help="a new archive")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.editing import subset

    target, arguments.out = arguments.out, None
    with opened_archive(arguments) as archive:
        keys = chosen_keys(archive, arguments)
        subset(archive, keys, target)
    n = len(keys)
    emit(arguments, {"path": target, "segments": n}, f"{target}: {counted(n, 'segment')}")
