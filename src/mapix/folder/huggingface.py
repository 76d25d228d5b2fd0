"""Differences between a metadata file and what Hugging Face's imagefolder reads from it.

They were found by running ``datasets`` 5.2 on small folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mapix.folder.layout import METADATA, canonical

__all__ = ["Hazards"]

# Folders of these names are splits to imagefolder, which then ignores a metadata file above them.
SPLITS = {"train", "training", "test", "testing", "eval", "evaluation", "val", "valid"} | {
    "validation",
    "dev",
}
OTHERS = ("metadata.csv", "metadata.parquet")
KINDS: dict[type, str] = {
    bool: "true or false",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
}


class Hazards:
    """Collect the lines that imagefolder rejects or reads differently; ``found`` yields them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._kinds: dict[str, tuple[str, int]] = {}  # column -> kind, and its first line
        self._mixed: dict[str, tuple[int, str]] = {}
        self._named = False
        self._first: int | None = None
        self._by_filepath = False
        self._lone: list[int] = []
        self._below: dict[str, int] = {}
        self._messages: list[tuple[int | None, str | None, str]] = []
        self._columns: set[str] = set()

    def add(self, line: int, metadata: dict[str, Any]) -> None:
        """Check a line."""
        if self._first is None:
            self._first = line
        for key, value in metadata.items():
            if key.endswith(("file_name", "file_names")) and value is not None:
                self._named = True
                if isinstance(value, str):
                    self._name(line, value)
                column = (
                    key.removesuffix("s").removesuffix("file_name").removesuffix("_") or "image"
                )
                column += "s" if key.endswith("s") and column == "image" else ""
                if column in metadata and column not in self._columns:
                    self._columns.add(column)
                    what = f"the picture of {key} becomes a column {column}, as this line has one"
                    self._messages.append((line, None, what))
        self._by_filepath = self._by_filepath or "filepath" in metadata
        self._kind(line, "", metadata)

    def _name(self, line: int, name: str) -> None:
        if "/" in canonical(name):
            self._below.setdefault(canonical(name).split("/")[0], line)
        if "://" in name:
            self._messages.append((line, name, "names with :// are rejected"))
        if "\\" in name and not os.path.lexists(os.path.join(self._folder, canonical(name))):
            what = f"backslashes become slashes, and there is no {canonical(name)}"
            self._messages.append((line, name, what))

    def turned(self, line: int, name: str | None, metadata: dict[str, Any], here: bool) -> None:
        """Note a line whose picture is turned by EXIF in Hugging Face, and ``here`` or not."""
        objects = metadata.get("objects")
        if isinstance(objects, dict) and objects.get("bbox"):
            what = "EXIF turns the picture, but not its boxes"
            what += "" if here else "; with orientation=False it is not turned here"
            self._messages.append((line, name, what))

    def _kind(self, line: int, path: str, value: Any) -> None:
        if value is None:
            return
        kind = KINDS[type(value)]
        before, since = self._kinds.setdefault(path, (kind, line))
        if before != kind:
            name = path.lstrip(".")
            what = f"{name}: {kind} here, {before} in line {since}: a column has one type"
            self._mixed.setdefault(path, (line, what))
        if isinstance(value, dict):
            for k, v in value.items():
                self._kind(line, f"{path}.{k}", v)
        elif isinstance(value, list):
            for v in value:
                self._kind(line, f"{path}[]", v)
        elif isinstance(value, str) and not value.isascii() and not _encodes(value):
            self._lone.append(line)

    def found(self) -> Iterator[tuple[int | None, str | None, str]]:
        """Yield line, file name and text of each difference."""
        if self._first is not None and not self._named:
            why = "filepath is not read" if self._by_filepath else "there is none"
            yield self._first, None, f"a file_name or *_file_name is needed: {why}"
        for line, what in self._mixed.values():
            yield line, None, what
        for line in self._lone:
            yield line, None, "half of a surrogate pair in a text"
        splits = {name: line for name, line in self._below.items() if name.lower() in SPLITS}
        for name, line in list(splits.items())[:1]:
            what = f"the folder {name} is read as a split: each split needs its own metadata file"
            yield line, None, what
        yield from self._messages
        for name in self._more_metadata():
            yield None, name, "a second metadata file: its records are read as well"
        for name in OTHERS:
            if os.path.exists(os.path.join(self._folder, name)):
                yield None, name, "a second metadata file, of another kind"

    def _more_metadata(self) -> Iterator[str]:
        """Yield the metadata files in folders below."""
        for below, folders, files in os.walk(self._folder):
            folders.sort()
            if below != self._folder and METADATA in files:
                yield os.path.relpath(os.path.join(below, METADATA), self._folder)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
