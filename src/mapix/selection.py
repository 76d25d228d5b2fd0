"""Which records: integers, slices, index arrays and masks become record numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "compose", "positions"]

Rows = range | NDArray[np.int64] | None
"""Record numbers of a dataset: all (None), a range, or an array."""


def compose(rows: Rows, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Record numbers of positions 0..n-1 among ``rows``; O(len(wanted)) whatever ``rows`` is."""
    if rows is None:
        return wanted
    if isinstance(rows, range):
        return wanted * rows.step + rows.start
    return rows[wanted]


def positions(key: Any, n: int, path: str) -> NDArray[np.int64]:
    """Indices, or a mask, into n records as int64 in 0..n-1.

    Raises
    ------
    IndexError
        An index is out of range, or a mask has the wrong length; ``path`` is for the message.
    TypeError
        Not a 1-D array of integers or booleans.
    """
    array = np.asarray(key)
    if array.dtype == np.bool_:
        if array.shape != (n,):
            raise IndexError(f"mask of shape {array.shape} for {n} records")
        return np.flatnonzero(array)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"indices must be an int, a slice, or a 1-D array of ints or bools, got "
            f"{type(key).__name__} of {array.dtype}"
        )
    # A copy always: the caller may change its array, and unsigned values must not wrap.
    found = array.astype(np.int64)
    bad = (found < -n) | (found >= n)
    if array.dtype.kind == "u":
        bad |= found < 0
    if bad.any():
        i = int(np.argmax(bad))
        raise IndexError(f"{path}: index {array[i]} at position {i} of {n} records")
    found[found < 0] += n
    return found
