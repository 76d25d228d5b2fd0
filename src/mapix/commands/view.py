"""``mapix view``: a dataset in the browser."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from mapix.commands.arguments import add_paths, add_records, chosen, opening, port
from mapix.commands.output import CommandError

__all__ = ["add"]

DESCRIPTION = """Show a dataset in the browser. The address that is printed holds a token: only
browsers on this machine that have it are answered. Ctrl-C ends the viewer."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_records(parser)
    parser.add_argument("--port", type=port, default=0, help="of 127.0.0.1 (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--export-folder",
        metavar="FOLDER",
        help="let the page write selections there (default: it writes nothing)",
    )
    parser.add_argument(
        "--with",
        dest="companions",
        metavar="PATH",
        action="append",
        default=[],
        help="a file that belongs to it: the image under the segments of an archive; the mapping, "
        "data or rotations of a SOM; may be given several times",
    )
    parser.add_argument(
        "--export",
        metavar="PAGE.html",
        help="write a page that needs no server, of at most 4000 records, and end",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from mapix.registry import open_dataset
    from mapix.viewer.companions import opened as companion
    from mapix.viewer.session import View

    paths = arguments.paths
    options = opening(arguments)

    def opened() -> Any:
        whole = open_dataset(paths[0] if len(paths) == 1 else paths, **options)
        if not hasattr(whole, "columns"):
            what = whole.describe()["format"]
            raise CommandError(
                f"{paths[0]}: this {what} file has no records; `mapix info` prints what it holds"
            )
        return chosen(whole, arguments)

    companions = [companion(path) for path in arguments.companions]
    folder = arguments.export_folder
    if arguments.export is not None:
        from mapix.viewer.export import MOST_RECORDS, write_page

        with opened() as ds:
            if len(ds) > MOST_RECORDS:
                raise CommandError(
                    f"a page holds at most {MOST_RECORDS} records, not {len(ds)}: choose some by "
                    "--where or --range"
                )
            print(write_page(ds, arguments.export))
        return

    with View(opened(), reopen=opened, export_folder=folder, companions=companions) as view:
        view.start(arguments.port)
        print(view.url, flush=True)
        if not arguments.no_browser:
            view.open_browser()
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            view.wait()
