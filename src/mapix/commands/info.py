"""``mapix info``: the facts about files and datasets."""

from __future__ import annotations

import argparse
import os
import shlex
from itertools import islice
from typing import Any

from mapix import registry
from mapix.commands.arguments import add_paths, each_opened
from mapix.commands.output import add_output, emit
from mapix.errors import MapixError

__all__ = ["add", "facts"]

FIRST = 5  # records that are shown
MOST_OTHERS = 20  # datasets of other formats in a directory that are listed
MOST_RECORDS = 100_000  # of a dataset whose columns are read


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    found: list[dict[str, Any]] = []
    parts: list[str | dict[str, Any]] = []
    for path, ds in zip(arguments.paths, each_opened(arguments), strict=True):
        shown = facts(ds)
        parts += ["", shown]
        if os.path.isdir(path) and (others := _others(path, ds)):
            shown["also_here"] = others
            parts += ["", f"  to open one: mapix info {shlex.quote(others[0]['path'])}"]
        found.append(shown)
    emit(arguments, found[0] if len(found) == 1 else found, *parts[1:])


def _others(folder: str, ds: Any) -> list[dict[str, str]]:
    """Return what a directory has that is of other formats: annotations beside pictures."""
    found = registry.datasets_in(folder)
    return [
        {"path": path, "format": one.name, "holds": one.title}
        for path, one in islice((f for f in found if f[1].name != ds.FAMILY), MOST_OTHERS)
    ]


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
            entry |= {"low": values.min().item(), "high": values.max().item(), "unit": column.unit}
    found["first_records"] = [
        {"record": i} | {name: _cell(column, i) for name, column in shown.items()}
        for i in range(min(FIRST, len(ds)))
    ]
    return found


def _cell(column: Any, i: int) -> Any:
    value: Any = column.values[i] if column.present[i] else None
    return value.item() if hasattr(value, "item") and not value.ndim else value
