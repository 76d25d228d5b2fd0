"""``mapix demo``: data of a known kind, and what mapix does with it."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]

DESCRIPTION = "Make two datasets and an archive, read them in two ways, and draw them."


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--folder", default="mapix-demo", help="where the data goes (default: ./mapix-demo)"
    )
    parser.add_argument(
        "--mb", type=float, default=60, help="size of the data in MB, about (default: 60)"
    )
    parser.add_argument(
        "--sheet", help="where the contact sheet goes (default: contact-sheet.png in the folder)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.demo import tour

    tour.run(arguments.folder, arguments.mb, arguments.sheet)
