"""The bytes of a tar archive: headers in blocks of 512 bytes, each followed by a file.

``docs/tar.md`` has the table of a header's fields.
"""

from __future__ import annotations

from typing import NamedTuple

from mapix.errors import FormatError

__all__ = [
    "BLOCK_NBYTES",
    "GLOBAL",
    "KINDS",
    "LONG_LINK",
    "LONG_NAME",
    "NAME",
    "NO_DATA",
    "PAX",
    "REGULAR",
    "SPARSE",
    "Header",
    "is_header",
    "padded",
    "parse",
    "pax_records",
]

NAME = "tar"
BLOCK_NBYTES = 512
CHECKSUM = slice(148, 156)
POSIX = b"ustar\0"
MOST_NBYTES = 1 << 62  # sizes above it are not of a file

REGULAR = (b"0", b"\0", b"7")
LONG_NAME, LONG_LINK = b"L", b"K"
PAX = (b"x", b"X")
GLOBAL = b"g"
SPARSE = b"S"
NO_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
KINDS = {
    b"1": "hard links",
    b"2": "symbolic links",
    b"3": "devices",
    b"4": "devices",
    b"5": "directories",
    b"6": "FIFOs",
}


class Header(NamedTuple):
    """One header.

    Attributes
    ----------
    name : bytes
        Name of the member, with its directory.
    nbytes : int
        Size of the member as the header states it; a pax header before it may state another.
    kind : bytes
        The type flag, one byte; of a directory in an archive of 1979 ``b"5"``, too.
    """

    name: bytes
    nbytes: int
    kind: bytes


def padded(nbytes: int) -> int:
    """Return a size rounded up to complete blocks."""
    return -(-nbytes // BLOCK_NBYTES) * BLOCK_NBYTES


def is_header(data: bytes) -> bool:
    """Return whether 512 bytes are a header: their checksum is the one that they state."""
    if len(data) < BLOCK_NBYTES:
        return False
    field = data[CHECKSUM]
    if not (field.partition(b"\0")[0].strip(b" ").isdigit() or field[0] & 0x80):
        return False  # of most files, and without an exception
    try:
        _check(data, "", 0)
    except FormatError:
        return False
    return True


def parse(data: bytes, path: str, at: int) -> Header:
    """Return the header in a block of 512 bytes.

    Parameters
    ----------
    data : bytes
        The block.
    path, at : str, int
        File, and byte of the file where the block begins: for errors.

    Raises
    ------
    FormatError
        Its checksum is wrong, or its size is not a number of bytes.
    """
    _check(data, path, at)
    name = data[:100].partition(b"\0")[0]
    if data[257:263] == POSIX and data[345]:
        name = data[345:500].partition(b"\0")[0] + b"/" + name
    kind = data[156:157]
    if kind == b"\0" and name.endswith(b"/"):
        kind = b"5"
    return Header(name, _number(data[124:136], path, at + 124, "size"), kind)


def _check(data: bytes, path: str, at: int) -> None:
    """Raise FormatError unless the checksum of a header is right."""
    stated = _number(data[CHECKSUM], path, at + CHECKSUM.start, "checksum")
    # the sum of all bytes, those of the checksum taken as blanks
    found = sum(data) - sum(data[CHECKSUM]) + 8 * ord(" ")
    if stated != found:
        signed = found - 256 * sum(byte > 127 for byte in data[:148] + data[156:])
        if stated != signed:  # what some programs of the eighties wrote
            reason = f"a header with the checksum {found} expected, got {stated}"
            raise FormatError(path, NAME, reason, at=at)


def _number(field: bytes, path: str, at: int, what: str) -> int:
    """Return a number of a header: octal digits, or base 256 where its first bit is set."""
    if field[0] & 0x80:
        found = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else -1
        if field[0] == 0x80:
            found = int.from_bytes(field[1:], "big")
        if not 0 <= found <= MOST_NBYTES:
            reason = f"a {what} of 0..{MOST_NBYTES} expected, got the bytes {field.hex()}"
            raise FormatError(path, NAME, reason, at=at)
        return found
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise FormatError(path, NAME, f"a {what} of octal digits expected, got {digits!r}", at=at)


def pax_records(data: bytes, path: str, at: int) -> dict[bytes, bytes]:
    """Return the records of a pax header: ``length key=value`` and a line feed each.

    Raises
    ------
    FormatError
        One of them breaks this form.
    """
    found: dict[bytes, bytes] = {}
    begin = 0
    while begin < len(data):
        digits, blank, _ = data[begin : begin + 20].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        end = begin + length
        key, equals, value = data[begin + len(digits) + 1 : max(end - 1, 0)].partition(b"=")
        if end <= begin or end > len(data) or not key or not equals or data[end - 1] != 0x0A:
            shown = data[begin : begin + 40]
            reason = f"a pax record 'length key=value' expected, got {shown!r}"
            raise FormatError(path, NAME, reason, at=at + begin)
        found[key] = value
        begin = end
    return found
