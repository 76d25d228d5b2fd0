"""Draw segments over an image: each in a colour of its own, smaller ones over larger ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mapix.drawing.scaling import rgb
from mapix.iid.layout import image_size

if TYPE_CHECKING:
    from mapix.iid.archive import Archive
    from mapix.iid.argument_checks import Box, KeysLike

__all__ = ["colours_of", "overlay"]

GROUND = 40  # grey of pixels without a segment, where there is no image
STEP_ROWS = 256
EDGE = 0.35  # brightness of outlines
# Parts of the circle of hues, and of the range of lightness, between two keys: neighbours differ.
TURN, LIGHT_TURN = 0.6180339887498949, 0.7548776662466927

Bytes = NDArray[np.uint8]


def colours_of(keys: ArrayLike) -> Bytes:
    """Return the colour of each key, uint8 (n, 3): that of the viewer, ``hue`` in levels.js."""
    number = np.asarray(keys, np.float64)[:, None] + 1
    light = 0.55 + 0.15 * (number * LIGHT_TURN % 1)
    t = (np.array([0, 8, 4]) + 12 * (number * TURN % 1)) % 12
    wave = np.maximum(-1, np.minimum(np.minimum(t - 3, 9 - t), 1))
    level = light - 0.75 * np.minimum(light, 1 - light) * wave
    found: Bytes = np.floor(255 * level + 0.5).astype(np.uint8)
    return found


def overlay(
    archive: Archive,
    image: ArrayLike | None = None,
    keys: KeysLike | None = None,
    *,
    bbox: Box | None = None,
    opacity: float = 0.45,
    outlines: bool = True,
) -> Bytes:
    """Return an image with segments drawn over it, uint8 (h, w, 3): see ``Archive.overlay``."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be 0..1, got {opacity}")
    if image is None:
        labels = archive.paint(keys, bbox, order="area")
        below: NDArray[Any] = np.full((*labels.shape, 3), GROUND, np.uint8)
        opacity = 1.0
    else:
        below = np.asarray(image)
        if below.ndim not in (2, 3):
            raise ValueError(f"an image is (h, w) or (h, w, c), got {below.shape}")
        stated = image_size(archive.meta)
        if stated is not None and below.shape[:2] not in (stated, archive.shape):
            got, expected = (" x ".join(map(str, sides)) for sides in (below.shape[:2], stated))
            raise ValueError(
                f"{archive.path}: segments of an image of {expected}, got one of {got}"
            )
        window = (0, 0, *below.shape[:2]) if bbox is None else bbox
        labels = archive.paint(keys, window, order="area")
        minr, minc, maxr, maxc = window
        below = rgb(below)[minr:maxr, minc:maxc]
        if below.shape[:2] != labels.shape:
            raise ValueError(f"the image of {np.shape(image)} does not cover the box {window}")
    out = np.empty(below.shape, np.uint8)
    for at in range(0, len(labels), STEP_ROWS):
        part = labels[at : at + STEP_ROWS]
        drawn = below[at : at + STEP_ROWS].astype(np.float32)
        covered = part >= 0
        colours = colours_of(part[covered])
        drawn[covered] = (1 - opacity) * drawn[covered] + opacity * colours
        if outlines:
            edge = np.zeros(part.shape, np.bool_)
            edge[:, 1:] = part[:, 1:] != part[:, :-1]
            below_first = 0 if at else 1  # the first row of the image has no row above it
            above = labels[at - 1 + below_first : at + len(part) - 1]
            edge[below_first:] |= part[below_first:] != above
            drawn[edge] *= EDGE
        out[at : at + STEP_ROWS] = drawn.astype(np.uint8)
    return out
