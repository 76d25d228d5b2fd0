"""Conversion of numbers to another type that holds the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.conversion.stream import Stream
from mapix.errors import UnsupportedError
from mapix.text import type_name

__all__ = ["fit", "scaled", "within_float32"]


def fit(stream: Stream, dtype: np.dtype[Any]) -> bool:
    """Return whether all numbers of a stream keep their values as ``dtype``.

    Cost: none where the type of the stream implies it, else one scan of the source.
    """
    if stream.dtype.fields:
        raise UnsupportedError(
            f"{stream.path}: numbers expected, got records of {type_name(stream.dtype)}"
        )
    if np.can_cast(stream.dtype, dtype, "safe"):
        return True
    with np.errstate(invalid="ignore", over="ignore"):  # values that do not fit are expected
        return all(_same(run, dtype) for block in stream.blocks() for run in block.runs)


def within_float32(stream: Stream) -> None:
    """Raise UnsupportedError where finite numbers of a stream are infinite as float32."""
    most = np.finfo(np.float32).max
    if stream.dtype.kind != "f" or stream.dtype.itemsize <= 4:
        return
    for block in stream.blocks():
        for run in block.runs:
            if (np.isfinite(run) & (np.abs(run) > most)).any():
                raise UnsupportedError(f"{stream.path}: numbers beyond float32's {most:g}")


def _same(run: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    made = run.astype(dtype)
    # Compared in a type that holds both: there and back again, -1 would be 255 and then -1.
    return bool(np.array_equal(made, run, equal_nan=dtype.kind == "f"))


def scaled(run: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return bytes, each record from its smallest number (0) to its largest (255), and these two.

    ``low + byte / 255 * (high - low)`` gives the numbers back, except for rounding.
    """
    x = run.astype(np.float64)
    flat = x.reshape(len(x), -1)
    if not np.isfinite(flat).all():
        raise ValueError("numbers that are not finite cannot be scaled to bytes")
    low, high = flat.min(axis=1), flat.max(axis=1)
    span = np.where(high > low, high - low, 1.0)
    made = np.rint((flat - low[:, None]) / span[:, None] * 255).astype(np.uint8)
    return made.reshape(run.shape), np.stack([low, high], axis=1).astype(np.float32)
