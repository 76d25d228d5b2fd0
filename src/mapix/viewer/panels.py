"""The panels of the page: one row each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any, Literal, NamedTuple

from mapix.errors import FileChangedError, MapixError
from mapix.registry import Deferred, resolved

__all__ = ["PANELS", "Panel", "panels_of"]

MOST_TRIED = 8  # records that are asked for an image


class Panel(NamedTuple):
    """One panel.

    Attributes
    ----------
    name : str
        Of ``static/NAME.js``; of a family's panel, of ``NAME.js`` in the package of its module.
    title : str
        Of its tab.
    place : {"main", "side", "frame"}
        In place of the grid; beside an open record; or a part of the frame, which has no tab.
    module : str
        Python module with its routes: a name in ``mapix.viewer``; of a family's panel its full
        name.
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
        return importlib.import_module(self._full_name)

    @property
    def _full_name(self) -> str:
        return self.module if "." in self.module else f"mapix.viewer.{self.module}"

    def script(self) -> bytes:
        """Return the JavaScript module of a family's panel."""
        package = self._full_name.rpartition(".")[0]
        return files(package).joinpath(f"{self.name}.js").read_text("utf-8").encode()


def always(ds: Any) -> bool:
    """Return True."""
    del ds
    return True


def first_image(ds: Any) -> tuple[Any, str]:
    """Return what stands for one of the first records, and why the ones before it have nothing.

    The image is None where records have no pixels, or where none of the first can be read.
    """
    why = ""
    for row in ds._rows_of(range(min(len(ds), MOST_TRIED))).tolist():
        try:
            return ds._thumbnail(row), why
        except FileChangedError:
            raise
        except (MapixError, OSError, ValueError) as e:
            why = why or str(e)
    return None, why


def has_pixels(ds: Any) -> bool:
    """Return whether one of the first records has something to show as a tile."""
    return first_image(ds)[0] is not None


def has_columns(ds: Any) -> bool:
    """Return whether a table has something to show; without pixels, at least the records."""
    return bool(ds._column_names()) or not has_pixels(ds)


def has_bytes(ds: Any) -> bool:
    """Return whether the family names the bytes of its records."""
    try:
        return len(ds) > 0 and bool(ds.byte_ranges(0))
    except (MapixError, OSError):
        return True  # the panel shows the error


PANELS: tuple[Panel, ...] = (
    Panel("api", "", "frame", "api", always),
    Panel("facets", "", "frame", "facets", always),
    Panel("grid", "Grid", "main", "tiles", has_pixels),
    Panel("table", "Table", "main", "table", has_columns),
    Panel("problems", "Problems", "main", "problems", always),
    Panel("inspector", "Record", "side", "inspector", always),
    Panel("bytes", "Bytes", "side", "named_bytes", has_bytes),
)


@cache
def panels_of(declared: tuple[Deferred, ...]) -> tuple[Panel, ...]:
    """Return all panels: those that ``ds.PANELS`` declares, then those of mapix.

    The first one that applies is shown first.

    Raises
    ------
    ValueError
        Two panels have one name.
    """
    found = (*(resolved(panel) for panel in declared), *PANELS)
    names = [panel.name for panel in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two panels of the viewer have the name {name!r}")
    return found
