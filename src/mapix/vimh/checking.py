"""Checks of everything in the files of a VIMH dataset."""

from __future__ import annotations

import os
import warnings
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix.errors import MapixError, MapixWarning
from mapix.plans import Map, over
from mapix.progress import shown
from mapix.registry import open_dataset
from mapix.report import Report
from mapix.vimh import layout
from mapix.vimh.files import data_files
from mapix.vimh.indexing import checksums_of, warn_of_unused
from mapix.vimh.info_json import disagreements, hint_of
from mapix.vimh.layout import Progress
from mapix.vimh.record_index import Columns, RecordIndex, table_bytes
from mapix.vimh.statistics import added, moments_of

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.gatherer import Gatherer

__all__ = ["verify", "verify_dataset", "verify_file"]

REBUILD = "open it with index='rebuild'"
MOST_LISTED = 100  # records with a wrong checksum that are listed


def verify(
    path: str | os.PathLike[str],
    split: str | None = None,
    progress: Progress | bool | None = None,
) -> list[Report]:
    """Check all data files of a dataset: each as ``Dataset.verify`` does.

    Parameters
    ----------
    path : str or os.PathLike
        A data file; or a dataset directory, of which binary files, pickles and shards of both
        splits are checked.
    split : str, optional
        Check this split alone.
    progress : callable or True, optional
        ``progress(bytes_done, bytes_total)``, of each file; True shows a bar.

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
    report = shown(progress, "checking", "bytes")
    return [_report(file, report) for file in files]


def verify_dataset(ds: Dataset, progress: Progress | None = None, map: Map | None = None) -> Report:
    """Check the file of a dataset, and the other data files of a directory that was opened."""
    report = verify_file(ds, progress, map)
    for path in data_files(ds.directory) if ds.directory is not None else ():
        if not os.path.samefile(path, ds.source.full_path):
            other = _report(path, progress, map)
            report.checked.append(f"{other.path}: {', '.join(other.checked)}")
            report.problems += [f"{other.path}: {problem}" for problem in other.problems]
    return report


def _report(path: str, progress: Progress | None, map: Map | None = None) -> Report:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MapixWarning)  # the report states the same
            opened = open_dataset(path, format="vimh")
        with opened:
            return verify_file(opened, progress, map)
    except MapixError as e:
        return Report(path, checked=["opening"], problems=[str(e)])


# --- one file -------------------------------------------------------------------------------------


def verify_file(ds: Dataset, progress: Progress | None = None, map: Map | None = None) -> Report:
    """Check one file: see ``Dataset.verify``."""
    file = ds._gatherer
    index = ds.index
    report = Report(ds.path, index.nrecords, index.nbytes)
    if file.fixed_nbytes:
        warn_of_unused(file)
        file = _check_structure(ds, report, progress)
    else:
        report.checked.append("the pickle's structure")
        try:
            if not file.check_cached():
                cached = file.pixels.full_path
                unnamed = cached == file.source.path
                report.problems.append(
                    "the decoded file in the cache does not match the pickle: "
                    + ("open the pickle again" if unnamed else f"remove {cached}")
                )
            if not file.check_labels():
                report.problems.append(
                    "the labels in the cache do not match the pickle: open it with index='rebuild'"
                )
        except MapixError as e:
            report.problems.append(f"structure: {e}")
    if report.problems:
        map = None  # workers would use the index that is wrong
    _check_labels(file, index, report)
    if index.moments is not None:
        report.checked.append("statistics")
        if not index.moments.sound():
            report.problems.append("the stored statistics are damaged")
        elif _moments(ds, file, map).tobytes() != index.moments.values.tobytes():
            report.problems.append("the stored statistics are not those of the file's pixels")
    if index.checksums is not None:
        report.checked.append("checksums")
        if not index.checksums.sound():
            report.problems.append("the stored checksums are damaged")
        elif file.index.nrecords == index.nrecords:
            found = checksums_of(ds, file, progress, map)
            wrong = np.flatnonzero(found != index.checksums.values)
            report.damaged = wrong.tolist()
            shown = ", ".join(str(row) for row in report.damaged[:MOST_LISTED])
            if len(wrong):
                report.problems.append(f"{len(wrong)} records have changed: {shown}")
    if ds.info:
        report.checked.append("info JSON")
        wrongly = disagreements(ds.info, ds.split_name, index)
        report.problems += [f"the info JSON states {stated}" for stated in wrongly]
        if ds.unknown_ids:
            ids = ", ".join(str(number) for number in ds.unknown_ids)
            report.problems.append(f"label ids that the info JSON does not name: {ids}")
    return report


def _moments(ds: Dataset, file: Gatherer, map: Map | None) -> NDArray[np.void]:
    """Return the sums over the pixels of all records of a file."""
    if map is None:
        return moments_of(file, np.arange(file.index.nrecords))
    return reduce(added, over(ds._part(None), _moments_of_part, map=map))


def _moments_of_part(part: Dataset, progress: Progress | None) -> NDArray[np.void]:
    return moments_of(part._gatherer, part.rows, progress)


def _check_labels(file: Gatherer, index: RecordIndex, report: Report) -> None:
    """Read all labels, and compare the stored columns with them."""
    try:
        codes, present = file.label_table(np.arange(file.index.nrecords))
    except MapixError as e:
        report.problems.append(f"labels: {e}")
        return
    report.checked.append("labels")
    stored = index.columns
    if stored is None:
        return
    if not stored.sound():
        report.problems.append("the stored labels are damaged")
        return
    found = file.columns_of(codes.T, present.T)
    same = file.index.ids == index.ids and file.index.nrecords == index.nrecords
    if not same or any(
        not np.array_equal(a, b) for a, b in zip(_both(found), _both(stored), strict=True)
    ):
        report.problems.append(f"the stored labels are not those of the file; {REBUILD}")


def _both(columns: Columns) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return codes and presence; presence is all 1 where nothing is missing."""
    codes, *present = columns.tables()
    return codes, present[0] if present else np.ones_like(codes)


def _check_structure(ds: Dataset, report: Report, progress: Progress | None) -> Gatherer:
    """Index the file anew, compare the index in use, and return the file with the new index."""
    report.checked.append("structure")
    file, index = ds._gatherer, ds.index
    reading = layout.walk(ds.source, index.head_nbytes, progress)
    found = reading.index
    if reading.problem is not None:
        at, total = found.nbytes, ds.source.nbytes
        report.problems.append(
            f"bytes {at} to {total} are not a complete record: {reading.problem}"
        )
    same = found.nrecords == index.nrecords and found.nbytes == index.nbytes
    if same and index.stored and ds._options["dialect"] is None:
        same = _chosen(ds) == index.head_nbytes
    stored = index.stored_table
    if stored is not None and not stored.sound():
        same = False
        report.problems.append(f"{stored.path}: the stored index in use was cut, or written to")
    elif same and found.entries is not None and index.entries is not None:
        # not ``table``, which makes wrong entries anew
        used = table_bytes(index.entries) if stored is None else stored.read(0, stored.nbytes)
        same = used == table_bytes(found.entries)
    elif same:
        same = found.stride == index.stride and found.first == index.first
    if not same:
        report.problems.append(
            f"the index in use has {index.nrecords} records, the file {found.nrecords}, or "
            f"others: {REBUILD}"
        )
    elif found.ids != index.ids or found.most_channels() != index.most_channels():
        report.problems.append(
            f"the index in use has label ids {index.ids} and {index.most_channels()} "
            f"channels, the file {found.ids} and {found.most_channels()}: {REBUILD}"
        )
    return file.over(found)


def _chosen(ds: Dataset) -> int | None:
    """Return the dialect with which the file would be opened without an index."""
    try:
        return layout.choose(ds.source, hint=hint_of(ds.info), strict=False).head_nbytes
    except MapixError:
        return None
