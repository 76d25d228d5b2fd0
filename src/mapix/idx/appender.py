"""Appending rows to an IDX file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mapix import _native
from mapix.errors import UnsupportedError
from mapix.idx import gzipped
from mapix.idx.layout import NAME, Header
from mapix.idx.opening import header_of
from mapix.idx.writer import COPY_STEP_NBYTES, Writer
from mapix.source import Source
from mapix.store import SYSTEM, Calls, NewWhole, one_at_a_time

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Appender", "append"]


class Appender(Writer):
    """Append rows to a file: all of them or none.

    ``close`` replaces the file by a longer one.  Until then, and after a crash, every program reads
    the old file: no program reads an IDX file that is longer or shorter than its header states, so
    that a file cannot grow in place.  The appender copies the existing rows when it is made; append
    many rows at once rather than one at a time.  A process that has the file open continues to read
    the old one.

    The file is locked until the appender is closed.  Type, byte order, row shape and permissions
    stay.  A file of labels is not changed: append to both files.

    Parameters
    ----------
    path : str or os.PathLike
        The file; a symbolic link is followed.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    LockedError
        Another writer has locked the file.
    FormatError
        It is not a complete IDX file.
    UnsupportedError
        It is compressed.

    Examples
    --------
    >>> with mapix.idx.Appender("train-images-idx3-ubyte") as out:     # doctest: +SKIP
    ...     out.extend(images)
    """

    def __init__(self, path: str | os.PathLike[str], *, calls: Calls = SYSTEM) -> None:
        _opened(path)[0].close()  # an unsuitable file is refused before anything is written
        self._out = NewWhole(path, calls, replace=True)
        try:
            # the path is locked from here on: no other writer replaces the file
            self._before, header = _opened(self._out.path)
            self._out.ready = self._before.confirm
            self._copy(header)
        except BaseException:
            self._out.abort()
            raise

    def _copy(self, header: Header) -> None:
        mapping = self._before.mapping
        mapping.advise("sequential")
        self._nbefore = header.shape[0]
        self._hold(header.byteorder, header.code, header.shape)
        for at in range(0, header.file_nbytes, COPY_STEP_NBYTES):
            size = min(COPY_STEP_NBYTES, header.file_nbytes - at)
            self._out.write(_native.copy(mapping, at, size, NAME))

    @one_at_a_time
    def close(self) -> None:
        """Replace the old file by the longer one.

        Raises
        ------
        FileChangedError
            Another program has written to the old file meanwhile, or has replaced it; it stays.
        """
        if self.nrows == self._nbefore:
            self.abort()
            return
        try:
            super().close()
        finally:
            self._before.close()

    @one_at_a_time
    def abort(self) -> None:
        """Drop the new rows; the file stays as it was."""
        super().abort()
        self._before.close()


def _opened(path: str | os.PathLike[str]) -> tuple[Source, Header]:
    """Open a file, and return it with its header; a compressed one is refused."""
    source = Source(path)
    if bytes(_native.copy(source.mapping, 0, min(2, source.nbytes), NAME)) == gzipped.MAGIC:
        raise UnsupportedError(f"{path}: rows cannot be appended to a compressed file")
    return source, header_of(source)


def append(path: str | os.PathLike[str], rows: ArrayLike) -> int:
    """Append rows, ``(n, *row shape)``, to an IDX file; return its new number of rows.

    See ``Appender``.
    """
    with Appender(path) as out:
        out.extend(rows)
    return out.nrows
