"""Capsules of Arrow's C interface: pyarrow, polars, pandas and duckdb read columns through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix.optional import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["array_capsules", "stream_capsule"]

Values: TypeAlias = "tuple[NDArray[Any], NDArray[np.bool_] | None]"
"""Values (n, ...), and whether each is present, bool (n,); None where all are."""


def array_capsules(values: Values, requested: Any) -> tuple[Any, Any]:
    """Return ``__arrow_c_array__(requested)`` of values."""
    found: tuple[Any, Any] = _arrow(values).__arrow_c_array__(requested)
    return found


def stream_capsule(columns: Mapping[str, Values], requested: Any) -> Any:
    """Return ``__arrow_c_stream__(requested)`` of a table: name -> values."""
    pa = library("pyarrow", "arrow")
    arrays = {name: _arrow(values) for name, values in columns.items()}
    return pa.table(arrays).__arrow_c_stream__(requested)


def _arrow(given: Values) -> Any:
    """Return values as an array of pyarrow; elements of several dimensions are tensors.

    Copies: none of numbers in this machine's byte order, but of booleans, texts and lists.
    """
    pa = library("pyarrow", "arrow")
    values, present = given
    missing = None if present is None or present.all() else ~present
    if values.dtype.kind in "OSU":
        plain = values.tolist()
        if missing is not None:
            plain = [None if lack else v for v, lack in zip(plain, missing, strict=True)]
        return pa.array(plain)
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if native.ndim > 1:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(native)
    return pa.array(native, mask=missing)
