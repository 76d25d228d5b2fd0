"""What a file keeps that is replaced, where relative paths lead, and who else may write."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
import mapix.folder
from interleave import END, Writer, calls_of, hooked
from mapix import system_calls
from mapix.store import SYSTEM, NewDirectory, NewWhole, Spill
from test_writers import KINDS, STORE, WHO, Kind, files, longer, new, once, replaced

EVERY = {**STORE, **KINDS}
PLACES = {  # what a kind replaces, beneath its folder
    "idx": "x.idx",
    "iid": "x.iid",
    "pink": "x.bin",
    "model": "x.json",
    "schedule": "x.json",
    "folder": "f/metadata.jsonl",
    "opsml": "x.jsonl",
    "vimh": "d/vimh_dataset_info.json",
    "replaced": "x",
    "changed": "x",
}
REPLACING = {
    name: PLACES[name.replace(".", " ").split()[0].removesuffix(",")]
    for name, kind in EVERY.items()
    if kind.after in (longer, once, replaced) and name != "vimh.Appender, two splits"
}


def ready(kind: Kind, folder: Path) -> Any:
    for name in kind.needs:
        pytest.importorskip(name)
    folder.mkdir()
    return kind.setup(folder)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("name", REPLACING)
def test_permissions_stay(tmp_path, name, mode):
    kind, place = EVERY[name], tmp_path / "w" / REPLACING[name]
    given = ready(kind, tmp_path / "w")
    place.chmod(mode)
    before = place.stat()
    kind.act(tmp_path / "w", given, "A")
    after = place.stat()
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        for name, replace in (("a", False), ("b", True)):
            with NewWhole(tmp_path / name, replace=replace) as out:
                out.write(b"1")
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
    finally:
        os.umask(old)


def test_nobody_may_read_it_before_it_has_the_permissions_of_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "x").chmod(0o600)
    seen = []

    def like(fd: int, path: str) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        type(SYSTEM).like(fd, path)

    monkeypatch.setattr(SYSTEM, "like", like, raising=False)
    NewWhole(tmp_path / "x", replace=True).abort()
    assert seen == [0o600]


def test_owner_and_group_stay_where_the_system_allows_it(tmp_path, monkeypatch):
    """Another group, which cannot be kept, gets no more than everybody."""
    path = tmp_path / "x"
    path.write_bytes(b"1")
    path.chmod(0o664)
    asked = []
    other = os.stat_result((0, *path.stat()[1:4], 4242, 4343, *path.stat()[6:]))

    def status(what: Any, **options: Any) -> os.stat_result:
        found = real(what, **options)
        return os.stat_result((found[0], *found[1:4], 4242, 4343, *found[6:]))

    def fchown(fd: int, uid: int, gid: int) -> None:
        asked.append((uid, gid))
        raise PermissionError

    real = os.stat
    assert (other.st_uid, other.st_gid) == (4242, 4343)
    fd = os.open(tmp_path / "y", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(system_calls.os, "stat", status)
            patch.setattr(system_calls.os, "fchown", fchown)
            SYSTEM.like(fd, str(path))
        assert asked == [(4242, -1), (-1, 4343)]
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o644
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", REPLACING)
def test_links_are_followed(tmp_path, name):
    kind, place = EVERY[name], tmp_path / "w" / REPLACING[name]
    given = ready(kind, tmp_path / "w")
    target = place.with_name("real" + place.suffix)
    os.rename(place, target)
    place.symlink_to(target.name)
    given = None if name == "iid.edit of one handle" else given  # opened before it was renamed
    kind.act(tmp_path / "w", given, "A")
    assert place.is_symlink()
    assert os.readlink(place) == target.name
    assert not target.is_symlink()
    assert kind.state(tmp_path / "w") != ()


def test_two_writers_that_come_by_a_link_and_by_the_name_meet(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to("x")
    with NewWhole(tmp_path / "x", replace=True) as out:
        out.write(b"2")
        with pytest.raises(mapix.LockedError, match="link: another writer"):
            NewWhole(tmp_path / "link", replace=True)
    assert (tmp_path / "link").read_bytes() == b"2"


def test_links_that_lead_in_circles_and_nowhere(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="a"):
        NewWhole(tmp_path / "a", replace=True)
    (tmp_path / "c").symlink_to("new")
    with pytest.raises(FileExistsError):
        NewWhole(tmp_path / "c")
    with NewWhole(tmp_path / "c", replace=True) as out:
        out.write(b"1")
    assert (tmp_path / "new").read_bytes() == b"1"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "new"]


# --- chdir ----------------------------------------------------------------------------------------


class Elsewhere:
    """The operating system; from the first write on, the process is in another directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        if name == "write":
            os.chdir(self.folder)
        return getattr(SYSTEM, name)


def test_a_relative_path_is_that_of_the_beginning(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    rows = np.ones((2, 3), np.uint8)

    def idx(calls: Any) -> None:
        with mapix.idx.Writer("x.idx", np.uint8, (3,), calls=calls) as out:
            out.extend(rows)

    def idx_append(calls: Any) -> None:
        with mapix.idx.Appender("x.idx", calls=calls) as out:
            out.extend(rows)

    def iid(calls: Any) -> None:
        with mapix.iid.Writer("x.iid", calls=calls) as out:
            out.add("d", "a", rows > 0)
            os.chdir(tmp_path / "there")

    def iid_edit(calls: Any) -> None:
        archive = mapix.open("x.iid")
        os.chdir(tmp_path / "there")
        mapix.iid.edit(archive, meta={"a": 1})

    def shards(calls: Any) -> None:
        with mapix.iid.ShardedWriter("s.iid", full_nbytes=1, calls=calls) as out:
            out.add("d", "a", rows > 0)
            os.chdir(tmp_path / "there")
            out.add("d", "b", rows > 0)

    def pink(calls: Any) -> None:
        mapix.pink.write_data("x.bin", np.ones((3, 4), np.float32), calls=calls)

    def folder(calls: Any) -> None:
        with mapix.folder.Writer("f", calls=calls) as out:
            out.append("a.png", b"bytes")

    def folder_append(calls: Any) -> None:
        with mapix.folder.Appender("f", calls=calls) as out:
            os.chdir(tmp_path / "there")
            out.append("sub/b.png", b"bytes")

    def vimh(calls: Any) -> None:
        with mapix.vimh.Writer("d", calls=calls, index=True) as out:
            out.append(np.ones((2, 2), np.uint8))

    def vimh_append(calls: Any) -> None:
        with mapix.vimh.Appender("d", calls=calls, dialect=14) as out:
            out.append(np.ones((2, 2), np.uint8))
            os.chdir(tmp_path / "there")

    for write in (idx, idx_append, iid, iid_edit, shards, pink, folder, folder_append, vimh):
        monkeypatch.chdir(tmp_path / "here")
        write(Elsewhere(tmp_path / "there"))
    monkeypatch.chdir(tmp_path / "here")
    vimh_append(SYSTEM)
    assert os.listdir(tmp_path / "there") == []
    here = tmp_path / "here"
    assert len(mapix.open(here / "x.idx")) == 4
    assert mapix.open(here / "x.iid").meta == {"a": 1}
    assert len(mapix.open(here / "s-00000-of-00002.iid")) == 2
    assert len(mapix.open(here / "x.bin")) == 3
    assert len(mapix.open(here / "f")) == 2
    assert mapix.open(here / "d").info["train_samples"] == len(mapix.open(here / "d")) == 2
    assert not [name for name in files(here) if ".writing" in name]


def test_messages_say_what_the_user_wrote(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(FileExistsError, match="^x exists already"):
        NewWhole("x")
    with NewWhole("y") as out:
        out.write(b"1")
        with pytest.raises(mapix.LockedError, match="^y: another writer"):
            NewWhole("y")


# --- others, who ask for no lock ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::mapix.MapixWarning")
@pytest.mark.parametrize("name", [name for name, kind in EVERY.items() if kind.after is new])
def test_what_appears_meanwhile_is_not_replaced(tmp_path, name):
    kind = EVERY[name]
    with hooked():
        given = ready(kind, tmp_path / "alone")
        before = set(os.listdir(tmp_path / "alone"))
        calls = calls_of(functools.partial(kind.act, tmp_path / "alone", given, "A"))
        (*_, place) = sorted(set(os.listdir(tmp_path / "alone")) - before)
        for k in range(calls.index("appear") + 1):
            folder = tmp_path / str(k)
            given = ready(kind, folder)
            there = files(folder)
            writer = Writer(functools.partial(kind.act, folder, given, "A"), k)
            writer.run()
            (folder / place).write_bytes(b"somebody else's")
            writer.finish()
            assert isinstance(writer.error, FileExistsError), (k, calls[k], repr(writer.error))
            assert (folder / place).read_bytes() == b"somebody else's"
            assert files(folder) == there | {place}


@pytest.mark.parametrize(
    "name", ["idx.append", "iid.edit", "iid.edit of one handle", "folder.Appender"]
)
@pytest.mark.parametrize("how", ["replaced", "written to"])
def test_what_others_write_meanwhile_stays(tmp_path, name, how):
    """Between any two calls, until the old one was compared for the last time."""
    kind, seen = EVERY[name], 0
    with hooked():
        given = ready(kind, tmp_path / "alone")
        calls = calls_of(functools.partial(kind.act, tmp_path / "alone", given, "A"))
        last = max(k for k, call in enumerate(calls) if call == "rename")
        for k in range(last):
            folder, place = tmp_path / str(k), tmp_path / str(k) / REPLACING[name]
            given = ready(kind, folder)
            there = files(folder)
            writer = Writer(functools.partial(kind.act, folder, given, "A"), k)
            writer.run()
            data = place.read_bytes()
            if how == "replaced":
                (tmp_path / "other").write_bytes(data)
                os.replace(tmp_path / "other", place)
            else:
                os.utime(place, ns=(1, 1))
                place.write_bytes(data)
            before = place.stat()
            writer.finish()
            if writer.error is None:  # it had not read the old one yet
                assert kind.state(folder) == ("A",)
                continue
            seen += 1
            assert isinstance(writer.error, mapix.FileChangedError), repr(writer.error)
            assert place.stat() == before
            assert place.read_bytes() == data
            assert files(folder) == there
    assert seen >= 3


@pytest.mark.parametrize("cut", [0, 5])
def test_a_stage_that_somebody_writes_to_does_not_appear(tmp_path, cut):
    out = NewWhole(tmp_path / "x")
    out.write(b"0123456789")
    out.file.flush()
    os.truncate(tmp_path / ".x.writing", cut)
    with pytest.raises(mapix.FileChangedError, match="10 bytes were written"):
        out.commit()
    assert os.listdir(tmp_path) == []


def test_a_writer_does_not_remove_the_stage_of_another(tmp_path):
    first = NewWhole(tmp_path / "x")
    (tmp_path / ".x.writing").unlink()
    with NewWhole(tmp_path / "x") as second:
        second.write(b"2")
        first.write(b"1")
        first.abort()
        with pytest.raises(mapix.LockedError):
            NewWhole(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"2"
    first = NewDirectory(tmp_path / "d")
    os.rmdir(tmp_path / ".d.writing")
    with NewDirectory(tmp_path / "d") as directory:
        directory.file("a").write(b"2")
        with pytest.raises(mapix.FileChangedError, match="removed"):
            first.commit()
    assert sorted(os.listdir(tmp_path)) == ["d", "x"]
    assert (tmp_path / "d" / "a").read_bytes() == b"2"


def test_a_writer_that_is_closed_writes_no_more(tmp_path):
    out = NewWhole(tmp_path / "x")
    out.write(b"1")
    out.commit()
    out.commit()
    out.abort()
    with pytest.raises(mapix.ClosedError):
        out.write(b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    out = NewWhole(tmp_path / "y")
    out.abort()
    with pytest.raises(mapix.ClosedError):
        out.commit()
    assert os.listdir(tmp_path) == ["x"]


# --- systems that can do less ---------------------------------------------------------------------


@pytest.mark.linux
@pytest.mark.parametrize("name", ["new file", "new directory", "replaced file", "iid.Writer"])
def test_without_files_that_have_no_name_and_without_renameat2(tmp_path, name, monkeypatch):
    monkeypatch.setattr(system_calls, "_renameat2", lambda: None)
    monkeypatch.setattr(system_calls.os, "O_TMPFILE", os.O_DIRECTORY | os.O_APPEND)  # EISDIR
    kind = EVERY[name]
    given = ready(kind, tmp_path / "w")
    (tmp_path / "w" / ".x.writing.aside").write_bytes(b"left by a killed writer")
    kind.act(tmp_path / "w", given, "A")
    assert kind.state(tmp_path / "w") == "A"
    if kind.after is new:
        with pytest.raises(FileExistsError):
            kind.act(tmp_path / "w", given, "B")
        with hooked():
            writer = Writer(functools.partial(kind.act, tmp_path / "w2", given, "B"), END)
            (tmp_path / "w2").mkdir()
            calls = calls_of(functools.partial(kind.act, tmp_path / "w2", given, "A"))
            writer.finish()
            assert isinstance(writer.error, FileExistsError)
            assert "appear" in calls
    left = set() if name != "new directory" and name != "iid.Writer" else {".x.writing.aside"}
    assert {n for n in os.listdir(tmp_path / "w") if n.startswith(".")} == left


def test_what_is_put_aside_vanishes_with_its_writer(tmp_path):
    with NewWhole(tmp_path / "x") as out:
        aside = Spill(out.beside("aside"))
        aside.write(b"1" * 10)
        assert os.listdir(tmp_path) == [".x.writing"]
        assert b"".join(aside.pieces(3)) == b"1" * 10
        aside.drop()
    assert os.listdir(tmp_path) == ["x"]


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    for who in WHO[:2]:
        (tmp_path / f".{who}.writing").write_bytes(b"left")
        (tmp_path / f".{who}.writing").chmod(0o400)
    with NewWhole(tmp_path / "A") as out:
        out.write(b"1")
    with NewDirectory(tmp_path / "B") as directory:  # a file where it makes a directory
        directory.file("a").write(b"1")
    (tmp_path / ".C.writing" / "below").mkdir(parents=True)
    (tmp_path / ".C.writing" / "below" / "x").write_bytes(b"left")
    with NewWhole(tmp_path / "C") as out:  # and the other way round
        out.write(b"1")
    assert sorted(os.listdir(tmp_path)) == ["A", "B", "C"]
