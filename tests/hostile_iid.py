"""Make small archives that are as expensive as their bytes allow, from a few numbers."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, fields, replace

MOST = 65535
HALF = 4096


@dataclass(frozen=True)
class Shape:
    """The parts of an archive; each number is an index into a table below."""

    nbytes: int  # of the file, about
    box: int  # of a segment
    nregions: int
    region: int  # its height and width
    place: int  # where regions lie in the box
    bits: int
    order: int  # of regions

    def mutated(self, rng: random.Random) -> Shape:
        name = rng.choice([f.name for f in fields(self)][1:])
        return replace(self, **{name: rng.randrange(len(TABLES[name]))})

    @classmethod
    def any(cls, rng: random.Random, nbytes: int) -> Shape:
        return cls(nbytes, **{name: rng.randrange(len(t)) for name, t in TABLES.items()})


BOXES = [
    (0, 0, 1, 1),
    (0, 0, MOST, MOST),
    (0, 0, 8192, HALF),
    (0, 0, MOST, 64),
    (0, 0, 64, MOST),
    (100, 100, 400, 400),
    (MOST - 64, MOST - 64, MOST, MOST),
    None,  # anywhere, up to 200 x 200
]
COUNTS = [0, 1, 2, 3, 8, 24, 25, 200, 100_000]
SIDES = [(1, 1), (1, 60), (1, 4096), (4096, 1), (64, 64), (300, 2), (2, 300), (8, 57), (0, 5)]
PLACES = ["same", "corners", "column", "row", "diagonal", "anywhere", "grid"]
BITS = ["zeros", "ones", "random", "checked", "last"]
ORDERS = ["as they come", "backwards", "shuffled"]
TABLES = {
    "box": BOXES,
    "nregions": COUNTS,
    "region": SIDES,
    "place": PLACES,
    "bits": BITS,
    "order": ORDERS,
}


def _bits(kind: str, n: int, rng: random.Random) -> bytes:
    size = (n + 7) // 8
    if kind == "random":
        return rng.randbytes(size)
    if kind == "last":
        return bytes(size - 1) + b"\x80" if size else b""
    return {"zeros": b"\0", "ones": b"\xff", "checked": b"\xaa"}[kind] * size


def _at(place: str, i: int, room: tuple[int, int], rng: random.Random) -> tuple[int, int]:
    """Return where the i-th region begins, in a box with this much free space."""
    h, w = room
    if place == "same":
        return 0, 0
    if place == "corners":
        return h * (i & 1), w * (i >> 1 & 1)
    if place == "column":
        return h * (i & 1), (i * 64) % (w + 1)
    if place == "row":
        return (i * 8) % (h + 1), w * (i & 1)
    if place == "diagonal":
        return (i * 97) % (h + 1), (i * 89) % (w + 1)
    if place == "grid":
        return (i // 64 * 3) % (h + 1), (i % 64 * 3) % (w + 1)
    return rng.randint(0, h), rng.randint(0, w)


def segment(shape: Shape, key: int, left: int, rng: random.Random) -> bytes:
    """Return head and regions of a segment, in about ``left`` bytes at most."""
    box = BOXES[shape.box]
    if box is None:
        r, c = rng.randint(0, 2000), rng.randint(0, 2000)
        box = (r, c, r + rng.randint(1, 200), c + rng.randint(1, 200))
    h = min(SIDES[shape.region][0], box[2] - box[0])
    w = min(SIDES[shape.region][1], box[3] - box[1])
    size = 12 + (h * w + 7) // 8
    n = min(COUNTS[shape.nregions], max(0, left - 16) // size)
    room = box[2] - box[0] - h, box[3] - box[1] - w
    bits = _bits(BITS[shape.bits], h * w, rng)
    regions = []
    for i in range(n):
        dr, dc = _at(PLACES[shape.place], i, room, rng)
        r, c = box[0] + dr, box[1] + dc
        regions.append(struct.pack("<I4H", size, r, c, r + h, c + w) + bits)
    if ORDERS[shape.order] == "backwards":
        regions.reverse()
    elif ORDERS[shape.order] == "shuffled":
        rng.shuffle(regions)
    return struct.pack("<I4HI", key, *box, 1) + b"".join(regions)


def archive(shape: Shape) -> bytes:
    """Return the bytes of an archive."""
    rng = random.Random(repr(shape))
    lut, names, segs = bytearray(), bytearray(), bytearray()
    key = 0
    while len(lut) + len(names) + len(segs) + 48 < shape.nbytes:
        made = segment(shape, key, shape.nbytes - len(lut) - len(names) - len(segs) - 80, rng)
        lut += struct.pack("<5I", key, len(names), 12, len(segs), len(made))
        names += struct.pack("<3I", key, 0, 0)
        segs += made
        key += 1
    places, at = [], 48
    groups = b"\2\0\0\0[]"
    for part in (lut, names, b"{}", groups, segs):
        places += [at, len(part)]
        at += len(part)
    return struct.pack("<12I", 0, 0, *places) + lut + names + b"{}" + groups + segs
