"""The arguments of one launch of ``csrc/gpu/gather.cu``, and the table of files that it reads."""

from __future__ import annotations

import ctypes
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.placement import Placement
from mapix.selection import distinct

__all__ = ["DTYPES", "ELSEWHERE", "FILE", "Files", "Job", "Reason", "described", "file_cell"]

DTYPES = {"uint8": 0, "float32": 1, "float16": 2, "bfloat16": 3}
LAYOUTS = {"NCHW": 0, "NHWC": 1}
ELSEWHERE = -(1 << 63)  # in ``rows``: another launch writes this position of the batch
FILE = np.dtype(
    [
        *((name, np.int64) for name in ("base", "nbytes", "entries", "first", "nrecords")),
        *((name, np.int64) for name in ("first_at", "stride")),
        *((name, np.uint32) for name in ("head_nbytes", "nlabels")),
        *((name, np.uint32) for name in ("record_h", "record_w", "record_c", "interleaved")),
    ]
)
"""The struct ``gather_file``, which ``gather.cu`` documents.  Pointers are integers here."""


class Reason(IntEnum):
    """The reason for which the kernel refused a record: the low byte of ``failed``."""

    ROW = 1
    SPAN = 2
    HEADER = 3
    SHAPE = 4


class Job(ctypes.Structure):
    """The struct ``gather_job``, which ``gather.cu`` documents.  Pointers are integers here."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("files", "nfiles", "rows", "nrows")),
        *((name, ctypes.c_uint64) for name in ("order_n", "order_begin", "order_batch")),
        *((name, ctypes.c_uint64) for name in ("order_step", "part_first", "part_step")),
        *((name, ctypes.c_uint64) for name in ("order", "images", "affine")),
        *((name, ctypes.c_uint64) for name in ("side", "side_out", "side_nbytes")),
        ("failed", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("h", "w", "c")),
        *((name, ctypes.c_uint32) for name in ("layout", "dtype", "fit", "swap")),
        ("pad_value", ctypes.c_float),
    )


def described(placement: Placement, *, bfloat16: bool = False) -> Job:
    """Return a job with all fields of the batch filled in, except addresses.

    Parameters
    ----------
    placement : Placement
        Offsets and strides of a dataset and its batches.
    bfloat16 : bool
        Whether float32 elements are rounded to bfloat16.
    """
    floats = placement.affine is not None
    dtype = ("bfloat16" if bfloat16 else placement.out.name) if floats else "uint8"
    h, w, c = placement.canvas
    return Job(
        h=h,
        w=w,
        c=c,
        layout=LAYOUTS[placement.layout],
        dtype=DTYPES[dtype],
        fit=placement.fit,
        swap=placement.swap,
        pad_value=placement.pad_value,
    )


def file_cell(placement: Placement, first: int = 0) -> tuple[int, ...]:
    """Return a ``FILE`` without addresses.

    Parameters
    ----------
    placement : Placement
        Offsets and strides of one file.
    first : int
        Number of its first record.
    """
    p = placement
    numbers = 0, p.mapping.nbytes, 0, first, p.nrecords, p.first_at, p.stride
    return (*numbers, p.head_nbytes, p.nlabels, *p.record, p.interleaved)


class Files:
    """The files of a dataset, whose records count as one sequence.

    Parameters
    ----------
    placement : Placement
        Offsets and strides of a dataset of one file or of several, which are opened if they are not
        open.

    Attributes
    ----------
    placements : list of Placement
        That of each file.
    table : ndarray
        ``FILE`` (k,): the table that the kernel reads, without addresses.
    """

    def __init__(self, placement: Placement) -> None:
        parts = placement.parts or ((0, placement),)
        self.placements: list[Placement] = []
        cells = []
        for first, each in parts:
            self.placements.append(each)
            cells.append(file_cell(each, first))
        self.table = np.array(cells, FILE)
        t = self.table
        pixels = t["record_h"].astype(np.int64) * t["record_w"] * t["record_c"]
        head = t["head_nbytes"].astype(np.int64)
        self._sizes = pixels + np.where(head, head + 1 + 2 * t["nlabels"].astype(np.int64), 0)
        self._indexed = np.array([each.entries is not None for each in self.placements])

    def __len__(self) -> int:
        return len(self.placements)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of each record's file, int64 (b,)."""
        if len(self) == 1:
            return np.zeros(len(rows), np.int64)
        return np.searchsorted(self.table["first"], rows, side="right") - 1

    def spans(
        self, rows: NDArray[np.int64], which: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first byte of each record in its file, and the byte after its last one.

        Parameters
        ----------
        rows : ndarray
            int64 (b,), record numbers, counted through all files.
        which : ndarray
            The files of the records.  What their indexes state is not checked.
        """
        inner = rows - self.table["first"][which]
        begins = self.table["first_at"][which] + inner * self.table["stride"][which]
        sizes = self._sizes[which]
        for k in distinct(which[self._indexed[which]]).tolist():
            at = np.flatnonzero(which == k)
            begins[at], sizes[at] = _indexed(self.placements[k], inner[at])
        return begins, begins + sizes


def _indexed(
    placement: Placement, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first bytes and sizes of records that have entries in an index."""
    assert placement.entries is not None
    found, head = placement.entries[rows], placement.head_nbytes
    size = found["h"].astype(np.int64) * found["w"] * found["c"]
    if head:
        size += head + 1 + 2 * (found["at_n"] >> 56).astype(np.int64)
    return (found["at_n"] & _native.AT_MASK).astype(np.int64), size
