"""PINK's files by struct and loops alone; and version 1 written."""

from __future__ import annotations

import struct
from dataclasses import dataclass

TYPES = "fdbhiqBHIQ"
KINDS = ("data", "som", "map", "rot")
END = b"# END OF HEADER\n"


@dataclass
class Slow:
    version: int
    kind: str
    layout: str
    dims: list[int]
    shape: list[int]  # of the rows: entries, or neurons
    payload: bytes = b""

    @property
    def rows(self) -> list[bytes]:
        n = len(self.payload) // self.shape[0] if self.shape[0] else 0
        return [self.payload[k * n : (k + 1) * n] for k in range(self.shape[0])]


def product(numbers) -> int:
    found = 1
    for x in numbers:
        found *= x
    return found


def hexagon(dims) -> int:
    """Cells, counted; 0 where there is no hexagon."""
    if len(dims) < 2 or dims[0] != dims[1] or dims[0] % 2 == 0 or product(dims[2:]) != 1:
        return 0
    middle = dims[0] // 2
    if dims[0] > 1000:
        return dims[0] ** 2 - middle * (middle + 1)
    return sum(dims[0] - abs(middle - r) for r in range(dims[0]))


def after_comment(data: bytes) -> tuple[int, bool]:
    at = 0
    while data[at : at + 1] == b"#":
        line = data[at:].split(b"\n")[0] + b"\n"
        at += len(line)
        if at > len(data):
            return -1, False
        if line == END:
            return at, True
    return at, False


def version_2(data: bytes) -> Slow | None:
    at, _ = after_comment(data)
    if at < 0:
        return None
    ints = []

    def take(low: int, high: int) -> int:
        nonlocal at
        (x,) = struct.unpack_from("<i", data, at)
        if not low <= x <= high:
            raise ValueError
        at += 4
        ints.append(x)
        return x

    try:
        take(2, 2)
        kind = KINDS[take(0, 3)]
        letter = "5" if kind == "rot" else TYPES[take(0, 9)]
        n = 1 if kind == "som" else take(0, 2**31 - 1)
        stated = take(0, 1)
        dims = [take(1, 2**31 - 1) for _ in range(take(1, 16))]
        inner = []
        inner_stated = 0
        if kind == "som":
            inner_stated = take(0, 1)
            inner = [take(1, 2**31 - 1) for _ in range(take(1, 16))]
    except (ValueError, struct.error):
        return None
    size = 5 if letter == "5" else struct.calcsize(letter)
    left = len(data) - at
    inners = [inner]
    if inner_stated and hexagon(inner):
        inners = [[hexagon(inner)], inner]
    for neuron in inners:
        counts = {"cartesian": product(dims), "hexagonal": hexagon(dims)}
        order = ["cartesian", "hexagonal"]
        if stated and counts["hexagonal"] and (n == 0 or product(dims) == 1):
            order.reverse()
        for layout in order:
            cells = counts[layout]
            if cells and n * cells * product(neuron) * size == left:
                if n == 0 and cells > 1 << 20:
                    return None
                flat = kind != "data" or layout == "hexagonal"
                shape = [cells, *neuron] if kind == "som" else [n, *([cells] if flat else dims)]
                return Slow(2, kind, layout, dims, shape, data[at:])
    return None


def version_1(data: bytes, usual: bool = True) -> list[Slow]:
    at, ended = after_comment(data)
    at = at if ended else 0
    found = []
    if len(data) < at + 16:
        return []
    a, b, c, d = struct.unpack_from("<4i", data, at)
    if min(a, b, c, d) < 1:
        return []
    left = len(data) - at - 16
    plain = not ((b == 1 and c * d > 1) or (c == 1 and d > 1))
    if 4 * a * b * c * d == left and (not usual or c == d > 1):
        shape = [a, b, c, d]
        found.append(Slow(1, "data", "cartesian", shape[1:], shape))
    for kind, size in (("map", 4), ("rot", 5)):
        for layout, cells in (("cartesian", b * c * d), ("hexagonal", hexagon([b, c, d]))):
            if cells and a * cells * size == left and (plain or not usual):
                found.append(Slow(1, kind, layout, [b, c, d], [a, cells]))
                break
    for slow in found:
        slow.payload = data[at + 16 :]
    if len(data) < at + 24:
        return found
    e, f = struct.unpack_from("<2i", data, at + 16)
    if min(e, f) < 1:
        return found
    for layout, cells in (("cartesian", b * c * d), ("hexagonal", hexagon([b, c, d]))):
        if cells and 4 * cells * a * e * f == left - 8 and ((plain and e == f) or not usual):
            found.append(Slow(1, "som", layout, [b, c, d], [cells, a, e, f], data[at + 24 :]))
            break
    return found


def read(data: bytes) -> Slow | None:
    """The one reading of a file, or None."""
    found = version_2(data)
    if found is not None:
        return found
    several = version_1(data)
    return several[0] if len(several) == 1 else None


def pack_1(kind: str, ints: list[int], payload: bytes, comment: bytes = b"") -> bytes:
    """A file of version 1."""
    assert len(ints) == (6 if kind == "som" else 4)
    return comment + struct.pack(f"<{len(ints)}i", *ints) + payload
