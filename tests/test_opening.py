"""What an open costs: modules that are imported, pages that are read, memory that is released."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix import _native, descriptors, errors
from mapix._native.compiled import fast
from mapix.options import BatchOptions
from mapix.source import Fingerprint, Source, Unmapped, file_map
from mapix.vimh import Parameter, Writer
from records import mapped, settle
from slow_vimh import pack, record

NOT_NEEDED = {
    *("urllib.parse", "ipaddress", "numpy.typing", "numpy.ma", "logging", "ssl"),
    *("concurrent.futures", "asyncio", "tempfile", "importlib.metadata", "hashlib", "decimal"),
    *("mapix.joined", "mapix.loader", "mapix.conversion", "mapix.viewer", "mapix.remote", "PIL"),
    *("mapix.vimh.writer", "mapix.vimh.appender", "mapix.notebook", "mapix.iid.writer"),
    *("mapix.store", "mapix.system_calls", "mapix.statistics", "mapix.report", "mapix.appearance"),
    *("mapix.plans", "mapix.progress", "mapix.operations", "mapix.expression", "threading", "mmap"),
}
OF_BATCHES = {
    *("dataclasses", "json", "mapix.batch", "mapix.assembly", "mapix.columns", "mapix.text"),
    "mapix.options",
}
MODULES = {"vimh": 39, "idx": 31, "npy": 30, "iid": 42, "folder": 73, "tar": 52}
"""Of mapix, that the first open and the first record of a process import, at most.

Each takes 0.2 to 0.3 ms of the first open, wherever it lies.
"""
PAGES = 20  # of a file that is read to open it, and for its first record


def uniform(path: Path) -> None:
    images = np.zeros((17_000, 16, 16, 1), np.uint8)
    with Writer(path, [Parameter("a", 0)]) as out:
        out.extend(images, codes={"a": np.arange(len(images)) % 256})


def test_a_first_open_imports_little(tmp_path):
    uniform(tmp_path / "x")
    (tmp_path / "x" / "train").rename(tmp_path / "vimh")  # an info JSON does need json
    settle(tmp_path / "vimh")
    mapix.open(tmp_path / "vimh")  # its index is stored
    mapix.idx.write(tmp_path / "idx", np.zeros((9, 2, 2), np.uint8))
    with open(tmp_path / "npy", "wb") as out:
        np.save(out, np.zeros((9, 2, 2), np.uint8))
    with mapix.iid.Writer(tmp_path / "iid") as made:
        made.add("cells", "1", mask=np.ones((2, 2), bool))
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "a" / "x.png").write_bytes(b"not decoded")
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "folder" / "a" / "x.png", "x.png")
    code = """
import os, sys, numpy
before = set(sys.modules)
import mapix
for path in sys.argv[1:]:
    if not os.fork():
        mapix.open(path)[0]
        print(os.path.basename(path), *(set(sys.modules) - before), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in MODULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reserves = fast is None or file_map.backend != "mmap"  # memory by Python's mmap
    for line in done.stdout.splitlines():
        name, *loaded = line.split()
        ours = [module for module in loaded if module.split(".")[0] == "mapix"]
        most = MODULES[name] + (2 if fast is None else 0)  # the classes in Python
        most += reserves
        assert len(ours) <= most, (name, len(ours), sorted(ours))
        not_needed = NOT_NEEDED - {"mmap"} if reserves else NOT_NEEDED
        assert sorted(not_needed & set(loaded)) == [], name
        if name not in ("folder", "tar"):
            assert sorted(OF_BATCHES & set(loaded)) == [], name
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(MODULES)


def test_the_contract_names_the_options_of_a_batch():
    """Without the class that has them, which an open does not need."""
    assert BatchOptions._fields == mapix.dataset.OPTIONS
    assert frozenset(BatchOptions._fields) == mapix.Dataset.BATCH_OPTIONS


def resident(path: Path) -> int:
    """Return how many pages of a file are in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as memory:
        view = np.frombuffer(memory, np.uint8)
        flags = (ctypes.c_ubyte * -(-len(view) // mmap.PAGESIZE))()
        failed = libc.mincore(ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(len(view)), flags)
        del view
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(flag & 1 for flag in flags)


def evict(path: Path) -> None:
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def idx(path: Path) -> Path:
    mapix.idx.write(path / "a.idx", np.zeros((5_000, 28, 28), np.uint8))
    return path / "a.idx"


def npy(path: Path) -> Path:
    np.save(path / "a.npy", np.zeros((5_000, 28, 28), np.uint8))
    return path / "a.npy"


def vimh(path: Path) -> Path:
    uniform(path / "vimh")
    settle(path / "vimh" / "train")
    assert not mapix.open(path / "vimh" / "train").index.stored
    return path / "vimh" / "train"


@pytest.mark.maps
@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the kernel takes no advice")
@pytest.mark.parametrize("make", [vimh, idx, npy])
def test_opening_a_cold_file_reads_few_pages(make: Callable[[Path], Path], tmp_path):
    """Readahead, 128 KiB and on some disks megabytes, is off before the first touch of the map."""
    path = make(tmp_path)
    mapix.open(path).close()  # what it imports may take memory
    evict(path)
    if resident(path) > PAGES:
        pytest.skip("the file system keeps the pages of the file")
    ds: Any = mapix.open(path)
    np.asarray(ds[0] if make is not vimh else ds[0].image).sum()
    assert make is not vimh or ds.index.stored
    assert 1 <= resident(path) <= PAGES


@pytest.mark.maps
def test_a_dataset_with_a_stored_index_is_in_no_cycle(tmp_path):
    """Else its files would stay mapped until the garbage collector runs."""
    path = tmp_path / "mixed"
    path.write_bytes(pack([record(2 + i, 2, 1, [(0, 7)]) for i in range(3)]) * 6_000)
    settle(path)
    mapix.open(path)
    gc.collect()
    gc.disable()
    try:
        ds = mapix.open(path)
        assert ds.index.stored_table is not None
        assert ds[16_999].shape == (3, 2, 1)
        assert mapped(path)
        del ds
        assert not mapped(path)
    finally:
        gc.enable()


def test_the_first_bytes_of_a_file_without_a_descriptor(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)))
    source = Source(path)
    fd = descriptors.take(id(source.mapping))
    other = os.open(tmp_path, os.O_RDONLY)
    os.dup2(other, fd)  # another thread opened something under the number that was ours
    os.close(other)
    try:
        assert source.mapping.front() == bytes(range(256))
        assert source.read(250, 6) == bytes(range(250, 256))
    finally:
        os.close(fd)
    with pytest.raises(errors.FormatError, match="6 left"):
        source.read(250, 7)


def test_the_first_bytes_of_a_file_that_changed(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(300))
    source = Source(path)
    path.write_bytes(b"x" * 300)
    os.utime(path, ns=(0, 0))
    assert source.mapping.front() == bytes(300)  # read when it was opened
    with pytest.raises(errors.FileChangedError):
        source.read(0, 10)


@pytest.mark.parametrize("nbytes", [0, 1, 511, 512, 513, 5000])
@pytest.mark.parametrize("nfront", [512, 2048])
def test_one_call_opens_and_describes_a_file(tmp_path, nbytes, nfront):
    path, content = tmp_path / "data", bytes(i % 251 for i in range(nbytes))
    path.write_bytes(content)
    os.utime(path, ns=(5, -7_000_000_001))
    path.chmod(0o640)
    file = _native.OpenFile()
    assert file.open(os.fsencode(path), nfront) == 0
    s = path.stat()
    want = [s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]
    assert list(file.state) == [*want, s.st_mode, s.st_uid, s.st_gid, s.st_nlink]
    assert Fingerprint.of_file(file) == Fingerprint.of(s)
    assert file.front == content[:nfront]
    fd = file.cmap.fd
    assert os.get_inheritable(fd) is False
    assert os.fstat(fd) == s
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert file.cmap.fd == _native.UNCHECKED
    file.close()


def test_what_cannot_be_opened(tmp_path):
    file = _native.OpenFile()
    assert file.open(os.fsencode(tmp_path / "none"), 512) == errno.ENOENT
    with pytest.raises(ValueError, match="null byte"):
        file.open(os.fsencode(tmp_path) + b"\0", 512)
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("", IsADirectoryError), ("pipe", OSError)):
        assert file.open(os.fsencode(tmp_path / name), 512) == 0
        assert file.front is None
        file.close()
        for act in (Source, Unmapped):
            with pytest.raises(OSError, match="not a regular file") as e:
                act(str(tmp_path / name))
            assert act is Source or type(e.value) is kind
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.take(lambda: 1 << 20, 512)


@pytest.mark.skipif(fast is None, reason="mapix._record is not built, or MAPIX_PURE=1")
def test_memory_with_a_file_in_it(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(200)) * 50)
    fd = os.open(path, os.O_RDONLY)
    memory = fast.Memory(fd, 9_000, True)
    os.close(fd)
    assert mapped(path)
    view = memoryview(memory)
    assert view.readonly
    assert bytes(view) == path.read_bytes()[:9_000]
    assert memory.address % mmap.PAGESIZE == 0
    array = np.frombuffer(memory, np.uint8)
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    view.release()
    del memory, view
    assert array[-1] == 8_999 % 200
    del array
    assert not mapped(path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fast.Memory(fd, 9_000, True)
    for nbytes in (0, -1):
        with pytest.raises(ValueError, match="no memory of"):
            fast.Memory(fd, nbytes, True)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the kernel takes no advice")
def test_the_index_is_asked_for_while_the_disk_reads_the_file(tmp_path, monkeypatch):
    path = vimh(tmp_path)
    mapix.open(path)
    asked: list[str] = []
    monkeypatch.setattr(_native, "ask_for", asked.append)
    evict(path)
    file = Unmapped(str(path), wait=False)
    if not file.absent:
        pytest.skip("the file system keeps the pages of the file")
    assert file.front() is None
    file.wait_for_front()
    assert file.front() == path.read_bytes()[:512]
    file.close()
    evict(path)
    ds = mapix.open(path)
    # by the options of an info JSON, which is beside the file
    assert asked == [f"{path}.mapix", ds.index.loaded[0]]
    asked.clear()
    mapix.open(path)
    assert asked == []
