"""Image folders: ``metadata.jsonl``, one JSON object a line (FORMATS: opsml, Hugging Face).

Two schemas are read:

- ``file_name`` (or ``<column>_file_name``), relative to the folder that holds the metadata file;
  ``caption``, ``categories`` and ``objects`` (``bbox``, ``categories``), each of which may be
  missing or null.  opsml's first schema, and what Hugging Face's imagefolder reads.
- ``filepath`` and ``size``, opsml's later one: relative to wherever its writer was run, so that it
  begins with folders above the metadata file.

One is written: the first, with opsml's keys in opsml's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIELDS", "METADATA", "NAME", "boxes", "dump", "file_names", "kind", "suffixes"]

NAME = "folder"
METADATA = "metadata.jsonl"
FIELDS = ("file_name", "caption", "categories", "objects")
FILE_NAME = "file_name"
FILEPATH = "filepath"


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {bool: "true or false", str: "text", int: "number", float: "number", list: "list"}
    return names.get(type(value), "nothing" if value is None else "object")


def file_names(metadata: dict[str, Any]) -> dict[str, str]:
    """All names of files that a line tells, by key, ``file_name`` first.

    Raises
    ------
    ValueError
        One is no text.
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


def suffixes(filepath: str, folder: str) -> Iterator[str]:
    """Names in ``folder`` that a ``filepath`` of opsml's later schema may mean, likeliest first.

    Its front is the way from the writer's working directory to the folder: the longest front that
    the folder's own path ends with is left out.  A folder that was moved or given another name has
    none; then parts are left out from the front, one after another.
    """
    parts = [p for p in filepath.split("/") if p not in ("", ".")]
    above = [p for p in folder.split("/") if p]
    fronts = [n for n in range(1, len(parts)) if above[-n:] == parts[:n]]
    for n in [*reversed(fronts), *(n for n in range(len(parts)) if n not in fronts)]:
        yield "/".join(parts[n:])


def boxes(objects: Any) -> tuple[NDArray[np.float64], list[Any]]:
    """``bbox`` of ``objects`` as float64 (n, 4), and its ``categories``.

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
        raise ValueError("objects.bbox: a number that no float holds") from e


def dump(metadata: dict[str, Any]) -> bytes:
    """A line as opsml writes it: ASCII, ``", "`` and ``": "``, and a newline."""
    import json

    return json.dumps(metadata).encode("ascii") + b"\n"
