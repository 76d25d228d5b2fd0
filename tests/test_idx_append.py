"""Appending to IDX files: the old file or the new one, whatever happens; one writer at a time."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import stat

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.__main__ import main
from mapix.idx import Appender, Writer, append, write
from mapix.store import SYSTEM

IDX = GOLDEN / "idx"


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("code", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("row", [(), (3,), (2, 3)])
def test_as_if_written_at_once(tmp_path, order, code, row):
    rows = np.arange(60).reshape(-1, *row)[:6].astype(code) if row else np.arange(6).astype(code)
    for cut in (0, 2, 5, 6):
        for name, part in (("all", rows), (f"part{cut}", rows[:cut])):
            write(tmp_path / name, part, byteorder=order, replace=True)
        assert append(tmp_path / f"part{cut}", rows[cut:]) == 6
        assert (tmp_path / f"part{cut}").read_bytes() == (tmp_path / "all").read_bytes()
    assert len(os.listdir(tmp_path)) == 5


def test_a_large_one_in_pieces(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (500, 9000), np.uint8)
    write(tmp_path / "x", rows[:300])
    old = mapix.open(tmp_path / "x")
    with Appender(tmp_path / "x") as out:
        out.extend(rows[300:400])
        for row in rows[400:]:
            out.append(row)
        assert out.nrows == 500
        assert len(mapix.open(tmp_path / "x")) == 300  # until it is closed
    assert (mapix.open(tmp_path / "x").view() == rows).all()
    assert (old.view() == rows[:300]).all()  # who has it open goes on reading the old one
    np.testing.assert_array_equal(old.batch([299]).images, rows[299:300])


def test_what_is_refused(tmp_path):
    path = tmp_path / "x"
    write(path, np.zeros((4, 2), np.int16))
    before = path.read_bytes()
    for rows, error in (
        (np.zeros((1, 3), np.int16), "expected, got"),
        (np.full((1, 2), 70_000), "does not hold"),
        (np.zeros((1, 2)), "float64 rows"),
    ):
        with pytest.raises((ValueError, TypeError), match=error):
            append(path, rows)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["x"]
    for name in ("bad_noclose_header0.idx", "hand_trailing_byte.idx", "hand_zero_dims.idx"):
        shutil.copy(IDX / name, tmp_path / "bad")
        with pytest.raises(mapix.FormatError, match="bad"):
            append(tmp_path / "bad", [1])
        assert (tmp_path / "bad").read_bytes() == (IDX / name).read_bytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(before))
    with pytest.raises(mapix.UnsupportedError, match="compressed"):
        append(tmp_path / "x.gz", [[1, 2]])
    with pytest.raises(FileNotFoundError):
        append(tmp_path / "missing", [1])


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "x"
    write(path, np.zeros((4, 2), np.uint8))
    with Appender(path) as out:
        out.append([1, 2])
        with pytest.raises(mapix.LockedError, match="another writer"):
            Appender(path)
        with pytest.raises(mapix.LockedError, match="another writer"):
            Writer(path, np.uint8, (2,), replace=True)
        with pytest.raises(mapix.LockedError, match="another writer"):
            append(path, [[7, 7]])
    assert len(mapix.open(path)) == 5


def test_a_file_that_somebody_else_writes_stays(tmp_path):
    path = tmp_path / "x"
    write(path, np.zeros((4, 2), np.uint8))
    out = Appender(path)
    out.append([1, 2])
    write(tmp_path / "y", np.ones((9, 2), np.uint8))
    os.replace(tmp_path / "y", path)
    with pytest.raises(mapix.FileChangedError, match="replaced"):
        out.close()
    assert len(mapix.open(path)) == 9
    out = Appender(path)
    out.append([1, 2])
    with path.open("r+b") as f:
        f.seek(20)
        f.write(b"\5")
    with pytest.raises(mapix.FileChangedError, match=r"written to|touched"):
        out.close()
    assert len(mapix.open(path)) == 9
    assert os.listdir(tmp_path) == ["x"]


def test_links_permissions_and_neighbours(tmp_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train-images-idx3-ubyte"
    write(path, np.zeros((3, 2, 2), np.uint8))
    write(tmp_path / "data" / "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    labels = (tmp_path / "data" / "train-labels-idx1-ubyte").stat().st_mtime_ns
    assert append(link, np.ones((2, 2, 2), np.uint8)) == 5
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "data" / "train-labels-idx1-ubyte").stat().st_mtime_ns == labels
    with pytest.raises(mapix.FormatError, match="5 images, 3 labels"):
        mapix.open(path)
    assert append(tmp_path / "data" / "train-labels-idx1-ubyte", np.array([7, 8], np.uint8)) == 5
    assert mapix.open(path).batch([4]).labels.tolist() == [8]


def test_nothing_to_append_changes_nothing(tmp_path):
    path = tmp_path / "x"
    write(path, np.zeros((4, 2), np.uint8))
    before = path.stat()
    assert append(path, np.zeros((0, 2), np.uint8)) == 4
    assert path.stat().st_ino == before.st_ino

    def fail():
        with Appender(path) as out:
            out.append([1, 2])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.stat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == ["x"]


class Dying:
    """The operating system, until it has done so many calls; from then on nothing is done."""

    def __init__(self, left: int, *, once: bool) -> None:
        self.left, self.once = left, once
        self.fds: list[int] = []

    def __getattr__(self, name: str):
        call = getattr(SYSTEM, name)

        def run(*args):
            self.left -= 1
            if self.left == -1 or (self.left < 0 and not self.once):
                raise OSError(f"{name} failed")
            found = call(*args)
            if name == "open":
                self.fds.append(found)
            return found

        return run


@pytest.mark.parametrize("once", [True, False], ids=["a call fails", "the process dies"])
def test_every_call_may_be_the_last(tmp_path, once):
    rows = np.arange(16, dtype=np.int16).reshape(8, 2)
    path = tmp_path / "x"
    seen = set()
    for n in range(40):
        write(path, rows[:5], replace=True)
        calls = Dying(n, once=once)
        try:
            with Appender(path, calls=calls) as out:
                out.extend(rows[5:])
            ok = True
        except OSError:
            ok = False
        found = mapix.open(path).view()  # always a whole file
        seen.add((ok, len(found)))
        assert len(found) in (5, 8)
        assert (found == rows[: len(found)]).all()
        assert not ok or len(found) == 8
        if once and not ok:
            assert len(os.listdir(tmp_path)) <= 2  # what the failing call was to remove
        for fd in calls.fds:  # what the death of the process does
            with contextlib.suppress(OSError):
                os.close(fd)
        assert append(path, [[9, 9]]) == len(found) + 1  # and the next writer can work
        assert os.listdir(tmp_path) == ["x"]
    assert (True, 8) in seen
    assert (False, 5) in seen


def test_command(tmp_path, capsys):
    path = tmp_path / "x"
    shutil.copy(IDX / "be_u8_3x4x5.idx", path)
    other = IDX / "le_u8_3x4x5.idx"
    assert main(["idx", "append", str(other), str(other), str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 9 records\n"
    both = mapix.open(path)
    assert both.byteorder == ">"
    assert (both.view()[3:6] == mapix.open(other).view()).all()
    assert main(["idx", "append", str(other), str(IDX / "le_i8_4x3.idx"), str(path)]) == 2
    assert "int8" in capsys.readouterr().err
    assert len(mapix.open(path)) == 9
