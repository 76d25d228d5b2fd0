"""From a path to the rows of an Arrow or Parquet file, or of the files of a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mapix.arrow.dataset import ArrowTable, ParquetTable
from mapix.arrow.file import MOST_GROUP_NBYTES, TableFile
from mapix.arrow.places import ARROW, PARQUET, TRAIN, files_of_splits
from mapix.arrow.saved import SavedTables
from mapix.errors import FormatError
from mapix.limits import check_limits
from mapix.pictures.decoding import MAX_PIXELS
from mapix.registry import Candidate
from mapix.source import is_url, path_beside

if TYPE_CHECKING:
    from mapix.dataset import Progress
    from mapix.report import Report

__all__ = ["open_arrow", "open_parquet", "verify_arrow", "verify_parquet"]

KINDS = {ARROW: ArrowTable, PARQUET: ParquetTable}


def open_arrow(
    path: str | os.PathLike[str] | Candidate,
    *,
    split: str | None = None,
    max_group_nbytes: int = MOST_GROUP_NBYTES,
    max_pixels: int = MAX_PIXELS,
) -> ArrowTable | SavedTables:
    """Open an Arrow file (IPC), or the Arrow files of a directory; needs pyarrow.

    Parameters
    ----------
    path : str or os.PathLike
        The file; or a directory that ``save_to_disk`` of Hugging Face's ``datasets`` wrote, or one
        of its cache.
    split : str, optional
        Name of a split of the directory; by default train, or the only one.
    max_group_nbytes, max_pixels : int
        Limits: bytes of a group of rows of Parquet (1 GiB), pixels of a picture (89 million).

    Raises
    ------
    FormatError
        A file is damaged, or missing.
    UnsupportedError
        pyarrow is not installed.
    ValueError
        There is no such split, or one has to be chosen.
    """
    return _opened(Candidate.of(path), ARROW, split, max_group_nbytes, max_pixels)


def open_parquet(
    path: str | os.PathLike[str] | Candidate,
    *,
    split: str | None = None,
    max_group_nbytes: int = MOST_GROUP_NBYTES,
    max_pixels: int = MAX_PIXELS,
) -> ArrowTable | SavedTables:
    """Open a Parquet file, or those of a directory of the Hub; needs pyarrow: see ``open_arrow``.

    The files of a directory are named as ``train-00000-of-00002.parquet``; they lie in it, or in
    its folder ``data``.
    """
    return _opened(Candidate.of(path), PARQUET, split, max_group_nbytes, max_pixels)


def _opened(
    candidate: Candidate, format: str, split: str | None, max_group_nbytes: int, max_pixels: int
) -> ArrowTable | SavedTables:
    check_limits(max_group_nbytes=max_group_nbytes, max_pixels=max_pixels)

    def table(path: str | Candidate) -> ArrowTable:
        file = TableFile(Candidate.of(path).source, format, max_group_nbytes)
        return KINDS[format](file, max_pixels)

    path = candidate.path
    if not candidate.is_directory:
        if split is not None:
            raise ValueError(f"{path} is a file; split= chooses among the splits of a directory")
        return table(candidate)
    found = files_of_splits(path, format)
    if not found:
        raise FormatError(path, format, "no files of a dataset in this directory")
    files = found[_chosen(path, [name for name in found if name], split)]
    places = {name: _folder_of(paths[0]) for name, paths in found.items() if name}
    parts = []
    for file in files:
        try:
            parts.append(table(file))
        except FileNotFoundError as e:
            raise FormatError(file, format, "the file is missing") from e
    folder = _folder_of(files[0]) if is_url(path) else os.path.dirname(files[0])
    return SavedTables(parts, folder=folder, splits=places)


def _folder_of(path: str) -> str:
    """Return the absolute path of the folder of a file; a URL ends with a slash."""
    return path_beside(path, "") if is_url(path) else os.path.abspath(os.path.dirname(path))


def _chosen(path: str, names: Sequence[str], split: str | None) -> str:
    if split is None:
        if len(names) > 1 and names[0] != TRAIN:
            raise ValueError(f"{path}: choose one of its splits by split=: {', '.join(names)}")
        return names[0] if names else ""
    if split not in names:
        there = ", ".join(names) or "none"
        raise ValueError(f"{path}: no split {split!r}; there are: {there}")
    return split


def verify_arrow(path: str, split: str | None, progress: Progress | None) -> Iterator[Report]:
    """Check a split of a directory, or all of them: see ``mapix.registry.Format.verify``."""
    yield from _reports(path, ARROW, split, progress)


def verify_parquet(path: str, split: str | None, progress: Progress | None) -> Iterator[Report]:
    """Check a split of a directory, or all of them: see ``mapix.registry.Format.verify``."""
    yield from _reports(path, PARQUET, split, progress)


def _reports(
    path: str, format: str, split: str | None, progress: Progress | None
) -> Iterator[Report]:
    for name in files_of_splits(path, format) if split is None else [split]:
        opened = _opened(Candidate(path), format, name or None, MOST_GROUP_NBYTES, MAX_PIXELS)
        with opened as ds:
            yield ds.verify(progress)
