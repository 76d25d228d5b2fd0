"""TFRecord files of images, read where they lie, without TensorFlow.

``mapix.open("train.tfrecord")`` opens one; this package holds what it returns.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
    from mapix.tfrecord.dataset import TFRecords
    from mapix.tfrecord.record import Record

__all__ = ["Record", "TFRecords"]

_MODULES = {"Record": "record", "TFRecords": "dataset"}

__getattr__, __dir__ = attach(__name__, _MODULES)
