"""The order in which VisualRBM's shuffleidx puts rows, when it was built with GNU's C++ library.

C++ says which numbers ``std::mt19937_64`` gives (Matsumoto and Nishimura's generator of 64 bits),
and leaves open how ``std::uniform_int_distribution`` makes a number below a bound of them.  GNU's
takes the upper 64 bits of a product (Lemire's method) from GCC 11 on.  Before, it divided; the two
give another order for about one in 500,000 files of 60,000 rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["fisher_yates", "mersenne"]

N, M = 312, 156
UPPER, LOWER = np.uint64(0xFFFFFFFF80000000), np.uint64(0x7FFFFFFF)
TWIST = np.uint64(0xB5026F5AA96619E9)
SEEDING = 6364136223846793005
ALL = 2**64


def mersenne(seed: int) -> Iterator[int]:
    """The numbers of ``std::mt19937_64``, without end."""
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
    """The next state; its second half is made of its first."""
    new = np.empty_like(old)
    new[:M] = old[M:] ^ _mixed(old[:M], old[1 : M + 1])
    behind = np.append(old[M + 1 :], new[0])
    new[M:] = new[:M] ^ _mixed(old[M:], behind)
    return new


def _tempered(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x ^ ((x >> np.uint64(29)) & np.uint64(0x5555555555555555))
    x = x ^ ((x << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000))
    x = x ^ ((x << np.uint64(37)) & np.uint64(0xFFF7EEE000000000))
    return x ^ (x >> np.uint64(43))


def _below(bound: int, numbers: Iterator[int]) -> int:
    """A number below the bound, each as likely."""
    product = next(numbers) * bound
    if product % ALL < bound:
        least = (ALL - bound) % bound
        while product % ALL < least:
            product = next(numbers) * bound
    return product // ALL


def fisher_yates(n: int, seed: int) -> NDArray[np.int64]:
    """An order of n rows, from the last one on each swapped with one up to it."""
    numbers = mersenne(seed)
    order = list(range(n))
    for k in range(n - 1, 0, -1):
        j = _below(k + 1, numbers)
        order[j], order[k] = order[k], order[j]
    return np.array(order, np.int64)
