"""``mapix references``: where the numbers lie in a file, for zarr, xarray and dask."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mapix.commands.arguments import add_paths, add_records, natural, opened
from mapix.commands.output import write_file

__all__ = ["add"]

DESCRIPTION = """Print references to the numbers of a dataset, in kerchunk's JSON format: zarr,
xarray and dask read the file in place with them. Records of one size, in files that are not
compressed."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_records(parser)
    parser.add_argument(
        "--rows", type=natural, default=500, help="the most records of a chunk (500)"
    )
    parser.add_argument(
        "--folder", metavar="URL", help="where readers find the files; by default their paths"
    )
    parser.add_argument("-o", dest="out", metavar="FILE", help="write to a new file, not to stdout")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import mapix

    with opened(arguments) as ds:
        text = json.dumps(mapix.references(ds, arguments.rows, folder=arguments.folder))
    if arguments.out is None:
        print(text)
        return
    write_file(arguments.out, text.encode())
