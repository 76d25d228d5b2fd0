"""Make the entries of a catalogue."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.catalogue.file import CatalogueFile, are_options
from mapix.catalogue.layout import (
    ENTRY,
    HAS_RANGE,
    MOST_SCHEMAS,
    NO_SHAPE,
    NO_VALUE,
    RANGE,
    Schema,
)
from mapix.catalogue.names import hashes_of
from mapix.catalogue.shards import dtype_of
from mapix.columns import Column
from mapix.errors import UnsupportedError
from mapix.source import is_url

__all__ = ["Draft", "Drafting", "stated"]


@dataclass
class Draft:
    """An entry that is being made."""

    entry: NDArray[np.void]  # ENTRY (), without the places of its blob and its names
    path: str  # absolute
    options: dict[str, Any]
    ranges: NDArray[np.void]
    hashes: NDArray[np.uint64] | None

    def text(self, folder: str) -> bytes:
        """Return path and options, as a catalogue in a folder states them."""
        return stated(folder, self.path, self.options)


def stated(folder: str, path: str, options: dict[str, Any]) -> bytes:
    """Return the text of a shard: equal for the same path and options."""
    if not is_url(path):
        within, name = os.path.split(path)
        place = os.path.join(os.path.realpath(within), name)  # not of the file: it may be a link
        if os.path.commonpath([folder, place]) == folder:
            path = os.path.relpath(place, folder)
    return json.dumps({"path": path, "options": options}, sort_keys=True).encode()


class Drafting:
    """Makes entries of datasets that fit together.

    Parameters
    ----------
    folder : str
        The folder of the catalogue.
    ranges, names : bool
        See ``write``.
    file : CatalogueFile, optional
        The catalogue, where there is one.
    """

    def __init__(
        self, folder: str, *, ranges: bool, names: bool, file: CatalogueFile | None = None
    ) -> None:
        self.schemas: list[Schema] = []
        self.examples: list[Any] = []
        self._kinds: set[Any] = set()  # that fit together
        self._folder, self._ranges, self._names, self._file = folder, ranges, names, file
        self._known: set[bytes] = set()  # texts of the shards so far

    @classmethod
    def like(cls, file: CatalogueFile) -> Drafting:
        """Return one that continues a catalogue."""
        slot = file.slot
        made = cls(file.folder, ranges=slot.ranged, names=slot.named, file=file)
        made.schemas = list(file.schemas)
        return made

    def new(self, ds: Any) -> Draft | None:
        """Return the entry of a dataset; None if there is one already."""
        path, options = self._place(ds)
        text = stated(self._folder, path, options)
        if text in self._known or (self._file is not None and self._file.has(text)):
            return None
        self._known.add(text)
        return self.draft(ds)

    def _place(self, ds: Any) -> tuple[str, dict[str, Any]]:
        """Return path and options of a dataset.

        Raises
        ------
        UnsupportedError
            JSON does not hold the options.
        """
        path, options, _ = ds._reopening()
        try:
            held = json.loads(json.dumps(options))
            if not are_options(held):
                raise TypeError("they are not texts, numbers, booleans, or lists of these")
            return path, held
        except (TypeError, ValueError) as e:
            reason = f"it was opened with options that a catalogue does not hold: {e}"
            raise UnsupportedError(f"{ds.path}: {reason}") from e

    def draft(self, ds: Any) -> Draft:
        """Return the entry of a dataset.

        Raises
        ------
        FormatError
            It does not fit those before.
        UnsupportedError
            Its family cannot be in a catalogue, or it has options that JSON does not hold.
        """
        path, options = self._place(ds)
        f = ds._reopening()[2]
        schema = self._schema(ds)
        shape = ds.image_shape
        if shape is not None and (len(shape) > 8 or max(shape, default=0) > 0xFFFFFFFF):
            raise UnsupportedError(f"{ds.path}: rows of shape {shape}")
        entry = np.zeros((), ENTRY)
        values: dict[str, Any] = {
            "nrecords": len(ds),
            "nbytes": ds._files_nbytes(),
            "schema": schema,
            **{name: getattr(f, name) for name in ("dev", "ino", "size", "mtime_ns", "ctime_ns")},
            **{name: getattr(f, name) for name in ("mode", "uid", "gid", "nlink")},
            "sample": -1 if f.sample is None else f.sample,
            "ndim": NO_SHAPE if shape is None else len(shape),
            "dtype": dtype_of(ds).encode(),
        }
        for name, value in values.items():
            entry[name] = value
        entry["shape"][: len(shape or ())] = shape or ()
        columns = self.schemas[schema].columns
        ranges = np.zeros(len(columns), RANGE)
        if self._ranges:
            for k, name in enumerate(columns):
                ranges[k] = _range(ds.columns[name])
        entry["nranges"] = len(columns)
        hashes = hashes_of(ds) if self._names else None
        return Draft(entry, path, options, ranges, hashes)

    def _schema(self, ds: Any) -> int:
        """Return the number of a dataset's schema.

        Raises
        ------
        FormatError
            The dataset cannot be joined to those before.
        """
        found = Schema(ds.FAMILY, tuple(ds._column_names()), tuple(ds._label_names()), ds._schema())
        kind = found, ds.image_shape if len(ds) else None, dtype_of(ds), len(ds) > 0
        if kind not in self._kinds:
            new = found not in self.schemas
            first, *others = [*self.examples, ds]
            first.joined(others)  # or it is an error
            if new or not any(map(len, self.examples)):
                self.examples.append(ds)
            self._kinds.add(kind)
            if new:
                if len(self.schemas) == MOST_SCHEMAS:
                    raise UnsupportedError(
                        f"{ds.path}: a catalogue holds at most {MOST_SCHEMAS} kinds of shards that "
                        "differ in the names of their columns"
                    )
                self.schemas.append(found)
        return self.schemas.index(found)


def _range(column: Column) -> tuple[float, float, int, int]:
    """Return the range of a column: low, high and flags."""
    present = column.present
    if not present.any():
        return 0.0, 0.0, NO_VALUE, 0
    if not column.numeric:
        return 0.0, 0.0, 0, 0
    values = column.filled()[present]
    low, high = float(values.min()), float(values.max())
    if not low <= high:  # NaN
        return 0.0, 0.0, 0, 0
    return low, high, HAS_RANGE, 0
