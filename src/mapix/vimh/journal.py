"""Journals of files that are appended to, so that no reader sees a part of what is being appended.

Before the first new byte, a small journal beside the file states the length of the file, and a
checksum of its last bytes; it is on the disk before the file grows.  While it is there, bytes after
that length do not count.  To commit, the new bytes are brought to the disk, and the journal is
removed: that one step is what makes them count.  After a power cut a reader sees the old records or
the new ones, and the next writer cuts off what does not count.

The journal of ``train`` is ``.train.appending``: 8 bytes magic, u64 length, u32 CRC32C of the last
4096 bytes before that length, u32 CRC32C of the fields before; little-endian.
"""

from __future__ import annotations

import os
import struct

from mapix import _native
from mapix.errors import MapixError
from mapix.source import Fingerprint, Source, is_url, read_small

__all__ = ["counting", "journal_of", "packed", "pending", "settled", "tail"]

MAGIC = b"MAPIXAPP"
_FIELDS = struct.Struct("<8sQI")
_CRC = struct.Struct("<I")
TAIL_NBYTES = 4096
TRIES = 9  # at opening a file while appends begin and end
FORMAT = "journal"


def journal_of(path: str) -> str:
    """Return the path of the journal of a file that is being appended to."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.appending"


def packed(length: int, tail: bytes | bytearray) -> bytes:
    """Return a journal that states the length of a file, and a checksum of its last bytes."""
    fields = _FIELDS.pack(MAGIC, length, _native.crc32c(tail) if tail else 0)
    return fields + _CRC.pack(_native.crc32c(fields))


def counting(journal: bytes) -> int | None:
    """Return the length that a journal states; None when its bytes are not a journal.

    The journal is written before the file grows, so one that is cut means that nothing is new.
    """
    if len(journal) != _FIELDS.size + _CRC.size or journal[:8] != MAGIC:
        return None
    if _CRC.unpack_from(journal, _FIELDS.size)[0] != _native.crc32c(journal[: _FIELDS.size]):
        return None
    length: int = _FIELDS.unpack_from(journal)[1]
    return length


def tail(source: Source, length: int) -> bytearray:
    """Return the last bytes of a file of that length, of which a journal has the checksum."""
    nbytes = min(length, TAIL_NBYTES)
    return _native.copy(source.mapping, length - nbytes, nbytes, FORMAT)


def pending(path: str, kept: str | None = None) -> int | None:
    """Return how many bytes of a file count, while an append is going on or was cut off; else None.

    ``kept`` is ``journal_of(path)`` where it is known.

    Raises
    ------
    OSError
        The file, or its journal, cannot be read.
    """
    kept = journal_of(path) if kept is None else kept
    if not os.access(kept, os.F_OK):  # the usual case, and much cheaper than an exception
        return None
    try:
        journal = read_small(kept, _FIELDS.size + _CRC.size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except MapixError:  # longer than any journal
        return None
    length = counting(journal)
    if length is None:
        return None
    if os.stat(path).st_size < length:
        return None
    # limited to what counts, so that it may grow meanwhile
    source = Source(path, limit=length)
    # the file may have been replaced by another one since the journal was made
    return length if journal == packed(length, tail(source, length)) else None


def settled(path: str, expect: Fingerprint | None = None, ready: Source | None = None) -> Source:
    """Open a file without the bytes that another process is appending.

    Parameters
    ----------
    path : str
        The file.
    expect : Fingerprint, optional
        The file has to be this one, or FileChangedError.
    ready : Source, optional
        The same file, already open: returned where no append is going on.
    """
    mapping = None if ready is None else ready.mapping
    if is_url(path) if mapping is None else mapping.remote:  # nothing appends to an object
        return Source(path, expect) if ready is None else ready
    kept = journal_of(path)
    # It was open before this check, so what was committed until then made the file longer.
    if ready and mapping and _native.is_settled(path, kept, mapping.nbytes):  # the usual case
        return ready
    for _ in range(TRIES):
        before = pending(path, kept)
        source = Source(path, expect, before)
        after = pending(path, kept)
        # Committed in between: what the file was when it was opened may be a part of it.
        if before == after and (before is not None or os.stat(path).st_size == source.nbytes):
            break
    return source
