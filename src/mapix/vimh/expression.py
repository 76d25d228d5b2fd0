"""Conditions on labels as text: ``"note_number > 51 and velocity <= 81"``.

Comparisons, ``and or not``, ``+ - * / %``, numbers and names of parameters: nothing else is
understood, and nothing is executed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["evaluate"]

MOST_TEXT = 10_000  # characters

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
}
_BOOL = {ast.And: np.logical_and, ast.Or: np.logical_or}


def evaluate(text: str, values: Mapping[str, NDArray[np.float64]]) -> tuple[Any, set[str]]:
    """What a condition is for each record, and the names that it asks about.

    Parameters
    ----------
    text : str
        The condition.
    values : mapping of str to ndarray
        float64 (n,) of each name; asked only for names that occur.

    Raises
    ------
    ValueError
        The text is no such condition, or names what is not there.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"a condition may have {MOST_TEXT} characters, this one has {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise ValueError(f"{text!r} is no condition: {e}") from e
    names: set[str] = set()
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _value(tree.body, values, names, text), names
    except RecursionError as e:
        raise ValueError(f"{text!r} is nested too deeply") from e


def _value(
    node: ast.expr, values: Mapping[str, NDArray[np.float64]], names: set[str], text: str
) -> Any:
    def of(child: ast.expr) -> Any:
        return _value(child, values, names, text)

    if isinstance(node, ast.BoolOp):
        found = of(node.values[0])
        for child in node.values[1:]:
            found = _BOOL[type(node.op)](found, of(child))
        return found
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        sides = [of(child) for child in (node.left, *node.comparators)]
        found = True
        for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True):
            found = np.logical_and(found, _COMPARE[type(op)](a, b))
        return found
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](of(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = of(node.left), of(node.right)
        return _BINARY[type(node.op)](np.float64(left), np.float64(right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return np.float64(node.value)
    if isinstance(node, ast.Name):
        if node.id not in values:
            raise ValueError(f"{text!r}: no parameter {node.id!r}; there: {', '.join(values)}")
        names.add(node.id)
        return values[node.id]
    part = ast.get_source_segment(text.strip(), node) or type(node).__name__
    raise ValueError(f"{text!r}: {part!r} is not understood here; a callable may do it")
