"""Pinned memory into which records are gathered, and from which the GPU converts them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mapix import _native
from mapix.augmentation import mix
from mapix.feeding.cuda import Cuda
from mapix.feeding.slots import Chunk, Labels, torch_dtype
from mapix.gpu.job import DTYPES, FILE, Job, described
from mapix.placement import Placement

if TYPE_CHECKING:
    from mapix.feeding.loader import Loader

__all__ = ["Staging"]


class Staging:
    """Gather records into pinned memory, and describe a launch that writes them to a batch.

    Bytes cross the bus as bytes; the kernel converts them to floats on the GPU.

    Parameters
    ----------
    loader : Loader
        Supplies the dataset and the options.
    placement, labels
        Those of the loader.
    nslots, nrecords : int
        Number of buffers, and records of each.
    cuda : Cuda
        The GPU.

    Attributes
    ----------
    converts : bool
        Whether bytes cross the bus; otherwise finished numbers.
    """

    def __init__(
        self,
        loader: Loader,
        placement: Placement,
        labels: Labels,
        nslots: int,
        nrecords: int,
        cuda: Cuda,
    ) -> None:
        self._loader, self._placement, self._labels = loader, placement, labels
        augment = loader.augment
        # pad_value is in the unit of the output
        padded = bool(placement.fit & _native.PAD) or (augment is not None and augment.fills)
        mixed = augment is not None and bool(augment.mixup)
        self.converts = placement.affine is not None and not padded and not mixed
        shape = (nrecords, *placement.shape)
        dtype = torch.uint8 if self.converts else torch_dtype(np.empty(0, placement.out))
        self._floats: NDArray[Any] | None = None  # of batches that are rounded to bfloat16 here
        if loader.dtype is not None and not self.converts:
            self._floats, dtype = np.empty(shape, placement.out), loader.dtype
        self._host = [cuda.pinned(shape, dtype) for _ in range(nslots)]
        self._host_labels = [labels.empty(nrecords, cuda.pinned) for _ in range(nslots)]
        self._options = dict(loader.options)
        if "labels" in self._options:
            self._options["labels"] = None  # labels come from a table
        self._affine = None
        if self.converts:
            for name in ("scale", "mean", "std"):
                self._options.pop(name, None)
            self._options["dtype"] = "uint8"
            self._affine = cuda.sent(torch.from_numpy(np.array(placement.affine)))
        # each buffer is a file of records that have the layout of the output
        h, w, c = placement.canvas
        if self._affine is None:  # numbers are copied unchanged
            h, w, c = 1, self._host[0][0].nbytes, 1
        stride, nhwc = h * w * c, placement.layout == "NHWC"
        bases = [host.data_ptr() for host in self._host]
        cells = [
            (base, nrecords * stride, 0, 0, nrecords, 0, stride, 0, 0, h, w, c, nhwc)
            for base in bases
        ]
        tables = np.array(cells, FILE).view(np.uint8).reshape(nslots, FILE.itemsize)
        self._tables = cuda.sent(torch.from_numpy(tables))
        self._jobs = [self._described(loader, table, (h, w, c)) for table in self._tables]

    def _described(self, loader: Loader, table: torch.Tensor, canvas: tuple[int, int, int]) -> Job:
        """Return a job over the records in one buffer."""
        job = described(self._placement, bfloat16=loader.dtype is torch.bfloat16)
        job.files, job.nfiles = table.data_ptr(), 1
        job.fit, job.swap = 0, 1
        job.h, job.w, job.c = canvas
        if self._affine is None:
            job.dtype = DTYPES["uint8"]
        else:
            job.affine = self._affine.data_ptr()
        return job

    def _gather(self, rows: NDArray[np.int64], to: NDArray[Any], chunk: Chunk | None) -> None:
        """Gather records; random changes are drawn, and images mixed, for each batch of a chunk."""
        loader, plan, augment = self._loader, self._loader.plan, self._loader.augment
        if augment is None or chunk is None:
            loader.dataset.batch(rows, out=to, **self._options)
            return
        begins = (chunk.position + k * plan.step for k in range(chunk.nbatches))
        positions = [plan.positions(begin) for begin in begins]
        draws = replace(augment, mixup=0.0).draws(np.concatenate(positions), chunk.epoch)
        loader.dataset.batch(rows, out=to, augment=draws, **self._options)
        end = 0
        for batch in positions if augment.mixup else ():
            begin, end = end, end + len(batch)
            mix(to[begin:end], augment.draws(batch, chunk.epoch))

    def gather(self, k: int, rows: NDArray[np.int64], chunk: Chunk | None = None) -> Job:
        """Gather records into buffer k, and return a job whose record i is the i-th of ``rows``.

        With ``augment`` of the loader, ``rows`` are those of the batches of ``chunk``.

        ``rows`` and ``nrows``, ``failed`` and the outputs of the job are the caller's to set.  The
        last launch from this buffer must have ended.
        """
        host, labels, job = self._host[k], self._host_labels[k], self._jobs[k]
        n = len(rows)
        if self._floats is None:
            self._gather(rows, host.numpy(), chunk)
        else:
            self._gather(rows, self._floats, chunk)
            host[:n].copy_(torch.from_numpy(self._floats[:n]))
        if labels is not None and self._labels.values is not None:
            np.take(self._labels.values, rows, 0, out=labels.numpy()[:n], mode="clip")
            job.side, job.side_nbytes = labels.data_ptr(), self._labels.nbytes
        return job
