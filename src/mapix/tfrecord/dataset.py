"""A TFRecord file as a sequence of records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.columns import Column, class_numbers, identifier
from mapix.dataset import FileDataset
from mapix.errors import FormatError, LimitError
from mapix.limits import check_limits
from mapix.pictures.dataset import PictureDataset
from mapix.pictures.decoding import MAX_PIXELS, EncodedPicture
from mapix.registry import Candidate
from mapix.tfrecord.index import scan
from mapix.tfrecord.open_file import MAX_RECORD_NBYTES, OpenFile, Settings
from mapix.tfrecord.record import LABELS, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.byte_ranges import ByteRange
    from mapix.plans import Map
    from mapix.report import Report

__all__ = ["TFRecords", "open_path"]


class TFRecords(PictureDataset[Record], FileDataset[Record]):
    """Records of a TFRecord file.  Made by ``mapix.open``.

    Batches hold the image of each record; their labels are the numbers in ``image/class/label`` or
    ``label``.

    Attributes
    ----------
    core : OpenFile
        The open file, and where its records lie.
    """

    FAMILY = "tfrecord"

    def __init__(self, core: OpenFile) -> None:
        super().__init__(core.source, len(core.index.begins), core.settings.given())
        self.core = core

    def _record(self, row: int) -> Record:
        return Record(self.core, row)

    # --- pictures ---------------------------------------------------------------------------------

    def _encoded(self, record: Record) -> EncodedPicture:
        return record.picture()

    def _has_pictures(self, rows: NDArray[np.int64]) -> bool:
        return not len(rows) or self._record(int(rows[0])).is_encoded

    def _image(self, row: int) -> NDArray[Any] | None:
        return self._record(row).pixels()

    def _explained(self, row: int) -> dict[str, Any]:
        if self._has_pictures(np.array([row])):
            return super()._explained(row)
        nbytes = int(self.core.index.sizes[row])
        how = "features are parsed from a copy, after its checksum; their bytes are views"
        return {"reads_nbytes": nbytes, "copies_nbytes": nbytes, "how": how}

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        from mapix.tfrecord.explaining import byte_ranges

        return byte_ranges(self.core, row)

    def _record_sizes(self) -> NDArray[np.int64]:
        sizes = self.core.index.sizes
        return sizes if self._rows is None else sizes[self.rows]

    def _prefetch(self, rows: NDArray[np.int64]) -> int:
        mapping, sizes = self.source.mapping, self.core.index.sizes
        for row in rows.tolist():
            mapping.willneed(self.core.begin(row), int(sizes[row]))
        return len(rows)

    # --- columns ----------------------------------------------------------------------------------

    def _column_names(self) -> Sequence[str]:
        return tuple(self.core.columns())

    def _column(self, name: str) -> Column:
        return self.core.columns()[name].of(self._rows)

    def _sample(self, rows: NDArray[np.int64]) -> Mapping[str, Column]:
        return self.core.columns_of(rows.tolist())

    def _label_names(self) -> Sequence[str]:
        first = self.first_features()
        return next(((identifier(name),) for name in LABELS if name in first), ())

    def first_features(self) -> Sequence[str]:
        """Return the names of the features of the file's first record; none of another message."""
        try:
            return tuple(self._record(0).values()) if self._nrecords else ()
        except (FormatError, LimitError):
            return ()

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        # of these records alone: a column reads all records
        return class_numbers([self._record(row).label for row in rows.tolist()])

    # --- facts and health -------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "features": list(self.first_features())}

    def verify(self, progress: Any = None, *, map: Map | None = None) -> Report:
        """Check the checksums of all lengths and data; parse Examples; decode all pictures.

        Parameters
        ----------
        progress : callable, optional
            ``progress(records_done, records_total)``.
        map : callable or int, optional
            What runs the check in parts: see ``statistics``.  The report is the same.
        """
        from mapix.tfrecord.checking import check

        return check(self, progress, map)


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    strict: bool = True,
    orientation: bool = True,
    max_record_nbytes: int = MAX_RECORD_NBYTES,
    max_pixels: int = MAX_PIXELS,
) -> TFRecords:
    """Open a TFRecord file.

    Parameters
    ----------
    path : str or os.PathLike
        A file that is not compressed.
    strict : bool
        Whether a file that was cut is refused; False reads the complete records before the cut,
        with a warning.
    orientation : bool
        Whether pictures are turned as their EXIF orientation states.
    max_record_nbytes, max_pixels : int
        Limits: bytes of a record that is parsed (256 MiB), pixels of a picture (89 million).

    Raises
    ------
    TruncatedError, FormatError
        See ``mapix.tfrecord.index.scan``.

    Notes
    -----
    Cost: about 3 us per record; one page per record is read from disk.
    """
    check_limits(max_record_nbytes=max_record_nbytes, max_pixels=max_pixels)
    candidate = Candidate.of(path)
    source = candidate.source
    index = scan(source.mapping, strict=strict)
    settings = Settings(strict, orientation, max_record_nbytes, max_pixels)
    return TFRecords(OpenFile(source, index, settings))
