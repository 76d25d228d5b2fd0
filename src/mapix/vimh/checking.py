"""Checking every file of a VIMH dataset."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from mapix.errors import MapixError, MapixWarning
from mapix.registry import open_dataset
from mapix.report import Report
from mapix.vimh import upkeep
from mapix.vimh.files import data_files
from mapix.vimh.layout import Progress

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset

__all__ = ["verify", "verify_dataset"]


def verify(
    path: str | os.PathLike[str], split: str | None = None, progress: Progress | None = None
) -> list[Report]:
    """Check all data files of a dataset: each as ``Dataset.verify`` does.

    Parameters
    ----------
    path : str or os.PathLike
        A data file; or a dataset directory, of which binary files, pickles and shards of both
        splits are checked.
    split : str, optional
        Check this split alone.
    progress : callable, optional
        ``progress(bytes_done, bytes_total)``, of each file.

    Returns
    -------
    list of Report
        One for each file.  A file that cannot be opened has a report with that problem.

    Raises
    ------
    FileNotFoundError
        The directory has no such data file.
    """
    path = os.fspath(path)
    files = data_files(path, split) if os.path.isdir(path) else [path]
    if not files:
        raise FileNotFoundError(f"{path}: no data file of {split or 'a VIMH dataset'}")
    return [_report(file, progress) for file in files]


def verify_dataset(ds: Dataset, progress: Progress | None = None) -> Report:
    """Check the file of a dataset, and the other data files of a directory that was opened."""
    report = upkeep.verify(ds, progress)
    for path in data_files(ds.directory) if ds.directory is not None else ():
        if not os.path.samefile(path, ds.source.full_path):
            other = _report(path, progress)
            report.checked.append(f"{other.path}: {', '.join(other.checked)}")
            report.problems += [f"{other.path}: {problem}" for problem in other.problems]
    return report


def _report(path: str, progress: Progress | None) -> Report:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MapixWarning)  # the report states the same
            opened = open_dataset(path, format="vimh")
        with opened:
            return upkeep.verify(opened, progress)
    except MapixError as e:
        return Report(path, checked=["opening"], problems=[str(e)])
