"""An index after the last section of a file: boxes, areas, and a tree over the boxes.

The original ignores these bytes; ``docs/iid.md`` has their table.  An index is used only if its
checksum of header and lookup table fits the file, and each table only if its own checksum fits.
Otherwise the same tables are made from the segments.  Each table is read when it is first needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native.tree import Tree
from mapix.iid.layout import HEAD, NAME, Layout
from mapix.source import Source

__all__ = ["Index", "front", "pack", "read"]

MAGIC = b"MAPIXIID"
VERSION = 2
_PREFIX = struct.Struct("<8sII")
_FIELDS = struct.Struct("<QQQ6I")
FOOT_NBYTES = _PREFIX.size + _FIELDS.size

SUMMED_NBYTES = 1 << 16  # at once: they stay in the processor's cache


class Index:
    """The tables of an index that fits its archive; None instead of a table with a wrong checksum.

    Attributes
    ----------
    boxes : ndarray or None
        uint16 (n, 4): minr, minc, maxr, maxc, all ascending; read-only.
    areas : ndarray or None
        uint32 (n,), read-only.
    tree : Tree or None
        Over the boxes.

    Notes
    -----
    Copies: each table, when it is first needed, because it is used outside the guard.
    """

    def __init__(
        self, source: Source, places: list[int], sums: tuple[int, ...], n: int, nnodes: int
    ) -> None:
        self._source, self._places, self._sums = source, places, sums
        self._n, self._nnodes = n, nnodes

    def _table(self, k: int, kind: str, count: int) -> NDArray[Any] | None:
        at, end = self._places[k : k + 2]
        raw = _native.copy(self._source.mapping, at, end - at, NAME)
        if _sum(raw) != self._sums[k]:
            return None
        found = np.frombuffer(raw, kind, count)
        found.flags.writeable = False
        return found

    @cached_property
    def boxes(self) -> NDArray[np.uint16] | None:
        """See the attributes."""
        found = self._table(0, "<u2", 4 * self._n)
        boxes = None if found is None else found.reshape(self._n, 4)
        if boxes is None or not (boxes[:, :2] <= boxes[:, 2:]).all():
            return None
        return boxes

    @cached_property
    def areas(self) -> NDArray[np.uint32] | None:
        """See the attributes."""
        return self._table(1, "<u4", self._n)

    @cached_property
    def tree(self) -> Tree | None:
        """See the attributes."""
        nodes = self._table(2, "<u2", 64 * self._nnodes)
        order = self._table(3, "<u4", self._n)
        if nodes is None or order is None or (self._n and int(order.max()) >= self._n):
            return None
        return Tree.known(nodes.reshape(self._nnodes, 64), order)


def _sum(raw: bytes | bytearray, before: int = 0) -> int:
    return _native.crc32c(raw, before) if raw else before


def _aligned(at: int) -> int:
    return at + -at % 8


def _places(start: int, n: int, nnodes: int) -> list[int]:
    """Return the bytes at which the four tables begin, and at which the last one ends."""
    found, at = [], start
    for nbytes in (8 * n, 4 * n, 128 * nnodes, 4 * n):
        found.append(at)
        at = _aligned(at + nbytes)
    return [*found, at]


def pack(
    end: int, front_crc: int, boxes: NDArray[np.uint16], areas: NDArray[np.uint32]
) -> Iterator[bytes]:
    """Yield the bytes of an index after byte ``end`` of an archive, padding first."""
    tree = Tree(boxes)
    start, n, nnodes = _aligned(end), len(boxes), len(tree.nodes)
    at, sums = start, []
    yield bytes(start - end)
    for table in (boxes, areas, tree.nodes, tree.order):
        raw = np.ascontiguousarray(table).tobytes()
        raw += bytes(_aligned(at + len(raw)) - at - len(raw))
        at += len(raw)
        sums.append(_sum(raw))
        yield raw
    fields = _FIELDS.pack(start, n, nnodes, front_crc, *sums, 0)
    yield _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields


def read(source: Source, layout: Layout) -> Index | None:
    """Return the index of an archive, or None without one, or with one of another file."""
    n, end = layout.nsegments, source.nbytes - FOOT_NBYTES
    if end < layout.end:
        return None
    foot = bytes(_native.copy(source.mapping, end, FOOT_NBYTES, NAME))
    magic, version, crc = _PREFIX.unpack_from(foot)
    if magic != MAGIC or version != VERSION or crc != _native.crc32c(foot[_PREFIX.size :]):
        return None
    start, stated_n, nnodes, front_crc, *sums = _FIELDS.unpack_from(foot, _PREFIX.size)
    if (
        stated_n != n
        or start != _aligned(layout.end)
        or nnodes != Tree.nodes_of(n)
        or sums.pop() != 0
    ):
        return None
    places = _places(start, n, nnodes)
    if places[-1] != end or front_crc != front(source, layout):
        return None
    return Index(source, places, tuple(sums), n, nnodes)


def front(source: Source, layout: Layout) -> int:
    """Return the CRC32C of header and lookup table, which ties an index to its file."""
    crc = _native.crc32c(_native.copy(source.mapping, 0, HEAD.size, NAME))
    at, nbytes = layout.lut
    source.mapping.willneed(at, nbytes)
    for begin in range(at, at + nbytes, SUMMED_NBYTES):
        size = min(SUMMED_NBYTES, at + nbytes - begin)
        crc = _sum(_native.copy(source.mapping, begin, size, NAME), crc)
    return crc
