"""The compiled core's gather over several files: ``mapix_joint``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix._native.core import CHANGED, CData, IntArray, ffi, lib, problem, where_of
from mapix._native.records import Table

if TYPE_CHECKING:
    from mapix.source import Mapping

__all__ = ["Joint"]


class Joint:
    """Tables of several files, without entries, whose records count as one sequence.

    Parameters
    ----------
    mappings, tables : sequence
        The files and their records; at least one.
    format : str
        The format, for error messages.
    """

    __slots__ = ("_format", "_keep", "_mappings", "_parts")

    def __init__(self, mappings: Sequence[Mapping], tables: Sequence[Table], format: str) -> None:
        self._mappings, self._format = list(mappings), format
        self._parts = ffi.new("mapix_part[]", len(tables))
        self._keep: list[object] = list(tables)
        begin = 0
        for part, mapping, table in zip(self._parts, mappings, tables, strict=True):
            part.map, part.table, part.begin = mapping.cmap, table.pointer, begin
            self._keep.append(mapping.cmap)
            begin += table.pointer.nrecords

    def gather(self, rows: IntArray, plan: CData) -> tuple[NDArray[np.int64], int]:
        """Call ``mapix_joint_gather``; ``plan`` is a ``mapix_gather``.

        Returns the numbers of the parts that were read, and the number of records that the kernel
        was asked for, if ``plan.probe`` is set.
        """
        n, nparts = len(rows), len(self._mappings)
        scratch = np.empty(n, np.uint32), np.empty(n, np.int64), np.empty(nparts, np.uint8)
        which, local, touched = (ffi.from_buffer(array) for array in scratch)
        joint, nasked, where = (
            ffi.new("mapix_joint *"),
            ffi.new("uint64_t *"),
            ffi.new("mapix_where *"),
        )
        joint.parts, joint.nparts = self._parts, nparts
        joint.which, joint.local = ffi.cast("uint32_t *", which), ffi.cast("int64_t *", local)
        joint.touched = ffi.cast("uint8_t *", touched)
        plan.nasked = nasked
        pointer = ffi.from_buffer("int64_t[]", rows)
        while status := lib.mapix_joint_gather(joint, pointer, n, plan, where):
            if status != CHANGED:
                path = self._mappings[joint.failed].path
                raise problem(status, where_of(where), path, self._format)
            for k in np.flatnonzero(scratch[2]).tolist():
                self._settle(k)
        return np.flatnonzero(scratch[2]), int(nasked[0])

    def _settle(self, k: int) -> None:
        """Accept a harmless change of a file, or raise FileChangedError."""
        mapping = self._mappings[k]
        mapping.guarded(lib.mapix_map_check)
        self._keep.append(mapping.cmap)  # other threads may use the one before
        self._parts[k].map = mapping.cmap
