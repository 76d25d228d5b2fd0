"""Fuzz the parsers in Python: changed files of every kind, beside slow readers.

``python fuzz/files.py [SECONDS] [NAME...]``: each class of ``tests/`` that derives from
``mapix.testing.FormatTests`` is a target, and each class of ``parsers.py``.  An input is changed in
one to four places, by fields of 1, 2, 4 or 8 bytes and by numbers in text rather than by random
bytes alone.  In half of the inputs the checksums are made right afterwards (``mending.py``), so
that what they protect is reached.  What is read has to be what the slow reader reads, and an error
one of mapix's own, which names the file, and neither takes ``MOST_SECONDS`` of CPU time.  What
differs is stored in ``fuzz/out/found/files-NAME``; inputs in ``fuzz/regressions/files-NAME`` are
read first.  ``MAPIX_FUZZ_SEED`` sets the seed of random numbers; the one in use is printed.
``EXECUTIONS=N`` reads N files per target instead, in any time.  Prints a table, with files per
second of CPU time; fails on any finding.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "src")]

import mending  # noqa: E402
import parsers  # noqa: E402

import mapix  # noqa: E402
from mapix.testing import FormatTests  # noqa: E402

MODULES = ("vimh", "iid", "idx", "npy", "pink", "safetensors", "tar", "tfrecord", "coco", "folder")
EDGES = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, (1 << 31) - 1, 1 << 31)
EDGES += ((1 << 32) - 1, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)
DIGITS = re.compile(rb"[0-9]+")
MOST_PLACES = 4
MOST_NBYTES = 1 << 16
MOST_SECONDS = 30  # of CPU time, for one file
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # no disk is waited for


class TooSlowError(BaseException):
    """A file took ``MOST_SECONDS`` of CPU time.  No reader takes it for an error of its own."""


def too_slow(*_: object) -> None:
    """Handle the signal of the timer."""
    raise TooSlowError


def finding(target: parsers.Parser, data: bytes) -> str | None:
    """Return what is wrong with how the file is read, and how long that takes; None if nothing."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        try:
            return target.finding(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except TooSlowError:
        return f"it takes more than {MOST_SECONDS} seconds"


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


class OfFormat(parsers.Parser):
    """A format's tests as a target: records are those of its slow reader.

    Slow readers know samples with one damage; whether a file of several is valid is not compared.
    """

    def __init__(self, folder: Path, name: str, tests: FormatTests) -> None:
        self.tests, self.mended = tests, mending.OF_FORMAT.get(name, bytes)  # type: ignore[method-assign]
        self.folder, self.path = folder, tests.sample(folder)
        self.seeds = [self.path.read_bytes()]

    def read(self) -> Any:
        """See ``Parser``."""
        try:
            return self.tests.content(self.tests.open(self.path))
        except TypeError as e:
            if "unexpected keyword" in str(
                e
            ):  # it looks like another format without such an option
                raise mapix.FormatError(str(self.path), "", str(e)) from e
            raise

    def truth(self, data: bytes) -> Any:
        """See ``Parser``."""
        try:
            found = self.tests.read_slowly(data)
        except Exception:
            return parsers.ANY
        return parsers.ANY if found is None else found

    def named(self, message: str) -> bool:
        """See ``Parser``."""
        return self.path.name in message


Make = Callable[[Path], parsers.Parser]


def targets(names: list[str]) -> Iterator[tuple[str, Make]]:
    """Yield name and maker of each target."""
    found: list[tuple[str, str, Make]] = []
    for name in MODULES:
        module = importlib.import_module(f"test_{name}")
        for kind in vars(module).values():
            usable = isinstance(kind, type) and issubclass(kind, FormatTests)
            if usable and kind.__name__.startswith("Test") and kind.__module__ == module.__name__:
                full = f"{name}-{kind.__name__[4:].lower()}"
                found.append((full, name, partial(OfFormat, name=name, tests=kind())))
    found += [(name, name, kind) for name, kind in parsers.parsers()]
    for full, name, make in found:
        if not names or full in names or name in names:
            yield full, make


def run(
    name: str, make: Make, seconds: float, most: float, rng: random.Random
) -> tuple[int, float, int, int]:
    """Fuzz one target, for so many seconds or with so many files.

    Return how many files were read, in how many seconds of CPU time, how many were accepted, and
    the findings.
    """
    n = naccepted = nfound = 0
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        os.environ["MAPIX_CACHE_DIR"] = f"{folder}/cache"
        place = Path(folder) / "files"
        place.mkdir()
        target = make(place)
        corpus = list(target.seeds)
        for seed in corpus:
            wrong = finding(target, seed) or (None if target.accepted else "a seed is refused")
            if wrong is not None:
                raise SystemExit(f"{name}: {wrong}")
        for path in sorted((HERE / "regressions" / f"files-{name}").glob("*")):
            wrong = finding(target, path.read_bytes())
            if wrong is not None:
                nfound += 1
                print(f"{name}: {path.name}: {wrong}", flush=True)
        end, began = time.monotonic() + seconds, time.process_time()
        while n < most and time.monotonic() < end:
            data = rng.choice(corpus)
            for _ in range(rng.randint(1, MOST_PLACES)):
                data = rng.choice(CHANGES)(rng, data)
            data = data[:MOST_NBYTES]
            if rng.random() < 0.5:
                data = target.mended(data)
            n += 1
            wrong = finding(target, data)
            naccepted += target.accepted
            if wrong is not None:
                nfound += 1
                store = HERE / "out" / "found" / f"files-{name}"
                store.mkdir(parents=True, exist_ok=True)
                (store / f"{n}{target.path.suffix}").write_bytes(data)
                print(f"{name}: {n}{target.path.suffix}: {wrong}", flush=True)
            elif target.accepted and len(corpus) < 200 and rng.random() < 0.05:
                corpus.append(data)
    return n, time.process_time() - began, naccepted, nfound


def main() -> int:
    """Fuzz all targets, or the named ones; return 1 if there is a finding."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    most = float(os.environ.get("EXECUTIONS", "inf"))
    seconds = seconds if most == float("inf") else float("inf")
    warnings.simplefilter("ignore", mapix.MapixWarning)
    signal.signal(signal.SIGPROF, too_slow)
    chosen = os.environ.get("MAPIX_FUZZ_SEED") or f"{random.randrange(1 << 32)}"
    print(f"MAPIX_FUZZ_SEED={chosen}")
    total = 0
    print(f"{'target':28} {'files':>9} {'files/s':>9} {'accepted':>9} {'findings':>9}")
    for name, make in targets(sys.argv[2:]):
        rng = random.Random(chosen)
        try:
            n, cpu_seconds, accepted, found = run(name, make, seconds, most, rng)
        except ModuleNotFoundError as e:
            print(f"{name:28} skipped: {e}")
            continue
        print(f"{name:28} {n:9} {n / cpu_seconds:9.0f} {accepted:9} {found:9}", flush=True)
        total += found
    return min(total, 1)


if __name__ == "__main__":
    sys.exit(main())
