"""The table of all commands.  Those of one format are declared by the format instead."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS: dict[str, tuple[str, str]] = {
    "info": ("print what a file or a dataset directory holds", "mapix.commands.info"),
    "ls": ("list records", "mapix.commands.ls"),
    "head": ("print the first records, with all columns", "mapix.commands.head"),
    "get": ("print one record, or write it as a picture, an array or JSON", "mapix.commands.get"),
    "query": ("find records by a condition on their columns", "mapix.commands.query"),
    "stats": ("compute statistics of pixels and columns", "mapix.commands.stats"),
    "columns": ("print the columns: types, ranges, missing values", "mapix.commands.columns"),
    "show": ("draw records in the terminal, or into a picture", "mapix.commands.show"),
    "verify": ("check everything in files and datasets", "mapix.commands.verify"),
    "repair": ("save the complete records of a damaged dataset", "mapix.commands.repair"),
    "index": ("index a file once; the index stays beside it", "mapix.commands.index"),
    "convert": ("write a dataset in another format", "mapix.commands.convert"),
    "split": ("write two parts of a dataset, for training and testing", "mapix.commands.split"),
    "merge": ("write several datasets as one", "mapix.commands.merge"),
    "diff": ("compare two datasets; exit status 1 if they differ", "mapix.commands.diff"),
    "bench": ("measure how fast your file is read from your disk", "mapix.commands.bench"),
    "explain": ("print what reading a record or a batch does", "mapix.commands.explain"),
    "references": (
        "print where the numbers lie in a file, for zarr, xarray and dask",
        "mapix.commands.references",
    ),
    "view": ("show a dataset in the browser", "mapix.commands.view"),
    "card": ("write a dataset card: facts, columns, a picture", "mapix.commands.card"),
    "demo": ("make two datasets and an archive, read them in two ways", "mapix.commands.demo"),
    "completion": (
        "print a script that completes commands in a shell",
        "mapix.commands.completion",
    ),
}
"""Name -> one line of help, and the module whose ``add(parser)`` adds the arguments and ``run``.

``run(arguments)`` is set by ``parser.set_defaults(run=...)``.  It returns the exit status, or None
for 0; see ``mapix.commands.output`` for its values.
"""
