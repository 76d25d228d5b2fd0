"""Segmentations for the demo: a picture cut into overlapping segments, archived, and drawn over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.iid import Archive, Writer

__all__ = ["cells", "make", "overlay", "photograph"]

Picture = NDArray[np.uint8]
Labels = NDArray[np.int64]
GOLDEN = 0.618033988749895  # of the circle of hues: neighbours in a row differ most


def photograph(name: str = "astronaut") -> tuple[Picture, dict[str, Labels]]:
    """A photograph of scikit-image's, and segmentations of it from fine to coarse; they overlap.

    Raises
    ------
    ImportError
        scikit-image is not installed.
    """
    from skimage import data
    from skimage.segmentation import felzenszwalb, slic

    picture = np.asarray(getattr(data, name)())
    picture = np.dstack([picture] * 3) if picture.ndim == 2 else picture[..., :3]
    found = {
        f"scale-{scale}": felzenszwalb(picture, scale=scale, sigma=0.8, min_size=scale // 4)
        for scale in (60, 250, 1000)
    }
    found["superpixels"] = slic(picture, n_segments=400, compactness=12, start_label=0)
    return np.ascontiguousarray(picture, np.uint8), found


def cells(
    h: int = 480, w: int = 640, n: int = 260, seed: int = 0
) -> tuple[Picture, dict[str, Labels]]:
    """A picture of round cells that lie over one another, and a layer of labels for each tenth.

    What the demo shows where scikit-image is not installed.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    light = 26 + 10 * np.sin(x / 90) + 8 * np.cos(y / 70)
    picture = np.stack([light * 0.7, light * 0.8, light * 1.5], axis=-1)
    layers: dict[str, Labels] = {f"layer-{k}": np.full((h, w), -1, np.int64) for k in range(10)}
    for i in range(n):
        r = float(rng.uniform(9, 34))
        cy, cx = float(rng.uniform(0, h)), float(rng.uniform(0, w))
        turn, flat = float(rng.uniform(0, np.pi)), float(rng.uniform(0.55, 1))
        a = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / r
        b = (-(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)) / (r * flat)
        away = np.sqrt(a * a + b * b)
        inside = away < 1
        if not inside.any():
            continue
        layers[f"layer-{i % 10}"][inside] = i
        shade = np.clip(1.15 - 0.55 * away, 0, 1) + 0.35 * (away < 0.35)
        tint = np.array([0.9, 0.55, 0.65]) + rng.uniform(-0.12, 0.12, 3)
        glow = shade[..., None] * tint * 190
        picture = np.where(inside[..., None], 0.35 * picture + 0.8 * glow, picture)
    noise = rng.normal(0, 4, (h, w, 1))
    return np.clip(picture + noise, 0, 255).astype(np.uint8), layers


def make(path: Path, picture: Picture, layers: dict[str, Labels]) -> Archive:
    """Write an archive: a domain for each layer, groups by size; and open it."""
    import mapix

    h, w = picture.shape[:2]
    with Writer(path, {"image": {"width": w, "height": h}}, replace=True) as out:
        for domain, labels in layers.items():
            for value in np.unique(labels[labels >= 0]).tolist():
                mask = labels == value
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                r, c = int(rows[0]), int(columns[0])
                part = mask[r : int(rows[-1]) + 1, c : int(columns[-1]) + 1]
                size = "large" if part.sum() > h * w / 200 else "small"
                out.add(domain, f"segment-{value}", part, at=(r, c), groups=[size, domain])
    opened: Archive = mapix.open(path, format="iid")
    return opened


def _hues(n: int) -> NDArray[np.float64]:
    """Colours 0..255 that differ, (n, 3)."""
    hue = (np.arange(n) * GOLDEN) % 1
    ramp = np.abs(((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1) * 6 - 3) - 1
    found: NDArray[np.float64] = 255 * (0.25 + 0.75 * np.clip(ramp, 0, 1))
    return found


def overlay(picture: Picture, archive: Archive, keys: Any, strength: float = 0.45) -> Picture:
    """A picture with segments drawn over it: each in a colour, its edges dark.

    Parameters
    ----------
    picture : ndarray
        uint8 (h, w, 3).
    archive : Archive
        Of that picture.
    keys : array_like
        What to draw, smaller segments over larger ones.
    strength : float
        0: the picture alone; 1: the colours alone.
    """
    h, w = picture.shape[:2]
    labels = archive.paint(keys, (0, 0, h, w), order="area")
    colours = _hues(len(archive))
    drawn = picture.astype(np.float64)
    covered = labels >= 0
    tint = colours[labels[covered]]
    drawn[covered] = (1 - strength) * drawn[covered] + strength * tint
    edge = np.zeros((h, w), bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    drawn[edge] *= 0.35
    return np.clip(drawn, 0, 255).astype(np.uint8)
