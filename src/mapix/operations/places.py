"""Places of records in files, and the pages of files: see ``mapix.Dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.errors import UnsupportedError
from mapix.progress import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.dataset import Dataset, FileDataset

__all__ = ["place_of", "record_sizes", "warm"]


def record_sizes(ds: Dataset[Any]) -> int | NDArray[np.int64]:
    """Return the bytes of each of this dataset's records in its files, for ``plan``."""
    rows = ds.rows.tolist()
    if rows and not ds._byte_ranges(rows[0]):
        nbytes = getattr(getattr(ds, "source", None), "nbytes", 0)
        return max(1, nbytes // max(1, ds._count()))
    return np.array(
        [sum(r.nbytes for r in ds._byte_ranges(row) if r.kind != "header") for row in rows],
        np.int64,
    )


def warm(ds: Dataset[Any], progress: Any = None) -> None:
    """Read the file into the page cache, front to back, at the disk's sequential speed."""
    progress = shown(progress, "reading", "bytes")
    source = getattr(ds, "source", None)
    if source is None:
        raise UnsupportedError(f"{ds.path}: {ds.FAMILY} datasets cannot be warmed")
    for done in source.warm():
        if progress is not None:
            progress(done, source.nbytes)


def place_of(ds: FileDataset[Any], array: NDArray[Any]) -> tuple[int, int, int] | None:
    """Return where a view of the file lies: its first byte, length, and offset of ``[0, 0]``."""
    file = np.frombuffer(ds.source.mapping.memory, np.uint8)
    if not array.size or not np.may_share_memory(array, file):
        return None
    spans = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    first = array.ctypes.data + sum(span for span in spans if span < 0)
    end = array.ctypes.data + sum(span for span in spans if span > 0) + array.itemsize
    return first - file.ctypes.data, end - first, array.ctypes.data - first
