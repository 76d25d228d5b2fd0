"""The declaration of image folders to the registry."""

from mapix.folder.layout import METADATA_FILES
from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="folder",
    title="a folder of images, with metadata or a folder per class",
    open="mapix.folder.opening:open_path",
    suffixes=(".jsonl", *METADATA_FILES),
    files=METADATA_FILES,
    objects=("train/metadata.jsonl", "test/metadata.jsonl"),
    detect="mapix.folder.opening:refusal",
    repair="mapix.folder.salvage:repair",
    source="mapix.folder.conversion:stream",
    targets={"folder": "mapix.folder.conversion:Folder"},
    commands="mapix.folder.commands:add",
    command_names={"folder": "check image folders, and draw them"},
)
