"""Print what commands find: facts as JSON or as tables, and progress on stderr.

Tables are drawn by rich where it is installed and stdout is a terminal (the extra ``cli``), and
are plain text everywhere else.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mapix.errors import MapixError
from mapix.text import MOST_IN_TABLE, description, fitting, shortened, table

__all__ = [
    "CommandError",
    "Table",
    "UsageError",
    "add_output",
    "cell",
    "emit",
    "json_text",
    "plain",
    "progress",
    "write_file",
    "write_picture",
]

LEAST_WRAPPED = 30  # characters of a cell that are on one line
EDGE = 3  # characters between two columns
PROGRESS_AFTER = 1.0  # seconds that something takes before its progress is shown


class CommandError(MapixError):
    """A command cannot do what it was asked to; the message states the next step."""


class UsageError(CommandError):
    """The arguments do not fit; the exit status is 3."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with headings.  Columns of numbers are aligned on the right.

    Attributes
    ----------
    heads : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Values, which ``cell`` turns into text.
    title : str
        A line above.
    """

    heads: Sequence[str]
    rows: Iterable[Sequence[Any]]
    title: str = ""


def add_output(parser: Any) -> None:
    """Add ``--json`` and ``-o FILE``, which ``emit`` follows."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", dest="out", metavar="FILE", help="write to a new file, not to stdout")


def emit(
    arguments: argparse.Namespace, facts: Any, *parts: str | Table | Mapping[str, Any]
) -> None:
    """Print facts: as JSON with ``--json``, else as text.

    Parameters
    ----------
    arguments : Namespace
        With ``json`` and ``out``: see ``add_output``.  A file whose name ends in ``.json`` gets
        JSON.
    facts : object
        What JSON holds; see ``plain``.
    *parts : str, Table, or mapping
        The same for people, one below the other.  Of a mapping ``mapix.text.description`` makes a
        text.
    """
    path = arguments.out
    if path is None:
        _print(arguments.json, facts, parts)
        return
    wanted = arguments.json or path.endswith(".json")
    text = json_text(facts) if wanted else "\n".join(map(_plain_text, parts))
    write_file(path, (text + "\n").encode(errors="backslashreplace"))


def write_file(path: str, data: bytes) -> None:
    """Write a new file, which appears complete or not at all."""
    from mapix.store import NewWhole

    with NewWhole(path) as out:
        out.write(data)


def write_picture(path: str, drawn: Any) -> None:
    """Write a picture, uint8 (h, w, 3), as a new PNG, and print its size."""
    from mapix.drawing import png

    write_file(path, png(drawn))
    print(f"{path}: {drawn.shape[0]} x {drawn.shape[1]} pixels")


def _print(as_json: bool, facts: Any, parts: Sequence[Any]) -> None:
    if as_json:
        print(json_text(facts))
        return
    console = _console() if any(isinstance(part, Table) for part in parts) else None
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for part in parts:
        pieces: Sequence[Any] = [part]
        if isinstance(part, Table) and wide is not None:
            pieces = _pieces(part, wide, wraps=console is not None)
        for piece in pieces:
            if console is not None and isinstance(piece, Table):
                console.print(_rich_table(piece))
            else:
                print(fitting(_plain_text(piece), sys.stdout.encoding or "utf-8"))


def _pieces(part: Table, wide: int, *, wraps: bool) -> list[Table]:
    """Return a table as several that fit into a terminal, each with the first column.

    Parameters
    ----------
    part : Table
        The table.
    wide : int
        Characters of a line.
    wraps : bool
        Whether cells of more than ``LEAST_WRAPPED`` characters take several lines.
    """
    rows = [[cell(value) for value in row] for row in part.rows]
    most = LEAST_WRAPPED if wraps else wide
    widths = [
        EDGE + max(_longest_word(column), min(most, max(map(len, column))))
        for column in zip(part.heads, *rows, strict=True)
    ]
    groups: list[list[int]] = [[]]
    for k in range(1, len(widths)):
        used = 1 + widths[0] + sum(widths[j] for j in groups[-1]) + widths[k]
        if groups[-1] and used > wide:
            groups.append([])
        groups[-1].append(k)
    return [
        Table(
            [part.heads[k] for k in (0, *group)],
            [[row[k] for k in (0, *group)] for row in rows],
            "" if number else part.title,
        )
        for number, group in enumerate(groups)
    ]


def _longest_word(texts: Iterable[str]) -> int:
    """Return the characters of the longest word of some texts."""
    return max((len(word) for text in texts for word in text.split()), default=0)


def _plain_text(part: str | Table | Mapping[str, Any]) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Table):
        return description(part)
    rows = [[cell(value) for value in row] for row in part.rows]
    text = table([list(part.heads), *rows], right=_numbers(part.heads, rows), heads=(0,))
    return f"{part.title}\n{text}" if part.title else text


def _numbers(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return which columns hold numbers only."""
    found = []
    for k in range(len(heads)):
        values = [row[k] for row in rows if row[k]]
        if values and all(_is_number(value) for value in values):
            found.append(k)
    return found


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True


def _console() -> Any:
    """Return rich's console where rich is installed and stdout is a terminal, or None."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


def _rich_table(part: Table) -> Any:
    from rich.table import Table as RichTable
    from rich.text import Text

    rows = [[cell(value) for value in row] for row in part.rows]
    right = _numbers(part.heads, rows)
    made = RichTable(title=Text(part.title) if part.title else None, title_justify="left")
    for k, (head, *cells) in enumerate(zip(part.heads, *rows, strict=True)):
        short = max(map(len, (head, *cells))) <= LEAST_WRAPPED
        justify: Any = "right" if k in right else "left"
        made.add_column(Text(head), justify=justify, overflow="fold", no_wrap=short)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def cell(value: Any) -> str:
    """Return a value as the text of a table's cell; empty for None and NaN."""
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return shortened(str(value), MOST_IN_TABLE)


def plain(value: Any) -> Any:
    """Return a value as plain data that JSON holds.

    Numbers of numpy become Python's, arrays lists, bytes text; NaN and infinities become None.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(found) for key, found in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset | range):
        return [plain(found) for found in value]
    return str(value)


def json_text(facts: Any) -> str:
    """Return facts as JSON, a line for each entry of a list of records."""
    facts = plain(facts)
    if isinstance(facts, list) and facts:
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in facts)
        return f"[\n{lines}\n]"
    return json.dumps(facts, indent=2, ensure_ascii=False)


# --- progress -------------------------------------------------------------------------------------


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a ``progress(done, total)`` that shows how far something is, on stderr.

    Nothing is shown before a second has passed, nor where stderr is not a terminal.

    Parameters
    ----------
    what : str
        What is being done: "verifying x.iid".
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    shown = _Shown(what)
    timer = threading.Timer(PROGRESS_AFTER, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield shown
    finally:
        timer.cancel()
        shown.clear()


class _Shown:
    """Progress on a terminal: a bar of rich, or a line that is written over.

    ``start`` is called by a thread, since the first call of progress may come late.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._bar: Any = None
        self._text = ""
        self._state = "waiting"

    def __call__(self, done: int, total: int) -> None:
        with self._lock:
            if self._state != "shown":
                return
            if self._bar is not None:
                self._bar.update(0, completed=done, total=max(total, 1))
            else:
                self._print(f"{self._what}: {100 * done // max(total, 1)} %")

    def _print(self, text: str) -> None:
        if text != self._text:
            self._text = text
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def start(self) -> None:
        """Show that it has begun."""
        with self._lock:
            if self._state != "waiting":
                return
            self._state = "shown"
            try:
                from rich.console import Console
                from rich.progress import Progress
            except ImportError:
                self._print(f"{self._what} ...")
                return
            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.add_task(self._what, total=None)
            self._bar.start()

    def clear(self) -> None:
        """Take the line away; nothing is shown after this."""
        with self._lock:
            if self._state == "shown" and self._bar is not None:
                self._bar.stop()
            elif self._state == "shown":
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._state = "over"
