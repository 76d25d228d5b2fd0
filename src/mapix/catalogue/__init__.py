"""Catalogues: many files and folders as one dataset, which opens at once.

>>> mapix.catalogue.write("shards/", "all.catalogue")          # doctest: +SKIP
>>> ds = mapix.open("all.catalogue")                           # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.catalogue.shards import Shards
    from mapix.catalogue.writing import Written, add, refresh, remove, write

__all__ = ["Shards", "Written", "add", "refresh", "remove", "write"]

_MODULES = {
    "Shards": "shards",
    **dict.fromkeys(("Written", "add", "refresh", "remove", "write"), "writing"),
}

__getattr__, __dir__ = attach(__name__, _MODULES)
