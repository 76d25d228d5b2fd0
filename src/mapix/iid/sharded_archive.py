"""Several archives as one: the keys of each continue those of the one before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix._native.tree import Tree
from mapix.iid.archive import Archive
from mapix.iid.argument_checks import Box, Keys, Text
from mapix.iid.groups import Group, Groups
from mapix.iid.segment import Segment
from mapix.plans import PART_NBYTES, Map, mapped
from mapix.report import Report

if TYPE_CHECKING:
    from mapix.iid.names import Pair
    from mapix.iid.segment_file import SegmentFile
    from mapix.iid.single_archive import SingleArchive
    from mapix.source import Fingerprint

__all__ = ["ShardedArchive", "join"]

PAIRS_PER_STEP = 1 << 18  # pairs of segments compared between two checks for Ctrl-C
COMPARED_PIXELS = 1 << 22  # of two masks, at once
BOXES_PER_PAIR = 4  # pairs of boxes that meet, per pair of segments that may be found
MOST_DEPTH = 65535  # of a painting
NS_PER_PAIR = 32  # time to compare two segments, about, besides 1/8 ns per pixel


class _Shards:
    """The parts of an archive, and the first key of each."""

    def __init__(self, parts: Sequence[SingleArchive]) -> None:
        self.parts = tuple(parts)
        counts = [len(part) for part in parts]
        self.begins = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)

    def __iter__(self) -> Iterator[tuple[SingleArchive, int]]:
        return zip(self.parts, self.begins.tolist(), strict=True)

    def place(self, keys: Keys) -> tuple[NDArray[np.int64], Keys]:
        """Return the number of each key's part, and its key in the part."""
        part = np.searchsorted(self.begins, keys, side="right") - 1
        return part, (keys - self.begins[part]).astype(np.uint32)

    def runs(self, keys: Keys) -> Iterator[tuple[SingleArchive, Keys, slice]]:
        """Yield stretches of keys of one part, in order: the part, keys in it, and the stretch."""
        part, inner = self.place(keys)
        edges = np.flatnonzero(np.diff(part)) + 1
        for begin, end in zip([0, *edges], [*edges, len(keys)], strict=True):
            if end > begin:
                run = slice(int(begin), int(end))
                yield self.parts[part[begin]], np.ascontiguousarray(inner[run]), run

    def by_part(self, keys: Keys) -> Iterator[tuple[SingleArchive, Keys, NDArray[np.int64]]]:
        """Yield each part that has some of the keys, keys in it, and positions among the keys."""
        part, inner = self.place(keys)
        for k in np.unique(part).tolist():
            at = np.flatnonzero(part == k)
            yield self.parts[k], np.ascontiguousarray(inner[at]), at

    def collected(self, ask: Callable[[SingleArchive], Keys]) -> Keys:
        """Return the keys that each part gives, as keys of all, in the order of the parts."""
        found = [ask(part).astype(np.int64) + begin for part, begin in self]
        return np.concatenate(found).astype(np.uint32)


class _ShardedBits:
    """``archive_base.Bits`` of several archives."""

    def __init__(self, shards: _Shards) -> None:
        self._shards = shards

    def masks(
        self,
        keys: Keys,
        windows: NDArray[np.uint16],
        offsets: NDArray[np.uint64],
        out: NDArray[np.uint8],
    ) -> None:
        for part, inner, run in self._shards.runs(keys):
            cuts = offsets[run.start : run.stop + 1]
            room = out[int(cuts[0]) : int(cuts[-1])]
            window = np.ascontiguousarray(windows[run])
            part._bits.masks(inner, window, cuts - cuts[0], room)

    def count(self, keys: Keys, windows: NDArray[np.uint16], *, any: bool = False) -> Keys:
        found = np.empty(len(keys), np.uint32)
        for part, inner, at in self._shards.by_part(keys):
            found[at] = part._bits.count(inner, np.ascontiguousarray(windows[at]), any=any)
        return found

    def shared(self, a: Keys, b: Keys) -> Keys:
        found = np.zeros(len(a), np.uint32)
        part_a, in_a = self._shards.place(a)
        part_b, in_b = self._shards.place(b)
        parts = self._shards.parts
        for k, m in np.unique(np.stack([part_a, part_b], axis=1), axis=0).tolist():
            at = np.flatnonzero((part_a == k) & (part_b == m))
            one, two = np.ascontiguousarray(in_a[at]), np.ascontiguousarray(in_b[at])
            if k == m:
                found[at] = parts[k]._bits.shared(one, two)
            else:
                found[at] = _shared_masks(parts[k], one, parts[m], two)
        return found

    def overlaps(self, keys: Keys, tree: Tree, most: int, most_work: int) -> Keys | None:
        pairs = tree.pairs(BOXES_PER_PAIR * most)
        if pairs is None or self._work(keys, *pairs) > most_work:
            return None
        a, b = pairs
        every = [np.empty((0, 3), np.uint32)]
        for at in range(0, len(a), PAIRS_PER_STEP):
            i, j = keys[a[at : at + PAIRS_PER_STEP]], keys[b[at : at + PAIRS_PER_STEP]]
            pixels = self.shared(i, j)
            every.append(np.stack([i, j, pixels], axis=1)[pixels > 0])
            if sum(map(len, every)) > most:
                return None
        found = np.concatenate(every)
        return found[np.lexsort((found[:, 1], found[:, 0]))]

    def _work(self, keys: Keys, a: Keys, b: Keys) -> int:
        boxes = np.concatenate([part.bboxes for part, _ in self._shards])[keys].astype(np.int64)
        total = 0
        for at in range(0, len(a), PAIRS_PER_STEP):
            window = _common(boxes[a[at : at + PAIRS_PER_STEP]], boxes[b[at : at + PAIRS_PER_STEP]])
            total += int(_npixels(window).sum()) // 8 + NS_PER_PAIR * len(window)
        return total

    def paint(
        self,
        keys: Keys,
        values: NDArray[np.int32],
        boxes: NDArray[np.uint16],
        window: NDArray[np.uint16],
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        deep = None if depth is None else np.empty_like(depth)
        for part, inner, run in self._shards.runs(keys):
            part._bits.paint(inner, values[run], boxes[run], window, labels, deep)
            if depth is not None and deep is not None:
                np.add(depth, np.minimum(deep, MOST_DEPTH - depth), out=depth)

    def combine(
        self, keys: Keys, what: int, window: NDArray[np.uint16], canvas: NDArray[np.uint64]
    ) -> None:
        for part, inner, _run in self._shards.runs(keys):
            part._bits.combine(inner, what, window, canvas)

    def rle(self, keys: Keys, size: tuple[int, int], *, text: bool) -> list[Any]:
        found: list[Any] = [None] * len(keys)
        for part, inner, at in self._shards.by_part(keys):
            for i, one in zip(at.tolist(), part._bits.rle(inner, size, text=text), strict=True):
                found[i] = one
        return found


def _common(one: NDArray[np.int64], two: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the intersections of boxes, (n, 4)."""
    low, high = np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])
    return np.concatenate([np.minimum(low, high), high], axis=1)


def _npixels(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def _shared_masks(one: SingleArchive, a: Keys, two: SingleArchive, b: Keys) -> Keys:
    """Return how many pixels segments of two archives share, pair by pair."""
    found = np.zeros(len(a), np.uint32)
    windows = _common(one.bboxes[a].astype(np.int64), two.bboxes[b].astype(np.int64))
    sizes = _npixels(windows)
    some = np.flatnonzero(sizes)
    begin = 0
    while begin < len(some):
        ends = np.cumsum(sizes[some[begin:]])
        n = int(np.searchsorted(ends, COMPARED_PIXELS, side="right"))
        if n == 0:  # a pair that exceeds the limit alone is compared by rows
            i = some[begin]
            found[i] = _shared_rows(one[int(a[i])], two[int(b[i])], windows[i])
            begin += 1
            continue
        at = some[begin : begin + n]
        offsets = np.concatenate([[0], ends[:n]]).astype(np.uint64)
        boxes = np.ascontiguousarray(windows[at], np.uint16)
        flat = np.empty((2, int(offsets[-1])), np.uint8)
        one._bits.masks(a[at], boxes, offsets, flat[0])
        two._bits.masks(b[at], boxes, offsets, flat[1])
        flat[0] &= flat[1]
        found[at] = np.add.reduceat(flat[0], offsets[:-1].astype(np.int64), dtype=np.uint32)
        begin += n
    return found


def _shared_rows(one: Segment, two: Segment, window: NDArray[np.int64]) -> int:
    minr, minc, maxr, maxc = window.tolist()
    step = max(1, COMPARED_PIXELS // (maxc - minc))
    total = 0
    for row in range(minr, maxr, step):
        box = (row, minc, min(row + step, maxr), maxc)
        total += int(np.count_nonzero(one.mask(box) & two.mask(box)))
    return total


class _ShardedNames:
    """``archive_base.NameQueries`` of several archives."""

    def __init__(self, shards: _Shards) -> None:
        self._shards = shards

    @property
    def domains(self) -> list[bytes]:
        return sorted({domain for part, _ in self._shards for domain in part.domains})

    def each(self, keys: Keys) -> list[Pair]:
        found: list[Pair] = [(b"", b"")] * len(keys)
        for part, inner, at in self._shards.by_part(keys):
            for i, name in zip(at.tolist(), part._names.each(inner), strict=True):
                found[i] = name
        return found

    def first_in(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        found = np.full(len(iids), -1, np.int64)
        for part, begin in reversed(list(self._shards)):
            keys = part._names.first_in(domain, iids)
            found = np.where(keys >= 0, keys + begin, found)
        return found

    def all_of(self, domain: Text, iid: Text) -> Keys:
        return self._shards.collected(lambda part: part._names.all_of(domain, iid))

    def with_iid(self, iid: bytes) -> Keys:
        return self._shards.collected(lambda part: part._names.with_iid(iid))

    def in_domains(self, domains: Sequence[bytes]) -> Keys:
        return self._shards.collected(lambda part: part._names.in_domains(domains))

    def hashes(self, part: str = "name", seed: int = 0) -> NDArray[np.uint64]:
        found = [shard._names.hashes(part, seed) for shard, _ in self._shards]
        return np.concatenate(found)

    def duplicates(self) -> list[Keys]:
        known: dict[Pair, list[int]] = {}
        for part, begin in self._shards:
            for key, name in enumerate(part.names(), begin):
                known.setdefault(name, []).append(key)
        return [np.array(v, np.uint32) for v in known.values() if len(v) > 1]


class _ShardedGroups(Groups):
    """Groups of several archives: those of the same name are one."""

    def __init__(self, archive: ShardedArchive) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> Group:
        a = self._archive
        if name not in self:
            raise self._missing(a.path, name)
        none = Group(np.empty(0, np.uint32))
        return Group(a._shards.collected(lambda part: part.groups.get(name, none).keys))

    def __contains__(self, name: object) -> bool:
        return any(name in part.groups for part in self._archive.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for part in self._archive.parts for name in part.groups))

    def __len__(self) -> int:
        return len(list(iter(self)))


class ShardedArchive(Archive):
    """Several archives as one: ``mapix.open`` of a list, or of one ``NAME-00000-of-00003.iid``.

    The keys of the second archive continue those of the first, and so on.  Overlaps of segments of
    two archives compare masks, a pair at a time.

    Attributes
    ----------
    parts : tuple of SingleArchive
        The archives.
    """

    def __init__(self, parts: Sequence[SingleArchive]) -> None:
        self.parts = tuple(parts)
        self.source = self.parts[0].source  # of the first file
        self._shards = _Shards(parts)
        self._bits = _ShardedBits(self._shards)
        self._names = _ShardedNames(self._shards)
        self.groups = _ShardedGroups(self)
        self._n = sum(map(len, parts))
        self._begins: list[int] = self._shards.begins.tolist()

    @property
    def path(self) -> str:
        """Path of the first file, and how many more there are."""
        more = len(self.parts) - 1
        return self.parts[0].path + (f" and {more} more" if more else "")

    @property
    def header(self) -> tuple[int, int]:
        """Version and rformat of the first file."""
        return self.parts[0].header

    @property
    def meta(self) -> dict[str, Any]:
        """Metadata of the first file, with the keys that only others have."""
        found: dict[str, Any] = {}
        for part in self.parts:
            found = {**part.meta, **found}
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of an image that holds those of all files."""
        shapes = [part.shape for part in self.parts]
        return max(h for h, _ in shapes), max(w for _, w in shapes)

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(part.nbytes for part in self.parts)

    @cached_property
    def bboxes(self) -> NDArray[np.uint16]:
        """Boxes of all segments, uint16 (n, 4): minr, minc, maxr, maxc; read-only."""
        found = np.concatenate([part.bboxes for part in self.parts])
        found.flags.writeable = False
        return found

    @cached_property
    def areas(self) -> Keys:
        """Pixels of all segments, as the files state them, uint32 (n,); read-only."""
        found = np.concatenate([part.areas for part in self.parts])
        found.flags.writeable = False
        return found

    def check_table(self) -> None:
        """Check each row of all lookup tables: see ``ArchiveBase``."""
        for part in self.parts:
            part.check_table()

    def name(self, key: int) -> Pair:
        """Return (domain, iid) of a key."""
        file, row = self._place(key)
        return file.name(row)

    def _place(self, key: int) -> tuple[SegmentFile, int]:
        if not 0 <= key < self._n:
            raise IndexError(f"{self.path}: key {key} of {self._n} segments")
        part = bisect_right(self._begins, key) - 1
        return self.parts[part]._file, key - self._begins[part]

    def __iter__(self) -> Iterator[Segment]:
        for part, begin in self._shards:
            keys = range(begin, begin + len(part))
            yield from map(Segment, repeat(part._file), range(len(part)), keys)

    def _record(self, row: int) -> Segment:
        return Segment(*self._place(row), row)

    def keys_in(self, keys: Keys, which: int) -> Keys:
        """Return those of keys that are in a part, as keys of that part."""
        part, inner = self._shards.place(keys)
        found: Keys = inner[part == which]
        return found

    def _in_window(self, window: Box, exact: bool) -> Keys:
        return self._shards.collected(lambda part: part._in_window(window, exact))

    def _in_windows(self, windows: NDArray[np.uint16], exact: bool) -> tuple[Keys, NDArray[Any]]:
        every = [part._in_windows(windows, exact) for part in self.parts]
        keys = [
            found.astype(np.int64) + begin
            for (found, _), begin in zip(every, self._begins, strict=True)
        ]
        window = np.concatenate([np.repeat(np.arange(len(windows)), n) for _, n in every])
        found = np.concatenate(keys)[np.argsort(window, kind="stable")]
        return found.astype(np.uint32), np.bincount(window, minlength=len(windows))

    def _record_sizes(self) -> NDArray[np.int64]:
        return np.concatenate([part._record_sizes() for part in self.parts])

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "files": [part.path for part in self.parts]}

    def verify(
        self, progress: Callable[[int, int], object] | None = None, *, map: Map | None = None
    ) -> Report:
        """Check everything in all files, one after the other.

        Parameters
        ----------
        progress : callable, optional
            ``progress(segments_done, segments_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.
        """

        def show(begin: int) -> Callable[[int, int], object] | None:
            return None if progress is None else lambda done, _: progress(begin + done, self._n)

        if map is not None and all(part.nbytes <= PART_NBYTES for part in self.parts):
            found = list(mapped(map, _verified, self.parts))  # a task per file
        else:
            found = [part.verify(show(begin), map=map) for part, begin in self._shards]
        report = Report.merge(self.path, found, self._shards.begins.tolist())
        report.checked = found[-1].checked
        return report

    def warm(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Read all files into the page cache, one after the other.

        Parameters
        ----------
        progress : callable, optional
            ``progress(bytes_done, bytes_total)``.
        """
        before, total = 0, self.nbytes
        for part in self.parts:
            for done in part.source.warm():
                if progress is not None:
                    progress(before + done, total)
            before += part.nbytes

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return all(part.closed for part in self.parts)

    def close(self) -> None:
        """Release all files."""
        for part in self.parts:
            part.close()

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        first, *others = ((part.source.full_path, part.source.identity) for part in self.parts)
        return first[0], {"others": tuple(others)}, first[1]


def _verified(archive: SingleArchive) -> Report:
    return archive.verify()


def join(archives: Sequence[Archive]) -> ShardedArchive:
    """Return archives as one; of those that are several already, their parts."""
    parts: list[Any] = []
    for a in archives:
        if not isinstance(a, Archive):
            raise TypeError(f"archives can be joined with archives, got {type(a).__name__}")
        parts += a.parts if isinstance(a, ShardedArchive) else [a]
    return ShardedArchive(parts)
