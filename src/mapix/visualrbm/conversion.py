"""From VisualRBM's models and schedules, which have no records, to files of their own kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mapix.conversion.stream import Stream
from mapix.conversion.target import Count, Progress, Target
from mapix.errors import UnsupportedError
from mapix.visualrbm.model import Model
from mapix.visualrbm.schedule import Schedule

__all__ = ["Json", "Safetensors", "stream"]


def stream(
    splits: Mapping[str, Model | Schedule], *, to: str, target: Target, **_: Any
) -> Callable[[str, Progress | None], dict[str, int]]:
    """Return how a model or a schedule is written: see ``mapix.registry.Format.source``."""
    (found,) = splits.values()

    def written(path: str, progress: Progress | None) -> dict[str, int]:
        if isinstance(found, Schedule) and to == "json":
            found.write(path)
            return {"epochs": len(found)}
        if isinstance(found, Model) and to in ("json", "npz", "safetensors"):
            if not path.endswith(f".{to}"):
                raise ValueError(f"a model becomes {to} by a path that ends with .{to}")
            found.write(path, **(target.options if isinstance(target, Json) else {}))
            return {"layers": len(found.layers)}
        raise UnsupportedError(
            f"{path}: a model becomes json, npz or safetensors, a schedule json; not {to}"
        )

    return written


class Json(Target):
    """A model or a schedule as JSON; not for records.

    Parameters
    ----------
    compat : {"visualrbm"}, optional
        The text as VisualRBM writes it, six digits after the decimal point.
    """

    endings = (".json",)

    def __init__(self, *, compat: str | None = None) -> None:
        self.options = {} if compat is None else {"compat": compat}

    def narrowed(self, streams: Mapping[str, Stream]) -> list[str]:
        """See ``Target``."""
        path = next(iter(streams.values())).path
        raise UnsupportedError(
            f"{path}: .json and .safetensors are written of VisualRBM's models alone; npz and "
            "Parquet hold images"
        )

    def write(self, streams: Mapping[str, Stream], path: str, count: Count) -> None:
        """See ``Target``."""
        self.narrowed(streams)


class Safetensors(Json):
    """A model as safetensors; not for records."""

    endings = (".safetensors",)
