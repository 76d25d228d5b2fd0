"""Label maps, one number a pixel: what other programs have instead of overlapping segments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.errors import LimitError
from mapix.iid.arguments import Box, Text, as_bytes, as_groups, box_of, pair_of, whole
from mapix.iid.writer import Once

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.shards import ShardedWriter
    from mapix.iid.writer import Writer

__all__ = ["LabelMap", "add_label_map", "label_map", "read_png"]

STRIPE = 1 << 18  # pixels of a label map that are worked on at once
MOST_LABELS = 65535  # of a PNG with 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A label map, and what it lost.

    Attributes
    ----------
    labels : ndarray
        int32 (h, w): 0 where there is no segment, else key + 1.
    lost : dict
        Key -> pixels of that segment that others cover; segments that lost nothing are not in it.
    gone : list of int
        Keys of segments of which nothing is left.
    """

    labels: NDArray[np.int32]
    lost: dict[int, int]
    gone: list[int]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a PNG of 16 bits (needs Pillow), which ``read_png`` reads.

        Raises
        ------
        LimitError
            A label is above 65535.
        """
        from PIL import Image

        most = int(self.labels.max(initial=0))
        if most > MOST_LABELS:
            raise LimitError(f"{os.fspath(path)}: label {most}, a PNG holds up to {MOST_LABELS}")
        Image.fromarray(self.labels.astype(np.uint16)).save(path, format="PNG")

    def __str__(self) -> str:
        total = sum(self.lost.values())
        return (
            f"{total} pixels of {len(self.lost)} segments are covered by others, "
            f"{len(self.gone)} segments are gone"
        )


def label_map(
    archive: Archive, keys: Any = None, bbox: Box | None = None, **options: Any
) -> LabelMap:
    """Paint segments into one number a pixel, and tell what that loses.

    Parameters
    ----------
    archive, keys, bbox, **options
        As for ``archive.paint``.
    """
    some = archive._some(keys)
    painted = archive.paint(some, bbox, background=-1, **options)
    window = (0, 0, *archive.shape) if bbox is None else bbox
    windows = np.broadcast_to(np.asarray(window, np.uint16), (len(some), 4))
    there = archive._iid.count(archive.source.mapping, some, np.ascontiguousarray(windows))
    n = len(archive)
    left = np.zeros(n, np.int64)
    for part in _stripes(painted.shape, max(STRIPE, n)):
        here = painted[part]
        left += np.bincount(here[here >= 0], minlength=n)
    left = left[some]
    painted += 1
    lost = {int(k): int(n - m) for k, n, m in zip(some, there, left, strict=True) if n > m}
    gone = [int(k) for k, n, m in zip(some, there, left, strict=True) if n and not m]
    return LabelMap(painted, lost, gone)


def _stripes(shape: tuple[int, ...], npixels: int) -> Iterator[slice]:
    """Rows of an image, about so many pixels at a time."""
    step = max(1, npixels // max(1, shape[1]))
    for row in range(0, shape[0], step):
        yield slice(row, min(row + step, shape[0]))


def read_png(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Labels of a PNG of 8 or 16 bits, one channel, int64 (h, w); needs Pillow.

    Raises
    ------
    ValueError
        It has colours: a palette's numbers are taken, but not three channels.
    """
    from PIL import Image

    with Image.open(path) as image:
        labels = np.asarray(image)
    if labels.ndim != 2:
        raise ValueError(f"{os.fspath(path)}: {labels.shape} is no label map, one number a pixel")
    return labels.astype(np.int64)


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
        Where to.
    labels : array_like
        Whole numbers (h, w).
    domain : str or bytes
        Of their names.
    background : int
        The value that is no segment.
    at : (row, column)
        Where the map's first pixel lies in the image.
    groups : iterable of str
        Groups that they belong to.

    Returns
    -------
    list of int
        Their keys, in the order of the values.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        A segment would lie beyond row or column 65535; then nothing is written.

    Notes
    -----
    Memory: a byte per pixel of the largest segment's box, and a place per value.
    """
    if not isinstance(out, Once):
        raise TypeError(f"out must be a Writer or ShardedWriter, got {type(out).__name__}")
    array = np.asarray(labels)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise TypeError(f"a label map is (h, w) of whole numbers, got {array.dtype} {array.shape}")
    space, names = as_bytes(domain, "domain"), as_groups(groups)
    row, column = pair_of(at, "at")
    boxes = _boxes(array)
    boxes.pop(whole(background, "background", -(2**63), 2**64), None)
    for minr, minc, maxr, maxc in boxes.values():
        box_of((row + minr, column + minc, row + maxr, column + maxc))
    keys = []
    for value in sorted(boxes):
        minr, minc, maxr, maxc = boxes[value]
        mask = array[minr:maxr, minc:maxc] == value
        where = (row + minr, column + minc)
        keys.append(out.add(space, str(value), mask, at=where, groups=names))
    return keys


def _boxes(array: NDArray[Any]) -> dict[int, Box]:
    """Value -> tight box, of all values of a label map; from runs of equal values, by stripes."""
    found: dict[int, Box] = {}
    width = array.shape[1]
    for part in _stripes(array.shape, STRIPE):
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
