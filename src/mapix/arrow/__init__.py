"""Arrow and Parquet files as datasets: those that ``mapix.convert`` writes, and others.

``mapix.open("x.parquet")`` opens one, or a directory of them; this package holds what it returns.
Needs pyarrow.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.arrow.dataset import ArrowTable, TableRecord
    from mapix.arrow.saved import SavedTables

__all__ = ["ArrowTable", "SavedTables", "TableRecord"]

_MODULES = {"ArrowTable": "dataset", "SavedTables": "saved", "TableRecord": "dataset"}

__getattr__, __dir__ = attach(__name__, _MODULES)
