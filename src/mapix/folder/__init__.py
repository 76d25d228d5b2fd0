"""Image folders with a ``metadata.jsonl``: opsml's, and Hugging Face's imagefolder.

``mapix.open("my_images")`` opens one; this package holds what it returns.
"""

from __future__ import annotations

from typing import Any

from mapix.folder.dataset import ImageFolder
from mapix.folder.record import Objects, Record

__all__ = ["Appender", "ImageFolder", "Objects", "Record", "Writer", "lint", "write"]


def __getattr__(name: str) -> Any:
    """Checks and writers, loaded when they are asked for: a reader does without."""
    if name in ("Appender", "Writer", "write"):
        from mapix.folder import writer

        return getattr(writer, name)
    if name == "lint":
        from mapix.folder.checking import lint

        return lint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
