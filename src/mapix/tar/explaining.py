"""The bytes of a record's members, named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapix.byte_ranges import ByteRange, Kind, Walk
from mapix.tar.layout import BLOCK_NBYTES
from mapix.tar.record import ARRAYS, kind_of
from mapix.tar.values import INTEGERS, PICTURES, TEXTS

if TYPE_CHECKING:
    from mapix.tar.open_shard import OpenShard

__all__ = ["byte_ranges"]

MOST_VALUE_NBYTES = 400  # that are shown
FIELDS = (
    *(("name", 100), ("mode", 8), ("owner", 8), ("group", 8), ("size", 12), ("time", 12)),
    *(("checksum", 8), ("type", 1), ("link", 100), ("magic and version", 8)),
    *(("owner's name", 32), ("group's name", 32), ("devices", 16), ("prefix", 155), ("rest", 12)),
)
"""Fields of a header, and their bytes."""


def byte_ranges(core: OpenShard, row: int) -> list[ByteRange]:
    """Return the header and the content of each member of a record."""
    walk = Walk(core.source, 0)
    for member in core.members(row):
        begin, nbytes = core.begin(member), int(core.index.sizes[member])
        extension = core.index.extensions[member]
        walk.at = begin - BLOCK_NBYTES
        block = core.source.read(walk.at, BLOCK_NBYTES)
        for name, size in FIELDS:
            at = walk.at - begin + BLOCK_NBYTES
            text = block[at : at + size].strip(b"\0 ").decode("utf-8", "backslashreplace")
            kind: Kind = "checksum" if name == "checksum" else "header"
            walk.take(name, "name" if name == "name" else kind, size, text)
        kind, value = _content(core, begin, nbytes, extension)
        walk.take(extension, kind, nbytes, value)
    return walk.found


def _content(core: OpenShard, begin: int, nbytes: int, extension: str) -> tuple[Kind, str]:
    """Return kind and value of a member, which begins at a byte and has so many."""
    kind = kind_of(extension)
    if kind in PICTURES or kind in ARRAYS:
        return "pixels", f"a file of {kind}"
    if kind in INTEGERS or kind in TEXTS or kind == "json":
        raw = core.source.read(begin, min(nbytes, MOST_VALUE_NBYTES))
        return "label", raw.decode("utf-8", "backslashreplace").strip()
    return "data", ""
