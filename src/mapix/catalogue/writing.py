"""Make catalogues, add shards, remove shards, and enter changed ones again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapix.catalogue.drafting import Draft, Drafting
from mapix.catalogue.file import CatalogueFile, Entry
from mapix.catalogue.finding import find
from mapix.catalogue.layout import RANGE
from mapix.catalogue.packing import append, complete, folder_of
from mapix.errors import FileChangedError, UnsupportedError
from mapix.progress import Progress, shown
from mapix.registry import Candidate, named, open_dataset, reopen, resolved
from mapix.source import real_path
from mapix.store import SYSTEM, Calls, NewWhole, Stage

__all__ = ["Written", "add", "refresh", "remove", "write"]

Path = str | os.PathLike[str]
Chosen = tuple[list[int], dict[int, Draft], list[str]]

MOST_NAMED = 3  # folders that an error names


class Written(NamedTuple):
    """State what a catalogue holds after it was written.

    Attributes
    ----------
    path : str
        The catalogue.
    shards, records, nbytes : int
        How many shards it has, with how many records, of how many bytes.
    added, refreshed, removed : tuple of str
        Paths of shards that were added, entered again, and removed.
    """

    path: str
    shards: int
    records: int
    nbytes: int
    added: tuple[str, ...] = ()
    refreshed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def write(
    shards: Path | Iterable[Path],
    path: Path,
    *,
    ranges: bool = True,
    names: bool = True,
    replace: bool = False,
    progress: Progress | bool | None = None,
    calls: Calls = SYSTEM,
    **opening: Any,
) -> Written:
    """Write a catalogue of files and folders, which ``mapix.open`` opens as one dataset.

    Parameters
    ----------
    shards : path, or sequence of paths
        Datasets of one format, in the order of their records.  A folder that is not a dataset
        stands for the datasets in it, and in its folders, sorted by name.
    path : str or os.PathLike
        The new file.  Shards in its folder, and below, are entered relative to it: they can be
        moved together with it.
    ranges : bool
        Whether the ranges of columns are stored, for ``where``.  All columns are read for them.
    names : bool
        Whether hashes of records' names are stored, where the format has names.
    replace : bool
        Whether a file at ``path`` may be replaced.
    progress : callable or True, optional
        ``progress(shards_done, shards_total)``; True shows a bar.
    calls : mapix.store.Calls
        The operating system; for tests.
    **opening
        ``format``, and other options with which all shards are opened, now and later.

    Returns
    -------
    Written
        How many shards and records it has.

    Raises
    ------
    FormatError
        A shard is damaged, or does not fit the first one.
    UnsupportedError
        The format's datasets cannot be opened as one.
    FileExistsError
        There is a file at ``path``.
    """
    some = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    with NewWhole(path, calls, replace=replace) as out:
        making = Drafting(folder_of(out.path), ranges=ranges, names=names)
        drafts = _drafts(
            find(some, opening), making, opening, shown(progress, "cataloguing", "shards")
        )
        if not drafts:
            where = ", ".join(str(os.fspath(one)) for one in some[:MOST_NAMED]) or "no folder"
            reason = "files without marks, as those of VIMH, need format="
            raise ValueError(f"{os.fspath(path)}: there is no dataset in {where}; {reason}")
        complete(out, making.schemas, drafts, 1, ranged=ranges)
    return _stated(path, added=tuple(draft.path for draft in drafts))


def add(
    path: Path,
    shards: Path | Iterable[Path],
    *,
    progress: Progress | bool | None = None,
    calls: Calls = SYSTEM,
    **opening: Any,
) -> Written:
    """Add shards to a catalogue, after those that it has.

    What the catalogue holds is not written again: each new shard takes an entry of 512 bytes, and
    its ranges, its path and the hashes of its names.  Readers that have the catalogue open
    continue with what they opened; one that opens it meanwhile sees the old shards or all, also
    after a power cut.

    Parameters
    ----------
    path : str or os.PathLike
        The catalogue.
    shards, progress, calls, **opening
        As for ``write``.  Shards that the catalogue has are not added again.

    Raises
    ------
    LockedError
        Another process writes to the catalogue.
    """
    said = os.fspath(path)
    real = os.path.realpath(said)
    stage = Stage(real, said, calls)  # locks the path
    try:
        file = CatalogueFile(Candidate(real))
        making = Drafting.like(file)
        from_first = reopen(file.schemas[0].family, *_first(file), None)
        making.examples.append(from_first)
        report = shown(progress, "cataloguing", "shards")
        drafts = _drafts(find(shards, opening), making, opening, report)
        if drafts:
            new = making.schemas if making.schemas != file.schemas else None
            append(real, file.slot, new, drafts, calls)
        file.close()
    finally:
        stage.abandon()
    return _stated(path, added=tuple(draft.path for draft in drafts))


def remove(path: Path, shards: Path | Iterable[Path], *, calls: Calls = SYSTEM) -> Written:
    """Remove shards from a catalogue, which is written again.  Their files stay.

    Parameters
    ----------
    path : str or os.PathLike
        The catalogue.
    shards : path, or sequence of paths
        Shards, or folders, all of whose shards are removed.
    calls : mapix.store.Calls
        The operating system; for tests.

    Raises
    ------
    ValueError
        A path is that of no shard, or no shard would be left.
    """
    each = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    gone = [real_path(p) for p in each]

    def chosen(file: CatalogueFile) -> Chosen:
        paths = [real_path(entry.path) for entry in _entries(file)]
        for name, place in zip(each, gone, strict=True):
            if not any(_below(p, place) for p in paths):
                raise ValueError(f"{file.path} has no shard {os.fspath(name)}")
        kept = [k for k, p in enumerate(paths) if not any(_below(p, g) for g in gone)]
        lost = [p for p in paths if any(_below(p, g) for g in gone)]
        return kept, {}, lost

    return _again(path, chosen, calls)


def refresh(
    path: Path, *, progress: Progress | bool | None = None, calls: Calls = SYSTEM
) -> Written:
    """Enter shards again that have changed, and drop those whose files were removed.

    The catalogue is written again; it is smaller and faster than one to which shards were added
    one by one.

    Parameters
    ----------
    path : str or os.PathLike
        The catalogue.
    progress : callable or True, optional
        ``progress(shards_done, shards_total)``; True shows a bar.
    calls : mapix.store.Calls
        The operating system; for tests.

    Returns
    -------
    Written
        ``refreshed`` and ``removed`` are the paths of these shards.

    Raises
    ------
    FormatError
        A changed shard is damaged, or does not fit the others.
    """
    report = shown(progress, "comparing", "shards")

    def chosen(file: CatalogueFile) -> Chosen:
        making = Drafting.like(file)
        kept, changed, lost = list[int](), dict[int, Draft](), list[str]()
        n = len(file)
        for k, entry in enumerate(_entries(file)):
            family = file.schemas[file.entries["schema"][k]].family
            try:
                try:
                    ds = reopen(family, entry.path, entry.options, entry.fingerprint, None)
                except FileChangedError:
                    load = resolved(named(family).open)
                    ds = load(Candidate(entry.path), **entry.options)
                    changed[k] = making.draft(ds)
            except (FileNotFoundError, NotADirectoryError):
                lost.append(entry.path)
            else:
                if not making.examples:
                    making.examples.append(ds)
                kept.append(k)
            if report is not None:
                report(k + 1, n)
        file.schemas = making.schemas
        return kept, changed, lost

    return _again(path, chosen, calls)


# --- drafts ---------------------------------------------------------------------------------------


def _drafts(
    paths: Sequence[str],
    making: Drafting,
    opening: dict[str, Any],
    progress: Progress | None,
) -> list[Draft]:
    """Return an entry of each dataset that is at one of the paths, once."""
    found: list[Draft] = []
    apart = set[str]()
    for done, path in enumerate(paths):
        if real_path(path) not in apart:
            for ds in _each(open_dataset(path, **opening), path):
                beside = ds._labels_apart()
                draft = making.new(ds)
                if beside is not None and beside.path != ds.path:
                    apart.add(real_path(beside.path))
                if draft is not None:
                    found.append(draft)
        if progress is not None:
            progress(done + 1, len(paths))
    return [draft for draft in found if real_path(draft.path) not in apart]


def _each(ds: Any, path: str) -> Iterator[Any]:
    """Yield the parts of a joined dataset, or the dataset itself."""
    if not hasattr(ds, "columns"):
        raise UnsupportedError(f"{path}: {ds.FAMILY} files of this kind have no records")
    parts = getattr(ds, "parts", None)
    yield from (ds,) if parts is None else parts


def _entries(file: CatalogueFile) -> Iterator[Entry]:
    return map(file.entry, range(len(file)))


def _first(file: CatalogueFile) -> tuple[str, dict[str, Any], Any]:
    """Return path, options and fingerprint of the first shard with records that is as it was."""
    order = np.argsort(file.entries["nrecords"] == 0, kind="stable")
    return tuple(file.entry(int(order[0])))  # type: ignore[return-value]


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _kept(file: CatalogueFile, k: int, hashes: NDArray[np.uint64] | None) -> Draft:
    """Return an entry as a draft."""
    stated = file.entry(k)
    n = int(file.entries["nranges"][k])
    ranges = np.frombuffer(file.blob(k), RANGE, n)
    return Draft(file.entries[k].copy(), stated.path, stated.options, ranges, hashes)


def _again(path: Path, choose: Callable[[CatalogueFile], Chosen], calls: Calls) -> Written:
    """Write a catalogue again, with the entries that ``choose(file)`` returns."""
    said = os.fspath(path)
    with NewWhole(said, calls, replace=True) as out:
        file = CatalogueFile(Candidate(out.path))
        kept, changed, lost = choose(file)
        if not kept:
            raise ValueError(f"{said}: no shard would be left; remove the file")
        values, shard = file.names_of_shards()
        order = np.argsort(shard, kind="stable")
        ends = np.searchsorted(shard[order], np.arange(len(file) + 1))
        drafts = []
        for k in kept:
            hashes = values[order[ends[k] : ends[k + 1]]] if file.slot.named else None
            drafts.append(changed.get(k) or _kept(file, k, hashes))
        complete(out, file.schemas, drafts, file.slot.generation + 1, ranged=file.slot.ranged)
        file.close()
    refreshed = tuple(changed[k].path for k in sorted(changed))
    return _stated(path, refreshed=refreshed, removed=tuple(lost))


def _stated(path: Path, **changes: Any) -> Written:
    """Return what a catalogue holds."""
    with contextlib.closing(CatalogueFile(Candidate(path))) as file:
        e, said = file.entries, os.fspath(path)
        n, nbytes = int(e["nrecords"].sum()), int(e["nbytes"].sum())
        return Written(said, len(e), n, nbytes)._replace(**changes)
