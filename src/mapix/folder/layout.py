"""The layout of image folders: ``metadata.jsonl``, one JSON object per line.

``docs/folder.md`` has the names of the two schemas that are read.  The first one, with opsml's keys
in opsml's order, is written.  ``canonical`` maps all spellings of a file's name to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FIELDS",
    "METADATA",
    "METADATA_FILES",
    "NAME",
    "Meaning",
    "all_files",
    "boxes",
    "canonical",
    "dump",
    "file_names",
    "kind",
    "meanings",
    "spellings",
]

NAME = "folder"
METADATA = "metadata.jsonl"
METADATA_FILES = (METADATA, "metadata.csv", "metadata.parquet")  # the first one is read
FIELDS = ("file_name", "caption", "categories", "objects")
FILE_NAME = "file_name"
FILEPATH = "filepath"
LISTS = "file_names"  # Hugging Face's lists of names


def kind(value: Any) -> str:
    """Return the kind of a JSON value as a word, for errors."""
    names = {bool: "true or false", str: "text", int: "number", float: "number", list: "list"}
    return names.get(type(value), "null" if value is None else "object")


def file_names(metadata: dict[str, Any]) -> dict[str, str]:
    """Return key -> name of each file that a line names, ``file_name`` first.

    Raises
    ------
    ValueError
        A name is not text.
    """
    keys = [k for k in metadata if k.endswith(FILE_NAME) and (k == FILE_NAME or k[-10] == "_")]
    if not keys and FILEPATH in metadata:
        keys = [FILEPATH]
    if len(keys) > 1:
        keys.sort(key=lambda k: k != FILE_NAME)
    found = {}
    for key in keys:
        value = metadata[key]
        if value is None:
            continue
        if not isinstance(value, str):
            raise ValueError(f"{key}: text expected, got {kind(value)}")
        found[key] = value
    return found


def all_files(metadata: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return key -> names of all files that a line names, Hugging Face's lists of names included.

    Names within objects and lists count as well; their keys are joined with dots.
    """
    found: dict[str, list[str]] = {}
    pending: list[tuple[str, Any]] = [("", metadata)]
    while pending:
        way, value = pending.pop()
        if isinstance(value, list):
            pending += [(way, some) for some in reversed(value)]
        if not isinstance(value, Mapping):
            continue
        for key, some in value.items():
            if isinstance(some, str) and (key == FILE_NAME or key.endswith("_" + FILE_NAME)):
                found.setdefault(way + key, []).append(some)
            elif isinstance(some, list) and (key == LISTS or key.endswith("_" + LISTS)):
                names = [name for name in some if isinstance(name, str)]
                found.setdefault(way + key, []).extend(names)
            elif isinstance(some, Mapping | list):
                pending.append((f"{way}{key}.", some))
    single = any(k == FILE_NAME or k.endswith("_" + FILE_NAME) for k in metadata)
    if not single and isinstance(metadata.get(FILEPATH), str):
        found[FILEPATH] = [metadata[FILEPATH]]
    return found


def canonical(name: str) -> str:
    """Return the one name of a file that can be spelt in several ways.

    Backslashes become slashes; ``.`` and empty parts are left out.  ``..`` and a leading slash
    stay, and are refused when the file is opened.
    """
    if "\\" not in name and "./" not in name and "//" not in name and name[-2:] != "/.":
        return name
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ("/" if name.startswith("/") else "") + "/".join(parts)


def spellings(name: str) -> list[str]:
    """Return a name, and its composed and decomposed forms where these differ.

    File systems, archives and programs turn one form of accented letters into the other.
    """
    if name.isascii():
        return [name]
    import unicodedata

    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return list(dict.fromkeys((name, *forms)))


class Meaning(NamedTuple):
    """A file that a ``filepath`` may mean.

    Attributes
    ----------
    up : int
        How many folders above the folder of the metadata file the name begins.
    name : str
        Relative to that folder.
    certain : bool
        Whether the path of that folder ends with the front that was left out.
    """

    up: int
    name: str
    certain: bool


MOST_PARTS = 64  # parts of a filepath that are tried; names of files are not deeper


def meanings(filepath: str, folder: str, most_up: int = 1) -> list[Meaning]:
    """Return the files that a ``filepath`` of opsml's later schema may mean, likeliest first.

    A ``filepath`` begins with the path from the writer's working directory to the dataset.  Where
    the path of the metadata file's folder, or of a folder above it, ends with such a front, the
    rest is the name in that folder.  A dataset that was moved or renamed has no such front; then
    as few parts as possible are left out from the front.

    Parameters
    ----------
    filepath : str
        As in the line.
    folder : str
        Absolute path of the metadata file's folder.
    most_up : int
        Number of folders above it that are tried: 1 for a dataset whose split the folder is.
    """
    parts = [p for p in filepath.replace("\\", "/").split("/") if p not in ("", ".")]
    parts = parts[-MOST_PARTS:]
    above = [p for p in folder.split("/") if p]
    certain: list[tuple[int, Meaning]] = []
    guessed: list[tuple[int, Meaning]] = []
    for up in range(min(most_up, len(above)) + 1):
        here = above[: len(above) - up]
        for n in range(len(parts)):
            name = "/".join(parts[n:])
            if n and here[-n:] == parts[:n]:
                certain.append((-n, Meaning(up, name, True)))
            else:
                guessed.append((n, Meaning(up, name, False)))
    found = sorted(certain, key=lambda x: x[0]) + sorted(guessed, key=lambda x: x[0])
    return [meaning for _, meaning in found]


def boxes(objects: Any) -> tuple[NDArray[np.float64], list[Any]]:
    """Return ``bbox`` of ``objects`` as float64 (n, 4), and its ``categories``.

    Raises
    ------
    ValueError
        They are not lists of four numbers.
    """
    if not isinstance(objects, dict):
        raise ValueError(f"objects: an object expected, got {kind(objects)}")
    rows, names = objects.get("bbox"), objects.get("categories")
    rows = [] if rows is None else rows
    names = [] if names is None else names
    for key, value in (("bbox", rows), ("categories", names)):
        if not isinstance(value, list):
            raise ValueError(f"objects.{key}: a list expected, got {kind(value)}")
    for k, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 4:
            got = f"{len(row)}" if isinstance(row, list) else kind(row)
            raise ValueError(f"objects.bbox[{k}]: four numbers expected, got {got}")
        for x in row:
            if type(x) is not float and type(x) is not int:
                raise ValueError(f"objects.bbox[{k}]: numbers expected, got {kind(x)}")
    try:
        return np.array(rows, np.float64).reshape(-1, 4), names
    except OverflowError as e:
        raise ValueError("objects.bbox: a number beyond the range of float64") from e


def dump(metadata: dict[str, Any]) -> bytes:
    """Return a line as opsml writes it: ASCII, ``", "`` and ``": "``, and a newline."""
    import json

    return json.dumps(metadata).encode("ascii") + b"\n"
