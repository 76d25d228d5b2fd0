"""Pictures of SOMs and of values of their neurons, by Pillow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapix.colour import palette
from mapix.errors import LimitError
from mapix.optional import library
from mapix.pink.lattice import Lattice

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["cells", "neurons"]

MOST_PIXELS = 1 << 26
BACKGROUND = (52, 54, 58)
NOTHING = (96, 96, 96)  # colour of NaN
PLANE_GAP = 4  # gaps between two planes of a SOM of three dimensions

Bytes = NDArray[np.uint8]


def neurons(
    array: NDArray[Any], lattice: Lattice, size: int, gap: int, each: bool, channel: int | None
) -> Image:
    """Draw neurons, (n, *neuron shape), at their places; the last ones may be missing."""
    pixels = _channels(array, channel)
    low, high = _range(pixels, each)
    span = np.where(high > low, high - low, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        levels = np.clip((pixels - low) / span, 0, 1) * 255
    colours = palette() if pixels.shape[3] == 1 else None
    image = library("PIL.Image", "images")
    shape = _shape(lattice, size)

    def tile(k: int) -> Bytes:
        planes = [_fitted(image, levels[k, ..., c], shape) for c in range(levels.shape[3])]
        known = np.isfinite(planes[0])
        made = np.stack([np.nan_to_num(p) for p in planes], axis=-1)
        rgb = np.rint(np.clip(made, 0, 255)).astype(np.uint8)
        rgb = rgb if colours is None else colours.take(rgb[..., 0], axis=0)
        return np.where(known[..., None], rgb, np.array(NOTHING, np.uint8))

    return _drawn(tile, len(array), lattice, shape, gap)


def cells(values: NDArray[Any], lattice: Lattice, size: int, gap: int) -> Image:
    """A colour for each cell; see ``Mapping.picture``."""
    if values.shape != (lattice.size,):
        raise ValueError(f"{lattice.size} numbers expected, got {values.shape}")
    numbers = values.astype(np.float64)
    low, high = _range(numbers, False)
    span = high - low if high > low else 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        level = np.nan_to_num(np.clip((numbers - low) / span, 0, 1) * 255)
    colours = palette().take(np.rint(level).astype(np.uint8), axis=0)
    colours[~np.isfinite(numbers)] = NOTHING
    shape = _shape(lattice, size)

    def tile(k: int) -> Bytes:
        return np.broadcast_to(colours[k], (*shape, 3))

    return _drawn(tile, len(values), lattice, shape, gap)


def _channels(array: NDArray[Any], channel: int | None) -> NDArray[np.float64]:
    """Neurons as (n, h, w, 1) or (n, h, w, 3)."""
    numbers = array.astype(np.float64)
    while numbers.ndim < 3:  # a vector is a line of pixels
        numbers = numbers[:, None]
    if numbers.ndim == 3:
        return numbers[..., None]
    numbers = np.moveaxis(numbers.reshape(len(numbers), -1, *numbers.shape[-2:]), 1, -1)
    if channel is not None:
        return numbers[..., [channel]]
    return numbers if numbers.shape[3] == 3 else numbers.mean(axis=3, keepdims=True)


def _range(numbers: NDArray[np.float64], each: bool) -> tuple[Any, Any]:
    """Lowest and highest of all finite numbers, or of those of each neuron, (n, 1, 1, 1)."""
    finite = np.isfinite(numbers)
    axis = tuple(range(1, numbers.ndim)) if each else None
    low = np.min(numbers, axis=axis, keepdims=each, where=finite, initial=np.inf)
    high = np.max(numbers, axis=axis, keepdims=each, where=finite, initial=-np.inf)
    some = np.isfinite(low)
    return np.where(some, low, 0.0), np.where(some, high, 0.0)


def _shape(lattice: Lattice, size: int) -> tuple[int, int]:
    """Height and width of a tile."""
    if size < 4:
        raise ValueError(f"size must be at least 4 pixels, got {size}")
    wide = size * math.sqrt(3) / 2 if lattice.layout == "hexagonal" else size
    return size, 2 * round(wide / 2)


def _fitted(image: Any, plane: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[Any]:
    """Return a plane in the height of a tile, cut to its width around the middle."""
    h, w = plane.shape
    wide = max(round(shape[0] * w / h), shape[1]) if h > 1 else shape[1]
    large = h > shape[0] or w > wide
    way = image.Resampling.BOX if large else image.Resampling.BICUBIC
    picture = image.fromarray(plane.astype(np.float32)).resize((wide, shape[0]), way)
    left = (wide - shape[1]) // 2
    return np.asarray(picture)[:, left : left + shape[1]]


def _hexagon(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share of each pixel of a tile inside a hexagon that stands on a corner, 0..1."""
    h, w = shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    y, x = np.abs(y - (h - 1) / 2), np.abs(x - (w - 1) / 2)
    slope = h / (2 * w)
    inside = np.minimum(w / 2 - x, (h / 2 - slope * x - y) / math.hypot(1, slope))
    found: NDArray[np.float64] = np.clip(inside + 0.5, 0, 1)
    return found


def _corners(
    lattice: Lattice, shape: tuple[int, int], gap: int
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Return the top left corner of each tile, (n, 2), and height and width of the picture."""
    h, w = shape
    at = np.zeros((lattice.size, 2))
    places = lattice.positions.astype(np.float64)
    if lattice.layout == "hexagonal":
        q, r = places.T
        at[:, 0] = r * (0.75 * h + gap * math.sqrt(3) / 2)
        at[:, 1] = (q + r / 2 - lattice.radius / 2) * (w + gap)
    elif places.shape[1] == 1:
        at[:, 1] = places[:, 0] * (w + gap)
    else:
        at[:, 0] = places[:, 0] * (h + gap)
        at[:, 1] = places[:, 1] * (w + gap)
        wide = lattice.shape[1] * (w + gap) + PLANE_GAP * gap
        if places.shape[1] > 2:  # planes side by side
            rest = np.ravel_multi_index(tuple(lattice.positions[:, 2:].T), lattice.shape[2:])
            at[:, 1] += rest * wide
    found = np.rint(at).astype(np.int64) + gap
    return found, (int(found[:, 0].max()) + h + gap, int(found[:, 1].max()) + w + gap)


def _drawn(
    tile: Callable[[int], Bytes], n: int, lattice: Lattice, shape: tuple[int, int], gap: int
) -> Image:
    """Return the picture of the first n tiles."""
    image = library("PIL.Image", "images")
    corners, size = _corners(lattice, shape, gap)
    if size[0] * size[1] > MOST_PIXELS:
        raise LimitError(
            f"a picture of {size[1]} x {size[0]} pixels, more than MOST_PIXELS = {MOST_PIXELS}: "
            "make size smaller"
        )
    canvas = np.empty((*size, 3), np.uint8)
    canvas[...] = BACKGROUND
    alpha = np.ones(shape) if lattice.layout == "cartesian" else _hexagon(shape)
    h, w = shape
    for k, (y, x) in enumerate(corners[:n].tolist()):
        below = canvas[y : y + h, x : x + w]
        mixed = alpha[..., None] * tile(k) + (1 - alpha[..., None]) * below
        below[...] = np.rint(mixed)
    made: Image = image.fromarray(canvas)
    return made
