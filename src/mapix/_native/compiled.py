"""The optional C module ``mapix._record``, or None.

None where it was not built, where the interpreter refuses it, and with ``MAPIX_PURE=1`` in the
environment: then what it does is done in Python.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

__all__ = ["fast"]

fast: Any = None

if os.environ.get("MAPIX_PURE", "0") in ("", "0"):
    with contextlib.suppress(ImportError):
        import mapix._record as fast
