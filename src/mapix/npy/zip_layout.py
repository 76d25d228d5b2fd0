"""The directory of a zip archive, and where its members lie; archives above 4 GiB (zip64), too.

The layout is that of PKWARE's APPNOTE.TXT.  Every count and offset is checked before it is used,
and members that overlap are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mapix.errors import FormatError, LimitError, TruncatedError

__all__ = ["DEFLATED", "NPZ", "STORED", "Member", "data_at", "members"]

NPZ = "npz"
STORED, DEFLATED = 0, 8
ENCRYPTED, UTF_8 = 1, 1 << 11
END, END_64, LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"
# signature, disk, first disk, entries here, entries, size and offset of the directory, comment
END_FIELDS = struct.Struct("<4s4H2IH")
# signature, disk of the end, its offset, number of disks
LOCATOR_64_FIELDS = struct.Struct("<4sIQI")
# signature, size of the rest, versions, disks, entries here, entries, size and offset
END_64_FIELDS = struct.Struct("<4sQ2H2I4Q")
# signature, versions, flags, method, time, date, crc, sizes, lengths, disk, attributes, offset
CENTRAL_FIELDS = struct.Struct("<4s6H3I5H2I")
# signature, version, flags, method, time, date, crc, sizes, lengths
LOCAL_FIELDS = struct.Struct("<4s5H3I2H")
MOST_COMMENT_NBYTES = 65535
MOST_MEMBERS = 100_000
MOST_DIRECTORY_NBYTES = 64 << 20
NOT_HERE_16, NOT_HERE_32 = 0xFFFF, 0xFFFFFFFF  # the number stands in a zip64 field
EXTRA_64 = 1

Read = Callable[[int, int], bytes]
"""``read(at, nbytes)`` returns bytes of the file, all of which lie in it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the directory states it.

    Attributes
    ----------
    name : str
        Name, with slashes.
    raw_name : bytes
        The same as the archive has it.
    flags, method, crc : int
        As the archive has them: ``STORED`` or ``DEFLATED``; CRC32 of the data.
    stored_nbytes, nbytes : int
        Bytes in the archive, and of the data.
    at : int
        Byte of its local header.
    """

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    stored_nbytes: int
    nbytes: int
    at: int

    @property
    def encrypted(self) -> bool:
        """Whether a password is needed."""
        return bool(self.flags & ENCRYPTED)


def members(read: Read, nbytes: int, path: str) -> list[Member]:
    """Return all members of an archive, in the order of the directory.

    Parameters
    ----------
    read : callable
        See ``Read``.
    nbytes : int
        Size of the file.
    path : str
        For messages.

    Raises
    ------
    FormatError
        There is no directory, it is damaged, or members overlap or share a name.
    LimitError
        There are more than 100,000 members, or 64 MiB of directory.
    """
    count, size, at, end = _end(read, nbytes, path)
    if count > MOST_MEMBERS or size > MOST_DIRECTORY_NBYTES:
        raise LimitError(
            f"{path}: {NPZ}: {count} members in {size} bytes, more than MOST_MEMBERS = "
            f"{MOST_MEMBERS} or MOST_DIRECTORY_NBYTES = {MOST_DIRECTORY_NBYTES}"
        )
    if at + size != end:
        reason = f"a directory of {size} bytes from byte {at} on expected, up to byte {end}"
        raise FormatError(path, NPZ, reason, at=min(at, end))
    found = list(_central(read(at, size), count, at, path))
    _check_places(found, at, path)
    return found


def _end(read: Read, nbytes: int, path: str) -> tuple[int, int, int, int]:
    """Return number of members, size and offset of the directory, and where it has to end."""
    tail_nbytes = min(nbytes, END_FIELDS.size + MOST_COMMENT_NBYTES)
    tail = read(nbytes - tail_nbytes, tail_nbytes)
    begin = len(tail) - END_FIELDS.size
    while begin >= 0:
        begin = tail.rfind(END, 0, begin + len(END))
        if begin < 0:
            break
        fields = END_FIELDS.unpack_from(tail, begin)
        if begin + END_FIELDS.size + fields[-1] == len(tail):
            break
        begin -= 1
    if begin < 0:
        reason = "there is no end of a zip directory: the file was cut, or is not a zip archive"
        raise TruncatedError(path, NPZ, reason, at=nbytes)
    at = nbytes - tail_nbytes + begin
    _, disk, first, here, count, size, offset, _ = fields
    before = at - LOCATOR_64_FIELDS.size
    large = before >= 0 and read(before, len(LOCATOR_64)) == LOCATOR_64
    if large or NOT_HERE_16 in (here, count) or NOT_HERE_32 in (size, offset):
        return _end_64(read, at, path)
    if (disk, first) != (0, 0) or here != count:
        raise FormatError(path, NPZ, "the archive is one of several volumes", at=at)
    return count, size, offset, at


def _end_64(read: Read, end: int, path: str) -> tuple[int, int, int, int]:
    """Return the same from the records that archives above 4 GiB have before the end."""
    at = end - LOCATOR_64_FIELDS.size
    if at < 0:
        raise FormatError(path, NPZ, "there is no place for a zip64 locator", at=end)
    sign, disk, where, disks = LOCATOR_64_FIELDS.unpack(read(at, LOCATOR_64_FIELDS.size))
    if sign != LOCATOR_64 or disk != 0 or disks > 1:
        raise FormatError(path, NPZ, "a zip64 locator of one volume expected", at=at)
    if where + END_64_FIELDS.size > at:
        raise FormatError(path, NPZ, f"byte {where} of the zip64 end exceeds the file", at=at)
    fields = END_64_FIELDS.unpack(read(where, END_64_FIELDS.size))
    sign, rest, _, _, disk, first, here, count, size, offset = fields
    if sign != END_64 or (disk, first) != (0, 0) or here != count or where + 12 + rest != at:
        raise FormatError(path, NPZ, "a zip64 end of one volume expected", at=where)
    return count, size, offset, where


def _central(data: bytes, count: int, first: int, path: str) -> Iterator[Member]:
    """Yield the members of a directory that begins at byte ``first``."""
    at = 0
    for k in range(count):
        left = len(data) - at - CENTRAL_FIELDS.size
        if left < 0 or data[at : at + 4] != CENTRAL:
            raise FormatError(path, NPZ, f"an entry of member {k} expected", at=first + at)
        fields = CENTRAL_FIELDS.unpack_from(data, at)
        flags, method, crc, stored, nbytes = *fields[3:5], *fields[7:10]
        name_nbytes, extra_nbytes, comment_nbytes, disk, *_, where = fields[10:]
        if name_nbytes + extra_nbytes + comment_nbytes > left:
            raise FormatError(path, NPZ, f"the entry of member {k} is cut", at=first + at)
        begin = at + CENTRAL_FIELDS.size
        raw = data[begin : begin + name_nbytes]
        extra = data[begin + name_nbytes : begin + name_nbytes + extra_nbytes]
        nbytes, stored, where = _large((nbytes, stored, where), extra, path, first + at)
        if disk not in (0, NOT_HERE_16):
            raise FormatError(path, NPZ, f"member {k} lies in another volume", at=first + at)
        name = _name(raw, flags, path, first + begin)
        yield Member(name, raw, flags, method, crc, stored, nbytes, where)
        at = begin + name_nbytes + extra_nbytes + comment_nbytes
    if at != len(data):
        reason = f"{len(data) - at} bytes after the last of {count} members"
        raise FormatError(path, NPZ, reason, at=first + at)


def _name(raw: bytes, flags: int, path: str, at: int) -> str:
    try:
        return raw.decode("utf-8" if flags & UTF_8 else "cp437")
    except UnicodeDecodeError as e:
        raise FormatError(path, NPZ, f"name {raw[:40]!r} is not UTF-8", at=at) from e


def _large(
    numbers: tuple[int, int, int], extra: bytes, path: str, where: int
) -> tuple[int, int, int]:
    """Return size, size in the archive and offset: those that exceed 32 bits stand in ``extra``."""
    if NOT_HERE_32 not in numbers:
        return numbers
    at = 0
    while at + 4 <= len(extra):
        kind, nbytes = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + nbytes]
        at += 4 + nbytes
        if kind != EXTRA_64:
            continue
        missing = [k for k, number in enumerate(numbers) if number == NOT_HERE_32]
        if len(field) != nbytes or nbytes < 8 * len(missing):
            break
        large = iter(struct.unpack_from(f"<{len(missing)}Q", field))
        size, stored, offset = (next(large) if n == NOT_HERE_32 else n for n in numbers)
        return size, stored, offset
    raise FormatError(path, NPZ, "a zip64 field with the sizes of a member expected", at=where)


def _check_places(found: list[Member], end: int, path: str) -> None:
    """Refuse members that share a name or bytes, or exceed the part before the directory."""
    names: set[str] = set()
    for member in found:
        if member.name in names:
            raise FormatError(path, NPZ, f"two members are named {member.name!r}", at=member.at)
        names.add(member.name)
    ordered = sorted(found, key=lambda member: member.at)
    for k, member in enumerate(ordered):
        stop = ordered[k + 1].at if k + 1 < len(ordered) else end
        needed = LOCAL_FIELDS.size + len(member.raw_name) + member.stored_nbytes
        if member.at + needed > stop:
            what = "the next member begins" if k + 1 < len(ordered) else "the directory begins"
            reason = f"member {member.name!r} takes {needed} bytes at least, {what} at byte {stop}"
            raise FormatError(path, NPZ, reason, at=member.at)


def data_at(read: Read, member: Member, end: int, path: str) -> int:
    """Return the byte of the first data of a member, by its local header.

    Parameters
    ----------
    read : callable
        See ``Read``.
    member : Member
        One of ``members``.
    end : int
        Byte where the next member, or the directory, begins.
    path : str
        For messages.

    Raises
    ------
    FormatError
        The local header contradicts the directory.
    """
    fields = LOCAL_FIELDS.unpack(read(member.at, LOCAL_FIELDS.size))
    sign, _, flags, method, *_, name_nbytes, extra_nbytes = fields
    begin = member.at + LOCAL_FIELDS.size
    if sign != LOCAL or name_nbytes != len(member.raw_name):
        raise FormatError(path, NPZ, f"a header of {member.name!r} expected", at=member.at)
    if read(begin, name_nbytes) != member.raw_name or method != member.method:
        reason = f"the header of {member.name!r} contradicts the directory"
        raise FormatError(path, NPZ, reason, at=member.at)
    if (flags ^ member.flags) & ENCRYPTED:
        reason = f"the header of {member.name!r} contradicts the directory"
        raise FormatError(path, NPZ, reason, at=member.at)
    at: int = begin + name_nbytes + extra_nbytes
    if at + member.stored_nbytes > end:
        reason = (
            f"{member.name!r} has {member.stored_nbytes} bytes from byte {at} on, what follows "
            f"begins at byte {end}"
        )
        raise FormatError(path, NPZ, reason, at=member.at)
    return at
