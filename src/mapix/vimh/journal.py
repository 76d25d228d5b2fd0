"""Appending to a file so that no reader sees a part of what is being appended.

Before the first new byte, a small journal beside the file states the length of the file, and a
checksum of its last bytes; it is on the disk before the file grows.  While it is there, bytes after
that length do not count.  To commit, the new bytes are brought to the disk, and the journal is
removed: that one step is what makes them count.  After a power cut a reader sees the old records or
the new ones, and the next writer cuts off what does not count.

The journal of ``train`` is ``.train.appending``: 8 bytes magic, u64 length, u32 CRC32C of the last
4096 bytes before that length, u32 CRC32C of the fields before; little-endian.
"""

from __future__ import annotations

import contextlib
import os
import struct

from mapix import _native
from mapix.errors import ClosedError, FileChangedError, LockedError, MapixError
from mapix.source import Fingerprint, Source, is_url, read_small
from mapix.store import BUFFER_NBYTES, SYSTEM, Calls, NewFile

__all__ = ["Appending", "counting", "journal_of", "pending", "settled"]

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


def _packed(length: int, tail: bytes | bytearray) -> bytes:
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


def _tail(source: Source, length: int) -> bytearray:
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
    return length if journal == _packed(length, _tail(source, length)) else None


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
    if is_url(path):  # nothing appends to an object
        return Source(path, expect) if ready is None else ready
    kept = journal_of(path)
    # It was open before this check, so what was committed until then made the file longer.
    if ready and pending(path, kept) is None and os.stat(path).st_size == ready.nbytes:
        return ready
    for _ in range(TRIES):
        before = pending(path, kept)
        source = Source(path, expect, before)
        after = pending(path, kept)
        # Committed in between: what the file was when it was opened may be a part of it.
        if before == after and (before is not None or os.stat(path).st_size == source.nbytes):
            break
    return source


class Appending:
    """Bytes that are being appended to a file.

    Parameters
    ----------
    path : str
        The file, which must exist.
    calls : Calls
        The operating system.
    buffer_nbytes : int
        Small writes are collected up to so many bytes.

    Raises
    ------
    LockedError
        Another writer appends to it.
    FileChangedError
        It was replaced by another file while it was being opened.
    OSError
        The file cannot be read, or the bytes of a writer that died cannot be cut off.
    """

    def __init__(
        self, path: str, calls: Calls = SYSTEM, *, buffer_nbytes: int = BUFFER_NBYTES
    ) -> None:
        self.path = os.path.abspath(path)
        self._folder = os.path.dirname(self.path)
        self._calls = calls
        self._buffer_nbytes = buffer_nbytes
        self._file: NewFile | None = None  # while something is being appended
        self._lock = calls.reopen(self.path)
        try:
            try:
                calls.lock(self._lock)
            except BlockingIOError as e:
                raise LockedError(f"{path}: another writer appends to it") from e
            self._confirm()
            self._recover()
            self.nbytes = calls.size(self._lock)  #: committed
        except BaseException:
            calls.close(self._lock)
            raise

    def _confirm(self) -> None:
        """Raise FileChangedError if the path means another file than the one that is locked."""
        if not self._calls.same(self._lock, self.path):
            reason = "the file was replaced by another one; open it again"
            raise FileChangedError(self.path, reason)

    def _recover(self) -> None:
        """Cut off the bytes of a writer that died."""
        journal = journal_of(self.path)
        if not os.path.lexists(journal):
            return
        length = pending(self.path)
        if length is not None:
            self._cut(length)
        self._calls.unlink(journal)
        self._calls.fsync_directory(self._folder)

    def _cut(self, length: int) -> None:
        fd = self._calls.append(self.path)
        try:
            self._calls.truncate(fd, length)
            self._calls.fsync(fd)
        finally:
            self._calls.close(fd)

    def _begin(self) -> NewFile:
        if self._lock < 0:
            raise ClosedError(f"{self.path}: the writer is closed")
        if self._file is None:
            self._confirm()
            source = Source(self.path)
            state = _packed(self.nbytes, _tail(source, self.nbytes))
            source.close()
            try:
                journal = NewFile(journal_of(self.path), self._calls, self._buffer_nbytes)
                try:
                    journal.write(state)
                    journal.sync()
                finally:
                    journal.close()
                self._calls.fsync_directory(self._folder)
                fd = self._calls.append(self.path)
                self._file = NewFile(
                    self.path, self._calls, self._buffer_nbytes, fd=fd, before=self.nbytes
                )
            except BaseException:
                with contextlib.suppress(OSError):
                    self._calls.unlink(journal_of(self.path))
                raise
        return self._file

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes, which count after ``commit``.

        When it fails, nothing of what was appended since the last commit remains.
        """
        file = self._begin()
        try:
            file.write(data)
        except BaseException:
            self.rollback()
            raise

    def commit(self) -> None:
        """Make the appended bytes count; after it returns they survive a power cut.

        When it fails, the file is what it was at the last commit.
        """
        file = self._file
        if file is None:
            return
        try:
            file.finish()
            self._calls.unlink(journal_of(self.path))
        except BaseException:
            self.rollback()
            raise
        self._file = None
        self.nbytes += file.nbytes
        self._calls.fsync_directory(self._folder)

    def rollback(self) -> None:
        """Cut off what was appended since the last commit."""
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):
            file.close()
        self._cut(self.nbytes)
        self._calls.unlink(journal_of(self.path))
        self._calls.fsync_directory(self._folder)

    def close(self) -> None:
        """Unlock the file; what was not committed is cut off."""
        if self._lock < 0:
            return
        try:
            self.rollback()
        finally:
            lock, self._lock = self._lock, -1
            with contextlib.suppress(OSError):  # what counts was synced before
                self._calls.close(lock)
