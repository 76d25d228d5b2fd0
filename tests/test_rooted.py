"""Names that files tell: nothing outside the folder is opened, and nothing is waited for."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path

import pytest

import mapix
from mapix import rooted
from mapix.rooted import Root
from mapix.source import Source
from records import descriptors

SECRET = b"secret"


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the kernel's own check, and by ours."""
    if request.param == "walk":
        monkeypatch.setattr(rooted, "_openat2", None)
    elif rooted._find_openat2() is None:
        pytest.skip("no openat2 here")
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a").write_bytes(b"A")
    (root / "sub" / "b").write_bytes(b"B")
    (root / "sub" / "deep" / "c").write_bytes(b"C")
    (tmp_path / "outside").write_bytes(SECRET)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(SECRET)
    return root


def read(root: Root, name: str) -> bytes:
    return root.read(name, 1000)


def test_files_beneath(folder, way):
    root = Root(folder)
    for name, data in (
        ("a", b"A"),
        ("./a", b"A"),
        (".//./a", b"A"),
        ("sub/b", b"B"),
        ("sub//b", b"B"),
        ("sub/deep/c", b"C"),
    ):
        assert read(root, name) == data
        assert root.nbytes(name) == 1
        assert bytes(Source(name, root=root).view) == data
    (folder / "é ☃\\n").write_bytes(b"E")
    assert read(root, "é ☃\\n") == b"E"
    with pytest.raises(mapix.LimitError, match="limit of 0"):
        root.read("a", 0)


def test_links_that_stay(folder, way):
    os.symlink("a", folder / "l1")
    os.symlink("../a", folder / "sub" / "l2")
    os.symlink("sub/deep", folder / "l3")
    os.symlink("../../sub/../a", folder / "sub" / "deep" / "l4")
    os.symlink("l1", folder / "l5")
    os.symlink("deep/", folder / "sub" / "l6")
    os.symlink("./././sub", folder / "l7")
    root = Root(folder)
    names = {"l1": b"A", "sub/l2": b"A", "l3/c": b"C", "l3/l4": b"A", "l5": b"A"}
    names |= {"sub/l6/c": b"C", "l7/b": b"B", "l7/l6/l4": b"A"}
    for name, data in names.items():
        assert read(root, name) == data, name


def hostile(folder: Path) -> list[str]:
    outside = folder.parent / "outside"
    links = {
        "abs": str(outside),
        "up": "../outside",
        "upup": "../../../../../../etc/passwd",
        "dir_abs": str(folder.parent / "other"),
        "dir_up": "../other",
        "self_abs": str(folder / "a"),  # absolute, though it leads back
        "root": "/",
        "proc": "/proc/self/root",
        "fd": "/proc/self/fd",
        "dotdot": "..",
        "sub/hop": "../../outside",
        "sub/deep/hop": "../../../outside",
        "chain": "up",
        "mixed": "sub/../../outside",
        "dev": "/dev/zero",
    }
    for name, to in links.items():
        os.symlink(to, folder / name)
    more = ["dir_abs/x", "dir_up/x", "root/etc/passwd", "proc/etc/passwd", "fd/0", "dotdot/outside"]
    more += ["/etc/passwd", str(outside), "../outside", "sub/../../outside", "..", "sub/..", "/"]
    more += ["sub/../a", "//etc/passwd", "a/../../outside", "./../outside", "", "a\0b", "../root/a"]
    more += ["dotdot/dotdot/etc/passwd", "dotdot/root/a"]
    return [*links, *more]


def test_names_that_leave(folder, way):
    root = Root(folder)
    for name in hostile(folder):
        with pytest.raises(OSError, match="leaves the folder") as e:
            read(root, name)
        assert e.value.errno == errno.EXDEV, name
        assert e.value.filename == str(folder)


def test_nothing_outside_is_opened_and_looked_at_afterwards(folder):
    """Our own walk, seen from outside: every directory and file that it opens is beneath."""
    seen = []
    real = os.open

    def spy(path, flags, *args, dir_fd=None, **kw):
        fd = real(path, flags, *args, dir_fd=dir_fd, **kw)
        seen.append(os.readlink(f"/proc/self/fd/{fd}"))
        return fd

    names = hostile(folder)
    root = Root(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooted, "_openat2", None)
        patch.setattr(rooted.os, "open", spy)
        for name in [*names, "sub/deep/c"]:
            try:
                os.close(root.open(name))
            except OSError:
                continue
    assert str(folder / "sub" / "deep" / "c") in seen
    assert all(p == str(folder) or p.startswith(f"{folder}/") for p in seen)


def test_names_that_are_nothing(folder, way):
    os.symlink("nowhere", folder / "dangling")
    os.symlink("loop", folder / "loop")
    root = Root(folder)
    for name, number in (
        ("missing", errno.ENOENT),
        ("missing/x", errno.ENOENT),
        ("a/x", errno.ENOTDIR),
        ("a/", errno.ENOTDIR),
        ("dangling", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("x" * 300, errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError, match=name[:20]) as e:
            read(root, name)
        assert e.value.errno == number, name
    with pytest.raises(OSError, match="not a valid file name"):
        read(root, "\ud800")
    for name in ("sub", "sub/", ".", "./sub/."):
        with pytest.raises(OSError, match="not a regular file"):
            read(root, name)


def test_things_that_are_no_files_are_not_waited_for(folder, way, monkeypatch):
    os.mkfifo(folder / "fifo")
    os.symlink("fifo", folder / "to_fifo")
    server = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(folder)  # a socket's path is short
    server.bind("sock")
    names = ["fifo", "to_fifo", "sock"]
    try:
        os.mknod(folder / "zero", 0o600 | 0o020000, os.makedev(1, 5))
        names.append("zero")
    except PermissionError:
        pass  # only root makes devices
    root, begin = Root(folder), time.monotonic()
    for name in names:
        for do in (lambda n: read(root, n), lambda n: Source(n, root=root)):
            with pytest.raises(OSError, match=name):
                do(name)
    assert time.monotonic() - begin < 5
    server.close()


def test_descriptors_are_given_back(folder, way):
    root = Root(folder)
    names = [*hostile(folder), "a", "sub/deep/c", "missing", "sub"]
    before = descriptors()
    for _ in range(3):
        for name in names:
            try:
                read(root, name)
            except OSError:
                continue
    assert descriptors() == before
    del root
    assert descriptors() == before - 1


def test_links_that_change_while_we_walk(folder, way):
    """A folder that somebody swaps for a link that leaves, all the time."""
    (folder / "d").mkdir()
    (folder / "d" / "x").write_bytes(b"inside")
    (folder.parent / "evil").mkdir()
    (folder.parent / "evil" / "x").write_bytes(SECRET)
    os.symlink("../evil", folder / "l")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(folder / "d", folder / "t")
            os.rename(folder / "l", folder / "d")
            os.rename(folder / "d", folder / "l")
            os.rename(folder / "t", folder / "d")
            time.sleep(1e-4)  # the folder itself is to be met, too

    thread = threading.Thread(target=swap)
    thread.start()
    root, found = Root(folder), {}
    tries, end = 0, time.monotonic() + 60
    try:
        while tries < 3000 or (b"inside" not in found and time.monotonic() < end):
            tries += 1
            try:
                data = read(root, "d/x")
            except OSError as e:
                data = errno.errorcode[e.errno].encode()
            found[data] = found.get(data, 0) + 1
    finally:
        stop.set()
        thread.join()
    assert SECRET not in found
    assert found.get(b"inside", 0) > 0
    assert set(found) <= {b"inside", b"EXDEV", b"ENOENT", b"ELOOP", b"ENOTDIR"}


def test_a_kernel_without_openat2(folder, monkeypatch):
    def refuses(number: int):
        def call(fd: int, name: bytes) -> int:
            raise OSError(number, "no")

        return call

    for number in (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG):
        monkeypatch.setattr(rooted, "_openat2", refuses(number))
        assert read(Root(folder), "sub/b") == b"B"
        assert rooted._openat2 is None
    call = refuses(errno.EAGAIN)
    monkeypatch.setattr(rooted, "_openat2", call)
    assert read(Root(folder), "sub/b") == b"B"
    assert rooted._openat2 is call


def test_a_file_that_changes_while_it_is_read(folder, monkeypatch):
    """What read() gave has to be as long as fstat said."""
    root = Root(folder)
    real = os.read

    def grows(fd: int, n: int) -> bytes:
        with open(folder / "a", "ab") as f:
            f.write(b"more")
        return real(fd, n)

    with monkeypatch.context() as patch:
        patch.setattr(rooted.os, "read", grows)
        with pytest.raises(mapix.FileChangedError, match="while it was read"):
            read(root, "a")
    with monkeypatch.context() as patch:  # a signal may cut a read short
        patch.setattr(rooted.os, "read", lambda fd, n: real(fd, min(n, 2)))
        assert read(root, "a").startswith(b"Amore")
