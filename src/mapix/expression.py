"""Conditions on columns as text: ``"note_number > 51 and velocity <= 81"``.

Comparisons, ``and or not``, ``in``, ``+ - * / %``, numbers, quoted text and names of columns.
Nothing else is understood, and nothing is executed.
"""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix.syntax import parsed

if TYPE_CHECKING:
    from mapix.columns import Column

__all__ = ["Bounds", "ConditionError", "bounds_of", "evaluate", "names_in"]

MOST_TEXT = 10_000  # characters
QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
SINGLE_EQUALS = re.compile(r"(?<![<>=!])=(?!=)")
WORD = re.compile(r"\b[a-z]+\b")
WORDS = {"and", "or", "not", "in"}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: np.logical_not,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: _within(a, b),
    ast.NotIn: lambda a, b: ~_within(a, b),
}
_BOOL = {ast.And: np.logical_and, ast.Or: np.logical_or}


class ConditionError(ValueError):
    """A text is not a condition, whatever the columns are."""


def evaluate(text: str, columns: Mapping[str, Column]) -> tuple[Any, set[str]]:
    """Evaluate a condition for each record; return the result and the names that occur.

    A part that names one column of codes is evaluated for the 256 codes only.

    Parameters
    ----------
    text : str
        The condition.
    columns : mapping of str to Column
        Asked only for names that occur.

    Raises
    ------
    ValueError
        The text is not such a condition, or it names a column that is not there.
    """
    body, text, names = _parsed(text, columns)
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _value(body, columns, text), names
    except TypeError as e:
        raise ValueError(f"{text!r} compares values of different types: {e}") from e
    except RecursionError as e:
        raise ConditionError(f"{text!r} is nested too deeply") from e


def names_in(text: str, known: Iterable[str]) -> list[str]:
    """Return the names of columns that occur in a condition, sorted.

    Raises
    ------
    ValueError
        The text is not a condition, or a name is not known.
    """
    return sorted(_parsed(text, known)[2])


def _parsed(text: str, known: Iterable[str]) -> tuple[ast.expr, str, set[str]]:
    """Return a condition, its text without blanks around it, and the names that occur."""
    if len(text) > MOST_TEXT:
        raise ConditionError(
            f"a condition may have {MOST_TEXT:,} characters, this one has {len(text):,}"
        )
    text = text.strip()
    try:
        body = parsed(text)
    except SyntaxError as e:
        raise ConditionError(f"{text!r} is not a condition: {_syntax(e, text, known)}") from e
    names = _names(body)
    for name in sorted(names):
        if name not in known:
            there = f"the columns: {', '.join(known)}" if known else "the dataset has no columns"
            raise ValueError(
                f"{text!r}: there is no column {name!r}; {there}; a text stands in quotes"
            )
    return body, text, names


def _syntax(e: SyntaxError, text: str, known: Iterable[str]) -> str:
    """Return what is wrong with the syntax, in the words of conditions."""
    if e.lineno is None:
        return e.msg
    bare = QUOTED.sub("", text)
    if SINGLE_EQUALS.search(bare):
        return "== compares, = does not"
    for word in WORD.findall(bare):
        if keyword.iskeyword(word) and word not in WORDS:
            there = f"; the columns: {', '.join(known)}" if known else ""
            return f"{word!r} cannot be the name of a column here{there}"
    at = e.offset or 0
    if not 0 < at <= len(text):
        return "it ends too early" if text else "it is empty"
    return f"{text[at - 1 :]!r} is not understood"


def _check_alike(a: Any, b: Any, text: str) -> None:
    """Refuse numbers that are compared with a text: they would never be equal."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, str) and getattr(getattr(other, "dtype", None), "kind", "") in "biuf":
            raise ValueError(f"{text!r}: numbers are compared with the text {one!r}")


def _names(node: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _value(node: ast.expr, columns: Mapping[str, Column], text: str) -> Any:
    """Return the value of a node for each record, or one value for all."""
    names = _names(node)
    if len(names) == 1:
        column = columns[names.pop()]
        codes, by_code = getattr(column, "codes", None), getattr(column, "by_code", None)
        if codes is not None and by_code is not None:
            found = _apply(node, lambda child: by_code, text)
            return np.take(np.broadcast_to(found, (256,)), codes)
        values = _values(column)
        return _apply(node, lambda child: values, text)
    return _apply(node, lambda child: _value(child, columns, text), text, once=True)


def _values(column: Column) -> NDArray[Any]:
    """Return the values of a column; where one is missing NaN, or an empty text or tuple."""
    values = column.filled()
    if values.dtype.kind == "O" and not column.complete:
        there = column.values[column.present]
        empty = type(there[0])() if len(there) else ""
        for i in np.flatnonzero(~column.present).tolist():
            values[i] = empty
    return values


def _within(item: Any, container: Any) -> NDArray[np.bool_]:
    """Evaluate ``item in container``: for each record, a part of a text or a member of a tuple."""
    if isinstance(item, np.ndarray) and item.ndim:
        raise ValueError("`in` takes a constant on its left and a column on its right")
    one = item.item() if isinstance(item, np.generic) else item
    values = np.atleast_1d(np.asarray(container, object))
    return np.fromiter((one in value for value in values), np.bool_, len(values))


def _apply(
    node: ast.expr, named: Callable[[ast.expr], Any], text: str, *, once: bool = False
) -> Any:
    """Work a node out.  Its names are ``named``; with ``once``, all that is below it is."""

    def of(child: ast.expr) -> Any:
        return named(child) if once else _apply(child, named, text)

    if isinstance(node, ast.Name):
        return named(node)
    if isinstance(node, ast.BoolOp):
        found = of(node.values[0])
        for child in node.values[1:]:
            found = _BOOL[type(node.op)](found, of(child))
        return found
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        sides = [of(child) for child in (node.left, *node.comparators)]
        found = True
        for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True):
            if isinstance(op, ast.Eq | ast.NotEq):
                _check_alike(a, b, text)
            found = np.logical_and(found, _COMPARE[type(op)](a, b))
        return found
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](of(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = of(node.left), of(node.right)
        return _BINARY[type(node.op)](np.float64(left), np.float64(right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return np.float64(node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    part = ast.get_source_segment(text, node) or type(node).__name__
    raise ConditionError(f"{text!r}: {part!r} is not understood here; a callable may do it")


# --- what can be true, from the ranges of columns ------------------------------------------------


class Bounds(NamedTuple):
    """The least and the largest value of something in each of k files, float64 (k,).

    Attributes
    ----------
    low, high : ndarray
        float64 (k,).
    known : ndarray
        bool (k,): False where low and high mean nothing: of texts, or with NaN among the values.
    empty : ndarray
        bool (k,): True where no record has a value.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    known: NDArray[np.bool_]
    empty: NDArray[np.bool_]


class _Truth(NamedTuple):
    """Whether something can be true, and can be false, in each of k files: bool (k,)."""

    true: NDArray[np.bool_]
    false: NDArray[np.bool_]


def bounds_of(text: str, known: Mapping[str, Bounds], n: int) -> NDArray[np.bool_]:
    """Return in which files a condition can hold for a record, from the ranges of their columns.

    Parameters
    ----------
    text : str
        The condition, which was understood by ``names_in``.
    known : mapping of str to Bounds
        The columns of these files; a condition on another one holds for no record.
    n : int
        Number of files.

    Returns
    -------
    ndarray
        bool (n,): False where the condition holds for no record.
    """
    body = ast.parse(text.strip(), mode="eval").body
    names = _names(body)
    if not names <= known.keys():
        return np.zeros(n, np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        found = _truth(body, known, n).true.copy()
    for name in names:
        found &= ~known[name].empty
    return found


def _both(a: _Truth, b: _Truth) -> _Truth:
    return _Truth(a.true & b.true, a.false | b.false)


def _either(a: _Truth, b: _Truth) -> _Truth:
    return _Truth(a.true | b.true, a.false & b.false)


def _truth(node: ast.expr, known: Mapping[str, Bounds], n: int) -> _Truth:
    """Return whether a part of a condition can be true, and can be false."""
    if isinstance(node, ast.BoolOp):
        parts = [_truth(child, known, n) for child in node.values]
        return reduce(_both if isinstance(node.op, ast.And) else _either, parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        part = _truth(node.operand, known, n)
        return _Truth(part.false, part.true)
    if isinstance(node, ast.Compare):
        sides = [_interval(child, known, n) for child in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides[:-1], sides[1:], strict=True)
        return reduce(_both, [_compared(op, a, b) for op, a, b in pairs])
    a = _interval(node, known, n)
    zero = (a.low <= 0) & (a.high >= 0)
    return _Truth(~a.known | (a.low != 0) | (a.high != 0), ~a.known | zero)


def _compared(op: ast.cmpop, a: Bounds, b: Bounds) -> _Truth:
    unknown = ~(a.known & b.known)
    meet = (a.low <= b.high) & (b.low <= a.high)
    one = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    found = {
        ast.Lt: (a.low < b.high, a.high >= b.low),
        ast.LtE: (a.low <= b.high, a.high > b.low),
        ast.Gt: (a.high > b.low, a.low <= b.high),
        ast.GtE: (a.high >= b.low, a.low < b.high),
        ast.Eq: (meet, ~one),
        ast.NotEq: (~one, meet),
    }.get(type(op))
    if found is None:
        return _Truth(np.ones_like(unknown), np.ones_like(unknown))
    return _Truth(found[0] | unknown, found[1] | unknown)


def _interval(node: ast.expr, known: Mapping[str, Bounds], n: int) -> Bounds:
    """Return the bounds of a number; nothing is known of all else."""
    no = np.zeros(n, np.bool_)
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = np.full(n, np.float64(node.value))
        return Bounds(value, value, ~no, no)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        a = _interval(node.operand, known, n)
        return a if isinstance(node.op, ast.UAdd) else a._replace(low=-a.high, high=-a.low)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
        a, b = (_interval(side, known, n) for side in (node.left, node.right))
        if isinstance(node.op, ast.Add):
            ends = [a.low + b.low, a.high + b.high]
        elif isinstance(node.op, ast.Sub):
            ends = [a.low - b.high, a.high - b.low]
        else:
            ends = [p * q for p in (a.low, a.high) for q in (b.low, b.high)]
        low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
        finite = np.isfinite([a.low, a.high, b.low, b.high, low, high]).all(0)
        return Bounds(low, high, a.known & b.known & finite, no)
    nothing = np.zeros(n)
    return Bounds(nothing, nothing, no, no)
