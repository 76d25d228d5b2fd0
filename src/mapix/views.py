"""Make arrays that alias the file: read-only, without a copy, valid as long as they exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix.errors import UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bytes_at", "exported", "selected", "uniform_images", "uniform_labels"]

Bytes: TypeAlias = "NDArray[np.uint8]"
_U8 = np.dtype(np.uint8)


def _steps(h: int, w: int, c: int, interleaved: bool) -> tuple[int, int, int]:
    """Return the strides in bytes of (h, w, c) in a planar or interleaved image."""
    return (w * c, c, 1) if interleaved else (w, 1, h * w)


def uniform_images(
    data: memoryview, at: int, n: int, stride: int, shape: tuple[int, int, int], interleaved: bool
) -> Bytes:
    """Return all n images of a uniform file as one uint8 array (n, h, w, c)."""
    if n == 0:
        return np.ndarray((0, *shape), _U8, data)
    return np.ndarray((n, *shape), _U8, data, at, (stride, *_steps(*shape, interleaved)))


def uniform_labels(
    data: memoryview, at: int, n: int, stride: int, nlabels: int, which: int
) -> Bytes:
    """Return label ids (``which`` 0) or values (1) of a uniform file, uint8 (n, nlabels)."""
    if n == 0 or nlabels == 0:
        return np.ndarray((n, nlabels), _U8, data)
    return np.ndarray((n, nlabels), _U8, data, at + which, (stride, 2))


def selected(array: NDArray[Any], rows: range | None) -> NDArray[Any]:
    """Return the rows of a range as a view."""
    if rows is None:
        return array
    stop: int | None = rows.stop if rows.stop >= 0 else None
    return array[rows.start : stop : rows.step] if len(rows) else array[:0]


def exported(
    array: NDArray[Any] | None, dtype: Any = None, copy: bool | None = None
) -> NDArray[Any]:
    """Return what ``__array__(dtype, copy)`` of an object returns that holds this array.

    Raises
    ------
    UnsupportedError
        The array is None.
    ValueError
        ``copy`` is False, and the type needs a copy.
    """
    if array is None:
        raise UnsupportedError("a record without an image is not an array")
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if wanted == array.dtype:
        return array.copy() if copy else array
    if copy is False:
        raise ValueError(f"{array.dtype} as {wanted} needs a copy")
    return array.astype(wanted)


def bytes_at(data: memoryview, at: int, nbytes: int) -> Bytes:
    """Return a part of the file, uint8 (nbytes,)."""
    return np.ndarray((nbytes,), _U8, data, at)
