"""What Gatherer, Dataset and Record inherit from: ``mapix._record`` in C, or its twin in Python.

The twin it is where the C module was not built, where the interpreter refuses it, and with
``MAPIX_PURE=1`` in the environment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["FAST", "File", "Record", "Rows"]

FAST = os.environ.get("MAPIX_PURE", "0") in ("", "0")
"""Whether it is the C module."""

if TYPE_CHECKING:
    from mapix.vimh.pure import File, Record, Rows
else:
    try:
        if not FAST:
            raise ImportError("MAPIX_PURE is set")
        from mapix._record import File, Record, Rows
    except ImportError:
        from mapix.vimh.pure import File, Record, Rows

        FAST = False
