"""Where the pixels of a dataset lie in its file, and how they lie in a batch: for a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.selection import Rows
from mapix.source import Mapping

__all__ = ["Placement"]


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """All that a copy of records into batches has to know, without a look at any record.

    Made by ``placement(**options)`` of a dataset, for options of its ``batch``. The result of a
    copy by these facts equals that of ``batch``.

    Attributes
    ----------
    mapping : Mapping
        The file with the pixels.
    nrecords : int
        Records of the file.
    rows : None, range or ndarray
        Which of them the dataset stands for, in order.
    entries : ndarray or None
        ``_native.ENTRY`` (nrecords,): offset, label count, h, w, c; None where all are alike.
    first_at, stride : int
        Byte of record 0, and bytes from one record to the next, where all are alike.
    nlabels : int
        Labels of each record, where all are alike.
    record : tuple of int
        (h, w, c) of each record, where all are alike.
    head_nbytes : int
        Bytes of a record before its label count; 0 where records are bare pixels.
    interleaved : bool
        Whether the channels of a pixel lie side by side in the file.
    canvas : tuple of int
        (h, w, c) of an image of the batch.
    fit : int
        ``_native.PAD``, ``CROP`` and ``CENTRE``, or-ed.
    layout : str
        ``"NCHW"`` or ``"NHWC"``.
    swap : int
        1: bytes as they are; 2, 4, 8: numbers of that size whose bytes are reversed.
    affine : ndarray or None
        float32 (c, 2): an element is ``fma(byte, a, b)``.
    pad_value : float
        What padding is filled with.
    shape : tuple of int
        Shape of one record in the batch.
    out : numpy.dtype
        Type of the batch.
    """

    mapping: Mapping
    nrecords: int
    rows: Rows
    entries: NDArray[np.void] | None
    first_at: int
    stride: int
    nlabels: int
    record: tuple[int, int, int]
    head_nbytes: int
    interleaved: bool
    canvas: tuple[int, int, int]
    fit: int
    layout: str
    swap: int
    affine: NDArray[np.float32] | None
    pad_value: float
    shape: tuple[int, ...]
    out: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of one record in the batch."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.out.itemsize
