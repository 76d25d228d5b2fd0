"""The compiled core's walks over VIMH files: they find the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mapix._native.core import ffi, lib, where_of
from mapix._native.records import ENTRY, ids_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix._native.core import CData, Where
    from mapix.source import Mapping

__all__ = ["Walk", "scratch"]


class Walk:
    """The state of a walk over a VIMH file: ``mapix_walk``."""

    __slots__ = ("_c",)

    def __init__(self, head_nbytes: int) -> None:
        self._c = ffi.new("mapix_walk *")
        self._c.head_nbytes = head_nbytes

    def start_behind(
        self, at: int, nrecords: int, ids: tuple[int, ...], *, ids_differ: bool
    ) -> None:
        """Continue after byte ``at``; records before it, and their label ids, are known."""
        self._c.at, self._c.nrecords, self._c.ids_differ = at, nrecords, ids_differ
        for i in ids:
            self._c.ids[i >> 6] |= 1 << (i & 63)

    @property
    def at(self) -> int:
        """Byte of the next record."""
        return int(self._c.at)

    @property
    def nrecords(self) -> int:
        """Records found so far."""
        return int(self._c.nrecords)

    @property
    def ids_differ(self) -> bool:
        """Whether two records of a run list their label ids differently."""
        return bool(self._c.ids_differ)

    @property
    def ids(self) -> tuple[int, ...]:
        """Label ids found so far, ascending."""
        return ids_of(self._c)

    @property
    def where(self) -> Where:
        """The record that the walk stopped at."""
        return where_of(self._c.where)

    def run(self, mapping: Mapping, stop_at: int) -> int:
        """Call ``mapix_vimh_run``; return the status."""
        return mapping.guarded(lambda m: lib.mapix_vimh_run(m, self._c, stop_at))

    def _entries(self, fn: Callable[..., int], mapping: Mapping, *args: CData) -> tuple[int, int]:
        nwritten = ffi.new("uint64_t *")
        status = mapping.guarded(lambda m: fn(m, self._c, *args, nwritten))
        return status, int(nwritten[0])

    def table(
        self,
        mapping: Mapping,
        stop_at: int,
        entries: NDArray[np.void],
        scratch: NDArray[np.void],
    ) -> tuple[int, int]:
        """Call ``mapix_vimh_table``; return the status and the number of entries written."""
        into, room = _entries_of(entries), _entries_of(scratch)
        return self._entries(lib.mapix_vimh_table, mapping, stop_at, into, len(entries), room)

    def hop(self, mapping: Mapping, stop_at: int, entries: NDArray[np.void]) -> tuple[int, int]:
        """Call ``mapix_vimh_hop``; return the status and the number of entries written."""
        into = _entries_of(entries)
        return self._entries(lib.mapix_vimh_hop, mapping, stop_at, into, len(entries))


def _entries_of(array: NDArray[np.void]) -> CData:
    return ffi.from_buffer("mapix_entry[]", array, require_writable=True)


def scratch() -> NDArray[np.void]:
    """Allocate the memory that ``Walk.table`` works in."""
    return np.empty(int(lib.mapix_scratch_entries()), ENTRY)
