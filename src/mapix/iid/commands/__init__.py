"""``mapix iid ...``: one module per tool, each with ``add(parser)``, and the table of them."""

from __future__ import annotations

import importlib
from typing import Any

from mapix.commands.parsing import add_tool

__all__ = ["TOOLS", "add"]

TOOLS: dict[str, tuple[str, str]] = {
    "info": ("print what an archive holds", "mapix.commands.info"),
    "at": ("list the segments that have a pixel", "mapix.iid.commands.at"),
    "find": ("list segments by name", "mapix.iid.commands.find"),
    "paint": ("write a label map: the topmost segment of each pixel", "mapix.iid.commands.paint"),
    "overlay": ("draw segments over their image", "mapix.iid.commands.overlay"),
    "merge": ("write several archives as one", "mapix.iid.commands.merge"),
    "subset": ("write some segments as a new archive", "mapix.iid.commands.subset"),
    "from-coco": ("write a COCO file as archives", "mapix.iid.commands.from_coco"),
    "from-labels": ("write a label map as an archive", "mapix.iid.commands.from_labels"),
    "to-coco": ("write archives as a COCO file", "mapix.iid.commands.to_coco"),
    "to-geojson": ("write outlines of segments as GeoJSON", "mapix.iid.commands.to_geojson"),
}
"""Name -> one line of help, and the module whose ``add(parser)`` adds the arguments and ``run``."""


def add(commands: Any) -> None:
    """Add ``iid`` and its tools to the program's commands."""
    iid = commands.add_parser("iid")
    below = iid.add_subparsers(dest="tool", required=True, metavar="TOOL")
    for name, (text, module) in TOOLS.items():
        importlib.import_module(module).add(add_tool(below, name, text))
