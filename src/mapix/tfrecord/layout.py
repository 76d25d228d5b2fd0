"""The bytes of a TFRecord file: records of a length, data, and a masked CRC32C of each.

``docs/tfrecord.md`` has the table of fields.
"""

from __future__ import annotations

import struct

from mapix._native import crc32c
from mapix.errors import FormatError

__all__ = [
    "CRC_NBYTES",
    "HEADER_NBYTES",
    "LENGTH_NBYTES",
    "NAME",
    "data_problem",
    "is_header",
    "length_of",
    "masked",
]

NAME = "tfrecord"
LENGTH_NBYTES = 8
CRC_NBYTES = 4
HEADER_NBYTES = LENGTH_NBYTES + CRC_NBYTES
MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")


def masked(data: bytes | bytearray | memoryview) -> int:
    """Return the masked CRC32C of bytes: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data) if len(data) else 0
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def is_header(front: bytes) -> bool:
    """Return whether a file begins with a length and its checksum."""
    if len(front) < HEADER_NBYTES:
        return False
    _, stated = _HEADER.unpack_from(front)
    return bool(stated == masked(front[:LENGTH_NBYTES]))


def length_of(header: bytes | bytearray, path: str, record: int, at: int) -> int:
    """Return the number of bytes of a record's data.

    Parameters
    ----------
    header : bytes
        The 12 bytes before the data.
    path, record, at : str, int, int
        File, number of the record and byte where it begins: for errors.

    Raises
    ------
    FormatError
        The checksum of the length is wrong.
    """
    length, stated = _HEADER.unpack(header)
    found = masked(header[:LENGTH_NBYTES])
    if stated != found:
        reason = f"a length with the checksum {found:08x} expected, got {stated:08x}"
        raise FormatError(path, NAME, reason, record=record, at=at + LENGTH_NBYTES)
    return int(length)


def data_problem(data: bytes | memoryview, trailer: bytes | memoryview) -> str | None:
    """Return why the data of a record do not fit the checksum after them; None where they do."""
    (stated,) = _CRC.unpack(trailer)
    found = masked(data)
    if stated == found:
        return None
    return f"data with the checksum {found:08x} expected, got {stated:08x}"
