"""Read VIMH with the simplest possible code: the reference for the C core.

It is written from the layout alone, and shares no code with the package.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Slow:
    """One decoded record."""

    h: int
    w: int
    c: int
    pairs: list[tuple[int, int]]
    image: bytes
    spec: tuple[float, float] | None = None
    at: int = field(default=0, compare=False)

    def pack(self) -> bytes:
        head = struct.pack("<HHH", self.h, self.w, self.c)
        if self.spec is not None:
            head += struct.pack("<ff", *self.spec)
        return head + bytes([len(self.pairs), *(x for p in self.pairs for x in p)]) + self.image

    def hwc(self) -> np.ndarray:
        planes = np.frombuffer(self.image, np.uint8).reshape(self.c, self.h, self.w)
        return planes.transpose(1, 2, 0)


def read(data: bytes, head: int) -> tuple[list[Slow], int]:
    """Return the complete records from the start, and the byte at which they end."""
    at, records = 0, []
    while at < len(data):
        if len(data) - at < head + 1:
            break
        h, w, c = struct.unpack_from("<HHH", data, at)
        spec = struct.unpack_from("<ff", data, at + 6) if head == 14 else None
        n = data[at + head]
        image_at = at + head + 1 + 2 * n
        end = image_at + h * w * c
        if h * w * c == 0 or end > len(data):
            break
        pairs = [(data[k], data[k + 1]) for k in range(at + head + 1, image_at, 2)]
        records.append(Slow(h, w, c, pairs, data[image_at:end], spec, at))
        at = end
    return records, at


def tiles(data: bytes, head: int) -> list[Slow] | None:
    records, end = read(data, head)
    return records if end == len(data) else None


def record(
    h: int, w: int, c: int, pairs: list[tuple[int, int]], *, head: int = 14, seed: int = 0
) -> Slow:
    image = np.random.default_rng(seed).integers(0, 256, h * w * c, dtype=np.uint8).tobytes()
    return Slow(h, w, c, pairs, image, (-80.0, 0.0) if head == 14 else None)


def pack(records: list[Slow]) -> bytes:
    return b"".join(r.pack() for r in records)
