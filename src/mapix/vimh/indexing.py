"""Building the complete index of a file, with labels and checksums, and storing it beside it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix.cache import distrusted
from mapix.errors import UnsupportedError, warn
from mapix.plans import Map, over
from mapix.source import Source, is_url
from mapix.vimh import index_store, layout
from mapix.vimh.layout import Progress
from mapix.vimh.record_index import Checksums, RecordIndex

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.gatherer import Gatherer

__all__ = ["checksums_of", "keep_index", "warn_of_unused"]

SCAN_NBYTES = 64 << 20  # between two checks for Ctrl-C
MOST_WAIT = 5.0  # seconds, until a file's times show later changes


def checksums(
    file: Gatherer, progress: Progress | None = None, rows: NDArray[np.int64] | None = None
) -> NDArray[np.uint32]:
    """Return CRC32C of all records of a file, or of some, uint32 (n,).

    Cost: one scan of their bytes.
    """
    index, mapping = file.index, file.pixels.mapping
    if rows is None:
        rows = np.arange(index.nrecords)
    found = np.empty(len(rows), np.uint32)
    step = max(1, SCAN_NBYTES // max(1, index.nbytes // max(1, index.nrecords)))
    mapping.advise("sequential")
    try:
        for at in range(0, len(rows), step):
            file.native.checksums(mapping, rows[at : at + step], found[at : at + step])
            if progress is not None:
                done = min(at + step, len(rows))
                progress(index.nbytes * done // index.nrecords, index.nbytes)
    finally:
        mapping.advise(file.access)
    return found


def checksums_of(
    ds: Dataset, file: Gatherer, progress: Progress | None, map: Map | None
) -> NDArray[np.uint32]:
    """Return ``checksums`` of all records of a dataset's file, computed in parts by a ``map``."""
    if map is None:
        return checksums(file, progress)
    n, nbytes = file.index.nrecords, file.index.nbytes
    report = None if progress is None else lambda done, _: progress(nbytes * done // n, nbytes)
    return np.concatenate(list(over(ds._part(None), _checksums, map=map, progress=report)))


def _checksums(part: Dataset, progress: Progress | None) -> NDArray[np.uint32]:
    return checksums(part._gatherer, progress, part.rows)


def keep_index(
    ds: Dataset,
    *,
    labels: bool = True,
    checksums: bool = True,
    progress: Progress | None = None,
    map: Map | None = None,
) -> str:
    """Store the index of a file beside it: see ``Dataset.keep_index``."""
    file = ds._gatherer
    if file.key is None:
        raise UnsupportedError(
            f"{ds.path}: no index to store: pickles need none, and index='never' disables it"
        )
    place = index_store.beside(file.source.full_path)
    if is_url(place):
        raise UnsupportedError(
            f"{ds.path}: an index is stored beside a file: index the file where it lies, and put "
            "NAME.mapix beside the object"
        )
    wait = index_store.racy_for(file.source)
    if wait > MOST_WAIT:  # a clock was set back, or the file's times are made up
        raise OSError(f"{place}: the file's times are {wait:.0f} s ahead of the clock")
    time.sleep(wait)
    walked = _walked(file)
    made = _complete(walked, labels=labels)
    if checksums:
        known = map if walked is file else None  # other workers would use the stored index
        made = made._replace(checksums=Checksums(checksums_of(ds, walked, progress, known)))
    if index_store.store(file.source, made, file.key, place=place) is None:
        raise OSError(
            f"{place}: the file was written to meanwhile, or another process appends to it"
        )
    warn_of_unused(file)
    return place


def warn_of_unused(file: Gatherer) -> None:
    """Warn of an index beside the file that is not trusted."""
    place = index_store.beside(file.source.full_path)
    if is_url(place):
        return
    with contextlib.suppress(OSError):  # there is none
        reason = distrusted(place, Source(place).fingerprint, file.source.fingerprint)
        if reason is not None:
            warn(f"{place}: this index and its checksums are not used: {reason}")


def _walked(file: Gatherer) -> Gatherer:
    """Return the file with a new index: a stored index is not stored again unchecked."""
    if not file.index.stored:
        return file
    return file.over(layout.walk(file.source, file.index.head_nbytes).index)


def _complete(file: Gatherer, *, labels: bool) -> RecordIndex:
    """Return the file's index with its labels, if they were asked for."""
    index = file.index._replace(columns=None, checksums=None)  # stored tables may be damaged
    if labels and index.nrecords:
        codes, present = file.label_table(np.arange(index.nrecords))
        index = index._replace(columns=file.columns_of(codes.T, present.T))
    return index
