"""Many processes write to one path, some of them are killed, and others read it all the time.

``python tests/stress_writers.py KIND N SECONDS`` runs N writers for some seconds and prints what
happened; ``all`` runs every kind, one after the other.  The kinds are those of ``test_writers.py``.
Of every ten writers one is killed by SIGKILL, in the middle of its work, and replaced by a new one.

Every acknowledged write must be there at the end.  A reader must see a complete file at every
moment.  A writer is refused only with LockedError, FileExistsError or FileChangedError.  After one
more writer, no other file is left.  Otherwise the exit status is 1.

New files are moved away after they were read, so that writers of new files can continue.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing as mp
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import mapix
from interleave import REFUSALS
from mapix.store import NewWhole
from test_writers import (
    IDX_PAIR,
    KINDS,
    STORE,
    WHO,
    Kind,
    files,
    longer,
    new,
    png,
    replaced,
    splits_after,
)

FORK = mp.get_context("fork")
EVERY = {**STORE, **KINDS}


def append_picture(folder: Path, given: Any, who: str) -> None:
    """A picture of a new name for each record."""
    name = f"sub/{os.getpid()}-{time.monotonic_ns()}.png"
    with mapix.folder.Appender(folder / "f") as out:
        out.append(name, png(who), caption=who)


LOCKS = {"convert to idx": IDX_PAIR, "iid.ShardedWriter": "x.iid"}
EVERY["folder.Appender"] = dataclasses.replace(EVERY["folder.Appender"], act=append_picture)
RUN = [
    name
    for name, kind in EVERY.items()
    if kind.after in (longer, splits_after, new, replaced) and name != "convert to huggingface"
]


def write(kind: Kind, folder: Path, given: Any, seed: int, end: float, out: Any) -> None:
    """Write until the time is over; report before and after each write."""
    rng = random.Random(seed)
    while time.monotonic() < end:
        who = rng.choice(WHO)
        out.send(("begins", who))
        try:
            kind.act(folder, given, who)
        except REFUSALS as e:
            out.send(("refused", type(e).__name__))
        except BaseException as e:
            out.send(("wrong", repr(e)))
        else:
            out.send(("done", who))
    out.close()


def read(kind: Kind, folder: Path, mover: Mover | None, end: float, out: Any) -> None:
    """Read until the time is over; what was read of a new file makes place for the next one."""
    count: Counter[str] = Counter()
    while time.monotonic() < end:
        try:
            found = kind.state(folder)
            count["good reads"] += 1
        except mapix.FileChangedError:
            count["reads of a file that was replaced meanwhile"] += 1
        except BaseException as e:
            count[f"torn: {type(e).__name__}: {e}"[:200]] += 1
            found = None
        if mover is not None and (found is not None or mover.lock):
            mover.move()
    out.send(count)


class Mover:
    """Moves new files away, so that the writers go on.

    Parameters
    ----------
    folder, away : Path
        From where, and to where.
    names : list of str
        What a writer makes.
    lock : str, optional
        The path that writers lock, where a killed one may leave a part of what it makes.
    """

    def __init__(self, folder: Path, away: Path, names: list[str], lock: str) -> None:
        self.folder, self.away, self.names, self.lock = folder, away, names, lock
        away.mkdir()

    def move(self) -> None:
        """Move what is there, if no writer is at work on it."""
        try:
            held = NewWhole(self.folder / self.lock, replace=True) if self.lock else None
        except mapix.LockedError:
            return
        there = [name for name in self.names if os.path.lexists(self.folder / name)]
        if there:
            place = self.away / str(len(os.listdir(self.away)))
            place.mkdir()
            for name in there:
                os.rename(self.folder / name, place / name)
        if held is not None:
            held.abort()


class Fleet:
    """N writers, of which some are killed and replaced by others."""

    def __init__(self, kind: Kind, folder: Path, given: Any, n: int, end: float) -> None:
        self.args = kind, folder, given
        self.end = end
        self.rng = random.Random(n)
        self.count: Counter[str] = Counter()
        self.done: Counter[str] = Counter()  # acknowledged, by who
        self.perhaps: Counter[str] = Counter()  # begun by writers that were killed
        self.now: dict[Any, tuple[Any, str]] = {}
        self.seed = 0
        for _ in range(n):
            self.begin()

    def begin(self) -> None:
        ours, theirs = FORK.Pipe(duplex=False)
        self.seed += 1
        process = FORK.Process(target=write, args=(*self.args, self.seed, self.end, theirs))
        process.start()
        theirs.close()
        self.now[ours] = process, ""

    def run(self) -> None:
        """Take reports until all writers have ended."""
        while self.now:
            for pipe in mp.connection.wait(list(self.now), 0.1):
                process, who = self.now[pipe]
                try:
                    what, said = pipe.recv()
                except EOFError:
                    self.ended(pipe, process, who)
                    continue
                self.now[pipe] = process, said if what == "begins" else ""
                if what == "done":
                    self.done[said] += 1
                elif what != "begins":
                    self.count[f"{what}: {said}"] += 1
                # a kill for each three hundred reports, in the middle of what is begun
                elif self.rng.random() < 0.01 and time.monotonic() < self.end - 0.5:
                    time.sleep(self.rng.random() * 0.01)
                    process.kill()

    def ended(self, pipe: Any, process: Any, who: str) -> None:
        del self.now[pipe]
        process.join()
        if process.exitcode == -signal.SIGKILL:
            self.count["killed"] += 1
            if who:
                self.perhaps[who] += 1
            self.begin()
        elif process.exitcode:
            self.count[f"wrong: exit status {process.exitcode}"] += 1


def run(name: str, n: int, seconds: float, base: Path) -> Counter[str]:
    """One kind; what happened."""
    kind = EVERY[name]
    folder = base / "w"
    folder.mkdir()
    given = kind.setup(folder)
    alone = base / "alone"
    alone.mkdir()
    kind.act(alone, kind.setup(alone), "A")
    expected = files(alone)
    fresh = sorted(set(os.listdir(alone)) - set(os.listdir(folder)))
    mover = None
    if kind.after is new:
        mover = Mover(folder, base / "away", fresh, LOCKS.get(name, ""))
    end = time.monotonic() + seconds
    ours, theirs = FORK.Pipe(duplex=False)
    reader = FORK.Process(target=read, args=(kind, folder, mover, end, theirs))
    reader.start()
    fleet = Fleet(kind, folder, given, n, end)
    fleet.run()
    count = fleet.count + ours.recv()
    reader.join()
    if mover is not None:
        mover.move()
    count["acknowledged"] = fleet.done.total()
    count["lost"] = lost(kind, folder, fleet, base)
    kind.act(folder, given, "C")
    left = {path for path in files(folder) - expected if ".writing" in path}
    if name == "folder.Appender":  # the next writer of a picture's name would remove its stage
        left = {path for path in left if not path.startswith("f/sub/")}
    count["left over"] = len(left - set(kind.orphans))
    return count


def lost(kind: Kind, folder: Path, fleet: Fleet, base: Path) -> int:
    """Return the number of acknowledged writes that are missing."""
    if kind.after in (longer, splits_after):
        state = kind.state(folder)
        found = Counter(state if kind.after is longer else state[0] + state[1])
        more = found - fleet.done - fleet.perhaps
        return (fleet.done - found).total() + more.total()
    if kind.after is replaced:
        return int(kind.state(folder) not in {*fleet.done, *fleet.perhaps, "C"})
    found = Counter()
    for place in (base / "away").iterdir():
        if set(os.listdir(place)) <= set(kind.orphans):
            continue  # what a killed writer left
        found[kind.state(place)] += 1
    return (fleet.done - found).total() + (found - fleet.done - fleet.perhaps).total()


def main(name: str, n: int, seconds: float) -> int:
    """Run one kind, or all; the exit status."""
    warnings.simplefilter("ignore", mapix.MapixWarning)
    if name not in (*RUN, "all"):
        sys.exit(f"one of: all, {'; '.join(RUN)}")
    bad = 0
    for each in RUN if name == "all" else [name]:
        with tempfile.TemporaryDirectory() as base:
            os.environ["MAPIX_CACHE_DIR"] = os.path.join(base, "cache")
            count = run(each, n, seconds, Path(base))
        print(each, json.dumps(dict(count)), flush=True)
        bad += bool(count["lost"] or count["left over"])
        bad += any(key.startswith(("torn", "wrong")) for key in count)
        bad += not count["acknowledged"] or not count["good reads"]
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
