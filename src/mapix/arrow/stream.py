"""The messages of Arrow's streams, which files hold too: where each lies, and its rows.

A message is ``0xFFFFFFFF``, the length of its metadata, the metadata (a flatbuffer), and its body.
The metadata state the kind, the length of the body, and the rows of a record batch; so the batches
of a stream are found without reading them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mapix.errors import FormatError, TruncatedError, UnsupportedError
from mapix.optional import library

if TYPE_CHECKING:
    from mapix.source import Source

__all__ = [
    "CONTINUED",
    "FILE_BEGIN",
    "Message",
    "Stream",
    "is_stream",
    "messages",
    "rows_of_batches",
]

NAME = "arrow"
FILE_BEGIN = 8  # bytes of a file before its messages
CONTINUED = b"\xff\xff\xff\xff"
PREFIX_NBYTES = 8
MOST_METADATA_NBYTES = 1 << 28
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
# numbers of fields of the metadata
KIND, HEADER, BODY_NBYTES = 1, 2, 3
ROWS = 0


class Message(NamedTuple):
    """One message.

    Attributes
    ----------
    begin, nbytes : int
        Where it lies in the file.
    kind : int
        1 for the schema, 2 for a dictionary, 3 for a record batch.
    rows : int
        Of a record batch.
    """

    begin: int
    nbytes: int
    kind: int
    rows: int


def is_stream(front: bytes) -> bool:
    """Return whether a file begins with the message of a schema."""
    if not front.startswith(CONTINUED) or len(front) < PREFIX_NBYTES:
        return False
    try:
        return _Metadata(front[PREFIX_NBYTES:]).number("B", KIND) == SCHEMA
    except ValueError:
        return False


class _Metadata:
    """The metadata of a message: numbers of the table at the root of a flatbuffer.

    Raises
    ------
    ValueError
        An offset leads out of the data.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._root = self._at("I", 0)

    def _at(self, code: str, at: int) -> int:
        if not 0 <= at <= len(self._data) - struct.calcsize(code):
            raise ValueError(f"the metadata lead to byte {at} of {len(self._data)}")
        found: int = struct.unpack_from(f"<{code}", self._data, at)[0]
        return found

    def _place(self, table: int, field: int) -> int | None:
        entries = table - self._at("i", table)
        entry = 4 + 2 * field
        if entry + 2 > self._at("H", entries):
            return None
        offset = self._at("H", entries + entry)
        return table + offset if offset else None

    def number(self, code: str, field: int, *, below: int | None = None) -> int:
        """Return a number of the root, or of the table that a field of the root leads to."""
        table = self._root
        if below is not None:
            place = self._place(table, below)
            if place is None:
                return 0
            table = place + self._at("I", place)
        place = self._place(table, field)
        return 0 if place is None else self._at(code, place)


def messages(source: Source, begin: int = 0) -> Iterator[Message]:
    """Yield the messages from a byte of a file on, up to the end of the stream.

    Raises
    ------
    TruncatedError
        The file ends in a message.
    FormatError
        There is something else than a message.
    """
    at = begin
    while at < source.nbytes:
        left = source.nbytes - at
        prefix = source.read(at, min(PREFIX_NBYTES, left))
        length = int.from_bytes(prefix[4:], "little")
        if prefix == CONTINUED + bytes(4) or (left < PREFIX_NBYTES and not any(prefix)):
            return
        if prefix[:4] != CONTINUED[: len(prefix)] or length > MOST_METADATA_NBYTES:
            reason = f"a message expected, got {prefix.hex(' ')}"
            raise FormatError(source.path, NAME, reason, at=at)
        nbytes = PREFIX_NBYTES + length
        if nbytes <= left:
            try:
                about = _Metadata(source.read(at + PREFIX_NBYTES, length))
                body = about.number("q", BODY_NBYTES)
                kind = about.number("B", KIND)
                rows = about.number("q", ROWS, below=HEADER) if kind == BATCH else 0
            except ValueError as e:
                raise FormatError(source.path, NAME, str(e), at=at) from e
            if body < 0 or rows < 0:
                reason = f"a message of {body} bytes and {rows} rows"
                raise FormatError(source.path, NAME, reason, at=at)
            nbytes += body
        if nbytes > left:
            reason = f"a message of {nbytes} bytes expected, {left} are left in the file"
            raise TruncatedError(source.path, NAME, reason, at=at)
        yield Message(at, nbytes, kind, rows)
        at += nbytes


def rows_of_batches(source: Source, begin: int) -> list[int]:
    """Return the rows of each record batch; of what are not messages those before."""
    found: list[int] = []
    with suppress(FormatError):
        found.extend(message.rows for message in messages(source, begin) if message.kind == BATCH)
    return found


class Stream:
    """The batches of a stream, with the methods of ``pyarrow.ipc.RecordBatchFileReader``.

    Raises
    ------
    FormatError
        It is damaged, or does not begin with a schema.
    UnsupportedError
        It has dictionaries, of which later ones may replace earlier ones.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ipc = library("pyarrow.ipc", "arrow")
        found = list(messages(source))
        if any(message.kind == DICTIONARY for message in found):
            raise UnsupportedError(
                f"{source.path}: arrow: a stream with dictionaries is not read; write it as a file "
                "by pyarrow.ipc.new_file"
            )
        if not found or found[0].kind != SCHEMA:
            raise FormatError(source.path, NAME, "a schema expected first", at=0)
        self.schema = self._ipc.read_schema(self._buffer(found[0]))
        self.batches = [message for message in found if message.kind == BATCH]

    def _buffer(self, message: Message) -> Any:
        return library("pyarrow", "arrow").py_buffer(
            self._source.read(message.begin, message.nbytes)
        )

    @property
    def num_record_batches(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def get_batch(self, k: int) -> Any:
        """Return a batch as a ``pyarrow.RecordBatch``; its bytes are a copy."""
        return self._ipc.read_record_batch(self._buffer(self.batches[k]), self.schema)
