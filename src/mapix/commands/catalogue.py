"""The table of all commands.  Those of one format are declared by the format instead."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS: dict[str, tuple[str, str]] = {
    "info": ("print what a file or a dataset directory holds", "mapix.commands.info"),
    "verify": ("check everything in a file or a dataset", "mapix.commands.verify"),
    "repair": ("save the complete records of a damaged dataset", "mapix.commands.repair"),
    "index": ("index a file once; the index stays beside it", "mapix.commands.index"),
    "convert": ("write a dataset in another format", "mapix.commands.convert"),
    "view": ("show a dataset in the browser", "mapix.commands.view"),
    "demo": ("make two datasets and an archive, read them in two ways", "mapix.commands.demo"),
}
"""Name -> one line of help, and the module whose ``add(parser)`` adds the arguments and ``run``.

``run(arguments)`` is set by ``parser.set_defaults(run=...)``.  It returns the exit status, or None
for 0; see ``mapix.commands.output`` for its values.
"""
