"""The parsers of the command line: all commands are listed, one gets its arguments."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from typing import Any, NoReturn

from mapix.commands.catalogue import COMMANDS
from mapix.commands.status import USAGE

__all__ = ["Parser", "add_tool", "options_of", "parser", "subparsers"]

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


def add_tool(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command, or a tool of a format, and return its parser; ``text`` is its line of help."""
    what = f"{text[0].upper()}{text[1:]}."
    found: argparse.ArgumentParser = commands.add_parser(name, help=text, description=what)
    return found


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
    if command in COMMANDS:
        text, module = COMMANDS[command]
        _add(add_tool(commands, command, text), module)
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
