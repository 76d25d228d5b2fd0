"""Arguments that commands share: paths, how they are opened, and which records are meant."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mapix.commands.output import CommandError, UsageError

__all__ = [
    "add_new",
    "add_opening",
    "add_paths",
    "add_paths_and_target",
    "add_records",
    "each_opened",
    "natural",
    "new_file",
    "opened",
    "opened_splits",
    "opening",
    "port",
    "range_of",
    "target_of",
]

_VALUES = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def add_paths(parser: Any, *, several: bool = True) -> None:
    """Add ``PATH ...`` and the options of opening; several paths are opened as one dataset."""
    if several:
        parser.add_argument("paths", metavar="PATH", nargs="+", help="several are read as one")
    else:
        parser.add_argument("paths", metavar="PATH", nargs=1)
    add_opening(parser)


def add_paths_and_target(parser: Any, path: str = "PATH", target: str = "TARGET") -> None:
    """Add ``PATH ... TARGET``, and ``-o`` for the target; see ``target_of``."""
    parser.add_argument("paths", metavar=path, nargs="+", help="several are written as one")
    parser.add_argument("-o", dest="out", metavar=target, help=f"by default the last {path}")


def target_of(arguments: argparse.Namespace, command: str) -> str:
    """Return the new dataset of ``add_paths_and_target``, and leave the others as paths.

    Raises
    ------
    UsageError
        None was named.
    """
    target, arguments.out = arguments.out, None
    if target is None:
        if len(arguments.paths) == 1:
            raise UsageError(f"name the new file or directory: mapix {command} PATH ... TARGET")
        target = arguments.paths.pop()
    return str(target)


def add_opening(parser: Any) -> None:
    """Add the options of opening."""
    parser.add_argument("--split", help="of a directory; by default train, or the only one")
    parser.add_argument("--format", help="name of the format, where detection is not enough")
    parser.add_argument(
        "--open",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the format, as kind=som; more than once",
    )


def add_new(parser: Any, help: str, metavar: str = "OUT") -> None:
    """Add the new file of a tool: as the last argument, or by ``-o``; see ``new_file``."""
    parser.add_argument("new", metavar=metavar, nargs="?", help=help)
    parser.add_argument("-o", dest="out", metavar=metavar, help="the same")


def new_file(arguments: argparse.Namespace) -> str:
    """Return the path of the new file; ``emit`` then prints, and does not write there.

    Raises
    ------
    UsageError
        None was given, or two.
    """
    given = [path for path in (arguments.new, arguments.out) if path is not None]
    arguments.out = None
    if len(given) != 1:
        raise UsageError("one new file has to be named, as the last argument or by -o")
    return str(given[0])


def add_records(parser: Any) -> None:
    """Add the options that choose records."""
    parser.add_argument("--where", metavar="CONDITION", help='as "note > 51 and velocity <= 90"')
    parser.add_argument(
        "--range",
        type=range_of,
        metavar="FROM:TO",
        help="records by number, before --where: 100:200, :50, -10:, ::2",
    )
    parser.add_argument("--sort", metavar="COLUMN", help="in the order of a column")
    parser.add_argument("--descending", action="store_true", help="largest first")


def natural(text: str) -> int:
    """Return a count of at least 1, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a number above 0 expected, got {text!r}")
    return int(text)


def port(text: str) -> int:
    """Return the number of a port, for argparse; 0 for any that is free."""
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"a port is a number below 65,536, got {text!r}")
    return int(text)


def range_of(text: str) -> slice:
    """Return ``FROM:TO`` or ``FROM:TO:STEP`` as a slice, for argparse."""
    parts = text.split(":")
    try:
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or numbers[2:] == [0]:
        raise argparse.ArgumentTypeError(f"FROM:TO expected, as 100:200, got {text!r}")
    return slice(*numbers)


def opening(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options for ``mapix.open`` that were given."""
    found: dict[str, Any] = {}
    for text in arguments.open:
        name, there, value = text.partition("=")
        if not there or not name:
            raise UsageError(f"--open takes NAME=VALUE, got {text!r}")
        number = value.lstrip("-")
        found[name] = _VALUES.get(value, int(value) if number.isdecimal() else value)
    for name in ("split", "format"):
        if getattr(arguments, name) is not None:
            found[name] = getattr(arguments, name)
    return found


def each_opened(arguments: argparse.Namespace) -> Iterator[Any]:
    """Open the paths one after the other, with what has no records."""
    for opened in _all_opened(arguments):
        with opened as ds:
            yield ds


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Any]:
    """Open the paths as one dataset, and choose the records of ``add_records``.

    Raises
    ------
    CommandError
        The file has no records.
    """
    with ExitStack() as stack:
        parts = [stack.enter_context(ds) for ds in _all_opened(arguments)]
        first = parts[0]
        for path, ds in zip(arguments.paths, parts, strict=True):
            if not hasattr(ds, "columns"):
                raise CommandError(
                    f"{path}: {ds.FAMILY} files of this kind have no records; `mapix info` prints "
                    "what they hold"
                )
            if ds.FAMILY != first.FAMILY:
                raise CommandError(
                    f"{path} is of {ds.FAMILY}, {arguments.paths[0]} of {first.FAMILY}: only "
                    "datasets of one format are read as one; `mapix convert` brings them to one"
                )
        whole = first.joined(parts[1:]) if len(parts) > 1 else first
        yield chosen(whole, arguments)


def _all_opened(arguments: argparse.Namespace) -> Iterator[Any]:
    from mapix.registry import Candidate, open_dataset

    options, among = opening(arguments), frozenset(arguments.paths)
    for path in arguments.paths:
        yield open_dataset(Candidate(path, among=among), **options)


@contextmanager
def opened_splits(
    arguments: argparse.Namespace, paths: list[str]
) -> Iterator[dict[str | None, Any]]:
    """Open all splits of paths, each as one dataset; without splits its name is None."""
    with ExitStack() as stack:

        def part(split: str | None, paths: list[str]) -> Any:
            given = {**vars(arguments), "paths": paths, "split": split}
            return stack.enter_context(opened(argparse.Namespace(**given)))

        first = part(arguments.split, paths[:1])
        names = list(first.splits) if arguments.split is None else []
        if len(names) > 1 and all(map(os.path.isdir, paths)):
            yield {name: part(name, paths) for name in names}
        else:
            yield {arguments.split: first if len(paths) == 1 else part(arguments.split, paths)}


def chosen(ds: Any, arguments: argparse.Namespace) -> Any:
    """Return the records that the options of ``add_records`` choose."""
    if getattr(arguments, "range", None) is not None:
        ds = ds[arguments.range]
    if getattr(arguments, "where", None) is not None:
        from mapix.expression import ConditionError

        try:
            ds = ds.where(arguments.where)
        except ConditionError as e:
            raise UsageError(str(e)) from e
    if getattr(arguments, "sort", None) is not None:
        check_column(ds, arguments.sort)
        ds = ds.sort_by(arguments.sort, descending=arguments.descending)
    return ds


def check_column(ds: Any, name: str) -> None:
    """Check that a dataset has a column.

    Raises
    ------
    CommandError
        There is none; the message lists the names.
    """
    if name not in ds.columns:
        there = ", ".join(ds.columns) or "none"
        raise CommandError(f"{ds.path}: there is no column {name!r}; the columns: {there}")
