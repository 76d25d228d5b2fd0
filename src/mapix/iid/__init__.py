"""IID segmentation archives: segments of packed masks, names, groups.

``mapix.open("x.iid")`` opens one; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.iid import coco
    from mapix.iid.archive import Archive
    from mapix.iid.coco_reading import from_coco
    from mapix.iid.coco_writing import to_coco, to_panoptic
    from mapix.iid.editing import diff, edit, merge, subset
    from mapix.iid.geojson import to_geojson
    from mapix.iid.label_files import read_labels, read_png, save_labels
    from mapix.iid.label_maps import LabelMap, add_label_map, label_map
    from mapix.iid.pixel_results import Masks, Overlaps
    from mapix.iid.segment import Region, Segment
    from mapix.iid.selection import Selection
    from mapix.iid.sharded_archive import ShardedArchive
    from mapix.iid.sharded_writer import ShardedWriter
    from mapix.iid.single_archive import SingleArchive
    from mapix.iid.writer import Writer

__all__ = [
    "Archive",
    "LabelMap",
    "Masks",
    "Overlaps",
    "Region",
    "Segment",
    "Selection",
    "ShardedArchive",
    "ShardedWriter",
    "SingleArchive",
    "Writer",
    "add_label_map",
    "coco",
    "diff",
    "edit",
    "from_coco",
    "label_map",
    "merge",
    "read_labels",
    "read_png",
    "save_labels",
    "subset",
    "to_coco",
    "to_geojson",
    "to_panoptic",
]

_MODULES = {
    "Archive": "archive",
    "LabelMap": "label_maps",
    "Masks": "pixel_results",
    "Overlaps": "pixel_results",
    "Region": "segment",
    "Segment": "segment",
    "Selection": "selection",
    "ShardedArchive": "sharded_archive",
    "ShardedWriter": "sharded_writer",
    "SingleArchive": "single_archive",
    "Writer": "writer",
    "add_label_map": "label_maps",
    "coco": "",
    "diff": "editing",
    "edit": "editing",
    "from_coco": "coco_reading",
    "label_map": "label_maps",
    "merge": "editing",
    "read_labels": "label_files",
    "read_png": "label_files",
    "save_labels": "label_files",
    "subset": "editing",
    "to_coco": "coco_writing",
    "to_geojson": "geojson",
    "to_panoptic": "coco_writing",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
