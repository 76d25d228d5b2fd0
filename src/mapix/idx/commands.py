"""``mapix idx ...``: the tools as commands."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mapix.commands.arguments import add_new, add_paths_and_target, new_file, target_of
from mapix.commands.output import add_output, emit
from mapix.commands.parsing import add_tool
from mapix.idx import tools
from mapix.idx.layout import CODES
from mapix.registry import open_dataset
from mapix.text import counted

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``idx`` and its tools to the program's commands."""
    idx = commands.add_parser("idx")
    below = idx.add_subparsers(dest="tool", required=True, metavar="TOOL")

    def command(name: str, text: str, *names: str, **given: Any) -> argparse.ArgumentParser:
        parser = add_tool(below, name, text)
        for n in names:
            if n == "new":
                add_new(parser, "the new file")
            elif n == "target":
                add_paths_and_target(parser, "FILE", "OUT")
            else:
                parser.add_argument(n, metavar=n.upper(), nargs=given.get(n))
        parser.set_defaults(run=_RUN[name])
        return parser

    add_output(command("info", "byte order, type and dimensions", "file", file="+"))
    csv = command("csv2idx", "comma-separated numbers to an IDX file", "csv", "new")
    csv.add_argument("--dtype", default="f4", choices=[*CODES.values()], help="float32 by default")
    join = command("join", "join the columns of several files", "target")
    cat = command("cat", "join the rows of several files", "target")
    one = command("split", "copy some rows of a file", "file", "out")
    one.add_argument("begin", metavar="FROM", type=int)
    one.add_argument("count", metavar="COUNT", type=int, nargs="?")
    two = command("shuffle", "shuffle rows, in the same way on every machine", "file", "new")
    two.add_argument("--seed", type=int, default=1)
    three = command("idx2csv", "write rows as lines of numbers", "file")
    four = command(
        "image2csv", "write the pixels of an image as a line of numbers (needs Pillow)", "file"
    )
    two.add_argument(
        "--compat",
        nargs="?",
        const=True,
        default=False,
        choices=[True, "libstdc++"],
        metavar="LIBRARY",
        help="flatten rows, as VisualRBM does; libstdc++: also use its permutation, as if it was "
        "built with that library",
    )
    command("append", "append the rows of files to a file", "target")
    for parser in (csv, join, cat, one, two):
        parser.add_argument(
            "--byteorder",
            choices=["big", "little"],
            help="byte order of the new file: big for MNIST's readers, little for VisualRBM; by "
            "default that of the inputs, of csv2idx little",
        )
    for parser in (one, three, four):
        parser.add_argument("--compat", action="store_true", help="write what VisualRBM writes")


def _info(a: argparse.Namespace) -> None:
    facts = []
    for path in a.file:
        with open_dataset(path, format="idx") as ds:
            facts.append(ds.describe())
    emit(a, facts[0] if len(facts) == 1 else facts, *map(tools.describe, a.file))


def _append(a: argparse.Namespace) -> None:
    out = target_of(a, "idx append")
    print(f"{out}: {counted(tools.append_files(a.paths, out), 'record')}")


def _join(a: argparse.Namespace) -> None:
    out = target_of(a, "idx join")
    tools.join(a.paths, out, byteorder=_byteorder(a))


def _cat(a: argparse.Namespace) -> None:
    out = target_of(a, "idx cat")
    tools.cat(a.paths, out, byteorder=_byteorder(a))


def _byteorder(a: argparse.Namespace) -> Any:
    return {"big": ">", "little": "<", None: None}[a.byteorder]


_RUN = {
    "append": _append,
    "info": _info,
    "csv2idx": lambda a: tools.csv2idx(a.csv, new_file(a), dtype=a.dtype, byteorder=_byteorder(a)),
    "join": _join,
    "cat": _cat,
    "split": lambda a: tools.split(
        a.file, a.out, a.begin, a.count, compat=a.compat, byteorder=_byteorder(a)
    ),
    "shuffle": lambda a: tools.shuffle(
        a.file, new_file(a), seed=a.seed, compat=a.compat, byteorder=_byteorder(a)
    ),
    "idx2csv": lambda a: tools.idx2csv(a.file, sys.stdout, compat=a.compat),
    "image2csv": lambda a: tools.image2csv(a.file, sys.stdout, compat=a.compat),
}
