"""What Gatherer, Dataset and Record inherit from: ``mapix._record`` in C, or its twin in Python.

The twin it is where the C module was not built, where the interpreter refuses it, and with
``MAPIX_PURE=1`` in the environment.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from mapix.vimh import pure

if TYPE_CHECKING:
    from mapix.vimh.pure import File, Record, Rows
else:
    File, Record, Rows = pure.File, pure.Record, pure.Rows
    if os.environ.get("MAPIX_PURE", "0") in ("", "0"):
        with contextlib.suppress(ImportError):
            from mapix._record import File, Record, Rows

__all__ = ["FAST", "File", "Record", "Rows"]

FAST = Record is not pure.Record
