"""The compiled core's functions for many segments of an archive: masks, overlaps, paintings."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix._native.core import CData, ffi, lib, problem, where_of
from mapix._native.tree import Boxes, Keys, Tree, read, write

if TYPE_CHECKING:
    from mapix.source import Mapping

__all__ = ["FORMAT", "STEP", "Bulk"]

FORMAT = "iid"
STEP = 1 << 16  # segments or windows looked at between two looks at Ctrl-C
BAND = 256  # rows painted between two looks at Ctrl-C: a row of tiles
PAIRS_A_SEGMENT = 4  # that share pixels: what is room for at once
CANVAS_NBYTES = 8 << 20  # of a segment of several regions that are put together to be compared
ROWS_NBYTES = 4 << 20  # of rows that several regions are put together in; used as far as written
AND = 1
SEVERAL = 0xFFFFFFFFFFFFFFFF
PLACE = np.dtype([("at", "<u8"), ("box", "<u2", 4)])
ROOM = 1 << 12  # bytes that any answer has room for


class _Canvas(threading.local):
    """A ``mapix_canvas`` of each thread: zeros, of which memory is only what was written."""

    def __init__(self) -> None:
        self.kept: NDArray[np.uint64] | None = None
        self.c = ffi.new("mapix_canvas *")

    def take(self) -> CData:
        """The canvas; to be kept only by a call that succeeds."""
        words = np.zeros(ROWS_NBYTES // 8, np.uint64) if self.kept is None else self.kept
        self.kept, self.words = None, words
        self.c.words, self.c.nwords = write("uint64_t[]", words), len(words)
        return self.c

    def keep(self) -> None:
        """It is zeros again."""
        self.kept = self.words


_canvas = _Canvas()


class Bulk:
    """What ``Iid`` inherits: a ``mapix_iid`` and what is done with many of its segments."""

    __slots__ = ("_c", "nsegments")
    _c: CData
    nsegments: int

    def _call(self, mapping: Mapping, fn: Any, *args: Any) -> None:
        where = ffi.new("mapix_where *")
        status = mapping.guarded(lambda m: int(fn(m, self._c, *args, where)))
        if status:
            raise problem(status, where_of(where), mapping.path, FORMAT)

    def masks(
        self,
        mapping: Mapping,
        keys: Keys,
        windows: Boxes,
        offsets: NDArray[np.uint64],
        out: NDArray[np.uint8],
    ) -> None:
        """``mapix_iid_masks``."""
        args = (read("uint32_t[]", keys), read("uint16_t[]", windows), len(keys))
        into = write("uint8_t[]", out)
        offset = read("uint64_t[]", offsets)
        self._call(mapping, lib.mapix_iid_masks, *args, offset, into, out.nbytes)

    def count(
        self, mapping: Mapping, keys: Keys, windows: Boxes, *, any: bool = False
    ) -> NDArray[np.uint32]:
        """``mapix_iid_count``."""
        counts = np.empty(len(keys), np.uint32)
        args = (read("uint32_t[]", keys), read("uint16_t[]", windows), len(keys), any)
        into = (_canvas.take(), write("uint32_t[]", counts))
        self._call(mapping, lib.mapix_iid_count, *args, *into)
        _canvas.keep()
        return counts

    def shared(self, mapping: Mapping, a: Keys, b: Keys) -> NDArray[np.uint32]:
        """``mapix_iid_shared``."""
        counts = np.empty(len(a), np.uint32)
        args = (read("uint32_t[]", a), read("uint32_t[]", b), len(a))
        into = (_canvas.take(), write("uint32_t[]", counts))
        self._call(mapping, lib.mapix_iid_shared, *args, *into)
        _canvas.keep()
        return counts

    def overlaps(
        self, mapping: Mapping, keys: Keys, tree: Tree, most: int, most_work: int
    ) -> NDArray[np.uint32] | None:
        """``mapix_iid_overlaps``: key, higher key, pixels (n, 3).

        None of more than ``most`` pairs, or when more than ``most_work`` was done.
        """
        ordered, n = keys[tree.order], len(keys)
        places, several = np.empty(n, PLACE), False
        for at in range(0, n, STEP):
            part, into = ordered[at : at + STEP], places[at : at + STEP]
            args = (read("uint32_t[]", part), len(part), write("mapix_place[]", into))
            self._call(mapping, lib.mapix_iid_places, *args)
            several = several or bool((into["at"] == SEVERAL).any())
        canvas = np.empty(2 * CANVAS_NBYTES if several else 2, np.uint8)
        join, pairs = ffi.new("mapix_iid_join *"), ffi.new("mapix_iid_pairs *")
        nodes, sorted_keys = read("uint16_t[]", tree.nodes), read("uint32_t[]", ordered)
        where, room = read("mapix_place[]", places), write("uint8_t[]", canvas)
        join.nodes, join.keys, join.places, join.canvas = nodes, sorted_keys, where, room
        join.n, join.canvas_nbytes = n, len(canvas) // 2
        join.rows = _canvas.take()[0]
        every: list[NDArray[np.uint32]] = []
        while pairs.leader < n:
            if pairs.n == pairs.room:
                if sum(map(len, every)) > most:
                    return None
                more = min(max(STEP, PAIRS_A_SEGMENT * n), most + 1)
                every.append(np.empty((more, 3), np.uint32))
                into = write("uint32_t[]", every[-1])
                pairs.pairs, pairs.room, pairs.n = into, len(every[-1]), 0
            state = pairs.leader, pairs.behind, pairs.n

            def again(m: CData, *args: Any, state: tuple[int, int, int] = state) -> int:
                pairs.leader, pairs.behind, pairs.n = state  # when a change turns out harmless
                return int(lib.mapix_iid_overlaps(m, *args))

            self._call(mapping, again, join, pairs)
            if pairs.work > most_work:
                return None
        _canvas.keep()
        if every:
            every[-1] = every[-1][: int(pairs.n)]
        found = np.concatenate([np.empty((0, 3), np.uint32), *every])
        into, scratch = (write("uint32_t[]", v) for v in (found, np.empty_like(found)))
        lib.mapix_pairs_sort(into, scratch, len(found), self.nsegments)
        return found

    def paint(
        self,
        mapping: Mapping,
        keys: Keys,
        values: NDArray[np.int32],
        boxes: Boxes,
        window: Boxes,
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        """``mapix_iid_paint``: the last of keys on top; labels and depth are the window's."""
        p = ffi.new("mapix_iid_painting *")
        kept: tuple[CData, ...] = (
            read("uint32_t[]", keys),
            read("int32_t[]", values),
            read("uint16_t[]", boxes),
        )
        kept += (
            write("int32_t[]", labels),
            write("uint32_t[]", np.empty(8 * len(keys) + 8, np.uint32)),
        )
        p.keys, p.values, p.boxes, p.labels, p.scratch = kept
        deep = ffi.NULL if depth is None else write("uint16_t[]", depth)
        p.depth, p.n, p.window = deep, len(keys), window.tolist()
        for begin in range(int(window[0]), int(window[2]), BAND):
            end = min(begin + BAND, int(window[2]))

            def fresh(m: CData, *args: Any, first: int = begin, end: int = end) -> int:
                if depth is not None:  # counted once more, when a change turns out harmless
                    depth[first - int(window[0]) : end - int(window[0])] = 0
                return int(lib.mapix_iid_paint(m, *args))

            self._call(mapping, fresh, p, begin, end)

    def combine(
        self, mapping: Mapping, keys: Keys, what: int, window: Boxes, canvas: NDArray[np.uint64]
    ) -> None:
        """``mapix_iid_combine``: 0 or, 1 and, 2 and not; ``canvas`` is (h, words)."""
        args = (read("uint32_t[]", keys), len(keys), what, read("uint16_t[]", window))
        other = np.zeros_like(canvas) if what == AND else None

        def fresh(m: CData, *args: Any) -> int:
            if other is not None:
                other.fill(0)  # once more, when a change turns out harmless
            return int(lib.mapix_iid_combine(m, *args))

        second = ffi.NULL if other is None else write("uint64_t[]", other)
        into = (write("uint64_t[]", canvas), second, canvas.shape[1])
        self._call(mapping, fresh, *args, *into)

    def rle(
        self, mapping: Mapping, keys: Keys, size: tuple[int, int], *, text: bool
    ) -> list[str] | list[list[int]]:
        """``mapix_iid_rle``: COCO's counts of keys, as text or as numbers."""
        n, room, found = len(keys), 96 * min(len(keys), STEP) + ROOM, []
        ends, scratch = np.empty(n, np.uint64), np.empty(64 * (size[0] + 1), np.uint16)
        rows = np.zeros(size[0] + (size[0] + 63) // 64 + 1, np.uint64)
        done, cuts = ffi.new("uint64_t *"), write("uint64_t[]", ends)
        args = (*size, text, write("uint16_t[]", scratch), write("uint64_t[]", rows))
        while done[0] < n:
            out, first = np.empty(room, np.uint8), int(done[0])
            end = min(first + STEP, n)

            def again(m: CData, *args: Any, first: int = first) -> int:
                done[0] = first  # when a change turns out harmless
                return int(lib.mapix_iid_rle(m, *args))

            into = (write("uint8_t[]", out), room, cuts, done)
            self._call(mapping, again, read("uint32_t[]", keys), end, *args, *into)
            stops = ends[first : int(done[0])].tolist()
            raw: Any = out.tobytes().decode("latin-1") if text else out.view(np.uint32).tolist()
            unit = 1 if text else 4
            found += [
                raw[a // unit : b // unit] for a, b in zip([0, *stops[:-1]], stops, strict=False)
            ]
            if done[0] == first:
                room *= 4
        return found
