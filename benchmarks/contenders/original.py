"""The original program's way: the whole file into memory, each record parsed in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from contenders.base import HEADER

Sample = tuple[Any, dict[str, int], tuple[float, float]]


def parse(source: Path, nbytes: int) -> list[Sample]:
    """The whole records in the first ``nbytes`` as (float32 image, labels by name, spec range)."""
    with open(source, "rb") as f:
        data = f.read(nbytes)  # the original reads all of the file
    samples: list[Sample] = []
    at = 0
    while at + HEADER.size <= len(data):
        h, w, c, n = HEADER.unpack_from(data, at)
        if at + HEADER.size + 2 * n + h * w * c > len(data):
            break
        low, high = np.frombuffer(data, "<f4", 2, at + 6)
        at += HEADER.size
        labels: dict[str, int] = {}
        for _ in range(n):
            labels[f"param_{data[at]}"] = data[at + 1]
            at += 2
        pixels = np.frombuffer(data, np.uint8, h * w * c, at)
        image = pixels.reshape(c, h, w).astype(np.float32)
        samples.append((image, labels, (float(low), float(high))))
        at += h * w * c
    return samples
