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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mapix.columns import Column

__all__ = ["evaluate", "names_in"]

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
        raise ValueError(f"{text!r} is nested too deeply") from e


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
        raise ValueError(f"a condition may have {MOST_TEXT} characters, this one has {len(text)}")
    text = text.strip()
    try:
        body = ast.parse(text, mode="eval").body
        names = _names(body)
    except SyntaxError as e:
        raise ValueError(f"{text!r} is not a condition: {_syntax(e, text)}") from e
    except MemoryError as e:
        raise ValueError(f"{text!r} is not a condition: {e}") from e
    except RecursionError as e:
        raise ValueError(f"{text!r} is nested too deeply") from e
    for name in sorted(names):
        if name not in known:
            raise ValueError(
                f"{text!r}: there is no column {name!r}; the columns: {', '.join(known)}; a text "
                "stands in quotes"
            )
    return body, text, names


def _syntax(e: SyntaxError, text: str) -> str:
    """Return what is wrong with the syntax, in the words of conditions."""
    bare = QUOTED.sub("", text)
    if SINGLE_EQUALS.search(bare):
        return "== compares, = does not"
    for word in WORD.findall(bare):
        if keyword.iskeyword(word) and word not in WORDS:
            return f"{word!r} cannot be the name of a column here; a callable may do it"
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
    raise ValueError(f"{text!r}: {part!r} is not understood here; a callable may do it")
