"""Random changes of images in C, and by numpy and PyTorch one image after the other.

    PYTHONPATH=src python benchmarks/augment.py [--rounds N]

CIFAR-like batches of 256 images of 32 x 32 x 3: shifted by up to 4 pixels, mirrored, a square of 8
cut out, as float32 in NCHW.  All contenders run in each round, in random order; medians in
microseconds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mapix

B, N, SIDE = 256, 20_000, 32
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
HOW: dict[str, Any] = {"layout": "NCHW", "scale": 1 / 255, "mean": MEAN, "std": STD}


def one_by_one(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a dataset's transform does for each image: pad, crop, flip, cut out, convert."""
    out = np.empty((len(images), 3, SIDE, SIDE), np.float32)
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (MEAN, STD))
    for to, image in zip(out, images, strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        top, left = rng.integers(0, 9, 2)
        part = padded[:, top : top + SIDE, left : left + SIDE]
        if rng.random() < 0.5:
            part = part[:, :, ::-1]
        to[...] = (part * np.float32(1 / 255) - mean) / std
        y, x = rng.integers(0, SIDE, 2)
        to[:, max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4] = 0
    return out


def in_torch(images: np.ndarray, generator: Any) -> Any:
    """The same by tensor operations for each image, as torchvision's transforms do it."""
    import torch
    from torch.nn.functional import pad

    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    found = []
    for image in images:
        padded = pad(torch.from_numpy(image), (4, 4, 4, 4))
        top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
        part = padded[:, top : top + SIDE, left : left + SIDE]
        if torch.rand(1, generator=generator).item() < 0.5:
            part = part.flip(-1)
        one = part.float().div_(255).sub_(mean).div_(std)
        y, x = torch.randint(0, SIDE, (2,), generator=generator).tolist()
        one[:, max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4] = 0
        found.append(one)
    return torch.stack(found)


def contenders(ds: Any) -> dict[str, Callable[[], Any]]:
    """Name -> a function that makes the next batch."""
    rng = np.random.default_rng(0)
    images = np.ascontiguousarray(ds.images.transpose(0, 3, 1, 2))
    out = {t: np.empty((B, 3, SIDE, SIDE), t) for t in ("uint8", "float32")}
    changes = mapix.Augment(pad=4, flip=0.5, cutout=8)
    position = [0]

    def batch(augment: Any, dtype: str) -> Callable[[], Any]:
        how = HOW if dtype == "float32" else {"layout": "NCHW"}

        def make() -> Any:
            draws = None
            if augment is not None:
                position[0] += B
                draws = augment.draws(np.arange(position[0], position[0] + B))
            rows = rng.integers(0, N, B)
            return ds.batch(rows, out[dtype], dtype, augment=draws, **how)

        return make

    found = {
        "ds.batch, uint8": batch(None, "uint8"),
        "the same, augmented": batch(changes, "uint8"),
        "ds.batch, float32": batch(None, "float32"),
        "the same, shifted": batch(mapix.Augment(pad=4), "float32"),
        "the same, mirrored": batch(mapix.Augment(flip=0.5), "float32"),
        "the same, shifted, mirrored, cut out": batch(changes, "float32"),
        "the same, and mixed": batch(
            mapix.Augment(pad=4, flip=0.5, cutout=8, mixup=0.2), "float32"
        ),
        "numpy, image by image": lambda: one_by_one(images[rng.integers(0, N, B)], rng),
    }
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(1)
    generator = torch.Generator()
    found["PyTorch, image by image"] = lambda: in_torch(images[rng.integers(0, N, B)], generator)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train"
        records = np.zeros((N, 9 + 3 * SIDE * SIDE), np.uint8)
        records[:, [0, 2, 4, 6]] = SIDE, SIDE, 3, 1  # h, w, c, one label
        records[:, 9:] = np.random.default_rng(1).integers(0, 256, (N, 3 * SIDE * SIDE))
        records.tofile(path)
        ds = mapix.open(path, format="vimh")
        known = contenders(ds)
        times: dict[str, list[float]] = {name: [] for name in known}
        for make in known.values():
            make()
        for _ in range(rounds):
            for name, make in random.sample(list(known.items()), len(known)):
                begin = time.perf_counter()
                make()
                times[name].append((time.perf_counter() - begin) * 1e6)
    print("| batch of 256 images of 32 x 32 x 3 | µs | µs, fastest |")
    print("|---|---|---|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} |")


if __name__ == "__main__":
    main()
