"""Bytes that do not lie in a file as they are: written out once, into the user's cache.

A plain file with a trailer, which says what it was made from and what it has to sum up to; it is
believed only when both agree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mapix import _native
from mapix.cache import cache_place, replacing
from mapix.errors import FormatError, MapixError
from mapix.source import Source

__all__ = ["kept"]

STEP = 16 << 20
MAGIC = b"MAPIXPIX"
# magic; dev, ino, size, mtime_ns, ctime_ns of the file; bytes; CRC32C of them, and of all before
TRAILER = struct.Struct("<8s3Q2qQII")


def _trailer(source: Source, nbytes: int, crc: int) -> bytes:
    head = TRAILER.pack(MAGIC, *source.fingerprint.content, nbytes, crc, 0)[:-4]
    return head + struct.pack("<I", _native.crc32c(head))


def _believed(place: str, source: Source, nbytes: int) -> Source | None:
    """The kept file, when it is what it says, and was made from this very file."""
    try:
        found = Source(place)
        if found.nbytes != nbytes + TRAILER.size:
            return None
        trailer = bytes(_native.copy(found.mapping, nbytes, TRAILER.size, "kept bytes"))
        crc = TRAILER.unpack(trailer)[-2]
        if trailer != _trailer(source, nbytes, crc):
            return None
        total = 0
        for at in range(0, nbytes, STEP):
            size = min(STEP, nbytes - at)
            total = _native.crc32c(_native.copy(found.mapping, at, size, "kept bytes"), total)
        return found if total == crc else None
    except (OSError, MapixError):
        return None


def kept(
    source: Source, data: Iterator[bytes], nbytes: int, format: str, what: str = "data"
) -> Source:
    """A file of the ``nbytes`` bytes that ``data`` gives: the kept one, or a new one.

    Parameters
    ----------
    source : Source
        What they come from.
    data : iterator of bytes
        Asked only when there is no kept file.
    nbytes : int
        How many there have to be.
    format : str
        Of the source, for messages.
    what : str
        Which bytes of the file.

    Raises
    ------
    FormatError
        There are more or fewer bytes.
    OSError
        The cache folder (``$MAPIX_CACHE_DIR``) cannot be written to.
    """
    place = cache_place(source.full_path, what, ".pixels")
    found = _believed(place, source, nbytes)
    if found is not None:
        return found
    with replacing(place) as f:
        done = crc = 0
        for piece in data:
            done += len(piece)
            if done > nbytes:
                break
            crc = _native.crc32c(piece, crc)
            f.write(piece)
        if done != nbytes:
            more = "more" if done > nbytes else f"{done}"
            raise FormatError(source.path, format, f"{nbytes} bytes of data expected, {more} found")
        f.write(_trailer(source, nbytes, crc))
    return Source(place)
