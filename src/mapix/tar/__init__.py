"""Tar shards as WebDataset writes them: records of several files, read where they lie.

``mapix.open("train-000000.tar")`` opens one; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.tar.dataset import TarShard
    from mapix.tar.record import Record

__all__ = ["Record", "TarShard"]

_MODULES = {"Record": "record", "TarShard": "dataset"}

__getattr__, __dir__ = attach(__name__, _MODULES)
