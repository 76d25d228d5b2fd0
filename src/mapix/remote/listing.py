"""List what is below the URL of a folder: of object stores, and of what fsspec lists.

Plain HTTP servers have no listings: their index pages are made for people, each in another way.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mapix.errors import LimitError
from mapix.remote.objects import plain_url
from mapix.remote.opening import names_below

__all__ = ["Entry", "entries", "is_listed", "is_there"]

FIRST_NAMES = 1000  # asked for when a folder is opened: what one request returns
MOST_NAMES = 2_000_000  # below a folder
LISTED_S = 5.0  # a listing is used for so long, or as long as it took
MOST_KNOWN = 16  # listings in memory
ODD = ("", ".", "..")  # parts of keys that no name of a file has

FILE, EMPTY_FILE, FOLDER = 1, 2, 4  # what a name is: perhaps a file and a folder


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder, with the part of ``os.DirEntry`` that readers need.

    Attributes
    ----------
    name : str
        Its name.
    path : str
        Its URL; that of a folder ends with a slash.
    """

    name: str
    path: str

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a folder."""
        del follow_symlinks
        return self.path.endswith("/")

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is an object."""
        return not self.is_dir(follow_symlinks=follow_symlinks)


@dataclass(slots=True)
class _Listing:
    """The names below a folder, as far as they were asked for."""

    names: Iterator[tuple[str, int]] | None  # and bytes; None after an error
    folders: dict[str, dict[str, int]] = field(default_factory=lambda: {"": {}})
    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    complete: bool = False
    refusal: str = ""  # why the server does not list them
    until: float = 0.0  # on the clock of ``time.monotonic``

    def reach(self, most: int) -> None:
        """Ask for names until there are ``most``, or all."""
        with self.lock:
            if self.complete or self.count >= most:
                return
            if self.names is None:
                raise OSError(errno.EIO, "another thread could not list all that is below the URL")
            start = time.monotonic()
            try:
                for name, nbytes in islice(self.names, most - self.count):
                    self.count += 1
                    self._add(name.split("/"), nbytes)
            except BaseException as e:
                if self.count or not isinstance(e, PermissionError):
                    self.names, self.until = None, 0.0  # the iterator has ended, names are missing
                    raise
                self.refusal = e.strerror or "permission denied"  # objects may be read all the same
            self.complete = self.count < most
            now = time.monotonic()
            self.until = now + max(LISTED_S, now - start)

    def _add(self, parts: list[str], nbytes: int) -> None:
        if any(part in ODD for part in parts):
            return
        folder = ""
        for part in parts[:-1]:
            here = self.folders[folder]
            here[part] = here.get(part, 0) | FOLDER
            folder = f"{folder}{part}/"
            self.folders.setdefault(folder, {})
        here = self.folders[folder]
        here[parts[-1]] = here.get(parts[-1], 0) | (FILE if nbytes else EMPTY_FILE)


_known: dict[str, _Listing] = {}
os.register_at_fork(after_in_child=_known.clear)  # the parent goes on to use its connections


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _stored(url: str) -> tuple[_Listing, str] | None:
    """Return a listing in memory that answers for a folder, and the folder's name in it."""
    above, now = url, time.monotonic()
    while not above.endswith("://"):
        found = _known.get(above)
        if found is not None and now < found.until:
            below = url.removeprefix(above)
            if not below or (found.complete and not found.refusal):
                return found, below
        above = above[: above.rindex("/", 0, -1) + 1]
    return None


def _listing(url: str) -> tuple[_Listing, str] | None:
    url = _with_slash(url)
    found = _stored(url)
    if found is not None:
        return found
    names = names_below(url)
    if names is None:
        return None
    made = _Listing(names)
    made.reach(FIRST_NAMES)
    now = time.monotonic()
    current = [above for above, one in list(_known.items()) if now < one.until]
    for above in set(_known).difference(current[1 - MOST_KNOWN :]):
        _known.pop(above, None)
    _known[url] = made
    return made, ""


def is_listed(url: str) -> bool:
    """Return whether a server lists what is below the URL of a folder: at most one request.

    Raises
    ------
    OSError
        There is no such bucket, or the server does not answer.
    """
    found = _listing(url)
    return found is not None and not found[0].refusal


def entries(url: str) -> Iterator[Entry]:
    """Yield what is in a folder, in no order; one request for each 1,000 names below it.

    Raises
    ------
    LimitError
        There are more than two million names below it.
    OSError
        It cannot be listed.
    """
    url = _with_slash(url)
    found = _listing(url)
    if found is None or found[0].refusal:
        reason = "the server does not list what is below it"
        if found is not None:
            reason += f": {found[0].refusal}"
        raise PermissionError(errno.EACCES, reason, plain_url(url))
    listing, below = found
    listing.reach(MOST_NAMES + 1)
    if not listing.complete:
        raise LimitError(
            f"{plain_url(url)}: more than {MOST_NAMES} objects are below it: open parts of it, or "
            "a file that lists them"
        )
    for name, what in listing.folders.get(below, {}).items():
        if what & FOLDER:
            yield Entry(name, f"{url}{name}/")
        # consoles make an empty object of the name of a folder
        if what & FILE or what == EMPTY_FILE:
            yield Entry(name, url + name)


def is_there(url: str) -> bool | None:
    """Return whether there is an object; None if no listing in memory shows it."""
    folder, _, name = url.rpartition("/")
    found = _stored(f"{folder}/")
    if found is None or found[0].refusal:
        return None
    listing, below = found
    what = listing.folders.get(below, {}).get(name, 0)
    return True if what & FILE or what == EMPTY_FILE else False if listing.complete else None
