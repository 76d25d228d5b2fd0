"""Find the datasets in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mapix.errors import MapixError
from mapix.registry import recognised
from mapix.source import is_folder, is_url, scan

__all__ = ["find"]

Path = str | os.PathLike[str]


def find(paths: Path | Iterable[Path], opening: Mapping[str, Any]) -> list[str]:
    """Return the paths of datasets: those passed, and those in other folders.

    Parameters
    ----------
    paths : path, or sequence of paths
        Files and folders.
    opening : mapping
        Options of opening: with ``format``, all files of a folder are taken for datasets.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    """
    each = [paths] if isinstance(paths, str | os.PathLike) else paths
    found: dict[str, None] = {}
    for path in (os.fspath(one) for one in each):
        if not is_folder(path) or recognised(path) is not None:
            if not is_url(path):
                os.stat(path)
            found[path] = None
        else:
            found |= dict.fromkeys(_inside(path, opening.get("format")))
    return list(found)


def _inside(folder: str, format: str | None) -> Iterator[str]:
    """Yield the datasets in a folder and in its folders, sorted by name."""
    with scan(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        if entry.name.startswith(".") or not (entry.is_dir() or entry.is_file()):
            continue
        try:
            known = recognised(entry.path)
        except (MapixError, OSError):
            known = None
        if entry.is_dir():
            if known is None:
                yield from _inside(entry.path, format)
            else:
                yield entry.path
        elif known is None or known.unmarked:
            if format is not None and not entry.name.endswith(".mapix"):
                yield entry.path
        elif known.name != "catalogue":
            yield entry.path
