"""The compiled core's functions for IID archives and boxes, one thin function per C function."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix._native import CData, core, problem
from mapix._native import _where as where_of
from mapix.errors import MapixError

if TYPE_CHECKING:
    from mapix.source import Mapping

__all__ = ["NONE", "Iid", "Tree", "pack"]

ffi, lib = core

FORMAT = "iid"
NONE = 0xFFFFFFFF  # ends a chain of keys

Keys = NDArray[np.uint32]
Boxes = NDArray[np.uint16]


def _read(kind: str, array: NDArray[Any]) -> CData:
    if not array.flags.c_contiguous:
        raise ValueError("the core needs contiguous arrays")
    return ffi.from_buffer(kind, array)


def _write(kind: str, array: NDArray[Any]) -> CData:
    return ffi.from_buffer(kind, array, require_writable=True)


class Iid:
    """A ``mapix_iid``: where the sections of an archive are."""

    __slots__ = ("_c", "nsegments")

    def __init__(
        self, nsegments: int, lut_at: int, iids: tuple[int, int], segs: tuple[int, int]
    ) -> None:
        self.nsegments = nsegments
        c = ffi.new("mapix_iid *")
        c.nsegments, c.lut_at = nsegments, lut_at
        c.iids_at, c.iids_nbytes = iids
        c.segs_at, c.segs_nbytes = segs
        self._c = c

    def _call(self, mapping: Mapping, fn: Any, *args: Any) -> None:
        where = ffi.new("mapix_where *")
        status = mapping.guarded(lambda m: int(fn(m, self._c, *args, where)))
        if status:
            raise problem(status, where_of(where), mapping.path, FORMAT)

    def columns(
        self, mapping: Mapping, first: int, boxes: Boxes | None, areas: Keys | None, n: int
    ) -> int:
        """``mapix_iid_columns``; how many headers are of the early layout."""
        swapped = ffi.new("uint64_t *")
        room = (ffi.NULL, ffi.NULL)
        if boxes is not None and areas is not None:
            room = (_write("uint16_t[]", boxes), _write("uint32_t[]", areas))
        self._call(mapping, lib.mapix_iid_columns, first, n, *room, swapped)
        return int(swapped[0])

    def masks(
        self,
        mapping: Mapping,
        keys: Keys,
        windows: Boxes,
        offsets: NDArray[np.uint64],
        out: NDArray[np.uint8],
    ) -> None:
        """``mapix_iid_masks``."""
        args = (_read("uint32_t[]", keys), _read("uint16_t[]", windows), len(keys))
        into = _write("uint8_t[]", out)
        offset = _read("uint64_t[]", offsets)
        self._call(mapping, lib.mapix_iid_masks, *args, offset, into, out.nbytes)

    def count(
        self, mapping: Mapping, keys: Keys, windows: Boxes, *, any: bool = False
    ) -> NDArray[np.uint32]:
        """``mapix_iid_count``."""
        counts = np.empty(len(keys), np.uint32)
        args = (_read("uint32_t[]", keys), _read("uint16_t[]", windows), len(keys), any)
        self._call(mapping, lib.mapix_iid_count, *args, _write("uint32_t[]", counts))
        return counts

    def shared(self, mapping: Mapping, a: Keys, b: Keys) -> NDArray[np.uint32]:
        """``mapix_iid_shared``."""
        counts = np.empty(len(a), np.uint32)
        args = (_read("uint32_t[]", a), _read("uint32_t[]", b), len(a))
        self._call(mapping, lib.mapix_iid_shared, *args, _write("uint32_t[]", counts))
        return counts

    def paint(
        self,
        mapping: Mapping,
        keys: Keys,
        values: NDArray[np.int32],
        window: Boxes,
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        """``mapix_iid_paint``."""
        args = (_read("uint32_t[]", keys), _read("int32_t[]", values), len(keys))
        deep = ffi.NULL if depth is None else _write("uint16_t[]", depth)
        into = _write("int32_t[]", labels)
        self._call(mapping, lib.mapix_iid_paint, *args, _read("uint16_t[]", window), into, deep)

    def combine(
        self, mapping: Mapping, keys: Keys, what: int, window: Boxes, canvas: NDArray[np.uint64]
    ) -> None:
        """``mapix_iid_combine``: 0 or, 1 and, 2 and not; ``canvas`` is (h, words)."""
        args = (_read("uint32_t[]", keys), len(keys), what, _read("uint16_t[]", window))
        into = _write("uint64_t[]", canvas)
        self._call(mapping, lib.mapix_iid_combine, *args, into, canvas.shape[1])

    def texts(self, mapping: Mapping, keys: Keys) -> list[tuple[bytes, bytes]]:
        """``mapix_iid_texts``: (domain, iid) of keys."""
        ends = np.empty(2 * len(keys), np.uint64)
        nbytes = ffi.new("uint64_t *")
        room = 64 * len(keys)
        for _ in range(2):
            out, where = bytearray(room), ffi.new("mapix_where *")
            args = (_read("uint32_t[]", keys), len(keys), _write("uint64_t[]", ends))
            into = (ffi.from_buffer("uint8_t[]", out, require_writable=True), room, nbytes)
            status = mapping.guarded(
                lambda m, a=args, i=into, w=where: int(lib.mapix_iid_texts(m, self._c, *a, *i, w))  # type: ignore[misc]
            )
            if status != lib.MAPIX_E_SHAPE:
                break
            room = int(nbytes[0])
        if status:
            raise problem(status, where_of(where), mapping.path, FORMAT)
        raw, cuts = bytes(out), ends.tolist()
        begins = [0, *cuts[1::2]]
        return [
            (raw[a:b], raw[b:c]) for a, b, c in zip(begins[:-1], cuts[::2], cuts[1::2], strict=True)
        ]

    def names(self, mapping: Mapping, seed: int) -> tuple[NDArray[np.uint64], Keys]:
        """``mapix_iid_names``: the table, and the next key with the same name of each."""
        nslots = 1 << (2 * self.nsegments + 1).bit_length()
        slots, chain = np.zeros(nslots, np.uint64), np.empty(self.nsegments, np.uint32)
        into = (_write("uint64_t[]", slots), nslots, _write("uint32_t[]", chain))

        def fresh(m: CData, *args: Any) -> int:
            slots.fill(0)  # once more, when a change turns out harmless
            return int(lib.mapix_iid_names(m, *args))

        self._call(mapping, fresh, seed, *into)
        return slots, chain

    def find(
        self,
        mapping: Mapping,
        seed: int,
        slots: NDArray[np.uint64],
        names: bytes | bytearray,
        ends: NDArray[np.uint64],
    ) -> NDArray[np.int64]:
        """``mapix_iid_find``: lowest key of each name, -1 without."""
        n = len(ends) // 2
        keys = np.empty(n, np.int64)
        table = (seed, _read("uint64_t[]", slots), len(slots))
        text = (ffi.from_buffer("uint8_t[]", names), _read("uint64_t[]", ends), n)
        self._call(mapping, lib.mapix_iid_find, *table, *text, _write("int64_t[]", keys))
        return keys


class _Room(threading.local):
    """Memory that packing works in, kept by each thread: making it costs more than packing."""

    def __init__(self) -> None:
        self.scratch = np.empty(0, np.uint32)
        self.room = np.empty(0, np.uint8)


_mine = _Room()


def pack(mask: NDArray[np.uint8], minr: int, minc: int) -> tuple[bytes, int, int]:
    """``mapix_iid_pack``: regions, area, number of regions."""
    h, w = mask.shape
    nscratch, nroom = int(lib.mapix_iid_scratch(h, w)), (h * w + 7) // 8 + 64
    if len(_mine.scratch) < nscratch:
        _mine.scratch = np.empty(nscratch, np.uint32)
    if len(_mine.room) < nroom:
        _mine.room = np.empty(nroom, np.uint8)
    scratch, room = _mine.scratch, _mine.room
    found = ffi.new("uint64_t *"), ffi.new("uint32_t *"), ffi.new("uint32_t *")
    source = _read("uint8_t[]", mask)
    work = _write("uint32_t[]", scratch)
    for _ in range(2):  # the first room is enough for one region, and for some
        status = lib.mapix_iid_pack(
            *(source, h, w, minr, minc, work),
            *(_write("uint8_t[]", room), len(room), *found),
        )
        nbytes = int(found[0][0])
        if not status or nbytes <= len(room):
            break
        room = _mine.room = np.empty(nbytes, np.uint8)
    if status:
        raise ValueError(f"a mask of {h} x {w} at ({minr}, {minc}) is too large for the format")
    return room[:nbytes].tobytes(), int(found[1][0]), int(found[2][0])


class Tree:
    """A packed tree over boxes, (n, 4) u16."""

    __slots__ = ("_at", "n", "nodes", "order")

    def __init__(self, boxes: Boxes) -> None:
        n = len(boxes)
        self.n = n
        self.nodes = np.empty((self.nodes_of(n), 64), np.uint16)
        self.order = np.empty(n, np.uint32)
        scratch = np.empty(2 * n, np.uint64)
        status = lib.mapix_tree_build(
            *(_read("uint16_t[]", boxes), n, _write("uint16_t[]", self.nodes)),
            *(_write("uint32_t[]", self.order), _write("uint64_t[]", scratch)),
        )
        if status:
            raise MapixError(f"a tree over {n} boxes: internal error, status {status}")
        self._keep()

    def _keep(self) -> None:
        nodes, order = _read("uint16_t[]", self.nodes), _read("uint32_t[]", self.order)
        self._at = (nodes, order, self.n)

    @staticmethod
    def nodes_of(n: int) -> int:
        """How many nodes a tree over n boxes has."""
        return int(lib.mapix_tree_nodes(n))

    @classmethod
    def known(cls, nodes: Boxes, order: Keys) -> Tree:
        """A tree that was made before, whose numbers are below n."""
        made = cls.__new__(cls)
        made.n, made.nodes, made.order = len(order), nodes, order
        made._keep()
        return made

    def search(self, window: Boxes) -> Keys:
        """``mapix_tree_search``: numbers of the boxes that share a pixel with a window."""
        room = 64
        count = ffi.new("uint64_t *")
        box = _read("uint16_t[]", window)
        while True:
            found = np.empty(room, np.uint32)
            lib.mapix_tree_search(*self._at, box, _write("uint32_t[]", found), room, count)
            if count[0] <= room:
                return found[: int(count[0])]
            room = int(count[0])

    def search_many(self, windows: Boxes) -> tuple[Keys, NDArray[np.uint32]]:
        """``mapix_tree_search_many``: numbers for all windows (n, 4), and how many each has."""
        n = len(windows)
        counts = np.empty(n, np.uint32)
        at, count = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        box, into = _read("uint16_t[]", windows), _write("uint32_t[]", counts)
        room, every = max(16 * n, 1 << 12), [np.empty(0, np.uint32)]
        while at[0] < n:
            found, before = np.empty(room, np.uint32), int(at[0])
            where = (_write("uint32_t[]", found), room, count, into)
            lib.mapix_tree_search_many(*self._at, box, n, at, *where)
            every.append(found[: int(count[0])])
            if at[0] == before:
                room *= 4
        return np.concatenate(every), counts

    def pairs(self) -> tuple[Keys, Keys]:
        """``mapix_tree_pairs``: all pairs a < b of boxes that share a pixel."""
        leaf, count = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        room = max(1 << 16, self.n)
        every: list[tuple[Keys, Keys]] = []
        while leaf[0] < self.n:
            a, b = np.empty(room, np.uint32), np.empty(room, np.uint32)
            into = (_write("uint32_t[]", a), _write("uint32_t[]", b), room, count)
            before = int(leaf[0])
            lib.mapix_tree_pairs(*self._at, leaf, *into)
            n = int(count[0])
            every.append((a[:n], b[:n]))
            if leaf[0] == before:  # one leaf alone has more than there was room for
                room *= 4
        if not every:
            return np.empty(0, np.uint32), np.empty(0, np.uint32)
        one, two = zip(*every, strict=True)
        return np.concatenate(one), np.concatenate(two)
