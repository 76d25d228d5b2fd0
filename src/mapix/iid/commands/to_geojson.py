"""``mapix iid to-geojson``: outlines of segments."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_new, new_file
from mapix.commands.output import emit, progress
from mapix.text import counted

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("path", metavar="PATH", help="an archive")
    add_new(parser, "the GeoJSON file to write", "FILE")
    parser.add_argument(
        "--object-type",
        default="annotation",
        help="QuPath's kind of object: annotation, detection, cell (default: annotation)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.geojson import to_geojson
    from mapix.iid.opening import open_path

    target = new_file(arguments)
    with open_path(arguments.path) as archive, progress(f"writing {target}") as show:
        to_geojson(archive, target, object_type=arguments.object_type, progress=show)
        n = int((archive.counts() > 0).sum())  # segments without pixels have no outline
    emit(arguments, {"path": target, "segments": n}, f"{target}: {counted(n, 'segment')}")
