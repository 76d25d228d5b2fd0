"""An IDX file as an array, and as rows for a loader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mapix.errors import MapixError
from mapix.idx.layout import NAME, Header
from mapix.idx.names import splits_of
from mapix.registry import open_dataset
from mapix.rowarray import RowArray

if TYPE_CHECKING:
    from mapix.byte_ranges import Walk
    from mapix.dataset import Progress
    from mapix.plans import Map
    from mapix.report import Report
    from mapix.source import Source

__all__ = ["IdxArray"]


class IdxArray(RowArray):
    """Rows of an IDX file.  Made by ``mapix.open``.

    Indexing with an integer gives a row as a read-only view; with a slice, indices or a mask it
    gives a lazy part.  Pickles as path and fingerprint.

    Attributes
    ----------
    source : Source
        The file that was opened.
    header : Header
        Byte order, type and dimensions.
    labels : IdxArray or None
        The labels beside a file of images (``...-labels-idx1-ubyte``), row for row.
    """

    FAMILY = NAME

    UNPICKLED = ("_of_directory",)

    def __init__(
        self,
        source: Source,
        header: Header,
        *,
        numbers: Source | None = None,
        labels: IdxArray | None = None,
        of_directory: bool = False,
    ) -> None:
        at = header.nbytes
        super().__init__(
            *(source, header.dtype, header.shape, at),
            numbers=numbers,
            labels=labels,
            options={"labels": labels is not None},
        )
        self.header = header
        self._of_directory = of_directory

    @property
    def byteorder(self) -> Literal[">", "<"]:
        """``">"`` in MNIST's files, ``"<"`` in VisualRBM's."""
        return self.header.byteorder

    @property
    def splits(self) -> Mapping[str, str]:
        """Name -> path of the images of each split in the same directory."""
        return splits_of(self.source.full_path)

    def _facts(self) -> dict[str, Any]:
        return {"byteorder": self.byteorder, **super()._facts()}

    def _walk_header(self, walk: Walk) -> None:
        order, shape = self.byteorder, self.header.shape
        walk.take("byte order", "header", 2, "big-endian" if order == ">" else "little-endian")
        walk.take("type", "header", 1, str(self.dtype))
        walk.take("number of dimensions", "header", 1, str(len(shape)))
        walk.numbers(f"{order}I", *(f"dimension {k}" for k in range(len(shape))))

    def verify(self, progress: Progress | None = None, *, map: Map | None = None) -> Report:
        """Check that all rows can be read, that floats are finite, and that labels fit.

        Of a directory, the other split is checked, too.  See ``mapix.Dataset.verify``.
        """
        report = super().verify(progress, map=map)
        others = self.splits if self._of_directory else {}
        for path in others.values():
            if path == self.source.full_path:
                continue
            report.path = os.path.dirname(self.path)
            try:
                with open_dataset(path, format=NAME) as other:
                    found = other.verify(map=map)
            except (MapixError, OSError) as e:
                report.problems.append(str(e))
                continue
            report.nrecords += found.nrecords
            report.nbytes += found.nbytes
            report.problems += found.problems
        return report
