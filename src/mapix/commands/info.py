"""``mapix info``: the facts about files and datasets."""

from __future__ import annotations

import argparse
import os
import shlex
from itertools import islice
from typing import Any

from mapix import registry
from mapix.commands.arguments import add_paths, each_opened, opening
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
    for path in arguments.paths:
        alone = argparse.Namespace(**{**vars(arguments), "paths": [path]})
        try:
            for ds in each_opened(alone):
                others = _datasets_in(path, ds)
                found.append(_with_others(facts(ds), others))
        except (MapixError, ValueError):  # a directory of several datasets is not one itself
            others = [] if opening(arguments) else _datasets_in(path)
            if not others:
                raise
            found.append({"path": path, "datasets_here": others})
        parts += ["", found[-1]]
        if others:
            some = f"the first {MOST_OTHERS} are listed; " if len(others) == MOST_OTHERS else ""
            parts += ["", f"  {some}to open one: mapix info {shlex.quote(others[0]['path'])}"]
    emit(arguments, found[0] if len(found) == 1 else found, *parts[1:])


def _datasets_in(path: str, ds: Any = None) -> list[dict[str, str]]:
    """Return the datasets in a directory of other formats than ``ds``: annotations of pictures."""
    if not os.path.isdir(path):
        return []
    own = (None, None) if ds is None else (ds.path, ds.FAMILY)  # not its metadata.parquet
    found = (
        one for one in registry.datasets_in(path) if one[0] != own[0] and one[1].name != own[1]
    )
    return [
        {"path": path, "format": one.name, "holds": one.title}
        for path, one in islice(found, MOST_OTHERS)
    ]


def _with_others(shown: dict[str, Any], others: list[dict[str, str]]) -> dict[str, Any]:
    """Return facts with the other datasets of the directory, before the columns."""
    if not others:
        return shown
    last = ("columns", "first_records")
    front = {name: value for name, value in shown.items() if name not in last}
    return {**front, "also_here": others, **{k: shown[k] for k in last if k in shown}}


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
