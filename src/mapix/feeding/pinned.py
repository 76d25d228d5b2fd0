"""The feeder ``pinned``: a thread gathers into pinned memory, from which the GPU copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from mapix import _native
from mapix.feeding.slots import Chunk, Chunked, Value, torch_dtype
from mapix.gpu.job import Job, described
from mapix.loader import Ahead

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Pinned"]

NSLOTS = 3  # one in use, one in flight, one being gathered


class Pinned(Chunked):
    """Gather several batches into pinned memory in a thread, and convert them in one launch.

    Bytes cross the bus as bytes; the kernel of ``pages`` converts them to floats on the GPU.
    """

    way = "pinned"

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader, NSLOTS)
        placement = self.placement
        padded = bool(placement.fit & _native.PAD)  # pad_value is in the unit of the output
        converts = placement.affine is not None and not padded
        shape = (self.nrecords, *placement.shape)
        dtype = torch.uint8 if converts else torch_dtype(np.empty(0, placement.out))
        self._host = [torch.empty(shape, dtype=dtype, pin_memory=True) for _ in self.slots]
        self._host_labels = [self.labels.empty(self.nrecords, pin_memory=True) for _ in self.slots]
        self._options = dict(loader.options)
        if "labels" in self._options:
            self._options["labels"] = None  # labels come from a table
        if converts:
            for name in ("scale", "mean", "std"):
                self._options.pop(name, None)
            self._options["dtype"] = "uint8"
        self._failed = torch.zeros(1, dtype=torch.int64, pin_memory=True)
        self._numbers = torch.arange(self.nrecords, device=self.device)
        self._affine = None
        if converts:
            self._affine = torch.from_numpy(np.array(placement.affine)).to(self.device)
        self._job = self._described()
        torch.cuda.current_stream(self.device).synchronize()
        what = "bytes, which the GPU converts to floats" if converts else "converted batches"
        self.text = f"a thread gathers {self.nbatches} batches at a time into pinned memory: {what}"

    def _described(self) -> Job:
        """Return a job over batches in pinned memory, which have the layout of the output."""
        placement = self.placement
        bfloat16 = self.loader.dtype is torch.bfloat16
        job = described(placement, bfloat16=bfloat16)
        job.entries = job.first_at = job.head_nbytes = job.nlabels = job.fit = 0
        job.swap = 1
        job.rows, job.failed = self._numbers.data_ptr(), self._failed.data_ptr()
        h, w, c = placement.canvas
        if self._affine is None:  # numbers are copied unchanged
            job.dtype, h, w, c = 0, 1, self._host[0][0].nbytes, 1
        else:
            job.affine = self._affine.data_ptr()
        job.h, job.w, job.c = job.record_h, job.record_w, job.record_c = h, w, c
        job.stride = h * w * c
        job.interleaved = placement.layout == "NHWC"
        return job

    def _send(self, k: int, chunk: Chunk) -> Chunk:
        """Gather a chunk, and launch its copy to the GPU."""
        slot, host, labels, job = self.slots[k], self._host[k], self._host_labels[k], self._job
        slot.ready.synchronize()  # until the last launch has read this memory
        rows = self.loader.plan.rows_of(*chunk)
        self.loader.dataset.batch(rows, out=host.numpy(), **self._options)
        if labels is not None and self.labels.values is not None:
            np.take(self.labels.values, rows, 0, out=labels.numpy()[: len(rows)], mode="clip")
            job.side, job.side_nbytes = labels.data_ptr(), self.labels.nbytes
        n = len(rows)
        job.base, job.nbytes, job.nrecords, job.nrows = host.data_ptr(), n * job.stride, n, n
        with torch.cuda.device(self.device):
            slot.launch(self.kernel, job)
        return chunk

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""
        chunks = iter(self.chunks(epoch, position, nbatches))

        def make(k: int) -> Chunk | None:
            chunk = next(chunks, None)
            return None if chunk is None else self._send(k, chunk)

        ahead = Ahead(make, NSLOTS)
        try:
            while True:
                k, chunk = ahead.next()
                if chunk is None:
                    return
                torch.cuda.current_stream(self.device).wait_event(self.slots[k].ready)
                yield from self.values(self.slots[k], chunk)
                ahead.release(k)
        finally:
            ahead.close()

    def close(self) -> None:
        """Wait for all launches."""
        self.finish()
