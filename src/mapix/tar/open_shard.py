"""An open shard, which its datasets and records share: file, index, options, columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mapix.columns import Column, column_of, identifier
from mapix.errors import LimitError
from mapix.pictures.decoding import MAX_PIXELS
from mapix.registry import reopen
from mapix.tar.layout import NAME
from mapix.tar.record import Record

if TYPE_CHECKING:
    from mapix.source import Fingerprint, Source
    from mapix.tar.index import Index

__all__ = ["MAX_IMAGE_NBYTES", "MAX_VALUE_NBYTES", "OpenShard", "Settings"]

MAX_IMAGE_NBYTES = 256 << 20
MAX_VALUE_NBYTES = 4 << 20
MOST_SIZES = 64  # extensions whose sizes are columns
MOST_FIELDS = 256  # of JSON, which are columns


class Settings(NamedTuple):
    """Options of ``open``: see ``open_path``."""

    strict: bool = True
    orientation: bool = True
    max_value_nbytes: int = MAX_VALUE_NBYTES
    max_image_nbytes: int = MAX_IMAGE_NBYTES
    max_pixels: int = MAX_PIXELS

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {k: v for k, v in self._asdict().items() if v != self._field_defaults[k]}


@dataclass(slots=True, eq=False)
class OpenShard:
    """An open shard.  Pickles as path, options and fingerprint."""

    source: Source
    index: Index
    settings: Settings
    makers: dict[str, Callable[[], Column]] | None = None  # of columns, by name

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.source.path

    def members(self, record: int) -> range:
        """Return the numbers of the members of a record."""
        firsts = self.index.firsts
        return range(int(firsts[record]), int(firsts[record + 1]))

    def begin(self, member: int) -> int:
        """Return the byte where a member begins."""
        return int(self.index.begins[member])

    def view(self, member: int) -> memoryview:
        """Return the bytes of a member, aliasing the file."""
        begin = self.begin(member)
        nbytes = int(self.index.sizes[member])
        return self.source.viewed(begin, nbytes)[begin : begin + nbytes]

    def read(self, member: int, limit: int, option: str) -> bytes:
        """Return a copy of a member of at most ``limit`` bytes, made under the guard."""
        nbytes = int(self.index.sizes[member])
        if nbytes > limit:
            raise LimitError(
                f"{self.path}: the member {self.index.extensions[member]!r} at byte "
                f"{self.begin(member)} has {nbytes} bytes, more than the limit of {limit}; "
                f"{option}= of open raises it"
            )
        return self.source.read(self.begin(member), nbytes)

    def columns(self) -> Mapping[str, Callable[[], Column]]:
        """Return name -> maker of the columns of all records.

        Cost: the first call reads all members ``json``, where there are any.
        """
        if self.makers is None:
            self.makers = self._makers()
        return self.makers

    def _makers(self) -> dict[str, Callable[[], Column]]:
        index = self.index
        extensions = dict.fromkeys(index.extensions)
        found: dict[str, Callable[[], Column]] = {}
        found["key"] = partial(column_of, "key", index.keys, description="key of the record")
        for name in ("cls", "txt"):
            if name in extensions:
                found[name] = partial(self._member_values, name)
        for extension in list(extensions)[:MOST_SIZES]:
            name = identifier(f"{extension}_nbytes", found)
            found[name] = partial(self._sizes, name, extension)
        if "json" in extensions:
            for field, values in _fields(self._values("json")).items():
                name = identifier(f"json_{field}" if field in found else field, found)
                found[name] = partial(column_of, name, values, description=f"{field!r} of json")
        return {name: cache(make) for name, make in found.items()}

    def sample(self, rows: Sequence[int]) -> dict[str, Column]:
        """Return the columns of a few records, for which only these are read."""
        records = [Record(self, row) for row in rows]
        found = {"key": column_of("key", [r.key for r in records])}
        for name in ("cls", "txt"):
            values = [r.get(name) for r in records]
            if any(value is not None for value in values):
                found[name] = column_of(name, values)
        fields = _fields([r.get("json") for r in records])
        for field, values in fields.items():
            name = identifier(f"json_{field}" if field in found else field, found)
            found[name] = column_of(name, values)
        return found

    def _member_values(self, extension: str) -> Column:
        return column_of(extension, self._values(extension))

    def _values(self, extension: str) -> list[Any]:
        """Return the values of a member of all records; None where a record has none."""
        found: list[Any] = [None] * len(self.index.keys)
        owners = np.repeat(np.arange(len(found)), np.diff(self.index.firsts)).tolist()
        for member, name in enumerate(self.index.extensions):
            if name == extension:
                row = owners[member]
                found[row] = Record(self, row)[extension]
        return found

    def _sizes(self, name: str, extension: str) -> Column:
        """Return the sizes of a member of all records."""
        index = self.index
        which = np.flatnonzero(np.array(index.extensions) == extension)
        owners = np.searchsorted(index.firsts, which, side="right") - 1
        values, present = np.zeros(len(index.keys), np.int64), np.zeros(len(index.keys), np.bool_)
        values[owners], present[owners] = index.sizes[which], True
        return Column(name, values, None if present.all() else present, unit="bytes")

    def __reduce__(self) -> tuple[Any, ...]:
        source = self.source
        return _core, (source.full_path, self.settings.given(), source.identity)


def _fields(objects: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the values of the fields of the members ``json``, by name."""
    found: dict[str, list[Any]] = {}
    for row, value in enumerate(objects):
        for field in value if isinstance(value, dict) else ():
            if field not in found and len(found) < MOST_FIELDS:
                found[field] = [None] * len(objects)
            if field in found:
                found[field][row] = value[field]
    return {k: v for k, v in found.items() if any(_is_plain(x) for x in v)}


def _is_plain(value: Any) -> bool:
    """Return whether a value of a JSON field can be one of a column."""
    return value is not None and not isinstance(value, dict)


def _core(path: str, options: dict[str, Any], expect: Fingerprint) -> OpenShard:
    """Return what a pickled core stands for: the same file again, or FileChangedError."""
    core: OpenShard = reopen(NAME, path, options, expect, None).core
    return core
