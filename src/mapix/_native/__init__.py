"""The compiled core, one thin function per C function.  The only module that imports it.

No policy here: arguments are handed over, a status is turned into the exception that the one table
below gives it.  What each function reads, writes and promises stands in ``csrc/mapix.h``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix._core import ffi, lib
from mapix.errors import (
    FormatError,
    MapixError,
    SizeError,
    TruncatedError,
)

if TYPE_CHECKING:
    from mapix.source import Mapping
    from mapix.vimh.record_index import StoredTable

core = (ffi, lib)  # for _native_iid, which has the functions for archives

OK: int = lib.MAPIX_OK
FAULT: int = lib.MAPIX_E_FAULT
CHANGED: int = lib.MAPIX_E_CHANGED
SYSTEM: int = lib.MAPIX_E_SYSTEM

ENTRY = np.dtype([("at_n", "<u8"), ("h", "<u2"), ("w", "<u2"), ("c", "<u2"), ("reserved", "<u2")])
"""One record of a table index: ``mapix_entry``."""

MOMENTS = np.dtype(
    [("count", "<u8"), ("sum", "<u8"), ("squares", "<u8"), ("low", "<u4"), ("high", "<u4")]
)
"""The pixels of one channel: ``mapix_moments``."""

AT_MASK = (1 << 56) - 1
DTYPES = {"uint8": lib.MAPIX_U8, "float32": lib.MAPIX_F32, "float16": lib.MAPIX_F16}
LAYOUTS = {"NCHW": lib.MAPIX_NCHW, "NHWC": lib.MAPIX_NHWC}
PAD: int = lib.MAPIX_PAD
CROP: int = lib.MAPIX_CROP
CENTRE: int = lib.MAPIX_CENTRE

FIND = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_vimh_find")))
GATHER = int(ffi.cast("uintptr_t", ffi.addressof(lib, "mapix_vimh_gather")))
"""Where the two functions are, for ``mapix._record``."""

CData = Any
IntArray = NDArray[np.int64]


class Where(NamedTuple):
    """Where a C call stopped, and the two numbers that did not agree."""

    record: int
    at: int
    expected: int
    got: int


def _where(w: CData) -> Where:
    return Where(w.record, w.at, w.expected, w.got)


def shape_text(packed: int) -> str:
    """``h x w x c`` of a shape as mapix_where carries it."""
    return f"{packed >> 32} x {packed >> 16 & 0xFFFF} x {packed & 0xFFFF}"


def problem(
    status: int, where: Where, path: str, format: str, index: str = "the index"
) -> Exception:
    """The exception for a status: the one table from C's numbers to Python's classes.

    ``index`` is what a message calls the index, if that is a file.
    """
    record, at, expected, got = where
    place = {"record": record, "at": at}
    if status == lib.MAPIX_E_TRUNCATED:
        reason = f"record needs {expected} bytes, {got} left in file"
        return TruncatedError(path, format, reason, **place)
    if status == lib.MAPIX_E_ZERO:
        return SizeError(path, format, f"image of {shape_text(got)} has no pixels", **place)
    if status == lib.MAPIX_E_SPAN:
        reason = f"{index} asks for {expected} bytes, {got} left in file"
        return FormatError(path, format, reason, **place)
    if status == lib.MAPIX_E_STALE:
        reason = (
            f"{index} says {shape_text(expected)}, the file {shape_text(got)} "
            "(or another number of labels): the index is not this file's; "
            "open it with index='rebuild'"
        )
        return FormatError(path, format, reason, **place)
    if status == lib.MAPIX_E_ROW:
        row = got - (1 << 64) if got >> 63 else got
        return IndexError(f"{path}: index {row} at position {record} of {expected} records")
    if status == lib.MAPIX_E_SHAPE:
        reason = (
            f"image of {shape_text(got)} does not fit {shape_text(expected)}: "
            "pass pad=, crop= or flat=True for records of mixed sizes"
        )
        return ValueError(f"{path}: {format} record {record} at byte {at}: {reason}")
    if lib.MAPIX_E_IID_KEY <= status <= lib.MAPIX_E_IID_NAME:
        return FormatError(path, format, iid_reason(status, where), **place)
    if status == lib.MAPIX_E_FAULT:
        reason = f"{format} record {record} at byte {at}: the disk could not deliver this page"
        return OSError(errno.EIO, reason, path)
    if status == lib.MAPIX_E_SYSTEM:
        return OSError(ffi.errno, os.strerror(ffi.errno), path)
    return MapixError(f"{path}: {format}: internal error, status {status}, {where}")


def iid_reason(status: int, where: Where) -> str:
    """What is wrong with a segment of an IID archive, whose key is ``where.record``."""
    _, _, expected, got = where
    return {
        lib.MAPIX_E_IID_KEY: f"key {expected} expected, {got} found",
        lib.MAPIX_E_IID_SPAN: f"it ends at byte {expected} of a section of {got} bytes",
        lib.MAPIX_E_IID_BOX: "a box that is upside down, or outside its segment's",
        lib.MAPIX_E_IID_REGION: f"a region of {expected} bytes expected, {got} found",
        lib.MAPIX_E_IID_NAME: f"a name of {expected} bytes expected, its parts take {got}",
    }[status]


# --- maps ---------------------------------------------------------------------------------------


UNCHECKED: int = lib.MAPIX_UNCHECKED
BY_PATH: int = lib.MAPIX_BY_PATH


def new_map(buffer: CData, nbytes: int, fd: int, path: CData, stat: os.stat_result) -> CData:
    """A ``mapix_map`` over memory, and of a path, that the caller keeps alive."""
    m = ffi.new("mapix_map *")
    m.base = buffer
    m.nbytes = nbytes
    m.fd = fd
    m.path = path
    m.dev, m.ino = stat.st_dev, stat.st_ino
    m.size = stat.st_size
    m.mtime_ns = stat.st_mtime_ns
    m.ctime_ns = stat.st_ctime_ns
    return m


def map_file(buffer: CData, nbytes: int, fd: int, *, shared: bool) -> None:
    """``mapix_map_file``; OSError with the reason of the system."""
    if lib.mapix_map_file(buffer, nbytes, fd, shared):
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def c_path(path: str | bytes) -> CData:
    """A path as the system takes it."""
    return ffi.new("char[]", os.fsencode(path))


def buffer_of(data: object) -> CData:
    """A pointer to the bytes of a buffer; keeps the buffer exported while it lives."""
    return ffi.from_buffer("uint8_t[]", data)


# --- walks --------------------------------------------------------------------------------------


class Walk:
    """State of one walk over a VIMH file: ``mapix_walk``."""

    __slots__ = ("_c",)

    def __init__(self, head_nbytes: int) -> None:
        self._c = ffi.new("mapix_walk *")
        self._c.head_nbytes = head_nbytes

    def start_behind(
        self, at: int, nrecords: int, ids: tuple[int, ...], *, ids_differ: bool
    ) -> None:
        """Take records before byte ``at`` as proven, and what was seen in them as seen."""
        self._c.at, self._c.nrecords, self._c.ids_differ = at, nrecords, ids_differ
        for i in ids:
            self._c.ids[i >> 6] |= 1 << (i & 63)

    @property
    def at(self) -> int:
        """Byte of the next record."""
        return int(self._c.at)

    @property
    def nrecords(self) -> int:
        """Records proven so far."""
        return int(self._c.nrecords)

    @property
    def ids_differ(self) -> bool:
        """Whether two records of a run list their label ids differently."""
        return bool(self._c.ids_differ)

    @property
    def ids(self) -> tuple[int, ...]:
        """Label ids met so far, ascending."""
        words = [int(w) for w in self._c.ids]
        return tuple(i for i in range(256) if words[i >> 6] >> (i & 63) & 1)

    @property
    def where(self) -> Where:
        """The record that the walk stopped at."""
        return _where(self._c.where)

    def run(self, mapping: Mapping, stop_at: int) -> int:
        """``mapix_vimh_run``; the status."""
        return mapping.guarded(lambda m: lib.mapix_vimh_run(m, self._c, stop_at))

    def _entries(self, fn: Callable[..., int], mapping: Mapping, *args: CData) -> tuple[int, int]:
        nwritten = ffi.new("uint64_t *")
        status = mapping.guarded(lambda m: fn(m, self._c, *args, nwritten))
        return status, int(nwritten[0])

    def table(
        self,
        mapping: Mapping,
        stop_at: int,
        entries: NDArray[np.void],
        scratch: NDArray[np.void],
    ) -> tuple[int, int]:
        """``mapix_vimh_table``; the status and the number of entries written."""
        into, room = _entries_of(entries), _entries_of(scratch)
        return self._entries(lib.mapix_vimh_table, mapping, stop_at, into, len(entries), room)

    def hop(self, mapping: Mapping, stop_at: int, entries: NDArray[np.void]) -> tuple[int, int]:
        """``mapix_vimh_hop``; the status and the number of entries written."""
        into = _entries_of(entries)
        return self._entries(lib.mapix_vimh_hop, mapping, stop_at, into, len(entries))


def _entries_of(array: NDArray[np.void]) -> CData:
    return ffi.from_buffer("mapix_entry[]", array, require_writable=True)


def scratch() -> NDArray[np.void]:
    """Room that ``Walk.table`` works in."""
    return np.empty(int(lib.mapix_scratch_entries()), ENTRY)


# --- records ------------------------------------------------------------------------------------


class VimhIndex:
    """A ``mapix_vimh_index`` and the memory that it points to.

    ``stored`` is the ``StoredTable`` that the entries are, if they are one.  When its file was cut
    or written to, entries in private memory take their place, and the call is made again.
    """

    __slots__ = ("_c", "_keep", "_stored", "address")

    def __init__(
        self,
        *,
        nrecords: int,
        stride: int,
        first: tuple[int, int, int, int, int],
        entries: NDArray[np.void] | None,
        head_nbytes: int,
        interleaved: bool,
        stored: StoredTable | None = None,
    ) -> None:
        self._stored = stored
        c = ffi.new("mapix_vimh_index *")
        self._keep = [] if entries is None else [ffi.from_buffer("mapix_entry[]", entries)]
        c.nrecords = nrecords
        c.stride = stride
        c.entries = self._keep[0] if self._keep else ffi.NULL
        at, h, w, channels, n = first
        c.first = {"at_n": at | n << 56, "h": h, "w": w, "c": channels, "reserved": 0}
        c.head_nbytes = head_nbytes
        c.interleaved = interleaved
        self._c = c
        self.address = address_of(c)

    def _renewed(self) -> bool:
        """Whether entries in private memory took the place of stored ones, now."""
        stored = self._stored
        if stored is None or not stored.changed():
            return False
        pointer = ffi.from_buffer("mapix_entry[]", stored.entries())
        self._keep.append(pointer)  # other threads may use those before
        self._c.entries = pointer
        self._stored = None
        return True

    def failed(self, status: int, where: Where, mapping: Mapping) -> None:
        """After a call that failed: return if it is to be made again, else raise why."""
        if status in (lib.MAPIX_E_ROW, lib.MAPIX_E_ARGUMENT, SYSTEM) or not self._renewed():
            index = "the index" if self._stored is None else f"the index {self._stored.path}"
            raise problem(status, where, mapping.path, "vimh", index)

    def extent(
        self, mapping: Mapping, rows: IntArray, flat_at: NDArray[np.uint64] | None = None
    ) -> list[int]:
        """``mapix_vimh_extent``: largest h, w, c, smallest h, w, c, and the sum of image bytes.

        ``flat_at``, (len(rows) + 1,), is filled with the offsets of the images back to back.
        """
        out, where = ffi.new("uint64_t[7]"), ffi.new("mapix_where *")
        into = ffi.NULL if flat_at is None else ffi.from_buffer("uint64_t[]", flat_at)
        args = (_rows(rows), len(rows), out, into, where)
        while True:
            status = lib.mapix_vimh_extent(mapping.nbytes, self._c, *args)
            if status:
                self.failed(status, _where(where), mapping)
            elif not self._renewed():  # nothing of the file has confirmed the entries
                found: list[int] = ffi.unpack(out, 7)
                return found

    def find(self, mapping: Mapping, row: int) -> tuple[int, int, int, int]:
        """``mapix_vimh_find``: (at_n, h, w, c) of a record, confirmed."""
        e, where = ffi.new("mapix_entry *"), ffi.new("mapix_where *")
        while status := mapping.guarded(lambda m: lib.mapix_vimh_find(m, self._c, row, e, where)):
            self.failed(status, _where(where), mapping)
        return e.at_n, e.h, e.w, e.c

    def willneed(self, mapping: Mapping, rows: IntArray, probe: int) -> int:
        """``mapix_vimh_willneed``; the number of records asked for."""
        nasked, where = ffi.new("uint64_t *"), ffi.new("mapix_where *")
        args = (_rows(rows), len(rows), probe, nasked, where)
        while status := lib.mapix_vimh_willneed(mapping.cmap, self._c, *args):
            self.failed(status, _where(where), mapping)
        return int(nasked[0])

    def _scan(self, fn: Callable[..., int], mapping: Mapping, rows: IntArray, *args: Any) -> None:
        where = ffi.new("mapix_where *")
        what = (_rows(rows), len(rows), *args, where)
        while status := mapping.guarded(lambda m: fn(m, self._c, *what)):
            self.failed(status, _where(where), mapping)

    def checksums(self, mapping: Mapping, rows: IntArray, crcs: NDArray[np.uint32]) -> None:
        """``mapix_vimh_checksums`` into ``crcs``, (len(rows),)."""
        if crcs.shape != rows.shape:
            raise ValueError(f"{len(rows)} rows, room for {len(crcs)} checksums")
        into = ffi.from_buffer("uint32_t[]", crcs, require_writable=True)
        self._scan(lib.mapix_vimh_checksums, mapping, rows, into)

    def moments(self, mapping: Mapping, rows: IntArray, nchannels: int) -> NDArray[np.void]:
        """``mapix_vimh_moments``: MOMENTS (nchannels,); low above high without pixels."""
        moments = np.zeros(nchannels, MOMENTS)
        into = ffi.from_buffer("mapix_moments[]", moments, require_writable=True)

        def fresh(m: CData, *args: Any) -> int:  # once more, when a change turns out harmless
            moments.fill(0)
            moments["low"] = 255
            status = int(lib.mapix_vimh_moments(m, *args))
            if status == lib.MAPIX_E_ARGUMENT:
                reason = f"a record of more than the {nchannels} channels that the index states"
                raise FormatError(mapping.path, "vimh", f"{reason}; open it with index='rebuild'")
            return status

        self._scan(fresh, mapping, rows, nchannels, into)
        return moments

    def gather(self, mapping: Mapping, rows: IntArray, plan: CData) -> int:
        """``mapix_vimh_gather``, or the exception that tells why not.

        The number of records that the kernel was asked for; only known when ``plan.probe`` is set.
        """
        where, nasked = ffi.new("mapix_where *"), ffi.new("uint64_t *")
        pointer, n = ffi.from_buffer("int64_t[]", rows), len(rows)
        plan.nasked = nasked
        while status := lib.mapix_vimh_gather(mapping.cmap, self._c, pointer, n, plan, where):
            if status == CHANGED:
                mapping.settle()
            else:
                self.failed(status, _where(where), mapping)
        return int(nasked[0])


def _rows(rows: IntArray) -> CData:
    return ffi.from_buffer("int64_t[]", rows)


def writable(array: NDArray[Any]) -> CData:
    """A C pointer to the bytes of an array that must be writable; keeps it exported."""
    return ffi.from_buffer("uint8_t[]", array, require_writable=True)


def constant(array: NDArray[Any], kind: str) -> CData:
    """A C pointer to an array that is only read; keeps it exported."""
    return ffi.from_buffer(kind, array)


def cast(kind: str, pointer: CData) -> CData:
    """The same address as another type.  Does not keep the memory alive."""
    return ffi.cast(kind, pointer)


def address_of(pointer: CData) -> int:
    """Where a pointer points; keeps nothing alive."""
    return int(ffi.cast("uintptr_t", pointer))


def new_gather(like: CData | None = None) -> CData:
    """A ``mapix_gather``, zeroed or a copy of ``like``; keeps nothing alive that it points to."""
    return ffi.new("mapix_gather *") if like is None else ffi.new("mapix_gather *", like[0])


def copy(mapping: Mapping, at: int, nbytes: int, format: str) -> bytearray:
    """``mapix_copy``: nbytes of the file from byte ``at``."""
    out, where = bytearray(nbytes), ffi.new("mapix_where *")
    into = ffi.from_buffer("uint8_t[]", out, require_writable=True)
    status = mapping.guarded(lambda m: lib.mapix_copy(m, at, nbytes, into, where))
    if status:
        raise problem(status, _where(where), mapping.path, format)
    return out


class Array:
    """``mapix_array``: rows of numbers in a file, and what can be asked about them."""

    def __init__(self, *, at: int, row_nbytes: int, nrows: int, swap: int) -> None:
        self._c = ffi.new("mapix_array *", [at, row_nbytes, nrows, swap, 0])
        self._row_nbytes = row_nbytes

    def gather(
        self, mapping: Mapping, rows: IntArray, to: NDArray[Any], format: str, threads: int = 1
    ) -> None:
        """``mapix_rows_gather`` into ``to``, C-contiguous with room for the rows."""
        if to.nbytes < len(rows) * self._row_nbytes or not to.flags.c_contiguous:
            raise ValueError(f"{len(rows)} rows of {self._row_nbytes} bytes, room for {to.nbytes}")
        into, where = writable(to), ffi.new("mapix_where *")
        status = mapping.guarded(
            lambda m: lib.mapix_rows_gather(
                m, self._c, _rows(rows), len(rows), into, threads, where
            )
        )
        if status:
            raise problem(status, _where(where), mapping.path, format)

    def willneed(self, mapping: Mapping, rows: IntArray, probe: int, format: str) -> int:
        """``mapix_rows_willneed``; the number of rows asked for."""
        nasked, where = ffi.new("uint64_t *"), ffi.new("mapix_where *")
        status = lib.mapix_rows_willneed(
            mapping.cmap, self._c, _rows(rows), len(rows), probe, nasked, where
        )
        if status:
            raise problem(status, _where(where), mapping.path, format)
        return int(nasked[0])


def pickle_rows(
    mapping: Mapping, at: int, memo: int, rows: NDArray[np.uint8], nrows: int
) -> tuple[int, int]:
    """``mapix_pickle_rows`` into ``rows``, uint8 (nrows, ncolumns): where it stopped, how many."""
    if rows.shape[0] < nrows:
        raise ValueError(f"room for {rows.shape[0]} rows, not for {nrows}")
    run = ffi.new("mapix_pickle_run *")
    into, n = writable(rows), rows.shape[1]
    status = mapping.guarded(lambda m: lib.mapix_pickle_rows(m, at, memo, n, into, nrows, run))
    if status:
        raise problem(status, Where(0, at, 1, 0), mapping.path, "pickle")
    return int(run.at), int(run.nrows)


def warm(mapping: Mapping, at: int, nbytes: int) -> None:
    """``mapix_warm``."""
    total = ffi.new("uint64_t *")
    status = mapping.guarded(lambda m: lib.mapix_warm(m, at, nbytes, total))
    if status:
        raise problem(status, Where(0, at, nbytes, 0), mapping.path, "file")


# --- the rest -----------------------------------------------------------------------------------


def crc32c(data: object, crc: int = 0) -> int:
    """``mapix_crc32c`` of any buffer, continued from ``crc``."""
    buffer = buffer_of(data)
    return int(lib.mapix_crc32c(buffer, len(buffer), crc))


def simd(level: int = -1) -> int:
    """``mapix_simd``: set (or with -1, ask) which kernels run."""
    return int(lib.mapix_simd(level))


def faults_caught() -> int:
    """``mapix_faults_caught``."""
    return int(lib.mapix_faults_caught())


# --- order --------------------------------------------------------------------------------------


def permute(n: int, key: int, begin: int, count: int) -> IntArray:
    """``mapix_permute``: positions of a random order of 0..n-1, int64 (count,)."""
    to = np.empty(count, np.int64)
    if lib.mapix_permute(n, key, begin, count, ffi.from_buffer("int64_t[]", to)):
        raise IndexError(f"positions {begin} to {begin + count} of {n}")
    return to


def permute_at(n: int, key: int, positions: IntArray) -> IntArray:
    """Return what the order of ``permute`` has at any positions, int64 (count,)."""
    to = np.array(positions, np.int64)
    if lib.mapix_permute_at(n, key, len(to), ffi.from_buffer("int64_t[]", to)):
        raise IndexError(f"positions outside of an order of {n}")
    return to


def permute_network(n: int, key: int) -> NDArray[np.uint32]:
    """``mapix_permute_network``: the order that ``permute`` computes, for a GPU."""
    to = np.empty(lib.MAPIX_NETWORK, np.uint32)
    if lib.mapix_permute_network(n, key, ffi.from_buffer("uint32_t[]", to)):
        raise ValueError(f"an order of {n} records")
    return to


def base_of(mapping: Mapping) -> int:
    """Address of byte 0 of a map, for calls that are not of the core."""
    return int(ffi.cast("uintptr_t", mapping.cmap.base))


def check(mapping: Mapping) -> None:
    """Raise FileChangedError where the file is not the one that was mapped."""
    mapping.guarded(lib.mapix_map_check)
