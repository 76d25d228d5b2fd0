"""Fallback for ``mapix._record`` in Python, where the C module was not built; tests compare both.

``record_types`` chooses between the two.  What does not have to be fast is written once, in the
subclasses: ``Gatherer``, ``Dataset`` and ``Record``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from mapix._native import AT_MASK
from mapix.vimh.record_index import table_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Entry", "File", "Record", "Rows"]

_U8 = np.dtype(np.uint8)
_ENTRY = struct.Struct("<QHHH2x")  # mapix_entry

Entry = tuple[int, int, int, int]
"""(at_n, h, w, c) of a record, as the index has it: the low 56 bits of at_n are the byte offset,
the high 8 the number of labels."""


class File:
    """Places of the records of a file.

    A subclass overrides the methods that raise NotImplementedError here: ``_ready`` attaches the
    file, or raises ClosedError; ``_find`` confirms an entry of a stored table, or raises; the
    others return the labels of a record.

    The C module calls two more.  ``_located`` returns an object, the address of the ``mapix_map``
    that it keeps alive, and that of ``mapix_copy``.  ``_head`` returns the name of a label id, and
    the values of its 256 codes.
    """

    fixed_nbytes: int
    interleaved: bool
    _data: Any = None

    def _ready(self) -> None:
        raise NotImplementedError

    def _find(self, row: int) -> Entry:
        raise NotImplementedError

    @property
    def images(self) -> NDArray[np.uint8] | None:
        """All images of a uniform file."""
        raise NotImplementedError

    @property
    def codes(self) -> NDArray[np.uint8] | None:
        """All label codes of a uniform file."""
        raise NotImplementedError

    def labels_beside(self, record: Record, which: int) -> NDArray[np.uint8]:
        """Return ids (0) or codes (1) of a record of a file whose labels lie elsewhere."""
        raise NotImplementedError

    def labels_of(self, record: Record) -> dict[str, int]:
        """Return ``record.labels``."""
        raise NotImplementedError

    def values_of(self, record: Record) -> dict[str, float]:
        """Return ``record.values``."""
        raise NotImplementedError

    def spec_range_of(self, record: Record) -> tuple[float, float] | None:
        """Return ``record.spec_range``."""
        raise NotImplementedError

    def decibels_of(self, record: Record) -> NDArray[np.float32]:
        """Return ``record.decibels``."""
        raise NotImplementedError

    def repr_of(self, record: Record) -> str:
        """Return ``repr(record)``."""
        raise NotImplementedError

    def array_of(self, record: Record, dtype: Any, copy: bool | None) -> NDArray[Any]:
        """Return ``record.__array__(dtype, copy)``."""
        raise NotImplementedError

    def html_of(self, record: Record) -> str:
        """Return ``record._repr_html_()``."""
        raise NotImplementedError

    def _attach(
        self,
        data: Any,
        nrecords: int,
        stride: int,
        first: tuple[int, int, int, int, int],
        entries: NDArray[np.void] | None,
        end: int,
        head_nbytes: int,
        interleaved: bool,
        find: int,
    ) -> None:
        """Attach the file.

        Its bytes, the fields of a RecordIndex, and the address of the C function that confirms an
        entry (0 for a table that this process made).
        """
        self._data = data
        self._first, self._stride = first, stride
        self._raw = None if entries is None else table_bytes(entries)
        self._stored = bool(find)

    def _detach(self) -> None:
        self._data = None

    @property
    def data(self) -> Any:
        """Bytes of the file; ClosedError after ``close``."""
        while (data := self._data) is None:  # again, if another thread closes the file
            self._ready()
        return data

    def record(self, row: int) -> Record:
        """Return the record of a row that is in range."""
        if self._data is None:
            self._ready()
        if self._stored:
            return Record(self, row, self._find(row))
        if self._raw is None:
            at, h, w, c, n = self._first
            return Record(self, row, (at + row * self._stride | n << 56, h, w, c))
        return Record(self, row, _ENTRY.unpack_from(self._raw, row * 16))


class Rows:
    """Records by number.  Other keys than an int in range go to the subclass's ``_pick``."""

    def _pick(self, key: Any) -> Any:
        raise NotImplementedError

    def _bind(
        self, file: File, n: int, start: int, step: int, numbers: NDArray[np.int64] | None
    ) -> None:
        """Make row i of n record ``numbers[i]`` of ``file``; without them ``start + i * step``."""
        self._file = file
        self._nrows = n
        self._start, self._step, self._numbers = start, step, numbers

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int:
            row = key if key >= 0 else key + self._nrows
            if 0 <= row < self._nrows:
                if self._numbers is None:
                    return self._file.record(self._start + row * self._step)
                return self._file.record(int(self._numbers[row]))
        return self._pick(key)


class Record:
    """One image and its labels, at their place in the file.

    Nothing is read until an attribute is asked for.  ``image``, ``label_bytes`` and ``label_ids``
    are read-only views; the other attributes are small copies, taken under the guard against files
    that shrink.  A record pickles as path, options and fingerprint of the file, and its number.

    Copies: none.  Lifetime: views outlive the record, the dataset and ``close()``.
    Threads: any number.  Cost: O(1).
    """

    __slots__ = ("_entry", "_file", "index")

    def __init__(self, file: File, index: int, entry: Entry) -> None:
        self._file = file
        self.index = index  #: number of the record in the file
        self._entry = entry

    @property
    def offset(self) -> int:
        """Byte of the record in the file."""
        return self._entry[0] & AT_MASK

    @property
    def nbytes(self) -> int:
        """Bytes of the record, header and labels included."""
        _, h, w, c = self._entry
        return self._file.fixed_nbytes + 2 * (self._entry[0] >> 56) + h * w * c

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the image."""
        return self._entry[1:4]

    @property
    def nlabels(self) -> int:
        """Number of labels."""
        if not self._file.fixed_nbytes:
            return len(self._file.labels_beside(self, 0))
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
        if not file.fixed_nbytes:
            return file.labels_beside(self, 1)
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
        if not file.fixed_nbytes:
            return file.labels_beside(self, 0)
        at = self._entry[0]
        return np.ndarray((at >> 56,), _U8, file.data, (at & AT_MASK) + file.fixed_nbytes, (2,))

    @property
    def labels(self) -> dict[str, int]:
        """Name -> code (0..255).  Of an id that appears twice the last one counts."""
        return self._file.labels_of(self)

    @property
    def values(self) -> dict[str, float]:
        """Name -> value in physical units; codes themselves where the range is not known."""
        return self._file.values_of(self)

    @property
    def spec_range(self) -> tuple[float, float] | None:
        """(spec_min, spec_max) of the record; None in the 6-byte dialect, which has none."""
        return self._file.spec_range_of(self)

    @property
    def decibels(self) -> NDArray[np.float32]:
        """The image in dB, float32 (h, w, c): ``mapix.vimh.decibels`` of image and ``spec_range``.

        Copies: yes.  Raises UnsupportedError where the record has no range, as in the 6-byte
        dialect.
        """
        return self._file.decibels_of(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the image, for ``np.asarray(record)``: without a copy unless one is needed."""
        return self._file.array_of(self, dtype, copy)

    def _repr_html_(self) -> str:
        return self._file.html_of(self)

    def __repr__(self) -> str:
        return self._file.repr_of(self)
