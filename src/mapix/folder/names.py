"""Find the records of an image folder that name a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native.iid import name_hashes
from mapix._native.lines import ODD, hashes
from mapix.folder.layout import canonical, file_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.folder.metadata_file import MetadataFile

__all__ = ["HashedNames", "ParsedNames"]

STEP_NBYTES = 16 << 20  # of lines between two checks for Ctrl-C
MOST_QUICK_NBYTES = 1 << 16  # of a line that the core reads
MOST_SCANS = 16  # questions before the hashes are sorted, which takes as long as some forty


def _names_in(file: MetadataFile, row: int, metadata: dict[str, Any]) -> list[str]:
    """Return the canonical names of the files that a line names."""
    try:
        return [canonical(name) for name in file_names(metadata).values()]
    except ValueError as e:
        raise file.error(row, str(e)) from e


class ParsedNames:
    """Names of parsed records.

    Parameters
    ----------
    file : MetadataFile
        The file, for errors.
    records : iterable of (int, dict)
        Numbers of records, ascending, and their values.

    Raises
    ------
    FormatError
        A name is not text.
    """

    def __init__(self, file: MetadataFile, records: Iterable[tuple[int, dict[str, Any]]]) -> None:
        rows: dict[str, int | list[int]] = {}
        for row, metadata in records:
            names = _names_in(file, row, metadata)
            for name in names if len(names) < 2 else dict.fromkeys(names):
                before = rows.setdefault(name, row)
                if before is not row:
                    rows[name] = [before, row] if isinstance(before, int) else [*before, row]
        self._rows = rows

    def rows(self, name: str) -> NDArray[np.int64]:
        """Return the numbers of the records that have a canonical name, int64, ascending."""
        found = self._rows.get(name, [])
        return np.array([found] if isinstance(found, int) else found, np.int64)


class HashedNames:
    """Names of the lines of a ``metadata.jsonl``: a hash of each, 8 bytes per line.

    The core reads the lines, and finds those that it leaves to ``ParsedNames``.  Lines with the
    hash of a name are parsed when they are asked for, so the result does not depend on hashes.

    Parameters
    ----------
    file : MetadataFile
        The file.  All of its lines are read.

    Raises
    ------
    FormatError
        A line is not a JSON object, or a name is not text.
    LimitError
        A line is too long.
    """

    def __init__(self, file: MetadataFile) -> None:
        edges = file.lines.edges()
        n = len(edges) - 1
        self._file, self._nscans = file, 0
        self._seed = int.from_bytes(os.urandom(8), "little")
        self._hashes = np.empty(n, np.uint64)
        self._sorted: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None
        odd, first, mapping = [np.empty(0, np.int64)], 0, file.source.mapping
        most = min(MOST_QUICK_NBYTES, file.settings.max_line_nbytes)
        while first < n:
            step = edges[first] + np.uint64(STEP_NBYTES)
            last = max(int(np.searchsorted(edges, step, "right")) - 1, first + 1)
            into = self._hashes[first:last]
            found = hashes(mapping, edges[first : last + 1], most, self._seed, into)
            odd.append(np.flatnonzero(found == ODD) + first)
            first = last
        rows = np.concatenate(odd)
        parsed = zip(rows.tolist(), file.some_metadata(rows), strict=True)
        self._odd = ParsedNames(file, parsed)

    def rows(self, name: str) -> NDArray[np.int64]:
        """Return the numbers of the records that have a canonical name, int64, ascending."""
        file, others = self._file, self._odd.rows(name)
        found = [
            row for row in self._likely(name) if name in _names_in(file, row, file.metadata(row))
        ]
        return np.sort(np.concatenate([np.array(found, np.int64), others]))

    def _likely(self, name: str) -> list[int]:
        """Return the lines whose name has the same hash."""
        raw = name.encode("utf-8", "surrogatepass")  # surrogates are in escapes alone: not here
        (wanted,) = name_hashes(raw or b"\0", np.array([0, len(raw)], np.uint64), "iid", self._seed)
        self._nscans += 1
        if self._sorted is None and self._nscans <= MOST_SCANS:
            return [int(row) for row in np.flatnonzero(self._hashes == wanted)]
        if self._sorted is None:
            order = np.argsort(self._hashes, kind="stable")
            self._sorted = self._hashes[order], order
        known, order = self._sorted
        begin, end = (int(np.searchsorted(known, wanted, side)) for side in ("left", "right"))
        return [int(row) for row in order[begin:end]]
