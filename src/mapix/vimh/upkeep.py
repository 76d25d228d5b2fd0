"""Keeping a file in order: its index beside it, and a check of everything in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix.cache import distrusted
from mapix.errors import MapixError, UnsupportedError, warn
from mapix.report import Report
from mapix.source import Source
from mapix.vimh import index_store, layout
from mapix.vimh.info_json import disagreements, hint_of
from mapix.vimh.layout import Progress
from mapix.vimh.record_index import Checksums, Columns, RecordIndex
from mapix.vimh.statistics import moments_of

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.gatherer import Gatherer

__all__ = ["checksums", "keep_index", "verify"]

STEP_NBYTES = 64 << 20  # looked at between two looks at Ctrl-C
MOST_WAIT = 5.0  # seconds, until a file's times tell of later changes
REBUILD = "open it with index='rebuild'"
MOST_TOLD = 100  # records with a wrong checksum that are listed


def _blocks(index: RecordIndex) -> Iterator[NDArray[np.int64]]:
    """Record numbers, front to back, about STEP_NBYTES of records at a time."""
    n = index.nrecords
    step = max(1, STEP_NBYTES // max(1, index.nbytes // max(1, n)))
    for at in range(0, n, step):
        yield np.arange(at, min(at + step, n), dtype=np.int64)


def checksums(file: Gatherer, progress: Progress | None = None) -> NDArray[np.uint32]:
    """CRC32C of all records of a file, uint32 (n,).  Cost: one pass over its bytes."""
    found = np.empty(file.index.nrecords, np.uint32)
    mapping = file.pixels.mapping
    mapping.advise("sequential")
    try:
        for rows in _blocks(file.index):
            file.native.checksums(mapping, rows, found[rows[0] : rows[-1] + 1])
            if progress is not None:
                done = int(rows[-1]) + 1
                progress(file.index.nbytes * done // file.index.nrecords, file.index.nbytes)
    finally:
        mapping.advise(file.access)
    return found


def keep_index(
    ds: Dataset, *, labels: bool = True, checksums: bool = True, progress: Progress | None = None
) -> str:
    """``ds.keep_index``."""
    file = ds._gatherer
    if file.key is None:
        raise UnsupportedError(
            f"{ds.path}: nothing to keep: pickles need no index, and index='never' wants none"
        )
    place = index_store.beside(file.source.full_path)
    wait = index_store.racy_for(file.source)
    if wait > MOST_WAIT:  # a clock was set back, or the file's times are made up
        raise OSError(f"{place}: the file's times are {wait:.0f} s ahead of the clock")
    time.sleep(wait)
    made = _complete(_walked(file), labels=labels, sums=checksums, progress=progress)
    if index_store.store(file.source, made, file.key, place=place) is None:
        raise OSError(f"{place}: the file was written to meanwhile, or somebody is appending")
    _warn_of_unused(file)
    return place


def _warn_of_unused(file: Gatherer) -> None:
    """Warn of an index beside the file that must not be believed."""
    place = index_store.beside(file.source.full_path)
    with contextlib.suppress(OSError):  # there is none
        reason = distrusted(place, Source(place).fingerprint, file.source.fingerprint)
        if reason is not None:
            warn(f"{place}: this index and its checksums are not used: {reason}")


def _walked(file: Gatherer) -> Gatherer:
    """The same file with an index of our own: what was stored is not stored again unseen."""
    if not file.index.stored:
        return file
    return file.over(layout.walk(file.source, file.index.head_nbytes).index)


def _complete(
    file: Gatherer, *, labels: bool, sums: bool, progress: Progress | None
) -> RecordIndex:
    """The file's index with the tables that are wanted."""
    index = replace(file.index, columns=None, checksums=None)  # what there is may be damaged
    if labels and index.nrecords:
        codes, present = file.label_table(np.arange(index.nrecords))
        index = replace(index, columns=file.columns_of(codes.T, present.T))
    if sums:
        index = replace(index, checksums=Checksums(checksums(file, progress)))
    return index


def verify(ds: Dataset, progress: Progress | None = None) -> Report:
    """``ds.verify``."""
    file = ds._gatherer
    index = ds.index
    report = Report(ds.path, index.nrecords, index.nbytes)
    if file.fixed_nbytes:
        _warn_of_unused(file)
        file = _check_structure(ds, report, progress)
    else:
        report.checked.append("the pickle's structure")
        try:
            if not file.check_cached():
                report.problems.append(
                    "what was decoded into the cache is not what the pickle holds: remove "
                    f"{file.pixels.path}"
                )
        except MapixError as e:
            report.problems.append(f"structure: {e}")
    _check_labels(file, index, report)
    every = np.arange(file.index.nrecords)
    if index.moments is not None:
        report.checked.append("statistics")
        if not index.moments.sound():
            report.problems.append("the stored statistics are damaged themselves")
        elif moments_of(file, every).tobytes() != index.moments.values.tobytes():
            report.problems.append("the stored statistics are not those of the file's pixels")
    if index.checksums is not None:
        report.checked.append("checksums")
        if not index.checksums.sound():
            report.problems.append("the stored checksums are damaged themselves")
        elif file.index.nrecords == index.nrecords:
            wrong = np.flatnonzero(checksums(file, progress) != index.checksums.values)
            report.damaged = wrong.tolist()
            shown = ", ".join(map(str, report.damaged[:MOST_TOLD]))
            if len(wrong):
                report.problems.append(f"{len(wrong)} records are not what they were: {shown}")
    if ds.info:
        report.checked.append("info JSON")
        found = disagreements(ds.info, ds.split_name, index)
        report.problems += [f"the info JSON states {stated}" for stated in found]
        if ds.unknown_ids:
            ids = ", ".join(map(str, ds.unknown_ids))
            report.problems.append(f"label ids that the info JSON does not name: {ids}")
    return report


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
        report.problems.append("the stored labels are damaged themselves")
        return
    found = file.columns_of(codes.T, present.T)
    same = file.index.ids == index.ids and file.index.nrecords == index.nrecords
    if not same or any(
        not np.array_equal(a, b) for a, b in zip(_both(found), _both(stored), strict=True)
    ):
        report.problems.append(f"the stored labels are not those of the file; {REBUILD}")


def _both(columns: Columns) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes and presence, which is 1 throughout where nothing is missing."""
    codes, *present = columns.tables()
    return codes, present[0] if present else np.ones_like(codes)


def _check_structure(ds: Dataset, report: Report, progress: Progress | None) -> Gatherer:
    """Walk the file anew, and compare the index in use; the file with the new index."""
    report.checked.append("structure")
    file, index = ds._gatherer, ds.index
    reading = layout.walk(ds.source, index.head_nbytes, progress)
    found = reading.index
    if reading.problem is not None:
        at, total = found.nbytes, ds.source.nbytes
        report.problems.append(f"bytes {at} to {total} are no whole record: {reading.problem}")
    same = found.nrecords == index.nrecords and found.nbytes == index.nbytes
    if same and index.stored and ds._options["dialect"] is None:
        same = _chosen(ds) == index.head_nbytes
    stored = index.stored_table
    if stored is not None and not stored.sound():
        same = False
        report.problems.append(f"{stored.path}: the stored index in use was cut, or written to")
    elif same and found.entries is not None and index.entries is not None:
        same = bool((found.entries == index.table()).all())
    elif same:
        same = found.stride == index.stride and found.first == index.first
    if not same:
        report.problems.append(
            f"the index in use tells of {index.nrecords} records, the file of {found.nrecords}, or "
            f"of others: {REBUILD}"
        )
    elif found.ids != index.ids or found.most_channels() != index.most_channels():
        report.problems.append(
            f"the index in use tells of label ids {index.ids} and of {index.most_channels()} "
            f"channels, the file of {found.ids} and {found.most_channels()}: {REBUILD}"
        )
    return file.over(found)


def _chosen(ds: Dataset) -> int | None:
    """The dialect that the file would be opened with, had it no index."""
    try:
        return layout.choose(ds.source, hint=hint_of(ds.info), strict=False).head_nbytes
    except MapixError:
        return None
