"""``mapix pink ...``: facts, conversion to version 2, pictures, best matches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mapix.commands.arguments import add_new, natural, new_file
from mapix.commands.output import Table, add_output, emit
from mapix.commands.parsing import add_tool
from mapix.pink.converting import convert
from mapix.pink.data import Data
from mapix.pink.file import PinkFile
from mapix.pink.layout import KINDS
from mapix.pink.mapping import Mapping
from mapix.pink.som import Som
from mapix.registry import open_dataset

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add ``pink`` and its tools to the program's commands."""
    pink = commands.add_parser("pink")
    below = pink.add_subparsers(dest="tool", required=True, metavar="TOOL")

    def command(name: str, text: str, *names: str) -> argparse.ArgumentParser:
        parser = add_tool(below, name, text)
        for n in names:
            parser.add_argument(n, metavar="FILE", nargs="+" if n == "files" else None)
        parser.add_argument(
            "--kind", choices=KINDS, help="kind of the file, where its length does not decide"
        )
        parser.set_defaults(run=_RUN[name])
        return parser

    add_output(command("info", "version, kind, layout, dimensions, comment", "files"))
    one = command("convert", "convert a file of version 1 to version 2", "file")
    add_new(one, "the new file")
    one.add_argument(
        "--strict-spec",
        action="store_true",
        help="state hexagons as 1, unlike PINK's programs",
    )
    what = "draw the neurons of a SOM, the heatmap of a mapping, or images"
    two = command("picture", what, "file")
    add_new(two, "the picture to write")
    two.add_argument("--size", type=natural, default=96, help="height of a neuron in pixels (96)")
    two.add_argument(
        "--each", action="store_true", help="stretch the contrast of each neuron by itself"
    )
    add_output(command("best", "print the nearest neuron of each entry, and its distance", "file"))
    add_output(command("counts", "print the number of entries nearest to each neuron", "file"))
    three = command("outliers", "print the entries farthest from their nearest neuron", "file")
    add_output(three)
    three.add_argument("-n", type=natural, default=10, help="number of entries (10)")


def _open(path: str, kind: str | None) -> PinkFile:
    found: PinkFile = open_dataset(path, format="pink", kind=kind)
    return found


def _mapping(a: argparse.Namespace) -> Mapping:
    found = _open(a.file, a.kind)
    if not isinstance(found, Mapping):
        raise ValueError(f"{a.file}: a mapping expected, it is of kind {found.kind}")
    return found


def _info(a: argparse.Namespace) -> None:
    facts, lines = [], []
    for path in a.files:
        with _open(path, a.kind) as opened:
            facts.append({**opened.describe(), "header": list(opened.header)})
            lines += [opened._described(), *opened.header]
    emit(a, facts[0] if len(facts) == 1 else facts, *lines)


def _convert(a: argparse.Namespace) -> None:
    convert(a.file, new_file(a), kind=a.kind, strict_spec=a.strict_spec)


def _picture(a: argparse.Namespace) -> None:
    path = new_file(a)
    with _open(a.file, a.kind) as opened:
        if isinstance(opened, Som):
            picture = opened.picture(a.size, each=a.each)
        elif isinstance(opened, Data):
            picture = opened.picture(size=a.size, each=a.each)
        elif isinstance(opened, Mapping):
            picture = opened.picture(size=a.size)
        else:
            raise ValueError(
                f"{a.file}: no picture of a {opened.kind}; `mapix show` draws its entries"
            )
    picture.save(path)
    print(f"{path}: {picture.height} x {picture.width} pixels")


def _place(m: Mapping, neuron: int) -> str:
    return " ".join(map(str, m.lattice.position(neuron))) if neuron >= 0 else "-"


def _best(a: argparse.Namespace) -> None:
    with _mapping(a) as m:
        found = list(zip(m.best_match().tolist(), m.best_distance().tolist(), strict=True))
        rows = [(e, neuron, _place(m, neuron), away) for e, (neuron, away) in enumerate(found)]
    _emit(a, ("entry", "neuron", "position", "distance"), rows)


def _counts(a: argparse.Namespace) -> None:
    with _mapping(a) as m:
        rows = [(n, _place(m, n), count) for n, count in enumerate(m.counts().tolist())]
    _emit(a, ("neuron", "position", "entries"), rows)


def _outliers(a: argparse.Namespace) -> None:
    with _mapping(a) as m:
        away = m.best_distance()
        rows = [(entry, float(away[entry])) for entry in m.outliers(a.n).tolist()]
    _emit(a, ("entry", "distance"), rows)


def _emit(a: argparse.Namespace, names: Sequence[str], rows: Sequence[Any]) -> None:
    """Print rows: as JSON with their names, or as a table, which has all digits of a float32."""
    shown = [[f"{v:.9g}" if isinstance(v, float) else v for v in row] for row in rows]
    emit(a, [dict(zip(names, row, strict=True)) for row in rows], Table(names, shown))


_RUN = {
    "info": _info,
    "convert": _convert,
    "picture": _picture,
    "best": _best,
    "counts": _counts,
    "outliers": _outliers,
}
