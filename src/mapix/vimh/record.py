"""One record of a VIMH dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix import _native, view

if TYPE_CHECKING:
    from mapix.vimh.dataset import Dataset

__all__ = ["Record"]


class Record:
    """One image and its labels, looked at where they lie in the file.

    Nothing is read until an attribute is asked for.  ``image``, ``label_bytes`` and ``label_ids``
    are read-only views; the other attributes are small copies, taken under the guard against files
    that shrink.

    Copies: none.  Lifetime: views outlive the record, the dataset and ``close()``.
    Threads: any number.  Cost: O(1).
    """

    __slots__ = ("_at", "_c", "_ds", "_h", "_n", "_w", "index")

    def __init__(self, ds: Dataset, index: int, at: int, h: int, w: int, c: int, n: int) -> None:
        self._ds = ds
        self.index = index  #: number of the record in the file
        self._at = at
        self._h = h
        self._w = w
        self._c = c
        self._n = n

    @property
    def offset(self) -> int:
        """Byte of the record in the file."""
        return self._at

    @property
    def nbytes(self) -> int:
        """Bytes of the whole record, header and labels included."""
        return self._pairs - self._at + 2 * self._n + self._h * self._w * self._c

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the image."""
        return self._h, self._w, self._c

    @property
    def _pairs(self) -> int:
        return self._at + self._ds.header_nbytes + 1

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, uint8 (h, w, c), read-only, aliasing the file.

        Planar files (all real ones) are presented as (h, w, c) through strides.
        """
        data = self._ds.source.mapping.view
        at = self._at + self._ds.header_nbytes + 1 + 2 * self._n
        return view.image(data, at, self._h, self._w, self._c, self._ds.interleaved)

    @property
    def label_bytes(self) -> NDArray[np.uint8]:
        """Codes of the labels in the order of the file, uint8 (N,), read-only view."""
        return view.labels(self._ds.source.mapping.view, self._pairs, self._n, 1)

    @property
    def label_ids(self) -> NDArray[np.uint8]:
        """Parameter ids of the labels in the order of the file, uint8 (N,), read-only view."""
        return view.labels(self._ds.source.mapping.view, self._pairs, self._n, 0)

    def _codes(self) -> list[tuple[int, int]]:
        pairs = _native.copy(self._ds.source.mapping, self._pairs, 2 * self._n, "vimh")
        return list(zip(pairs[::2], pairs[1::2], strict=True))

    @property
    def labels(self) -> dict[str, int]:
        """Name -> code (0..255).  Of an id that appears twice the last one counts."""
        name = self._ds.parameters.by_id
        return {name(id).name: code for id, code in self._codes()}

    @property
    def values(self) -> dict[str, float]:
        """Name -> value in physical units; codes themselves where the range is not known."""
        known = self._ds.parameters.by_id
        found = ((known(id), code) for id, code in self._codes())
        return {p.name: float(p.dequantise(code)) for p, code in found}

    @property
    def spec_range(self) -> tuple[float, float] | None:
        """(spec_min, spec_max) of the record; None in the 6-byte dialect, which has none."""
        if self._ds.header_nbytes != 14:
            return None
        raw = _native.copy(self._ds.source.mapping, self._at + 6, 8, "vimh")
        low, high = np.frombuffer(raw, "<f4")
        return float(low), float(high)

    def __repr__(self) -> str:
        h, w, c = self.shape
        return f"<Record {self.index} of {self._ds.path}: {h} x {w} x {c}, {self._n} labels>"
