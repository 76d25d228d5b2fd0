"""More rows for an IDX file that is there."""

from __future__ import annotations

import os

from numpy.typing import ArrayLike

from mapix import _native
from mapix.errors import UnsupportedError
from mapix.idx import gzipped
from mapix.idx.layout import NAME, Header
from mapix.idx.opening import header_of
from mapix.idx.writer import STEP, Writer
from mapix.source import Source
from mapix.store import SYSTEM, Calls, NewWhole

__all__ = ["Appender", "append"]


class Appender(Writer):
    """More rows for a file, all of them or none: a longer file takes its place when it is closed.

    Until then, and after a crash, the file is what it was, to every program: its header states how
    many rows there are, and no program reads a file that is longer or shorter than that.  So the
    rows that are there are copied, when the appender is made; append many rows at once rather than
    one at a time.  A process that has the file open goes on reading the old one.

    The file is locked until the appender is closed.  Type, byte order, row shape and permissions
    stay.  Labels in a file beside it are not touched: append to both.

    Parameters
    ----------
    path : str or os.PathLike
        The file; of a symbolic link, the file that it leads to.
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
        _opened(path)[0].close()  # refuses what cannot be appended to before anything is made
        self._out = NewWhole(path, calls, replace=True)
        try:
            # the path is locked from here on: no other writer replaces what is opened now
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
        self._hold(header.order, header.code, header.shape)
        for at in range(0, header.file_nbytes, STEP):
            size = min(STEP, header.file_nbytes - at)
            self._out.write(_native.copy(mapping, at, size, NAME))

    def close(self) -> None:
        """Let the longer file take the place of the old one.

        Raises
        ------
        FileChangedError
            Another program has written to the old one meanwhile, or has replaced it; it stays.
        """
        if self.nrows == self._nbefore:
            self.abort()
            return
        try:
            super().close()
        finally:
            self._before.close()

    def abort(self) -> None:
        """Leave the file as it was."""
        super().abort()
        self._before.close()


def _opened(path: str | os.PathLike[str]) -> tuple[Source, Header]:
    """Open a file that rows can be appended to."""
    source = Source(path)
    if bytes(_native.copy(source.mapping, 0, min(2, source.nbytes), NAME)) == gzipped.MAGIC:
        raise UnsupportedError(f"{path}: rows cannot be appended to a compressed file")
    return source, header_of(source)


def append(path: str | os.PathLike[str], rows: ArrayLike) -> int:
    """Append rows, (n, *row shape), to an IDX file; how many it has then.  See ``Appender``."""
    with Appender(path) as out:
        out.extend(rows)
    return out.nrows
