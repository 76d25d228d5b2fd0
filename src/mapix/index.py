"""Where the records of a file are, proven in bounds once; kept beside nothing, in the user's cache.

A stored index is untrusted input.  It is taken only when every byte of its header checks out and it
was made for exactly the file at hand; its table is then mapped, not read, so it costs no memory per
process, and every entry is checked against the file at each use.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import MapixError
from mapix.source import Fingerprint, Source

__all__ = ["RecordIndex", "cache_folder", "load", "store", "table_bytes"]

ENTRY = _native.ENTRY

MAGIC = b"MAPIXIDX"
VERSION = 2
HEAD_NBYTES = 4096  # one page: the table behind it starts aligned
_PREFIX = struct.Struct("<8sII")  # magic, version, CRC32C of the fields
# dev, ino, size, mtime_ns, ctime_ns of the file; format; options; head_nbytes, ids_differ;
# nrecords, nbytes, stride; first (at, h, w, c, N); most channels; ids as a set of 256 bits; CRC32C
# of the table.  Packed numbers, not JSON: an open of a known file is mostly what is read here.
OPTIONS_NBYTES = 128
_FIELDS = struct.Struct(f"<3Q2q16s{OPTIONS_NBYTES}s2I3QQ4HH32sI")
STORE_NBYTES = 16 << 20  # files smaller than this are indexed again faster than looked up
COARSE_NS = 2_000_000_000  # FAT and old NFS tick every one or two seconds
FINE_NS = 100_000_000


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


def _racy(fingerprint: Fingerprint, now_ns: int) -> bool:
    """Whether a later write could carry the same time as the one we saw (git's "racy clean")."""
    tick = COARSE_NS if fingerprint.mtime_ns % 1_000_000_000 == 0 else FINE_NS
    return max(fingerprint.mtime_ns, fingerprint.ctime_ns) > now_ns - tick


def store(source: Source, index: RecordIndex, options: str) -> str | None:
    """Keep ``index`` for the next open of the same file with the same options.

    Best effort: a full, read-only or missing cache folder, and a file that was written just now,
    mean that nothing is kept.  The new index replaces an old one in one step.

    Returns
    -------
    str or None
        Where it was put.
    """
    fingerprint = source.fingerprint
    if source.nbytes < STORE_NBYTES or _racy(fingerprint, time.time_ns()):
        return None
    if len(options) > OPTIONS_NBYTES:
        return None
    import tempfile  # here: much to import for what most processes never do

    place = _place(source.path, options)
    table = b"" if index.entries is None else table_bytes(index.entries)
    fields = _FIELDS.pack(
        *_made_for(fingerprint),
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
        _native.crc32c(table) if len(table) else 0,
    )
    head = _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        fd, name = tempfile.mkstemp(dir=os.path.dirname(place), suffix=".tmp")
    except OSError:
        return None
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(head.ljust(HEAD_NBYTES, b"\0"))
            f.write(table)
            f.flush()
            os.fsync(f.fileno())
        os.replace(name, place)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        return None
    return place


def load(source: Source, options: str) -> RecordIndex | None:
    """The stored index of this very file, mapped; None when there is none that can be believed."""
    try:
        return _parse(Source(_place(source.path, options)), source, options)
    except (OSError, MapixError, UnicodeDecodeError):
        return None


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
    if made_for != _made_for(source.fingerprint) or made_with != options.encode():
        return None
    head_nbytes, ids_differ, n, covered, stride, at, h, w, c, labels, channels, ids, _ = said[7:]
    if head_nbytes not in (6, 14) or labels > 255 or covered > source.nbytes:
        return None
    entries = None
    if stride:
        size = head_nbytes + 1 + 2 * labels + h * w * c
        if size != stride or at != 0 or n * stride != covered:
            return None
    elif n:
        if n * ENTRY.itemsize != mapping.nbytes - HEAD_NBYTES:
            return None
        entries = np.ndarray((n,), ENTRY, mapping.view, HEAD_NBYTES)
    return RecordIndex(
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
    )
