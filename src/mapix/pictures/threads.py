"""Threads that live as long as one batch, or one run of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Threads"]


class Threads:
    """A pool of threads; a pool of one is the calling thread itself.

    A pool is made for each use: a forked worker would inherit a waiting pool without its threads.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._pool: Any = None
        if threads > 1:
            from concurrent.futures import ThreadPoolExecutor  # imports logging: 5 ms

            self._pool = ThreadPoolExecutor(threads, "mapix-decode")

    def begin(self, do: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], list[Any]]:
        """Start ``do(item)`` for all items; return a function that waits for the results."""
        pool = self._pool
        if pool is None:
            return lambda: [do(item) for item in items]
        futures: list[Future[Any]] = [pool.submit(do, item) for item in items]
        return lambda: [f.result() for f in futures]

    def run(self, do: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Return ``do(item)`` of all items, in order; raise the first error."""
        return self.begin(do, items)()

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
