"""A JSON text in a mapped file, read from front to back in bounded memory.

Brackets, names and single values are read here, through a window that is copied under the guard;
arrays of numbers are read by the C core into float32 arrays.  In a strict text strings and numbers
follow the grammar of VisualRBM's reader; otherwise that of JSON is accepted, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native import json as core
from mapix.errors import FormatError, LimitError
from mapix.source import Source

__all__ = ["Text"]

WINDOW_NBYTES = 4096
SKIP_NBYTES = 1 << 16  # of a value that is skipped, read at once
MOST_TEXT_NBYTES = 1 << 16  # of a string, or of one number
MOST_NAMES = 10_000  # in one object
MOST_NAMES_OF_ALL = 1 << 15  # in all objects of a text
MOST_DEPTH = 1000  # of brackets in a value that is skipped
LEAST_NUMBER_NBYTES = 2  # a digit, and a separator
BLANKS = re.compile(rb"[ \t\r\n]*")
CLOSES = {b"]": ord("["), b"}": ord("{")}
WORD = re.compile(rb"[^ \t\r\n,:\]}{\[\"]*")
TOKENS = re.compile(
    rb'[][{}]|"(?:[^"\\]++|\\.)*+"|"', re.S
)  # a bracket, a string, or its beginning
CHARACTERS = re.compile(rb'(?:[^"\\]++|\\.)*+', re.S)
NUMBER = {
    True: re.compile(rb"(?=[-0-9])-?[0-9]*(\.[0-9]*([eE][+-]?[0-9]*)?)?"),
    False: re.compile(rb"(?=[-0-9])-?[0-9]*(\.[0-9]*)?([eE][+-]?[0-9]*)?"),
}
ESCAPES = {
    **{ord(c): c.encode() for c in '"\\/'},
    **{ord(k): v for k, v in zip("bfnrt", (b"\b", b"\f", b"\n", b"\r", b"\t"), strict=True)},
}
# the token that the core expected, by the state that it returns
EXPECTED = {
    0: "[",
    2: "[ or ]",
    3: "[",
    4: "a number or ]",
    5: "a number",
    6: ", or ]",
    7: ", or ]",
}
BOM = b"\xef\xbb\xbf"


class Text:
    """A position in a text.

    Parameters
    ----------
    source : Source
        The file.
    format : str
        Name of the format, for messages.
    strict : bool
        Whether to read as VisualRBM does.

    Attributes
    ----------
    at : int
        The next byte of the file.
    """

    def __init__(self, source: Source, format: str, *, strict: bool) -> None:
        self.at = 0
        self._source, self._format, self._strict = source, format, strict
        self._nbytes = source.nbytes
        self._begin, self._window = 0, b""
        self._nnames = 0
        if not strict and self._rest(3)[:3] == BOM:
            self.at = 3

    # --- bytes ------------------------------------------------------------------------------------

    def _look(self, nbytes: int, window: int = WINDOW_NBYTES) -> tuple[bytes, int]:
        """Return bytes, at least ``nbytes`` where the file has them, and where they begin."""
        begin = self.at - self._begin
        if not 0 <= begin <= len(self._window) - min(nbytes, self._nbytes - self.at):
            size = min(max(nbytes, window), self._nbytes - self.at)
            copied = _native.copy(self._source.mapping, self.at, size, self._format)
            self._begin, self._window, begin = self.at, bytes(copied), 0
        return self._window, begin

    def _rest(self, nbytes: int) -> bytes:
        """Return the next bytes, at least ``nbytes`` of them where the file has them."""
        window, begin = self._look(nbytes)
        return window[begin:] if begin else window

    def problem(self, reason: str, at: int | None = None) -> FormatError:
        """Return a FormatError of this text."""
        at = self.at if at is None else at
        return FormatError(self._source.path, self._format, reason, at=at)

    def _met(self) -> str:
        """Return the next word, for a message."""
        rest = self._rest(1)
        if not rest:
            return "the end of the text"
        word = BLANKS.sub(b"", (WORD.match(rest) or [b""])[0])[:30] or rest[:1]
        return repr(word.decode("utf-8", "backslashreplace"))

    def peek(self) -> bytes:
        """Return the next byte that is not a blank, without consuming it; empty at the end."""
        while True:
            window, begin = self._look(1)
            found = BLANKS.match(window, begin)
            assert found is not None  # it matches anything
            end = found.end()
            self.at += end - begin
            if end < len(window) or begin == len(window):
                return window[end : end + 1]

    def take(self, byte: bytes, where: str) -> None:
        """Consume the next byte, which has to be this one."""
        if self.peek() != byte:
            raise self.problem(f"{where}: {byte.decode()} expected, got {self._met()}")
        self.at += 1

    # --- values -----------------------------------------------------------------------------------

    def names(self, where: str) -> Iterator[str]:
        """Yield the names of an object; after each the caller reads its value."""
        self.take(b"{", where)
        number = 0
        while (byte := self.peek()) != b"}":
            if number:
                if byte != b",":
                    raise self.problem(f"{where}: , or }} expected, got {self._met()}")
                self.at += 1
            number += 1
            self._nnames += 1
            if number > MOST_NAMES or self._nnames > MOST_NAMES_OF_ALL:
                limit = f"{where}: more than {MOST_NAMES} names, or {MOST_NAMES_OF_ALL} in the text"
                raise LimitError(f"{self._source.path}: {self._format}: {limit}")
            name = self.string(f"{where}: a name in quotes")
            self.take(b":", name)
            yield name
        self.at += 1

    def items(self, where: str) -> Iterator[int]:
        """Yield the numbers of an array's items; after each the caller reads the item."""
        self.take(b"[", where)
        number = 0
        while (byte := self.peek()) != b"]":
            if number:
                if byte != b",":
                    raise self.problem(f"{where}: , or ] expected, got {self._met()}")
                self.at += 1
            yield number
            number += 1
        self.at += 1

    def string(self, where: str) -> str:
        """Read a string."""
        if self.peek() != b'"':
            raise self.problem(f"{where}: a string expected, got {self._met()}")
        begin, end = self.at, self._string_end(MOST_TEXT_NBYTES)
        self.at = begin
        window, first = self._look(end - begin)
        raw = window[first : first + end - begin]
        self.at = end
        if self._strict:
            return self._unescaped(raw[1:-1], begin, where).decode("utf-8", "surrogateescape")
        import json

        try:
            return str(json.loads(raw.decode("utf-8", "surrogateescape"), strict=False))
        except ValueError as e:
            raise self.problem(f"{where}: not a string: {e}", begin) from e

    def _string_end(self, most: int) -> int:
        """Move to the end of the next string, and return it."""
        begin = self.at
        self.at += 1
        while True:
            window, first = self._look(2, min(most, SKIP_NBYTES))
            found = CHARACTERS.match(window, first)
            assert found is not None  # it matches anything
            end = found.end()
            self.at += end - first
            if self.at - begin > most:
                limit = f"a string of more than {most} bytes at byte {begin}"
                raise LimitError(f"{self._source.path}: {self._format}: {limit}")
            if window[end : end + 1] == b'"':
                self.at += 1
                return self.at
            if end == first:  # nothing is left, or only a backslash
                self.at = begin
                raise self.problem("a string that does not end")

    def _unescaped(self, raw: bytes, at: int, where: str) -> bytes:
        parts = raw.split(b"\\")
        found = [parts[0]]
        k = 1
        while k < len(parts):
            part = parts[k]
            if not part and k + 1 < len(parts):  # an escaped backslash
                found.append(b"\\" + parts[k + 1])
                k += 2
                continue
            if part[:1] == b"" or part[0] not in ESCAPES:
                raise self.problem(f"{where}: an escape that VisualRBM does not know", at)
            found.append(ESCAPES[part[0]] + part[1:])
            k += 1
        return b"".join(found)

    def number(self, where: str) -> str:
        """Read a number, as it is written."""
        self.peek()
        nbytes = WINDOW_NBYTES
        while True:
            rest = self._rest(nbytes)
            found = NUMBER[self._strict].match(rest)
            if found is None:
                raise self.problem(f"{where}: a number expected, got {self._met()}")
            if found.end() < len(rest) or self.at + len(rest) >= self._nbytes:
                self.at += found.end()
                return found[0].decode()
            nbytes = 2 * len(rest)
            if nbytes > 2 * MOST_TEXT_NBYTES:
                raise LimitError(
                    f"{self._source.path}: {where}: a number of {MOST_TEXT_NBYTES} digits"
                )

    def skip(self, where: str) -> None:
        """Skip any value."""
        byte = self.peek()
        if byte == b'"':
            self._string_end(self._nbytes)
        elif byte == b"[" and self._skip_numbers():
            return
        elif byte in (b"[", b"{") and byte:
            self._skip_nested(where)
        else:
            word = self._word()
            if word not in (b"true", b"false", b"null") and not NUMBER[False].fullmatch(word):
                raise self.problem(f"{where}: a value expected, got {self._met()}")
            self.at += len(word)

    def _word(self) -> bytes:
        """Return the text before the next blank or mark, at most a window; it is not consumed."""
        window, begin = self._look(1)
        found = WORD.match(window, begin)
        if found is None or found.end() == len(window):  # it may continue after the window
            window, begin = self._look(WINDOW_NBYTES)
            found = WORD.match(window, begin)
        assert found is not None  # it matches anything
        return found[0]

    def _skip_numbers(self) -> bool:
        """Skip an array or rows of numbers by the C core; return whether there was one."""
        mapping = self._source.mapping
        for depth in (2, 1):
            found = core.read(mapping, self.at, depth, core.ANY, None)
            if not found.status:
                self.at = found.at
                return True
        return False

    def _skip_nested(self, where: str) -> None:
        begin = self.at
        open_ones = bytearray()
        while True:
            window, first = self._look(1, SKIP_NBYTES)
            if first == len(window):
                raise self.problem(f"{where}: the value that begins here does not end", begin)
            origin = self.at - first
            self.at = origin + len(window)
            for found in TOKENS.finditer(window, first):
                token = found[0]
                if token in (b"[", b"{"):
                    open_ones += token
                    if len(open_ones) > MOST_DEPTH:
                        raise self.problem(f"{where}: nested deeper than {MOST_DEPTH}", begin)
                elif token in CLOSES:
                    if open_ones.pop() != CLOSES[token]:
                        at = origin + found.end()
                        raise self.problem(f"{where}: {token.decode()} closes another bracket", at)
                    if not open_ones:
                        self.at = origin + found.end()
                        return
                elif len(token) == 1:  # the string continues after the window
                    self.at = origin + found.start()
                    self._string_end(self._nbytes)
                    break

    # --- arrays of numbers ------------------------------------------------------------------------

    def numbers(self, where: str, shape: tuple[int | None, ...]) -> tuple[NDArray[np.float32], int]:
        """Read an array of one or two dimensions; return it and the count of infinite numbers.

        Memory is allocated only when the text is long enough to hold the array; dimensions that are
        None are counted first.

        Raises
        ------
        FormatError
            There is no such array; the message names the byte.
        """
        self.peek()
        known = [d for d in shape if d is not None]
        total = 1
        for d in known:
            total *= d
        full = (1, *shape)[-2:]
        if len(known) < len(shape) or total * LEAST_NUMBER_NBYTES > self._nbytes - self.at:
            counted = self._read(where, len(shape), None, full)
            full = counted.nrows, 0 if counted.ncolumns == core.UNKNOWN else counted.ncolumns
        out: NDArray[np.float32] = np.empty((full[0] or 0, full[1] or 0), np.float32)
        found = self._read(where, len(shape), out, full)
        self.at = found.at
        return (out[0] if len(shape) == 1 else out), found.ninfinite

    def _read(
        self, where: str, depth: int, out: Any, shape: tuple[int | None, ...]
    ) -> core.Numbers:
        nrows, ncolumns = (core.UNKNOWN if d is None else d for d in shape)
        grammar = core.ORIGINAL if self._strict else core.ANY
        found = core.read(self._source.mapping, self.at, depth, grammar, out, nrows, ncolumns)
        if not found.status:
            return found
        at, row = found.at, f"[{found.nrows}]" if depth == 2 else ""
        _, _, want, got = found.where
        if found.status == core.TOKEN:
            self.at = at
            place = f"{where}{row}[{found.column}]" if want in (4, 5) else f"{where}{row}"
            raise self.problem(f"{place}: {EXPECTED[want]} expected, got {self._met()}")
        more = "more" if got > want else str(got)
        if found.status == core.ROWS:
            raise self.problem(f"{where}: {want} rows expected, {more} found", at)
        raise self.problem(f"{where}{row}: {want} numbers expected, {more} found", at)
