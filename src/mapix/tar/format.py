"""The declaration of tar shards to the registry."""

from mapix.registry import Format
from mapix.tar.layout import is_header

__all__ = ["FORMAT"]

FORMAT = Format(
    name="tar",
    title="a tar archive of records",
    open="mapix.tar.dataset:open_path",
    front=is_header,
    repair="mapix.tar.salvage:repair",
    suffixes=(".tar",),
    targets={"tar": "mapix.tar.conversion:Tar"},
)
