"""The files that records name: opened beneath one directory, whatever the names are."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mapix.beneath import Root
from mapix.errors import ClosedError
from mapix.formats.folder import suffixes
from mapix.formats.jsonl import MAX_LINE_NBYTES
from mapix.source import Source

__all__ = ["Files", "Settings"]

MAX_IMAGE_NBYTES = 1 << 28
MAX_PIXELS = 89_478_485  # above it Pillow warns of a decompression bomb

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of ``open`` that a reader keeps: see ``mapix.folder.opening.open_path``."""

    key: str | None = None
    orientation: bool = True
    max_line_nbytes: int = MAX_LINE_NBYTES
    max_image_nbytes: int = MAX_IMAGE_NBYTES
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name in ("max_line_nbytes", "max_image_nbytes", "max_pixels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")


class Files:
    """Files that lie beneath a directory, named as records name them.

    Parameters
    ----------
    folder : str
        Where the metadata file lies: names are relative to it.
    root : str, optional
        A directory above it that links may lead to; by default the folder itself.
    """

    def __init__(self, folder: str, root: str | None = None) -> None:
        self.folder = folder
        self._below = ""
        if root is not None:
            self._below = os.path.relpath(os.path.abspath(folder), os.path.abspath(root))
            if self._below.split("/")[0] == "..":
                raise ValueError(f"root={root!r} is not above {folder}")
        self.root = root
        self._root: Root | None = Root(folder if root is None else root)

    def _named(self, name: str) -> tuple[Root, str]:
        root = self._root
        if root is None:
            raise ClosedError(f"{self.folder}: the dataset is closed")
        # an absolute name stays one, and is refused
        return root, f"{self._below}/{name}" if self._below and name[:1] != "/" else name

    def source(self, name: str, **options: Any) -> Source:
        """A file, mapped."""
        root, name = self._named(name)
        return Source(name, root=root, **options)

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes, copied."""
        root, name = self._named(name)
        return root.read(name, limit)

    def nbytes(self, name: str) -> int:
        """A file's size."""
        root, name = self._named(name)
        return root.nbytes(name)

    def by_filepath(self, filepath: str, do: Callable[[str], T]) -> T:
        """``do`` with the first name that a ``filepath`` may mean, and that is there."""
        names = list(suffixes(filepath, os.path.abspath(self.folder))) or [filepath]
        for name in names:
            try:
                return do(name)
            except (FileNotFoundError, NotADirectoryError):
                continue
        where = os.path.join(self.folder, names[0])
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where)

    def close(self) -> None:
        """Let go of the directory."""
        self._root = None
