"""Where the records of a file are, proven in bounds once; kept beside nothing, in the user's cache.

A stored index is untrusted input.  It is taken only when every byte of its header checks out and it
was made for exactly the file at hand; its table is then mapped, not read, so it costs no memory per
process, and every entry is checked against the file at each use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import MapixError
from mapix.source import Fingerprint, Source

__all__ = ["RecordIndex", "cache_folder", "load", "store", "table_bytes"]

ENTRY = _native.ENTRY

MAGIC = b"MAPIXIDX"
VERSION = 1
HEAD_NBYTES = 4096  # one page: the table behind it starts aligned
_PREFIX = struct.Struct("<8sII")  # magic, version, CRC32C of the rest of the page
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
    name = os.fsencode(os.path.abspath(path)) + b"\0" + options.encode()
    key = hashlib.blake2b(name, digest_size=16).hexdigest()
    return os.path.join(cache_folder(), f"{key}.mapix")


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
    place = _place(source.path, options)
    table = b"" if index.entries is None else table_bytes(index.entries)
    fields: dict[str, Any] = {
        "format": index.format,
        "options": options,
        "fingerprint": fingerprint.as_dict(),
        "nrecords": index.nrecords,
        "nbytes": index.nbytes,
        "head_nbytes": index.head_nbytes,
        "stride": index.stride,
        "first": index.first,
        "ids": index.ids,
        "ids_differ": index.ids_differ,
        "table_nbytes": len(table),
        "table_crc32c": _native.crc32c(table) if len(table) else 0,
    }
    room = HEAD_NBYTES - _PREFIX.size
    body = json.dumps(fields, separators=(",", ":")).encode().ljust(room)
    if len(body) > room:
        return None
    head = _PREFIX.pack(MAGIC, VERSION, _native.crc32c(body)) + body
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        fd, name = tempfile.mkstemp(dir=os.path.dirname(place), suffix=".tmp")
    except OSError:
        return None
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(head)
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
        kept = Source(_place(source.path, options))
    except (OSError, MapixError):
        return None
    try:
        return _parse(kept, source, options)
    except (ValueError, KeyError, TypeError, struct.error, MapixError, OSError):
        return None


def _same_bytes(made_for: dict[str, int], now: Fingerprint) -> bool:
    """Whether nothing but permissions, owner and links may differ."""
    return all(
        made_for[k] == getattr(now, k) for k in ("dev", "ino", "size", "mtime_ns", "ctime_ns")
    )


def _parse(kept: Source, source: Source, options: str) -> RecordIndex | None:
    mapping = kept.mapping
    if mapping.nbytes < HEAD_NBYTES:
        return None
    # The table is walked at random; 8 MB of readahead for 16 bytes would be most of the open.
    mapping.advise("random")
    head = _native.copy(mapping, 0, HEAD_NBYTES, "stored index")
    magic, version, crc = _PREFIX.unpack_from(head)
    body = head[_PREFIX.size :]
    if magic != MAGIC or version != VERSION or _native.crc32c(body) != crc:
        return None
    fields = json.loads(body)
    if fields["options"] != options or not _same_bytes(fields["fingerprint"], source.fingerprint):
        return None
    n, stride, covered = int(fields["nrecords"]), int(fields["stride"]), int(fields["nbytes"])
    at, h, w, c, labels = (int(x) for x in fields["first"])
    first = (at, h, w, c, labels)
    if int(fields["head_nbytes"]) not in (6, 14) or n < 0 or stride < 0:
        return None
    if not 0 <= covered <= source.nbytes:
        return None
    entries = None
    if stride:
        size = int(fields["head_nbytes"]) + 1 + 2 * first[4] + first[1] * first[2] * first[3]
        if size != stride or first[0] != 0 or n * stride != covered:
            return None
    elif n:
        if n * ENTRY.itemsize != mapping.nbytes - HEAD_NBYTES:
            return None
        entries = np.ndarray((n,), ENTRY, mapping.view, HEAD_NBYTES)
    return RecordIndex(
        format=str(fields["format"]),
        nrecords=n,
        nbytes=covered,
        head_nbytes=int(fields["head_nbytes"]),
        stride=stride,
        first=first,
        entries=entries,
        ids=tuple(sorted({int(i) & 255 for i in fields["ids"]})),
        ids_differ=bool(fields["ids_differ"]),
        stored=True,
    )
