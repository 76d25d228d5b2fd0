"""Conditions on labels as text: ``"note_number > 51 and velocity <= 81"``.

Comparisons, ``and or not``, ``+ - * / %``, numbers and names of parameters: nothing else is
understood, and nothing is executed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Labelled", "evaluate"]

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


class Labelled(Protocol):
    """What a condition asks about: values by name."""

    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...

    def table(self, name: str) -> NDArray[np.float64]:
        """Value of each code, float64 (256,)."""

    def codes(self, name: str) -> NDArray[np.uint8]:
        """Code of each record, uint8 (n,)."""


def evaluate(text: str, labels: Labelled) -> tuple[Any, set[str]]:
    """What a condition is for each record, and the names that it asks about.

    A part that asks about one name only is worked out for the 256 codes, and looked up.

    Parameters
    ----------
    text : str
        The condition.
    labels : Labelled
        Asked only for names that occur.

    Raises
    ------
    ValueError
        The text is no such condition, or names what is not there.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"a condition may have {MOST_TEXT} characters, this one has {len(text)}")
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval")
        names = _names(tree.body)
        for name in sorted(names):
            if name not in labels:
                there = ", ".join(labels)
                raise ValueError(f"{text!r}: no parameter {name!r}; there: {there}")
        with np.errstate(divide="ignore", invalid="ignore"):
            return _value(tree.body, labels, text), names
    except (SyntaxError, MemoryError) as e:
        raise ValueError(f"{text!r} is no condition: {e}") from e
    except RecursionError as e:
        raise ValueError(f"{text!r} is nested too deeply") from e


def _names(node: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _value(node: ast.expr, labels: Labelled, text: str) -> Any:
    """The value for each record, or one for all."""
    names = _names(node)
    if len(names) == 1:
        name = names.pop()
        by_code = _apply(node, lambda child: labels.table(name), text)
        return np.take(np.broadcast_to(by_code, (256,)), labels.codes(name))
    return _apply(node, lambda child: _value(child, labels, text), text, once=True)


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
            found = np.logical_and(found, _COMPARE[type(op)](a, b))
        return found
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](of(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = of(node.left), of(node.right)
        return _BINARY[type(node.op)](np.float64(left), np.float64(right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return np.float64(node.value)
    part = ast.get_source_segment(text, node) or type(node).__name__
    raise ValueError(f"{text!r}: {part!r} is not understood here; a callable may do it")
