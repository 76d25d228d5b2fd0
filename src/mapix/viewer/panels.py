"""The panels of the page: one row each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, NamedTuple

__all__ = ["PANELS", "Panel"]


class Panel(NamedTuple):
    """One panel.

    Attributes
    ----------
    name : str
        Of ``static/NAME.js``.
    title : str
        Of its tab.
    place : {"main", "side", "frame"}
        In place of the grid; beside an open record; or a part of the frame, which has no tab.
    module : str
        Python module with its routes.
    applies : callable
        ``applies(ds)`` returns whether the panel has something to show of a dataset.
    """

    name: str
    title: str
    place: Literal["main", "side", "frame"]
    module: str
    applies: Callable[[Any], bool]

    def load(self) -> ModuleType:
        """Return the Python module."""
        return importlib.import_module(f"mapix.viewer.{self.module}")


def always(ds: Any) -> bool:
    """Return True."""
    del ds
    return True


def has_pixels(ds: Any) -> bool:
    """Return whether the first record has something to show as a tile."""
    return len(ds) > 0 and ds._thumbnail(int(ds._rows_of([0])[0])) is not None


PANELS: tuple[Panel, ...] = (
    Panel("api", "", "frame", "api", always),
    Panel("facets", "", "frame", "facets", always),
    Panel("grid", "Grid", "main", "tiles", has_pixels),
    Panel("table", "Table", "main", "table", always),
)
