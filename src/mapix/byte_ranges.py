"""Name the bytes of a record: where each field lies in its file, and what it means."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from mapix.source import Source
from mapix.text import counted, printable

__all__ = ["KINDS", "ByteRange", "Kind", "Walk", "hex_dump", "shortened"]

Kind = Literal["header", "label", "name", "pixels", "checksum", "data"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of ranges: fields that describe others, labels, names, pixels (also encoded ones and
masks), checksums, and everything else."""

MOST_TEXT = 80  # characters of a decoded value
MOST_DUMPED = 256  # bytes of a range in a dump


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of a file that mean one thing.  Made by ``ds.byte_ranges(i)``.

    Attributes
    ----------
    name : str
        Name of the field, as the documentation of the format has it.
    kind : {"header", "label", "name", "pixels", "checksum", "data"}
        What the bytes are for.
    at : int
        Byte of the file at which they begin.
    nbytes : int
        How many there are.
    text : str
        The decoded value, or what is known about the bytes.
    source : Source
        The open file.
    strides : tuple of int
        Of pixels that lie in the file as they are: bytes from row to row, from column to column,
        and, where there are channels, from channel to channel.  Empty of all others.
    """

    name: str
    kind: Kind
    at: int
    nbytes: int
    text: str
    source: Source = field(repr=False, compare=False)
    strides: tuple[int, ...] = ()

    @property
    def path(self) -> str:
        """Path of the file."""
        return self.source.path

    def read(self, most: int | None = None) -> bytes:
        """Return a copy of the bytes, or of the first ``most``, made under the guard.

        Raises
        ------
        FileChangedError
            The file was cut or changed.
        """
        return self.source.read(self.at, self.nbytes if most is None else min(most, self.nbytes))


class Walk:
    """Collect ranges of a file in their order, field by field.

    Parameters
    ----------
    source : Source
        The open file.
    at : int
        Byte of the first field.

    Attributes
    ----------
    at : int
        Byte of the next field.
    found : list of ByteRange
        The ranges so far.
    """

    def __init__(self, source: Source, at: int) -> None:
        self.source, self.at = source, at
        self.found: list[ByteRange] = []

    def take(
        self, name: str, kind: Kind, nbytes: int, text: str = "", strides: tuple[int, ...] = ()
    ) -> None:
        """Add the next ``nbytes`` bytes; none where there are none."""
        if nbytes:
            made = ByteRange(name, kind, self.at, nbytes, shortened(text), self.source, strides)
            self.found.append(made)
        self.at += nbytes

    def numbers(self, code: str, *names: str, kind: Kind = "header") -> list[int | float]:
        """Add numbers of one type, a letter of ``struct`` with its byte order; return them."""
        item = struct.Struct(code)
        raw = self.source.read(self.at, item.size * len(names))
        found = [item.unpack_from(raw, k * item.size)[0] for k in range(len(names))]
        for name, value in zip(names, found, strict=True):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            self.take(name, kind, item.size, shown)
        return found

    def string(self, name: str, nbytes: int, kind: Kind = "name") -> None:
        """Add bytes that are text."""
        raw = self.source.read(self.at, min(nbytes, 4 * MOST_TEXT)) if nbytes else b""
        self.take(name, kind, nbytes, repr(raw.decode("utf-8", "backslashreplace")))


def shortened(text: str) -> str:
    """Return a text of at most 80 characters."""
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def hex_dump(ranges: Iterable[ByteRange], *, width: int = 16, most: int = MOST_DUMPED) -> str:
    """Return ranges as text: byte of the file, bytes in hex, characters, and name = value.

    Parameters
    ----------
    ranges : iterable of ByteRange
        As ``ds.byte_ranges(i)`` returns them.
    width : int
        Bytes per line.
    most : int
        Bytes of a range that are shown; a line states how many follow.

    >>> print(hex_dump(ds.byte_ranges(0)))                       # doctest: +SKIP
    00000000  1c 00                                            ..                height = 28
    """
    return "\n".join(_lines(ranges, width, most))


def _lines(ranges: Iterable[ByteRange], width: int, most: int) -> Iterator[str]:
    path = None
    for found in ranges:
        if found.path != path:
            path = found.path
            yield f"{printable(path)}:"
        raw = found.read(most)
        meaning = printable(f"{found.name} = {found.text}" if found.text else found.name)
        for at in range(0, len(raw), width):
            part = raw[at : at + width]
            shown = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
            line = f"{found.at + at:08x}  {part.hex(' '):<{3 * width}} {shown:<{width}}"
            yield f"{line}  {meaning}" if at == 0 else line.rstrip()
        if len(raw) < found.nbytes:
            yield f"{found.at + len(raw):08x}  ... {counted(found.nbytes - len(raw), 'more byte')}"
