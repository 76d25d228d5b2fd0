"""Label maps, one number a pixel: what other programs have instead of overlapping segments."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.errors import LimitError
from mapix.iid.names import Text
from mapix.iid.segment import Box

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.writer import Writer

__all__ = ["LabelMap", "add_label_map", "label_map", "read_png"]

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
    left = np.bincount(painted[painted >= 0], minlength=len(archive))[some]
    lost = {int(k): int(n - m) for k, n, m in zip(some, there, left, strict=True) if n > m}
    gone = [int(k) for k, n, m in zip(some, there, left, strict=True) if n and not m]
    return LabelMap(painted + 1, lost, gone)


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
    out: Writer,
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
    out : Writer
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
    """
    array = np.asarray(labels)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise TypeError(f"a label map is (h, w) of whole numbers, got {array.dtype} {array.shape}")
    flat = array.ravel()
    order = np.argsort(flat, kind="stable")
    values, begins = np.unique(flat[order], return_index=True)
    names = list(groups)
    keys = []
    for value, begin, end in zip(values, begins, [*begins[1:], len(flat)], strict=True):
        if int(value) == background:
            continue
        rows, columns = np.divmod(order[begin:end], array.shape[1])
        r, c = int(rows.min()), int(columns.min())
        mask = np.zeros((int(rows.max()) + 1 - r, int(columns.max()) + 1 - c), bool)
        mask[rows - r, columns - c] = True
        where = (at[0] + r, at[1] + c)
        keys.append(out.add(domain, str(int(value)), mask, at=where, groups=names))
    return keys
