"""``mapix merge``: several datasets of one format as one."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import (
    add_opening,
    add_paths_and_target,
    add_records,
    opened_splits,
    target_of,
)
from mapix.commands.convert import add_target, facts, write
from mapix.commands.output import emit

__all__ = ["add"]

DESCRIPTION = """Write the records of several datasets of one format, one after the other, as one
dataset. `mapix convert` brings datasets of other formats to the same one first."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths_and_target(parser)
    add_records(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    add_opening(parser)
    add_target(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    target = target_of(arguments, "merge")
    with opened_splits(arguments, arguments.paths) as parts:
        made = write(arguments, {name or "train": ds for name, ds in parts.items()}, target)
    emit(arguments, facts(made), str(made))
