"""The declarations of mapix's own formats, in the order in which they are tried.

They are data: text, first bytes, and names of functions that are imported when they are called.
So the first open of a process imports this module and one format, not all of them.  The functions
below decide by the first 512 bytes of a file whether a format that has no fixed ones is asked.
"""

from __future__ import annotations

from math import prod
from struct import unpack

from mapix.registry import Format, resolved

__all__ = ["BUILT_IN"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
MOST_PINK_NUMBERS = 1 << 46  # of an array that lies in one file


def _arrow_stream(front: bytes) -> bool:
    """Whether a message of a stream begins there."""
    return front.startswith(b"\xff\xff\xff\xff")


def _json_object(front: bytes) -> bool:
    """Whether a file begins with a JSON object that has a key."""
    text = front.removeprefix(BYTE_ORDER_MARK).lstrip(SPACE)
    return text[:1] == b"{" and text[1:].lstrip(SPACE)[:1] == b'"'


def _pink_version_1(front: bytes) -> bool:
    """Whether a file begins with the four dimensions of an array."""
    return len(front) >= 16 and 0 < prod(unpack("<4I", front[:16])) < MOST_PINK_NUMBERS


def _safetensors(front: bytes) -> bool:
    """Whether a file begins with the length of a header, and a JSON object."""
    return front[8:10] in (b'{"', b"{}", b"{ ") and not any(front[5:8])


def _tar(front: bytes) -> bool:
    """Whether a file begins with a header that states its own checksum."""
    field = front[148:156]
    if not (field.partition(b"\0")[0].strip(b" ").isdigit() or field[:1] >= b"\x80"):
        return False  # most files, and nothing is imported for them
    return bool(resolved("mapix.tar.layout:is_header")(front))


def _tfrecord(front: bytes) -> bool:
    """Whether a file begins with the length of a record and its checksum."""
    if any(front[4:8]):  # a record of 4 GiB, or most files, and nothing is imported for them
        return False
    return bool(resolved("mapix.tfrecord.layout:is_header")(front))


def _visualrbm(front: bytes) -> bool:
    """Whether a JSON object begins there, or an older binary model."""
    begin = front.removeprefix(BYTE_ORDER_MARK).lstrip(SPACE)
    return begin[:1] == b"{" or front[:4] == b".RBM" or not begin


FORMATS = (
    Format(
        name="catalogue",
        title="a catalogue of datasets",
        open="mapix.catalogue.opening:open_path",
        magic=((0, b"mapix catalogue\n"),),
        suffixes=(".catalogue",),
        repair="mapix.catalogue.salvage:repair",
        commands="mapix.catalogue.commands:add",
        command_names={"catalogue": "list datasets in a file that opens them as one"},
    ),
    Format(
        name="vimh",
        title="VIMH records",
        open="mapix.vimh.opening:open_path",
        files=(
            *("vimh_dataset_info.json", "train", "test", "train_batch", "test_batch"),
            *("data_batch_1", "train-00000-of-00001", "test-00000-of-00001"),
        ),
        detect="mapix.vimh.files:refusal",
        unmarked=True,
        ahead="mapix.vimh.opening:ask_ahead",
        source="mapix.vimh.conversion:stream",
        verify="mapix.vimh.checking:verify",
        targets={"vimh": "mapix.vimh.conversion:Vimh"},
        repair="mapix.vimh.salvage:repair",
        commands="mapix.vimh.commands:add",
        command_names={"vimh": "make datasets of sounds"},
    ),
    Format(
        name="iid",
        title="an IID segmentation archive",
        open="mapix.iid.opening:open_path",
        magic=((8, b"\x30\0\0\0"),),  # the lookup table begins after the header of 48 bytes
        suffixes=(".iid",),
        detect="mapix.iid.opening:refusal",
        directories=False,
        source="mapix.iid.conversion:stream",
        targets={"iid": "mapix.iid.conversion:Iid"},
        commands="mapix.iid.commands:add",
        command_names={"iid": "find, paint, merge, convert segments of archives"},
    ),
    Format(
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
    ),
    Format(
        name="npy",
        title="a NumPy array",
        open="mapix.npy.opening:open_npy",
        magic=((0, b"\x93NUMPY"),),
        suffixes=(".npy",),
        source="mapix.conversion.sources:array_streams",
        targets={"npy": "mapix.npy.conversion:Npy"},
    ),
    Format(
        name="npz",
        title="a zip archive of NumPy arrays",
        open="mapix.npy.npz_opening:open_npz",
        magic=((0, b"PK\3\4"),),
        suffixes=(".npz",),
        detect="mapix.npy.npz_opening:npz_refusal",
        directories=False,
        source="mapix.conversion.sources:array_streams",
        targets={"npz": "mapix.npy.conversion:Npz"},
    ),
    Format(
        name="pink",
        title="a PINK binary",
        open="mapix.pink.opening:open_path",
        magic=((0, b"#"), (0, b"\2\0\0\0")),
        front=_pink_version_1,
        detect="mapix.pink.opening:refusal",
        directories=False,
        source="mapix.pink.conversion:stream",
        targets={"pink": "mapix.pink.conversion:Pink"},
        commands="mapix.pink.commands:add",
        command_names={"pink": "inspect PINK's files, convert them, draw them"},
    ),
    Format(
        name="visualrbm",
        title="a model or a schedule of VisualRBM",
        open="mapix.visualrbm.opening:open_path",
        front=_visualrbm,
        detect="mapix.visualrbm.opening:refusal",
        directories=False,
        source="mapix.visualrbm.conversion:stream",
        targets={
            "json": "mapix.visualrbm.conversion:Json",
            "safetensors": "mapix.visualrbm.conversion:Safetensors",
        },
        commands="mapix.visualrbm.commands:add",
        command_names={"visualrbm": "inspect models and schedules, and use them"},
    ),
    Format(
        name="coco",
        title="images and annotations as COCO's JSON has them",
        open="mapix.coco.opening:open_path",
        front=_json_object,
        detect="mapix.coco.opening:refusal",
        directories=False,
    ),
    Format(
        name="safetensors",
        title="a safetensors file",
        open="mapix.safetensors.array:open_path",
        suffixes=(".safetensors",),
        front=_safetensors,
        detect="mapix.safetensors.array:refusal",
        directories=False,
        source="mapix.conversion.sources:array_streams",
    ),
    Format(
        name="parquet",
        title="a Parquet file, or a directory of them",
        open="mapix.arrow.opening:open_parquet",
        magic=((0, b"PAR1"),),
        suffixes=(".parquet",),
        detect="mapix.arrow.places:parquet_refusal",
        verify="mapix.arrow.opening:verify_parquet",
    ),
    Format(
        name="arrow",
        title="an Arrow file, a stream of Arrow messages, or a directory of them",
        open="mapix.arrow.opening:open_arrow",
        magic=((0, b"ARROW1\0\0"),),
        front=_arrow_stream,
        suffixes=(".arrow", ".arrows", ".feather"),
        detect="mapix.arrow.places:arrow_refusal",
        verify="mapix.arrow.opening:verify_arrow",
    ),
    Format(
        name="folder",
        title="a folder of images, with metadata or a folder per class",
        open="mapix.folder.opening:open_path",
        suffixes=(".jsonl", "metadata.csv", "metadata.parquet"),
        files=("metadata.jsonl", "metadata.csv", "metadata.parquet"),
        objects=("train/metadata.jsonl", "test/metadata.jsonl"),
        detect="mapix.folder.opening:refusal",
        repair="mapix.folder.salvage:repair",
        source="mapix.folder.conversion:stream",
        targets={"folder": "mapix.folder.conversion:Folder"},
        commands="mapix.folder.commands:add",
        command_names={"folder": "check image folders, and draw them"},
    ),
    Format(
        name="tar",
        title="a tar archive of records",
        open="mapix.tar.dataset:open_path",
        front=_tar,
        repair="mapix.tar.salvage:repair",
        suffixes=(".tar",),
        targets={"tar": "mapix.tar.conversion:Tar"},
    ),
    Format(
        name="tfrecord",
        title="a TFRecord file",
        open="mapix.tfrecord.dataset:open_path",
        front=_tfrecord,
        repair="mapix.tfrecord.salvage:repair",
        suffixes=(".tfrecord", ".tfrecords", ".tfrec"),
        targets={"tfrecord": "mapix.tfrecord.conversion:TFRecord"},
    ),
)

BUILT_IN = {declared.name: declared for declared in FORMATS}
"""Name -> declaration of each format of mapix."""
