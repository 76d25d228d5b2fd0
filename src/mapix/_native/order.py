"""The compiled core's random orders: permutations that are computed, not stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mapix._native.core import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix._native.core import IntArray

__all__ = ["permute", "permute_at", "permute_network"]


def permute(n: int, key: int, begin: int, count: int) -> IntArray:
    """Return positions [begin, begin + count) of a random order of 0..n-1, int64 (count,)."""
    to = np.empty(count, np.int64)
    if lib.mapix_permute(n, key, begin, count, ffi.from_buffer("int64_t[]", to)):
        raise IndexError(f"positions {begin} to {begin + count} of an order of {n}")
    return to


def permute_at(n: int, key: int, positions: IntArray) -> IntArray:
    """Return what the order of ``permute`` has at any positions, int64 (count,)."""
    to = np.array(positions, np.int64)
    if lib.mapix_permute_at(n, key, len(to), ffi.from_buffer("int64_t[]", to)):
        raise IndexError(f"positions outside of an order of {n}")
    return to


def permute_network(n: int, key: int) -> NDArray[np.uint32]:
    """Return the numbers from which a GPU computes the order of ``permute``."""
    to = np.empty(lib.MAPIX_NETWORK, np.uint32)
    if lib.mapix_permute_network(n, key, ffi.from_buffer("uint32_t[]", to)):
        raise ValueError(f"no order of {n} records is possible")
    return to
