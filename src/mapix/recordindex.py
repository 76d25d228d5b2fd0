"""What is known of the records of one file: offsets, shapes, and tables that go with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapix import _native

__all__ = [
    "ENTRY",
    "Checksums",
    "Columns",
    "Moments",
    "RecordIndex",
    "crc_of",
    "table_bytes",
]

ENTRY = _native.ENTRY


def crc_of(tables: list[NDArray[np.uint8]]) -> int:
    """CRC32C of the bytes of arrays, one after another."""
    crc = 0
    for table in tables:
        crc = (
            _native.crc32c(np.ascontiguousarray(table).reshape(-1).data, crc) if table.size else crc
        )
    return crc


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Labels of all records of a file.

    Attributes
    ----------
    codes : ndarray
        uint8 (ids, n): a row for each of the index's ids; 0 where missing.
    present : ndarray or None
        uint8 (ids, n), 0 where a record lacks the label; None when none is missing.
    crc : int or None
        What the bytes of both have to sum up to, when they come from a stored index.
    """

    codes: NDArray[np.uint8]
    present: NDArray[np.uint8] | None
    crc: int | None = None

    def tables(self) -> list[NDArray[np.uint8]]:
        """The arrays that there are."""
        return [self.codes] if self.present is None else [self.codes, self.present]

    def sound(self) -> bool:
        """Whether the bytes are the ones that were stored.  Cost: one pass over them."""
        return self.crc is None or self.crc == crc_of(self.tables())


@dataclass(frozen=True, slots=True, eq=False)
class Checksums:
    """CRC32C of all records of a file.

    Attributes
    ----------
    values : ndarray
        uint32 (n,).
    crc : int or None
        What their bytes have to sum up to, when they come from a stored index.
    """

    values: NDArray[np.uint32]
    crc: int | None = None

    def sound(self) -> bool:
        """Whether the numbers are the ones that were stored."""
        return self.crc is None or self.crc == crc_of([self.values.view(np.uint8)])


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over the pixels of each channel of a file.

    Attributes
    ----------
    values : ndarray
        ``_native.MOMENTS`` (c,).
    crc : int or None
        As for Checksums.
    """

    values: NDArray[np.void]
    crc: int | None = None

    def sound(self) -> bool:
        """Whether the numbers are the ones that were stored."""
        return self.crc is None or self.crc == crc_of([self.values.view(np.uint8)])


@dataclass(frozen=True, slots=True, eq=False)
class RecordIndex:
    """Offsets and shapes of all records of one file.

    Attributes
    ----------
    format : str
        Name of the format.
    nrecords : int
        How many records there are.
    nbytes : int
        Bytes of the file that they cover, from its start.
    head_nbytes : int
        Bytes of a record before its label count (VIMH: 6 or 14).
    stride : int
        Bytes from one record to the next when all are alike, else 0.
    first : tuple of int
        ``(at, h, w, c, N)`` of record 0; of all records when ``stride`` is not 0.
    entries : ndarray or None
        Table of ``mapix_entry``, shape (n,), when ``stride`` is 0.
    ids : tuple of int
        All label ids that occur, ascending.
    ids_differ : bool
        Whether records list their ids differently (only known for uniform files).
    stored : bool
        Read from a stored index: each entry is to be checked against the file when it is used.
    channels : int
        Of a stored index: what ``most_channels`` gives, so that the table need not be read.
    columns : Columns or None
        The labels, where the stored index has them.
    checksums : Checksums or None
        CRC32C of each record, where the stored index has them.
    moments : Moments or None
        What there is to know of the pixels, where the stored index has it.
    grown : bool
        Whether the file has grown since the index was stored.
    sampled : bool
        Whether a stored index is believed because size, modification time and sampled bytes are
        those that it was made for, though the file is another one, or its metadata changed.
    stale : bool
        Whether the file has other bytes than a stored index was made for, at the same size and
        modification time: its checksums alone are of use.
    """

    format: str
    nrecords: int
    nbytes: int
    head_nbytes: int
    stride: int
    first: tuple[int, int, int, int, int]
    entries: NDArray[np.void] | None
    ids: tuple[int, ...]
    ids_differ: bool
    stored: bool = False
    channels: int = 0
    columns: Columns | None = None
    checksums: Checksums | None = None
    moments: Moments | None = None
    grown: bool = False
    sampled: bool = False
    stale: bool = False

    @property
    def uniform(self) -> bool:
        """Whether all records have one shape and one number of labels."""
        return self.stride > 0 or self.nrecords == 0

    def offsets(self) -> NDArray[np.int64]:
        """Byte of each record, int64 (n,).  Copies: 8 bytes a record."""
        if self.entries is None:
            return np.arange(self.nrecords, dtype=np.int64) * self.stride + self.first[0]
        at = self.entries["at_n"] & np.uint64(_native.AT_MASK)
        return at.view(np.int64)

    def shapes(self) -> NDArray[np.uint16]:
        """(h, w, c) of each record, uint16 (n, 3), read-only.  Copies: none."""
        if self.entries is None:
            one = np.array(self.first[1:4], dtype=np.uint16)
            return np.broadcast_to(one, (self.nrecords, 3))
        data = table_bytes(self.entries)
        return np.ndarray((self.nrecords, 3), np.dtype("<u2"), data, 8, (ENTRY.itemsize, 2))

    def label_counts(self) -> NDArray[np.uint8]:
        """Number of labels of each record, uint8 (n,).  Copies: one byte a record, or none."""
        if self.entries is None:
            return np.broadcast_to(np.uint8(self.first[4]), (self.nrecords,))
        return (self.entries["at_n"] >> np.uint64(56)).astype(np.uint8)

    def most_channels(self) -> int:
        """The largest number of channels."""
        if self.entries is None:
            return self.first[3]
        return self.channels if self.stored else int(self.entries["c"].max())

    def native(self, *, interleaved: bool) -> _native.VimhIndex:
        """The same for the C core."""
        return _native.VimhIndex(
            nrecords=self.nrecords,
            # an empty file has no stride; the core wants one, and has no record to use it for
            stride=self.stride if self.nrecords else 1,
            first=self.first,
            entries=self.entries,
            head_nbytes=self.head_nbytes,
            interleaved=interleaved,
        )


def table_bytes(entries: NDArray[np.void]) -> memoryview:
    """The bytes of a table, without a copy."""
    return memoryview(entries.data).cast("B")
