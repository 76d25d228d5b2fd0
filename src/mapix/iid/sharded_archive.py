"""Several archives as one: the keys of each continue those of the one before."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.iid_bulk import overlaps
from mapix._native.tree import Tree
from mapix.iid.archive import Archive
from mapix.iid.argument_checks import Box, Keys, Text, as_bytes
from mapix.iid.groups import Group, Groups
from mapix.iid.names import name_hashes
from mapix.iid.segment import Segment
from mapix.parts import OpenParts, Parts
from mapix.plans import PART_NBYTES, Map, mapped
from mapix.report import Report
from mapix.selection import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.iid.names import Pair
    from mapix.iid.segment_file import SegmentFile
    from mapix.iid.single_archive import SingleArchive
    from mapix.source import Fingerprint

__all__ = ["ShardedArchive", "join"]

MOST_DEPTH = 65535  # of a painting
BAND_ROWS = 256  # that are painted for all files before the next ones
HALF, NUMBER = np.uint64(32), np.uint64(0xFFFFFFFF)
NO_HASHES = np.empty(0, np.uint64)


class _Shards:
    """The parts of an archive, and the first key of each."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.begins = np.cumsum(parts.counts) - parts.counts

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
        order = np.argsort(part, kind="stable")
        edges = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1))
        for begin, end in pairwise(edges.tolist()):
            at = order[begin:end]
            yield self.parts[part[at[0]]], inner[at], at

    def known(self, nnames: int) -> bool:
        """Return whether a catalogue states the parts of names, and so few names are asked for."""
        return self.parts.named and 0 < nnames <= len(self.parts)

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

    def overlaps(self, keys: Keys, tree: Tree, most: int, most_work: int) -> Keys | None:
        files = [part._file.native for part, _ in self._shards]
        return overlaps(files, self._shards.begins, keys, tree, most, most_work)

    def paint(
        self,
        keys: Keys,
        values: NDArray[np.int32],
        boxes: NDArray[np.uint16],
        window: NDArray[np.uint16],
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        order, parts = list(self._shards.runs(keys)), list(self._shards.by_part(keys))
        if len(order) > len(parts):  # segments of the same file above and below others
            for begin in range(0, len(labels), BAND_ROWS):
                rows = slice(begin, begin + BAND_ROWS)
                band = window.copy()
                band[0] = window[0] + begin
                band[2] = min(int(band[0]) + BAND_ROWS, int(window[2]))
                deep = None if depth is None else depth[rows]
                self._paint_mixed(parts, values, boxes, band, labels[rows], deep)
            return
        deep = None if depth is None else np.empty_like(depth)
        for part, inner, run in order:
            part._bits.paint(inner, values[run], boxes[run], window, labels, deep)
            if depth is not None and deep is not None:
                _add(depth, deep)

    def _paint_mixed(
        self,
        parts: Sequence[tuple[SingleArchive, Keys, NDArray[np.int64]]],
        values: NDArray[np.int32],
        boxes: NDArray[np.uint16],
        window: NDArray[np.uint16],
        labels: NDArray[np.int32],
        depth: NDArray[np.uint16] | None,
    ) -> None:
        """Paint the segments of each file alone, with their positions: the highest is on top."""
        top = np.full(labels.shape, -1, np.int32)
        some = np.empty_like(top)
        deep = None if depth is None else np.empty_like(depth)
        for part, inner, at in parts:
            meets = np.flatnonzero((boxes[at, 0] < window[2]) & (boxes[at, 2] > window[0]))
            if not len(meets):
                continue
            numbers = at[meets]
            some.fill(-1)
            part._bits.paint(
                inner[meets], numbers.astype(np.int32), boxes[numbers], window, some, deep
            )
            np.maximum(top, some, out=top)
            if depth is not None and deep is not None:
                _add(depth, deep)
        seen = top >= 0
        labels[seen] = values[top[seen]]

    def combine(
        self, keys: Keys, what: int, window: NDArray[np.uint16], canvas: NDArray[np.uint64]
    ) -> None:
        for part, inner, _ in self._shards.by_part(keys):  # the order makes no difference
            part._bits.combine(inner, what, window, canvas)

    def rle(self, keys: Keys, size: tuple[int, int], *, text: bool) -> list[Any]:
        found: list[Any] = [None] * len(keys)
        for part, inner, at in self._shards.by_part(keys):
            for i, one in zip(at.tolist(), part._bits.rle(inner, size, text=text), strict=True):
                found[i] = one
        return found


def _add(depth: NDArray[np.uint16], more: NDArray[np.uint16]) -> None:
    np.add(depth, np.minimum(more, MOST_DEPTH - depth), out=depth)


class _ByHash:
    """Numbers by the hash of a text: 8 bytes each, the upper half of the hash before the number.

    Numbers of one hash are neighbours and ascend.  Texts might share a hash.

    Parameters
    ----------
    pieces : iterable of (ndarray, ndarray)
        Hashes, uint64 (n,), and their numbers, uint32 (n,).
    """

    def __init__(self, pieces: Iterable[tuple[NDArray[np.uint64], Keys]]) -> None:
        rows = [hashes >> HALF << HALF | numbers for hashes, numbers in pieces]
        self.rows = np.concatenate(rows)
        self.rows.sort()

    def find(self, hashes: NDArray[np.uint64]) -> tuple[Keys, NDArray[np.int64]]:
        """Return the numbers of each hash, back to back, and how many each has."""
        low = hashes >> HALF << HALF
        begin = np.searchsorted(self.rows, low)
        counts = np.searchsorted(self.rows, low | NUMBER, side="right") - begin
        at = np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return (self.rows[at] & NUMBER).astype(np.uint32), counts

    def shared(self) -> Keys:
        """Return the numbers whose hash others have as well, ascending."""
        halves = self.rows >> HALF
        same = halves[1:] == halves[:-1]
        several = np.zeros(len(halves), np.bool_)
        several[1:] |= same
        several[:-1] |= same
        return np.sort((self.rows[several] & NUMBER).astype(np.uint32))


class _ShardedNames:
    """``archive_base.NameQueries`` of several archives.

    A name is found by its hash in one table over all archives, made when it is first needed; then
    it is compared with the name in the file.
    """

    def __init__(self, shards: _Shards) -> None:
        self._shards = shards
        # so that a file cannot have names that all collide
        self._seed = int.from_bytes(os.urandom(8), "little")

    @cached_property
    def domains(self) -> list[bytes]:
        return sorted({domain for part, _ in self._shards for domain in part.domains})

    def each(self, keys: Keys) -> list[Pair]:
        found: list[Pair] = [(b"", b"")] * len(keys)
        for part, inner, at in self._shards.by_part(keys):
            if len(at) == 1:  # as of most names that were found: a tenth of the time
                found[int(at[0])] = part.name(int(inner[0]))
                continue
            for i, name in zip(at.tolist(), part._names.each(inner), strict=True):
                found[i] = name
        return found

    def _by_hash(self, of: str) -> _ByHash:
        numbered = ((part, begin, begin + len(part)) for part, begin in self._shards)
        return _ByHash(
            (part._names.hashes(of, self._seed), np.arange(begin, end, dtype=np.uint32))
            for part, begin, end in numbered
        )

    @cached_property
    def _by_name(self) -> _ByHash:
        return self._by_hash("name")

    @cached_property
    def _by_iid(self) -> _ByHash:
        return self._by_hash("iid")

    @cached_property
    def _parts_by_domain(self) -> _ByHash:
        once = (distinct(part._names.hashes("domain", self._seed)) for part, _ in self._shards)
        return _ByHash((h, np.full(len(h), k, np.uint32)) for k, h in enumerate(once))

    def first_in(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        found = np.full(len(iids), -1, np.int64)
        if self._shards.known(len(iids)):
            listed = [self._listed((domain, as_bytes(iid))) for iid in iids]
            return np.array([keys[0] if keys else -1 for keys in listed], np.int64)
        keys, counts = self._by_name.find(name_hashes(domain, iids, seed=self._seed))
        wanted = np.repeat(np.arange(len(iids)), counts).tolist()
        for i, key, name in zip(wanted, keys.tolist(), self.each(keys), strict=True):
            if found[i] < 0 and name == (domain, as_bytes(iids[i])):
                found[i] = key
        return found

    def all_of(self, domain: Text, iid: Text) -> Keys:
        wanted = as_bytes(domain), as_bytes(iid)
        if self._shards.known(1):
            return np.array(self._listed(wanted), np.uint32)
        keys, _ = self._by_name.find(name_hashes(wanted[0], [wanted[1]], seed=self._seed))
        return keys[[name == wanted for name in self.each(keys)]]

    def _listed(self, name: Pair) -> list[int]:
        """Return the keys of a name, where a catalogue states which parts may have it."""
        numbers = self._shards.parts.with_name(name)
        found: list[int] = []
        for k in () if numbers is None else numbers.tolist():
            keys = self._shards.parts[k]._names.all_of(*name).astype(np.int64)
            found += (keys + self._shards.begins[k]).tolist()
        return found

    def with_iid(self, iid: bytes) -> Keys:
        keys, _ = self._by_iid.find(name_hashes(b"", [iid], "iid", self._seed))
        return keys[[name[1] == iid for name in self.each(keys)]]

    def in_domains(self, domains: Sequence[bytes]) -> Keys:
        hashes = [name_hashes(domain, [b""], "domain", self._seed) for domain in domains]
        some = distinct(self._parts_by_domain.find(np.concatenate([NO_HASHES, *hashes]))[0])
        found = [np.empty(0, np.int64)]
        for k in some.tolist():
            keys = self._shards.parts[k]._names.in_domains(domains)
            found.append(keys + self._shards.begins[k])
        return np.concatenate(found).astype(np.uint32)

    def hashes(self, part: str = "name", seed: int = 0) -> NDArray[np.uint64]:
        found = [shard._names.hashes(part, seed) for shard, _ in self._shards]
        return np.concatenate(found)

    def duplicates(self) -> list[Keys]:
        keys = self._by_name.shared()
        known: dict[Pair, list[int]] = {}
        for key, name in zip(keys.tolist(), self.each(keys), strict=True):
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

    The keys of the second archive continue those of the first, and so on.

    Attributes
    ----------
    parts : sequence of SingleArchive
        The archives.  Those of a catalogue are opened when they are used.
    """

    def __init__(self, parts: Sequence[SingleArchive]) -> None:
        self.parts = parts if isinstance(parts, Parts) else OpenParts(parts)
        self.source = self.parts.examples[0].source
        self._shards = _Shards(self.parts)
        self._bits = _ShardedBits(self._shards)
        self._names = _ShardedNames(self._shards)
        self.groups = _ShardedGroups(self)
        self._n = int(self.parts.counts.sum())
        self._begins: list[int] = self._shards.begins.tolist()

    @property
    def path(self) -> str:
        """Path of the catalogue; or of the first file, and how many more there are."""
        return self.parts.path

    @property
    def header(self) -> tuple[int, int]:
        """Version and rformat of the first file."""
        found: tuple[int, int] = self.parts.examples[0].header
        return found

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
        known = self.parts.nbytes
        return sum(part.nbytes for part in self.parts) if known is None else known

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
        if self.parts.lazy:
            return {**super()._facts(), **self.parts.facts()}
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
        report.checked = [*self.parts.checked(), *found[-1].checked]
        report.problems += self.parts.problems()
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
        return self.parts.closed

    def close(self) -> None:
        """Release all files."""
        self.parts.close()

    def _snapshot(self) -> Any:
        return ShardedArchive([part._snapshot() for part in self.parts])

    def _origin(self) -> tuple[str, str, dict[str, Any], Fingerprint]:
        return self.parts.reopening() or super()._origin()

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        first, *others = ((part.source.full_path, part.source.identity) for part in self.parts)
        return first[0], {"others": tuple(others)}, first[1]


def _verified(archive: SingleArchive) -> Report:
    return archive.verify()


def join(archives: Sequence[Archive]) -> ShardedArchive:
    """Return archives as one; of those that are several already, their parts."""
    if isinstance(archives, Parts):
        return ShardedArchive(archives)
    parts: list[Any] = []
    for a in archives:
        if not isinstance(a, Archive):
            raise TypeError(f"archives can be joined with archives, got {type(a).__name__}")
        parts += a.parts if isinstance(a, ShardedArchive) else [a]
    return ShardedArchive(parts)
