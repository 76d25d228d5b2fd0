"""``mapix columns``: what is known of each column."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.columns import FACTS, facts_of_all
from mapix.commands.arguments import add_paths, add_records, opened
from mapix.commands.output import Table, add_output, emit

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_records(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with opened(arguments) as ds:
        found = facts_of_all(ds.columns, ds._label_names())
    used = [head for head in FACTS if any(entry.get(head) not in (None, "") for entry in found)]
    rows = [[entry.get(head) for head in used] for entry in found]
    emit(arguments, found, Table(used, rows) if found else "no columns")
