"""Epochs in random order, in the process itself; a part of the file is an epoch here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

B, MOST = 256, 60_000  # samples of an epoch


def _how(ds: Any) -> dict[str, Any]:
    return {"layout": "NCHW"} if ds.uniform else {"layout": "NCHW", "pad": (64, 64)}


def test_batches(benchmark: Any, ds: Any) -> None:
    """``ds.batches`` over a permutation."""
    order = np.random.default_rng(2).permutation(len(ds))[:MOST]

    def epoch() -> int:
        return sum(len(batch) for batch in ds.batches(B, order, **_how(ds)))

    assert benchmark.pedantic(epoch, rounds=5, warmup_rounds=1, iterations=1) == len(order)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_dataloader(benchmark: Any, ds: Any, dtype: str) -> None:
    """PyTorch's DataLoader with whole batches from ``__getitems__``, no workers."""
    pytest.importorskip("torch")
    mapix_torch = pytest.importorskip("mapix.torch")
    from torch.utils.data import DataLoader, RandomSampler

    data = mapix_torch.Dataset(ds, dtype=dtype, labels="raw", **_how(ds))
    few = RandomSampler(data, num_samples=min(MOST, len(data)))
    loader = DataLoader(data, B, sampler=few, collate_fn=mapix_torch.collate)

    def epoch() -> int:
        return sum(len(images) for images, _ in loader)

    assert benchmark.pedantic(epoch, rounds=5, warmup_rounds=1, iterations=1) == len(few)
