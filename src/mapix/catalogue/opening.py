"""From a path to the dataset of a catalogue's shards."""

from __future__ import annotations

import os
from typing import Any

from mapix.catalogue.file import CatalogueFile
from mapix.catalogue.shards import Shards
from mapix.errors import UnsupportedError
from mapix.registry import Candidate, resolved

__all__ = ["open_path"]

MOST_OPEN = 16_384  # each takes a map, of which a process may have 65,530, and some kilobytes


def open_path(path: str | os.PathLike[str] | Candidate, *, most_open: int = MOST_OPEN) -> Any:
    """Open a catalogue: its shards are one dataset, of their format.

    Parameters
    ----------
    path : str or os.PathLike
        The catalogue.
    most_open : int
        Shards that stay open after they were used; the one that was used least recently is closed.

    Returns
    -------
    Dataset
        As ``mapix.open`` of a list of the shards returns it.  Its ``parts`` are opened when they
        are used.

    Raises
    ------
    FormatError
        The catalogue is damaged.
    FileChangedError
        No shard is what the catalogue states.
    """
    if most_open < 1:
        raise ValueError(f"most_open must be at least 1, got {most_open}")
    shards = Shards(CatalogueFile(Candidate.of(path)), most_open)
    first = shards.examples[0]
    if first.JOINED is None:
        raise UnsupportedError(f"{first.path}: several {first.FAMILY} files cannot be one")
    return resolved(first.JOINED)(shards)
