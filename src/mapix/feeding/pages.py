"""The feeder ``pages``: the GPU reads the pages of the files, and the CPU copies nothing."""

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
from mapix.feeding.slots import Chunk, Chunked, Value, end
from mapix.feeding.staging import Staging
from mapix.gpu.job import ELSEWHERE, Files, Job, Reason, described
from mapix.gpu.windows import Windows
from mapix.placement import Placement
from mapix.selection import Rows, compose, distinct

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Pages"]

PIN_SHARE = 0.5  # share of this machine's memory that files may pin
MOST_FILES = 16_384  # each takes up to three maps, of which a process may have 65,530
FEW_FILES = 64  # that are checked after each launch, whether it read them or not
NSLOTS = 3  # one in use and two in flight: one launch begins while the other ends


class Pages(Chunked):
    """Compute the order and gather several batches per launch, two launches ahead.

    Files of at most ``pin_limit`` bytes together are pinned at once, and the GPU computes the
    order.  Of larger ones, windows are pinned; a thread computes the order, pins windows, and
    gathers the records of other windows as ``pinned`` does.
    """

    way = "pages"

    def __init__(self, loader: Loader) -> None:
        if loader.augment is not None:
            raise UnsupportedError("images are changed by augment= on the CPU")
        super().__init__(loader, NSLOTS)
        if len(self.placement.parts) > MOST_FILES:
            raise UnsupportedError(
                f"{len(self.placement.parts)} files: at most {MOST_FILES} are mapped at a time"
            )
        if not self.cuda.reads_host_memory():
            raise UnsupportedError("this GPU cannot read memory that is mapped read-only")
        self._files = Files(self.placement)
        mappings = [each.mapping for each in self._files.placements]
        self._nbytes = sum(mapping.nbytes for mapping in mappings)
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._limit = int(PIN_SHARE * total) if loader.pin_limit is None else loader.pin_limit
        streams = [slot.stream for slot in self.slots]
        with self.cuda.using():
            self._windows = Windows(mappings, self._limit)
        # the pages are released after the last launch, also if close() is never called
        self._release = weakref.finalize(self, _release, self._running, streams, self._windows)
        self._tables: list[torch.Tensor] = []
        self._rows = [self.cuda.pinned((self.nrecords,), torch.int64) for _ in self.slots]
        self._failed = [self.cuda.pinned((1,), torch.int64) for _ in self.slots]
        self._read: list[list[int]] = [[] for _ in self.slots]  # files that a launch reads
        self._job = self._described()
        self._part = self._part_of(self.placement.rows)
        network = _native.permute_network(1, 0)  # only its size is used
        self._network = self.cuda.empty((len(network),), torch.int32)
        self._staging: Staging | None = None
        self._staged_rows: list[torch.Tensor] = []
        self._counts = [0, 0]  # records that were launched, and those of them that were staged
        self.cuda.current().synchronize()  # the tables are on the device

    @property
    def text(self) -> str:
        """Description of the way, for ``explain``."""
        windows, nfiles = self._windows, len(self._files)
        start = f"the GPU gathers {self.nbatches} batches per launch from the files' own pages, "
        files = f"{self._nbytes} bytes in {nfiles} files" if nfiles > 1 else f"{self._nbytes} bytes"
        if windows.complete:
            return f"{start}{files}, which are pinned"
        records, staged = self._counts
        refused = f"; the driver pins no more ({windows.refused})" if windows.refused else ""
        return (
            f"{start}of whose {files} pin_limit={self._limit} allows {windows.limit} to be pinned, "
            f"in windows of at most {windows.window_nbytes}{refused}; a thread gathers the records "
            f"of other windows, so far {staged} of {records} records"
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

    def _described(self) -> Job:
        """Return a job over all files."""
        job = described(self.placement, bfloat16=self.loader.dtype is torch.bfloat16)
        table, shift = self._files.table, self._windows.shift or 0
        for cell, each in zip(table, self._files.placements, strict=True):
            cell["base"] = _native.base_of(each.mapping) + shift
            if each.entries is not None:
                cell["entries"] = self._table(np.ascontiguousarray(each.entries))
        job.files, job.nfiles = self._table(table), len(table)
        if self.placement.affine is not None:
            job.affine = self._table(self.placement.affine)
        job.side = self._labels_by_record()
        job.side_nbytes = self.labels.nbytes if job.side else 0
        return job

    def _part_of(self, rows: Rows) -> tuple[int, int, int]:
        """Return how positions map to records: the address of a table, or first and step."""
        if isinstance(rows, range):
            return 0, rows.start, rows.step
        return (0, 0, 1) if rows is None else (self._table(rows), 0, 1)

    # --- launches ---------------------------------------------------------------------------------

    def _launch(self, k: int, chunk: Chunk) -> None:
        """Launch a chunk from pinned pages, and its other records from pinned memory."""
        plan, job, files = self.loader.plan, self._job, self._files
        self.slots[k].ready.synchronize()  # until the last launch has read its windows and rows
        self._failed[k].zero_()
        shuffled = plan.shuffle and plan.sampling is None
        full = chunk.position + chunk.nbatches * plan.step <= plan.n  # no last batch, divided anew
        few = len(files) <= FEW_FILES
        with self.cuda.using():
            self.cuda.bind()
            if self._windows.complete and few and full and shuffled:  # the GPU computes the order
                self._read[k] = list(range(len(files)))
                job.order_n, job.order_begin = plan.n, chunk.position + plan.rank * plan.batch_size
                job.order_batch, job.order_step = plan.batch_size, plan.step
                job.rows, job.part_first, job.part_step = self._part
                job.order, job.nrows = self._network.data_ptr(), chunk.nbatches * plan.batch_size
                self._send(k, job)
                return
            positions = plan.rows_of(*chunk)
            rows = compose(self.placement.rows, positions)
            which = files.of(rows)
            self._read[k] = distinct(which).tolist()
            here = np.ones(len(rows), np.bool_)
            if not self._windows.complete:
                here = self._windows.hold(k, which, *files.spans(rows, which))
            if here.any():
                self._rows[k].numpy()[: len(rows)] = np.where(here, rows, ELSEWHERE)
                job.order_n, job.rows, job.nrows = 0, self._rows[k].data_ptr(), len(rows)
                self._send(k, job)
            elsewhere = np.flatnonzero(~here)
            if len(elsewhere):
                self._launch_staged(k, positions[elsewhere], elsewhere, len(rows))
        self._counts[0] += len(rows)
        self._counts[1] += len(elsewhere)

    def _send(self, k: int, job: Job) -> None:
        job.failed = self._failed[k].data_ptr()
        self.slots[k].launch(self.kernel, job)

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
        self._send(k, job)

    def _check(self, k: int, chunk: Chunk) -> None:
        """Wait for a launch; raise an error if it refused a record or a file changed."""
        self.slots[k].ready.synchronize()
        self._windows.leave(k)
        files = self._files
        for i in self._read[k]:
            _native.check(files.placements[i].mapping)
        failed = int(self._failed[k][0])
        if failed:
            row = compose(self.placement.rows, self.loader.plan.rows_of(*chunk))[failed >> 8]
            i = int(files.of(row[None])[0])
            row -= files.table["first"][i]
            raise _refused(files.placements[i], int(row), Reason(failed & 255))

    def batches(self, epoch: int, position: int, nbatches: int) -> Iterator[Value]:
        """Yield batches from a position of an epoch."""
        plan = self.loader.plan
        chunks = self.chunks(epoch, position, nbatches)
        self.finish()  # launches of an unfinished iteration may still read the network
        for k in range(NSLOTS):
            self._windows.leave(k)
        if not self._windows.complete:
            yield from self.from_thread(chunks, self._launch, self._check)
            return
        with self.cuda.using():
            network = _native.permute_network(plan.n, plan.key(epoch))
            self._network.copy_(torch.from_numpy(network.view(np.int32)))
            self.cuda.current().synchronize()
        for i in range(len(chunks) + NSLOTS - 1):
            self.check_open()
            if i < len(chunks):
                self._launch(i % NSLOTS, chunks[i])
            done = i - NSLOTS + 1
            if done >= 0:
                self._check(done % NSLOTS, chunks[done])
                yield from self.values(self.slots[done % NSLOTS], chunks[done])

    def close(self) -> None:
        """Unpin the pages."""
        self.stop()
        self._release()


def _release(running: list[Any], streams: list[Any], windows: Windows) -> None:
    end(running)  # at the interpreter's exit, a thread may be launching
    for stream in streams:
        stream.synchronize()
    windows.close()


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
