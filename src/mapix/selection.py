"""Convert keys (integers, slices, index arrays, masks) to record numbers.

All families of datasets index through this module, so a key has one meaning everywhere.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from mapix._native.compiled import fast

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Rows",
    "axes",
    "chosen",
    "compose",
    "distinct",
    "integer",
    "part",
    "position",
    "positions",
    "single",
    "spread",
]

T = TypeVar("T", bound=np.generic)
Rows: TypeAlias = "range | NDArray[np.int64] | None"
"""Record numbers of a dataset: None (all records), a range, or a C-contiguous array."""

KEYS = "an int, a slice, or a 1-D array of ints or booleans"


def integer(key: Any) -> int | None:
    """Return an integer key as an int, or None for a slice or an array of indices.

    An integer key is any object with ``__index__``, such as numpy's integers and arrays and
    PyTorch's tensors without dimensions.

    Raises
    ------
    TypeError
        The key is a boolean, a tuple, a float, text, None or Ellipsis.
    """
    if type(key) is int:
        return key
    if isinstance(key, slice | list):
        return None
    if isinstance(key, np.integer):
        return int(key)
    ndim = getattr(key, "ndim", 0)
    if isinstance(key, bool) or (ndim == 0 and _is_boolean(getattr(key, "dtype", None))):
        raise TypeError(
            f"{key!r} is not an index: pass 0 or 1 for one record, or a mask with one boolean per "
            "record"
        )
    if isinstance(key, tuple):
        raise TypeError(
            f"{key!r} is not an index of records, which have one number each: pass a list for "
            "several records, or index the record's array"
        )
    if ndim:
        return None
    try:
        return operator.index(key)
    except TypeError:
        several = hasattr(key, "__len__") or hasattr(key, "__array__")
        if not several or isinstance(key, str | bytes | np.generic | np.ndarray):
            raise TypeError(f"an index is {KEYS}, got {_named(key)}") from None
    return None


def _is_boolean(dtype: Any) -> bool:
    """Return whether a dtype of numpy or another library is boolean."""
    kind = getattr(dtype, "kind", None)
    return kind == "b" if kind is not None else str(dtype).endswith("bool")


def _named(key: Any) -> str:
    """Return type and value of a key, short enough for a message."""
    text = repr(key)
    return f"{type(key).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def position(number: int, n: int, path: str, what: str = "records") -> int:
    """Return the position 0..n-1 of an integer index; negative ones count from the end.

    Raises
    ------
    IndexError
        The index is out of range; ``path`` and ``what`` are for the message.
    """
    if not -n <= number < n:
        raise IndexError(f"{path}: index {number} of {n} {what}")
    return number if number >= 0 else number + n


def part(key: Any, rows: Rows, n: int, path: str) -> range | NDArray[np.int64]:
    """Return the record numbers that a slice, indices or a mask select from the n numbers ``rows``.

    Raises the errors of ``positions``.  A returned array is a new C-contiguous array.
    """
    if isinstance(key, slice):
        found = (range(n) if rows is None else rows)[key]
        return found if isinstance(found, range) else found.copy()
    return compose(rows, positions(key, n, path))


def single(key: Any, n: int, path: str, what: str = "records") -> int:
    """Return the position 0..n-1 of an integer key, for sequences that cannot be sliced.

    Raises
    ------
    IndexError
        The key is out of range.
    TypeError
        The key is not an integer.
    """
    number = integer(key)
    if number is None:
        raise TypeError(f"{path}: an int is an index of {what} here, got {_named(key)}")
    return position(number, n, path, what)


def chosen(
    key: Any, rows: Rows, n: int, path: str, what: str = "records"
) -> int | range | NDArray[np.int64]:
    """Return the record numbers of ``dataset[key]`` for a dataset of the n records ``rows``.

    Returns
    -------
    int
        The record number, for an integer key.
    range or ndarray
        The record numbers, for a slice, a 1-D array of indices or a mask.

    Raises
    ------
    IndexError
        An index is out of range, or a mask has the wrong length.
    TypeError
        The key is anything else.
    """
    number = integer(key)
    if number is None:
        return part(key, rows, n, path)
    row = position(number, n, path, what)
    return row if rows is None else int(rows[row])


def axes(key: tuple[Any, ...], shape: tuple[int, ...], path: str) -> list[Any]:
    """Return an int, a slice or an array of ints per dimension, for a tuple as numpy accepts it.

    Ellipsis stands for all dimensions without an index; without it these are the last ones.
    Returned arrays are int64 and in range; masks are converted to such arrays.

    Raises
    ------
    IndexError
        There are more indices than dimensions, or an array or mask does not fit its dimension.
    TypeError
        One of them is a boolean, text, None or another object that is not an index.
    """
    given = list(key)
    rest = [k is Ellipsis for k in given]
    if sum(rest) > 1:
        raise IndexError(f"{path}: an index has at most one Ellipsis, got {sum(rest)}")
    missing = len(shape) - (len(given) - sum(rest))
    if missing < 0:
        raise IndexError(f"{path}: {len(given) - sum(rest)} indices for {len(shape)} dimensions")
    at = rest.index(True) if any(rest) else len(given)
    given[at : at + 1] = [slice(None)] * missing
    found: list[Any] = []
    for k, n in zip(given, shape, strict=True):
        number = integer(k)
        if number is not None:
            found.append(position(number, n, path, f"in dimension {len(found)}"))
        else:
            found.append(k if isinstance(k, slice) else positions(k, n, path))
    return found


def compose(rows: Rows, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the record numbers at positions of ``rows``, in O(len(wanted)) for all ``rows``."""
    if rows is None:
        return wanted
    if isinstance(rows, range):
        return wanted * rows.step + rows.start
    return rows[wanted]


def positions(key: Any, n: int, path: str) -> NDArray[np.int64]:
    """Convert indices, or a mask, of n records to positions in 0..n-1, as a new int64 array.

    Raises
    ------
    IndexError
        An index is out of range, or a mask has the wrong length; ``path`` is for the message.
    TypeError
        The key is not a 1-D array of integers or booleans.
    """
    if fast is not None:
        usual: NDArray[np.int64] | None = fast.positions(key, n)
        if usual is not None:
            return usual
    try:
        array = np.asarray(key)
    except ValueError:  # lists of different lengths
        raise TypeError(f"an index is {KEYS}, got {_named(key)}") from None
    if array.dtype.kind == "b" and array.ndim:
        if array.shape != (n,):
            raise IndexError(f"{path}: mask of shape {array.shape} for {n} records")
        return np.flatnonzero(array)
    if array.ndim == 1 and array.size == 0 and array.dtype.kind in "iuf":
        return np.empty(0, np.int64)  # numpy makes an array of floats of []
    if array.ndim != 1 or array.dtype.kind not in "iu":
        got = f"{type(key).__name__} of {array.dtype} and shape {array.shape}"
        raise TypeError(f"indices must be an int, a slice, or a 1-D array of ints or bools: {got}")
    # Always a copy: the caller may change its array, and unsigned values must not wrap.
    found = array.astype(np.int64)
    if not np.logical_or.reduce(
        found.view(np.uint64) >= n
    ):  # a negative number is a large one here
        return found
    bad = (found < -n) | (found >= n)
    if array.dtype.kind == "u":
        bad |= found < 0
    if bad.any():
        i = int(np.argmax(bad))
        raise IndexError(f"{path}: index {array[i]} at position {i} of {n} records")
    found[found < 0] += n
    return found


def spread(n: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` indices below n, spread evenly, int64 (k,).

    They ascend; of two or more, the first is 0 and the last is n - 1.
    """
    count = min(n, most)
    return np.arange(count, dtype=np.int64) * (n - 1) // max(count - 1, 1)


def distinct(values: NDArray[T]) -> NDArray[T]:
    """Return the different values of an array, ascending, (k,): np.unique, without numpy.ma.

    np.unique imports numpy.ma at its first call, which takes 10 ms: longer than what calls it.
    """
    ordered = np.sort(values, axis=None)
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]
