"""``mapix split``: two parts of a dataset, written as one dataset or as two files."""

from __future__ import annotations

import argparse
from typing import Any

from mapix import conversion
from mapix.commands.arguments import add_paths, add_records, check_column, opened
from mapix.commands.convert import add_target, facts, sharding, write
from mapix.commands.output import CommandError, UsageError, emit
from mapix.conversion.shards import check_absent

__all__ = ["add"]

DESCRIPTION = """Write two parts of a dataset. A target with splits gets both; of all others two
files are written, their names with -train and -test before the ending. By default the first
records are the first part; --seed chooses at random."""
NAMES = ("train", "test")


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_records(parser)
    parser.add_argument("-o", dest="out", metavar="TARGET", required=True, help="a new dataset")
    parser.add_argument("--share", type=float, default=0.8, help="of the first part (0.8)")
    parser.add_argument("--seed", type=int, help="choose at random")
    parser.add_argument("--stratify", metavar="COLUMN", help="with the same shares of its classes")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    add_target(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    target, arguments.out = arguments.out, None
    if not 0 <= arguments.share <= 1:
        raise UsageError(f"--share has to be 0 to 1, got {arguments.share}")
    if arguments.stratify is not None and arguments.seed is None:
        raise UsageError("--stratify needs a --seed")
    name = arguments.to or conversion.target_of(target)
    kind = conversion.target_named(name, target, {})
    with opened(arguments) as ds:
        if arguments.stratify is not None:
            check_column(ds, arguments.stratify)
        how = {"seed": arguments.seed, "stratify": arguments.stratify}
        parts = dict(zip(NAMES, ds.split(arguments.share, **how), strict=True))
        if kind.splits or kind.any_split:
            made = [write(arguments, parts, target)]
        else:
            paths = {part: kind.path_of_part(target, part) for part in parts}
            for path in paths.values():
                _check_absent(arguments, kind, path)
            made = [write(arguments, {part: parts[part]}, paths[part]) for part in parts]
    found = [facts(one) for one in made]
    emit(arguments, found[0] if len(found) == 1 else found, *map(str, made))


def _check_absent(arguments: argparse.Namespace, kind: Any, path: str) -> None:
    import os

    if sharding(arguments):
        check_absent(kind, path)
    elif os.path.lexists(path):
        raise CommandError(f"{path}: there is something; choose another name with -o")
