"""Guess the kind of a file that no format recognises, for the text of the error."""

from __future__ import annotations

import os

from mapix.source import is_url, peek

__all__ = ["looks_like", "with_appearance"]

FRONT_NBYTES = 512
UNPACK = "unpack it first"
PICTURE = "open the folder that it lies in"

# first bytes; kind of the file; advice
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
    (b"PK\3\4", "a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", PICTURE),
    (b"\xff\xd8\xff", "a JPEG picture", PICTURE),
    (b"GIF8", "a GIF picture", PICTURE),
    (b"II*\0", "a TIFF picture", PICTURE),
    (b"MM\0*", "a TIFF picture", PICTURE),
    (b"\x93NUMPY", "a NumPy array", "name it .npy"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "read it with h5py"),
    (b"PAR1", "a Parquet file", "mapix finds its format by itself"),
    (b"ARROW1", "an Arrow file", "mapix finds its format by itself"),
    (b"%PDF", "a PDF document", "did the download go wrong?"),
    (b"\x7fELF", "a program", "is this the right file?"),
)
PAGE = "did a server answer with an error page? Download the file again"
PAGE_OF_URL = "is this the URL of the file, and not of a page about it, or of one for signing in?"
TAR_AT, TAR = 257, b"ustar"
PICKLES = (
    *(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5)),
    *(b"(dp", b"(lp", b"}q", b"]q"),  # protocols 0 and 1
)
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n" + bytes(range(0x80, 0x100))
# the kind says nothing new in an error of a format whose files are all of this kind
OWN = {
    "gzip": ("idx",),
    "a NumPy array": ("npy",),
    "a Parquet file": ("parquet",),
    "an Arrow file": ("arrow",),
    "a zip archive": ("npz",),
    "a Python pickle": ("pickle", "vimh pickle"),
    "a tar archive": ("tar",),
    "JSON text": ("coco", "folder", "jsonl", "vimh info JSON", "visualrbm"),
}


def looks_like(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of a file by its first bytes, and an advice; None if it is unknown.

    Reads at most 512 bytes; of a URL by a request.  The result is None for a path that is not a
    regular file.
    """
    found = _kind(path)
    return None if found is None else "; ".join(found)


def with_appearance(path: str, format: str, reason: str) -> str:
    """Return ``reason``, preceded by a sentence on the kind of the file if that adds something."""
    found = _kind(path)
    if found is None or format in OWN.get(found[0], ()):
        return reason
    return f"the file looks like {'; '.join(found)};\n  {reason}"


def _kind(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Return the kind of a file and an advice."""
    name = os.fspath(path)
    url = is_url(name)
    if name.endswith("/") if url else not os.path.isfile(name):
        return None
    front = peek(path, FRONT_NBYTES)
    page = PAGE_OF_URL if url else PAGE
    if not front:
        return ("an empty file",) if not url and os.path.getsize(path) == 0 else None
    for signature, *found in SIGNATURES:
        if front.startswith(signature):
            return tuple(found)
    if front[TAR_AT:].startswith(TAR):
        return "a tar archive", "open it with format='tar', or unpack it first"
    if front.startswith(PICKLES):
        return "a Python pickle", "mapix reads only pickles of VIMH and CIFAR datasets"
    text = front.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    start = text[:15].lower()
    if start.startswith(PAGES):
        return "an HTML page", page
    if start.startswith((b"<?xml", b"<error")):
        return "an XML document", page
    if text[:1] in (b"{", b"[") and not text.translate(None, TEXT):
        return "JSON text", "is this the right file?"
    return None
