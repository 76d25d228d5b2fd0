"""The index of the records of a file: offsets, shapes, and tables that go with them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mapix import _native
from mapix.errors import FileChangedError, FormatError, MapixError, warn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import MappedLater, Source

__all__ = [
    "ENTRY",
    "Checksums",
    "Columns",
    "Moments",
    "RecordIndex",
    "StoredColumns",
    "StoredTable",
    "crc_of",
    "table_bytes",
]

ENTRY = _native.ENTRY
STORED = "stored index"
SCAN_NBYTES = 1 << 20  # of a stored index, read at once


def crc_of(tables: "list[NDArray[np.uint8]]") -> int:
    """Return CRC32C of the bytes of arrays, one after another."""
    crc = 0
    for table in tables:
        crc = (
            _native.crc32c(np.ascontiguousarray(table).reshape(-1).data, crc) if table.size else crc
        )
    return crc


def _chained(entries: "NDArray[np.void]", head_nbytes: int, end: int) -> bool:
    """Return whether entries lie one after another, from byte 0 to ``end``."""
    begins = entries["at_n"] & np.uint64(_native.AT_MASK)
    ends = begins + (entries["at_n"] >> np.uint64(56)) * np.uint64(2) + np.uint64(head_nbytes + 1)
    ends += entries["h"].astype(np.uint64) * entries["w"] * entries["c"]
    return bool(begins[0] == 0 and ends[-1] == end and (begins[1:] == ends[:-1]).all())


class StoredTable:
    """Bytes of a stored index, read under the guard only: the file may be cut while it is in use.

    Parameters
    ----------
    stored : Source or MappedLater
        The file of the index.
    head : CData
        The header of the index: ``_native.read_index``.
    which : int
        The number of the table: entries, labels, checksums, sums over the pixels.

    Attributes
    ----------
    renew : callable or None
        Makes the entries anew from the indexed file; None of bytes that are not entries.
    """

    __slots__ = ("_entries", "_head", "_stored", "at", "crc", "nbytes", "renew")

    def __init__(self, stored: "Source | MappedLater", head: _native.CData, which: int) -> None:
        self._stored, self._head = stored, head
        self.at, self.nbytes = head.tables_at[which], head.tables_nbytes[which]
        self.crc = head.crcs[which]
        self._entries: NDArray[np.void] | None = None
        self.renew: Callable[[], NDArray[np.void] | None] | None = None

    @property
    def path(self) -> str:
        """The file of the index."""
        return self._stored.path

    def read(self, at: int, nbytes: int) -> memoryview:
        """Return a copy of some of the bytes, read-only.

        Raises
        ------
        FileChangedError
            The file of the index was cut or written to.
        """
        raw = _native.copy(self._stored.mapping, self.at + at, nbytes, STORED)
        return memoryview(raw).toreadonly()

    def changed(self) -> bool:
        """Return whether the file of the index was cut or written to."""
        try:
            _native.check(self._stored.mapping)
        except FileChangedError:
            return True
        return False

    def sound(self) -> bool:
        """Return whether the bytes match their checksum.  Cost: one scan of them."""
        crc = 0
        try:
            for at in range(0, self.nbytes, SCAN_NBYTES):
                crc = _native.crc32c(self.read(at, min(SCAN_NBYTES, self.nbytes - at)), crc)
        except (OSError, MapixError):
            return False
        return bool(crc == self.crc)

    def entries(self) -> "NDArray[np.void]":
        """Return the bytes as entries, copied once.

        They are compared with their checksum, and each with the next.  Where they do not match,
        they are made anew, with a warning.

        Raises
        ------
        FileChangedError, FormatError
            They cannot be made anew.
        """
        if self._entries is None:
            try:
                raw = self.read(0, self.nbytes)
                if _native.crc32c(raw) != self.crc:
                    reason = "its entries do not match their checksum; open with index='rebuild'"
                    raise FormatError(self.path, STORED, reason, at=self.at)
                entries = np.frombuffer(raw, ENTRY)
                if not _chained(entries, self._head.head_nbytes, self._head.covered):
                    reason = "its records do not lie one after another; open with index='rebuild'"
                    raise FormatError(self.path, STORED, reason, at=self.at)
                self._entries = entries
            except (MapixError, OSError) as e:
                found = None if self.renew is None else self.renew()
                if found is None or found.nbytes != self.nbytes:
                    raise
                warn(f"{e}; the file was indexed anew")
                self._entries = found
        return self._entries


class Columns:
    """Labels of all records of a file.

    Parameters
    ----------
    codes : ndarray
        uint8 (ids, n): a row for each of the index's ids; 0 where missing.
    present : ndarray or None
        uint8 (ids, n), 0 where a record lacks the label; None when none is missing.
    """

    def __init__(self, codes: "NDArray[np.uint8]", present: "NDArray[np.uint8] | None") -> None:
        self._tables = [codes] if present is None else [codes, present]

    def tables(self) -> "list[NDArray[np.uint8]]":
        """Return codes, and where labels are missing presence, uint8 (ids, n) each."""
        return self._tables

    def column(self, k: int) -> "list[NDArray[np.uint8]]":
        """Return row k of each of the tables."""
        return [table[k] for table in self._tables]

    def sound(self) -> bool:
        """Return whether the bytes can be read, and match their checksum."""
        return True


class StoredColumns(Columns):
    """Labels in a stored index: ``nids`` rows of n bytes, once or twice.

    Copies: the bytes asked for, under the guard.
    """

    def __init__(self, table: StoredTable, nids: int, n: int, ntables: int) -> None:
        self._table, self._shape, self._ntables = table, (nids, n), ntables

    def tables(self) -> "list[NDArray[np.uint8]]":
        """See ``Columns``."""
        raw = np.frombuffer(self._table.read(0, self._table.nbytes), np.uint8)
        return list(raw.reshape(self._ntables, *self._shape))

    def column(self, k: int) -> "list[NDArray[np.uint8]]":
        """See ``Columns``."""
        nids, n = self._shape
        places = [(i * nids + k) * n for i in range(self._ntables)]
        return [np.frombuffer(self._table.read(at, n), np.uint8) for at in places]

    def sound(self) -> bool:
        """See ``Columns``.  Cost: one scan of the bytes."""
        return self._table.sound()


class _Numbers:
    """An array, in memory, or in a stored index, from which it is copied at each use."""

    DTYPE: np.dtype[Any]

    def __init__(self, values: "NDArray[Any] | StoredTable") -> None:
        self._values = values

    @property
    def values(self) -> "NDArray[Any]":
        """The numbers."""
        values = self._values
        if isinstance(values, StoredTable):
            return np.frombuffer(values.read(0, values.nbytes), self.DTYPE)
        return values

    def sound(self) -> bool:
        """Return whether the numbers can be read, and match their checksum."""
        return not isinstance(self._values, StoredTable) or self._values.sound()


class Checksums(_Numbers):
    """CRC32C of all records of a file, uint32 (n,)."""

    DTYPE = np.dtype("<u4")


class Moments(_Numbers):
    """Sums over the pixels of each channel of a file, ``_native.MOMENTS`` (c,)."""

    DTYPE = _native.MOMENTS


# Annotations are not text in this module: a NamedTuple would compile each of them.
class RecordIndex(NamedTuple):
    """Offsets and shapes of all records of one file.

    Attributes
    ----------
    format : str
        Name of the format.
    nrecords : int
        Number of records.
    nbytes : int
        Bytes of the file that they cover, from its start.
    head_nbytes : int
        Bytes of a record before its label count (VIMH: 6 or 14).
    stride : int
        Bytes from one record to the next when all are alike, else 0.
    first : tuple of int
        ``(at, h, w, c, N)`` of record 0; of all records when ``stride`` is not 0.
    entries : ndarray or None
        Table of ``mapix_entry``, shape (n,), when ``stride`` is 0.  Of a stored index it is a
        map that only the C core may read, under the guard; see ``table``.
    ids : tuple of int
        All label ids that occur, ascending.
    ids_differ : bool
        Whether records list their ids differently (only known for uniform files).
    stored : bool
        Whether it is a stored index: each entry is checked against the file at each use.
    channels : int
        Of a stored index: the largest number of channels, so that the table need not be read.
    stored_table : StoredTable or None
        The entries in the file of a stored index.
    columns : Columns or None
        The labels, where the stored index has them.
    checksums : Checksums or None
        CRC32C of each record, where the stored index has it.
    moments : Moments or None
        Sums over the pixels, where the stored index has them.
    grown : bool
        Whether the file has grown since the index was stored.
    sampled : bool
        Whether a stored index is used because size, modification time and sampled bytes are those
        that it was made for, though the file is another one, or its metadata changed.
    stale : bool
        Whether the file has other bytes than a stored index was made for, at the same size and
        modification time: only its checksums are of use.
    loaded : tuple
        Of a stored index: where it is, and its header; of the slot that counts its number, its
        generation, the CRC32C of the entries, and where they begin.
    """

    format: str
    nrecords: int
    nbytes: int
    head_nbytes: int
    stride: int
    first: tuple[int, int, int, int, int]
    entries: "NDArray[np.void] | None"
    ids: tuple[int, ...]
    ids_differ: bool
    stored: bool = False
    channels: int = 0
    stored_table: StoredTable | None = None
    columns: Columns | None = None
    checksums: Checksums | None = None
    moments: Moments | None = None
    grown: bool = False
    sampled: bool = False
    stale: bool = False
    loaded: tuple[str, bytes, int, int, int, int] = ("", b"", 0, 0, 0, 0)

    @property
    def uniform(self) -> bool:
        """Whether all records have one shape and one number of labels."""
        return self.stride > 0 or self.nrecords == 0

    @property
    def chain_end(self) -> int:
        """Byte where stored entries, which are compared with one another, end; 0 of others."""
        return self.nbytes if self.stored and self.entries is not None else 0

    def table(self) -> "NDArray[np.void]":
        """Return the entries in memory of this process, (n,), when ``stride`` is 0.

        Copies: none, but once 16 bytes per record of a stored index.

        Raises
        ------
        FileChangedError, FormatError
            The file of the stored index was cut or written to.
        """
        if self.stored_table is not None:
            return self.stored_table.entries()
        if self.entries is None:
            raise ValueError("records of one size have no table")
        return self.entries

    def offsets(self) -> "NDArray[np.int64]":
        """Return the byte of each record, int64 (n,).  Copies: 8 bytes per record."""
        if self.entries is None:
            return np.arange(self.nrecords, dtype=np.int64) * self.stride + self.first[0]
        at = self.table()["at_n"] & np.uint64(_native.AT_MASK)
        return at.view(np.int64)

    def shapes(self) -> "NDArray[np.uint16]":
        """Return (h, w, c) of each record, uint16 (n, 3), read-only.  Copies: as ``table``."""
        if self.entries is None:
            one = np.array(self.first[1:4], dtype=np.uint16)
            return np.broadcast_to(one, (self.nrecords, 3))
        data = table_bytes(self.table())
        return np.ndarray((self.nrecords, 3), np.dtype("<u2"), data, 8, (ENTRY.itemsize, 2))

    def label_counts(self) -> "NDArray[np.uint8]":
        """Return the label count of each record, uint8 (n,).  Copies: at most a byte per record."""
        if self.entries is None:
            return np.broadcast_to(np.uint8(self.first[4]), (self.nrecords,))
        return (self.table()["at_n"] >> np.uint64(56)).astype(np.uint8)

    def most_channels(self) -> int:
        """Return the largest number of channels."""
        if self.entries is None:
            return self.first[3]
        return self.channels if self.stored else int(self.entries["c"].max())

    def widest(self) -> int | None:
        """Return the number of a record that has ``channels`` channels; None if there is none.

        Cost: a scan of the entries up to that record, whose header the caller compares.
        """
        table, at = self.stored_table, 0
        try:
            while table is not None and at < table.nbytes:
                raw = table.read(at, min(SCAN_NBYTES, table.nbytes - at))
                found = np.flatnonzero(np.frombuffer(raw, ENTRY)["c"] == self.channels)
                if len(found):
                    return at // ENTRY.itemsize + int(found[0])
                at += len(raw)
        except FileChangedError:
            table = None  # ``self.table`` makes the entries anew
        if table is not None:
            return None
        found = np.flatnonzero(self.table()["c"] == self.channels)
        return int(found[0]) if len(found) else None

    def native(self, *, interleaved: bool) -> _native.Table:
        """Return the index for the C core."""
        return _native.Table(
            nrecords=self.nrecords,
            # an empty file has no stride, but the core needs one
            stride=self.stride if self.nrecords else 1,
            first=self.first,
            entries=self.entries,
            end=self.chain_end,
            head_nbytes=self.head_nbytes,
            interleaved=interleaved,
            stored=self.stored_table,
        )


def table_bytes(entries: "NDArray[np.void]") -> memoryview:
    """Return the bytes of a table, without a copy."""
    return memoryview(entries.data).cast("B")
