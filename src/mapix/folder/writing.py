"""Encode pictures as files, and records as lines, for writers of image folders."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from mapix.folder.layout import METADATA, boxes, dump
from mapix.folder.record import Objects
from mapix.pictures.decoding import pillow

__all__ = ["encoded", "line_of", "name_in_folder", "strictly_json"]

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def name_in_folder(name: Any) -> str:
    """Return a file name that readers accept.

    Raises
    ------
    ValueError
        It is not a plain name beneath the folder.
    """
    if not isinstance(name, str):
        raise TypeError(f"file_name must be text, got {type(name).__name__}")
    parts = name.split("/")
    if not all(parts) or ".." in parts or "." in parts or "\0" in name:
        raise ValueError(f"file_name must be a plain name beneath the folder, got {name!r}")
    if parts[-1] == METADATA:
        raise ValueError(f"{METADATA} is the metadata file's own name")
    os.fsencode(name)
    return name


def encoded(image: Any, name: str, options: dict[str, Any] | None) -> bytes | memoryview:
    """Encode a picture as the bytes of a file.

    Parameters
    ----------
    image : bytes-like, ndarray or Pillow's picture
        Bytes are taken as they are; uint8 (h, w), (h, w, c) and Pillow's pictures are encoded in
        the format of the name's suffix.
    name : str
        The file's name.
    options : dict, optional
        For Pillow's ``save``.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return memoryview(image).cast("B")
    module = pillow()
    if isinstance(image, np.ndarray):
        image = _picture(module, image)
    elif not isinstance(image, module.Image):
        raise TypeError(
            f"image must be bytes of a file, an array or Pillow's, got {type(image).__name__}"
        )
    module.init()
    ending = os.path.splitext(name)[1].lower()
    kind = module.EXTENSION.get(ending)
    if kind not in module.SAVE:
        raise ValueError(f"{name!r}: pictures cannot be written with the suffix {ending!r}")
    out = io.BytesIO()
    image.save(out, kind, **(options or {}))
    return out.getvalue()


def _picture(module: Any, array: np.ndarray[Any, Any]) -> Any:
    if array.dtype == np.uint16 and (array.ndim == 2 or array.shape[2:] == (1,)):
        return module.fromarray(np.ascontiguousarray(array.reshape(array.shape[:2])))
    channels = array.shape[2] if array.ndim == 3 else 1
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or channels not in MODES
        or not array.size
    ):
        raise ValueError(
            f"an array of uint8 (h, w) or (h, w, 1..4), or uint16 (h, w), expected, got "
            f"{array.dtype} {array.shape}"
        )
    flat = array.reshape(array.shape[:2]) if channels == 1 else array
    return module.fromarray(np.ascontiguousarray(flat))


def line_of(name: str, caption: Any, categories: Any, objects: Any, more: dict[str, Any]) -> bytes:
    """Return a line of the metadata file: opsml's four keys, then the others."""
    if caption is not None and not isinstance(caption, str):
        raise TypeError(f"caption must be text, got {type(caption).__name__}")
    taken = {"file_name", "caption", "categories", "objects"} & set(more)
    if taken:
        raise TypeError(f"{', '.join(taken)} given twice")
    fields = {
        "file_name": name,
        "caption": caption,
        "categories": None if categories is None else _plain_list(categories),
        "objects": _objects(objects),
    }
    return dump(strictly_json({**fields, **more}))


def strictly_json(value: Any) -> Any:
    """Return a value whose keys are texts, which JSON returns unchanged.

    Raises
    ------
    TypeError
        A key is not text, and would become one.
    """
    pending = [value]
    while pending:
        some = pending.pop()
        if isinstance(some, Mapping):
            for key in some:
                if not isinstance(key, str):
                    raise TypeError(f"keys of JSON are texts, got {key!r}")
            pending += some.values()
        elif isinstance(some, list | tuple):
            pending += some
    return value


def _plain_list(values: Any) -> list[str | int | float]:
    if isinstance(values, str | bytes | Mapping):
        raise TypeError(f"categories are a list of text and numbers, got {type(values).__name__}")
    found = [v.item() if isinstance(v, np.generic) else v for v in values]
    for v in found:
        if not isinstance(v, str | int | float):
            raise TypeError(f"categories are text or numbers, got {type(v).__name__}")
    return found


def _objects(objects: Any) -> dict[str, Any] | None:
    if objects is None:
        return None
    if isinstance(objects, Objects):
        bbox, names = objects.bbox, objects.categories
    elif isinstance(objects, dict):
        bbox, names = objects["bbox"], objects["categories"]
    else:
        bbox, names = objects
    rows = [[float(x) for x in row] for row in np.asarray(bbox, np.float64).reshape(-1, 4)]
    categories = _plain_list(names)
    if len(rows) != len(categories):
        raise ValueError(f"{len(rows)} boxes, {len(categories)} categories of them")
    if not all(math.isfinite(x) for row in rows for x in row):
        raise ValueError("a box of numbers that are not finite is not JSON")
    found = {"bbox": rows, "categories": categories}
    boxes(found)
    return found
