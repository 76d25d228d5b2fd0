"""Append to a file so that no reader sees a part of it: see ``mapix.vimh.journal``."""

from __future__ import annotations

import contextlib
import os

from mapix.errors import ClosedError, FileChangedError, LockedError
from mapix.source import Source
from mapix.store import BUFFER_NBYTES, SYSTEM, Calls, Descriptor, NewFile
from mapix.vimh.journal import journal_of, packed, pending, tail

__all__ = ["Appending"]


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
        self._lock = Descriptor(calls, calls.reopen, self.path)
        try:
            try:
                calls.lock(self._lock.fd)
            except BlockingIOError as e:
                raise LockedError(f"{path}: another writer appends to it") from e
            self._confirm()
            self._recover()
            self.nbytes = calls.size(self._lock.fd)  #: committed
        except BaseException:
            self._lock.close()
            raise

    def _confirm(self) -> None:
        """Raise FileChangedError if the path means another file than the one that is locked."""
        if not self._calls.same(self._lock.fd, self.path):
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
        if self._lock.fd < 0:
            raise ClosedError(f"{self.path}: the writer is closed")
        if self._file is None:
            self._confirm()
            source = Source(self.path)
            state = packed(self.nbytes, tail(source, self.nbytes))
            source.close()
            try:
                journal = NewFile(journal_of(self.path), self._calls, self._buffer_nbytes)
                try:
                    journal.write(state)
                    journal.sync()
                finally:
                    journal.close()
                self._calls.fsync_directory(self._folder)
                held = Descriptor(self._calls, self._calls.append, self.path)
                self._file = NewFile(
                    *(self.path, self._calls, self._buffer_nbytes),
                    descriptor=held,
                    before=self.nbytes,
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
        if self._lock.fd < 0:
            return
        try:
            self.rollback()
        finally:
            try:  # noqa: SIM105  (suppress() allocates: without memory the lock would stay)
                self._lock.close()
            except OSError:  # what counts was synced before
                pass
