"""Base classes of Gatherer, Dataset and Record: of ``mapix._record``, or the fallback in Python."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

from mapix._native.compiled import fast
from mapix.registry import COLLATED

__all__ = ["FAST", "File", "Record", "Rows"]

FAST = fast is not None
"""Whether it is the C module."""

if TYPE_CHECKING:
    from mapix.vimh.record_fallback import File, Record, Rows
elif FAST:
    File, Record, Rows = fast.File, fast.Record, fast.Rows
else:
    from mapix.vimh.record_fallback import File, Record, Rows


def _record(file: File, row: int) -> Record:
    return file.record(row)


def _reduced(record: Any) -> tuple[Any, ...]:
    return _record, (record._file, record.index)


# Records pickle as their file and their number in it, whichever of the two types they are.
copyreg.pickle(Record, _reduced)
COLLATED[Record] = "mapix.vimh.record_batch:batch_of"
