"""The base of archives: everything that their queries need from one file, or from several.

``SingleArchive`` and ``ShardedArchive`` implement ``ArchiveBase``; a method that one of them lacks
is an error of mypy.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mapix._native.tree import Tree
from mapix.dataset import Dataset
from mapix.errors import warn
from mapix.iid.argument_checks import Box, Keys, KeysLike, as_keys
from mapix.iid.groups import Groups
from mapix.iid.layout import PIXELS_PER_BYTE, check_pixels, image_size
from mapix.iid.segment import Segment
from mapix.iid.segment_file import SegmentFile
from mapix.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.byte_ranges import ByteRange
    from mapix.columns import Column
    from mapix.iid.interfaces import Bits, NameQueries

__all__ = ["ArchiveBase", "SegmentDataset"]

Boxes: TypeAlias = "NDArray[np.uint16]"
SIDES = ("minr", "minc", "maxr", "maxc")
COLUMNS = {
    "area": ("pixels", "pixels of the segment, as the file states them"),
    "minr": ("pixels", "first row of the box"),
    "minc": ("pixels", "first column of the box"),
    "maxr": ("pixels", "row after the last one of the box"),
    "maxc": ("pixels", "column after the last one of the box"),
    "domain": ("", "namespace of the name; empty without one"),
    "iid": ("", "name within the domain"),
    "groups": ("", "names of the groups that the segment is in"),
}
"""Name of each column -> its unit and description."""


MOST_THUMBNAIL = 1 << 24  # pixels of a box


class SegmentDataset(Dataset[Segment]):
    """Segments by number: the part of the contract that archives and selections share."""

    FAMILY = "iid"
    RECORDS = "segments"
    NAMES = ("domain", "iid")
    BATCH_OPTIONS = frozenset()
    PANELS = ("mapix.iid.viewing:PANEL",)
    NO_BATCH = "use masks(keys), or mapix.iid.label_map(archive, keys) for one image of them"

    @property
    @abc.abstractmethod
    def keys(self) -> Keys:
        """Keys of the segments, uint32 (n,)."""

    @abc.abstractmethod
    def _values(self, name: str) -> NDArray[Any]:
        """Return the values of a column for these segments."""

    def _column_names(self) -> Sequence[str]:
        return tuple(COLUMNS)

    def _column(self, name: str) -> Column:
        from mapix.columns import Column

        unit, description = COLUMNS[name]
        return Column(name, self._values(name), unit=unit, description=description)

    def _shown_names(self) -> Sequence[str]:
        return tuple(COLUMNS)  # without those of a record: a selection is found when it is needed

    def _label_names(self) -> Sequence[str]:
        return ("groups",)

    def _image(self, row: int) -> None:
        """Return None: the file holds masks, and no pixels of the image."""
        del row

    def _thumbnail(self, row: int) -> NDArray[Any] | None:
        """Return the mask in the segment's box, bool (h, w); None of boxes above 16 M pixels."""
        segment = self._record(row)
        h, w = segment.shape
        return segment.mask() if 0 < h * w <= MOST_THUMBNAIL else None

    def _content(self, row: int) -> NDArray[Any]:
        """Return the mask within the segment's box."""
        return self._record(row).mask()

    def _drawing(self, row: int, size: int) -> NDArray[np.uint8] | None:
        """Draw the mask within the segment's box."""
        return self._record(row)._drawing(size)

    def _explained(self, row: int) -> dict[str, Any]:
        from mapix.text import counted

        segment = self._record(row)
        h, w = segment.shape
        return {
            "how": "nothing is read until an attribute of the segment is used; its mask of "
            f"{h} x {w} is decoded from {counted(len(segment.bits), 'byte')}",
        }

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        from mapix.iid.explaining import byte_ranges

        segment = self._record(row)
        return byte_ranges(segment._file, segment._row)

    def _areas_range(self) -> list[int] | None:
        areas = self._values("area")
        return [int(areas.min()), int(areas.max())] if len(areas) else None


class ArchiveBase(SegmentDataset):
    """Everything that the queries of an archive need from its files.

    Attributes
    ----------
    source : Source
        The open file, the first one of several.
    groups : Groups
        Name -> Group of keys.
    """

    source: Source
    groups: Groups
    _n: int
    _bits: Bits
    _names: NameQueries

    @property
    @abc.abstractmethod
    def nbytes(self) -> int:
        """Bytes of all files."""

    @property
    @abc.abstractmethod
    def header(self) -> tuple[int, int]:
        """Version and rformat of the header, as ``Writer(version=...)`` takes them."""

    @property
    @abc.abstractmethod
    def meta(self) -> dict[str, Any]:
        """The metadata."""

    @property
    @abc.abstractmethod
    def bboxes(self) -> Boxes:
        """Boxes of all segments, uint16 (n, 4): minr, minc, maxr, maxc; read-only."""

    @property
    @abc.abstractmethod
    def areas(self) -> Keys:
        """Pixels of all segments, as the file states them, uint32 (n,); read-only."""

    @abc.abstractmethod
    def check_table(self) -> None:
        """Check each row of the lookup table: its key, and that name and segment are in bounds.

        Raises
        ------
        FormatError
            A row is wrong.
        LimitError
            Segments, or names, share bytes: together they take more than 4 times their section.
        """

    @abc.abstractmethod
    def _place(self, key: int) -> tuple[SegmentFile, int]:
        """Return the file of a segment, and the segment's number in it."""

    @abc.abstractmethod
    def _in_window(self, window: Box, exact: bool) -> Keys:
        """Return the keys in one window, ascending."""

    @abc.abstractmethod
    def _in_windows(self, windows: Boxes, exact: bool) -> tuple[Keys, NDArray[Any]]:
        """Return the keys in many windows, ascending in each, and the count of each window."""

    # --- what follows from these ------------------------------------------------------------------

    @property
    def keys(self) -> Keys:
        """All keys, uint32 (n,)."""
        return np.arange(self._n, dtype=np.uint32)

    @property
    def version(self) -> int:
        """Version in the header; 0 in all known files."""
        return self.header[0]

    def __len__(self) -> int:
        return self._n

    def _count(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Segment]:
        return map(self._record, range(self._n))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the image, as ``meta["image"]`` states it.

        The smallest image that holds all boxes, if the metadata states none or a box exceeds it.
        """
        boxes = self.bboxes
        h, w = int(boxes[:, 2].max(initial=0)), int(boxes[:, 3].max(initial=0))
        stated = image_size(self.meta)
        if stated is None:
            return h, w
        if h > stated[0] or w > stated[1]:
            warn(
                f"{self.path}: boxes reach to ({h}, {w}), its metadata states an image of "
                f"{stated[0]} x {stated[1]}: the larger of both is taken"
            )
        return max(h, stated[0]), max(w, stated[1])

    @cached_property
    def _tree(self) -> Tree:
        return Tree(self.bboxes)

    def check_pixels(self, npixels: int, what: str, per_byte: int = PIXELS_PER_BYTE) -> None:
        """Refuse pixels whose count is only stated in the file.

        Raises
        ------
        LimitError
            They are more than ``per_byte`` per byte of the file, which counts as 1 MiB at least.
        """
        check_pixels(self.path, self.nbytes, npixels, what, per_byte)

    def _some(self, keys: KeysLike | None) -> Keys:
        """Return keys as the core takes them, all in range; all keys for None."""
        return self.keys if keys is None else as_keys(keys, self._n, self.path)

    def _values(self, name: str) -> NDArray[Any]:
        return self._values_of(name, None)

    def _values_of(self, name: str, keys: Keys | None) -> NDArray[Any]:
        """Return the values of a column for keys; for None, all values without a copy."""
        if name == "area":
            return self.areas if keys is None else self.areas.take(keys)
        if name in SIDES:
            side = self.bboxes[:, SIDES.index(name)]
            return side if keys is None else side.take(keys)
        some = self._some(keys)
        if name == "groups":
            return np.fromiter(map(tuple, self._groups_of(some)), object, len(some))
        texts = (pair[name == "iid"] for pair in self._names.each(some))
        decoded = (text.decode("utf-8", "backslashreplace") for text in texts)
        return np.fromiter(decoded, object, len(some))

    def _groups_of(self, keys: Keys) -> list[list[str]]:
        """Return the names of the groups that each key is in."""
        once, row = np.unique(keys, return_inverse=True)
        place = np.full(self._n, -1, np.int64)
        place[once.astype(np.int64)] = np.arange(len(once))
        names: list[list[str]] = [[] for _ in once]
        for name, group in self.groups.items():
            for i in place.take(group.keys).tolist():
                if i >= 0 and names[i][-1:] != [name]:  # a hostile group might have a key twice
                    names[i].append(name)
        return [names[i] for i in row.reshape(-1).tolist()]
