"""Conversion to numbered files or directories: ``NAME-00000-of-00010.EXT`` and so on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from mapix.conversion.stream import Stream
from mapix.conversion.target import Count, Progress, Target
from mapix.errors import UnsupportedError
from mapix.store import NewSet, check_no_set

__all__ = ["Sharding", "check_absent"]

MOST_SHARDS = 99_999


@dataclass(frozen=True, slots=True)
class Sharding:
    """Into how many shards records are divided: one of the three.

    Attributes
    ----------
    shards : int, optional
        So many.
    records_per_shard : int, optional
        Most records of a split in a shard.
    shard_nbytes : int, optional
        Bytes of images, as the source has them decoded, in a shard, on average at most.
    """

    shards: int | None
    records_per_shard: int | None
    shard_nbytes: int | None

    @classmethod
    def of(cls, **options: Any) -> Self | None:
        """Return what the three options of ``mapix.convert`` ask for; None if none is given.

        Raises
        ------
        TypeError, ValueError
            A value is not a whole number above 0, or several are given.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if not given:
            return None
        if len(given) > 1:
            raise ValueError(f"pass one of {', '.join(given)}, not several")
        for name, value in given.items():
            if not hasattr(value, "__index__") or isinstance(value, bool):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        return cls(**{name: None if v is None else int(v) for name, v in options.items()})

    def write_streams(
        self, streams: Mapping[str, Stream], path: str, target: Target, count: Count
    ) -> tuple[str, ...]:
        """Write streams, cut at records; return the paths of the shards."""
        nbytes = sum(s.size * s.dtype.itemsize for s in streams.values())
        n = self._number(path, {name: s.n for name, s in streams.items()}, nbytes)
        cut = {name: s.parts(_edges(s.n, n)) for name, s in streams.items()}
        parts = ({name: cut[name][k] for name in cut} for k in range(n))
        writers = (partial(target.write, some, count=count) for some in parts)
        return _write(path, target, n, writers)

    def write_parts(
        self,
        splits: Mapping[str, Any],
        writer_of: Callable[
            [int, Mapping[str, Any]], Callable[[str, Progress | None], dict[str, int]]
        ],
        path: str,
        target: Target,
        progress: Progress | None,
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        """Write parts of datasets that are not read as streams; return counts and paths.

        Parameters
        ----------
        splits : mapping of str to Dataset
            The datasets.
        writer_of : callable
            ``writer_of(k, parts)`` returns what writes the parts of shard k: see
            ``mapix.registry.Format.source``.
        path : str
            The target.
        target : Target
            It names the files.
        progress : callable, optional
            ``progress(records_done, records_total)``.

        Raises
        ------
        UnsupportedError
            The source has no records.
        """
        for ds in splits.values():
            if not hasattr(ds, "columns"):
                raise UnsupportedError(f"{ds.path}: it has no records that shards could hold")
        counts = {split: len(ds) for split, ds in splits.items()}
        n = self._number(path, counts, sum(getattr(ds, "nbytes", 0) for ds in splits.values()))
        edges = {split: _edges(len(ds), n) for split, ds in splits.items()}
        done, total = 0, sum(counts.values())
        written: dict[str, int] = {}

        def show(some: int, _: int) -> None:
            if progress is not None:
                progress(done + some, total)

        def write(k: int, where: str) -> None:
            nonlocal done
            parts = {name: ds[edges[name][k] : edges[name][k + 1]] for name, ds in splits.items()}
            for name, number in writer_of(k, parts)(where, show).items():
                written[name] = written.get(name, 0) + number
            done += sum(map(len, parts.values()))
            show(0, total)

        return written, _write(path, target, n, (partial(write, k) for k in range(n)))

    def _number(self, path: str, counts: Mapping[str, int], nbytes: int) -> int:
        """Return the number of shards for the records of each split, and the bytes of all.

        Raises
        ------
        ValueError
            They are more than 99,999, or than the records of a split.
        """
        filled = {name: n for name, n in counts.items() if n} or counts
        least = min(filled, key=filled.__getitem__)
        if self.shards is not None:
            n = self.shards
        elif self.records_per_shard is not None:
            n = -(-max(counts.values()) // self.records_per_shard)
        else:
            assert self.shard_nbytes is not None
            n = min(-(-nbytes // self.shard_nbytes), counts[least])
        if n > MOST_SHARDS:
            raise ValueError(f"{path}: {n} shards, of at most {MOST_SHARDS}")
        if not 0 < n <= counts[least]:
            of = f" of {least}" if len(counts) > 1 else ""
            raise ValueError(f"{path}: {counts[least]} records{of} cannot fill {max(n, 1)} shards")
        return n


def check_absent(target: Target, path: str) -> None:
    """Raise FileExistsError if there is a shard of this name, of a set of any size."""
    check_no_set(path, _around_number(target, path))


def _edges(n: int, shards: int) -> list[int]:
    """Return the first record of each shard, and n: sizes differ by one at most."""
    return [n * k // shards for k in range(shards + 1)]


def _around_number(target: Target, path: str) -> tuple[str, str]:
    """Return what the names of shards begin and end with."""
    begin, _, end = target.path_of_part(os.path.basename(path), "\0").partition("\0")
    return begin, end


def _write(
    path: str, target: Target, n: int, writers: Iterable[Callable[[str], object]]
) -> tuple[str, ...]:
    """Write n shards, which appear together or not at all; return their paths."""
    path = path.rstrip(os.sep)
    begin, end = _around_number(target, path)
    names = [f"{begin}{k:05}-of-{n:05}{end}" for k in range(n)]
    with NewSet(path, (begin, end)) as out:
        for name, writer in zip(names, writers, strict=True):
            writer(os.path.join(out.stage, name))
    return tuple(os.path.join(os.path.dirname(path), name) for name in names)
