"""Saving the intact lines of damaged metadata files: ``repair``."""

from __future__ import annotations

import os
from collections.abc import Callable

from mapix.errors import LimitError, UnsupportedError
from mapix.folder.layout import NAME
from mapix.folder.lines import Lines
from mapix.salvage import Saved, Stretches
from mapix.source import Source

__all__ = ["repair"]


def repair(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | bool | None = None,
) -> Saved:
    """Write the lines of a damaged ``metadata.jsonl`` that are JSON objects to a new file.

    The old file is not changed.  Pictures are neither read nor copied.

    Parameters
    ----------
    source : str or os.PathLike
        The damaged file.
    path : str or os.PathLike
        The new file, which must not exist yet.
    progress : callable or True, optional
        ``progress(bytes_done, bytes_total)``; True shows a bar.

    Raises
    ------
    UnsupportedError
        It is a folder, or another file than one of JSON lines.
    FormatError
        No line is a JSON object; nothing is written.
    FileExistsError
        There is something at ``path``.
    """
    name = os.fspath(source)
    if not name.endswith(".jsonl"):
        raise UnsupportedError(
            f"{name}: of an image folder only its metadata.jsonl can be repaired: pass the path of "
            "that file, and move the new one into its place"
        )
    opened = Source(name)
    lines = Lines(opened, format=NAME)
    kept = Stretches(opened)
    for row in range(len(lines)):
        try:
            good = isinstance(lines.value(row), dict)
        except (ValueError, LimitError):
            good = False
        if good:
            kept.keep(*lines.place(row))
    return kept.write(path, NAME, progress=progress)
