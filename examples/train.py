"""Train a small network on any dataset that mapix opens, and go on where a run was stopped.

    python examples/train.py                                  # makes MNIST-like IDX files itself
    python examples/train.py PATH --label note_number --device cuda --shift 0
    python examples/train.py PATH --checkpoint run.pt         # twice: the second run goes on

Needs PyTorch.  With ``--device cuda --shift 0`` the GPU reads the file's own pages where that is
possible; random shifts are made by the CPU.  The first line printed states which way is taken, and
why.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import mapix
import mapix.torch


def make_digits(folder: Path, n: int = 6000) -> Path:
    """Write MNIST-like files: ten shapes of 28 x 28 pixels, moved about, with noise."""
    rng = np.random.default_rng(0)
    shapes = (rng.random((10, 7, 7)) > 0.5).repeat(3, 1).repeat(3, 2) * 160
    labels = rng.integers(0, 10, n).astype(np.uint8)
    images = rng.integers(0, 90, (n, 28, 28)).astype(np.uint8)
    for image, label, (y, x) in zip(images, labels, rng.integers(0, 8, (n, 2)), strict=True):
        image[y : y + 21, x : x + 21] += shapes[label].astype(np.uint8)
    for split, rows in (("train", slice(0, n * 5 // 6)), ("t10k", slice(n * 5 // 6, n))):
        mapix.idx.write(folder / f"{split}-images-idx3-ubyte", images[rows])
        mapix.idx.write(folder / f"{split}-labels-idx1-ubyte", labels[rows])
    return folder


def network(channels: int, classes: int) -> nn.Module:
    """Return a small convolutional network for images of any size."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()),
        nn.Linear(32 * 16, classes),
    )


def main() -> None:
    """Train, report, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", help="what mapix opens; without it, data is made")
    parser.add_argument("--label", help="column to learn; by default the first label")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--shift", type=int, default=1, help="most pixels of a random shift")
    parser.add_argument("--steps", type=int, help="stop after so many steps, as a crash would")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint", type=Path, help="file to save to, and to go on from")
    arguments = parser.parse_args()
    torch.manual_seed(0)

    made = None if arguments.path else tempfile.TemporaryDirectory()
    ds = mapix.open(arguments.path or make_digits(Path(made.name)))
    label = arguments.label or next(c["name"] for c in ds.describe()["columns"] if c["label"])
    training, held_out = ds.split(0.9, seed=0, stratify=label)
    classes = getattr(ds, "heads", {}).get(label) or int(ds.columns[label].values.max()) + 1

    options = {"scale": 1 / 255, "device": arguments.device}
    augment = mapix.Augment(pad=arguments.shift) if arguments.shift else None
    loader = mapix.torch.Loader(training, arguments.batch_size, seed=1, augment=augment, **options)
    print(loader.explain())
    images, _ = next(iter(mapix.torch.Loader(training, 2, ahead=0, **options)))
    model = network(images.shape[1], classes).to(arguments.device)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    if arguments.checkpoint and arguments.checkpoint.exists():
        saved = torch.load(arguments.checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        loader.load_state_dict(saved["loader"])
        print(f"goes on in epoch {loader.epoch}")

    steps = 0
    while loader.epoch < arguments.epochs:
        begin, seen, total = time.perf_counter(), 0, 0.0
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels[label])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen, total = seen + len(images), total + float(loss.detach()) * len(images)
            steps += 1
            if steps == arguments.steps:
                break
        seconds = time.perf_counter() - begin
        print(f"epoch: loss {total / seen:.3f}, {seen / seconds:,.0f} images a second")
        if arguments.checkpoint:
            states = {"model": model, "optimiser": optimiser, "loader": loader}
            torch.save({k: v.state_dict() for k, v in states.items()}, arguments.checkpoint)
        if steps == arguments.steps:
            break

    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in mapix.torch.Loader(held_out, 500, shuffle=False, **options):
            right += int((model(images).argmax(1) == labels[label]).sum())
    print(f"held out: {right / len(held_out):.1%} of {len(held_out)} right")
    if made:
        made.cleanup()


if __name__ == "__main__":
    main()
