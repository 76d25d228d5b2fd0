"""Batches of a dataset in a random order, gathered ahead of their use.

>>> loader = mapix.Loader(ds, batch_size=256, seed=1)            # doctest: +SKIP
>>> for batch in loader:                                         # doctest: +SKIP
...     train(batch.images, batch.labels)
"""

from __future__ import annotations

import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.errors import UnsupportedError
from mapix.placement import Placement
from mapix.sampling import Sampling, Weighted

__all__ = ["Ahead", "Gathering", "Loader", "Plan"]

T = TypeVar("T")
IntArray = NDArray[np.int64]
MASK = (1 << 64) - 1
STATE_VERSION = 1
OWNER_SECONDS = 1.0  # between two checks of a waiting thread whether anybody can use its results


class Plan:
    """Which records are in which batch: a function of numbers, which holds no table.

    Parameters
    ----------
    n : int
        Records of the dataset.
    batch_size : int
        Records per batch and rank.
    shuffle : bool
        Whether each epoch has a random order of its own; else 0..n-1.
    seed : int
        Names the orders; the same seed gives the same ones on every machine.
    sampling : Sampling, optional
        Another order than a plain shuffle; its ``n`` is then the length of an epoch.
    drop_last : bool
        Leave out the records that do not fill a batch of every rank.
    rank, world : int
        This process, and how many share each epoch.  Step s of an epoch takes
        ``world * batch_size`` positions of the order, and rank r the r-th part of these.  The last
        step is divided equally; where it does not divide, its first records come once more.

    Attributes
    ----------
    step : int
        Positions of the order that all ranks take together at a time.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        sampling: Sampling | None = None,
    ) -> None:
        for name, value, low in (("batch_size", batch_size, 1), ("world", world, 1)):
            if value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in 0..{world - 1}, got {rank}")
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.sampling = sampling
        if sampling is not None:
            self.n = sampling.n
        self.drop_last, self.rank, self.world = drop_last, rank, world
        self.step = batch_size * world

    def nbatches(self, position: int = 0) -> int:
        """Batches of this rank from a position of the epoch to its end."""
        left = max(0, self.n - position)
        return left // self.step if self.drop_last else -(-left // self.step)

    def order(self, epoch: int, begin: int, count: int) -> IntArray:
        """Positions ``begin`` to ``begin + count - 1`` of an epoch's order, int64 (count,)."""
        if self.sampling is not None:
            positions = np.arange(begin, begin + count, dtype=np.int64)
            return self.sampling.records(self.key(epoch), positions)
        if not self.shuffle:
            return np.arange(begin, begin + count, dtype=np.int64)
        return _native.permute(self.n, self.key(epoch), begin, count)

    def key(self, epoch: int) -> int:
        """Name of an epoch's order."""
        return (self.seed * 0x9E3779B97F4A7C15 + epoch * 0xD1342543DE82EF95 + 1) & MASK

    def rows_of(self, epoch: int, position: int, nbatches: int) -> IntArray:
        """Records of this rank's next batches, one after another."""
        if self.world == 1:
            count = min(nbatches * self.batch_size, self.n - position)
            return self.order(epoch, position, count)
        each = [self.rows(epoch, position + k * self.step) for k in range(nbatches)]
        return np.concatenate(each) if each else np.empty(0, np.int64)

    def nrows(self, position: int) -> int:
        """Records of this rank's batch that begins at a position of an epoch."""
        left = min(self.step, self.n - position)
        return self.batch_size if left == self.step else -(-left // self.world)

    def rows(self, epoch: int, position: int) -> IntArray:
        """Records of this rank's batch that begins at a position of the epoch."""
        left = min(self.step, self.n - position)
        if left == self.step:
            return self.order(epoch, position + self.rank * self.batch_size, self.batch_size)
        each = -(-left // self.world)
        places = (self.rank * each + np.arange(each)) % left
        return self.order(epoch, position, left)[places]


class Ahead(Generic[T]):
    """Runs an iterator in a thread, some results ahead of their use.

    Parameters
    ----------
    make : callable
        Called in the thread with a slot number; returns a result, or None at the end.  What it
        raises, ``next`` raises.
    nslots : int
        Results that exist at a time, the one in use included.  A slot is used again only when
        the result that was made in it has been let go of.
    """

    def __init__(self, make: Callable[[int], T | None], nslots: int) -> None:
        # Queues made in C: Ctrl-C between two lines of Python leaves no lock held, as it can where
        # a condition is entered.
        self._free: SimpleQueue[int] = SimpleQueue()
        self._ready: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()
        self._stopped = [False]
        self._pid = os.getpid()
        for slot in range(nslots):
            self._free.put(slot)
        # The thread refers to these alone, so that this object can die while it runs, as it does
        # where Ctrl-C comes before anybody could close it.
        pieces = (self._free, self._ready, self._stopped, make, weakref.ref(self))
        self._thread = threading.Thread(target=_work, args=pieces, name="mapix-ahead", daemon=True)
        self._thread.start()

    def next(self) -> tuple[int, T | None]:
        """The next result and its slot; None at the end."""
        if os.getpid() != self._pid:
            raise RuntimeError("this pass was begun before a fork; begin one in this process")
        slot, value, error = self._ready.get()
        if error is not None:
            raise error
        return slot, value

    def release(self, slot: int) -> None:
        """Let go of a result: its slot may be written to."""
        self._free.put(slot)

    def close(self) -> None:
        """End the thread, and wait for the call that it is in."""
        self._stopped[0] = True
        self._free.put(0)  # the thread may be waiting for a slot
        if os.getpid() == self._pid:
            self._thread.join()


def _work(
    free: SimpleQueue[int],
    ready: SimpleQueue[Any],
    stopped: list[bool],
    make: Callable[[int], Any],
    owner: weakref.ref[Ahead[Any]],
) -> None:
    value: Any = True
    while value is not None:
        try:
            slot = free.get(timeout=OWNER_SECONDS)
        except Empty:
            if owner() is None:
                return
            continue
        if stopped[0]:
            return
        error = None
        try:
            value = make(slot)
        except BaseException as e:
            value, error = None, e
        ready.put((slot, value, error))


class Loader:
    """Batches of a dataset, epoch after epoch, in an order that can be resumed at any batch.

    Parameters
    ----------
    ds : dataset
        What ``mapix.open`` returned, or a part of it.
    batch_size : int
        Records per batch.
    shuffle : bool
        Whether each epoch has a random order of its own; else records come as they lie.
    seed : int
        Of the order: the same on every machine, for every version.
    drop_last : bool
        Leave out a smaller last batch.
    rank, world : int
        This process, and how many of them share each epoch; all ranks get equally many batches.
    weights : array_like, str or sequence of str, optional
        Draws records with replacement: in proportion to numbers (n,), or so that the classes of
        columns come equally often.
    order : Sampling, optional
        Another order than a plain shuffle: ``mapix.sampling.Stratified``, ``Bucketed`` or
        ``Blocks``, or a class of your own.
    ahead : int
        Batches gathered ahead of use by a thread; 0 gathers each when it is asked for.
    copy : bool
        Whether each batch has arrays of its own.  By default the images of a batch are written
        over when the batch after it is asked for.
    **options
        For ``batch`` of the dataset: ``dtype``, ``scale``, ``threads`` and others.

    Notes
    -----
    Iterating gives the rest of the current epoch: batches as of ``ds.batch``, with ``rows``, the
    record numbers.  The next ``iter`` gives the next epoch, also when one was left early.
    An error of the thread, Ctrl-C, ``break`` and garbage collection end the thread.

    Copies: each record once, into buffers that are reused.  Cost: a position of the order takes
    about 20 ns, and no memory.
    """

    def __init__(
        self,
        ds: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        weights: ArrayLike | str | Sequence[str] | None = None,
        order: Sampling | None = None,
        ahead: int = 2,
        copy: bool = False,
        **options: Any,
    ) -> None:
        if ahead < 0:
            raise ValueError(f"ahead must be at least 0, got {ahead}")
        self.dataset = ds
        if weights is not None:
            if order is not None:
                raise ValueError("pass weights= or order=, not both")
            order = Weighted(_weights(ds, weights))
        self.plan = Plan(
            len(ds),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world=world,
            sampling=order,
        )
        self.ahead, self.copy, self.options = ahead, copy, options
        self.epoch = 0
        self._position = 0
        self._fresh = True  # whether the next pass begins where the state says
        ds.batch([], **options)  # an option that is wrong is reported here, not in the thread

    def __len__(self) -> int:
        """Batches of a complete epoch."""
        return self.plan.nbatches()

    # --- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, int]:
        """Where this loader is, for ``load_state_dict``: numbers only, the same on all ranks.

        Counts the batches that were handed out, not those that were gathered ahead.
        """
        return {
            "version": STATE_VERSION,
            "seed": self.plan.seed,
            "epoch": self.epoch,
            "position": self._position,
            "records": self.plan.n,
            "shuffle": int(self.plan.shuffle),
            "dataset": self._digest(),
        }

    def _digest(self) -> int:
        """A number for the family and the record count; other content is not noticed."""
        sampling = self.plan.sampling
        order = 0 if sampling is None else sampling.digest()
        described = repr((len(self.dataset), type(self.dataset).__name__))
        return zlib.crc32(described.encode()) ^ order

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader was, also one of another batch size or number of ranks.

        Raises
        ------
        ValueError
            The state is of another dataset, or of a version that is not known.
        """
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"state of version {state.get('version')}, expected {STATE_VERSION}")
        for name, here in (("records", self.plan.n), ("dataset", self._digest())):
            if state[name] != here:
                raise ValueError(
                    f"the state is of another dataset: {name} is {state[name]}, here {here}"
                )
        self.plan.seed, self.plan.shuffle = state["seed"], bool(state["shuffle"])
        self.epoch, self._position = state["epoch"], state["position"]
        self._fresh = True

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be over this epoch, from its beginning."""
        self.epoch, self._position, self._fresh = epoch, 0, True

    # --- passes -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Before a pass: the next epoch, unless this one is still to be begun, or resumed."""
        if not self._fresh:
            self.epoch, self._position = self.epoch + 1, 0
        self._fresh = False

    def _advance(self) -> None:
        """After a batch was taken by the consumer."""
        self._position = min(self._position + self.plan.step, self.plan.n)

    def _end(self) -> None:
        """After the last batch of a pass."""
        self.epoch, self._position, self._fresh = self.epoch + 1, 0, True

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        nbatches = self.plan.nbatches(self._position)
        for batch in self.host_batches(self.epoch, self._position, nbatches):
            self._advance()
            yield batch
        self._end()

    def host_batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Any]:
        """Batches of an epoch from a position on, in memory; the state stays as it is."""
        jobs = (self.plan.rows(epoch, position + k * self.plan.step) for k in range(nbatches))
        make = Gathering(self.dataset, jobs, self.options, self._buffers())
        if not self.ahead:
            for _ in range(nbatches):
                yield make(0)
            return
        ahead, slot = Ahead(make, self.ahead + 1), -1
        try:
            for _ in range(nbatches):
                if slot >= 0:
                    ahead.release(slot)
                slot, batch = ahead.next()
                yield batch
        finally:
            ahead.close()

    def placement(self) -> Placement:
        """How the dataset's batches of these options are copied.

        Raises
        ------
        UnsupportedError
            They have no common shape.
        """
        make = getattr(self.dataset, "placement", None)
        if make is None:
            raise UnsupportedError(f"{type(self.dataset).__name__} has no batches of one shape")
        options = {k: v for k, v in self.options.items() if k not in ("labels", "threads")}
        found: Placement = make(**options)
        return found

    def _buffers(self) -> list[NDArray[Any]] | None:
        """Reused outputs, one for each slot; None where each batch has its own."""
        if self.copy:
            return None
        try:
            placement = self.placement()
        except UnsupportedError:
            return None  # the shape of a batch is known when it is made
        shape = (self.plan.batch_size, *placement.shape)
        return [np.empty(shape, placement.out) for _ in range(self.ahead + 1)]


def _weights(ds: Any, weights: Any) -> Any:
    """Return numbers as they are; of names of columns, the weights that balance their classes."""
    if isinstance(weights, str):
        return ds.weights(weights)
    if isinstance(weights, list | tuple) and weights and isinstance(weights[0], str):
        return ds.weights(*weights)
    return weights


class Gathering:
    """Makes the next batch of a pass, in a slot; looks one batch ahead for pages to ask for."""

    def __init__(
        self,
        ds: Any,
        jobs: Iterator[IntArray],
        options: dict[str, Any],
        buffers: list[NDArray[Any]] | None,
    ) -> None:
        self._ds, self._jobs, self._options, self._buffers = ds, jobs, options, buffers
        self._prefetch = getattr(ds, "prefetch", None)
        self._next = next(jobs, None)

    def __call__(self, slot: int) -> Any:
        """The next batch, in the buffer of a slot; None at the end."""
        rows = self._next
        if rows is None:
            return None
        self._next = next(self._jobs, None)
        if self._next is not None and self._prefetch is not None:
            self._prefetch(self._next)
        options = self._options
        if self._buffers is not None:
            options = {**options, "out": self._buffers[slot]}
        batch = self._ds.batch(rows, **options)
        batch.rows = rows
        return batch
