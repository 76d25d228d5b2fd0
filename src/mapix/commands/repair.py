"""``mapix repair``: save the complete records of a damaged dataset."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from mapix.commands.arguments import add_new, add_opening, opening
from mapix.commands.output import CommandError, UsageError, emit, progress
from mapix.commands.status import BAD_DATA, GOOD

__all__ = ["add"]

DESCRIPTION = """Write the complete records of a damaged file, or of all files of a damaged
directory of VIMH, to a new one; the damaged one is not changed. Exit status: 0 when nothing was
lost, 1 when something was."""


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("path", metavar="PATH", help="the damaged file or directory")
    add_new(parser, "the new one; nothing may be there", "NEW")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_opening(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from mapix import registry

    new = arguments.new or arguments.out
    if new is None:
        raise UsageError("name the NEW file or directory: mapix repair PATH NEW")
    options = opening(arguments)
    name = options.pop("format", None)
    found = registry.named(name) if name else registry.recognised(arguments.path)
    if found is None or found.repair is None:
        able = ", ".join(f.name for f in registry.formats() if f.repair is not None)
        what = "a file of no format that mapix knows" if found is None else found.title
        raise CommandError(
            f"{arguments.path}: {what} cannot be repaired, only {able}; `mapix verify` lists what "
            "is damaged"
        )
    with progress(f"repairing {arguments.path}") as show:
        saved = registry.resolved(found.repair)(arguments.path, new, progress=show, **options)
    facts = {**_facts(asdict(saved)), "complete": saved.complete}
    emit(argparse.Namespace(json=arguments.json, out=None), facts, str(saved))
    return GOOD if saved.complete else BAD_DATA


def _facts(found: Any) -> Any:
    """Return the attributes of what was saved, with the names that other commands print."""
    if not isinstance(found, dict):
        return found
    return {"records" if name == "nrecords" else name: _facts(v) for name, v in found.items()}
