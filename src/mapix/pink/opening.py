"""Opening PINK's files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mapix import _native
from mapix.errors import FormatError, LimitError, MapixError
from mapix.pink.data import Data
from mapix.pink.layout import (
    HEAD_NBYTES,
    KINDS,
    MOST_COMMENT,
    NAME,
    Header,
    Kind,
    comment_of,
    of_version_1,
    of_version_2,
)
from mapix.pink.mapping import Mapping
from mapix.pink.rotation import Rotation
from mapix.pink.som import Som
from mapix.registry import Candidate

if TYPE_CHECKING:
    from mapix.pink.file import PinkFile
    from mapix.source import Source

__all__ = ["open_path", "refusal"]

FIRST_READ_NBYTES = 4096
VIMH_NAMES = ("train", "test", "train_batch", "test_batch")


def _enough(data: bytes) -> bool:
    """Whether the first bytes of a file hold all of its comment and header."""
    known = comment_of(data)
    return known is not None and len(data) - known[0] >= HEAD_NBYTES


def _front(source: Source) -> bytes:
    """Return the lines of comment and the header after them.

    Raises
    ------
    LimitError
        There is more than 1 MiB of comment.
    FormatError
        A line of comment does not end.
    """
    for want in (FIRST_READ_NBYTES, MOST_COMMENT + HEAD_NBYTES):
        nbytes = min(want, source.nbytes)
        data = bytes(_native.copy(source.mapping, 0, nbytes, NAME))
        if _enough(data):
            return data
    known = comment_of(data)
    if known is None and nbytes == source.nbytes:
        raise FormatError(source.path, NAME, "a line of comment that does not end", at=0)
    if known is None or known[0] > MOST_COMMENT:
        raise LimitError(
            f"{source.path}: {NAME}: more than MOST_COMMENT = {MOST_COMMENT} bytes of comment"
        )
    return data


def _states_version_2(data: bytes) -> bool:
    """Whether a version of 2 and a kind are stated; a record of VIMH does not begin so."""
    at = (comment_of(data) or (0, False))[0]
    return data[at : at + 4] == b"\2\0\0\0" and data[at + 4 : at + 8] in [
        bytes([k, 0, 0, 0]) for k in range(len(KINDS))
    ]


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be PINK's, or None.  See ``mapix.registry.Format``."""
    if candidate.is_directory:
        return "a directory"
    path, nbytes = candidate.path, candidate.source.nbytes
    try:
        data = _front(candidate.source)
    except MapixError as e:
        return f"no header ({str(e)[-60:]})"
    if _states_version_2(data):
        return None
    if not any(True for _ in of_version_1(data, nbytes)):
        return "it does not begin with version 2, and its length does not fit version 1"
    # A record of VIMH has a width in bytes 2 and 3: only files of many images are ambiguous.
    if data[2:4] != b"\0\0" and data[:1] != b"#" and os.path.basename(path) in VIMH_NAMES:
        return "its name is VIMH's"
    return None


def _all(
    path: str, data: bytes, nbytes: int, kind: Kind | None, version: int | None
) -> tuple[list[Header], FormatError | None]:
    """Return the readings of a file, and why it is not version 2 where it is not."""
    problem = None
    if version in (None, 2):
        try:
            found = of_version_2(data, nbytes, path)
            if kind in (None, found.kind):
                return [found], None
            problem = FormatError(path, NAME, f"a file of {kind} expected, it is {found.text}")
        except FormatError as e:
            problem = e
    if version == 2:
        return [], problem
    return [h for h in of_version_1(data, nbytes) if kind in (None, h.kind)], problem


def _chosen(path: str, data: bytes, nbytes: int, kind: Kind | None, version: int | None) -> Header:
    found, problem = _all(path, data, nbytes, kind, version)
    usual = [h for h in found if h.usual] if kind is None else found
    if len(usual) == 1:
        return usual[0]
    if found:
        listed = "; ".join(h.text for h in found)
        which = "several readings fit" if usual else "what fits is unusual"
        reason = f"{which} its {nbytes} bytes: {listed}; pass kind= to choose one"
        raise FormatError(path, NAME, reason)
    if problem is not None and (version == 2 or kind is not None or _states_version_2(data)):
        raise problem
    kinds = "data, som, map or rot" if kind is None else kind
    reason = f"no {kinds} of version 1 has {nbytes} bytes and these dimensions"
    raise FormatError(path, NAME, f"{reason}; as version 2: {problem}" if problem else reason)


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    kind: Kind | None = None,
    version: int | None = None,
    raw: bool = False,
) -> PinkFile:
    """Open one of PINK's files; nothing but its header is read.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    kind : {"data", "som", "map", "rot"}, optional
        Kind of the file, where its length does not decide, as in some files of version 1.
    version : {1, 2}, optional
        Version of the format.  By default 2 where the file states it and has the length that its
        header states, else 1.
    raw : bool
        Whether a mapping of version 1 gives squared distances, as the file has them.

    Returns
    -------
    Data, Som, Mapping or Rotation

    Raises
    ------
    FormatError
        The file is not one of PINK's, or several readings fit; the message lists them.
    """
    if kind not in (None, *KINDS):
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if version not in (None, 1, 2):
        raise ValueError(f"version must be 1 or 2, got {version!r}")
    source = Candidate.of(path).source
    header = _chosen(source.path, _front(source), source.nbytes, kind, version)
    if raw and header.kind != "map":
        raise ValueError(f"raw= is for mappings; {source.path} is {header.text}")
    source.mapping.advise("random")
    if header.kind == "map":
        return Mapping(source, header, raw=raw)
    kinds: dict[str, type[PinkFile]] = {"data": Data, "som": Som, "rot": Rotation}
    return kinds[header.kind](source, header)
