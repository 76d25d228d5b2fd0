"""The declaration of TFRecord files to the registry."""

from mapix.registry import Format
from mapix.tfrecord.layout import is_header

__all__ = ["FORMAT"]

FORMAT = Format(
    name="tfrecord",
    title="a TFRecord file",
    open="mapix.tfrecord.dataset:open_path",
    front=is_header,
    repair="mapix.tfrecord.salvage:repair",
    suffixes=(".tfrecord", ".tfrecords", ".tfrec"),
    targets={"tfrecord": "mapix.tfrecord.conversion:TFRecord"},
)
