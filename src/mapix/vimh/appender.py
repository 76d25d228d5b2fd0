"""Appending records to a VIMH file."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from typing import Any, Literal

from mapix.errors import MapixWarning, UnsupportedError
from mapix.source import read_small
from mapix.store import SYSTEM, Calls, Closing, NewWhole, one_at_a_time
from mapix.vimh.appending import Appending
from mapix.vimh.dataset import Dataset
from mapix.vimh.files import PICKLE_SUFFIX, split_names
from mapix.vimh.info_json import INFO_NAME, INFO_NBYTES, parse_info, with_count
from mapix.vimh.opening import open_path
from mapix.vimh.packing import Packer, Shape

__all__ = ["Appender"]

PATIENCE_SECONDS = 10.0  # for another appender, which replaces the info JSON in some milliseconds


class Appender(Packer, Closing):
    """More records for a binary file, all of them or none at each commit.

    Readers that open the file meanwhile see the records committed so far; so do readers after a
    power cut.  The file keeps its parameters and its header size; each commit updates the counts
    in the info JSON.

    Parameters
    ----------
    path : str or os.PathLike
        A data file, or a dataset directory.
    split : str
        The split of a directory.
    dialect : {14, 6}, optional
        Bytes of the record header, where the file is empty (then 14) or fits both.
    strict : bool
        As for ``Writer``.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    LockedError
        Another writer appends to the file.
    UnsupportedError
        It is a pickle, or there is a pickle of the same split, which would not be appended to.
    FormatError
        The file is damaged; see ``mapix.vimh.repair``.

    Examples
    --------
    >>> with mapix.vimh.Appender("spectrograms", split="test") as out:     # doctest: +SKIP
    ...     out.append(image, {"note_number": 51.5}, spec_range=(-80.0, 0.0))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        split: str = "train",
        dialect: Literal[14, 6] | None = None,
        strict: bool = False,
        calls: Calls = SYSTEM,
    ) -> None:
        path = os.path.abspath(path)  # a later chdir does no harm
        names = split_names(path)
        if split not in names:
            raise ValueError(f"split must be {' or '.join(names)}, got {split!r}")
        self.path = os.path.join(path, split) if os.path.isdir(path) else path
        if os.path.exists(self.path + PICKLE_SUFFIX):
            raise UnsupportedError(
                f"{self.path}: {self.path}{PICKLE_SUFFIX} is beside it, which programs prefer, and "
                "which cannot be appended to; remove it, or write the dataset again"
            )
        self._calls = calls
        self._out = Appending(self.path, calls)
        try:
            super().__init__(*self._look(dialect), strict=strict)
        except BaseException:
            self._out.close()
            raise

    def _look(self, dialect: Literal[14, 6] | None) -> tuple[Any, int]:
        """Return parameters and header of the file, which must end with a complete record."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MapixWarning)  # old counts, which are corrected below
            ds = open_path(self.path, dialect=dialect)
        assert isinstance(ds, Dataset)  # of one file
        with ds:
            if len(ds) and not ds.header_nbytes:
                raise UnsupportedError(f"{self.path}: a pickle cannot be appended to")
            self.nrecords = len(ds)  #: committed
            self._shape = ds.index.first[1:4] if len(ds) and ds.uniform else None
            self._new = 0
            return ds.parameters.values(), ds.header_nbytes if len(ds) else dialect or 14

    def _put(
        self, block: bytes | memoryview, shapes: Sequence[Shape], n: int, split: str | None
    ) -> None:
        if split is not None and os.path.basename(self.path) != split:
            raise ValueError(f"{self.path} is open, not split {split!r}")
        with self._turn:
            try:
                self._out.write(block)
            except BaseException:
                self._new = 0  # nothing of it remains
                raise
            if self.nrecords + self._new == 0:
                self._shape = shapes[0]
            if any(shape != self._shape for shape in shapes):
                self._shape = None
            self._new += n

    @one_at_a_time
    def commit(self) -> int:
        """Make the records appended so far count; how many the file has then.

        Raises
        ------
        OSError
            They could not be brought to the disk: the file is what it was at the last commit.  Or
            the info JSON could not be replaced: then they count, and it states the old number.
        """
        new, self._new = self._new, 0
        self._out.commit()
        self.nrecords += new
        if new:
            self._tell()
        return self.nrecords

    def _tell(self) -> None:
        """Bring the counts in the info JSON up to date."""
        folder, split = os.path.split(self.path)
        place = os.path.join(folder, INFO_NAME)
        if split not in split_names(folder) or not os.path.exists(place):
            return
        # Another appender may be at work on the other split: the JSON is locked, then read, then
        # written, so that neither takes away what the other has stated.
        with NewWhole(place, self._calls, replace=True, patience=PATIENCE_SECONDS) as out:
            info = parse_info(read_small(out.path, INFO_NBYTES), place)
            info = with_count(info, split, self.nrecords)
            if self._shape is None:
                info["image_sizes"] = "mixed"
            out.write(json.dumps(info, indent=4).encode())

    @one_at_a_time
    def rollback(self) -> None:
        """Drop the records appended since the last commit."""
        self._new = 0
        self._out.rollback()

    @one_at_a_time
    def close(self) -> None:
        """Commit, and let go of the file."""
        try:
            self.commit()
        finally:
            self._out.close()

    @one_at_a_time
    def abort(self) -> None:
        """Drop what is not committed, and let go of the file."""
        self._new = 0
        self._out.close()
