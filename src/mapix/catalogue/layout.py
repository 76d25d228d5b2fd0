"""The bytes of a catalogue: see docs/catalogue.md.  Everything is little-endian, and checked.

A page of header, with two equal slots that state what counts; blocks of entries, one for each
shard; then blobs, one for each entry, the schemas, and the hashes of names.  Shards are added
after what counts, and slots are written last, one after the other.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix.errors import FormatError, TruncatedError

__all__ = [
    "ENTRY",
    "HAS_RANGE",
    "HEAD_NBYTES",
    "MAGIC",
    "MOST_BLOCKS",
    "MOST_SCHEMAS",
    "MOST_SHARDS",
    "NAME",
    "NO_SHAPE",
    "NO_VALUE",
    "PAGE",
    "RANGE",
    "SHARD_BITS",
    "SLOTS",
    "Schema",
    "Slot",
    "checked_entries",
    "head",
    "newest_slot",
    "packed_slot",
    "parsed_schemas",
]

NAME = "catalogue"
MAGIC = b"mapix catalogue\n"
VERSION = 1
HEAD_NBYTES = 4096
SLOTS = (1024, 2048)  # byte of each slot
SLOT_NBYTES = 1024
SHARD_BITS = 20  # of a hash, which hold the number of its shard
MOST_SHARDS = 1 << SHARD_BITS
MOST_SCHEMAS = 256
MOST_RECORDS = 1 << 62
PAGE = 8192  # hashes that have a checksum
NO_SHAPE = 0xFFFFFFFF  # in place of a number of dimensions
HAS_RANGE, NO_VALUE = 1, 2  # flags of a range
NAMED, RANGED = 1, 2  # flags of a slot

ENTRY = np.dtype(
    [
        ("nrecords", "<u8"),
        ("nbytes", "<u8"),
        ("blob_at", "<u8"),
        ("blob_nbytes", "<u4"),
        ("blob_crc", "<u4"),
        ("names_at", "<u8"),
        ("nnames", "<u8"),
        ("names_crc", "<u4"),
        ("schema", "<u4"),
        ("dev", "<u8"),
        ("ino", "<u8"),
        ("size", "<u8"),
        ("mtime_ns", "<i8"),
        ("ctime_ns", "<i8"),
        ("mode", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("nlink", "<u4"),
        ("sample", "<i8"),
        ("ndim", "<u4"),
        ("nranges", "<u4"),
        ("shape", "<u4", (8,)),
        ("dtype", "S8"),
        ("text_crc", "<u4"),
        ("reserved", "V340"),
    ]
)
"""A shard.  512 bytes: a write that is torn damages no other entry."""

RANGE = np.dtype([("low", "<f8"), ("high", "<f8"), ("flags", "<u4"), ("reserved", "<u4")])
"""The range of a column in a shard."""

_HEAD = struct.Struct("<16sIII")  # magic, version, bytes of an entry, checksum
_SLOT = struct.Struct("<QQQQQQIIIIQ")
_BLOCK = struct.Struct("<QII")  # byte, capacity, entries
_CRC = struct.Struct("<I")
MOST_BLOCKS = (SLOT_NBYTES - _CRC.size - _SLOT.size) // _BLOCK.size

assert ENTRY.itemsize == 512


@dataclass(frozen=True)
class Slot:
    """State what counts in a catalogue.

    Attributes
    ----------
    generation : int
        How often it was changed.
    nbytes : int
        Bytes of the file that count.
    schemas_at, schemas_nbytes, schemas_crc : int
        The schemas.
    names_at, nnames, names_crc : int
        Hashes of names of several shards together; those of other shards are in their entries.
    entries_crc : int
        CRC32C of all entries, in order.
    named, ranged : bool
        Whether the hashes of all names of all shards are stored; and the ranges of columns.
    blocks : tuple of (int, int, int)
        Byte, capacity and number of the entries of each block.
    """

    generation: int
    nbytes: int
    schemas_at: int
    schemas_nbytes: int
    schemas_crc: int
    names_at: int
    nnames: int
    names_crc: int
    entries_crc: int
    named: bool
    ranged: bool
    blocks: tuple[tuple[int, int, int], ...]

    @property
    def nshards(self) -> int:
        """Number of shards."""
        return sum(used for _, _, used in self.blocks)


@dataclass(frozen=True)
class Schema:
    """Describe what shards have in common.

    Attributes
    ----------
    family : str
        Name of their format.
    columns, labels : tuple of str
        Names of their columns, and of those that are labels.
    key : str
        What else must be equal: see ``Dataset._schema``.
    """

    family: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    key: str


def head() -> bytes:
    """Return the first bytes of a catalogue."""
    fields = _HEAD.pack(MAGIC, VERSION, ENTRY.itemsize, 0)[: -_CRC.size]
    return fields + _CRC.pack(_native.crc32c(fields))


def packed_slot(s: Slot) -> bytes:
    """Return the bytes of a slot."""
    data = _SLOT.pack(
        *(s.generation, s.nbytes, s.schemas_at, s.schemas_nbytes, s.names_at, s.nnames),
        *(s.schemas_crc, s.names_crc, s.entries_crc, len(s.blocks)),
        NAMED * s.named | RANGED * s.ranged,
    )
    data += b"".join(_BLOCK.pack(*block) for block in s.blocks)
    data = data.ljust(SLOT_NBYTES - _CRC.size, b"\0")
    return data + _CRC.pack(_native.crc32c(data))


def newest_slot(data: bytes, nbytes: int, path: str) -> Slot:
    """Return what counts in a catalogue.

    Parameters
    ----------
    data : bytes
        The first ``HEAD_NBYTES`` of the file.
    nbytes : int
        Size of the file.
    path : str
        The file.

    Raises
    ------
    FormatError
        It is not a catalogue, or of a version that is not known, or both slots are damaged.
    """
    if len(data) < HEAD_NBYTES:
        reason = f"the header has {HEAD_NBYTES} bytes, the file has {len(data)}"
        raise TruncatedError(path, NAME, reason, at=0)
    magic, version, entry_nbytes, crc = _HEAD.unpack_from(data)
    if magic != MAGIC or crc != _native.crc32c(data[: _HEAD.size - _CRC.size]):
        raise FormatError(path, NAME, "the first bytes are damaged", at=0)
    if (version, entry_nbytes) != (VERSION, ENTRY.itemsize):
        reason = f"version {VERSION} expected, got {version}"
        raise FormatError(path, NAME, reason, at=len(MAGIC))
    found = [_slot(data[at : at + SLOT_NBYTES], nbytes) for at in SLOTS]
    known = [slot for slot in found if isinstance(slot, Slot)]
    if not known:
        reasons = "; ".join(str(reason) for reason in found)
        raise FormatError(path, NAME, f"both slots are damaged: {reasons}", at=SLOTS[0])
    return max(known, key=lambda slot: slot.generation)


def _slot(data: bytes, file_nbytes: int) -> Slot | str:
    """Return a slot, or what is wrong with it."""
    body = data[: -_CRC.size]
    if _CRC.unpack_from(data, len(body))[0] != _native.crc32c(body):
        return "its checksum does not fit"
    generation, nbytes, schemas_at, schemas_nbytes, names_at, nnames, *rest = _SLOT.unpack_from(
        body
    )
    schemas_crc, names_crc, entries_crc, nblocks, flags = rest
    if flags & ~(NAMED | RANGED):
        return f"its flags are {flags:#x}, of which {NAMED | RANGED:#x} are known"
    if nbytes > file_nbytes:
        return f"it states {nbytes} bytes, the file has {file_nbytes}"
    if not 0 < nblocks <= MOST_BLOCKS:
        return f"1 to {MOST_BLOCKS} blocks expected, got {nblocks}"
    blocks = tuple(_BLOCK.unpack_from(body, _SLOT.size + k * _BLOCK.size) for k in range(nblocks))
    for at, capacity, used in blocks:
        if used > capacity or not HEAD_NBYTES <= at <= nbytes - capacity * ENTRY.itemsize:
            return f"{used} of {capacity} entries at byte {at} are not in its {nbytes} bytes"
    if not 0 < sum(used for _, _, used in blocks) <= MOST_SHARDS:
        return f"1 to {MOST_SHARDS} shards expected"
    if not HEAD_NBYTES <= schemas_at <= nbytes - schemas_nbytes:
        return f"{schemas_nbytes} bytes of schemas at byte {schemas_at} are not in it"
    if not _hold_names(names_at, nnames, nbytes):
        return f"{nnames} hashes at byte {names_at} are not in it"
    numbers = generation, nbytes, schemas_at, schemas_nbytes, schemas_crc
    known = bool(flags & NAMED), bool(flags & RANGED)
    return Slot(*numbers, names_at, nnames, names_crc, entries_crc, *known, blocks)


def _hold_names(at: int, n: int, nbytes: int) -> bool:
    """Return whether hashes, and a checksum for each page of them, lie in the file."""
    return n == 0 or HEAD_NBYTES <= at <= nbytes - n * 8 - (n + PAGE - 1) // PAGE * _CRC.size


def parsed_schemas(data: bytes, path: str) -> list[Schema]:
    """Return the schemas of a catalogue.

    Raises
    ------
    FormatError
        The text is not what a writer of catalogues makes.
    """
    try:
        found = [
            Schema(
                *(_text(each["family"]), _texts(each["columns"])),
                *(_texts(each["labels"]), _text(each["key"])),
            )
            for each in json.loads(data)
        ]
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise FormatError(path, NAME, f"the schemas are not understood: {e!r}") from e
    if not 0 < len(found) <= MOST_SCHEMAS:
        reason = f"1 to {MOST_SCHEMAS} schemas expected, got {len(found)}"
        raise FormatError(path, NAME, reason)
    if len({schema.family for schema in found}) > 1 or found[0].family == NAME:
        raise FormatError(path, NAME, "shards of one format expected")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text expected, got {type(value).__name__}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"a list expected, got {type(values).__name__}")
    return tuple(map(_text, values))


def checked_entries(data: bytes, slot: Slot, schemas: list[Schema], path: str) -> NDArray[np.void]:
    """Return the entries, read-only, after each count and offset was checked.

    Raises
    ------
    FormatError
        An entry is damaged; the error names it.
    """
    if _native.crc32c(data) != slot.entries_crc:
        raise FormatError(path, NAME, "the entries do not match their checksum", at=HEAD_NBYTES)
    e: NDArray[np.void] = np.frombuffer(data, ENTRY)
    nbytes = np.uint64(slot.nbytes)
    blob, at = e["blob_nbytes"].astype(np.uint64), e["blob_at"]
    ncolumns = np.array([len(schema.columns) for schema in schemas], np.uint64)
    known = e["schema"] < len(schemas)
    nranges = ncolumns.take(np.where(known, e["schema"], 0))
    n, names_at = e["nnames"], e["names_at"]
    few = n <= nbytes  # so that nothing below is larger than 64 bits
    some = np.where(few, n, 0).astype(np.uint64)
    pages = (some + np.uint64(PAGE - 1)) // np.uint64(PAGE) * np.uint64(_CRC.size)
    names = some * np.uint64(8) + pages
    wrong = {
        "its blob is not in the file": (at < HEAD_NBYTES) | (blob > nbytes) | (at > nbytes - blob),
        "there is no such schema": ~known,
        "its ranges are not in its blob": (e["nranges"] != nranges)
        | (nranges * np.uint64(RANGE.itemsize) > blob),
        "its names are not in the file": (n > 0)
        & (~few | (names > nbytes) | (names_at > nbytes - names) | (names_at < HEAD_NBYTES)),
        f"more than {MOST_RECORDS // MOST_SHARDS} records": e["nrecords"]
        > MOST_RECORDS // MOST_SHARDS,
        "its shape has more than 8 dimensions": (e["ndim"] > 8) & (e["ndim"] != NO_SHAPE),
    }
    for reason, mask in wrong.items():
        if mask.any():
            raise FormatError(path, NAME, reason, record=int(np.argmax(mask)))
    return e
