"""``mapix catalogue``: make catalogues, add shards, remove them, and enter changed ones again."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mapix.catalogue import writing
from mapix.commands.arguments import add_opening, opening
from mapix.commands.output import UsageError, emit, progress
from mapix.text import counted

__all__ = ["add"]

DESCRIPTION = """List datasets of one format in a small file, the catalogue, that opens them as one
dataset. A FOLDER is a dataset, or holds datasets. A catalogue that is there is changed with --add,
--remove or --refresh."""


def add(commands: Any) -> None:
    """Add ``catalogue`` to the program's commands."""
    parser = commands.add_parser("catalogue")
    parser.description = DESCRIPTION
    parser.add_argument("paths", metavar="FOLDER", nargs="*", help="files or folders, in order")
    parser.add_argument("-o", dest="out", metavar="FILE", required=True, help="the catalogue")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--add", action="store_true", help="add the shards to FILE")
    how.add_argument("--remove", action="store_true", help="remove the shards from FILE")
    how.add_argument(
        "--refresh", action="store_true", help="enter changed shards of FILE again, drop lost ones"
    )
    parser.add_argument(
        "--no-ranges", action="store_true", help="without the ranges of columns, for --where"
    )
    parser.add_argument("--no-names", action="store_true", help="without the names of records")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_opening(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    out, paths = arguments.out, arguments.paths
    if bool(paths) == arguments.refresh:
        raise UsageError("--refresh takes no FOLDER" if paths else "a FOLDER is needed")
    options = opening(arguments)
    with progress(f"writing {out}") as show:
        if arguments.add:
            found = writing.add(out, paths, progress=show, **options)
        elif arguments.remove:
            found = writing.remove(out, paths)
        elif arguments.refresh:
            found = writing.refresh(out, progress=show)
        else:
            options |= {"ranges": not arguments.no_ranges, "names": not arguments.no_names}
            found = writing.write(paths, out, progress=show, **options)
    facts = {**found._asdict(), "catalogue_nbytes": os.path.getsize(out)}
    shards, records = counted(found.shards, "shard"), counted(found.records, "record")
    text = f"{out}: {shards}, {records}, {found.nbytes:,} bytes"
    changes = {name: getattr(found, name) for name in ("added", "refreshed", "removed")}
    said = ", ".join(f"{len(paths)} {name}" for name, paths in changes.items() if paths)
    emit(
        argparse.Namespace(json=arguments.json, out=None), facts, f"{text} ({said or 'unchanged'})"
    )
