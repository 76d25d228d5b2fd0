"""What all datasets over one metadata file share: its lines, its files, its names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.errors import FormatError
from mapix.folder.files import Files, Settings
from mapix.folder.layout import NAME, canonical, file_names, kind
from mapix.folder.lines import Lines
from mapix.source import Source

__all__ = ["Core"]

MOST_QUICK_NBYTES = 1 << 16  # of a line; longer ones are parsed as everywhere, with its limits


class Core:
    """A metadata file that is open, and the directory of the pictures."""

    def __init__(self, source: Source, files: Files, settings: Settings) -> None:
        self.source = source
        self.files = files
        self.settings = settings
        self.lines = Lines(source, settings.max_line_nbytes, NAME)
        self._rows: dict[str, int | list[int]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """How records pickle: those of one folder share the file that is opened again."""
        from mapix.folder.opening import reopen_core

        source = self.source
        return reopen_core, (source.full_path, self.files.root, source.identity, self.settings)

    @property
    def path(self) -> str:
        """The metadata file."""
        return self.source.path

    def error(self, row: int, reason: str) -> FormatError:
        """What to raise about a record."""
        return self.lines.error(row, reason)

    def metadata(self, row: int) -> dict[str, Any]:
        """A line, parsed."""
        return self._object(row, self.lines.value(row))

    def _object(self, row: int, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(row, f"an object expected, got {kind(value)}")
        return value

    def all_metadata(self) -> Iterator[dict[str, Any]]:
        """All lines, parsed, in blocks: for passes over all of the file."""
        for row, line in enumerate(self.lines):
            yield self._object(row, self.lines.parsed(row, line))

    def rows_named(self, name: str) -> NDArray[np.int64]:
        """Records that name a file, ascending.  The first call reads all lines."""
        if self._rows is None:
            self._rows = self._all_names()
        found = self._rows.get(canonical(name), [])
        return np.array([found] if isinstance(found, int) else found, np.int64)

    def _all_names(self) -> dict[str, int | list[int]]:
        rows: dict[str, int | list[int]] = {}
        quick = _quick_parser()
        for row, line in enumerate(self.lines):
            known = None if quick is None or len(line) > MOST_QUICK_NBYTES else quick(line)
            metadata = self._object(row, self.lines.parsed(row, line) if known is None else known)
            try:
                names = [canonical(name) for name in file_names(metadata).values()]
            except ValueError as e:
                raise self.error(row, str(e)) from e
            for name in names if len(names) < 2 else dict.fromkeys(names):
                before = rows.setdefault(name, row)
                if before is not row:
                    rows[name] = [before, row] if isinstance(before, int) else [*before, row]
        return rows

    def close(self) -> None:
        """Let go of file and directory."""
        self.source.close()
        self.files.close()


def _quick_parser() -> Any:
    """``orjson``, where it is installed, for lines that it reads as ``json`` does; None otherwise.

    It does not tell keys that are there twice.  A line has a colon for each of its keys, so one
    that has as many colons as keys were found has none twice; of all others ``json`` has the word.
    """
    try:
        import orjson
    except ImportError:
        return None
    loads = orjson.loads

    def quick(line: bytes) -> dict[str, Any] | None:
        try:
            found = loads(line)
        except ValueError:
            return None
        if type(found) is not dict:
            return None
        nkeys = len(found) + sum(len(v) for v in found.values() if type(v) is dict)
        return found if nkeys == line.count(b":") else None

    return quick
