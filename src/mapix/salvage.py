"""Copy the intact stretches of a damaged file to a new one: what formats' ``repair`` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from mapix.errors import FormatError
from mapix.progress import shown
from mapix.source import Source
from mapix.store import NewWhole
from mapix.text import brief, counted

__all__ = ["Saved", "Stretches"]

STEP_NBYTES = 1 << 20  # copied at once


@dataclass(slots=True)
class Saved:
    """Result of ``repair`` of a file.

    Attributes
    ----------
    path : str
        The new file.
    nrecords, nbytes : int
        Records and bytes in it.
    lost : list of (int, int)
        Stretches of the old file, begin and end in bytes, that are not complete records.
    damaged : list of int
        Records left out because their checksum is wrong.
    """

    path: str
    nrecords: int
    nbytes: int
    lost: list[tuple[int, int]]
    damaged: list[int] = field(default_factory=list)

    __repr__ = brief

    @property
    def complete(self) -> bool:
        """Whether nothing was lost or left out."""
        return not self.lost and not self.damaged

    def __str__(self) -> str:
        held = f"{counted(self.nrecords, 'record')}, {counted(self.nbytes, 'byte')}"
        lines = [f"{self.path}: {held}"]
        lines += [f"  lost: bytes {a} to {b} ({counted(b - a, 'byte')})" for a, b in self.lost]
        lines += [f"  left out: record {i}, its checksum is wrong" for i in self.damaged]
        return "\n".join([*lines, "  nothing was lost"] if self.complete else lines)


class Stretches:
    """The stretches of a damaged file that are kept, in order.

    Parameters
    ----------
    source : Source
        The damaged file.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nrecords = 0
        self.damaged: list[int] = []
        self._kept: list[tuple[int, int]] = []

    def keep(self, begin: int, end: int, nrecords: int = 1) -> None:
        """Keep the bytes from ``begin`` to ``end``, which hold so many records."""
        self.nrecords += nrecords
        if begin == end:
            return
        if self._kept and self._kept[-1][1] == begin:
            begin, _ = self._kept.pop()
        self._kept.append((begin, end))

    def _lost(self) -> list[tuple[int, int]]:
        edges = [0, *(edge for stretch in self._kept for edge in stretch), self.source.nbytes]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def write(
        self,
        path: str | os.PathLike[str],
        format: str,
        *,
        tail: bytes = b"",
        progress: Callable[[int, int], object] | bool | None = None,
    ) -> Saved:
        """Write what is kept to a new file, and ``tail`` after it.

        Raises
        ------
        FormatError
            There is no record; nothing is written.
        FileExistsError
            There is something at ``path``.
        """
        if not self.nrecords:
            raise FormatError(self.source.path, format, "no complete record was found")
        progress = shown(progress, "copying records", "bytes")
        total = sum(end - begin for begin, end in self._kept)
        done = 0
        with NewWhole(path) as out:
            for begin, end in self._kept:
                for at in range(begin, end, STEP_NBYTES):
                    data = self.source.read(at, min(STEP_NBYTES, end - at))
                    out.write(data)
                    done += len(data)
                    if progress is not None:
                        progress(done, total)
            out.write(tail)
        return Saved(os.fspath(path), self.nrecords, total + len(tail), self._lost(), self.damaged)
