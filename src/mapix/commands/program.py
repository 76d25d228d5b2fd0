"""Find and run a command; turn errors into one line and an exit status."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterable

from mapix.commands.parsing import options_of, parser, subparsers
from mapix.commands.status import BAD_DATA, FAILED, GOOD, PIPE_CLOSED, USAGE
from mapix.commands.wording import next_step, worded
from mapix.errors import FormatError, MapixError, MapixWarning, UnknownFormatError

__all__ = ["main"]


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
    tools = subparsers(below)
    if tools:
        arguments, unknown = below.parse_known_args(argv[1:])
        if unknown:
            tool = next((tools[arg] for arg in argv[1:] if arg in tools), below)
            tool.error(f"unrecognized arguments: {' '.join(unknown)}")
    else:  # options may stand between paths
        arguments = below.parse_intermixed_args(argv[1:])
    return arguments, sorted(set(options_of(below)) - {"help"})


def _similar(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _status(e: Exception) -> int:
    if isinstance(e, FormatError):
        return BAD_DATA
    from mapix.commands.output import UsageError

    return USAGE if isinstance(e, UsageError) else FAILED


def _text(e: Exception) -> str:
    """Return the text of an error; of the operating system's errors without their numbers."""
    if isinstance(e, OSError) and type(e).__str__ is OSError.__str__ and e.strerror:
        place = "" if e.filename is None else f"{os.fsdecode(e.filename)}: "
        return f"{place}{e.strerror[0].lower()}{e.strerror[1:]}"
    text = str(e)
    if isinstance(e, UnknownFormatError):
        head, _, tried = text.partition("\n tried:")
        from mapix.registry import names

        refused = ", ".join(name for name in names() if f"\n  {name}: " in tried)
        if "; open what is in it" in head:
            several = ", " in head.partition("; open what is in it")[2]
            return head + "; `mapix catalogue` opens all of one format as one" * several
        if not tried or "; it looks like" in head:
            return head
        return f"{head}; --format NAME states why one refuses it: {refused}"
    return text.removesuffix("; a callable may do it")


def _say(what: str, message: object, options: Iterable[str] = ()) -> None:
    """Print one line on stderr, in the words of the command line."""
    print(f"mapix: {what}: {worded(message, options)}", file=sys.stderr)


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
    if argv[:1] == ["__complete"]:  # for the scripts of `mapix completion`
        from mapix.commands.complete import candidates

        for found in candidates(argv[1:]):
            print(found)
        return GOOD
    arguments, options = _parsed(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths and JSON hold any character
    try:
        status = _run(arguments, options)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of the output has closed it; what is left must not be flushed at exit
        from pathlib import Path

        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return PIPE_CLOSED
    except (MapixError, OSError, ValueError) as e:
        step = "" if argv[0] == "repair" else next_step(e)
        _say("error", _text(e) + step, options)
        return _status(e)
    return status
