"""Locations as text: URLs, paths from the root of the file system, and the cache folder."""

from __future__ import annotations

import os
import re

__all__ = ["absolute", "cache_folder", "is_url"]


def is_url(path: str | bytes) -> bool:
    """Return whether a path is a URL: ``scheme://...``."""
    return (
        isinstance(path, str)
        and "://" in path  # the usual case, without a regular expression
        and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path, re.ASCII) is not None
    )


def absolute(path: str) -> str:
    """Return a path from the root of the file system, without resolving links or ``..``.

    A URL is absolute.
    """
    if path.startswith("/") or is_url(path):
        return path
    return os.path.join(os.getcwd(), path)


def cache_folder() -> str:
    """Return the cache folder: ``$MAPIX_CACHE_DIR``, or ``mapix`` in the user's cache folder."""
    own = os.environ.get("MAPIX_CACHE_DIR")
    if own:
        return own
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mapix")
