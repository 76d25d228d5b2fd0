"""Appending: every state that a power cut may leave holds the old records or the new ones."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import mapix
from interleave import killed
from mapix.store import SYSTEM
from mapix.vimh import Appender, Parameter, Writer, journal
from mapix.vimh.appending import Appending
from mapix.vimh.journal import journal_of
from model_disk import ModelDisk
from slow_vimh import pack, record, tiles

NOTE = Parameter("note", 0, min=50.0, max=52.0, step=0.5)


def records(n: int, first: int = 0) -> bytes:
    return pack([record(3 + i % 4, 5, 1, [(0, i & 255)], seed=i) for i in range(first, first + n)])


def seen(state: dict[str, bytes], path: str) -> bytes:
    """What a reader takes of a file: the bytes that count, by the rules of the journal alone."""
    data = state[path]
    length = None
    kept = state.get(journal_of(path))
    if kept is not None:
        length = journal.counting(kept)
    if (
        length is None
        or len(data) < length
        or journal.packed(length, data[:length][-4096:]) != kept
    ):
        return data
    return data[:length]


# --- power cuts -----------------------------------------------------------------------------------

STEPS = [records(12), records(1, 12), records(25, 13), records(3, 38)]


def run(path: str, disk: ModelDisk) -> list[tuple[list[dict[str, bytes]], set[bytes]]]:
    """Appends and commits; the states after each step, and what they may hold."""
    old = STEPS[0]
    disk.put(path, old)
    found = []
    out = Appending(path, disk, buffer_nbytes=200)
    for new in STEPS[1:]:
        for at in range(0, len(new), 300):
            out.write(new[at : at + 300])
        out.commit()
        found.append((disk.crashes, {old, old + new}))
        disk.crashes = []
        disk.look()  # it has been told that all is well: the new ones it is
        found.append((disk.crashes, {old + new}))
        disk.crashes = []
        old += new
        Path(path).write_bytes(old)  # the lock and the tail are those of the real file
        out.nbytes = len(old)
    out.write(b"never committed" * 50)
    out.rollback()
    found.append((disk.crashes, {old}))
    return found


def count(tmp_path: Path, leave_out: str, seeds: int) -> tuple[int, int]:
    path = str(tmp_path / "train")
    Path(path).write_bytes(STEPS[0])
    disk = ModelDisk(str(tmp_path), leave_out)
    disk.seeds = seeds
    nstates = wrong = 0
    for states, may in run(path, disk):
        nstates += len(states)
        wrong += sum(seen(state, path) not in may for state in states)
    return nstates, wrong


def test_no_power_cut_leaves_a_torn_record(tmp_path):
    nstates, wrong = count(tmp_path, "", 250)
    print(nstates, "states")
    assert nstates > 20000
    assert wrong == 0


@pytest.mark.parametrize("leave_out", ["fsync", "fsync_directory"])
def test_the_model_bites(tmp_path, leave_out):
    assert count(tmp_path, leave_out, 20)[1] > 0


def test_readers_and_the_next_writer_agree_with_the_rule(tmp_path):
    """A sample of the states, put on the real disk: opened, and recovered by the next writer."""
    path = str(tmp_path / "train")
    Path(path).write_bytes(STEPS[0])
    disk = ModelDisk(str(tmp_path))
    disk.seeds = 6
    rng = random.Random(3)
    outcomes = run(path, disk)
    for states, may in outcomes:
        for state in rng.sample(states, min(len(states), 25)):
            for old in tmp_path.iterdir():
                old.unlink()
            for name, data in state.items():
                Path(name).write_bytes(data)
            want = tiles(seen(state, path), 14)
            assert want is not None
            assert seen(state, path) in may
            ds = mapix.open(path, dialect=14, index="never")
            assert [r.image[:, :, 0].tobytes() for r in ds] == [s.image for s in want]
            with Appender(path, dialect=14) as out:
                assert out.nrecords == len(want)
                out.append(np.full((2, 2), 7, np.uint8))
            assert sorted(os.listdir(tmp_path)) == ["train"]
            again = tiles(Path(path).read_bytes(), 14)
            assert again[:-1] == want
            assert again[-1].image == b"\7" * 4


# --- failing calls --------------------------------------------------------------------------------


class Failing:
    def __init__(self, at: int, error: int) -> None:
        self.at, self.error, self.ncalls, self.failed = at, error, 0, False

    def __getattr__(self, name: str):
        def call(*args):
            self.ncalls += 1
            if self.ncalls == self.at:
                self.failed = True
                raise OSError(self.error, os.strerror(self.error))
            return getattr(SYSTEM, name)(*args)

        return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_whatever_fails_the_old_records_stay(tmp_path, error):
    old, new = records(5), records(4, 5)
    failed = 0
    for at in range(1, 60):
        path = tmp_path / f"train{at}"
        path.write_bytes(old)
        calls = Failing(at, error)
        committed = False
        out = None
        try:
            out = Appending(str(path), calls, buffer_nbytes=100)
            out.write(new)
            out.commit()
            committed = True
        except OSError as e:
            told = e.errno
            failed += 1
        assert committed or told == error
        if out is not None:
            out.close()
        there = path.read_bytes()
        assert there in ({old + new} if committed else {old, old + new})
        assert mapix.open(path, dialect=14, index="never") is not None
        if not calls.failed:
            break
        # only when the disk refuses even the clearing up does the journal stay, and does its work
        names = set(os.listdir(tmp_path)) - {f"train{k}" for k in range(1, at + 1)}
        assert not names
    assert failed > 5


def test_a_second_writer_is_told_at_once(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(records(5))
    with Appender(path, dialect=14) as out:
        out.append(np.zeros((2, 2), np.uint8))
        with pytest.raises(mapix.LockedError, match="another writer"):
            Appender(path)
        code = (
            "import sys, mapix, mapix.vimh\n"
            "try: mapix.vimh.Appender(sys.argv[1])\n"
            "except mapix.LockedError: print('locked')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "locked\n"
    assert len(mapix.open(path, dialect=14)) == 6


def test_a_file_that_was_replaced_is_not_appended_to(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(records(5))
    other = records(3)
    out = Appender(path, dialect=14)
    (tmp_path / "other").write_bytes(other)
    os.replace(tmp_path / "other", path)
    with pytest.raises(mapix.FileChangedError, match="replaced by another one"):
        out.append(np.zeros((2, 2), np.uint8))
    out.close()
    assert path.read_bytes() == other
    assert os.listdir(tmp_path) == ["train"]


# --- readers --------------------------------------------------------------------------------------


def test_readers_see_what_is_committed(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(records(5))
    with Appender(path, dialect=14) as out:
        out.extend(np.full((3000, 20, 20), 9, np.uint8))  # more than the buffer
        assert path.stat().st_size > len(records(5)) + 1000
        ds = mapix.open(path, dialect=14)
        assert len(ds) == 5
        out.extend(np.full((3000, 20, 20), 9, np.uint8))
        assert len(ds.batch(range(5), pad=True)) == 5  # it changes all the time, behind these
        assert out.commit() == 6005
        assert len(mapix.open(path, dialect=14)) == 6005
        out.append(np.zeros((2, 2), np.uint8))
    assert len(mapix.open(path, dialect=14)) == 6006
    assert tiles(path.read_bytes(), 14) is not None


def test_an_exception_leaves_the_old_records(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(records(5))

    def fail():
        with Appender(path, dialect=14) as out:
            out.extend(np.zeros((3000, 20, 20), np.uint8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == records(5)
    assert os.listdir(tmp_path) == ["train"]


def test_readers_that_open_all_the_time(tmp_path):
    """Opens race with commits of many sizes: each is of a committed number of records."""
    path = tmp_path / "train"
    path.write_bytes(record(4, 4, 1, [], seed=0).pack() * 10)
    committed = {10}
    done = threading.Event()
    bad, opens = [], 0

    def write():
        rng = random.Random(1)
        with Appender(path, dialect=14) as out:
            for _ in range(150):
                k = rng.randrange(1, 60)
                out.extend(np.zeros((k, 4, 4), np.uint8))
                committed.add(out.nrecords + k)
                out.commit()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        with mapix.open(path, dialect=14, index="never", info=False) as ds:
            n = len(ds)
        opens += 1
        if n not in committed:
            bad.append(n)
    thread.join()
    assert opens > 10
    assert not bad


def test_a_dataset_grows_with_its_json(tmp_path):
    folder = tmp_path / "d"
    with Writer(folder, [NOTE]) as out:
        for split in ("train", "test"):
            out.append(np.zeros((4, 4), np.uint8), {"note": 51.0}, split=split)
    with Appender(folder, split="test") as out:
        out.append(np.ones((4, 4), np.uint8), {"note": 52.0})
        out.extend(np.ones((3, 4, 4), np.uint8), {"note": [50.0, 51.0, 52.0]})
        with pytest.raises(ValueError, match="pitch"):
            out.append(np.ones((4, 4), np.uint8), {"pitch": 1.0})
        with pytest.raises(ValueError, match="is open"):
            out.append(np.ones((4, 4), np.uint8), split="train")
    ds = mapix.open(folder, split="test")
    assert ds.labels["note"].physical.tolist() == pytest.approx([51, 52, 50, 51, 52], abs=0.01)
    info = json.loads((folder / "vimh_dataset_info.json").read_text())
    counts = [info[k] for k in ("train_samples", "test_samples", "total_samples", "n_samples")]
    assert counts == [1, 5, 6, 6]
    assert ds.verify().ok
    with Appender(folder) as out:
        out.append(np.ones((5, 4), np.uint8), {"note": 52.0})
    assert mapix.open(folder).info["image_sizes"] == "mixed"
    with Appender(folder):
        pass


def test_what_cannot_be_appended_to(tmp_path):
    golden = Path(__file__).parent / "golden" / "vimh"
    with pytest.raises(FileNotFoundError):
        Appender(tmp_path / "nothing")
    for name in ("train", "train_batch"):
        (tmp_path / name).write_bytes((golden / "mnist_28x28x1_1p" / name).read_bytes())
    with pytest.raises(mapix.UnsupportedError, match="train_batch"):
        Appender(tmp_path)
    with pytest.raises(mapix.UnsupportedError, match="pickle"):
        Appender(tmp_path / "train_batch")
    (tmp_path / "cut").write_bytes(records(5)[:-2])
    with pytest.raises(mapix.TruncatedError):
        Appender(tmp_path / "cut", dialect=14)
    assert (tmp_path / "cut").read_bytes() == records(5)[:-2]
    (tmp_path / "empty").write_bytes(b"")
    with Appender(tmp_path / "empty") as out:
        out.append(np.zeros((2, 2), np.uint8))
    assert mapix.open(tmp_path / "empty", dialect=14).header_nbytes == 14


def test_a_journal_of_another_file_is_not_obeyed(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(records(9))
    Path(journal_of(str(path))).write_bytes(journal.packed(len(records(5)), b"other bytes"))
    assert len(mapix.open(path, dialect=14)) == 9
    Path(journal_of(str(path))).write_bytes(b"noise")
    assert len(mapix.open(path, dialect=14)) == 9
    Path(journal_of(str(path))).write_bytes(b"noise" * 1000)
    assert len(mapix.open(path, dialect=14)) == 9


KILLS = int(os.environ.get("MAPIX_KILLS", "60"))


def test_kill_minus_nine_at_any_moment(tmp_path):
    """Records that were committed are there; none is there in part."""
    rng = random.Random(5)
    path = tmp_path / "train"
    path.write_bytes(b"")

    def append(calls, done):
        with Appender(path, dialect=14, calls=calls) as out:
            for i in itertools.count():
                for k in range(5):
                    out.append(np.full((30, 30), (out.nrecords + k) % 256, np.uint8))
                done.send_bytes(str(out.commit()).encode())
                if i % 7 == 3:
                    out.append(np.zeros((3, 3), np.uint8))
                    out.rollback()

    commits = middle = n = 0
    for turn in range(KILLS):
        reports = killed(append, turn, rng)
        commits += len(reports)
        n = int(reports[-1]) if reports else n
        middle += os.path.exists(journal_of(str(path)))
        ds = mapix.open(path, dialect=14, index="never")
        assert n <= len(ds) <= n + 5
        assert [int(r.image[0, 0, 0]) for r in ds[-40:]] == [
            k % 256 for k in range(max(0, len(ds) - 40), len(ds))
        ]
        assert len(ds) % 5 == 0
        n = len(ds)
    print(commits, "commits,", middle, "of", KILLS, "kills in the middle of one")
    assert commits >= KILLS // 2
    assert middle > 0
