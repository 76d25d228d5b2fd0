"""Cut, rewrite and replace a file in one process while others gather from it.

``python tests/stress_faults.py SECONDS [batch|loader|torch]`` prints what happened.  No process
must die, and no batch that is returned as good must have wrong bytes.  test_faults.py runs it for a
short time.

Every record states the version of the file that it belongs to, and every pixel follows from version
and record number, so every wrong byte is found.

One case cannot be seen from outside: a file that is opened in the middle of a single write call of
another process.  Its time was set at the start of that call and does not change again (README,
Limits).  So the attacker counts the beginning and the end of each write in ``Shared.turn``, and a
file that was opened between the two is opened again.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import random
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import mapix
from mapix import _native

N, SIDE = 64, 56  # 64 records of 3,153 bytes: fifty pages
PATIENCE = 300.0  # seconds


def content(version: int) -> bytes:
    """Return the bytes of one version (0..255) of the file."""
    head = struct.pack("<HHHffBBB", SIDE, SIDE, 1, 0.0, 1.0, 1, 0, version)
    return b"".join(head + pixel(version, i) * (SIDE * SIDE) for i in range(N))


def pixel(version: int, i: int) -> bytes:
    # never 0: a page of zeros, which is what a cut file reads as, is always wrong
    return bytes([(version * 31 + i * 7) % 255 + 1])


class Shared:
    """Numbers that all processes see: one file, mapped."""

    COUNTED = ("good", "refused", "faults")
    READERS = 4

    def __init__(self, path: str) -> None:
        shape = (1 + self.READERS, len(self.COUNTED))
        self._all = np.memmap(f"{path}.shared", np.uint64, "r+", shape=shape)
        #: writes begun and ended: odd while one is under way
        self.turn = self._all[0, :1]
        self._stop = self._all[0, 1:2]

    @classmethod
    def make(cls, path: str) -> Shared:
        Path(f"{path}.shared").write_bytes(bytes(8 * (1 + cls.READERS) * len(cls.COUNTED)))
        return cls(path)

    def tell(self, reader: int, count: Counter[str]) -> None:
        """Return the counts of a reader; only this reader writes to its row."""
        self._all[1 + reader] = [count[name] for name in self.COUNTED]

    def least(self) -> int:
        """Return the smallest of the counts, summed over all readers."""
        return int(self._all[1:].sum(axis=0).min())

    def stop(self) -> None:
        self._stop[0] = 1

    @property
    def stopped(self) -> bool:
        return bool(self._stop[0])


def attack(path: str, seed: int) -> None:
    """Cut, restore, rewrite and replace the file until ``stop`` is set."""
    rng = random.Random(seed)
    shared = Shared(path)
    turn = shared.turn
    version = 0
    size = len(content(0))
    # One descriptor throughout: closing a file that was cut makes some file systems flush it.
    f = open(path, "r+b", buffering=0)  # noqa: SIM115
    while not shared.stopped:
        how = rng.choice(["cut", "cut", "cut", "tail", "rewrite", "replace"])
        if how == "cut":  # complete pages are cut off: readers fault
            f.truncate(rng.randrange(0, size, 4096))
            time.sleep(rng.random() * 0.004)
        elif how == "tail":  # inside a page: readers see zeros, and no signal
            f.truncate(size - rng.randrange(1, 4000))
            time.sleep(rng.random() * 0.001)
        elif how == "rewrite":
            version = (version + 1) % 256
        else:
            version = (version + 1) % 256
            with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as new:
                new.write(content(version))
            os.replace(new.name, path)
            f.close()
            f = open(path, "r+b", buffering=0)  # noqa: SIM115
        f.seek(0)
        turn += np.uint64(1)
        f.write(content(version))
        turn += np.uint64(1)
        time.sleep(rng.random() * 0.003)
    f.close()


Taken = tuple[np.ndarray, np.ndarray, np.ndarray]


def by_batch(ds: mapix.vimh.Dataset, rng: np.random.Generator) -> Iterator[Taken]:
    """Yield rows, images and versions of batches of the dataset itself."""
    while True:
        rows = rng.integers(0, len(ds), 32)
        batch = ds.batch(rows, threads=1 + int(rng.integers(2)))
        yield rows, batch.images, batch.labels


def by_loader(ds: mapix.vimh.Dataset, rng: np.random.Generator) -> Iterator[Taken]:
    """Yield the same of a loader, whose thread gathers two batches ahead."""
    loader = mapix.Loader(ds, 7, seed=int(rng.integers(99)), threads=1 + int(rng.integers(2)))
    while True:
        for batch in loader:
            yield batch.rows, batch.images, batch.labels


def by_torch(ds: mapix.vimh.Dataset, rng: np.random.Generator) -> Iterator[Taken]:
    """Yield the same of the loader for PyTorch."""
    import mapix.torch

    loader = mapix.torch.Loader(ds, 7, seed=int(rng.integers(99)), dtype="uint8", labels="raw")
    while True:
        for k, (images, labels) in enumerate(loader):
            rows = loader.plan.rows(loader.epoch, k * loader.plan.step)
            yield rows, images.numpy(), labels["param_0"].numpy()[:, None]


TAKEN = {"batch": by_batch, "loader": by_loader, "torch": by_torch}


def right(taken: Taken, version: int) -> bool:
    """Return whether all bytes of a batch are those of a version of the file."""
    rows, images, versions = taken
    want = np.array([pixel(version, int(i))[0] for i in rows], np.uint8)
    same = (images.reshape(len(rows), -1) == want[:, None]).all()
    return bool(same and (versions[:, 0] == version).all())


def read(path: str, reader: int, how: str) -> Counter[str]:
    """Gather until ``stop`` is set, open again whenever the file changed, and count outcomes."""
    rng = np.random.default_rng(reader)
    count: Counter[str] = Counter()
    ds, version, tries = None, 0, 0
    batches: Iterator[Taken] | None = None
    shared = Shared(path)
    turn = shared.turn
    faults_before = _native.faults_caught()
    while not shared.stopped:
        # of the process: enough to show that its threads had faults
        count["faults"] = _native.faults_caught() - faults_before
        shared.tell(reader, count)
        try:
            tries += 1
            if tries > 60:  # a replaced file stays readable for ever: open the new one
                ds, tries = None, 0
            if ds is None:
                batches = None
                before = int(turn[0])
                ds = mapix.open(path, dialect=14, index="never")
                if before % 2 or before != int(turn[0]):  # in the middle of a write
                    ds = None
                    count["opened too early"] += 1
                    continue
                if not len(ds):  # cut to nothing at this moment: an empty file is a valid one
                    ds = None
                    continue
                version = ds[0].labels["param_0"]
                count["opened"] += 1
            if batches is None:
                batches = TAKEN[how](ds, rng)
            count["good" if right(next(batches), version) else "wrong"] += 1
        except mapix.FileChangedError as e:
            batches = None
            count["refused"] += 1
            if path not in str(e):
                count["unnamed"] += 1
            # The same map again: while the file is short, every gather faults.
        except (mapix.MapixError, OSError, ValueError) as e:  # opened while it was being rewritten
            count["unreadable"] += 1
            if path not in str(e):
                count["unnamed"] += 1
            ds = None
        except BaseException:
            traceback.print_exc()
            count["unexpected"] += 1
            ds = None
    return count


def worker(path: str, reader: int, how: str, out: mp.SimpleQueue) -> None:
    out.put(read(path, reader, how))


def run(folder: Path, seconds: float, least: int = 0, how: str = "batch") -> Counter[str]:
    """Two threads and two forked workers against one attacker; the sum of all counts.

    Goes on for ``seconds``, and then until there were ``least`` good batches, refused ones, and
    faults: on a busy machine seconds say nothing.  Gives up after ``PATIENCE`` seconds more.
    """
    path = str(folder / "attacked")
    Path(path).write_bytes(content(0))
    shared = Shared.make(path)
    attacker = mp.get_context("spawn").Process(target=attack, args=(path, 1))
    attacker.start()
    fork = mp.get_context("fork")
    out = fork.SimpleQueue()
    workers = [fork.Process(target=worker, args=(path, k, how, out)) for k in (0, 1)]
    for w in workers:
        w.start()
    total: Counter[str] = Counter()
    counts: list[Counter[str]] = []
    threads = [
        threading.Thread(target=lambda k=k: counts.append(read(path, k, how))) for k in (2, 3)
    ]
    for t in threads:
        t.start()
    begun = time.monotonic()
    while time.monotonic() - begun < seconds or (
        shared.least() < least and time.monotonic() - begun < seconds + PATIENCE
    ):
        time.sleep(0.02)
    shared.stop()
    for t in threads:
        t.join()
    for w in workers:
        w.join(PATIENCE)
        total["died"] += w.exitcode != 0
        if w.exitcode == 0:
            counts.append(out.get())
    attacker.join(PATIENCE)
    total["attacker died"] += attacker.exitcode != 0
    for c in counts:
        total += c
    return total


if __name__ == "__main__":
    how = sys.argv[2] if len(sys.argv) > 2 else "batch"
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder), float(sys.argv[1]), how=how), indent=1))
