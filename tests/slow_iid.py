"""IID by struct alone, a pixel at a time: the oracle of the tests."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

import numpy as np


@dataclass
class SlowSegment:
    domain: bytes
    iid: bytes
    box: tuple[int, int, int, int]
    area: int
    regions: list[tuple[tuple[int, int, int, int], np.ndarray]] = field(default_factory=list)

    def mask(self, box=None) -> np.ndarray:
        minr, minc, maxr, maxc = self.box if box is None else box
        out = np.zeros((maxr - minr, maxc - minc), bool)
        for (a, b, c, d), pixels in self.regions:
            for r in range(max(a, minr), min(c, maxr)):
                for k in range(max(b, minc), min(d, maxc)):
                    out[r - minr, k - minc] |= pixels[r - a, k - b]
        return out

    def canvas(self, h: int, w: int) -> np.ndarray:
        return self.mask((0, 0, h, w))


def read(data: bytes) -> tuple[list[SlowSegment], dict, dict[str, list[int]]] | None:
    """Segments, metadata and groups; None where a byte is not as the format wants it."""
    try:
        return _read(data)
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def _read(data: bytes):
    places = struct.unpack_from("<12I", data, 0)[2:]
    lut, iids, meta, groups, segs = zip(places[::2], places[1::2], strict=True)
    for at, n in (lut, iids, meta, groups, segs):
        if n and (at < 48 or at + n > len(data)):
            raise ValueError
    if lut[1] % 20:
        raise ValueError
    n = lut[1] // 20
    segments = []
    for key in range(n):
        said, name_at, name_n, seg_at, seg_n = struct.unpack_from("<5I", data, lut[0] + 20 * key)
        if said != key or name_at + name_n > iids[1] or seg_at + seg_n > segs[1]:
            raise ValueError
        if name_n < 12 or seg_n < 16:
            raise ValueError
        at = iids[0] + name_at
        k, nd, ni = struct.unpack_from("<3I", data, at)
        if k != key or 12 + nd + ni != name_n:
            raise ValueError
        domain, iid = data[at + 12 : at + 12 + nd], data[at + 12 + nd : at + name_n]
        at = segs[0] + seg_at
        first, *box, last = struct.unpack_from("<I4HI", data, at)
        area = last if first == key else first
        if key not in (first, last) or box[0] > box[2] or box[1] > box[3]:
            raise ValueError
        s = SlowSegment(domain, iid, tuple(box), area)
        end, at = at + seg_n, at + 16
        while at < end:
            if end - at < 12:
                raise ValueError
            length, a, b, c, d = struct.unpack_from("<I4H", data, at)
            if not (box[0] <= a <= c <= box[2] and box[1] <= b <= d <= box[3]):
                raise ValueError
            if length != 12 + ((c - a) * (d - b) + 7) // 8 or at + length > end:
                raise ValueError
            pixels = np.zeros((c - a, d - b), bool)
            for i in range((c - a) * (d - b)):
                byte = data[at + 12 + i // 8]
                pixels[i // (d - b), i % (d - b)] = byte >> (7 - i % 8) & 1
            s.regions.append(((a, b, c, d), pixels))
            at += length
        segments.append(s)
    found = json.loads(data[meta[0] : sum(meta)]) if meta[1] else {}
    if not isinstance(found, dict):
        raise ValueError
    return segments, found, _groups(data, groups, n)


def _groups(data: bytes, place: tuple[int, int], n: int) -> dict[str, list[int]]:
    at, nbytes = place
    if not nbytes:
        return {}
    (length,) = struct.unpack_from("<I", data, at)
    if nbytes < 4 or length > nbytes - 4:
        raise ValueError
    listed = json.loads(data[at + 4 : at + 4 + length])
    found: dict[str, list[int]] = {}
    for entry in listed:
        name, offset, size = entry["name"], entry["offset"], entry["length"]
        if not isinstance(name, str) or type(offset) is not int or type(size) is not int:
            raise ValueError
        room = nbytes - 4 - length
        if offset < 0 or size < 0 or size % 4 or offset + size > room or name in found:
            raise ValueError
        first = at + 4 + length + offset
        keys = list(struct.unpack_from(f"<{size // 4}I", data, first))
        if any(k >= n for k in keys):
            raise ValueError
        found[name] = keys
    return found


def components(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """8-connected parts of equal value, in raster order of their first pixel."""
    h, w = mask.shape
    seen = np.zeros((h, w), bool)
    found = []
    for r in range(h):
        for c in range(w):
            if not mask[r, c] or seen[r, c]:
                continue
            part, todo = [], [(r, c)]
            seen[r, c] = True
            while todo:
                y, x = todo.pop()
                part.append((y, x))
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        y2, x2 = y + dy, x + dx
                        inside = 0 <= y2 < h and 0 <= x2 < w and not seen[y2, x2]
                        if inside and mask[y2, x2] == mask[y, x]:
                            seen[y2, x2] = True
                            todo.append((y2, x2))
            found.append(part)
    return found


def pack(mask: np.ndarray, minr: int, minc: int) -> bytes:
    """Regions of a mask, as the original writes them."""
    out = b""
    for part in components(mask):
        rows, columns = [p[0] for p in part], [p[1] for p in part]
        a, b, c, d = min(rows), min(columns), max(rows) + 1, max(columns) + 1
        pixels = np.zeros((c - a, d - b), np.uint8)
        for r, k in part:
            pixels[r - a, k - b] = 1
        bits = np.packbits(pixels.ravel()).tobytes()
        box = struct.pack("<4H", a + minr, b + minc, c + minr, d + minc)
        out += struct.pack("<I", 12 + len(bits)) + box + bits
    return out


def rings(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Outlines and holes of a mask, side by side: what ``Segment.polygon`` is to return.

    A side has its pixel to the right.  Where two begin at a corner, the path turns right.  Where a
    path comes to a corner for the second time, what lies between is a ring.
    """
    h, w = mask.shape
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    sides = set()
    for y in range(h):
        for x in range(w):
            for way, (dy, dx) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
                a, b = y + dy, x + dx
                if mask[y, x] and not (0 <= a < h and 0 <= b < w and mask[a, b]):
                    corner = ((x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1))[way]
                    sides.add((*corner, way))
    every = []
    while sides:
        x, y, way = side = min(sides, key=lambda s: (s[2] != 0, s[1], s[0]))
        path: list[tuple[int, int, int]] = []
        while side in sides:
            sides.remove(side)
            places = [(a, b) for a, b, _ in path]
            if (x, y) in places:
                k = places.index((x, y))
                every.append(path[k:])
                del path[k:]
            path.append(side)
            x, y = x + steps[way][0], y + steps[way][1]
            turns = [(way + turn) % 4 for turn in (1, 0, 3)]
            way = next((t for t in turns if (x, y, t) in sides), turns[0])
            side = (x, y, way)
        every.append(path)
    found = []
    for ring in every:
        corners = [s for k, s in enumerate(ring) if ring[k - 1][2] != s[2]]
        right = [(b, a) for a, b, way in corners if way == 0]
        first = [(b, a) for a, b, _ in corners].index(min(right))
        found.append([(a, b) for a, b, _ in corners[first:] + corners[:first]])
    return sorted(found, key=lambda ring: (ring[0][1], ring[0][0]))
