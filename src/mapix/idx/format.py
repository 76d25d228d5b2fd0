"""The declaration of IDX for the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="idx",
    title="an IDX array",
    open="mapix.idx.opening:open_path",
    magic=((0, b"\0\0"), (0, b"\xff\xff"), (0, b"\x1f\x8b")),
    suffixes=(".idx", "-ubyte", ".idx.gz", "-ubyte.gz"),
    files=("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"),
    objects=("t10k-images-idx3-ubyte", "raw/train-images-idx3-ubyte"),
    detect="mapix.idx.opening:refusal",
    source="mapix.conversion.sources:array_streams",
    targets={"idx": "mapix.idx.conversion:Idx"},
    commands="mapix.idx.commands:add",
    command_names={"idx": "inspect IDX files, and make them of others"},
)
