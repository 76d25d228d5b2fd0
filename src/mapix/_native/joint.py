"""The compiled core's gather over several files: ``mapix_joint``."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.core import CHANGED, CData, IntArray, address_of, ffi, lib, where_of
from mapix._native.records import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Mapping

__all__ = ["Joint", "JointPart"]

_ADDRESSES = struct.Struct("@QQQ")
PART = np.dtype([("map", "u8"), ("table", "u8"), ("begin", "u8")])
"""One file of a joint gather: ``mapix_part``."""

assert ffi.sizeof("mapix_part") == PART.itemsize == _ADDRESSES.size


class JointPart:
    """A file, and the table of its records, without entries: one part of a joint gather.

    Attributes
    ----------
    mapping : Mapping
        The file.
    cell : bytes
        A ``mapix_part`` that begins at record 0.
    """

    __slots__ = ("_cmaps", "_table", "cell", "mapping")

    def __init__(self, mapping: Mapping, table: Table) -> None:
        self.mapping, self._table = mapping, table
        self._cmaps: list[CData] = []
        self._describe()

    def _describe(self) -> None:
        cmap = self.mapping.cmap
        self._cmaps.append(cmap)  # other threads may use the one before
        self.cell = _ADDRESSES.pack(address_of(cmap), self._table.address, 0)

    def expect(self, rows: IntArray) -> None:
        """Request records of a remote object in the background; do nothing for a file."""
        if self.mapping.remote:
            self.mapping.remote.expect(*self._table.ranges(rows))

    def settle(self) -> int:
        """Accept a harmless change of the file, or raise FileChangedError.

        Returns
        -------
        int
            Address of the map.
        """
        self.mapping.guarded(lib.mapix_map_check)
        self._describe()
        return int(_ADDRESSES.unpack(self.cell)[0])


class Joint:
    """Files whose records count as one sequence.

    Parameters
    ----------
    parts : sequence of JointPart
        At least one.
    counts : ndarray
        int64: records of each.
    format : str
        The format, for error messages.
    """

    __slots__ = ("_cells", "_format", "_parts")

    def __init__(self, parts: Sequence[JointPart], counts: IntArray, format: str) -> None:
        self._parts, self._format = parts, format
        cells = np.frombuffer(bytearray(b"".join([part.cell for part in parts])), PART)
        cells["begin"] = np.cumsum(counts) - counts
        self._cells = cells

    def _over(self, rows: IntArray) -> tuple[CData, tuple[NDArray[Any], ...]]:
        """Return a ``mapix_joint`` for rows; and file, number there, and which files have a row."""
        n, nparts = len(rows), len(self._parts)
        scratch = np.empty(n, np.uint32), np.empty(n, np.int64), np.empty(nparts, np.uint8)
        which, local, touched = (ffi.from_buffer(array) for array in scratch)
        joint = ffi.new("mapix_joint *")
        joint.parts, joint.nparts = ffi.from_buffer("mapix_part[]", self._cells), nparts
        joint.which, joint.local = ffi.cast("uint32_t *", which), ffi.cast("int64_t *", local)
        joint.touched = ffi.cast("uint8_t *", touched)
        return joint, scratch

    def willneed(self, rows: IntArray, probe: int) -> int:
        """Have the kernel read records; return how many: ``mapix_joint_willneed``.

        Those of remote objects are requested in the background.
        """
        joint, (which, local, touched) = self._over(rows)
        nasked, where = ffi.new("uint64_t *"), ffi.new("mapix_where *")
        args = ffi.from_buffer("int64_t[]", rows), len(rows), probe, nasked, where
        status = lib.mapix_joint_willneed(joint, *args)
        if status:
            from mapix._native.problems import problem

            path = self._parts[joint.failed].mapping.path
            raise problem(status, where_of(where), path, self._format)
        for k in np.flatnonzero(touched).tolist():
            if self._parts[k].mapping.remote:
                self._parts[k].expect(local[which == k])
        return int(nasked[0])

    def gather(self, rows: IntArray, plan: CData) -> tuple[NDArray[np.int64], int]:
        """Call ``mapix_joint_gather``.

        Parameters
        ----------
        rows : ndarray
            int64: records, counted through all files.
        plan : CData
            A ``mapix_gather``: what is gathered, and to where.

        Returns
        -------
        tuple
            The numbers of the files that were read; and the number of records that the kernel was
            asked for, if ``plan.probe`` is set.
        """
        joint, scratch = self._over(rows)
        nasked, where = ffi.new("uint64_t *"), ffi.new("mapix_where *")
        plan.nasked = nasked
        pointer = ffi.from_buffer("int64_t[]", rows)
        while status := lib.mapix_joint_gather(joint, pointer, len(rows), plan, where):
            if status != CHANGED:
                from mapix._native.problems import problem

                path = self._parts[joint.failed].mapping.path
                raise problem(status, where_of(where), path, self._format)
            parts = np.flatnonzero(scratch[2]).tolist()
            for k in parts:  # all that is far away at once, before the first part is waited for
                self._parts[k].expect(scratch[1][scratch[0] == k])
            for k in parts:
                self._cells[k]["map"] = self._parts[k].settle()
        return np.flatnonzero(scratch[2]), int(nasked[0])
