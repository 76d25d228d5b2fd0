"""Labels as data: columns of codes, without the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.vimh.parameters import Parameter

if TYPE_CHECKING:
    from mapix.vimh.gatherer import Gatherer

__all__ = ["Column", "Labels"]

Masked = np.ma.MaskedArray[Any, np.dtype[Any]]


class Column:
    """One label of every record, in four units; masked where a record lacks it.

    Attributes
    ----------
    parameter : Parameter
        Its name, range and classes.
    codes : ndarray
        uint8 (n,), 0 where missing.
    present : ndarray
        bool (n,).
    """

    __slots__ = ("codes", "parameter", "present")

    def __init__(
        self, parameter: Parameter, codes: NDArray[np.uint8], present: NDArray[np.bool_]
    ) -> None:
        self.parameter = parameter
        self.codes = codes
        self.present = present

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def complete(self) -> bool:
        """Whether no record lacks it, as far as is known without looking at them all."""
        return self.present.strides == (0,) and bool(self.present[:1].all())

    def _masked(self, values: NDArray[Any]) -> Masked:
        return np.ma.MaskedArray(values, ~self.present)

    @property
    def raw(self) -> Masked:
        """Codes, uint8 (n,)."""
        return self._masked(self.codes)

    @property
    def normalised(self) -> Masked:
        """Codes / 255, float64 (n,)."""
        return self._masked(self.codes / 255)

    @property
    def by_code(self) -> NDArray[np.float64]:
        """Physical value of each code, float64 (256,)."""
        return self.parameter.dequantise(np.arange(256))

    @property
    def physical(self) -> Masked:
        """Values in the parameter's own unit, float64 (n,)."""
        return self._masked(self.by_code[self.codes])

    @property
    def classes(self) -> Masked:
        """Class numbers, int64 (n,)."""
        return self._masked(self.parameter.class_of(np.arange(256))[self.codes])

    def __repr__(self) -> str:
        missing = int((~self.present).sum())
        return f"<Column {self.parameter.name}: {len(self)} records, {missing} lack it>"


class Labels(Mapping[str, Column]):
    """Name -> column of a dataset.  Read at the first use, in one pass over the records' labels.

    Copies: two bytes per record and label; of those in a stored index one or two, at each use.
    Lifetime: its own.  Threads: any.  Cost: one cache line of the file a record; the pixels are not
    read.  What was read of a whole file is kept in its stored index: the next process reads that.
    """

    def __init__(self, file: Gatherer, rows: NDArray[np.int64] | None) -> None:
        self._file = file
        self._rows = rows  # None: all
        self._table: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None = None

    def _read(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        if self._table is None:
            every = np.arange(self._file.index.nrecords)
            codes, present = self._file.label_table(every if self._rows is None else self._rows)
            # a column in one piece: it is looked at much more often than it is read
            self._table = np.ascontiguousarray(codes.T), np.ascontiguousarray(present.T)
            if self._rows is None:
                self._file.keep_labels(*self._table)
        return self._table

    def __getitem__(self, name: str) -> Column:
        parameter = self._file.parameters[name]
        known = None if parameter.id is None else self._file.known_column(parameter.id)
        if known is not None:
            codes, present = known
            if self._rows is not None:
                codes, present = codes[self._rows], present[self._rows]
            return Column(parameter, codes, present)
        k = self._file.label_columns[1].index(name)
        table = self._read()
        return Column(parameter, table[0][k], table[1][k])

    def codes(self, name: str) -> NDArray[np.uint8]:
        """``self[name].codes``: what conditions look up."""
        return self[name].codes

    def table(self, name: str) -> NDArray[np.float64]:
        """Physical value of each code of a label, float64 (256,)."""
        return self[name].by_code

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.label_columns[1])

    def __len__(self) -> int:
        return len(self._file.label_columns[1])

    def __repr__(self) -> str:
        n = self._file.index.nrecords if self._rows is None else len(self._rows)
        return f"<Labels of {n} records: {', '.join(self)}>"
