"""Writing of archives that are larger than one file can be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mapix.errors import LimitError, UnsupportedError
from mapix.iid.argument_checks import as_integer, as_keys
from mapix.iid.shard_names import files_with_stem, shard_path
from mapix.iid.writer import OneTimeWriter, Writer, path_of
from mapix.store import SYSTEM, Calls, NewWhole, one_at_a_time

__all__ = ["ShardedWriter"]

FULL_NBYTES = 3 << 30  # of a file, after which the next one is begun
MOST_SHARDS = 99_999


class ShardedWriter(OneTimeWriter):
    """Write a set of archives, ``NAME-00000-of-00003.iid`` and so on, that is opened as one.

    Each file appears complete.  The files get their names, which state their number, when the last
    one is closed; ``mapix.open`` refuses a set of which some are missing.

    Parameters
    ----------
    path : str or os.PathLike
        ``NAME.iid``.
    meta : mapping, optional
        Metadata of each.
    full_nbytes : int
        Bytes of segments and names after which the next archive is begun.
    replace : bool
        Whether to replace a set of that name.  The first file of the old set is removed first, and
        the first file of the new set appears last: no set consists of old and new files.
    calls : mapix.store.Calls
        The operating system; for tests.
    **options
        For ``Writer``.

    Raises
    ------
    FileExistsError
        A set of that name exists, and ``replace`` is False.
    LockedError
        Another writer writes the set.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        meta: Mapping[str, Any] | None = None,
        *,
        full_nbytes: int = FULL_NBYTES,
        replace: bool = False,
        calls: Calls = SYSTEM,
        **options: Any,
    ) -> None:
        if not isinstance(replace, bool | np.bool_):
            raise TypeError(f"replace must be bool, got {replace!r}")
        self.path = os.path.abspath(path_of(path))
        self._stem = self.path.removesuffix(".iid")
        self._meta, self._calls, self._options = meta, calls, options
        self._full = as_integer(full_nbytes, "full_nbytes", 1, 1 << 64)
        self._replace = replace
        self._done: list[str] = []
        self._begin = 0
        self._lock = NewWhole(self.path, calls, replace=True)  # locks the set; never appears itself
        try:
            self._refuse()
            self._clear()
            self._out = self._next(0)
        except BaseException:
            self._lock.abort()
            raise

    def _refuse(self) -> None:
        old = files_with_stem(self._stem)
        if old and not self._replace:
            raise FileExistsError(f"{old[0]} exists already; nothing is overwritten")

    def _clear(self) -> None:
        """Remove unfinished files of this writer, or of one that was killed; the set is locked."""
        folder, stem = os.path.split(self._stem)
        left = re.compile(rf"\.?{re.escape(stem)}-\d{{5}}\.iid\.shard(\.writing)?")
        for name in os.listdir(folder):
            if left.fullmatch(name):
                self._calls.unlink(os.path.join(folder, name))

    def _next(self, k: int) -> Writer:
        path = f"{self._stem}-{k:05}.iid.shard"
        return Writer(path, self._meta, replace=True, calls=self._calls, **self._options)

    def _begin_next(self) -> None:
        """Finish the current archive, and begin the next one."""
        if len(self._done) + 2 > MOST_SHARDS:
            raise LimitError(f"{self.path}: more than {MOST_SHARDS} archives in one set")
        following = self._next(len(self._done) + 1)
        try:
            self._out.close()
        except BaseException as e:
            self._state = f"archive {len(self._done)} failed: {type(e).__name__} {e}"
            following.abort()
            raise
        self._done.append(self._out.path)
        self._begin += len(self._out)
        self._out = following

    def __len__(self) -> int:
        return self._begin + len(self._out)

    def add(self, *args: Any, **options: Any) -> int:
        """Write a segment as ``Writer.add`` does; return its key in the set."""
        with self._turn:
            self._check_open()
            if len(self._out) and self._out.nbytes >= self._full:
                self._begin_next()
            return self._begin + self._out.add(*args, **options)

    def group(self, name: str, keys: ArrayLike) -> None:
        """Add keys of the current archive to a group.

        Raises
        ------
        UnsupportedError
            A key is of an archive that is written already: pass ``groups`` to ``add``.
        """
        with self._turn:
            self._check_open()
            wanted = as_keys(keys, len(self), self.path)
            inner = wanted.astype(np.int64) - self._begin
            if inner.size and inner.min() < 0:
                raise UnsupportedError(
                    f"{self.path}: key {wanted.min()} is in an archive that is written already: "
                    "pass add(groups=...)"
                )
            self._out.group(name, inner)

    @one_at_a_time
    def close(self) -> None:
        """Close the last archive, and give all archives their names."""
        if self._state == "closed":
            return
        try:
            self._check_open()
            self._refuse()
            if len(self._out) or not self._done:
                self._out.close()
                self._done.append(self._out.path)
            else:  # its first add was refused
                self._out.abort()
        except BaseException:
            self.abort()
            raise
        self._state = "closed"
        try:
            self._name_all()
        finally:
            self._lock.abort()

    def _name_all(self) -> None:
        n, named = len(self._done), list[str]()
        place = self._calls.rename if self._replace else self._calls.appear
        try:
            for old in files_with_stem(self._stem) if self._replace else ():
                self._calls.unlink(old)
            for k in reversed(range(n)):
                name = shard_path(self._stem, k, n)
                place(self._done[k], name)
                named.append(name)
        except BaseException:
            if not self._replace:  # the old set is removed: the new files must stay
                for name in named:
                    self._calls.unlink(name)
                self._clear()
            raise
        self._calls.fsync_directory(os.path.dirname(self._stem))

    @one_at_a_time
    def abort(self) -> None:
        """Remove what was written.  Does nothing after ``close``."""
        if self._state == "closed":
            return
        self._state = "closed"
        self._out.abort()
        try:
            self._clear()
        finally:
            self._lock.abort()
