"""Labels of all records as columns of codes, read without the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mapix import columns
from mapix.vimh.parameters import Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Column"]

if TYPE_CHECKING:  # numpy.ma takes a third of the time of a first open
    Masked = np.ma.MaskedArray[Any, np.dtype[Any]]

CODES = np.arange(256)


class Column(columns.Column):
    """One label of every record, in four units; masked where a record lacks it.

    ``values`` are physical.  ``groups()`` are the class numbers.

    Parameters
    ----------
    parameter : Parameter
        Its name, range and classes.
    codes : ndarray
        uint8 (n,), 0 where missing.
    present : ndarray, optional
        bool (n,); None where no record lacks the label.

    Attributes
    ----------
    parameter
        As given.
    """

    __slots__ = ("parameter",)

    def __init__(
        self,
        parameter: Parameter,
        codes: NDArray[np.uint8],
        present: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(parameter.name, codes, present, description=parameter.description)
        self.parameter = parameter

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Codes, uint8 (n,), 0 where missing."""
        return self._values

    @property
    def by_code(self) -> NDArray[np.float64]:
        """Physical value of each code, float64 (256,)."""
        return self.parameter.dequantise(CODES)

    @property
    def values(self) -> NDArray[np.float64]:
        """Values in the parameter's own unit, float64 (n,).  Copies: yes."""
        return self.by_code.take(self.codes)

    def rounding(self) -> NDArray[np.float64]:
        """Return the step between two codes, (n,): writers of VIMH round values to these."""
        step = abs(float(self.by_code[1] - self.by_code[0]))
        return np.full(len(self), 0.0 if self.parameter.direct else step)

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
    def physical(self) -> Masked:
        """Values in the parameter's own unit, float64 (n,)."""
        return self._masked(self.values)

    @property
    def classes(self) -> Masked:
        """Class numbers, int64 (n,)."""
        return self._masked(self.parameter.class_of(CODES).take(self.codes))

    def groups(self) -> NDArray[np.int64]:
        """Return the class numbers, int64 (n,); -1 where missing."""
        found = self.parameter.class_of(CODES).take(self.codes)
        if not self.complete:
            found[~self.present] = -1
        return found

    def counts(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the values that occur, ascending, and how often: by counting 256 codes."""
        by_code, values = self._code_counts(), self.by_code
        ascending = np.argsort(values, kind="stable")
        unique, first = np.unique(values[ascending], return_index=True)
        counts = np.add.reduceat(by_code[ascending], first)
        return unique[counts > 0], counts[counts > 0]

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of records of each class, int64 (num_classes,)."""
        found = np.zeros(self.parameter.num_classes, np.int64)
        np.add.at(found, self.parameter.class_of(CODES), self._code_counts())
        return found

    def _code_counts(self) -> NDArray[np.int64]:
        codes = self.codes if self.complete else self.codes[self.present]
        return np.bincount(codes, minlength=256)
