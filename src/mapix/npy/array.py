"""NumPy's arrays as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix.npy.layout import LENGTHS, MAGIC, NPY, Header
from mapix.rowarray import RowArray

if TYPE_CHECKING:
    from mapix.byte_ranges import Walk
    from mapix.columns import Column
    from mapix.source import Source

__all__ = ["NpyArray"]


class NpyArray(RowArray):
    """Rows of a ``.npy`` file.  Made by ``mapix.open``.

    Indexing with an integer gives a row as a read-only view; with a slice, indices or a mask it
    gives a lazy part.  Fields of records are columns.

    Attributes
    ----------
    source : Source
        The file that was opened.
    header : Header
        Version, type and dimensions.
    """

    FAMILY = NPY

    def __init__(
        self,
        source: Source,
        header: Header,
        at: int = 0,
        *,
        numbers: Source | None = None,
        labels: RowArray | None = None,
        axes: str = "HWC",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            *(source, header.dtype, header.shape, at + header.nbytes),
            numbers=numbers,
            labels=labels,
            planar=axes == "CHW",
            options={"axes": axes, **(options or {})},
        )
        self.header = header

    def _facts(self) -> dict[str, Any]:
        version = ".".join(map(str, self.header.version))
        return {"version": version, **super()._facts()}

    def _walk_header(self, walk: Walk) -> None:
        walk.at = self._at - self.header.nbytes
        walk.take("magic", "header", len(MAGIC), "NUMPY")
        walk.take("version", "header", 2, ".".join(map(str, self.header.version)))
        (nbytes,) = walk.numbers(LENGTHS[self.header.version], "length of the header")
        walk.string("header", int(nbytes), "header")

    def _fields(self) -> tuple[str, ...]:
        """Return the fields of records that are columns: one value each."""
        dtype = self._dtype
        if dtype.names is None or len(self._shape) > 1:
            return ()
        return tuple(name for name in dtype.names if dtype[name].kind in "biufSU")

    def _column_names(self) -> tuple[str, ...]:
        return (*super()._column_names(), *self._fields())

    def _column(self, name: str) -> Column:
        if name not in self._fields():
            return super()._column(name)
        from mapix.columns import Column

        values = np.ascontiguousarray(self._copied(self.rows)[name])
        if values.dtype.kind in "SU":
            return Column(name, values.astype(object))
        return Column(name, values.astype(values.dtype.newbyteorder("=")))
