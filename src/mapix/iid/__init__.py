"""IID segmentation archives: segments of packed masks, names, groups.

``mapix.open("x.iid")`` opens one; this package holds what it returns.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mapix.iid.archive import Archive
from mapix.iid.pixels import Masks, Overlaps
from mapix.iid.segment import Region, Segment

if TYPE_CHECKING:
    from mapix.iid.editing import diff, edit, merge, subset
    from mapix.iid.labelmap import LabelMap, add_label_map, label_map, read_png
    from mapix.iid.shards import ShardedArchive, ShardedWriter
    from mapix.iid.writer import Writer

__all__ = [
    "Archive",
    "LabelMap",
    "Masks",
    "Overlaps",
    "Region",
    "Segment",
    "ShardedArchive",
    "ShardedWriter",
    "Writer",
    "add_label_map",
    "diff",
    "edit",
    "label_map",
    "merge",
    "read_png",
    "subset",
]

_LATER = {
    "LabelMap": "labelmap",
    "add_label_map": "labelmap",
    "label_map": "labelmap",
    "read_png": "labelmap",
    "ShardedArchive": "shards",
    "ShardedWriter": "shards",
    "Writer": "writer",
    "diff": "editing",
    "edit": "editing",
    "merge": "editing",
    "subset": "editing",
}


def __getattr__(name: str) -> Any:
    """What most processes do without is imported when it is asked for."""
    if name == "coco":
        return importlib.import_module("mapix.iid.coco")
    if name in _LATER:
        return getattr(importlib.import_module(f"mapix.iid.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
