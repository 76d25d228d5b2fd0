"""The data of a gzip file: its members, one after the other, as gzip(1) reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mapix import _native
from mapix.errors import FormatError, LimitError, TruncatedError, check_memory, warn

if TYPE_CHECKING:
    from mapix.source import Source

__all__ = ["MAGIC", "inflated"]

MAGIC = b"\x1f\x8b"
FIRST_READ_NBYTES = 4096  # of a new member; the next read of the member is twice as large
READ_STEP_NBYTES = 1 << 20
REST_STEP_NBYTES = 1 << 16
MOST_EMPTY = 1000  # members without data: each file of bgzip ends with one; more only cost time


def inflated(source: Source, format: str) -> Iterator[bytes]:
    """Yield the decompressed data of a gzip file, in pieces of at most 1 MiB.

    Zeros after the last member are padding.  Other bytes there are left out with a warning, as
    gzip(1) does.

    Parameters
    ----------
    source : Source
        The file.
    format : str
        Format of the data, for messages.

    Raises
    ------
    FormatError
        A member is damaged, or the file has no member.
    TruncatedError
        A member ends too early.
    LimitError
        More than 1,000 members are empty.
    """
    import zlib  # here: other IDX files do not need it

    at = nempty = 0
    while at < source.nbytes:
        begin = bytes(_native.copy(source.mapping, at, min(2, source.nbytes - at), format))
        if at and begin != MAGIC:
            _rest(source, at, format)
            return
        engine, first, step, done = (
            zlib.decompressobj(zlib.MAX_WBITS | 16),
            at,
            FIRST_READ_NBYTES,
            0,
        )
        try:
            while not engine.eof and at < source.nbytes:
                size = min(step, source.nbytes - at)
                raw = bytes(_native.copy(source.mapping, at, size, format))
                at, step = at + size, min(2 * step, READ_STEP_NBYTES)
                while raw and not engine.eof:
                    piece = engine.decompress(raw, READ_STEP_NBYTES)
                    raw, done = engine.unconsumed_tail, done + len(piece)
                    yield piece
        except zlib.error as e:
            check_memory(e)
            reason = f"a damaged gzip member, or not gzip at all: {e}"
            raise FormatError(source.path, format, reason, at=first) from e
        if not engine.eof:
            reason = "the gzip member that begins there ends too early: the file was cut"
            raise TruncatedError(source.path, format, reason, at=first)
        at -= len(engine.unused_data)
        nempty += not done
        if nempty > MOST_EMPTY:
            raise LimitError(
                f"{source.path}: {format}: more than {MOST_EMPTY} gzip members without data; "
                "unpack it yourself (gzip -dk FILE) if you trust it"
            )


def _rest(source: Source, at: int, format: str) -> None:
    for begin in range(at, source.nbytes, REST_STEP_NBYTES):
        size = min(REST_STEP_NBYTES, source.nbytes - begin)
        if any(_native.copy(source.mapping, begin, size, format)):
            warn(
                f"{source.path}: the last {source.nbytes - at} bytes, from byte {at} on, are not a "
                "gzip member; they are left out"
            )
            return
