"""The pickle machine (protocols 0 to 5), without anything that executes.

Differences from CPython's, all on purpose: names are data (``objects``); bytes and long texts stay
in the file; a memo is a dict, so that no index allocates memory; every length is compared with the
rest of the file before anything is made; persistent ids, extensions, out-of-band buffers and
instances are refused.

Each opcode takes a bounded time, or is counted as several.  Work and memory
are limited in proportion to the file, so that a small file cannot ask for much of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from mapix import _native
from mapix.errors import FormatError, LimitError
from mapix.source import Source
from mapix.vimh.pickles import objects
from mapix.vimh.pickles.objects import RefusedError, Short, Span, Text

__all__ = ["Machine"]

FORMAT = "pickle"
FIRST_WINDOW_NBYTES = 1 << 12  # read in one piece, at first: opening needs few
WINDOW_NBYTES = 1 << 16  # and later
SHORT_NBYTES = 4096  # bytes and texts up to this length are copied from the file
MOST_WORK = 1 << 26  # opcodes in Python; some count as several, rows in C do not count
FREE_WORK, WORK_EACH = 1 << 16, 2  # of any file, and for each of its bytes
WORK_NBYTES = 64  # bytes that are searched or copied in the time of an opcode
MOST_HELD = 1 << 30  # bytes of values, roughly
FREE_HELD, HELD_EACH = 16 << 20, 40  # of any file, and for each of its bytes
NUMBER_DIGITS = 400  # of a number written as text; enough for any float
KEY_BITS = 63  # of an integer that is a key: longer ones can be chosen to collide
MEMO_BITS = 32
ROW_MOST = 1 + 2 * 255  # numbers of a row of labels
ROWS_AT_ONCE = 4096
ROWS_WORK = 64  # of one call that searches for rows
ROWS_TRIES = 256  # calls without a result, in any file
ROWS_ENOUGH = 8  # rows that pay for a call

# About what CPython takes for a value, its place on the stack included.
LIST_NBYTES, DICT_NBYTES, TUPLE_NBYTES = 96, 272, 72
BYTES_NBYTES, TEXT_NBYTES, MEMO_NBYTES, MARK_NBYTES = 320, 96, 112, 48
CALL_NBYTES, ITEM_NBYTES = 160, 112

Pause = Callable[[list[Any]], bool]
_Step = Callable[["Machine"], object]
"""Function of an opcode; it returns True where an array is complete."""


class Machine:
    """One run over one pickle.

    Parameters
    ----------
    source : Source
        The file.
    at : int
        Byte of the first opcode.

    Attributes
    ----------
    work : int
        Opcodes so far; some count as several.
    held : int
        Bytes of the values so far, roughly, dropped ones included.

    Notes
    -----
    Copies: short values; arrays stay where they are (``objects.Array``).  Threads: one at a time.
    Cost: about a microsecond per opcode, 0.1 per row of small numbers.
    """

    def __init__(self, source: Source, at: int = 0) -> None:
        self.source = source
        self.at = at
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.protocol = 0
        self.finished = False
        self._marks: list[int] = []
        self._window = b""
        self._begin = 0
        self.work = 0
        self.held = 0
        self._most_work = min(MOST_WORK, FREE_WORK + WORK_EACH * source.nbytes)
        self._most_held = min(MOST_HELD, FREE_HELD + HELD_EACH * source.nbytes)
        self._tries = ROWS_TRIES

    # --- reading ----------------------------------------------------------------------------------

    def _need(self, nbytes: int) -> None:
        left = self.source.nbytes - self.at
        if nbytes > left:
            raise RefusedError(f"{nbytes} bytes were expected, {left} are left")

    def _fill(self, nbytes: int) -> int:
        """Read the next ``nbytes`` or more into the window, and return where they begin in it."""
        at = self.at - self._begin
        if not 0 <= at <= len(self._window) - nbytes:
            self._need(nbytes)
            wanted = WINDOW_NBYTES if self._window else FIRST_WINDOW_NBYTES
            size = min(max(wanted, nbytes), self.source.nbytes - self.at)
            self._spend(size // WORK_NBYTES)
            self._window = bytes(_native.copy(self.source.mapping, self.at, size, FORMAT))
            self._begin, at = self.at, 0
        return at

    def _take(self, nbytes: int) -> bytes:
        """Return the next bytes, which are few."""
        at = self._fill(nbytes)
        self.at += nbytes
        return self._window[at : at + nbytes]

    def _number(self, nbytes: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(nbytes), "little", signed=signed)

    def _line_nbytes(self, most: int) -> int:
        """Return the number of bytes up to the next newline; RefusedError where there are more."""
        begin = self.at
        try:
            while self.at < self.source.nbytes and self.at - begin <= most:
                at = self._fill(1)
                end = self._window.find(b"\n", at)
                searched = (len(self._window) if end < 0 else end) - at
                self._spend(searched // WORK_NBYTES)
                self.at += searched
                if end >= 0 and self.at - begin <= most:
                    return self.at - begin
        finally:
            self.at = begin
        raise RefusedError(f"a line of more than {most} bytes, or without an end")

    def _line(self, most: int = SHORT_NBYTES) -> bytes:
        """Return the bytes up to a newline, which is skipped."""
        return self._take(self._line_nbytes(most) + 1)[:-1]

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > self._most_work:
            raise LimitError(
                f"{self.source.path}: pickle: reading it takes more than {self._most_work} steps, "
                f"as many as a file of {self.source.nbytes} bytes may ask for"
            )

    def _hold(self, nbytes: int) -> None:
        self.held += nbytes
        if self.held > self._most_held:
            raise LimitError(
                f"{self.source.path}: pickle: its values take more than {self._most_held} bytes, "
                f"as many as a file of {self.source.nbytes} bytes may ask for"
            )

    # --- values -----------------------------------------------------------------------------------

    def _bytes(self, nbytes: int) -> None:
        self._need(nbytes)
        if nbytes <= SHORT_NBYTES:
            self._hold(nbytes + BYTES_NBYTES)
            at = self.at
            short = Short(self._take(nbytes))
            short.at = at
            self.stack.append(short)
        else:
            self.stack.append(Span(self.at, nbytes))
            self.at += nbytes

    def _text(self, nbytes: int, kind: str = "utf-8") -> None:
        self._need(nbytes)
        if nbytes > SHORT_NBYTES:
            self.stack.append(Text(self.at, nbytes, kind))
            self.at += nbytes
            return
        self._hold(4 * nbytes + TEXT_NBYTES)
        codec = "raw-unicode-escape" if kind == "raw-unicode-escape" else "utf-8"
        try:
            self.stack.append(self._take(nbytes).decode(codec, "surrogatepass"))
        except UnicodeDecodeError as e:
            raise RefusedError(f"a text that is not {codec}") from e

    def _text_line(self, kind: str) -> None:
        """Push a text or a string up to a newline, of any length."""
        begin, nbytes = self.at, self._line_nbytes(self.source.nbytes)
        if kind != "string-escape":
            self._text(nbytes, kind)
        else:
            place = self._fill(1)
            quote = self._window[place]
            if nbytes < 2 or quote not in b"'\"":
                raise RefusedError("a string without quotes")
            if nbytes > SHORT_NBYTES:
                self.stack.append(Text(begin + 1, nbytes - 2, kind, "latin-1"))
            else:
                self._hold(nbytes + BYTES_NBYTES)
                self.stack.append(unescaped(self._take(nbytes)[1:-1]))
        self.at = begin + nbytes + 1

    def _pop(self) -> Any:
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise RefusedError("a value that is not on the stack")
        return self.stack.pop()

    def _top(self, kind: type, what: str) -> Any:
        """Return the value on top, which must be of a type."""
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise RefusedError("a value that is not on the stack")
        if type(self.stack[-1]) is not kind:
            raise RefusedError(f"{what} to something else")
        return self.stack[-1]

    def _since_mark(self) -> list[Any]:
        if not self._marks:
            raise RefusedError("a mark that was not set")
        begin = self._marks.pop()
        found = self.stack[begin:]
        del self.stack[begin:]
        self._spend(len(found) // WORK_NBYTES)
        self._hold(8 * len(found) + LIST_NBYTES)
        return found

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if type(target) is not dict or len(items) % 2:
            raise RefusedError("items to something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = key.decode("latin-1") if isinstance(key, bytes) else key
            if not isinstance(name, str | int | float | bool | None):
                raise RefusedError(f"a key that is a {type(key).__name__}")
            if isinstance(name, int) and name.bit_length() > KEY_BITS:
                raise RefusedError(f"a key of {name.bit_length()} bits")
            target[name] = value
        self._hold(ITEM_NBYTES * (len(items) // 2))

    def _remember(self, number: int) -> None:
        if not self.stack:
            raise RefusedError("a memo of nothing")
        if not 0 <= number < 1 << MEMO_BITS:
            raise RefusedError(f"memo {number}, which no pickle needs")
        self.memo[number] = self.stack[-1]
        self._hold(MEMO_NBYTES)

    def _recall(self, number: int) -> None:
        if number not in self.memo:
            raise RefusedError(f"memo {number}, which was not set")
        self.stack.append(self.memo[number])

    def _rows(self) -> bool:
        """Take the lists of small numbers that follow another one; return whether there was one.

        A call costs more than an opcode, so it is made only where several rows are likely.
        """
        last = self.stack[-1] if self.stack else None
        if type(last) is not list or len(last) > ROW_MOST or not self._tries:
            return False
        n = len(last)
        self._spend(ROWS_WORK + n)
        if set(map(type, last)) - {int}:
            self._tries -= 1
            return False
        rows = np.empty((ROWS_AT_ONCE, n), np.uint8)
        at, found = _native.pickle_rows(
            self.source.mapping, self.at - 1, len(self.memo), rows, ROWS_AT_ONCE
        )
        if found < ROWS_ENOUGH:
            self._tries -= 1
        if not found:
            return False
        self._hold(found * (8 * n + LIST_NBYTES + MEMO_NBYTES))
        made = rows[:found].tolist() if n else [[] for _ in range(found)]
        self.stack.extend(made)
        first = len(self.memo)
        self.memo.update(zip(range(first, first + found), made, strict=True))
        self.at = at
        return True

    # --- the loop ---------------------------------------------------------------------------------

    def run(self, pause: Pause | None = None) -> Any:
        """Run to the end, and return the value; or until ``pause(stack)`` is true.

        ``pause`` is called whenever an array is complete.

        Raises
        ------
        FormatError
            The bytes are not a pickle, or it asks for more than data.
        LimitError
            It would take too much memory or time.
        """
        while not self.finished:
            began = self.at
            try:
                self._spend(1)
                place = self._fill(1)
                self.at += 1
                step = _STEPS[self._window[place]]
                if step is None:
                    op = self._window[place]
                    raise RefusedError(f"opcode {op:#04x}, which data does not need")
                complete = step(self)
            except RefusedError as e:
                raise FormatError(
                    self.source.path, FORMAT, f"it holds {e}; nothing was executed", at=began
                ) from e
            if complete is True and pause is not None and pause(self.stack):
                return None
        if len(self.stack) != 1 or self._marks:
            raise FormatError(self.source.path, FORMAT, "it ends in the middle", at=self.at)
        return self.stack[0]


def unescaped(data: bytes) -> bytes:
    """Return the bytes of a Python 2 string as protocol 0 writes it."""
    import codecs

    try:
        found: bytes = codecs.escape_decode(data)[0]
    except ValueError as e:
        raise RefusedError("a string with a broken escape") from e
    return found


def _integer(text: bytes) -> int | bool:
    if text in (b"00", b"01"):
        return text == b"01"
    text = text.removesuffix(b"L")
    if len(text) > NUMBER_DIGITS:
        raise RefusedError(f"a number of {len(text)} digits")
    try:
        return int(text)
    except ValueError as e:
        raise RefusedError(f"a number {text[:20]!r}") from e


def _real(text: bytes) -> float:
    if len(text) > NUMBER_DIGITS:
        raise RefusedError(f"a number of {len(text)} digits")
    try:
        return float(text)
    except ValueError as e:
        raise RefusedError(f"a number {text[:20]!r}") from e


def _long(m: Machine, width: Literal[1, 4]) -> int:
    nbytes = m._number(width)
    if nbytes > 64:
        raise RefusedError(f"a whole number of {nbytes} bytes")
    return objects.long_of(m._take(nbytes))


def _proto(m: Machine) -> None:
    m.protocol = m._number(1)
    if m.protocol > 5:
        raise RefusedError(f"protocol {m.protocol}; up to 5 are known")


def _frame(m: Machine) -> None:
    nbytes = m._number(8)
    left = m.source.nbytes - m.at
    if nbytes > left:
        raise RefusedError(f"a frame of {nbytes} bytes where {left} are left")


def _list(m: Machine) -> None:
    if not m._rows():
        m._hold(LIST_NBYTES)
        m.stack.append([])


def _empty_dict(m: Machine) -> None:
    m._hold(DICT_NBYTES)
    m.stack.append({})


def _append(m: Machine) -> None:
    value = m._pop()
    m._top(list, "a value appended").append(value)
    m._hold(8)


def _appends(m: Machine) -> None:
    values = m._since_mark()
    m._top(list, "values appended").extend(values)


def _set_item(m: Machine) -> None:
    value, key = m._pop(), m._pop()
    m._set_items(m._top(dict, "an item"), [key, value])


def _set_many(m: Machine) -> None:
    items = m._since_mark()
    m._set_items(m._top(dict, "items"), items)


def _dict(m: Machine) -> None:
    items = m._since_mark()
    _empty_dict(m)
    m._set_items(m.stack[-1], items)


def _tuple(n: int) -> _Step:
    def step(m: Machine) -> None:
        values = [m._pop() for _ in range(n)]
        m._hold(TUPLE_NBYTES)
        m.stack.append(tuple(values[::-1]))

    return step


def _pop(m: Machine) -> None:
    if m._marks and m._marks[-1] == len(m.stack):
        m._marks.pop()  # as CPython: a mark is what is on top
    else:
        m._pop()


def _mark(m: Machine) -> None:
    m._marks.append(len(m.stack))
    m._hold(MARK_NBYTES)


def _name(m: Machine, module: object, name: object) -> None:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise RefusedError("a name that is not a text")
    m.stack.append(objects.named(module, name))


def _global(m: Machine) -> None:
    try:
        module, name = m._line(256).decode(), m._line(256).decode()
    except UnicodeDecodeError as e:
        raise RefusedError("a name that is not UTF-8") from e
    _name(m, module, name)


def _stack_global(m: Machine) -> None:
    name, module = m._pop(), m._pop()
    _name(m, module, name)


def _reduce(m: Machine) -> bool:
    args, function = m._pop(), m._pop()
    m._hold(CALL_NBYTES)
    made = objects.called(function, args)
    if isinstance(made, bytes):
        m._hold(len(made))
    m.stack.append(made)
    return isinstance(made, objects.Array) and made.complete


def _build(m: Machine) -> bool:
    state = m._pop()
    thing = m._pop()
    objects.built(thing, state)
    m.stack.append(thing)
    return isinstance(thing, objects.Array)


def _stop(m: Machine) -> None:
    m.finished = True


_BY_OPCODE: dict[bytes, _Step] = {
    b"\x80": _proto,
    b"\x95": _frame,
    b".": _stop,
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"I": lambda m: m.stack.append(_integer(m._line())),
    b"L": lambda m: m.stack.append(_integer(m._line())),
    b"F": lambda m: m.stack.append(_real(m._line())),
    b"J": lambda m: m.stack.append(m._number(4, signed=True)),
    b"K": lambda m: m.stack.append(m._number(1)),
    b"M": lambda m: m.stack.append(m._number(2)),
    b"\x8a": lambda m: m.stack.append(_long(m, 1)),
    b"\x8b": lambda m: m.stack.append(_long(m, 4)),
    b"G": lambda m: m.stack.append(objects.double_of(m._take(8))),
    b"U": lambda m: m._bytes(m._number(1)),
    b"T": lambda m: m._bytes(m._number(4)),
    b"C": lambda m: m._bytes(m._number(1)),
    b"B": lambda m: m._bytes(m._number(4)),
    b"\x8e": lambda m: m._bytes(m._number(8)),
    b"\x96": lambda m: m._bytes(m._number(8)),
    b"S": lambda m: m._text_line("string-escape"),
    b"V": lambda m: m._text_line("raw-unicode-escape"),
    b"\x8c": lambda m: m._text(m._number(1)),
    b"X": lambda m: m._text(m._number(4)),
    b"\x8d": lambda m: m._text(m._number(8)),
    b"]": _list,
    b"}": _empty_dict,
    b")": lambda m: m.stack.append(()),
    b"l": lambda m: m.stack.append(m._since_mark()),
    b"d": _dict,
    b"t": lambda m: m.stack.append(tuple(m._since_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": _append,
    b"e": _appends,
    b"s": _set_item,
    b"u": _set_many,
    b"(": _mark,
    b"0": _pop,
    b"1": lambda m: m._since_mark(),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"b": _build,
    b"p": lambda m: m._remember(int(_integer(m._line(20)))),
    b"q": lambda m: m._remember(m._number(1)),
    b"r": lambda m: m._remember(m._number(4)),
    b"\x94": lambda m: m._remember(len(m.memo)),
    b"g": lambda m: m._recall(int(_integer(m._line(20)))),
    b"h": lambda m: m._recall(m._number(1)),
    b"j": lambda m: m._recall(m._number(4)),
}
_STEPS: list[_Step | None] = [_BY_OPCODE.get(bytes([op])) for op in range(256)]
