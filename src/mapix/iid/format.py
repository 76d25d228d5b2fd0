"""The format IID, as it is declared to the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="iid",
    title="an IID segmentation archive",
    open="mapix.iid.opening:open_path",
    magic=((8, b"\x30\0\0\0"),),  # the lookup table begins after the header of 48 bytes
    suffixes=(".iid",),
    detect="mapix.iid.opening:refusal",
    source="mapix.iid.conversion:stream",
    targets={"iid": "mapix.iid.conversion:Iid"},
    commands="mapix.iid.commands:add",
    command_names={"iid": "find, paint, merge, convert segments of archives"},
)
