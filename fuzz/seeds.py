"""Write the seed inputs of the fuzz targets: ``python3 seeds.py FOLDER``.

Each target's inputs begin with a few bytes of order (see the top of its C file); then comes a
file, literally or as a small programme (fuzz.h, ``draft_file``).  The files are the small golden
ones of the test suite, and programmes that lead where flipping bytes would not: hundreds of
records, decoys, chains that fill up, bad records late in a file.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "vimh"
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
    """Flags (1: 14-byte header, 2: literal, 12: mapped too, 48: large), capacity, step, nth."""
    orders = {
        "whole": (0, 0xFFFF, 0, 0),
        "calls": (0, 70, 0, 0),
        "steps": (0, 0xFFFF, 100, 0),
        "cut": (12, 100, 777, 128 + 1),
        "sparse": (12, 100, 0, 128 + 64 + 7),
    }
    out = {}
    for order, (flags, capacity, step, nth) in orders.items():
        for head in (0, 1):
            tail = capacity.to_bytes(2, "little") + step.to_bytes(2, "little") + bytes([nth])
            for name, programme in programmes().items():
                if flags and name not in ("tiny", "larger"):
                    continue  # a mapping costs more than a hundred walks
                big = 48 if name in ("no_start", "shrinks") else 0
                out[f"{order}_{name}_{head}"] = bytes([flags | head | big]) + tail + programme
            for name, data in golden().items() if not flags else ():
                out[f"{order}_{name}_{head}"] = bytes([flags | 2 | head]) + tail + data
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
    for k in range(1, 4):
        # a stride whose multiple, reckoned in 64 bits, is the file's start again
        lie = bytes([2 | 12, 1, 6 | 64, 0]) + (1 << 64 - k).to_bytes(8, "little")
        rows = bytes([1, 0, 0, 1 << k])
        order = bytes([0, 0, 8 | 16]).ljust(18, b"\0") + lie + rows
        out[f"overflow_{k}"] = order.ljust(FRONT, b"\0") + records(9, 5, 7, 3, 4)
    return out


def small_seeds() -> dict[str, bytes]:
    """One of each entry point, and some."""
    rng = random.Random(12)
    out = {}
    for which in range(9):
        for k in range(6):
            body = bytes(rng.choice([0, 1, 2, 3, k, 255]) for _ in range(20 + 30 * k))
            out[f"{which}_{k}"] = bytes([which]) + body
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
    return out


def jsonl_seeds() -> dict[str, bytes]:
    """Texts as they are, and texts of line ends, with several steps and rooms."""
    rng = random.Random(14)
    text = (GOLDEN.parent / "opsml" / "v1_file_name" / "my_images" / "metadata.jsonl").read_bytes()
    out = {}
    for k, (step, room) in enumerate(((65535, 255), (0, 0), (99, 3), (700, 255))):
        for kind in (0, 1, 2, 3, 4, 0xF8, 0xFC):
            order = step.to_bytes(2, "little") + bytes([room, kind])
            out[f"text_{k}_{kind}"] = order + text[: 200 + 100 * k]
            words = bytes(rng.choice([0xF0, 0xF3, 0xF4, 0xF5, 0xFB, 65, 32]) for _ in range(60))
            out[f"words_{k}_{kind}"] = order + words
    return out


def main() -> None:
    """Write them all."""
    seeds = {
        "walk": walk_seeds(),
        "gather": gather_seeds(),
        "small": small_seeds(),
        "iid": iid_seeds(),
        "join": iid_seeds(),
        "json": json_seeds(),
        "jsonl": jsonl_seeds(),
    }
    for target, inputs in seeds.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
