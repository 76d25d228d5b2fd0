"""``mapix diff``: compare two datasets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mapix.commands.arguments import add_opening, opened_splits
from mapix.commands.output import CommandError, add_output, emit, progress
from mapix.commands.status import BAD_DATA, GOOD
from mapix.text import counted

__all__ = ["add"]

DESCRIPTION = """Compare two datasets, of any formats: records, columns (labels, groups, boxes), and
pixels. Records are paired by name where both name them, else by number. Exit status: 0 when they
are equal, 1 when they differ."""
SHOWN = 8  # records that are listed


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("paths", metavar="PATH", nargs=2)
    add_opening(parser)
    parser.add_argument("--no-pixels", action="store_true", help="compare columns alone")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from mapix.difference import difference

    first, second = arguments.paths
    facts: list[dict[str, Any]] = []
    lines: list[str] = []
    with (
        opened_splits(arguments, [first]) as ours,
        opened_splits(arguments, [second]) as theirs,
        progress(f"comparing {first} and {second}") as show,
    ):
        for path, mine, other in ((first, ours, theirs), (second, theirs, ours)):
            if None in mine and len(other) > 1:
                _keep_filled(path, other)
        if len(ours) == len(theirs) == 1:  # a file may be compared with the only split of another
            theirs = {next(iter(ours)): next(iter(theirs.values()))}
        for split in dict.fromkeys([*ours, *theirs]):
            if split not in ours or split not in theirs:
                where = first if split in ours else second
                facts.append({"equal": False, "split": split, "only_in": where})
                lines.append(f"split {split}: only in {where}")
                continue
            a, b = ours[split], theirs[split]
            found = difference(a, b, pixels=not arguments.no_pixels, progress=show)
            sizes = [{"path": ds.path, "records": len(ds)} for ds in (a, b)]
            facts.append({"equal": found.equal, "split": split, "datasets": sizes, **vars(found)})
            lines += _lines(found, a, b)
    equal = all(entry["equal"] for entry in facts)
    emit(arguments, facts[0] if len(facts) == 1 else facts, *lines)
    return GOOD if equal else BAD_DATA


def _keep_filled(path: str, other: dict[str | None, Any]) -> None:
    """Leave of splits, which are compared with a dataset without any, the one with records.

    Raises
    ------
    CommandError
        Several have records.
    """
    filled = [name for name, ds in other.items() if len(ds)] or list(other)[:1]
    if len(filled) > 1:
        raise CommandError(
            f"{path} has no splits, the other one has {', '.join(map(str, filled))}: compare it "
            "with the files of one split"
        )
    for name in set(other) - set(filled):
        del other[name]


def _lines(found: Any, a: Any, b: Any) -> list[str]:
    """Return a line for each difference of two datasets."""
    lines = [f"{ds.path}: {counted(len(ds), ds.RECORDS)}" for ds in (a, b)]
    unit = a.RECORDS
    if found.equal:
        return [*lines, "  equal"]
    for which, alone in (("first", found.only_first), ("second", found.only_second)):
        if alone:
            lines.append(f"  {len(alone):,} only in the {which}: {_some(alone)}")
    for which, names in (("first", found.columns_first), ("second", found.columns_second)):
        if names:
            lines.append(f"  columns only in the {which}: {', '.join(names)}")
    for name, records in found.columns.items():
        most = found.rounded.get(name)
        why = "" if most is None else f", by no more than the step of its storage, {most:.3g}"
        lines.append(f"  {name} differs in {counted(len(records), unit)}{why}: {_some(records)}")
    for what, records in (("shapes", found.shapes), ("types", found.types)):
        if records:
            n = counted(len(records), unit)
            lines.append(f"  {what} differ in {n}: {_some(records)}")
    if found.pixels:
        most = f", by at most {found.largest:.6g}" if found.largest else ""
        n = counted(len(found.pixels), unit)
        lines.append(f"  pixels differ in {n}{most}: {_some(found.pixels)}")
    return lines


def _some(records: Sequence[int]) -> str:
    more = ", ..." if len(records) > SHOWN else ""
    return ", ".join(map(str, records[:SHOWN])) + more
