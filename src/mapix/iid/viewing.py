"""The panel of archives in the viewer: masks over an image, in depth order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.errors import MapixError
from mapix.iid.archive import Archive
from mapix.iid.argument_checks import Box, Keys
from mapix.iid.layout import MOST_SIDE
from mapix.iid.selection import Selection
from mapix.viewer.panels import Panel
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View

__all__ = ["PANEL", "ROUTES"]

STRIPE_PIXELS = 1 << 24  # painted at once: 64 MiB
MOST_OUT = 1 << 22  # pixels of an answer
MOST_LISTED = 500  # segments of an answer
MOST_DOMAINS = 200
MOST_SETS = 8  # of keys that are shown, that are remembered


def _archive(ds: Any) -> Archive:
    found: Archive = ds.archive if isinstance(ds, Selection) else ds
    return found


def _keys(view: View, request: Request) -> Keys:
    """Return the keys that are shown: those of the condition ``q`` and of ``groups``, ascending."""
    asked = request.text("q"), request.text("groups").strip()
    known: dict[tuple[str, str], Keys] = view.cached("archive.keys", dict)
    found = known.get(asked)
    if found is None:
        ds, (q, groups) = view.ds, asked
        order = view.order(q)
        found = np.unique(ds.keys if order is None else ds.keys[order])
        if groups:
            found = np.intersect1d(found, _archive(ds).in_groups(groups))
        if len(known) >= MOST_SETS:
            known.clear()
        known[asked] = found
    return found


def _window(view: View, request: Request) -> tuple[Box, int]:
    """Return a window and a step, of which the answer has at most 4 Mi pixels."""
    h, w = _archive(view.ds).shape
    if not h or not w:
        raise RefusedError(404, "the archive has no pixels")
    box, step = request.window(h, w, most_step=MOST_SIDE)
    top, left, bottom, right = box
    if -(-(bottom - top) // step) * -(-(right - left) // step) > MOST_OUT:
        raise RefusedError(413, f"more than {MOST_OUT} pixels: a larger step is needed")
    return box, step


def sampled(archive: Archive, keys: Keys, window: Box, step: int) -> NDArray[np.int32]:
    """Return each how many-th pixel of ``archive.paint(keys, window)``, painted in stripes."""
    top, left, bottom, right = window
    width = right - left
    high = max(1, STRIPE_PIXELS // (width * step)) * step
    found = np.empty((-(-(bottom - top) // step), -(-width // step)), np.int32)
    for row in range(top, bottom, high):
        end = min(row + high, bottom)
        painted = archive.paint(keys, (row, left, end, right))
        first = (row - top) // step
        part = painted[::step, ::step]
        found[first : first + len(part)] = part
    return found


def facts(view: View, request: Request) -> Reply:
    """Return size, groups, domains, and whether there is an image."""
    del request
    archive = _archive(view.ds)
    image = _image(view)
    return Reply.json(
        {
            "shape": archive.shape,
            "segments": len(view.ds),
            "groups": [{"name": k, "segments": len(v)} for k, v in archive.groups.items()],
            "domains": archive.domains[:MOST_DOMAINS],
            "image": None if image is None else image.shape,
        }
    )


def window(view: View, request: Request) -> Reply:
    """Return keys of the topmost segments of a window, -1 without: int32, row after row."""
    box, step = _window(view, request)
    painted = sampled(_archive(view.ds), _keys(view, request), box, step)
    return Reply(painted.astype("<i4", copy=False).tobytes(), "application/octet-stream")


def mask(view: View, request: Request) -> Reply:
    """Return the mask of one segment in a window, a byte per pixel."""
    archive = _archive(view.ds)
    (top, left, bottom, right), step = _window(view, request)
    segment = archive[request.integer("key", most=len(archive) - 1)]
    minr, minc, maxr, maxc = segment.bbox
    shape = -(-(bottom - top) // step), -(-(right - left) // step)
    found = np.zeros(shape, np.bool_)
    # the part of the segment's box in the window, from the first sampled pixel on
    first = max(0, -(-(minr - top) // step)), max(0, -(-(minc - left) // step))
    box = (top + first[0] * step, left + first[1] * step, min(maxr, bottom), min(maxc, right))
    if box[0] < box[2] and box[1] < box[3]:
        part = segment.mask(box)[::step, ::step]
        found[first[0] : first[0] + part.shape[0], first[1] : first[1] + part.shape[1]] = part
    return Reply(found.tobytes(), "application/octet-stream")


def _segments(view: View, keys: Keys) -> list[dict[str, Any]]:
    """Return what is listed of segments, in the sequence of the keys."""
    archive = _archive(view.ds)
    names, groups = archive.names(keys), archive._groups_of(keys)
    boxes, areas = archive.bboxes[keys].tolist(), archive.areas[keys].tolist()
    records = keys.tolist()
    if isinstance(view.ds, Selection):
        places = view.cached("archive.records", lambda: _places(view.ds.keys))
        records = [places.get(key) for key in records]
    return [
        {
            "key": key,
            "record": record,
            "domain": domain,
            "iid": iid,
            "bbox": box,
            "area": area,
            "groups": of,
        }
        for key, record, (domain, iid), box, area, of in zip(
            keys.tolist(), records, names, boxes, areas, groups, strict=True
        )
    ]


def _places(keys: Keys) -> dict[int, int]:
    return {key: k for k, key in reversed(list(enumerate(keys.tolist())))}


def _listed(view: View, keys: Keys) -> Reply:
    return Reply.json({"count": len(keys), "segments": _segments(view, keys[:MOST_LISTED])})


def at(view: View, request: Request) -> Reply:
    """Return the segments at a pixel that are shown, the topmost first."""
    x, y = (request.integer(name, most=MOST_SIDE) for name in ("x", "y"))
    keys = np.intersect1d(_archive(view.ds).at(x, y), _keys(view, request))
    return _listed(view, keys[::-1].astype(np.uint32))


def region(view: View, request: Request) -> Reply:
    """Return the segments with a pixel in a window that are shown, the topmost first."""
    sides = (request.integer(name, most=MOST_SIDE) for name in ("top", "left", "bottom", "right"))
    top, left, bottom, right = sides
    keys = np.intersect1d(
        _archive(view.ds).region((top, left, bottom, right)), _keys(view, request)
    )
    return _listed(view, keys[::-1].astype(np.uint32))


def find(view: View, request: Request) -> Reply:
    """Return the segments that are shown whose domain or iid contains a text, of either case."""
    wanted = request.text("text").casefold()
    names: list[str] = view.cached("archive.names", lambda: _names(_archive(view.ds)))
    keys = _keys(view, request)
    found = [key for key in keys.tolist() if wanted in names[key]]
    return _listed(view, np.array(found, np.uint32))


def _names(archive: Archive) -> list[str]:
    """Return domain and iid of all segments as one text each; the cost is a few us per segment."""
    return [b"\n".join(pair).decode("utf-8", "replace").casefold() for pair in archive.names()]


# --- the image under the masks --------------------------------------------------------------------


def _image(view: View) -> NDArray[Any] | None:
    """Return the first picture beside the archive that is as large as its image."""
    found: NDArray[Any] | None = view.cached("archive.image", lambda: _found(view))
    return found


def _found(view: View) -> NDArray[Any] | None:
    h, w = _archive(view.ds).shape
    for companion in view.companions:
        for picture in _pictures(companion):
            if picture.ndim in (2, 3) and picture.shape[0] >= h and picture.shape[1] >= w:
                return picture
    return None


def _pictures(companion: Any) -> list[NDArray[Any]]:
    """Return the pictures that a companion may be: an array, or the first record of a dataset."""
    if isinstance(companion, np.ndarray):
        return [companion]
    try:
        found = companion._image(int(companion.rows[0])) if len(companion) else None
    except MapixError:
        return []
    return [] if found is None else [found]


def image(view: View, request: Request) -> Reply:
    """Return a window of the image under the masks: red, green, blue, a byte each."""
    from mapix.drawing.scaling import rgb, value_range_of

    picture = _image(view)
    if picture is None:
        raise RefusedError(404, "there is no image")
    (top, left, bottom, right), step = _window(view, request)
    limits = view.cached("archive.range", lambda: value_range_of(picture))
    part = rgb(picture[top:bottom:step, left:right:step], value_range=limits)
    return Reply(part.tobytes(), "application/octet-stream")


ROUTES = {
    "archive": facts,
    "archive.window": window,
    "archive.mask": mask,
    "archive.at": at,
    "archive.region": region,
    "archive.find": find,
    "archive.image": image,
}


def applies(ds: Any) -> bool:
    """Return whether there are segments to show."""
    return isinstance(ds, Archive | Selection) and len(ds) > 0


PANEL = Panel("archive", "Segments", "main", "mapix.iid.viewing", applies)
