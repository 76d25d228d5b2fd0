"""Find the members of a tar archive, and group them into records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mapix import _native
from mapix.errors import FormatError, LimitError, TruncatedError, UnsupportedError, warn
from mapix.tar.layout import (
    BLOCK_NBYTES,
    GLOBAL,
    KINDS,
    LONG_LINK,
    LONG_NAME,
    NAME,
    NO_DATA,
    PAX,
    REGULAR,
    SPARSE,
    Header,
    padded,
    parse,
    pax_records,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Mapping

__all__ = ["Index", "Scan", "scan", "split_name"]

WINDOW_NBYTES = 2048  # read at once: the header of a small member, the member, and the next header
MAX_EXTENDED_NBYTES = 1 << 20  # of a pax header, or a long name
TAIL_NBYTES = 10_240  # of zeros after the last member, which tar writes
ZEROS = bytes(BLOCK_NBYTES)
LINKS = (b"1", b"2")
OTHERS = "members of other types"
NAMELESS = "files without a key or an extension"


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Where the members of all records lie.

    Attributes
    ----------
    keys : list of str
        Key of each record.
    firsts : ndarray
        int64 (records + 1,): record i has the members ``firsts[i]`` to ``firsts[i + 1] - 1``.
    extensions : list of str
        Extension of each member, in lower case.
    begins, sizes : ndarray
        int64 (members,): byte where the content of each member begins, and its size in bytes.
    end : int
        Byte after the last member.
    skipped : dict of str to int
        What was left out -> how many.
    """

    keys: list[str]
    firsts: NDArray[np.int64]
    extensions: list[str]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    end: int
    skipped: dict[str, int]


def split_name(name: str) -> tuple[str, str] | None:
    """Return key and extension of a member: the parts before and after the first dot of its name.

    The directory belongs to the key.  None where there is no dot, or nothing before it, and of
    WebDataset's own files (``__name__``).
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or (not slash and name.startswith("__") and name.endswith("__")):
        return None
    return f"{folder}{slash}{stem}", extension.lower()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


class Scan:
    """One scan over the headers of an archive."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.path = mapping.path
        self.nbytes = mapping.nbytes
        self.keys: list[str] = []
        self.firsts: list[int] = []
        self.extensions: list[str] = []
        self.begins: list[int] = []
        self.sizes: list[int] = []
        self.of_record: set[str] = set()  # extensions of the last record
        self.skipped: dict[str, int] = {}
        self.first_link = ""
        self.end = 0

    def run(self, at: int = 0) -> None:
        """Find all members from byte ``at`` on; ``end`` is where the last one that was read begins.

        After a TruncatedError the complete records before it are there.
        """
        window, window_at = b"", 0
        nbytes = self.nbytes
        extended: dict[bytes, bytes] = {}
        while True:
            if not extended:
                self.end = at
            if at + BLOCK_NBYTES > nbytes:
                raise self._cut(at, extended)
            begin = at - window_at
            if begin + BLOCK_NBYTES > len(window):
                size = min(WINDOW_NBYTES, nbytes - at)
                window, window_at, begin = bytes(self._copy(at, size)), at, 0
            block = window[begin : begin + BLOCK_NBYTES]
            if block == ZEROS:
                if extended:
                    reason = "a member expected after an extended header, got the end"
                    raise FormatError(self.path, NAME, reason, at=at)
                return
            header = parse(block, self.path, at)
            at = self._member(header, at + BLOCK_NBYTES, extended)

    def _copy(self, at: int, nbytes: int) -> bytearray:
        return _native.copy(self.mapping, at, nbytes, NAME)

    def _member(self, header: Header, begin: int, extended: dict[bytes, bytes]) -> int:
        """Take a member in; return the byte of the next header."""
        name, size, kind = header
        if kind in REGULAR:
            if extended:
                name, size = self._extended(header, begin, extended)
            self._check(name, begin, size)
            self._add(_text(name), begin, size)
            return begin + padded(size)
        if kind in PAX or kind in (LONG_NAME, LONG_LINK, GLOBAL):
            self._extend(header, begin, extended)
            return begin + padded(size)
        if extended:
            name, size = self._extended(header, begin, extended)
        if kind == SPARSE:
            raise self._sparse(name, begin)
        what = KINDS.get(kind, OTHERS)
        self.skipped[what] = self.skipped.get(what, 0) + 1
        if kind in LINKS and not self.first_link:
            self.first_link = f"{_text(name)!r} at byte {begin - BLOCK_NBYTES}"
        if kind in NO_DATA:
            return begin
        self._check(name, begin, size)
        return begin + padded(size)

    def _check(self, name: bytes, begin: int, size: int) -> None:
        left = self.nbytes - begin
        if size > left:
            shown = _text(name)
            split = split_name(shown)
            same = split is None or self.keys[-1:] == [split[0]]
            reason = f"{shown[:200]!r} has {size} bytes, {left} are left in the file"
            raise self._truncated(reason, begin, complete=not same)

    def _cut(self, at: int, extended: dict[bytes, bytes]) -> TruncatedError:
        left = max(self.nbytes - at, 0)  # the padding may be cut, too
        if at != self.nbytes or extended:
            reason = f"a header of {BLOCK_NBYTES} bytes expected, {left} are left in the file"
            return self._truncated(reason, at, complete=False)
        reason = "two blocks of zeros expected at the end, the file has none"
        return self._truncated(reason, at, complete=True)

    def _truncated(self, reason: str, at: int, *, complete: bool) -> TruncatedError:
        """Return the error of an archive that was cut; leave the complete records."""
        if not complete and self.keys:  # the last record might have had more members
            self.keys.pop()
            first = self.firsts.pop()
            for members in (self.extensions, self.begins, self.sizes):
                del members[first:]
        before = f"{len(self.keys)} complete records come before"
        return TruncatedError(self.path, NAME, f"{reason}; {before}", at=at)

    def _extend(self, header: Header, begin: int, extended: dict[bytes, bytes]) -> None:
        """Read a header that describes the next one.  The first that states something counts."""
        _, size, kind = header
        if size > MAX_EXTENDED_NBYTES:
            raise LimitError(
                f"{self.path}: tar: an extended header of {size} bytes at byte {begin}, "
                f"more than MAX_EXTENDED_NBYTES = {MAX_EXTENDED_NBYTES}"
            )
        if size > self.nbytes - begin:  # what it describes may belong to the last record
            reason = (
                f"an extended header of {size} bytes, {self.nbytes - begin} are left in the file"
            )
            raise self._truncated(reason, begin, complete=False)
        data = bytes(self._copy(begin, size))
        if kind == LONG_LINK:
            return
        if kind == LONG_NAME:
            extended.setdefault(b"path", data.partition(b"\0")[0])
            return
        found = pax_records(data, self.path, begin)
        if kind == GLOBAL:
            wrong = [key for key in (b"path", b"size") if key in found]
            if wrong:
                reason = f"a global pax header states the {wrong[0].decode()} of all members"
                raise FormatError(self.path, NAME, reason, at=begin)
            return
        for key, value in found.items():
            extended.setdefault(key, value)

    def _extended(
        self, header: Header, begin: int, extended: dict[bytes, bytes]
    ) -> tuple[bytes, int]:
        """Return name and size of a member with extended headers, which are used up."""
        name = extended.get(b"path", header.name)
        digits = extended.get(b"size")
        sparse = any(key.startswith(b"GNU.sparse.") for key in extended)
        extended.clear()
        if sparse:
            raise self._sparse(name, begin)
        if digits is None:
            return name, header.nbytes
        if not digits.isdigit() or len(digits) > 19:
            reason = f"a pax size in decimal digits expected, got {digits[:40]!r}"
            raise FormatError(self.path, NAME, reason, at=begin - BLOCK_NBYTES)
        return name, int(digits)

    def _sparse(self, name: bytes, begin: int) -> UnsupportedError:
        return UnsupportedError(
            f"{self.path}: tar: {_text(name)!r} at byte {begin - BLOCK_NBYTES} is a sparse file, "
            "whose holes the archive leaves out; make the archive without --sparse"
        )

    def _add(self, name: str, begin: int, size: int) -> None:
        split = split_name(name)
        if split is None:
            self.skipped[NAMELESS] = self.skipped.get(NAMELESS, 0) + 1
            return
        key, extension = split
        if not self.keys or self.keys[-1] != key:
            self.keys.append(key)
            self.firsts.append(len(self.begins))
            self.of_record = set()
        elif extension in self.of_record:
            raise FormatError(
                self.path,
                NAME,
                f"the member {name!r} is there twice",
                record=len(self.keys) - 1,
                at=begin - BLOCK_NBYTES,
            )
        self.of_record.add(extension)
        self.extensions.append(extension)
        self.begins.append(begin)
        self.sizes.append(size)

    def index(self) -> Index:
        """Return what was found."""
        known: dict[str, str] = {}
        return Index(
            self.keys,
            np.array([*self.firsts, len(self.begins)], np.int64),
            [known.setdefault(x, x) for x in self.extensions],
            np.array(self.begins, np.int64),
            np.array(self.sizes, np.int64),
            self.end,
            self.skipped,
        )


def scan(mapping: Mapping, *, strict: bool = True) -> Index:
    """Find the members of an archive by its headers, and group them into records.

    Parameters
    ----------
    mapping : Mapping
        The file.
    strict : bool
        Whether an archive that was cut is refused.  False takes the complete records before the
        cut, with a warning.

    Raises
    ------
    TruncatedError
        The file ends inside a member, or without the blocks of zeros that end an archive; the
        message states how many complete records come before.
    FormatError
        A header has a wrong checksum or a number that is not one; a record has a member twice.
    UnsupportedError
        There is a sparse file.

    Notes
    -----
    Cost: 5 to 8 us per member; one page per header is read from disk.
    """
    found = Scan(mapping)
    try:
        found.run()
    except TruncatedError as e:
        if strict:
            raise
        warn(f"{e}; the rest is not read")
    else:
        _warn_of_rest(mapping, found.end)
    if found.first_link:
        links = sum(n for what, n in found.skipped.items() if what.endswith("links"))
        warn(f"{mapping.path}: {links} links are skipped, the first is {found.first_link}")
    return found.index()


def _warn_of_rest(mapping: Mapping, end: int) -> None:
    """Warn of bytes after the end, as ``cat a.tar b.tar`` leaves them."""
    size = min(TAIL_NBYTES, mapping.nbytes - end)
    tail = _native.copy(mapping, end, size, NAME) if size > 0 else b""
    if any(tail):
        warn(
            f"{mapping.path}: bytes after the end of the archive are not read; join archives by "
            "tar --concatenate, or open them as mapix.open([...])"
        )
