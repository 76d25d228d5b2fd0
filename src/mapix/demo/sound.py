"""Sounds of the demo: three labels, and how they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from mapix.vimh.parameters import Parameter
from mapix.vimh.synthesiser import HOP, LOWEST_HZ, OCTAVES, SETTINGS, Floats, Sounds, render

__all__ = ["BANDS", "HEADS", "HOP", "LOWEST_HZ", "OCTAVES", "Floats", "codes", "draw", "render"]

BANDS = 64  # of the uniform dataset
RANGES = {
    "note_number": (36, 96, 1),
    "velocity": (24, 120, 8),
    "log10_decay_time": (-1.2, 0.4, 0.1),
}
HEADS = tuple(
    Parameter(name, k, *numbers, description=SETTINGS[name].description)
    for k, (name, numbers) in enumerate(RANGES.items())
)


def codes(s: Sounds) -> dict[str, Any]:
    """Return the labels of sounds as VIMH has them."""
    return {p.name: p.quantise(v) for p, v in zip(HEADS, s[:3], strict=True)}


def draw(n: int, rng: np.random.Generator) -> Sounds:
    """Return settings of ``n`` sounds, evenly spread over the ranges of ``HEADS``."""
    note, velocity = (rng.integers(int(p.min), int(p.max), n, endpoint=True) for p in HEADS[:2])
    decay = rng.uniform(HEADS[2].min, HEADS[2].max, n)
    return Sounds(note, velocity, decay, rng.uniform(1, 6, n) * HOP)
