"""An IDX file as an array, and as rows for a loader."""

from __future__ import annotations

from typing import Any, Literal

from mapix.idx.layout import Header
from mapix.rowarray import RowArray
from mapix.source import Source

__all__ = ["IdxArray"]


class IdxArray(RowArray):
    """Rows of an IDX file.  Made by ``mapix.open``.

    Indexing with an integer gives a row as a read-only view, with a slice, indices or a mask a lazy
    part.  Pickles as path and fingerprint.

    Attributes
    ----------
    source : Source
        The file that was opened.
    header : Header
        Byte order, type and dimensions.
    labels : IdxArray or None
        The labels that lie beside a file of images (``...-labels-idx1-ubyte``), row for row.
    """

    SEVERAL = "several IDX files cannot be opened as one"

    def __init__(
        self,
        source: Source,
        header: Header,
        *,
        numbers: Source | None = None,
        labels: IdxArray | None = None,
    ) -> None:
        at = header.nbytes
        super().__init__(source, header.dtype, header.shape, at, numbers=numbers, labels=labels)
        self.header = header

    @property
    def byteorder(self) -> Literal[">", "<"]:
        """``">"``: MNIST's; ``"<"``: VisualRBM's."""
        return self.header.order

    def __reduce__(self) -> tuple[Any, ...]:
        from mapix.idx.opening import reopen

        what = self.source.identity, self.labels is not None, self._rows
        return reopen, (self.source.full_path, *what)
