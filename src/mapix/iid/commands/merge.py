"""``mapix iid merge``: several archives as one."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths, opening
from mapix.commands.output import emit
from mapix.text import counted

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    add_paths(parser)
    parser.add_argument("-o", dest="out", metavar="FILE", required=True, help="a new archive")
    parser.add_argument(
        "--unique", action="store_true", help="without segments whose name an earlier one has"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from contextlib import ExitStack

    from mapix.iid.editing import merge
    from mapix.registry import open_dataset

    options = {**opening(arguments), "format": "iid"}
    target, arguments.out = arguments.out, None
    with ExitStack() as stack:
        archives = [stack.enter_context(open_dataset(path, **options)) for path in arguments.paths]
        merge(archives, target, unique=arguments.unique)
    with open_dataset(target, format="iid") as made:
        n = len(made)
    emit(arguments, {"path": target, "segments": n}, f"{target}: {counted(n, 'segment')}")
