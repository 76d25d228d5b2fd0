"""Checks of arguments: a value of a wrong type raises TypeError and is never converted."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix.errors import LimitError
from mapix.iid.layout import JSON_LIMIT, MOST_SIDE

if TYPE_CHECKING:
    from typing import Protocol

    from numpy.typing import ArrayLike, NDArray

    class HasKeys(Protocol):
        """A group, a selection or an archive."""

        @property
        def keys(self) -> Keys:
            """Keys, uint32 (n,)."""


__all__ = [
    "Box",
    "Keys",
    "KeysLike",
    "Text",
    "as_box",
    "as_bytes",
    "as_group_name",
    "as_group_names",
    "as_integer",
    "as_json",
    "as_keys",
    "as_pair",
    "as_pixels",
    "box_at",
]

Text = str | bytes
Box = tuple[int, int, int, int]
"""minr, minc, maxr, maxc: rows and columns, half open."""

Keys: TypeAlias = "NDArray[np.uint32]"


KeysLike: TypeAlias = "HasKeys | ArrayLike"

BYTE_VALUES = 1 << 8
WORD_NBYTES = 4
WORD_VALUES = 1 << 32
SHOWN_CHARACTERS = 60  # of a value in a message


def _shown(value: object) -> str:
    text = repr(value)
    return (
        f"{type(value).__name__} {text[:SHOWN_CHARACTERS]}{'...' * (len(text) > SHOWN_CHARACTERS)}"
    )


def as_bytes(text: Text | None, what: str = "a name") -> bytes:
    """Return a name as the file stores it: text as UTF-8, None as empty bytes.

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


def as_integer(value: object, what: str, low: int = 0, high: int = WORD_VALUES - 1) -> int:
    """Return an integer in low..high, of anything with ``__index__`` except booleans.

    Raises
    ------
    TypeError
        It is not an integer.
    ValueError
        It is out of range.
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} must be an integer, got {_shown(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as e:
        raise TypeError(f"{what} must be an integer, got {_shown(value)}") from e
    if not low <= number <= high:
        raise ValueError(f"{what} must be {low}..{high}, got {number}")
    return number


def _numbers(value: object, n: int, what: str) -> list[Any]:
    """Return the n items of a tuple, list or 1-D array."""
    listed = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if not isinstance(listed, tuple | list) or len(listed) != n:
        raise TypeError(f"{what}, got {_shown(value)}")
    return list(listed)


def as_box(box: object) -> Box:
    """Return a box (minr, minc, maxr, maxc) of integers: ascending, within 0..65535."""
    sides = _numbers(box, 4, "a box is (minr, minc, maxr, maxc), integers")
    minr, minc, maxr, maxc = (as_integer(v, "a side of a box", -(2**63), 2**63) for v in sides)
    if not (0 <= minr <= maxr <= MOST_SIDE and 0 <= minc <= maxc <= MOST_SIDE):
        raise ValueError(f"a box is minr <= maxr, minc <= maxc in 0..65535, got {tuple(sides)}")
    return minr, minc, maxr, maxc


def as_pair(pair: object, what: str) -> tuple[int, int]:
    """Return two integers that are not negative."""
    one, two = (as_integer(v, what) for v in _numbers(pair, 2, f"{what} is a pair of integers"))
    return one, two


def box_at(at: object, h: int, w: int) -> Box:
    """Return the box of h x w pixels of which the first one is at (row, column)."""
    row, column = as_pair(at, "at")
    return as_box((row, column, row + h, column + w))


def as_group_name(group: object) -> str:
    """Return the name of a group, which must be str."""
    if not isinstance(group, str):
        raise TypeError(f"the name of a group must be str, got {_shown(group)}")
    return str(group)


def as_group_names(groups: Iterable[str]) -> list[str]:
    """Return names of groups as a list.  Text is refused: it would be a list of its letters."""
    if isinstance(groups, str | bytes | Mapping) or not isinstance(groups, Iterable):
        hint = f": groups=[{groups!r}]" if isinstance(groups, str) else ""
        raise TypeError(f"groups must be a list of names, got {_shown(groups)}{hint}")
    return [as_group_name(name) for name in groups]


def as_keys(keys: Any, n: int, path: str) -> NDArray[np.uint32]:
    """Return keys of n segments, uint32 (m,), of one integer or of any iterable of integers.

    Raises
    ------
    TypeError
        They are not integers in one dimension; floats and boolean masks are not keys.
    IndexError
        One is not in 0..n-1; ``path`` is for the message.
    """
    given = keys
    if isinstance(getattr(given, "keys", None), np.ndarray):  # a Group, a Selection
        given = given.keys
    if isinstance(given, str | bytes | Mapping) or given is None:
        raise TypeError(f"keys must be integers, got {_shown(given)}")
    if isinstance(given, Iterable) and not isinstance(given, Sequence | np.ndarray):
        given = np.asarray(given) if hasattr(given, "__array__") else list(given)
    raw = np.asarray(given)
    if raw.size == 0 and raw.dtype.kind in "iuf":
        return np.empty(0, np.uint32)
    if raw.dtype.kind not in "iu" or raw.ndim > 1 or _holds_bools(given):
        raise TypeError(
            f"keys must be integers in one dimension, got {raw.dtype} of shape {raw.shape}"
        )
    low, high = int(raw.min()), int(raw.max())
    if low < 0 or high >= n:
        raise IndexError(f"{path}: keys {low} to {high} of {n} segments")
    return np.ascontiguousarray(raw.reshape(-1), np.uint32)


def _holds_bools(given: object) -> bool:
    """Whether a list has booleans among its numbers: numpy would turn them into 0 and 1."""
    return isinstance(given, tuple | list) and any(isinstance(v, bool | np.bool_) for v in given)


def as_pixels(mask: ArrayLike) -> NDArray[Any]:
    """Return a mask as the core packs it: uint8 or uint32 (h, w), 0 exactly where the mask is 0.

    Different integers stay different, because a region has pixels of one value.  All floats that
    are not 0 count as one value.

    Raises
    ------
    TypeError
        It is not (h, w), or its values are not booleans, integers or floats.
    ValueError
        It has NaN.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise TypeError(
            f"a mask is (h, w) of bools, integers or floats, got {array.dtype} {array.shape}"
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
    """Return the JSON text of a mapping, in ASCII, as Python writes it.

    Raises
    ------
    TypeError
        It is not a mapping, or has values that JSON cannot hold: bytes, sets, other keys than str.
    ValueError
        It holds NaN or infinity, or is nested too deeply.
    LimitError
        It is longer than the reader accepts.
    """
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, got {_shown(value)}")
    import json  # here: queries do not need it

    try:
        found = _plain(value or {}, what)
        text = json.dumps(found, allow_nan=False).encode()
    except RecursionError as e:
        raise ValueError(f"{what} is nested too deeply for JSON, or holds itself") from e
    except ValueError as e:
        raise ValueError(f"{what} is not JSON: {e}") from e
    if len(text) > JSON_LIMIT:
        raise LimitError(
            f"{what} of {len(text)} bytes of JSON; at most {JSON_LIMIT} can be read again"
        )
    return text


def _plain(value: Any, what: str) -> Any:
    """Return a value in the types of JSON; raise TypeError for other types and keys."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{what}: a key must be str, got {_shown(key)}")
        return {str(k): _plain(v, f"{what}[{k!r}]") for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v, f"{what}[{i}]") for i, v in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{what} must be a value that JSON can hold, got {_shown(value)}")
