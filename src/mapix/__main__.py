"""The command line: ``mapix info PATH``, ``mapix demo``, and the commands that formats declare.

A command's code is imported when the command is called: ``mapix --version`` imports no format.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from mapix import MapixError, MapixWarning, __version__

__all__ = ["describe", "main"]

FIRST = 5  # records that info prints
MOST_RECORDS = 100_000  # of a dataset whose columns info reads
INTERRUPTED = 130  # the exit status of shells for Ctrl-C

Add = Callable[[Any], None]
Run = Callable[[argparse.Namespace], "int | None"]


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo")
    demo.add_argument(
        "--folder", default="mapix-demo", help="where the data goes (default: ./mapix-demo)"
    )
    demo.add_argument(
        "--mb", type=float, default=60, help="size of the data in MB, about (default: 60)"
    )
    demo.add_argument(
        "--sheet", help="where the contact sheet goes (default: contact-sheet.png in the folder)"
    )
    demo.set_defaults(run=_demo)


def _add_info(commands: Any) -> None:
    info = commands.add_parser("info")
    info.add_argument("path", metavar="PATH")
    info.add_argument("--split", help="of a directory; by default train, or the only one")
    info.add_argument("--json", action="store_true", help="print the facts as JSON")
    info.set_defaults(run=_info)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        description="Check everything in a file, or in all files of a dataset directory. "
        "Exit status: 0 when nothing is wrong, 1 when something is, or after an error.",
    )
    verify.add_argument("path", metavar="PATH")
    verify.add_argument("--split", help="the only one to check, of a directory")
    verify.set_defaults(run=_verify)


def _add_convert(commands: Any) -> None:
    from mapix.conversion.commands import add

    add(commands)


COMMANDS: dict[str, tuple[str, Add]] = {
    "demo": ("make two datasets and an archive, read them in two ways, draw them", _add_demo),
    "info": ("print what a file or a dataset directory holds", _add_info),
    "verify": ("check everything in a file or a dataset; exit status 1 if it is bad", _add_verify),
    "convert": ("write a dataset in another format", _add_convert),
}
"""Name -> one line of help, and the function that adds the command."""


def _of_formats() -> Iterator[tuple[str, str, Any]]:
    """Yield name, help and function of the commands that formats declare."""
    from mapix import registry

    for found in registry.formats():
        for name, text in found.command_names.items():
            yield name, text, found.commands


def _parser(command: str | None) -> argparse.ArgumentParser:
    """Return the parser; arguments are added for one command only, the others are listed."""
    parser = argparse.ArgumentParser(
        prog="mapix",
        description="Open the image dataset you already have, without converting anything.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if command == "--version":
        return parser
    if command in COMMANDS:
        COMMANDS[command][1](commands)
        return parser
    for name, (text, _) in COMMANDS.items():
        commands.add_parser(name, help=text)
    of_formats = list(_of_formats())
    for add in {add for name, _, add in of_formats if name == command}:
        from mapix.registry import resolved

        resolved(add)(commands)  # all commands of that format
    for name, text, _ in of_formats:
        if name not in commands.choices:
            commands.add_parser(name, help=text)
    return parser


def _version() -> str:
    modules = {"C core": "mapix._core", "C types": "mapix._record"}
    states = (
        f"{what} {'there' if find_spec(name) else 'missing'}" for what, name in modules.items()
    )
    return f"mapix {__version__} ({', '.join(states)})"


# --- commands -------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> None:
    from mapix.demo import tour

    tour.run(arguments.folder, arguments.mb, arguments.sheet)


def _opened(arguments: argparse.Namespace) -> Any:
    from mapix.registry import open_dataset

    split = {} if arguments.split is None else {"split": arguments.split}
    return open_dataset(arguments.path, **split)


def _info(arguments: argparse.Namespace) -> None:
    with _opened(arguments) as ds:
        if arguments.json:
            import json

            print(json.dumps(_facts(ds), indent=2, ensure_ascii=False, default=str))
        else:
            print(describe(ds))


def _verify(arguments: argparse.Namespace) -> int:
    from mapix import registry
    from mapix.text import percent

    path = arguments.path
    for found in registry.formats() if os.path.isdir(path) else ():
        if found.verify is not None and found.refusal(registry.Candidate(path)) is None:
            reports = registry.resolved(found.verify)(path, arguments.split, percent)
            break
    else:
        with _opened(arguments) as ds:
            reports = [ds.verify(percent)]
    print(*reports, sep="\n")
    return 0 if all(report.ok for report in reports) else 1


def describe(ds: Any) -> str:
    """Return what ``mapix info`` prints: the facts of a dataset as aligned text of several lines.

    Parameters
    ----------
    ds : mapix.Dataset
        Of anything without ``describe()`` the text is its repr.
    """
    from mapix.text import description

    return description(_facts(ds)) if hasattr(ds, "describe") else repr(ds)


def _facts(ds: Any) -> dict[str, Any]:
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


# --- errors ---------------------------------------------------------------------------------------


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the names of the options of a parser and of its commands, without the dashes."""
    for action in parser._actions:
        yield from (text[2:] for text in action.option_strings if text.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _options(below)


def _say(what: str, message: object, options: Iterable[str] = ()) -> None:
    """Print one line on stderr, in the words of the command line.

    An option that an error names as an argument of Python (``split=``, ``mode='RGB'``) is named as
    the command has it (``--split``, ``--mode RGB``).
    """
    names = "|".join(name.replace("-", "_") for name in options)
    text = re.sub(
        rf"(?<!-)\b({names or '(?!)'})=(?:True\b|'(\w+)')?",
        lambda m: f"--{m[1].replace('_', '-')}" + (f" {m[2]}" if m[2] else ""),
        " ".join(str(message).split()),
    )
    print(f"mapix: {what}: {text}", file=sys.stderr)


def _run(arguments: argparse.Namespace, options: Iterable[str]) -> int:
    """Run a command; print warnings of mapix as lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MapixWarning)
        try:
            return arguments.run(arguments) or 0
        finally:
            for warning in caught:
                _say("warning", warning.message, options)


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0; 1 after an error, which is one line on stderr, or when ``verify`` found a problem; 130
        after Ctrl-C.

    Raises
    ------
    SystemExit
        From argparse: with 2 for arguments that it does not understand, with 0 after help.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(argv[0] if argv else None)
    arguments = parser.parse_args(argv)
    options = sorted(set(_options(parser)) - {"help", "version"})
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths and JSON hold any character
    try:
        status = _run(arguments, options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("mapix: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of the output has closed it; what is left must not be flushed at exit
        from pathlib import Path

        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except (MapixError, OSError, ValueError) as e:
        _say("error", e, options)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
