"""Stored indexes of files: in the user's cache, or beside the file.

A stored index is untrusted input. It is used only when no other user can have written it
(``cache.distrusted``), when every byte of its header checks out, and when it was made for the
content of the file at hand (``_belief``). Its table is mapped, not read, so it costs no memory per
process, and every entry is compared with the record's own header at each use. It may have three
more tables: the labels as columns, a CRC32C of each record, and sums over the pixels.

=========  =================================================================================
at         what
=========  =================================================================================
0          magic, version, CRC32C of the fields; the fields (``_FIELDS``); zeros up to 4096
4096       entries, 16 bytes per record; none when all records have one size
then       codes, one byte per record, a column for each id; then as many bytes that are 1 where
           the record has the label, unless all records have all labels
then       from the next multiple of 8 on, CRC32C of each record, 4 bytes each
then       from the next multiple of 8 on, sums over the pixels of each channel, 32 bytes each
=========  =================================================================================
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from mapix import _native
from mapix.cache import FINE_NS, cache_folder, cache_place, distrusted, racy_for, replacing
from mapix.errors import MapixError
from mapix.source import (
    Mapping,
    Source,
    Unmapped,
    is_url,
    name_of,
    path_beside,
    same_time,
    sample,
)
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

__all__ = [
    "FINE_NS",
    "Checksums",
    "Columns",
    "Moments",
    "RecordIndex",
    "beside",
    "cache_folder",
    "cache_place",
    "load",
    "racy_for",
    "store",
    "table_bytes",
]

MAGIC = b"MAPIXIDX"
VERSION = 4
HEAD_NBYTES = 4096  # one page: the table after it starts aligned
_PREFIX = struct.Struct("<8sII")  # magic, version, CRC32C of the fields
# dev, ino, size, mtime_ns, ctime_ns of the file; format; options; head_nbytes, ids_differ;
# nrecords, nbytes, stride; first (at, h, w, c, N); most channels; ids as a set of 256 bits; which
# more tables there are; CRC32C of entries, labels, checksums, moments; sample of the file.  Packed
# numbers, not JSON: reading them is most of the time of opening a known file.
OPTIONS_NBYTES = 128
_FIELDS = struct.Struct(f"<3Q2q16s{OPTIONS_NBYTES}s2I3QQ4HH32sI5I")
HAS_COLUMNS, HAS_PRESENT, HAS_CHECKSUMS, HAS_MOMENTS = 1, 2, 4, 8
# Smaller files, of fewer records, are indexed faster than a stored index is found: a record takes
# 40 ns, and each new page of a file more.
STORE_NBYTES, STORE_RECORDS = 16 << 20, 1 << 14


# --- stored indexes -----------------------------------------------------------------------------


def beside(path: str) -> str:
    """Return the path of the index of ``path`` that is stored beside it."""
    return path_beside(path, name_of(path) + ".mapix")


def _cache_place(source: Source, options: str) -> str:
    """Return where the cache has the index of a file: named after its path, and after its inode.

    So the index of a renamed file, and that of a file replaced by a copy, are found
    (``_others``), and a new index replaces the old one.
    """
    f = source.fingerprint
    number = zlib.crc32(f"{f.dev}:{f.ino}:{options}".encode())
    return cache_place(source.full_path, options, f"-{number:08x}.mapix")


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


def _ids(bits: bytes) -> tuple[int, ...]:
    left, found = int.from_bytes(bits, "little"), []
    while left:
        found.append((left & -left).bit_length() - 1)
        left &= left - 1
    return tuple(found)


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
    if source.mapping.limited or racy_for(source) or len(options) > OPTIONS_NBYTES:
        return None
    small = source.nbytes < STORE_NBYTES and index.nrecords < STORE_RECORDS
    if place is None and small:
        return None
    if place is not None:
        return _write(source, index, options, place)
    place = _cache_place(source, options)
    try:
        _write(source, index, options, place)
        for old in _others(place):
            with contextlib.suppress(OSError):
                os.unlink(old)
    except (OSError, MapixError):
        return None
    return place


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
    fields = _FIELDS.pack(
        *_identity(source),
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
        _native.crc32c(table) if len(table) else 0,
        crc_of(labels),
        _native.crc32c(sums_raw) if sums_raw else 0,
        _native.crc32c(pixels) if pixels else 0,
        sample(source.mapping, source.nbytes),
    )
    head = _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields
    with replacing(place) as f:
        at = HEAD_NBYTES + len(table) + sum(part.nbytes for part in labels)
        f.write(head.ljust(HEAD_NBYTES, b"\0"))
        f.write(table)
        for part in labels:
            f.write(np.ascontiguousarray(part).data)
        for raw in (sums_raw, pixels):
            f.write(bytes(-at % 8) + raw)
            at += -at % 8 + len(raw)
    return place


def load(source: Source, options: str) -> RecordIndex | None:
    """Return the stored index of a file, mapped; None when there is none to trust.

    The index beside the file is tried first, then the one in the cache. An index of this very file
    is preferred to one that fits by size, modification time and sample (``sampled``), then to one
    of the file before it grew (``grown``), then to one of use for its checksums only (``stale``).
    """
    found: list[RecordIndex] = []
    for place in _places(source, options, found):
        try:
            with Unmapped(place) as stored:
                # beside an object lies what its owner put there
                fingerprints = stored.fingerprint, source.fingerprint
                if not is_url(place) and distrusted(place, *fingerprints) is not None:
                    continue
                index = _parse(stored, source, options)
        except (OSError, MapixError, UnicodeDecodeError):
            continue
        if index is None:
            continue
        if not (index.sampled or index.grown or index.stale):
            return index
        found.append(index)
    return min(found, key=lambda i: (i.stale, i.grown), default=None)


def _places(source: Source, options: str, found: list[RecordIndex]) -> Iterator[str]:
    """Yield places of an index; other names in the cache only while ``found`` is empty."""
    if is_url(source.full_path) or os.access(beside(source.full_path), os.F_OK):
        yield beside(source.full_path)
    place = _cache_place(source, options)
    yield place
    if not found and source.nbytes >= STORE_NBYTES:
        yield from _others(place)


def _identity(source: Source) -> tuple[int, ...]:
    f = source.fingerprint
    return f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns


def _belief(
    made_for: tuple[int, ...], sampled: int, source: Source, *, beside_remote: bool = False
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
    now = _identity(source)
    if made_for == now:
        return "own"
    nbytes = made_for[2]
    if beside_remote:
        return "sampled" if nbytes == now[2] else None
    same_times = nbytes == now[2] and same_time(made_for[3], now[3])
    if not same_times and not nbytes < now[2]:
        return None
    if nbytes > source.nbytes or sample(source.mapping, nbytes) != sampled:
        return "stale" if made_for[2:4] == now[2:4] else None
    if not same_times:
        return "grown"
    return "own" if made_for[1:] == now[1:] else "sampled"


def _parse(stored: Unmapped, source: Source, options: str) -> RecordIndex | None:
    nbytes = stored.fingerprint.size
    head = stored.read(_PREFIX.size + _FIELDS.size)
    if nbytes < HEAD_NBYTES or len(head) < _PREFIX.size + _FIELDS.size:
        return None
    magic, version, crc = _PREFIX.unpack_from(head)
    fields = memoryview(head)[_PREFIX.size :]
    if magic != MAGIC or version != VERSION or _native.crc32c(fields) != crc:
        return None
    said = _FIELDS.unpack(fields)
    format, made_with = said[5].rstrip(b"\0"), said[6].rstrip(b"\0")
    if made_with != options.encode():
        return None
    head_nbytes, ids_differ, n, covered, stride, at, h, w, c, labels, channels, bits = said[7:19]
    ids = _ids(bits)
    if head_nbytes not in (6, 14) or labels > 255 or covered > source.nbytes:
        return None
    if n >> 48:  # else the sizes below exceed 64 bits
        return None
    if bool(n) != bool(covered) or at != 0:
        return None
    entries = stored_table = None
    more: dict[str, Any] | None = {}
    table_nbytes = 0 if stride else n * ENTRY.itemsize
    if stride:
        size = head_nbytes + 1 + 2 * labels + h * w * c
        if size != stride or n * stride != covered:
            return None
    elif table_nbytes > nbytes - HEAD_NBYTES:
        return None
    belief = _belief(said[:5], said[24], source, beside_remote=is_url(stored.path))
    if belief is None:
        return None
    if table_nbytes or said[19]:
        mapping = stored.mapped().mapping
        # Entries are read at random; 8 MB of readahead for 16 bytes would be most of the open.
        mapping.advise("random")
        mapping.advice = "it is a stored index that is in use"
        if table_nbytes:
            stored_table = StoredTable(mapping, HEAD_NBYTES, table_nbytes, said[20])
            if mapping.remote:  # each record may need any of them
                entries, stored_table = stored_table.entries(), None
            else:
                entries = np.ndarray((n,), ENTRY, mapping.memory, HEAD_NBYTES)
        sizes = (n, len(ids), channels)
        more = _tables(mapping, HEAD_NBYTES + table_nbytes, sizes, said[19], said[21:24])
    elif nbytes != HEAD_NBYTES:
        return None
    if more is None:
        return None
    found = RecordIndex(
        format=format.decode(),
        nrecords=n,
        nbytes=covered,
        head_nbytes=head_nbytes,
        stride=stride,
        first=(at, h, w, c, labels),
        entries=entries,
        ids=ids,
        ids_differ=bool(ids_differ),
        stored=True,
        channels=channels,
        stored_table=stored_table,
        **more,
    )
    if belief == "own":
        return found
    # Nothing shows whether labels and sums are old. Checksums do, except of a file that has grown:
    # a program that appends may have changed the rest.
    sums = None if belief == "grown" else found.checksums
    how: dict[str, Any] = {belief: True}
    return found._replace(columns=None, moments=None, checksums=sums, **how)


def _tables(
    mapping: Mapping, at: int, sizes: tuple[int, int, int], has: int, crcs: tuple[int, int, int]
) -> dict[str, Any] | None:
    """Return the tables after the entries as fields of a RecordIndex; None when sizes do not fit.

    ``sizes`` are the numbers of records, label ids and channels.
    """
    n, nids, nchannels = sizes
    parts = (2 if has & HAS_PRESENT else 1) if has & HAS_COLUMNS else 0
    sums_at = at + parts * nids * n
    sums_at += -sums_at % 8
    moments_at = sums_at + (4 * n if has & HAS_CHECKSUMS else 0)
    moments_at += -moments_at % 8
    end = moments_at + (_native.MOMENTS.itemsize * nchannels if has & HAS_MOMENTS else 0)
    if end != mapping.nbytes:
        return None
    found: dict[str, Any] = {}
    if parts:
        table = StoredTable(mapping, at, parts * nids * n, crcs[0])
        found["columns"] = StoredColumns(table, nids, n, parts)
    if has & HAS_CHECKSUMS:
        found["checksums"] = Checksums(StoredTable(mapping, sums_at, 4 * n, crcs[1]))
    if has & HAS_MOMENTS:
        found["moments"] = Moments(StoredTable(mapping, moments_at, end - moments_at, crcs[2]))
    return found
