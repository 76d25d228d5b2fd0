"""``mapix card``: a dataset card, as the Hugging Face Hub shows it."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from typing import Any

from mapix.commands.arguments import add_opening, opened_splits, opening
from mapix.commands.output import UsageError

__all__ = ["add"]

DESCRIPTION = """Write a dataset card: a README.md whose front matter the Hugging Face Hub reads,
with facts, columns and their ranges, some records as a picture, and code that opens the dataset.
With -o the picture lies beside the card, and has its name with .png."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("paths", metavar="PATH", nargs=1)
    add_opening(parser)
    parser.add_argument("-o", dest="out", metavar="README.md", help="a new file, not stdout")
    parser.add_argument("--license", help="as the Hub names it: mit, cc-by-4.0, other")
    parser.add_argument("--name", help="title; by default the name of the file")
    parser.add_argument("--no-picture", action="store_true", help="write no picture")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.card import card, picture
    from mapix.drawing import png
    from mapix.store import NewWhole

    (path,) = arguments.paths
    target = arguments.out
    if target is not None and not target.endswith(".md"):
        raise UsageError(f"{target}: cards are written as .md")
    with ExitStack() as stack:
        parts = stack.enter_context(opened_splits(arguments, [path]))
        drawn = None
        if target is not None and not arguments.no_picture:
            drawn = picture(next(iter(parts.values())))
        beside = None if drawn is None else f"{target.removesuffix('.md')}.png"
        try:
            text = card(
                parts,
                name=arguments.name or os.path.basename(os.path.abspath(path)),
                opening=_call(arguments, path, target),
                license=arguments.license,
                picture=None if beside is None else _link(beside),
            )
        except ValueError as e:
            raise UsageError(f"--license: {e}") from e
        if target is None:
            sys.stdout.write(text)
            return
        out = stack.enter_context(NewWhole(target))
        out.write(text.encode())
        if beside is not None and drawn is not None:
            stack.enter_context(NewWhole(beside)).write(png(drawn))


def _call(arguments: argparse.Namespace, path: str, target: str | None) -> str:
    """Return the call that opens the dataset, from the folder of the card."""
    if target is not None:
        path = os.path.relpath(path, os.path.dirname(os.path.abspath(target)))
    options = [f", {name}={value!a}" for name, value in opening(arguments).items()]
    return f"mapix.open({path!a}{''.join(options)})"


def _link(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.basename(path), errors="surrogateescape")
