"""The layout of VIMH's binary files: image records of any size, with labels.

``docs/vimh.md`` has the byte table.  A file states nowhere whether the headers of its records have
6 or 14 bytes, and the info JSON can be wrong.  So both dialects are tried: the right one tiles the
file exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import FormatError, SizeError, TruncatedError
from mapix.source import Mapping, Source
from mapix.vimh.record_index import ENTRY, RecordIndex

__all__ = [
    "DIALECTS",
    "NAME",
    "Hint",
    "Reading",
    "agrees_at_first",
    "best",
    "choose",
    "grown",
    "pack",
    "pack_flat",
    "spread",
    "walk",
]

NAME = "vimh"
DIALECTS = (14, 6)
MAX_LABELS = 255
DIMS_NBYTES = 6  # of height, width and channels, with which a record begins
LARGE_NBYTES = 65536  # records this large are indexed header by header, not by reading the file

SAMPLES = 256  # records of an old index that are looked at when the file has grown
MAX_GUESS = 1 << 22  # entries that a first guess may ask room for: 64 MiB

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Hint:
    """What the info JSON says about the records.  Breaks ties, proves nothing."""

    shape: tuple[int, int, int] | None = None
    nparameters: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A file read as one dialect: what was found, and the problem that ended it, if any."""

    index: RecordIndex
    problem: Exception | None

    @property
    def head_nbytes(self) -> int:
        """The dialect."""
        return self.index.head_nbytes

    @property
    def whole(self) -> bool:
        """Whether the records tile the file exactly."""
        return self.problem is None

    def agrees(self, hint: Hint) -> bool:
        """Whether shapes and label ids are what the info JSON says."""
        if hint.nparameters is not None and any(i >= hint.nparameters for i in self.index.ids):
            return False
        return hint.shape is None or bool((self.index.shapes() == hint.shape).all())

    def likely(self, hint: Hint) -> bool:
        """Whether the first record has the shape and the number of labels of the info JSON."""
        shape, count = self.index.first[1:4], self.index.first[4]
        known = hint.shape is not None or hint.nparameters is not None
        return known and hint.shape in (None, shape) and hint.nparameters in (None, count)

    def __str__(self) -> str:
        n, covered = self.index.nrecords, self.index.nbytes
        text = f"as {self.head_nbytes}-byte headers: {n} whole records in {covered} bytes"
        if self.index.uniform and n:
            h, w, c = self.index.first[1:4]
            text += f", {h} x {w} x {c}, {self.index.first[4]} labels"
        if self.problem is None:
            return text
        place = getattr(self.problem, "at", None)
        return f"{text}, then at byte {place}: {getattr(self.problem, 'reason', self.problem)}"


class _Pace:
    """How far the next C call may go, so that each takes about a tenth of a second.

    C calls cannot be interrupted; between two of them Ctrl-C is obeyed and progress told.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self.progress = progress
        self.step = 64 << 20

    def limits(self, walk: _native.Walk) -> tuple[int, float]:
        return min(walk.at + self.step, self.total), time.perf_counter()

    def done(self, walk: _native.Walk, began: float) -> None:
        took = time.perf_counter() - began
        if took < 0.05:
            self.step = min(self.step * 8, 1 << 34)
        elif took > 0.2:
            self.step = max(self.step // 2, 1 << 20)
        if self.progress is not None:
            self.progress(walk.at, self.total)


def walk(
    source: Source,
    head_nbytes: int,
    progress: Progress | None = None,
    *,
    after: RecordIndex | None = None,
) -> Reading:
    """Read a file as one dialect, to its end or to the first thing that cannot be a record.

    Parameters
    ----------
    source : Source
        The file.
    head_nbytes : {14, 6}
        The dialect.
    progress : callable, optional
        Called as ``progress(bytes_done, bytes_total)`` some ten times a second.
    after : RecordIndex, optional
        Records at the start of the file that are known; the walk goes on behind them.

    Returns
    -------
    Reading
        The index of the whole records found, and the exception that ended the walk, if any.
        Cost: one cache line a record; the pixels are not read.
    """
    mapping = source.mapping
    state = _native.Walk(head_nbytes)
    if mapping.nbytes == 0:
        return Reading(_index(state, 0, (0, 0, 0, 0, 0), None), None)
    pace = _Pace(mapping.nbytes, progress)
    status = _native.OK
    entries: NDArray[np.void] | None = None
    known = None
    if after is not None:
        state.start_behind(after.nbytes, after.nrecords, after.ids, ids_differ=after.ids_differ)
        known = None if after.entries is None else after.table()
    advised = False
    stalled = known is not None  # of mixed sizes already: nothing to try
    while state.at < mapping.nbytes and not status and not stalled:
        stop, began = pace.limits(state)
        before = state.at
        status = state.run(mapping, stop if state.at else min(stop, 1))
        stalled = state.at == before
        if not advised and not status:
            # Small records: the disk reads ahead and is right.  Large: it would read everything.
            large = state.at >= LARGE_NBYTES * state.nrecords
            mapping.advise("random" if large else "normal")
            advised = True
        pace.done(state, began)
    nalike, size = state.nrecords, state.at // max(state.nrecords, 1)
    first = _first(mapping, head_nbytes) if nalike else (0, 0, 0, 0, 0)
    if status or (state.at < mapping.nbytes and nalike == 0):
        found = _native.problem(status, state.where, source.path, NAME)
        return Reading(_index(state, 0, first, None), found)
    if state.at < mapping.nbytes:
        status, entries = _table(source, state, first, size, pace, known)
        if (
            len(entries) == nalike and known is None
        ):  # nothing but a tail behind records that are all alike
            entries = None
    problem = _native.problem(status, state.where, source.path, NAME) if status else None
    stride = size if entries is None else 0
    return Reading(_index(state, stride, first, entries), problem)


def agrees_at_first(source: Source, index: RecordIndex) -> bool:
    """Whether the first record's header is what a stored index of alike records states."""
    if index.entries is not None:
        return True  # each entry is compared when it is used
    return _first(source.mapping, index.head_nbytes) == index.first


def _first(mapping: Mapping, head_nbytes: int) -> tuple[int, int, int, int, int]:
    head = _native.copy(mapping, 0, head_nbytes + 1, NAME)
    h, w, c = (int.from_bytes(head[k : k + 2], "little") for k in (0, 2, 4))
    return 0, h, w, c, head[head_nbytes]


def _index(
    state: _native.Walk,
    stride: int,
    first: tuple[int, int, int, int, int],
    entries: NDArray[np.void] | None,
) -> RecordIndex:
    return RecordIndex(
        format=NAME,
        nrecords=state.nrecords,
        nbytes=state.at,
        head_nbytes=state._c.head_nbytes,
        stride=stride,
        first=first,
        entries=entries,
        ids=state.ids,
        ids_differ=state.ids_differ,
    )


def _table(
    source: Source,
    state: _native.Walk,
    first: tuple[int, int, int, int, int],
    size: int,
    pace: _Pace,
    known: NDArray[np.void] | None,
) -> tuple[int, NDArray[np.void]]:
    """Entries of all records: known ones, or those of the run so far by arithmetic, then a walk."""
    mapping = source.mapping
    n = state.nrecords
    # Room by the size seen so far, within reason; pages of it that stay untouched cost nothing.
    guess = (mapping.nbytes - state.at) // max(size // 2, 64) + 1024
    entries = np.empty(n + min(guess, MAX_GUESS), ENTRY)
    if known is not None:
        entries.view(np.uint64)[: 2 * n] = known.view(np.uint64)  # not field by field
    else:
        entries["at_n"][:n] = np.arange(n, dtype=np.uint64) * np.uint64(size) | np.uint64(
            first[4] << 56
        )
        for field, value in zip(("h", "w", "c", "reserved"), (*first[1:4], 0), strict=True):
            entries[field][:n] = value
    scratch = _native.scratch()
    status = _native.OK
    while state.at < mapping.nbytes and not status:
        if n == len(entries):
            entries = np.concatenate([entries, np.empty(n, ENTRY)])
        stop, began = pace.limits(state)
        status, written = state.table(mapping, stop, entries[n:], scratch)
        n += written
        pace.done(state, began)
    return status, entries[:n]


def spread(n: int, most: int = SAMPLES) -> NDArray[np.int64]:
    """Return up to ``most`` record numbers of n, evenly spread, the first and the last included."""
    count = min(n, most)
    return np.arange(count, dtype=np.int64) * (n - 1) // max(count - 1, 1)


def grown(source: Source, before: RecordIndex, progress: Progress | None) -> RecordIndex | None:
    """The index of a file that has grown, from the one of what it was before.

    Looks at SAMPLES records of the part before, evenly spread, and walks the part behind it.  None
    when one of them is not what the index says, or the new part is not whole records.
    """
    n = before.nrecords
    if not n:
        return None
    try:
        native = before.native(interleaved=False)
        native.gather(source.mapping, spread(n), _native.new_gather())  # of nothing: headers alone
        reading = walk(source, before.head_nbytes, progress, after=before)
    except FormatError:
        return None
    if not reading.whole:
        return None
    # The old part was not walked: its entries are confirmed when they are used.
    found = reading.index
    if found.entries is None:
        return found
    new = int(found.entries["c"][n:].max(initial=0))
    return replace(found, stored=True, channels=max(before.most_channels(), new))


def choose(
    source: Source,
    *,
    dialect: int | None = None,
    hint: Hint | None = None,
    strict: bool = True,
    progress: Progress | None = None,
) -> Reading:
    """Find the dialect of a file by tiling it, and its index with it.

    Parameters
    ----------
    source : Source
        The file.
    dialect : {14, 6}, optional
        Read it as this one and no other.
    hint : Hint, optional
        Decides only where both dialects tile the file, or where neither explains more of it.
    strict : bool
        With False, the records before the first damage are returned; the reading still carries the
        problem.

    Raises
    ------
    TruncatedError
        The file ends inside a record; the message says how many whole ones come before.
    FormatError
        No dialect fits, or both do; the message shows both readings.
    """
    if dialect is not None and dialect not in DIALECTS:
        raise ValueError(f"dialect must be 14 or 6, got {dialect!r}")
    hint = hint or Hint()
    readings = [walk(source, d, progress) for d in (DIALECTS if dialect is None else (dialect,))]
    whole = [r for r in readings if r.whole]
    if source.nbytes == 0 or len(whole) == 1:
        return whole[0]
    if whole:
        agreeing = [r for r in whole if r.agrees(hint)]
        if len(agreeing) == 1:
            return agreeing[0]
        raise FormatError(
            source.path,
            NAME,
            f"both dialects fit; pass dialect=14 or dialect=6\n  {whole[0]}\n  {whole[1]}",
        )
    found = readings[0] if len(readings) == 1 else best(source, readings, hint)
    if found is None:
        shown = "".join(f"\n  {r}" for r in readings)
        raise FormatError(source.path, NAME, f"no dialect fits{shown}")
    if strict or found.index.nrecords == 0:
        raise _partial(source, found, readings)
    return found


def best(source: Source, readings: Sequence[Reading], hint: Hint) -> Reading | None:
    """Return the reading that explains most of a file which none explains completely.

    A record counts when a header follows that a record can have: the wrong dialect also finds one
    record, whose end is anywhere.  Where the readings explain as much as one another, the info JSON
    decides; None where it cannot.
    """
    explained = [_explained(source, r, hint) for r in readings]
    most = max(explained)
    found = [r for r, nbytes in zip(readings, explained, strict=True) if nbytes == most]
    if len(found) > 1:
        found = [r for r in found if r.index.nrecords and r.likely(hint)]
    return found[0] if len(found) == 1 and found[0].index.nrecords else None


def _explained(source: Source, reading: Reading, hint: Hint) -> int:
    """Bytes of the records of a reading, without a last one that nothing like a record follows."""
    index = reading.index
    n, end = index.nrecords, index.nbytes
    if not n or reading.whole:
        return end
    rest = bytes(_native.copy(source.mapping, end, min(DIMS_NBYTES, source.nbytes - end), NAME))
    for dims in (index.first[1:4], hint.shape or ()):
        if rest and np.array(dims, "<u2").tobytes().startswith(rest):
            return end
    return end - index.stride if index.stride else int(index.offsets()[-1])


def _partial(source: Source, found: Reading, readings: list[Reading]) -> Exception:
    problem = found.problem
    if not isinstance(problem, FormatError):
        return problem or FormatError(source.path, NAME, "not readable")
    n = found.index.nrecords
    before = f"{n} whole record{'' if n == 1 else 's'} before it"
    if n:
        before += f" (strict=False opens {'it' if n == 1 else 'them'})"
    others = "".join(f"\n  {r}" for r in readings if r is not found)
    kind = type(problem) if isinstance(problem, TruncatedError | SizeError) else FormatError
    return kind(
        source.path,
        NAME,
        f"{problem.reason}; {before}{others}",
        record=problem.record,
        at=problem.at,
    )


def pack(
    images: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    spec_range: NDArray[np.float32] | None,
) -> NDArray[np.uint8]:
    """Records of one shape and one list of labels, as the bytes of a file.

    Parameters
    ----------
    images : ndarray
        uint8 (n, h, w, c), of any strides; dimensions in 1..65535.
    ids : ndarray
        uint8 (N,), N at most 255.
    codes : ndarray
        uint8 (n, N).
    spec_range : ndarray or None
        float32 (n, 2) for the 14-byte dialect, None for the 6-byte one.

    Returns
    -------
    ndarray
        uint8 (n, record size), contiguous.

    Notes
    -----
    Copies: each image once, into planar order.
    """
    n, h, w, c = images.shape
    fixed = 15 if spec_range is not None else 7
    labels = fixed + 2 * len(ids)
    out = np.empty((n, labels + h * w * c), np.uint8)
    _pack_heads(out[:, :fixed], np.array([[h, w, c]]), len(ids), spec_range)
    out[:, fixed:labels:2] = ids
    out[:, fixed + 1 : labels : 2] = codes
    out[:, labels:].reshape(n, c, h, w)[...] = images.transpose(0, 3, 1, 2)
    return out


def _pack_heads(
    out: NDArray[np.uint8],
    shapes: NDArray[np.integer[Any]],
    counts: int | NDArray[np.int64],
    spec_range: NDArray[np.float32] | None,
) -> None:
    """What stands before the labels, and how many they are, into ``out``, (n, 7) or (n, 15)."""
    out[:, :6] = np.ascontiguousarray(shapes, "<u2").view(np.uint8)
    if spec_range is not None:
        out[:, 6:14] = np.ascontiguousarray(spec_range, "<f4").view(np.uint8)
    out[:, -1] = counts


def pack_flat(
    pixels: NDArray[np.uint8],
    shapes: NDArray[np.uint16],
    ids: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    present: NDArray[np.bool_],
    spec_range: NDArray[np.float32] | None,
) -> NDArray[np.uint8]:
    """Records of any shapes and labels, as the bytes of a file.

    Parameters
    ----------
    pixels : ndarray
        uint8, contiguous: all images back to back, planar.
    shapes : ndarray
        uint16 (n, 3): h, w, c of each.
    ids : ndarray
        uint8 (heads,), of the columns that follow.
    codes, present : ndarray
        uint8 and bool (n, heads); a record gets the labels that it has.
    spec_range : ndarray or None
        float32 (n, 2) for the 14-byte dialect, None for the 6-byte one.

    Returns
    -------
    ndarray
        uint8, one dimension.

    Notes
    -----
    Copies: each image once.
    """
    fixed = 7 if spec_range is None else 15
    npixels = shapes.astype(np.int64).prod(axis=1)
    counts = present.sum(axis=1, dtype=np.int64)
    before = fixed + 2 * counts
    ends = np.cumsum(before + npixels)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - npixels - before
    heads = np.empty((len(shapes), fixed), np.uint8)
    _pack_heads(heads, shapes, counts, spec_range)
    out[starts[:, None] + np.arange(fixed)] = heads
    rows, columns = np.nonzero(present)
    nth = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]  # of the record's own labels
    at = starts[rows] + fixed + 2 * nth
    out[at] = ids[columns]
    out[at + 1] = codes[rows, columns]
    to, got = out.data, pixels.data
    begin = 0
    for at, n in zip((starts + before).tolist(), npixels.tolist(), strict=True):
        to[at : at + n] = got[begin : begin + n]
        begin += n
    return out
