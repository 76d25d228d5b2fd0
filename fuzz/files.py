"""Fuzz the parsers in Python: changed files of every format, beside the slow readers of the tests.

``python fuzz/files.py [SECONDS] [NAME...]``: each class of ``tests/`` that derives from
``mapix.testing.FormatTests`` is a target.  Its sample is changed in one to four places, by fields
of 1, 2, 4 or 8 bytes and by numbers in text rather than by random bytes alone, and opened.  The
records have to be those of the slow reader, and an error one of mapix's own, which names the file.
What differs is stored in ``fuzz/out/found/files-NAME``.  Prints a table; fails on any
finding.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "src")]

import mapix  # noqa: E402
from mapix.testing import CLEAR_ERRORS, FormatTests  # noqa: E402

MODULES = ("vimh", "iid", "idx", "npy", "pink", "safetensors", "tar", "tfrecord", "coco", "folder")
EDGES = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, (1 << 31) - 1, 1 << 31)
EDGES += ((1 << 32) - 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
DIGITS = re.compile(rb"[0-9]+")
MOST_PLACES = 4
MOST_NBYTES = 1 << 16


def field(rng: random.Random, data: bytes) -> bytes:
    """Set a number in binary to an edge, or to one near what it is."""
    n = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, len(data) - n + 1))
    order: Any = rng.choice(("little", "big"))
    now = int.from_bytes(data[at : at + n], order)
    new = rng.choice((*EDGES, now + 1, now - 1, 2 * now, len(data), len(data) - at)) % (1 << 8 * n)
    return data[:at] + new.to_bytes(n, order) + data[at + n :]


def digits(rng: random.Random, data: bytes) -> bytes:
    """Replace a number in text."""
    found = list(DIGITS.finditer(data))
    if not found:
        return field(rng, data)
    one = rng.choice(found)
    texts = (*map(str, EDGES), "-1", "1e9", "0.5", "", "00", "9" * rng.randrange(1, 30))
    return data[: one.start()] + rng.choice(texts).encode() + data[one.end() :]


def piece(rng: random.Random, data: bytes) -> bytes:
    """Remove, repeat or move a piece."""
    at, to = sorted(rng.choices(range(len(data) + 1), k=2))
    place = rng.randrange(len(data) + 1)
    kept = data[:at] + data[to:] if rng.random() < 0.6 else data
    return kept[:place] + data[at:to] * rng.choice((0, 1, 1, 2)) + kept[place:]


def bit(rng: random.Random, data: bytes) -> bytes:
    """Change one bit."""
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (field, field, digits, piece, bit)


def targets(names: list[str]) -> Iterator[tuple[str, FormatTests]]:
    """Yield name and tests of each target."""
    for name in MODULES:
        module = importlib.import_module(f"test_{name}")
        for kind in vars(module).values():
            usable = isinstance(kind, type) and issubclass(kind, FormatTests)
            if usable and kind.__name__.startswith("Test") and kind.__module__ == module.__name__:
                full = f"{name}-{kind.__name__[4:].lower()}"
                if not names or full in names or name in names:
                    yield full, kind()


def slowly(tests: FormatTests, data: bytes) -> list[Any] | None:
    """Return what the slow reader finds; None where it refuses or does not know such a file."""
    try:
        return tests.read_slowly(data)
    except Exception:
        return None


def finding(tests: FormatTests, path: Path, data: bytes) -> str | None:
    """Return what is wrong with how a file is read; None if nothing is.

    Slow readers know samples with one damage; whether a file of several is valid is not compared.
    """
    expected = slowly(tests, data)
    path.write_bytes(data)
    try:
        found = tests.content(tests.open(path))
    except CLEAR_ERRORS as e:
        return None if path.name in str(e) else f"the error does not name the file: {e}"
    except Exception as e:
        if isinstance(e, TypeError) and "unexpected keyword" in str(e):
            return None  # it looks like another format, which has no such option
        return f"{type(e).__name__}: {e}"
    same = expected is None or found == expected
    return None if same else f"{found!r:.200} found, {expected!r:.200} expected"


def run(name: str, tests: FormatTests, seconds: float, rng: random.Random) -> tuple[int, int]:
    """Fuzz one target; return how many files were opened, and how many findings there are."""
    n, nfound = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = tests.sample(Path(folder))
        corpus = [path.read_bytes()]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = rng.choice(corpus)
            for _ in range(rng.randint(1, MOST_PLACES)):
                data = rng.choice(CHANGES)(rng, data)
            data = data[:MOST_NBYTES]
            n += 1
            wrong = finding(tests, path, data)
            if wrong is not None:
                nfound += 1
                store = HERE / "out" / "found" / f"files-{name}"
                store.mkdir(parents=True, exist_ok=True)
                (store / f"{n}{path.suffix}").write_bytes(data)
                print(f"{name}: {n}{path.suffix}: {wrong}", flush=True)
            elif len(corpus) < 200 and rng.random() < 0.05 and len(data) < 4096:
                corpus.append(data)
    return n, nfound


def main() -> int:
    """Fuzz all targets, or the named ones; return 1 if there is a finding."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    warnings.simplefilter("ignore", mapix.MapixWarning)
    total = 0
    rows = []
    for name, tests in targets(sys.argv[2:]):
        n, found = run(name, tests, seconds, random.Random(os.environ.get("MAPIX_FUZZ_SEED")))
        rows.append(f"{name:28} {n:9} {n / seconds:9.0f} {found:9}")
        total += found
    print(f"{'target':28} {'files':>9} {'files/s':>9} {'findings':>9}")
    print("\n".join(rows))
    return min(total, 1)


if __name__ == "__main__":
    sys.exit(main())
