"""More rows for an IDX file that is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from mapix import _native
from mapix.errors import UnsupportedError
from mapix.formats.idx import NAME
from mapix.idx.opening import GZIP, header_of
from mapix.idx.writer import STEP, Writer
from mapix.source import Source
from mapix.store import SYSTEM, Calls

__all__ = ["Appender", "append"]


class Appender(Writer):
    """More rows for a file, all of them or none: a longer file takes its place when it is closed.

    Until then, and after a crash, the file is what it was, to every program: its header states how
    many rows there are, and no program reads a file that is longer or shorter than that.  So what
    is there is copied; append many rows at once rather than one at a time.  Who has the file open
    goes on reading the old one.

    Type, byte order and row shape stay; so do the permissions.  Labels in a file beside it are not
    touched: append to both.

    Parameters
    ----------
    path : str or os.PathLike
        The file; where it is a symbolic link, what that leads to.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    LockedError
        Another writer is at work on it.
    FormatError
        It is no whole IDX file.
    UnsupportedError
        It is compressed.

    Examples
    --------
    >>> with mapix.idx.Appender("train-images-idx3-ubyte") as out:     # doctest: +SKIP
    ...     out.extend(images)
    """

    def __init__(self, path: str | os.PathLike[str], *, calls: Calls = SYSTEM) -> None:
        path = os.path.realpath(path)
        before = Source(path)
        if bytes(_native.copy(before.mapping, 0, min(2, before.nbytes), NAME)) == GZIP:
            raise UnsupportedError(f"{path}: rows cannot be appended to a compressed file")
        self._header = header = header_of(before)
        row = header.shape[1:]
        super().__init__(
            path, np.dtype(header.code), row, byteorder=header.order, replace=True, calls=calls
        )
        try:
            # the lock is ours from here on: has another writer finished since we looked?
            self._before = Source(path, before.fingerprint)
            self._before.mapping.advise("sequential")
            mode = stat.S_IMODE(self._before.fingerprint.mode)
            for made in self._out.staged:
                os.chmod(made, mode)  # before anything is in them
        except BaseException:
            super().abort()
            raise
        self.nrows = header.shape[0]

    def _rows_before(self) -> Iterator[bytes | bytearray]:
        for at in range(self._header.nbytes, self._header.file_nbytes, STEP):
            size = min(STEP, self._header.file_nbytes - at)
            yield _native.copy(self._before.mapping, at, size, NAME)

    def _settled(self) -> None:
        """What it takes the place of is still there, and what it was."""
        Source(self._before.path, self._before.fingerprint).close()

    def close(self) -> None:
        """Let the longer file take the place of the old one.

        Raises
        ------
        FileChangedError
            Somebody has written to the old one meanwhile, who holds no lock; it stays.
        """
        if self.nrows == self._header.shape[0]:
            self.abort()
        else:
            super().close()
            self._before.close()

    def abort(self) -> None:
        """Leave the file as it was."""
        super().abort()
        self._before.close()


def append(path: str | os.PathLike[str], rows: ArrayLike) -> int:
    """Append rows, (n, *row shape), to an IDX file; how many it has then.  See ``Appender``."""
    with Appender(path) as out:
        out.extend(rows)
    return out.nrows
