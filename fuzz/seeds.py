"""Write the seed inputs of the fuzz targets: ``python3 seeds.py FOLDER [TARGET...]``.

Each target's inputs begin with a few bytes of order (see the top of its C file); then comes a
file, literally or as a small programme (fuzz.h, ``draft_file``).  The files are the small golden
ones of the test suite, and programmes that lead where flipping bytes would not: hundreds of
records, decoys, chains that fill up, bad records late in a file.
"""

from __future__ import annotations

import base64
import random
import struct
import sys
from itertools import product
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "golden" / "vimh"
GOLDEN_NBYTES = 2048
FRONT = 96  # fuzz_gather: bytes of order before the file
TIMES_64, TWO_BYTES, IDS_VARY = 8, 16, 32
DECOY = 1


def records(
    count: int, h: int, w: int, c: int, n: int, fill: int = 2, *, ids_vary: bool = False
) -> bytes:
    """``count`` records (a multiple of 64 when above 256) of one shape."""
    op = IDS_VARY if ids_vary else 0
    if count > 256:
        op |= TIMES_64
        count = count // 64
    size = 1
    if max(h, w, c) > 255:
        op |= TWO_BYTES
        size = 2
    return (
        bytes([op, count - 1])
        + b"".join(x.to_bytes(size, "little") for x in (h, w, c))
        + bytes([n, fill])
    )


def flip(at: int, mask: int) -> bytes:
    """Change a byte of what was written so far."""
    return bytes([6]) + at.to_bytes(3, "little") + bytes([mask])


def cut(nbytes: int) -> bytes:
    """Drop the end."""
    return bytes([7, nbytes])


def mixed(seed: int, changes: int, most: int = 4) -> bytes:
    """Records of many shapes, a few of each in a row."""
    rng = random.Random(seed)
    return b"".join(
        records(
            rng.randint(1, 6),
            rng.randint(1, most),
            rng.randint(1, most),
            rng.choice([1, 1, 3, 4]),
            rng.choice([0, 1, 2, 4, 5, 8]),
            rng.choice([0, 1, 2, 3]),
            ids_vary=rng.random() < 0.3,
        )
        for _ in range(changes)
    )


def programmes() -> dict[str, bytes]:
    """Files as programmes."""
    return {
        "tiny": records(640, 1, 1, 1, 0),
        "alike": records(128, 2, 2, 3, 2),
        "ids": records(64, 2, 3, 1, 3, ids_vary=True) + records(64, 2, 3, 1, 3),
        "many_ids": records(12, 2, 2, 1, 6, ids_vary=True),
        "all_ids": records(6, 1, 1, 1, 255, ids_vary=True),
        "decoys": records(100, 3, 5, 2, 1, DECOY) + mixed(1, 60),
        "zeros": records(200, 3, 5, 2, 1, 0),
        "mixed": mixed(2, 120),
        "larger": mixed(3, 60, 9),
        "ends_early": mixed(4, 100) + cut(3),
        "bad_late": mixed(5, 100) + flip(2500, 255) + mixed(6, 20),
        "zero_late": mixed(7, 80) + records(1, 0, 3, 3, 2) + mixed(8, 10),
        "huge_late": mixed(9, 80) + records(1, 65535, 65535, 65535, 2),
        "grows": records(64, 1, 1, 1, 0) + records(40, 9, 9, 3, 9),
        "no_start": records(64, 1, 1, 1, 0) + records(9216, 1, 1, 1, 3),
        "shrinks": records(64, 20, 20, 1, 0) + records(12288, 1, 1, 1, 0),
        "wide": records(20, 2, 100, 3, 2) + records(5, 3, 70, 1, 1) + records(5, 1, 33, 4, 0),
        "images": records(9, 5, 7, 3, 4) + mixed(10, 6, 6),
        "empty": b"",
    }


def golden() -> dict[str, bytes]:
    """Small golden files, as they are."""
    paths = sorted(p for p in GOLDEN.rglob("t*") if p.is_file())
    return {
        f"{p.parent.name}_{p.name}": p.read_bytes()
        for p in paths
        if 0 < p.stat().st_size <= GOLDEN_NBYTES
    }


def walk_seeds() -> dict[str, bytes]:
    """Flags (1: 14-byte header, 2: literal, 12: mapped too, 48: size), capacity, step, nth.

    Nth is where a mapped file is cut, or which pages are on the disk.
    """
    orders = {
        "complete": (0, 0xFFFF, 0, 0),
        "calls": (0, 70, 0, 0),
        "steps": (0, 0xFFFF, 100, 0),
        "cut": (12, 100, 777, 128 + 1),
        "sparse": (12, 100, 0, 128 + 64 + 7),
        "on_disk": (0, 0xFFFF, 0, 255),
        "partly": (0, 0xFFFF, 0, 128 + 0b0010010),
        "unknown": (0, 0xFFFF, 0, 128),
    }
    out = {}
    for order, (flags, capacity, step, nth) in orders.items():
        for head in (0, 1):
            sizes = capacity.to_bytes(2, "little") + step.to_bytes(2, "little")
            for name, programme in programmes().items():
                if flags and name not in ("tiny", "larger"):
                    continue  # a mapping costs more than a hundred walks
                huge = 127 if name in ("no_start", "shrinks") else nth
                begin = bytes([flags | 48 | head]) + sizes + bytes([huge])
                out[f"{order}_{name}_{head}"] = begin + programme
            for name, data in golden().items() if not flags else ():
                begin = bytes([flags | 48 | 2 | head]) + sizes + bytes([nth])
                out[f"{order}_{name}_{head}"] = begin + data
    for head in (0, 1):  # labels and pixels of seven bytes, the last record at the end of memory
        order = bytes([48 | head, 0xFF, 0xFF, 0, 0, 0])
        out[f"pairs_{head}"] = order + records(9, 1, 1, 1, 3)
    return out


def gather_order(rng: random.Random, flags: int) -> bytes:
    """A random order that makes sense more often than random bytes would."""
    kind = rng.choice([0, 1, 2]) | rng.choice([0, 4]) | rng.choice([0, 8, 24, 24, 56, 56, 16])
    want = rng.choice([0, 2, 2 | 16 | 32, 8 | 2, 64, 64 | 2 | 16, 16, 32, 128, 192])
    size = rng.randrange(32)
    order = bytes([flags, kind, want, size, rng.choice([1, 2, 3, 5, 9]), rng.choice([1, 2, 5, 80])])
    order += bytes([rng.choice([1, 3, 3, 4, 4]), rng.randrange(16), rng.randrange(7)])
    order += bytes([rng.choices([0, 1, 0xA2, 0xA3, 0xA9], [80, 80, 20, 20, 2])[0]]) * 2  # threads
    order += bytes(rng.choice([0, 1, 2, 3, 6, 9, 12, 13]) for _ in range(6)) + bytes(
        [rng.randrange(9)]
    )
    nlies = rng.choice([0, 0, 0, 1, 2])
    order += bytes([rng.choice([0, 1, 2, 3]), nlies])
    order += bytes(rng.randrange(256) for _ in range(3 * nlies))
    nrows = rng.choice([1, 5, 20, 48])
    order += bytes([nrows, rng.choice([0, 1, 3]), rng.randrange(99)]) + bytes(
        rng.randrange(255) for _ in range(nrows)
    )
    return order[:FRONT].ljust(FRONT, b"\0")


def gather_seeds() -> dict[str, bytes]:
    """Every small file with several orders; 0x1c in the flags: the file's tail vanishes."""
    rng = random.Random(11)
    out = {}
    for name, programme in programmes().items():
        for k in range(8):
            flags = rng.choice([0, 1, 0x1C]) | k << 5
            out[f"{name}_{k}"] = gather_order(rng, flags) + programme
    for name, data in golden().items():
        for k in range(4):
            out[f"{name}_{k}"] = gather_order(rng, 2 | (k & 1)) + data
    for level, dtype, layout, w in product(range(3), range(3), (0, 4), (7, 15, 16, 17, 33)):
        # complete images of three channels, by every kind of kernel, a vector long or a pixel less
        order = bytes([0, dtype | layout, 2, 1 | level << 2 | 16]).ljust(18, b"\1")
        rows = bytes([3, 0, 0, *range(3)])
        name = f"kernels_{level}_{dtype}_{layout}_{w}"
        out[name] = (order + bytes([0, 0]) + rows).ljust(FRONT, b"\0") + records(3, 1, w, 3, 2)
    for level, w in product(range(3), (5, 16, 33, 100)):  # written past the caches, line by line
        order = bytes([0, 1, 2, 1 | level << 2 | 16 | 32]).ljust(18, b"\1")
        rows = bytes([3, 0, 0, *range(3)])
        data = (order + bytes([0, 0]) + rows).ljust(FRONT, b"\0") + records(3, 2, w, 3, 2)
        out[f"stream_{level}_{w}"] = data
    for lacking in (0, 1, 30):  # flat images into memory of exactly their size, and into less
        order = bytes([0, 0, 128 | 64, 0]).ljust(18, b"\0") + bytes([lacking])
        rows = bytes([5, 0, 0, 0, 1, 2, 3, 4])
        data = (order + bytes([0, 0]) + rows).ljust(FRONT, b"\0") + records(9, 5, 7, 3, 4)
        out[f"flat_room_{lacking}"] = data
    for k in range(1, 4):
        # a stride whose multiple, reckoned in 64 bits, is the file's start again
        lie = bytes([2 | 12, 1, 6 | 64, 0]) + (1 << 64 - k).to_bytes(8, "little")
        rows = bytes([1, 0, 0, 1 << k])
        order = bytes([0, 0, 8 | 16]).ljust(18, b"\0") + lie + rows
        out[f"overflow_{k}"] = order.ljust(FRONT, b"\0") + records(9, 5, 7, 3, 4)
    return out | joint_seeds()


def joint_seeds() -> dict[str, bytes]:
    """Batches over several parts: 0x18 in the flags, the number of parts in the top bits."""
    rng = random.Random(19)
    out = {}
    files = {
        "alike": records(40, 2, 3, 3, 2),
        "few": records(3, 5, 7, 1, 1),
        "grey": records(256, 1, 1, 1, 0),
        "two": records(20, 2, 2, 1, 1) + records(20, 2, 2, 3, 1),
    }
    lies = [[], [0, 1, 1], [0, 0, 255], [1, 1, 4], [2, 1, 8], [3, 0, 1], [4, 2, 1], [5, 1, 1]]
    for (name, file), nparts, head in product(files.items(), (1, 2, 3, 8), (0, 1)):
        for k, lie in enumerate(lies):
            order = gather_order(rng, 0x18 | head | nparts - 1 << 5)[:18]
            order = bytes([order[0], order[1] & 0x3F, order[2] & 0x3F, order[3] | 16]) + order[4:]
            order = order[:9] + (b"\xa2\xa2" if k == 1 else b"\0\0") + order[11:]
            gone, lost = ((255, 255), (0, 255), (255, 0), (1, 1))[rng.choice([0, 0, 0, 1, 2, 3])]
            parts = bytes([0, 0, len(lie) // 3, *lie, gone, lost])
            rows = bytes(
                [30, rng.choice([0, 1, 2, 3]), 0, *(rng.randrange(256) for _ in range(40))]
            )
            out[f"joint_{name}_{nparts}_{head}_{k}"] = (order + parts + rows)[:FRONT].ljust(
                FRONT, b"\0"
            ) + file
    for swap, step, nparts in product(range(4), (7, 23, 31), (1, 3, 5)):
        for k, lie in enumerate(([], [1, 1, 8], [0, 1, 1])):
            order = bytes([0x18 | nparts - 1 << 5, 0, 4]).ljust(18, b"\1")
            parts = bytes([1 | swap << 1, step, len(lie) // 3, *lie, 255, 255])
            rows = bytes([20, k % 2, 0, *(rng.randrange(255) for _ in range(20))])
            data = (order + parts + rows).ljust(FRONT, b"\0") + records(9, 5, 7, 3, 4)
            out[f"joint_swap_{swap}_{step}_{nparts}_{k}"] = data
    for nparts, row in product((1, 2, 8), (-1, 19, 20, 21)):  # the last row, and the one after it
        order = bytes([0x18 | nparts - 1 << 5, 0, 2, 16]).ljust(18, b"\1")
        rows = bytes([3, 2, 0, 255, row + 1, 1, 255, row + 1])
        data = (order + bytes([0, 0, 0, 255, 255]) + rows).ljust(FRONT, b"\0")
        out[f"joint_row_{nparts}_{row}"] = data + records(20, 2, 3, 1, 1)
    return out


def augment_seeds() -> dict[str, bytes]:
    """Each type and layout by each set of kernels, shifted, mirrored, cut; sizes of many kinds."""
    rng = random.Random(15)
    out = {}
    files = {
        "small": records(9, 5, 7, 3, 2) + records(3, 5, 7, 1, 1),
        "mixed": mixed(2, 20, 9),
        "wide": records(2, 2, 700, 4, 1) + records(2, 1, 33, 3, 0) + records(2, 1, 4000, 1, 0),
        "many_channels": records(4, 2, 3, 7, 1),
        "high": records(2, 150, 9, 3, 0),
    }
    sides = {
        "small": (5, 7),
        "mixed": (4, 4),
        "wide": (1, 207),
        "many_channels": (2, 3),
        "high": (201, 9),
    }
    for level, dtype, layout, head, name in product(range(3), range(3), (0, 4), range(4), files):
        for k in range(2):
            h, w = sides[name]
            canvas = rng.choice([0, 64])
            kind = dtype | layout | canvas | rng.choice([0, 8, 24, 56]) | rng.choice([0, 128])
            order = [head, kind, level | rng.choice([0, 0, 0, 16, 0xF0])]
            order += [rng.choice([1, 3, 3, 4, 7]), rng.choice([0, 7])]
            order += [rng.choice([h, h + 1]), rng.choice([w, w + 1, 9])] if canvas else []
            order += [rng.choice([h, 1, h + 1]), rng.choice([w, 5, w - 2])]
            order += [rng.choice([0, 2]), rng.choice([0, 3])]
            order += [rng.choice([1, 3]), rng.choice([2, 220])] if kind & 128 else []
            order += [rng.choice([0, 64, 128]), rng.choice([0, 64, 128])]
            order += [rng.randrange(256) for _ in range(2)] + [rng.choice([3, 11])]
            order += [rng.randrange(256) for _ in range(36)]
            out[f"{name}_{level}_{dtype}_{layout}_{head}_{k}"] = (
                bytes(order).ljust(64, b"\0")[:64] + files[name]
            )
    for n in range(10):
        for size in (0, 1, 7, 16, 33):
            data = bytes(rng.randrange(256) for _ in range(n * size + n))
            out[f"mixture_{n}_{size}"] = bytes([255, n % 3, n, size]) + data
    return out


def number(value: int, nbytes: int = 2) -> bytes:
    """A number as the targets take it, modulo what fits."""
    return (value % (1 << 8 * nbytes)).to_bytes(nbytes, "little")


def offset(value: int) -> bytes:
    """``take_offset``: a byte offset as it is, or anywhere in 64 bits."""
    return bytes([0]) + number(value) if 0 <= value < 65536 else bytes([4]) + number(value, 8)


def copy_seeds() -> dict[str, bytes]:
    """Bytes copied at both ends of a file, and one byte outside."""
    size = 40
    places = {(at, n) for at in (0, 1, size - 1, size, size + 1) for n in (0, 1, 8)}
    places |= {(at, size - at + k) for at in (0, 1, size) for k in (-1, 0, 1) if size - at + k >= 0}
    data = bytes(range(size))
    return {
        f"copy_{at}_{n}": bytes([0]) + offset(at) + offset(n) + data for at, n in sorted(places)
    }


def crc_seeds() -> dict[str, bytes]:
    """Sums of every short length, cut anywhere."""
    return {
        f"crc_{n}": bytes([1]) + number(n * 77777, 4) + number(n // 2) + bytes(range(7, 7 + n))
        for n in range(20)
    }


def change_seeds() -> dict[str, bytes]:
    """Files that change in each way, and what lies before the change or after."""
    out = {}
    for what in range(8):
        for at, n in ((0, 0), (0, 1), (4095, 1), (4095, 2), (4096, 1), (8000, 100)):
            order = bytes([4, what, 1]) + number(at) + number(n)
            out[f"change_{what}_{at}_{n}"] = order
    return out


def an_index(head: int, shapes: list[tuple[int, int, int, int]], *, table: bool) -> bytes:
    """``take_index`` without its rows: of records that lie one after another."""
    wide = 4 | 8  # offsets of 8 bytes, with N in the highest; sizes of 2
    kind = wide | (1 if head == 14 else 0x60 if head == 0 else 0) | (0 if table else 2)
    entries, at = [], 0
    for h, w, c, n in shapes:
        sizes = number(h) + number(w) + number(c)
        entries.append(number(at | n << 56, 8) + sizes)
        at += (head + 1 + 2 * n if head else 0) + h * w * c
    if table:
        return bytes([kind, len(shapes)]) + b"".join(entries)
    return bytes([kind]) + entries[0] + number(65535) + number(len(shapes), 8)


def a_file(head: int, shapes: list[tuple[int, int, int, int]]) -> bytes:
    """The file of such an index."""
    rng = random.Random(len(shapes))
    out = b""
    for h, w, c, n in shapes:
        header = number(h) + number(w) + number(c) + bytes(head - 6) + bytes([n]) if head else b""
        out += header + rng.randbytes((2 * n if head else 0) + h * w * c)
    return out


SHAPES = {
    "one": [(2, 3, 1, 0)],
    "alike": [(2, 3, 3, 2)] * 5,
    "mixed": [(1, 1, 1, 0), (4, 2, 3, 9), (3, 3, 2, 1), (1, 7, 1, 3)],
    "large": [(70, 80, 3, 1), (130, 129, 1, 0)],
    "pixelless": [(1, 1, 1, 0), (0, 5, 3, 1), (2, 2, 2, 0)],
}
# of a chain of entries: none; another end; another beginning; an entry elsewhere
LIES = [bytes([0]), bytes([1, 1]), bytes([2, 1]), bytes([4, 1, 1])]
ROWS = [0, 1, 2, 3, 4, -1, -2]


def index_seeds() -> dict[str, bytes]:
    """Each question about records, of files that are as the index says, or a byte shorter."""
    out = {}
    for head, (name, shapes), table in product((0, 6, 14), SHAPES.items(), (False, True)):
        told = an_index(head, shapes, table=table)
        n = len(shapes)
        rows = [r for r in ROWS if -n <= r < n]
        good = bytes([len(rows)]) + bytes(r + 4 for r in rows)
        bad = bytes([len(rows) + 1]) + bytes(r + 4 for r in [*rows, n])
        if not table:  # rows are of 1 byte in either kind, unless the kind says 8
            good, bad = (bytes(x) for x in (good, bad))
        data = a_file(head, shapes)
        key = f"{name}_{head}_{int(table)}"
        for less in (0, 1):
            file = data[: len(data) - less]
            for interleaved, nchannels in ((0, 3), (1, 3), (0, 1)):
                order = bytes([interleaved, nchannels])
                out[f"scan_{key}_{less}_{interleaved}{nchannels}"] = (
                    bytes([6]) + told + good + order + file
                )
            out[f"find_{key}_{less}"] = bytes([5, 0]) + told + good + file
            size = bytes([0]) + number(len(file))
            out[f"extent_{key}_{less}"] = bytes([2]) + size + told + good + bytes([1])
        out[f"scan_{key}_row"] = bytes([6]) + told + bad + bytes([0, 3]) + data
        out[f"find_{key}_row"] = bytes([5, 255]) + told + bad + bytes(len(data))
        stale = bytearray(data)
        stale[len(stale) // 3] ^= 1
        out[f"scan_{key}_stale"] = bytes([6]) + told + good + bytes([0, 3]) + bytes(stale)
        stale[0] ^= 1
        out[f"find_{key}_stale"] = bytes([5, 0]) + told + good + bytes(stale)
        for lies in LIES if table and head else ():
            chain = bytes([told[0] | 16]) + told[1:] + lies + good
            out[f"find_{key}_chain_{lies[0]}"] = bytes([5, 255]) + chain + data
            out[f"scan_{key}_chain_{lies[0]}"] = bytes([6]) + chain + bytes([0, 3]) + data
        for probe, touched in ((0, 0), (2, 255), (2, 0)):
            order = bytes([3, probe, 7, touched]) + told + good + bytes([1])
            out[f"willneed_{key}_{probe}_{touched}"] = order
    return out


def header_seeds() -> dict[str, bytes]:
    """Return how a header is read, sizes of the index and of the file, and two slots."""
    fields = struct.Struct("<3Q2q16s128s2I3QQ4HH32sI5I2Q")
    n, shape, covered = 10, (2, 2, 3), 290
    labels_end = 4096 + 2 * n
    sums_end = labels_end + -labels_end % 8 + 4 * n
    end = sums_end + -sums_end % 8 + 32 * 3
    tables_end = end + -end % 64
    out = {}
    for name, stride, has, at in (
        ("uniform", 29, 0, 4096),
        ("tables", 29, 15, tables_end),
        ("mixed", 0, 0, 4096),
        ("mixed_tables", 0, 15, tables_end),
    ):
        made = (14, 0, n, covered, stride, 0, *shape, 1, 3, b"\1", has, 0, 0, 0, 0, 5, 1, at)
        slot = bytes(16) + fields.pack(1, 2, covered, 3, 4, b"vimh", b"key", *made)
        sizes = number(at + (0 if stride else 16 * n), 4) + number(covered, 4)
        for how in (0, 4, 8):
            out[f"header_{name}_{how}"] = bytes([255, how]) + sizes + slot.ljust(1024, b"\0") + slot
    return out


def rows_seeds() -> dict[str, bytes]:
    """Rows of an array: full vectors of numbers, what is left over, and a row too many."""
    out = {}
    codes = {1: 0, 2: 1, 4: 2, 8: 3}
    for swap, code in codes.items():
        for units, n, at, threads in (
            *((1, 1, 0, 0), (3, 5, 1, 0), (128 // swap, 4, 0, 0), (200 // swap, 5, 2, 0)),
            *((300 // swap, 6, 0, 2), (2, 40, 0, 1), (120 // swap, 3, 0, 0)),
        ):
            size = units * swap
            rows = [0, n - 1, -1, -n, n // 2, 0, 0, 0]
            for nrows, asked, less in ((n, 8, 0), (n, 40, 0), (n, 5, 1), (n + 1, 4, 0)):
                for level, probe in ((0, 0), (1, 1), (2, 3)):
                    how = code | threads << 4 | probe << 6
                    order = bytes([8, how]) + offset(at) + offset(units) + offset(nrows)
                    order += bytes([asked]) + b"".join(number(r) for r in rows) + bytes([level])
                    data = bytes((7 * k + swap) % 256 for k in range(at + n * size - less))
                    key = f"rows_{swap}_{size}_{n}_{at}_{nrows}_{asked}_{less}_{level}"
                    out[key] = order.ljust(2 + 45, b"\0") + data
            beyond = [0, n, 0, 0, 0, 0, 0, 0]
            order = bytes([8, code]) + offset(at) + offset(units) + offset(n) + bytes([4])
            order += b"".join(number(r) for r in beyond)
            out[f"rows_{swap}_{size}_{n}_{at}_row"] = order.ljust(47, b"\0") + bytes(at + n * size)
    out["rows_many"] = (bytes([8, 3]) + offset(0) + offset(1 << 40) + offset(1 << 40)).ljust(
        60, b"\1"
    )
    out["rows_none"] = (bytes([8, 6]) + offset(0) + offset(1) + offset(1) + b"\2").ljust(60, b"\1")
    return out


def pickled_rows(n: int, count: int, memo: int, kind: str) -> bytes:
    """Lists of small numbers as pickle writes them."""
    out = b""
    for r in range(count):
        m = memo + r
        name = {"\x94": b"\x94", "q": b"q" + number(m, 1), "r": b"r" + number(m, 4)}[kind]
        body = b"".join(b"K" + bytes([(7 * r + k) % 256]) for k in range(n))
        end = (b"" if n == 0 else body + b"a") if n < 2 else b"(" + body + b"e"
        out += b"]" + name + end
    return out


def pickle_seeds() -> dict[str, bytes]:
    """Rows of each kind, cut after each byte of the last two, and with each byte changed."""
    out = {}
    for kind in ("\x94", "q", "r"):
        memo = 3 if kind == "q" else 258
        for n in range(5):
            text = pickled_rows(n, 3, memo, kind)
            size = len(text) // 3
            for nrows in (2, 3, 4):
                order = bytes([7, n, nrows, 1]) + number(memo) + bytes([0])
                key = f"pickle_{ord(kind)}_{n}_{nrows}"
                for cut in range(2 * size + 1):
                    out[f"{key}_{cut}"] = order + text[: len(text) - cut]
            for k in range(size, 2 * size):
                wrong = text[:k] + bytes([text[k] ^ 1]) + text[k + 1 :]
                out[f"pickle_{ord(kind)}_{n}_wrong{k}"] = order + wrong
    return out


def small_seeds() -> dict[str, bytes]:
    """One of each entry point, and what lies at the edges of each."""
    rng = random.Random(12)
    out = {}
    for which in range(15):
        for k in range(6):
            body = bytes(rng.choice([0, 1, 2, 3, k, 255]) for _ in range(20 + 30 * k))
            out[f"{which}_{k}"] = bytes([which]) + body
    for what in range(4):
        out[f"foreign_{what}"] = bytes([9, what, 2])
    for n, begin, count in product((0, 1, 2, 16, 17, 599), (0, 1, 300), (0, 1, 16, 255)):
        order = bytes([11]) + rng.randbytes(8) + b"\0" + number(n)
        out[f"permute_{n}_{begin}_{count}"] = order + number(begin) + bytes([count])
    for n in (1 << 40, (1 << 62) - 1, 1 << 62, (1 << 64) - 1):
        for begin in (0, n, n + 1):
            order = bytes([11]) + rng.randbytes(8) + bytes([3]) + number(n, 8) + number(begin, 8)
            out[f"permute_{n}_{begin}"] = order + bytes([9])
    for at, nbytes in product((0, 1, 4095), (0, 4094, 4095, 4096)):
        out[f"absent_{at}_{nbytes}"] = bytes([14]) + number(at) + number(nbytes)
    three = b"".join(number(8 * k) + bytes([1, 1, 1]) for k in range(3))
    chain, rows = bytes([0x10, 3]) + three + b"\0", bytes([3, 4, 5, 6])
    for what, truths in enumerate((3, 7, *(15 | fate << 4 for fate in range(5)))):
        out[f"agrees_{what}"] = bytes([5, truths]) + chain + rows + bytes(24)
    alike = bytes([6]) + number(0, 8) + bytes([1, 1, 1]) + number(0xF000) + number(2000, 8)
    out["agrees_often"] = bytes([5, 6]) + alike + b"\0" + bytes(24)
    for shared, broken, nbytes in product((0, 1), (0, 1), (0, 1, 4095, 4096, 8191)):
        out[f"map_{shared}_{broken}_{nbytes}"] = bytes([12, shared, broken]) + number(nbytes)
    for what in range(5):
        out[f"lost_table_{what}"] = bytes([10, what, 3])
    several = copy_seeds, crc_seeds, change_seeds, header_seeds, index_seeds, rows_seeds
    for made in (*several, pickle_seeds):
        out |= made()
    return out


# As COCO writes them: five bits per letter, from `0` on; then texts that are wrong.
RUN_LENGTHS = [
    *(b"", b"d0", b"0d0", b"5:5", b"36", b"3", b"P", b"oooooo0", b"ooooooo0", b"PPPPPPP1", b"/"),
    *(b"~", b"o", b"00", b"5" * 60, b"0" * 30 + b"d0", b"O", b"N", b"4" * 5, b"d0P"),
]


def an_archive(rng: random.Random, n: int, *, kind: str = "blobs", changes: bytes = b"\0") -> bytes:
    """``take_archive``: n segments, then changed bytes."""
    code = n if n < 7 else 255 - (48 - n) // 3
    out = bytes([code])
    for _ in range(n):
        long = rng.random() < 0.4
        lengths = [128 | rng.randrange(32) << 2 if long else rng.randrange(4) for _ in range(2)]
        if kind == "one name":
            lengths = [1, 1]
        size = sum((x & 3) + (x >> 2 & 31 if x & 128 else 0) for x in lengths)
        out += bytes(lengths) + bytes(
            rng.randrange(2) if kind != "one name" else 0 for _ in range(size)
        )
        r, c = (0, 0) if kind == "nested" else (rng.randrange(8), rng.randrange(8))
        h, w = (11, 71) if kind == "nested" else (rng.randrange(12), rng.randrange(72))
        nregions = {"nested": 1, "parts": 2}.get(kind, rng.randrange(3))
        if kind == "many":  # 30 regions of a pixel or a few
            h, w = 11, 40
            out += bytes([r, c, h, w, rng.randrange(256), 255])
            for k in range(30):
                out += bytes([k % 10, 35 - k, 1, 1 + k % 4, rng.choice([255, rng.randrange(256)])])
            continue
        out += bytes([r, c, h, w, rng.randrange(256), nregions])
        for _ in range(nregions):
            a, b = (0, 0) if kind == "nested" else (rng.randrange(h + 1), rng.randrange(w + 1))
            out += bytes([a] if h else b"") + bytes([b] if w else b"")
            rh = rw = 0
            if h > a:
                rh = h - a if kind == "nested" else rng.randrange(h - a + 1)
                out += bytes([rh])
            if w > b:
                rw = w - b if kind == "nested" else rng.randrange(w - b + 1)
                out += bytes([rw])
            full = 255 if rng.random() < 0.3 else None
            out += bytes(full or rng.randrange(256) for _ in range((rh * rw + 7) // 8))
    return out + changes


def iid_archive(sides: list[tuple[int, int]], change: tuple[int, int] | None) -> bytes:
    """An archive of a full region per segment, of which one byte is changed (at, value)."""
    out = bytes([len(sides)])
    for h, w in sides:
        bits = bytes([255]) * ((h * w + 7) // 8)
        name, box, area, nregions = bytes([1, 1, 0, 1]), bytes([1, 2, h, w]), b"\7", b"\1"
        # h and w are taken modulo what is left beside the region's first pixel, and one more
        out += name + box + area + nregions + bytes([0, 0, h, w]) + bits
    if change is None:
        return out + b"\0"
    at, value = change
    return out + b"\1" + at.to_bytes(2, "little") + bytes([value])


def iid_bounds() -> dict[str, bytes]:
    """Archives of which a length of the lookup table, or of a region, is one more or less."""
    out = {}
    for sides in ([(3, 5)], [(2, 9), (1, 8), (4, 4)], [(11, 29)]):
        n = len(sides)
        sizes = [28 + (h * w + 7) // 8 for h, w in sides]
        segs = n * 20 + n * 14
        for k in range(n):
            region = segs + sum(sizes[:k]) + 16
            for name, at, true in (
                ("row", 20 * k + 16, sizes[k]),
                ("name", 20 * k + 8, 14),
                ("region", region, sizes[k] - 16),
            ):
                for more in (-1, 0, 1):
                    made = iid_archive(sides, (at, true + more))
                    out[f"{name}_{n}_{sides[0][1]}_{k}_{more}"] = made
    return out


def iid_seeds() -> dict[str, bytes]:
    """Trees, masks, and archives of some segments."""
    rng = random.Random(13)
    out = {}
    for which in range(4):
        for k in range(8):
            body = bytes(
                rng.choice([0, 1, 2, 5, 255, rng.randrange(256)]) for _ in range(60 * k + 40)
            )
            out[f"{which}_{k}"] = bytes([which, 3 + k]) + body
    for level, n, kind, which in product(
        range(3),
        (0, 1, 2, 6, 9, 18, 33, 48),
        ("blobs", "one name", "nested", "parts", "many"),
        range(4),
    ):
        rest = bytes(rng.randrange(256) for _ in range(24))
        out[f"archive_{which}_{level}_{n}_{kind.replace(' ', '_')}"] = (
            bytes([which, level]) + an_archive(rng, n, kind=kind, changes=b"\0\0") + rest
        )
    for k in range(60):  # a byte of the file is another; or sections that lie
        at, value = rng.randrange(400), rng.choice([0, 1, 255, rng.randrange(256)])
        changes = bytes([1]) + number(at) + bytes([value, 0])
        if k % 6 == 0:
            changes = bytes([0, 255]) + number(k) + bytes([k // 12])
        rest = bytes(rng.randrange(256) for _ in range(24))
        body = an_archive(rng, 1 + k % 6, changes=changes)
        out[f"wrong_{k}"] = bytes([2 + k % 2, k % 3]) + body + rest
        out[f"wrong_join_{k}"] = bytes([k % 3, k % 3]) + body + rest
    for at in range(20 + 14 + 16 + 14):  # of a segment with one region: each byte of its file
        one = bytes([1, 1, 1, 0, 1, 2, 3, 2, 4, 9, 1, 0, 0, 1, 3, 0xA5])
        for value in (0, 1, 2, 9, 255):
            rest = bytes([1]) + number(at) + bytes([value, 0, 0, 0, 30, 60]) + bytes(20)
            for which in (2, 3):
                out[f"each_{which}_{at}_{value}"] = bytes([which, at % 3]) + one + rest
            for which in range(3):
                out[f"each_join_{which}_{at}_{value}"] = bytes([which, at % 3]) + one + rest
    for high, far, text in product((0, 0x88, 0x80), (0, 0x88, 0x80), (0, 1)):
        body = an_archive(rng, 6) + bytes([0]) + bytes([high, far, text]) + bytes(range(0, 60, 9))
        out[f"rle_{high}_{far}_{text}"] = bytes([2, 2]) + body
    for k, run_lengths in enumerate(RUN_LENGTHS):
        for h, w in ((5, 4), (20, 1), (0, 0), (4, 4)):
            order = bytes([3, 0, h, w, len(run_lengths)])
            out[f"text_{k}_{h}_{w}"] = order + run_lengths
    for level, n in product(range(3), (0, 1, 15, 16, 17, 40, 79)):
        boxes = bytes(rng.randrange(30) for _ in range(4 * n))
        out[f"tree_{level}_{n}"] = bytes([0, level, n]) + boxes + bytes([0, 0, 39, 39] * 4) + b"\2"
        w, values = rng.choice([7, 19, 200, 204, 205, 255]), rng.randrange(2)
        pixels = bytes(rng.choice([0, 0, 1, 1, 1, 2]) for _ in range(11 * 116))
        out[f"pack_{level}_{n}"] = bytes([1, level, 1 + n % 11, w, values, n % 2]) + pixels
        wide = bytes([0, 0, 39, 39]) * n
        out[f"tree_{level}_{n}_same"] = bytes([0, level, n]) + wide + bytes([0, 0, 39, 39] * 4)
    for name, made in iid_bounds().items():
        out |= {f"{name}_{which}": bytes([which, 0]) + made for which in (2, 3)}
    return out


NUMBERS = [
    *(
        "0",
        "-0.0",
        "1e5",
        "1.0e-7",
        "-",
        "-.5",
        "1.",
        "1.0e",
        "007",
        "3.4028235e38",
        "3.4028236e38",
    ),
    *(
        "1.1754944e-38",
        "1.4e-45",
        "7.0064923216240853546186479164495806564013097093825788587853e-46",
    ),
    *(
        "16777217",
        "16777217.000000000000000000000001",
        "1.0e999",
        "0.1",
        "0.12345678901234567890123",
    ),
    *("1.00000017881393432617187499999999999999999999999999999", "9007199254740993", "1.0e-60"),
]


def middles() -> list[str]:
    """Numbers in the middle between two floats, and a little beside it, all digits written."""
    out = []
    for exponent, step in ((67, 43), (127, 103), (100, 76), (24, 0), (31, 7)):
        integer = (1 << exponent) + (1 << step)
        out += [
            str(integer),
            str(integer) + ".0e0",
            f"{integer}.{'0' * 120}1",
            f"{integer - 1}.{'9' * 130}",
        ]
        out += [f"{integer}{'0' * 130}.0e-130", f"0.{'0' * 20}{integer}0e{20 + len(str(integer))}"]
    top = (1 << 128) - (1 << 103)  # between the largest float and infinity
    out += [str(top), str(top - 1), f"{top}.{'0' * 30}1", str((1 << 128) + (1 << 103))]
    half = (1 << 128) + (1 << 104)
    for small in (149, 150, 140):  # of the smallest floats; 5 ** k are the digits of 2 ** -k
        digits = 3 * 5**small if small != 150 else 5**small
        out += [f"{digits}.0e-{small}", f"{digits}1.0e-{small + 1}"]
    return [*out, str(half), "1.0e-99", "1.0e-90", "1.0e61", "1.0e9999999", "1.0e-9999999", "1.0e"]


def json_texts() -> dict[str, bytes]:
    """Short arrays, cut everywhere, and with everything in each place."""
    out = {}
    for name, text in (
        ("flat", "[1, -2.5,3.0e+1]"),
        ("rows", "[[1,2],\t[3 ,\r4]\n]"),
        ("none", "[]"),
    ):
        for cut in range(len(text) + 1):
            out[f"{name}_cut{cut}"] = text[:cut].encode()
        for k in range(len(text)):
            for other in "[],-0.e \0":
                out[f"{name}_{k}_{ord(other)}"] = (text[:k] + other + text[k + 1 :]).encode()
    return out


def json_seeds() -> dict[str, bytes]:
    """Arrays and rows of numbers that are hard, in all ways of reading them."""
    rng = random.Random(14)
    out = {}
    for how in range(16):
        for k in range(6):
            n, m = rng.randrange(4), rng.randrange(6)
            rows = ["[" + ", ".join(rng.choices(NUMBERS, k=m)) + "]" for _ in range(max(n, 1))]
            text = f"[{', '.join(rows[:n])}]" if how & 2 else rows[0]
            text = text[: rng.choice([-1, -1, len(text), len(text)])]
            front = bytes([how, n, m, rng.choice([0, 3, 255])])
            out[f"{how}_{k}"] = front + text.encode()
    for k, number_text in enumerate(middles()):
        for any_grammar in (0, 1):
            text = f"[{number_text}, -{number_text}]"
            out[f"middle_{k}_{any_grammar}"] = bytes([4 | any_grammar, 1, 2, 255]) + text.encode()
    for name, data in json_texts().items():
        depth = 2 if name.startswith("rows") else 0
        for known, n, m in ((0, 0, 0), (4, 2, 2), (4, 1, 3), (4, 3, 1)):
            front = bytes([depth | known | (n & 1), n, m, 0 if n == 2 else 255])
            out[f"{name}_{known}{n}{m}"] = front + data
        out[f"{name}_deep"] = bytes([depth ^ 2, 0, 0, 255]) + data
    return out


def jsonl_seeds() -> dict[str, bytes]:
    """Texts as they are, and texts of line ends, with several steps and capacities."""
    rng = random.Random(14)
    text = (GOLDEN.parent / "opsml" / "v1_file_name" / "my_images" / "metadata.jsonl").read_bytes()
    out = {}
    for k, (step, room) in enumerate(((65535, 255), (0, 0), (99, 3), (700, 255))):
        for kind in (0, 1, 2, 3, 4, 0xF8, 0xFC):
            order = step.to_bytes(2, "little") + bytes([room, kind])
            out[f"text_{k}_{kind}"] = order + text[: 200 + 100 * k]
            words = bytes(rng.choice([0xF0, 0xF3, 0xF4, 0xF5, 0xFB, 65, 32]) for _ in range(60))
            out[f"words_{k}_{kind}"] = order + words
    for n in range(5):  # a byte order mark, and less of one
        mark = b"\xef\xbb\xbf\n"[:n]
        out[f"mark_{n}"] = (65535).to_bytes(2, "little") + bytes([9, 0]) + mark
    return out


def name_seeds() -> dict[str, bytes]:
    """Lines that name files in each way, some cut and changed everywhere; and each word."""
    lines = {
        "usual": b'{"file_name": "sub/a.png", "n": [1, -2e3, null, true], "o": {"a": {}, "b": []}}',
        "path": b'{"filepath": "x/a.png", "size": 12}\r\n{"filepath": null}\n\n[1]',
        "null": b'{"file_name": null, "filepath": "a"}\n{"mask_file_name": "12345678", "t": false}',
        "two": b'{"a_file_name": "x", "file_name": "y"}\n{"file_name": 1}\n{"my_file_names": "z"}',
        "twice": b'{"a": 1, "a": 2}\n{"o": {"x": 1, "x": 2}}\n{"o": {"x": 1}, "p": {"x": 1}}',
        "escapes": b'{"file_name": "a\\u00e9\\n", "c": "\\ud800\\/"}\n{"\\u0061": 1}',
        "wide": '{"file_name": "\u00e9\u20ac\U0001f600.png"}'.encode().replace(b"\xf0", b"\x97"),
        "spelt": b'{"file_name": "./a"}\n{"file_name": "a//b"}\n{"file_name": "a/."}',
        "wrong": b'{"n": 01}\n{"n": 1.}\n{"n": 1e}\n{"n": -}\n{"n": NaN}\n{"n" 1}\n{}{}\n{"a": 1,}',
        "deep": b'{"a": ' + b"[" * 17 + b"]" * 17 + b"}",
        "keys": b"{" + b", ".join(b'"%d": 1' % k for k in range(66)) + b"}",
        "digits": b'{"n": ' + b"1" * 201 + b"}",
    }
    words = {f"word_{k}": b'{"file_name": "a' + bytes([k]) + b'"}' for k in range(128, 216)}
    found = {name: bytes([255, 7]) + line for name, line in (lines | words).items()}
    for name in ("usual", "path", "escapes"):
        for k in range(len(lines[name])):
            found[f"{name}_cut_{k}"] = bytes([255, 7]) + lines[name][:k]
            found[f"{name}_not_{k}"] = bytes([255, 7]) + lines[name][:k] + lines[name][k + 1 :]
    found["short"] = bytes([2, 7]) + lines["usual"]
    return found


def item_texts() -> dict[str, str]:
    """Arrays of values of each kind, each also cut and changed everywhere; and deep brackets."""
    texts = {
        "none": "[ ]",
        "plain": '[1, -2.5,"a\\"]",null , [1,{}] ]',
        "objects": '[{"id":7,"bbox":[1, 2.5,-0,4 ]}, {"bbox" : [] , "":{"id":"}"},"id":3}]',
        "twice": '[{"id":1,"id": 22}, {"i\\u0064":1}, {}]',
        "quotes": '[[1,2,"345678901234]", 5], {"a":[12345678,"}"]}]',
        "text": '[{"id":12345678901234567,"a":"' + "x" * 40 + '"}]',
    }
    out = dict(texts)
    for name in ("plain", "objects", "twice"):
        text = texts[name]
        for k in range(len(text)):
            out[f"{name}_cut{k}"] = text[:k]
            for other in '[]{},:"\\ 0':
                out[f"{name}_{k}_{ord(other)}"] = text[:k] + other + text[k + 1 :]
    for deep in (63, 64, 65):
        for pair in ("[]", "{}"):
            out[f"deep_{deep}_{ord(pair[0])}"] = f"[{pair[0] * deep}{pair[1] * deep}]"
        out[f"deep_{deep}_key"] = '[{"id":' + "[" * deep + "]" * deep + "}]"
    return out


WHOLE = ["0", "-0", "00", "01", "-", "9" * 18, "9" * 19, "9" * 20, str(2**63 - 1), str(2**63)]
FRACTIONS = [
    "50.59507981440060931",
    "9.357255982805551931",
    "0.1",
    "1.",
    ".5",
    "-0.0",
    f"0.{'0' * 18}1",
    f"0.{'0' * 19}1",
    f"1.{'9' * 18}",
    "1e3",
]


def item_seeds() -> dict[str, bytes]:
    """Texts with each way of reading them; items of as many bytes as allowed, and of one more."""
    out = {}
    for k, (name, text) in enumerate(item_texts().items()):
        for how in (0, 1):
            step, capacity = (255, 39) if k % 3 else (k % 9, k % 4)
            front = bytes([how | k % 2 << 4, 255, step, capacity, k % 256])
            out[f"{name}_{how}"] = front + text.encode()
    values = ['"' + "x" * 8 + '"', "1234567890", "[12345678]", '{"id":123}', '{"id" :  1']
    for k, value in enumerate(values):
        for most, after in product(range(8, 12), ("]", ",1]", " ]", "")):
            for how in (0, 1):
                front = bytes([how, most - 1, 255, 9, 2 * k + 2])
                out[f"most_{k}_{most}_{how}_{ord((after or '.')[0])}"] = (
                    front + f"[{value}{after}".encode()
                )
    numbers = [*WHOLE, *FRACTIONS]
    for k, n in enumerate(numbers):
        for end in (",", "]", "}", " ", "x", ""):
            out[f"number_{k}_{ord(end or '.')}"] = (
                bytes([2, 255, 255, 9, 0]) + f"[{n}{end}".encode()
            )
        for width in range(1, 6):
            text = ",".join(["7"] * (width - 1) + [n])
            for close in ("]", " ]", ",]", "}", ""):
                key = f"row_{k}_{width}_{close.strip()}".replace("]", "r").replace("}", "b")
                front = bytes([1, 255, 255, 9, 3])
                out[key + str(len(close))] = front + f'[{{"bbox":[{text}{close}}}]'.encode()
    return out


def png_seeds() -> dict[str, bytes]:
    """Rows of each filter, of pixels of each size, and of filters that do not exist."""
    rng = random.Random(16)
    out = {}
    for nbytes, pixel, nrows in product((0, 1, 2, 7, 40), (0, 1, 2, 3, 4, 8), (1, 6)):
        for unknown in (0, 255):
            data = bytes(rng.randrange(5) for _ in range(nbytes))  # few values: many are as near
            for r in range(nrows):
                data += bytes([4 - r % 5, *(rng.choice([0, 1, 2, 255, 77]) for _ in range(nbytes))])
            order = bytes([0, nrows, nbytes, pixel, unknown])
            out[f"png_{nbytes}_{pixel}_{nrows}_{unknown}"] = order + data
    for unknown in (4, 5, 255):
        for nbytes in (0, 3):
            out[f"filter_{unknown}_{nbytes}"] = bytes(
                [0, 1, nbytes, 1, 255, *[0] * nbytes, unknown]
            )
    return out


def polygon_seeds() -> dict[str, bytes]:
    """Sides of every slope, at the borders, outside, and as far away as is allowed."""
    rng = random.Random(17)
    out = {}
    for k in range(60):
        n = rng.choice([0, 1, 2, 3, 4, 9])
        corners = [
            rng.choice([0, 2, 3, 7, 8, 50, 52, 53, 253, rng.randrange(256)]) for _ in range(2 * n)
        ]
        size = [rng.choice([0, 1, 10, 11]), rng.choice([0, 1, 10, 11])]
        out[f"polygon_{k}"] = bytes([1, 0, n, rng.choice([0, 0, 4, 8]), *size, *corners])
    for k in range(20):
        data = rng.randbytes(2 * 2 * 3)
        out[f"polygon_far_{k}"] = (
            bytes([1, 1 + k % 2, 3, 3]) + number(400, 3) + number(400, 3) + data
        )
    for side in (0, 1, 65535, 65536):
        out[f"polygon_size_{side}"] = (
            bytes([1, 0, 3, 3]) + number(side, 3) + number(side, 3) + bytes([0, 0, 20, 30, 40, 10])
        )
    for k, x in enumerate((1e8, -1e8, 100000000.1, -100000000.1, float("nan"), float("inf"))):
        data = struct.pack("<6d", 0, 0, 30, 20, 9, x)
        out[f"polygon_end_{k}"] = bytes([1, 3, 3, 0, 50, 50]) + data
    return out


def tile_seeds() -> dict[str, bytes]:
    """Numbers of each type, smaller and larger than their tiles, in each order in memory."""
    rng = random.Random(18)
    out = {}
    for which, size, sides in product(
        range(8), (7, 15), ((6, 7), (8, 3), (120, 97), (105, 105), (97, 122), (112, 104), (1, 200))
    ):
        for kind in (1 | 8, 0, 2 | 8, 1):
            order = bytes([2, kind, 0, 0, size, 0, 127])
            picture = bytes(
                [
                    which,
                    rng.choice([2, rng.randrange(64)]) if which else 2,
                    rng.choice([0, 1, 7, 90]),
                    *sides,
                    rng.choice([1, 2, 3, 4]),
                ]
            )
            out[f"tile_{which}_{size}_{sides[0]}_{sides[1]}_{kind}"] = order + picture
    for which in range(8):  # the axes in their order, channels inside or outside
        for axes in (0, 1, 2, 3, 4, 5, 8, 16, 32, 56):
            picture = bytes([which, axes, 9, 33, 40, 3])
            out[f"tile_axes_{which}_{axes}"] = bytes([2, 9, 0, 0, 11, 0, 0]) + picture
    for lacking in (250, 251):
        picture = bytes([0, 1, 9, 9, 9, 1])
        out[f"tile_room_{lacking}"] = bytes([2, 0, 1, lacking, 8, 0, 50]) + 2 * picture
    for size in (60, 61, 62):
        out[f"tile_size_{size}"] = bytes([2, 0xC0, 0, 0, size, 0, 50, 0, 1, 9, 9, 9, 1])
    for k, picture in enumerate(
        ([0xE0, 1, 9, 4, 4, 1], [0, 1, 255, 4, 4, 1], [0, 1, 9, 0, 4, 1], [0, 1, 9, 4, 4, 0])
    ):
        out[f"tile_wrong_{k}"] = bytes([2, 0, 0, 0, 8, 0, 50, *picture])
    for sides in ((7679, 3), (7680, 3), (8999, 1)):
        for tall in (0, 16):
            picture = bytes([8 | tall, 1, 9, 5, 5, 1]) + number(sides[0])
            out[f"tile_long_{sides[0]}_{tall}"] = bytes([2, 0xC8, 0, 0, 61, 0, 50]) + picture
    return out


def outline_seeds() -> dict[str, bytes]:
    """Masks with holes, with pixels that only touch at a corner, and with holes that touch."""
    masks = {
        "full": ("###", "###"),
        "empty": ("..", ".."),
        "hole": ("####", "#..#", "####"),
        "corner": ("#.", ".#"),
        "other-corner": (".#", "#."),
        "touching-holes": ("####", "#.##", "##.#", "####"),
        "hole-at-corner": ("###.", "#.##", "####"),
        "first-corner": (".##", "#.#", "###"),
        "checks": ("#.#.#.", ".#.#.#", "#.#.#.", ".#.#.#"),
        "wide": ("#" * 66, "#" + "." * 64 + "#", "#." * 33),
    }
    found = {}
    for name, lines in masks.items():
        pixels = bytes(int(c == "#") for line in lines for c in line)
        for small in (0, 130, 132, 134, 136, 140):
            head = bytes([192, len(lines), len(lines[0]), 5, 7, small])
            found[f"outline-{name}-{small}"] = head + pixels
    return found


def picture_seeds() -> dict[str, bytes]:
    """All of these."""
    return png_seeds() | polygon_seeds() | tile_seeds() | outline_seeds()


def resize_seeds() -> dict[str, bytes]:
    """All filters, levels, channels and types; to fewer and to more pixels; parts."""
    found = {}
    sizes = {"down": (20, 9, 7, 4), "tall": (22, 3, 5, 2), "up": (3, 4, 20, 17)}
    sizes["copy"] = (6, 7, 6, 7)
    boxes = [bytes([kind, 64, 20, 17, 210]) for kind in (1, 2, 0)]
    for (name, (h, w, to_h, to_w)), kind, c in product(sizes.items(), range(15), range(4)):
        same = 16 * (h == to_h) + 32 * (w == to_w)
        more = 128 + 64 * (c == 1) + same + 4 * (kind % 3) + c
        to = [n - 1 for n, bit in ((to_h, 16), (to_w, 32)) if not same & bit]
        head = bytes([kind, more, h - 1, w - 1, *to])
        box = boxes[(kind + c) % 3]
        found[f"{name}-{kind}-{c}"] = head + box + box + bytes([5, 77, kind, 40])
    return found


def main() -> None:
    """Write those of the named targets, or all."""
    seeds = {
        "walk": walk_seeds(),
        "gather": gather_seeds(),
        "augment": augment_seeds(),
        "small": small_seeds(),
        "iid": iid_seeds(),
        "join": iid_seeds(),
        "json": json_seeds(),
        "jsonl": jsonl_seeds(),
        "names": name_seeds(),
        "items": item_seeds(),
        "pictures": picture_seeds(),
        "resize": resize_seeds(),
    }
    for target in sys.argv[2:] or seeds:
        inputs = seeds[target]
        corpus = HERE / "corpus" / target  # what fuzzing found: fuzz/minimise
        lines = corpus.read_text().split() if corpus.exists() else []
        inputs |= {f"corpus_{k}": base64.b64decode(line) for k, line in enumerate(lines)}
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
