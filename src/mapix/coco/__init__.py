"""COCO's annotations: images, boxes, masks and captions in one JSON file.

``mapix.open("instances.json")`` opens one; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.coco.dataset import CocoAnnotations, CocoBatch, CocoImages
    from mapix.coco.record import CocoAnnotation, CocoImage

__all__ = ["CocoAnnotation", "CocoAnnotations", "CocoBatch", "CocoImage", "CocoImages"]

_MODULES = {
    "CocoAnnotation": "record",
    "CocoAnnotations": "dataset",
    "CocoBatch": "dataset",
    "CocoImage": "record",
    "CocoImages": "dataset",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
