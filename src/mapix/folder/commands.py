"""``mapix folder ...``: checks and pictures as commands."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add", "facts", "first_records"]

FIRST = 5  # records told by info


def add(commands: Any) -> None:
    """Add ``folder`` and what it can do to the program's commands."""
    folder = commands.add_parser("folder")
    below = folder.add_subparsers(dest="tool", required=True, metavar="TOOL")

    lint = below.add_parser("lint", help="look at lines, files, boxes; exit status 1 if it is bad")
    lint.add_argument("path", metavar="PATH")
    lint.add_argument("--split", help="one of its splits; by default all")
    lint.add_argument("--no-pictures", action="store_true", help="without decoding them")
    lint.add_argument("--no-huggingface", action="store_true", help="without what that rejects")
    lint.add_argument(
        "--ignore", action="append", default=[], metavar="CODE", help="more than once"
    )
    lint.add_argument("--threads", type=int, default=1)
    lint.set_defaults(run=_lint)

    sheet = below.add_parser("sheet", help="draw records with captions and boxes (needs Pillow)")
    sheet.add_argument("path", metavar="PATH")
    sheet.add_argument("out", metavar="OUT", help="the picture to write")
    sheet.add_argument("--split", help="one of its splits")
    sheet.add_argument("--first", type=int, default=12, help="how many records (default: 12)")
    sheet.add_argument("--columns", type=int, default=3)
    sheet.set_defaults(run=_sheet)


def _lint(a: argparse.Namespace) -> int:
    from mapix.folder.checking import lint

    report = lint(
        a.path,
        split=a.split,
        pictures=not a.no_pictures,
        huggingface=not a.no_huggingface,
        ignore=a.ignore,
        threads=a.threads,
    )
    print(report)
    return 0 if report.ok else 1


def _sheet(a: argparse.Namespace) -> None:
    from mapix.folder.drawing import sheet
    from mapix.folder.opening import open_path
    from mapix.folder.writing import encoded
    from mapix.store import NewWhole

    with open_path(a.path, split=a.split) as ds:
        data = encoded(sheet(ds[: max(1, a.first)], columns=a.columns), a.out, None)
    with NewWhole(a.out, replace=True) as out:
        out.write(data)


def facts(ds: Any) -> list[list[str]]:
    """Name and text of what ``mapix info`` says of a folder; no picture is decoded."""
    rows = [
        ["format", "image folder, metadata.jsonl"],
        ["records", f"{len(ds):,}"],
        ["metadata", f"{ds._core.source.nbytes:,} bytes, longest line {ds._core.lines.longest:,}"],
    ]
    if ds.splits:
        rows.append(["splits", ", ".join(ds.splits)])
    keys: dict[str, None] = {}
    for record in ds[:FIRST]:
        keys.update(dict.fromkeys(record.metadata))
    if keys:
        rows.append(["keys", ", ".join(keys)])
    return rows


def first_records(ds: Any) -> list[list[str]]:
    """Line, file, bytes, boxes and caption of the first records."""
    rows = []
    for record in ds[:FIRST]:
        try:
            size = f"{record.nbytes:,} bytes"
        except OSError as e:
            size = e.strerror or str(e)
        objects = record.objects
        nboxes = "" if objects is None else f"{len(objects)} boxes"
        caption = " ".join((record.caption or "").split())[:60]
        rows.append([f"line {record.line}", record.file_name, size, nboxes, caption])
    return rows
