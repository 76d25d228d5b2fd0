"""Saving the complete records of damaged VIMH files: ``repair``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import FormatError, LimitError, MapixError, UnsupportedError
from mapix.progress import shown
from mapix.registry import Candidate
from mapix.salvage import Saved
from mapix.source import Source
from mapix.store import NewDirectory, NewWhole
from mapix.text import brief
from mapix.vimh import layout
from mapix.vimh.files import CIFAR, PICKLE_SUFFIX, data_files, refusal
from mapix.vimh.info_json import INFO_NAME, hint_of, info_of, text_beside, with_count
from mapix.vimh.journal import settled
from mapix.vimh.layout import Hint, Progress
from mapix.vimh.record_index import ENTRY, Checksums, RecordIndex

__all__ = ["Saved", "SavedDirectory", "repair"]

COPY_NBYTES = 64 << 20  # copied between two calls of ``progress``
FIRST_SEARCH_NBYTES = 4 << 10  # searched for the next record in one piece, at first
SEARCH_NBYTES = 1 << 20  # and later
PROOF = 4  # records in a row that show that records begin again there
FEW_HOLES, HOLE_NBYTES = 1000, 64 << 10  # damaged stretches of any file; one more for each
FEW_TRIES, TRY_NBYTES = 10_000, 128  # the same of places that look like the beginning of a record

Dims = set[tuple[int, int, int]]
Write = Callable[[Any], object]


@dataclass(slots=True)
class SavedDirectory:
    """Result of ``repair`` of a dataset directory.

    Attributes
    ----------
    path : str
        The new directory.
    files : dict of str to Saved
        Name -> result of each binary file.
    left_out : list of str
        Names of data files and of an info JSON that could not be repaired.
    """

    path: str
    files: dict[str, Saved] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    __repr__ = brief

    @property
    def nrecords(self) -> int:
        """Records of all files."""
        return sum(saved.nrecords for saved in self.files.values())

    @property
    def complete(self) -> bool:
        """Whether nothing was lost or left out."""
        return not self.left_out and all(saved.complete for saved in self.files.values())

    def __str__(self) -> str:
        left = [f"{name}: left out, repair reads binary VIMH alone" for name in self.left_out]
        return "\n".join([*map(str, self.files.values()), *left])


def repair(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    dialect: int | None = None,
    sums: Checksums | None = None,
    index: RecordIndex | None = None,
    progress: Progress | bool | None = None,
) -> Saved | SavedDirectory:
    """Write the complete records of a damaged VIMH file, or directory, to a new one.

    The old file is not changed.  After bytes that are not a record, the next place is searched
    where records of known shapes begin again: at least four in a row, or all up to the end of the
    file.

    Parameters
    ----------
    source : str or os.PathLike
        The damaged binary file; or a dataset directory, of which all binary files are repaired and
        the info JSON is copied with the new counts.
    path : str or os.PathLike
        The new file or directory, which must not exist yet.
    dialect : {14, 6}, optional
        Bytes of the record header; by default the one that fits most of the file, or of all files
        of the directory.
    sums, index : Checksums, RecordIndex, optional
        Those of the file: records with a wrong checksum are left out, too.
    progress : callable or True, optional
        ``progress(bytes_done, bytes_total)``, of each file; True shows a bar.

    Returns
    -------
    Saved or SavedDirectory
        Records written, and bytes lost.

    Raises
    ------
    FormatError
        There is no VIMH record in it, or both dialects fit equally; nothing is written.
    UnsupportedError
        It is a pickle.
    FileExistsError
        There is something at ``path``.
    LimitError
        There are too many damaged stretches for a VIMH file.
    """
    source, path = os.fspath(source), os.fspath(path)
    progress = shown(progress, "copying records", "bytes")
    if os.path.isdir(source):
        return _directory(source, path, dialect, progress)
    opened = _opened(source)
    if dialect is None:
        dialect = _dialect([opened], source)
    with NewWhole(path) as out:
        saved = _Repair(opened, dialect, _damaged(opened.source, sums, index), progress).write(
            out.write, path
        )
        if not saved.nrecords:
            raise _nothing(source)
    return saved


def _nothing(path: str) -> FormatError:
    reason = "no complete record was found; repair saves the records of binary VIMH files alone"
    return FormatError(path, layout.NAME, reason)


@dataclass(slots=True)
class _Opened:
    """A file to be repaired, and the statements of its info JSON."""

    source: Source
    hint: Hint

    def shapes(self) -> Dims:
        """Return the shapes that are known before any record was found."""
        return {self.hint.shape} if self.hint.shape else set()


def _opened(path: str) -> _Opened:
    from mapix.vimh.pickle_file import looks_pickled

    source = settled(path)
    if source.nbytes and (path.endswith(PICKLE_SUFFIX) or looks_pickled(source)):
        raise UnsupportedError(f"{path}: a pickle; repair saves binary VIMH files alone")
    return _Opened(source, hint_of(_info(path) or {}))


def _info(path: str) -> dict[str, Any] | None:
    """Return the info JSON beside a file; None for a damaged one."""
    try:
        return info_of(path, True, text_beside(path))
    except (FormatError, LimitError):
        return None


# --- directories ----------------------------------------------------------------------------------


def _directory(
    folder: str, path: str, dialect: int | None, progress: Progress | None
) -> SavedDirectory:
    why = refusal(Candidate(folder))
    if why is not None:
        raise FormatError(folder, layout.NAME, f"it is {why}; repair saves VIMH datasets alone")
    names, left_out = _names(folder)
    if not names:
        raise UnsupportedError(f"{folder}: no binary file; repair saves binary VIMH files alone")
    opened = {name: _opened(os.path.join(folder, name)) for name in names}
    if dialect is None:
        dialect = _dialect(list(opened.values()), folder)
    info = _info(os.path.join(folder, names[0]))
    if info is None:
        left_out.append(INFO_NAME)
    with NewDirectory(path) as new:
        made = SavedDirectory(new.path, left_out=left_out)
        for name, file in opened.items():
            out = _Repair(file, dialect, {}, progress)
            made.files[name] = out.write(new.file(name).write, os.path.join(new.path, name))
        if not made.nrecords:
            raise _nothing(folder)
        if info:
            info = _recounted(info, made.files)
            new.file(INFO_NAME).write(json.dumps(info, indent=4).encode())
    return made


def _names(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of a dataset's binary files, and of its other data files."""
    names = [os.path.basename(path) for path in data_files(folder)]
    binary = [n for n in names if not n.endswith(PICKLE_SUFFIX) and not n.startswith(CIFAR)]
    return binary, [n for n in names if n not in binary]


def _recounted(info: Mapping[str, Any], files: Mapping[str, Saved]) -> dict[str, Any]:
    """Return the info JSON with the new numbers of records."""
    found = dict(info)
    for split in dict.fromkeys(name.split("-")[0] for name in files):
        named = [saved.nrecords for name, saved in files.items() if name.split("-")[0] == split]
        if named:
            found = with_count(found, split, sum(named))
    return found


# --- one file -------------------------------------------------------------------------------------


def _dialect(files: list[_Opened], path: str) -> int:
    """Return the dialect that fits most of the files: their beginnings, or else all records."""
    total = dict.fromkeys(layout.DIALECTS, 0)
    for file in files:
        readings = [layout.walk(file.source, d) for d in layout.DIALECTS]
        complete = [r for r in readings if r.complete and r.index.nrecords]
        found = complete[0] if len(complete) == 1 else layout.best(file.source, readings, file.hint)
        if found is not None:
            total[found.head_nbytes] += found.index.nbytes
        elif complete:  # both: the info JSON may decide
            for reading in complete:
                total[reading.head_nbytes] += reading.index.nbytes * reading.agrees(file.hint)
        else:
            for d in layout.DIALECTS:
                try:
                    runs = list(_Repair(file, d, {}, None).runs())
                except LimitError:
                    continue  # it is not that one either
                if sum(n for *_, n in runs) > 1:  # a single record is found in any bytes
                    total[d] += sum(stop - begin for begin, stop, _ in runs)
    first, second = sorted(layout.DIALECTS, key=lambda d: total[d], reverse=True)
    if total[first] > total[second]:
        return first
    if not total[first]:
        raise _nothing(path)
    raise FormatError(path, layout.NAME, "both dialects fit; pass dialect=14 or dialect=6")


class _Repair:
    """One file read as one dialect.

    Parameters
    ----------
    file : _Opened
        The file.
    head : {14, 6}
        The dialect.
    damaged : dict of int to (int, int)
        Records that are left out: number -> begin and end.
    progress : callable, optional
        As for ``repair``.
    """

    def __init__(
        self,
        file: _Opened,
        head: int,
        damaged: dict[int, tuple[int, int]],
        progress: Progress | None,
    ) -> None:
        if head not in layout.DIALECTS:
            raise UnsupportedError(f"{file.source.path}: only binary files can be repaired")
        self._source, self._head = file.source, head
        self._damaged, self._progress = damaged, progress
        self._known = file.shapes()
        self._holes = self._tries = 0

    def _limit(self, what: str, at: int) -> LimitError:
        path = self._source.path
        return LimitError(f"{path}: vimh: more than {what} up to byte {at}: is it a VIMH file?")

    def write(self, write: Write, path: str) -> Saved:
        """Write the complete records, and return what was lost."""
        saved = Saved(path, 0, 0, [], sorted(self._damaged))
        end = 0
        for begin, stop, count in self.runs():
            if begin > end:
                saved.lost.append((end, begin))
            holes = [(a, b) for a, b in self._damaged.values() if begin <= a and b <= stop]
            for a, b in _between(begin, stop, holes):
                self._copy(a, b, write)
                saved.nbytes += b - a
            saved.nrecords += count - len(holes)
            end = stop
        if end < self._source.nbytes:
            saved.lost.append((end, self._source.nbytes))
        return saved

    def _copy(self, begin: int, end: int, write: Write) -> None:
        for at in range(begin, end, COPY_NBYTES):
            step = min(COPY_NBYTES, end - at)
            write(_native.copy(self._source.mapping, at, step, layout.NAME))
            if self._progress is not None:
                self._progress(at + step, self._source.nbytes)

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield stretches of complete records: begin, end, number of records."""
        nbytes, at = self._source.nbytes, 0
        while at < nbytes:
            stop, n = self._run(at)
            if n:
                yield at, stop, n
            if stop >= nbytes:
                return
            found = self._next(stop + (not n))
            if found is None:
                return
            at = found
            self._holes += 1
            most = FEW_HOLES + nbytes // HOLE_NBYTES
            if self._holes > most:
                raise self._limit(f"{most} damaged stretches", at)

    def _run(self, at: int) -> tuple[int, int]:
        """Return where the records from a byte on end, and how many; note their shapes."""
        state = _native.Walk(self._head)
        state.start_behind(at, 0, (), ids_differ=False)
        size = PROOF
        while state.at < self._source.nbytes:
            entries = np.empty(size, ENTRY)
            status, written = state.hop(self._source.mapping, self._source.nbytes, entries)
            shapes = np.stack([entries[k][:written] for k in ("h", "w", "c")], axis=1)
            self._known.update(map(tuple, np.unique(shapes, axis=0).tolist()))
            if status or not written:
                break
            size = min(4 * size, 4096)
        return state.at, state.nrecords

    def _next(self, at: int) -> int | None:
        """Return the next byte at which records of known shapes begin again."""
        known = np.sort(_keys(np.array(sorted(self._known), np.uint64).reshape(-1, 3).T))
        nbytes, step = self._source.nbytes, FIRST_SEARCH_NBYTES
        while at + layout.DIMS_NBYTES <= nbytes:
            size = min(step + layout.DIMS_NBYTES - 1, nbytes - at)
            data = np.frombuffer(
                _native.copy(self._source.mapping, at, size, layout.NAME), np.uint8
            )
            for place in self._likely(data, nbytes - at, known):
                if self._begins(at + place):
                    return at + place
                self._tries += 1
                most = FEW_TRIES + nbytes // TRY_NBYTES
                if self._tries > most:
                    raise self._limit(f"{most} places that look like a record and are not", at)
            at += len(data) - layout.DIMS_NBYTES + 1
            step = SEARCH_NBYTES
        return None

    def _likely(self, data: NDArray[np.uint8], left: int, known: NDArray[np.uint64]) -> list[int]:
        """Return the places in ``data`` where PROOF records may begin, as far as it reaches.

        By operations on arrays: in a hostile file each byte may look like a beginning.
        """
        low, high = data[:-1].astype(np.uint64), data[1:].astype(np.uint64)
        word = low | high << np.uint64(8)
        n = len(data) - layout.DIMS_NBYTES + 1
        dims = np.stack([word[k : k + n] for k in (0, 2, 4)])
        start = np.flatnonzero(np.isin(_keys(dims), known))
        place = start.astype(np.int64)
        for _ in range(PROOF):
            within = place + self._head < len(data)
            within &= place < n
            at = place[within]
            h, w, c = dims[:, at].astype(np.float64)  # the product may exceed 64 bits
            size = self._head + 1 + 2.0 * data[at + self._head] + h * w * c
            good = np.ones(len(place), bool)
            good[within] = (h * w * c > 0) & (at + size <= left)
            place[within] += np.where(good[within], size, 0).astype(np.int64)
            start, place = start[good], place[good]
        found: list[int] = start.tolist()
        return found

    def _begins(self, at: int) -> bool:
        state = _native.Walk(self._head)
        state.start_behind(at, 0, (), ids_differ=False)
        state.hop(self._source.mapping, self._source.nbytes, np.empty(PROOF, ENTRY))
        n = state.nrecords
        return n >= PROOF or (n > 0 and state.at == self._source.nbytes)


def _keys(dims: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return heights, widths and channels, (3, n), as one number each."""
    h, w, c = dims
    found: NDArray[np.uint64] = h | w << np.uint64(16) | c << np.uint64(32)
    return found


def _damaged(
    source: Source, sums: Checksums | None, index: RecordIndex | None
) -> dict[int, tuple[int, int]]:
    """Return records with a wrong checksum: number -> begin and end."""
    if sums is None or index is None or not sums.sound():
        return {}
    native, found = index.native(interleaved=False), {}
    offsets, stored = np.append(index.offsets(), index.nbytes), sums.values
    now = np.empty(1, np.uint32)
    for i in range(index.nrecords):
        try:
            native.checksums(source.mapping, np.array([i]), now)
        except MapixError:
            continue  # its header is wrong: it is not a record
        if now[0] != stored[i]:
            found[i] = (int(offsets[i]), int(offsets[i + 1]))
    return found


def _between(begin: int, end: int, holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the rest of a stretch without the holes in it."""
    for a, b in sorted(holes):
        if a > begin:
            yield begin, a
        begin = b
    if end > begin:
        yield begin, end
