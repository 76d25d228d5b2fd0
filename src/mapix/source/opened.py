"""Open files read-only and map them."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from mapix import _native, descriptors
from mapix.copies import current
from mapix.errors import ClosedError, FileChangedError
from mapix.locations import absolute, is_url
from mapix.source.file_map import HeldMapping, Mapping
from mapix.source.fingerprint import (
    MODE,
    Fingerprint,
    content_difference,
    fingerprint_of_object,
)
from mapix.source.paths import FRONT_NBYTES, opened

if TYPE_CHECKING:
    from mapix.rooted import Root

WARM_STEP_NBYTES = 64 << 20  # brought into memory between two checks for Ctrl-C


class Source:
    """Open a file read-only and map it.

    After that, the file needs no descriptor; see ``Mapping``.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file.
    expect : Fingerprint, optional
        The expected file; any other one raises FileChangedError.  If the fingerprint has a sample
        (``Source.identity``), a copy with the same size, modification time and sampled bytes is
        accepted, whatever its device, inode and change time.
    limit : int, optional
        Map only this many bytes, because another process appends after them.  Such a file changes
        all the time, so it is not checked for changes; the guard against cut files stays.
    root : Root, optional
        A directory that the file must lie in or below; ``path`` is then a name in it.
    file : OpenFile, optional
        The same file, open: the source owns its descriptor then.

    Raises
    ------
    OSError
        The file cannot be opened or mapped, or is not a regular file.
    FileChangedError
        It is not the file of ``expect``.

    Attributes
    ----------
    path : str
        The path as it was passed, for messages.
    full_path : str
        The absolute path, for opening the file again after a change of the working directory.
    origin : str
        The file that a user has opened: ``path``, but of an unpacked file the compressed one.
    """

    __slots__ = ("_mapping", "_view", "full_path", "origin", "path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        expect: Fingerprint | None = None,
        limit: int | None = None,
        root: Root | None = None,
        file: _native.OpenFile | None = None,
    ) -> None:
        self.path = os.fspath(path)
        mapping: Mapping
        if file is None and is_url(self.path):
            from mapix.source.remote_map import RemoteMapping

            mapping = RemoteMapping(self.path)
            self.path, self.full_path = mapping.path, mapping.full_path
            copies = current()
            if copies is not None:
                copies.take(mapping.nbytes)
                # of a bytearray numpy would make arrays that can be made writeable
                data = bytes(_native.copy(mapping, 0, mapping.nbytes, "file"))
                mapping = HeldMapping(self.path, self.full_path, data, mapping.fingerprint)
        elif root is not None:
            name = self.path
            self.full_path = os.path.join(root.full_path, name)
            self.path = os.path.join(root.path, name)
            held = root.held(name)
            if held is None:
                opener = functools.partial(root.open, name)
                mapping = Mapping(self.path, self.full_path, limit, opener)
            else:
                was = Fingerprint.of(held[1])
                mapping = HeldMapping(self.path, self.full_path, held[0], was)
        else:
            self.full_path = absolute(self.path)
            mapping = Mapping(self.path, self.full_path, limit, file=file)
        moved = None if expect is None else content_difference(expect, mapping)
        if moved is not None:
            raise FileChangedError(self.path, f"{moved} since the dataset was opened")
        self.origin = self.path
        self._mapping: Mapping | None = mapping
        # of a remote object it is made when all bytes are there
        self._view: memoryview | None = None if mapping.remote else mapping.memory

    @classmethod
    def unnamed(cls, fd: int, path: str, nbytes: int) -> Source:
        """Map the first bytes of an open file that has no name.

        The caller still owns ``fd``; ``path`` is for messages.
        """
        made = cls.__new__(cls)
        made.path = made.full_path = made.origin = path
        made._mapping = Mapping(path, path, nbytes, functools.partial(os.dup, fd))
        made._view = made._mapping.view
        return made

    @classmethod
    def of_bytes(cls, path: str, data: bytes) -> Source:
        """Return the source of an object that a snapshot has copied."""
        made = cls.__new__(cls)
        made.path = made.full_path = made.origin = path
        made._mapping = HeldMapping(path, path, data, fingerprint_of_object("", len(data), 0))
        made._view = made._mapping.view
        return made

    @property
    def mapping(self) -> Mapping:
        """The mapping; hold it in a local variable while you use it: close() may drop it."""
        mapping = self._mapping
        if mapping is None:
            raise ClosedError(f"{self.origin}: the dataset is closed")
        return mapping

    @property
    def view(self) -> memoryview:
        """The bytes of the file, read-only.

        Raises
        ------
        UnsupportedError
            Not all bytes of a remote object are there; see ``viewed``.
        """
        view = self._view
        return self.mapping.view if view is None else view

    def viewed(self, at: int, nbytes: int) -> memoryview:
        """Return the bytes of the file, read-only, of which a caller reads only these ones.

        Of a remote object, they are brought first.  The others must not be read.
        """
        view = self._view
        if view is not None:
            return view
        mapping = self.mapping
        mapping.hold(at, nbytes)
        return mapping.memory

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes when it was opened."""
        return self.mapping.nbytes

    def read(self, at: int, nbytes: int) -> bytes:
        """Return a copy of bytes ``at`` to ``at + nbytes``, which have to lie in the file.

        Raises
        ------
        FileChangedError
            The file was cut or changed.
        FormatError
            They do not lie in the file.
        """
        return bytes(_native.copy(self.mapping, at, nbytes, "file"))

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file when it was opened."""
        return self.mapping.fingerprint

    @property
    def identity(self) -> Fingerprint:
        """The fingerprint with a sample of the bytes, to recognise the same content elsewhere.

        Cost: the first use reads at most 32 blocks of 4 KiB.
        """
        mapping = self.mapping
        if mapping.remote:  # the ETag is enough
            return mapping.fingerprint
        return mapping.fingerprint._replace(sample=mapping.sample())

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._mapping is None

    def confirm(self, advice: str = "open it again") -> None:
        """Raise FileChangedError unless the path still refers to this file, unchanged.

        ``advice`` ends the message.
        """
        old = self.fingerprint
        try:
            now = Fingerprint.of(os.stat(self.full_path))
        except FileNotFoundError as e:
            raise FileChangedError(self.path, f"the file was removed; {advice}") from e
        moved = old.difference(now)
        if (old.dev, old.ino) != (now.dev, now.ino):
            moved = "the file was replaced by another one"
        if moved is not None:
            raise FileChangedError(self.path, f"{moved} since it was opened; {advice}")

    def confirm_for_writing(self) -> None:
        """Call ``confirm`` for a writer that is about to replace the file by one made from it."""
        self.confirm("nothing was written: open it again, and repeat the change")

    def close(self) -> None:
        """Close the source.  The file stays mapped until the last array over it is deleted."""
        self._mapping = None
        self._view = None

    def warm(self) -> Iterator[int]:
        """Read the file into the page cache, in order, and yield the number of bytes done.

        A page cache that is filled in order holds large pages: later random reads are up to 1.5
        times as fast, and the first access to a page up to 7 times.  A remote object is downloaded.
        """
        mapping = self.mapping
        mapping.advise("sequential")
        try:
            for at in range(0, mapping.nbytes, WARM_STEP_NBYTES):
                step = min(WARM_STEP_NBYTES, mapping.nbytes - at)
                if mapping.remote:
                    mapping.willneed(at, 2 * step)
                    mapping.hold(at, step)
                else:
                    _native.warm(mapping, at, step)
                yield at + step
        finally:
            mapping.advise("random")


class MappedLater:
    """A file that was opened, and is mapped when it is first used.

    It is the same file then, as long as its descriptor is among those that were opened last, also
    if another one has its name now.

    Parameters
    ----------
    path : str
        From the root of the file system.
    file : OpenFile
        The same file, open: this object owns its descriptor then.
    advice : str
        Ends the error for a changed file.

    Attributes
    ----------
    path : str
        As it was passed.
    """

    __slots__ = ("_advice", "_file", "_key", "_mapping", "path")

    def __init__(self, path: str, file: _native.OpenFile, advice: str) -> None:
        self.path, self._file, self._advice = path, file, advice
        self._mapping: Mapping | None = None
        key, fd = id(self), file.cmap.fd
        self._key = key
        file.given = True
        descriptors.keep(key, fd)  # nothing may fail before it

    def __del__(self, close: Callable[[int], None] = descriptors.close) -> None:
        close(getattr(self, "_key", 0))

    @property
    def mapping(self) -> Mapping:
        """The map, for random access.

        Raises
        ------
        FileChangedError
            The file cannot be opened any more, or is another one.
        """
        found = self._mapping
        if found is not None:
            return found
        file = self._file
        if descriptors.take(self._key) >= 0:
            file.given = False
            found = Mapping(self.path, self.path, file=file)
        else:
            try:
                found = Source(self.path, Fingerprint.of_file(file)).mapping
            except OSError as e:
                reason = f"the file can no longer be opened ({e.strerror}); {self._advice}"
                raise FileChangedError(self.path, reason) from e
        found.advise("random")  # 8 MB of readahead for a few bytes would be most of the time
        found.advice = self._advice
        self._mapping = found
        return found


class Unmapped:
    """A file that is open, and may be mapped later.

    For a file of which the first bytes are enough: reading them takes one system call, a map six.

    Attributes
    ----------
    path : str
        As it was passed.
    absent : bool
        Whether the first bytes were asked for, and not read yet: see ``wait_for_front``.
    """

    __slots__ = ("_file", "_source", "_state", "absent", "path")

    def __init__(self, path: str, nfront: int = FRONT_NBYTES, *, wait: bool = True) -> None:
        self.path = path
        self._file: _native.OpenFile | None = None
        self._source: Source | None = None
        if "://" in path and is_url(path):
            self._source = Source(path)
            self._state = self._source.fingerprint[:-1]
            self.absent = False
            return
        file = self._file = opened(path, nfront, wait=wait)
        self._state, self.absent = file.state, file.absent
        mode = file.state[MODE]
        if not stat.S_ISREG(mode):
            self.close()
            kind = IsADirectoryError if stat.S_ISDIR(mode) else OSError
            raise kind(f"{path}: not a regular file")

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the file when it was opened."""
        return tuple.__new__(Fingerprint, (*self._state, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        file = getattr(self, "_file", None)  # without memory for __init__ there is no attribute
        if file is not None:
            file.close()

    def front(self) -> bytes | None:
        """Return the first ``nfront`` bytes, or all of a shorter file.

        None where they cannot be read, or the file was changed while they were.
        """
        return None if self._file is None else self._file.front

    def wait_for_front(self) -> None:
        """Read the first bytes."""
        assert self._file is not None
        self._file.read(FRONT_NBYTES)
        self._state, self.absent = self._file.state, False

    def read(self, nbytes: int) -> bytes:
        """Return the first bytes, fewer of a shorter file."""
        if self._source is not None:
            return self._source.read(0, min(nbytes, self._source.nbytes))
        assert self._file is not None
        return os.pread(self._file.cmap.fd, nbytes, 0)

    def mapped(self, expect: Fingerprint | None = None) -> Source:
        """Map the file, which is as for ``Source`` the one of ``expect``."""
        if self._source is not None:
            return self._source
        found = Source(self.path, expect, file=self._file)
        self._file = None
        return found

    def mapping(self) -> Mapping:
        """Map the file, as ``mapped`` does, for those that need no source."""
        if self._source is not None:
            return self._source.mapping
        found = Mapping(self.path, absolute(self.path), file=self._file)
        self._file = None
        return found

    def close(self) -> None:
        """Close the file, if it was not mapped."""
        if self._file is not None:
            self._file.close()
            self._file = None
