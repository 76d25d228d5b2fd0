"""Bytes that are unpacked before they are viewed: gzip, text pickles, and where they go."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import _native, cache
from mapix import unpacked as module
from mapix.idx.gzipped import inflated
from mapix.source import Source
from mapix.unpacked import TRAILER
from records import descriptors

ROWS = np.random.default_rng(0).integers(0, 256, (50, 4, 5), np.uint8)
RAW = bytes([0, 0, 8, 3]) + struct.pack(">3I", *ROWS.shape) + ROWS.tobytes()


def zipped(path: Path, raw: bytes | None = None) -> Path:
    path.write_bytes(gzip.compress(RAW if raw is None else raw, mtime=0))
    return path


def pickled(path: Path) -> Path:
    """As text: protocol 0 holds its arrays so."""
    data = {
        "data": ROWS.reshape(50, 20),
        "vimh_labels": [[1, 0, i] for i in range(50)],
        "scale_factors": np.zeros((50, 2), np.float32),
    }
    path.write_bytes(pickle.dumps(data | {"height": 4, "width": 5, "channels": 1}, 0))
    return path


def images(path: Path) -> np.ndarray:
    ds = mapix.open(path)
    found = ds.batch(range(50)).images
    if hasattr(ds, "labels") and path.name.endswith("batch"):
        assert ds.labels["param_0"].codes.tolist() == list(range(50))
        assert ds[7].spec_range == (0.0, 0.0)
    return found.reshape(50, 4, 5)


def stored() -> list[Path]:
    folder = Path(cache.cache_folder())
    return sorted(folder.glob("*.pixels"))


MAKERS = [(zipped, "x-idx3-ubyte.gz"), (pickled, "train_batch")]
both = pytest.mark.parametrize(("make", "name"), MAKERS, ids=["gzip", "text pickle"])


def not_again(monkeypatch):
    """Whatever is unpacked now is an error."""

    def refuse(*a):
        raise AssertionError("it was unpacked again")

    monkeypatch.setattr(module, "_fill", refuse)


# --- what is believed -----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("how", ["again", "touch -a", "chmod", "copy", "time"])
def test_unpacked_once_for_the_same_content(tmp_path, monkeypatch, make, name, how):
    path = make(tmp_path / name)
    time.sleep(0.06)
    assert (images(path) == ROWS).all()
    times = path.stat()
    if how == "touch -a":
        os.utime(path, ns=(1, times.st_mtime_ns))
    elif how == "chmod":
        path.chmod(0o600)
    elif how == "copy":
        shutil.copy2(path, tmp_path / "new")
        os.replace(tmp_path / "new", path)
    elif how == "time":
        os.utime(path, ns=(5, 5))
    not_again(monkeypatch)
    assert (images(path) == ROWS).all()


@both
@pytest.mark.parametrize("restored", [False, True])
def test_unpacked_again_for_other_content(tmp_path, make, name, restored):
    """Also when one byte changed, in the middle, at the same size and time, a moment ago."""
    global ROWS, RAW
    path = make(tmp_path / name)
    size, times = path.stat().st_size, path.stat()
    assert (images(path) == ROWS).all()
    old = ROWS, RAW
    try:
        for seed in range(1, 200):
            ROWS = np.random.default_rng(seed).integers(0, 256, (50, 4, 5), np.uint8)
            RAW = old[1][:16] + ROWS.tobytes()
            make(path)
            if not restored:
                break
            if path.stat().st_size == size:
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
                break
        assert (images(path) == ROWS).all()
    finally:
        ROWS, RAW = old


@both
def test_damaged_or_foreign_cached_bytes_are_not_believed(tmp_path, make, name):
    path = make(tmp_path / name)
    images(path)
    for place in stored():
        good = place.read_bytes()
        for at in (0, 16, 500, *range(len(good) - TRAILER.size, len(good))):
            bad = bytearray(good)
            bad[min(at, len(good) - 1)] ^= 0x41
            place.write_bytes(bad)
            assert (images(path) == ROWS).all(), at
        for n in (0, 1, TRAILER.size, len(good) - 1):
            place.write_bytes(good[:n])
            assert (images(path) == ROWS).all(), n
        forged = good[:20] + bytes(len(good) - 20 - TRAILER.size)
        fields = list(TRAILER.unpack(good[-TRAILER.size :]))
        fields[-2] = _native.crc32c(forged)
        head = TRAILER.pack(*fields)[:-4]
        forged += head + struct.pack("<I", _native.crc32c(head))
        for mode, believed in ((0o666, False), (0o664, False), (0o646, False)):
            place.write_bytes(forged)
            place.chmod(mode)
            assert (images(path) == ROWS).all() != believed, oct(mode)
            assert place.stat().st_mode & 0o777 == 0o644, "a new one took its place"
        if os.geteuid() == 0:
            place.write_bytes(forged)
            os.chown(place, 65534, 65534)
            assert (images(path) == ROWS).all()


@both
def test_cached_bytes_begin_as_the_file_does(tmp_path, make, name):
    """Forged by ourselves, with all sums right."""
    path = make(tmp_path / name)
    images(path)
    place = max(stored(), key=lambda p: p.stat().st_size)
    good = place.read_bytes()
    body = good[:16] + b"c" * (len(good) - 16 - TRAILER.size)
    fields = list(TRAILER.unpack(good[-TRAILER.size :]))
    fields[-2] = _native.crc32c(body)
    head = TRAILER.pack(*fields)[:-4]
    place.write_bytes(body + head + struct.pack("<I", _native.crc32c(head)))
    assert (images(path) == ROWS).all()
    assert place.read_bytes()[: -TRAILER.size] == good[: -TRAILER.size]


def test_verify_decodes_a_text_pickle_again(tmp_path, monkeypatch):
    monkeypatch.setattr("mapix.vimh.pickles.decode.PIECE_NBYTES", 16)  # only the begin is compared
    path, n = tmp_path / "train_batch", 900
    rows = np.random.default_rng(1).integers(0, 256, (n, 20), np.uint8)
    factors = np.zeros((n, 2), np.float32)
    data = {"data": rows, "vimh_labels": [[0]] * n, "scale_factors": factors}
    path.write_bytes(pickle.dumps(data | {"height": 4, "width": 5, "channels": 1}, 0))
    ds = mapix.open(path)
    assert ds[0].spec_range == (0.0, 0.0)
    assert len(stored()) == 2
    assert ds.verify().ok
    ds.close()
    for place in stored():  # forged by ourselves, with all sums right
        good = place.read_bytes()
        end = len(good) - TRAILER.size
        body = good[: end - 1] + bytes([good[end - 1] ^ 1])
        fields = list(TRAILER.unpack(good[-TRAILER.size :]))
        fields[-2] = _native.crc32c(body)
        head = TRAILER.pack(*fields)[:-4]
        place.write_bytes(body + head + struct.pack("<I", _native.crc32c(head)))
        report = mapix.open(path).verify()
        assert "does not match the pickle" in str(report)
        place.write_bytes(good)
    assert mapix.open(path).verify().ok


# --- no place in the cache ------------------------------------------------------------------------


def full(monkeypatch, code: int) -> list[str]:
    """The cache refuses: when a file is made, when it is written to, when it gets its name."""
    met: list[str] = []
    real = os.open

    def refuse(path, flags, *a, **k):
        if flags & os.O_TMPFILE == os.O_TMPFILE and str(path) == cache.cache_folder():
            met.append("open")
            raise OSError(code, os.strerror(code), path)
        return real(path, flags, *a, **k)

    monkeypatch.setattr(os, "open", refuse)
    return met


@pytest.mark.linux
@both
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_opened_without_a_cache(tmp_path, monkeypatch, make, name, code):
    path = make(tmp_path / name)
    met = full(monkeypatch, code)
    assert (images(path) == ROWS).all()
    assert met
    assert stored() == []
    if name == "train_batch":
        assert mapix.open(path)[3].image.tolist() == ROWS[3][:, :, None].tolist()
    again = pickle.loads(pickle.dumps(mapix.open(path)))
    assert (again.batch(range(50)).images.reshape(50, 4, 5) == ROWS).all()


@both
def test_in_a_cache_where_anybody_replaces_files(tmp_path, monkeypatch, make, name):
    """Nothing of it is used, not even what was written there just now."""
    path = make(tmp_path / name)
    folder = Path(cache.cache_folder())
    folder.chmod(0o777)
    real = os.link

    def link(*a, **how):
        real(*a, **how)
        place = folder / a[1]
        place.write_bytes(bytes(len(place.read_bytes())))

    monkeypatch.setattr(os, "link", link)
    for _ in range(2):
        assert (images(path) == ROWS).all()
    folder.chmod(0o700)
    assert (images(path) == ROWS).all()


@both
@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/nothing"])
def test_opened_with_a_cache_that_cannot_be(tmp_path, monkeypatch, make, name, place):
    monkeypatch.setenv("MAPIX_CACHE_DIR", place)
    assert (images(make(tmp_path / name)) == ROWS).all()


@pytest.mark.linux
@both
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_disk_that_fills_up(tmp_path, monkeypatch, make, name, call):
    """The cache fails in the middle, and then the folder for temporary files does as well."""
    path = make(tmp_path / name)

    def fail(*a, **k):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        real, calls = module._fill, itertools.count()

        def fill(f, *a):
            if next(calls) % 3 < 2:  # cache, disk; memory has room
                f.write(b"some")
                fail()
            return real(f, *a)

        monkeypatch.setattr(module, "_fill", fill)
    else:
        monkeypatch.setattr(os, call, fail)
    fds = descriptors()
    assert (images(path) == ROWS).all()
    assert stored() == []
    assert descriptors() == fds


def test_a_closed_dataset_names_the_compressed_file(tmp_path):
    path = zipped(tmp_path / "x-idx3-ubyte.gz")
    for _ in range(2):  # made, and found in the cache
        ds = mapix.open(path)
        ds.close()
        with pytest.raises(mapix.ClosedError, match=re.escape(str(path))):
            ds.batch([0])


@pytest.mark.linux
def test_no_place_at_all_is_an_error_that_tells_what_to_do(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x-idx3-ubyte.gz")
    full(monkeypatch, errno.EROFS)
    monkeypatch.setattr(module, "MEMORY_NBYTES", 100)
    monkeypatch.setattr(module, "_on_disk", lambda: os.open("/nothing/there", os.O_RDWR))
    with pytest.raises(OSError, match=r"1016 unpacked bytes .*MAPIX_CACHE_DIR or TMPDIR") as e:
        mapix.open(path)
    assert e.value.errno == errno.EROFS
    assert e.value.filename == str(path)


def test_a_source_that_changes_meanwhile_is_not_taken_for_a_full_disk(tmp_path):
    path = zipped(tmp_path / "x-idx3-ubyte.gz", RAW + bytes(1 << 20))
    source = Source(path)
    pieces = inflated(source, "idx")
    os.truncate(path, 100)
    with pytest.raises(mapix.FileChangedError):
        module.cached(source, lambda: pieces, 1016, "idx")


KILLED = """
import os, signal, sys
import mapix
from mapix import cache
calls = 0
when = int(sys.argv[2])
def dying(f):
    def call(*a, **k):
        global calls
        calls += 1
        if calls == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return f(*a, **k)
    return call
from mapix import unpacked
real = unpacked._fill
def fill(f, *a):
    class Half:
        def write(self, data):
            f.write(memoryview(data)[: len(data) // 2])
            f.flush()
            dying(int)()
            return f.write(memoryview(data)[len(data) // 2 :])
    return real(Half(), *a)
unpacked._fill = fill
for name in ("fsync", "link", "unlink", "open"):
    setattr(os, name, dying(getattr(os, name)))
mapix.open(sys.argv[1])
"""


def test_killed_while_the_cache_is_written(tmp_path):
    path = zipped(tmp_path / "x-idx3-ubyte.gz")
    folder = Path(cache.cache_folder())
    for when in range(1, 40):
        for old in stored():
            old.write_bytes(b"an old one")
        done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(when)])
        assert all(p.suffix == ".pixels" for p in folder.iterdir())
        assert (images(path) == ROWS).all()
        if done.returncode == 0:
            break
        assert done.returncode == -9
    assert done.returncode == 0
    assert when > 6
    assert os.listdir(tmp_path) == [path.name]


# --- limits ---------------------------------------------------------------------------------------


def test_more_than_the_limit_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    rows = 4096
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", rows, 256, 256)
    path = tmp_path / "x-idx3-ubyte.gz"
    with gzip.open(path, "wb", 1) as f:
        f.write(head)
        f.write(bytes(1 << 20))
    not_again(monkeypatch)
    with pytest.raises(
        mapix.LimitError, match=r"268435472, above the limit of 67108864 .*gzip -dk"
    ):
        mapix.open(path)
    one_list = b"(dS'data'\n(lp0\n" + b"(lp1\n" + b"I1\na" * 5000 + b"a" + b"g1\na" * 20000 + b"s."
    (tmp_path / "train_batch").write_bytes(one_list)
    with pytest.raises(mapix.LimitError, match="100005000, above the limit"):
        mapix.open(tmp_path / "train_batch", info={"height": 50, "width": 100, "channels": 1})


def members(n: int, piece: bytes) -> bytes:
    return gzip.compress(piece) * n


def stated(nbytes: int) -> bytes:
    return bytes([0, 0, 8, 1]) + struct.pack(">I", nbytes)


BOMBS = {
    "zeros": lambda: gzip.compress(stated((64 << 20) - 8) + bytes((64 << 20) - 8)),
    "more than stated": lambda: gzip.compress(stated(9) + bytes(1 << 28)),
    "4 GiB stated": lambda: gzip.compress(stated(2**32 - 1) + bytes(1 << 26)),
    "empty members": lambda: gzip.compress(b"") * ((1 << 20) // 20),
    "members of a byte": lambda: gzip.compress(stated(40_000)) + gzip.compress(b"1") * 40_000,
    "a long name": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (1 << 20),
    "a long tail": lambda: gzip.compress(stated(0)) + bytes(1 << 20),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_take_neither_time_nor_memory(tmp_path, name):
    data = BOMBS[name]()
    assert len(data) < 1.3 * (1 << 20)
    path = tmp_path / "x-idx1-ubyte.gz"
    path.write_bytes(data)
    code = (
        "import resource, sys, time, warnings, mapix, mapix.idx\n"
        "warnings.simplefilter('ignore')\n"
        "before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()\n"
        "try: mapix.open(sys.argv[1], labels=False); print('opened')\n"
        "except (mapix.MapixError) as e: print(type(e).__name__)\n"
        "took = time.process_time() - began\n"
        "anonymous = [line for line in open('/proc/self/status') if line.startswith('RssAnon')]\n"
        "print(took, anonymous[0].split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    what, figures = done.stdout.splitlines()
    took, anonymous = map(float, figures.split())
    assert took < 1, done.stdout
    assert anonymous < 64 << 10, done.stdout
    written = [p.stat().st_size for p in stored()]
    assert sum(written) <= (64 << 20) + TRAILER.size
    assert what in ("opened", "FormatError", "LimitError", "TruncatedError")


# --- gzip(1) --------------------------------------------------------------------------------------


def pieces_of(raw: bytes, *cuts: int) -> bytes:
    edges = [0, *cuts, len(raw)]
    return b"".join(gzip.compress(raw[a:b]) for a, b in itertools.pairwise(edges))


GOOD = {
    "two members": pieces_of(RAW, 500),
    "many members": pieces_of(RAW, *range(0, 1000, 7)),
    "a header of its own": pieces_of(RAW, 16),
    "an empty member first": gzip.compress(b"") + gzip.compress(RAW),
    "an empty member last": gzip.compress(RAW) + gzip.compress(b""),
    "zeros behind": gzip.compress(RAW) + bytes(4096),
    "zeros behind two": pieces_of(RAW, 500) + bytes(1),
    "stored, not compressed": gzip.compress(RAW, 0),
}


@pytest.mark.parametrize("name", [*GOOD])
@pytest.mark.parametrize("file", ["x-idx3-ubyte.gz", "x.idx.gz", "x-idx3-ubyte", "x", "x.gz"])
def test_members_one_after_another_whatever_the_name(tmp_path, name, file):
    path = tmp_path / file
    path.write_bytes(GOOD[name])
    assert (images(path) == ROWS).all()
    assert gzip.decompress(GOOD[name]) == RAW


RESTS = {
    "text": b"garbage",
    "zeros and text": b"\0\0garbage",
    "half a member's first bytes": b"\x1f",
    "zeros and a member": b"\0" + gzip.compress(b"1"),
}


@pytest.mark.parametrize("name", list(RESTS))
def test_what_is_no_member_is_left_out_and_told(tmp_path, name):
    rest = RESTS[name]
    path = tmp_path / "x-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(RAW) + rest)
    at = len(gzip.compress(RAW))
    with pytest.warns(mapix.MapixWarning, match=f"last {len(rest)} bytes, from byte {at} on"):
        found = images(path)
    assert (found == ROWS).all()


def test_data_in_a_later_member_is_not_passed_over(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    for more in (gzip.compress(b"more"), gzip.compress(b"") + gzip.compress(b"m")):
        path.write_bytes(gzip.compress(RAW) + more)
        with pytest.raises(mapix.FormatError, match="1016 bytes of data expected, more found"):
            mapix.open(path)
    path.write_bytes(gzip.compress(RAW[:-1]) + gzip.compress(b""))
    with pytest.raises(mapix.FormatError, match="1016 bytes of data expected, 1015 found"):
        mapix.open(path)


def test_damaged_members(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    whole = pieces_of(RAW, 500)
    second = len(gzip.compress(RAW[:500]))
    for n in (second + 1, second + 5, second + 12, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:n])
        context = contextlib.nullcontext() if n > second + 1 else pytest.warns(mapix.MapixWarning)
        with context, pytest.raises(mapix.FormatError, match=f"byte {second}|500 found"):
            mapix.open(path)
    for at in (second + 2, second + 14, len(whole) - 6, len(whole) - 2):
        bad = bytearray(whole)
        bad[at] ^= 0xFF
        path.write_bytes(bad)
        with pytest.raises(
            mapix.FormatError, match=f"at byte {second}: a damaged gzip member, or not gzip"
        ):
            mapix.open(path)


def test_members_without_data_are_limited(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"") * 1000 + gzip.compress(RAW))
    assert (images(path) == ROWS).all()
    path.write_bytes(gzip.compress(b"") * 1001 + gzip.compress(RAW))
    with pytest.raises(mapix.LimitError, match="1000 gzip members without data"):
        mapix.open(path)


def test_inflated_in_small_pieces_equals_zlib(tmp_path):
    rng = np.random.default_rng(3)
    raw = b"".join(bytes([k % 7]) * int(n) for k, n in enumerate(rng.integers(0, 9000, 900)))
    path = tmp_path / "x"
    for level in (0, 1, 9):
        parts = [raw[a : a + 300_001] for a in range(0, len(raw), 300_001)]
        path.write_bytes(b"".join(gzip.compress(p, level) for p in parts))
        found = list(inflated(Source(path), "idx"))
        assert b"".join(found) == raw
        assert max(map(len, found)) <= 1 << 20
        assert zlib.crc32(b"".join(found)) == zlib.crc32(raw)


def test_zlib_without_memory_does_not_make_a_file_damaged(tmp_path, monkeypatch):
    class Engine:
        eof = False

        def decompress(self, raw, most):
            raise zlib.error("Error -4 while decompressing data")  # as zlib has it

    source = Source(zipped(tmp_path / "x-idx3-ubyte.gz"))
    monkeypatch.setattr(zlib, "decompressobj", lambda wbits: Engine())
    with pytest.raises(MemoryError):
        list(inflated(source, "idx"))
