"""The compiled core's functions for text files of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mapix._native.core import CData, ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Mapping

U64: TypeAlias = "NDArray[np.uint64]"
ODD: int = lib.MAPIX_JSONL_ODD
EVERYTHING = 2**64 - 1


class Lines:
    """State of a scan for the lines of a file: ``mapix_lines``."""

    __slots__ = ("_c",)

    def __init__(self, at: int = 0) -> None:
        self._c = ffi.new("mapix_lines *")
        self._c.at = self._c.begin = at

    def copy(self) -> Lines:
        """Return a scan that continues at the same place."""
        new = Lines()
        new._c[0] = self._c[0]
        return new

    @property
    def at(self) -> int:
        """Bytes scanned."""
        return int(self._c.at)

    @property
    def begin(self) -> int:
        """Begin of the line that contains ``at``; all lines before it were found."""
        return int(self._c.begin)

    @property
    def nlines(self) -> int:
        """Lines found, including blank ones."""
        return int(self._c.nlines)

    @property
    def nrecords(self) -> int:
        """Lines found that are not blank."""
        return int(self._c.nrecords)

    @property
    def longest(self) -> int:
        """Bytes of the longest line that is not blank, without its end."""
        return int(self._c.longest)

    def find(
        self, mapping: Mapping, stop_at: int, begins: U64 | None, numbers: U64 | None = None
    ) -> int:
        """Find lines; return how many were written to ``begins`` and ``numbers``.

        Without either, lines are only counted.
        """
        rooms = [len(a) for a in (begins, numbers) if a is not None]
        capacity = min(rooms, default=EVERYTHING)
        into = [ffi.NULL if a is None else _words(a) for a in (begins, numbers)]
        nwritten = ffi.new("uint64_t *")
        status = mapping.guarded(
            lambda m: lib.mapix_jsonl_lines(m, self._c, stop_at, *into, capacity, nwritten)
        )
        if status:
            from mapix._native.problems import problem

            where = (self.nrecords, self.at, 0, 0)
            raise problem(status, where, mapping.path, "jsonl")
        return int(nwritten[0])


def _words(array: U64) -> CData:
    return ffi.from_buffer("uint64_t[]", array, require_writable=True)


def hashes(
    mapping: Mapping, edges: U64, most_nbytes: int, seed: int, into: U64
) -> NDArray[np.uint8]:
    """Hash the names of files in lines that are JSON objects: ``mapix_jsonl_names``.

    Line k is ``edges[k]:edges[k + 1]``.  Hashes are written to ``into``, uint64 (n,); the result,
    uint8 (n,), is ODD of lines that the caller has to parse.
    """
    found = np.empty(len(into), np.uint8)
    begins, n = ffi.from_buffer("uint64_t[]", edges), len(into)
    out = _words(into), ffi.from_buffer("uint8_t[]", found, require_writable=True)
    status = mapping.guarded(lambda m: lib.mapix_jsonl_names(m, begins, n, most_nbytes, seed, *out))
    if status:
        from mapix._native.problems import problem

        raise problem(status, (0, int(edges[0]), 0, 0), mapping.path, "jsonl")
    return found
