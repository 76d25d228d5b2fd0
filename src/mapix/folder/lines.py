"""Text files of lines, each a JSON value: where the lines are, and one of them as a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native.lines import Lines as Pass
from mapix.errors import FormatError, LimitError
from mapix.source import Source

__all__ = ["MAX_LINE_NBYTES", "Lines", "value_of"]

NAME = "jsonl"
MAX_LINE_NBYTES = 1 << 20
FIRST_STEP = 1 << 16  # bytes looked at for the first line
BLOCK_NBYTES = 1 << 20  # copied at once by a pass over all lines
MOST_STEP = 64 << 20  # bytes between two looks at Ctrl-C
# Lists and objects cost most: 2 bytes of "[]" become 100, of which several copies may be held.
MOST_BRACKETS = 1 << 16
NBYTES_PER_BRACKET = 10
MOST_DEEP = 1000  # that Python's parser goes
ROOM = 1 << 12  # lines, to begin with


class _Known(NamedTuple):
    """What is known of the lines so far; replaced as a whole, never changed."""

    begins: NDArray[np.uint64]  # longer than nrecords: the rest is room
    state: Pass


class Lines:
    """The lines of a file that are not blank: found as far as somebody asked.

    The first line of a file of any size costs a look at 64 KiB.  Threads that ask at once do the
    same work twice, and find the same.

    Parameters
    ----------
    source : Source
        The file.
    limit : int
        Bytes that a line may have (``max_line_nbytes``).
    format : str
        What errors call the file.
    """

    def __init__(self, source: Source, limit: int = MAX_LINE_NBYTES, format: str = NAME) -> None:
        self.source = source
        self.format = format
        self.limit = limit
        self._nbytes = source.nbytes
        self._known = _Known(np.empty(ROOM, np.uint64), Pass())

    def __len__(self) -> int:
        return self._all().state.nrecords

    @property
    def nlines(self) -> int:
        """All lines, blank ones too."""
        return self._all().state.nlines

    @property
    def longest(self) -> int:
        """Bytes of the longest line."""
        return self._all().state.longest

    # What follows works on what it was given, not on self._known, which another thread may have put
    # back to less meanwhile.

    def _all(self) -> _Known:
        known = self._known
        while known.state.at < self._nbytes:
            known = self._go_on(known, MOST_STEP)
        return known

    def _upto(self, row: int) -> _Known:
        """Lines up to that number, or all; looks no further than it has to."""
        known, step = self._known, FIRST_STEP
        while known.state.nrecords <= row and known.state.at < self._nbytes:
            known = self._go_on(known, step)
            step = min(2 * step, MOST_STEP)
        return known

    def _go_on(self, known: _Known, step: int) -> _Known:
        begins, n = known.begins, known.state.nrecords
        if n == len(begins):  # not concatenate: it would touch the room that may stay unused
            begins = np.empty(4 * n, np.uint64)
            begins[:n] = known.begins
        state = known.state.copy()
        state.find(self.source.mapping, state.at + step, begins[n:])
        self._known = found = _Known(begins, state)
        return found

    def has(self, row: int) -> bool:
        """Whether there is a line of that number, from 0."""
        return row < self._upto(row).state.nrecords

    def _with(self, row: int) -> _Known:
        known = self._upto(row)
        if not 0 <= row < known.state.nrecords:
            raise IndexError(f"{self.source.path}: line {row} of {len(self)}")
        return known

    def begin(self, row: int) -> int:
        """Byte where a line begins."""
        return int(self._with(row).begins[row])

    def place(self, row: int) -> tuple[int, int]:
        """Where a line begins and ends; its end may have blanks and blank lines in it."""
        begins, state = self._with(row)
        begin = int(begins[row])
        end = int(begins[row + 1]) if row + 1 < state.nrecords else state.begin
        if end - begin > self.limit:  # is it the line, or what is blank behind it?
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
        """Number of a line among all lines of the file, blank ones too, from 1.  Cost: O(row)."""
        begin, count = self.begin(row), Pass()
        while count.at < begin:
            count.find(self.source.mapping, min(count.at + MOST_STEP, begin), None)
        return count.nlines + 1

    def numbers(self) -> NDArray[np.int64]:
        """``number`` of all lines, (n,)."""
        found, state, n = np.empty(len(self), np.uint64), Pass(), 0
        while n < len(found):
            n += state.find(self.source.mapping, state.at + MOST_STEP, None, found[n:])
        return found.astype(np.int64)

    def line(self, row: int) -> bytes:
        """The bytes of a line, copied under the guard; its end may have blanks."""
        begin, end = self.place(row)
        return bytes(_native.copy(self.source.mapping, begin, end - begin, self.format))

    def __iter__(self) -> Iterator[bytes]:
        """All lines, a block of them copied at a time: for passes over all of the file."""
        begins, state = self._all()
        n = state.nrecords
        edges = np.append(begins[:n], np.uint64(state.begin)).astype(np.int64)
        row = 0
        while row < n:
            begin = int(edges[row])
            last = int(np.searchsorted(edges, begin + BLOCK_NBYTES, "right")) - 1
            if last <= row:
                yield self.line(row)
                row += 1
                continue
            bounds = (edges[row : last + 1] - begin).tolist()
            data = bytes(_native.copy(self.source.mapping, begin, bounds[-1], self.format))
            for k in range(last - row):
                line = data[bounds[k] : bounds[k + 1]]
                yield line if len(line) <= self.limit else self.line(row + k)
            row = last

    def value(self, row: int) -> Any:
        """A line as a JSON value.

        Raises
        ------
        FormatError
            It is none; the message names the line and the byte.
        LimitError
            It is too long.
        """
        return self.parsed(row, self.line(row))

    def parsed(self, row: int, data: bytes) -> Any:
        """The value of a line whose bytes are at hand."""
        nbrackets = data.count(b"[") + data.count(b"{")
        if nbrackets > MOST_BRACKETS and nbrackets * NBYTES_PER_BRACKET > self.limit:
            nclosed = data.count(b"]") + data.count(b"}")
            if nbrackets - nclosed < MOST_DEEP:  # else the parser says so, early
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
        """What to raise about a line."""
        begin = self.begin(row)
        reason = f"line {self.number(row)}: {reason}"
        return FormatError(self.source.path, self.format, reason, record=row, at=begin + at)


# --- JSON --------------------------------------------------------------------------------------


class _BadError(ValueError):
    """Why a line is no JSON, and at which byte of it."""

    def __init__(self, reason: str, at: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.at = reason, at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise _BadError(f"the key {twice[:80]!r} is there twice")
    return found


_decode: Any = None


def value_of(data: bytes) -> Any:
    """One line as a value: UTF-8, no key twice; NaN and Infinity pass, as Python's ``json`` writes.

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
        raise _BadError(f"no UTF-8: {e.reason}", e.start) from e
    try:
        return _decode(text)
    except _BadError:
        raise
    except RecursionError as e:
        raise _BadError("brackets nested too deeply") from e
    except ValueError as e:
        at = getattr(e, "pos", 0)
        reason = getattr(e, "msg", None) or "a number of too many digits"
        raise _BadError(f"no JSON: {reason}", len(text[:at].encode())) from e
