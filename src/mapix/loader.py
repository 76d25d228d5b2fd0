"""Load batches of a dataset in random order; a thread gathers them before they are used.

>>> loader = mapix.Loader(ds, batch_size=256, seed=1)            # doctest: +SKIP
>>> for batch in loader:                                         # doctest: +SKIP
...     train(batch.images, batch.labels)
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat, tee
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.augmentation import Augment, Draws
from mapix.batch import AskedAhead, batches_ahead
from mapix.errors import UnsupportedError
from mapix.placement import Placement
from mapix.sampling import Sampling, Weighted

__all__ = ["Ahead", "Listed", "Loader", "Plan"]

T = TypeVar("T")
IntArray = NDArray[np.int64]
Make = Callable[[IntArray, NDArray[Any] | None], Any]  # of rows and an output, a batch
MASK = (1 << 64) - 1
STATE_VERSION = 1
ORDERED_RECORDS = 4096  # of whose positions the records are computed at once, about
OWNER_SECONDS = 1.0  # between two checks of a waiting thread whether its owner still exists


class Plan:
    """Compute the records of each batch from numbers, without a table.

    Parameters
    ----------
    n : int
        Records of the dataset.
    batch_size : int
        Records per batch and rank.
    shuffle : bool
        Whether each epoch has its own random order; otherwise the order is 0..n-1.
    seed : int
        Determines the orders; a seed gives the same orders on every machine.
    sampling : Sampling, optional
        Another order than a plain shuffle; its ``n`` is then the length of an epoch.
    drop_last : bool
        Whether to leave out the records that do not fill a batch of every rank.
    rank, world : int
        Number of this process, and number of processes that share each epoch.  Step s of an epoch
        takes ``world * batch_size`` positions of the order, and rank r the r-th part of these.  The
        last step is divided equally; if it is not divisible, its first records are repeated.

    Attributes
    ----------
    step : int
        Number of positions of the order that all ranks together take per step.
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
        """Return the number of batches of this rank from a position to the end of the epoch."""
        left = max(0, self.n - position)
        return left // self.step if self.drop_last else -(-left // self.step)

    def order(self, epoch: int, begin: int, count: int) -> IntArray:
        """Return positions ``begin`` to ``begin + count - 1`` of an epoch's order, int64."""
        if self.sampling is not None or not self.shuffle:
            return self.at(epoch, np.arange(begin, begin + count, dtype=np.int64))
        return _native.permute(self.n, self.key(epoch), begin, count)

    def at(self, epoch: int, positions: IntArray) -> IntArray:
        """Return the records at positions of an epoch's order, int64."""
        if self.sampling is not None:
            return self.sampling.records(self.key(epoch), positions)
        return _native.permute_at(self.n, self.key(epoch), positions) if self.shuffle else positions

    def key(self, epoch: int) -> int:
        """Return the key of an epoch's permutation, 64 bits."""
        return (self.seed * 0x9E3779B97F4A7C15 + epoch * 0xD1342543DE82EF95 + 1) & MASK

    def rows_of(self, epoch: int, position: int, nbatches: int) -> IntArray:
        """Return the records of this rank's next batches, concatenated."""
        if self.world == 1:
            count = min(nbatches * self.batch_size, self.n - position)
            return self.order(epoch, position, count)
        full = min(nbatches, max(0, self.n - position) // self.step)
        steps = position + np.arange(full, dtype=np.int64) * self.step
        mine = self.rank * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        rows = self.at(epoch, (steps[:, None] + mine).ravel())
        if nbatches == full:
            return rows
        return np.concatenate([rows, self.rows(epoch, position + full * self.step)])

    def nrows(self, position: int) -> int:
        """Return the number of records of this rank's batch at a position of an epoch."""
        left = min(self.step, self.n - position)
        return self.batch_size if left == self.step else -(-left // self.world)

    def positions(self, position: int) -> IntArray:
        """Return the positions in the order of this rank's batch at a position of an epoch."""
        left, each = min(self.step, self.n - position), self.nrows(position)
        return position + (self.rank * each + np.arange(each, dtype=np.int64)) % max(left, 1)

    def rows(self, epoch: int, position: int) -> IntArray:
        """Return the records of this rank's batch at a position of an epoch."""
        if self.n - position >= self.step:
            return self.order(epoch, position + self.rank * self.batch_size, self.batch_size)
        return self.at(epoch, self.positions(position))


class Listed(Plan):
    """Batches that a batch sampler names; a position is the number of a batch.

    Parameters
    ----------
    n : int
        Records of the dataset.
    sampler : sized iterable
        Yields the record numbers of each batch, one epoch per iteration.
    """

    def __init__(self, n: int, sampler: Any) -> None:
        if not hasattr(sampler, "__len__") or not hasattr(sampler, "__iter__"):
            raise TypeError(
                "batch_sampler must have a length and yield the record numbers of each batch, "
                f"got {type(sampler).__name__}"
            )
        super().__init__(n, 1, shuffle=False)
        self.sampler = sampler
        self.n = len(sampler)

    def nbatches(self, position: int = 0) -> int:
        """See ``Plan``."""
        return max(0, len(self.sampler) - position)

    def listed(self, epoch: int, position: int) -> tuple[int, Iterator[IntArray]]:
        """Return the records of the batches from a position on, and how many come before them.

        The batches before it are drawn from the sampler, and not gathered.
        """
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        batches = (np.asarray(numbers, np.int64) for numbers in self.sampler)
        return sum(map(len, islice(batches, position))), batches


class Ahead(Generic[T]):
    """Run a function in a thread, some results before they are used.

    Parameters
    ----------
    make : callable
        Called in the thread with a slot number; returns a result, or None at the end.  ``next``
        raises its exceptions.
    nslots : int
        Number of results that exist at a time, including the one in use.  A slot is reused only
        after its result was released.
    """

    def __init__(self, make: Callable[[int], T | None], nslots: int) -> None:
        # SimpleQueue is implemented in C: Ctrl-C cannot leave a lock held, as it can between two
        # Python statements of a condition variable.
        self._free: SimpleQueue[int] = SimpleQueue()
        self._ready: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()
        self._stopped = [False]
        self._pid = os.getpid()
        for slot in range(nslots):
            self._free.put(slot)
        # The thread must not refer to this object, so that the object can be deleted while the
        # thread runs: after a Ctrl-C, close() might never be called.
        pieces = (self._free, self._ready, self._stopped, make, weakref.ref(self))
        self._thread = threading.Thread(target=_work, args=pieces, name="mapix-ahead", daemon=True)
        self._thread.start()

    def next(self) -> tuple[int, T | None]:
        """Return the next slot and its result; the result is None at the end."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this iteration began before a fork; begin a new one in this process"
            )
        slot, value, error = self._ready.get()
        if error is not None:
            raise error
        return slot, value

    def release(self, slot: int) -> None:
        """Release a result, so that its slot can be reused."""
        self._free.put(slot)

    def close(
        self,
        # defaults: at the interpreter's exit, os and sys may be None
        getpid: Callable[[], int] = os.getpid,
        finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        """End the thread, and wait until its current call returns."""
        self._stopped[0] = True
        self._free.put(0)  # the thread may be waiting for a slot
        # When Python ends, no thread gets the lock again: before 3.14, waiting for one never ended.
        if getpid() == self._pid and not finalizing():
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
    """Yield batches of a dataset, one epoch per iteration, in an order that can be resumed.

    Parameters
    ----------
    ds : mapix.Dataset
        A dataset, or a part of one.
    batch_size : int
        Records per batch; None with ``batch_sampler``.
    shuffle : bool
        Whether each epoch has its own random order; otherwise records keep their order.
    seed : int
        Determines the orders; a seed gives the same orders on every machine.
    drop_last : bool
        Whether to leave out a smaller last batch.
    rank, world : int
        Number of this process, and number of processes that share each epoch.  All ranks get the
        same number of batches.
    weights : array_like, str or sequence of str, optional
        Draws records with replacement: in proportion to numbers (n,), or so that the classes of
        columns come equally often.
    order : Sampling, optional
        Another order than a plain shuffle: ``mapix.sampling.Stratified``, ``Bucketed`` or
        ``Blocks``, or a class of your own.
    batch_sampler : sized iterable, optional
        Yields the record numbers of each batch of an epoch, as samplers of PyTorch do, and decides
        order and batches alone.  ``set_epoch(epoch)`` is called where it exists.  A loader resumes
        after the batches that were yielded: the sampler must then yield the same ones again.
    ahead : int
        Number of batches that a thread gathers before they are requested; 0 gathers each batch on
        request.
    copy : bool
        Whether each batch has its own arrays.  By default, the images of a batch are overwritten
        when the next batch is requested.
    augment : Augment, optional
        Random crops, flips, cutout and mixup, made while the images are copied.  They follow from
        the seed of ``augment``, the epoch and the position of each record in the epoch, so they are
        the same for every batch size and number of ranks.
    **options
        Options of ``ds.batch``: ``dtype``, ``scale``, ``threads`` and others.

    Notes
    -----
    An iteration yields the rest of the current epoch: batches as returned by ``ds.batch``, with
    record numbers as ``rows``.  The next iteration yields the next epoch, also after a ``break``.
    Errors, Ctrl-C, ``break`` and garbage collection end the thread.

    Copies: each record once, into buffers that are reused.  Cost: a position of the order takes
    about 20 ns, and no memory.
    """

    def __init__(
        self,
        ds: Any,
        batch_size: int | None = None,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        weights: ArrayLike | str | Sequence[str] | None = None,
        order: Sampling | None = None,
        batch_sampler: Any = None,
        ahead: int = 2,
        copy: bool = False,
        augment: Augment | None = None,
        **options: Any,
    ) -> None:
        if augment is not None and not isinstance(augment, Augment):
            raise TypeError(f"augment must be a mapix.Augment, got {type(augment).__name__}")
        if ahead < 0:
            raise ValueError(f"ahead must be at least 0, got {ahead}")
        self.dataset = ds
        if weights is not None:
            if order is not None:
                raise ValueError("pass weights= or order=, not both")
            order = Weighted(_weights(ds, weights))
        self.plan: Plan
        if batch_sampler is not None:
            if batch_size is not None or drop_last or rank or world != 1 or order is not None:
                raise ValueError(
                    "batch_sampler= decides the batches: pass no batch_size, drop_last=, rank=, "
                    "world=, weights= or order="
                )
            self.plan = Listed(len(ds), batch_sampler)
        elif batch_size is None:
            raise TypeError("pass batch_size, or batch_sampler=")
        else:
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
        self.ahead, self.copy, self.options, self.augment = ahead, copy, options, augment
        self.epoch = 0
        self._position = 0
        self._fresh = True  # whether the next iteration begins at the current state
        # raises errors of wrong options here, not in the thread
        none = ds.batch([], **options, **self._drawn(0, np.empty(0, np.int64)))
        self._shape = none.images.shape[1:]

    def __len__(self) -> int:
        """Return the number of batches of a complete epoch."""
        return self.plan.nbatches()

    def __repr__(self) -> str:
        plan = self.plan
        kind = "shuffled" if plan.shuffle else "in order"
        kind = kind if plan.sampling is None else type(plan.sampling).__name__
        rank = f", rank {plan.rank} of {plan.world}" if plan.world > 1 else ""
        options = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return (
            f"<{type(self).__module__}.{type(self).__name__}: {len(self)} batches of "
            f"{plan.batch_size}, {kind}, epoch {self.epoch}{rank}{options}\n of {self.dataset!r}>"
        )

    # --- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, int]:
        """Return the state for ``load_state_dict``: numbers only, the same on all ranks.

        The position counts batches that were yielded, not those that the thread has gathered.
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
        """Return a checksum of family and record count, to recognise a state of other data."""
        sampling = self.plan.sampling
        order = int(isinstance(self.plan, Listed)) if sampling is None else sampling.digest()
        described = repr((len(self.dataset), type(self.dataset).__name__))
        return zlib.crc32(described.encode()) ^ order

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the state of a loader, which may have another batch size or number of ranks.

        Raises
        ------
        ValueError
            The state belongs to another dataset, or its version is unknown.
        """
        if state.get("version") != STATE_VERSION:
            raise ValueError(
                f"the state has version {state.get('version')}, expected {STATE_VERSION}"
            )
        for name, here in (("records", self.plan.n), ("dataset", self._digest())):
            if state[name] != here:
                raise ValueError(
                    f"the state belongs to another dataset: its {name} is {state[name]}, that of "
                    f"this loader is {here}"
                )
        self.plan.seed, self.plan.shuffle = state["seed"], bool(state["shuffle"])
        self.epoch, self._position = state["epoch"], state["position"]
        self._fresh = True

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration yield this epoch from its beginning."""
        self.epoch, self._position, self._fresh = epoch, 0, True

    # --- iteration --------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Go to the next epoch, unless the current one is new or restored."""
        if not self._fresh:
            self.epoch, self._position = self.epoch + 1, 0
        self._fresh = False

    def _advance(self) -> None:
        """Count a batch that was yielded."""
        self._position = min(self._position + self.plan.step, self.plan.n)

    def _end(self) -> None:
        """Go to the next epoch after the last batch."""
        self.epoch, self._position, self._fresh = self.epoch + 1, 0, True

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise UnsupportedError("a loader yields batches: np.asarray(batch) are its images")

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        nbatches = self.plan.nbatches(self._position)
        for batch in self.host_batches(self.epoch, self._position, nbatches):
            self._advance()
            yield batch
        self._end()

    def host_batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Any]:
        """Yield batches in memory from a position of an epoch, without changing the state."""
        rows, make = self._parts_of_epoch(epoch, position, nbatches)
        outs = self._buffers()
        soon = self._soon(epoch, position, nbatches)
        asked = AskedAhead(rows, self.dataset.prefetch, soon)
        if outs[0] is None:
            make = _watched(make, asked)
        else:
            asked.distance = batches_ahead(outs[0])
        due = chain.from_iterable(asked)
        if not self.ahead:
            return map(make, due, repeat(outs[0]))
        return self._ahead(due, make, outs)

    def _ahead(
        self, due: Iterator[IntArray], make: Make, outs: Sequence[NDArray[Any] | None]
    ) -> Iterator[Any]:
        """Yield batches that a thread makes."""

        def gather(slot: int) -> Any:
            rows = next(due, None)
            return None if rows is None else make(rows, outs[slot])

        ahead = Ahead(gather, len(outs))
        try:
            slot, batch = ahead.next()
            while batch is not None:
                yield batch
                ahead.release(slot)
                slot, batch = ahead.next()
        finally:
            ahead.close()

    def _parts_of_epoch(
        self, epoch: int, position: int, nbatches: int
    ) -> tuple[Iterator[IntArray], Make]:
        """Return the records of this rank's batches from a position on, and what makes a batch."""
        plan = self.plan
        if isinstance(plan, Listed):
            begin, batches = plan.listed(epoch, position)
            rows, again = tee(islice(batches, nbatches))
            positions = _counted(begin, again)
        else:
            rows = self._ordered(epoch, position, nbatches)
            begins = range(position, position + nbatches * plan.step, plan.step)
            positions = map(plan.positions, begins)
        if self.augment is None:
            return rows, self.dataset._loading(self.options)
        draws = (self._drawn(epoch, each) for each in positions)

        def make(rows: IntArray, out: NDArray[Any] | None) -> Any:
            batch = self.dataset.batch(rows, out, **self.options, **next(draws))
            batch.rows = rows
            return batch

        return rows, make

    def _ordered(self, epoch: int, position: int, nbatches: int) -> Iterator[IntArray]:
        """Yield the records of this rank's batches from a position of the order on."""
        plan, size = self.plan, self.plan.batch_size
        most = max(1, ORDERED_RECORDS // size)  # batches
        for done in range(0, nbatches, most):
            rows = plan.rows_of(epoch, position + done * plan.step, min(most, nbatches - done))
            full = len(rows) // size * size
            yield from rows[:full].reshape(-1, size)
            if full < len(rows):
                yield rows[full:]

    def _soon(self, epoch: int, position: int, nbatches: int) -> Iterator[IntArray] | None:
        """Yield records to ask the disk for with each batch, if the order names such."""
        sampling = self.plan.sampling
        if sampling is None or type(sampling).soon is Sampling.soon:
            return None
        key, step, n = self.plan.key(epoch), self.plan.step, self.plan.n
        # a rank asks for its own part of the positions that a step takes
        begins = (position + k * step for k in range(nbatches))
        steps = (np.arange(b, min(b + step, n), dtype=np.int64) for b in begins)
        mine = (np.array_split(each, self.plan.world)[self.plan.rank] for each in steps)
        return (sampling.soon(key, each) for each in mine)

    def _drawn(self, epoch: int, positions: IntArray) -> dict[str, Draws]:
        """Return the option ``augment=`` of ``ds.batch`` for positions of an epoch, if any."""
        return {} if self.augment is None else {"augment": self.augment.draws(positions, epoch)}

    def placement(self) -> Placement:
        """Return offsets and strides for the dataset's batches with these options.

        With ``augment``, ``canvas`` and ``shape`` are those of the images after the changes.

        Raises
        ------
        UnsupportedError
            The batches have no common shape.
        """
        options = {k: v for k, v in self.options.items() if k not in ("labels", "threads")}
        found: Placement = self.dataset.placement(**options)
        if self.augment is None:
            return found
        canvas = found.canvas  # of numbers that are copied as bytes, it has no sides
        if found.affine is not None:
            canvas = (*self.augment.size(*canvas[:2]), canvas[2])
        return replace(found, shape=self._shape, canvas=canvas)

    def _buffers(self) -> Sequence[NDArray[Any] | None]:
        """Return reused outputs, one per slot; None in each slot if each batch has its own."""
        none = [None] * (self.ahead + 1)
        if self.copy or isinstance(self.plan, Listed):
            return none  # the next batch of a sampler can have any size
        try:
            placement = self.placement()
        except UnsupportedError:
            return none  # the shape of a batch is known only after it was gathered
        if not placement.shape_known:
            return none
        shape = (self.plan.batch_size, *placement.shape)
        return [np.empty(shape, placement.out) for _ in none]


def _weights(ds: Any, weights: Any) -> Any:
    """Return numbers as they are; of names of columns, the weights that balance their classes."""
    if isinstance(weights, str):
        return ds.weights(weights)
    if isinstance(weights, list | tuple) and weights and isinstance(weights[0], str):
        return ds.weights(*weights)
    return weights


def _counted(begin: int, batches: Iterator[IntArray]) -> Iterator[IntArray]:
    """Yield the positions of batches that follow one another."""
    for rows in batches:
        yield np.arange(begin, begin + len(rows), dtype=np.int64)
        begin += len(rows)


def _watched(make: Make, asked: AskedAhead) -> Make:
    """Return a function that also finds out how many batches to ask for ahead."""

    def watched(rows: IntArray, out: NDArray[Any] | None) -> Any:
        batch = make(rows, out)
        asked.distance = batches_ahead(batch.images)
        return batch

    return watched
