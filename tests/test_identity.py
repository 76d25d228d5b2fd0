"""Which file is the same file: pickled datasets find their content again, and no other."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import descriptors
from mapix.source import SAMPLE_NBYTES, SAMPLES, Fingerprint, Source, file_map, same_time, sample
from slow_vimh import pack, record

LARGE = SAMPLES * SAMPLE_NBYTES


def vimh(folder: Path) -> Path:
    path = folder / "train"
    path.write_bytes(pack([record(20, 30, 3, [(0, i & 255)], seed=i) for i in range(100)]))
    return path


def idx(folder: Path) -> Path:
    path = folder / "x.idx"
    mapix.idx.write(path, np.arange(200 * 30 * 30, dtype=np.int32).reshape(200, 30, 30))
    return path


def zipped(folder: Path) -> Path:
    path = folder / "x-images-idx3-ubyte.gz"
    rng = np.random.default_rng(0)
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 200, 30, 30)
    path.write_bytes(gzip.compress(header + rng.bytes(200 * 30 * 30)))
    return path


def iid(folder: Path) -> Path:
    path = folder / "a.iid"
    rng = np.random.default_rng(0)
    with mapix.iid.Writer(path) as out:
        for k in range(20):
            out.add(None, f"s{k}", mask=rng.integers(0, 2, (300, 300)).astype(bool))
    return path


def pink(folder: Path) -> Path:
    path = folder / "p.bin"
    mapix.pink.write_data(path, np.random.default_rng(0).random((40, 64, 64)).astype(np.float32))
    return path


def images(folder: Path) -> Path:
    path = folder / "metadata.jsonl"
    path.write_text(
        "".join(f'{{"file_name": "{i}.png", "k": "{"x" * 500}"}}\n' for i in range(400))
    )
    return path


FAMILIES = [vimh, idx, zipped, iid, pink, images]
HARMLESS = ["touch -a", "link", "unlink", "rename and back", "chmod", "copy"]


def seen(ds: object) -> object:
    return repr(ds), len(ds)  # type: ignore[arg-type]


def change(path: Path, how: str) -> None:
    """Something that leaves size, modification time and bytes as they are."""
    times = path.stat()
    if how == "touch -a":
        os.utime(path, ns=(times.st_atime_ns + 10**9, times.st_mtime_ns))
    elif how == "link":
        os.link(path, path.with_name("link"))
    elif how == "unlink":
        path.with_name("other-link").unlink()
    elif how == "rename and back":
        path.rename(path.with_name("moved"))
        path.with_name("moved").rename(path)
    elif how == "chmod":
        path.chmod(0o600)
    else:  # as a backup that was restored, or the same path on another machine
        shutil.copy2(path, path.with_name("copy"))
        path.unlink()
        path.with_name("copy").rename(path)
    assert path.stat().st_mtime_ns == times.st_mtime_ns


@pytest.mark.parametrize("how", HARMLESS)
@pytest.mark.parametrize("make", FAMILIES, ids=lambda f: f.__name__)
def test_a_pickle_opens_what_has_the_same_content(tmp_path, make, how):
    path = make(tmp_path)
    assert path.stat().st_size > LARGE
    if how == "unlink":
        os.link(path, path.with_name("other-link"))
    ds = mapix.open(path)
    blob, want = pickle.dumps(ds), seen(ds)
    change(path, how)
    again = pickle.loads(blob)
    assert seen(again) == want
    assert pickle.dumps(again)


@pytest.mark.parametrize("make", FAMILIES, ids=lambda f: f.__name__)
def test_a_pickle_refuses_another_file_of_the_same_size_and_time(tmp_path, make):
    path = make(tmp_path)
    blob = pickle.dumps(mapix.open(path))
    times = path.stat()
    for at in (0, path.stat().st_size - 1):  # sampled whatever the size
        data = bytearray(path.read_bytes())
        data[at] ^= 0xFF
        other = path.with_name("other")
        other.write_bytes(data)
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        kept = path.rename(path.with_name("kept"))
        other.rename(path)
        with pytest.raises(mapix.FileChangedError, match="other bytes") as e:
            pickle.loads(blob)
        assert path.name in str(e.value)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        with pytest.raises(mapix.FileChangedError, match="replaced|written"):
            pickle.loads(blob)
        kept.rename(path)
        pickle.loads(blob)


def test_a_file_that_changed_is_not_pickled(tmp_path):
    """Whether its sample was taken before or not."""
    for before in (False, True):
        path = vimh(tmp_path)
        ds = mapix.open(path)
        if before:
            pickle.dumps(ds)
        times = path.stat()
        with path.open("r+b") as f:
            f.write(b"\0")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(mapix.FileChangedError, match="open it again"):
            pickle.dumps(ds)


def test_times_that_an_archive_cut(tmp_path):
    """tar has whole seconds, zip every second one."""
    second = 10**9
    for a, b, same in (
        (5 * second + 7, 5 * second, True),
        (6 * second - 1, 4 * second, True),
        (6 * second, 4 * second, False),
        (5 * second + 7, 5 * second + 6, False),
        (6 * second, 5 * second + 1, False),
        (5 * second, 6 * second + 5, True),
    ):
        assert same_time(a, b) == same_time(b, a) == same
    path = vimh(tmp_path)
    os.utime(path, ns=(0, 1_700_000_001_500_000_000))
    blob = pickle.dumps(mapix.open(path))
    os.utime(path, ns=(0, 1_700_000_001_000_000_000))
    assert len(pickle.loads(blob)) == 100
    os.utime(path, ns=(0, 1_700_000_001_500_000_001))
    with pytest.raises(mapix.FileChangedError):
        pickle.loads(blob)


def test_a_sample_covers_small_files_completely_and_large_ones_evenly(tmp_path):
    path = tmp_path / "f"
    rng = np.random.default_rng(1)
    for nbytes in (0, 1, 4096, LARGE - 1, LARGE, LARGE + 1, LARGE + 9999, 40 * LARGE):
        data = bytearray(rng.bytes(nbytes))
        path.write_bytes(data)
        want = sample(Source(path).mapping, nbytes)
        assert sample(Source(path).mapping, nbytes) == want
        places = range(0, nbytes, 500) if nbytes <= 2 * LARGE else [0, nbytes - 1]
        found = []
        for at in [*places, *([nbytes - 1] if nbytes else [])]:
            data[at] ^= 1
            path.write_bytes(data)
            found.append(sample(Source(path).mapping, nbytes) != want)
            data[at] ^= 1
        if nbytes <= LARGE:
            assert all(found)
        else:
            assert found[0]
            assert found[-1]
    # one block in each stretch: whatever is rewritten for longer than two stretches is seen
    stretch = nbytes // (SAMPLES - 2)
    for begin in range(0, nbytes - 2 * stretch, stretch // 2):
        changed = bytearray(data)
        changed[begin : begin + 2 * stretch] = bytes(2 * stretch)
        path.write_bytes(changed)
        assert sample(Source(path).mapping, nbytes) != want


def test_a_sample_is_of_the_bytes_that_were_there_before_a_file_grew(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 4096)
    want = sample(Source(path).mapping, 1 << 20)
    with path.open("ab") as f:
        f.write(b"more")
    assert sample(Source(path).mapping, 1 << 20) == want


def test_a_sample_is_the_same_without_a_descriptor(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(np.random.default_rng(0).bytes(LARGE + 5000))
    read = Source(path)
    held = descriptors.held(id(read.mapping))
    want = sample(read.mapping, LARGE + 5000)
    monkeypatch.setattr(file_map, "backend", "pread")
    copied = Source(path)
    descriptors.close(id(copied.mapping))
    copied.mapping._describe(
        Fingerprint.of(path.stat())
    )  # with the path in place of the descriptor
    assert sample(copied.mapping, LARGE + 5000) == want
    os.dup2(os.open(os.devnull, os.O_RDONLY), held)  # another thread closed it, and took the number
    assert sample(read.mapping, LARGE + 5000) == want
    with pytest.raises(mapix.FormatError):
        sample(read.mapping, LARGE + 6000)
    with path.open("ab") as f:
        f.write(b"1")
    with pytest.raises(mapix.FileChangedError):
        sample(read.mapping, LARGE)
