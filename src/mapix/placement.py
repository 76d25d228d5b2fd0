"""Offsets and strides of the pixels of a dataset in its file and in a batch, for a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.selection import Rows
from mapix.source import Mapping
from mapix.text import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Placement"]


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """All facts that a device needs to copy records into batches as ``batch`` does.

    ``placement(**options)`` of a dataset makes it, for options of its ``batch``, without reading a
    record.

    Attributes
    ----------
    mapping : Mapping
        The file with the pixels.
    nrecords : int
        Number of records of the file.
    rows : None, range or ndarray
        Record numbers of the dataset, in order.
    entries : ndarray or None
        ``_native.ENTRY`` (nrecords,): offset, label count, h, w, c; None for uniform records.
    first_at, stride : int
        Offset of record 0, and distance between records, in bytes, for uniform records.
    nlabels : int
        Number of labels per record, for uniform records.
    record : tuple of int
        (h, w, c) of each record, for uniform records.
    head_nbytes : int
        Bytes of a record before its label count; 0 if records are pixels only.
    interleaved : bool
        Whether the channels of a pixel are adjacent in the file.
    canvas : tuple of int
        (h, w, c) of an image in the batch.
    fit : int
        Bitwise or of ``_native.PAD``, ``CROP`` and ``CENTRE``.
    layout : str
        ``"NCHW"`` or ``"NHWC"``.
    swap : int
        Size of numbers whose bytes are reversed (2, 4, 8), or 1.
    affine : ndarray or None
        float32 (c, 2): an element is ``fma(byte, a, b)``.
    pad_value : float
        Value of padding.
    shape : tuple of int
        Shape of one record in the batch.
    out : numpy.dtype
        dtype of the batch.
    parts : sequence of (int, Placement)
        Of records in several files: the number of the first record of each file, and where its
        records lie.  What describes one file above is then that of the first one; ``nrecords`` and
        ``rows`` count the records of all.  An item opens its file, if it is not open, and raises
        UnsupportedError if its records are copied in another way than those of the first one.
    shape_known : bool
        Whether all batches have this shape, also if ``parts`` is not read.
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
    parts: Sequence[tuple[int, Placement]] = ()
    shape_known: bool = True

    __repr__ = brief

    @property
    def nbytes(self) -> int:
        """Size in bytes of one record in the batch."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.out.itemsize
