"""Read a catalogue: what its entries state, without opening a shard."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.catalogue.layout import (
    ENTRY,
    HEAD_NBYTES,
    NAME,
    NO_SHAPE,
    PAGE,
    RANGE,
    SHARD_BITS,
    checked_entries,
    newest_slot,
    parsed_schemas,
)
from mapix.errors import FileChangedError, FormatError
from mapix.registry import Candidate
from mapix.selection import distinct
from mapix.source import Fingerprint, Source, is_url, path_beside, real_path

__all__ = ["CatalogueFile", "Entry", "are_options"]

TRIES = 9  # to read a catalogue that others replace
WINDOW_NBYTES = 4 << 20  # copied at once
MOST_GUESSES = 4  # of a page, before it is sought by bisection


def are_options(found: object) -> bool:
    """Return whether a value of JSON can be options of opening.

    They are names with texts, numbers, booleans, None, or lists of these.
    """
    plain = str | int | float | bool | None
    return isinstance(found, dict) and all(
        name.isidentifier() and all(isinstance(one, plain) for one in _listed(value))
        for name, value in found.items()
    )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Entry(NamedTuple):
    """A shard, as a catalogue states it.

    Attributes
    ----------
    path : str
        Absolute.
    options : dict
        Of opening.
    fingerprint : Fingerprint
        Of the file.
    """

    path: str
    options: dict[str, Any]
    fingerprint: Fingerprint


class CatalogueFile:
    """A catalogue that is open.  Shards that are added later do not count.

    Parameters
    ----------
    candidate : Candidate
        The file.

    Attributes
    ----------
    source : Source
        The file as it was opened: it has changed when shards were added.
    slot : Slot
        What counts.
    schemas : list of Schema
        What shards have in common.
    entries : ndarray
        ``layout.ENTRY`` (k,), a private copy, read-only.

    Raises
    ------
    FormatError
        The file is damaged.
    """

    def __init__(self, candidate: Candidate) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._open(candidate)
            except FileChangedError:
                if candidate.expect is not None or not left:
                    raise
                candidate = Candidate(candidate.path)  # a shard was added meanwhile
            else:
                break

    def _open(self, candidate: Candidate) -> None:
        source = self.source = candidate.source
        self.path = source.path
        self.folder = os.path.dirname(real_path(source.full_path))
        slot = newest_slot(
            source.read(0, min(HEAD_NBYTES, source.nbytes)), source.nbytes, self.path
        )
        # a map that is not checked for changes: nothing that counts is ever written again
        self._data = Source(source.full_path, limit=slot.nbytes)
        was, now = source.fingerprint, self._data.fingerprint
        if (was.dev, was.ino) != (now.dev, now.ino):
            raise FileChangedError(self.path, "another file has its path; open it again")
        self.slot = slot
        text = self._read(slot.schemas_at, slot.schemas_nbytes)
        if _native.crc32c(text) != slot.schemas_crc:
            reason = "the schemas do not match their checksum"
            raise FormatError(self.path, NAME, reason, at=slot.schemas_at)
        self.schemas = parsed_schemas(text, self.path)
        data = b"".join(self._read(at, used * ENTRY.itemsize) for at, _, used in slot.blocks)
        self.entries = checked_entries(data, slot, self.schemas, self.path)
        self._ranges: tuple[NDArray[np.void], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def _read(self, at: int, nbytes: int) -> bytes:
        return self._data.read(at, nbytes) if nbytes else b""

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._data.closed

    def close(self) -> None:
        """Release the file."""
        self.source.close()
        self._data.close()

    # --- shards -----------------------------------------------------------------------------------

    def blob(self, k: int) -> bytes:
        """Return the blob of a shard: its ranges, then a text.

        Raises
        ------
        FormatError
            It does not match its checksum.
        """
        e = self.entries
        return self._checked(k, self._read(int(e["blob_at"][k]), int(e["blob_nbytes"][k])))

    def _checked(self, k: int, data: bytes) -> bytes:
        if _native.crc32c(data) != self.entries["blob_crc"][k]:
            reason = "the blob does not match its checksum"
            at = int(self.entries["blob_at"][k])
            raise FormatError(self.path, NAME, reason, record=k, at=at)
        return data

    def entry(self, k: int) -> Entry:
        """Return what is stated of a shard.

        Raises
        ------
        FormatError
            The entry is damaged.
        """
        e, blob = self.entries, self.blob(k)
        try:
            stated = json.loads(blob[int(e["nranges"][k]) * RANGE.itemsize :])
            path, options = stated["path"], stated["options"]
            if not isinstance(path, str) or "\0" in path or not are_options(options):
                raise TypeError("a path and options expected")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            reason = f"path and options are not understood: {error!r}"
            raise FormatError(self.path, NAME, reason, record=k) from error
        names = ("dev", "ino", "size", "mtime_ns", "ctime_ns", "mode", "uid", "gid", "nlink")
        sample = int(e["sample"][k])
        times = {name: int(e[name][k]) for name in names}
        known = Fingerprint(**times, sample=None if sample < 0 else sample)
        return Entry(self._place(path), options, known)

    def _place(self, path: str) -> str:
        """Return the path of a shard, which may be relative to the catalogue."""
        if is_url(path):
            return path
        if not is_url(self.folder):
            return os.path.join(self.folder, path)
        if os.path.isabs(path):
            reason = f"a catalogue at a URL cannot have the path {path!r} of this machine"
            raise FormatError(self.path, NAME, reason)
        return path_beside(self.source.full_path, path)

    def has(self, text: bytes) -> bool:
        """Return whether a shard has this text of path and options."""
        same = np.flatnonzero(self.entries["text_crc"] == _native.crc32c(text))
        return any(self.blob(int(k)).endswith(text) for k in same)

    def shape(self, k: int) -> tuple[int, ...] | None:
        """Return the shape of the images of a shard, where they are alike."""
        ndim = int(self.entries["ndim"][k])
        return None if ndim == NO_SHAPE else tuple(self.entries["shape"][k, :ndim].tolist())

    def shapes(self) -> set[tuple[int, ...] | None]:
        """Return the shapes of the images of shards with records."""
        e = self.entries
        some = np.flatnonzero(e["nrecords"] > 0)
        each = np.concatenate([e["ndim"][some, None], e["shape"][some]], axis=1)
        first = np.unique(each, axis=0, return_index=True)[1]
        return {self.shape(int(some[i])) for i in first}

    # --- ranges of columns ------------------------------------------------------------------------

    def ranges(self, schema: int) -> tuple[NDArray[np.int64], NDArray[np.void]]:
        """Return the shards of a schema, int64 (k,), and their columns' ranges, RANGE (k, c)."""
        if self._ranges is None:
            self._ranges = self._all_ranges()
        every, ends = self._ranges
        which = np.flatnonzero(self.entries["schema"] == schema)
        c = len(self.schemas[schema].columns)
        return which, every[(ends[which] - c)[:, None] + np.arange(c)]

    def _all_ranges(self) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """Return the ranges of all shards, and where those of each end; blobs are checked."""
        e = self.entries
        n = e["nranges"].astype(np.int64)
        ends = np.cumsum(n)
        found = np.zeros(int(ends[-1]), RANGE)
        begins, order = e["blob_at"].tolist(), np.argsort(e["blob_at"], kind="stable")
        sizes, at, window = e["blob_nbytes"].tolist(), 0, b""
        for i, k in enumerate(order.tolist()):
            begin, end = begins[k], begins[k] + sizes[k]
            if end > at + len(window):
                at = begin
                # blobs lie one after the other, so this is most often several of them
                stop = max(begins[m] + sizes[m] for m in order[i : i + 4096].tolist())
                window = self._read(at, max(end, min(stop, at + WINDOW_NBYTES)) - at)
            blob = self._checked(k, window[begin - at : end - at])
            ranges = np.frombuffer(blob, RANGE, int(n[k]))
            found[int(ends[k]) - len(ranges) : int(ends[k])] = ranges
        return found, ends

    # --- names ------------------------------------------------------------------------------------

    def runs(self) -> list[tuple[int, int, int]]:
        """Return where sorted hashes lie: byte, number and checksum of each run."""
        e, s = self.entries, self.slot
        own = e[e["nnames"] > 0][["names_at", "nnames", "names_crc"]].tolist()
        return [(s.names_at, s.nnames, s.names_crc), *own] if s.nnames else own

    def sums(self, run: tuple[int, int, int]) -> NDArray[np.uint32]:
        """Return the checksums of the pages of a run of hashes."""
        at, n, crc = run
        data = self._read(at + 8 * n, (n + PAGE - 1) // PAGE * 4)
        if _native.crc32c(data) != crc:
            reason = "the checksums of names do not match their own"
            raise FormatError(self.path, NAME, reason, at=at + 8 * n)
        return np.frombuffer(data, "<u4")

    def page(
        self, run: tuple[int, int, int], sums: NDArray[np.uint32], k: int
    ) -> NDArray[np.uint64]:
        """Return a page of a run of hashes, ascending."""
        at, n = run[0] + k * PAGE * 8, min(PAGE, run[1] - k * PAGE)
        data = self._read(at, 8 * n)
        if _native.crc32c(data) != sums[k]:
            raise FormatError(self.path, NAME, "names do not match their checksum", at=at)
        return np.frombuffer(data, "<u8")

    def with_hash(self, hashed: int) -> NDArray[np.int64]:
        """Return the shards that may have a name with this hash, int64, ascending."""
        low = hashed >> SHARD_BITS << SHARD_BITS
        high = low + (1 << SHARD_BITS)
        found = [part for run in self.runs() for part in self._between(run, low, high)]
        if not found:
            return np.empty(0, np.int64)
        bits = np.uint64((1 << SHARD_BITS) - 1)
        shards = distinct(np.concatenate(found) & bits).astype(np.int64)
        return shards[shards < len(self.entries)]

    def _between(self, run: tuple[int, int, int], low: int, high: int) -> list[NDArray[np.uint64]]:
        """Return the hashes of a run from ``low`` to below ``high``, page by page.

        Hashes are spread evenly, so the first page that is read is nearly always the right one or
        next to it.
        """
        sums = self.sums(run)
        first, last = 0, len(sums)  # the first page with a hash from ``low`` on is among these
        guess, tries = (low * run[1] >> 64) // PAGE, 0
        while first < last:
            k = min(max(guess, first), last - 1)
            page = self.page(run, sums, k)
            if int(page[-1]) < low:
                first = guess = k + 1
            elif int(page[0]) < low:
                first = last = k
            else:
                last, guess = k, k - 1
            tries += 1
            if tries > MOST_GUESSES:
                guess = (first + last) // 2
        found = []
        for k in range(first, len(sums)):
            page = self.page(run, sums, k)
            begin, end = np.searchsorted(page, np.array([low, high - 1], np.uint64))
            end += end < len(page) and int(page[end]) == high - 1
            found.append(page[int(begin) : int(end)])
            if end < len(page):
                break
        return found

    def names_of_shards(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return all hashes, without the bits of shards, and the shard of each."""
        every = [np.empty(0, np.uint64)]
        for run in self.runs():
            sums = self.sums(run)
            every += [self.page(run, sums, k) for k in range(len(sums))]
        values = np.concatenate(every)
        bits = np.uint64((1 << SHARD_BITS) - 1)
        return values & ~bits, (values & bits).astype(np.int64)
