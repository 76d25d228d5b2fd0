"""Keeping a file in order: its index beside it, a look at everything, and what can be saved."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix import _native, indexes
from mapix.errors import MapixError, UnsupportedError
from mapix.formats import vimh
from mapix.formats.vimh import Progress
from mapix.recordindex import ENTRY, Checksums, RecordIndex
from mapix.report import Report
from mapix.source import Source
from mapix.store import NewWhole

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset
    from mapix.vimh.gatherer import Gatherer

__all__ = ["Saved", "checksums", "keep_index", "repair", "verify"]

STEP_NBYTES = 64 << 20  # looked at between two looks at Ctrl-C
SEARCH_NBYTES = 16 << 20  # searched for the next record in one piece
PROOF = 4  # records in a row that make a place one where records begin again
MOST_WAIT = 5.0  # seconds, until a file's times tell of later changes
MOST_TOLD = 100  # records with a wrong checksum that are listed


@dataclass(slots=True)
class Saved:
    """What ``repair`` wrote, and what it left out.

    Attributes
    ----------
    path : str
        The new file.
    nrecords, nbytes : int
        What is in it.
    lost : list of (int, int)
        Stretches of the old file, begin and end in bytes, that are no whole record.
    damaged : list of int
        Records left out because their checksum is wrong.
    """

    path: str
    nrecords: int
    nbytes: int
    lost: list[tuple[int, int]]
    damaged: list[int]

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.nrecords} records, {self.nbytes} bytes"]
        lines += [f"  lost: bytes {a} to {b} ({b - a} bytes)" for a, b in self.lost]
        lines += [f"  left out: record {i}, its checksum is wrong" for i in self.damaged]
        return "\n".join(lines if self.lost or self.damaged else [*lines, "  nothing was lost"])


def _blocks(index: RecordIndex) -> Iterator[NDArray[np.int64]]:
    """Record numbers, front to back, about STEP_NBYTES of records at a time."""
    n = index.nrecords
    step = max(1, STEP_NBYTES // max(1, index.nbytes // max(1, n)))
    for at in range(0, n, step):
        yield np.arange(at, min(at + step, n), dtype=np.int64)


def checksums(file: Gatherer, progress: Progress | None = None) -> NDArray[np.uint32]:
    """CRC32C of all records of a file, uint32 (n,).  Cost: one pass over its bytes."""
    found = np.empty(file.index.nrecords, np.uint32)
    mapping = file.pixels.mapping
    mapping.advise("sequential")
    try:
        for rows in _blocks(file.index):
            file.native.checksums(mapping, rows, found[rows[0] : rows[-1] + 1])
            if progress is not None:
                done = int(rows[-1]) + 1
                progress(file.index.nbytes * done // file.index.nrecords, file.index.nbytes)
    finally:
        mapping.advise(file.access)
    return found


def keep_index(
    ds: Dataset, *, labels: bool = True, checksums: bool = True, progress: Progress | None = None
) -> str:
    """``ds.keep_index``."""
    file = ds._gatherer
    if file.key is None:
        raise UnsupportedError(
            f"{ds.path}: nothing to keep: pickles need no index, and index='never' wants none"
        )
    place = indexes.beside(file.source.path)
    wait = indexes.racy_for(file.source)
    if wait > MOST_WAIT:  # a clock was set back, or the file's times are made up
        raise OSError(f"{place}: the file's times are {wait:.0f} s ahead of the clock")
    time.sleep(wait)
    made = _complete(file, labels=labels, sums=checksums, progress=progress)
    if indexes.store(file.source, made, file.key, place=place) is None:
        raise OSError(f"{place}: the file was written to meanwhile, or somebody is appending")
    return place


def _complete(
    file: Gatherer, *, labels: bool, sums: bool, progress: Progress | None
) -> RecordIndex:
    """The file's index with the tables that are wanted."""
    index = replace(file.index, columns=None, checksums=None)  # what there is may be damaged
    if labels and index.nrecords:
        codes, present = file.label_table(np.arange(index.nrecords))
        index = replace(index, columns=file.columns_of(codes.T, present.T))
    if sums:
        index = replace(index, checksums=Checksums(checksums(file, progress)))
    return index


def verify(ds: Dataset, progress: Progress | None = None) -> Report:
    """``ds.verify``."""
    file = ds._gatherer
    index = ds.index
    report = Report(ds.path, index.nrecords, index.nbytes)
    if file.fixed_nbytes:
        _check_structure(ds, report, progress)
    else:
        report.checked.append("the pickle's structure")
    try:
        file.label_table(np.arange(index.nrecords))
        report.checked.append("labels")
    except MapixError as e:
        report.problems.append(f"labels: {e}")
    if index.checksums is not None:
        report.checked.append("checksums")
        if not index.checksums.sound():
            report.problems.append("the stored checksums are damaged themselves")
        else:
            wrong = np.flatnonzero(checksums(file, progress) != index.checksums.values)
            report.damaged = wrong.tolist()
            shown = ", ".join(map(str, report.damaged[:MOST_TOLD]))
            if len(wrong):
                report.problems.append(f"{len(wrong)} records are not what they were: {shown}")
    if ds.info:
        report.checked.append("info JSON")
        from mapix.vimh.opening import disagreements

        report.problems += [f"the info JSON says {said}" for said in disagreements(ds)]
        if ds.unknown_ids:
            ids = ", ".join(map(str, ds.unknown_ids))
            report.problems.append(f"label ids that the info JSON does not name: {ids}")
    return report


def _check_structure(ds: Dataset, report: Report, progress: Progress | None) -> None:
    report.checked.append("structure")
    index = ds.index
    reading = vimh.walk(ds.source, index.head_nbytes, progress)
    found = reading.index
    if reading.problem is not None:
        at, total = found.nbytes, ds.source.nbytes
        report.problems.append(f"bytes {at} to {total} are no whole record: {reading.problem}")
    same = found.nrecords == index.nrecords and found.nbytes == index.nbytes
    if same and found.entries is not None and index.entries is not None:
        same = bool((found.entries == index.entries).all())
    elif same:
        same = found.stride == index.stride and found.first == index.first
    if not same:
        report.problems.append(
            f"the index in use tells of {index.nrecords} records, the file of {found.nrecords}, or "
            "of others: open it with index='rebuild'"
        )


# --- saving what can be saved ---------------------------------------------------------------------


def repair(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    dialect: int | None = None,
    sums: Checksums | None = None,
    index: RecordIndex | None = None,
    progress: Progress | None = None,
) -> Saved:
    """Write all whole records of a damaged file to a new file; the old one is left as it is.

    Behind bytes that are no record, the next place is searched for where records like those before
    begin again: at least four in a row, or as many as there are to the end of the file.

    Parameters
    ----------
    source : str or os.PathLike
        The damaged file.
    path : str or os.PathLike
        The new one, which must not be there yet.
    dialect : {14, 6}, optional
        Bytes of the record header; by default the one that explains most of the file.
    sums, index : Checksums, RecordIndex, optional
        Of the file: records whose checksum is wrong are left out, too.
    progress : callable, optional
        ``progress(bytes_done, bytes_total)``.

    Returns
    -------
    Saved
        What was written, and what was lost.
    """
    opened = Source(source)
    if dialect is None:
        readings = [vimh.walk(opened, d) for d in vimh.DIALECTS]
        dialect = max(readings, key=lambda r: r.index.nbytes).head_nbytes
    if dialect not in vimh.DIALECTS:
        raise UnsupportedError(f"{opened.path}: only binary files can be repaired")
    damaged = _damaged(opened, sums, index)
    with NewWhole(os.fspath(path)) as out:
        n, end, lost = 0, 0, []
        for begin, stop, count in _runs(opened, dialect):
            if begin > end:
                lost.append((end, begin))
            left_out = [(a, b) for a, b in damaged.values() if begin <= a and b <= stop]
            for a, b in _between(begin, stop, left_out):
                _copy(opened, a, b, out, progress)
            n += count - len(left_out)
            end = stop
        if end < opened.nbytes:
            lost.append((end, opened.nbytes))
    return Saved(os.fspath(path), n, out.file.nbytes, lost, sorted(damaged))


def _damaged(
    source: Source, sums: Checksums | None, index: RecordIndex | None
) -> dict[int, tuple[int, int]]:
    """Records with a wrong checksum: number -> begin and end."""
    if sums is None or index is None or not sums.sound():
        return {}
    native, found = index.native(interleaved=False), {}
    offsets = np.append(index.offsets(), index.nbytes)
    now = np.empty(1, np.uint32)
    for i in range(index.nrecords):
        try:
            native.checksums(source.mapping, np.array([i]), now)
        except MapixError:
            continue  # its header is wrong, and it is no record
        if now[0] != sums.values[i]:
            found[i] = (int(offsets[i]), int(offsets[i + 1]))
    return found


def _between(begin: int, end: int, holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a stretch without the holes in it."""
    for a, b in sorted(holes):
        if a > begin:
            yield begin, a
        begin = b
    if end > begin:
        yield begin, end


def _copy(source: Source, begin: int, end: int, out: NewWhole, progress: Progress | None) -> None:
    for at in range(begin, end, STEP_NBYTES):
        step = min(STEP_NBYTES, end - at)
        out.write(_native.copy(source.mapping, at, step, vimh.NAME))
        if progress is not None:
            progress(at + step, source.nbytes)


def _runs(source: Source, head: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of whole records: begin, end, how many."""
    at, known = 0, set[bytes]()
    while at < source.nbytes:
        stop, n = _whole(source, head, at, known)
        if n:
            yield at, stop, n
        if stop >= source.nbytes:
            return
        found = _next(source, head, stop + (not n), known)
        if found is None:
            return
        at = found


def _whole(source: Source, head: int, at: int, known: set[bytes] | None) -> tuple[int, int]:
    """How far whole records go from a byte on, and how many they are; their headers into known."""
    state = _native.Walk(head)
    state.start_behind(at, 0, (), ids_differ=False)
    entries = np.empty(4096, ENTRY)
    status = _native.OK
    while status == _native.OK and state.at < source.nbytes:
        status, written = state.hop(source.mapping, source.nbytes, entries)
        if known is not None:
            dims = np.stack([entries[k][:written] for k in ("h", "w", "c")], axis=1)
            known.update(d.astype("<u2").tobytes() for d in np.unique(dims, axis=0))
        if not written:
            break
    return state.at, state.nrecords


def _next(source: Source, head: int, at: int, known: set[bytes]) -> int | None:
    """The next byte at which records of known sizes begin again."""
    for begin in range(at, source.nbytes, SEARCH_NBYTES):
        size = min(SEARCH_NBYTES + 5, source.nbytes - begin)
        data = bytes(_native.copy(source.mapping, begin, size, vimh.NAME))
        places = set[int]()
        for dims in known:
            k = data.find(dims)
            while k >= 0:
                places.add(k)
                k = data.find(dims, k + 1)
        for k in sorted(places):
            stop, n = _few(source, head, begin + k)
            if n >= PROOF or (n and stop == source.nbytes):
                return begin + k
    return None


def _few(source: Source, head: int, at: int) -> tuple[int, int]:
    """Like ``_whole``, but stops when it has seen enough."""
    state = _native.Walk(head)
    state.start_behind(at, 0, (), ids_differ=False)
    state.hop(source.mapping, source.nbytes, np.empty(PROOF, ENTRY))
    return state.at, state.nrecords
