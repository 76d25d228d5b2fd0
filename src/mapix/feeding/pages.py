"""The feeder ``pages``: the GPU reads the pages of the file, and the CPU copies nothing."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import FormatError, UnsupportedError
from mapix.feeding.slots import Chunk, Chunked, Value
from mapix.gpu.driver import Registered, reads_host_memory
from mapix.gpu.job import Job, Reason, described
from mapix.placement import Placement
from mapix.selection import Rows, compose

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Pages"]

PIN_SHARE = 0.5  # share of this machine's memory that a file may pin
NSLOTS = 3  # one in use and two in flight: one launch begins while the other ends


class Pages(Chunked):
    """Compute the order and gather several batches per launch, two launches ahead."""

    way = "pages"

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader, NSLOTS)
        mapping = self.placement.mapping
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if mapping.nbytes > PIN_SHARE * total:
            raise UnsupportedError(
                f"{mapping.path}: the file's {mapping.nbytes} bytes are more than half of this "
                f"machine's memory ({total} bytes), so they are not pinned"
            )
        with torch.cuda.device(self.device):
            if not reads_host_memory(torch.cuda.current_device()):
                raise UnsupportedError("this GPU cannot read memory that is mapped read-only")
            pages = Registered(mapping)
        # the pages are released after the last launch, also if close() is never called
        streams = [slot.stream for slot in self.slots]
        self._release = weakref.finalize(self, _release, streams, pages)
        self._tables: list[torch.Tensor] = []
        self._rows = [
            torch.empty(self.nrecords, dtype=torch.int64, pin_memory=True) for _ in self.slots
        ]
        self._failed = [torch.zeros(1, dtype=torch.int64, pin_memory=True) for _ in self.slots]
        self._job = self._described(pages.device_address)
        self._part = self._part_of(self.placement.rows)
        network = _native.permute_network(1, 0)  # only its size is used
        self._network = torch.empty(len(network), dtype=torch.int32, device=self.device)
        torch.cuda.current_stream(self.device).synchronize()  # the tables are on the device
        self.text = (
            f"the GPU gathers {self.nbatches} batches per launch from the file's own pages, "
            f"{mapping.nbytes} bytes, which are pinned"
        )

    def _table(self, array: NDArray[Any]) -> int:
        """Copy an array to device memory for the life of this object, and return its address."""
        data = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
        there = data.to(self.device)
        self._tables.append(there)
        return int(there.data_ptr())

    def _described(self, base: int) -> Job:
        placement = self.placement
        job = described(placement, bfloat16=self.loader.dtype is torch.bfloat16)
        job.base = base
        if placement.entries is not None:
            job.entries = self._table(np.ascontiguousarray(placement.entries))
        if placement.affine is not None:
            job.affine = self._table(placement.affine)
        values = self.labels.values
        if values is not None and values.size:
            if placement.rows is not None:  # indexed by record of the file; 0 for unused records
                chosen = values
                values = np.zeros((placement.nrecords, *chosen.shape[1:]), chosen.dtype)
                values[np.asarray(placement.rows)] = chosen
            job.side, job.side_nbytes = self._table(values), self.labels.nbytes
        return job

    def _part_of(self, rows: Rows) -> tuple[int, int, int]:
        """Return how positions map to records of the file: a table's address, or first and step."""
        if isinstance(rows, range):
            return 0, rows.start, rows.step
        return (0, 0, 1) if rows is None else (self._table(rows), 0, 1)

    def _launch(self, k: int, chunk: Chunk) -> None:
        slot, failed, job, plan = self.slots[k], self._failed[k], self._job, self.loader.plan
        computed = plan.shuffle and plan.sampling is None
        if computed and chunk.position + chunk.nbatches * plan.step <= plan.n:
            job.order_n, job.order_begin = plan.n, chunk.position + plan.rank * plan.batch_size
            job.order_batch, job.order_step = plan.batch_size, plan.step
            job.rows, job.part_first, job.part_step = self._part
            job.order, job.nrows = self._network.data_ptr(), chunk.nbatches * plan.batch_size
        else:  # no shuffle, or a last batch that is divided differently
            rows = compose(self.placement.rows, plan.rows_of(*chunk))
            job.order_n, job.nrows, job.rows = 0, len(rows), self._rows[k].data_ptr()
            self._rows[k].numpy()[: len(rows)] = rows
        failed.zero_()
        job.failed = failed.data_ptr()
        slot.launch(self.kernel, job)

    def _check(self, k: int, chunk: Chunk) -> None:
        """Wait for a launch; raise an error if it refused a record or the file changed."""
        self.slots[k].ready.synchronize()
        _native.check(self.placement.mapping)
        failed = int(self._failed[k][0])
        if failed:
            rows = compose(self.placement.rows, self.loader.plan.rows_of(*chunk))
            raise _refused(self.placement, int(rows[failed >> 8]), Reason(failed & 255))

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""
        plan = self.loader.plan
        chunks = self.chunks(epoch, position, nbatches)
        with torch.cuda.device(self.device):
            self.finish()  # launches of an unfinished iteration may still read the network
            network = _native.permute_network(plan.n, plan.key(epoch))
            self._network.copy_(torch.from_numpy(network.view(np.int32)))
            torch.cuda.current_stream(self.device).synchronize()
        for i in range(len(chunks) + NSLOTS - 1):
            if i < len(chunks):
                with torch.cuda.device(self.device):
                    self._launch(i % NSLOTS, chunks[i])
            done = i - NSLOTS + 1
            if done >= 0:
                self._check(done % NSLOTS, chunks[done])
                yield from self.values(self.slots[done % NSLOTS], chunks[done])

    def close(self) -> None:
        """Unpin the pages."""
        self._release()


def _release(streams: list[torch.cuda.Stream], pages: Registered) -> None:
    for stream in streams:
        stream.synchronize()
    pages.close()


def _refused(placement: Placement, row: int, reason: Reason) -> Exception:
    """Return the error that ``ds.batch`` raises for a record that the kernel refused."""
    path = placement.mapping.path
    if reason is Reason.ROW:
        return IndexError(f"{path}: index {row} of {placement.nrecords} records")
    if reason is Reason.SHAPE:
        h, w, c = placement.canvas
        return ValueError(
            f"{path}: record {row} does not fit {h} x {w} x {c}: pass pad= or crop= "
            "for records of mixed sizes"
        )
    text = "the stored index does not match the file: open it with index='rebuild'"
    at = placement.first_at + row * placement.stride
    if placement.entries is not None:
        at = int(placement.entries["at_n"][row]) & _native.AT_MASK
    return FormatError(path, "index", text, record=row, at=at)
