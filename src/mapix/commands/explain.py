"""``mapix explain``: what reading a record, or a batch, does."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mapix.commands.arguments import add_paths, natural, opened
from mapix.commands.output import CommandError, add_output, emit

__all__ = ["add"]

DESCRIPTION = """Print what reading a record, or a batch, does: bytes that are read and copied, what
is decoded and converted. Nothing is measured; see `mapix bench`."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    parser.add_argument("--record", help="the record (default: 0); also as PATH RECORD")
    parser.add_argument("--batch", type=natural, metavar="N", help="a batch of the first N instead")
    parser.add_argument("--dtype", help="of the batch: uint8, float32, ...")
    parser.add_argument("--layout", choices=("NHWC", "NCHW"), help="of the batch")
    parser.add_argument("--pad", action="store_true", help="pad mixed sizes of the batch")
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.commands.records import found_record

    paths = arguments.paths
    if arguments.record is None:  # as of `mapix get PATH RECORD`
        alone = len(paths) > 1 and paths[-1].isdecimal() and not os.path.exists(paths[-1])
        arguments.record = paths.pop() if alone else "0"
    with opened(arguments) as ds:
        if arguments.batch is None:
            what = f"{ds.path}: record {arguments.record}"
            found = ds.explain(found_record(ds, arguments.record))
        else:
            if ds.NO_BATCH:
                raise CommandError(
                    f"{ds.path}: {ds.RECORDS} of {ds.FAMILY} do not go into a batch; --record "
                    "explains how one is read"
                )
            n = min(arguments.batch, len(ds))
            what = f"{ds.path}: a batch of the first {n} records"
            options = {"dtype": arguments.dtype, "layout": arguments.layout}
            options |= {"pad": True} if arguments.pad else {}
            found = ds.explain(batch=range(n), **options)
    emit(arguments, found, {"path": what, **found})
