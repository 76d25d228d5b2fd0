"""``mapix query``: the records for which a condition holds."""

from __future__ import annotations

import argparse
from typing import Any

from mapix.commands.arguments import add_opening, natural, opened, range_of
from mapix.commands.convert import add_target, facts, write
from mapix.commands.output import UsageError, emit, json_text, write_file

__all__ = ["add"]

DESCRIPTION = """Find records by a condition on their columns, as "note > 51 and velocity <= 90":
comparisons, `and or not in`, + - * / %, numbers, quoted text and names of columns. The numbers are
printed, a line each. With -o they go to a file .txt, .json or .npy; every other name, or --to,
writes the records as a dataset."""
OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "and", "or")
NUMBERS = (".txt", ".json", ".npy")


def add(parser: Any) -> None:
    """Add the arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("paths", metavar="PATH", nargs="+", help="several are read as one")
    parser.add_argument("where", metavar="CONDITION")
    add_opening(parser)
    parser.add_argument("--range", type=range_of, metavar="FROM:TO", help="only among these")
    parser.add_argument("--sort", metavar="COLUMN", help="in the order of a column")
    parser.add_argument("--descending", action="store_true", help="largest first")
    parser.add_argument("-n", "--number", type=natural, help="the first ones only")
    parser.add_argument("--count", action="store_true", help="print how many")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("-o", dest="out", metavar="FILE", help="write to a new file or dataset")
    add_target(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if len(arguments.paths) > 1 and arguments.paths[-1] in OPERATORS:
        raise UsageError('write the condition in quotes: mapix query PATH "label == 3"')
    target, arguments.out = arguments.out, None
    with opened(arguments) as ds:
        found = ds if arguments.number is None else ds[: arguments.number]
        numbers = found.rows
        if target is not None and (arguments.to or not target.endswith(NUMBERS)):
            made = write(arguments, found, target)
            emit(arguments, facts(made), str(made))
        elif arguments.count:
            emit(arguments, len(numbers), str(len(numbers)))
        elif target is not None:
            _write(numbers, target)
        elif arguments.json:
            print(json_text({"path": found.path, "records": numbers}))
        else:
            for number in numbers.tolist():
                print(number)


def _write(numbers: Any, target: str) -> None:
    """Write the numbers of records: a line each, a list of JSON, or an array, int64 (n,)."""
    import io

    import numpy as np

    if target.endswith(".npy"):
        array = io.BytesIO()
        np.save(array, numbers)
        data = array.getvalue()
    elif target.endswith(".json"):
        data = (str(numbers.tolist()) + "\n").encode()
    else:
        data = "".join(f"{number}\n" for number in numbers.tolist()).encode()
    write_file(target, data)
