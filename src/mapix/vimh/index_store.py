"""Stored indexes of files: in the user's cache, or beside the file.

A stored index is untrusted input. It is used only when no other user can have written it
(``cache.distrusted``), when every byte of its header checks out, and when it was made for the
content of the file at hand (``_belief``). Its table is mapped, not read, so it costs no memory per
process, and every entry is compared with the record's own header at each use. It may have three
more tables: the labels as columns, a CRC32C of each record, and sums over the pixels.

=========  =================================================================================
at         what
=========  =================================================================================
0          magic, version, CRC32C of the fields; the fields (``_FIELDS``); zeros up to 1024
1024       the same once more, or zeros: the slot with the larger generation counts; zeros up to
           4096
4096       codes, one byte per record, a column for each id; then as many bytes that are 1 where
           the record has the label, unless all records have all labels
then       from the next multiple of 8 on, CRC32C of each record, 4 bytes each
then       from the next multiple of 8 on, sums over the pixels of each channel, 32 bytes each
entries    from the byte that the fields state, entries, 16 bytes per record; none when all
           records have one size
=========  =================================================================================

The entries are last, so that an index of a file that has grown grows as well (``extend``): new
entries are written after the old ones and synced, then the other slot is written.  It states the
checksum of all entries, which is computed from the old one, and no tables but the entries.  A
process that is killed, or a power cut, leaves the old slot valid, or both.  Readers of the old
index have the old file, which they find changed, too.  Processes that extend at once find a lock,
or another slot than the one that they have read, and write nothing.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mapix import _native
from mapix.cache import FINE_NS, cache_folder, cache_place, racy_for, replacing
from mapix.errors import MapixError
from mapix.source import (
    Fingerprint,
    MappedLater,
    Mapping,
    Source,
    is_url,
    name_of,
    opened_index,
    path_beside,
    same_time,
    sample,
)
from mapix.vimh.files import NAME
from mapix.vimh.record_index import (
    ENTRY,
    Checksums,
    Columns,
    Moments,
    RecordIndex,
    StoredColumns,
    StoredTable,
    crc_of,
    table_bytes,
)

if TYPE_CHECKING:
    from mapix.store import Calls

__all__ = [
    "FINE_NS",
    "Checksums",
    "Columns",
    "Moments",
    "RecordIndex",
    "ask_for",
    "beside",
    "cache_folder",
    "cache_place",
    "extend",
    "load",
    "racy_for",
    "store",
    "table_bytes",
]

IDENTITY = 5  # fields of a fingerprint: device, inode, size and times
IN_USE = "it is a stored index that is in use"  # ends the error for one that changed
MAGIC = b"MAPIXIDX"
VERSION = 5
HEAD_NBYTES = 4096  # one page: the table after it starts aligned
SLOT_NBYTES, NSLOTS = 1024, 2
ALIGNED_NBYTES = 64  # entries begin at a multiple of a cache line
_PREFIX = struct.Struct("<8sII")  # magic, version, CRC32C of the fields
# dev, ino, size, mtime_ns, ctime_ns of the file; format; options; head_nbytes, ids_differ;
# nrecords, nbytes, stride; first (at, h, w, c, N); most channels; ids as a set of 256 bits; which
# more tables there are; CRC32C of entries, labels, checksums, moments; sample of the file;
# generation; byte of the first entry.  csrc/index.c reads and checks them.
OPTIONS_NBYTES = 128
_FIELDS = struct.Struct(f"<3Q2q16s{OPTIONS_NBYTES}s2I3QQ4HH32sI5I2Q")
HAS_COLUMNS, HAS_PRESENT, HAS_CHECKSUMS, HAS_MOMENTS = 1, 2, 4, 8
# Smaller files, of fewer records, are indexed faster than a stored index is found: a record takes
# 40 ns, and each new page of a file more.
STORE_NBYTES, STORE_RECORDS = 16 << 20, 1 << 14
MOST_PLACES = 64  # names in the cache that are computed once


# --- stored indexes -----------------------------------------------------------------------------


def beside(path: str) -> str:
    """Return the path of the index of ``path`` that is stored beside it."""
    if "://" in path and is_url(path):
        return path_beside(path, name_of(path) + ".mapix")
    return path + ".mapix"


def _cache_place(full_path: str, f: Fingerprint, options: str) -> str:
    """Return where the cache has the index of a file: named after its path, and after its inode.

    So the index of a renamed file, and that of a file replaced by a copy, are found
    (``_others``), and a new index replaces the old one.
    """
    return _place_in(cache_folder(), full_path, f.dev, f.ino, options)


@lru_cache(MOST_PLACES)
def _place_in(folder: str, full_path: str, dev: int, ino: int, options: str) -> str:
    number = zlib.crc32(f"{dev}:{ino}:{options}".encode())
    return cache_place(full_path, options, f"-{number:08x}.mapix", folder=folder)


def ask_for(full_path: str, found: Fingerprint, options: str) -> None:
    """Have the kernel read what ``load`` will read of the indexes of a local file."""
    _native.ask_for(beside(full_path))
    _native.ask_for(_cache_place(full_path, found, options))


def _others(place: str) -> Iterator[str]:
    """Yield indexes in the cache whose name has the path or the inode of ``place``'s."""
    folder, own = os.path.split(place)
    path, number = own[:16], own[16:]
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            alike = name.endswith(number) or (name.startswith(path) and name.endswith(".mapix"))
            if alike and name != own:
                yield entry.path


def _bits(ids: tuple[int, ...]) -> bytes:
    return sum(1 << i for i in ids).to_bytes(32, "little")


def _may_store(source: Source, options: str) -> bool:
    return not source.mapping.limited and not racy_for(source) and len(options) <= OPTIONS_NBYTES


def store(
    source: Source, index: RecordIndex, options: str, *, place: str | None = None
) -> str | None:
    """Store ``index`` for the next open of the same file with the same options.

    Best effort: with a full, read-only or missing cache folder, and for a file that was written
    just now, nothing is stored. A new index replaces the old one.

    Parameters
    ----------
    source, index
        The file, and its index.
    options : str
        Options with which the file was read.
    place : str, optional
        Another place than the cache; then a file of any size is stored, and errors are raised.

    Returns
    -------
    str or None
        Where the index is.
    """
    if not _may_store(source, options):
        return None
    small = source.nbytes < STORE_NBYTES and index.nrecords < STORE_RECORDS
    if place is None and small:
        return None
    if place is not None:
        return _write(source, index, options, place)
    place = _cache_place(source.full_path, source.fingerprint, options)
    try:
        _write(source, index, options, place)
        for old in _others(place):
            with contextlib.suppress(OSError):
                os.unlink(old)
    except (OSError, MapixError):
        return None
    return place


def _slot(
    source: Source,
    index: RecordIndex,
    options: str,
    *,
    has: int = 0,
    crcs: tuple[int, int, int, int],
    generation: int = 0,
    entries_at: int,
) -> bytes:
    """Return a slot of the header; ``crcs`` are those of entries, labels, checksums, moments."""
    fields = _FIELDS.pack(
        *source.fingerprint[:IDENTITY],
        index.format.encode(),
        options.encode(),
        index.head_nbytes,
        index.ids_differ,
        index.nrecords,
        index.nbytes,
        index.stride,
        *index.first,
        index.most_channels(),
        _bits(index.ids),
        has,
        *crcs,
        source.mapping.sample(),
        generation,
        entries_at,
    )
    return _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields


def _write(source: Source, index: RecordIndex, options: str, place: str) -> str:
    table = b"" if index.entries is None else table_bytes(index.table())
    columns, sums = index.columns, index.checksums
    labels = [] if columns is None else columns.tables()
    has = HAS_COLUMNS if columns is not None else 0
    has |= HAS_PRESENT if len(labels) == 2 else 0
    has |= HAS_CHECKSUMS if sums is not None else 0
    has |= HAS_MOMENTS if index.moments is not None else 0
    pixels = b"" if index.moments is None else index.moments.values.tobytes()
    sums_raw = b"" if sums is None else np.ascontiguousarray(sums.values, "<u4").tobytes()
    crcs = (
        _native.crc32c(table) if len(table) else 0,
        crc_of(labels),
        _native.crc32c(sums_raw) if sums_raw else 0,
        _native.crc32c(pixels) if pixels else 0,
    )
    at = HEAD_NBYTES + sum(part.nbytes for part in labels)
    parts: list[bytes | memoryview] = [np.ascontiguousarray(part).data for part in labels]
    for raw in (sums_raw, pixels):
        parts.append(bytes(-at % 8) + raw)
        at += len(parts[-1])
    entries_at = at + -at % ALIGNED_NBYTES
    parts += [bytes(entries_at - at), table]
    head = _slot(source, index, options, has=has, crcs=crcs, entries_at=entries_at)
    with replacing(place) as f:
        f.write(head.ljust(HEAD_NBYTES, b"\0"))
        for part in parts:
            f.write(part)
    return place


def extend(
    source: Source,
    before: RecordIndex,
    grown: RecordIndex,
    options: str,
    calls: Calls | None = None,
) -> RecordIndex | None:
    """Append to a stored index what a file has grown by, and return the index, mapped.

    Best effort, as ``store``.  None where nothing was written: the index is not in the cache, or
    not that of this path and inode; another process works on it, or has changed it.

    Parameters
    ----------
    source : Source
        The file.
    before : RecordIndex
        Its index before it grew, as ``load`` returned it.
    grown : RecordIndex
        Its index now, of whose entries there are only the new ones.
    options : str
        Options with which the file was read.
    calls : Calls, optional
        The operating system.
    """
    from mapix.store import SYSTEM  # here: most openings need no writer

    calls = SYSTEM if calls is None else calls
    place, head, number, generation, crc, entries_at = before.loaded
    if not _may_store(source, options) or place != _cache_place(
        source.full_path, source.fingerprint, options
    ):
        return None
    if (before.entries is None) != (grown.entries is None):
        return None  # records of one size, and now others: all entries are new
    table = b"" if grown.entries is None else table_bytes(grown.entries)
    slot = _slot(
        source,
        grown,
        options,
        crcs=(_native.crc32c(table, crc) if len(table) else crc, 0, 0, 0),
        generation=generation + 1,
        entries_at=entries_at,
    )
    old_nbytes = 0 if before.entries is None else before.nrecords * ENTRY.itemsize
    try:
        fd = calls.reopen(place)
        try:
            calls.lock(fd)
            if not calls.same(fd, place):
                return None
            if calls.read(fd, len(head), 0) == head:  # else another process was faster
                _overwrite(calls, fd, memoryview(table), entries_at + old_nbytes)
                calls.fsync(fd)
                _overwrite(calls, fd, memoryview(slot), (1 - number) * SLOT_NBYTES)
        finally:
            calls.close(fd)
    except OSError:
        return None
    if grown.stride:
        return grown  # has no table to map
    found = _loaded(place, source.mapping, options)
    return found if found is not None and _own(found) else None


def _overwrite(calls: Calls, fd: int, data: memoryview, at: int) -> None:
    while len(data):
        n = calls.overwrite(fd, data, at)
        data, at = data[n:], at + n


def load(source: Source, options: str) -> RecordIndex | None:
    """Return the stored index of a file, mapped; None when there is none to trust.

    The index beside the file is tried first, then the one in the cache. An index of this very file
    is preferred to one that fits by size, modification time and sample (``sampled``), then to one
    of the file before it grew (``grown``), then to one of use for its checksums only (``stale``).
    """
    mapping, found = source.mapping, list[RecordIndex]()
    for place in _places(source.full_path, mapping, options, found):
        index = _loaded(place, mapping, options)
        if index is None:
            continue
        if _own(index):
            return index
        found.append(index)
    return min(found, key=lambda i: (i.stale, i.grown), default=None)


def _own(index: RecordIndex) -> bool:
    return not (index.sampled or index.grown or index.stale)


def _loaded(place: str, file: Mapping, options: str) -> RecordIndex | None:
    """Return the index of a file that is stored at a place; None when it is not to be trusted."""
    try:
        if "://" in place and is_url(place):
            beside = Source(place)  # what the owner of the object put there
            head = beside.read(0, min(NSLOTS * SLOT_NBYTES, beside.nbytes))
            said = _native.read_index(head, beside.nbytes, options.encode(), file.nbytes)
            return None if said is None else _index_of(place, head, said, file, beside)
        own = opened_index(place, file.fingerprint.owner, file.nbytes, options.encode())
        if own.index is None:
            return None
        said, stored = own.index, None
        try:
            if said.has or not said.stride:
                stored = MappedLater(place, own, IN_USE)
        finally:
            own.close()  # unless it has another owner now
        return _index_of(place, own.front or b"", said, file, stored)
    except (OSError, MapixError):
        return None


def _places(
    full_path: str, mapping: Mapping, options: str, found: list[RecordIndex]
) -> Iterator[str]:
    """Yield places of an index; other names in the cache only while ``found`` is empty."""
    near = beside(full_path)
    if mapping.remote or os.access(near, os.F_OK):
        yield near
    place = _cache_place(full_path, mapping.fingerprint, options)
    yield place
    if not found and mapping.nbytes >= STORE_NBYTES:
        yield from _others(place)


def _belief(
    made_for: tuple[int, ...], sampled: int, mapping: Mapping, *, beside_remote: bool = False
) -> str | None:
    """Return how an index that was made for some file fits this file; None when it does not.

    Beside a remote object lies an index that was made where the object was a file: it is used as
    ``sampled`` if the size is the same.

    ========  ==================================================================================
    own       it is this very file: a write would have moved the change time. Only the device may
              have another number (another NFS client); then the sample decides
    sampled   the same size, modification time and sampled bytes: a copy, or a file of which only
              metadata changed. Or a program wrote between the sampled blocks and set the time
              back: so only entries, which are confirmed at each use, and checksums are used
    grown     longer than it was, and the same sampled bytes before
    stale     the same size and modification time, but other bytes: checksums show which
    ========  ==================================================================================
    """
    now = mapping.fingerprint
    if made_for == now[:IDENTITY]:
        return "own"
    nbytes = made_for[2]
    if beside_remote:
        return "sampled" if nbytes == now.size else None
    same_times = nbytes == now.size and same_time(made_for[3], now.mtime_ns)
    if not same_times and not nbytes < now.size:
        return None
    if nbytes > mapping.nbytes or sample(mapping, nbytes) != sampled:
        return "stale" if made_for[2:4] == now[2:4] else None
    if not same_times:
        return "grown"
    return "own" if made_for[1:] == now[1:IDENTITY] else "sampled"


def _index_of(
    place: str,
    head: bytes,
    said: _native.CData,
    file: Mapping,
    stored: Source | MappedLater | None,
) -> RecordIndex | None:
    """Return an index by its header, for the file that is mapped; None where it is of another.

    ``stored`` is the index, which is mapped if its entries are needed, or another table is used;
    None where it has no tables.
    """
    made_for = said.dev, said.ino, said.size, said.mtime_ns, said.ctime_ns
    belief = _belief(made_for, said.sample, file, beside_remote=isinstance(stored, Source))
    if belief is None:
        return None
    n, stride, has, entries_at = said.nrecords, said.stride, said.has, said.entries_at
    ids = _native.ids_of(said)
    entries = table = columns = checksums = moments = None
    if stored and n and not stride:
        table, mapping = StoredTable(stored, said, 0), stored.mapping
        if mapping.remote:  # each record may need any of them
            entries, table = table.entries(), None
        else:
            entries = np.ndarray((n,), ENTRY, mapping.memory, entries_at)
    # Nothing shows whether labels and sums are old. Checksums do, except of a file that has grown:
    # a program that appends may have changed the rest.
    if stored and has & HAS_COLUMNS and belief == "own":
        parts = 2 if has & HAS_PRESENT else 1
        columns = StoredColumns(StoredTable(stored, said, 1), len(ids), n, parts)
    if stored and has & HAS_CHECKSUMS and belief != "grown":
        checksums = Checksums(StoredTable(stored, said, 2))
    if stored and has & HAS_MOMENTS and belief == "own":
        moments = Moments(StoredTable(stored, said, 3))
    return RecordIndex(
        NAME,
        n,
        said.covered,
        said.head_nbytes,
        stride,
        (0, said.h, said.w, said.c, said.nlabels),
        entries,
        ids,
        bool(said.ids_differ),
        True,
        said.channels,
        table,
        columns,
        checksums,
        moments,
        belief == "grown",
        belief == "sampled",
        belief == "stale",
        (place, head, said.slot, said.generation, said.crcs[0], entries_at),
    )
