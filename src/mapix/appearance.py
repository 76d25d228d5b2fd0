"""What a file looks like that no format recognises: a sentence for the error."""

from __future__ import annotations

import os

from mapix.source import peek

__all__ = ["looks_like", "with_appearance"]

FRONT_NBYTES = 512
UNPACK = "unpack it first"
PICTURE = "mapix opens folders of pictures that have a metadata.jsonl"

# first bytes; what a file is that begins so; what to do
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer",
        "the data is not here yet: run git lfs pull",
    ),
    (b"/annex/objects/", "a git-annex pointer", "the data is not here yet: run git annex get"),
    (b"\x1f\x8b", "gzip", f"{UNPACK}: gzip -dk FILE"),
    (b"BZh", "bzip2", UNPACK),
    (b"\xfd7zXZ\0", "xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
    (b"PK\3\4", "a zip archive (.npz files are, too)", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", PICTURE),
    (b"\xff\xd8\xff", "a JPEG picture", PICTURE),
    (b"GIF8", "a GIF picture", PICTURE),
    (b"II*\0", "a TIFF picture", PICTURE),
    (b"MM\0*", "a TIFF picture", PICTURE),
    (b"\x93NUMPY", "a NumPy array", "read it with numpy.load"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "read it with h5py"),
    (b"PAR1", "a Parquet file", "read it with pyarrow"),
    (b"ARROW1", "an Arrow file", "read it with pyarrow"),
    (b"%PDF", "a PDF document", "the download went wrong?"),
    (b"\x7fELF", "a program", "is this the right file?"),
)
PAGE = "an answer of a server in the place of the data? Download the file again"
TAR_AT, TAR = 257, b"ustar"
PICKLES = (
    *(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5)),
    *(b"(dp", b"(lp", b"}q", b"]q"),  # protocols 0 and 1
)
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n" + bytes(range(0x80, 0x100))
# what formats are made of: of no use in an error of theirs
OWN = {
    "gzip": ("idx",),
    "a Python pickle": ("pickle", "vimh pickle"),
    "JSON text": ("folder", "jsonl", "vimh info JSON", "visualrbm"),
}


def looks_like(path: str | os.PathLike[str]) -> str | None:
    """Return what a file looks like by its first bytes, and what to do; None when nothing is known.

    Reads at most 512 bytes. A path that is not a regular file looks like nothing.
    """
    found = _look(path)
    return None if found is None else "; ".join(found)


def with_appearance(path: str, format: str, reason: str) -> str:
    """Return ``reason``, after a sentence about what the file looks like, where that says more."""
    found = _look(path)
    if found is None or format in OWN.get(found[0], ()):
        return reason
    return f"the file looks like {'; '.join(found)}\n  {reason}"


def _look(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """What a file is, and what to do."""
    if not os.path.isfile(path):
        return None
    front = peek(path, FRONT_NBYTES)
    if not front:
        return ("an empty file",) if os.path.getsize(path) == 0 else None
    for signature, *found in SIGNATURES:
        if front.startswith(signature):
            return tuple(found)
    if front[TAR_AT:].startswith(TAR):
        return "a tar archive", UNPACK
    if front.startswith(PICKLES):
        return "a Python pickle", "mapix reads those of CIFAR's and VIMH's form alone"
    text = front.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    start = text[:15].lower()
    if start.startswith(PAGES):
        return "an HTML page", PAGE
    if start.startswith((b"<?xml", b"<error")):
        return "an XML document", PAGE
    if text[:1] in (b"{", b"[") and not text.translate(None, TEXT):
        return "JSON text", "is this the right file?"
    return None
