"""From a path to an archive."""

from __future__ import annotations

import os
from typing import Any

from mapix.errors import MapixError
from mapix.iid.archive import Archive
from mapix.iid.layout import HEAD, NAME, read_layout
from mapix.registry import Candidate
from mapix.source import Fingerprint, Source

__all__ = ["NAME", "open_path", "refusal", "reopen"]


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be IID, or None: see ``mapix.registry.Format``."""
    if candidate.is_directory:
        return "a directory"
    if candidate.path.endswith(".iid"):
        return None
    try:
        layout = read_layout(candidate.source)
    except MapixError as e:
        return f"no header of an archive ({str(e)[-80:]})"
    # No magic number: only a header whose sections follow one another is believed.
    places = [layout.lut, layout.iids, layout.meta, layout.groups, layout.segs]
    at = HEAD.size
    for begin, nbytes in places:
        if begin != at:
            return "sections that do not follow one another from byte 48 on"
        at += nbytes
    return None if layout.meta[1] >= 2 and layout.groups[1] >= 6 else "no metadata, or no groups"


def open_path(path: str | os.PathLike[str] | Candidate, **options: Any) -> Archive:
    """Open an archive; nothing but its header is read.

    Parameters
    ----------
    path : str or os.PathLike
        The file, by any name; one of ``NAME-00000-of-00003.iid`` stands for all of them.

    Returns
    -------
    Archive

    Raises
    ------
    FormatError
        The header is none, or its sections do not lie in the file.
    """
    if options:
        raise TypeError(f"an archive has no option {', '.join(sorted(options))}")
    from mapix.iid.shards import ShardedArchive, beside

    candidate = Candidate.of(path)
    shards = beside(candidate.path)
    if len(shards) > 1:
        return ShardedArchive([Archive(Source(p)) for p in shards])
    return Archive(candidate.source)


def reopen(path: str, expect: Fingerprint) -> Archive:
    """What a pickled archive becomes: the same file opened again, or FileChangedError."""
    return Archive(Source(path, expect))
