"""Labels of pickled batches, in memory and in the cache.

The labels of a pickle are lists, and reading 350,000 of them takes a tenth of a second, so they are
stored in the cache once.  The stored file is used only for the very file that it was made of, and
only if no other user can have written it.  It has a header (``_HEAD``).  Where all records list the
same ids in the same order, the ids follow, then all codes of each, so that a column is read as it
lies there.  Of other pickles a number of labels per record follows, 1 byte each, unless all records
have as many; then the pairs of id and code.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.cache import cache_place, distrusted, racy_for, replacing
from mapix.errors import MapixError
from mapix.source import Source, Unmapped

__all__ = ["Facts", "LabelRows", "load", "store"]

LEAST_RECORDS = 1 << 14  # smaller pickles are read in some milliseconds
MAGIC = b"MAPIXPL2"
# Magic; dev, ino, size, mtime_ns, ctime_ns of the pickle; records, pairs; labels per record, or -1;
# 1 where columns follow, 0 for pairs; h, w, c as the pickle states them, or -1; which flat keys;
# CRC32C of what follows the header, and of the fields up to here
_HEAD = struct.Struct("<8s3Q2q2QqQ3qQII")
SIDES = range(1 << 16)


class LabelRows:
    """Labels of all records, as pairs of id and code.

    Parameters
    ----------
    pairs : ndarray
        uint8 (sum of N, 2).
    counts : ndarray or int
        N of each record, or of all.
    n : int
        Number of records.

    Attributes
    ----------
    each : int or None
        N where all records have as many labels.
    """

    def __init__(
        self, pairs: NDArray[np.uint8] | None, counts: NDArray[np.int64] | int, n: int
    ) -> None:
        self._pairs = pairs
        self.each = counts if isinstance(counts, int) else None
        self._counts, self._n = counts, n

    @classmethod
    def of_columns(cls, ids: NDArray[np.uint8], codes: NDArray[np.uint8]) -> Self:
        """Return the labels of records that all list ``ids`` (N,): ``codes`` (N, n)."""
        made = cls(None, *codes.shape)
        made.__dict__["columns"] = ids, codes
        return made

    @cached_property
    def pairs(self) -> NDArray[np.uint8]:
        """The pairs, uint8 (sum of N, 2), read-only."""
        found = self._pairs
        if found is None:
            assert self.columns is not None
            ids, codes = self.columns
            made = np.empty((self._n, len(ids), 2), np.uint8)
            made[:, :, 0], made[:, :, 1] = ids, codes.T
            found = made.reshape(-1, 2)
        found.flags.writeable = False
        return found

    @cached_property
    def columns(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        """Ids (N,) and codes (N, n), where all records list the same ids in the same order.

        Read-only; None of other labels.
        """
        if self.each is None or not self._n:
            return None
        table = self.pairs.reshape(self._n, self.each, 2)
        if not all((table[:, k, 0] == table[0, k, 0]).all() for k in range(self.each)):
            return None
        codes = np.ascontiguousarray(table[:, :, 1].T)
        codes.flags.writeable = False
        return table[0, :, 0], codes

    def column(self, id: int) -> NDArray[np.uint8] | None:
        """Return the codes of a label, uint8 (n,), read-only; None unless all records have it."""
        if self.columns is None:
            return None
        ids, codes = self.columns
        # of an id that is repeated the last code counts, as the format has it
        found = np.flatnonzero(ids == id)
        return codes[found[-1]] if len(found) else None

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """int64 (n + 1,): record i has ``pairs[starts[i]:starts[i + 1]]``."""
        found = np.zeros(self._n + 1, np.int64)
        found[1:] = np.cumsum(np.broadcast_to(self._counts, (self._n,)))
        return found

    def counts(self) -> NDArray[np.uint8]:
        """Return the number of labels of each record, uint8 (n,)."""
        return np.broadcast_to(self._counts, (self._n,)).astype(np.uint8)

    def ids(self) -> tuple[int, ...]:
        """Return all ids that occur, ascending."""
        found = np.bincount(self.pairs[:, 0] if self.columns is None else self.columns[0])
        return tuple(np.flatnonzero(found).tolist())

    def of(self, row: int) -> NDArray[np.uint8]:
        """Return the pairs of one record, uint8 (N, 2)."""
        if self.each is not None:
            return self.pairs[row * self.each : (row + 1) * self.each]
        return self.pairs[self.starts[row] : self.starts[row + 1]]

    def table(
        self, columns: NDArray[np.int16], ncolumns: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return codes (0 where missing) and presence of all records, (n, ncolumns)."""
        n = self._n
        codes = np.zeros((n, ncolumns), np.uint8)
        present = np.zeros((n, ncolumns), np.bool_)
        # of an id that is repeated the last code counts, as the format has it
        if self.columns is not None:
            ids, given = self.columns
            for k, at in enumerate(columns.take(ids)):
                codes[:, at], present[:, at] = given[k], True
            return codes, present
        rows = np.repeat(np.arange(n), np.diff(self.starts))
        at = columns.take(self.pairs[:, 0]).astype(np.int64)
        codes[rows, at] = self.pairs[:, 1]
        present[rows, at] = True
        return codes, present


class Facts(NamedTuple):
    """Sizes, keys and labels of a pickle: all that is stored of it.

    Attributes
    ----------
    stated : tuple
        (h, w, c) as it states them; None where it states no integer.
    flat : tuple of str
        Keys of its flat lists of class numbers.
    labels : LabelRows
        The labels.
    """

    stated: tuple[int | None, ...]
    flat: tuple[str, ...]
    labels: LabelRows


def _identity(source: Source) -> tuple[int, ...]:
    f = source.fingerprint
    return f.dev, f.ino, f.size, f.mtime_ns, f.ctime_ns


def _place(source: Source) -> str:
    return cache_place(source.full_path, "labels", ".labels")


def store(source: Source, facts: Facts, n: int, flat_keys: Sequence[str]) -> None:
    """Store what a pickle of n records states, for the next process.

    Best effort: nothing is stored for a small pickle, for one that was written just now, and where
    the cache cannot be written.
    """
    labels, stated = facts.labels, tuple(-1 if d is None else d for d in facts.stated)
    if n < LEAST_RECORDS or racy_for(source) or any(d not in (-1, *SIDES) for d in stated):
        return
    if labels.columns is None:
        counts = b"" if labels.each is not None else labels.counts().tobytes()
        tables = counts + labels.pairs.tobytes()
    else:
        tables = b"".join(part.tobytes() for part in labels.columns)
    alike = labels.columns is not None
    crc = _native.crc32c(tables) if tables else 0
    each = -1 if labels.each is None else labels.each
    flat = sum(1 << flat_keys.index(key) for key in facts.flat)
    npairs = len(labels.pairs)
    fields = _HEAD.pack(
        *(MAGIC, *_identity(source), n, npairs, each, alike, *stated, flat, crc, 0)
    )[:-4]
    try:
        with replacing(_place(source)) as f:
            f.write(fields + struct.pack("<I", _native.crc32c(fields)) + tables)
    except (OSError, MapixError):
        return


def load(source: Source, n: int, flat_keys: Sequence[str]) -> Facts | None:
    """Return what is stored of a pickle of n records; None when there is nothing to trust."""
    if n < LEAST_RECORDS:
        return None
    try:
        with Unmapped(_place(source)) as stored:
            if distrusted(stored.path, stored.fingerprint, source.fingerprint) is not None:
                return None
            if not _HEAD.size <= stored.fingerprint.size <= _HEAD.size + source.nbytes:
                return None  # a label takes more bytes in a pickle
            data = stored.read(stored.fingerprint.size)
    except OSError:
        return None
    return _parsed(data, source, n, flat_keys) if len(data) >= _HEAD.size else None


def _parsed(data: bytes, source: Source, n: int, flat_keys: Sequence[str]) -> Facts | None:
    magic, *about = _HEAD.unpack_from(data)
    made_for, (nrecords, npairs, each, alike), stated = tuple(about[:5]), about[5:9], about[9:12]
    flat, crc, own = about[12:]
    tables = memoryview(data)[_HEAD.size :]
    if (magic, made_for, nrecords) != (MAGIC, _identity(source), n):
        return None
    if own != _native.crc32c(data[: _HEAD.size - 4]) or flat >> len(flat_keys):
        return None
    if alike > (each >= 0):
        return None
    before = each if alike else n if each < 0 else 0  # ids, or counts
    if len(tables) != before + (1 if alike else 2) * npairs:
        return None
    if crc != (_native.crc32c(tables) if tables else 0):
        return None
    front = np.frombuffer(tables, np.uint8, before)
    counts = front.astype(np.int64)
    if npairs != (int(counts.sum()) if each < 0 else each * n):
        return None
    rest = np.frombuffer(tables, np.uint8, offset=before)
    if alike:
        labels = LabelRows.of_columns(front, rest.reshape(each, n))
    else:
        labels = LabelRows(rest.reshape(-1, 2), counts if each < 0 else int(each), n)
    return Facts(
        tuple(None if d < 0 else d for d in stated),
        tuple(key for k, key in enumerate(flat_keys) if flat >> k & 1),
        labels,
    )
