"""Saving the complete records of damaged TFRecord files: ``repair``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from mapix.salvage import Saved, Stretches
from mapix.source import Source
from mapix.tfrecord.layout import (
    CRC_NBYTES,
    HEADER_NBYTES,
    LENGTH_NBYTES,
    NAME,
    data_problem,
    is_header,
)

__all__ = ["repair"]

STEP_NBYTES = 1 << 20  # searched at once
MOST_LENGTH_NBYTES = 5  # bytes of a length that are not 0: records of less than a TiB


def repair(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | bool | None = None,
) -> Saved:
    """Write the complete records of a damaged TFRecord file to a new one.

    The old file is not changed.  Records whose checksum is wrong are left out.  Where no other
    record follows after such a record, or after a length whose checksum is wrong, the next byte is
    searched where a record begins whose checksums are both right.

    Parameters
    ----------
    source : str or os.PathLike
        The damaged file.
    path : str or os.PathLike
        The new file, which must not exist yet.
    progress : callable or True, optional
        ``progress(bytes_done, bytes_total)``; True shows a bar.

    Raises
    ------
    FormatError
        There is no complete record; nothing is written.
    FileExistsError
        There is something at ``path``.
    """
    opened = Source(source)
    opened.mapping.advise("sequential")
    kept = Stretches(opened)
    at = found = 0
    while at < opened.nbytes:
        end = _end(opened, at)
        good = _is_record(opened, at)
        if end is None or not (good or end == opened.nbytes or _end(opened, end) is not None):
            at = next((k for k in _places(opened, at + 1) if _is_record(opened, k)), opened.nbytes)
            continue
        if good:
            kept.keep(at, end)
        else:
            kept.damaged.append(found)
        at = end
        found += 1
    return kept.write(path, NAME, progress=progress)


def _end(source: Source, at: int) -> int | None:
    """Return the byte after a record; None if its length is damaged, or beyond the file."""
    left = source.nbytes - at - HEADER_NBYTES - CRC_NBYTES
    if left < 0:
        return None
    header = source.read(at, HEADER_NBYTES)
    length = int.from_bytes(header[:LENGTH_NBYTES], "little")
    if not is_header(header) or length > left:
        return None
    return at + HEADER_NBYTES + length + CRC_NBYTES


def _is_record(source: Source, at: int) -> bool:
    """Return whether both checksums of what begins at a byte are right."""
    end = _end(source, at)
    if end is None:
        return False
    data = memoryview(source.read(at + HEADER_NBYTES, end - at - HEADER_NBYTES))
    return data_problem(data[:-CRC_NBYTES], data[-CRC_NBYTES:]) is None


def _places(source: Source, begin: int) -> Iterator[int]:
    """Yield the bytes from ``begin`` on where a length might be: its high bytes are 0."""
    for at in range(begin, source.nbytes - HEADER_NBYTES + 1, STEP_NBYTES):
        nbytes = min(STEP_NBYTES + HEADER_NBYTES - 1, source.nbytes - at)
        block = np.frombuffer(source.read(at, nbytes), np.uint8)
        shape = len(block) - HEADER_NBYTES + 1, HEADER_NBYTES  # of one row at each byte
        rows = np.ndarray(shape, np.uint8, block, 0, (1, 1))
        length = rows[:, MOST_LENGTH_NBYTES:LENGTH_NBYTES]
        crc = rows[:, LENGTH_NBYTES:]
        # a checksum of 0 would be a chance of 1 in 2^32, and zeros are what damaged files have
        for k in np.flatnonzero(~length.any(axis=1) & crc.any(axis=1)).tolist():
            if is_header(block[k : k + HEADER_NBYTES].tobytes()):
                yield at + k
