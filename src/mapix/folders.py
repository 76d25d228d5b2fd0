"""Folders of the user in which mapix stores what it keeps."""

from __future__ import annotations

import os

__all__ = ["cache_folder"]


def cache_folder() -> str:
    """Return the cache folder: ``$MAPIX_CACHE_DIR``, or ``mapix`` in the user's cache folder."""
    own = os.environ.get("MAPIX_CACHE_DIR")
    if own:
        return own
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mapix")
