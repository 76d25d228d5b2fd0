"""The compiled core's functions for tables of records."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.core import (
    CHANGED,
    SYSTEM,
    CData,
    IntArray,
    address_of,
    ffi,
    lib,
    where_of,
    writable,
)
from mapix.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix._native.core import Where
    from mapix.source import Mapping
    from mapix.vimh.record_index import StoredTable

__all__ = [
    "AT_MASK",
    "CENTRE",
    "CHECK",
    "COPY",
    "CROP",
    "DTYPES",
    "ENTRY",
    "FIND",
    "FIND_NONE",
    "GATHER",
    "LAYOUTS",
    "MOMENTS",
    "PAD",
    "PROBE_NONE",
    "Table",
    "ids_of",
    "new_gather",
    "pickle_rows",
    "read_index",
]

ENTRY = np.dtype([("at_n", "<u8"), ("h", "<u2"), ("w", "<u2"), ("c", "<u2"), ("reserved", "<u2")])
"""One record of a table: ``mapix_entry``."""

MOMENTS = np.dtype(
    [("count", "<u8"), ("sum", "<u8"), ("squares", "<u8"), ("low", "<u4"), ("high", "<u4")]
)
"""The pixels of one channel: ``mapix_moments``."""

AT_MASK = (1 << 56) - 1
MOST_LABELS_NBYTES = 1 + 2 * 255
DTYPES = {"uint8": lib.MAPIX_U8, "float32": lib.MAPIX_F32, "float16": lib.MAPIX_F16}
LAYOUTS = {"NCHW": lib.MAPIX_NCHW, "NHWC": lib.MAPIX_NHWC}
PAD: int = lib.MAPIX_PAD
PROBE_NONE: int = lib.MAPIX_PROBE_NONE
CROP: int = lib.MAPIX_CROP
CENTRE: int = lib.MAPIX_CENTRE

CHECK = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_map_check")))
COPY = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_copy")))
FIND = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_table_find")))
FIND_NONE = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_table_find_none")))
GATHER = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_table_gather")))
"""Addresses of C functions, for ``mapix._record``."""


@lru_cache(64)  # files of one dataset have the same ids
def _ids(*words: int) -> tuple[int, ...]:
    """Return the label ids of a set, bit i of word i // 64, ascending."""
    return tuple(64 * k + i for k, word in enumerate(words) for i in range(64) if word >> i & 1)


def read_index(head: bytes, nbytes: int, options: bytes, file_nbytes: int) -> CData | None:
    """Read the header of a stored index: return its ``mapix_index``; None if it cannot be used.

    ``nbytes`` is the size of the index, ``file_nbytes`` that of the file.
    """
    found = ffi.new("mapix_index *")
    if lib.mapix_index_read(head, len(head), nbytes, options, file_nbytes, found):
        return None
    return found


def ids_of(state: CData) -> tuple[int, ...]:
    """Return the label ids of a ``mapix_index`` or ``mapix_walk``, ascending."""
    return _ids(*state.ids)


class Table:
    """A table of the records of a file, and the memory that it points to: ``mapix_table``.

    If the entries are mapped from a stored index, ``stored`` is it.  When its file is cut or
    written to, entries in private memory replace the mapped ones, and the call is repeated.
    """

    __slots__ = ("_c", "_format", "_keep", "_stored", "address")

    def __init__(
        self,
        *,
        nrecords: int,
        stride: int,
        first: tuple[int, int, int, int, int],
        entries: NDArray[np.void] | None,
        end: int = 0,
        head_nbytes: int,
        interleaved: bool,
        stored: StoredTable | None = None,
        format: str = "vimh",
    ) -> None:
        self._stored = stored
        self._format = format
        c = ffi.new("mapix_table *")
        self._keep = [] if entries is None else [ffi.from_buffer("mapix_entry[]", entries)]
        c.nrecords = nrecords
        c.stride = stride
        c.entries = self._keep[0] if self._keep else ffi.NULL
        c.end = end
        at, h, w, channels, n = first
        if at > AT_MASK:
            raise ValueError(f"a record at byte {at}: at most {AT_MASK} is possible")
        c.first = {"at_n": at | n << 56, "h": h, "w": w, "c": channels, "reserved": 0}
        c.head_nbytes = head_nbytes
        c.interleaved = interleaved
        self._c = c
        self.address = address_of(c)

    @property
    def pointer(self) -> CData:
        """The ``mapix_table``; keep this object alive while it is used."""
        return self._c

    def ranges(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return first byte and size of records, int64 (n,) each, as far as the rows exist."""
        c, n = self._c, int(self._c.nrecords)
        rows = np.where(rows < 0, rows + n, rows)
        rows = rows[(rows >= 0) & (rows < n)]
        if not self._keep:
            sizes = np.full(len(rows), c.stride, np.int64)
            return rows * np.int64(c.stride) + (int(c.first.at_n) & AT_MASK), sizes
        table = np.frombuffer(ffi.buffer(self._keep[-1], n * ENTRY.itemsize), ENTRY)[rows]
        places = (table["at_n"] & np.uint64(AT_MASK)).view(np.int64)
        sizes = np.prod([table[side].astype(np.int64) for side in "hwc"], axis=0)
        labels = (table["at_n"] >> np.uint64(56)).astype(np.int64)
        return places, sizes + 2 * labels + (int(c.head_nbytes) + 1 if c.head_nbytes else 0)

    def heads(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return the same of the headers and labels of records alone."""
        places, sizes = self.ranges(rows)
        return places, np.minimum(sizes, int(self._c.head_nbytes) + MOST_LABELS_NBYTES)

    def _renewed(self) -> bool:
        """Replace changed stored entries by private ones; return whether that was necessary."""
        stored = self._stored
        if stored is None or not stored.changed():
            return False
        pointer = ffi.from_buffer("mapix_entry[]", stored.entries())
        self._keep.append(pointer)  # other threads may use those before
        self._c.entries = pointer
        self._stored = None
        return True

    def failed(self, status: int, where: Where, mapping: Mapping) -> None:
        """After a call failed: return if it is to be repeated, else raise the exception."""
        if status in (lib.MAPIX_E_ROW, lib.MAPIX_E_ARGUMENT, SYSTEM) or not self._renewed():
            from mapix._native.problems import problem

            index = "the index" if self._stored is None else f"the index {self._stored.path}"
            raise problem(status, where, mapping.path, self._format, index)

    def extent(
        self, mapping: Mapping, rows: IntArray, flat_at: NDArray[np.uint64] | None = None
    ) -> list[int]:
        """Return the largest h, w, c, the smallest h, w, c, and the sum of image bytes.

        ``flat_at``, (len(rows) + 1,), is filled with the offsets of the images back to back.
        """
        out, where = ffi.new("uint64_t[7]"), ffi.new("mapix_where *")
        into = ffi.NULL if flat_at is None else ffi.from_buffer("uint64_t[]", flat_at)
        args = (_pointer(rows), len(rows), out, into, where)
        while True:
            status = lib.mapix_table_extent(mapping.nbytes, self._c, *args)
            if status:
                self.failed(status, where_of(where), mapping)
            elif not self._renewed():  # the file has not confirmed the entries
                found: list[int] = ffi.unpack(out, 7)
                return found

    def agrees(self, mapping: Mapping, most: int) -> bool:
        """Return whether up to ``most`` records, as ``selection.spread``, are read as stated here.

        False, too, where only ``gather`` can find out: then it raises what is wrong.
        """
        n = min(most, self._c.nrecords)
        return bool(lib.mapix_table_agrees(mapping.cmap, self._c, n))

    def find(self, mapping: Mapping, row: int) -> tuple[int, int, int, int]:
        """Return (at_n, h, w, c) of a record, confirmed by the file."""
        e, where = ffi.new("mapix_entry *"), ffi.new("mapix_where *")

        def call(m: CData) -> int:
            return int(lib.mapix_table_find(m, self._c, row, e, where))

        while status := mapping.guarded(call, lambda: self.ranges(np.array([row]))):
            self.failed(status, where_of(where), mapping)
        return e.at_n, e.h, e.w, e.c

    def willneed(self, mapping: Mapping, rows: IntArray, probe: int) -> int:
        """Have the kernel read records; return how many: ``mapix_table_willneed``.

        Those of a remote object are requested in the background.
        """
        if mapping.remote:
            return mapping.remote.expect(*self.ranges(rows))
        nasked, where = ffi.new("uint64_t *"), ffi.new("mapix_where *")
        args = (_pointer(rows), len(rows), probe, nasked, where)
        while status := lib.mapix_table_willneed(mapping.cmap, self._c, *args):
            self.failed(status, where_of(where), mapping)
        return int(nasked[0])

    def _scan(self, fn: Callable[..., int], mapping: Mapping, rows: IntArray, *args: Any) -> None:
        where = ffi.new("mapix_where *")
        what = (_pointer(rows), len(rows), *args, where)

        def call(m: CData) -> int:
            return fn(m, self._c, *what)

        while status := mapping.guarded(call, lambda: self.ranges(rows)):
            self.failed(status, where_of(where), mapping)

    def checksums(self, mapping: Mapping, rows: IntArray, crcs: NDArray[np.uint32]) -> None:
        """Write the CRC32C of each record to ``crcs``, (len(rows),)."""
        if crcs.shape != rows.shape:
            raise ValueError(f"{len(rows)} rows, but space for {len(crcs)} checksums")
        into = ffi.from_buffer("uint32_t[]", crcs, require_writable=True)
        self._scan(lib.mapix_table_checksums, mapping, rows, into)

    def moments(self, mapping: Mapping, rows: IntArray, nchannels: int) -> NDArray[np.void]:
        """Return MOMENTS (nchannels,) of the pixels; low is above high without pixels."""
        moments = np.zeros(nchannels, MOMENTS)
        into = ffi.from_buffer("mapix_moments[]", moments, require_writable=True)

        def fresh(m: CData, *args: Any) -> int:  # the call is repeated after a harmless change
            moments.fill(0)
            moments["low"] = 255
            status = int(lib.mapix_table_moments(m, *args))
            if status == lib.MAPIX_E_ARGUMENT:
                reason = f"a record of more than the {nchannels} channels that the index states"
                raise FormatError(mapping.path, "vimh", f"{reason}; open it with index='rebuild'")
            return status

        self._scan(fresh, mapping, rows, nchannels, into)
        return moments

    def needs(self, rows: IntArray, plan: CData) -> Callable[[], tuple[IntArray, IntArray]]:
        """Return the function that returns the ranges that a gather reads."""
        heads = plan.images == ffi.NULL
        return lambda: self.heads(rows) if heads else self.ranges(rows)

    def gather(self, mapping: Mapping, rows: IntArray, plan: CData) -> int:
        """Call ``mapix_table_gather``; ``plan`` is a ``mapix_gather``.

        Returns the number of records that the kernel was asked for, if ``plan.probe`` is set.
        """
        where, nasked = ffi.new("mapix_where *"), ffi.new("uint64_t *")
        pointer, n = ffi.from_buffer("int64_t[]", rows), len(rows)
        plan.nasked = nasked
        while status := lib.mapix_table_gather(mapping.cmap, self._c, pointer, n, plan, where):
            if status == CHANGED:
                mapping.settle(self.needs(rows, plan))
            else:
                self.failed(status, where_of(where), mapping)
        return int(nasked[0])


def _pointer(rows: IntArray) -> CData:
    return ffi.from_buffer("int64_t[]", rows)


def new_gather(like: CData | None = None) -> CData:
    """Make a ``mapix_gather``, zeroed or a copy of ``like``; it keeps nothing alive."""
    return ffi.new("mapix_gather *") if like is None else ffi.new("mapix_gather *", like[0])


def pickle_rows(
    mapping: Mapping, at: int, memo: int, rows: NDArray[np.uint8], nrows: int
) -> tuple[int, int]:
    """Read rows of a pickle into ``rows``, (nrows, ncolumns); return their end and number."""
    if rows.shape[0] < nrows:
        raise ValueError(f"space for {rows.shape[0]} rows, not for {nrows}")
    run = ffi.new("mapix_pickle_run *")
    into, n = writable(rows), rows.shape[1]
    status = mapping.guarded(lambda m: lib.mapix_pickle_rows(m, at, memo, n, into, nrows, run))
    if status:
        from mapix._native.problems import problem

        raise problem(status, (0, at, 1, 0), mapping.path, "pickle")
    return int(run.at), int(run.nrows)
