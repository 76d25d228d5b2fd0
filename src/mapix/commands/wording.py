"""Errors in the words of the command line, with the next step."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from mapix.errors import FormatError, MapixError

__all__ = ["next_step", "worded"]

LINE_END = re.compile(r"(?<![:;,])\s*\n\s*")
ARGUMENT = re.compile(
    r"""(?<![=\w])'[^']*'|(?<![=\w])"[^"]*"|"""
    r"""(?<![-\w.])([a-z_]+)=(True\b|False\b|'\w+'|\(h, w\)|\d+\b)?|"""
    r"""(?<![-\w.])([a-z_]+)(?= must be )"""
)
"""A quoted text, or an argument of Python as errors name it: its name and perhaps its value, or its
name before what it must be."""
WORDS = {"True": "", "False": "none", "(h, w)": "HEIGHTxWIDTH"}


def worded(message: object, options: Iterable[str]) -> str:
    """Return an error on one line, in the words of the command line.

    An option that an error names as an argument of Python (``split=``, ``mode='RGB'``) is named as
    the command has it (``--split``, ``--mode RGB``).
    """
    known = {name.replace("-", "_"): name for name in options}

    def named(found: re.Match[str]) -> str:  # a quoted text has no name
        name, value = found[1] or found[3], (found[2] or "").strip("'")
        if name in known:
            return f"--{known[name]} {WORDS.get(value, value)}".rstrip()
        if "open" in known and found[1]:
            return f"--open {name}={value.lower() if value in ('True', 'False') else value}"
        return found[0]

    text = LINE_END.sub("; ", str(message).strip())
    return ARGUMENT.sub(named, " ".join(text.split()))


def next_step(e: Exception) -> str:
    """Return what can be done about a damaged file; empty where its format saves nothing."""
    if not isinstance(e, FormatError) or not e.recognised or "looks like" in str(e):
        return ""  # it is a file of another kind
    if os.path.isdir(e.path):
        return ""  # a picture in a folder
    from mapix.registry import recognised

    try:
        found = recognised(e.path)  # not the format of a picture that a record names
    except (MapixError, OSError):
        return ""
    able = found is not None and found.name == e.format and found.repair is not None
    return "; `mapix repair` saves the complete records" if able else ""
