"""The pickle machine (protocols 0 to 5), without anything that could run.

Differences from CPython's, all on purpose: names are data (``objects``); bytes and long texts stay
in the file; a memo is a dict, so that no index asks for memory; every length is compared with what
is left of the file before anything is made; persistent ids, extensions, buffers out of band and
instances are refused; the number of opcodes and of bytes held is limited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from mapix import _native
from mapix.errors import FormatError, LimitError
from mapix.formats.pickled import objects
from mapix.formats.pickled.objects import Name, RefusedError, Short, Span, Text
from mapix.source import Source

__all__ = ["Machine"]

FORMAT = "pickle"
FIRST_WINDOW = 1 << 12  # bytes looked at in one piece, at first: opening needs few
WINDOW = 1 << 16  # and later
SHORT = 4096  # bytes and texts up to this length are taken out of the file
MOST_OPCODES = 1 << 26  # in Python; rows of numbers that C reads do not count
MOST_HELD = 1 << 30  # bytes of values, roughly
NUMBER_DIGITS = 400  # of a number written as text; enough for any float
ROW_MOST = 1 + 2 * 255  # numbers of a row of labels
ROWS_AT_ONCE = 4096

MARK: Any = object()
Pause = Callable[[list[Any]], bool]


class Machine:
    """One run over one pickle.

    Parameters
    ----------
    source : Source
        The file.
    at : int
        Byte of the first opcode.

    Notes
    -----
    Copies: short values; arrays stay where they are (``objects.Array``).  Threads: one at a time.
    Cost: about a microsecond an opcode, some 0.1 a row of small numbers.
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
        self._nops = 0
        self._held = 0

    # --- reading ----------------------------------------------------------------------------------

    def _need(self, nbytes: int) -> None:
        left = self.source.nbytes - self.at
        if nbytes > left:
            raise RefusedError(f"{nbytes} bytes were expected, {left} are left")

    def _take(self, nbytes: int) -> bytes:
        """The next bytes, few of them."""
        at = self.at - self._begin
        if not 0 <= at <= len(self._window) - nbytes:
            self._need(nbytes)
            wanted = WINDOW if self._window else FIRST_WINDOW
            size = min(max(wanted, nbytes), self.source.nbytes - self.at)
            self._window = bytes(_native.copy(self.source.mapping, self.at, size, FORMAT))
            self._begin, at = self.at, 0
        self.at += nbytes
        return self._window[at : at + nbytes]

    def _number(self, nbytes: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(nbytes), "little", signed=signed)

    def _line(self, most: int = SHORT) -> bytes:
        """Up to a newline, which is taken too."""
        left = self.source.nbytes - self.at
        head = self._peek(min(most + 1, left))
        end = head.find(b"\n")
        if end < 0:
            raise RefusedError(f"a line of more than {most} bytes, or without an end")
        return self._take(end + 1)[:-1]

    def _peek(self, nbytes: int) -> bytes:
        at = self.at
        found = self._take(nbytes)
        self.at = at
        return found

    def _hold(self, nbytes: int) -> None:
        self._held += nbytes
        if self._held > MOST_HELD:
            raise LimitError(
                f"{self.source.path}: pickle: its values would take more than {MOST_HELD} bytes"
            )

    # --- values -----------------------------------------------------------------------------------

    def _bytes(self, nbytes: int) -> None:
        self._need(nbytes)
        if nbytes <= SHORT:
            self._hold(nbytes + 128)
            at = self.at
            short = Short(self._take(nbytes))
            short.at = at
            self.stack.append(short)
        else:
            self.stack.append(Span(self.at, nbytes))
            self.at += nbytes

    def _text(self, nbytes: int, kind: str = "utf-8") -> None:
        self._need(nbytes)
        if nbytes > SHORT:
            self.stack.append(Text(self.at, nbytes, kind))
            self.at += nbytes
            return
        self._hold(nbytes + 64)
        codec = {"raw-unicode-escape": "raw-unicode-escape"}.get(kind, "utf-8")
        try:
            self.stack.append(self._take(nbytes).decode(codec, "surrogatepass"))
        except UnicodeDecodeError as e:
            raise RefusedError(f"a text that is not {codec}") from e

    def _text_line(self, kind: str) -> None:
        """A text or a string up to a newline, however long."""
        begin = self.at
        nbytes = 0
        while True:
            piece = self._peek(min(WINDOW, self.source.nbytes - self.at))
            if not piece:
                raise RefusedError("a line without an end")
            end = piece.find(b"\n")
            if end >= 0:
                break
            self.at += len(piece)
        nbytes = self.at + end - begin
        self.at = begin
        if kind == "string-escape":
            quoted = nbytes >= 2 and self._peek(1) in (b"'", b'"')
            if not quoted:
                raise RefusedError("a string without quotes")
            if nbytes > SHORT:
                self.stack.append(Text(begin + 1, nbytes - 2, kind, "latin-1"))
                self.at = begin + nbytes
            else:
                self.stack.append(unescaped(self._take(nbytes)[1:-1]))
        else:
            self._text(nbytes, kind)
        self.at = begin + nbytes + 1

    def _pop(self) -> Any:
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise RefusedError("a value that is not on the stack")
        return self.stack.pop()

    def _top(self, kind: type, what: str) -> Any:
        """The value on top, which has to be of a kind."""
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise RefusedError("a value that is not on the stack")
        if type(self.stack[-1]) is not kind:
            raise RefusedError(f"{what} to what is none")
        return self.stack[-1]

    def _since_mark(self) -> list[Any]:
        if not self._marks:
            raise RefusedError("a mark that was not set")
        begin = self._marks.pop()
        found = self.stack[begin:]
        del self.stack[begin:]
        self._hold(8 * len(found) + 64)
        return found

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if type(target) is not dict or len(items) % 2:
            raise RefusedError("items to what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = key.decode("latin-1") if isinstance(key, bytes) else key
            if not isinstance(name, str | int | float | bool | None):
                raise RefusedError(f"a key that is a {type(key).__name__}")
            target[name] = value
        self._hold(64 * len(items))

    def _remember(self, number: int) -> None:
        if not self.stack:
            raise RefusedError("a memo of nothing")
        self.memo[number] = self.stack[-1]
        self._hold(64)

    def _recall(self, number: int) -> None:
        if number not in self.memo:
            raise RefusedError(f"memo {number}, which was not set")
        self.stack.append(self.memo[number])

    def _rows(self) -> None:
        """Behind a list of small numbers, and before another: as many of the kind as follow."""
        last = self.stack[-1] if self.stack else None
        if type(last) is not list or len(last) > ROW_MOST or not all(type(x) is int for x in last):
            return
        n = len(last)
        rows = np.empty((ROWS_AT_ONCE, n), np.uint8)
        at, found = _native.pickle_rows(
            self.source.mapping, self.at - 1, len(self.memo), rows, ROWS_AT_ONCE
        )
        if not found:
            return
        self._hold(found * (8 * n + 128))
        made = rows[:found].tolist() if n else [[] for _ in range(found)]
        self.stack.extend(made)
        first = len(self.memo)
        self.memo.update(zip(range(first, first + found), made, strict=True))
        self.at = at

    # --- the loop ---------------------------------------------------------------------------------

    def run(self, pause: Pause | None = None) -> Any:
        """Go on to the end, and return the value; or to where ``pause(stack)`` is true.

        ``pause`` is asked whenever an array is complete.

        Raises
        ------
        FormatError
            The bytes are no pickle, or it asks for more than data.
        LimitError
            It would take too much memory or time.
        """
        while not self.finished:
            began = self.at
            try:
                op = self._take(1)[0]
                if self._nops > MOST_OPCODES:
                    raise LimitError(
                        f"{self.source.path}: pickle: more than {MOST_OPCODES} opcodes"
                    )
                self._nops += 1
                step = _STEPS[op]
                if step is None:
                    raise RefusedError(f"opcode {op:#04x}, which data does not need")
                complete = step(self)
            except RefusedError as e:
                raise FormatError(
                    self.source.path, FORMAT, f"it holds {e}; nothing was executed", at=began
                ) from e
            if complete and pause is not None and pause(self.stack):
                return None
        if len(self.stack) != 1 or self._marks:
            raise FormatError(self.source.path, FORMAT, "it ends in the middle", at=self.at)
        return self.stack[0]


def unescaped(data: bytes) -> bytes:
    """Bytes of a Python 2 string as protocol 0 writes it."""
    import codecs

    try:
        found: bytes = codecs.escape_decode(data)[0]
    except ValueError as e:
        raise RefusedError("a string with an escape that is none") from e
    return found


def _whole(text: bytes) -> int | bool:
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
    try:
        return float(text[:NUMBER_DIGITS])
    except ValueError as e:
        raise RefusedError(f"a number {text[:20]!r}") from e


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], bool]:
    def step(m: Machine) -> bool:
        m.stack.append(make(m))
        return False

    return step


def _do(act: Callable[[Machine], Any]) -> Callable[[Machine], bool]:
    def step(m: Machine) -> bool:
        act(m)
        return False

    return step


def _container(m: Machine, made: Any) -> Any:
    m._hold(64)
    return made


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
    before = len(m.stack)
    m._rows()
    if len(m.stack) == before:
        m._hold(64)
        m.stack.append([])


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
    made: dict[Any, Any] = {}
    m._set_items(made, items)
    m.stack.append(made)


def _tuple(n: int) -> Callable[[Machine], bool]:
    def step(m: Machine) -> bool:
        values = [m._pop() for _ in range(n)]
        m._hold(64)
        m.stack.append(tuple(values[::-1]))
        return False

    return step


def _pop(m: Machine) -> None:
    if m._marks and m._marks[-1] == len(m.stack):
        m._marks.pop()  # as CPython: a mark is what is on top
    else:
        m._pop()


def _mark(m: Machine) -> None:
    m._marks.append(len(m.stack))
    m._hold(8)


def _name(m: Machine, module: object, name: object) -> None:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise RefusedError("a name that is no text")
    m.stack.append(Name(module, name))


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
    m._hold(128)
    made = objects.called(function, args)
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


def _line_string(m: Machine) -> None:
    m._text_line("string-escape")


_Step = Callable[[Machine], bool]
_BY_OPCODE: dict[bytes, _Step] = {
    b"\x80": _do(_proto),
    b"\x95": _do(_frame),
    b".": _do(_stop),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"I": _push(lambda m: _whole(m._line())),
    b"L": _push(lambda m: _whole(m._line())),
    b"F": _push(lambda m: _real(m._line())),
    b"J": _push(lambda m: m._number(4, signed=True)),
    b"K": _push(lambda m: m._number(1)),
    b"M": _push(lambda m: m._number(2)),
    b"\x8a": _push(lambda m: _long(m, 1)),
    b"\x8b": _push(lambda m: _long(m, 4)),
    b"G": _push(lambda m: objects.double_of(m._take(8))),
    b"U": _do(lambda m: m._bytes(m._number(1))),
    b"T": _do(lambda m: m._bytes(m._number(4))),
    b"C": _do(lambda m: m._bytes(m._number(1))),
    b"B": _do(lambda m: m._bytes(m._number(4))),
    b"\x8e": _do(lambda m: m._bytes(m._number(8))),
    b"\x96": _do(lambda m: m._bytes(m._number(8))),
    b"S": _do(_line_string),
    b"V": _do(lambda m: m._text_line("raw-unicode-escape")),
    b"\x8c": _do(lambda m: m._text(m._number(1))),
    b"X": _do(lambda m: m._text(m._number(4))),
    b"\x8d": _do(lambda m: m._text(m._number(8))),
    b"]": _do(_list),
    b"}": _push(lambda m: _container(m, {})),
    b")": _push(lambda m: ()),
    b"l": _push(lambda m: m._since_mark()),
    b"d": _do(_dict),
    b"t": _push(lambda m: tuple(m._since_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": _do(_append),
    b"e": _do(_appends),
    b"s": _do(_set_item),
    b"u": _do(_set_many),
    b"(": _do(_mark),
    b"0": _do(_pop),
    b"1": _do(lambda m: m._since_mark()),
    b"c": _do(_global),
    b"\x93": _do(_stack_global),
    b"R": _reduce,
    b"b": _build,
    b"p": _do(lambda m: m._remember(int(_whole(m._line(20))))),
    b"q": _do(lambda m: m._remember(m._number(1))),
    b"r": _do(lambda m: m._remember(m._number(4))),
    b"\x94": _do(lambda m: m._remember(len(m.memo))),
    b"g": _do(lambda m: m._recall(int(_whole(m._line(20))))),
    b"h": _do(lambda m: m._recall(m._number(1))),
    b"j": _do(lambda m: m._recall(m._number(4))),
}
_STEPS: list[_Step | None] = [_BY_OPCODE.get(bytes([op])) for op in range(256)]
