"""Wrong types are errors, for every argument of whatever writes archives.

What is refused leaves nothing behind.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import numpy as np
import pytest

import mapix
import mapix.iid
from mapix.errors import ClosedError, LimitError
from mapix.iid import ShardedWriter, Writer, add_label_map, coco, edit, merge, subset
from mapix.store import SYSTEM

ONE = np.ones((2, 3), bool)
RLE = {"size": [2, 2], "counts": [0, 4]}
REGION = b"\x0d\0\0\0" + b"\0\0\0\0\1\0\1\0" + b"\x80"  # one pixel at (0, 0)
NO_TEXT = [5, 5.0, True, ["d"], object(), bytearray(b"d"), memoryview(b"d"), np.array(b"d")]
NO_NAMES = ["ab", b"ab", 5, None, [b"ab"], [5], [None], ["g", 1.5], {"g": 1}]
NO_KEYS = [
    None,
    "0",
    b"\0",
    ["0"],
    0.0,
    [0.0],
    np.array([0.0]),
    True,
    [True, False],
    np.array([True, False]),
    [0, True],
    [[0, 1]],
    {0: 1},
    [None],
    object(),
]
OUT_OF_RANGE = [[2], [-1], 2, [0, 1, 2]]
NO_NUMBER = [1.0, True, "1", None, [1], np.float64(1), np.bool_(True)]
NO_BOX = [
    "abcd",
    b"\0\0\2\3",
    (0, 0, 2),
    (0, 0, 2, 3, 4),
    (0.0, 0, 2, 3),
    (False, 0, 2, 3),
    5,
    {0, 1, 2, 3},
    np.zeros((1, 4), int),
    np.array([0, 0, 2, 3.0]),
    (0, 0, 2, None),
]
NO_META = [[], "x", 5, b"{}", {1: 2}, {"a": b"b"}, {"a": {1, 2}}, {"a": {2: 1}}, {"a": np.int64(1)}]
NOT_FINITE = [{"a": float("nan")}, {"a": [float("inf")]}]
NO_MASK = [
    np.zeros(3),
    np.zeros((1, 2, 3)),
    [["a"]],
    [[None]],
    [[1j]],
    np.zeros((2, 2), "M8[s]"),
    "ab",
    5,
    {},
]


def valid(function, name):
    """Arguments of an ``add`` in which the named one makes sense."""
    if name in ("bits", "area"):
        return {"bits": REGION, "bbox": (0, 0, 1, 1), "area": 1}
    if name == "rle":
        return {"rle": RLE}
    if name in ("at", "bbox"):
        return {"mask": ONE, name: (0, 0, 2, 3)[: 2 if name == "at" else 4]}
    return {"mask": ONE}


ADD = {
    "domain": NO_TEXT,
    "iid": [*NO_TEXT, None],
    "mask": NO_MASK,
    "at": [5, "ab", b"\0\0", (1,), (1, 2, 3), (1.0, 2), (True, 2), ("1", 2), np.array([1.5, 2])],
    "bbox": NO_BOX,
    "bits": ["ab", 5, [1], bytearray(REGION), np.zeros(2, np.int32), np.zeros((2, 2), np.uint8)],
    "area": [*NO_NUMBER[:-2], np.float64(1)],
    "rle": [
        5,
        "ab",
        {"size": [2, 2], "counts": [0.5, 3.5]},
        {"size": [2, 2], "counts": [0, True, 3]},
        {"size": [2, 2], "counts": ["0", "4"]},
        {"size": [2.0, 2], "counts": [0, 4]},
        {"size": (True, 4), "counts": [0, 4]},
        {"size": "22", "counts": [0, 4]},
        {"size": [2, 2], "counts": np.array([0.0, 4.0])},
        {"size": [2, 2], "counts": 4},
        {"size": [2, 2], "counts": None},
        {"size": [2, 2], "counts": {0: 4}},
        {"size": [2, 2, 1], "counts": [0, 4]},
    ],
    "groups": NO_NAMES,
}
GROUP = {"name": [5, None, b"g", ["g"], ("g",)], "keys": NO_KEYS}
PATH = [5, None, 1.5, b"bytes", ["x"]]
FLAG = [1, "yes", None, 0]
NEW = {
    "path": PATH,
    "meta": NO_META,
    "index": FLAG,
    "version": [5, "ab", (1,), (1.0, 2), (True, 0), None, (1, 2, 3)],
    "replace": FLAG,
}
SHARDED = {
    "path": PATH,
    "meta": NO_META,
    "full_nbytes": NO_NUMBER,
    "replace": FLAG,
    "options": [],  # the Writer's
}
LABELS = {
    "out": [5, None, "x"],
    "labels": [np.zeros(3, int), np.zeros((2, 2)), [["a"]], 5, None, np.zeros((1, 2, 2), int)],
    "domain": NO_TEXT,
    "background": NO_NUMBER,
    "at": [5, "ab", (1,), (1.0, 2), (True, 2), None],
    "groups": NO_NAMES,
}


def names_of(function) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "calls"}


def test_every_argument_is_tried():
    """A new argument, or a new method, has to come with its wrong values."""
    for function, known in (
        (Writer.__init__, NEW),
        (Writer.add, ADD),
        (Writer.group, GROUP),
        (ShardedWriter.__init__, SHARDED),
        (ShardedWriter.group, GROUP),
        (add_label_map, LABELS),
    ):
        assert names_of(function) == set(known), function
    for kind in (Writer, ShardedWriter):
        public = {n for n in dir(kind) if not n.startswith("_")}
        assert public - {"meta", "path", "nbytes"} == {"add", "group", "close", "abort"}, kind


def two(out):
    out.add("d", "zero", ONE, groups=["g"])
    out.add(None, b"one", ONE, at=(1, 1))


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("index", [False, True])
def test_what_add_refuses_leaves_nothing_behind(tmp_path, index):
    with Writer(tmp_path / "clean.iid", index=index) as out:
        two(out)
    refused = 0
    with Writer(tmp_path / "x.iid", index=index) as out:
        two(out)
        for name, wrong in ADD.items():
            for value in wrong:
                options = {"domain": "d", "iid": "i", "groups": ["new", "g"]}
                options |= valid(Writer.add, name) | {name: value}
                with pytest.raises(TypeError):
                    out.add(**options)
                assert len(out) == 2
                refused += 1
        for options in (
            {"mask": ONE, "rle": RLE},
            {"mask": ONE, "at": (0, 0), "bbox": (0, 0, 2, 3)},
            {"rle": RLE, "at": (0, 0)},
            {"rle": RLE, "bbox": (0, 0, 2, 2)},
            {"rle": RLE, "area": 4},
            {"mask": ONE, "area": 6},
            {"bits": REGION, "bbox": (0, 0, 1, 1), "area": 1, "at": (0, 0)},
            {"bits": REGION, "bbox": (0, 0, 1, 1)},
            {"bits": REGION, "area": 1},
            {},
        ):
            with pytest.raises(TypeError):
                out.add("d", "i", **options)
        for options in (
            {"mask": ONE, "at": (65534, 0)},
            {"mask": ONE, "at": (-1, 0)},
            {"mask": ONE, "bbox": (0, 0, 3, 3)},
            {"mask": ONE, "bbox": (2, 3, 0, 0)},
            {"mask": np.array([[np.nan]])},
            {"bits": REGION, "bbox": (0, 0, 1, 1), "area": -1},
            {"bits": REGION, "bbox": (0, 0, 1, 1), "area": 2**32},
            {"bits": REGION, "bbox": (0, 1, 1, 2), "area": 1},  # the region is outside
            {"bits": REGION[:-1], "bbox": (0, 0, 1, 1), "area": 1},
            {"bits": REGION + b"\0", "bbox": (0, 0, 1, 1), "area": 1},
            {"rle": {"size": [2, 2], "counts": [5]}},
            {"rle": {"size": [2, 2], "counts": [-1, 5]}},
            {"rle": {"size": [-2, 2], "counts": []}},
        ):
            with pytest.raises(ValueError):  # noqa: PT011
                out.add("d", "i", groups=["new"], **options)
    assert refused > 60
    assert bytes_of(tmp_path / "x.iid") == bytes_of(tmp_path / "clean.iid")


def test_what_group_refuses_leaves_nothing_behind(tmp_path):
    with Writer(tmp_path / "clean.iid") as out:
        two(out)
        out.group("h", 1)
    with Writer(tmp_path / "x.iid") as out:
        two(out)
        for keys in NO_KEYS:
            for group in ("g", "new"):
                with pytest.raises(TypeError):
                    out.group(group, keys)
        for name in GROUP["name"]:
            with pytest.raises(TypeError):
                out.group(name, [0])
        for keys in OUT_OF_RANGE:
            for group in ("g", "new"):
                with pytest.raises(IndexError):
                    out.group(group, keys)
        out.group("h", 1)
    assert bytes_of(tmp_path / "x.iid") == bytes_of(tmp_path / "clean.iid")


def test_keys_may_be_anything_that_holds_whole_numbers(tmp_path):
    with Writer(tmp_path / "x.iid") as out:
        two(out)
        many = ([1, 0], (0, 1), {0, 1}, range(2), np.array([1, 0], np.uint8), iter([0, 1]))
        for i, keys in enumerate(many):
            out.group(f"{i}", keys)
        out.group("one", np.int64(1))
        out.group("none", [])
    a = mapix.open(tmp_path / "x.iid")
    assert all(set(a.groups[f"{i}"]) == {0, 1} for i in range(6))
    assert list(a.groups["one"]) == [1]
    assert list(a.groups["none"]) == []
    with Writer(tmp_path / "y.iid") as out:
        two(out)
        out.group("same", a.groups["1"])
        out.group("selected", a.select(area=(1, None)))
    b = mapix.open(tmp_path / "y.iid")
    assert set(b.groups["same"]) == set(b.groups["selected"]) == {0, 1}


@pytest.mark.parametrize("name", NEW)
def test_what_a_writer_refuses_when_it_is_made(tmp_path, name):
    for value in NEW[name]:
        with pytest.raises(TypeError):
            Writer(**{"path": tmp_path / "x.iid", name: value})
    if name == "meta":
        for value in NOT_FINITE:
            with pytest.raises(ValueError, match="meta"):
                Writer(tmp_path / "x.iid", value)
    assert os.listdir(tmp_path) == []


def test_what_a_sharded_writer_refuses(tmp_path):
    for name, wrong in SHARDED.items():
        for value in wrong:
            with pytest.raises(TypeError):
                ShardedWriter(**{"path": tmp_path / "x.iid", name: value})
    with pytest.raises(TypeError):
        ShardedWriter(tmp_path / "x.iid", nothing=1)
    assert os.listdir(tmp_path) == []
    for path, wrong in ((tmp_path / "clean.iid", False), (tmp_path / "x.iid", True)):
        with ShardedWriter(path, full_nbytes=1) as out:
            out.add("d", "zero", ONE, groups=["g"])
            for value in NO_NAMES if wrong else ():
                with pytest.raises(TypeError):
                    out.add("d", "i", ONE, groups=value)
            for value in NO_KEYS if wrong else ():
                with pytest.raises(TypeError):
                    out.group("g", value)
            assert len(out) == 1
    (clean,) = tmp_path.glob("clean*")
    (made,) = tmp_path.glob("x*")
    assert bytes_of(clean) == bytes_of(made)


def test_metadata_is_refused_when_it_is_given(tmp_path):
    with Writer(tmp_path / "x.iid", {"a": 1}) as out:
        two(out)
        for wrong in NO_META:
            with pytest.raises(TypeError, match="meta"):
                out.meta = wrong
        for wrong in NOT_FINITE:
            with pytest.raises(ValueError, match="meta"):
                out.meta = wrong
        itself: dict = {}
        itself["itself"] = itself
        with pytest.raises(ValueError, match="nested"):
            out.meta = itself
        with pytest.raises(LimitError, match="meta"):
            out.meta = {"a": "x" * (17 << 20)}
        with pytest.raises(TypeError):
            out.meta["a"] = b"bytes"
        assert out.meta == {"a": 1}
        out.meta = {"b": (1, 2.5, None, True, "\u00e9"), "c": {}}
    assert mapix.open(tmp_path / "x.iid").meta == {"b": [1, 2.5, None, True, "\u00e9"], "c": {}}


def test_a_writer_that_was_closed_takes_nothing_more(tmp_path):
    with Writer(tmp_path / "x.iid") as out:
        two(out)
    want = bytes_of(tmp_path / "x.iid")
    for call in (
        lambda: out.add("d", "i", ONE),
        lambda: out.group("g", [0]),
        lambda: setattr(out, "meta", {}),
    ):
        with pytest.raises(ClosedError):
            call()
    out.close()
    out.abort()
    assert bytes_of(tmp_path / "x.iid") == want


LARGE = np.ones((3000, 3000), bool)  # more than a writer holds in memory


class FullDisk:
    """The operating system, whose n-th write from now on fails."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __getattr__(self, name):
        return getattr(SYSTEM, name)

    def write(self, fd, data):
        self.left -= 1
        if not self.left:
            raise OSError(28, "No space left on device")
        return SYSTEM.write(fd, data)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_disk_that_is_full_ends_the_writer(tmp_path, nth, monkeypatch):
    monkeypatch.setattr("mapix.store.BUFFER_NBYTES", 1)
    calls = FullDisk(0)
    out = Writer(tmp_path / "x.iid", calls=calls)
    calls.left = nth
    with pytest.raises(OSError, match="space"):
        out.add("d", "i", LARGE, groups=["g"])
    for call in (lambda: out.add("d", "i", ONE), lambda: out.group("g", []), out.close):
        with pytest.raises(mapix.MapixError, match="cannot be finished: segment 0"):
            call()
    assert os.listdir(tmp_path) == []


def test_an_archive_that_is_full_says_so_before_it_writes(tmp_path, monkeypatch):
    with Writer(tmp_path / "clean.iid", {"a": 1}) as out:
        two(out)
    nbytes = len(bytes_of(tmp_path / "clean.iid"))
    monkeypatch.setattr("mapix.iid.writer.MOST_NBYTES", nbytes)
    with Writer(tmp_path / "x.iid", {"a": 1}) as out:
        two(out)
        for call in (
            lambda: out.add("d", "i", np.ones((100, 100), bool)),
            lambda: out.add("d", "i" * 300, ONE),
            lambda: out.add("d", "i", ONE, groups=["a" * 30]),
            lambda: out.group("a" * 30, [1]),
            lambda: setattr(out, "meta", {"a": "b" * 300}),
        ):
            with pytest.raises(LimitError, match="4 GiB"):
                call()
    assert bytes_of(tmp_path / "x.iid") == bytes_of(tmp_path / "clean.iid")


@pytest.mark.parametrize("name", LABELS)
def test_what_label_maps_refuse(tmp_path, name):
    labels = np.array([[0, 1], [2, 2]])
    with Writer(tmp_path / "x.iid") as out:
        for value in LABELS[name]:
            options = {"out": out, "labels": labels, "domain": "d", name: value}
            with pytest.raises(TypeError):
                add_label_map(**options)
        assert len(out) == 0
        with pytest.raises(ValueError, match="box"):
            add_label_map(out, labels, "d", at=(65534, 65534))
        assert len(out) == 0
        assert out._groups == {}


# --- archives of archives -------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    with Writer(tmp_path / "a.iid", {"a": 1}) as out:
        for k in range(4):
            out.add("d", f"{k}", ONE, at=(k, k), groups=["g"] if k % 2 else ["h"])
    return mapix.open(tmp_path / "a.iid")


def test_wrong_keys_and_groups_change_nothing(archive, tmp_path):
    before = bytes_of(tmp_path / "a.iid")
    assert names_of(subset) == {"archive", "keys", "path", "replace"}
    assert names_of(merge) == {"archives", "path", "unique", "replace"}
    assert names_of(edit) == {"archive", "path", "delete", "groups", "meta", "append"}
    new = tmp_path / "new.iid"
    for keys in NO_KEYS:
        with pytest.raises(TypeError):
            subset(archive, keys, new)
        with pytest.raises(TypeError):
            edit(archive, delete=keys)
        with pytest.raises(TypeError):
            edit(archive, groups={"g": keys})
    with pytest.raises(ValueError, match="twice"):
        subset(archive, [0, 1, 0], new)
    for wrong in ([], "gh", 5, {5: [0]}, {b"g": [0]}):
        with pytest.raises(TypeError):
            edit(archive, groups=wrong)
    for wrong in NO_META:
        with pytest.raises(TypeError):
            edit(archive, meta=wrong)
    for wrong in (5, "x", [lambda out: None]):
        with pytest.raises(TypeError):
            edit(archive, append=wrong)
    for wrong in (5, None, "ab", [5], archive):
        with pytest.raises(TypeError):
            merge(wrong, new)
    for wrong in (1, "yes", None):
        with pytest.raises(TypeError):
            merge([archive], new, unique=wrong)
    for wrong in PATH:
        with pytest.raises(TypeError):
            merge([archive], wrong)
        with pytest.raises(TypeError):
            subset(archive, [0], wrong)
    for wrong in (5, None, "x"):
        with pytest.raises(TypeError):
            subset(wrong, [0], new)
        with pytest.raises(TypeError):
            edit(wrong)
    assert sorted(os.listdir(tmp_path)) == ["a.iid"]
    assert bytes_of(tmp_path / "a.iid") == before


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[256, 0], [0, 512]], np.int32),
        np.array([[256, 0], [0, 512]], np.int16),
        np.array([[2**32, 0], [0, 2**33]], np.int64),
        np.array([[2**40, 0], [0, 2**63]], np.uint64),
        np.array([[-256, 0], [0, -(2**62)]], np.int64),
        np.array([[-1, 0], [0, 1]], np.int8),
        np.array([[0.25, 0], [0, -1e-300]]),
        np.array([[0.25, 0], [-0.0, np.inf]], np.float16),
        [[65536, 0], [0, 131072]],
    ],
)
def test_masks_mean_not_zero(tmp_path, mask):
    with Writer(tmp_path / "x.iid") as out:
        out.add("d", "i", mask)
    (s,) = mapix.open(tmp_path / "x.iid")
    assert s.area == 2
    assert s.mask().tolist() == [[True, False], [False, True]]


def test_equal_values_are_one_region_whatever_their_type(tmp_path):
    """As the original's: neighbours (of eight) of equal value."""
    rng = np.random.default_rng(0)
    for scale, kind in ((1, np.uint8), (256, np.int32), (2**24, np.int64), (2**40, np.int64)):
        for seed in range(4):
            small = np.random.default_rng(seed).integers(0, 4, (9, 11))
            path = tmp_path / f"{scale}-{np.dtype(kind)}-{seed}"
            with Writer(path) as out:
                out.add("d", "i", (small * scale).astype(kind))
                out.add("d", "i", small.astype(np.uint8))
            a, b = mapix.open(path, format="iid")
            assert a.bits.tolist() == b.bits.tolist()
    many = rng.permutation(40 * 30).reshape(40, 30)  # all values differ: a region a pixel
    with Writer(tmp_path / "many.iid") as out:
        out.add("d", "i", many)
    (s,) = mapix.open(tmp_path / "many.iid")
    assert len(s.regions) == s.area == 40 * 30 - 1
    with Writer(tmp_path / "float.iid") as out:
        out.add("d", "i", many + 0.5)
    (s,) = mapix.open(tmp_path / "float.iid")
    assert len(s.regions) == 1


def test_a_large_mask_keeps_no_memory(tmp_path):
    import tracemalloc

    from mapix._native.iid import _workspace, pack

    rng = np.random.default_rng(0)
    noise = (rng.random((700, 700)) > 0.5).view(np.uint8)
    pack(noise, 0, 0)
    assert len(_workspace.text) < 1 << 16  # what a thread keeps is for small masks
    assert _workspace.nscratch < 1 << 17
    tracemalloc.start()
    full = np.ones((4000, 4000), np.uint8)
    raw, area, n = pack(full, 0, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (area, n) == (16_000_000, 1)
    assert peak < full.nbytes + 3 * len(raw)


def test_run_lengths_are_whole_numbers():
    for counts in ([0, 4], (0, 4), np.array([0, 4]), np.array([0, 4], np.uint32), iter([0, 4])):
        mask, box = coco.decode({"size": [2, 2], "counts": counts})
        assert mask.all()
        assert box == (0, 0, 2, 2)
    for wrong in ADD["rle"]:
        with pytest.raises(TypeError):
            coco.decode(wrong)
    assert names_of(coco.decode) == {"rle", "most_pixels"}
    assert names_of(coco.encode) == {"mask", "bbox", "size", "compressed"}
    for wrong in NO_MASK:
        with pytest.raises(TypeError):
            coco.encode(wrong, (0, 0, 2, 3), (2, 3))
    for wrong in NO_BOX:
        with pytest.raises(TypeError):
            coco.encode(ONE, wrong, (2, 3))
    for wrong in (5, "ab", (2,), (2.0, 3), (True, 3)):
        with pytest.raises(TypeError):
            coco.encode(ONE, (0, 0, 2, 3), wrong)
    with pytest.raises(ValueError, match="for a mask of"):
        coco.encode(ONE, (0, 0, 3, 3), (3, 3))


def test_what_readers_take_for_keys(archive):
    """The same rule wherever keys are taken."""
    for keys in NO_KEYS[1:]:  # None is all of them
        for call in (
            archive.masks,
            archive.counts,
            archive.paint,
            archive.overlaps,
            archive.names,
            archive.table,
            archive.coco_rle,
            archive.union,
            lambda k: archive.select(keys=k).keys,
            lambda k: archive.groups["g"] & k,
        ):
            with pytest.raises(TypeError):
                call(keys)
    for keys in ([9], [-1]):
        with pytest.raises(IndexError):
            archive.masks(keys)
    assert set(archive.groups["g"] & [1, 2]) == {1}
