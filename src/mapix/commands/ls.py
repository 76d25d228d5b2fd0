"""``mapix ls``: list records."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mapix.commands.arguments import add_paths, add_records, natural, opened
from mapix.commands.output import add_output, emit

__all__ = ["add", "print_listing"]

MOST = 40  # records, where no number is given


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_records(parser)
    parser.add_argument("-n", "--number", type=natural, default=MOST, help="of records (40)")
    parser.add_argument("--columns", help='by default name and labels; "all", or NAME,NAME')
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with opened(arguments) as ds:
        default = [*ds.NAMES, *ds._label_names()]
        names = [name for name in dict.fromkeys(default) if name in ds.columns]
        print_listing(arguments, ds, names, pixels=False)


def print_listing(
    arguments: argparse.Namespace, ds: Any, default: list[str], *, pixels: bool
) -> None:
    """Print the first records of a part, and how to see the others."""
    import numpy as np

    from mapix.commands.records import chosen_names, listing, table_of

    n = min(arguments.number, len(ds))
    names = chosen_names(ds, arguments.columns, default)
    found = listing(ds, np.arange(n), names, pixels=pixels)
    emit(arguments, found, table_of(found) if found else f"{ds.path}: no {ds.RECORDS}")
    if n < len(ds):
        hint = f"-n {len(ds)} prints all"
        part = arguments.range or slice(0, None)
        if arguments.where is arguments.sort is None and (part.start or 0) >= 0 and not part.step:
            start = part.start or 0
            hint = f"--range {start + n}:{start + min(2 * n, len(ds))} prints the next"
        print(f"{n:,} of {len(ds):,} {ds.RECORDS}; {hint}", file=sys.stderr)
