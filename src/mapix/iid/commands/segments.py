"""Arguments and tables that several tools for archives share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mapix.commands.arguments import opening
from mapix.commands.output import CommandError, Table, UsageError, emit

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.argument_checks import Box, Keys

__all__ = ["add_choice", "box_of", "chosen_keys", "emit_segments", "opened_archive"]


@contextmanager
def opened_archive(arguments: argparse.Namespace) -> Iterator[Archive]:
    """Open the paths as one archive."""
    from mapix.registry import open_dataset

    paths = arguments.paths
    options = {**opening(arguments), "format": "iid"}
    with open_dataset(paths[0] if len(paths) == 1 else paths, **options) as archive:
        yield archive


def add_choice(parser: Any) -> None:
    """Add the options that choose segments."""
    parser.add_argument("--where", metavar="CONDITION", help='as "area > 100 and minr < 50"')
    parser.add_argument("--group", action="append", help="in this group; more than once: in any")
    parser.add_argument("--domain", action="append", help="in this domain; more than once: in any")
    parser.add_argument("--keys", metavar="KEY,KEY", help="these")


def chosen_keys(archive: Archive, arguments: argparse.Namespace) -> Keys:
    """Return the keys that the options of ``add_choice`` choose.

    Raises
    ------
    CommandError
        There is no such group, or no such key.
    """
    keys = None
    if arguments.keys is not None:
        texts = arguments.keys.split(",")
        if not all(text.strip().isdecimal() for text in texts):
            raise UsageError(f"--keys has to be numbers, as 3,1,4; got {arguments.keys!r}")
        keys = [int(text) for text in texts]
        if max(keys) >= len(archive):
            raise CommandError(f"{archive.path}: no key {max(keys)} of {len(archive)} segments")
    for name in arguments.group or ():
        if name not in archive.groups:
            there = ", ".join(archive.groups) or "none"
            raise CommandError(f"{archive.path}: there is no group {name!r}; the groups: {there}")
    selection = archive.select(groups=arguments.group, domains=arguments.domain, keys=keys)
    return (selection if arguments.where is None else selection.where(arguments.where)).keys


def box_of(text: str) -> Box:
    """Return MINR,MINC,MAXR,MAXC as a box, for argparse."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"MINR,MINC,MAXR,MAXC expected, got {text!r}")
    minr, minc, maxr, maxc = map(int, parts)
    return minr, minc, maxr, maxc


def emit_segments(arguments: argparse.Namespace, archive: Archive, keys: Keys) -> None:
    """Print segments as a table of key, name, groups, box and area."""
    table = archive.table(keys)
    heads = list(table)
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    facts = [dict(zip(heads, row, strict=True)) for row in rows]
    emit(arguments, facts, Table(heads, rows) if rows else "no segments")
