"""Checks of what callers pass: a value of a wrong type is a TypeError, never another value."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.errors import LimitError
from mapix.iid.layout import JSON_LIMIT

__all__ = [
    "MOST_SIDE",
    "Box",
    "Text",
    "as_bytes",
    "as_groups",
    "as_json",
    "as_keys",
    "as_pixels",
    "box_of",
    "name_of",
    "pair_of",
    "place_of",
    "whole",
]

Text = str | bytes
Box = tuple[int, int, int, int]
"""minr, minc, maxr, maxc: rows and columns, half open."""

MOST_SIDE = 65535  # the last row or column of a box
BYTE_VALUES = 1 << 8
WORD_NBYTES = 4
WORD_VALUES = 1 << 32
MOST_SHOWN = 60  # characters of a value in a message


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:MOST_SHOWN]}{'...' * (len(text) > MOST_SHOWN)}"


def as_bytes(text: Text | None, what: str = "a name") -> bytes:
    """A name as the file has it: text is UTF-8, None is empty.

    Raises
    ------
    TypeError
        It is neither text nor bytes.
    """
    if text is None:
        return b""
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return bytes(text)
    raise TypeError(f"{what} must be str or bytes, got {_shown(text)}")


def whole(value: object, what: str, low: int = 0, high: int = WORD_VALUES - 1) -> int:
    """A whole number in low..high, from anything with ``__index__``; bools are not numbers."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} must be a whole number, got {_shown(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as e:
        raise TypeError(f"{what} must be a whole number, got {_shown(value)}") from e
    if not low <= number <= high:
        raise ValueError(f"{what} must be {low}..{high}, got {number}")
    return number


def _numbers(value: object, n: int, what: str) -> list[Any]:
    """The n items of a tuple, list or 1-D array."""
    listed = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if not isinstance(listed, tuple | list) or len(listed) != n:
        raise TypeError(f"{what}, got {_shown(value)}")
    return list(listed)


def box_of(box: object) -> Box:
    """A box (minr, minc, maxr, maxc) of whole numbers, upright, within 0..65535."""
    sides = _numbers(box, 4, "a box is (minr, minc, maxr, maxc), whole numbers")
    minr, minc, maxr, maxc = (whole(v, "a side of a box", -(2**63), 2**63) for v in sides)
    if not (0 <= minr <= maxr <= MOST_SIDE and 0 <= minc <= maxc <= MOST_SIDE):
        raise ValueError(f"a box is minr <= maxr, minc <= maxc in 0..65535, got {tuple(sides)}")
    return minr, minc, maxr, maxc


def pair_of(pair: object, what: str) -> tuple[int, int]:
    """Two whole numbers that are not negative."""
    one, two = (whole(v, what) for v in _numbers(pair, 2, f"{what} is a pair of whole numbers"))
    return one, two


def place_of(at: object, h: int, w: int) -> Box:
    """The box of h x w pixels whose first one lies at (row, column)."""
    row, column = pair_of(at, "at")
    return box_of((row, column, row + h, column + w))


def name_of(group: object) -> str:
    """The name of a group."""
    if not isinstance(group, str):
        raise TypeError(f"the name of a group must be str, got {_shown(group)}")
    return str(group)


def as_groups(groups: Iterable[str]) -> list[str]:
    """Names of groups; one text alone is refused, for it is a sequence of its letters."""
    if isinstance(groups, str | bytes | Mapping) or not isinstance(groups, Iterable):
        hint = f": groups=[{groups!r}]" if isinstance(groups, str) else ""
        raise TypeError(f"groups must be a list of names, got {_shown(groups)}{hint}")
    return [name_of(name) for name in groups]


def as_keys(keys: Any, n: int, path: str) -> NDArray[np.uint32]:
    """Keys of n segments: one whole number, or an array, list, set or iterable of them; 1-D.

    Raises
    ------
    TypeError
        They are no whole numbers; floats and masks of bools are not taken for keys.
    IndexError
        One is below 0 or not below n; ``path`` is for the message.
    """
    given = keys
    if isinstance(getattr(given, "keys", None), np.ndarray):  # a Group, a Selection
        given = given.keys
    if isinstance(given, str | bytes | Mapping) or given is None:
        raise TypeError(f"keys must be whole numbers, got {_shown(given)}")
    if isinstance(given, Iterable) and not isinstance(given, Sequence | np.ndarray):
        given = np.asarray(given) if hasattr(given, "__array__") else list(given)
    raw = np.asarray(given)
    if raw.size == 0 and raw.dtype.kind in "iuf":
        return np.empty(0, np.uint32)
    if raw.dtype.kind not in "iu" or raw.ndim > 1 or _holds_bools(given):
        raise TypeError(
            f"keys must be whole numbers in one dimension, got {raw.dtype} of shape {raw.shape}"
        )
    low, high = int(raw.min()), int(raw.max())
    if low < 0 or high >= n:
        raise IndexError(f"{path}: keys {low} to {high} of {n} segments")
    return np.ascontiguousarray(raw.reshape(-1), np.uint32)


def _holds_bools(given: object) -> bool:
    """Whether a list has bools among its numbers, which numpy makes 0 and 1 of."""
    return isinstance(given, tuple | list) and any(isinstance(v, bool | np.bool_) for v in given)


def as_pixels(mask: ArrayLike) -> NDArray[Any]:
    """A mask as the core packs it: uint8 or uint32 (h, w); 0 only where the mask is 0.

    Whole numbers keep what tells them apart: regions are parts of equal value.  Of floats what is
    not 0 is alike.

    Raises
    ------
    TypeError
        It is not (h, w), or has other than bools, whole numbers and floats.
    ValueError
        It has NaN.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise TypeError(
            f"a mask is (h, w) of bools, whole numbers or floats, got {array.dtype} {array.shape}"
        )
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            raise ValueError("a mask with NaN: pixels are 0, or belong to it")
        array = array != 0
    if array.dtype.itemsize == 1:
        return np.ascontiguousarray(array).view(np.uint8)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low >= 0 and high < BYTE_VALUES:
        return np.ascontiguousarray(array, np.uint8)
    if array.dtype.itemsize <= WORD_NBYTES or (low >= 0 and high < WORD_VALUES):
        return np.ascontiguousarray(array).astype(np.uint32)
    values, number = np.unique(array, return_inverse=True)
    codes = np.arange(1, len(values) + 1, dtype=np.uint32)
    codes[values == 0] = 0
    return np.ascontiguousarray(codes[number].reshape(array.shape))


def as_json(value: Mapping[str, Any] | None, what: str) -> bytes:
    """The JSON of an object, ASCII, as Python writes it.

    Raises
    ------
    TypeError
        It is not a mapping, or holds what JSON does not: bytes, sets, keys that are not text.
    ValueError
        It holds NaN or infinity, or is nested too deeply.
    LimitError
        It is longer than what is read again.
    """
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, got {_shown(value)}")
    try:
        found = _plain(value or {}, what)
        text = json.dumps(found, allow_nan=False).encode()
    except RecursionError as e:
        raise ValueError(f"{what} is nested too deeply for JSON, or holds itself") from e
    except ValueError as e:
        raise ValueError(f"{what} is no JSON: {e}") from e
    if len(text) > JSON_LIMIT:
        raise LimitError(f"{what} of {len(text)} bytes of JSON; {JSON_LIMIT} are read again")
    return text


def _plain(value: Any, what: str) -> Any:
    """A value as JSON has it; keys that are not text, and types that it lacks, are TypeErrors."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{what}: a key must be str, got {_shown(key)}")
        return {str(k): _plain(v, f"{what}[{k!r}]") for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v, f"{what}[{i}]") for i, v in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{what} must be what JSON holds, got {_shown(value)}")
