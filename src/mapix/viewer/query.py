"""Conditions as text, taken apart: which part is a brush of which column.

The page writes a condition for each brush, and reads brushes back from any condition.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from mapix.syntax import parsed

__all__ = ["parts"]


def parts(text: str, columns: Iterable[str]) -> list[dict[str, Any]]:
    """Return what a condition joins by ``and``, in its order.

    Returns
    -------
    list of dict
        ``text``, and of a part that a brush could have made also ``column`` and ``kind``:
        ``"range"`` with ``low``, ``high`` (None: open) and ``with_low``, ``with_high`` (whether the
        ends belong to it); ``"values"`` with ``values``; ``"within"`` with ``values``, of which
        the column contains one.

    Raises
    ------
    ValueError
        The text is not a condition.
    """
    text = text.strip()
    if not text:
        return []
    try:
        body = parsed(text)
    except SyntaxError as e:
        raise ValueError(f"{text!r} is not a condition: {e}") from e
    is_and = isinstance(body, ast.BoolOp) and isinstance(body.op, ast.And)
    nodes = body.values if is_and and isinstance(body, ast.BoolOp) else [body]
    known = set(columns)
    found: list[dict[str, Any]] = []
    for node in nodes:
        part = {"text": _source(text, node, len(nodes) > 1)} | (_brush(node) or {})
        if part.get("column", "") not in known:
            part = {"text": part["text"]}
        earlier = next((p for p in found if _ranges(p, part)), None)
        if earlier is None:
            found.append(part)
        else:
            _narrow(earlier, part)
    return found


def _source(text: str, node: ast.expr, many: bool) -> str:
    """Return the text of a node, in brackets where ``and`` needs them."""
    found = ast.get_source_segment(text, node) or ""
    return f"({found})" if many and isinstance(node, ast.BoolOp) else found


def _constant(node: ast.expr) -> Any:
    """Return the value of a number or text; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _constant(node.operand)
        return -value if isinstance(value, int | float) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    return None


_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
}


def _brush(node: ast.expr) -> dict[str, Any] | None:
    """Return the brush that a part stands for; None if it is something else."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        brushes = [_brush(value) for value in node.values]
        first = brushes[0]
        if first is None or first["kind"] == "range":
            return None
        for other in brushes[1:]:
            if other is None or any(other[k] != first[k] for k in ("column", "kind")):
                return None
        values = [v for b in brushes if b is not None for v in b["values"]]
        return first | {"values": values}
    if not isinstance(node, ast.Compare):
        return None
    sides = [node.left, *node.comparators]
    if len(node.ops) == 1 and isinstance(node.ops[0], ast.In):
        value, column = _constant(sides[0]), sides[1]
        if isinstance(value, str) and isinstance(column, ast.Name):
            return {"column": column.id, "kind": "within", "values": [value]}
        return None
    found: dict[str, Any] | None = None
    for op, left, right in zip(node.ops, sides[:-1], sides[1:], strict=True):
        one = _compared(type(op), left, right)
        if one is None or (found is not None and not _ranges(found, one)):
            return None
        if found is None:
            found = one
        else:
            _narrow(found, one)
    return found


def _compared(op: type[ast.cmpop], left: ast.expr, right: ast.expr) -> dict[str, Any] | None:
    """Return the brush of one comparison of a column with a constant."""
    if not isinstance(left, ast.Name):
        left, right, op = right, left, _MIRRORED.get(op, op)
    value = _constant(right)
    if not isinstance(left, ast.Name) or value is None:
        return None
    if op is ast.Eq:
        return {"column": left.id, "kind": "values", "values": [value]}
    if isinstance(value, str) or op not in _MIRRORED:
        return None
    below = op in (ast.Lt, ast.LtE)
    closed = op in (ast.LtE, ast.GtE)
    return {
        "column": left.id,
        "kind": "range",
        "low": None if below else value,
        "high": value if below else None,
        "with_low": closed and not below,
        "with_high": closed and below,
    }


def _ranges(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether two parts are ranges of one column of which one end each is missing."""
    if a.get("kind") != "range" or b.get("kind") != "range" or a["column"] != b["column"]:
        return False
    return not any(a[end] is not None and b[end] is not None for end in ("low", "high"))


def _narrow(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Let a range have the ends of another, too."""
    for end in ("low", "high"):
        if b[end] is not None:
            a[end], a[f"with_{end}"] = b[end], b[f"with_{end}"]
    if "text" in a:
        a["text"] = f"{a['text']} and {b['text']}"
