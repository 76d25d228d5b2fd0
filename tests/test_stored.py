"""What is believed of stored indexes: whose they are, of which content, and how far."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mapix
from mapix import _native, cache, descriptors
from mapix.source import SAMPLE_NBYTES, SAMPLES, Source
from mapix.vimh import index_store, layout
from records import content, mapped, never_walk, settle, stored
from slow_vimh import pack, record

LARGE = SAMPLES * SAMPLE_NBYTES
FIELDS = {"head": 7, "ids_differ": 8, "n": 9, "covered": 10, "stride": 11, "at": 12, "h": 13} | {
    "w": 14,
    "c": 15,
    "labels": 16,
    "channels": 17,
    "ids": 18,
    "has": 19,
    "entries_crc": 20,
    "labels_crc": 21,
    "moments_crc": 23,
    "generation": 25,
    "entries_at": 26,
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of others need root to be made")


@pytest.fixture(autouse=True)
def small_files_count(monkeypatch):
    monkeypatch.setattr(index_store, "STORE_NBYTES", 0)


def shape(i: int, *, mixed: bool) -> tuple[int, int]:
    return (3 + i % 5, 4) if mixed else (6, 20)


def records(n: int, *, mixed: bool) -> list:
    return [
        record(*shape(i, mixed=mixed), 1, [(0, i & 255), (1, 7 * i & 255)], seed=i)
        for i in range(n)
    ]


def make(path: Path, n: int = 300, *, mixed: bool = False) -> Path:
    path.write_bytes(pack(records(n, mixed=mixed)))
    return settle(path)


def forge(place: Path, tail: bytes | None = None, **changes: object) -> None:
    """Change fields of an index, and its table, so that all sums are right."""
    raw = place.read_bytes()
    at, size = index_store._PREFIX.size, index_store._FIELDS.size
    fields = list(index_store._FIELDS.unpack(raw[at : at + size]))
    for name, value in changes.items():
        fields[FIELDS[name]] = value
    packed = index_store._FIELDS.pack(*fields)
    prefix = index_store._PREFIX.pack(
        index_store.MAGIC, index_store.VERSION, _native.crc32c(packed)
    )
    body = raw[index_store.HEAD_NBYTES :] if tail is None else tail
    place.write_bytes((prefix + packed).ljust(index_store.HEAD_NBYTES, b"\0") + body)


# --- which content --------------------------------------------------------------------------------


def rewritten(path: Path, at: int, value: bytes, *, replace: bool) -> None:
    """Other bytes at the same size and modification time, in place or as another file."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    if replace:
        new = path.with_name("new")
        new.write_bytes(data)
        new.replace(path)
    else:
        with path.open("r+b") as f:
            f.seek(at)
            f.write(value)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns


def moved_about(path: Path, how: str) -> Path:
    """What leaves size, modification time and bytes; where the file is then."""
    if how == "touch -a":
        times = path.stat()
        os.utime(path, ns=(times.st_atime_ns + 10**9, times.st_mtime_ns))
    elif how == "link":
        os.link(path, path.with_name("link"))
    elif how == "chmod":
        path.chmod(0o600)
    elif how == "backup":
        shutil.copy2(path, path.with_name("saved"))
        path.unlink()
        path.with_name("saved").rename(path)
    elif how == "tar":  # has whole seconds
        whole = path.stat().st_mtime_ns // 10**9 * 10**9
        os.utime(path, ns=(whole, whole))
    elif how == "rename":
        return path.rename(path.with_name("renamed"))
    return path


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("how", ["touch -a", "link", "chmod", "backup", "rename", "tar"])
def test_what_changes_metadata_alone_needs_no_new_index(tmp_path, monkeypatch, how, mixed):
    path = make(tmp_path / "f", 2000, mixed=mixed)
    want = content(mapix.open(path))
    path = moved_about(path, how)
    never_walk(monkeypatch)
    ds = mapix.open(path)
    assert ds.index.stored
    assert content(ds) == want
    assert (ds.batch(range(2000), flat=True).labels == [r.label_bytes for r in ds]).all()
    if not mixed:
        assert ds.images.tobytes() == b"".join(pixels for _, _, pixels, _ in want)
    # labels were read again, and are stored with it: it is this very file's now
    assert ds.labels["param_1"].codes.tolist() == [7 * i & 255 for i in range(2000)]
    time.sleep(cache.racy_for(Source(path)))
    mapix.open(path).labels["param_1"]
    (_,) = stored()
    assert not mapix.open(path).index.sampled


@pytest.mark.parametrize("mixed", [False, True])
def test_a_copy_with_its_index_is_known_and_protected(tmp_path, monkeypatch, mixed):
    (tmp_path / "a").mkdir()
    path = make(tmp_path / "a" / "train", mixed=mixed)
    mapix.index(path)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = tmp_path / "b" / "train"
    want = content(mapix.open(path))
    with monkeypatch.context() as m:
        never_walk(m)
        ds = mapix.open(copy)
        assert ds.index.stored
        assert content(ds) == want
    assert ds.verify().ok
    assert "checksums" in ds.verify().checked
    for target, replace in ((copy, True), (path, False)):
        r = mapix.open(target)[77]
        rewritten(target, r.offset + r.nbytes - 1, bytes([r.image[-1, -1, 0] ^ 1]), replace=replace)
        ds = mapix.open(target)
        assert not ds.index.stored
        assert ds.verify().damaged == [77]


def test_the_same_file_of_another_device_number_is_the_very_file(tmp_path, monkeypatch):
    """Another NFS client numbers its devices otherwise; a change time cannot be set."""
    path = make(tmp_path / "f", 3000)
    place = Path(mapix.index(path))
    fields = list(
        index_store._FIELDS.unpack_from(place.read_bytes(), index_store._PREFIX.size),
    )
    FIELDS["dev"] = 0
    forge(place, dev=fields[0] + 1)
    del FIELDS["dev"]
    never_walk(monkeypatch)
    ds = mapix.open(path)
    assert ds.index.stored
    assert not ds.index.sampled
    assert ds.index.columns is not None


def unsampled(path: Path, wanted) -> int:
    """A byte of a large file that no sample holds, and that is ``wanted``."""
    from mapix.source import sample

    data = path.read_bytes()
    source = Source(path)
    before = sample(source.mapping, len(data))
    source.close()
    times = path.stat()
    for at in wanted:
        with path.open("r+b") as f:
            f.seek(at)
            f.write(bytes([data[at] ^ 1]))
            f.flush()
            same = sample(Source(path).mapping, len(data)) == before
            f.seek(at)
            f.write(data[at : at + 1])
        if same:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            settle(path)
            return at
    raise AssertionError("the samples are everywhere")


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_rewrite_that_no_sample_shows_is_still_found(tmp_path, mixed, replace):
    """Times put back, 128 KiB of a large file compared: what is not confirmed is not believed."""
    n = 8 * LARGE // (139 if not mixed else 39)
    path = make(tmp_path / "f", n, mixed=mixed)
    offsets = [r.offset for r in mapix.open(path, index="never")]
    label = unsampled(path, (offsets[i] + 18 for i in range(n // 2, n, 50)))
    changed = int(np.searchsorted(offsets, label) - 1)
    first = mapix.open(path)
    first.labels["param_1"]
    first.statistics()
    mapix.index(path)
    pixel = mapix.open(path)[changed].image.copy()
    rewritten(path, label, bytes([(7 * changed & 255) ^ 0x55]), replace=replace)
    ds = mapix.open(path)
    assert ds.index.sampled
    want = (7 * changed & 255) ^ 0x55
    assert ds[changed].labels["param_1"] == want
    assert ds.labels["param_1"].codes[changed] == want
    assert (ds[changed].image == pixel).all()
    rewritten(path, label + 1, bytes([pixel[0, 0, 0] ^ 0x80]), replace=replace)
    ds = mapix.open(path)
    fresh = mapix.open(path, index="never").statistics().pixels
    assert (ds.statistics().pixels.mean == fresh.mean).all()


@pytest.mark.parametrize("replace", [False, True])
def test_another_shape_of_the_same_size_that_no_sample_shows(tmp_path, replace):
    n = 8 * LARGE // 139
    path = make(tmp_path / "f", n)
    at = unsampled(path, range(139 * (n // 3 + 7), 139 * n, 139))
    i = at // 139
    mapix.open(path)
    rewritten(path, at, struct.pack("<HH", 20, 6), replace=replace)
    ds = mapix.open(path)
    assert ds.index.sampled
    assert ds[i - 1].shape == (6, 20, 1)
    for view in (lambda: ds[i].image, lambda: ds.images, lambda: ds.label_bytes):
        with pytest.raises(mapix.FormatError, match="index='rebuild'"):
            view()
    assert not ds.verify().ok
    assert mapix.open(path, index="rebuild")[i].shape == (20, 6, 1)


@pytest.mark.parametrize("mixed", [False, True])
def test_of_a_file_that_grew_elsewhere(tmp_path, monkeypatch, mixed):
    path = make(tmp_path / "f", mixed=mixed)
    mapix.index(path)
    more = records(310, mixed=mixed)
    new = tmp_path / "new"
    new.write_bytes(pack(more))
    new.replace(path)
    walked = []
    real = layout.walk
    monkeypatch.setattr(layout, "walk", lambda *a, **k: walked.append(k) or real(*a, **k))
    assert len(mapix.open(path)) == 310
    assert walked[0]["after"] is not None
    new.write_bytes(b"\7" + pack(more)[1:])  # what lies before is not what it was
    new.replace(path)
    walked.clear()
    with pytest.raises(mapix.FormatError):
        mapix.open(path)
    assert [k.get("after") for k in walked] == [None] * len(walked)


# --- whose ----------------------------------------------------------------------------------------


def place_of(path: Path, where: str) -> Path:
    """Where the only stored index of a file is."""
    if where == "beside":
        place = Path(mapix.index(path))
        for other in stored():
            other.unlink()
        return place
    mapix.open(path)
    (place,) = stored()
    return place


@pytest.mark.parametrize("where", ["beside", "cache"])
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646, 0o777, 0o602])
def test_an_index_that_others_may_write_is_not_believed(tmp_path, where, mode):
    path = make(tmp_path / "f")
    place = place_of(path, where)
    assert mapix.open(path).index.stored
    place.chmod(mode)
    assert not mapix.open(path).index.stored
    assert mapix.open(path).index.stored, "a new one was put into the cache"


def test_a_group_that_may_write_the_data_may_write_the_index(tmp_path, monkeypatch):
    """As files are where each user has a group of his own, and the umask is 002."""
    path = make(tmp_path / "f")
    place = place_of(path, "beside")
    monkeypatch.setattr(index_store, "store", lambda *a, **k: None)
    for data, index, believed in (
        (0o664, 0o664, True),
        (0o644, 0o664, False),
        (0o666, 0o666, False),
        (0o666, 0o664, True),
        (0o664, 0o644, True),
    ):
        path.chmod(data)
        place.chmod(index)
        assert mapix.open(path).index.stored == believed, (oct(data), oct(index))
    if os.geteuid() == 0:
        path.chmod(0o664)
        os.chown(place, 0, 65534)
        place.chmod(0o664)
        assert not mapix.open(path).index.stored, "another group"


@pytest.mark.parametrize("where", ["beside", "cache"])
def test_nor_is_one_in_a_folder_where_anybody_replaces_files(tmp_path, monkeypatch, where):
    path = make(tmp_path / "f")
    place = place_of(path, where)
    monkeypatch.setattr(index_store, "store", lambda *a, **k: None)
    for mode, believed in ((0o777, False), (0o1777, True), (0o775, True), (0o755, True)):
        place.parent.chmod(mode)
        assert mapix.open(path).index.stored == believed, oct(mode)


def test_an_index_that_will_not_be_used_is_told_of(tmp_path):
    path = make(tmp_path / "f")
    tmp_path.chmod(0o777)
    for act in (lambda: mapix.index(path), lambda: mapix.open(path).verify()):
        with pytest.warns(mapix.MapixWarning, match="are not used: all users may replace"):
            act()


@needs_root
@pytest.mark.parametrize("where", ["beside", "cache"])
def test_an_index_of_somebody_else_is_not_believed(tmp_path, monkeypatch, where):
    path = make(tmp_path / "f")
    place = place_of(path, where)
    monkeypatch.setattr(index_store, "store", lambda *a, **k: None)
    os.chown(place, 65534, 65534)
    assert not mapix.open(path).index.stored
    os.chown(path, 65534, 65534)  # who owns the data can write what he likes anyway
    assert mapix.open(path).index.stored
    os.chown(place, 65533, 65534)
    assert not mapix.open(path).index.stored
    os.chown(place, 0, 0)
    assert mapix.open(path).index.stored


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002, 0])
def test_stored_files_are_for_colleagues_to_read(tmp_path, monkeypatch, umask, unnamed):
    if not unnamed:
        monkeypatch.setattr(cache, "UNNAMED", "/nothing/there")
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "own" / "cache"))
    before = os.umask(umask)
    try:
        path = make(tmp_path / "f")
        beside, inside = place_of(path, "beside"), place_of(make(tmp_path / "g"), "cache")
    finally:
        os.umask(before)
    for place in (beside, inside):
        assert place.stat().st_mode & 0o777 == 0o644 & ~umask
    assert inside.parent.stat().st_mode & 0o777 == 0o700
    assert mapix.open(path).index.stored
    assert sorted(os.listdir(tmp_path)) == ["f", "f.mapix", "g", "own"]


# --- how far --------------------------------------------------------------------------------------


def truth(path: Path) -> list:
    return content(mapix.open(path, index="never"))


UNIFORM = [
    {"h": 20, "w": 6},
    {"h": 120, "w": 1},
    {"h": 1, "w": 1, "c": 120},
    {"head": 6, "labels": 6},
    {"labels": 0, "h": 124, "w": 1},
    {"n": 0, "covered": 0, "stride": 0},
    {"n": 150, "covered": 150 * 139},
    {"n": 600, "stride": 139 // 2},
    {"at": 139},
    {"stride": 0},
]


@pytest.mark.parametrize("changes", UNIFORM, ids=str)
def test_a_forged_uniform_index_never_gives_other_bytes(tmp_path, changes):
    path = make(tmp_path / "f")
    want = truth(path)
    mapix.open(path)
    (place,) = stored()
    forge(place, **changes)
    ds = mapix.open(path)
    assert content(ds) == want
    assert ds.images.shape == (300, 6, 20, 1)
    assert ds.verify().ok


# Records of the file in the order of a forged table, and those of its rows that have to be refused.
ALL = list(range(300))
FORGED = {
    "a record twice": ([*ALL[:20], 0, *ALL[21:]], [19, 20]),  # seed 2 of the fuzzer
    "two exchanged": ([*ALL[:5], 20, *ALL[6:20], 5, *ALL[21:]], [4, 5, 19, 20]),
    "without the first": (ALL[1:], [0]),
    "without the last": (ALL[:-1], [298]),
    "without one": ([*ALL[:7], *ALL[8:]], [6]),
    "the last one twice": ([*ALL, 299], [299]),
}


@pytest.mark.parametrize("which", FORGED)
def test_a_forged_table_of_right_headers_is_refused_where_it_is_wrong(tmp_path, which):
    """All checksums are right, and each entry is that of a record of the file."""
    order, wrong = FORGED[which]
    path = make(tmp_path / "f", mixed=True)
    want = truth(path)
    mapix.open(path)
    (place,) = stored()
    table = np.frombuffer(place.read_bytes()[index_store.HEAD_NBYTES :], index_store.ENTRY)
    forged = table[order].tobytes()
    forge(place, forged, entries_crc=_native.crc32c(forged), n=len(order))
    ds = mapix.open(path)
    assert ds.index.stored
    for row, record_ in enumerate(order):
        if row in wrong:
            for act in (lambda row=row: ds[row], lambda row=row: ds.batch([row], flat=True)):
                with pytest.raises(mapix.FormatError, match="index='rebuild'"):
                    act()
        else:
            assert content(ds[row : row + 1]) == [want[record_]]
    with pytest.raises(mapix.FormatError):
        content(ds)
    assert f"the index in use has {len(order)} records, the file 300" in str(ds.verify())
    if len(ds) == 300:  # all entries are compared when they are copied
        with pytest.warns(mapix.MapixWarning, match="do not lie one after another"):
            assert ds.offsets.tolist() == [offset for offset, *_ in want]
        assert content(mapix.open(path, index="rebuild")) == want


@pytest.mark.parametrize("channels", [0, 2, 65535])
def test_a_forged_number_of_channels_makes_no_batch(tmp_path, channels):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path)
    (place,) = stored()
    forge(place, channels=channels)
    with pytest.raises(mapix.FormatError, match=f"states {channels} channels, which no record has"):
        mapix.open(path).batch([0, 1], pad=(8, 8))
    ds = mapix.open(path, index="rebuild")
    assert ds.batch([0, 1], pad=(8, 8)).images.shape == (2, 8, 8, 1)


def test_an_index_with_tables_that_are_not_known_is_not_used(tmp_path):
    path = make(tmp_path / "f", mixed=True)
    mapix.open(path)
    (place,) = stored()
    forge(place, has=16)
    assert not mapix.open(path).index.stored


def test_a_stride_is_confirmed_before_the_first_view(tmp_path):
    """The first record agrees, others of the same size do not."""
    path = tmp_path / "f"
    swapped = [record(20, 6, 1, [(0, 1), (1, 2)], seed=i) for i in range(1, 300)]
    path.write_bytes(pack([*records(1, mixed=False), *swapped]))
    settle(path)
    mapix.open(path)
    (place,) = stored()
    forge(place, b"", stride=139, n=300, covered=300 * 139)
    for act in (
        lambda ds: ds[0],
        lambda ds: ds[5].image,
        lambda ds: ds.images,
        lambda ds: ds.label_bytes,
        lambda ds: ds.label_ids,
        lambda ds: next(iter(ds)),
        lambda ds: ds.batch([5]),
    ):
        ds = mapix.open(path)
        assert ds.index.stored
        with pytest.raises(mapix.FormatError, match="index='rebuild'"):
            act(ds)
    assert not mapix.open(path).verify().ok


@pytest.mark.parametrize("mixed", [False, True])
def test_verify_compares_everything_that_is_believed(tmp_path, mixed):
    path = make(tmp_path / "f", mixed=mixed)
    mapix.open(path).statistics()
    mapix.index(path)
    ds = mapix.open(path)
    ds.statistics()  # into the cache, with labels and checksums
    Path(f"{path}.mapix").unlink()
    (place,) = stored()
    good = place.read_bytes()
    report = mapix.open(path).verify()
    assert report.ok
    assert report.checked == ["structure", "labels", "statistics", "checksums"]
    body = good[index_store.HEAD_NBYTES :]
    labels = bytearray(body[:600])
    labels[5] ^= 1
    at = 600 + 300 * 4  # after the labels and the checksums
    moments = bytearray(body[at : at + _native.MOMENTS.itemsize])
    moments[8] ^= 1
    forged_labels = bytes(labels) + body[600:]
    forged_moments = body[:at] + bytes(moments) + body[at + len(moments) :]
    id_2 = (0b101).to_bytes(32, "little")
    for what, tail, changes in (
        ("stored labels", forged_labels, {"labels_crc": _native.crc32c(bytes(labels))}),
        ("labels are damaged", forged_labels, {}),
        ("statistics", forged_moments, {"moments_crc": _native.crc32c(bytes(moments))}),
        ("statistics are damaged", forged_moments, {}),
        ("label ids", None, {"ids": id_2}),
        *([("channels", None, {"channels": 0})] if mixed else []),
    ):
        place.write_bytes(good)
        forge(place, tail, **changes)
        ds = mapix.open(path)
        assert ds.index.stored, what
        report = ds.verify()
        assert not report.ok, what
        assert what in str(report)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_tables_are_those_of_the_index_that_was_opened(tmp_path, held, change):
    """They are mapped when they are used: through the descriptor, else by the path."""
    path = make(tmp_path / "f")
    place = Path(mapix.index(path))
    data = place.read_bytes()
    ds = mapix.open(path)
    assert not mapped(place)
    place.unlink()
    if change == "replaced":
        at = index_store.HEAD_NBYTES
        place.write_bytes(data[:at] + bytes(len(data) - at))
    while not held and descriptors.close_oldest():
        pass
    assert ds.index.checksums is not None
    assert ds.index.checksums.sound() == held
    if not held:
        with pytest.raises(
            mapix.FileChangedError, match="it is a stored index that is in use|since"
        ):
            _ = ds.index.checksums.values
    assert ds.labels["param_1"].codes.tolist() == [7 * i & 255 for i in range(300)]


def test_an_index_is_not_made_of_a_stored_one(tmp_path):
    path = make(tmp_path / "f")
    mapix.open(path)
    (place,) = stored()
    forge(place, ids=(0b111).to_bytes(32, "little"))
    assert mapix.open(path).index.ids == (0, 1, 2)
    mapix.index(path)
    assert mapix.open(path).index.ids == (0, 1)


@pytest.mark.parametrize("mixed", [False, True])
def test_hostile_indexes_take_neither_time_nor_memory(tmp_path, mixed):
    """Any field at its edges, 1 MiB of table: opening, a record, a batch, verify, statistics."""
    import tracemalloc

    path = make(tmp_path / "f", mixed=mixed)
    mapix.open(path)
    (place,) = stored()
    good = place.read_bytes()
    rng = np.random.default_rng(0)
    edges = [0, 1, 255, 65535, 2**32 - 1, 2**47, 2**48 - 1, 2**64 - 1]
    width = {"head": 32, "has": 16} | dict.fromkeys(("h", "w", "c", "labels", "channels"), 16)
    width |= dict.fromkeys(("n", "covered", "stride", "at", "generation", "entries_at"), 64)
    for _ in range(60):
        place.write_bytes(good)
        names = rng.choice(list(width), rng.integers(1, 4), replace=False)
        some = {n: int(rng.choice(edges)) % 2 ** width[n] for n in names}
        tail = rng.bytes(1 << 20) if rng.integers(2) else None
        forge(place, tail, **some)
        began = time.process_time()
        use(path)
        took = time.process_time() - began
        tracemalloc.start()
        use(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 64 << 20, some
        assert took < 1, some


def use(path: Path) -> None:
    """Open a file and use its index in every way; it is refused or not."""
    ds = mapix.open(path)
    for act in (
        lambda: ds[0].image,
        lambda: ds.batch([0], flat=True),
        lambda: ds.batch([0], pad=True),
        lambda: ds.statistics(),
        lambda: ds.verify(),
    ):
        with contextlib.suppress(mapix.MapixError, IndexError):
            act()


# --- kill -9 --------------------------------------------------------------------------------------

KILLED = """
import json, os, signal, sys, time
import mapix
from mapix import cache
from mapix.vimh import index_store
index_store.STORE_NBYTES = 0
path, unnamed, act = sys.argv[1:4]
if unnamed == "named":
    cache.UNNAMED = "/nothing/there"
calls = 0

def dying(function, when):
    def call(*args, **how):
        global calls
        calls += 1
        if calls == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **how)
    return call

class Half:
    def __init__(self, file, when):
        self.file, self.write = file, dying(self.half, when)
        self.flush, self.fileno = file.flush, file.fileno
    def half(self, data):
        self.file.write(memoryview(data)[: len(data) // 2])
        self.file.flush()
        global calls
        calls += 1
        if calls == self.when:
            os.kill(os.getpid(), signal.SIGKILL)
        self.file.write(memoryview(data)[len(data) // 2 :])
    def __enter__(self):
        return self
    def __exit__(self, *why):
        self.file.close()

def run():
    if act == "index":
        mapix.index(path)
    else:
        mapix.open(path, index="rebuild")

for when in range(1, 200):
    child = os.fork()
    if not child:
        real = os.fdopen
        def fdopen(fd, mode, **how):
            half = Half.__new__(Half)
            half.when = when
            half.__init__(real(fd, mode, **how), when)
            return half
        os.fdopen = fdopen
        for name in ("open", "fsync", "link", "unlink", "mkdir", "rename", "write", "close"):
            setattr(os, name, dying(getattr(os, name), when))
        from mapix import system_calls
        for name in ("fsync", "rename", "unlink", "write", "close"):
            setattr(system_calls._System, name, staticmethod(getattr(os, name)))
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    folders = [os.path.dirname(path), cache.cache_folder()]
    left = [sorted(os.listdir(f)) if os.path.isdir(f) else [] for f in folders]
    ds = mapix.open(path)
    seen = [[r.offset, r.image.sum().item(), r.labels] for r in ds]
    labels = ds.labels["param_1"].codes.tolist()
    print(json.dumps([status, left, seen, labels, ds.verify().ok]))
    ds.close()
    if status == 0:
        break
"""


@pytest.mark.parametrize("act", ["index", "open"])
@pytest.mark.parametrize("unnamed", ["unnamed", "named"])
def test_killed_at_any_call_of_storing_an_index(tmp_path, unnamed, act):
    (tmp_path / "d").mkdir()
    path = make(tmp_path / "d" / "f", 50, mixed=True)
    command = [sys.executable, "-c", KILLED, str(path), unnamed, act]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    states = [json.loads(line) for line in done.stdout.splitlines()]
    want = [[r.offset, int(r.image.sum()), r.labels] for r in mapix.open(path, index="never")]
    assert states[-1][0] == 0, "it came to its end at last"
    assert [s[0] for s in states[:-1]] == [9] * (len(states) - 1)
    assert len(states) > 8
    for status, (folder, inside), seen, labels, ok in states:
        assert seen == want
        assert labels == [7 * i & 255 for i in range(50)]
        assert ok
        if unnamed == "unnamed":
            assert set(folder) <= {"f", "f.mapix"}, status
            assert all(name.endswith(".mapix") for name in inside)
    assert set(states[-1][1][0]) == ({"f", "f.mapix"} if act == "index" else {"f"})


def test_what_the_killed_left_in_the_cache_is_cleared(tmp_path):
    folder = Path(cache.cache_folder())
    folder.mkdir(exist_ok=True)
    old = time.time() - 2 * cache.OLD_S
    for name in ("tmpabc.tmp", ".x.mapix.writing", "young.tmp", "x.mapix"):
        (folder / name).write_bytes(b"half")
        if name != "young.tmp":
            os.utime(folder / name, (old, old))
    mapix.open(make(tmp_path / "f"))
    assert len(stored()) == 3
    assert {"young.tmp", "x.mapix"} < {p.name for p in stored()}


def test_two_that_store_at_once(tmp_path, monkeypatch):
    """Another one gives its file the name between our unlink and our link."""
    path = make(tmp_path / "f")
    mapix.index(path)
    good = Path(f"{path}.mapix").read_bytes()
    real, times = os.unlink, []

    def unlink(name, **how):
        real(name, **how)
        if how and len(times) < 3:
            times.append(name)
            (tmp_path / name).write_bytes(b"another's")

    monkeypatch.setattr(os, "unlink", unlink)
    mapix.index(path)
    assert times == ["f.mapix"] * 3
    assert Path(f"{path}.mapix").read_bytes() == good
    assert pickle.loads(pickle.dumps(mapix.open(path))).index.stored
