"""What it is all for: a small network with several heads learns from a dataset through a loader."""

from __future__ import annotations

from pathlib import Path

import pytest

import mapix
from mapix.demo.data import make

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'mapix[torch]'")
mapix_torch = pytest.importorskip("mapix.torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

pytestmark = pytest.mark.torch


class Net(nn.Module):
    """Two convolutions, a mean over time, and a linear head for each label."""

    def __init__(self, channels: int, heads: dict[str, int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 5, stride=(1, 2), padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, stride=(1, 2), padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((48, 2)),
            nn.Flatten(),
        )
        self.heads = nn.ModuleDict({k: nn.Linear(16 * 96, n) for k, n in heads.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.body(x)
        return {k: head(x) for k, head in self.heads.items()}


def train(folder: Path, steps: int, **options: object) -> tuple[float, float]:
    """Mean loss of the first and of the last ten steps."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    data = mapix_torch.Dataset(folder, scale=1 / 255, mean=0.4, std=0.25, **options)
    net = Net(data[0][0].shape[0], data.heads)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    loader = DataLoader(data, batch_size=64, shuffle=True, collate_fn=mapix_torch.collate)
    losses: list[float] = []
    while len(losses) < steps:
        for images, labels in loader:
            out = net(images)
            loss = sum(nn.functional.cross_entropy(out[k], labels[k]) for k in out)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    return sum(losses[:10]) / 10, sum(losses[-10:]) / 10


def test_uniform_records(tmp_path):
    folder = make("uniform", tmp_path / "data", 1000)
    first, last = train(folder, 50)
    print(f"uniform: loss {first:.2f} -> {last:.2f}")
    assert last < 0.8 * first


def test_records_of_mixed_sizes_padded(tmp_path):
    folder = make("mixed", tmp_path / "data", 600)
    assert not mapix.open(folder).uniform
    first, last = train(folder, 40, pad=True)
    print(f"mixed: loss {first:.2f} -> {last:.2f}")
    assert last < 0.8 * first
