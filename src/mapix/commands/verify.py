"""``mapix verify``: check everything in files and datasets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

from mapix.commands.arguments import add_paths, opening
from mapix.commands.output import add_output, emit, progress
from mapix.commands.status import BAD_DATA, FAILED, GOOD
from mapix.commands.wording import next_step, worded
from mapix.errors import FormatError
from mapix.report import Report

__all__ = ["add"]

DESCRIPTION = """Check everything in files, or in all files of dataset directories. Exit status: 0
when nothing is wrong, 1 when something is, 2 when a library is missing that decodes pictures."""


OPTIONS = ("split", "format", "open")  # that errors name


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    add_paths(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    reports: list[Any] = []
    for path in arguments.paths:
        with progress(f"verifying {path}") as show:
            try:
                reports += _reports(path, opening(arguments), show)
            except FormatError as e:  # the other files are checked nevertheless
                problem = str(e).partition("\n tried:")[0] + next_step(e)
                reports.append(Report(path, checked=["opening"], problems=[problem]))
    for report in reports:
        report.problems = [worded(problem, OPTIONS) for problem in report.problems]
    emit(arguments, [_facts(report) for report in reports], *map(str, reports))
    if not all(report.ok for report in reports):
        return BAD_DATA
    return FAILED if any(report.unchecked for report in reports) else GOOD


def _reports(path: str, options: dict[str, Any], show: Callable[[int, int], None]) -> Iterator[Any]:
    """Check a file; of a directory each of its files, where the format does that."""
    from mapix import registry

    for found in registry.formats() if os.path.isdir(path) and not options.get("format") else ():
        if found.verify is not None and found.refusal(registry.Candidate(path)) is None:
            yield from registry.resolved(found.verify)(path, options.get("split"), show)
            return
    with registry.open_dataset(path, **options) as ds:
        yield ds.verify(show)


def _facts(report: Any) -> dict[str, Any]:
    facts = {"path": report.path, "ok": report.ok, "records": report.nrecords}
    names = ("nbytes", "checked", "problems", "damaged", "unchecked")
    return facts | {name: getattr(report, name) for name in names}
