"""Two VIMH datasets of the synthesiser's spectrograms: one of one size, one of mixed sizes.

Both are made from ``(n, seed)`` alone, byte for byte, and written with numpy and ``struct`` rather
than with mapix: the demo reads what somebody else's program could have written.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapix.demo import sound
from mapix.demo.sound import HEADS, Sounds

__all__ = [
    "INFO_NAME",
    "MIXED_MEAN_NBYTES",
    "UNIFORM_NBYTES",
    "Progress",
    "make_mixed",
    "make_uniform",
]

Progress = Callable[[int, int], object]

INFO_NAME = "vimh_dataset_info.json"
MAKER = "mapix.demo"
RECIPE = 1  # to be raised whenever the same (n, seed) would give other bytes

BLOCK = 2048  # records a write
RENDER = 256  # records rendered at once: their planes stay in the processor's cache

HEIGHTS = (48, 64, 96)
WIDTHS = (24, 160)  # first and last
THREE_CHANNELS = 0.25  # share of records with three channels
LACKING = 0.125  # share of records that lack one of the labels
HEAD = struct.Struct("<HHHffB")

UNIFORM_NBYTES = HEAD.size + 2 * len(HEADS) + sound.BANDS * sound.BANDS
MIXED_MEAN_NBYTES = round(
    HEAD.size + 2 * len(HEADS) + np.mean(HEIGHTS) * np.mean(WIDTHS) * (1 + 2 * THREE_CHANNELS)
)


def _to_bytes(db: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale pictures (n, ...) in place to whole numbers 0..255; returns spec_min and spec_max."""
    axes = tuple(range(1, db.ndim))
    low, high = db.min(axis=axes), db.max(axis=axes)
    each = (slice(None), *(None for _ in axes))
    db -= low[each]
    db *= (255 / (high - low))[each]
    np.rint(db, out=db)
    return low, high


def _uniform_blocks(n: int, rng: np.random.Generator) -> Iterator[NDArray[np.void]]:
    """Records of one size, up to BLOCK at a time."""
    size = sound.BANDS
    record = np.dtype(
        [
            ("h", "<u2"),
            ("w", "<u2"),
            ("c", "<u2"),
            ("low", "<f4"),
            ("high", "<f4"),
            ("nlabels", "u1"),
            ("labels", "u1", (len(HEADS), 2)),
            ("pixels", "u1", (1, size, size)),
        ]
    )
    for begin in range(0, n, BLOCK):
        sounds = sound.draw(min(BLOCK, n - begin), rng)
        block = np.zeros(len(sounds), record)
        block["h"], block["w"], block["c"] = size, size, 1
        block["nlabels"] = len(HEADS)
        block["labels"][:, :, 0] = np.arange(len(HEADS))
        block["labels"][:, :, 1] = sound.codes(sounds)
        for at in range(0, len(sounds), RENDER):
            rows = slice(at, at + RENDER)
            db = sound.render(sounds[rows], size, size, 1, rng)
            block["low"][rows], block["high"][rows] = _to_bytes(db)
            block["pixels"][rows] = db
        yield block


def _mixed_blocks(n: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Records of mixed sizes, up to BLOCK at a time."""
    for begin in range(0, n, BLOCK):
        m = min(BLOCK, n - begin)
        sounds = sound.draw(m, rng)
        labels = sound.codes(sounds)
        heights = rng.choice(HEIGHTS, m)
        widths = rng.integers(WIDTHS[0], WIDTHS[1], m, endpoint=True)
        channels = np.where(rng.random(m) < THREE_CHANNELS, 3, 1)
        lacking = np.where(rng.random(m) < LACKING, rng.integers(0, len(HEADS), m), -1)
        block = bytearray()
        for i in range(m):
            block += _mixed_record(
                sounds[i : i + 1],
                (int(heights[i]), int(widths[i]), int(channels[i])),
                [(k, int(code)) for k, code in enumerate(labels[i]) if k != lacking[i]],
                rng,
            )
        yield bytes(block)


def _mixed_record(
    sounds: Sounds,
    shape: tuple[int, int, int],
    pairs: list[tuple[int, int]],
    rng: np.random.Generator,
) -> bytes:
    db = sound.render(sounds, *shape, rng)
    low, high = _to_bytes(db)
    head = HEAD.pack(*shape, low[0], high[0], len(pairs))
    return head + bytes(x for pair in pairs for x in pair) + db.astype(np.uint8).tobytes()


def make_uniform(
    folder: str | os.PathLike[str], n: int, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Make, or find, a dataset of ``n`` spectrograms of one size: 64 x 64 x 1, one second each.

    Parameters
    ----------
    folder : str or os.PathLike
        Where ``train`` (the first 80 %), ``test`` and the info JSON go; made if need be.
    n : int
        Records of both splits together.
    seed : int
        Another seed gives other sounds.
    progress : callable, optional
        Called as ``progress(records_done, records_total)``.

    Returns
    -------
    pathlib.Path
        ``folder``.

    Raises
    ------
    ValueError
        ``n`` is below 2, so that a split would be empty.
    FileExistsError
        The folder holds a dataset that the demo has not made.
    OSError
        The folder cannot be written to.
    """
    size = sound.BANDS
    return _make(Path(folder), "uniform", n, seed, (size, size, 1), _uniform_blocks, progress)


def make_mixed(
    folder: str | os.PathLike[str], n: int, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Make, or find, a dataset of ``n`` spectrograms of mixed sizes.

    Heights are 48, 64 or 96, widths 24 to 160 (sounds last 0.4 to 2.5 seconds), channels 1 or 3
    (analyses through a long, a middle and a short window), and one record in eight lacks one of
    its labels.

    Parameters, returns and raises: as ``make_uniform``.
    """
    largest = (max(HEIGHTS), WIDTHS[1], 3)
    return _make(Path(folder), "mixed", n, seed, largest, _mixed_blocks, progress)


def _make(
    folder: Path,
    kind: str,
    n: int,
    seed: int,
    largest: tuple[int, int, int],
    blocks: Callable[[int, np.random.Generator], Iterator[Any]],
    progress: Progress | None,
) -> Path:
    if n < 2:
        raise ValueError(f"n must be at least 2, one record a split, got {n}")
    wanted = {"by": MAKER, "recipe": RECIPE, "kind": kind, "n": n, "seed": seed}
    if _holds(folder, wanted):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"train": int(0.8 * n) or 1}
    splits["test"] = n - splits["train"]
    # Written aside, and moved when all of it is whole: Ctrl-C leaves the folder as it was.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
        nbytes = {}
        done = 0
        for number, (split, count) in enumerate(splits.items()):
            rng = np.random.default_rng([seed, number])
            with open(Path(part, split), "wb") as f:
                for begin, block in zip(range(0, count, BLOCK), blocks(count, rng), strict=True):
                    f.write(block)
                    if progress is not None:
                        progress(done + min(begin + BLOCK, count), n)
                nbytes[split] = f.tell()
            done += count
        info = _info(kind, splits, largest)
        info["generation_info"] = {**wanted, "nbytes": nbytes}
        Path(part, INFO_NAME).write_text(json.dumps(info, indent=4) + "\n", encoding="utf-8")
        (folder / INFO_NAME).unlink(missing_ok=True)
        for name in (*splits, INFO_NAME):  # the JSON last: where it is, the rest is too
            os.replace(Path(part, name), folder / name)
    return folder


def _holds(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds the wanted dataset; FileExistsError where it holds a foreign one."""
    there = [name for name in ("train", "test", INFO_NAME) if (folder / name).exists()]
    if not there:
        return False
    try:
        made = json.loads((folder / INFO_NAME).read_bytes())["generation_info"]
        ours = made["by"] == MAKER
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(
            f"{folder}: holds {', '.join(there)} that the demo has not made; choose another folder"
        )
    sizes = {split: (folder / split).stat().st_size for split in there if split != INFO_NAME}
    return bool(made == {**wanted, "nbytes": sizes})


def _info(kind: str, splits: dict[str, int], largest: tuple[int, int, int]) -> dict[str, Any]:
    """The info JSON, with the keys that the original generator writes."""
    h, w, c = largest
    n = sum(splits.values())
    fixed = {
        "frame_step": (sound.HOP, "seconds from one column to the next"),
        "lowest_frequency": (sound.LOWEST_HZ, "Hz, lower edge of row 0; rows are log-spaced"),
        "octaves": (sound.OCTAVES, "from the lower edge of row 0 to the upper edge of the last"),
    }
    mappings = {
        p.name: {"min": p.min, "step": p.step, "max": p.max, "description": p.description}
        for p in HEADS
    }
    for name, (value, text) in fixed.items():
        mappings[name] = {"min": value, "step": 0.0, "max": value, "description": text}
    return {
        "format": "VIMH",
        "version": "2.1",
        "dataset_name": f"mapix_demo_{kind}",
        "output_format": "binary",
        "height": h,
        "width": w,
        "channels": c,
        "channel_labels": ["Gray"] if c == 1 else [window.name for window in sound.WINDOWS],
        "varying_parameters": len(HEADS),
        "parameter_names": [p.name for p in HEADS],
        "train_samples": splits["train"],
        "test_samples": splits["test"],
        "total_samples": n,
        "n_samples": n,
        "sample_rate": 32000,
        "duration": w * sound.HOP,
        "synth_type": "additive_saw",
        "image_size": f"{h}x{w}x{c}",
        "parameter_mappings": mappings,
        "fixed_parameters": {
            name: {"value": value, "description": text} for name, (value, text) in fixed.items()
        },
        "label_encoding": {
            "format": "[height] [width] [channels] [spec_min] [spec_max] [N] [id value]*",
            "metadata_bytes": 14,
            "N_range": [0, 255],
            "param_id_range": [0, 255],
            "param_val_range": [0, 255],
        },
    }
