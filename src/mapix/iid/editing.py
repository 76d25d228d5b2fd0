"""New archives from archives: parts, unions, changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mapix.iid.archive import Archive
from mapix.iid.argument_checks import Keys, as_group_name, as_json, as_keys
from mapix.iid.names import Pair
from mapix.iid.sharded_archive import ShardedArchive
from mapix.iid.writer import Writer
from mapix.text import brief

__all__ = ["Difference", "diff", "edit", "merge", "subset"]

Path = str | os.PathLike[str]


def _copy(
    archive: Archive, keys: Iterable[int], out: Writer, groups: Mapping[str, Sequence[str]] | None
) -> dict[int, int]:
    """Copy segments without decoding them, and groups; return old key -> new key.

    ``groups`` has the new names of groups that are renamed.
    """
    new: dict[int, int] = {}
    for key in keys:
        file, row = archive._place(key)
        box, area = file.head(row)
        new[key] = out.add(*file.name(row), bits=file.region_bytes(row), bbox=box, area=area)
    copy_groups(archive, new, out, groups)
    return new


def copy_groups(
    archive: Archive,
    new: Mapping[int, int],
    out: Writer,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Copy groups of segments that were copied: ``new`` has old key -> new key."""
    for name, group in archive.groups.items():
        members = [new[k] for k in group if k in new]
        for target in (name,) if groups is None else groups.get(name, (name,)):
            out.group(target, np.array(members, np.int64))


def _archive(archive: object) -> Archive:
    if not isinstance(archive, Archive):
        raise TypeError(f"an open archive is needed, got {type(archive).__name__}")
    return archive


def subset(archive: Archive, keys: ArrayLike, path: Path, *, replace: bool = False) -> None:
    """Write some segments of an archive, with their groups and the metadata, to a new one.

    Keys become 0, 1, 2 ... in the order given.  The new archive is one file.

    Raises
    ------
    TypeError
        Keys are not integers, or another argument is of a wrong type.
    ValueError
        A key comes twice.
    """
    chosen = as_keys(keys, len(_archive(archive)), archive.path)
    check_once(archive, chosen)
    with Writer(path, archive.meta, version=archive.header, replace=replace) as out:
        _copy(archive, chosen.tolist(), out, None)


def check_once(archive: Archive, keys: Keys) -> None:
    """Raise ValueError if a key comes twice."""
    once, counts = np.unique(keys, return_counts=True)
    if len(once) < len(keys):
        twice = int(once[np.argmax(counts > 1)])
        raise ValueError(f"{archive.path}: key {twice} comes twice in keys")


def merge(
    archives: Sequence[Archive], path: Path, *, unique: bool = False, replace: bool = False
) -> None:
    """Write all segments of several archives to a new one; groups of the same name are joined.

    Parameters
    ----------
    archives : sequence of Archive
        The metadata of the first, with the keys that only others have, is written.
    path : str or os.PathLike
        The new archive.
    unique : bool
        Leave out a segment if an earlier one has the same (domain, iid).
    replace : bool
        Whether to replace a file at ``path``.

    Raises
    ------
    TypeError
        ``archives`` is not a sequence of archives, or another argument is of a wrong type.
    """
    if isinstance(archives, str | bytes) or not isinstance(archives, Sequence):
        raise TypeError(f"a sequence of archives is needed, got {type(archives).__name__}")
    archives = [_archive(archive) for archive in archives]
    if not isinstance(unique, bool | np.bool_):
        raise TypeError(f"unique must be bool, got {unique!r}")
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
    """The result of ``diff``, by (domain, iid).

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

    __repr__ = brief


def diff(a: Archive, b: Archive) -> Difference:
    """Return the differences of ``b`` from ``a``, by name; of equal names the first counts."""
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
    """Write an archive with changes; by default it replaces the file, in one step.

    Parameters
    ----------
    archive : Archive
        The open archive.  It does not change; open the path again to see the changes.  Of several
        files, those that change are replaced one after the other, each in one step.
    path : str or os.PathLike, optional
        The new file; by default the archive's own path, which is then replaced.
    delete : array_like
        Keys of segments to leave out.  Keys after them decrease.
    groups : mapping of str to array_like, optional
        New members of groups, in old keys.  Other groups stay; an empty one is removed.
    meta : mapping, optional
        The complete new metadata; of several files, of each.
    append : callable
        Called with the Writer after the last segment: ``lambda out: out.add(...)``.  Of several
        files it is the Writer of the last one, with keys of that file.

    Raises
    ------
    TypeError
        An argument is of a wrong type.  Nothing was written.
    IndexError
        There is no such key.
    ValueError
        A file is in the archive twice, and would be edited in place.
    FileChangedError
        The file at the archive's path was edited or replaced since ``archive`` was opened.  It
        stays unchanged; open it again.  An edit in place has this effect on ``archive`` itself.
    LockedError
        Another writer writes the path.
    """
    if groups is not None and not isinstance(groups, Mapping):
        raise TypeError(f"groups must be a mapping of names to keys, got {type(groups).__name__}")
    if append is not None and not callable(append):
        raise TypeError(f"append must be callable, got {type(append).__name__}")
    n, at = len(_archive(archive)), archive.path
    gone = as_keys(delete, n, at)
    wanted = {as_group_name(name): as_keys(keys, n, at) for name, keys in (groups or {}).items()}
    if meta is not None:
        as_json(meta, "meta")
    if path is not None:
        _edit(archive, path, gone, wanted, meta, append)
    elif isinstance(archive, ShardedArchive):
        _edit_parts(archive, gone, wanted, meta, append)
    else:
        _edit(archive, None, gone, wanted, meta, append)


def _edit(
    archive: Archive,
    path: Path | None,
    gone: Keys,
    groups: Mapping[str, Keys],
    meta: Mapping[str, Any] | None,
    append: Callable[[Writer], object] | None,
) -> None:
    """Write one file with the changes; for a path of None, in the place of the archive's file."""
    remaining = np.setdiff1d(archive.keys, gone).tolist()
    target = archive.source.full_path if path is None else path
    new_meta = archive.meta if meta is None else meta
    with Writer(target, new_meta, version=archive.header, replace=path is None) as out:
        if path is None:
            out._instead_of(archive.source)
        new = _copy(archive, remaining, out, dict.fromkeys(groups, ()))
        for name, keys in groups.items():
            members = [new[k] for k in keys.tolist() if k in new]
            if members:
                out.group(name, members)
        if append is not None:
            append(out)


def _edit_parts(
    archive: ShardedArchive,
    gone: Keys,
    groups: Mapping[str, Keys],
    meta: Mapping[str, Any] | None,
    append: Callable[[Writer], object] | None,
) -> None:
    """Edit several files in their places."""
    paths = [os.path.realpath(part.source.full_path) for part in archive.parts]
    if len(set(paths)) < len(paths):
        raise ValueError(f"{archive.path}: a file is in the archive twice, edit it to a new path")
    for part in archive.parts:  # all of them before the first one changes
        part.source.confirm_for_writing()
    last = archive.parts[-1]
    for k, part in enumerate(archive.parts):
        gone_here = archive.keys_in(gone, k)
        here = {name: archive.keys_in(keys, k) for name, keys in groups.items()}
        here = {name: keys for name, keys in here.items() if len(keys) or name in part.groups}
        more = append if part is last else None
        if len(gone_here) or here or meta is not None or more is not None:
            _edit(part, None, gone_here, here, meta, more)
