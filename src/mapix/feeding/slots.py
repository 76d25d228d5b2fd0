"""Device memory for batches in flight, and the base class of ``pages`` and ``pinned``."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mapix.errors import ClosedError, UnsupportedError
from mapix.feeding.cuda import Cuda
from mapix.feeding.labels import as_dict, ignoring, mixed
from mapix.gpu.driver import Kernel
from mapix.gpu.job import Job
from mapix.loader import Ahead, Listed

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Chunk", "Chunked", "Labels", "Slot", "Value", "end", "torch_dtype"]

Value = tuple[Any, ...]
CHUNK_RECORDS = 4096  # records per launch: fewer do not saturate the bus
CHUNK_NBYTES = 64 << 20  # bytes of images per launch


class Chunk(NamedTuple):
    """The batches of one launch: the position of the first one in its epoch, and their number."""

    epoch: int
    position: int
    nbatches: int


def end(running: list[weakref.ref[Ahead[Chunk]]]) -> None:
    """End threads that launch, where they still run."""
    for ahead in [each() for each in running]:
        if ahead is not None:
            ahead.close()


def torch_dtype(array: NDArray[Any]) -> torch.dtype:
    """Return the dtype of a tensor over an array."""
    return torch.from_numpy(array[:0]).dtype


class Labels:
    """The labels of a dataset in the unit of a loader: (n, heads) or (n,), or None."""

    def __init__(self, loader: Loader) -> None:
        unit = loader.options.get("labels", "raw")
        found = None if unit is None else loader.dataset.label_array(unit)
        self._as_dict = loader.as_dict
        self.names: tuple[str, ...] = ()
        self.values: NDArray[Any] | None = None
        if found is not None:
            values, present, self.names = found
            self.values = np.ascontiguousarray(ignoring(np.array(values), present, unit))

    @property
    def nbytes(self) -> int:
        """Size in bytes of one record's labels."""
        return 0 if self.values is None else self.values[:1].nbytes

    def empty(self, n: int, allocate: Callable[..., torch.Tensor]) -> torch.Tensor | None:
        """Return a new tensor for the labels of n records; None if there are no labels."""
        if self.values is None:
            return None
        return allocate((n, *self.values.shape[1:]), torch_dtype(self.values))

    def value(self, part: torch.Tensor | None) -> Any:
        """Return the labels of a batch in the form that the loader yields."""
        if part is None or not self._as_dict:
            return part
        return as_dict(part, self.names)


class Slot:
    """Device memory of one chunk, its stream, and the events that order access to the memory."""

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, batch: int, labels: Labels, cuda: Cuda
    ) -> None:
        self.images = cuda.empty(shape, dtype)
        self.labels = labels.empty(shape[0], cuda.empty)
        self.stream = cuda.stream()
        self.ready, self.released = cuda.event(), cuda.event()
        self._names, self._batch = labels, batch
        # views of batches are made once, because slicing a tensor takes microseconds
        self._views = [
            self._view(begin, begin + batch) for begin in range(0, shape[0] - batch + 1, batch)
        ]

    def launch(self, kernel: Kernel, job: Job) -> None:
        """Launch a job that writes to this slot, after the readers of its last results."""
        job.images = self.images.data_ptr()
        job.side_out = 0 if self.labels is None else self.labels.data_ptr()
        self.stream.wait_event(self.released)
        kernel.launch(job, self.stream.cuda_stream)
        self.ready.record(self.stream)

    def _view(self, begin: int, end: int) -> Value:
        part = None if self.labels is None else self.labels[begin:end]
        return self.images[begin:end], self._names.value(part)

    def batch(self, k: int, n: int) -> Value:
        """Return the k-th batch, which has n records."""
        if n == self._batch:
            return self._views[k]
        return self._view(k * self._batch, k * self._batch + n)


def _copied(value: Value) -> Value:
    images, labels = value
    if isinstance(labels, dict):
        return images.clone(), {k: v.clone() for k, v in labels.items()}
    return images.clone(), None if labels is None else labels.clone()


class Chunked:
    """Base class of feeders that make several batches per launch."""

    def __init__(self, loader: Loader, nslots: int) -> None:
        if isinstance(loader.plan, Listed):
            raise UnsupportedError("batch_sampler= names batches of any size, one after the other")
        placement = loader.placement()
        if not placement.shape_known:
            for _ in placement.parts:  # raises UnsupportedError where a file has another shape
                pass
        if not placement.mapping.nbytes or not placement.nbytes:
            raise UnsupportedError(f"{placement.mapping.path}: the dataset has no bytes to read")
        self.loader, self.placement = loader, placement
        self._running: list[weakref.ref[Ahead[Chunk]]] = []
        self._stopped = False
        self.cuda = Cuda(loader.device)
        self.labels = Labels(loader)
        batch = loader.plan.batch_size
        self.nbatches = max(1, min(CHUNK_RECORDS, CHUNK_NBYTES // placement.nbytes) // batch)
        self.nrecords = self.nbatches * batch  # per chunk
        shape = (self.nrecords, *placement.shape)
        dtype = loader.dtype or torch_dtype(np.empty(0, placement.out))
        self.kernel = self.cuda.kernel()
        with self.cuda.using():
            self.slots = [Slot(shape, dtype, batch, self.labels, self.cuda) for _ in range(nslots)]

    def chunks(self, epoch: int, position: int, nbatches: int) -> list[Chunk]:
        """Return the chunks of the launches for the rest of an epoch."""
        each, step = self.nbatches, self.loader.plan.step
        return [
            Chunk(epoch, position + k * step, min(each, nbatches - k))
            for k in range(0, nbatches, each)
        ]

    def from_thread(
        self,
        chunks: Sequence[Chunk],
        send: Callable[[int, Chunk], None],
        check: Callable[[int, Chunk], None],
    ) -> Iterator[Value]:
        """Yield the batches of chunks that a thread launches.

        Parameters
        ----------
        chunks : sequence of Chunk
            What to launch, in order.
        send : callable
            Called in the thread with the number of a slot and a chunk.
        check : callable
            Called with the same before the batches of a chunk are yielded.
        """
        left = iter(chunks)

        def make(k: int) -> Chunk | None:
            chunk = next(left, None)
            if chunk is not None:
                send(k, chunk)
            return chunk

        ahead = Ahead(make, len(self.slots))
        self._running[:] = [weakref.ref(ahead)]
        try:
            while True:
                self.check_open()
                k, chunk = ahead.next()
                if chunk is None:
                    return
                check(k, chunk)
                yield from self.values(self.slots[k], chunk)
                ahead.release(k)
        finally:
            ahead.close()

    def values(self, slot: Slot, chunk: Chunk) -> Iterator[Value]:
        """Yield the batches of a finished chunk, then release the slot."""
        plan, copy = self.loader.plan, self.loader.copy
        try:
            for k in range(chunk.nbatches):
                position = chunk.position + k * plan.step
                value = slot.batch(k, plan.nrows(position))
                images, labels = _copied(value) if copy else value
                yield mixed(images, labels, self.loader.shares(chunk.epoch, position))
        finally:
            slot.released.record(self.cuda.current())

    def check_open(self) -> None:
        """Raise ClosedError if the loader was closed during this iteration."""
        if self._stopped:
            path = self.placement.mapping.path
            raise ClosedError(f"{path}: the loader was closed during this iteration")

    def stop(self) -> None:
        """End the thread of an iteration that is under way."""
        self._stopped = True
        end(self._running)

    def finish(self) -> None:
        """Wait for all launches."""
        for slot in self.slots:
            slot.stream.synchronize()
