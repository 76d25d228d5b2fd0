"""Bytes that do not lie in a file as they are: unpacked once, into the user's cache.

What is stored is the bytes, then a trailer that states which file they were made of and what both
sum up to. They are used only when nobody else can have written them (``cache.distrusted``), when
their sum is right, when they were made of the content at hand (the very file, or one whose bytes
have the same CRC32C), and when they begin with what the file begins with. Where the cache cannot be
written, they go into a file without a name in the folder for temporary files, or into memory.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator

from mapix import _native
from mapix.cache import Writing, cache_folder, cache_place, racy_for, replacing, trusted
from mapix.errors import FileChangedError, FormatError, LimitError, MapixError
from mapix.source import Source

__all__ = ["cached", "limit_of", "same"]

STEP = 4 << 20
MAGIC = b"MAPIXPX2"
# magic; dev, ino, size, mtime_ns, ctime_ns of the file, and CRC32C of it; bytes; CRC32C of them,
# and of all fields before
TRAILER = struct.Struct("<8s3Q2qIQII")
MOST_TIMES = 64  # what is unpacked is at most so many times as large as the file,
LEAST_LIMIT_NBYTES = 64 << 20  # or of this size, where that is more
MEMORY_NBYTES = 256 << 20  # what is held in memory, where neither cache nor disk can be written

Data = Callable[[], Iterator[bytes]]


def limit_of(source: Source) -> int:
    """Return the most bytes that a file may unpack to: 64 times its size, but at least 64 MiB."""
    return max(MOST_TIMES * source.nbytes, LEAST_LIMIT_NBYTES)


def cached(source: Source, data: Data, nbytes: int, format: str, what: str = "data") -> Source:
    """Return a file of the ``nbytes`` bytes that ``data`` gives: the stored one, or a new one.

    Parameters
    ----------
    source : Source
        What they come from.
    data : callable
        Returns an iterator of bytes. Asked for one piece when something is stored, and for all when
        nothing is; again for each other place when one cannot be written.
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
    LimitError
        They are more than ``limit_of(source)``.
    OSError
        No place for them: not in the cache folder (``$MAPIX_CACHE_DIR``), not in the folder for
        temporary files (``$TMPDIR``), and they are too many for memory.
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
        # in a folder of others it may be another one by now
        found = _stored(place, source, data, nbytes)
        if found is None:
            raise PermissionError(errno.EPERM, "what lies there is not believed", place)
        return found
    except FileChangedError:
        raise
    except OSError as e:
        return _unnamed(source, data, nbytes, format, e)


def same(found: Source, data: Iterator[bytes], nbytes: int) -> bool:
    """Return whether a cached file begins with the ``nbytes`` bytes that ``data`` gives."""
    crc = done = 0
    for piece in data:
        crc = _native.crc32c(piece, crc) if piece else crc
        done += len(piece)
    return done == nbytes and found.nbytes >= nbytes and _sum(found, nbytes) == crc


def _unnamed(source: Source, data: Data, nbytes: int, format: str, why: OSError) -> Source:
    """The bytes in a file without a name: on disk, or in memory."""
    places = [_on_disk, _in_memory] if nbytes <= MEMORY_NBYTES else [_on_disk]
    for make in places:
        try:
            fd = make()
            try:
                with os.fdopen(fd, "wb", closefd=False) as f:
                    _fill(f, source, data, nbytes, format)
            except BaseException:
                os.close(fd)
                raise
            return Source.unnamed(fd, source.path, nbytes)
        except FileChangedError:
            raise
        except OSError:
            continue
    raise OSError(
        why.errno,
        f"no place for the {nbytes} bytes that it unpacks to: the cache folder {cache_folder()} "
        f"cannot be written ({why.strerror or why}), nor the folder for temporary files; set "
        "MAPIX_CACHE_DIR or TMPDIR to a folder with room",
        source.path,
    ) from why


def _on_disk() -> int:
    import tempfile  # here: much to import for what most processes never do

    with tempfile.TemporaryFile() as f:
        return os.dup(f.fileno())


def _in_memory() -> int:
    return os.memfd_create("mapix", os.MFD_CLOEXEC)


def _fill(f: Writing, source: Source, data: Data, nbytes: int, format: str) -> int:
    """Write all bytes; their CRC32C."""
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
    """CRC32C of the first bytes of a file."""
    crc = 0
    for at in range(0, nbytes, STEP):
        size = min(STEP, nbytes - at)
        crc = _native.crc32c(_native.copy(source.mapping, at, size, "cached bytes"), crc)
    return crc


def _identity(source: Source) -> tuple[int, ...]:
    """What tells the very file; zeros while its times do not tell of another write."""
    f = source.fingerprint
    return (0,) * 5 if racy_for(source) else (f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns)


def _trailer(source: Source, nbytes: int, made_of: int, crc: int) -> bytes:
    head = TRAILER.pack(MAGIC, *_identity(source), made_of, nbytes, crc, 0)[:-4]
    return head + struct.pack("<I", _native.crc32c(head))


def _stored(place: str, source: Source, data: Data, nbytes: int) -> Source | None:
    """The stored file, when it may be believed and was made of this content; else None."""
    if not os.access(place, os.F_OK):
        return None
    try:
        found = trusted(place, source)
        if found is None or found.nbytes != nbytes + TRAILER.size:
            return None
        trailer = bytes(_native.copy(found.mapping, nbytes, TRAILER.size, "cached bytes"))
        magic, *made_for, made_of, said, crc, own = TRAILER.unpack(trailer)
        if magic != MAGIC or said != nbytes or own != _native.crc32c(trailer[:-4]):
            return None
        f = source.fingerprint
        same = made_for == [f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns]
        if not same and made_of != _sum(source, source.nbytes):
            return None
        first = next((piece for piece in data() if piece), b"")[:nbytes]
        if _native.copy(found.mapping, 0, len(first), "cached bytes") != first:
            return None
        return found if _sum(found, nbytes) == crc else None
    except FileChangedError as e:
        if e.filename == source.path:
            raise
        return None
    except (OSError, MapixError):
        return None
