"""``mapix index`` and ``mapix repair``."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.errors import UnsupportedError
from mapix.text import percent

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``index`` and ``repair`` to the program's commands."""
    index = commands.add_parser("index", description=INDEX)
    index.add_argument("path", metavar="PATH")
    index.add_argument("--split", help="of a directory: train (the default) or test")
    index.add_argument("--no-labels", action="store_true", help="without the table of labels")
    index.add_argument(
        "--no-checksums", action="store_true", help="without a checksum for each record"
    )
    index.set_defaults(run=_index)
    repair = commands.add_parser("repair", description=REPAIR)
    repair.add_argument(
        "path", metavar="PATH", help="the damaged VIMH file or directory, which is not changed"
    )
    repair.add_argument(
        "new", metavar="NEW", help="the new file or directory; nothing may be there"
    )
    repair.add_argument("--dialect", type=int, choices=(6, 14), help="bytes of a record's header")
    repair.set_defaults(run=_repair)


INDEX = """Index a file once. The index is stored beside the file, as NAME.mapix."""
REPAIR = """Write the complete records of a damaged binary VIMH file, or of all binary files of a
VIMH directory, to a new one. Other formats are refused. Exit status: 0 when nothing was lost, 1
when something was lost, or after an error."""


def _index(arguments: argparse.Namespace) -> None:
    from mapix.registry import open_dataset

    split = {} if arguments.split is None else {"split": arguments.split}
    with open_dataset(arguments.path, **split) as ds:
        keep = getattr(ds, "keep_index", None)
        if keep is None:
            raise UnsupportedError(f"{arguments.path}: {type(ds).__name__} needs no index")
        wanted = {"labels": not arguments.no_labels, "checksums": not arguments.no_checksums}
        print(keep(**wanted, progress=percent))


def _repair(arguments: argparse.Namespace) -> int:
    from mapix.vimh.salvage import repair

    saved = repair(arguments.path, arguments.new, dialect=arguments.dialect, progress=percent)
    print(saved)
    return 0 if saved.complete else 1
