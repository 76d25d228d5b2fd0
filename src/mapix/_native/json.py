"""The compiled core's function for arrays of numbers in JSON text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix._native.core import Where, ffi, lib, where_of
from mapix._native.problems import problem

if TYPE_CHECKING:
    from mapix.source import Mapping

__all__ = [
    "ANY",
    "COLUMNS",
    "END",
    "ORIGINAL",
    "ROWS",
    "TOKEN",
    "UNKNOWN",
    "Numbers",
    "read",
    "written",
]

ORIGINAL: int = lib.MAPIX_JSON_ORIGINAL
ANY: int = lib.MAPIX_JSON_ANY
TOKEN: int = lib.MAPIX_E_JSON_TOKEN
COLUMNS: int = lib.MAPIX_E_JSON_COLUMNS
ROWS: int = lib.MAPIX_E_JSON_ROWS
END: int = lib.MAPIX_JSON_END
UNKNOWN = (1 << 64) - 1  # rows or columns that are to be counted
# bytes per call, after which Ctrl-C is noticed: 0.03 s, and 0.5 s for the hardest numbers
STEP_NBYTES = 16 << 20


class Numbers(NamedTuple):
    """State after ``read``: the fields of ``mapix_json_run``, and why it stopped."""

    status: int
    at: int
    nrows: int
    ncolumns: int
    column: int
    ninfinite: int
    where: Where


def read(
    mapping: Mapping,
    at: int,
    depth: int,
    grammar: int,
    out: NDArray[np.float32] | None,
    nrows: int = UNKNOWN,
    ncolumns: int = UNKNOWN,
) -> Numbers:
    """Read an array of numbers from byte ``at``, to its end or to an error.

    ``status`` is 0, TOKEN, COLUMNS or ROWS; anything else is raised.
    """
    if out is not None and (out.size != nrows * ncolumns or not out.flags.c_contiguous):
        raise ValueError(f"space for {out.size} numbers, not for {nrows} x {ncolumns}")
    run, where = ffi.new("mapix_json_run *"), ffi.new("mapix_where *")
    run.at = at
    into = ffi.NULL
    if out is not None:
        into = ffi.cast("float *", ffi.from_buffer("float[]", out, require_writable=True))
    status = 0
    while status == 0 and run.state != lib.MAPIX_JSON_DONE:
        stop = run.at + STEP_NBYTES
        status = mapping.guarded(
            lambda m, stop=stop: lib.mapix_json_numbers(  # type: ignore[misc]
                m, run, depth, grammar, into, nrows, ncolumns, stop, where
            )
        )
    if status not in (0, TOKEN, COLUMNS, ROWS):
        raise problem(status, where_of(where), mapping.path, "json")
    return Numbers(
        status, run.at, run.nrows, run.ncolumns, run.column, run.ninfinite, where_of(where)
    )


def written(row: NDArray[np.float32]) -> str:
    """Return numbers as JSON text with commas between, each read back as the same float32.

    Every number has a dot; infinite ones are 1.0e999.  Raises ValueError for NaN.
    """
    numbers = np.asarray(row, np.float32)
    if np.isnan(numbers).any():
        raise ValueError("NaN cannot be written as JSON")
    return ", ".join(
        [
            text if "." in text else text.replace("e", ".0e").replace("inf", "1.0e999")
            for text in map(str, numbers)
        ]
    )
