"""The compiled core's kernels: which of them run, and what they have seen."""

from __future__ import annotations

from mapix._native.core import lib

__all__ = ["faults_caught", "simd", "stream"]


def stream(nbytes: int = 0) -> int:
    """Call ``mapix_stream``: set, or get, above which size batches bypass the caches."""
    return int(lib.mapix_stream(nbytes))


def simd(level: int = -1) -> int:
    """Set, or with -1 ask, which kernels run: 0 plain C, 1 AVX2, 2 AVX-512."""
    return int(lib.mapix_simd(level))


def faults_caught() -> int:
    """Return how many faults the guard has caught in this process."""
    return int(lib.mapix_faults_caught())
