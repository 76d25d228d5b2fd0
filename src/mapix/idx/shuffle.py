"""The permutation of VisualRBM's shuffleidx, when it was built with GNU's C++ library.

The C++ standard fixes the numbers of ``std::mt19937_64`` (the 64-bit generator of Matsumoto and
Nishimura), but not how ``std::uniform_int_distribution`` makes a number below a bound of them.
From GCC 11 on, GNU's library takes the upper 64 bits of a product (Lemire's method).  Older
versions divide; their permutation differs for about one in 500,000 files of 60,000 rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fisher_yates", "mersenne"]

N, M = 312, 156
UPPER, LOWER = np.uint64(0xFFFFFFFF80000000), np.uint64(0x7FFFFFFF)
TWIST = np.uint64(0xB5026F5AA96619E9)
SEEDING = 6364136223846793005
ALL = 2**64


def mersenne(seed: int) -> Iterator[int]:
    """Yield the numbers of ``std::mt19937_64``, without end."""
    words = [seed % ALL]
    for i in range(1, N):
        words.append((SEEDING * (words[-1] ^ words[-1] >> 62) + i) % ALL)
    state = np.array(words, np.uint64)
    while True:
        state = _twisted(state)
        yield from _tempered(state).tolist()


def _mixed(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (a & UPPER) | (b & LOWER)
    return (x >> np.uint64(1)) ^ (x & np.uint64(1)) * TWIST


def _twisted(old: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the next state; its second half depends on its first."""
    new = np.empty_like(old)
    new[:M] = old[M:] ^ _mixed(old[:M], old[1 : M + 1])
    following = np.append(old[M + 1 :], new[0])
    new[M:] = new[:M] ^ _mixed(old[M:], following)
    return new


def _tempered(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x ^ ((x >> np.uint64(29)) & np.uint64(0x5555555555555555))
    x = x ^ ((x << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000))
    x = x ^ ((x << np.uint64(37)) & np.uint64(0xFFF7EEE000000000))
    return x ^ (x >> np.uint64(43))


def _below(bound: int, numbers: Iterator[int]) -> int:
    """Return a number below the bound, all of the same probability."""
    product = next(numbers) * bound
    if product % ALL < bound:
        least = (ALL - bound) % bound
        while product % ALL < least:
            product = next(numbers) * bound
    return product // ALL


def fisher_yates(n: int, seed: int) -> NDArray[np.int64]:
    """Return a permutation of n rows: from the last one on, each is swapped with one up to it."""
    numbers = mersenne(seed)
    found = list(range(n))
    for k in range(n - 1, 0, -1):
        j = _below(k + 1, numbers)
        found[j], found[k] = found[k], found[j]
    return np.array(found, np.int64)
