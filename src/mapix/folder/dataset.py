"""An image folder as a dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mapix.annotations import Annotations
from mapix.byte_ranges import ByteRange, shortened
from mapix.columns import Column, class_numbers
from mapix.errors import FileChangedError, FormatError, MapixError
from mapix.folder.fields import LABEL, field_column, fields_of, is_number, labels_are_numbers
from mapix.folder.record import Record
from mapix.folder.splits import split_folders
from mapix.pictures.batching import PictureBatch
from mapix.pictures.dataset import PictureDataset
from mapix.rooted import ABSENT
from mapix.selection import Rows, integer
from mapix.text import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.dataset import Progress
    from mapix.folder.metadata_file import MetadataFile
    from mapix.pictures.decoding import EncodedPicture
    from mapix.plans import Map
    from mapix.report import Report
    from mapix.source import Fingerprint

__all__ = ["ImageBatch", "ImageFolder"]


@dataclass(slots=True, eq=False)
class ImageBatch(PictureBatch):
    """A batch of an image folder."""

    __repr__ = brief

    @property
    def boxes(self) -> list[NDArray[np.float64]]:
        """Boxes of each picture in pixels of the batch: float64 (n, 4), x, y, width, height.

        They are moved and scaled as the pictures were, and not cut off at the border.
        """
        objects = (record.objects for record in self.records)
        return self.moved([np.empty((0, 4)) if o is None else o.bbox for o in objects])


class ImageFolder(PictureDataset[Record]):
    """Records of a ``metadata.jsonl``, and the pictures that they name.  Made by ``mapix.open``.

    An index that is text gives the record that names this file.  Lines are found and parsed when
    they are needed.

    Parameters
    ----------
    metadata_file : MetadataFile
        The open metadata file.
    rows : range or ndarray, optional
        Numbers of the records; by default all.
    """

    FAMILY = "folder"
    NAMES = ("file_name",)
    BATCH = ImageBatch

    def __init__(self, metadata_file: MetadataFile, rows: Rows = None) -> None:
        self.metadata_file = metadata_file
        self._rows = rows

    # --- the folder -------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Path of the metadata file."""
        return self.metadata_file.path

    @property
    def folder(self) -> str:
        """The folder of the metadata file, from the root of the file system.

        File names are relative to it.
        """
        return self.metadata_file.files.full_folder

    @property
    def split_name(self) -> str | None:
        """Name of the split that was opened; None where the folder has a metadata file itself."""
        return self.metadata_file.place.split

    @property
    def splits(self) -> Mapping[str, str]:
        """Name -> folder of the splits, from the root of the file system.

        Empty where the folder's own metadata file was opened.  Cost: lists the directory.
        """
        directory = self.metadata_file.directory
        return {} if directory is None else split_folders(directory)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: ``classes[label]`` is that of a label; empty if not known.

        They are sub-folders, YOLO's names, or those that a ``metadata.parquet`` of Hugging Face
        states.
        """
        return self.metadata_file.classes

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.metadata_file.source.closed

    def close(self) -> None:
        """Release file and folder.  ``bytes`` of records stay valid; calls raise ClosedError."""
        self.metadata_file.close()

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        return self.metadata_file.reopening()

    def _snapshot(self) -> Any:
        made = super()._snapshot()
        made._hold_pictures()
        return made

    def _facts(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "split": self.split_name,
            "metadata_nbytes": self.metadata_file.source.nbytes or None,
            "classes": list(self.classes),
        }

    # --- records ----------------------------------------------------------------------------------

    def _count(self) -> int:
        _ = self.metadata_file.source.mapping  # ClosedError
        return len(self.metadata_file.lines)

    def _record(self, row: int) -> Record:
        return Record(self.metadata_file, row)

    def _part(self, rows: Rows) -> Self:
        return type(self)(self.metadata_file, rows)

    def _encoded(self, record: Record) -> EncodedPicture:
        return record.encoded()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._by_name(key)
        if self._rows is None:
            number = integer(key)
            if number is not None and number >= 0 and self.metadata_file.lines.has(number):
                return self._record(number)  # the lines after it are not searched
        return super().__getitem__(key)

    def _by_name(self, name: str) -> Record:
        found = self.find(name)
        if len(found) != 1:
            reason = "no record names" if not len(found) else f"{len(found)} records name"
            more = "; find() returns them" if len(found) else ""
            raise KeyError(f"{self.path}: {reason} {name!r}{more}")
        record: Record = self[int(found[0])]
        return record

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and len(self.find(name)) > 0

    def find(self, name: str) -> NDArray[np.int64]:
        """Return the positions of the records that name a file, under any key, ascending.

        Returns
        -------
        ndarray
            int64 (k,).  Cost: the first call reads all lines, a gigabyte in about a second; names
            with escapes, and lines with several names, take some microseconds each.
        """
        rows = self.metadata_file.rows_named(name)
        if self._rows is None:
            return rows
        return np.flatnonzero(np.isin(np.asarray(self._rows), rows)).astype(np.int64)

    def _rows_named(self, name: Sequence[str]) -> NDArray[np.int64]:
        return self.metadata_file.rows_named(*name)

    def __iter__(self) -> Iterator[Record]:
        file = self.metadata_file
        if self._rows is not None:
            return (Record(file, int(row)) for row in self._rows)
        return (Record(file, row, line) for row, line in enumerate(file.all_metadata()))

    def _byte_ranges(self, row: int) -> list[ByteRange]:
        """Return the line of a record, and the file of its picture, where that can be opened."""
        record, lines = self._record(row), self.metadata_file.lines
        found = []
        if self.metadata_file.is_jsonl:
            begin, raw = lines.begin(row), lines.line(row)
            text = raw.strip().decode("utf-8", "backslashreplace")
            found.append(ByteRange("line", "label", begin, len(raw), shortened(text), lines.source))
        with contextlib.suppress(FormatError, FileNotFoundError):
            name, source = record.file_name, record.source
            if source.nbytes:
                what = "the picture's file"
                found.append(ByteRange(name, "pixels", 0, source.nbytes, what, source))
        return found

    def _annotations(self, row: int) -> Annotations:
        record = self._record(row)
        text = record.metadata.get("text")  # Hugging Face's name of captions
        objects = record.objects
        caption = record.caption or (text if isinstance(text, str) else "")
        if objects is None:
            return Annotations(caption=caption)
        boxes = [(float(x), float(y), float(w), float(h)) for x, y, w, h in objects.bbox]
        return Annotations(boxes, [str(name) for name in objects.categories], caption)

    # --- columns and labels -----------------------------------------------------------------------

    def column(self, key: str) -> list[Any]:
        """Return the values of a key of the lines as they are, also a rare key; None without one.

        ``columns`` has arrays.
        """
        return [record.metadata.get(key) for record in self]

    def _column_names(self) -> Sequence[str]:
        return tuple(fields_of(self.metadata_file))

    def _column(self, name: str) -> Column:
        file, rows = self.metadata_file, self._rows
        known = file.columns.get(name)
        if known is None and rows is not None:
            return field_column(file, name, map(int, rows))
        if known is None:
            known = file.columns[name] = field_column(file, name, None)
        if rows is None:
            return known
        numbers = np.asarray(rows)
        present = None if known.complete else known.present[numbers]
        return Column(name, known.values[numbers], present, unit=known.unit)

    def _label_names(self) -> Sequence[str]:
        return (LABEL,) if LABEL in fields_of(self.metadata_file) else ()

    def _class_names(self) -> Mapping[str, Sequence[str]]:
        return {LABEL: self.classes}

    def _labels_of(
        self, names: tuple[str, ...], rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if labels_are_numbers(self.metadata_file):  # then only the lines of these records are read
            found = [self._record(row).metadata.get(LABEL) for row in rows.tolist()]
            if all(is_number(value) for value in found):
                return class_numbers(found)
        return super()._labels_of(names, rows)

    # --- health -----------------------------------------------------------------------------------

    def _record_sizes(self) -> NDArray[np.int64]:
        return np.array([self._size_of(row) for row in self.rows.tolist()], np.int64)

    def _files_nbytes(self) -> int:
        every = self if self._rows is None else self._part(None)
        return self.metadata_file.source.nbytes + every._total_size()

    def _size_of(self, row: int) -> int:
        """Return the bytes of a picture's file; 0 where it cannot be found."""
        try:
            return self._record(row).nbytes
        except FileChangedError:
            raise
        except OSError as e:
            if e.errno not in ABSENT:
                raise
            return 0
        except (MapixError, ValueError):
            return 0

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Check all lines, files, boxes and pictures, of all splits: ``mapix.folder.lint``.

        Parameters
        ----------
        progress : callable, optional
            ``progress(records_done, records_total)``.
        map : callable or int, optional
            What decodes the pictures in parts: see ``statistics``.  The report is the same.

        Returns
        -------
        LintReport
            With ``findings``: each has a code, the file, its line and a message.
        """
        from mapix.folder.checking import check_splits

        return check_splits(self.metadata_file, type(self), progress, map)

    def warm(self, progress: Progress | None = None) -> None:
        """Read the metadata file, and the pictures of these records, into the page cache.

        Each picture is read once, in the order of the records.

        Parameters
        ----------
        progress : callable, optional
            ``progress(bytes_done, bytes_total)``; the sizes of all pictures are read for it.
        """
        metadata = self.metadata_file.source
        files = {record.file_name: record for record in self}
        done, total = 0, 0
        if progress is not None:
            total = metadata.nbytes + sum(record.nbytes for record in files.values())
        for source in chain([metadata], (record.source for record in files.values())):
            for warmed in source.warm():
                if progress is not None:
                    progress(done + warmed, total)
            done += source.nbytes
