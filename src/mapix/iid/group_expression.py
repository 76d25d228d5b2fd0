"""Groups combined by words: ``"cells and not (dead or 'out of focus')"``."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mapix.iid.groups import Group
from mapix.syntax import parsed

__all__ = ["keys_in"]

MOST_TEXT = 10_000  # characters


def keys_in(text: str, groups: Mapping[str, Group], n: int) -> NDArray[np.uint32]:
    """Return the keys for which a combination of groups holds, of n, ascending.

    Parameters
    ----------
    text : str
        Names of groups, ``and``, ``or``, ``not`` and brackets.  Names that are not identifiers are
        quoted.
    groups : mapping of str to Group
        Asked only for names that occur.
    n : int
        Number of segments: ``not`` means all others.

    Raises
    ------
    ValueError
        The text is not such a combination.
    KeyError
        There is no such group.
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"groups as text may have {MOST_TEXT} characters, got {len(text)}")
    try:
        tree = parsed(text.strip())
    except SyntaxError as e:
        raise ValueError(f"{text!r} is not a combination of groups: {e}") from e
    try:
        return np.flatnonzero(_mask(tree, groups, n, text)).astype(np.uint32)
    except RecursionError as e:
        raise ValueError(f"{text[:40]!r}... is nested too deeply") from e


def _mask(node: ast.expr, groups: Mapping[str, Group], n: int, text: str) -> NDArray[np.bool_]:
    if isinstance(node, ast.BoolOp):
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        found = _mask(node.values[0], groups, n, text)
        for value in node.values[1:]:
            combine(found, _mask(value, groups, n, text), out=found)
        return found
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_mask(node.operand, groups, n, text)
    name = node.id if isinstance(node, ast.Name) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        name = node.value
    if name is None:
        part = ast.get_source_segment(text.strip(), node)
        raise ValueError(
            f"{text!r}: names of groups, and, or, not and brackets are understood, {part!r} is not"
        )
    mask = np.zeros(n, np.bool_)
    mask[groups[name].keys.astype(np.int64)] = True
    return mask
