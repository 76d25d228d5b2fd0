"""Checking every file of a VIMH dataset."""

from __future__ import annotations

import os
import warnings

from mapix.errors import MapixError, MapixWarning
from mapix.report import Report
from mapix.vimh import upkeep
from mapix.vimh.dataset import Dataset
from mapix.vimh.layout import Progress
from mapix.vimh.opening import data_files, open_path

__all__ = ["others", "verify"]


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
        Check this one alone.
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


def others(ds: Dataset, progress: Progress | None) -> list[Report]:
    """Check the other data files of the directory that was opened; none where a file was."""
    folder = getattr(ds, "directory", None)  # several files joined have none
    if folder is None:
        return []
    files = [path for path in data_files(folder) if not os.path.samefile(path, ds.source.full_path)]
    return [_report(path, progress) for path in files]


def _report(path: str, progress: Progress | None) -> Report:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MapixWarning)  # what they say is in the report
            opened = open_path(path)
        assert isinstance(opened, Dataset)  # of one file
        with opened:
            return upkeep.verify(opened, progress)
    except MapixError as e:
        return Report(path, checked=["opening"], problems=[str(e)])
