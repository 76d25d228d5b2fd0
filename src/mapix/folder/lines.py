"""Text files with one JSON value per line: find the lines, and parse one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mapix import _native
from mapix._native.lines import Lines as Pass
from mapix.errors import FormatError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Source

__all__ = ["MAX_LINE_NBYTES", "Lines", "value_of"]

NAME = "jsonl"
MAX_LINE_NBYTES = 1 << 20
FIRST_STEP_NBYTES = 1 << 16  # searched for the first line
BLOCK_NBYTES = 1 << 20  # copied at once by an iteration over all lines
MOST_STEP_NBYTES = 64 << 20  # searched between two checks for Ctrl-C
# Lists and objects cost most: 2 bytes of "[]" become 100 bytes in memory.
MOST_BRACKETS = 1 << 16
NBYTES_PER_BRACKET = 10
MOST_DEEP = 1000  # levels of brackets of Python's parser
FIRST_CAPACITY = 1 << 12  # lines


class _Known(NamedTuple):
    """The lines that were found so far: replaced, never changed."""

    begins: NDArray[np.uint64]  # longer than nrecords: the rest is capacity
    state: Pass


class Lines:
    """The lines of a file that are not blank, found as far as they are needed.

    To find the first line of a file of any size, 64 KiB are searched.  Threads that search at once
    do the same work twice, and find the same.

    Parameters
    ----------
    source : Source
        The file.
    limit : int
        The most bytes of a line (``max_line_nbytes``).
    format : str
        Name of the format, for errors.
    """

    def __init__(self, source: Source, limit: int = MAX_LINE_NBYTES, format: str = NAME) -> None:
        self.source = source
        self.format = format
        self.limit = limit
        self._nbytes = source.nbytes
        self._known = _Known(np.empty(FIRST_CAPACITY, np.uint64), Pass())

    def __len__(self) -> int:
        return self._all().state.nrecords

    @property
    def nlines(self) -> int:
        """Number of all lines, including blank ones."""
        return self._all().state.nlines

    @property
    def longest(self) -> int:
        """Length of the longest line in bytes."""
        return self._all().state.longest

    # These methods work on their arguments, not on self._known, which another thread might replace
    # by an earlier state.

    def _all(self) -> _Known:
        known = self._known
        while known.state.at < self._nbytes:
            known = self._go_on(known, MOST_STEP_NBYTES)
        return known

    def _upto(self, row: int) -> _Known:
        """Find the lines up to that number, or all, and no more than necessary."""
        known, step = self._known, FIRST_STEP_NBYTES
        while known.state.nrecords <= row and known.state.at < self._nbytes:
            known = self._go_on(known, step)
            step = min(2 * step, MOST_STEP_NBYTES)
        return known

    def _go_on(self, known: _Known, step: int) -> _Known:
        begins, n = known.begins, known.state.nrecords
        if n == len(begins):  # not concatenate: it would touch capacity that may stay unused
            begins = np.empty(4 * n, np.uint64)
            begins[:n] = known.begins
        state = known.state.copy()
        state.find(self.source.mapping, state.at + step, begins[n:])
        self._known = found = _Known(begins, state)
        return found

    def has(self, row: int) -> bool:
        """Return whether there is a line of that number, from 0."""
        return row < self._upto(row).state.nrecords

    def _with(self, row: int) -> _Known:
        known = self._upto(row)
        if not 0 <= row < known.state.nrecords:
            raise IndexError(f"{self.source.path}: line {row} of {len(self)}")
        return known

    def begin(self, row: int) -> int:
        """Return the byte offset of a line."""
        return int(self._with(row).begins[row])

    def place(self, row: int) -> tuple[int, int]:
        """Return begin and end of a line in bytes; its end may include blanks and blank lines."""
        begins, state = self._with(row)
        begin = int(begins[row])
        end = int(begins[row + 1]) if row + 1 < state.nrecords else state.begin
        if end - begin > self.limit:  # the line itself, or blank lines after it
            one = Pass(begin)
            one.find(self.source.mapping, begin + self.limit + 1, np.empty(1, np.uint64))
            if one.begin == begin:
                raise LimitError(
                    f"{self.source.path}: line {self.number(row)} at byte {begin} has more than "
                    f"the limit of {self.limit} bytes; max_line_nbytes= of open raises it"
                )
            end = one.begin
        return begin, end

    def number(self, row: int) -> int:
        """Return the number of a line, from 1, blank lines included.  Cost: O(row)."""
        begin, count = self.begin(row), Pass()
        while count.at < begin:
            count.find(self.source.mapping, min(count.at + MOST_STEP_NBYTES, begin), None)
        return count.nlines + 1

    def numbers(self) -> NDArray[np.int64]:
        """Return the ``number`` of all lines, int64 (n,)."""
        found, state, n = np.empty(len(self), np.uint64), Pass(), 0
        while n < len(found):
            n += state.find(self.source.mapping, state.at + MOST_STEP_NBYTES, None, found[n:])
        return found.astype(np.int64)

    def line(self, row: int) -> bytes:
        """Return the bytes of a line, copied under the guard; it may end with blanks."""
        begin, end = self.place(row)
        return bytes(_native.copy(self.source.mapping, begin, end - begin, self.format))

    def edges(self) -> NDArray[np.uint64]:
        """Return where all lines begin, and where the last one ends, uint64 (n + 1,)."""
        begins, state = self._all()
        return np.append(begins[: state.nrecords], np.uint64(state.begin))

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of all lines; a block of them is copied at a time."""
        return self.some(None)

    def some(self, rows: NDArray[np.int64] | None) -> Iterator[bytes]:
        """Yield the bytes of lines, by number, ascending (None: all); copied by blocks."""
        edges = self.edges().astype(np.int64)
        begins, ends = (edges[:-1], edges[1:]) if rows is None else (edges[rows], edges[rows + 1])
        k = 0
        while k < len(begins):
            begin = int(begins[k])
            last = int(np.searchsorted(ends, begin + BLOCK_NBYTES, "right"))
            if last <= k:
                yield self.line(k if rows is None else int(rows[k]))
                k += 1
                continue
            bounds = np.stack([begins[k:last], ends[k:last]], axis=1) - begin
            nbytes = int(ends[last - 1]) - begin
            data = bytes(_native.copy(self.source.mapping, begin, nbytes, self.format))
            for j, (first, end) in enumerate(bounds.tolist(), k):
                if end - first <= self.limit:
                    yield data[first:end]
                else:
                    yield self.line(j if rows is None else int(rows[j]))
            k = last

    def value(self, row: int) -> Any:
        """Return a parsed line.

        Raises
        ------
        FormatError
            It is not JSON; the message names the line and the byte.
        LimitError
            It is too long.
        """
        return self.parsed(row, self.line(row))

    def parsed(self, row: int, data: bytes) -> Any:
        """Parse the bytes of a line."""
        nbrackets = data.count(b"[") + data.count(b"{")
        if nbrackets > MOST_BRACKETS and nbrackets * NBYTES_PER_BRACKET > self.limit:
            nclosed = data.count(b"]") + data.count(b"}")
            if nbrackets - nclosed < MOST_DEEP:  # else the parser refuses it early
                place = f"{self.source.path}: line {self.number(row)}"
                raise LimitError(
                    f"{place} has {nbrackets} lists and objects, more than the limit of "
                    f"{self.limit // NBYTES_PER_BRACKET}; max_line_nbytes= of open raises it "
                    f"({NBYTES_PER_BRACKET} bytes for each)"
                )
        try:
            return value_of(data)
        except _BadError as e:
            raise self.error(row, e.reason, e.at) from e

    def error(self, row: int, reason: str, at: int = 0) -> FormatError:
        """Return the error about a line."""
        begin = self.begin(row)
        reason = f"line {self.number(row)}: {reason}"
        return FormatError(self.source.path, self.format, reason, record=row, at=begin + at)


# --- JSON --------------------------------------------------------------------------------------


class _BadError(ValueError):
    """A line is not JSON: the reason, and the byte of the line."""

    def __init__(self, reason: str, at: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.at = reason, at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise _BadError(f"the key {twice[:80]!r} occurs twice")
    return found


_decode: Any = None


def value_of(data: bytes) -> Any:
    """Parse a line of UTF-8 in which no key occurs twice.

    NaN and Infinity are allowed: Python's ``json`` writes them.

    Raises
    ------
    ValueError
        With ``reason`` and ``at`` (a byte of the line).
    """
    global _decode
    if _decode is None:
        import json

        _decode = json.JSONDecoder(object_pairs_hook=_unique).decode
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise _BadError(f"not UTF-8: {e.reason}", e.start) from e
    try:
        return _decode(text)
    except _BadError:
        raise
    except RecursionError as e:
        raise _BadError("brackets nested too deeply") from e
    except ValueError as e:
        at = getattr(e, "pos", 0)
        reason = getattr(e, "msg", None) or "a number of too many digits"
        raise _BadError(f"not JSON: {reason}", len(text[:at].encode())) from e
