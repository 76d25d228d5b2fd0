"""An index after the last section of a file: boxes, areas, a tree over the boxes, and names.

The original ignores these bytes; ``docs/iid.md`` has their table.  An index is used only if its
checksum of header and lookup table fits the file, and each table only if its own checksum fits.
Otherwise the same tables are made from the segments.  Each table is read when it is first needed.

Of a remote object the checksums would need all bytes.  So the index is used if the sizes of all
sections fit, tree and names are searched where they lie, and what is found there is compared with
the segment itself.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import _native
from mapix._native.iid import name_hashes
from mapix._native.tree import Tree
from mapix.errors import FormatError
from mapix.iid.layout import HEAD, NAME, NAME_HEAD, Layout
from mapix.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Index", "front", "hashes_of", "pack", "read"]

MAGIC = b"MAPIXIID"
VERSION = 3  # version 2 has no table of names
UNNAMED_VERSION = 2
NAME_ROW = np.dtype([("hash", "<u8"), ("key", "<u4")])
FAN = 16  # children of a node
NEAR = 4  # a hash lies so many square roots of n around the place that it should have, mostly
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
    names : ndarray or None
        Hash and key of each name, ascending by both, ``NAME_ROW`` (n,); None of version 2, too.

    Notes
    -----
    Copies: each table, when it is first needed, because it is used outside the guard.
    """

    def __init__(
        self, source: Source, places: list[int], sums: tuple[int, ...], n: int, nnodes: int
    ) -> None:
        self._source, self._places, self._sums = source, places, sums
        self._n, self._nnodes = n, nnodes
        self.has_names = len(places) == len(("boxes", "areas", "nodes", "order", "names", "end"))

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

    @cached_property
    def names(self) -> NDArray[np.void] | None:
        """See the attributes."""
        found = self._table(4, "V12", self._n) if self.has_names else None
        return None if found is None else found.view(NAME_ROW)

    # --- searches that read little: of remote objects -------------------------------------------

    def search(self, box: NDArray[np.uint16]) -> NDArray[np.uint32]:
        """Return what ``Tree.search`` returns, by reading only the nodes that may have it.

        Raises
        ------
        FormatError
            The table of leaves names a segment that there is not.
        """
        minr, minc, maxr, maxc = box.tolist()
        counts: list[int] = []
        below = self._n
        while below > 1 or not counts:
            below = -(-below // FAN)
            counts.append(below)
        found = np.zeros(min(1, self._n), np.int64)  # the root
        for level in reversed(range(len(counts))):
            nodes = self._rows(2, found + sum(counts[:level]), np.dtype(("<u2", (4, FAN))))
            meets = (nodes[:, 0] < maxr) & (nodes[:, 2] > minr)
            meets &= (nodes[:, 1] < maxc) & (nodes[:, 3] > minc)
            at, child = np.nonzero(meets)
            found = found[at] * FAN + child
            found = found[found < (counts[level - 1] if level else self._n)]
        keys = self._rows(3, found, np.dtype("<u4"))
        if len(keys) and int(keys.max()) >= self._n:
            reason = f"the index names segment {int(keys.max())} of {self._n}"
            raise FormatError(self._source.path, NAME, reason, at=self._places[3])
        return keys

    def keys_of(self, name: int) -> NDArray[np.uint32]:
        """Return the keys of which the name has this hash, ascending; the caller compares names."""
        expected, near = name * self._n >> 64, NEAR * math.isqrt(self._n) + 1
        while True:
            first, end = max(0, expected - near), min(self._n, expected + near)
            rows = self._rows(4, np.arange(first, end), NAME_ROW)
            hashes = rows["hash"]
            below = first == 0 or (len(rows) and int(hashes[0]) < name)
            above = end == self._n or (len(rows) and int(hashes[-1]) > name)
            if below and above:
                keys: NDArray[np.uint32] = rows["key"][hashes == np.uint64(name)]
                return keys
            near *= FAN

    def _rows(self, k: int, numbers: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return rows of a table; those that are adjacent are read at once."""
        size, begin, mapping = dtype.itemsize, self._places[k], self._source.mapping
        spans = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else []
        if mapping.remote is not None:
            mapping.remote.ensure(begin + numbers * size, np.full(len(numbers), size))
        every = [
            _native.copy(mapping, begin + int(some[0]) * size, len(some) * size, NAME)
            for some in spans
        ]
        return np.frombuffer(b"".join(map(bytes, every)), dtype)


def _sum(raw: bytes | bytearray, before: int = 0) -> int:
    return _native.crc32c(raw, before) if raw else before


def _aligned(at: int) -> int:
    return at + -at % 8


def _places(start: int, n: int, nnodes: int, *, named: bool) -> list[int]:
    """Return the bytes at which the tables begin, and at which the last one ends."""
    found, at = [], start
    for nbytes in (8 * n, 4 * n, 128 * nnodes, 4 * n, *([NAME_ROW.itemsize * n] * named)):
        found.append(at)
        at = _aligned(at + nbytes)
    return [*found, at]


def pack(
    end: int,
    front_crc: int,
    boxes: NDArray[np.uint16],
    areas: NDArray[np.uint32],
    hashes: NDArray[np.uint64],
) -> Iterator[bytes]:
    """Yield the bytes of an index after byte ``end`` of an archive, padding first.

    ``hashes`` are those of the names: ``hashes_of``.
    """
    tree = Tree(boxes)
    names = np.empty(len(boxes), NAME_ROW)
    names["key"] = np.argsort(hashes, kind="stable")
    names["hash"] = hashes[names["key"]]
    start, n, nnodes = _aligned(end), len(boxes), len(tree.nodes)
    at, sums = start, []
    yield bytes(start - end)
    for table in (boxes, areas, tree.nodes, tree.order, names):
        raw = np.ascontiguousarray(table).tobytes()
        raw += bytes(_aligned(at + len(raw)) - at - len(raw))
        at += len(raw)
        sums.append(_sum(raw))
        yield raw
    fields = _FIELDS.pack(start, n, nnodes, front_crc, *sums)
    yield _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields


def hashes_of(lut: NDArray[np.void], section: bytes, begin: int) -> NDArray[np.uint64]:
    """Return the hashes of names.

    Parameters
    ----------
    lut : ndarray
        Rows of the lookup table, in the order of their names.
    section : bytes
        The names of these rows, one after the other, as the file has them.
    begin : int
        Where in the section of the file they begin.
    """
    data, at = np.frombuffer(section, np.uint8), lut["name_at"].astype(np.int64) - begin
    heads = at[:, None] + np.arange(NAME_HEAD.size)
    sizes = data[heads].view("<u4")[:, 1:].astype(np.uint64)
    text = np.delete(data, heads.reshape(-1)).tobytes()
    ends = np.cumsum(sizes.reshape(-1), dtype=np.uint64)
    return name_hashes(text or b"\0", ends, "name", 0)


def read(source: Source, layout: Layout) -> Index | None:
    """Return the index of an archive, or None without one, or with one of another file."""
    n, end = layout.nsegments, source.nbytes - FOOT_NBYTES
    if end < layout.end:
        return None
    foot = bytes(_native.copy(source.mapping, end, FOOT_NBYTES, NAME))
    magic, version, crc = _PREFIX.unpack_from(foot)
    if magic != MAGIC or crc != _native.crc32c(foot[_PREFIX.size :]):
        return None
    named = version == VERSION
    if not named and version != UNNAMED_VERSION:
        return None
    start, stated_n, nnodes, front_crc, *sums = _FIELDS.unpack_from(foot, _PREFIX.size)
    if (
        stated_n != n
        or start != _aligned(layout.end)
        or nnodes != Tree.nodes_of(n)
        or (not named and sums.pop() != 0)
    ):
        return None
    places = _places(start, n, nnodes, named=named)
    remote = source.mapping.remote is not None
    if places[-1] != end or (not remote and front_crc != front(source, layout)):
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
