"""``mapix head``: the first records, with their pixels' ranges and all columns."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths, add_records, natural, opened
from mapix.commands.ls import print_listing
from mapix.commands.output import add_output

__all__ = ["add"]

FIRST = 5


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_records(parser)
    parser.add_argument("-n", "--number", type=natural, default=FIRST, help="of records (5)")
    parser.add_argument("--columns", help="by default all; or NAME,NAME")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with opened(arguments) as ds:
        print_listing(arguments, ds, list(ds.columns), pixels=True)
