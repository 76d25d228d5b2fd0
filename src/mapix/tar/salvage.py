"""Saving the complete records of damaged tar shards: ``repair``."""

from __future__ import annotations

import os
from collections.abc import Callable

from mapix.errors import FormatError, LimitError, TruncatedError
from mapix.salvage import Saved, Stretches
from mapix.source import Source
from mapix.tar.index import Scan
from mapix.tar.layout import BLOCK_NBYTES, NAME, is_header

__all__ = ["repair"]

STEP_NBYTES = 2048 * BLOCK_NBYTES  # searched at once
END = bytes(2 * BLOCK_NBYTES)


def repair(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], object] | bool | None = None,
) -> Saved:
    """Write the complete records of a damaged tar shard to a new one.

    The old file is not changed.  After a damaged header, the next block is searched that is a
    header.  The records on both sides of such a gap are left out, since they might have had more
    members; so is the last record of an archive that was cut in it.

    Parameters
    ----------
    source : str or os.PathLike
        The damaged archive.
    path : str or os.PathLike
        The new one, which must not exist yet.
    progress : callable or True, optional
        ``progress(bytes_done, bytes_total)``; True shows a bar.

    Raises
    ------
    FormatError
        There is no complete record; nothing is written.
    UnsupportedError
        A member is a sparse file.
    FileExistsError
        There is something at ``path``.
    """
    opened = Source(source)
    opened.mapping.advise("sequential")
    kept = Stretches(opened)
    begin: int | None = 0
    tail = END
    while begin is not None:
        records = _Records(opened)
        begin, ended = records.keep(begin, kept)
        if ended:
            tail = b""
    return kept.write(path, NAME, tail=tail, progress=progress)


class _Records(Scan):
    """The records up to the next damage, and where each begins."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.mapping)
        self.source = source
        self.starts: list[int] = []

    def _add(self, name: str, begin: int, size: int) -> None:
        before = len(self.keys)
        super()._add(name, begin, size)
        if len(self.keys) > before:
            self.starts.append(self.end)

    def keep(self, begin: int, kept: Stretches) -> tuple[int | None, bool]:
        """Keep the complete records from ``begin`` on, which is after a gap if it is above 0.

        Return where to go on, and whether the end of the archive was reached.
        """
        more, ended = None, False
        try:
            self.run(begin)
        except TruncatedError:
            pass
        except (FormatError, LimitError):
            more = self._next_header(self.end + BLOCK_NBYTES)
            del self.keys[-1:]
        else:
            ended = True
        first = min(1 if begin else 0, len(self.keys))
        edges = [*self.starts, self.end]
        if begin:
            begin = edges[first]
        kept.keep(begin, edges[len(self.keys)], len(self.keys) - first)
        if ended:
            kept.keep(self.end, self.nbytes, 0)
        return more, ended

    def _next_header(self, begin: int) -> int | None:
        for at in range(begin, self.nbytes, STEP_NBYTES):
            data = self.source.read(at, min(STEP_NBYTES, self.nbytes - at))
            for k in range(0, len(data), BLOCK_NBYTES):
                if is_header(data[k : k + BLOCK_NBYTES]):
                    return at + k
        return None
