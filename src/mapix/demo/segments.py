"""Segmentations for the demo: an image cut into overlapping segments, and archived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.iid.label_maps import add_label_map
from mapix.iid.writer import Writer
from mapix.registry import open_dataset

__all__ = ["cells", "make", "photograph"]

Image = NDArray[np.uint8]
Layers = dict[str, NDArray[np.int64]]


def photograph(name: str = "astronaut") -> tuple[Image, Layers]:
    """Return a photograph of scikit-image, which is needed, and four segmentations of it."""
    from skimage import data
    from skimage.segmentation import felzenszwalb, slic

    image = np.asarray(getattr(data, name)())
    image = np.dstack([image] * 3) if image.ndim == 2 else image[..., :3]
    found = {
        f"scale-{scale}": felzenszwalb(image, scale=scale, sigma=0.8, min_size=scale // 4)
        for scale in (60, 250, 1000)
    }
    found["superpixels"] = slic(image, n_segments=400, compactness=12, start_label=0)
    return np.ascontiguousarray(image, np.uint8), found


def cells(h: int = 480, w: int = 640, n: int = 260, seed: int = 0) -> tuple[Image, Layers]:
    """Return an image of round cells that overlap, and ten layers with every tenth cell each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    image = np.stack([26 + 10 * np.sin(x / 90)] * 3, axis=-1) * [0.7, 0.8, 1.5]
    layers: Layers = {f"layer-{k}": np.full((h, w), -1, np.int64) for k in range(10)}
    for i in range(n):
        r, cy, cx = rng.uniform(9, 34), rng.uniform(0, h), rng.uniform(0, w)
        away = np.hypot((x - cx) / r, (y - cy) / (r * rng.uniform(0.55, 1)))[..., None]
        inside = away < 1
        layers[f"layer-{i % 10}"][inside[..., 0]] = i
        light = (1.15 - 0.55 * away) * (np.array([140, 85, 100]) + rng.normal(0, 12, 3))
        image = np.where(inside, 0.35 * image + light, image)
    return np.clip(image + rng.normal(0, 4, (h, w, 1)), 0, 255).astype(np.uint8), layers


def make(path: Path, image: Image, layers: Layers) -> Any:
    """Write an archive, with a domain for each layer and a group of large segments; open it."""
    h, w = image.shape[:2]
    with Writer(path, {"image": {"width": w, "height": h}}, replace=True) as out:
        for domain, labels in layers.items():
            keys = add_label_map(out, labels, domain, background=-1, groups=[domain])
            _, areas = np.unique(labels[labels >= 0], return_counts=True)
            out.group("large", np.array(keys, int)[areas > h * w / 200])
    return open_dataset(path)
