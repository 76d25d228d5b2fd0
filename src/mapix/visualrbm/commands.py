"""``mapix visualrbm ...``: the tools as commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from mapix.commands.arguments import add_new, new_file
from mapix.commands.output import add_output, emit
from mapix.commands.parsing import add_tool

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``visualrbm`` and its tools to the program's commands."""
    rbm = commands.add_parser("visualrbm")
    below = rbm.add_subparsers(dest="tool", required=True, metavar="TOOL")

    def command(name: str, run: Callable[[Any], None], text: str) -> argparse.ArgumentParser:
        parser = add_tool(below, name, text)
        parser.set_defaults(run=run)
        return parser

    strict: dict[str, Any] = {"action": "store_true", "help": "accept only what VisualRBM accepts"}
    compat: dict[str, Any] = {
        "action": "store_true",
        "help": "write the text of VisualRBM, which loses digits",
    }

    info = command("info", _info, "one line for each file")
    info.add_argument("file", metavar="FILE", nargs="+")
    info.add_argument("--strict", **strict)
    add_output(info)

    hidden = command("hidden", _hidden, "the outputs of a model for the rows of an IDX file")
    for name in ("file", "out", "model"):
        hidden.add_argument(name, metavar=name.upper())
    hidden.add_argument(
        "--approx",
        action="store_true",
        help="the same bits as VisualRBM, its approximations included",
    )

    stack = command("stack", _stack, "one perceptron of several models' layers")
    stack.add_argument("chosen", metavar="FILE", nargs="*", action=_Choose)
    for option, text in (
        ("-f", "models as they are"),
        ("-t", "machines and autoencoders transposed"),
    ):
        stack.add_argument(
            option, dest="chosen", metavar="FILE", nargs="+", action=_Choose, help=text
        )
    stack.add_argument(
        "-n",
        dest="chosen",
        metavar=("INDEX COUNT FILE", "FILE"),
        nargs="+",
        action=_Choose,
        help="COUNT layers from INDEX on of a perceptron; all layers of the files after it",
    )
    stack.add_argument("-o", dest="out", metavar="OUT", required=True, help="the new file")
    stack.add_argument("--compat", **compat)

    convert = command("convert", _convert, "a model as .json, .npz or .safetensors")
    convert.add_argument("file", metavar="FILE")
    add_new(convert, "the new file, .json, .npz or .safetensors")
    convert.add_argument("--strict", **strict)
    convert.add_argument("--compat", **compat)

    schedule = command("schedule", _schedule, "the values of a schedule's epochs")
    schedule.add_argument("file", metavar="FILE")
    schedule.add_argument("--strict", **strict)


class _Choose(argparse.Action):
    """Collects files for a stack, in the order of the arguments, each with its options."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        chosen = list(getattr(namespace, "chosen", None) or [])
        files = list(values or [])
        first: dict[str, Any] = {}
        if option_string == "-n":
            if len(files) < 3 or not all(f.isdecimal() for f in files[:2]) or int(files[1]) == 0:
                parser.error("-n: an index, a count above 0 and a file expected")
            first = {"index": int(files[0]), "count": int(files[1])}
            del files[:2]
        for path in files:
            chosen.append({"path": path, "transposed": option_string == "-t", **first})
            first = {}
        namespace.chosen = chosen


def _info(a: argparse.Namespace) -> None:
    from mapix.registry import open_dataset
    from mapix.visualrbm import tools

    facts, lines = [], []
    for path in a.file:
        with open_dataset(path, format="visualrbm", strict=a.strict) as opened:
            facts.append(opened.describe())
            lines.append(tools.line_of(opened))
    emit(a, facts[0] if len(facts) == 1 else facts, *lines)


def _hidden(a: argparse.Namespace) -> None:
    from mapix.visualrbm import tools

    tools.hidden(a.file, a.out, a.model, approx="visualrbm" if a.approx else None)


def _stack(a: argparse.Namespace) -> None:
    from mapix.visualrbm import tools

    tools.stack_files(a.chosen, a.out, compat="visualrbm" if a.compat else None)


def _convert(a: argparse.Namespace) -> None:
    from mapix.visualrbm import tools

    tools.convert(
        a.file, new_file(a), strict=a.strict, **({"compat": "visualrbm"} if a.compat else {})
    )


def _schedule(a: argparse.Namespace) -> None:
    from mapix.registry import open_dataset
    from mapix.visualrbm import tools

    print(
        tools.schedule_text(
            open_dataset(a.file, format="visualrbm", kind="schedule", strict=a.strict)
        )
    )
