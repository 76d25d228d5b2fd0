"""Segments two ways: the C types of mapix._record, and the Python that does the same.

The module of the fallback is loaded beside them from the same sources.  Whatever the one returns or
raises, the other has to, for good archives, damaged ones, and after a change of the file.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import mapix
from mapix._native.compiled import fast
from mapix.errors import ClosedError, FileChangedError
from mapix.iid import Writer

pytestmark = pytest.mark.skipif(fast is None, reason="mapix._record is not built, or MAPIX_PURE=1")

ATTRIBUTES = ("key", "domain", "iid", "bbox", "area", "shape", "_row")


def load_pure() -> ModuleType:
    """mapix.iid.opening as it is with MAPIX_PURE=1."""
    chosen = ("mapix.iid", "mapix._native.compiled")
    importlib.import_module("mapix.iid.opening")
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(chosen)}
    before = os.environ.get("MAPIX_PURE")
    os.environ["MAPIX_PURE"] = "1"
    try:
        module = importlib.import_module("mapix.iid.single_archive")
        module.Writer = importlib.import_module("mapix.iid.writer").Writer  # type: ignore[attr-defined]
    finally:
        os.environ.pop("MAPIX_PURE")
        if before is not None:
            os.environ["MAPIX_PURE"] = before
        for name in [name for name in sys.modules if name.startswith(chosen)]:
            del sys.modules[name]
        sys.modules.update(saved)
        for name in chosen:
            parent, _, attribute = name.rpartition(".")
            setattr(sys.modules[parent], attribute, saved[name])
    return module


PURE = load_pure()


def both(path: Path) -> tuple[Any, Any]:
    """The archive with C types, and without."""
    quick, slow = mapix.open(path), PURE.SingleArchive(mapix.source.Source(path))
    assert isinstance(quick[0:1].archive._file, fast.SegmentFile)
    assert not isinstance(slow._file, fast.SegmentFile)
    return quick, slow


def outcome(act: Any, *args: Any, **options: Any) -> Any:
    """What a call returns, or how it fails, in a form that can be compared."""
    try:
        found = act(*args, **options)
    except Exception as e:
        return type(e).__name__, str(e)
    if isinstance(found, np.ndarray):
        return found.dtype.str, found.shape, found.flags.writeable, found.tobytes()
    if isinstance(found, tuple) and any(isinstance(v, np.ndarray) for v in found):
        return [outcome(np.asarray, v) for v in found]
    return found


def seen(segment: Any) -> list[Any]:
    """Everything that a segment states."""
    found = [outcome(getattr, segment, name) for name in ATTRIBUTES]
    h, w = 9, 12
    calls = (
        segment.mask,
        lambda: segment.mask(None, None),
        lambda: segment.mask((3, 4, 3 + h, 4 + w)),
        lambda: segment.mask(bbox=(3, 4, 3 + h, 4 + w), out=np.ones((h, w), np.uint8)),
        lambda: segment.mask(out=np.ones((1, 2), np.float32)),
        lambda: segment.mask((5, 5, 1, 1)),
        lambda: segment.bits,
        lambda: repr(segment.centroid),  # NaN is not NaN
        lambda: [(r.bbox, r.bits.tobytes()) for r in segment.regions],
    )
    return [*found, *map(outcome, calls), repr(segment)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(7)
    found = tmp_path_factory.mktemp("types") / "a.iid"
    with Writer(found) as out:
        for i in range(60):
            mask = rng.random((int(rng.integers(0, 20)), int(rng.integers(1, 90)))) < 0.5
            iid: Any = "ü" * (i % 7) if i % 3 else bytes([i % 5])
            out.add(b"d%d" % (i % 4), iid, mask, at=(int(rng.integers(0, 50)), i))
        out.add("d", b"x" * 600, np.ones((2, 2), bool))  # a long name,
        out.add("", b"large", np.ones((200, 300), bool), at=(1, 2))  # a large mask,
        for _ in range(70):  # and a name of many segments
            out.add("", b"often", np.eye(3, dtype=bool), at=(60, 60))
    return found


def test_every_attribute_is_the_same(path: Path) -> None:
    quick, slow = both(path)
    for warm in (False, True):
        for row in range(warm, len(slow), 2):
            assert seen(quick[row]) == seen(slow[row]), row
        if not warm:
            assert np.array_equal(quick.bboxes, slow.bboxes)  # the heads are now in memory
    assert [s.key for s in quick] == list(range(len(slow)))


def test_every_query_is_the_same(path: Path) -> None:
    quick, slow = both(path)
    names: list[Any] = [*quick.names(), (b"d1", b"none"), (b"", b""), ("d1", "ü"), ("d", "\ud800")]
    names += [(5, b"a"), (b"d", 5.0), (bytearray(b"d"), b"a")]
    places: list[Any] = [(60, 61), (0, 0), (-1, 5), (65534, 65534), (65535, 0), (True, 3)]
    places += [(np.int64(60), 60), (1 << 70, 3), (2.5, 3), ([1, 2], [3, 4])]
    boxes: list[Any] = [(0, 0, 99, 99), (-5, -5, 1 << 70, 70000), (60, 60, 61, 61), (3, 3, 3, 9)]
    boxes += [(9, 9, 1, 1), [0, 0, 9, 9], (0, 0, 9), (0.5, 0, 9, 9), np.array([0, 0, 9, 9])]
    listed: list[Any] = [[], [b"often", b"none", "ü"], (b"often",), np.array([b"often", b"no"])]
    listed += [["often", 3], [b"", ""]]
    for _ in range(2):  # before the tables are made, and with them
        for domain, iid in names:
            assert outcome(quick.find, domain, iid) == outcome(slow.find, domain, iid), iid
        for domain in (b"", "d1", 7):
            for iids in listed:
                assert outcome(quick.find, domain, iids) == outcome(slow.find, domain, iids), iids
        for k in range(4):
            options = {"exact": bool(k & 1), "topmost": bool(k & 2)}
            for x, y in places:
                one, two = (outcome(a.at, x, y, **options) for a in (quick, slow))
                assert one == two, (x, y, options)
            for box in boxes:
                one, two = (outcome(a.region, box, **options) for a in (quick, slow))
                assert one == two, (box, options)
    assert len(quick.find("", b"often")) == 70
    assert quick.at(60, 60).tolist()[-70:] == quick.find("", b"often").tolist()


def test_rows_out_of_range(path: Path) -> None:
    quick, slow = both(path)
    n = len(slow)
    for row in (n, -1, 1 << 40, 1 << 70, 2.5, None):
        for name in ("head", "name", "own_mask"):
            one, two = (outcome(getattr(a._file, name), row) for a in (quick, slow))
            assert isinstance(one, tuple), (row, name, one)
            assert one == two, (row, name)
    with pytest.raises(IndexError, match=f"segment {n} of {n}"):
        type(quick[0])(quick._file, n)
    assert type(quick[0])(quick._file, np.uint32(3), 9).key == 9


def test_damaged_segments(path: Path, tmp_path: Path) -> None:
    raw = path.read_bytes()
    rng = np.random.default_rng(3)
    damaged = tmp_path / "b.iid"
    for _ in range(25):
        new = bytearray(raw)
        for at in rng.integers(48, len(raw), 60).tolist():
            new[at] ^= 1 << int(rng.integers(0, 8))
        damaged.write_bytes(new)
        quick, slow = both(damaged)
        for row in range(0, len(slow), 3):
            one, two = quick[row], slow[row]
            for name in ATTRIBUTES:
                assert outcome(getattr, one, name) == outcome(getattr, two, name), (row, name)
            assert outcome(one.mask) == outcome(two.mask), row
        for domain in (b"d1", b""):
            assert outcome(quick.find, domain, b"often") == outcome(slow.find, domain, b"often")
        assert outcome(quick.at, 61, 61) == outcome(slow.at, 61, 61)


def test_a_harmless_change_and_a_real_one(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "c.iid"
    copy.write_bytes(path.read_bytes())
    a = mapix.open(copy)
    segment = a[3]
    want = segment.mask()
    name, box = a.name(3), segment.bbox
    a.at(1, 1)
    a.find(*name)
    keys, at = a.find(*name).tolist(), a.at(60, 60).tolist()
    before = a.source.mapping.cmap
    os.chmod(copy, 0o640)
    assert (segment.mask() == want).all()
    assert a.source.mapping.cmap is not before
    calls = []
    original = type(a._file)._own_mask
    try:
        type(a._file)._own_mask = lambda self, row: calls.append(row) or original(self, row)
        assert (segment.mask() == want).all()
    finally:
        type(a._file)._own_mask = original
    assert not calls  # the C type has taken the new map
    os.chmod(copy, 0o600)
    assert a.find(*name).tolist() == keys
    os.chmod(copy, 0o640)
    assert a.at(60, 60).tolist() == at
    os.chmod(copy, 0o600)
    assert a.name(3) == name
    assert segment.bbox == box
    with open(copy, "r+b") as file:
        file.truncate(100)
    for act in (segment.mask, lambda: a.name(3), lambda: a.find(*name), lambda: a.at(60, 60)):
        with pytest.raises(FileChangedError, match=r"c\.iid"):
            act()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_closed_archive(path: Path) -> None:
    """In a child, because reading what is unmapped ends a process."""
    a = mapix.open(path)
    segment, name = a[3], a.name(3)
    a.at(1, 1)
    a.find(*name)
    a.close()
    child = os.fork()
    if child == 0:
        refused = 0
        for act in (segment.mask, lambda: a.name(3), lambda: a.find(*name), lambda: a.at(60, 60)):
            try:
                act()
            except ClosedError as e:
                refused += "closed" in str(e)
            except BaseException:
                os._exit(9)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_no_memory_for_the_map_after_a_harmless_change(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "c.iid"
    copy.write_bytes(path.read_bytes())
    a = mapix.open(copy)
    name, keys, at = a.name(3), a.find(*a.name(3)).tolist(), a.at(60, 60).tolist()
    os.chmod(copy, 0o640)
    a[3].mask()
    kind, tried = type(a._file), []

    def point(self: Any) -> None:
        tried.append(1)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_point", point)
        assert a.name(3) == name
        assert a.find(*name).tolist() == keys
        assert a.at(60, 60).tolist() == at
    assert tried
    tried.clear()
    assert a.name(3) == name
    monkeypatch.setattr(kind, "_name", None)  # by the C type again
    assert a.name(3) == name
    assert not tried


def test_life(path: Path) -> None:
    a = mapix.open(path)
    segment = a[5]
    again = pickle.loads(pickle.dumps(segment))
    assert (again.key, again.iid, again.bbox) == (5, segment.iid, segment.bbox)
    want = segment.mask()
    del a
    gc.collect()
    assert (segment.mask() == want).all()
    for name in ("key", "_row", "bbox", "other"):
        with pytest.raises(AttributeError):
            setattr(segment, name, 1)
    with pytest.raises(TypeError):
        segment.mask(1, 2, 3)
    file = segment._file
    with pytest.raises(ValueError, match="attached once"):
        file._attach(object(), object(), 0, 0, (0,) * 6)


def test_closing_while_threads_read(path: Path) -> None:
    want = mapix.open(path)[60 - 1].mask()
    for _ in range(30):
        a = mapix.open(path)
        segment, wrong = a[60 - 1], []

        def read(segment: Any = segment, wrong: list[Any] = wrong) -> None:
            try:
                while True:
                    if (segment.mask() != want).any():
                        wrong.append(segment)
            except ClosedError:
                pass

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        a.close()
        for thread in threads:
            thread.join()
        assert not wrong


def written(path: Path, writer: Any, *, large: bool) -> tuple[list[Any], bytes]:
    """What each call of a writer returns or raises, and the file."""
    rng = np.random.default_rng(11)
    found: list[Any] = []
    with writer(path, {"a": 1}, index=True) as out:
        add = lambda *args, **options: found.append(outcome(out.add, *args, **options))  # noqa: E731
        for i in range(200):
            mask = rng.random((int(rng.integers(0, 40)), int(rng.integers(0, 60)))) < rng.random()
            add(f"d{i % 3}", f"s{i}", mask, at=(i, 2 * i))
            add(
                None,
                b"\xff%d" % i,
                mask.view(np.uint8) * (i % 3 + 1),
                groups=["even", "even", "ü"][: i % 4],
            )
        ones = np.ones((3, 4), bool)
        for args in (
            ("d", "i", ones[:, ::2]),
            ("d", "i", ones.T),
            ("d", "i", ones.astype(np.int64)),
            ("d", "i", ones.tolist()),
            ("d", "i", ones.view(np.int8)),
            ("d", "i", ones[0]),
            ("d", "i", np.ma.masked_array(ones)),
            ("d", "i", None),
            ("d", None, ones),
            (5, "i", ones),
            ("\ud800", "i", ones),
            ("d", bytearray(b"i"), ones),
            ("d" * 20_000, "i", ones),
            ("d", "i", np.arange(16000, dtype=np.uint8).reshape(100, 160)),
            ("d", "i", np.ones((200, 300), bool)),
            ("d", "i", np.zeros((0, 5), bool)),
            ("d", "i", np.ones((1, 0), bool)),
            ("d", "i", np.zeros((0, 70_000), bool)),
        ):
            add(*args)
        for at in (
            (1, 2),
            [1, 2],
            (np.int64(1), 2),
            (True, 2),
            (-1, 2),
            (65533, 0),
            (65532, 65531),
            (1 << 70, 0),
            (1.5, 2),
            (1, 2, 3),
            4,
        ):
            add("d", "at", ones, at=at)
        for groups in ((), [], ["g"], "g", [b"g"], iter(["g", "h"]), None, np.array(["g"])):
            add("d", "groups", ones, groups=groups)
        add("d", "both", ones, at=(1, 2), bbox=(1, 2, 4, 6))
        add("d", "area", ones, area=12)
        out.group("late", [0, 3])
        if large:
            add("d", "large", np.ones((3000, 3000), bool))
            add("d", "next", ones)
        found += [len(out), out.nbytes, out._rows.reserved]
    return found, path.read_bytes()


@pytest.mark.parametrize("large", [False, True])
def test_writers_write_the_same(tmp_path: Path, large: bool) -> None:
    quick, slow = (tmp_path / name / "x.iid" for name in ("quick", "slow"))
    quick.parent.mkdir()
    slow.parent.mkdir()
    one, two = written(quick, Writer, large=large), written(slow, PURE.Writer, large=large)
    assert [str(v).replace("slow", "quick") for v in two[0]] == [str(v) for v in one[0]]
    assert one[1] == two[1]
    assert mapix.open(quick).verify().ok


def test_the_buffer(tmp_path: Path) -> None:
    with Writer(tmp_path / "x.iid") as out:
        rows, ones = out._rows, np.ones((100, 100), bool)
        assert type(rows) is fast.SegmentBuffer
        while not rows.full:
            out.add("d", "i", ones)
        assert rows.add(b"", b"", ones, None, 0) is None  # full: the writer writes first
        held = out._written
        key = out.add("d", "i", ones)
        assert held < out._written == key + 1
        assert not rows.full
        assert rows.add(b"", b"", ones, None, 1 << 33) is None  # no room for its groups
        with pytest.raises(TypeError, match="5 arguments"):
            rows.add(b"", b"")
        assert len(rows) == key + 1


def test_memory_that_runs_out(path: Path, tmp_path: Path) -> None:
    """The n-th allocation of an object fails: MemoryError, or the right result; nothing changes."""
    memory = pytest.importorskip("_testcapi", reason="needs CPython's own test module")
    a = mapix.open(path)
    segment, name = a[59], a.name(59)
    a.at(1, 1)
    a.find(*name)
    acts: list[Any] = [
        segment.mask,
        lambda: segment.bbox,
        lambda: segment.iid,
        lambda: a._file.find(*name),
        lambda: a._file.find_many(name[0], [name[1], "ü"]),
        lambda: a._file.at(60, 60),
        lambda: a._file.region((50, 50, 70, 70)),
        lambda: a._file.head(7),
        lambda: type(segment)(a._file, 7).key,
    ]
    failed = 0
    for act in acts:
        want = outcome(act)
        for n in range(1, 40):
            memory.set_nomemory(n, n + 1)
            try:
                found = act()
            except MemoryError:
                failed += 1
                continue
            finally:
                memory.remove_mem_hooks()
            assert outcome(lambda found=found: found) == want
        assert outcome(act) == want
    assert failed
    with Writer(tmp_path / "x.iid") as out:
        rows, mask = out._rows, np.ones((3, 4), bool)
        for n in range(1, 20):
            before = len(rows)
            memory.set_nomemory(n, n + 1)
            try:
                key = rows.add("d", "i", mask, (1, 2), 0)
            except MemoryError:
                key = None
            finally:
                memory.remove_mem_hooks()
            assert key in (None, before)
            assert len(rows) - before <= 1
            taken = rows.names_nbytes, rows.segs_nbytes
            memory.set_nomemory(n, n + 1)
            try:
                both = rows.take()  # unpacked below: Python 3.12 allocates memory for that
            except MemoryError:
                both = b"", b""
            finally:
                memory.remove_mem_hooks()
            names, segs = both
            assert (rows.names_nbytes, rows.segs_nbytes) == taken
            out._iids.write(names)
            out._segs.write(segs)
        n = len(rows)
    again = mapix.open(tmp_path / "x.iid")
    assert len(again) == n
    assert again.verify().ok
    assert all(s.mask().all() for s in again)
