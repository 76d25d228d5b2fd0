"""Open the files that records name, beneath one directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mapix.errors import ClosedError
from mapix.folder.layout import canonical, meanings, spellings
from mapix.folder.lines import MAX_LINE_NBYTES
from mapix.limits import check_limits
from mapix.pictures.decoding import MAX_PIXELS
from mapix.rooted import Root
from mapix.source import RemoteFolder, Source, absolute, is_url

__all__ = ["Files", "OtherFileError", "Settings"]

MAX_IMAGE_NBYTES = 1 << 28

T = TypeVar("T")


class OtherFileError(OSError):
    """No file that a ``filepath`` may mean has the size that the line states."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of ``open``: see ``mapix.folder.opening.open_path``."""

    key: str | None = None
    orientation: bool = True
    max_line_nbytes: int = MAX_LINE_NBYTES
    max_image_nbytes: int = MAX_IMAGE_NBYTES
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_limits(
            max_line_nbytes=self.max_line_nbytes,
            max_image_nbytes=self.max_image_nbytes,
            max_pixels=self.max_pixels,
        )


class Files:
    """Files beneath a directory, by the names that records have for them.

    Parameters
    ----------
    folder : str
        The folder of the metadata file: names are relative to it.
    root : str, optional
        A directory above it that links may lead to; by default the folder.
    """

    def __init__(self, folder: str, root: str | None = None) -> None:
        self.folder = folder
        self.full_folder = absolute(folder)
        self._below: tuple[str, ...] = ()
        if root is not None:
            below = os.path.relpath(os.path.abspath(folder), os.path.abspath(root))
            self._below = () if below == "." else tuple(below.split("/"))
            if self._below[:1] == ("..",):
                raise ValueError(f"root={root!r} is not above {folder}")
        self.root = None if root is None else absolute(root)
        top = folder if root is None else root
        self._root: Root | RemoteFolder | None = RemoteFolder(top) if is_url(top) else Root(top)

    def _named(self, name: str) -> tuple[Root | RemoteFolder, str]:
        root = self._root
        if root is None:
            raise ClosedError(f"{self.folder}: the dataset is closed")
        # an absolute name is left as it is, and refused
        return root, "/".join((*self._below, name)) if self._below and name[:1] != "/" else name

    def _above(self, up: int) -> Files:
        """Return the files named from a folder further up, with the same root."""
        found = object.__new__(Files)
        found.folder, found.full_folder = self.folder, os.path.abspath(self.full_folder)
        for _ in range(up):
            found.full_folder = os.path.dirname(found.full_folder)
            found.folder = os.path.dirname(found.folder) or found.full_folder
        found.root, found._root = self.root, self._root
        found._below = self._below[: len(self._below) - up]
        return found

    def source(self, name: str, **options: Any) -> Source:
        """Open and map a file."""
        root, name = self._named(name)
        if isinstance(root, RemoteFolder):
            return root.source(name, **options)
        return Source(name, root=root, **options)

    def read(self, name: str, limit: int) -> bytes:
        """Return a copy of a file's bytes."""
        root, name = self._named(name)
        return root.read(name, limit)

    def first(self, name: str, nbytes: int) -> bytes:
        """Return the first bytes of a file, copied; all of a shorter file."""
        root, name = self._named(name)
        return root.first(name, nbytes)

    def nbytes(self, name: str) -> int:
        """Return the size of a file."""
        root, name = self._named(name)
        return root.nbytes(name)

    def by_name(self, name: str, do: Callable[[Files, str], T]) -> T:
        """Return ``do(files, name)`` of the file that a ``file_name`` names.

        Backslashes separate folders, as for Hugging Face.  Where there is no such file, a backslash
        is part of the name; and accented letters may be composed or decomposed.
        """
        names = [*spellings(canonical(name)), name] if "\\" in name else spellings(name)
        for one in names[:-1]:
            try:
                return do(self, one)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return do(self, names[-1])

    def by_filepath(self, filepath: str, size: object, do: Callable[[Files, str], T]) -> T:
        """Return ``do(files, name)`` of the first file that a ``filepath`` may mean.

        Parameters
        ----------
        filepath : str
            As in the line.
        size : int or None
            Bytes of the file as the line states them; a value of another type is ignored.
        do : callable
            Called with the files of a folder, and a name in it.

        Raises
        ------
        FileNotFoundError
            There is no such file, or it lies outside of the folder (of the root).
        OtherFileError
            There are such files, and none has the stated size.
        """
        stated = size if type(size) is int and size >= 0 else None
        folder, others = os.path.abspath(self.full_folder), []
        found = meanings(filepath, folder)
        reach = len(self._below)
        near = [m for m in found if m.up <= reach]
        outside = len(near) < len(found) and any(m.certain for m in found if m.up > reach)
        certain = [m for m in near if m.certain]
        # Where a path certainly names a file that cannot be opened, no other file may be shown.
        if outside or (certain and stated is None):
            near = certain
        for meaning in near:
            files = self._above(meaning.up) if meaning.up else self
            try:
                nbytes = files.nbytes(meaning.name)
                if stated is None or nbytes == stated:
                    return do(files, meaning.name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            others.append(f"{os.path.join(files.folder, meaning.name)} has {nbytes}")
        if others:
            text = (
                f"a file of {stated} bytes expected by 'size', {'; '.join(dict.fromkeys(others))}"
            )
            raise OtherFileError(errno.ENOENT, text, filepath)
        why = os.strerror(errno.ENOENT)
        if outside:
            why = "the file lies outside of the folder; open the dataset with split=, or pass root="
        raise FileNotFoundError(errno.ENOENT, why, os.path.join(self.folder, filepath))

    def close(self) -> None:
        """Release the directory."""
        self._root = None
