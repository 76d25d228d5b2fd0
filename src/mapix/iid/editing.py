"""Archives from archives: parts, unions, changes; always a new file, in the old place or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mapix.iid.archive import Archive
from mapix.iid.writer import Writer

__all__ = ["Difference", "diff", "edit", "merge", "subset"]

Pair = tuple[bytes, bytes]
Path = str | os.PathLike[str]


def _copy(
    archive: Archive, keys: Iterable[int], out: Writer, groups: Mapping[str, Sequence[str]] | None
) -> dict[int, int]:
    """Write segments again, bits as they are; old key -> new key.  ``groups``: other names."""
    new: dict[int, int] = {}
    for key in keys:
        key = int(key)
        domain, iid = archive.name(key)
        box, area = archive._head(key)
        new[key] = out.add(domain, iid, bits=archive._bits(key), bbox=box, area=area)
    for name, group in archive.groups.items():
        kept = [new[k] for k in group if k in new]
        for target in (name,) if groups is None else groups.get(name, (name,)):
            out.group(target, np.array(kept, np.int64))
    return new


def _version(archive: Archive) -> tuple[int, int]:
    return archive.layout.version, archive.layout.rformat


def subset(archive: Archive, keys: ArrayLike, path: Path, *, replace: bool = False) -> None:
    """Write some segments of an archive, with their groups and the metadata, to a new one.

    Keys become 0, 1, 2 ... in the order given.
    """
    chosen = archive._some(keys)
    with Writer(path, archive.meta, version=_version(archive), replace=replace) as out:
        _copy(archive, chosen.tolist(), out, None)


def merge(
    archives: Sequence[Archive], path: Path, *, unique: bool = False, replace: bool = False
) -> None:
    """Write all segments of several archives to a new one; groups of the same name are joined.

    Parameters
    ----------
    archives : sequence of Archive
        Metadata is that of the first; keys that it lacks come from the others.
    path : str or os.PathLike
        The new archive.
    unique : bool
        Leave out segments whose (domain, iid) an earlier one has.
    replace : bool
        Whether a file that is there may be replaced.
    """
    meta: dict[str, Any] = {}
    for archive in archives:
        meta = {**archive.meta, **meta}
    seen: set[Pair] = set()
    with Writer(path, meta, replace=replace) as out:
        for archive in archives:
            keys = range(len(archive))
            if unique:
                chosen = []
                for key in keys:
                    name = archive.name(key)
                    if name not in seen:
                        seen.add(name)
                        chosen.append(key)
                _copy(archive, chosen, out, None)
            else:
                _copy(archive, keys, out, None)


@dataclass(frozen=True, slots=True)
class Difference:
    """What ``diff`` found, by (domain, iid).

    Attributes
    ----------
    added, removed : list of (bytes, bytes)
        Names that only the second, or only the first archive has.
    changed : list of (bytes, bytes)
        Names whose box or pixels differ.
    """

    added: list[Pair]
    removed: list[Pair]
    changed: list[Pair]


def diff(a: Archive, b: Archive) -> Difference:
    """What is different in ``b``; of names that several segments share the first one counts."""
    names_a = {a.name(k): k for k in reversed(range(len(a)))}
    names_b = {b.name(k): k for k in reversed(range(len(b)))}
    changed = []
    for name, key in names_a.items():
        other = names_b.get(name)
        if other is None:
            continue
        one, two = a[key], b[other]
        if one.bbox != two.bbox or not np.array_equal(one.mask(), two.mask()):
            changed.append(name)
    return Difference(
        added=sorted(n for n in names_b if n not in names_a),
        removed=sorted(n for n in names_a if n not in names_b),
        changed=sorted(changed),
    )


def edit(
    archive: Archive,
    path: Path | None = None,
    *,
    delete: ArrayLike = (),
    groups: Mapping[str, ArrayLike] | None = None,
    meta: Mapping[str, Any] | None = None,
    append: Callable[[Writer], object] | None = None,
) -> None:
    """Write an archive anew with changes; by default in its own place, in one step.

    Parameters
    ----------
    archive : Archive
        Stays what it is while it is open; open the path again to see the changes.
    path : str or os.PathLike, optional
        Where to; the archive's own path by default, which is then replaced.
    delete : array_like
        Keys of segments to leave out; those behind them move up.
    groups : mapping of str to array_like, optional
        Groups as they are to be, in old keys; groups that are not named stay, an empty one goes.
    meta : mapping, optional
        The new metadata, whole.
    append : callable
        Is given the Writer, behind the last segment: ``lambda out: out.add(...)``.
    """
    gone = set(archive._some(delete).tolist()) if np.size(delete) else set()
    keep = [k for k in range(len(archive)) if k not in gone]
    target = archive.path if path is None else path
    said = archive.meta if meta is None else meta
    with Writer(target, said, version=_version(archive), replace=path is None) as out:
        changed = dict(groups or {})
        new = _copy(archive, keep, out, dict.fromkeys(changed, ()))
        for name, keys in changed.items():
            kept = [new[int(k)] for k in archive._some(keys) if int(k) in new]
            if kept:
                out.group(name, kept)
        if append is not None:
            append(out)
