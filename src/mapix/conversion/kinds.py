"""What has no records to stream, and is converted whole: archives, models, PINK's version 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mapix.pink
from mapix.conversion.arrays import Npz
from mapix.conversion.pink import Pink
from mapix.conversion.stream import Stream
from mapix.conversion.tables import Table
from mapix.conversion.target import Count, Progress, Target, counter
from mapix.errors import UnsupportedError
from mapix.iid import Archive
from mapix.pink.file import PinkFile
from mapix.visualrbm import Model, Schedule

__all__ = ["OfModels", "without_records"]

Whole = Callable[[Progress | None], dict[str, int]]
"""Writes everything; how many of what there are."""


class OfModels(Target):
    """Files that hold VisualRBM's models, and no records.

    Parameters
    ----------
    compat : {"visualrbm"}, optional
        Of JSON: the text as VisualRBM writes it, six digits behind the dot.
    """

    def __init__(self, *, compat: str | None = None) -> None:
        self.options = {} if compat is None else {"compat": compat}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        path = next(iter(streams.values())).path
        raise UnsupportedError(f"{path}: json and safetensors are for VisualRBM's models")

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        self.narrowed(streams)


def without_records(opened: Any, target: Target, path: str, name: str) -> Whole | None:
    """How something without records is written; None of what has some.

    Raises
    ------
    UnsupportedError
        The target does not take it.
    """
    if isinstance(opened, Archive):
        if not isinstance(target, Table):
            raise UnsupportedError(f"{opened.path}: archives become parquet or arrow, not {name}")
        return lambda progress: _segments(opened, path, target, progress)
    if isinstance(opened, Model | Schedule):
        return lambda progress: _model(opened, path, target, name)
    if isinstance(opened, PinkFile) and isinstance(target, Pink) and opened.version == 1:
        return lambda progress: _newer(opened, path)
    return None


def _segments(
    archive: Archive, path: str, target: Table, progress: Progress | None
) -> dict[str, int]:
    from mapix.conversion import segments

    segments.write(archive, path, target, counter(len(archive), progress))
    return {"segments": len(archive)}


def _model(model: Model | Schedule, path: str, target: Target, name: str) -> dict[str, int]:
    if isinstance(model, Schedule) and name == "json":
        model.write(path)
        return {"epochs": len(model)}
    if isinstance(model, Model) and isinstance(target, OfModels | Npz):
        options = target.options if isinstance(target, OfModels) else {}
        if not path.endswith(f".{name}"):
            raise ValueError(f"a model becomes {name} by a path that ends with .{name}")
        model.write(path, **options)
        return {"layers": len(model.layers)}
    raise UnsupportedError(
        f"models become json, npz or safetensors, schedules json; not {name}: {path}"
    )


def _newer(old: PinkFile, path: str) -> dict[str, int]:
    if old._rows is not None:
        raise UnsupportedError(f"{old.path}: only a whole file of version 1 becomes version 2")
    mapix.pink.convert(old.source.full_path, path, kind=old.kind)
    return {"train": len(old)}
