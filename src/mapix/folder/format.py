"""The declaration of image folders to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="folder",
    title="an image folder with a metadata.jsonl",
    open="mapix.folder.opening:open_path",
    suffixes=(".jsonl",),
    files=("metadata.jsonl",),
    detect="mapix.folder.opening:refusal",
    source="mapix.folder.conversion:stream",
    targets={"folder": "mapix.folder.conversion:Folder"},
    commands="mapix.folder.commands:add",
    command_names={"folder": "check image folders, and draw them"},
)
