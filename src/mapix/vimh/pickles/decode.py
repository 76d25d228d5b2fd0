"""The bytes of arrays that protocols 0 to 2 write as text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from mapix import _native
from mapix.errors import FormatError
from mapix.source import Source
from mapix.vimh.pickles.objects import RefusedError, Text
from mapix.vimh.pickles.reader import FORMAT, unescaped

__all__ = ["pieces"]

PIECE_NBYTES = 1 << 20
LONGEST_ESCAPE = 3  # bytes of an escape that the next piece completes
_COMPLETE = re.compile(rb"(?:[^\\]|\\x[0-9a-fA-F]{2}|\\[^x])*", re.DOTALL)


def pieces(source: Source, text: Text) -> Iterator[bytes]:
    """Yield the bytes that a text stands for, a piece at a time."""
    decode = None
    if text.kind != "string-escape":
        decode = codecs.getincrementaldecoder(text.kind)("strict").decode
    at, end, left = text.at, text.at + text.nbytes, b""
    try:
        while at < end:
            size = min(PIECE_NBYTES, end - at)
            raw = bytes(_native.copy(source.mapping, at, size, FORMAT))
            at += size
            if decode is not None:
                yield decode(raw, at == end).encode("latin-1")
                continue
            raw = left + raw
            found = _COMPLETE.match(raw)
            cut = len(raw) if at == end or found is None else found.end()
            left = raw[cut:]
            if len(left) > LONGEST_ESCAPE:
                raise RefusedError("a string with a broken escape")
            yield unescaped(raw[:cut])
    except (UnicodeError, RefusedError) as e:
        raise FormatError(source.path, FORMAT, f"the text of an array: {e}", at=text.at) from e
