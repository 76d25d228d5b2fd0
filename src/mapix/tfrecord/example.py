"""Read ``tf.train.Example`` messages: the part of protobuf that they use, with limits.

::

    Example  { Features features = 1; }
    Features { map<string, Feature> feature = 1; }         an entry: key = 1, value = 2
    Feature  { BytesList = 1 | FloatList = 2 | Int64List = 3 }   each: repeated value = 1
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix.errors import LimitError

__all__ = ["MOST_VALUES", "BytesAt", "ExampleError", "Value", "parse", "places"]

MOST_VALUES = 1 << 20  # features of a record, and values that are not packed of one feature
MOST_NUMBERS = 1 << 24  # packed numbers of one feature
LONGEST_VARINT_NBYTES = 10
LONG_NBYTES = 64  # of packed integers; more are read by numpy
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
BYTES, FLOATS, INTEGERS = 1, 2, 3


class ExampleError(ValueError):
    """Bytes are not an Example; ``reason`` states why, ``at`` is the byte where."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason, self.at = reason, at


class BytesAt(NamedTuple):
    """A value of bytes: where it begins in the message, and where it ends."""

    begin: int
    end: int


Value = NDArray[np.int64] | NDArray[np.float32] | tuple[BytesAt, ...]
"""Values of a feature: int64 (k,), float32 (k,), or places of bytes."""


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of up to 64 bits and the byte after it."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    found = shift = 0
    for k in range(at, min(at + LONGEST_VARINT_NBYTES, end)):
        byte = data[k]
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            if found >> 64:
                break
            return found, k + 1
        shift += 7
    if end - at < LONGEST_VARINT_NBYTES:
        raise ExampleError("a number expected, the message ends inside it", at)
    raise ExampleError("a number of up to 64 bits expected, got a longer one", at)


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, begin and end of the content of each field of a message."""
    while at < end:
        begin = at
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise ExampleError(
                f"a field number of 1..{(1 << 29) - 1} expected, got {number}", begin
            )
        start = at
        if wire == DELIMITED:
            length, start = _varint(data, at, end)
            at = start + length
        elif wire == VARINT:
            _, at = _varint(data, at, end)
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ExampleError(f"wire type 0, 1, 2 or 5 expected, got {wire}", begin)
        if at > end:
            raise ExampleError(f"a field of {at - start} bytes, {end - start} are left", start)
        yield number, wire, start, at


def parse(data: bytes, wanted: Callable[[str, int], bool] | None = None) -> dict[str, Value]:
    """Return the features of an Example.

    Parameters
    ----------
    data : bytes
        The message.
    wanted : callable, optional
        ``wanted(name, nbytes)``: whether the values of a feature are read; by default all.

    Returns
    -------
    dict
        Name -> values, in the order of the names' first appearance; of a feature without a list
        an empty tuple.

    Raises
    ------
    ExampleError
        The bytes are not such a message.
    LimitError
        There are more values than ``MOST_VALUES``.

    Notes
    -----
    Of a name that is there twice the last one counts, as protobuf defines.  Fields of other numbers
    are skipped.  Nothing is recursive: the depth of the message is fixed.
    """
    found: dict[str, Value] = {}
    for number, wire, begin, end in _fields(data, 0, len(data)):
        if number != 1 or wire != DELIMITED:
            continue
        for number_, wire_, first, last in _fields(data, begin, end):
            if number_ != 1 or wire_ != DELIMITED:
                continue
            name, feature = _entry(data, first, last)
            if wanted is not None and not wanted(name, last - first):
                continue
            found[name] = _feature(data, *feature)
            _limit(len(found), "features")
    return found


def places(data: bytes) -> Iterator[tuple[str, BytesAt]]:
    """Yield name and place of the values of each feature, in the order of the message."""
    for number, wire, begin, end in _fields(data, 0, len(data)):
        if number == 1 and wire == DELIMITED:
            for number_, wire_, first, last in _fields(data, begin, end):
                if number_ == 1 and wire_ == DELIMITED:
                    name, feature = _entry(data, first, last)
                    yield name, BytesAt(*feature)


def _limit(n: int, what: str) -> None:
    if n > MOST_VALUES:
        raise LimitError(f"more than MOST_VALUES = {MOST_VALUES} {what}")


def _entry(data: bytes, at: int, end: int) -> tuple[str, tuple[int, int]]:
    """Return the name of a feature, and where its message lies."""
    name, feature = b"", (end, end)
    name_at = at
    for number, wire, begin, stop in _fields(data, at, end):
        if wire == DELIMITED and number == 1:
            name, name_at = data[begin:stop], begin
        elif wire == DELIMITED and number == 2:
            feature = (begin, stop)
    try:
        return name.decode(), feature
    except UnicodeDecodeError as e:
        raise ExampleError(f"a name in UTF-8 expected: {e.reason}", name_at + e.start) from e


def _feature(data: bytes, at: int, end: int) -> Value:
    """Return the values of a feature.  The last kind of list counts; lists of a kind are joined."""
    kind = 0
    parts: list[tuple[int, int]] = []
    for number, wire, begin, stop in _fields(data, at, end):
        if wire != DELIMITED or number not in (BYTES, FLOATS, INTEGERS):
            continue
        if number != kind:
            kind, parts = number, []
        parts.append((begin, stop))
        _limit(len(parts), "lists")
    if kind == FLOATS:
        return _joined([x for part in parts for x in _floats(data, *part)], np.float32)
    if kind == INTEGERS:
        return _joined([x for part in parts for x in _integers(data, *part)], np.int64)
    return tuple(x for part in parts for x in _bytes(data, *part))


def _joined(parts: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _bytes(data: bytes, at: int, end: int) -> list[BytesAt]:
    found = []
    for number, wire, begin, stop in _fields(data, at, end):
        if number == 1 and wire == DELIMITED:
            found.append(BytesAt(begin, stop))
            _limit(len(found), "values")
    return found


def _floats(data: bytes, at: int, end: int) -> list[NDArray[np.float32]]:
    """Return runs of floats: packed ones, or one each."""
    found: list[NDArray[np.float32]] = []
    singles: list[float] = []
    for number, wire, begin, stop in _fields(data, at, end):
        if number != 1:
            continue
        if wire == FIXED32:
            singles.append(struct.unpack_from("<f", data, begin)[0])
            _limit(len(singles), "values")
        elif wire == DELIMITED:
            if (stop - begin) % 4:
                raise ExampleError(f"floats of 4 bytes expected, got {stop - begin} bytes", begin)
            if singles:
                found.append(np.array(singles, np.float32))
                singles = []
            found.append(np.frombuffer(data, "<f4", (stop - begin) // 4, begin).astype(np.float32))
            _limit(len(found), "lists")
    if singles:
        found.append(np.array(singles, np.float32))
    return found


def _integers(data: bytes, at: int, end: int) -> list[NDArray[np.int64]]:
    """Return runs of integers: packed ones, or one each."""
    found: list[NDArray[np.int64]] = []
    singles: list[int] = []
    for number, wire, begin, stop in _fields(data, at, end):
        if number != 1:
            continue
        if wire == VARINT:
            singles.append(_varint(data, begin, stop)[0])
            _limit(len(singles), "values")
        elif wire == DELIMITED:
            if stop - begin > LONG_NBYTES:
                found.append(np.array(singles, np.uint64).view(np.int64))
                found.append(_many(data, begin, stop))
                singles = []
                _limit(len(found), "lists")
            else:
                while begin < stop:
                    value, begin = _varint(data, begin, stop)
                    singles.append(value)
                _limit(len(singles), "values")
    found.append(np.array(singles, np.uint64).view(np.int64))
    return found


def _many(data: bytes, at: int, end: int) -> NDArray[np.int64]:
    """Return packed integers, read by numpy: one pass for each byte of the longest."""
    packed = np.frombuffer(data, np.uint8, end - at, at)
    if np.count_nonzero(packed < 0x80) > MOST_NUMBERS:
        raise LimitError(f"more than MOST_NUMBERS = {MOST_NUMBERS} numbers of a feature")
    ends = np.flatnonzero(packed < 0x80)
    if not len(ends) or ends[-1] != len(packed) - 1:
        raise ExampleError("a number expected, the message ends inside it", at)
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins + 1
    longest = int(lengths.max())
    last = packed[ends[lengths == LONGEST_VARINT_NBYTES]]
    if longest > LONGEST_VARINT_NBYTES or (last > 1).any():
        raise ExampleError("a number of up to 64 bits expected, got a longer one", at)
    found = np.zeros(len(ends), np.uint64)
    for k in range(longest):
        there = lengths > k
        part = (packed[begins[there] + k] & 0x7F).astype(np.uint64)
        found[there] |= part << np.uint64(7 * k)
    return found.view(np.int64)
