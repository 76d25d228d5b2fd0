"""``mapix index``: index files once."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_paths, each_opened
from mapix.commands.output import CommandError, add_output, emit, progress

__all__ = ["add"]

DESCRIPTION = """Index a file once. The index is stored beside the file, as NAME.mapix, and every
later opening reads it instead of the file."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    parser.add_argument("--no-labels", action="store_true", help="without the table of labels")
    parser.add_argument(
        "--no-checksums", action="store_true", help="without a checksum for each record"
    )
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    wanted = {"labels": not arguments.no_labels, "checksums": not arguments.no_checksums}
    stored = []
    for ds in each_opened(arguments):
        with progress(f"indexing {ds.path}") as show:
            keep = getattr(ds, "keep_index", None)
            if keep is None:
                raise CommandError(
                    f"{ds.path}: files of {ds.FAMILY} need no index: they open at once"
                )
            found = keep(**wanted, progress=show)
            places = [found] if isinstance(found, str) else found
            stored += [{"path": ds.path, "index": place} for place in places]
    emit(arguments, stored, *(entry["index"] for entry in stored))
