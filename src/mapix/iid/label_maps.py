"""Label maps: one number per pixel, for programs without overlapping segments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.iid.argument_checks import (
    Box,
    KeysLike,
    Text,
    as_box,
    as_bytes,
    as_group_names,
    as_integer,
    as_pair,
)
from mapix.iid.writer import OneTimeWriter
from mapix.text import brief
from mapix.views import exported

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.sharded_writer import ShardedWriter
    from mapix.iid.writer import Writer

__all__ = ["LabelMap", "add_label_map", "label_boxes", "label_map"]

STRIPE_PIXELS = 1 << 18  # of a label map, processed at once


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A label map, and the pixels that segments lost.

    Attributes
    ----------
    labels : ndarray
        int32 (h, w): key + 1 of the topmost segment, 0 without a segment.
    lost : dict
        Key -> pixels of that segment that others cover; only segments that lost some.
    gone : list of int
        Keys of segments that others cover completely.
    """

    labels: NDArray[np.int32]
    lost: dict[int, int]
    gone: list[int]

    __repr__ = brief

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the labels, for ``np.asarray(label_map)``: without a copy unless one is needed."""
        return exported(self.labels, dtype, copy)

    def save(self, path: str | os.PathLike[str], *, rgb: bool = False) -> None:
        """Write a PNG, TIFF or ``.npy`` file, which ``read_labels`` reads: see ``save_labels``."""
        from mapix.iid.label_files import write_strips

        strips = (self.labels[part] for part in _stripes(self.labels.shape, STRIPE_PIXELS))
        most = int(self.labels.max(initial=0))
        write_strips(path, self.labels.shape, strips, most, rgb=rgb)

    def __str__(self) -> str:
        total = sum(self.lost.values())
        return (
            f"{total} pixels of {len(self.lost)} segments are covered by others, "
            f"{len(self.gone)} segments are gone"
        )


def label_map(
    archive: Archive, keys: KeysLike | None = None, bbox: Box | None = None, **options: Any
) -> LabelMap:
    """Paint segments into one number per pixel, and count the pixels that this loses.

    Parameters
    ----------
    archive, keys, bbox, **options
        As for ``archive.paint``.
    """
    some = archive._some(keys)
    painted = archive.paint(some, bbox, background=-1, **options)
    window = (0, 0, *archive.shape) if bbox is None else bbox
    windows = np.broadcast_to(np.asarray(window, np.uint16), (len(some), 4))
    there = archive._bits.count(some, np.ascontiguousarray(windows))
    n = len(archive)
    left = np.zeros(n, np.int64)
    for part in _stripes(painted.shape, max(STRIPE_PIXELS, n)):
        here = painted[part]
        left += np.bincount(here[here >= 0], minlength=n)
    left = left.take(some)
    painted += 1
    lost = {int(k): int(n - m) for k, n, m in zip(some, there, left, strict=True) if n > m}
    gone = [int(k) for k, n, m in zip(some, there, left, strict=True) if n and not m]
    return LabelMap(painted, lost, gone)


def _stripes(shape: tuple[int, ...], npixels: int) -> Iterator[slice]:
    """Yield stripes of rows of an image, of about ``npixels`` pixels."""
    step = max(1, npixels // max(1, shape[1]))
    for row in range(0, shape[0], step):
        yield slice(row, min(row + step, shape[0]))


def add_label_map(
    out: Writer | ShardedWriter,
    labels: ArrayLike,
    domain: Text | None,
    *,
    background: int = 0,
    at: tuple[int, int] = (0, 0),
    groups: Iterable[str] = (),
) -> list[int]:
    """Write each value of a label map as a segment, named by its number.

    Parameters
    ----------
    out : Writer or ShardedWriter
        The archive.
    labels : array_like
        Integers (h, w).
    domain : str or bytes
        Domain of the segments.
    background : int
        The value of pixels without a segment.
    at : (row, column)
        Place of the map's first pixel in the image.
    groups : iterable of str
        Groups of the segments.

    Returns
    -------
    list of int
        Keys of the segments, in the order of the values.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        A segment exceeds row or column 65535.  Nothing is written.

    Notes
    -----
    Memory: a byte per pixel of the largest segment's box, and a box per value.
    """
    if not isinstance(out, OneTimeWriter):
        raise TypeError(f"out must be a Writer or ShardedWriter, got {type(out).__name__}")
    array = np.asarray(labels)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise TypeError(f"a label map is (h, w) of integers, got {array.dtype} {array.shape}")
    space, names = as_bytes(domain, "domain"), as_group_names(groups)
    row, column = as_pair(at, "at")
    boxes = label_boxes(array, as_integer(background, "background", -(2**63), 2**64))
    for minr, minc, maxr, maxc in boxes.values():
        as_box((row + minr, column + minc, row + maxr, column + maxc))
    keys = []
    for value, (minr, minc, maxr, maxc) in boxes.items():
        mask = array[minr:maxr, minc:maxc] == value
        where = (row + minr, column + minc)
        keys.append(out.add(space, str(value), mask, at=where, groups=names))
    return keys


def label_boxes(array: NDArray[Any], background: int = 0) -> dict[int, Box]:
    """Return value -> tight box of a label map, in the order of the values."""
    found = _boxes(array)
    found.pop(background, None)
    return dict(sorted(found.items()))


def _boxes(array: NDArray[Any]) -> dict[int, Box]:
    """Return the boxes from runs of equal values in stripes."""
    found: dict[int, Box] = {}
    width = array.shape[1]
    for part in _stripes(array.shape, STRIPE_PIXELS):
        stripe = np.ascontiguousarray(array[part])
        begins = np.ones(stripe.shape, bool)
        np.not_equal(stripe[:, 1:], stripe[:, :-1], out=begins[:, 1:])
        first = np.flatnonzero(begins)
        rows, columns = np.divmod(first, max(width, 1))
        ends = np.append(columns[1:], width)
        ends[ends == 0] = width  # the next run begins the next row
        values, which = np.unique(stripe.reshape(-1)[first], return_inverse=True)
        which = which.reshape(-1)
        sides = np.empty((4, len(values)), np.int64)
        sides[:2], sides[2:] = np.iinfo(np.int64).max, 0
        for side, numbers in zip(sides[:2], (rows, columns), strict=True):
            np.minimum.at(side, which, numbers)
        for side, numbers in zip(sides[2:], (rows + 1, ends), strict=True):
            np.maximum.at(side, which, numbers)
        sides[[0, 2]] += part.start
        for value, box in zip(values.tolist(), sides.T.tolist(), strict=True):
            minr, minc, maxr, maxc = box
            a, b, c, d = found.get(int(value), box)
            found[int(value)] = (min(a, minr), min(b, minc), max(c, maxr), max(d, maxc))
    return found
