"""Two VIMH datasets of the synthesiser's spectrograms: one of one size, one of mixed sizes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mapix.demo import sound
from mapix.demo.sound import BANDS, HEADS
from mapix.vimh.info_json import INFO_NAME
from mapix.vimh.synthesiser import in_bytes
from mapix.vimh.writer import Writer

__all__ = ["MIXED_MEAN_NBYTES", "UNIFORM_NBYTES", "make"]

BLOCK_RECORDS = 256  # rendered at once: their planes stay in the processor's cache
HEIGHTS, WIDTHS = (48, 64, 96), (24, 160)
THREE_CHANNELS, LACKING = 0.25, 0.125  # shares of records with three channels, without one label
UNIFORM_NBYTES = 21 + BANDS * BANDS
MIXED_MEAN_NBYTES = round(21 + np.mean(HEIGHTS) * np.mean(WIDTHS) * (1 + 2 * THREE_CHANNELS))


def make(
    kind: Literal["uniform", "mixed"],
    folder: str | os.PathLike[str],
    n: int,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Make, or find, a dataset of ``n`` spectrograms; the first 80 % are the train split.

    Uniform ones are 64 x 64 x 1, one second.  Mixed ones have 48, 64 or 96 bands, 24 to 160 frames,
    1 or 3 windows as channels, and one in eight lacks a label.  The same ``n`` and seed make the
    same bytes.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2, one record per split, got {n}")
    folder = Path(folder)
    # "recipe" is raised whenever the same (n, seed) would give other bytes
    made = {"by": "mapix.demo", "recipe": 2, "kind": kind, "n": n, "seed": seed}
    if folder.exists():
        file = folder / INFO_NAME
        info = json.loads(file.read_text()) if file.exists() else None
        if isinstance(info, dict) and info.get("generation_info") == made:
            return folder
        raise FileExistsError(f"{folder} holds other data: remove it, or choose another folder")
    fixed = {"frame_step": sound.HOP, "lowest_frequency": sound.LOWEST_HZ, "octaves": sound.OCTAVES}
    info = {"synth_type": "additive_saw", "generation_info": made}
    first, done = int(0.8 * n) or 1, 0
    with Writer(folder, HEADS, fixed=fixed, info=info) as out:
        for split, count in ("train", first), ("test", n - first):
            rng = np.random.default_rng([seed, count, split == "test"])
            for db, codes in (_uniform if kind == "uniform" else _mixed)(count, rng):
                images, ranges = in_bytes(db)
                out.extend(images, codes=codes, spec_range=ranges, split=split)
                done += len(db)
                if progress is not None:
                    progress(done, n)
    return folder


def _uniform(n: int, rng: np.random.Generator) -> Iterator[tuple[sound.Floats, dict[str, Any]]]:
    for at in range(0, n, BLOCK_RECORDS):
        sounds = sound.draw(min(BLOCK_RECORDS, n - at), rng)
        yield sound.render(sounds, BANDS, BANDS, 1, rng), sound.codes(sounds)


def _mixed(n: int, rng: np.random.Generator) -> Iterator[tuple[sound.Floats, dict[str, Any]]]:
    for _ in range(n):
        sounds = sound.draw(1, rng)
        codes = sound.codes(sounds)
        if rng.random() < LACKING:
            codes[HEADS[rng.integers(len(HEADS))].name] = None
        h, w = int(rng.choice(HEIGHTS)), int(rng.integers(*WIDTHS, endpoint=True))
        yield sound.render(sounds, h, w, 3 if rng.random() < THREE_CHANNELS else 1, rng), codes
