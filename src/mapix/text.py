"""Numbers, tables and descriptions of datasets as aligned text; progress on a terminal."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

__all__ = [
    "Progress",
    "amount",
    "array_text",
    "brief",
    "counted",
    "counted_splits",
    "described",
    "description",
    "fitting",
    "nbytes",
    "never_failing",
    "percent",
    "plain_line",
    "printable",
    "ratio",
    "seconds",
    "shortened",
    "table",
    "title_of",
    "type_name",
    "value_text",
]

MOST_CHARACTERS = 100  # of a value in a description
MOST_IN_TABLE = 60  # characters of a cell
BYTE_ORDERS = {"<": "little", ">": "big"}
SIZES = ("shape", "image")  # ends of the names of facts that are sides
RANGES = ("area",)  # names of facts that are the least and the largest value
UNCUT = ("path", "how")  # names of facts that are never cut: paths are copied, sentences read
MOST_NAMED = 8  # values of a tuple that ``brief`` names


def _three(value: float) -> str:
    """Return three significant digits, never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def seconds(value: float) -> str:
    """Return a duration: ``1.73 µs``, ``20.4 ms``, ``2.10 s``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value * 1e9:.0f} ns"


def amount(value: float) -> str:
    """Return a count: ``812``, ``38,400``, ``1.09 M``."""
    return f"{_three(value / 1e6)} M" if value >= 1e6 else f"{value:,.0f}"


def counted(n: int, what: str) -> str:
    """Return a number of things, of which ``what`` names one or several.

    ``1 thread``, ``1,024 threads``, both for ``"thread"`` and for ``"threads"``.
    """
    one = what.removesuffix("s")
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def counted_splits(records: Mapping[str, int], what: str = "records") -> str:
    """Return the number of records, and of each split if there are several.

    ``8 records``, or ``50 records: 40 train, 10 test``.
    """
    held = counted(sum(records.values()), what)
    parts = ", ".join(f"{n:,} {split}" for split, n in records.items())
    return f"{held}: {parts}" if len(records) > 1 else held


def nbytes(value: float) -> str:
    """Return a size in decimal units: ``160 MB`` is 160,000,000 bytes."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f} bytes"


def ratio(value: float) -> str:
    """Return a factor: ``5.6 x``, ``213 x``, ``0.07 x``."""
    return (
        f"{value:,.0f} x" if value >= 10 else f"{value:.1f} x" if value >= 1 else f"{value:.2f} x"
    )


def array_text(shape: Iterable[int], dtype: object) -> str:
    """Return shape and type of an array: ``60000 x 28 x 28 of uint8``."""
    sides = [str(side) for side in shape]
    what = (
        " x ".join(sides) if len(sides) > 1 else f"{sides[0]} values" if sides else "single values"
    )
    return f"{what} of {type_name(dtype)}"


def plain_line(text: str, most: int = 400) -> str:
    """Return text on one line, at most ``most`` characters of it, as ``printable`` returns it."""
    line = " ".join(text[: 4 * most].split())
    if len(line) > most or len(text) > 4 * most:
        line = line[: most - 1] + "…"
    return printable(line)


def printable(text: str) -> str:
    """Return text whose characters that are not printable are escapes.

    A file may state any name: such characters move a terminal's cursor, or cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(what: Any) -> str:
    """Return a ``repr`` of a dataclass on one line: of arrays type and shape, of lists the length.

    Attributes that are None or empty are left out.
    """
    from dataclasses import fields  # here: the first open of a process needs none

    values = ((f.name, getattr(what, f.name)) for f in fields(what))
    shown = (f"{name} {text}" for name, value in values if (text := _brief(value)))
    return f"<{type(what).__name__}: {', '.join(shown)}>"


def _brief(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, str | bytes):
        return plain_line(str(value), MOST_CHARACTERS)
    if isinstance(value, tuple) and len(value) <= MOST_NAMED and all(_short(v) for v in value):
        return plain_line(f"({', '.join(map(str, value))})") if value else ""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return f"({len(value)})" if value else ""
    return plain_line(repr(value), MOST_CHARACTERS)


def _short(value: Any) -> bool:
    return isinstance(value, int | float | str) and len(str(value)) <= MOST_CHARACTERS


T = TypeVar("T")


def never_failing(make: Callable[[T], str]) -> Callable[[T], str]:
    """Return a ``__repr__`` that states an error in place of raising it.

    An object is shown while an error is searched for: that its file is closed or was changed must
    not hide that error.  MemoryError is raised.
    """

    @wraps(make)
    def made(self: T) -> str:
        try:
            return make(self)
        except MemoryError:
            raise
        except Exception as e:
            return f"<{type(self).__name__} cannot be read: {plain_line(str(e))}>"

    return made


def described(what: Any) -> str:
    """Return ``repr(what)`` without its angle brackets, and without the module's name."""
    text = repr(what).removeprefix("<").removesuffix(">")
    first, _, rest = text.partition(" ")
    name = type(what).__name__
    return rest if first in (name, f"{name}:") or first.endswith(f".{name}") else text


def fitting(text: str, encoding: str) -> str:
    """Return a text, its rules and micro signs in ASCII where the encoding has none."""
    try:
        "─µ".encode(encoding)
    except UnicodeEncodeError:
        return text.translate({ord("─"): "-", ord("µ"): "u"})
    return text


def table(
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[int] = (),
    heads: Sequence[int] = (),
    indent: int = 2,
    gap: int = 3,
) -> str:
    """Return rows as lines whose columns are aligned.

    Parameters
    ----------
    rows : iterable of sequences of str
        A row of a single cell spans all columns.
    right : sequence of int
        Numbers of the columns that are aligned on the right.
    heads : sequence of int
        Numbers of heading rows: an empty line above (except row 0), a rule below.
    indent, gap : int
        Spaces before the first column, and between two.
    """
    rows = [list(row) for row in rows]
    cells = [row for row in rows if len(row) > 1]
    ncolumns = max((len(row) for row in cells), default=0)
    wide = [max((len(row[k]) for row in cells if k < len(row)), default=0) for k in range(ncolumns)]
    whole = max([sum(wide) + gap * (ncolumns - 1), *(len(row[0]) for row in rows if len(row) == 1)])
    lines = []
    for number, row in enumerate(rows):
        if number in heads and number:
            lines.append("")
        if len(row) > 1:
            row = [
                cell.rjust(wide[k]) if k in right else cell.ljust(wide[k])
                for k, cell in enumerate(row)
            ]
        lines.append((" " * gap).join(row))
        if number in heads:
            lines.append("─" * whole)
    return "\n".join((" " * indent + line).rstrip() for line in lines)


# --- what a dataset holds -------------------------------------------------------------------------


def description(facts: Mapping[str, Any]) -> str:
    """Return the facts of ``ds.describe()`` as text: a table, then a section for each list.

    Parameters
    ----------
    facts : mapping
        Plain data.  A value that is a mapping, or a list of mappings, becomes a section.
    """
    rows, sections = [], []
    for name, value in facts.items():
        if name == "path" or value is None or value in ({}, [], ""):
            continue
        title = title_of(name)
        if name == "splits":
            rows.append([title, ", ".join(value)])
        elif isinstance(value, Mapping):
            found = [[str(k), value_text(v)] for k, v in value.items() if _plain(v) and v != []]
            sections += [(title, found)] if found else []
        elif isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
            sections.append((title, _records(value)))
        else:
            rows.append([title, value_text(value, name)])
    parts = [str(facts.get("path", "")), *([table(rows)] if rows else [])]
    for title, found in sections:
        right = [k for k in range(len(found[0])) if all(_numeric(row[k]) for row in found[1:])]
        parts += ["", f"  {title}", table(found, right=right if len(found) > 1 else (), indent=4)]
    return "\n".join(parts)


def title_of(name: str) -> str:
    """Return the name of a fact as people read it: ``bytes`` for ``nbytes``."""
    return name.replace("nbytes", "bytes").replace("byteorder", "byte order").replace("_", " ")


def _records(values: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return mappings as rows below a row of their keys; a key without any value is left out."""
    keys = dict.fromkeys(
        k for v in values for k in v if any(u.get(k) not in (None, "") for u in values)
    )
    return [list(keys), *([_cell(v.get(key), key) for key in keys] for v in values)]


def _cell(value: Any, name: str) -> str:
    """Return a value in a table of records: numbers may be years or numbers of classes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = value_text(value, name)
    return text if name in UNCUT else shortened(text, MOST_IN_TABLE)


def _plain(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(v, str | int | float) for v in items)


def _numeric(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "").lstrip("-").isdigit()


def type_name(code: object) -> str:
    """Return the name of a type for numpy's code of it: ``uint8`` for ``|u1``.

    Of a type with fields, their names and types: ``flip uint8, angle float32``.
    """
    import numpy as np

    try:
        fields = isinstance(code, str) and code.startswith("[")
        dtype: Any = np.dtype(ast.literal_eval(code) if fields else code)  # type: ignore[arg-type]
    except (TypeError, ValueError, SyntaxError):
        return str(code)
    if dtype.fields:
        return ", ".join(f"{name} {type_name(dtype[name])}" for name in dtype.fields)
    if dtype.subdtype:
        return array_text(dtype.shape, dtype.base)
    if dtype.kind in "SU":
        n = dtype.itemsize // (4 if dtype.kind == "U" else 1)
        return f"{'text' if dtype.kind == 'U' else 'bytes'} of length {n}"
    return f"{dtype.name}, big-endian" if dtype.str.startswith(">") else dtype.name


def value_text(value: Any, name: str = "") -> str:
    """Return the value of a fact of ``ds.describe()``, by its name, as text on one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if name else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if name == "byteorder":
        return BYTE_ORDERS.get(value, str(value))
    if name == "dtype":
        return type_name(value)
    if isinstance(value, list | tuple):
        if name in RANGES and len(value) == 2:
            return " to ".join(value_text(v, name) for v in value)
        return (" x " if name.endswith(SIZES) else ", ").join(value_text(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {value_text(v)}" for k, v in value.items())
    return str(value) if name in UNCUT else shortened(str(value), MOST_CHARACTERS)


def shortened(text: str, most: int) -> str:
    """Return text on one line; of a longer one about ``most`` characters, up to a blank."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    cut = line[: most - 3]
    head = cut.rpartition(" ")[0]
    return f"{head if len(head) > most // 2 else cut}..."


# --- progress -------------------------------------------------------------------------------------


def percent(done: int, total: int) -> None:
    """Show progress in per cent: one line of a terminal, written over; nothing elsewhere."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{100 * done // max(total, 1):3d} %", end=end, file=sys.stderr, flush=True)


class Progress:
    """Show the progress of one step on stderr: per cent on a terminal, else one line per step.

    Parameters
    ----------
    step : str
        Text of the step.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._terminal = sys.stderr.isatty()
        self.called = False

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of all are done."""
        if self._terminal:
            text = f"\r\x1b[K{self._step}: {100 * done // max(total, 1)} %"
            print(text, end="", file=sys.stderr, flush=True)
        elif not self.called:
            print(f"{self._step} ...", file=sys.stderr, flush=True)
        self.called = True

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
