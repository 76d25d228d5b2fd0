"""An image folder as a sequence of records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.dataset import Progress
from mapix.errors import UnsupportedError
from mapix.folder.core import Core
from mapix.folder.record import Record
from mapix.pictures.batching import PictureBatch
from mapix.pictures.dataset import PictureDataset
from mapix.pictures.decoding import EncodedPicture
from mapix.report import Report
from mapix.selection import Rows, integer
from mapix.source import Fingerprint

__all__ = ["ImageBatch", "ImageFolder"]


@dataclass(slots=True, eq=False)
class ImageBatch(PictureBatch):
    """A batch of an image folder."""

    @property
    def boxes(self) -> list[NDArray[np.float64]]:
        """Boxes of each picture in pixels of the batch: float64 (n, 4), x, y, width, height.

        Moved and scaled as the pictures were, not cut off at the border.
        """
        found = []
        for record, (sx, sy, dx, dy) in zip(self.records, self.places.tolist(), strict=True):
            objects = record.objects
            bbox = np.empty((0, 4)) if objects is None else objects.bbox
            found.append(bbox * [sx, sy, sx, sy] + [dx, dy, 0.0, 0.0])
        return found


class ImageFolder(PictureDataset[Record]):
    """Records of a ``metadata.jsonl``, and the pictures that they name.  Made by ``mapix.open``.

    Indexing with an integer gives a ``Record``, with a file name the record that has it, with a
    slice, indices or a mask a lazy part.  Lines are found and parsed as they are asked for.
    Pickles as path and fingerprint of the metadata file.

    Attributes
    ----------
    split_name : str or None
        The split that was opened.
    """

    FAMILY = "folder"
    BATCH = ImageBatch

    def __init__(
        self,
        core: Core,
        *,
        rows: Rows = None,
        split: str | None = None,
        splits: tuple[str, ...] = (),
    ) -> None:
        self._core = core
        self._rows = rows
        self.split_name = split
        self._splits = splits

    # --- what it is -------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The metadata file."""
        return self._core.path

    @property
    def folder(self) -> str:
        """Where it lies, from the root of the file system; file names are relative to it."""
        return self._core.files.full_folder

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._core.source.closed

    @property
    def splits(self) -> Mapping[str, str]:
        """Name -> folder of the splits, from the root of the file system."""
        above = self.folder if self.split_name is None else os.path.dirname(self.folder)
        return {name: os.path.join(above, name) for name in self._splits}

    def _count(self) -> int:
        _ = self._core.source.mapping  # ClosedError
        return len(self._core.lines)

    def _record(self, row: int) -> Record:
        return Record(self._core, row)

    def _part(self, rows: Rows) -> ImageFolder:
        return ImageFolder(self._core, rows=rows, split=self.split_name, splits=self._splits)

    def _encoded(self, record: Record) -> EncodedPicture:
        return record.encoded()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._by_name(key)
        if self._rows is None:
            number = integer(key)
            if number is not None and number >= 0 and self._core.lines.has(number):
                return Record(self._core, number)  # the lines after it are not searched
        return super().__getitem__(key)

    def _by_name(self, name: str) -> Record:
        found = self.find(name)
        if len(found) != 1:
            reason = "no record names" if not len(found) else f"{len(found)} records name"
            more = "; find() gives them" if len(found) else ""
            raise KeyError(f"{self.path}: {reason} {name!r}{more}")
        record: Record = self[int(found[0])]
        return record

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and len(self.find(name)) > 0

    def find(self, name: str) -> NDArray[np.int64]:
        """Positions of the records that name a file, in any of their keys, ascending, int64 (k,).

        The first call reads all lines: some microseconds each, with ``orjson`` installed fewer.
        """
        rows = self._core.rows_named(name)
        if self._rows is None:
            return rows
        return np.flatnonzero(np.isin(np.asarray(self._rows), rows)).astype(np.int64)

    def __iter__(self) -> Iterator[Record]:
        if self._rows is not None:
            return (Record(self._core, int(row)) for row in self._rows)
        return (Record(self._core, i, m) for i, m in enumerate(self._core.all_metadata()))

    def column(self, key: str) -> list[Any]:
        """What all records have under a key of their lines; None where they have nothing."""
        return [record.metadata.get(key) for record in self]

    # --- checks -----------------------------------------------------------------------------------

    def verify(self, progress: Any = None) -> Report:
        """``mapix.folder.lint`` of this folder."""
        from mapix.folder.checking import check

        return check(self, progress=progress)

    def warm(self, progress: Progress | None = None) -> None:
        """Read the metadata file, and the pictures of these records, into the page cache.

        Each picture is read once, in the order of the records.

        Parameters
        ----------
        progress : callable, optional
            ``progress(bytes_done, bytes_total)``; the sizes of all pictures are read for it.
        """
        metadata = self._core.source
        files = {record.file_name: record for record in self}
        done, total = 0, 0
        if progress is not None:
            total = metadata.nbytes + sum(record.nbytes for record in files.values())
        for source in chain([metadata], (record.source for record in files.values())):
            for warmed in source.warm():
                if progress is not None:
                    progress(done + warmed, total)
            done += source.nbytes

    # --- life -------------------------------------------------------------------------------------

    def joined(self, others: Any) -> Any:
        """Refused, so far."""
        raise UnsupportedError(f"{self.path}: several image folders cannot be opened as one")

    def close(self) -> None:
        """Let go of file and folder.  ``bytes`` of records stay valid; calls raise ClosedError."""
        self._core.close()

    def _reopening(self) -> tuple[str, dict[str, Any], Fingerprint]:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        from mapix.folder.opening import reopen

        core = self._core
        rows = self._rows
        what = (core.source.full_path, core.files.root, core.source.identity, core.settings)
        return reopen, (*what, rows, self.split_name, self._splits)
