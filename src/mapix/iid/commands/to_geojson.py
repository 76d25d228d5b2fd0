"""``mapix iid to-geojson``: outlines of segments."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("path", metavar="PATH", help="an archive")
    parser.add_argument("file", metavar="FILE", help="the GeoJSON file to write")
    parser.add_argument(
        "--object-type",
        default="annotation",
        help="QuPath's kind of object: annotation, detection, cell (default: annotation)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.iid.geojson import to_geojson
    from mapix.iid.opening import open_path

    with open_path(arguments.path) as archive:
        to_geojson(archive, arguments.file, object_type=arguments.object_type)
