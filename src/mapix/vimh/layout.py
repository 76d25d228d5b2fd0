"""The layout of VIMH's binary files: image records of any size, with labels.

``docs/vimh.md`` has the byte table.  A file states nowhere whether the headers of its records have
6 or 14 bytes, and the info JSON can be wrong.  So both dialects are tried: the right one tiles the
file exactly.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import _native
from mapix._native.compiled import fast
from mapix.errors import FormatError, SizeError, TruncatedError
from mapix.selection import spread
from mapix.source import Mapping, Source
from mapix.vimh.files import NAME
from mapix.vimh.record_index import ENTRY, RecordIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DIALECTS",
    "NAME",
    "Hint",
    "Reading",
    "agrees_at_first",
    "best",
    "choose",
    "grown",
    "joined",
    "pack",
    "pack_flat",
    "walk",
]

DIALECTS = (14, 6)
MAX_LABELS = 255
_DIMS = struct.Struct("<3H")
DIMS_NBYTES = 6  # of height, width and channels, with which a record begins
LARGE_NBYTES = 65536  # records this large are indexed header by header, not by reading the file

SAMPLES = 64  # records of an old index that are checked when the file has grown
MAX_GUESS = 1 << 22  # entries that are allocated at first, at most: 64 MiB

Progress = Callable[[int, int], object]


class Hint:
    """Statements of the info JSON about the records: they break ties, and prove nothing."""

    __slots__ = ("nparameters", "shape")

    def __init__(
        self, shape: tuple[int, int, int] | None = None, nparameters: int | None = None
    ) -> None:
        self.shape, self.nparameters = shape, nparameters


class Reading:
    """A file read as one dialect: the records found, and the problem that ended it, if any."""

    __slots__ = ("index", "problem")

    def __init__(self, index: RecordIndex, problem: Exception | None) -> None:
        self.index, self.problem = index, problem

    @property
    def head_nbytes(self) -> int:
        """The dialect."""
        return self.index.head_nbytes

    @property
    def complete(self) -> bool:
        """Whether the records tile the file exactly."""
        return self.problem is None

    def agrees(self, hint: Hint) -> bool:
        """Return whether shapes and label ids are those of the info JSON."""
        if hint.nparameters is not None and any(i >= hint.nparameters for i in self.index.ids):
            return False
        return hint.shape is None or bool((self.index.shapes() == hint.shape).all())

    def likely(self, hint: Hint) -> bool:
        """Return whether the first record has the shape and label count of the info JSON."""
        shape, count = self.index.first[1:4], self.index.first[4]
        known = hint.shape is not None or hint.nparameters is not None
        return known and hint.shape in (None, shape) and hint.nparameters in (None, count)

    def __str__(self) -> str:
        from mapix.text import counted

        n, covered = self.index.nrecords, self.index.nbytes
        records = counted(n, "complete record")
        text = f"as {self.head_nbytes}-byte headers: {records} in {counted(covered, 'byte')}"
        if self.index.uniform and n:
            h, w, c = self.index.first[1:4]
            text += f", {h} x {w} x {c}, {self.index.first[4]} labels"
        if self.problem is None:
            return text
        place = getattr(self.problem, "at", None)
        return f"{text}, then at byte {place}: {getattr(self.problem, 'reason', self.problem)}"


class _Pace:
    """Limits for C calls, so that each takes about a tenth of a second.

    C calls cannot be interrupted; between two of them Ctrl-C works and progress is reported.
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
        Called as ``progress(bytes_done, bytes_total)`` about ten times per second.
    after : RecordIndex, optional
        Known records at the start of the file; the walk begins after them.

    Returns
    -------
    Reading
        The index of the complete records found, and the exception that ended the walk, if any.
        With ``after`` of records of any sizes, its entries are those of the new records alone.
        Cost: one cache line per record; the pixels are not read.
    """
    mapping = source.mapping
    state = _native.Walk(head_nbytes)
    if mapping.nbytes == 0:
        return Reading(_index(state, 0, (0, 0, 0, 0, 0), None), None)
    pace = _Pace(mapping.nbytes, progress)
    status = _native.OK
    entries: NDArray[np.void] | None = None
    if after is not None:
        state.start_behind(after.nbytes, after.nrecords, after.ids, ids_differ=after.ids_differ)
    advised = False
    mixed = stalled = after is not None and after.entries is not None  # no run to try
    while state.at < mapping.nbytes and not status and not stalled:
        stop, began = pace.limits(state)
        before = state.at
        status = state.run(mapping, stop if state.at else min(stop, 1))
        stalled = state.at == before
        if not advised and not status:
            # Readahead helps with small records; with large ones it would read the pixels.
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
        status, entries = _table(source, state, first, size, pace, 0 if mixed else nalike)
        if len(entries) == nalike and not mixed:  # only a tail after records of one size
            entries = None
    problem = _native.problem(status, state.where, source.path, NAME) if status else None
    stride = size if entries is None else 0
    return Reading(_index(state, stride, first, entries), problem)


def agrees_at_first(mapping: Mapping, index: RecordIndex) -> bool:
    """Return whether the first record's header is that of a stored index of records of one size."""
    if index.entries is not None:
        return True  # each entry is compared when it is used
    return _first(mapping, index.head_nbytes) == index.first


def _first(mapping: Mapping, head_nbytes: int) -> tuple[int, int, int, int, int]:
    head = mapping.front()
    h, w, c = _DIMS.unpack_from(head)
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
    nalike: int,
) -> tuple[int, NDArray[np.void]]:
    """Return the entries of the last ``nalike`` records, which are alike, and those of a walk."""
    mapping = source.mapping
    n = nalike
    # Allocated by the size seen so far, within limits; pages that are not written cost nothing.
    guess = (mapping.nbytes - state.at) // max(size // 2, 64) + 1024
    entries = np.empty(n + min(guess, MAX_GUESS), ENTRY)
    if n:
        at = np.arange(n, dtype=np.uint64) * np.uint64(size)
        entries["at_n"][:n] = at | np.uint64(first[4] << 56)
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


def grown(source: Source, before: RecordIndex, progress: Progress | None) -> RecordIndex | None:
    """Return the index of a file that has grown, from its index before; see ``walk`` for entries.

    SAMPLES records of the old part, evenly spread, are checked, and the new part is walked.  None
    when a record differs from the index, or the new part does not end with a complete record.
    """
    n = before.nrecords
    if not n:
        return None
    try:
        native = before.native(interleaved=False)
        if not native.agrees(source.mapping, SAMPLES):
            # checks headers, copies nothing
            native.gather(source.mapping, spread(n, SAMPLES), _native.new_gather())
        reading = walk(source, before.head_nbytes, progress, after=before)
    except FormatError:
        return None
    if not reading.complete:
        return None
    found = reading.index
    if found.entries is None:
        return found._replace(stored=True, channels=found.first[3])
    if before.entries is None:
        return found
    channels = max(before.most_channels(), int(found.entries["c"].max(initial=0)))
    return found._replace(stored=True, channels=channels)


def joined(before: RecordIndex, grown: RecordIndex) -> RecordIndex:
    """Return the index of ``grown`` with entries of all records, in memory.

    The old part was not walked: its entries are confirmed when they are used.
    """
    if before.entries is None or grown.entries is None:
        return grown
    entries = np.empty(grown.nrecords, ENTRY)
    words, n = entries.view(np.uint64), 2 * before.nrecords  # not field by field
    words[:n] = before.table().view(np.uint64)
    words[n:] = grown.entries.view(np.uint64)
    return grown._replace(entries=entries)


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
        The file ends inside a record; the message states how many complete ones come before.
    FormatError
        No dialect fits, or both do; the message shows both readings.
    """
    if dialect is not None and dialect not in DIALECTS:
        raise ValueError(f"dialect must be 14 or 6, got {dialect!r}")
    hint = hint or Hint()
    readings = [walk(source, d, progress) for d in (DIALECTS if dialect is None else (dialect,))]
    complete = [r for r in readings if r.complete]
    if source.nbytes == 0 or len(complete) == 1:
        return complete[0]
    if complete:
        agreeing = [r for r in complete if r.agrees(hint)]
        if len(agreeing) == 1:
            return agreeing[0]
        raise FormatError(
            source.path,
            NAME,
            f"both dialects fit; pass dialect=14 or dialect=6\n  {complete[0]}\n  {complete[1]}",
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
    """Return the bytes of a reading's records, without a last one that no record can follow."""
    index = reading.index
    n, end = index.nrecords, index.nbytes
    if not n or reading.complete:
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
    before = f"{n} complete record{'' if n == 1 else 's'} before it"
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
    """Pack records of one shape and one list of labels into the bytes of a file.

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
    """Write headers and label counts into ``out``, (n, 7) or (n, 15)."""
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
    """Pack records of any shapes and labels into the bytes of a file.

    Parameters
    ----------
    pixels : ndarray
        uint8, contiguous: all images one after the other, planar.
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
    if fast is not None:
        made: NDArray[np.uint8] | None = fast.pack_flat(
            pixels, shapes, ids, codes, present, spec_range
        )
        if made is not None:
            return made
    fixed = 7 if spec_range is None else 15
    npixels = shapes.astype(np.int64).prod(axis=1)
    counts = present.sum(axis=1, dtype=np.int64)
    if len(counts) and counts.max() > MAX_LABELS:
        raise ValueError(f"a record of {counts.max()} labels; the format holds {MAX_LABELS}")
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
