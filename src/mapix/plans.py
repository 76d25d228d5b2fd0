"""Plans: a dataset in parts of about so many bytes, and long jobs as maps over these parts.

``ds.plan()`` is the list of parts.  ``over`` runs a task on each of them by anything that is called
like the built-in ``map``: threads, processes, dask, joblib.  A task is a function of a module, so
that it can be pickled; a part travels as path, fingerprint and record numbers.
"""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.limits import PART_NBYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.dataset import Dataset
    from mapix.progress import Progress
    from mapix.selection import Rows

__all__ = ["PART_NBYTES", "Map", "cut", "find", "grouped", "mapped", "over"]

LEAST_NBYTES = 1 << 20  # of a part of a job: a task on less costs more than it saves
PARTS = 32  # of a job on a small dataset
MOST_OPEN = 4  # datasets that a process keeps open for further tasks

Map = Callable[..., Iterable[Any]] | int
"""What runs tasks: anything that is called like ``map(function, items)`` and returns the results in
their order, or a number of threads.  The functions and items can be pickled."""

Task = Callable[[Any, "Progress | None"], Any]
"""``task(part, progress)``; in other threads and processes ``progress`` is None."""


def cut(sizes: int | NDArray[np.int64], n: int, nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of successive parts of n records.

    A part ends with the record that completes ``nbytes``, so it is at most one record larger.

    Parameters
    ----------
    sizes : int or ndarray
        Bytes of each record, int64 (n,); one number where all are alike.
    n : int
        Records.  Of none, one empty part is yielded.
    nbytes : int
        Bytes of a part, at least 1.
    """
    begin = 0
    step = -(-nbytes // max(1, sizes)) if isinstance(sizes, int) else 0
    ends = np.empty(0, np.int64) if isinstance(sizes, int) else np.cumsum(sizes)
    while begin < n or not begin:
        if step:
            end = begin + step
        else:
            before = int(ends[begin - 1]) if begin else 0
            end = int(np.searchsorted(ends, before + nbytes)) + 1
        yield begin, min(end, n)
        if end >= n:
            return
        begin = end


def mapped(
    map: Map | None, task: Callable[[Any], Any], items: Iterable[Any], *, ahead: int | None = None
) -> Iterator[Any]:
    """Yield ``task(item)`` of each item, in their order.

    Parameters
    ----------
    map : callable, int or None
        See ``Map``.  None runs the tasks here, one after the other.
    task : callable
        The function.
    items : iterable
        Its arguments; at most ``ahead`` of them are asked for before their results are used.
    ahead : int, optional
        Results that wait in memory, at most, about; by default all.
    """
    if map is None:
        yield from builtins.map(task, items)
    elif isinstance(map, int):
        if map < 1:
            raise ValueError(f"map= is a number of threads, at least 1, got {map}")
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(map) as pool:
            yield from mapped(pool.map, task, items, ahead=ahead)
    elif not callable(map):
        raise TypeError(
            f"map= is called like the built-in map, or a number of threads, got {map!r}"
        )
    elif ahead is None:
        yield from map(task, items)
    else:
        each = max(1, ahead // 2)  # the next ones run while these are used
        waiting: Iterable[Any] = ()
        for some in _groups(items, each):
            waiting, now = map(task, some), waiting
            yield from now
        yield from waiting


def _groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some


def grouped(map: Callable[..., Iterable[Any]], size: int, *, threads: int = 1) -> Map:
    """Return a ``map`` of two levels: each task of ``map`` is ``size`` items, run by threads.

    For clusters: a task per node, with threads inside, as scheduling a task costs a millisecond.

    Parameters
    ----------
    map : callable
        Runs the tasks.
    size : int
        Items of each task.
    threads : int
        Threads that run the items of one task.
    """
    if size < 1 or threads < 1:
        raise ValueError(f"size and threads must be at least 1, got {size} and {threads}")

    def made(task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for results in map(partial(_together, task, threads), list(_groups(items, size))):
            yield from results

    return made


def _together(task: Callable[[Any], Any], threads: int, items: Sequence[Any]) -> list[Any]:
    return list(mapped(threads if threads > 1 else None, task, items))


class Piece:
    """A part of a dataset as the argument of a task.

    Another process opens a dataset once for all pieces of it.
    """

    def __init__(self, whole: Dataset[Any], rows: Rows) -> None:
        self.whole, self.rows = whole, rows
        self.pickled: Callable[[], bytes] = lru_cache(1)(partial(pickle.dumps, whole))

    @property
    def part(self) -> Dataset[Any]:
        """The part."""
        return self.whole._part(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return _piece, (self.pickled(), self.rows)


@lru_cache(MOST_OPEN)
def _opened(pickled: bytes) -> Any:
    return pickle.loads(pickled)


def _piece(pickled: bytes, rows: Rows) -> Piece:
    return Piece(_opened(pickled), rows)


def pieces(ds: Dataset[Any], nbytes: int | None = None) -> list[Piece]:
    """Return the parts of a plan as arguments of tasks.

    By default they are smaller where the dataset is small, so that all workers have some.
    """
    if nbytes is None:
        nbytes = min(PART_NBYTES, max(LEAST_NBYTES, ds._total_size() // PARTS))
    found: list[Piece] = []
    for whole, rows in ds._cut(nbytes):
        piece = Piece(whole, rows)
        if found and found[-1].whole is whole:
            piece.pickled = found[-1].pickled  # once for all
        found.append(piece)
    return found


def over(
    ds: Dataset[Any],
    task: Task,
    *,
    map: Map | None = None,
    progress: Progress | None = None,
    nbytes: int | None = None,
) -> Iterator[Any]:
    """Yield ``task(part, progress)`` for parts of a dataset, in their order.

    Parameters
    ----------
    ds : Dataset
        The dataset.
    task : callable
        A function of a module, or a ``functools.partial`` of one.
    map : callable, int or None
        See ``Map``.  Without it, there is one part, the dataset itself, and the task gets
        ``progress``.
    progress : callable, optional
        ``progress(records_done, records_total)``; with a ``map`` it is called after each part.
    nbytes : int, optional
        Bytes of a part: 256 MiB, less of datasets below 8 GiB.
    """
    if map is None:
        yield task(ds, progress)
        return
    parts, done, n = pieces(ds, nbytes), 0, 0
    for n, found in enumerate(mapped(map, partial(_run, task), parts), 1):
        if n > len(parts):
            raise ValueError(f"map= returned more than {len(parts)} results of {len(parts)} parts")
        done += len(parts[n - 1].part)
        if progress is not None:
            progress(done, len(ds))
        yield found
    if n < len(parts):
        raise ValueError(f"map= returned {n} results of {len(parts)} parts")


def _run(task: Task, piece: Piece) -> Any:
    return task(piece.part, None)


def find(
    ds: Dataset[Any],
    test: Callable[[Any], Any],
    *,
    map: Map | None = None,
    progress: Progress | None = None,
    nbytes: int | None = None,
) -> Any:
    """Return the records of a dataset for which a test holds, as ``ds.where`` does, in parts.

    Parameters
    ----------
    ds : Dataset
        The dataset.
    test : callable
        ``test(part)`` gets a part, a dataset, and returns a mask, bool (len(part),), or indices
        into the part.  A function of a module where processes run it.
    map, progress, nbytes
        As for ``over``.
    """
    found, at = [], 0
    for n, indices in over(ds, partial(_found, test), map=map, progress=progress, nbytes=nbytes):
        found.append(indices + at)
        at += n
    return ds[np.concatenate(found)]


def _found(
    test: Callable[[Any], Any], part: Dataset[Any], progress: Progress | None
) -> tuple[int, NDArray[np.int64]]:
    from mapix.selection import positions

    n = len(part)
    indices = positions(np.asarray(test(part)), n, part.path)
    if progress is not None:
        progress(n, n)
    return n, indices
