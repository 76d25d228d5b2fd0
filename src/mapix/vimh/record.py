"""One record of a VIMH dataset: the class that ``ds[i]`` is an instance of."""

from __future__ import annotations

from mapix.vimh.bases import Record

__all__ = ["Record"]
