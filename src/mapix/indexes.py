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
=========  =================================================================================
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import MapixError
from mapix.source import Fingerprint, Mapping, Source

__all__ = [
    "Checksums",
    "Columns",
    "RecordIndex",
    "beside",
    "cache_folder",
    "load",
    "racy_for",
    "store",
    "table_bytes",
]

ENTRY = _native.ENTRY

MAGIC = b"MAPIXIDX"
VERSION = 3
HEAD_NBYTES = 4096  # one page: the table behind it starts aligned
_PREFIX = struct.Struct("<8sII")  # magic, version, CRC32C of the fields
# dev, ino, size, mtime_ns, ctime_ns of the file; format; options; head_nbytes, ids_differ;
# nrecords, nbytes, stride; first (at, h, w, c, N); most channels; ids as a set of 256 bits; which
# more tables there are; CRC32C of entries, labels, checksums.  Packed numbers, not JSON: an open of
# a known file is mostly what is read here.
OPTIONS_NBYTES = 128
_FIELDS = struct.Struct(f"<3Q2q16s{OPTIONS_NBYTES}s2I3QQ4HH32sI3I")
HAS_COLUMNS, HAS_PRESENT, HAS_CHECKSUMS = 1, 2, 4
STORE_NBYTES = 16 << 20  # files smaller than this are indexed again faster than looked up
COARSE_NS = 2_000_000_000  # FAT and old NFS tick every one or two seconds
FINE_NS = 100_000_000


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
        return self.crc is None or self.crc == _crc_of(self.tables())


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
        return self.crc is None or self.crc == _crc_of([self.values.view(np.uint8)])


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
    grown : bool
        Whether the file has grown since the index was stored.
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
    grown: bool = False

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


def _place(path: str, options: str) -> str:
    # Two sums, not a digest: hashlib is some megabytes and milliseconds at import, and a name that
    # two files share does no harm, since a stored index says what it was made for.
    name = os.fsencode(os.path.abspath(path)) + b"\0" + options.encode()
    return os.path.join(cache_folder(), f"{zlib.crc32(name):08x}{_native.crc32c(name):08x}.mapix")


def _made_for(f: Fingerprint) -> tuple[int, ...]:
    """What has to be the same: all but permissions, owner and links."""
    return f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns


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


def _crc_of(tables: list[NDArray[np.uint8]]) -> int:
    crc = 0
    for table in tables:
        crc = (
            _native.crc32c(np.ascontiguousarray(table).reshape(-1).data, crc) if table.size else crc
        )
    return crc


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
        return _write(source, index, options, place or _place(source.path, options))
    except OSError:
        if place is None:
            return None
        raise


def _write(source: Source, index: RecordIndex, options: str, place: str) -> str:
    import tempfile  # here: much to import for what most processes never do

    table = b"" if index.entries is None else table_bytes(index.entries)
    columns, sums = index.columns, index.checksums
    labels = [] if columns is None else columns.tables()
    has = HAS_COLUMNS if columns is not None else 0
    has |= HAS_PRESENT if len(labels) == 2 else 0
    has |= HAS_CHECKSUMS if sums is not None else 0
    sums_raw = b"" if sums is None else np.ascontiguousarray(sums.values, "<u4").tobytes()
    fields = _FIELDS.pack(
        *_made_for(source.fingerprint),
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
        _crc_of(labels),
        _native.crc32c(sums_raw) if sums_raw else 0,
    )
    head = _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields
    folder = os.path.dirname(os.path.abspath(place))
    os.makedirs(folder, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(head.ljust(HEAD_NBYTES, b"\0"))
            f.write(table)
            for part in labels:
                f.write(np.ascontiguousarray(part).data)
            f.write(bytes(-f.tell() % 8) + sums_raw)
            f.flush()
            os.fsync(f.fileno())
        os.replace(name, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return place


def load(source: Source, options: str) -> RecordIndex | None:
    """The stored index of this very file, mapped; None when there is none that can be believed.

    Beside the file first, then in the cache.  Where ``nbytes`` is less than it was made for, the
    file has grown since: what it tells of the part before is to be looked at, and gone on from.
    """
    grown = None
    for place in (beside(source.path), _place(source.path, options)):
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
    now = _made_for(source.fingerprint)
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
    more = _tables(mapping, HEAD_NBYTES + table_nbytes, n, len(_ids(ids)), said[19], said[21:])
    if more is None:
        return None
    columns, checksums, end = more
    if end != mapping.nbytes:
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
        columns=columns,
        checksums=checksums,
    )
    # nothing would tell that labels and sums of a part that was written to are old
    return replace(found, columns=None, checksums=None, grown=True) if grown else found


def _tables(
    mapping: Mapping, at: int, n: int, nids: int, has: int, crcs: tuple[int, int]
) -> tuple[Columns | None, Checksums | None, int] | None:
    """Labels and checksums behind the entries, and where they end; None when they do not fit."""
    columns = checksums = None
    if has & HAS_COLUMNS:
        parts = 2 if has & HAS_PRESENT else 1
        if parts * nids * n > mapping.nbytes - at:
            return None
        tables = [
            np.ndarray((nids, n), np.uint8, mapping.view, at + k * nids * n) for k in range(parts)
        ]
        columns = Columns(tables[0], tables[1] if parts == 2 else None, crcs[0])
        at += parts * nids * n
    at += -at % 8
    if has & HAS_CHECKSUMS:
        if 4 * n > mapping.nbytes - at:
            return None
        values = np.ndarray((n,), np.dtype("<u4"), mapping.view, at)
        checksums = Checksums(values, crcs[1])
        at += 4 * n
    return columns, checksums, at
