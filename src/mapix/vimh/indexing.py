"""Building the complete index of a file, with labels and checksums, and storing it beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix.cache import distrusted
from mapix.errors import UnsupportedError, warn
from mapix.source import Source
from mapix.vimh import index_store, layout
from mapix.vimh.layout import Progress
from mapix.vimh.record_index import Checksums, RecordIndex

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.gatherer import Gatherer

__all__ = ["checksums", "keep_index", "warn_of_unused"]

SCAN_NBYTES = 64 << 20  # between two checks for Ctrl-C
MOST_WAIT = 5.0  # seconds, until a file's times show later changes


def _blocks(index: RecordIndex) -> Iterator[NDArray[np.int64]]:
    """Yield record numbers, front to back, of about SCAN_NBYTES of records."""
    n = index.nrecords
    step = max(1, SCAN_NBYTES // max(1, index.nbytes // max(1, n)))
    for at in range(0, n, step):
        yield np.arange(at, min(at + step, n), dtype=np.int64)


def checksums(file: Gatherer, progress: Progress | None = None) -> NDArray[np.uint32]:
    """Return CRC32C of all records of a file, uint32 (n,).  Cost: one scan of its bytes."""
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
    """Store the index of a file beside it: see ``Dataset.keep_index``."""
    file = ds._gatherer
    if file.key is None:
        raise UnsupportedError(
            f"{ds.path}: nothing to store: pickles need no index, and index='never' disables it"
        )
    place = index_store.beside(file.source.full_path)
    wait = index_store.racy_for(file.source)
    if wait > MOST_WAIT:  # a clock was set back, or the file's times are made up
        raise OSError(f"{place}: the file's times are {wait:.0f} s ahead of the clock")
    time.sleep(wait)
    made = _complete(_walked(file), labels=labels, sums=checksums, progress=progress)
    if index_store.store(file.source, made, file.key, place=place) is None:
        raise OSError(
            f"{place}: the file was written to meanwhile, or another process appends to it"
        )
    warn_of_unused(file)
    return place


def warn_of_unused(file: Gatherer) -> None:
    """Warn of an index beside the file that is not trusted."""
    place = index_store.beside(file.source.full_path)
    with contextlib.suppress(OSError):  # there is none
        reason = distrusted(place, Source(place).fingerprint, file.source.fingerprint)
        if reason is not None:
            warn(f"{place}: this index and its checksums are not used: {reason}")


def _walked(file: Gatherer) -> Gatherer:
    """Return the file with a new index: a stored index is not stored again unchecked."""
    if not file.index.stored:
        return file
    return file.over(layout.walk(file.source, file.index.head_nbytes).index)


def _complete(
    file: Gatherer, *, labels: bool, sums: bool, progress: Progress | None
) -> RecordIndex:
    """Return the file's index with the tables that were asked for."""
    index = file.index._replace(columns=None, checksums=None)  # stored tables may be damaged
    if labels and index.nrecords:
        codes, present = file.label_table(np.arange(index.nrecords))
        index = index._replace(columns=file.columns_of(codes.T, present.T))
    if sums:
        index = index._replace(checksums=Checksums(checksums(file, progress)))
    return index
