"""``mapix folder ...``: commands that check and draw image folders."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from mapix.commands.arguments import add_new, new_file
from mapix.commands.output import add_output, emit
from mapix.commands.parsing import add_tool

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``folder`` and its tools to the commands."""
    folder = commands.add_parser("folder")
    below = folder.add_subparsers(dest="tool", required=True, metavar="TOOL")

    lint = add_tool(below, "lint", "check lines, files, boxes; exit status 1 for findings")
    lint.add_argument("path", metavar="PATH")
    lint.add_argument("--split", help="one of its splits; by default all")
    lint.add_argument("--no-pictures", action="store_true", help="do not decode pictures")
    lint.add_argument("--no-huggingface", action="store_true", help="do not check for Hugging Face")
    lint.add_argument(
        "--ignore", action="append", default=[], metavar="CODE", help="more than once"
    )
    lint.add_argument("--threads", type=int, default=1)
    add_output(lint)
    lint.set_defaults(run=_lint)

    sheet = add_tool(below, "sheet", "draw records with captions and boxes (needs Pillow)")
    sheet.add_argument("path", metavar="PATH")
    add_new(sheet, "the picture to write")
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
    names = ("path", "ok", "nrecords", "findings", "unchecked")
    facts = {name: getattr(report, name) for name in names}
    facts["findings"] = [asdict(finding) for finding in report.findings]
    emit(a, facts, str(report))
    return (2 if report.unchecked else 0) if report.ok else 1


def _sheet(a: argparse.Namespace) -> None:
    from mapix.folder.drawing import sheet
    from mapix.folder.opening import open_path
    from mapix.folder.writing import encoded
    from mapix.store import NewWhole

    path = new_file(a)
    with open_path(a.path, split=a.split) as ds:
        drawn = sheet(ds[: max(1, a.first)], columns=a.columns)
        data = encoded(drawn, path, None)
    with NewWhole(path, replace=True) as out:
        out.write(data)
    print(f"{path}: {drawn.height} x {drawn.width} pixels")
