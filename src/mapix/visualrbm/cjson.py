"""JSON as an early cJSON (2009) reads it, with which VisualRBM reads training schedules.

It accepts all of JSON and more: names in any case, and of equal names the first; ``-``, ``-.5``,
``0123`` and ``1e`` as numbers; any character after a backslash; blanks of any kind; any text after
the outermost value.  As a number, a value of another kind is 0 (true is 1).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mapix.errors import FormatError, LimitError

__all__ = ["Node", "parse"]

MOST_DEPTH = 10_000  # cJSON has no limit; its stack ends somewhere beyond
MOST_VALUES = 50_000  # of a text: some microseconds and 400 bytes each
LEAST_INT, MOST_INT = -(2**31), 2**31 - 1
NUMBER = re.compile(rb"(-?)(0?(?:[1-9][0-9]*)?)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]*))?")
BLANKS = re.compile(rb"[\x01-\x20]*")
TEXT = re.compile(rb'[^"\\]*')
WORDS = {b"null": "null", b"false": "false", b"true": "true"}
ESCAPES = {98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t"}


@dataclass(slots=True)
class Node:
    """A value.

    Attributes
    ----------
    kind : str
        null, false, true, number, string, array or object.
    number : float
        Of a number; 0 of anything else.
    measured : float
        The same as cJSON computes it, digit by digit: it may differ by a unit in the last place,
        and is NaN where 0 meets an infinite power.  It decides whether a number is in its range.
    text : str
        Of a string.
    items : sequence of (str or None, Node)
        Of an array or an object; a list there.
    at : int
        Byte where it begins.
    """

    kind: str
    at: int
    number: float = 0.0
    measured: float = 0.0
    text: str = ""
    items: Sequence[tuple[str | None, Node]] = ()
    _names: dict[str, Node] | None = None

    @property
    def integer(self) -> int:
        """The number as C converts it to an int: truncated; the least int where it does not fit."""
        if self.kind == "true":
            return 1
        inside = LEAST_INT - 1 < self.measured < MOST_INT + 1  # NaN is not
        return int(self.measured) if inside else LEAST_INT

    def get(self, name: str) -> Node | None:
        """Return the first item of that name in any case, or None."""
        if self._names is None:
            backwards = reversed(self.items)
            self._names = {_lower(k): n for k, n in backwards if k is not None}
        return self._names.get(_lower(name))

    def twice(self) -> list[str]:
        """Return the names that several items have, in any case."""
        found = Counter(_lower(k) for k, _ in self.items if k is not None)
        return [name for name, n in found.items() if n > 1]

    def __str__(self) -> str:
        if self.kind == "number":
            return f"{self.number:.15g}"
        return repr(self.text[:40]) if self.kind == "string" else self.kind


def _lower(name: str) -> str:
    """Return a name in lower case as C's tolower does: ASCII alone."""
    return name.lower() if name.isascii() else "".join(c.lower() if c < "\x80" else c for c in name)


def parse(data: bytes, path: str, format: str, *, strict: bool) -> Node:
    """Return the outermost value of a text.

    Parameters
    ----------
    data : bytes
        The text; it ends at the first zero byte.
    path, format : str
        For messages.
    strict : bool
        Refuse a byte order mark, as cJSON does.

    Raises
    ------
    FormatError
        The text is not JSON; the message names the byte.
    LimitError
        Brackets are nested deeper than 10,000, or there are more than 50,000 values.
    """
    return _Parser(data.partition(b"\0")[0], path, format, strict).document()


class _Parser:
    def __init__(self, data: bytes, path: str, format: str, strict: bool) -> None:
        self.data, self.path, self.format, self.strict = data, path, format, strict
        self.at = 0

    def problem(self, reason: str) -> FormatError:
        return FormatError(self.path, self.format, reason, at=self.at)

    def limit(self, reason: str, node: Node) -> LimitError:
        return LimitError(f"{self.path}: {self.format}: {reason} at byte {node.at}")

    def next(self) -> int:
        """Return the next byte that is not a blank, -1 at the end."""
        found = BLANKS.match(self.data, self.at)
        assert found is not None  # it matches anything
        self.at = found.end()
        return self.data[self.at] if self.at < len(self.data) else -1

    def met(self) -> str:
        rest = self.data[self.at : self.at + 10]
        return repr(rest.decode("utf-8", "backslashreplace")) if rest else "the end of the text"

    def document(self) -> Node:
        if not self.strict and self.data.startswith(b"\xef\xbb\xbf"):
            self.at = 3
        root = self.value()
        open_ones = [root] if root.kind in ("array", "object") else []
        items: list[list[tuple[str | None, Node]]] = [[]]  # of the open ones
        nvalues = 1
        while open_ones:
            node = open_ones[-1]
            if self.ended(node, items[-1]):
                open_ones.pop().items = items.pop()
                continue
            name = self.name() if node.kind == "object" else None
            child = self.value()
            items[-1].append((name, child))
            nvalues += 1
            if child.kind in ("array", "object"):
                open_ones.append(child)
                items.append([])
            if len(open_ones) > MOST_DEPTH:
                raise self.limit(f"nested deeper than {MOST_DEPTH}", child)
            if nvalues > MOST_VALUES:
                raise self.limit(f"more than {MOST_VALUES} values", child)
        return root

    def ended(self, node: Node, items: Sequence[Any]) -> bool:
        """Return whether a bracket ends here; a comma before the next item is consumed."""
        byte, end = self.next(), "]" if node.kind == "array" else "}"
        if byte == ord(end):
            self.at += 1
            return True
        if not items:
            return False
        if byte != ord(","):
            raise self.problem(f", or {end} expected, got {self.met()}")
        self.at += 1
        return False

    def name(self) -> str:
        if self.next() != ord('"'):
            raise self.problem(f"a name in quotes expected, got {self.met()}")
        name = self.string()
        if self.next() != ord(":"):
            raise self.problem(f": expected, got {self.met()}")
        self.at += 1
        return name

    def value(self) -> Node:
        byte, at = self.next(), self.at
        for word, kind in WORDS.items():
            if self.data.startswith(word, at):
                self.at += len(word)
                return Node(kind, at)
        if byte == ord('"'):
            return Node("string", at, text=self.string())
        if byte >= 0 and byte in b"-0123456789":
            return Node("number", at, *self.numeral())
        if byte >= 0 and byte in b"[{":
            self.at += 1
            return Node("array" if byte == ord("[") else "object", at)
        raise self.problem(f"a value expected, got {self.met()}")

    def numeral(self) -> tuple[float, float]:
        found = NUMBER.match(self.data, self.at)
        assert found is not None  # it matches anything
        self.at = found.end()
        sign, whole, fraction, down, power = (g or b"" for g in found.groups())
        exponent = int(power[:7] or 0) * (-1 if down == b"-" else 1)
        value = float(sign + b"0" + whole + b"." + fraction + b"0e%d" % exponent)
        measured = 0.0
        for digit in whole + fraction:
            measured = measured * 10.0 + (digit - 48)
        try:
            tens = 10.0 ** (exponent - len(fraction))
        except OverflowError:
            tens = math.inf
        return value, (-measured if sign else measured) * tens

    def string(self) -> str:
        begin = self.at
        self.at += 1
        text = bytearray()
        while True:
            found = TEXT.match(self.data, self.at)
            assert found is not None  # it matches anything
            text += found[0]
            self.at = found.end()
            if self.at >= len(self.data):
                self.at = begin
                raise self.problem("a string that does not end")
            if self.data[self.at] == 34:
                self.at += 1
                return text.decode("utf-8", "surrogateescape")
            self.at += 1
            text += self.escape()

    def escape(self) -> bytes:
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        if byte != ord("u"):
            return ESCAPES.get(byte, bytes([byte]) if byte else b"")
        code = self.hexadecimal()
        if code == 0 or 0xDC00 <= code < 0xE000:
            return b""
        if 0xD800 <= code < 0xDC00:
            if self.data[self.at : self.at + 2] != b"\\u":
                return b""
            self.at += 2
            low = self.hexadecimal()
            if not 0xDC00 <= low < 0xE000:
                return b""
            code = 0x10000 + ((code & 0x3FF) << 10 | low & 0x3FF)
        return chr(code).encode()

    def hexadecimal(self) -> int:
        digits = self.data[self.at : self.at + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise self.problem(f"four hexadecimal digits expected, got {self.met()}")
        self.at += 4
        return int(digits, 16)
