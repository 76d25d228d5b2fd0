"""Where images and annotations lie in a COCO JSON file, and their numbers, read without their text.

The file is scanned once, in C.  An image or annotation is parsed when it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native import json_items as native
from mapix.byte_ranges import ByteRange, shortened
from mapix.errors import FormatError, LimitError, TruncatedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Source

__all__ = ["MOST_ITEM_NBYTES", "NAME", "Layout", "Table", "first_table", "scan"]

NAME = "coco"
TABLES = {
    "images": ("id", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "area", "iscrowd", "bbox"),
}
"""Arrays of the file -> the keys of their objects that are read without the objects."""

MOST_ITEM_NBYTES = 64 << 20  # of an image or annotation
MOST_OTHER_NBYTES = 64 << 20  # of the other values together, which are parsed when they are used
MOST_MEMBERS = 1000
BLOCK_NBYTES = 4 << 20  # parsed at once
LEAST_ITEM_NBYTES = 8  # on average: an index must not be much larger than the file
FREE_ITEMS = 1 << 16  # that may be smaller
WINDOW_NBYTES = 4096
SHOWN_NBYTES = 400
BLANKS = b" \t\r\n"
BOM = b"\xef\xbb\xbf"

Place = tuple[int, int]
"""First byte, and the byte after the last one."""


def parse(raw: bytes, source: Source, at: int) -> Any:
    """Parse the JSON text of one value.

    Raises
    ------
    FormatError
        It is not JSON.
    """
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as e:
        raise FormatError(source.path, NAME, f"not JSON: {e}", at=at) from e


class Table:
    """The objects of one array of the file.

    Parameters
    ----------
    source : Source
        The file.
    name : str
        Key of the array.
    items : Items
        Where its objects lie.
    """

    def __init__(self, source: Source, name: str, items: native.Items) -> None:
        self.source, self.name = source, name
        self._begins, self._sizes, self._places = items.begins, items.sizes, items.places
        self._keys = TABLES[name]

    def __len__(self) -> int:
        return len(self._begins)

    def place(self, row: int) -> Place:
        """Return the bytes of an object."""
        begin = int(self._begins[row])
        return begin, begin + int(self._sizes[row])

    def sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bytes of some objects, int64 (n,)."""
        return np.asarray(self._sizes)[rows].astype(np.int64)

    def byte_range(self, row: int) -> ByteRange:
        """Return the place of an object, named."""
        begin, end = self.place(row)
        raw = self.source.read(begin, min(end - begin, SHOWN_NBYTES))
        text = shortened(raw.decode("utf-8", "backslashreplace"))
        return ByteRange(f"{self.name[:-1]} {row}", "label", begin, end - begin, text, self.source)

    def error(self, row: int, reason: str) -> FormatError:
        """Return the error about an object."""
        where = f"{self.name[:-1]} {row}: {reason}"
        return FormatError(self.source.path, NAME, where, at=int(self._begins[row]))

    def parsed(self, row: int) -> dict[str, Any]:
        """Return an object."""
        begin, end = self.place(row)
        return self._object(row, self.source.read(begin, end - begin))

    def _object(self, row: int, raw: bytes) -> dict[str, Any]:
        try:
            found = json.loads(raw.decode())
        except (ValueError, RecursionError) as e:
            raise self.error(row, f"not JSON: {e}") from e
        if not isinstance(found, dict):
            raise self.error(row, "an object expected")
        return found

    def all_parsed(self) -> Iterator[dict[str, Any]]:
        """Yield all objects; the file is copied in blocks."""
        first, ends = 0, self._begins + self._sizes
        while first < len(self):
            begin, _ = self.place(first)
            # a Python integer would make the search copy all ends, as float64
            after = int(np.searchsorted(ends, np.uint64(begin + BLOCK_NBYTES), "right"))
            last = max(first + 1, after)
            raw = self.source.read(begin, self.place(last - 1)[1] - begin)
            for row in range(first, last):
                at, end = self.place(row)
                yield self._object(row, raw[at - begin : end - begin])
            first = last

    def _at(self, key: str) -> NDArray[np.uint64]:
        """Return the byte of the value of a key in each object; NOWHERE without one."""
        place = self._places[:, self._keys.index(key)]
        found = self._begins + place
        found[place == 0] = native.NOWHERE
        found[place == native.ODD] = native.ELSEWHERE  # read as another value
        return found

    def _others(self, key: str, states: NDArray[np.uint8]) -> Iterator[tuple[int, Any]]:
        """Yield row and value where the core does not know the value; None is left out."""
        for row in np.flatnonzero((states != native.GOOD) & (states != native.MISSING)).tolist():
            value = self.parsed(row).get(key)
            if value is not None:
                yield row, value

    def ids(self, key: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return values and presence of a key: int64, or objects where some are text.

        Raises
        ------
        FormatError
            A value is neither a number nor text.
        """
        values, states = native.numbers(self.source.mapping, self._at(key), np.int64, 0)
        found: NDArray[Any] = values
        present = states == native.GOOD
        for row, value in self._others(key, states):
            if (isinstance(value, float) and value.is_integer()) or isinstance(value, bool):
                value = int(value)
            if not isinstance(value, int | str):
                reason = f"{key}: a whole number or text expected, got {type(value).__name__}"
                raise self.error(row, reason)
            present[row] = True
            if not (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
                found = found.astype(object)
            found[row] = value
        return found, present

    def numbers(self, key: str, width: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return values and presence of a key: float64 (n,), or (n, width) of lists."""
        values, states = native.numbers(self.source.mapping, self._at(key), np.float64, width)
        present = states == native.GOOD
        for row, value in self._others(key, states):
            listed = value if width and isinstance(value, list) else [value]
            if len(listed) == max(width, 1) and all(isinstance(v, int | float) for v in listed):
                try:
                    values[row] = listed if width else listed[0]
                except OverflowError:  # an integer beyond all doubles
                    continue
                present[row] = True
        return np.asarray(values, np.float64), present


@dataclass(slots=True)
class Layout:
    """State what lies where in a file.

    Attributes
    ----------
    tables : dict
        ``images`` and ``annotations``, where the file has them.
    others : dict
        Key -> bytes of each other value.
    """

    source: Source
    tables: dict[str, Table] = field(default_factory=dict)
    others: dict[str, Place] = field(default_factory=dict)

    def other(self, key: str) -> Any:
        """Return a parsed value: ``info``, ``licenses``, ``categories``; None without it."""
        if key not in self.others:
            return None
        begin, end = self.others[key]
        return parse(self.source.read(begin, end - begin), self.source, begin)

    def table(self, name: str) -> Table:
        """Return a table; an empty one where the file has none."""
        known = self.tables.get(name)
        if known is None:
            keys = len(TABLES[name])
            nothing = np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty((0, keys), np.uint32)
            items = native.Items(0, (0, 0, 0, 0), 0, *nothing)
            known = self.tables[name] = Table(self.source, name, items)
        return known


class _Text:
    """The text between the values of the outermost object."""

    def __init__(self, source: Source) -> None:
        self.source, self.at = source, 0
        if self._window(3).startswith(BOM):
            self.at = 3

    def _window(self, nbytes: int) -> bytes:
        return self.source.read(self.at, min(nbytes, self.source.nbytes - self.at))

    def error(self, expected: str) -> FormatError:
        got = self._window(1)
        kind = FormatError if got else TruncatedError
        found = f"got {got.decode('latin-1')!r}" if got else "the file ends"
        return kind(self.source.path, NAME, f"{expected} expected, {found}", at=self.at)

    def peek(self) -> bytes:
        """Skip blanks and return the next byte; empty at the end."""
        while window := self._window(WINDOW_NBYTES):
            rest = window.lstrip(BLANKS)
            self.at += len(window) - len(rest)
            if rest:
                return rest[:1]
        return b""

    def take(self, byte: bytes) -> None:
        """Skip blanks and one byte, which must be this one."""
        if self.peek() != byte:
            raise self.error(repr(byte.decode()))
        self.at += 1

    def key(self) -> str:
        """Return the key that follows, and go on after its colon."""
        if self.peek() != b'"':
            raise self.error("a key")
        begin = self.at
        status, end = native.value_end(self.source.mapping, begin, WINDOW_NBYTES)
        if status:
            raise self.error(f"a key of at most {WINDOW_NBYTES} bytes")
        found = parse(self.source.read(begin, end - begin), self.source, begin)
        self.at = end
        self.take(b":")
        return str(found)


def members(source: Source) -> Iterator[tuple[str, _Text]]:
    """Yield the keys of the outermost object; the caller moves ``at`` to after the value."""
    text = _Text(source)
    text.take(b"{")
    if text.peek() == b"}":
        text.at += 1
    else:
        for _ in range(MOST_MEMBERS):
            key = text.key()
            text.peek()
            yield key, text
            if text.peek() == b"}":
                text.at += 1
                break
            text.take(b",")
        else:
            raise LimitError(f"{source.path}: coco: more than {MOST_MEMBERS} values in the file")
    if text.peek():
        raise text.error("nothing more")


def first_table(source: Source) -> str | None:
    """Return the first of ``TABLES`` that the file has as an array of objects, or None.

    No more is read than to find it.  A file that is not JSON has none.
    """
    try:
        for key, text in members(source):
            if key in TABLES and text.peek() == b"[":
                text.at += 1
                return key if text.peek() in (b"{", b"]") else None
            text.at = _after(text, MOST_OTHER_NBYTES)
    except (FormatError, LimitError):
        return None
    return None


def _after(text: _Text, most: int) -> int:
    status, end = native.value_end(text.source.mapping, text.at, most)
    if status == native.LONG:
        raise LimitError(
            f"{text.source.path}: coco: a value of more than {most} bytes at byte {text.at}"
        )
    if status:
        text.at = end
        raise text.error("the rest of a value")
    return end


def scan(source: Source, most_item_nbytes: int = MOST_ITEM_NBYTES) -> Layout:
    """Find all images and annotations of a file.

    Raises
    ------
    FormatError
        The file is not a JSON object, or an image or annotation is not an object in it.
    LimitError
        An image or annotation has more than ``most_item_nbytes``, or there are too many.
    """
    found, left = Layout(source), MOST_OTHER_NBYTES
    for key, text in members(source):
        if key in TABLES:
            if text.peek() != b"[":
                raise text.error(f"an array of {key}")
            found.tables[key], text.at = _table(source, key, text.at, most_item_nbytes)
        else:
            end = _after(text, left)
            found.others[key] = text.at, end
            left -= end - text.at
            text.at = end
    return found


def _table(source: Source, name: str, at: int, most_nbytes: int) -> tuple[Table, int]:
    most = max(FREE_ITEMS, source.nbytes // LEAST_ITEM_NBYTES)
    keys = [key.encode() for key in TABLES[name]]
    items = native.items(source.mapping, at, keys, most_nbytes, most)
    table, n = Table(source, name, items), len(items.begins)
    if n >= most:
        raise LimitError(f"{source.path}: coco: more than {most} {name} in {source.nbytes} bytes")
    if items.status == native.LONG:
        raise LimitError(
            f"{source.path}: coco: {name[:-1]} {n} has more than {most_nbytes} bytes; "
            "max_item_nbytes= of open raises the limit"
        )
    if items.status:
        _, at, _, found = items.where
        at_end = found > 255
        got = "the file ends" if at_end else f"got {chr(found)!r}"
        reason = f"{name[:-1]} {n}: an object expected, or its rest, or ',' or ']': {got}"
        kind = TruncatedError if at_end else FormatError
        raise kind(source.path, NAME, reason, at=at)
    return table, items.end
