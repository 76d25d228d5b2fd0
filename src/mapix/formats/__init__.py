"""The formats that mapix knows: one module each, one line each in the registry below.

A format is an object with the attributes of ``Format``; other packages add theirs through the entry
point group ``mapix.formats``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from math import prod
from struct import unpack
from typing import Any, Protocol, cast

from mapix.formats.appearance import looks_like
from mapix.source import peek

__all__ = ["Format", "formats", "named"]


class Format(Protocol):
    """What the registry asks of a format module."""

    NAME: str

    def claims(self, path: str) -> str | None:
        """Why ``path`` (a file or a directory) is *not* of this format; None when it may be.

        Looks at names and at most at a few bytes; ``open_path`` has the last word.
        """

    def open_path(self, path: str, **options: Any) -> Any:
        """Open ``path``, or raise FormatError."""


_BUILT_IN = {
    "iid": "mapix.iid.opening",
    "idx": "mapix.idx.opening",
    "folder": "mapix.folder.opening",
    "pink": "mapix.pink.opening",
    "visualrbm": "mapix.visualrbm.opening",
    "vimh": "mapix.vimh.opening",
}
FRONT_NBYTES = 16
MOST_NUMBERS = 1 << 46  # of an array that lies in one file


def _may_be(name: str, path: str, front: bytes) -> bool:
    """Whether the first bytes, or the name, speak for a format: a look before its module is loaded.

    VIMH has no header to tell it by, and is what is left.
    """
    if name == "iid":  # a lookup table behind a header of 48 bytes
        return front[8:12] == b"\x30\0\0\0" or path.endswith(".iid")
    if name == "idx":
        known = (b"\0\0", b"\xff\xff", b"\x1f\x8b")
        return front[:2] in known or path.removesuffix(".gz").endswith((".idx", "-ubyte"))
    if name == "folder":
        return path.endswith(".jsonl")
    if name == "pink":  # comment; version 2; or, of version 1, four dimensions of an array
        if front[:1] == b"#" or front[:4] == b"\2\0\0\0":
            return True
        return len(front) == FRONT_NBYTES and 0 < prod(unpack("<4I", front)) < MOST_NUMBERS
    if name == "visualrbm":  # a JSON object, or an older binary model
        begin = front.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
        return begin[:1] == b"{" or front[:4] == b".RBM" or (not begin and front != b"")
    return True


def _entry_points() -> Any:
    """Formats of other packages.  Imported here: it costs each worker two megabytes."""
    import importlib.metadata

    return importlib.metadata.entry_points(group="mapix.formats")


def named(name: str) -> Format:
    """The format of that name, or ValueError with the names there are."""
    if name in _BUILT_IN:
        return cast(Format, importlib.import_module(_BUILT_IN[name]))
    for entry in _entry_points():
        if entry.name == name:
            return cast(Format, entry.load())
    others = [e.name for e in _entry_points()]
    raise ValueError(f"unknown format {name!r}; known: {', '.join([*_BUILT_IN, *others])}")


def _of_folders(path: str) -> tuple[str, ...]:
    """The formats of a directory, by the names of files in it; VIMH and IDX go before pictures.

    A directory of pictures may have millions of names, so it is told by asking for some.
    """

    def has(*names: str) -> bool:
        return any(os.path.isfile(os.path.join(path, n)) for n in names)

    others = ("vimh_dataset_info.json", "train", "test", "train_batch", "data_batch_1")
    if has("metadata.jsonl") and not has(*others, "train-images-idx3-ubyte"):
        return "folder", "vimh", "idx", "iid"
    return "vimh", "idx", "iid", "folder"


def formats(path: str) -> Iterator[tuple[str, Format | None]]:
    """All formats by name, in the order in which they are asked; None for those out of question."""
    if os.path.isdir(path):
        for name in _of_folders(path):
            yield name, named(name)
    else:
        front = peek(path, FRONT_NBYTES)
        for name in _BUILT_IN:
            yield name, named(name) if _may_be(name, path, front) else None
    for entry in _entry_points():
        yield entry.name, entry.load()


def tried(path: str | os.PathLike[str], refusals: list[tuple[str, str]]) -> str:
    """The text of an UnknownFormatError."""
    lines = "".join(f"\n  {name}: {why}" for name, why in refusals)
    looks = looks_like(path)
    look = "" if looks is None else f"; it looks like {looks}"
    return f"{os.fspath(path)}: no format recognises it{look}\n tried:{lines}"
