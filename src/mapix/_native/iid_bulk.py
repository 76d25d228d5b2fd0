"""Masks, overlaps and paintings of many segments of an archive, by the compiled core."""

from __future__ import annotations

from _thread import _local  # threading.local, without importing the rest of threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.core import CHANGED, CData, IntArray, address_of, ffi, lib, where_of
from mapix._native.tree import Boxes, Keys, Tree, read, write
from mapix.errors import MapixError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Needs, Source

__all__ = ["FORMAT", "ROW_NBYTES", "SEGMENTS_PER_CALL", "Bulk", "overlaps"]

FORMAT = "iid"
ROW_NBYTES = 20  # of the lookup table
ALL_NBYTES = 1 << 62
# A call of the core cannot be interrupted; Ctrl-C is handled between two calls.
SEGMENTS_PER_CALL = 1 << 16  # or windows
ROWS_PER_CALL = 256  # of a painting: a row of tiles
PAIRS_PER_SEGMENT = 4  # for which memory is allocated at first
CANVAS_NBYTES = 8 << 20  # for pixels of a segment, and of those that it is compared with
ROWS_NBYTES = 4 << 20  # rows of several regions as one bitmap; only pages that are written exist
AND = 1
PLACE = np.dtype([("at", "<u8"), ("box", "<u2", 4)])
LEAST_NBYTES = 1 << 12  # of memory for an answer


class _Canvas(_local):
    """A ``mapix_canvas`` per thread: zeros.  Only the pages that were written take memory."""

    def __init__(self) -> None:
        self.zeros: NDArray[np.uint64] | None = None
        self.c = ffi.new("mapix_canvas *")

    def take(self) -> CData:
        """Return the canvas; the caller gives it back after a call that succeeds."""
        words = np.zeros(ROWS_NBYTES // 8, np.uint64) if self.zeros is None else self.zeros
        self.zeros, self.words = None, words
        self.c.words, self.c.nwords = write("uint64_t[]", words), len(words)
        return self.c

    def give_back(self) -> None:
        """Cache the canvas for the next call: the core has set it to zeros again."""
        self.zeros = self.words


_canvas = _Canvas()


class Bulk:
    """Base class of ``Iid``: what is computed for many segments.

    ``mapix.iid.archive_base.Bits`` documents the methods.
    """

    __slots__ = ("_c", "_source", "nsegments")
    _c: CData
    _source: Source
    nsegments: int

    def _call(self, fn: Any, *args: Any, needs: Needs | None = None) -> None:
        mapping = self._source.mapping
        where = ffi.new("mapix_where *")
        status = mapping.guarded(lambda m: int(fn(m, self._c, *args, where)), needs)
        if status:
            from mapix._native.problems import problem

            raise problem(status, where_of(where), mapping.path, FORMAT)

    def _rows(self, keys: Keys) -> NDArray[np.uint32]:
        """Return rows of the lookup table, uint32 (n, 5), unchecked; without keys out of range."""
        from mapix._native.arrays import Array

        keys = keys[keys < self.nsegments]
        table = Array(at=self._c.lut_at, row_nbytes=ROW_NBYTES, nrows=self.nsegments)
        rows = np.empty((len(keys), ROW_NBYTES // 4), np.uint32)
        if len(keys):
            table.gather(self._source.mapping, keys.astype(np.int64), rows)
        return rows

    def segments(self, *keys: Keys, most: int = ALL_NBYTES) -> Needs:
        """Return the function that returns where segments lie, the first ``most`` bytes of each."""

        def found() -> tuple[IntArray, IntArray]:
            rows = self._rows(np.unique(np.concatenate(keys))).astype(np.int64)
            return int(self._c.segs_at) + rows[:, 3], np.minimum(rows[:, 4], most)

        return found

    def names_of(self, keys: Keys) -> Needs:
        """Return the function that returns where the names of segments lie."""

        def found() -> tuple[IntArray, IntArray]:
            rows = self._rows(keys).astype(np.int64)
            return int(self._c.iids_at) + rows[:, 1], rows[:, 2]

        return found

    def tables(self) -> tuple[IntArray, IntArray]:
        """Return where the lookup table and all names lie."""
        c = self._c
        at = np.array([c.lut_at, c.iids_at], np.int64)
        return at, np.array([ROW_NBYTES * self.nsegments, c.iids_nbytes], np.int64)

    def masks(
        self,
        keys: Keys,
        windows: Boxes,
        offsets: NDArray[np.uint64],
        out: NDArray[np.uint8],
    ) -> None:
        """Write masks within windows, back to back: ``mapix_iid_masks``."""
        args = (read("uint32_t[]", keys), read("uint16_t[]", windows), len(keys))
        into = write("uint8_t[]", out)
        offset = read("uint64_t[]", offsets)
        self._call(lib.mapix_iid_masks, *args, offset, into, out.nbytes, needs=self.segments(keys))

    def count(self, keys: Keys, windows: Boxes, *, any: bool = False) -> NDArray[np.uint32]:
        """Return the pixels within windows, or whether there is one: ``mapix_iid_count``."""
        counts = np.empty(len(keys), np.uint32)
        args = (read("uint32_t[]", keys), read("uint16_t[]", windows), len(keys), any)
        into = (_canvas.take(), write("uint32_t[]", counts))
        self._call(lib.mapix_iid_count, *args, *into, needs=self.segments(keys))
        _canvas.give_back()
        return counts

    def shared(self, a: Keys, b: Keys) -> NDArray[np.uint32]:
        """Return the pixels that pairs of segments share: ``mapix_iid_shared``."""
        counts = np.empty(len(a), np.uint32)
        args = (read("uint32_t[]", a), read("uint32_t[]", b), len(a))
        into = (_canvas.take(), write("uint32_t[]", counts))
        self._call(lib.mapix_iid_shared, *args, *into, needs=self.segments(a, b))
        _canvas.give_back()
        return counts

    def overlaps(
        self, keys: Keys, tree: Tree, most: int, most_work: int
    ) -> NDArray[np.uint32] | None:
        """Return key, higher key and shared pixels, uint32 (3, n): ``overlaps``."""
        return overlaps([self], np.zeros(1, np.int64), keys, tree, most, most_work)

    def paint(
        self,
        keys: Keys,
        values: NDArray[np.int32],
        boxes: Boxes,
        window: Boxes,
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        """Paint values into a window, the last of keys on top: ``mapix_iid_paint``."""
        p = ffi.new("mapix_iid_painting *")
        pointers: tuple[CData, ...] = (
            read("uint32_t[]", keys),
            read("int32_t[]", values),
            read("uint16_t[]", boxes),
        )
        pointers += (
            write("int32_t[]", labels),
            write("uint32_t[]", np.empty(8 * len(keys) + 8, np.uint32)),
        )
        p.keys, p.values, p.boxes, p.labels, p.scratch = pointers
        deep = ffi.NULL if depth is None else write("uint16_t[]", depth)
        p.depth, p.n, p.window = deep, len(keys), window.tolist()
        for begin in range(int(window[0]), int(window[2]), ROWS_PER_CALL):
            end = min(begin + ROWS_PER_CALL, int(window[2]))

            def fresh(m: CData, *args: Any, first: int = begin, end: int = end) -> int:
                if depth is not None:  # a harmless change of the file repeats the call
                    depth[first - int(window[0]) : end - int(window[0])] = 0
                return int(lib.mapix_iid_paint(m, *args))

            self._call(fresh, p, begin, end, needs=self.segments(keys))

    def combine(self, keys: Keys, what: int, window: Boxes, canvas: NDArray[np.uint64]) -> None:
        """Combine masks in a canvas (h, words) by or (0), and (1), and-not (2)."""
        args = (read("uint32_t[]", keys), len(keys), what, read("uint16_t[]", window))
        other = np.zeros_like(canvas) if what == AND else None

        def fresh(m: CData, *args: Any) -> int:
            if other is not None:
                other.fill(0)  # a harmless change of the file repeats the call
            return int(lib.mapix_iid_combine(m, *args))

        second = ffi.NULL if other is None else write("uint64_t[]", other)
        into = (write("uint64_t[]", canvas), second, canvas.shape[1])
        self._call(fresh, *args, *into, needs=self.segments(keys))

    def rle(self, keys: Keys, size: tuple[int, int], *, text: bool) -> list[str] | list[list[int]]:
        """Return COCO's counts of keys, as text or as numbers: ``mapix_iid_rle``."""
        n, room, found = len(keys), 96 * min(len(keys), SEGMENTS_PER_CALL) + LEAST_NBYTES, []
        ends, scratch = np.empty(n, np.uint64), np.empty(64 * (size[0] + 1), np.uint16)
        rows = np.zeros(size[0] + (size[0] + 63) // 64 + 1, np.uint64)
        done, cuts = ffi.new("uint64_t *"), write("uint64_t[]", ends)
        args = (*size, text, write("uint16_t[]", scratch), write("uint64_t[]", rows))
        while done[0] < n:
            out, first = np.empty(room, np.uint8), int(done[0])
            end = min(first + SEGMENTS_PER_CALL, n)

            def again(m: CData, *args: Any, first: int = first) -> int:
                done[0] = first  # a harmless change of the file repeats the call
                return int(lib.mapix_iid_rle(m, *args))

            into = (write("uint8_t[]", out), room, cuts, done)
            needs = self.segments(keys[first:end])
            self._call(again, read("uint32_t[]", keys), end, *args, *into, needs=needs)
            stops = ends[first : int(done[0])].tolist()
            raw: Any = out.tobytes().decode("latin-1") if text else out.view(np.uint32).tolist()
            unit = 1 if text else 4
            found += [
                raw[a // unit : b // unit] for a, b in zip([0, *stops[:-1]], stops, strict=False)
            ]
            if done[0] == first:
                room *= 4
        return found


class _Files:
    """The files of a ``mapix_iid_join``, and their maps."""

    def __init__(self, files: Sequence[Bulk], begins: NDArray[np.int64], ordered: Keys) -> None:
        self.files, self._begins, self._ordered = files, begins, ordered
        self.which = (np.searchsorted(begins, ordered, side="right") - 1).astype(np.uint32)
        self._maps = [file._source.mapping.cmap for file in files]
        from mapix._native.joint import PART

        self._cells = np.zeros(len(files), PART)
        self._cells["map"], self._cells["begin"] = [address_of(c) for c in self._maps], begins
        self._iids = ffi.new("mapix_iid[]", [file._c[0] for file in files])

    def places(self, ordered: Keys) -> NDArray[np.void]:
        """Return where the pixels of all segments are: ``mapix_iid_places``."""
        order = np.argsort(self.which, kind="stable")
        found, ends = np.empty(len(ordered), PLACE), np.cumsum(np.bincount(self.which))
        for k, end in enumerate(ends.tolist()):
            begin = int(ends[k - 1]) if k else 0
            for first in range(begin, end, SEGMENTS_PER_CALL):
                at = order[first : min(first + SEGMENTS_PER_CALL, end)]
                keys = (ordered[at] - self._begins[k]).astype(np.uint32)
                into = np.empty(len(at), PLACE)
                args = read("uint32_t[]", keys), len(at), write("mapix_place[]", into)
                file = self.files[k]
                file._call(lib.mapix_iid_places, *args, needs=file.segments(keys))
                found[at] = into
        return found

    def describe(self, join: CData) -> None:
        """Fill in the files of a join; one file is passed to each call."""
        if len(self.files) > 1:
            join.parts, join.nparts = ffi.from_buffer("mapix_part[]", self._cells), len(self.files)
            join.iids, join.which = self._iids, read("uint32_t[]", self.which)

    def call(self, join: CData, pairs: CData, kept: NDArray[np.uint64]) -> None:
        """Call ``mapix_iid_overlaps``; a harmless change of a file repeats the call."""
        state = pairs.leader, pairs.next_leaf, pairs.n, pairs.taken, pairs.work
        where = ffi.new("mapix_where *")
        while status := lib.mapix_iid_overlaps(self._maps[0], self.files[0]._c, join, pairs, where):
            failed = int(pairs.failed)
            mapping = self.files[failed]._source.mapping
            if status != CHANGED:
                from mapix._native.problems import problem

                raise problem(status, where_of(where), mapping.path, FORMAT)
            keys = self._ordered[self.which == failed] - self._begins[failed]
            needs = self.files[failed].segments(keys.astype(np.uint32))
            mapping.guarded(lib.mapix_map_check, needs)
            self._maps[failed] = mapping.cmap
            self._cells["map"][failed] = address_of(mapping.cmap)
            pairs.leader, pairs.next_leaf, pairs.n, pairs.taken, pairs.work = state
            kept.fill(0)


def overlaps(
    files: Sequence[Bulk],
    begins: NDArray[np.int64],
    keys: Keys,
    tree: Tree,
    most: int,
    most_work: int,
) -> NDArray[np.uint32] | None:
    """Return key, higher key and shared pixels of all pairs, uint32 (3, n): ``mapix_iid_overlaps``.

    Parameters
    ----------
    files : sequence of Bulk
        At least one.
    begins : ndarray
        int64: the key of the first segment of each file.
    keys : ndarray
        uint32: the segments that are compared.
    tree : Tree
        Over the boxes of ``keys``.
    most, most_work : int
        Pairs, and work, above which None is returned.
    """
    ordered, n = keys.take(tree.order), len(keys)
    every_file = _Files(files, begins, ordered)
    places = every_file.places(ordered)
    canvas, kept = np.empty(2 * CANVAS_NBYTES // 8, np.uint64), np.zeros(n, np.uint64)
    join, pairs = ffi.new("mapix_iid_join *"), ffi.new("mapix_iid_pairs *")
    join.nodes, join.order = read("uint16_t[]", tree.nodes), read("uint32_t[]", tree.order)
    join.keys = read("uint32_t[]", ordered)
    join.places, join.canvas = read("mapix_place[]", places), write("uint64_t[]", canvas)
    join.n, join.canvas_nwords, join.kept = n, len(canvas) // 2, write("uint64_t[]", kept)
    join.rows = _canvas.take()[0]
    every_file.describe(join)
    every: list[NDArray[np.uint32]] = []
    while pairs.leader < n:
        if pairs.n == pairs.capacity:
            if sum(map(len, every)) > most:
                return None
            more = min(max(SEGMENTS_PER_CALL, PAIRS_PER_SEGMENT * n), most + 1)
            every.append(np.empty((more, 3), np.uint32))
            pairs.pairs, pairs.capacity, pairs.n = write("uint32_t[]", every[-1]), more, 0
        every_file.call(join, pairs, kept)
        if pairs.work > most_work:
            return None
    _canvas.give_back()
    if every:
        every[-1] = every[-1][: int(pairs.n)]
    found = np.empty((3, sum(map(len, every))), np.uint32)
    lists = ffi.new("mapix_pair_list[]", [(read("uint32_t[]", v), len(v)) for v in every])
    scratch = np.empty(n + 1 + 2 * found.shape[1], np.uint64)
    args = (lists, len(every), read("uint32_t[]", keys), n, write("uint64_t[]", scratch))
    status = lib.mapix_pairs_sort(*args, write("uint32_t[]", found), found.shape[1])
    if status:
        raise MapixError(f"pairs of {n} segments: internal error, status {status}")
    return found
