"""The arguments of one launch of ``csrc/gpu/gather.cu``, as a C struct."""

from __future__ import annotations

import ctypes
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.placement import Placement

__all__ = ["DTYPES", "ELSEWHERE", "Job", "Reason", "described", "spans"]

DTYPES = {"uint8": 0, "float32": 1, "float16": 2, "bfloat16": 3}
LAYOUTS = {"NCHW": 0, "NHWC": 1}
ELSEWHERE = -(1 << 63)  # in ``rows``: another launch writes this position of the batch


class Reason(IntEnum):
    """The reason for which the kernel refused a record: the low byte of ``failed``."""

    ROW = 1
    SPAN = 2
    HEADER = 3
    SHAPE = 4


class Job(ctypes.Structure):
    """The struct ``gather_job``, which ``gather.cu`` documents.  Pointers are integers here."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("base", "nbytes", "entries", "nrecords")),
        *((name, ctypes.c_uint64) for name in ("first_at", "stride", "rows", "nrows")),
        *((name, ctypes.c_uint64) for name in ("order_n", "order_begin", "order_batch")),
        *((name, ctypes.c_uint64) for name in ("order_step", "part_first", "part_step")),
        *((name, ctypes.c_uint64) for name in ("order", "images", "affine")),
        *((name, ctypes.c_uint64) for name in ("side", "side_out", "side_nbytes")),
        ("failed", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("head_nbytes", "nlabels")),
        *((name, ctypes.c_uint32) for name in ("record_h", "record_w", "record_c")),
        *((name, ctypes.c_uint32) for name in ("interleaved", "h", "w", "c")),
        *((name, ctypes.c_uint32) for name in ("layout", "dtype", "fit", "swap")),
        ("pad_value", ctypes.c_float),
    )


def described(placement: Placement, *, bfloat16: bool = False) -> Job:
    """Return a job with all fields filled in, except addresses.

    Parameters
    ----------
    placement : Placement
        Offsets and strides of a dataset and its batches.
    bfloat16 : bool
        Whether float32 elements are rounded to bfloat16.
    """
    at, stride = placement.first_at, placement.stride
    floats = placement.affine is not None
    dtype = ("bfloat16" if bfloat16 else placement.out.name) if floats else "uint8"
    h, w, c = placement.canvas
    record_h, record_w, record_c = placement.record
    return Job(
        nbytes=placement.mapping.nbytes,
        nrecords=placement.nrecords,
        first_at=at,
        stride=stride,
        head_nbytes=placement.head_nbytes,
        nlabels=placement.nlabels,
        record_h=record_h,
        record_w=record_w,
        record_c=record_c,
        interleaved=placement.interleaved,
        h=h,
        w=w,
        c=c,
        layout=LAYOUTS[placement.layout],
        dtype=DTYPES[dtype],
        fit=placement.fit,
        swap=placement.swap,
        pad_value=placement.pad_value,
    )


def spans(
    placement: Placement, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first byte of each record of the file, and the byte after its last one.

    Parameters
    ----------
    placement : Placement
        Offsets and strides; those of an index are not checked.
    rows : ndarray
        int64 (b,), record numbers of the file.
    """
    head = placement.head_nbytes
    if placement.entries is None:
        h, w, c = placement.record
        size = h * w * c + (head + 1 + 2 * placement.nlabels if head else 0)
        begins = placement.first_at + rows * placement.stride
        return begins, begins + size
    found = placement.entries[rows]
    begins = (found["at_n"] & _native.AT_MASK).astype(np.int64)
    size = found["h"].astype(np.int64) * found["w"] * found["c"]
    if head:
        size += head + 1 + 2 * (found["at_n"] >> 56).astype(np.int64)
    return begins, begins + size
