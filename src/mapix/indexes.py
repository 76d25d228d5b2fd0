"""Where the records of a file are, proven in bounds once; kept in the user's cache, or beside it.

A stored index is untrusted input.  It is taken only when every byte of its header checks out and it
was made for exactly the file at hand; its table is then mapped, not read, so it costs no memory per
process, and every entry is checked against the file at each use.  It may carry two more tables: the
labels, as columns, and a CRC32C of each record.

=========  =================================================================================
at         what
=========  =================================================================================
0          magic, version, CRC32C of the fields; the fields (``_FIELDS``); zeros up to 4096
4096       entries, 16 bytes a record; none when all records are alike
behind     codes, one byte a record, a column for each id; then as many bytes that are 1 where
           the record has the label, unless all have all
behind     from the next multiple of 8 on, CRC32C of each record, 4 bytes each
behind     from the next multiple of 8 on, sums over the pixels of each channel, 32 bytes each
=========  =================================================================================
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import numpy as np

from mapix import _native
from mapix.errors import MapixError
from mapix.recordindex import (
    ENTRY,
    Checksums,
    Columns,
    Moments,
    RecordIndex,
    crc_of,
    table_bytes,
)
from mapix.source import Mapping, Source

__all__ = [
    "Checksums",
    "Columns",
    "Moments",
    "RecordIndex",
    "beside",
    "cache_folder",
    "cache_place",
    "load",
    "racy_for",
    "replacing",
    "store",
    "table_bytes",
]

MAGIC = b"MAPIXIDX"
VERSION = 3
HEAD_NBYTES = 4096  # one page: the table behind it starts aligned
_PREFIX = struct.Struct("<8sII")  # magic, version, CRC32C of the fields
# dev, ino, size, mtime_ns, ctime_ns of the file; format; options; head_nbytes, ids_differ;
# nrecords, nbytes, stride; first (at, h, w, c, N); most channels; ids as a set of 256 bits; which
# more tables there are; CRC32C of entries, labels, checksums, moments.  Packed numbers, not JSON:
# an open of a known file is mostly what is read here.
OPTIONS_NBYTES = 128
_FIELDS = struct.Struct(f"<3Q2q16s{OPTIONS_NBYTES}s2I3QQ4HH32sI4I")
HAS_COLUMNS, HAS_PRESENT, HAS_CHECKSUMS, HAS_MOMENTS = 1, 2, 4, 8
STORE_NBYTES = 16 << 20  # files smaller than this are indexed again faster than looked up
COARSE_NS = 2_000_000_000  # FAT and old NFS tick every one or two seconds
FINE_NS = 40_000_000  # elsewhere the kernel's tick, at most 10 ms, and some more


# --- stored indexes -----------------------------------------------------------------------------


def cache_folder() -> str:
    """Where indexes are kept: ``$MAPIX_CACHE_DIR``, or ``mapix`` in the user's cache folder."""
    own = os.environ.get("MAPIX_CACHE_DIR")
    if own:
        return own
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mapix")


def beside(path: str) -> str:
    """Where an index of ``path`` lies that is kept beside it."""
    return path + ".mapix"


def cache_place(path: str, what: str, suffix: str = ".mapix") -> str:
    """Where in the cache ``what`` was made of ``path`` is kept."""
    # Two sums, not a digest: hashlib is some megabytes and milliseconds at import, and a name that
    # two files share does no harm, since what is kept says what it was made for.
    name = os.fsencode(os.path.abspath(path)) + b"\0" + what.encode()
    return os.path.join(cache_folder(), f"{zlib.crc32(name):08x}{_native.crc32c(name):08x}{suffix}")


@contextlib.contextmanager
def replacing(place: str) -> Iterator[IO[bytes]]:
    """A new file that is at ``place`` once it is whole and on disk, or not at all."""
    import tempfile  # here: much to import for what most processes never do

    folder = os.path.dirname(os.path.abspath(place))
    os.makedirs(folder, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(name, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _bits(ids: tuple[int, ...]) -> bytes:
    return sum(1 << i for i in ids).to_bytes(32, "little")


def _ids(bits: bytes) -> tuple[int, ...]:
    left, found = int.from_bytes(bits, "little"), []
    while left:
        found.append((left & -left).bit_length() - 1)
        left &= left - 1
    return tuple(found)


def racy_for(source: Source) -> float:
    """Seconds until an index of the file can be kept; 0 when it can be now.

    What was written a moment ago may be written again without its times telling.
    """
    f = source.fingerprint
    tick = COARSE_NS if f.mtime_ns % 1_000_000_000 == 0 else FINE_NS
    left = max(f.mtime_ns, f.ctime_ns) + tick - time.time_ns()
    return max(0, left + 1_000_000) / 1e9 if left >= 0 else 0.0


def store(
    source: Source, index: RecordIndex, options: str, *, place: str | None = None
) -> str | None:
    """Keep ``index`` for the next open of the same file with the same options.

    Best effort: a full, read-only or missing cache folder, and a file that was written just now,
    mean that nothing is kept.  The new index replaces an old one in one step.

    Parameters
    ----------
    source, index
        The file, and what is to be kept.
    options : str
        With which the file was read.
    place : str, optional
        Another place than the cache; then every size is kept, and errors are raised.

    Returns
    -------
    str or None
        Where it was put.
    """
    if source.mapping.limited or racy_for(source) or len(options) > OPTIONS_NBYTES:
        return None
    if place is None and source.nbytes < STORE_NBYTES:
        return None
    try:
        return _write(source, index, options, place or cache_place(source.path, options))
    except OSError:
        if place is None:
            return None
        raise


def _write(source: Source, index: RecordIndex, options: str, place: str) -> str:
    table = b"" if index.entries is None else table_bytes(index.entries)
    columns, sums = index.columns, index.checksums
    labels = [] if columns is None else columns.tables()
    has = HAS_COLUMNS if columns is not None else 0
    has |= HAS_PRESENT if len(labels) == 2 else 0
    has |= HAS_CHECKSUMS if sums is not None else 0
    has |= HAS_MOMENTS if index.moments is not None else 0
    pixels = b"" if index.moments is None else index.moments.values.tobytes()
    sums_raw = b"" if sums is None else np.ascontiguousarray(sums.values, "<u4").tobytes()
    fields = _FIELDS.pack(
        *source.fingerprint.content,
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
    )
    head = _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields
    with replacing(place) as f:
        f.write(head.ljust(HEAD_NBYTES, b"\0"))
        f.write(table)
        for part in labels:
            f.write(np.ascontiguousarray(part).data)
        for raw in (sums_raw, pixels):
            f.write(bytes(-f.tell() % 8) + raw)
    return place


def load(source: Source, options: str) -> RecordIndex | None:
    """The stored index of this very file, mapped; None when there is none that can be believed.

    Beside the file first, then in the cache.  Where ``nbytes`` is less than it was made for, the
    file has grown since: what it tells of the part before is to be looked at, and gone on from.
    """
    grown = None
    for place in (beside(source.path), cache_place(source.path, options)):
        if not os.access(place, os.F_OK):  # much cheaper than an exception
            continue
        try:
            found = _parse(Source(place), source, options)
        except (OSError, MapixError, UnicodeDecodeError):
            continue
        if found is not None and not found.grown:
            return found
        grown = grown or found
    return grown


def _parse(kept: Source, source: Source, options: str) -> RecordIndex | None:
    mapping = kept.mapping
    if mapping.nbytes < HEAD_NBYTES:
        return None
    # The table is walked at random; 8 MB of readahead for 16 bytes would be most of the open.
    mapping.advise("random")
    head = _native.copy(mapping, 0, _PREFIX.size + _FIELDS.size, "stored index")
    magic, version, crc = _PREFIX.unpack_from(head)
    fields = memoryview(head)[_PREFIX.size :]
    if magic != MAGIC or version != VERSION or _native.crc32c(fields) != crc:
        return None
    said = _FIELDS.unpack(fields)
    made_for, format, made_with = said[:5], said[5].rstrip(b"\0"), said[6].rstrip(b"\0")
    now = source.fingerprint.content
    grown = made_for[:2] == now[:2] and made_for[2] < now[2]
    if (made_for != now and not grown) or made_with != options.encode():
        return None
    head_nbytes, ids_differ, n, covered, stride, at, h, w, c, labels, channels, ids = said[7:19]
    if head_nbytes not in (6, 14) or labels > 255 or covered > source.nbytes:
        return None
    if n >> 48:  # else the sizes below are numbers that nobody can have
        return None
    entries = None
    table_nbytes = 0 if stride else n * ENTRY.itemsize
    if stride:
        size = head_nbytes + 1 + 2 * labels + h * w * c
        if size != stride or at != 0 or n * stride != covered:
            return None
    elif n:
        if table_nbytes > mapping.nbytes - HEAD_NBYTES:
            return None
        entries = np.ndarray((n,), ENTRY, mapping.view, HEAD_NBYTES)
    sizes = (n, len(_ids(ids)), channels)
    more = _tables(mapping, HEAD_NBYTES + table_nbytes, sizes, said[19], said[21:])
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
        ids=_ids(ids),
        ids_differ=bool(ids_differ),
        stored=True,
        channels=channels,
        **more,
    )
    # nothing would tell that labels and sums of a part that was written to are old
    if grown:
        return replace(found, columns=None, checksums=None, moments=None, grown=True)
    return found


def _tables(
    mapping: Mapping, at: int, sizes: tuple[int, int, int], has: int, crcs: tuple[int, int, int]
) -> dict[str, Any] | None:
    """What lies behind the entries, as fields of a RecordIndex; None when it does not fit exactly.

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
        tables = [
            np.ndarray((nids, n), np.uint8, mapping.view, at + k * nids * n) for k in range(parts)
        ]
        found["columns"] = Columns(tables[0], tables[1] if parts == 2 else None, crcs[0])
    if has & HAS_CHECKSUMS:
        values = np.ndarray((n,), np.dtype("<u4"), mapping.view, sums_at)
        found["checksums"] = Checksums(values, crcs[1])
    if has & HAS_MOMENTS:
        pixels = np.ndarray((nchannels,), _native.MOMENTS, mapping.view, moments_at)
        found["moments"] = Moments(pixels, crcs[2])
    return found
