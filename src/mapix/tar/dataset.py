"""A tar shard as a sequence of records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.columns import Column, class_numbers
from mapix.dataset import FileDataset
from mapix.limits import check_limits
from mapix.pictures.dataset import PictureDataset
from mapix.pictures.decoding import MAX_PIXELS, EncodedPicture
from mapix.registry import Candidate
from mapix.tar.index import scan
from mapix.tar.open_shard import MAX_IMAGE_NBYTES, MAX_VALUE_NBYTES, OpenShard, Settings
from mapix.tar.record import Record
from mapix.tar.values import PICTURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.byte_ranges import ByteRange
    from mapix.plans import Map
    from mapix.report import Report

__all__ = ["TarShard", "open_path"]


class TarShard(PictureDataset[Record], FileDataset[Record]):
    """Records of a tar shard: members of one key, one after the other.  Made by ``mapix.open``.

    Batches hold the first picture of each record, or its first ``.npy`` array; their labels are the
    numbers in the members ``cls``.

    Attributes
    ----------
    core : OpenShard
        The open file, and where its members lie.
    """

    FAMILY = "tar"
    NAMES = ("key",)

    def __init__(self, core: OpenShard) -> None:
        super().__init__(core.source, len(core.index.keys), core.settings.given())
        self.core = core

    def _record(self, row: int) -> Record:
        return Record(self.core, row)

    # --- pictures ---------------------------------------------------------------------------------

    def _encoded(self, record: Record) -> EncodedPicture:
        return record.picture()

    def _has_pictures(self, rows: NDArray[np.int64]) -> bool:
        return not len(rows) or self._record(int(rows[0])).first(PICTURES) is not None

    def _image(self, row: int) -> NDArray[Any] | None:
        return self._record(row).pixels()

    def _explained(self, row: int) -> dict[str, Any]:
        if self._has_pictures(np.array([row])):
            return super()._explained(row)
        return {"how": "members are views of the file; values are read from a copy"}

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        from mapix.tar.explaining import byte_ranges

        return byte_ranges(self.core, row)

    def _record_sizes(self) -> NDArray[np.int64]:
        index = self.core.index
        sizes = np.add.reduceat(np.append(index.sizes, 0), index.firsts[:-1])
        return sizes if self._rows is None else sizes[self.rows]

    def _prefetch(self, rows: NDArray[np.int64]) -> int:
        index, mapping = self.core.index, self.source.mapping
        for row in rows.tolist():
            members = self.core.members(row)
            begin, last = self.core.begin(members[0]), members[-1]
            mapping.willneed(begin, int(index.begins[last] + index.sizes[last]) - begin)
        return len(rows)

    # --- columns ----------------------------------------------------------------------------------

    def _column_names(self) -> Sequence[str]:
        return tuple(self.core.columns())

    def _column(self, name: str) -> Column:
        return self.core.columns()[name]().of(self._rows)

    def _sample(self, rows: NDArray[np.int64]) -> Mapping[str, Column]:
        return self.core.sample(rows.tolist())

    def _label_names(self) -> Sequence[str]:
        return ("cls",) if "cls" in self.core.index.extensions else ()

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        # of these records alone: a column reads all records
        return class_numbers([self._record(row).cls for row in rows.tolist()])

    # --- facts and health -------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        index = self.core.index
        counts: dict[str, int] = {}
        for extension in index.extensions:
            counts[extension] = counts.get(extension, 0) + 1
        return {
            **super()._facts(),
            "members": len(index.extensions),
            "extensions": counts,
            "skipped": index.skipped,
        }

    def verify(self, progress: Any = None, *, map: Map | None = None) -> Report:
        """Check all headers, decode all pictures, and read all numbers, texts, JSON and arrays.

        Parameters
        ----------
        progress : callable, optional
            ``progress(records_done, records_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.
        """
        from mapix.tar.checking import check

        return check(self, progress, map)


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    strict: bool = True,
    orientation: bool = True,
    max_value_nbytes: int = MAX_VALUE_NBYTES,
    max_image_nbytes: int = MAX_IMAGE_NBYTES,
    max_pixels: int = MAX_PIXELS,
) -> TarShard:
    """Open a tar shard.

    Parameters
    ----------
    path : str or os.PathLike
        A tar archive that is not compressed.
    strict : bool
        Whether an archive that was cut is refused; False reads the complete records before the
        cut, with a warning.
    orientation : bool
        Whether pictures are turned as their EXIF orientation states.
    max_value_nbytes, max_image_nbytes, max_pixels : int
        Limits: bytes of a member that is a number, a text or JSON (4 MiB), bytes of a picture's
        file (256 MiB), pixels of a picture (89 million).

    Raises
    ------
    TruncatedError, FormatError, UnsupportedError
        See ``mapix.tar.index.scan``.

    Notes
    -----
    Cost: 5 to 8 us per member; one page per member is read from disk.
    """
    check_limits(
        max_value_nbytes=max_value_nbytes, max_image_nbytes=max_image_nbytes, max_pixels=max_pixels
    )
    candidate = Candidate.of(path)
    source = candidate.source
    index = scan(source.mapping, strict=strict)
    settings = Settings(strict, orientation, max_value_nbytes, max_image_nbytes, max_pixels)
    return TarShard(OpenShard(source, index, settings))
