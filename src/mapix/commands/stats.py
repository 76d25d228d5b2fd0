"""``mapix stats``: statistics of pixels and columns."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths, add_records, opened
from mapix.commands.output import Table, add_output, emit, progress
from mapix.text import counted

__all__ = ["add"]

COUNTS = ("pixels", "distinct", "missing")
MOST_VALUES = 256  # of a column whose counts are in the JSON


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    add_records(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    with opened(arguments) as ds, progress(f"reading {ds.path}") as show:
        found = ds.statistics(show)
        what = ds.RECORDS
    facts: dict[str, Any] = {"records": found.n, "channels": [], "columns": []}
    if found.pixels is not None:
        p = found.pixels
        facts["channels"] = [
            {"channel": k, "pixels": p.count[k], "low": p.min[k], "high": p.max[k]}
            | {"mean": p.mean[k], "std": p.std[k]}
            for k in range(len(p.count))
        ]
    facts["columns"] = [_column(s) for s in found.columns.values()]
    parts: list[Any] = [counted(found.n, what)]
    for title, key in (("pixels", "channels"), ("columns", "columns")):
        if facts[key]:
            heads = [name for name in facts[key][0] if name != "counts"]
            rows = [[_shown(name, entry[name]) for name in heads] for entry in facts[key]]
            parts += ["", Table(heads, rows, title)]
    emit(arguments, facts, *parts)


def _shown(name: str, value: Any) -> Any:
    return f"{value:,}" if name in COUNTS else value


def _column(s: Any) -> dict[str, Any]:
    facts = {"name": s.name, "distinct": len(s.unique), "missing": s.missing}
    facts |= {"low": s.min, "median": s.median, "high": s.max, "mean": s.mean, "std": s.std}
    if len(s.unique) <= MOST_VALUES:
        facts["counts"] = [
            {"value": value, "count": count}
            for value, count in zip(s.unique.tolist(), s.counts.tolist(), strict=True)
        ]
    return facts
