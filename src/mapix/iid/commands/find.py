"""``mapix iid find``: segments by name."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_opening
from mapix.commands.output import CommandError, add_output
from mapix.iid.commands.segments import emit_segments, opened_archive

__all__ = ["add"]


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="several are read as one")
    parser.add_argument("name", metavar="NAME", help="name within the domain, or DOMAIN/ for all")
    parser.add_argument("--domain", help="of the name; by default any")
    add_opening(parser)
    add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    name, domain = arguments.name, arguments.domain
    with opened_archive(arguments) as archive:
        if name.endswith("/") and domain is None:
            keys = archive.find(domain=name[:-1])
        else:
            keys = archive.find(domain=domain, iid=name)
        if not len(keys):
            from mapix.commands.records import names_of, similar_names

            near = similar_names(name, names_of(archive) or [])
            domains = ", ".join(d.decode(errors="backslashreplace") for d in archive.domains[:20])
            hint = f"did you mean {' or '.join(near)}?" if near else f"the domains: {domains}"
            raise CommandError(f"{archive.path}: no segment is named {name!r}; {hint}")
        emit_segments(arguments, archive, keys)
