"""``mapix info``: the facts about files and datasets."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths, each_opened
from mapix.commands.output import add_output, emit
from mapix.errors import MapixError

__all__ = ["add", "facts"]

FIRST = 5  # records that are shown
MOST_RECORDS = 100_000  # of a dataset whose columns are read


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    found = [facts(ds) for ds in each_opened(arguments)]
    parts = [part for one in found for part in ("", one)][1:]
    emit(arguments, found[0] if len(found) == 1 else found, *parts)


def facts(ds: Any) -> dict[str, Any]:
    """Return ``ds.describe()``, with ranges of the columns and the first records.

    Columns are read for that, unless there are more than ``MOST_RECORDS`` records.
    """
    found: dict[str, Any] = ds.describe()
    columns = getattr(ds, "columns", {})
    if not columns or len(ds) > MOST_RECORDS:
        return found
    shown = {}
    for entry in found["columns"]:
        try:
            column = columns[entry["name"]]
            values = column.values[column.present]
        except (MapixError, OSError) as e:  # of a file that a record names
            entry["problem"] = str(e)
            continue
        shown[entry["name"]] = column
        entry["missing"] = len(column) - len(values) or None
        if column.numeric and len(values):
            entry |= {"min": values.min().item(), "max": values.max().item(), "unit": column.unit}
    found["first_records"] = [
        {"record": i} | {name: _cell(column, i) for name, column in shown.items()}
        for i in range(min(FIRST, len(ds)))
    ]
    return found


def _cell(column: Any, i: int) -> Any:
    value: Any = column.values[i] if column.present[i] else None
    return value.item() if hasattr(value, "item") and not value.ndim else value
