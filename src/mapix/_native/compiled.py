"""The optional C module ``mapix._record`` as ``fast``, or None.

It is None if the module was not built, if the interpreter cannot load it, or if the environment
has ``MAPIX_PURE=1``.  Then Python code does the same.
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
