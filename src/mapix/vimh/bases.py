"""What Gatherer, Dataset and Record inherit from: ``mapix._record``, or its twin in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mapix.compiled import fast

__all__ = ["FAST", "File", "Record", "Rows"]

FAST = fast is not None
"""Whether it is the C module."""

if TYPE_CHECKING:
    from mapix.vimh.pure import File, Record, Rows
elif FAST:
    File, Record, Rows = fast.File, fast.Record, fast.Rows
else:
    from mapix.vimh.pure import File, Record, Rows
