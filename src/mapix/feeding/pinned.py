"""The feeder ``pinned``: a thread gathers into pinned memory, from which the GPU copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from mapix.feeding.slots import Chunk, Chunked, Value
from mapix.feeding.staging import Staging

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Pinned"]

NSLOTS = 3  # one in use, one in flight, one being gathered


class Pinned(Chunked):
    """Gather several batches into pinned memory in a thread, and convert them in one launch."""

    way = "pinned"

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader, NSLOTS)
        self._staging = Staging(
            loader, self.placement, self.labels, NSLOTS, self.nrecords, self.cuda
        )
        self._failed = self.cuda.pinned((1,), torch.int64)
        self._numbers = self.cuda.sent(torch.arange(self.nrecords))
        self.cuda.current().synchronize()
        what = "converted batches"
        if self._staging.converts:
            what = "bytes, which the GPU converts to floats"
        self.text = f"a thread gathers {self.nbatches} batches at a time into pinned memory: {what}"

    def _send(self, k: int, chunk: Chunk) -> None:
        """Gather a chunk, and launch its copy to the GPU."""
        self.slots[k].ready.synchronize()  # until the last launch has read this memory
        rows = self.loader.plan.rows_of(*chunk)
        job = self._staging.gather(k, rows, chunk)
        job.rows, job.nrows, job.failed = (
            self._numbers.data_ptr(),
            len(rows),
            self._failed.data_ptr(),
        )
        with self.cuda.using():
            self.slots[k].launch(self.kernel, job)

    def _check(self, k: int, chunk: Chunk) -> None:
        """Let the current stream wait for a launch; the gather has checked the file."""
        del chunk
        self.cuda.current().wait_event(self.slots[k].ready)

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""
        yield from self.from_thread(self.chunks(epoch, position, nbatches), self._send, self._check)

    def close(self) -> None:
        """Wait for all launches."""
        self.stop()
        self.finish()
