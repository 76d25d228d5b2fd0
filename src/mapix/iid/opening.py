"""From a path to an archive."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mapix.errors import MapixError
from mapix.iid.archive import Archive
from mapix.iid.layout import HEAD, read_layout
from mapix.iid.shard_names import files_of_set
from mapix.iid.single_archive import SingleArchive
from mapix.registry import Candidate
from mapix.source import Fingerprint, Source

__all__ = ["open_path", "refusal"]


def refusal(candidate: Candidate) -> str | None:
    """Return why a path cannot be IID, or None: see ``mapix.registry.Format``."""
    if candidate.path.endswith(".iid"):
        return None
    try:
        layout = read_layout(candidate.source)
    except MapixError as e:
        return f"not the header of an archive ({str(e)[-80:]})"
    # There is no magic number: the sections must follow one another.
    at = HEAD.size
    for begin, nbytes in (layout.lut, layout.iids, layout.meta, layout.groups, layout.segs):
        if begin != at:
            return "sections that do not follow one another from byte 48 on"
        at += nbytes
    return None if layout.meta[1] >= 2 and layout.groups[1] >= 6 else "no metadata, or no groups"


def open_path(
    path: str | os.PathLike[str] | Candidate,
    *,
    others: Sequence[tuple[str, Fingerprint | None]] | None = None,
) -> Archive:
    """Open an archive; only its header is read.

    Parameters
    ----------
    path : str or os.PathLike
        The file, by any name.
    others : sequence of (str, Fingerprint or None), optional
        Files whose segments follow, and the fingerprint that each must have.  By default, of one
        file ``NAME-00000-of-00003.iid``, all files of that set, unless ``mapix.open`` was given
        several of them; ``others=()`` opens the file alone.

    Returns
    -------
    SingleArchive
        Or, of several files, a ShardedArchive.

    Raises
    ------
    FormatError
        The header is not that of an archive, a section is not in the file, or files of a set are
        missing.
    """
    candidate = Candidate.of(path)
    shards = () if others is not None else files_of_set(candidate.path, candidate.among)
    if len(shards) > 1:
        found = [SingleArchive(Source(p)) for p in shards]
    else:
        first = SingleArchive(candidate.source)
        if not others:
            return first
        found = [first, *(SingleArchive(Source(p, expect)) for p, expect in others)]
    from mapix.iid.sharded_archive import ShardedArchive

    return ShardedArchive(found)
