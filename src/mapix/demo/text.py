"""Numbers and tables as aligned text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["amount", "fitting", "nbytes", "ratio", "seconds", "table"]


def _three(value: float) -> str:
    """Three significant digits, never in exponents."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def seconds(value: float) -> str:
    """A duration: ``1.73 µs``, ``20.4 ms``, ``2.10 s``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value * 1e9:.0f} ns"


def amount(value: float) -> str:
    """A number of things: ``812``, ``38,400``, ``1.09 M``."""
    return f"{_three(value / 1e6)} M" if value >= 1e6 else f"{value:,.0f}"


def nbytes(value: float) -> str:
    """A size in decimal units: ``160 MB`` is 160,000,000 bytes."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f} bytes"


def ratio(value: float) -> str:
    """How many times: ``5.6 x``, ``213 x``, ``0.07 x``."""
    return (
        f"{value:,.0f} x" if value >= 10 else f"{value:.1f} x" if value >= 1 else f"{value:.2f} x"
    )


def fitting(text: str, encoding: str) -> str:
    """The text with its rules and micro signs in ASCII, where the encoding knows no better."""
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
    """Rows as lines whose columns are aligned.

    Parameters
    ----------
    rows : iterable of sequences of str
        A row with a single cell runs over all columns.
    right : sequence of int
        Columns aligned on the right.
    heads : sequence of int
        Rows that head a part of the table: an empty line above (but for row 0), a rule below.
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
