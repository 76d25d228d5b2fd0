"""Write image folders: all of one appears, or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from mapix import _native
from mapix.folder.layout import METADATA, NAME, dump
from mapix.folder.writing import encoded, line_of, name_in_folder, strictly_json
from mapix.rooted import Root
from mapix.source import Source
from mapix.store import (
    SYSTEM,
    Calls,
    Closing,
    NewDirectory,
    NewFile,
    NewWhole,
    Placed,
    one_at_a_time,
)

__all__ = ["Appender", "Writer", "write"]

COPY_STEP_NBYTES = 1 << 20


class Writer(Closing):
    """A new image folder, which appears when the writer is closed, or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        The folder; the path must not exist.
    calls : mapix.store.Calls
        The calls of the operating system, replaced by tests.

    Notes
    -----
    Each picture is synced to the disk when it is written.
    """

    def __init__(self, path: str | os.PathLike[str], *, calls: Calls = SYSTEM) -> None:
        self._directory = NewDirectory(path, calls)
        self._lines: dict[str | None, NewFile] = {}
        self._names: set[str] = set()

    def append(
        self,
        file_name: str,
        image: Any = None,
        *,
        caption: str | None = None,
        categories: Any = None,
        objects: Any = None,
        split: str | None = None,
        save: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Write a picture and its record.

        Parameters
        ----------
        file_name : str
            Its name beneath the folder (of the split); sub-folders are created.
        image : bytes-like, ndarray or Pillow's picture, optional
            Bytes of a file are written as they are.  uint8 (h, w) or (h, w, c), uint16 (h, w) and
            Pillow's pictures are encoded in the format of the name's suffix.  None: a further
            record of a file that was written before.
        caption : str, optional
        categories : list of str, int or float, optional
            Of the picture.
        objects : Objects, dict or (bbox, categories), optional
            Boxes, (n, 4), x, y, width, height, and a category for each.
        split : str, optional
            A sub-folder with its own metadata file, for all records or for none.
        save : dict, optional
            Options of Pillow's ``save`` (``{"quality": 90}``).
        **more
            Further keys of the line, after opsml's four.
        """
        name = name_in_folder(file_name)
        line = line_of(name, caption, categories, objects, more)
        data = None if image is None else encoded(image, name, save)
        with self._turn:
            place = self._place(name, split)
            if data is None and place not in self._names:
                raise ValueError(f"{place}: no picture of that name was written")
            if data is not None:
                if place in self._names:
                    raise ValueError(f"{place} was written already; a further record has no image=")
                self._write_file(place, data)
            self._write_line(line, split)

    def append_line(
        self,
        metadata: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
        *,
        split: str | None = None,
    ) -> None:
        """Write a line of any keys as it is, and the files that it names.

        Parameters
        ----------
        metadata : mapping
            A JSON object, for instance ``Record.metadata`` of another folder.
        files : mapping of str to bytes, optional
            Name -> bytes of a file; a file that was written before is not written again.
        split : str, optional
            As for ``append``.
        """
        line = dump(strictly_json(metadata))
        with self._turn:
            for name, data in (files or {}).items():
                place = self._place(name_in_folder(name), split)
                if place not in self._names:
                    self._write_file(place, data)
            self._write_line(line, split)

    def _place(self, name: str, split: str | None) -> str:
        """Return a name beneath the new folder."""
        if self._lines and (split is None) != (None in self._lines):
            raise ValueError("split= is needed for all records of a folder, or for none")
        return name if split is None else f"{_split(split)}/{name}"

    def _write_file(self, place: str, data: bytes | memoryview) -> None:
        _written(self._directory.file(place), data)
        self._names.add(place)

    def _write_line(self, line: bytes, split: str | None) -> None:
        if split not in self._lines:
            self._lines[split] = self._directory.file(
                METADATA if split is None else f"{split}/{METADATA}"
            )
        self._lines[split].write(line)

    @one_at_a_time
    def close(self) -> None:
        """Publish the folder; without records, its metadata file is empty."""
        if not self._lines:
            self._lines[None] = self._directory.file(METADATA)
        self._directory.commit()

    @one_at_a_time
    def abort(self) -> None:
        """Remove all that was written."""
        self._directory.abort()


def _split(name: str) -> str:
    if "/" in name_in_folder(name) or name.startswith("."):
        raise ValueError(f"a split is a folder's name, got {name!r}")
    return name


def _written(file: NewFile, data: bytes | memoryview) -> None:
    file.write(data)
    file.finish()  # a descriptor for each picture would be too many


def write(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write an image folder.

    Parameters
    ----------
    path : str or os.PathLike
        The folder; the path must not exist.
    records : iterable of mapping
        The arguments of ``Writer.append`` by name, for each record.
    """
    with Writer(path) as out:
        for record in records:
            out.append(**record)


class Appender(Closing):
    """Add records to an existing folder: all of them appear when it is closed, or none.

    Pictures are written first; then a new metadata file replaces the old one in one step.  A crash
    before that leaves pictures that no line names, and nothing else.

    Parameters
    ----------
    path : str or os.PathLike
        The folder (of a split) that holds the metadata file.
    calls : mapix.store.Calls
        The calls of the operating system, replaced by tests.

    Raises
    ------
    LockedError
        Another writer has locked the metadata file.

    Notes
    -----
    The metadata file is locked until the appender is closed.  Its permissions stay the same.
    """

    def __init__(self, path: str | os.PathLike[str], *, calls: Calls = SYSTEM) -> None:
        self.folder = os.path.abspath(path)
        self._calls = calls
        self._pictures: list[Placed] = []
        self._folders: list[str] = []  # created for them, each after its parent
        root = Root(self.folder)
        Source(METADATA, root=root).close()  # refuses a link that leaves before a file is made
        self._out = NewWhole(os.path.join(self.folder, METADATA), calls, replace=True)
        try:
            # the path is locked from here on: no other writer replaces the file opened now
            self._source = Source(METADATA, root=root)
            self._source.confirm_for_writing()
            self._out.ready = self._source.confirm_for_writing
            self._copy_old()
        except BaseException:
            self._out.abort()
            raise

    def _copy_old(self) -> None:
        nbytes, last = self._source.nbytes, b"\n"
        for at in range(0, nbytes, COPY_STEP_NBYTES):
            data = _native.copy(self._source.mapping, at, min(COPY_STEP_NBYTES, nbytes - at), NAME)
            self._out.write(data)
            last = bytes(data[-1:])
        if last != b"\n":
            self._out.write(b"\n")

    def append(
        self,
        file_name: str,
        image: Any = None,
        *,
        caption: str | None = None,
        categories: Any = None,
        objects: Any = None,
        save: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Write a picture and its record, as ``Writer.append``; no file is overwritten.

        Without ``image``, a file of that name must exist.
        """
        name = name_in_folder(file_name)
        line = line_of(name, caption, categories, objects, more)
        path = os.path.join(self.folder, name)
        data = None if image is None else encoded(image, name, save)
        with self._turn:
            self._make_folders(name)
            if data is None and not os.path.isfile(path):
                raise ValueError(f"{path}: there is no such file")
            if data is not None:
                new = NewWhole(path, self._calls)
                try:
                    with new:
                        new.write(data)
                finally:
                    self._pictures += [new.placed] if new.placed is not None else []
            self._out.write(line)

    def _make_folders(self, name: str) -> None:
        """Create the missing folders of a name; refuse folders that are links."""
        path = self.folder
        for part in name.split("/")[:-1]:
            above, path = path, os.path.join(path, part)
            if os.path.islink(path):
                raise ValueError(f"{path} is a link; nothing is written through it")
            if not os.path.isdir(path):
                self._calls.mkdir(path)
                self._folders.append(path)
                self._calls.fsync_directory(above)

    @one_at_a_time
    def close(self) -> None:
        """Publish the new records.

        Raises
        ------
        FileChangedError
            Another program wrote to the metadata file, or replaced it.  It stays as it is, and the
            new pictures are removed.
        """
        try:
            self._out.commit()
        finally:
            if self._out.placed is None:
                self.abort()
            self._source.close()

    @one_at_a_time
    def abort(self) -> None:
        """Remove all that was written.  Does nothing after ``close``."""
        self._out.abort()
        if self._out.placed is None:
            for picture in self._pictures:
                picture.withdraw(self._calls)
            for path in reversed(self._folders):
                with contextlib.suppress(OSError):  # another process has put a file there
                    self._calls.rmdir(path)
        self._source.close()
