"""Whole or not at all: every state that a power cut may leave, and every call that may fail."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest

import mapix
import mapix.vimh
from interleave import killed
from mapix.store import BUFFER_NBYTES, SYSTEM, Descriptor, NewDirectory, NewSet, NewWhole
from model_disk import ModelDisk, below, steps
from records import lacks_memory


def build(path: str, calls, content: dict[str, bytes]) -> None:
    new = NewDirectory(path, calls, buffer_nbytes=300)  # small, so that there are more states
    try:
        for name, data in content.items():
            file = new.file(name)
            for at in range(0, len(data), 700):
                file.write(data[at : at + 700])
        new.commit()
    except BaseException:
        new.abort()
        raise


CONTENT = {f"file{i}": bytes([i + 1]) * size for i, size in enumerate(steps())}


def crashes(tmp_path, leave_out: str, seeds: int) -> tuple[int, int, int]:
    """States looked at; states with a part of the dataset; states without it after commit."""
    path = str(tmp_path / "d")
    disk = ModelDisk(str(tmp_path), leave_out)
    disk.seeds = seeds
    build(path, disk, CONTENT)
    during, disk.crashes = disk.crashes, []
    disk.look()
    torn = sum(below(state, path) not in ({}, CONTENT) for state in during + disk.crashes)
    lost = sum(below(state, path) != CONTENT for state in disk.crashes)
    return len(during) + len(disk.crashes), torn, lost


def test_no_power_cut_leaves_a_part(tmp_path):
    nstates, torn, lost = crashes(tmp_path, "", 80)
    print(nstates, "states")
    assert nstates > 20000
    assert (torn, lost) == (0, 0)


def test_the_model_bites(tmp_path):
    """Without one of the syncs, the same look finds what is wrong."""
    _, torn, _ = crashes(tmp_path, "fsync", 10)
    assert torn > 0
    _, _, lost = crashes(tmp_path, "fsync_directory", 10)
    assert lost > 0


class Failing:
    """The real calls, of which number ``at`` fails."""

    def __init__(self, at: int, error: int, short: bool = False) -> None:
        self.at, self.error, self.ncalls = at, error, 0

    def __getattr__(self, name: str):
        def call(*args):
            self.ncalls += 1
            if self.ncalls == self.at and name not in ("unlink", "rmdir", "rmtree", "close"):
                raise OSError(self.error, os.strerror(self.error))
            return getattr(SYSTEM, name)(*args)

        return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_whatever_fails_nothing_is_left(tmp_path, error):
    path = tmp_path / "d"
    failed = 0
    for at in range(1, 200):
        calls = Failing(at, error)
        try:
            build(str(path), calls, CONTENT)
            found = None
        except OSError as e:
            found = e.errno
        assert found in (None, error)
        failed += found is not None
        if path.exists():  # only the last sync may fail after the rename, and then all is there
            assert {p.name: p.read_bytes() for p in path.iterdir()} == CONTENT
            for p in path.iterdir():
                p.unlink()
            path.rmdir()
        assert list(tmp_path.iterdir()) == []
        if calls.ncalls < at:
            break
    assert failed > 20


def test_the_second_writer_is_told_at_once(tmp_path):
    first = NewDirectory(str(tmp_path / "d"))
    first.file("a").write(b"1")
    with pytest.raises(mapix.LockedError, match="another writer"):
        NewDirectory(str(tmp_path / "d"))
    first.commit()
    assert (tmp_path / "d" / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["d"]


def test_what_a_dead_writer_left_is_cleared_away(tmp_path):
    code = (
        "import sys, time; from mapix.store import NewDirectory\n"
        "new = NewDirectory(sys.argv[1]); new.file('a').write(b'x' * 9); print('on', flush=True)\n"
        "time.sleep(60)"
    )
    path = tmp_path / "d"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"on\n"
        with pytest.raises(mapix.LockedError):
            NewDirectory(str(path))
        process.send_signal(signal.SIGKILL)
    build(str(path), SYSTEM, {"b": b"2"})
    assert os.listdir(path) == ["b"]
    assert os.listdir(tmp_path) == ["d"]


def test_a_stage_that_is_a_link_is_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "keep").write_bytes(b"precious")
    os.symlink(victim, tmp_path / ".d.writing")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        NewDirectory(str(tmp_path / "d"))
    assert (victim / "keep").read_bytes() == b"precious"


KILLS = int(os.environ.get("MAPIX_KILLS", "60"))


def test_kill_minus_nine_at_any_moment(tmp_path):
    """No dataset that was committed is lost, and none is there in part."""
    rng = random.Random(5)
    ncommitted = nparts = 0
    for turn in range(KILLS):
        folder = tmp_path / str(turn)
        folder.mkdir()

        def write(calls, done, folder=folder):
            """Datasets of 30 records, one after the other."""
            for i in itertools.count():
                with mapix.vimh.Writer(folder / f"d{i}", calls=calls) as out:
                    for k in range(30):
                        out.append(np.full((40, 40, 1), (i + k) % 256, np.uint8))
                done.send_bytes(f"d{i}".encode())

        committed = {name.decode() for name in killed(write, turn, rng)}
        there = {name for name in os.listdir(folder) if not name.startswith(".")}
        assert committed <= there
        for name in there:
            ds = mapix.open(folder / name, index="never")
            i = int(name[1:])
            assert [int(r.image[0, 0, 0]) for r in ds] == [(i + k) % 256 for k in range(30)]
            assert ds.info["train_samples"] == 30
        ncommitted += len(committed)
        nparts += any(name.startswith(".") for name in os.listdir(folder))
    print(ncommitted, "datasets committed,", nparts, "of", KILLS, "kills in the middle of one")
    assert ncommitted >= KILLS // 2
    assert nparts > 0


def replaced(tmp_path, leave_out: str, seeds: int) -> tuple[int, int, int]:
    """One file put in the place of another: states, those with a part, those without it after."""
    path, old, new = str(tmp_path / "f"), b"old" * 900, b"newer" * 700
    disk = ModelDisk(str(tmp_path), leave_out)
    disk.put(path, old)
    disk.seeds = seeds
    out = NewWhole(path, disk, replace=True)
    for at in range(0, len(new), 500):
        out.file.write(new[at : at + 500])
        out.file.flush()
    out.commit()
    during, disk.crashes = disk.crashes, []
    disk.look()
    torn = sum(state.get(path) not in (old, new) for state in during + disk.crashes)
    lost = sum(state.get(path) != new for state in disk.crashes)
    return len(during) + len(disk.crashes), torn, lost


def test_one_file_takes_the_place_of_another_whole(tmp_path):
    nstates, torn, lost = replaced(tmp_path, "", 300)
    print(nstates, "states")
    assert nstates > 5000
    assert (torn, lost) == (0, 0)
    assert replaced(tmp_path, "fsync", 30)[1] > 0
    assert replaced(tmp_path, "fsync_directory", 30)[2] > 0


def test_an_array_without_values_writes_nothing(tmp_path):
    """Its memoryview cannot be cast to bytes; an index has such parts."""
    with NewWhole(tmp_path / "x") as out:
        for array in np.zeros((0, 3), np.uint16), np.arange(2, dtype=np.uint8), np.zeros(0):
            out.write(array.data)
    assert (tmp_path / "x").read_bytes() == b"\0\1"


SHARDS = {f"x-{k:05}-of-00003.bin": bytes([k + 1]) * size for k, size in enumerate((700, 0, 1500))}


def build_set(path: str, calls) -> None:
    with NewSet(path, ("x-", ".bin"), calls) as out:
        for name, data in SHARDS.items():
            with NewWhole(os.path.join(out.stage, name), calls) as new:
                new.write(data)


def torn_sets(tmp_path, leave_out: str) -> tuple[int, int, int]:
    """States; those with the first file, but not the set; those without the set after commit."""
    disk = ModelDisk(str(tmp_path), leave_out)
    disk.seeds = 20
    build_set(str(tmp_path / "x.bin"), disk)
    during, disk.crashes = disk.crashes, []
    disk.look()

    def found(state: dict[str, bytes]) -> dict[str, bytes]:
        return {name: data for name, data in below(state, str(tmp_path)).items() if name in SHARDS}

    sets = [found(state) for state in during + disk.crashes]
    torn = sum(next(iter(SHARDS)) in one and one != SHARDS for one in sets)
    lost = sum(found(state) != SHARDS for state in disk.crashes)
    return len(sets), torn, lost


def test_no_power_cut_leaves_the_first_file_of_a_set_without_the_others(tmp_path):
    nstates, torn, lost = torn_sets(tmp_path, "")
    assert nstates > 300
    assert (torn, lost) == (0, 0)
    assert torn_sets(tmp_path, "fsync")[1] > 0  # the model bites
    assert torn_sets(tmp_path, "fsync_directory")[2] > 0


def test_whatever_fails_nothing_of_a_set_is_left(tmp_path):
    failed = 0
    for at in range(1, 200, 5):
        calls = Failing(at, errno.EIO)
        try:
            build_set(str(tmp_path / "x.bin"), calls)
        except OSError:
            failed += 1
        names = sorted(os.listdir(tmp_path))
        assert names in ([], sorted(SHARDS))
        for name in names:  # only the last sync may fail after the set is there
            assert (tmp_path / name).read_bytes() == SHARDS[name]
            (tmp_path / name).unlink()
        if calls.ncalls < at:
            break
    assert failed > 6


def test_a_set_does_not_mix_with_another_one(tmp_path):
    build_set(str(tmp_path / "x.bin"), SYSTEM)
    with pytest.raises(FileExistsError, match="x-00000-of-00003.bin exists already"):
        NewSet(tmp_path / "x.bin", ("x-", ".bin"))
    out = NewSet(tmp_path / "xx.bin", ("xx-", ".bin"))
    with pytest.raises(mapix.LockedError):
        NewSet(tmp_path / "xx.bin", ("xx-", ".bin"))
    (tmp_path / "xx-00000-of-00002.bin").write_bytes(b"another's")
    for name in ("xx-00000-of-00002.bin", "xx-00001-of-00002.bin"):
        with NewWhole(os.path.join(out.stage, name)) as new:
            new.write(b"mine")
    with pytest.raises(FileExistsError, match="xx-00000-of-00002.bin exists already"):
        out.commit()
    assert sorted(os.listdir(tmp_path)) == [*SHARDS, "xx-00000-of-00002.bin"]
    assert (tmp_path / "xx-00000-of-00002.bin").read_bytes() == b"another's"


def test_what_a_killed_writer_moved_is_removed_and_nothing_else(tmp_path):
    class Dies(BaseException):
        pass

    class DiesAt:
        """The real calls, until a number of files was moved to the folder."""

        def __init__(self, left: int) -> None:
            self.left = left

        def __getattr__(self, name: str):
            def call(*args):
                if name == "appear" and os.path.dirname(args[1]) == str(tmp_path):
                    self.left -= 1
                if self.left < 0 and name != "close":  # which gives the lock back
                    raise Dies
                return getattr(SYSTEM, name)(*args)

            return call

    path = str(tmp_path / "x.bin")
    for left in range(4):
        with contextlib.suppress(Dies):
            build_set(path, DiesAt(left))
        there = sorted(name for name in os.listdir(tmp_path) if name in SHARDS)
        assert there == sorted(SHARDS)[3 - left :]
        if left == 1:  # replaced by the user
            (tmp_path / there[0]).unlink()
            (tmp_path / there[0]).write_bytes(b"mine")
            with pytest.raises(FileExistsError, match=there[0]):
                build_set(path, SYSTEM)
            assert (tmp_path / there[0]).read_bytes() == b"mine"
            (tmp_path / there[0]).unlink()
    with pytest.raises(FileExistsError):
        build_set(path, SYSTEM)
    assert sorted(os.listdir(tmp_path)) == sorted(SHARDS)


@pytest.mark.parametrize("name", ["_stamp", "contextlib.suppress"])
def test_a_file_that_appeared_is_not_locked_when_memory_runs_out(tmp_path, monkeypatch, name):
    out = NewWhole(tmp_path / "x")
    out.write(b"new")
    monkeypatch.setattr(f"mapix.store.{name}", lacks_memory)
    try:
        out.commit()
    except MemoryError:
        assert name == "_stamp"
    monkeypatch.undo()
    assert (tmp_path / "x").read_bytes() == b"new"
    NewWhole(tmp_path / "x", replace=True).abort()  # there is no lock


def test_a_writer_that_cannot_be_closed_is_aborted(tmp_path, monkeypatch):
    with pytest.raises(MemoryError), mapix.idx.Writer(tmp_path / "x", np.uint8) as out:
        monkeypatch.setattr("mapix.idx.writer.pack", lacks_memory)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
    del out
    mapix.idx.write(tmp_path / "x", np.zeros(1, np.uint8))


def test_a_writer_that_cannot_be_aborted_keeps_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.store.Stage.check", lacks_memory)
    monkeypatch.setattr("mapix.store.Stage.abandon", lacks_memory)
    with pytest.raises(MemoryError), NewWhole(tmp_path / "x") as out:
        out.write(b"new")
    monkeypatch.undo()
    with pytest.raises(mapix.LockedError):  # it is still there
        NewWhole(tmp_path / "x")
    del out
    NewWhole(tmp_path / "x").abort()
    assert os.listdir(tmp_path) == []


def test_a_descriptor_is_closed_without_memory(tmp_path):
    """When nothing refers to it any longer, and nothing at all can be allocated."""
    without = pytest.importorskip("_testcapi")
    path = str(tmp_path / "x")
    held = Descriptor(SYSTEM, SYSTEM.open, path)
    fd = held.fd
    SYSTEM.lock(fd)
    without.set_nomemory(0)
    del held
    without.remove_mem_hooks()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)
    again = Descriptor(SYSTEM, SYSTEM.reopen, path)
    SYSTEM.lock(again.fd)
    again.close()
    again.close()  # does nothing
    assert again.fd == -1


def test_after_a_write_that_failed_a_file_is_not_finished(tmp_path, monkeypatch):
    """An unknown part of it was written: what is written later would stand at another place."""
    rows = np.arange(8, dtype=np.uint8)
    out = mapix.idx.Writer(tmp_path / "x", np.uint8)
    out.extend(rows)
    with monkeypatch.context() as without:
        without.setattr("mapix.store.NewFile._rest", lacks_memory)
        with pytest.raises(MemoryError):
            out.extend(np.zeros(2 * BUFFER_NBYTES, np.uint8))
    out.extend(rows)
    with pytest.raises(mapix.MapixError, match="writing failed before: MemoryError"):
        out.close()
    assert os.listdir(tmp_path) == []
