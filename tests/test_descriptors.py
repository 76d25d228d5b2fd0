"""Any number of files is open with a bounded number of descriptors, and changes are still seen."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fuse_direct
import mapix
import stress_faults
from mapix import _native, descriptors
from mapix.remote.mirror import Mirror
from mapix.rooted import Root
from mapix.source import Mapping, Source, Unmapped, file_map, peek
from records import descriptors as descriptors_open
from slow_vimh import pack, record

SECONDS = float(os.environ.get("MAPIX_FAULT_SECONDS", "1"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Descriptors of three files are kept, and none of what other tests opened."""
    gc.collect()
    while descriptors.close_oldest():
        pass
    monkeypatch.setattr(descriptors, "MOST", 3)
    return 3


def files(folder: Path, n: int) -> list[Path]:
    paths = [folder / f"{i}" for i in range(n)]
    for i, path in enumerate(paths):
        path.write_bytes(pack([record(8, 8, 3, [(0, k)], seed=i * 10 + k) for k in range(5)]))
    return paths


def opened(paths: list[Path]) -> list[Any]:
    return [mapix.open(path, dialect=14, info=False) for path in paths]


def test_a_file_needs_no_descriptor(tmp_path, few):
    paths = files(tmp_path, 20)
    before = descriptors_open()
    many = opened(paths)
    assert descriptors_open() == before + few
    for ds in many:
        assert ds.batch([4]).labels.tolist() == [[4]]
        np.testing.assert_array_equal(ds.batch([2]).images[0], ds[2].image)
        assert ds[3].labels == {"param_0": 3}
    assert descriptors_open() == before + few
    del many, ds
    assert descriptors_open() == before


@pytest.mark.parametrize("how", ["shrink", "tail", "grow", "rewrite", "touch", "replace", "unlink"])
@pytest.mark.parametrize("seen_by", ["descriptor", "path"])
def test_changes_are_seen(tmp_path, few, seen_by, how):
    paths = files(tmp_path, 5)
    many = opened(paths)
    ds, path = (many[-1], paths[-1]) if seen_by == "descriptor" else (many[0], paths[0])
    want = ds.batch([4]).images
    assert (descriptors.held(id(ds.source.mapping)) >= 0) == (seen_by == "descriptor")
    size = path.stat().st_size
    if how in ("shrink", "tail"):
        os.truncate(path, 0 if how == "shrink" else size - 3)
    elif how == "grow":
        with path.open("ab") as f:
            f.write(b"x")
    elif how == "rewrite":
        with path.open("r+b") as f:
            f.write(b"\0")
    elif how == "touch":
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
    elif how == "unlink":
        path.unlink()
    else:
        tmp_path.joinpath("new").write_bytes(path.read_bytes())
        os.replace(tmp_path / "new", path)
    if how in ("replace", "unlink") and seen_by == "descriptor":
        np.testing.assert_array_equal(ds.batch([4]).images, want)  # the old file is there
        return
    for act in (lambda: ds.batch([4]), lambda: ds[2].labels, lambda: ds[2].spec_range):
        with pytest.raises(mapix.FileChangedError, match="open it again") as e:
            act()
        assert e.value.filename == str(path)


@pytest.mark.parametrize("how", ["chmod", "link", "rename the folder and back"])
def test_harmless_changes_are_seen_by_path(tmp_path, few, how):
    folder = tmp_path / "folder"
    folder.mkdir()
    paths = files(folder, 5)
    many = opened(paths)
    want = [ds[4].image.copy() for ds in many]
    if how == "chmod":
        paths[0].chmod(0o600)
    elif how == "link":
        os.link(paths[0], tmp_path / "link")
    else:
        folder.rename(tmp_path / "other")
        with pytest.raises(mapix.FileChangedError, match="can no longer be checked"):
            many[0].batch([4])
        (tmp_path / "other").rename(folder)
    for ds, image in zip(many, want, strict=True):
        np.testing.assert_array_equal(ds.batch([4]).images[0], image)


def test_a_number_that_is_another_files_by_now_is_not_believed(tmp_path, few):
    """Files of one size and one moment: only the inode tells them apart."""
    paths = files(tmp_path, 2)
    for path in paths:
        os.utime(path, ns=(7, 7))
    ds, other = opened(paths)
    mapping = ds.source.mapping
    fd = descriptors.held(id(mapping))
    ds.batch([0])
    descriptors.close(id(mapping))
    again = os.open(paths[1], os.O_RDONLY)
    try:
        assert again == fd
        stale = mapping.cmap
        assert stale.fd == fd
        # as if both had been written in the same moment
        times = os.fstat(again)
        stale.mtime_ns, stale.ctime_ns = times.st_mtime_ns, times.st_ctime_ns
        os.truncate(paths[0], 100)
        with pytest.raises(mapix.FileChangedError, match="had"):
            ds.batch([0])
        assert other.batch([0]).labels.tolist() == [[0]]
    finally:
        os.close(again)


def test_threads_that_take_each_others_descriptors_away(tmp_path, few):
    paths = files(tmp_path, 12)
    many = opened(paths)
    want = [ds[4].image.copy() for ds in many]
    stop, failures = threading.Event(), []

    def read(k: int) -> None:
        rng = np.random.default_rng(k)
        try:
            while not stop.is_set():
                i = int(rng.integers(12))
                np.testing.assert_array_equal(many[i].batch([4]).images[0], want[i])
                again = mapix.open(paths[i], dialect=14, info=False)
                np.testing.assert_array_equal(again.batch([4]).images[0], want[i])
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    stop.wait(1)
    stop.set()
    for t in threads:
        t.join()
    assert not failures


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_fork_has_descriptors_of_its_own(tmp_path, few):
    many = opened(files(tmp_path, 6))
    want = [ds[4].image.copy() for ds in many]
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            ok = False
            try:
                found = [ds.batch([4]).images[0] for ds in many]
                ok = all((a == b).all() for a, b in zip(found, want, strict=True))
                del many[:]  # closes the child's
            finally:
                os._exit(0 if ok else 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0
    for ds, image in zip(many, want, strict=True):
        np.testing.assert_array_equal(ds.batch([4]).images[0], image)


LIMITED = """
import os, resource, sys
import numpy as np
import mapix
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
folder, n = sys.argv[1], int(sys.argv[2])
one = np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6)
mapix.idx.write(folder + "/0.idx", one)
whole = open(folder + "/0.idx", "rb").read()
for i in range(1, n):
    with open(f"{folder}/{i}.idx", "wb") as f:
        f.write(whole[:-2] + i.to_bytes(2, "little"))
many = [mapix.open(f"{folder}/{i}.idx") for i in range(n)]
for i, ds in enumerate(many):
    assert ds.batch([0, 3]).images[1].reshape(-1)[-2:].tobytes() == i.to_bytes(2, "little") or not i
    assert ds[3][-1, -1] == (i >> 8 if i else 143)
print(len(os.listdir("/proc/self/fd")))
"""


def test_five_thousand_files_under_the_usual_limit(tmp_path):
    """The map count is the kernel's next limit, 65,530."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), "5000"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) < 200


def test_folders_need_no_descriptor(tmp_path, few):
    many = []
    before = descriptors_open()
    for i in range(8):
        folder = tmp_path / f"f{i}"
        folder.mkdir()
        (folder / "x").write_bytes(b"%d" % i)
        many.append(Root(folder))
    assert descriptors_open() == before + few
    for _ in range(2):
        assert [root.read("x", 9) for root in many] == [b"%d" % i for i in range(8)]
    assert descriptors_open() == before + few
    (tmp_path / "f0").rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        many[0].read("x", 9)
    (tmp_path / "f0").mkdir()
    (tmp_path / "f0" / "x").write_bytes(b"another")
    with pytest.raises(mapix.FileChangedError, match="another directory"):
        many[0].read("x", 9)
    del many
    assert descriptors_open() == before


def take_all(others: list[int]) -> None:
    """Open files until the process may have no more."""
    while True:
        try:
            others.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return


def test_descriptors_that_others_took_are_made_room_for(tmp_path, few):
    """EMFILE closes what is kept, and only then is an error, which names the file."""
    paths = files(tmp_path, 4)
    many = opened(paths[:3])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = max(map(int, os.listdir("/proc/self/fd"))) + 40
    others: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        take_all(others)
        more = mapix.open(paths[3], dialect=14, info=False)
        for _ in range(len(descriptors._pool)):
            descriptors.close_oldest()
        take_all(others)
        for ds in (*many, more):
            assert ds.batch([4]).labels.tolist() == [[4]]
        for act in (mapix.open, Source, lambda p: peek(p, 5)):
            with pytest.raises(OSError, match="Too many open files") as e:
                act(paths[3])
            assert e.value.filename in (str(paths[3]), paths[3])
        with pytest.raises(OSError, match="Too many open files") as e:
            Root(tmp_path)
        assert str(tmp_path) in str(e.value)
    finally:
        for fd in others:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.maps
def test_a_file_that_has_private_maps_alone(tmp_path, monkeypatch):
    """FUSE with direct I/O: MAP_SHARED is ENODEV."""
    kinds = []
    real = file_map.mapped

    def only_private(nbytes: int, fd: int, path: str, *, shared: bool) -> Any:
        kinds.append(shared)
        if shared:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return real(nbytes, fd, path, shared=False)

    monkeypatch.setattr(file_map, "mapped", only_private)
    (path,) = files(tmp_path, 1)
    ds = mapix.open(path)
    assert kinds[-2:] == [True, False]
    assert ds.batch([3]).labels.tolist() == [[3]]
    with pytest.raises(ValueError, match="WRITEABLE"):
        ds[3].image.flags.writeable = True
    os.truncate(path, 0)
    with pytest.raises(mapix.FileChangedError):
        ds.batch([3])


@contextlib.contextmanager
def mounted(folder: Path, *how: str) -> Iterator[None]:
    """Mount the file system of fuse_direct.py; the test is skipped where that is not allowed."""
    server = subprocess.Popen(
        [sys.executable, fuse_direct.__file__, str(folder), *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = server.stdout.readline().strip()
        if said != "ready":
            pytest.skip(f"no file system can be mounted here: {said}")
        yield
    finally:
        server.communicate("", timeout=60)


def test_a_file_system_with_direct_io(tmp_path):
    """The same with a real one, where this is allowed."""
    with mounted(tmp_path):
        code = """
import errno, mmap, sys, mapix
path = sys.argv[1]
with open(path, "rb") as f:
    try:
        mmap.mmap(f.fileno(), 4096, access=mmap.ACCESS_READ)
    except OSError as e:
        assert e.errno == errno.ENODEV, e
        print("ENODEV")
ds = mapix.open(path)
print(len(ds), ds.batch([99]).images.tobytes() == ds[99].tobytes() == bytes(range(36, 100)))
"""
        path = str(tmp_path / "x.idx")
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, "ENODEV\n100 True\n"), done.stderr


@pytest.mark.maps
def test_a_page_that_the_disk_cannot_deliver(tmp_path):
    """An error that names file, record and byte; the other records are read."""
    with mounted(tmp_path, "broken"):
        ds = mapix.open(tmp_path / "x.idx")
        for use, record in (
            (lambda: ds.batch([0, 70]), 70),
            (lambda: np.asarray(ds), 63),
            (ds.verify, 63),
            (ds.statistics, 63),
            (ds.snapshot, 0),
        ):
            with pytest.raises(OSError, match=f"record {record} at byte") as error:
                use()
            assert error.value.errno == errno.EIO
            assert error.value.filename == str(tmp_path / "x.idx")
            assert "vimh" not in str(error.value)
            assert ds.batch([62]).images.tobytes() == bytes((62 * 64 + k) % 100 for k in range(64))


@pytest.mark.maps
def test_what_cannot_be_mapped_is_named(tmp_path, monkeypatch):
    (path,) = files(tmp_path, 1)

    def refuses(nbytes: int, fd: int, path: str, *, shared: bool) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    before = descriptors_open()
    monkeypatch.setattr(file_map, "mapped", refuses)
    with pytest.raises(OSError, match="cannot map") as e:
        Source(path)
    assert (e.value.errno, e.value.filename) == (errno.ENOMEM, str(path))
    del e
    assert descriptors_open() == before


def test_memory_that_could_not_be_filled_is_as_it_was():
    """A descriptor of a directory cannot be mapped; the reserved memory stays the caller's."""
    import mmap

    memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    buffer = _native.buffer_of(memory)
    fd = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="No such device"):
            _native.map_file(buffer, 4096, fd, shared=True)
    finally:
        os.close(fd)
    assert memory[:] == bytes(4096)


def test_signals_do_not_disturb_opening(tmp_path):
    """Interrupted calls are made again (PEP 475, and our own openat2)."""
    (path,) = files(tmp_path, 1)
    root, hits = Root(tmp_path), []
    before = signal.signal(signal.SIGALRM, lambda *a: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(hits) < 50:
            assert root.nbytes("0") == path.stat().st_size
            assert Source(path).nbytes == path.stat().st_size
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("where", ["builtins", "module", "cycle", "thread"])
def test_nothing_is_said_at_exit(tmp_path, where):
    """Datasets that live until modules are gone."""
    (path,) = files(tmp_path, 1)
    code = f"""
import builtins, sys, threading, mapix
from mapix.rooted import Root
ds, root = mapix.open({str(path)!r}), Root({str(tmp_path)!r})
image = ds[0].image
where = {where!r}
if where == "builtins":
    builtins.kept = ds, root, image
elif where == "module":
    sys.modules["zzz"] = sys.modules["aaa"] = ds
    sys.kept = root
elif where == "cycle":
    class Cycle: pass
    c = Cycle(); c.c, c.ds, c.root = c, ds, root; del c, ds, root
else:
    threading.local().kept = ds, root
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mapping_dies_without_its_modules(tmp_path, monkeypatch):
    (path,) = files(tmp_path, 1)
    before = descriptors_open()
    mapping, root = Source(path).mapping, Root(tmp_path)
    for module in ("mapix.source.file_map", "mapix.rooted", "mapix.descriptors"):
        names = vars(sys.modules[module])
        for name in [n for n in names if not n.startswith("__")]:
            monkeypatch.setitem(names, name, None)
    Mapping.__del__(mapping)
    Root.__del__(root)
    monkeypatch.undo()
    assert descriptors_open() == before


@pytest.mark.maps
def test_a_file_that_is_attacked_while_it_is_checked_by_path(tmp_path, monkeypatch):
    """The kill test without any descriptor."""
    gc.collect()
    while descriptors.close_oldest():
        pass
    monkeypatch.setattr(descriptors, "LEAST", 0)
    monkeypatch.setattr(descriptors, "MOST", 0)
    (path,), least = files(tmp_path, 1), 100
    ds = mapix.open(path)
    assert ds.source.mapping.cmap.fd == _native.BY_PATH
    count = stress_faults.run(tmp_path, SECONDS, least)
    for enough in ("good", "refused", "faults"):
        assert count[enough] >= least, (enough, count)
    for never in ("wrong", "died", "unexpected", "unnamed", "attacker died"):
        assert not count[never], (never, count)


def lost(folder: Path) -> list[str]:
    """Return what below a folder is open by a descriptor that is not in the pool."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing
            path = os.readlink(f"/proc/self/fd/{fd}")
            if path.startswith(str(folder)) and int(fd) not in descriptors._pool.values():
                found.append(path)
    return found


def open_again(root: Root) -> None:
    """Read a file in a directory whose descriptor another thread or the pool has closed."""
    descriptors.close(id(root))
    root.read("below/0", 10_000)


def mapped_later(path: str) -> None:
    """Read the beginning of a file, and then map it."""
    with Unmapped(path) as file:
        file.read(9)
        file.mapped()


def mirror_anew() -> None:
    """Begin the mirror of an object, twice."""
    for _ in range(2):
        folder = Mirror("s3://bucket/object", "tag", 10_000, 4096).folder
        os.unlink(os.path.join(folder, "about.json"))


QUIET = 20  # calls in a row in which nothing failed: there is no n-th allocation any more


@pytest.mark.linux
@pytest.mark.parametrize(
    "begin",
    [
        *("root", "root by components", "again", "file", "in root", "later"),
        # a file object that open() did not return closes itself, and warns
        pytest.param(
            "mirror",
            marks=[
                pytest.mark.filterwarnings("ignore::ResourceWarning"),
                pytest.mark.skipif(
                    sys.version_info[:2] in ((3, 12), (3, 13)),
                    reason="CPython 3.12 and 3.13 crash where a function gets no memory",
                ),
            ],
        ),
    ],
)
def test_no_descriptor_is_lost_when_memory_runs_out(tmp_path, monkeypatch, few, begin):
    """The n-th allocation fails, for each n: no descriptor stays open but those of the pool."""
    memory = pytest.importorskip("_testcapi", reason="needs CPython's own test module")
    (tmp_path / "below").mkdir()
    (path,) = files(tmp_path / "below", 1)
    (tmp_path / "link").symlink_to("below")
    if begin == "root by components":
        monkeypatch.setattr("mapix.rooted._openat2", None)
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "cache"))
    root = Root(tmp_path)
    acts = {
        "root": lambda: Root(tmp_path).read("below/0", 10_000),
        "root by components": lambda: root.first("link/0", 10),
        "again": lambda: open_again(root),
        "file": lambda: Source(path),
        "in root": lambda: Source("link/0", root=root),
        "later": lambda: mapped_later(str(path)),
        "mirror": mirror_anew,
    }
    act = acts[begin]
    act()
    failed, n, well = 0, 0, 0
    while well < QUIET:
        memory.set_nomemory(n, n + 1)
        try:
            act()
            well += 1
        except Exception:  # Python gives other errors, too, when it has no memory
            failed += 1
            well = 0
        finally:
            memory.remove_mem_hooks()
        n += 1
    assert failed > QUIET
    gc.collect()
    assert lost(tmp_path) == []
