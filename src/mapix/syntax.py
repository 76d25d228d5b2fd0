"""Expressions in the syntax of Python: parsed, and never executed."""

from __future__ import annotations

import ast

__all__ = ["parsed"]

NESTED_NCHARS = 500  # fewer characters do not fill the stack of Python's parser


def parsed(text: str) -> ast.expr:
    """Return the tree of an expression in Python's syntax.

    Raises
    ------
    SyntaxError
        It is not an expression, or it is nested too deeply: then the error has no line number.
    MemoryError
        Memory runs out.  Python's parser has the same error for nesting, which takes more than
        ``NESTED_NCHARS`` characters.
    """
    try:
        return ast.parse(text, mode="eval").body
    except MemoryError as e:
        if len(text) <= NESTED_NCHARS:
            raise
        raise SyntaxError("it is nested too deeply") from e
    except RecursionError as e:
        raise SyntaxError("it is nested too deeply") from e
