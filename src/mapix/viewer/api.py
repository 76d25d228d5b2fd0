"""Routes of the frame: facts, the condition, colours, the selection, opening again."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import numpy as np

from mapix import registry
from mapix.colour import palette
from mapix.conversion import convert, target_classes
from mapix.viewer.panels import first_image, panels_of
from mapix.viewer.query import parts
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View
from mapix.viewer.tiles import copies

__all__ = ["POSTS", "ROUTES"]

MOST_RANGES = 10_000
MOST_EXPORTS = 1000


def dataset(view: View, request: Request) -> Reply:
    """Return what the dataset is, and which panels show something of it."""
    del request
    ds = view.ds
    facts = ds.describe()
    labels = set(ds._label_names())
    pixels, problem = view.cached("first", lambda: _first(ds))
    return Reply.json(
        {
            "facts": facts,
            "name": facts.get("path", ""),
            "format": ds.FAMILY,
            "records": len(ds),
            "word": ds.RECORDS,
            "columns": [{"name": name, "label": name in labels} for name in ds._column_names()],
            "pixels": pixels,
            "panels": view.cached("panels", lambda: _panels(ds)),
            "problem": problem,
            "selected": len(view.selected),
            "exports": view.export_folder is not None,
            "reopens": view.reopens,
        }
    )


def _panels(ds: Any) -> list[dict[str, str]]:
    """Return the panels that show something of a dataset; some decode images to find that out."""
    return [
        {"name": p.name, "title": p.title, "place": p.place}
        for p in panels_of(ds.PANELS)
        if p.place != "frame" and p.applies(ds)
    ]


def _first(ds: Any) -> tuple[dict[str, Any] | None, str]:
    """Return type and shape of the first record's pixels, and why records before it have none."""
    image, problem = first_image(ds)
    if image is None:
        return None, problem
    pixels = {
        "dtype": image.dtype.name,
        "shape": image.shape,
        "alike": ds.image_shape is not None,
        "copied": copies(ds) is not None,
        "channels": image.shape[2] if image.ndim == 3 else 1,
    }
    return pixels, problem


def condition(view: View, request: Request) -> Reply:
    """Return how many records fulfil a condition, and its parts."""
    text = request.text("q")
    found = view.order(text)
    n = len(view.ds) if found is None else len(found)
    return Reply.json({"records": n, "parts": parts(text, view.ds._column_names())})


def colours(view: View, request: Request) -> Reply:
    """Return colour maps: 256 colours of three bytes each, in base64."""
    del view, request
    return Reply.json({"fire": base64.b64encode(palette().tobytes()).decode()})


def selection(view: View, request: Request) -> Reply:
    """Return how many records are selected, and the first of them."""
    most = request.integer("most", 1000, most=100_000)
    found = view.selected
    return Reply.json({"selected": len(found), "records": found[:most]})


def selection_npy(view: View, request: Request) -> Reply:
    """Return the numbers of the selected records as a .npy file."""
    del request
    file = io.BytesIO()
    np.save(file, view.selected)
    headers = {"Content-Disposition": 'attachment; filename="selection.npy"'}
    return Reply(file.getvalue(), "application/octet-stream", 200, headers)


def select(view: View, request: Request) -> Reply:
    """Change the selection.

    The body has ``do`` ("add", "remove", "only" or "clear"), and ``ranges`` of positions (pairs,
    half open) in the order of ``q`` and ``sort``, or ``records``.
    """
    body = request.body
    do = body.get("do") if isinstance(body, dict) else None
    if do not in ("add", "remove", "only", "clear"):
        raise RefusedError(400, "do must be add, remove, only or clear")
    chosen = [] if do == "clear" else _chosen(view, body)
    if do in ("only", "clear"):
        view.mask.fill(False)
    for records in chosen:
        view.select(records, on=do != "remove")
    return Reply.json({"selected": int(np.count_nonzero(view.mask))})


def _chosen(view: View, body: dict[str, Any]) -> list[Any]:
    """Return the records of the body of ``select``, checked, as arrays or slices."""
    n = len(view.ds)
    records = body.get("records", [])
    ranges = body.get("ranges", [])
    q, sort = body.get("q", ""), body.get("sort", "")
    if not (isinstance(q, str) and isinstance(sort, str)):
        raise RefusedError(400, "q and sort must be text")
    if not isinstance(records, list) or not all(type(i) is int and 0 <= i < n for i in records):
        raise RefusedError(400, f"records must be whole numbers 0..{n - 1}")
    if not isinstance(ranges, list) or len(ranges) > MOST_RANGES:
        raise RefusedError(400, f"ranges must be a list of at most {MOST_RANGES} pairs")
    order = view.order(q, sort)
    most = n if order is None else len(order)
    found: list[Any] = [np.array(records, np.int64)]
    for pair in ranges:
        if not isinstance(pair, list) or len(pair) != 2 or any(type(i) is not int for i in pair):
            raise RefusedError(400, "a range is a pair of whole numbers")
        begin, end = pair
        if not 0 <= begin <= end <= most:
            raise RefusedError(400, f"a range must lie in 0..{most}, got {begin}..{end}")
        found.append(np.arange(begin, end) if order is None else order[begin:end])
    return found


def export(view: View, request: Request) -> Reply:
    """Write the selection as a dataset of the same format, into the folder that was given.

    The name is chosen here; nothing of the request is part of it.
    """
    del request
    folder, ds = view.export_folder, view.ds
    if folder is None:
        raise RefusedError(403, "nothing is written: start the viewer with --export-folder FOLDER")
    if ds.FAMILY not in dict(target_classes()):
        raise RefusedError(
            422, f"{ds.FAMILY} datasets cannot be written: save the numbers of the records instead"
        )
    suffix = os.path.splitext(ds.path)[1]
    if suffix not in registry.named(ds.FAMILY).suffixes:
        suffix = ""
    os.makedirs(folder, exist_ok=True)
    for number in range(1, MOST_EXPORTS):
        path = os.path.join(folder, f"selection-{number:03}{suffix}")
        if not os.path.lexists(path):
            break
    else:
        raise RefusedError(409, f"{folder} has {MOST_EXPORTS} selections already")
    found = convert(view.selection, path, to=ds.FAMILY)
    return Reply.json({"path": found.path, "records": sum(found.records.values())})


def reopen(view: View, request: Request) -> Reply:
    """Open the file again, after it has changed."""
    del request
    view.reopen()
    return Reply.json({"records": len(view.ds)})


ROUTES = {
    "dataset": dataset,
    "condition": condition,
    "colours": colours,
    "selection": selection,
    "selection.npy": selection_npy,
}
POSTS = {"select": select, "export": export, "reopen": reopen}
