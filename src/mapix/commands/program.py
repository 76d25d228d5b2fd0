"""Find and run a command; turn errors into one line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from mapix.commands.catalogue import COMMANDS
from mapix.commands.status import BAD_DATA, FAILED, PIPE_CLOSED, USAGE
from mapix.errors import FormatError, MapixError, MapixWarning

__all__ = ["Parser", "main", "options_of", "parser", "subparsers"]

HIDDEN: dict[str, str] = {}
EPILOG = """Exit status: 0 good, 1 the data are bad (or differ), 2 it could not be done, 3 wrong
usage. `mapix COMMAND --help` prints the options of a command."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, with exit status 3."""

    def error(self, message: str) -> NoReturn:
        """Print one line, and exit."""
        self.exit(USAGE, f"{self.prog}: error: {message}; see `{self.prog} --help`\n")


def _of_formats() -> Iterator[tuple[str, str, Any]]:
    """Yield name, help and function of the commands that formats declare."""
    from mapix import registry

    for found in registry.formats():
        for name, text in found.command_names.items():
            if name not in COMMANDS:
                yield name, text, found.commands


def _add(parser: Any, module: str) -> None:
    importlib.import_module(module).add(parser)


def parser(command: str | None) -> Parser:
    """Return the parser; arguments are added for one command only, the others are listed."""
    found = Parser(
        prog="mapix",
        description="Open the image dataset you already have, without converting anything.",
        epilog=EPILOG,
    )
    found.add_argument("--version", action=_Version, help="print versions, and how it was built")
    commands = found.add_subparsers(dest="command", metavar="COMMAND")
    if command == "--version":
        return found
    if command in HIDDEN:
        _add(commands.add_parser(command), HIDDEN[command])
        return found
    if command in COMMANDS:
        text, module = COMMANDS[command]
        _add(
            commands.add_parser(command, help=text, description=f"{text[0].upper()}{text[1:]}."),
            module,
        )
        return found
    for name, (text, _) in COMMANDS.items():
        commands.add_parser(name, help=text)
    of_formats = list(_of_formats())
    for add in {add for name, _, add in of_formats if name == command}:
        from mapix.registry import resolved

        resolved(add)(commands)  # all commands of that format
    for name, text, _ in of_formats:
        if name not in commands.choices:
            commands.add_parser(name, help=text)
    return found


class _Version(argparse.Action):
    """Prints the versions, which are found out only then."""

    def __init__(self, option_strings: Any, dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from mapix.commands.version import version

        print(version())
        parser.exit()


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands below a parser, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the names of the options of a parser and of its commands, without the dashes."""
    for action in parser._actions:
        yield from (text[2:] for text in action.option_strings if text.startswith("--"))
    for below in subparsers(parser).values():
        yield from options_of(below)


def _parsed(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments, and the names of the options that the command has."""
    made = parser(argv[0] if argv else None)
    if not argv:
        made.print_help(sys.stderr)
        raise SystemExit(USAGE)
    known = subparsers(made)
    below = known.get(argv[0])
    if below is None:
        made.parse_args([arg for arg in argv[:1] if arg.startswith("-")])  # --help, --version
        if argv[0].startswith("-"):
            made.error(f"a COMMAND is expected before {argv[0]}")
        made.error(f"there is no command {argv[0]!r}{_similar(argv[0], known)}")
    if subparsers(below):
        arguments = below.parse_args(argv[1:])
    else:  # options may stand between paths
        arguments = below.parse_intermixed_args(argv[1:])
    return arguments, sorted(set(options_of(below)) - {"help"})


def _similar(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=2, cutoff=0.4)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _text(e: Exception) -> str:
    """Return the text of an error; of the operating system's errors without their numbers."""
    if isinstance(e, OSError) and type(e).__str__ is OSError.__str__ and e.strerror:
        place = "" if e.filename is None else f"{os.fsdecode(e.filename)}: "
        return f"{place}{e.strerror[0].lower()}{e.strerror[1:]}"
    return str(e)


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


def main(argv: list[str]) -> int:
    """Run a command: see ``mapix.__main__.main``."""
    arguments, options = _parsed(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths and JSON hold any character
    try:
        status = _run(arguments, options)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of the output has closed it; what is left must not be flushed at exit
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return PIPE_CLOSED
    except (MapixError, OSError, ValueError) as e:
        _say("error", _text(e), options)
        return BAD_DATA if isinstance(e, FormatError) else FAILED
    return status
