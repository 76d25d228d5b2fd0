"""IID segmentation archives: segments of packed masks, names, groups.

``mapix.open("x.iid")`` opens one; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.iid import coco
    from mapix.iid.archive import Archive
    from mapix.iid.editing import diff, edit, merge, subset
    from mapix.iid.labelmap import LabelMap, add_label_map, label_map, read_png
    from mapix.iid.pixels import Masks, Overlaps
    from mapix.iid.segment import Region, Segment
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
    "coco",
    "diff",
    "edit",
    "label_map",
    "merge",
    "read_png",
    "subset",
]

_MODULES = {
    "Archive": "archive",
    "LabelMap": "labelmap",
    "Masks": "pixels",
    "Overlaps": "pixels",
    "Region": "segment",
    "Segment": "segment",
    "ShardedArchive": "shards",
    "ShardedWriter": "shards",
    "Writer": "writer",
    "add_label_map": "labelmap",
    "coco": "",
    "diff": "editing",
    "edit": "editing",
    "label_map": "labelmap",
    "merge": "editing",
    "read_png": "labelmap",
    "subset": "editing",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
