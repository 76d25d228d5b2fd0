"""An index behind the last section, which the original ignores: boxes, areas, and their tree.

=====  ======================================================================================
at     what, from the next multiple of 8 behind ``segs``
=====  ======================================================================================
0      u16 (n, 4) boxes; u32 (n,) areas; u16 (nodes, 64) tree; u32 (n,) its order; each begins at a
       multiple of 8
end    the last 48 bytes of the file: magic, u32 version, u32 CRC32C of what follows; u64 first byte
       of the index, u64 n, u64 nodes; u32 CRC32C of header and lookup table, u32 of the index
=====  ======================================================================================

It is believed only when all of that fits the archive; without it the same is made when it is asked
for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native_tree import Tree
from mapix.formats.iid import HEAD, NAME, Layout
from mapix.source import Source

__all__ = ["Index", "pack", "read"]

MAGIC = b"MAPIXIID"
VERSION = 1
_PREFIX = struct.Struct("<8sII")
_FIELDS = struct.Struct("<QQQII")
FOOT_NBYTES = _PREFIX.size + _FIELDS.size

Index = tuple[NDArray[np.uint16], NDArray[np.uint32], Tree]


def _up(at: int) -> int:
    return at + -at % 8


def _places(start: int, n: int, nnodes: int) -> list[int]:
    """Where the four tables begin, and the last one ends."""
    found, at = [], start
    for nbytes in (8 * n, 4 * n, 128 * nnodes, 4 * n):
        found.append(at)
        at = _up(at + nbytes)
    return [*found, at]


def pack(
    end: int, front_crc: int, boxes: NDArray[np.uint16], areas: NDArray[np.uint32]
) -> Iterator[bytes]:
    """The bytes of an index behind byte ``end`` of an archive, its padding before included."""
    tree = Tree(boxes)
    start, n, nnodes = _up(end), len(boxes), len(tree.nodes)
    crc, at = 0, start
    yield bytes(start - end)
    for table in (boxes, areas, tree.nodes, tree.order):
        raw = np.ascontiguousarray(table).tobytes()
        raw += bytes(_up(at + len(raw)) - at - len(raw))
        at += len(raw)
        crc = _native.crc32c(raw, crc) if raw else crc
        yield raw
    fields = _FIELDS.pack(start, n, nnodes, front_crc, crc)
    yield _PREFIX.pack(MAGIC, VERSION, _native.crc32c(fields)) + fields


def read(source: Source, layout: Layout) -> Index | None:
    """The index of an archive; None when there is none that can be believed."""
    n, end = layout.nsegments, source.nbytes - FOOT_NBYTES
    if end < layout.end:
        return None
    foot = bytes(_native.copy(source.mapping, end, FOOT_NBYTES, NAME))
    magic, version, crc = _PREFIX.unpack_from(foot)
    if magic != MAGIC or version != VERSION or crc != _native.crc32c(foot[_PREFIX.size :]):
        return None
    start, said_n, nnodes, front_crc, table_crc = _FIELDS.unpack_from(foot, _PREFIX.size)
    if said_n != n or start != _up(layout.end) or nnodes != Tree.nodes_of(n):
        return None
    places = _places(start, n, nnodes)
    if places[-1] != end or front_crc != front(source, layout):
        return None
    # A private copy: it is used outside the guard, for as long as the archive is open.
    raw = _native.copy(source.mapping, start, end - start, NAME)
    if (_native.crc32c(raw) if raw else 0) != table_crc:
        return None
    at = [p - start for p in places]
    boxes = np.frombuffer(raw, "<u2", 4 * n, at[0]).reshape(n, 4)
    areas = np.frombuffer(raw, "<u4", n, at[1])
    nodes = np.frombuffer(raw, "<u2", 64 * nnodes, at[2]).reshape(nnodes, 64)
    order = np.frombuffer(raw, "<u4", n, at[3])
    upright = (boxes[:, 0] <= boxes[:, 2]) & (boxes[:, 1] <= boxes[:, 3])
    if not upright.all() or (n and int(order.max()) >= n):
        return None
    boxes.flags.writeable = areas.flags.writeable = False
    return boxes, areas, Tree.known(nodes, order)


def front(source: Source, layout: Layout) -> int:
    """CRC32C of header and lookup table: what an index is made for."""
    crc = _native.crc32c(_native.copy(source.mapping, 0, HEAD.size, NAME))
    at, nbytes = layout.lut
    step = 1 << 24
    for begin in range(at, at + nbytes, step):
        size = min(step, at + nbytes - begin)
        crc = _native.crc32c(_native.copy(source.mapping, begin, size, NAME), crc)
    return crc
