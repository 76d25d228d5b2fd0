"""Unpack data that is compressed or encoded in a file, once, into the user's cache.

A stored file has the unpacked bytes, then a trailer that states their checksum, the file they were
made from, and its checksum.  It is used only if

* no other user can have written it (``cache.distrusted``),
* the checksum of its bytes is right,
* it was made from the same file, or from a file with the same CRC32C, and
* its first bytes equal those that the file unpacks to.

If the cache cannot be written, the bytes go into a file without a name in the folder for temporary
files, or into memory.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import IO

from mapix import _native
from mapix.cache import Writing, cache_folder, cache_place, racy_for, replacing, trusted
from mapix.errors import FileChangedError, FormatError, LimitError, MapixError
from mapix.source import Source

__all__ = ["cached", "limit_of", "same"]

READ_STEP_NBYTES = 4 << 20
MAGIC = b"MAPIXPX2"
# Magic; dev, ino, size, mtime_ns, ctime_ns and CRC32C of the original file; number of unpacked
# bytes, their CRC32C, and the CRC32C of all fields of the trailer up to here
TRAILER = struct.Struct("<8s3Q2qIQII")
MOST_TIMES = 64  # limit of the unpacked size, as a multiple of the file's size,
LEAST_LIMIT_NBYTES = 64 << 20  # or this size, if that is more
MEMORY_NBYTES = 256 << 20  # limit in memory, if neither the cache nor the disk can be written

Data = Callable[[], Iterator[bytes]]


def limit_of(source: Source) -> int:
    """Return the limit of a file's unpacked size: 64 times its size, but at least 64 MiB."""
    return max(MOST_TIMES * source.nbytes, LEAST_LIMIT_NBYTES)


def cached(source: Source, data: Data, nbytes: int, format: str, what: str = "data") -> Source:
    """Return a file of the ``nbytes`` bytes that ``data`` yields: the stored one, or a new one.

    Parameters
    ----------
    source : Source
        The file that is unpacked.
    data : callable
        Returns an iterator of unpacked bytes.  If a stored file exists, one piece is taken from it.
        Otherwise all pieces are, once for each place that is tried.
    nbytes : int
        Expected number of unpacked bytes.
    format : str
        Name of the source's format, for messages.
    what : str
        Names the part of the file that is unpacked.

    Raises
    ------
    FormatError
        There are more or fewer bytes.
    LimitError
        ``nbytes`` exceeds ``limit_of(source)``.
    OSError
        The bytes cannot be stored: not in the cache folder (``$MAPIX_CACHE_DIR``), not in the
        folder for temporary files (``$TMPDIR``), and they are too many for memory.
    """
    limit = limit_of(source)
    if nbytes > limit:
        raise LimitError(
            f"{source.path}: {format}: {source.nbytes} bytes that unpack to {nbytes}, above the "
            f"limit of {limit} ({MOST_TIMES} times the file, at least {LEAST_LIMIT_NBYTES} bytes); "
            "unpack it yourself (gzip -dk FILE) if you trust it"
        )
    place = cache_place(source.full_path, what, ".pixels")
    found = _stored(place, source, data, nbytes)
    if found is not None:
        return found
    try:
        with replacing(place) as f:
            crc = _fill(f, source, data, nbytes, format)
            f.write(_trailer(source, nbytes, _sum(source, source.nbytes), crc))
        # other users may have replaced it, if the folder is theirs
        found = _stored(place, source, data, nbytes)
        if found is None:
            raise PermissionError(errno.EPERM, "the stored file is not trusted", place)
        return found
    except FileChangedError:
        raise
    except OSError as e:
        return _unnamed(source, data, nbytes, format, e)


def same(found: Source, data: Iterator[bytes], nbytes: int) -> bool:
    """Return whether a cached file begins with the ``nbytes`` bytes that ``data`` yields."""
    crc = done = 0
    for piece in data:
        crc = _native.crc32c(piece, crc) if piece else crc
        done += len(piece)
    return done == nbytes and found.nbytes >= nbytes and _sum(found, nbytes) == crc


def _unnamed(source: Source, data: Data, nbytes: int, format: str, why: OSError) -> Source:
    """Store the bytes in a file without a name, on disk or in memory, and return it."""
    places = [_on_disk, _in_memory] if nbytes <= MEMORY_NBYTES else [_on_disk]
    for make in places:
        try:
            with make() as f:  # an object closes its descriptor, also if a call has no memory
                _fill(f, source, data, nbytes, format)
                f.flush()
                return Source.unnamed(f.fileno(), source.path, nbytes)
        except FileChangedError:
            raise
        except OSError:
            continue
    raise OSError(
        why.errno,
        f"its {nbytes} unpacked bytes cannot be stored: neither in the cache folder "
        f"{cache_folder()} ({why.strerror or why}) nor in the folder for temporary files; set "
        "MAPIX_CACHE_DIR or TMPDIR to a folder with enough space",
        source.path,
    ) from why


def _on_disk() -> IO[bytes]:
    import tempfile  # here, because most processes never need it and it takes long to import

    return tempfile.TemporaryFile()


def _in_memory() -> IO[bytes]:
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import io

    made = io.FileIO("mapix", "w", opener=lambda name, _: os.memfd_create(name, os.MFD_CLOEXEC))
    return io.BufferedWriter(made)


def _fill(f: Writing, source: Source, data: Data, nbytes: int, format: str) -> int:
    """Write all bytes and return their CRC32C."""
    done = crc = 0
    for piece in data():
        done += len(piece)
        if done > nbytes:
            break
        crc = _native.crc32c(piece, crc) if piece else crc
        f.write(piece)
    if done != nbytes:
        more = "more" if done > nbytes else f"{done}"
        raise FormatError(source.path, format, f"{nbytes} bytes of data expected, {more} found")
    return crc


def _sum(source: Source, nbytes: int) -> int:
    """Return the CRC32C of the first bytes of a file."""
    crc = 0
    for at in range(0, nbytes, READ_STEP_NBYTES):
        size = min(READ_STEP_NBYTES, nbytes - at)
        crc = _native.crc32c(_native.copy(source.mapping, at, size, "cached bytes"), crc)
    return crc


def _identity(source: Source) -> tuple[int, ...]:
    """Return the file's identity and times; zeros while its times cannot show another write."""
    f = source.fingerprint
    return (0,) * 5 if racy_for(source) else (f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns)


def _trailer(source: Source, nbytes: int, made_of: int, crc: int) -> bytes:
    head = TRAILER.pack(MAGIC, *_identity(source), made_of, nbytes, crc, 0)[:-4]
    return head + struct.pack("<I", _native.crc32c(head))


def _stored(place: str, source: Source, data: Data, nbytes: int) -> Source | None:
    """Return the stored file if it is trusted and was made from this content; else None."""
    if not os.access(place, os.F_OK):
        return None
    try:
        found = trusted(place, source)
        if found is None or found.nbytes != nbytes + TRAILER.size:
            return None
        trailer = bytes(_native.copy(found.mapping, nbytes, TRAILER.size, "cached bytes"))
        magic, *made_for, made_of, stated, crc, own = TRAILER.unpack(trailer)
        if magic != MAGIC or stated != nbytes or own != _native.crc32c(trailer[:-4]):
            return None
        f = source.fingerprint
        same = made_for == [f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns]
        if not same and made_of != _sum(source, source.nbytes):
            return None
        first = next((piece for piece in data() if piece), b"")[:nbytes]
        if _native.copy(found.mapping, 0, len(first), "cached bytes") != first:
            return None
        if _sum(found, nbytes) != crc:
            return None
        found.origin = source.origin
        return found
    except FileChangedError as e:
        if e.filename == source.path:
            raise
        return None
    except (OSError, MapixError):
        return None
