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
from mapix.feeding.staging import Staging
from mapix.gpu.driver import Registered
from mapix.gpu.job import ELSEWHERE, Job, Reason, described, spans
from mapix.gpu.windows import Windows
from mapix.placement import Placement
from mapix.selection import Rows, compose, distinct

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Pages"]

PIN_SHARE = 0.5  # share of this machine's memory that a file may pin
NSLOTS = 3  # one in use and two in flight: one launch begins while the other ends


class Pages(Chunked):
    """Compute the order and gather several batches per launch, two launches ahead.

    A file of at most ``pin_limit`` bytes is pinned at once, and the GPU computes the order.  Of a
    larger one, windows are pinned; a thread computes the order, pins windows, and gathers the
    records of other windows as ``pinned`` does.  Of several files, each that has records of a
    launch is launched on its own, and all have to fit ``pin_limit``.
    """

    way = "pages"

    def __init__(self, loader: Loader) -> None:
        if loader.augment is not None:
            raise UnsupportedError("images are changed by augment= on the CPU")
        super().__init__(loader, NSLOTS)
        files = self._files = self.placement.parts or ((0, self.placement),)
        mappings = [file.mapping for _, file in files]
        self._nbytes = sum(mapping.nbytes for mapping in mappings)
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._limit = int(PIN_SHARE * total) if loader.pin_limit is None else loader.pin_limit
        if not self.cuda.reads_host_memory():
            raise UnsupportedError("this GPU cannot read memory that is mapped read-only")
        if self._nbytes > self._limit and len(files) > 1:
            raise UnsupportedError(
                f"{len(files)} files have {self._nbytes} bytes, and pin_limit={self._limit}"
            )
        pages: list[Registered | Windows] = []
        # the pages are released after the last launch, also if close() is never called
        streams = [slot.stream for slot in self.slots]
        self._release = weakref.finalize(self, _release, streams, pages)
        self._windows: Windows | None = None
        bases = [0] * len(files)
        with self.cuda.using():
            if self._nbytes > self._limit:
                self._windows = Windows(mappings[0], self._limit)
                pages.append(self._windows)
            else:
                for k, mapping in enumerate(mappings):
                    registered = Registered(mapping)
                    pages.append(registered)
                    bases[k] = registered.device_address
        self._tables: list[torch.Tensor] = []
        shape = (len(files), self.nrecords)  # each launch reads a table of its own
        self._rows = [self.cuda.pinned(shape, torch.int64) for _ in self.slots]
        self._failed = [self.cuda.pinned((1,), torch.int64) for _ in self.slots]
        side = self._labels_by_record()
        self._jobs = [
            self._described(file, base, side + begin * self.labels.nbytes)
            for (begin, file), base in zip(files, bases, strict=True)
        ]
        self._begins = np.array([begin for begin, _ in files])
        self._part = self._part_of(self.placement.rows)
        network = _native.permute_network(1, 0)  # only its size is used
        self._network = self.cuda.empty((len(network),), torch.int32)
        self._staging: Staging | None = None
        self._staged_rows: list[torch.Tensor] = []
        self._in_use: list[set[int]] = [set() for _ in self.slots]  # windows, by slot
        self._counts = [0, 0]  # records that were launched, and those of them that were staged
        self.cuda.current().synchronize()  # the tables are on the device

    @property
    def text(self) -> str:
        """Description of the way, for ``explain``."""
        nbytes, windows = self._nbytes, self._windows
        start = f"the GPU gathers {self.nbatches} batches per launch from the file's own pages, "
        if windows is None:
            files = f" in {len(self._files)} files" if len(self._files) > 1 else ""
            return f"{start}{nbytes} bytes{files}, which are pinned"
        records, staged = self._counts
        return (
            f"{start}of whose {nbytes} bytes pin_limit={self._limit} allows {windows.most} windows "
            f"of {windows.window_nbytes} to be pinned; a thread gathers the records of other "
            f"windows, so far {staged} of {records} records"
        )

    def _table(self, array: NDArray[Any]) -> int:
        """Copy an array to device memory for the life of this object, and return its address."""
        data = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
        there = self.cuda.sent(data)
        self._tables.append(there)
        return int(there.data_ptr())

    def _labels_by_record(self) -> int:
        """Return the address of a table of the labels of all records of the files; 0 for none."""
        values, rows = self.labels.values, self.placement.rows
        if values is None or not values.size:
            return 0
        if rows is not None:  # 0 for records that are not used
            chosen = values
            values = np.zeros((self.placement.nrecords, *chosen.shape[1:]), chosen.dtype)
            values[np.asarray(rows)] = chosen
        return self._table(values)

    def _described(self, placement: Placement, base: int, side: int) -> Job:
        job = described(placement, bfloat16=self.loader.dtype is torch.bfloat16)
        job.base = base
        if placement.entries is not None:
            job.entries = self._table(np.ascontiguousarray(placement.entries))
        if placement.affine is not None:
            job.affine = self._table(placement.affine)
        if side and self.labels.nbytes:
            job.side, job.side_nbytes = side, self.labels.nbytes
        return job

    def _part_of(self, rows: Rows) -> tuple[int, int, int]:
        """Return how positions map to records of the file: a table's address, or first and step."""
        if isinstance(rows, range):
            return 0, rows.start, rows.step
        return (0, 0, 1) if rows is None else (self._table(rows), 0, 1)

    def _launch(self, k: int, chunk: Chunk) -> None:
        plan, slot = self.loader.plan, self.slots[k]
        self._failed[k].zero_()
        if len(self._files) > 1:
            self._launch_files(k, compose(self.placement.rows, plan.rows_of(*chunk)))
            return
        job = self._jobs[0]
        job.failed = self._failed[k].data_ptr()
        computed = plan.shuffle and plan.sampling is None
        if computed and chunk.position + chunk.nbatches * plan.step <= plan.n:
            job.order_n, job.order_begin = plan.n, chunk.position + plan.rank * plan.batch_size
            job.order_batch, job.order_step = plan.batch_size, plan.step
            job.rows, job.part_first, job.part_step = self._part
            job.order, job.nrows = self._network.data_ptr(), chunk.nbatches * plan.batch_size
        else:  # no shuffle, or a last batch that is divided differently
            rows = compose(self.placement.rows, plan.rows_of(*chunk))
            job.order_n = 0
            self._put(job, self._rows[k][0], rows)
        slot.launch(self.kernel, job)

    def _put(self, job: Job, table: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """Let a job copy records, whose numbers are put into a table that it reads."""
        table.numpy()[: len(rows)] = rows
        job.rows, job.nrows = table.data_ptr(), len(rows)

    def _launch_files(self, k: int, rows: NDArray[np.int64]) -> None:
        """Launch each file that has records of a chunk: a launch writes the places of its own."""
        which = np.searchsorted(self._begins, rows, side="right") - 1
        for i in distinct(which).tolist():
            job = self._jobs[i]
            own = np.where(which == i, rows - self._begins[i], ELSEWHERE)
            self._put(job, self._rows[k][i], own)
            job.failed = self._failed[k].data_ptr()
            self.slots[k].launch(self.kernel, job)

    def _launch_windows(self, k: int, chunk: Chunk) -> None:
        """Launch a chunk from pinned windows, and its other records from pinned memory."""
        windows, job, slot = self._windows, self._jobs[0], self.slots[k]
        assert windows is not None
        slot.ready.synchronize()  # until the last launch has read its windows and rows
        self._in_use[k] = set()
        self._failed[k].zero_()
        positions = self.loader.plan.rows_of(*chunk)
        rows = compose(self.placement.rows, positions)
        with self.cuda.using():
            self.cuda.bind()
            here, self._in_use[k] = windows.hold(
                *spans(self.placement, rows), set().union(*self._in_use)
            )
            job.base, job.order_n = windows.base, 0
            self._put(job, self._rows[k][0], np.where(here, rows, ELSEWHERE))
            job.failed = self._failed[k].data_ptr()
            if here.any():
                slot.launch(self.kernel, job)
            elsewhere = np.flatnonzero(~here)
            if len(elsewhere):
                self._launch_staged(k, positions[elsewhere], elsewhere, len(rows))
        self._counts[0] += len(rows)
        self._counts[1] += len(elsewhere)

    def _launch_staged(
        self, k: int, rows: NDArray[np.int64], at: NDArray[np.int64], nrows: int
    ) -> None:
        """Gather records of the dataset in this thread, and launch them to places of a chunk."""
        if self._staging is None:
            shared = (self.loader, self.placement, self.labels)
            self._staging = Staging(*shared, NSLOTS, self.nrecords, self.cuda)
            self._staged_rows = [
                self.cuda.pinned((self.nrecords,), torch.int64) for _ in self.slots
            ]
            self.cuda.current().synchronize()
        table = self._staged_rows[k].numpy()
        table[:nrows] = ELSEWHERE
        table[at] = np.arange(len(at))
        job = self._staging.gather(k, rows)
        job.rows, job.nrows = self._staged_rows[k].data_ptr(), nrows
        job.failed = self._failed[k].data_ptr()
        self.slots[k].launch(self.kernel, job)

    def _check(self, k: int, chunk: Chunk) -> None:
        """Wait for a launch; raise an error if it refused a record or the file changed."""
        self.slots[k].ready.synchronize()
        self._in_use[k] = set()
        for _, file in self._files:
            _native.check(file.mapping)
        failed = int(self._failed[k][0])
        if failed:
            rows = compose(self.placement.rows, self.loader.plan.rows_of(*chunk))
            row = int(rows[failed >> 8])
            begin, file = self._files[int(np.searchsorted(self._begins, row, side="right")) - 1]
            raise _refused(file, row - begin, Reason(failed & 255))

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""
        plan = self.loader.plan
        chunks = self.chunks(epoch, position, nbatches)
        self.finish()  # launches of an unfinished iteration may still read the network
        if self._windows is not None:
            yield from self.from_thread(chunks, self._launch_windows, self._check)
            return
        with self.cuda.using():
            network = _native.permute_network(plan.n, plan.key(epoch))
            self._network.copy_(torch.from_numpy(network.view(np.int32)))
            self.cuda.current().synchronize()
        for i in range(len(chunks) + NSLOTS - 1):
            self.check_open()
            if i < len(chunks):
                with self.cuda.using():
                    self._launch(i % NSLOTS, chunks[i])
            done = i - NSLOTS + 1
            if done >= 0:
                self._check(done % NSLOTS, chunks[done])
                yield from self.values(self.slots[done % NSLOTS], chunks[done])

    def close(self) -> None:
        """Unpin the pages."""
        self.stop()
        self._release()


def _release(streams: list[Any], pages: list[Registered | Windows]) -> None:
    for stream in streams:
        stream.synchronize()
    for each in pages:
        each.close()


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
