"""IID archives: one thin function per function of the compiled core.

Rows, names, and calls for one segment or window; ``iid_bulk`` has those for many segments.
"""

from __future__ import annotations

from _thread import _local  # threading.local, without importing the rest of threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.core import (
    CData,
    IntArray,
    address_of,
    ffi,
    lib,
    where_of,
)
from mapix._native.iid_bulk import FORMAT, ROW_NBYTES, SEGMENTS_PER_CALL, Bulk
from mapix._native.tree import Boxes, Keys, Tree, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mapix.source import Source

__all__ = [
    "FUNCTIONS",
    "NONE",
    "PACKING",
    "Iid",
    "NameTable",
    "RegionTree",
    "array_at",
    "check_regions",
    "name_hashes",
    "outlines",
    "pack",
    "polygon_crossings",
    "rle_box",
    "rle_counts",
    "rle_mask",
]


PARTS = {"name": lib.MAPIX_NAME, "iid": lib.MAPIX_NAME_IID, "domain": lib.MAPIX_NAME_DOMAIN}
NONE = 0xFFFFFFFF  # ends a chain of keys
HEAD_NBYTES = 16  # of a segment
SMALL_MASK_PIXELS = 1 << 14  # masks up to this size are packed in the thread's workspace: 0.5 MB
WIDE_NBYTES = 4  # per pixel, in masks of more values than a byte has
OUTLINE_SIDE, OUTLINE_POINTS = 256, 1 << 12  # of masks whose outlines fit the workspace
ROOM_NBYTES = 64  # for a name, at first
WORKSPACE_KEYS = 1 << 12  # keys, or bytes of a name, in the workspace


class _Workspace(_local):
    """Memory for calls, one per thread: to allocate it costs more than the call itself."""

    def __init__(self) -> None:
        self.where = ffi.new("mapix_where *")
        self.key = ffi.new("uint32_t *")
        self.box = ffi.new("uint16_t[4]")
        self.numbers = ffi.new("uint64_t[4]")
        self.signed = ffi.new("int64_t *")
        self.pair = ffi.new("uint32_t[2]")
        self.nscratch = int(lib.mapix_iid_scratch(SMALL_MASK_PIXELS))
        self.make_room(WORKSPACE_KEYS)
        self.found = np.empty(WORKSPACE_KEYS, np.uint32)
        self.hits = (
            self.box,
            ffi.new("uint64_t[3]"),  # next window, size of the answer, hits
            write("uint32_t[]", self.found),
            ffi.new("uint32_t *"),
            self.where,
        )

    @cached_property
    def scratch(self) -> CData:
        """Memory to pack small masks in."""
        return ffi.new("uint32_t[]", self.nscratch)

    def make_room(self, nbytes: int) -> None:
        """Allocate bytes for results."""
        self.text = memoryview(bytearray(nbytes))
        self.into = ffi.from_buffer("uint8_t[]", self.text, require_writable=True)


_workspace = _Workspace()


class NameTable:
    """A hash table of names: its slots, and for each key the next key of the same name.

    Attributes
    ----------
    numbers : (int, int, int, int)
        Its seed, the address and number of its slots, and the address of the chain.
    """

    __slots__ = ("_slots", "c", "chain", "numbers")

    def __init__(self, seed: int, slots: NDArray[np.uint64], chain: Keys) -> None:
        self.c = seed, read("uint64_t[]", slots), len(slots)
        self._slots, self.chain = slots, chain
        self.numbers = (seed, address_of(self.c[1]), len(slots), array_at(chain))


class Iid(Bulk):
    """A ``mapix_iid``: the file of an archive, and the places of its sections."""

    __slots__ = ()

    def __init__(
        self,
        source: Source,
        nsegments: int,
        lut_at: int,
        iids: tuple[int, int],
        segs: tuple[int, int],
    ) -> None:
        self._source = source
        self.nsegments = nsegments
        c = ffi.new("mapix_iid *")
        c.nsegments, c.lut_at = nsegments, lut_at
        c.iids_at, c.iids_nbytes = iids
        c.segs_at, c.segs_nbytes = segs
        self._c = c

    def columns(
        self, first: int, boxes: Boxes | None, areas: Keys | None, n: int
    ) -> tuple[int, int, int]:
        """Read boxes and areas; return counts of early headers, bytes of names, bytes of segments.

        ``mapix_iid_columns``.
        """
        totals = ffi.new("uint64_t[3]")
        room = (ffi.NULL, ffi.NULL)
        if boxes is not None and areas is not None:
            room = (write("uint16_t[]", boxes), write("uint32_t[]", areas))

        def needs() -> tuple[IntArray, IntArray]:
            if boxes is None:
                at = int(self._c.lut_at) + ROW_NBYTES * first
                return np.array([at]), np.array([ROW_NBYTES * n])
            return self.segments(np.arange(first, first + n, dtype=np.uint32), most=HEAD_NBYTES)()

        self._call(lib.mapix_iid_columns, first, n, *room, totals, needs=needs)
        return int(totals[0]), int(totals[1]), int(totals[2])

    @property
    def address(self) -> int:
        """The address of the ``mapix_iid``."""
        return address_of(self._c)

    # --- one segment, in the workspace of the thread; on an error the call for many raises --------

    def head(self, key: int) -> tuple[tuple[int, int, int, int], int]:
        """Return box and area of a segment, from its header."""
        mine, mapping = _workspace, self._source.mapping
        box, area = mine.box, mine.key
        args = (self._c, key, 1, box, area, mine.numbers, mine.where)
        if lib.mapix_iid_columns(mapping.cmap, *args):
            self.columns(key, None, None, 1)
            boxes, areas = np.empty((1, 4), np.uint16), np.empty(1, np.uint32)
            self.columns(key, boxes, areas, 1)
            minr, minc, maxr, maxc = boxes[0].tolist()
            return (minr, minc, maxr, maxc), int(areas[0])
        return (box[0], box[1], box[2], box[3]), area[0]

    def mask(self, key: int, box: tuple[int, int, int, int], out: NDArray[np.bool_]) -> None:
        """Write the mask of a segment within a box to ``out``, which is (h, w)."""
        mine, mapping = _workspace, self._source.mapping
        window, offsets = mine.box, mine.numbers
        mine.key[0] = key
        window[0], window[1], window[2], window[3] = box
        offsets[0], offsets[1] = 0, out.nbytes
        flat = ffi.from_buffer("uint8_t[]", out, require_writable=True)
        args = (self._c, mine.key, window, 1, offsets, flat, out.nbytes, mine.where)
        if lib.mapix_iid_masks(mapping.cmap, *args):
            keys, windows = np.array([key], np.uint32), np.array([box], np.uint16)
            cuts = np.array([0, out.nbytes], np.uint64)
            self.masks(keys, windows, cuts, out.reshape(-1).view(np.uint8))

    def text(self, key: int) -> tuple[bytes, bytes]:
        """Return (domain, iid) of a segment."""
        mine, mapping = _workspace, self._source.mapping
        mine.key[0] = key
        ends = mine.numbers
        args = (self._c, mine.key, 1, ends, mine.into, len(mine.text), ends + 2, mine.where)
        if lib.mapix_iid_texts(mapping.cmap, *args):
            return self.texts(np.array([key], np.uint32))[0]
        cut, end = ends[0], ends[1]
        return bytes(mine.text[:cut]), bytes(mine.text[cut:end])

    def texts(
        self, keys: Keys, check: Callable[[], object] | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Return (domain, iid) of keys: ``mapix_iid_texts``.

        ``check`` is called before memory for names of more than 64 bytes, on average, is allocated.
        """
        mapping = self._source.mapping
        ends = np.empty(2 * len(keys), np.uint64)
        nbytes = ffi.new("uint64_t *")
        room = ROOM_NBYTES * len(keys)
        for _ in range(2):
            out, where = bytearray(room), ffi.new("mapix_where *")
            args = (read("uint32_t[]", keys), len(keys), write("uint64_t[]", ends))
            into = (ffi.from_buffer("uint8_t[]", out, require_writable=True), room, nbytes)
            status = mapping.guarded(
                lambda m, a=args, i=into, w=where: int(lib.mapix_iid_texts(m, self._c, *a, *i, w)),  # type: ignore[misc]
                self.names_of(keys),
            )
            if status != lib.MAPIX_E_SHAPE:
                break
            room = int(nbytes[0])
            if check is not None:
                check()
        if status:
            from mapix._native.problems import problem

            raise problem(status, where_of(where), mapping.path, FORMAT)
        raw, cuts = bytes(out), ends.tolist()
        begins = [0, *cuts[1::2]]
        return [
            (raw[a:b], raw[b:c]) for a, b, c in zip(begins[:-1], cuts[::2], cuts[1::2], strict=True)
        ]

    def names(self, seed: int) -> NameTable:
        """Return a table of all names: ``mapix_iid_names``."""
        nslots = 1 << (2 * self.nsegments + 1).bit_length()
        slots, chain = np.zeros(nslots, np.uint64), np.empty(self.nsegments, np.uint32)
        table = NameTable(seed, slots, chain)

        def fresh(m: CData, *args: Any) -> int:
            slots.fill(0)  # a harmless change of the file repeats the call
            return int(lib.mapix_iid_names(m, *args))

        self._call(fresh, *table.c, write("uint32_t[]", chain), needs=self.tables)
        return table

    def hashes(self, part: str, seed: int) -> NDArray[np.uint64]:
        """Return a hash of each name, or of its iid or domain alone: ``mapix_iid_hashes``."""
        found = np.empty(self.nsegments, np.uint64)
        for first in range(0, self.nsegments, SEGMENTS_PER_CALL):
            into = found[first : first + SEGMENTS_PER_CALL]
            out = write("uint64_t[]", into)
            self._call(
                lib.mapix_iid_hashes, first, len(into), PARTS[part], seed, out, needs=self.tables
            )
        return found

    def find_one(self, table: NameTable, domain: bytes, iid: bytes) -> int:
        """Return the lowest key of a name, or -1."""
        mine, mapping = _workspace, self._source.mapping
        ends, found = mine.numbers, mine.signed
        ends[0] = len(domain)
        ends[1] = len(domain) + len(iid)
        args = (self._c, *table.c, domain + iid, ends, 1, found, mine.where)
        if lib.mapix_iid_find(mapping.cmap, *args):
            both = np.array([ends[0], ends[1]], np.uint64)
            return int(self.find(table, domain + iid + b"\0", both)[0])
        return int(found[0])

    def find(
        self, table: NameTable, names: bytes | bytearray, ends: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Return the lowest key of each name, or -1: ``mapix_iid_find``."""
        n = len(ends) // 2
        keys = np.empty(n, np.int64)
        text = (ffi.from_buffer("uint8_t[]", names), read("uint64_t[]", ends), n)
        self._call(lib.mapix_iid_find, *table.c, *text, write("int64_t[]", keys))
        return keys


def name_hashes(text: bytes, ends: NDArray[np.uint64], part: str, seed: int) -> NDArray[np.uint64]:
    """Return the hashes of names, as ``Iid.find`` takes them: ``mapix_name_hashes``."""
    found = np.empty(len(ends) // 2, np.uint64)
    names = (ffi.from_buffer("uint8_t[]", text), read("uint64_t[]", ends), len(found))
    if lib.mapix_name_hashes(*names, PARTS[part], seed, write("uint64_t[]", found)):
        raise ValueError("ends of names that descend")
    return found


def pack(mask: NDArray[Any], minr: int, minc: int) -> tuple[bytes, int, int]:
    """Pack a mask, uint8 or uint32 (h, w); return its regions, area and number of regions.

    ``mapix_iid_pack``.
    """
    h, w = mask.shape
    wide = mask.dtype.itemsize == WIDE_NBYTES
    mine, source = _workspace, read("uint8_t[]", mask)
    scratch, nscratch = mine.scratch, mine.nscratch
    if max(h, h * w) > SMALL_MASK_PIXELS:  # memory of the size that this call needs
        nruns = ffi.new("uint64_t *")
        if not lib.mapix_iid_runs(source, wide, h, w, nruns):
            nscratch = int(lib.mapix_iid_scratch(nruns[0]))
            scratch = ffi.new("uint32_t[]", nscratch)
    numbers, counts = mine.numbers, mine.pair
    into, room = mine.into, len(mine.text)
    for _ in range(2):  # the workspace is large enough for most masks
        args = (source, wide, h, w, minr, minc, scratch, nscratch, into, room)
        status = lib.mapix_iid_pack(*args, numbers, counts, counts + 1)
        nbytes = int(numbers[0])
        if not status or nbytes <= room:
            break
        if nbytes <= SMALL_MASK_PIXELS:
            mine.make_room(nbytes)
            into, room = mine.into, nbytes
        else:
            into, room = ffi.new("uint8_t[]", nbytes), nbytes
    if status:
        raise ValueError(f"a mask of {h} x {w} at ({minr}, {minc}) is too large for the format")
    return bytes(ffi.buffer(into, nbytes)), counts[0], counts[1]


class _Outlines(_local):
    """Memory for the outlines of small masks, one per thread."""

    def __init__(self) -> None:
        self.points = np.empty((OUTLINE_POINTS, 2), np.int32)
        self.ends = np.empty(OUTLINE_POINTS, np.uint32)
        self.counts = ffi.new("mapix_outline_counts *")
        nscratch = int(lib.mapix_outlines_scratch(OUTLINE_SIDE, OUTLINE_SIDE, OUTLINE_POINTS))
        into = write("int32_t[]", self.points), write("uint32_t[]", self.ends), OUTLINE_POINTS
        self.into = (ffi.new("uint64_t[]", nscratch), *into, self.counts)


_outlines = _Outlines()


def outlines(
    mask: NDArray[np.bool_], at: tuple[int, int], most_sides: int
) -> list[NDArray[np.int32]] | None:
    """Return the rings of a mask (h, w), each (n, 2); None if they have more sides than that.

    ``mapix_outlines``; rings come in raster order of their first corners.
    """
    h, w = mask.shape
    mine, source = _outlines, ffi.from_buffer("uint8_t[]", mask)
    into, points, ends, counts = mine.into, mine.points, mine.ends, mine.counts
    small = max(h, w) <= OUTLINE_SIDE
    args = (source, h, w, *at, most_sides)
    status = lib.mapix_outlines(*args, *into) if small else lib.MAPIX_E_SHAPE
    if status == lib.MAPIX_E_SHAPE:  # a corner is the beginning of a side, and so is a ring
        points, ends = np.empty((most_sides, 2), np.int32), np.empty(most_sides, np.uint32)
        scratch = np.empty(lib.mapix_outlines_scratch(h, w, most_sides), np.uint64)
        room = write("int32_t[]", points), write("uint32_t[]", ends), most_sides
        status = lib.mapix_outlines(*args, write("uint64_t[]", scratch), *room, counts)
    if status:
        return None
    found = points[: counts.npoints].copy()
    if counts.nrings < 2:
        return [found] if counts.nrings else []
    cuts = ends[: counts.nrings].tolist()
    rings = [found[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
    if counts.nsplit:
        rings.sort(key=lambda ring: (int(ring[0, 1]), int(ring[0, 0])))
    return rings


def check_regions(regions: bytes, box: tuple[int, int, int, int]) -> None:
    """Check regions of a segment of a box: ``mapix_iid_regions``.

    Raises
    ------
    ValueError
        The bytes are not such regions.
    """
    where = ffi.new("mapix_where *")
    sides = ffi.new("uint16_t[4]", box)
    status = lib.mapix_iid_regions(
        ffi.from_buffer("uint8_t[]", regions), len(regions), sides, where
    )
    if status:
        from mapix._native.problems import iid_reason

        reason = iid_reason(status, where_of(where))
        raise ValueError(f"bits: {reason}, at byte {where.at} of {len(regions)}")


def rle_counts(text: bytes) -> Keys | None:
    """Return the counts in compressed text, or None if it is not valid: ``mapix_rle_counts``."""
    n = ffi.new("uint64_t *")
    runs = np.empty(len(text) + 1, np.uint32)
    raw = ffi.from_buffer("uint8_t[]", text)
    if lib.mapix_rle_counts(raw, len(text), write("uint32_t[]", runs), n):
        return None
    return runs[: int(n[0])]


def rle_box(runs: Keys, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the tight box of the ones, or None if the sum is wrong: ``mapix_rle_box``."""
    box = ffi.new("uint16_t[4]")
    if lib.mapix_rle_box(read("uint32_t[]", runs), len(runs), *size, box):
        return None
    return box[0], box[1], box[2], box[3]


def rle_mask(runs: Keys, h: int, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Return the mask, within its box, of an image h pixels high: ``mapix_rle_mask``."""
    mask = np.empty((box[2] - box[0], box[3] - box[1]), np.bool_)
    into = ffi.from_buffer("uint8_t[]", mask, require_writable=True)
    sides = ffi.new("uint16_t[4]", box)
    if lib.mapix_rle_mask(read("uint32_t[]", runs), len(runs), h, sides, into):
        raise ValueError(f"run lengths with ones outside {box}")
    return mask


def polygon_crossings(
    corners: NDArray[np.float64], size: tuple[int, int], limit: int
) -> Keys | None:
    """Return where a polygon, float64 (n, 2), crosses the middles of columns, in any order.

    A crossing is column * h + row.  None if there are more than ``limit``, or a corner is not a
    number of at most 1e8: ``mapix_polygon_crossings``.
    """
    n, xy = ffi.new("uint64_t *"), ffi.from_buffer("double[]", corners)
    room = min(limit, WORKSPACE_KEYS)
    for _ in range(2):
        places = np.empty(room, np.uint32)
        if lib.mapix_polygon_crossings(
            xy, len(corners), *size, write("uint32_t[]", places), room, n
        ):
            return None
        found = int(n[0])
        if found <= room:
            return places[:found]
        if found > limit:
            return None
        room = found
    return None


def array_at(array: NDArray[Any]) -> int:
    """Return the address of an array; it keeps nothing alive."""
    return address_of(ffi.from_buffer(array))


class RegionTree:
    """A tree over the regions of all segments, for exact queries by pixel: ``mapix_parts``."""

    __slots__ = ("_arrays", "_c", "_iid", "_source")

    def __init__(self, iid: Iid, boxes: Boxes, leaves: NDArray[np.uint64]) -> None:
        tree = Tree(boxes)
        leaves = leaves.take(tree.order)
        self._iid, self._source = iid, iid._source
        self._c = ffi.new("mapix_parts *")
        self._c.nodes, self._c.leaves = read("uint16_t[]", tree.nodes), read("uint64_t[]", leaves)
        self._c.n = tree.n
        self._arrays = tree.nodes, leaves  # the pointers do not hold them

    @property
    def address(self) -> int:
        """The address of the ``mapix_parts``."""
        return address_of(self._c)

    @classmethod
    def of(cls, iid: Iid, limit: int) -> RegionTree | None:
        """Return the tree of all regions, or None if there are more than ``limit``."""
        n, room = iid.nsegments, min(limit, iid.nsegments + (iid.nsegments >> 1) + WORKSPACE_KEYS)
        boxes, leaves = np.empty((room, 4), np.uint16), np.empty(room, np.uint64)
        key, more = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        have = 0
        while key[0] < n:
            before, first = int(key[0]), int(key[0])
            into = (write("uint16_t[]", boxes[have:]), write("uint64_t[]", leaves[have:]))

            def again(m: CData, *args: Any, first: int = first) -> int:
                key[0] = first  # a harmless change of the file repeats the call
                return int(lib.mapix_iid_parts(m, *args))

            end = min(before + SEGMENTS_PER_CALL, n)
            needs = iid.segments(np.arange(before, end, dtype=np.uint32))
            iid._call(again, key, end, *into, room - have, more, needs=needs)
            have += int(more[0])
            if key[0] < end:
                if room == limit:
                    return None
                room = min(limit, 2 * room)
                boxes, leaves = (
                    np.concatenate([v[:have], np.empty((room - have, *v.shape[1:]), v.dtype)])
                    for v in (boxes, leaves)
                )
        return cls(iid, boxes[:have].copy(), leaves[:have])

    def hits(self, box: tuple[int, int, int, int]) -> Keys:
        """Return the keys with a pixel in one window, ascending: ``mapix_iid_hits``."""
        mapping = self._source.mapping
        window, at, found, count, where = _workspace.hits
        window[0], window[1], window[2], window[3] = box
        at[0] = 0
        args = (self._iid._c, self._c, window, 1, at, found, WORKSPACE_KEYS, at + 2, count, where)
        if HITS(mapping.cmap, *args) or not at[0]:
            return self.many(np.array([box], np.uint16))[0]
        return _workspace.found[: count[0]].copy()

    def many(self, windows: Boxes) -> tuple[Keys, NDArray[np.uint32]]:
        """Return the keys in each of windows (n, 4), and the count of each: ``mapix_iid_hits``."""
        n = len(windows)
        counts = np.empty(n, np.uint32)
        at, more = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        box, into = read("uint16_t[]", windows), write("uint32_t[]", counts)
        room, every = max(64 * min(n, SEGMENTS_PER_CALL), WORKSPACE_KEYS), [np.empty(0, np.uint32)]
        while at[0] < n:
            found, before = np.empty(room, np.uint32), int(at[0])
            end = min(before + SEGMENTS_PER_CALL, n)

            def again(m: CData, *args: Any, first: int = before) -> int:
                at[0] = first
                return int(HITS(m, *args))

            where = (write("uint32_t[]", found), room, more, into)
            self._iid._call(again, self._c, box, end, at, *where)
            every.append(found[: int(more[0])])
            if at[0] == before:
                room *= 4
        return np.concatenate(every), counts


HITS = lib.mapix_iid_hits
FUNCTIONS = tuple(
    address_of(ffi.addressof(lib, f"mapix_{name}"))
    for name in ("iid_columns", "iid_texts", "iid_own_mask", "iid_find", "iid_hits", "name_hashes")
)
"""Addresses of functions, as ``SegmentFile._attach`` takes them."""
PACKING = (
    address_of(ffi.addressof(lib, "mapix_iid_pack")),
    int(lib.mapix_iid_scratch(SMALL_MASK_PIXELS)),
)
"""Address and words of scratch, as ``SegmentBuffer`` takes them."""
