"""Read files below the URL of a folder, by names that come from a data file."""

from __future__ import annotations

import errno
from typing import Any

from mapix.copies import FolderCopies
from mapix.source.opened import Source
from mapix.source.paths import path_beside

__all__ = ["RemoteFolder"]

FIRST_NBYTES = 256 << 10  # of a file that is read completely: mostly all, by one request


class RemoteFolder:
    """The part of ``mapix.rooted.Root`` that readers need, of a folder on a server.

    Nothing is stored: each call makes a request, or two for files above 256 KiB.  A folder that was
    opened for a snapshot has what was read until the snapshot was made, and makes no requests.

    Parameters
    ----------
    url : str
        The folder, with or without a slash at its end.
    """

    __slots__ = ("_copies", "full_path", "path")

    def __init__(self, url: str) -> None:
        self.path = self.full_path = url
        self._copies: FolderCopies[bytes] = FolderCopies()

    def url_of(self, name: str) -> str:
        """Return the URL of a file.

        Raises
        ------
        OSError
            The name leads out of the folder (EXDEV).
        """
        parts = name.split("/")
        if not parts[0] or ".." in parts or "\0" in name:
            raise OSError(errno.EXDEV, f"the name {name!r} leaves the folder, or could", self.path)
        from urllib.parse import quote  # here: opening a local file does not need it

        plain = self.full_path.startswith("http")  # keys of object stores are not quoted
        return path_beside(f"{self.full_path.rstrip('/')}/", quote(name) if plain else name)

    def source(self, name: str, **options: Any) -> Source:
        """Open a file."""
        held = self._copies.held(name, self.url_of)
        url = self.url_of(name)
        return Source(url, **options) if held is None else Source.of_bytes(url, held)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file; raise LimitError above ``limit`` bytes."""
        held = self._copies.held(name, self.url_of)
        if held is not None:
            return held
        from mapix.remote import read_all

        data = read_all(self.url_of(name), limit, FIRST_NBYTES)
        if self._copies.wants(name):
            self._copies.hold(name, len(data), data)
        return data

    def first(self, name: str, nbytes: int) -> bytes:
        """Return the first bytes of a file; all of a shorter one."""
        held = self._copies.held(name, self.url_of)
        if held is not None:
            return held[:nbytes]
        from mapix.remote import opened

        return opened(self.url_of(name), nbytes).first[:nbytes]

    def nbytes(self, name: str) -> int:
        """Return the size of a file in bytes."""
        held = self._copies.held(name, self.url_of)
        if held is not None:
            return len(held)
        from mapix.remote import opened

        return opened(self.url_of(name)).nbytes
