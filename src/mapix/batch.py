"""Many records into one contiguous batch: one C call, one pass over the bytes, always a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix import _native
from mapix.source import Mapping

__all__ = ["Batch", "Canvas", "Dtype", "Layout", "Values", "gather"]

Dtype = Literal["uint8", "float32", "float16"]
Layout = Literal["NHWC", "NCHW"]
IntArray = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Batch:
    """What ``batch`` returns.  All arrays are its own (or the given ``out``): writable, contiguous.

    Attributes
    ----------
    images : ndarray
        (b, h, w, c) or (b, c, h, w); with ``flat=True`` all bytes of all images back to back,
        each as the file has it.
    labels : ndarray or None
        (b, heads), in the unit that was asked for: uint8 raw (0 where missing), float32
        normalised or physical (NaN where missing), int64 class (-1 where missing).
    present : ndarray or None
        bool (b, heads), False where a record lacks the label.
    shapes : ndarray
        uint16 (b, 3): h, w, c of each record before padding or cropping.
    spec_range : ndarray
        float32 (b, 2): spec_min, spec_max; NaN in the 6-byte dialect.
    offsets : ndarray or None
        With ``flat=True``: int64 (b + 1,), image i is ``images[offsets[i]:offsets[i + 1]]``.
    names : tuple of str
        Names of the label columns.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None
    present: NDArray[np.bool_] | None
    shapes: NDArray[np.uint16]
    spec_range: NDArray[np.float32]
    offsets: NDArray[np.int64] | None
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The shape that every record of a batch is put on, and how.  ``fit``: PAD, CROP, CENTRE."""

    h: int
    w: int
    c: int
    fit: int
    pad_value: float


@dataclass(frozen=True, slots=True)
class Values:
    """The type of the output and the arithmetic on the way: fma(byte, a, b) per channel."""

    dtype: Dtype
    layout: Layout
    scale: float | None
    mean: ArrayLike | None
    std: ArrayLike | None

    def __post_init__(self) -> None:
        if self.dtype not in _native.DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_native.DTYPES)}, got {self.dtype!r}")
        if self.layout not in _native.LAYOUTS:
            raise ValueError(f"layout must be NHWC or NCHW, got {self.layout!r}")
        plain = self.scale is None and self.mean is None and self.std is None
        if self.dtype == "uint8" and not plain:
            raise ValueError("scale, mean and std need dtype float32 or float16")

    def affine(self, c: int) -> NDArray[np.float32] | None:
        """Pairs (a, b) of each channel, float32 (c, 2): (byte * scale - mean) / std."""
        if self.dtype == "uint8":
            return None
        std = np.asarray(1.0 if self.std is None else self.std, dtype=np.float64)
        mean = np.asarray(0.0 if self.mean is None else self.mean, dtype=np.float64)
        if not (std != 0).all():
            raise ValueError("std must not be zero")
        out = np.empty((c, 2), dtype=np.float32)
        try:
            out[:, 0] = (1.0 if self.scale is None else self.scale) / std
            out[:, 1] = -mean / std
        except ValueError as e:
            raise ValueError(
                f"mean and std must be numbers or {c} of them, one a channel; "
                f"got shapes {mean.shape} and {std.shape}"
            ) from e
        return out


def _given(
    out: NDArray[Any] | Batch | None, shape: tuple[int, ...], dtype: str
) -> NDArray[Any]:
    """The output array: a new one, or the first rows of the given one."""
    if out is None:
        return np.empty(shape, dtype)
    array = out.images if isinstance(out, Batch) else out
    if not isinstance(array, np.ndarray):
        raise TypeError(f"out must be an ndarray or a Batch, got {type(out).__name__}")
    fits = array.ndim == len(shape) and array.shape[1:] == shape[1:] and len(array) >= shape[0]
    if array.dtype != dtype or not fits or not array.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous {dtype} of shape {shape} (or with more rows), "
            f"got {array.dtype} {array.shape}"
        )
    if not array.flags.writeable:
        raise ValueError("out is read-only")
    return array[: shape[0]]


def gather(
    mapping: Mapping,
    index: _native.VimhIndex,
    rows: IntArray,
    *,
    canvas: Canvas | None,
    values: Values,
    columns: NDArray[np.int16] | None,
    names: tuple[str, ...],
    flat_nbytes: int = 0,
    out: NDArray[Any] | Batch | None = None,
    threads: int = 1,
) -> Batch:
    """Copy records into a batch.

    Parameters
    ----------
    mapping, index
        The file and its index.
    rows : ndarray
        int64 (b,), negative ones count from the end.
    canvas : Canvas or None
        Output shape; None for flat bytes.
    values : Values
        Output type, layout and arithmetic.
    columns : ndarray or None
        Label column of each id, int16 (256,); None for no labels.
    names : tuple of str
        Names of the columns.
    flat_nbytes : int
        Sum of all image bytes, for flat output.
    out : ndarray or Batch, optional
        Where the images go.
    threads : int
        Threads that copy, 1 to 16.

    Returns
    -------
    Batch
        Labels raw.

    Notes
    -----
    Copies: every image once.  Lifetime: the arrays are the caller's.  Threads: any number of
    calls at once; the GIL is released.  Cost: one pass over the bytes of the records.
    """
    b = len(rows)
    shapes = np.empty((b, 3), np.uint16)
    spec_range = np.empty((b, 2), np.float32)
    offsets = labels = present = None
    if canvas is None:
        images = _given(out, (flat_nbytes,), "uint8")
        offsets = np.zeros(b + 1, np.int64)
        box: dict[str, Any] = {}
    else:
        size = (canvas.h, canvas.w, canvas.c)
        order = size if values.layout == "NHWC" else (canvas.c, canvas.h, canvas.w)
        images = _given(out, (b, *order), values.dtype)
        box = {"h": canvas.h, "w": canvas.w, "c": canvas.c}
        box |= {"fit": canvas.fit, "pad_value": canvas.pad_value}
    if columns is not None:
        labels = np.empty((b, len(names)), np.uint8)
        present = np.empty((b, len(names)), np.bool_)
    affine = None if canvas is None else values.affine(canvas.c)
    # All pointers live in this dict until the call is over.
    plan: dict[str, Any] = {
        "images": _native.pointer(images, "char[]"),
        "images_nbytes": images.nbytes,
        "dtype": _native.DTYPES[values.dtype],
        "layout": _native.LAYOUTS[values.layout],
        "affine": _native.constant(affine, "float[]"),
        "ncolumns": len(names),
        "columns": _native.constant(columns, "int16_t[]"),
        "labels": _native.pointer(labels, "uint8_t[]"),
        "present": _native.pointer(present, "uint8_t[]"),
        "shapes": _native.pointer(shapes, "uint16_t[]"),
        "spec_range": _native.pointer(spec_range, "float[]"),
        "flat_at": _native.pointer(offsets, "uint64_t[]"),
        "nthreads": threads,
        **box,
    }
    index.gather(mapping, rows, _native.new_gather(**plan))
    return Batch(images, labels, present, shapes, spec_range, offsets, names)


def in_unit(batch: Batch, table: NDArray[Any], missing: float) -> Batch:
    """Replace raw labels by what ``table`` (heads, 256) says they mean; in place, and returned."""
    if batch.labels is None or batch.present is None:
        return batch
    heads = np.arange(len(batch.names))
    values = table[heads, batch.labels]
    if not batch.present.all():
        values[~batch.present] = missing
    batch.labels = values
    return batch
