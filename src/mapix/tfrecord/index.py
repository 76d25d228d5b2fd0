"""Find the records of a TFRecord file by their lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mapix import _native
from mapix.errors import TruncatedError, warn
from mapix.tfrecord.layout import CRC_NBYTES, HEADER_NBYTES, NAME, length_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Mapping

__all__ = ["Index", "scan"]


class Index(NamedTuple):
    """Where the data of all records lie.

    Attributes
    ----------
    begins, sizes : ndarray
        int64 (records,): byte where the data of each record begin, and their number of bytes.
    """

    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]


def scan(mapping: Mapping, *, strict: bool = True) -> Index:
    """Find all records.

    Parameters
    ----------
    mapping : Mapping
        The file.
    strict : bool
        Whether a file that was cut is refused.  False takes the complete records before the cut,
        with a warning.

    Raises
    ------
    TruncatedError
        The file ends inside a record; the message states how many complete records come before.
    FormatError
        The checksum of a length is wrong.

    Notes
    -----
    Cost: about 3 us per record; one page per record is read from disk.
    """
    begins: list[int] = []
    sizes: list[int] = []
    at, nbytes, path = 0, mapping.nbytes, mapping.path
    while at < nbytes:
        left = nbytes - at
        needed = HEADER_NBYTES + CRC_NBYTES
        if left >= HEADER_NBYTES:
            header = _native.copy(mapping, at, HEADER_NBYTES, NAME)
            size = length_of(header, path, len(begins), at)
            needed += size
        if needed > left:
            n = len(begins)
            reason = (
                f"a record of {needed} bytes or more"
                if left < HEADER_NBYTES
                else (f"a record of {needed} bytes")
            )
            reason += f" expected, {left} are left in the file; {n} complete records come before"
            error = TruncatedError(path, NAME, reason, record=n, at=at)
            if strict:
                raise error
            warn(f"{error}; the rest is not read")
            break
        begins.append(at + HEADER_NBYTES)
        sizes.append(size)
        at += needed
    return Index(np.array(begins, np.int64), np.array(sizes, np.int64))
