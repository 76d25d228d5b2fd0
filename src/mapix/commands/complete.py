"""``mapix __complete WORD ...``: what the scripts of ``mapix completion`` ask for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence

from mapix.commands.parsing import parser, subparsers

__all__ = ["candidates"]

MOST = 1000  # names of records
COLUMNS = {"--columns", "--sort", "--stratify"}


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word can become; empty where it is a path.

    Parameters
    ----------
    words : sequence of str
        Everything after ``mapix``; the last one is being typed.
    """
    *before, last = words or [""]
    found = dict.fromkeys(word for word in _all(before, last) if word.startswith(last))
    return list(found)


def _all(before: Sequence[str], last: str) -> Iterator[str]:
    if not before:
        yield from subparsers(parser(None))
        yield from ("--help", "--version")
        return
    command = before[0]
    below = subparsers(parser(command)).get(command)
    rest = list(before[1:])
    while below is not None and (tools := subparsers(below)):
        if not rest:
            yield from tools
            return
        below = tools.get(rest.pop(0))
    if below is None:
        return
    option = next((a for a in below._actions if rest and rest[-1] in a.option_strings), None)
    if option is not None and option.nargs != 0:
        yield from _values(option, rest)
    elif last.startswith("-"):
        for action in below._actions:
            yield from (text for text in action.option_strings if text.startswith("--"))
    else:
        wanted = [a for a in below._actions if not a.option_strings]
        yield from _positional([a.dest for a in wanted], rest)
        for action in wanted:
            yield from map(str, action.choices or ())


def _values(option: argparse.Action, words: Sequence[str]) -> Iterator[str]:
    """Yield the values of an option: its choices, columns, or splits."""
    if option.choices is not None:
        yield from map(str, option.choices)
    elif COLUMNS & set(option.option_strings):
        yield from _of_dataset(words, lambda ds: ds.columns)
    elif "--split" in option.option_strings:
        yield from _of_dataset(words, lambda ds: ds.splits)
    elif "--format" in option.option_strings:
        from mapix.registry import names

        yield from names()


def _positional(names: Sequence[str], words: Sequence[str]) -> Iterator[str]:
    """Yield names of records after a path of ``get``, and columns after one of ``query``."""
    if "record" in names:
        yield from _of_dataset(words, _record_names)
    elif "where" in names:
        yield from _of_dataset(words, lambda ds: ds.columns)


def _record_names(ds: object) -> Iterable[str]:
    from mapix.commands.records import names_of

    return (names_of(ds) or ())[:MOST]


def _of_dataset(words: Sequence[str], names: object) -> Iterator[str]:
    """Yield names of the dataset whose path is among the words; nothing without one."""
    import warnings

    from mapix.registry import open_dataset

    path = next((word for word in words if os.path.exists(os.path.expanduser(word))), None)
    if path is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with open_dataset(os.path.expanduser(path)) as ds:
                found = list(names(ds)) if hasattr(ds, "columns") else []  # type: ignore[operator]
        except Exception:  # whatever is wrong with it, completion is silent
            return
    yield from found
