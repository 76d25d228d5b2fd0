"""Several archives as one: keys go on from one to the next."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix._native.tree import Tree
from mapix.errors import FormatError, LimitError, UnsupportedError
from mapix.iid.archive import Archive
from mapix.iid.arguments import as_keys, whole
from mapix.iid.groups import Group
from mapix.iid.layout import NAME
from mapix.iid.names import Pair, Text, as_bytes
from mapix.iid.segment import Box, Region, Segment
from mapix.iid.writer import Once, Writer, path_of
from mapix.report import Report
from mapix.source import Source
from mapix.store import SYSTEM, Calls, NewWhole

__all__ = ["ShardedArchive", "ShardedWriter", "beside"]

Keys = NDArray[np.uint32]
STEP = 1 << 18  # pairs of segments compared between two looks at Ctrl-C
COMPARED = 1 << 22  # pixels of two masks that are compared at once
BOXES_PER_PAIR = 4  # pairs of boxes that meet, for each pair of segments that may be found
FULL_NBYTES = 3 << 30  # of a shard, before the next one is begun
MOST_SHARDS = 99_999
MOST_SHOWN = 5  # names of shards in a message
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.iid")


def beside(path: str) -> list[str]:
    """All shards of the set that ``NAME-00000-of-00003.iid`` belongs to; none of another name.

    Raises
    ------
    FormatError
        Some are missing.
    """
    folder, name = os.path.split(path)
    found = _NUMBERED.fullmatch(name)
    if found is None:
        return []
    stem, n = found[1], int(found[3])
    paths = [os.path.join(folder, f"{stem}-{k:05}-of-{n:05}.iid") for k in range(n)]
    missing = [os.path.basename(p) for p in paths if not os.path.isfile(p)]
    if missing:
        shown = ", ".join(missing[:MOST_SHOWN])
        more = f" and {len(missing) - MOST_SHOWN} more" if len(missing) > MOST_SHOWN else ""
        raise FormatError(path, NAME, f"shards are missing: {shown}{more}")
    return paths


class _Core:
    """What ``_native_iid.Iid`` does, over several archives; mappings are those of the parts."""

    def __init__(self, parts: Sequence[Archive], begins: NDArray[np.int64]) -> None:
        self._parts, self._begins = parts, begins

    def place(self, keys: Keys) -> tuple[NDArray[np.int64], Keys]:
        """Number of each key's part, and the key in it."""
        part = np.searchsorted(self._begins, keys, side="right") - 1
        return part, (keys - self._begins[part]).astype(np.uint32)

    def _runs(self, keys: Keys) -> Iterator[tuple[Archive, Keys, slice]]:
        """Stretches of keys of one part, in order."""
        part, inner = self.place(keys)
        edges = np.flatnonzero(np.diff(part)) + 1
        for begin, end in zip([0, *edges], [*edges, len(keys)], strict=True):
            if end > begin:
                run = slice(int(begin), int(end))
                yield self._parts[part[begin]], np.ascontiguousarray(inner[run]), run

    def _by_part(self, keys: Keys) -> Iterator[tuple[Archive, Keys, NDArray[np.int64]]]:
        part, inner = self.place(keys)
        for k in np.unique(part).tolist():
            at = np.flatnonzero(part == k)
            yield self._parts[k], np.ascontiguousarray(inner[at]), at

    def columns(self, _: Any, first: int, boxes: Any, areas: Any, n: int) -> tuple[int, int, int]:
        """Boxes and areas of keys first to first + n."""
        keys = np.arange(first, first + n, dtype=np.uint32)
        for part, inner, run in self._runs(keys):
            if boxes is not None:
                boxes[run], areas[run] = part.bboxes[inner], part.areas[inner]
        return 0, 0, 0

    def masks(self, _: Any, keys: Keys, windows: Any, offsets: Any, out: Any) -> None:
        """Masks of keys, back to back."""
        for part, inner, run in self._runs(keys):
            cuts = offsets[run.start : run.stop + 1]
            room = out[int(cuts[0]) : int(cuts[-1])]
            window = np.ascontiguousarray(windows[run])
            part._iid.masks(part.source.mapping, inner, window, cuts - cuts[0], room)

    def count(
        self, _: Any, keys: Keys, windows: NDArray[np.uint16], *, any: bool = False
    ) -> NDArray[np.uint32]:
        """Pixels of keys in windows."""
        found = np.empty(len(keys), np.uint32)
        for part, inner, at in self._by_part(keys):
            window = np.ascontiguousarray(windows[at])
            found[at] = part._iid.count(part.source.mapping, inner, window, any=any)
        return found

    def shared(self, _: Any, a: Keys, b: Keys) -> NDArray[np.uint32]:
        """Pixels that pairs share; across archives, their masks are compared, many at once."""
        found = np.zeros(len(a), np.uint32)
        part_a, in_a = self.place(a)
        part_b, in_b = self.place(b)
        for k, m in np.unique(np.stack([part_a, part_b], axis=1), axis=0).tolist():
            at = np.flatnonzero((part_a == k) & (part_b == m))
            one, two = np.ascontiguousarray(in_a[at]), np.ascontiguousarray(in_b[at])
            if k == m:
                part = self._parts[k]
                found[at] = part._iid.shared(part.source.mapping, one, two)
            else:
                found[at] = _shared_masks(self._parts[k], one, self._parts[m], two)
        return found

    def overlaps(
        self, _: Any, keys: Keys, tree: Tree, most: int, most_work: int
    ) -> NDArray[np.uint32] | None:
        """Pairs of keys that share pixels, and how many: (n, 3).

        None of more than ``most`` pairs, of boxes of four times as many, or of too many pixels.
        """
        pairs = tree.pairs(BOXES_PER_PAIR * most)
        if pairs is None or self._work(keys, *pairs) > most_work:
            return None
        a, b = pairs
        every = [np.empty((0, 3), np.uint32)]
        for at in range(0, len(a), STEP):
            i, j = keys[a[at : at + STEP]], keys[b[at : at + STEP]]
            pixels = self.shared(None, i, j)
            every.append(np.stack([i, j, pixels], axis=1)[pixels > 0])
            if sum(map(len, every)) > most:
                return None
        found = np.concatenate(every)
        return found[np.lexsort((found[:, 1], found[:, 0]))]

    def _work(self, keys: Keys, a: Keys, b: Keys) -> int:
        """What comparing pairs takes, in nanoseconds or so: eight pixels each, and 32 a pair."""
        boxes = np.concatenate([part.bboxes for part in self._parts])[keys].astype(np.int64)
        total = 0
        for at in range(0, len(a), STEP):
            window = _common(boxes[a[at : at + STEP]], boxes[b[at : at + STEP]])
            total += int(_pixels(window).sum()) // 8 + 32 * len(window)
        return total

    def paint(
        self, _: Any, keys: Keys, values: Any, boxes: Any, window: Any, labels: Any, depth: Any
    ) -> None:
        """Paint keys over one another, in order."""
        deep = None if depth is None else np.empty_like(depth)
        for part, inner, run in self._runs(keys):
            some = values[run], boxes[run], window, labels
            part._iid.paint(part.source.mapping, inner, *some, deep)
            if deep is not None:
                np.add(depth, np.minimum(deep, 65535 - depth), out=depth)

    def combine(self, _: Any, keys: Keys, what: int, window: Any, canvas: Any) -> None:
        """Or, and, and-not of packed rows, in order."""
        for part, inner, _run in self._runs(keys):
            part._iid.combine(part.source.mapping, inner, what, window, canvas)

    def rle(self, _: Any, keys: Keys, size: Any, *, text: bool) -> list[Any]:
        """COCO's counts of keys."""
        found: list[Any] = [None] * len(keys)
        for part, inner, at in self._by_part(keys):
            counts = part._iid.rle(part.source.mapping, inner, size, text=text)
            for i, one in zip(at.tolist(), counts, strict=True):
                found[i] = one
        return found

    def texts(self, _: Any, keys: Keys) -> list[Pair]:
        """(domain, iid) of keys."""
        found: list[Pair] = [(b"", b"")] * len(keys)
        for part, inner, at in self._by_part(keys):
            for i, name in zip(at.tolist(), part._names.each(inner), strict=True):
                found[i] = name
        return found


def _common(one: NDArray[np.int64], two: NDArray[np.int64]) -> NDArray[np.int64]:
    """What boxes share, (n, 4)."""
    low, high = np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])
    return np.concatenate([np.minimum(low, high), high], axis=1)


def _pixels(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def _shared_masks(one: Archive, a: Keys, two: Archive, b: Keys) -> NDArray[np.uint32]:
    """Pixels that segments of two archives share, pair by pair."""
    found = np.zeros(len(a), np.uint32)
    windows = _common(one.bboxes[a].astype(np.int64), two.bboxes[b].astype(np.int64))
    sizes = _pixels(windows)
    some = np.flatnonzero(sizes)
    begin = 0
    while begin < len(some):  # one that is too large on its own is compared row by row
        ends = np.cumsum(sizes[some[begin:]])
        n = int(np.searchsorted(ends, COMPARED, side="right"))
        if n == 0:
            i = some[begin]
            found[i] = _shared_rows(one[int(a[i])], two[int(b[i])], windows[i])
            begin += 1
            continue
        at = some[begin : begin + n]
        offsets = np.concatenate([[0], ends[:n]]).astype(np.uint64)
        boxes = np.ascontiguousarray(windows[at], np.uint16)
        flat = np.empty((2, int(offsets[-1])), np.uint8)
        one._iid.masks(one.source.mapping, a[at], boxes, offsets, flat[0])
        two._iid.masks(two.source.mapping, b[at], boxes, offsets, flat[1])
        flat[0] &= flat[1]
        found[at] = np.add.reduceat(flat[0], offsets[:-1].astype(np.int64), dtype=np.uint32)
        begin += n
    return found


def _shared_rows(one: Segment, two: Segment, window: NDArray[np.int64]) -> int:
    minr, minc, maxr, maxc = window.tolist()
    step = max(1, COMPARED // (maxc - minc))
    total = 0
    for row in range(minr, maxr, step):
        box = (row, minc, min(row + step, maxr), maxc)
        total += int(np.count_nonzero(one.mask(box) & two.mask(box)))
    return total


class _Names:
    """What ``Names`` does, over several archives."""

    def __init__(self, archive: ShardedArchive) -> None:
        self._archive = archive

    def _from(self, ask: Callable[[Any], NDArray[np.uint32]]) -> Keys:
        a = self._archive
        found = [
            ask(part._names).astype(np.int64) + begin
            for part, begin in zip(a.parts, a._begins.tolist(), strict=True)
        ]
        return np.concatenate(found).astype(np.uint32)

    def of(self, key: int) -> Pair:
        """(domain, iid) of a key."""
        return self.each(np.array([key], np.uint32))[0]

    def each(self, keys: Keys) -> list[Pair]:
        """(domain, iid) of keys."""
        return self._archive._core.texts(None, keys)

    def first(self, names: Sequence[Pair]) -> NDArray[np.int64]:
        """Lowest key of each name, -1 where nobody has it."""
        a = self._archive
        found = np.full(len(names), -1, np.int64)
        for part, begin in zip(a.parts[::-1], a._begins.tolist()[::-1], strict=True):
            keys = part._names.first(names)
            found = np.where(keys >= 0, keys + begin, found)
        return found

    def first_in(self, domain: bytes, iids: Sequence[Text]) -> NDArray[np.int64]:
        """The same for many names in one domain."""
        return self.first([(domain, as_bytes(iid)) for iid in iids])

    def all_of(self, domain: bytes, iid: bytes) -> Keys:
        """All keys of a name, ascending."""
        return self._from(lambda names: names.all_of(domain, iid))

    def with_iid(self, iid: bytes) -> Keys:
        """Keys whose name within their domain is ``iid``."""
        return self._from(lambda names: names.with_iid(iid))

    def in_domains(self, domains: Sequence[bytes]) -> Keys:
        """Keys of some domains, ascending."""
        return self._from(lambda names: names.in_domains(domains))

    @property
    def domains(self) -> list[bytes]:
        """All domains, sorted."""
        return sorted({d for part in self._archive.parts for d in part.domains})

    def duplicates(self) -> list[Keys]:
        """Keys that share a name, for each name that several have."""
        known: dict[Pair, list[int]] = {}
        for key, name in enumerate(self.each(self._archive.keys)):
            known.setdefault(name, []).append(key)
        return [np.array(v, np.uint32) for v in known.values() if len(v) > 1]


class _Groups(Mapping[str, Group]):
    """Groups of the same name as one."""

    def __init__(self, archive: ShardedArchive) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> Group:
        a = self._archive
        found = [
            part.groups[name].keys.astype(np.int64) + begin
            for part, begin in zip(a.parts, a._begins.tolist(), strict=True)
            if name in part.groups
        ]
        if not found:
            raise KeyError(f"{a.path}: no group {name!r}; there: {', '.join(self) or 'none'}")
        return Group(np.concatenate(found).astype(np.uint32))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for part in self._archive.parts for name in part.groups))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def of(self, key: int) -> list[str]:
        """Names of the groups that a key is in."""
        return [name for name in self if key in self[name]]


class ShardedArchive(Archive):
    """Several archives as one: ``mapix.open`` of a list, or of one ``NAME-00000-of-00003.iid``.

    Keys of the second go on where those of the first end, and so on; everything else is as in
    ``Archive``.  Overlaps across archives compare masks, a pair at a time.

    Attributes
    ----------
    parts : tuple of Archive
        The files.
    """

    def __init__(self, parts: Sequence[Archive]) -> None:
        self.parts = tuple(parts)
        counts = [len(part) for part in self.parts]
        self._begins = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        self._n = sum(counts)
        self.source = self.parts[0].source
        self._core = _Core(self.parts, self._begins)
        # they are used as what they stand for
        self._iid = cast(Any, self._core)
        self._names = cast(Any, _Names(self))
        self.groups = cast(Any, _Groups(self))

    def __len__(self) -> int:
        return self._n

    @property
    def path(self) -> str:
        """The first file, and how many more."""
        more = len(self.parts) - 1
        return self.parts[0].path + (f" and {more} more" if more else "")

    @property
    def version(self) -> int:
        """Of the first file."""
        return self.parts[0].version

    @property
    def header(self) -> tuple[int, int]:
        """Version and rformat of the first file."""
        return self.parts[0].header

    @property
    def meta(self) -> dict[str, Any]:
        """Of the first file, with what only others have."""
        found: dict[str, Any] = {}
        for part in self.parts:
            found = {**part.meta, **found}
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the largest image among those of the parts."""
        shapes = [part.shape for part in self.parts]
        return max(h for h, _ in shapes), max(w for _, w in shapes)

    @property
    def _nbytes(self) -> int:
        return sum(part.source.nbytes for part in self.parts)

    @property
    def _index(self) -> None:
        return None

    def check_table(self) -> None:
        """Look at every row of all lookup tables."""
        for part in self.parts:
            part.check_table()

    def _part(self, key: int) -> tuple[Archive, int]:
        part, inner = self._core.place(np.array([key], np.uint32))
        return self.parts[int(part[0])], int(inner[0])

    def _head(self, key: int) -> tuple[Box, int]:
        part, inner = self._part(key)
        return part._head(inner)

    def _own_mask(self, key: int) -> NDArray[np.bool_]:
        part, inner = self._part(key)
        return part._own_mask(inner)

    def _regions_at(self, key: int) -> tuple[int, int]:
        part, inner = self._part(key)
        return part._regions_at(inner)

    def _source_of(self, key: int) -> Source:
        return self._part(key)[0].source

    def _bits(self, key: int) -> bytes:
        part, inner = self._part(key)
        return part._bits(inner)

    def keys_in(self, keys: Keys, which: int) -> Keys:
        """Those of keys that are in a part, as that part counts them."""
        part, inner = self._core.place(keys)
        found: Keys = inner[part == which]
        return found

    def _regions(self, key: int) -> list[Region]:
        part, inner = self._part(key)
        return part._regions(inner)

    def _in_window(self, window: Box, exact: bool) -> Keys:
        keys, _ = self._in_windows(np.array([window], np.uint16), exact)
        return keys

    def _in_windows(self, windows: NDArray[np.uint16], exact: bool) -> tuple[Keys, NDArray[Any]]:
        """As each archive says; in a window those of one come before those of the next."""
        every = [part._in_windows(windows, exact) for part in self.parts]
        keys = [
            found.astype(np.int64) + begin
            for (found, _), begin in zip(every, self._begins.tolist(), strict=True)
        ]
        window = np.concatenate([np.repeat(np.arange(len(windows)), n) for _, n in every])
        found = np.concatenate(keys)[np.argsort(window, kind="stable")]
        return found.astype(np.uint32), np.bincount(window, minlength=len(windows))

    def verify(self, progress: Callable[[int, int], object] | None = None) -> Report:
        """Look at everything, one archive after the other."""
        report = Report(self.path, len(self))
        for part in self.parts:
            found = part.verify(progress)
            report.nbytes += found.nbytes
            report.checked = found.checked
            report.problems += [f"{part.path}: {p}" for p in found.problems]
        return report

    def joined(self, others: Sequence[Archive]) -> ShardedArchive:
        """Itself and others, one behind the other."""
        return join([self, *others])

    def close(self) -> None:
        """Let go of all files."""
        for part in self.parts:
            part.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedArchive, (self.parts,)


def join(archives: Sequence[Archive]) -> ShardedArchive:
    """Archives one behind the other; of those that are joined already, their parts."""
    parts: list[Archive] = []
    for a in archives:
        parts += a.parts if isinstance(a, ShardedArchive) else [a]
    return ShardedArchive(parts)


class ShardedWriter(Once):
    """Archives ``NAME-00000-of-00003.iid`` and so on, for more than one can hold.

    Each appears whole; their names tell how many there are only when the last one is closed, and
    ``mapix.open`` refuses a set of which some are missing.

    Parameters
    ----------
    path : str or os.PathLike
        ``NAME.iid``.
    meta : mapping, optional
        Metadata of each.
    full_nbytes : int
        Bytes of segments after which the next archive is begun.
    replace : bool
        Whether a set of that name that is there may be replaced.  The first file of the old set is
        removed first, and that of the new one comes last: no set is made of old and new files.
    calls : mapix.store.Calls
        The operating system; for tests.
    **options
        For ``Writer``.

    Raises
    ------
    FileExistsError
        A set of that name is there, and it is not to be replaced.
    LockedError
        Another writer is at work on the set.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        meta: Mapping[str, Any] | None = None,
        *,
        full_nbytes: int = FULL_NBYTES,
        replace: bool = False,
        calls: Calls = SYSTEM,
        **options: Any,
    ) -> None:
        if not isinstance(replace, bool | np.bool_):
            raise TypeError(f"replace must be bool, got {replace!r}")
        self.path = os.path.abspath(path_of(path))
        self._stem = self.path.removesuffix(".iid")
        self._meta, self._calls, self._options = meta, calls, options
        self._full = whole(full_nbytes, "full_nbytes", 1, 1 << 64)
        self._replace = replace
        self._done: list[str] = []
        self._begin = 0
        self._lock = NewWhole(self.path, calls, replace=True)  # of the set; it never appears
        try:
            self._refuse()
            self._clear()
            self._out = self._next(0)
        except BaseException:
            self._lock.abort()
            raise

    def _old(self) -> list[str]:
        """Files of a set of this name that is there, the first one first."""
        folder, stem = os.path.split(self._stem)
        found = []
        for name in sorted(os.listdir(folder)):
            match = _NUMBERED.fullmatch(name)
            if match is not None and match[1] == stem:
                found.append(os.path.join(folder, name))
        return found

    def _refuse(self) -> None:
        old = self._old()
        if old and not self._replace:
            raise FileExistsError(f"{old[0]} is there already; nothing is overwritten")

    def _clear(self) -> None:
        """Remove the archives that this writer, or a killed one, has left; the set is locked."""
        folder, stem = os.path.split(self._stem)
        left = re.compile(rf"\.?{re.escape(stem)}-\d{{5}}\.iid\.shard(\.writing)?")
        for name in os.listdir(folder):
            if left.fullmatch(name):
                self._calls.unlink(os.path.join(folder, name))

    def _next(self, k: int) -> Writer:
        path = f"{self._stem}-{k:05}.iid.shard"
        return Writer(path, self._meta, replace=True, calls=self._calls, **self._options)

    def _turn(self) -> None:
        """Finish the archive at hand, and begin the next one."""
        if len(self._done) + 2 > MOST_SHARDS:
            raise LimitError(f"{self.path}: more than {MOST_SHARDS} archives in one set")
        following = self._next(len(self._done) + 1)
        try:
            self._out.close()
        except BaseException as e:
            self._state = f"archive {len(self._done)} failed: {type(e).__name__} {e}"
            following.abort()
            raise
        self._done.append(self._out.path)
        self._begin += len(self._out)
        self._out = following

    def __len__(self) -> int:
        return self._begin + len(self._out)

    def add(self, *args: Any, **options: Any) -> int:
        """Write a segment, as ``Writer.add``; its key in the set."""
        self._check_open()
        if len(self._out) and self._out.nbytes >= self._full:
            self._turn()
        return self._begin + self._out.add(*args, **options)

    def group(self, name: str, keys: ArrayLike) -> None:
        """Add keys of the archive at hand to a group; earlier ones are written already.

        Raises
        ------
        UnsupportedError
            A key is of an archive that is full: pass ``groups`` to ``add``.
        """
        self._check_open()
        wanted = as_keys(keys, len(self), self.path)
        inner = wanted.astype(np.int64) - self._begin
        if inner.size and inner.min() < 0:
            raise UnsupportedError("groups of archives that are full are written; add(groups=...)")
        self._out.group(name, inner)

    def close(self) -> None:
        """Close the last archive, and give all of them their names."""
        if self._state == "closed":
            return
        try:
            self._check_open()
            self._refuse()
            if len(self._out) or not self._done:
                self._out.close()
                self._done.append(self._out.path)
            else:  # an add that would have been its first was refused
                self._out.abort()
        except BaseException:
            self.abort()
            raise
        self._state = "closed"
        try:
            self._name_all()
        finally:
            self._lock.abort()

    def _name_all(self) -> None:
        n, named = len(self._done), list[str]()
        place = self._calls.rename if self._replace else self._calls.appear
        try:
            for old in self._old() if self._replace else ():
                self._calls.unlink(old)
            for k in reversed(range(n)):
                name = f"{self._stem}-{k:05}-of-{n:05}.iid"
                place(self._done[k], name)
                named.append(name)
        except BaseException:
            if not self._replace:  # else the old set is gone, and what is new must not go, too
                for name in named:
                    self._calls.unlink(name)
                self._clear()
            raise
        self._calls.fsync_directory(os.path.dirname(self._stem))

    def abort(self) -> None:
        """Remove what was written; does nothing after ``close``."""
        if self._state == "closed":
            return
        self._state = "closed"
        self._out.abort()
        try:
            self._clear()
        finally:
            self._lock.abort()
