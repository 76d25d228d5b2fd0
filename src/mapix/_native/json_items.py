"""The compiled core's functions for items of JSON arrays, and for numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix._native.core import Where, ffi, lib, where_of
from mapix._native.problems import problem

if TYPE_CHECKING:
    from mapix.source import Mapping

__all__ = [
    "ELSEWHERE",
    "GOOD",
    "LONG",
    "MISSING",
    "NOWHERE",
    "ODD",
    "TOKEN",
    "Items",
    "items",
    "numbers",
    "value_end",
]

TOKEN: int = lib.MAPIX_E_JSON_TOKEN
LONG: int = lib.MAPIX_E_JSON_LONG
MISSING: int = lib.MAPIX_JSON_MISSING
GOOD: int = lib.MAPIX_JSON_GOOD
ODD = (1 << 32) - 1  # the place of a value in an object whose keys have escapes
NOWHERE = (1 << 64) - 1
ELSEWHERE = NOWHERE - 1  # no byte of the file: a value for the caller to read
STEP_NBYTES = 64 << 20  # bytes per call, after which Ctrl-C is noticed: 0.05 s
ITEMS_PER_CALL = 1 << 14


class Items(NamedTuple):
    """Items of an array, as far as they were found.

    Attributes
    ----------
    status : int
        0, or TOKEN or LONG: the item after the last one is wrong.
    where : tuple of int
        Number of that item, the byte, the state of the scan, and what was found.
    end : int
        The byte after the array.
    begins, sizes : ndarray
        Byte and size of each item, uint64 and uint32 (n,).
    places : ndarray
        Where the value of each key begins in the item, uint32 (n, keys): 0 without one, or ODD.
    """

    status: int
    where: Where
    end: int
    begins: NDArray[np.uint64]
    sizes: NDArray[np.uint32]
    places: NDArray[np.uint32]


def items(
    mapping: Mapping, at: int, keys: Sequence[bytes], most_nbytes: int, most_items: int
) -> Items:
    """Find the items of the array that begins at byte ``at``: ``mapix_json_items``.

    It stops after ``most_items`` or somewhat more.
    """
    run, where = ffi.new("mapix_json_list *"), ffi.new("mapix_where *")
    run.at = at
    text = b"".join(keys)
    ends = np.cumsum([len(key) for key in keys], dtype=np.uint32)
    n, most = ffi.new("uint64_t *"), min(most_nbytes, ODD - 1)
    begins, sizes, places = [], [], []
    given = ffi.from_buffer("uint8_t[]", text), ffi.from_buffer("uint32_t[]", ends), len(keys)
    status = 0
    while status == 0 and run.state != lib.MAPIX_JSON_DONE and run.nitems < most_items:
        begin, size = np.empty(ITEMS_PER_CALL, np.uint64), np.empty(ITEMS_PER_CALL, np.uint32)
        place = np.empty((ITEMS_PER_CALL, len(keys)), np.uint32)
        out = (
            ffi.from_buffer("uint64_t[]", begin, require_writable=True),
            ffi.from_buffer("uint32_t[]", size, require_writable=True),
            ffi.from_buffer("uint32_t[]", place, require_writable=True),
        )
        stop, before = run.at + STEP_NBYTES, ffi.new("mapix_json_list *", run[0])

        def call(m, stop=stop, before=before, out=out):  # type: ignore[no-untyped-def]
            run[0] = before[0]  # a harmless change of the file repeats the call
            return int(
                lib.mapix_json_items(m, run, *given, most, stop, *out, ITEMS_PER_CALL, n, where)
            )

        status = mapping.guarded(call)
        found = int(n[0])
        begins.append(begin[:found].copy())
        sizes.append(size[:found].copy())
        places.append(place[:found].copy())
    if status not in (0, TOKEN, LONG):
        raise problem(status, where_of(where), mapping.path, "json")
    return Items(
        *(status, where_of(where), int(run.at)),
        np.concatenate([np.empty(0, np.uint64), *begins]),
        np.concatenate([np.empty(0, np.uint32), *sizes]),
        np.concatenate([np.empty((0, len(keys)), np.uint32), *places]),
    )


def value_end(mapping: Mapping, at: int, most_nbytes: int) -> tuple[int, int]:
    """Return status (0, TOKEN or LONG) and the byte after the value at ``at``.

    After an error it is where the scan stopped: ``mapix_json_value_end``.
    """
    end = ffi.new("uint64_t *")
    status = mapping.guarded(lambda m: int(lib.mapix_json_value_end(m, at, most_nbytes, end)))
    if status not in (0, TOKEN, LONG):
        raise problem(status, (0, at, 0, 0), mapping.path, "json")
    return status, int(end[0])


def numbers(
    mapping: Mapping, at: NDArray[np.uint64], dtype: type[np.int64] | type[np.float64], width: int
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Read numbers at bytes of the file; return them, and for each MISSING, GOOD or another state.

    ``width`` 0: a number each, (n,).  Else an array of so many doubles each, (n, width).  Values
    are meaningless unless GOOD: ``mapix_json_values``.
    """
    n = len(at)
    out: NDArray[Any] = np.zeros((n, width) if width else n, dtype)
    found = np.zeros(n, np.uint8)
    for first in range(0, n, ITEMS_PER_CALL):
        part = slice(first, first + ITEMS_PER_CALL)
        where = np.ascontiguousarray(at[part])
        into, null = out[part], ffi.NULL
        doubles = integers = null
        if dtype is np.float64:
            doubles = ffi.from_buffer("double[]", into, require_writable=True)
        else:
            integers = ffi.from_buffer("int64_t[]", into, require_writable=True)
        states = ffi.from_buffer("uint8_t[]", found[part], require_writable=True)
        args = ffi.from_buffer("uint64_t[]", where), len(where), width, doubles, integers, states
        status = mapping.guarded(lambda m, args=args: int(lib.mapix_json_values(m, *args)))  # type: ignore[misc]
        if status:
            raise problem(status, (0, 0, 0, 0), mapping.path, "json")
    return out, found
