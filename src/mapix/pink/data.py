"""Images, or vectors, that PINK trains with and maps."""

from __future__ import annotations

from mapix.pink.file import PinkFile

__all__ = ["Data"]


class Data(PinkFile):
    """Entries of a data file, (n, ...): (n, length), (n, h, w) or (n, channels, h, w).

    Version 1 always has (n, channels, h, w).  ``data[i]`` and ``data.view()`` alias the file,
    ``data.batch`` copies.
    """
