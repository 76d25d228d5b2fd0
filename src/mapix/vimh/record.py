"""One record of a VIMH dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapix import _native
from mapix._native import AT_MASK

if TYPE_CHECKING:
    from mapix.vimh.gatherer import Gatherer

__all__ = ["Entry", "Record"]

_U8 = np.dtype(np.uint8)

Entry = tuple[int, int, int, int]
"""(at_n, h, w, c) of a record, as the index has it: the low 56 bits of at_n are the byte offset,
the high 8 the number of labels."""


class Record:
    """One image and its labels, looked at where they lie in the file.

    Nothing is read until an attribute is asked for.  ``image``, ``label_bytes`` and ``label_ids``
    are read-only views; the other attributes are small copies, taken under the guard against files
    that shrink.

    Copies: none.  Lifetime: views outlive the record, the dataset and ``close()``.
    Threads: any number.  Cost: O(1).
    """

    __slots__ = ("_entry", "_file", "index")

    def __init__(self, file: Gatherer, index: int, entry: Entry) -> None:
        self._file = file
        self.index = index  #: number of the record in the file
        self._entry = entry

    @property
    def offset(self) -> int:
        """Byte of the record in the file."""
        return self._entry[0] & AT_MASK

    @property
    def nbytes(self) -> int:
        """Bytes of the whole record, header and labels included."""
        _, h, w, c = self._entry
        return self._file.fixed_nbytes + 2 * self.nlabels + h * w * c

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the image."""
        return self._entry[1:4]

    @property
    def nlabels(self) -> int:
        """Number of labels."""
        return self._entry[0] >> 56

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, uint8 (h, w, c), read-only, aliasing the file.

        Planar files (all real ones) are presented as (h, w, c) through strides.
        """
        file = self._file
        alike = file.images
        if alike is not None:
            found: NDArray[np.uint8] = alike[self.index]
            return found
        at, h, w, c = self._entry
        at = (at & AT_MASK) + file.fixed_nbytes + 2 * (at >> 56)
        if file.interleaved:
            return np.ndarray((h, w, c), _U8, file.data, at, (w * c, c, 1))
        return np.ndarray((h, w, c), _U8, file.data, at, (w, 1, h * w))

    @property
    def label_bytes(self) -> NDArray[np.uint8]:
        """Codes of the labels in the order of the file, uint8 (N,), read-only view."""
        file = self._file
        alike = file.codes
        if alike is not None:
            found: NDArray[np.uint8] = alike[self.index]
            return found
        at = self._entry[0]
        return np.ndarray((at >> 56,), _U8, file.data, (at & AT_MASK) + file.fixed_nbytes + 1, (2,))

    @property
    def label_ids(self) -> NDArray[np.uint8]:
        """Parameter ids of the labels in the order of the file, uint8 (N,), read-only view."""
        file = self._file
        at = self._entry[0]
        return np.ndarray((at >> 56,), _U8, file.data, (at & AT_MASK) + file.fixed_nbytes, (2,))

    def _pairs(self) -> list[tuple[int, int]]:
        at = self.offset + self._file.fixed_nbytes
        pairs = _native.copy(self._file.source.mapping, at, 2 * self.nlabels, "vimh")
        return list(zip(pairs[::2], pairs[1::2], strict=True))

    @property
    def labels(self) -> dict[str, int]:
        """Name -> code (0..255).  Of an id that appears twice the last one counts."""
        name = self._file.parameters.by_id
        return {name(id).name: code for id, code in self._pairs()}

    @property
    def values(self) -> dict[str, float]:
        """Name -> value in physical units; codes themselves where the range is not known."""
        known = self._file.parameters.by_id
        found = ((known(id), code) for id, code in self._pairs())
        return {p.name: float(p.dequantise(code)) for p, code in found}

    @property
    def spec_range(self) -> tuple[float, float] | None:
        """(spec_min, spec_max) of the record; None in the 6-byte dialect, which has none."""
        if self._file.index.head_nbytes != 14:
            return None
        raw = _native.copy(self._file.source.mapping, self.offset + 6, 8, "vimh")
        low, high = np.frombuffer(raw, "<f4")
        return float(low), float(high)

    def __repr__(self) -> str:
        h, w, c = self.shape
        path = self._file.source.path
        return f"<Record {self.index} of {path}: {h} x {w} x {c}, {self.nlabels} labels>"
