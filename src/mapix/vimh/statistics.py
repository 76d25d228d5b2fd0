"""Sums over the pixels of VIMH records: exact, in C, and stored in the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.vimh import index_store
from mapix.vimh.layout import Progress
from mapix.vimh.record_index import Moments

if TYPE_CHECKING:
    from mapix.selection import Rows
    from mapix.vimh.gatherer import Gatherer

__all__ = ["added", "moments_of", "stored_moments"]

SCAN_NBYTES = 256 << 20  # between two checks for Ctrl-C


def moments_of(
    file: Gatherer, rows: NDArray[np.int64], progress: Progress | None = None
) -> NDArray[np.void]:
    """Return the sums over the pixels of each channel of records.  Cost: a scan of the pixels."""
    total, n = np.zeros(file.most_channels, _native.MOMENTS), len(rows)
    total["low"] = 255
    each = file.index.nbytes // max(1, file.index.nrecords)
    step = max(1, SCAN_NBYTES // max(1, each))
    for at in range(0, n, step):
        part = file.native.moments(file.pixels.mapping, rows[at : at + step], len(total))
        total = added(total, part)
        if progress is not None:
            progress(min(at + step, n), n)
    return total


def added(a: NDArray[np.void], b: NDArray[np.void]) -> NDArray[np.void]:
    """Return the sums over the pixels of both."""
    total = a.copy()
    for key in ("count", "sum", "squares"):
        total[key] += b[key]
    total["low"] = np.minimum(a["low"], b["low"])
    total["high"] = np.maximum(a["high"], b["high"])
    return total


def stored_moments(
    file: Gatherer, rows: Rows, progress: Progress | None = None
) -> NDArray[np.void]:
    """Return the sums of records; those of all records of a file come from its stored index.

    The stored index gets them where it does not have them yet.
    """
    if rows is not None:
        return moments_of(file, np.asarray(rows, np.int64), progress)
    known = file.index.moments
    if known is not None and known.sound():
        return known.values
    n = file.index.nrecords
    total = moments_of(file, np.arange(n), progress)
    if n and file.key is not None:
        file.index = file.index._replace(moments=Moments(total))
        index_store.store(file.source, file.index, file.key)
    return total
