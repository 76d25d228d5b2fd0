"""Conversion of any dataset into other formats: streamed, all or nothing, with every loss reported.

``mapix.convert`` calls it.  Formats declare what they can be converted to (``Format.targets``) and,
where they hold more than images and columns, how they are read (``Format.source``).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from mapix import registry
from mapix.errors import LossError
from mapix.progress import shown
from mapix.text import brief, counted, counted_splits

if TYPE_CHECKING:
    from mapix.conversion.stream import Axes
    from mapix.conversion.target import Target
    from mapix.plans import Map

__all__ = ["Converted", "convert", "target_classes", "target_named", "target_of"]

SPLITS = ("train", "test")
TARGETS = {
    "parquet": "mapix.conversion.tables:Parquet",
    "arrow": "mapix.conversion.tables:Arrow",
    "huggingface": "mapix.conversion.tables:HuggingFace",
}
"""Targets that are not formats of ``mapix.open``: name -> ``"module:class"``."""


UNITS = ("layers", "segments")  # of models and archives, which have no splits


@dataclass(frozen=True, slots=True)
class Converted:
    """The result of ``convert``.

    Attributes
    ----------
    path, format : str
        The file or directory, and its format.
    records : dict of str to int
        Number of records in each split; of a model its ``layers``, of an archive its ``segments``.
    lost : tuple of str
        Descriptions of everything that the target cannot hold; empty unless ``lossy=True``.
    shards : tuple of str
        The files or directories, where there are several: ``mapix.open(made.shards)`` opens all.
    """

    path: str
    format: str
    records: dict[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()

    __repr__ = brief

    def __str__(self) -> str:
        unit = next((name for name in self.records if name in UNITS), "records")
        held = counted_splits(self.records, unit)
        number = f", {counted(len(self.shards), 'shard')}" if self.shards else ""
        place = f"{self.shards[0]} ..." if self.shards else self.path
        lines = [f"{place}: {self.format}{number}, {held}"]
        return "\n".join([*lines, *(f"lost: {text}" for text in self.lost)])


def convert(
    source: Any,
    path: str | os.PathLike[str],
    *,
    to: str | None = None,
    split: str | None = None,
    lossy: bool = False,
    axes: Axes | None = None,
    images: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], object] | bool | None = None,
    opening: Mapping[str, Any] | None = None,
    shards: int | None = None,
    records_per_shard: int | None = None,
    shard_nbytes: int | None = None,
    map: Map | None = None,
    resume: bool | str | os.PathLike[str] = False,
    **options: Any,
) -> Converted:
    """Write a dataset in another format; the source is not changed.

    Parameters
    ----------
    source : path, or what ``mapix.open`` returned, or a mapping of names of splits to such
        It may be a part of a dataset.  All splits of a directory are converted, where the target
        holds several.
    path : str or os.PathLike
        The new file or directory; nothing may be there.
    to : str, optional
        Name of the target: see ``docs/convert.md``.  By default it follows from the ending of
        ``path``.
    split : str, optional
        The only one to convert.
    lossy : bool
        Whether data that the target cannot hold may be lost; the result lists them.
    axes : {"HW", "HWC", "CHW"}, optional
        Dimensions of a record, where the source does not state them (arrays of four dimensions).
    images : mapping, optional
        For an image folder: options of its ``batch`` for pictures of other sizes (``size``,
        ``fit``, ``mode``, ``resample``, ``draft``), and ``threads`` that decode.
    progress : callable or True, optional
        ``progress(records_done, records_total)``; True shows a bar.
    opening : mapping, optional
        Options for ``mapix.open``.
    shards, records_per_shard, shard_nbytes : int, optional
        Write numbered files (or directories), ``NAME-00000-of-00010.EXT`` beside where ``path``
        would be: so many; of at most so many records of a split each; or of about so many bytes
        of decoded images each.  Records stay in their order; the sizes of shards differ by at most
        one record.  Give one of the three.
    map : callable or int, optional
        What reads and decodes blocks of records: anything that is called like ``map``, such as the
        ``map`` of a pool, or a number of threads.  The target is the same, byte for byte.
    resume : bool or path
        Whether a conversion that was stopped goes on: blocks that were decoded are stored, and not
        decoded again by the next call with the same source and the same folder.  True stores them
        in ``.NAME.parts`` beside the target; a path is the folder for them, which all workers see.
        It takes the bytes of all decoded images, and is removed when the target is complete.
    **options
        Options of the target.

    Returns
    -------
    Converted

    Raises
    ------
    LossError
        The target cannot hold everything, and ``lossy`` is False; nothing was written.
    UnsupportedError
        The target cannot hold these records at all.
    FileExistsError
        There is something at ``path``, or a shard of that name.
    ValueError
        A split has fewer records than there are to be shards; or the folder of ``resume`` has parts
        of another conversion.

    Notes
    -----
    Memory: a block of records (8 MiB), with a ``map`` 4 for each thread or 32, and the labels where
    the target needs all of them at once.
    The target appears at ``path`` when it is complete, or not at all.  Shards get their names when
    all are complete, the first one last.
    """
    from mapix.conversion.blocks import StoredBlocks, check_storable, run_by
    from mapix.conversion.shards import Sharding
    from mapix.conversion.target import counter

    sharding = Sharding.of(
        shards=shards, records_per_shard=records_per_shard, shard_nbytes=shard_nbytes
    )
    path = os.fspath(path)
    report = shown(progress, "converting")
    name = to or target_of(path)
    target = target_named(name, path, options)
    opened, opened_here = _opened(source, split, dict(opening or {}))
    directory = source if split is None and opened_here else None
    try:
        _check_splits(opened, target, name)
        source_of = _source(next(iter(opened.values())))
        given: dict[str, Any] = {"to": name, "target": target, "axes": axes, "images": images}
        streams = source_of(opened, **given, directory=directory)
        stored = None
        if resume is not False and resume is not None:
            check_storable([streams] if callable(streams) else streams.values(), path)
            stored_with: dict[str, Any] = {"axes": axes, "images": images}
            if callable(streams) and sharding is not None:
                stored_with["shards"] = sharding
            stored = StoredBlocks(_folder_of_parts(path, resume), opened, stored_with)
        lost: tuple[str, ...] = ()
        paths: tuple[str, ...] = ()
        if callable(streams):  # the source writes the target

            def writer_of(k: int, parts: Mapping[str, Any]) -> Any:
                writer = source_of(parts, **given)
                run_by({f"{k:05}": writer}, map, stored)
                return writer

            if sharding is None:
                run_by({"all": streams}, map, stored)
                counts = streams(path, report)
            else:
                counts, paths = sharding.write_parts(opened, writer_of, path, target, report)
        else:
            run_by(streams, map, stored)
            lost = tuple(dict.fromkeys(target.lost(streams)))
            if lost and not lossy:
                raise LossError(path, name, lost)
            counts = {k: s.n for k, s in streams.items()}
            count = counter(sum(counts.values()), report)
            if sharding is None:
                target.write(streams, path, count)
            else:
                paths = sharding.write_streams(streams, path, target, count)
        if stored is not None:
            stored.remove()
        return Converted(path, name, counts, lost, paths)
    finally:
        for ds in opened.values() if opened_here else ():
            ds.close()


def _folder_of_parts(path: str, resume: bool | str | os.PathLike[str]) -> str:
    if not isinstance(resume, bool):
        return os.fspath(resume)
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(folder, f".{name}.parts")


def target_classes() -> Iterator[tuple[str, str]]:
    """Yield the name of each target and ``"module:class"``, those of mapix first."""
    formats = registry.formats()
    for found in islice(formats, len(registry.built_in())):
        yield from found.targets.items()
    yield from TARGETS.items()
    for found in formats:  # of other packages: finding them takes longer than a small conversion
        yield from found.targets.items()


def __getattr__(name: str) -> Any:
    """Return ``NAMES``, which ``target_classes`` replaces."""
    if name == "NAMES":
        message = "mapix.conversion.NAMES: use mapix.conversion.target_classes()"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return tuple(dict(target_classes()))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def target_of(path: str) -> str:
    """Return the name of the target that the ending of a path chooses.

    Raises
    ------
    ValueError
        It chooses none; the message lists the names.
    """
    found: dict[str, None] = {}
    for name, where in target_classes():
        if path.endswith(registry.resolved(where).endings or "/"):
            return name
        found[name] = None
    raise ValueError(
        f"to= has to name a format, since the name {path!r} does not: {', '.join(found)}"
    )


def target_named(name: str, path: str, options: Mapping[str, Any]) -> Target:
    """Return the target of that name, for a path that may decide options."""
    classes: dict[str, str] = {}
    for known, where in target_classes():  # those of other packages come last, and take longest
        if known == name:
            found: Target = registry.resolved(where).of(path, options)
            return found
        classes[known] = where
    raise ValueError(f"to= has to be one of {', '.join(classes)}, got {name!r}")


def _source(opened: Any) -> Any:
    """Return what makes streams of a dataset: its format's own function, or the general one."""
    from mapix.conversion.sources import dataset_streams

    if opened.FAMILY not in registry.built_in() and opened.FAMILY not in registry.names():
        return dataset_streams
    return registry.resolved(registry.named(opened.FAMILY).source or dataset_streams)


def _opened(source: Any, split: str | None, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the splits of a source, and whether they were opened here."""
    if isinstance(source, Mapping):
        return dict(source), False
    if not isinstance(source, str | os.PathLike):
        return {split or "train": source}, False
    path = os.fspath(source)
    if split is not None:
        return {split: registry.open_dataset(path, split=split, **options)}, True
    first = registry.open_dataset(path, **options)
    if not os.path.isdir(path):
        name = os.path.basename(path).removesuffix("_batch")
        return {name if name in SPLITS else "train": first}, True
    splits = getattr(first, "splits", {})
    mine = next((name for name, place in splits.items() if _is_at(first, place)), None)
    if mine is None:
        return {"train": first}, True
    found = {
        name: first if name == mine else registry.open_dataset(path, split=name, **options)
        for name in splits
    }
    return found, True


def _is_at(ds: Any, place: str) -> bool:
    """Return whether the path of a split is that of a dataset, or its directory."""
    path = os.path.realpath(ds.path)
    return os.path.realpath(place) in (path, os.path.dirname(path))


def _check_splits(opened: Mapping[str, Any], target: Target, name: str) -> None:
    """Raise ValueError where there are too many splits, or they have other names."""
    if target.any_split:
        return
    if not target.splits and len(opened) > 1:
        there = ", ".join(opened)
        raise ValueError(f"{name} holds one split of a dataset: split= has to name one of {there}")
    wrong = [k for k in opened if target.splits and k not in target.splits]
    if wrong:
        raise ValueError(f"{name} has splits {', '.join(target.splits)}, not {', '.join(wrong)}")
