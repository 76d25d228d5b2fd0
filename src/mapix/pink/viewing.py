"""The panel of SOMs in the viewer: neurons at their places, heatmaps, members, best fits."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.drawing.scaling import finite_range, thumbnail
from mapix.pink.file import PinkFile
from mapix.pink.run import Run
from mapix.pink.som import Som
from mapix.viewer.panels import Panel
from mapix.viewer.routes import RefusedError, Reply, Request
from mapix.viewer.session import View

__all__ = ["PANEL", "ROUTES"]

MOST_PIXELS = 1 << 24  # of all tiles
MOST_MEMBERS = 2000  # that are listed
SIZES = range(4, 513)
SHAPE = struct.Struct("<3I")  # height, width and channels, before the bytes of tiles


def _run(view: View) -> Run:
    """Return the SOM that is shown with its companions."""
    found: Run = view.cached(
        "som", lambda: Run(view.ds, *(c for c in view.companions if isinstance(c, PinkFile)))
    )
    return found


def _nentries(run: Run) -> int:
    """Return the number of entries, which all files have; 0 of a SOM alone."""
    return next((len(f) for f in (run.mapping, run.data, run.rotation) if f is not None), 0)


def _pixels(array: NDArray[Any], channel: int | None) -> NDArray[Any]:
    """Return neurons or entries, (n, ...), as pictures (n, h, w, c)."""
    if array.ndim < 3:
        array = array.reshape(len(array), 1, -1)
    if array.ndim == 3:
        return array[..., None]
    planes = np.moveaxis(array.reshape(len(array), -1, *array.shape[-2:]), 1, -1)
    return planes if channel is None else planes[..., [channel]]


def _channel(request: Request, channels: int) -> int | None:
    text = request.text("channel", "auto")
    return None if text == "auto" else request.integer("channel", most=channels - 1)


def _tiles(pictures: NDArray[Any], size: int, *, each: bool) -> Reply:
    """Return pictures as levels 0..255, (n, h, w) or (n, h, w, 3), after height, width, channels.

    The contrast of each picture is stretched by itself, or that of all together.
    """
    channels = 3 if pictures.shape[3] in (3, 4) else 1
    limits = None if each else finite_range(pictures)
    made = [
        thumbnail(picture, size, value_range=limits or finite_range(picture))[..., :channels]
        for picture in pictures
    ]
    data = np.stack(made) if made else np.empty((0, 0, 0, channels), np.uint8)
    head = SHAPE.pack(*data.shape[1:3], channels)
    return Reply(head + data.tobytes(), "application/octet-stream")


def facts(view: View, request: Request) -> Reply:
    """Return lattice, names of heatmaps, and which files there are."""
    del request
    run = _run(view)
    som = run.som
    shape = som.neuron_shape
    return Reply.json(
        {
            "layout": som.layout,
            "shape": som.lattice.shape,
            "positions": som.lattice.positions,
            "neuron": shape,
            "channels": shape[0] if len(shape) > 2 else 1,
            "heatmaps": list(run.heatmaps),
            "files": [k for k in ("mapping", "data", "rotation") if getattr(run, k) is not None],
            "entries": _nentries(run),
        }
    )


def heatmap(view: View, request: Request) -> Reply:
    """Return a value for each neuron; null where there is none."""
    known = _run(view).heatmaps
    name = request.choice("name", list(known))
    return Reply.json(view.cached(("som.heatmap", name), known[name]))


def tiles(view: View, request: Request) -> Reply:
    """Return pictures of all neurons."""
    som = _run(view).som
    size = request.integer("size", 64, least=SIZES[0], most=SIZES[-1])
    if len(som) * size * size > MOST_PIXELS:
        raise RefusedError(
            413, f"{len(som)} pictures of {size} pixels are too many: a smaller size"
        )
    each = request.choice("range", ("auto", "tile"), "auto") == "tile"
    neurons = som.batch(np.arange(len(som))).images
    pictures = _pixels(neurons, _channel(request, neurons.shape[1] if neurons.ndim > 3 else 1))
    return _tiles(pictures, size, each=each)


def _entry(run: Run, request: Request) -> int:
    n = _nentries(run)
    if not n:
        raise RefusedError(404, "the SOM is shown without a mapping or data: pass them, too")
    return request.integer("entry", most=n - 1)


def members(view: View, request: Request) -> Reply:
    """Return the members of a neuron, nearest first."""
    run = _run(view)
    found = run.members(request.integer("neuron", most=len(run.som) - 1))
    assert run.mapping is not None  # for members
    distances = run.mapping.columns["best_distance"].values
    shown = found[:MOST_MEMBERS]
    return Reply.json(
        {
            "count": len(found),
            "entries": [
                {"entry": entry, "distance": away}
                for entry, away in zip(shown.tolist(), distances[shown].tolist(), strict=True)
            ],
        }
    )


def best(view: View, request: Request) -> Reply:
    """Return the nearest neurons of an entry, nearest first."""
    run = _run(view)
    if run.mapping is None:
        raise RefusedError(404, "the SOM is shown without a mapping")
    near, away = run.mapping.top_k(min(8, len(run.som)), [_entry(run, request)])
    return Reply.json(
        [
            {"neuron": neuron, "distance": distance}
            for neuron, distance in zip(near[0].tolist(), away[0].tolist(), strict=True)
            if neuron >= 0
        ]
    )


def picture(view: View, request: Request) -> Reply:
    """Return pictures of entries, as they are, or turned as they fit a neuron best.

    ``entries`` are numbers with commas between them; ``neuron`` is missing for entries as they
    are.
    """
    run = _run(view)
    size = request.integer("size", 64, least=SIZES[0], most=SIZES[-1])
    if run.data is None:
        raise RefusedError(404, "the SOM is shown without its data")
    entries = _entries(run, request)
    if not len(entries):
        raise RefusedError(400, "entries must be numbers with commas between them")
    if "neuron" in request.parameters:
        neuron = request.integer("neuron", most=len(run.som) - 1)
        images = np.stack([run.best_fit(entry, neuron) for entry in entries.tolist()])
    else:
        images = run.data.batch(entries).images
    channels = images.shape[1] if images.ndim > 3 else 1
    return _tiles(_pixels(images, _channel(request, channels)), size, each=True)


def _entries(run: Run, request: Request) -> NDArray[np.int64]:
    assert run.data is not None
    most = len(run.data)
    try:
        found = [int(part) for part in request.text("entries").split(",")]
    except ValueError as e:
        raise RefusedError(400, "entries must be numbers with commas between them") from e
    if len(found) > 256 or not all(0 <= entry < most for entry in found):
        raise RefusedError(400, f"entries must be at most 256 numbers 0..{most - 1}")
    return np.array(found, np.int64)


ROUTES = {
    "som": facts,
    "som.heatmap": heatmap,
    "som.tiles": tiles,
    "som.members": members,
    "som.best": best,
    "som.picture": picture,
}


def applies(ds: Any) -> bool:
    """Return whether it is a complete SOM."""
    return isinstance(ds, Som) and ds._rows is None


PANEL = Panel("som", "Map", "main", "mapix.pink.viewing", applies)
