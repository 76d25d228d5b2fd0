"""``mapix columns``: what is known of each column."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.columns import facts_of
from mapix.commands.arguments import add_paths, add_records, opened
from mapix.commands.output import Table, add_output, emit
from mapix.errors import MapixError, UnsupportedError

__all__ = ["add"]

HEADS = (
    *("name", "label", "type", "values", "missing", "low", "high"),
    *("unit", "description", "problem"),
)


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_records(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with opened(arguments) as ds:
        labels = set(ds._label_names())
        found = []
        for name in ds.columns:
            try:
                found.append(facts_of(ds.columns[name]) | {"label": name in labels})
            except UnsupportedError:
                raise
            except (MapixError, OSError) as e:  # of a file that a record names
                found.append({"name": name, "label": name in labels, "problem": str(e)})
    used = [head for head in HEADS if any(entry.get(head) not in (None, "") for entry in found)]
    rows = [[entry.get(head) for head in used] for entry in found]
    emit(arguments, found, Table(used, rows) if found else "no columns")
