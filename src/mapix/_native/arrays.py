"""The compiled core's functions for arrays: rows of numbers as records without headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mapix._native.core import IntArray, writable
from mapix._native.records import Table, new_gather

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mapix.source import Mapping

__all__ = ["Array"]


class Array:
    """Rows of numbers in a file: row i is ``row_nbytes`` at byte ``at + i * row_nbytes``.

    Parameters
    ----------
    at, row_nbytes, nrows : int
        Where the rows are.
    swap : int
        Size of the numbers whose bytes are to be reversed: 2, 4, 8; or 1.
    format : str
        The format, for error messages.
    """

    __slots__ = ("_row_nbytes", "_swap", "table")

    def __init__(
        self,
        *,
        at: int,
        row_nbytes: int,
        nrows: int,
        swap: int = 1,
        format: str = "rows",
    ) -> None:
        self._row_nbytes, self._swap = row_nbytes, swap
        self.table = Table(
            nrecords=nrows,
            stride=row_nbytes,
            first=(at, 0, 0, 0, 0),
            entries=None,
            head_nbytes=0,
            interleaved=True,
            format=format,
        )

    def gather(self, mapping: Mapping, rows: IntArray, to: NDArray[Any], threads: int = 1) -> None:
        """Copy rows into ``to``, which is C-contiguous and large enough."""
        if to.nbytes < len(rows) * self._row_nbytes or not to.flags.c_contiguous:
            raise ValueError(
                f"{len(rows)} rows of {self._row_nbytes} bytes, but space for {to.nbytes}"
            )
        plan, into = new_gather(), writable(to)
        plan.images, plan.images_nbytes = into, to.nbytes
        plan.swap, plan.nthreads = self._swap, threads
        self.table.gather(mapping, rows, plan)

    def willneed(self, mapping: Mapping, rows: IntArray, probe: int) -> int:
        """Have the kernel read rows in the background; return how many."""
        return self.table.willneed(mapping, rows, probe)
