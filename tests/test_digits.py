"""Real digits: IDX in both byte orders -> VIMH -> a loader -> a small classifier that learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mapix
import mapix.idx

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
digits = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
mapix_torch = pytest.importorskip("mapix.torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("byteorder", [">", "<"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_classifier_learns_from_converted_digits(tmp_path: Path, byteorder: str) -> None:
    found = digits.load_digits()
    images = (found.images * 15).astype(np.uint8)  # 0..16 as 0..240
    labels = found.target.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, rows in (("train", order[:1400]), ("t10k", order[1400:])):
        mapix.idx.write(folder / f"{name}-images-idx3-ubyte", images[rows], byteorder=byteorder)
        mapix.idx.write(folder / f"{name}-labels-idx1-ubyte", labels[rows], byteorder=byteorder)
    assert mapix.open(folder).byteorder == byteorder
    made = mapix.convert(folder, tmp_path / "vimh", to="vimh")
    assert (made.records, made.lost) == ({"train": 1400, "test": 397}, ())

    torch.manual_seed(0)
    torch.set_num_threads(2)
    data = mapix_torch.Dataset(tmp_path / "vimh", scale=1 / 255, mean=0.3, std=0.35)
    assert data.heads == {"label": 10}
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    loader = DataLoader(data, batch_size=64, shuffle=True, collate_fn=mapix_torch.collate)
    for _ in range(12):
        for pixels, targets in loader:
            loss = nn.functional.cross_entropy(net(pixels), targets["label"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    tests = mapix_torch.Dataset(tmp_path / "vimh", split="test", scale=1 / 255, mean=0.3, std=0.35)
    pixels, targets = mapix_torch.collate(tests.__getitems__(list(range(len(tests)))))
    with torch.no_grad():
        right = (net(pixels).argmax(1) == targets["label"]).float().mean().item()
    print(f"digits, {byteorder}: {right:.1%} of 397 right")
    assert right > 0.93
