"""Repair the damaged shards of a catalogue."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

from mapix.catalogue.drafting import Draft, Drafting
from mapix.catalogue.file import CatalogueFile, Entry
from mapix.catalogue.packing import complete
from mapix.errors import FormatError, MapixError, UnsupportedError
from mapix.progress import Progress, shown
from mapix.registry import Candidate, named, resolved
from mapix.store import NewDirectory, NewWhole
from mapix.text import brief

__all__ = ["SavedShards", "repair"]


@dataclass(slots=True)
class SavedShards:
    """Result of ``repair`` of a catalogue.

    Attributes
    ----------
    path : str
        The new catalogue.
    saved : dict of str to object
        Path of each damaged shard -> what its format's ``repair`` returned.
    left_out : dict of str to str
        Path of each shard that could not be repaired -> why.
    """

    path: str
    saved: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    __repr__ = brief

    @property
    def complete(self) -> bool:
        """Whether nothing was lost or left out."""
        return not self.left_out and all(one.complete for one in self.saved.values())

    def __str__(self) -> str:
        lines = [f"{self.path}: the catalogue of the undamaged and the repaired shards"]
        lines += map(str, self.saved.values())
        return "\n".join([*lines, *(f"{p}: left out: {why}" for p, why in self.left_out.items())])


def repair(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    progress: Progress | bool | None = None,
) -> SavedShards:
    """Write a folder with the complete records of damaged shards, and a catalogue of all shards.

    Undamaged shards stay where they are.  The new catalogue, of the same name, lists them and the
    repaired ones, in the order of the old one.

    Parameters
    ----------
    source : str or os.PathLike
        The catalogue.
    path : str or os.PathLike
        The new folder.
    progress : callable or True, optional
        ``progress(shards_done, shards_total)``; True shows a bar.

    Returns
    -------
    SavedShards
        What was saved, and what was lost.

    Raises
    ------
    UnsupportedError
        No shard could be saved.
    """
    report = shown(progress, "repairing", "shards")
    with contextlib.closing(CatalogueFile(Candidate(source))) as file:
        name = os.path.basename(file.path)
        with NewDirectory(path) as out:
            found = SavedShards(os.path.join(out.said, name))
            making = Drafting(
                os.path.realpath(out.stage), ranges=file.slot.ranged, names=file.slot.named
            )
            drafts = []
            for k in range(len(file)):
                entry, family = file.entry(k), file.schemas[file.entries["schema"][k]].family
                new = os.path.join(
                    os.path.realpath(out.stage), f"{k:06}-{os.path.basename(entry.path)}"
                )
                draft = _draft(making, family, entry, new, found)
                if draft is not None:
                    drafts.append(draft)
                if report is not None:
                    report(k + 1, len(file))
            if not drafts:
                raise UnsupportedError(f"{file.path}: no shard could be saved\n{found}")
            with NewWhole(os.path.join(out.stage, name)) as listed:
                complete(listed, making.schemas, drafts, 1, ranged=file.slot.ranged)
            out.adopt()
        for one in found.saved.values():
            one.path = os.path.join(out.said, os.path.basename(one.path))
    return found


def _draft(
    making: Drafting, family: str, entry: Entry, new: str, found: SavedShards
) -> Draft | None:
    """Return the entry of a shard, or of its repaired copy; None if it is left out."""
    format = named(family)

    def opened(place: str) -> Any:
        return resolved(format.open)(Candidate(place), **entry.options)

    try:
        ds = opened(entry.path)
        if ds.verify().ok:
            return making.draft(ds)
    except FormatError:
        pass
    except (MapixError, OSError) as e:
        found.left_out[entry.path] = str(e)
        return None
    if format.repair is None:
        found.left_out[entry.path] = f"{format.title} cannot be repaired"
        return None
    try:
        found.saved[entry.path] = resolved(format.repair)(entry.path, new)
        return making.draft(opened(new))
    except (MapixError, OSError) as e:
        found.saved.pop(entry.path, None)
        found.left_out[entry.path] = str(e)
        return None
