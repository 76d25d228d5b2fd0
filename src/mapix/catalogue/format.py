"""The declaration of catalogues for the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="catalogue",
    title="a catalogue of datasets",
    open="mapix.catalogue.opening:open_path",
    magic=((0, b"mapix catalogue\n"),),
    suffixes=(".catalogue",),
    repair="mapix.catalogue.salvage:repair",
    commands="mapix.catalogue.commands:add",
    command_names={"catalogue": "list datasets in a file that opens them as one"},
)
