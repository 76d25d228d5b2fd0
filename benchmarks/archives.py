"""Archives to measure on: blobs as a segmentation of a large picture has them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from comparison.rounds import told
from data_files import FOLDER
from mapix._native.iid import pack
from mapix.iid import Archive, ShardedWriter, Writer

NCLS = 50
NDOMAINS = 20
SHAPES = 10_000  # different blobs; an archive of more has each at several places
LARGE = 1_000_000
NSHARDS = 7
HEAD = struct.Struct("<I4H")


def count() -> int:
    """Segments of the usual archive: 100,000, or a third of ``MAPIX_BENCH_RECORDS``."""
    return max(1000, int(os.environ.get("MAPIX_BENCH_RECORDS", "300000")) // 3)


def side(n: int) -> int:
    """Of the picture, in pixels: ten segments over each pixel."""
    return 4096 if n <= 200_000 else 12288


def _large(rng: np.random.Generator) -> np.ndarray:
    """One of many parts, 512 to 1024 pixels a side."""
    h, w = (int(v) for v in rng.integers(512, 1024, 2))
    coarse = rng.random((h // 8 + 1, w // 8 + 1)) < 0.35
    mask: np.ndarray = np.kron(coarse, np.ones((8, 8), bool))[:h, :w]
    return mask


def _blob(rng: np.random.Generator) -> np.ndarray:
    """8 to 128 pixels a side, log-uniform; one in twenty of two parts."""
    h, w = (int(v) for v in np.exp(rng.uniform(np.log(8), np.log(128), 2)))
    y, x = np.mgrid[0:h, 0:w]
    y, x = (y - h / 2) / (h / 2), (x - w / 2) / (w / 2)
    wave = 1 + 0.25 * np.sin(3 * np.arctan2(y, x) + rng.uniform(0, 6.28))
    mask: np.ndarray = y**2 + x**2 < wave
    if rng.random() < 0.05:
        mask[:, w // 2 - 1 : w // 2 + 1] = False
    return mask


def _tight(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


class _Shape:
    """A packed mask that can be put anywhere."""

    def __init__(self, mask: np.ndarray) -> None:
        self.h, self.w = mask.shape
        raw, self.area, _ = pack(np.ascontiguousarray(mask, np.uint8), 0, 0)
        self.raw, at = raw, 0
        self.heads: list[tuple[int, tuple[int, ...]]] = []
        while at < len(raw):
            length, *box = HEAD.unpack_from(raw, at)
            self.heads.append((at, (length, *box)))
            at += length

    def at(self, r: int, c: int) -> bytes:
        """Its regions, with the first pixel there."""
        raw = bytearray(self.raw)
        for at, (length, a, b, d, e) in self.heads:
            HEAD.pack_into(raw, at, length, a + r, b + c, d + r, e + c)
        return bytes(raw)


def archive(n: int, *, index: bool = False) -> Path:
    """One of n segments, made when it is not there."""
    path = FOLDER / f"blobs-{n}{'-indexed' if index else ''}.iid"
    if path.exists():
        return path
    told(f"making {path.name}")
    rng = np.random.default_rng(0)
    shapes = [_Shape(_tight(_blob(rng))) for _ in range(min(n, SHAPES))]
    with Writer(path, index=index) as out:
        for i in range(n):
            s = _Shape(_tight(_large(rng))) if i < NCLS else shapes[i % len(shapes)]
            r, c = (int(rng.integers(0, side(n) - v)) for v in (s.h, s.w))
            group, box = "cls" if i < NCLS else "ind", (r, c, r + s.h, c + s.w)
            name = f"d{i % NDOMAINS}", rng.bytes(16)
            out.add(*name, bits=s.at(r, c), bbox=box, area=s.area, groups=[group])
    return path


def shards(a: Archive) -> list[Path]:
    """The same segments, without groups, in about NSHARDS files; made when they are not there."""
    path = FOLDER / f"blobs-{len(a)}-set.iid"
    if found := sorted(FOLDER.glob(f"{path.stem}-?????-of-?????.iid")):
        return found
    told(f"making the shards of {path.name}")
    with ShardedWriter(path, full_nbytes=a.nbytes // NSHARDS) as out:
        for s in a:
            out.add(s.domain, s.iid, s.mask(), at=s.bbox[:2])
    return sorted(FOLDER.glob(f"{path.stem}-?????-of-?????.iid"))
