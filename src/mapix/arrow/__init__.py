"""Arrow and Parquet files as datasets: those that ``mapix.convert`` writes, and others.

``mapix.open("x.parquet")`` opens one; this package holds what it returns.  Needs pyarrow.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.arrow.dataset import ArrowTable, TableRecord

__all__ = ["ArrowTable", "TableRecord"]

_MODULES = {"ArrowTable": "dataset", "TableRecord": "dataset"}

__getattr__, __dir__ = attach(__name__, _MODULES)
