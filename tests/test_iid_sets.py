"""Archives of several files: parts, unions and changes of them; and copies of what IID has."""

from __future__ import annotations

import copy
import os
import pickle
import tempfile
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import every_operation
import mapix
import mapix.iid
from mapix.iid import ShardedWriter, Writer, edit, merge, sharded_archive, subset
from mapix.iid.names import Names, name_hashes
from mapix.iid.single_archive import SingleArchive
from mapix.store import SYSTEM

N = 11


def fill(out, first=0, n=N):
    for k in range(first, first + n):
        mask = np.ones((2 + k % 3, 3), bool)
        mask[0, 0] = k % 2
        groups = [g for g, take in (("even", k % 2 == 0), ("first", k == 0)) if take]
        out.add("d" if k % 3 else None, f"s{k}", mask, at=(k, 2 * k), groups=groups)


@pytest.fixture
def both(tmp_path):
    """The same segments as a set of several files, and in one."""
    with ShardedWriter(tmp_path / "set.iid", {"a": 1}, full_nbytes=100) as out:
        fill(out)
    with Writer(tmp_path / "one.iid", {"a": 1}) as out:
        fill(out)
    first = sorted(tmp_path.glob("set-00000-of-*"))[0]
    a = mapix.open(first)
    assert len(a.parts) > 2
    return a, mapix.open(tmp_path / "one.iid"), first


def same(a, b) -> None:
    assert len(a) == len(b)
    assert a.meta == b.meta
    assert a.names() == b.names()
    assert (a.bboxes == b.bboxes).all()
    assert (a.areas == b.areas).all()
    assert {k: set(v) for k, v in a.groups.items()} == {k: set(v) for k, v in b.groups.items()}
    for s, t in zip(a, b, strict=True):
        assert s.bits.tolist() == t.bits.tolist()
        assert (s.mask() == t.mask()).all()


def test_packed_bits_of_a_set(both):
    a, one, _ = both
    same(a, one)
    assert a[7].bits.base is not None  # a view of its file


def test_parts_and_unions_of_a_set(both, tmp_path):
    a, one, _ = both
    for keys in ([9, 0, 4], a.groups["even"], range(N), []):
        subset(a, keys, tmp_path / "s1.iid", replace=True)
        subset(one, keys, tmp_path / "s2.iid", replace=True)
        assert (tmp_path / "s1.iid").read_bytes() == (tmp_path / "s2.iid").read_bytes()
    for unique in (False, True):
        merge([a, one], tmp_path / "m1.iid", unique=unique, replace=True)
        merge([one, one], tmp_path / "m2.iid", unique=unique, replace=True)
        same(mapix.open(tmp_path / "m1.iid"), mapix.open(tmp_path / "m2.iid"))


CHANGES = [
    {"delete": [0, 5, 10]},
    {"delete": range(N)},
    {"groups": {"even": [10, 1], "new": [3, 4], "first": []}},
    {"groups": {"even": []}, "delete": [3]},
    {"meta": {"b": 2}},
    {"append": lambda out: out.add("z", "z", np.eye(2), groups=["new", "even"])},
    {"delete": [2], "meta": {}, "groups": {"x": [2, 3]}, "append": lambda out: fill(out, 20, 2)},
    {},
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_a_set(both, tmp_path, change):
    a, one, first = both
    edit(a, tmp_path / "whole.iid", **change)
    edit(one, tmp_path / "want.iid", **change)
    want = mapix.open(tmp_path / "want.iid")
    same(mapix.open(tmp_path / "whole.iid"), want)
    before = {p: (p.read_bytes(), p.stat().st_ino) for p in first.parent.glob("set-*")}
    edit(a, **change)
    same(mapix.open(first), want)
    assert sorted(first.parent.glob("set-*")) == sorted(before)
    if not change:  # what does not change is not written
        assert {p: (p.read_bytes(), p.stat().st_ino) for p in before} == before
    assert len(a.masks()) == N  # who has the old ones open keeps them


def test_a_set_of_which_a_file_has_changed_stays_as_it_is(both):
    a, _, first = both
    paths = sorted(first.parent.glob("set-*"))
    edit(mapix.open([paths[-1]]).parts[0], meta={"other": 1})
    want = [p.read_bytes() for p in paths]
    with pytest.raises(mapix.FileChangedError):
        edit(a, delete=[0], meta={"mine": 1})
    assert [p.read_bytes() for p in paths] == want


def test_a_file_that_is_there_twice_is_not_edited_in_its_place(both, tmp_path):
    _, _, _first = both
    twice = mapix.open([tmp_path / "one.iid", tmp_path / "one.iid"])
    with pytest.raises(ValueError, match="twice"):
        edit(twice, delete=[0])
    edit(twice, tmp_path / "new.iid", delete=[0])
    assert len(mapix.open(tmp_path / "new.iid")) == 2 * N - 1


def test_a_set_is_replaced_when_that_is_asked_for(both, tmp_path):
    a, _, _first = both
    with pytest.raises(FileExistsError, match="already"):
        ShardedWriter(tmp_path / "set.iid")
    with ShardedWriter(tmp_path / "set.iid", replace=True) as out:
        fill(out, 50, 2)
    (only,) = tmp_path.glob("set*")
    assert only.name == "set-00000-of-00001.iid"
    assert mapix.open(only).names()[0][1] == b"s50"
    assert len(a.masks()) == N


class Stops:
    """The operating system, until the n-th name is given or taken away."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __getattr__(self, name):
        def call(*args):
            if name in ("rename", "unlink"):
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            return getattr(SYSTEM, name)(*args)

        return call


def test_a_set_is_never_made_of_old_and_new_files(tmp_path):
    """Stopped between any two steps, it is the old one, the new one, or refused."""
    outcomes = set()
    for left in range(60):
        folder = tmp_path / str(left)
        folder.mkdir()
        with ShardedWriter(folder / "set.iid", full_nbytes=1) as out:
            fill(out, 0, 3)
        try:
            with ShardedWriter(
                folder / "set.iid", full_nbytes=1, replace=True, calls=Stops(left)
            ) as out:
                fill(out, 100, 3)
        except KeyboardInterrupt:
            pass
        else:
            outcomes.add("new")
            assert left > 9
            break
        try:
            names = mapix.open(folder / "set-00001-of-00003.iid").names()
        except (mapix.MapixError, FileNotFoundError):
            outcomes.add("refused")
            continue
        numbers = [int(n[1][1:]) for n in names]
        assert numbers in ([0, 1, 2], [100, 101, 102])
        outcomes.add("old" if numbers[0] == 0 else "new")
    assert outcomes == {"old", "refused", "new"}


def test_a_set_whose_writer_failed_cannot_be_closed(tmp_path):
    class Fails(Stops):
        def __getattr__(self, name):
            def call(*args):
                if name == "fsync":
                    self.left -= 1
                    if self.left < 0:
                        raise OSError(5, "Input/output error")
                return getattr(SYSTEM, name)(*args)

            return call

    out = ShardedWriter(tmp_path / "set.iid", full_nbytes=1, calls=Fails(1))
    fill(out, 0, 2)
    with pytest.raises(OSError, match="Input"):
        fill(out, 2, 1)
    for call in (lambda: fill(out, 2, 1), lambda: out.group("g", []), out.close):
        with pytest.raises(mapix.MapixError, match="cannot be finished: archive 1 failed"):
            call()
    assert os.listdir(tmp_path) == []
    out.close()
    with pytest.raises(mapix.ClosedError):
        fill(out, 2, 1)


def test_a_missing_set_of_thousands_is_a_short_message(tmp_path):
    (tmp_path / "s-00000-of-99999.iid").write_bytes(b"")
    with pytest.raises(mapix.FormatError) as e:
        mapix.open(tmp_path / "s-00000-of-99999.iid")
    assert "and 99993 more" in str(e.value)
    assert len(str(e.value)) < 500


# --- copies ---------------------------------------------------------------------------------------


def used(a) -> None:
    """Everything that is kept once it was asked for is there."""
    a.at(3, 3)
    a.at([1, 2], [1, 2])
    a.find("d", "s1")
    _ = a.domains, a.areas, a.duplicates(), a.groups["even"], a.overlaps(), a.meta, a.shape


@pytest.mark.parametrize("which", ["set", "one"])
@pytest.mark.parametrize("use", [False, True])
def test_everything_pickles_and_copies(both, which, use):
    a = both[0] if which == "set" else both[1]
    if use:
        used(a)
    objects = {
        "archive": (a, lambda x: x.names()),
        "segment": (a[8], lambda x: (x.key, x.iid, x.bbox, x.mask().tolist())),
        "region": (a[8].regions[0], lambda x: (x.bbox, x.bits.tolist(), x.area)),
        "group": (a.groups["even"], lambda x: list(x)),
        "groups": (a.groups, lambda x: {k: list(v) for k, v in x.items()}),
        "selection": (a.select(groups="even"), lambda x: x.keys.tolist()),
        "slice": (a[2:9:3], lambda x: [s.key for s in x]),
        "masks": (a.masks([3, 8]), lambda x: [m.tolist() for m in x]),
        "overlaps": (a.overlaps(), lambda x: (x.i.tolist(), x.iou.tolist())),
        "labels": (mapix.iid.label_map(a), lambda x: (x.labels.tolist(), x.lost)),
        "difference": (mapix.iid.diff(a, a), lambda x: (x.added, x.changed)),
        "report": (a.verify(), str),
    }
    for name, (thing, content) in objects.items():
        want = content(thing)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert content(pickle.loads(pickle.dumps(thing, protocol))) == want, name
        assert content(copy.copy(thing)) == want, name
        assert content(copy.deepcopy(thing)) == want, name


def test_indices_are_what_has_an_index(both):
    class Five:
        def __index__(self):
            return 5

    for a in both[:2]:
        for thing in (a, a.select(area=(0, None)), a.masks()):
            for key in (5, Five(), np.int8(5), np.array(5), -6, np.uint64(5)):
                got, want = thing[key], thing[5]
                assert (got == want).all() if isinstance(got, np.ndarray) else got.key == want.key
            for key in (True, np.bool_(True), (1, 2), 1.0, np.float64(1), "1", None, ...):
                with pytest.raises(TypeError):
                    thing[key]
            with pytest.raises(IndexError):
                thing[N]


def test_files_of_a_set_are_opened_once(both, tmp_path):
    a, one, first = both
    paths = sorted(tmp_path.glob("set-*"))
    same(mapix.open(paths), one)
    assert (
        mapix.open(paths[1:3]).names()
        == one.names()[len(a.parts[0]) :][: sum(map(len, a.parts[1:3]))]
    )
    assert len(mapix.open([tmp_path / "one.iid", first])) == 2 * N  # the set of one file


def random_archives(tmp_path, data) -> tuple[Any, Any]:
    """The same segments in one archive and in several, some of them empty."""
    masks = st.integers(0, 2**12 - 1).map(lambda n: np.array([n >> k & 1 for k in range(12)], bool))
    segments = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["", "d", "e\u00e9"]),
                st.sampled_from(["1", "2", "3", "4"]),
                masks,
                st.sampled_from([(3, 4), (2, 6), (12, 1)]),
                st.tuples(st.integers(0, 9), st.integers(0, 9)),
                st.sets(st.sampled_from("ab")),
                st.integers(0, 2),
            ),
            max_size=12,
        )
    )
    segments.sort(key=lambda s: s[-1])
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        paths = [os.path.join(folder, f"{k}.iid") for k in range(3)]
        with ExitStack() as stack:
            whole = stack.enter_context(Writer(os.path.join(folder, "whole.iid")))
            outs = [stack.enter_context(Writer(path)) for path in paths]
            for domain, iid, mask, shape, at, groups, k in segments:
                for out in (whole, outs[k]):
                    out.add(domain, iid, mask.reshape(shape), at=at, groups=sorted(groups))
        return mapix.open(paths), mapix.open(whole.path)


QUERIES = {
    "overlaps": lambda a, keys: [
        getattr(a.overlaps(keys), k).tolist() for k in ("i", "j", "pixels")
    ],
    "find": lambda a, keys: [a.find(d, i).tolist() for d in ("", "d", "x") for i in "125"],
    "find many": lambda a, keys: a.find("d", ["5", b"1", "2", "1"]).tolist(),
    "find iid": lambda a, keys: [a.find(iid=i).tolist() for i in "135"],
    "find domain": lambda a, keys: [a.find(d).tolist() for d in ("", "e\u00e9", "x")],
    "duplicates": lambda a, keys: [d.tolist() for d in a.duplicates()],
    "names": lambda a, keys: a.names(keys),
    "masks": lambda a, keys: [m.tolist() for m in a.masks(keys)],
    "paint": lambda a, keys: [
        [v.tolist() for v in a.paint(keys, (1, 0, 25, 24), order=order, depth=True)]
        for order in ("key", "given", "area")
    ],
    "paint all": lambda a, keys: a.paint(keys, order="given").tolist(),
    "unions": lambda a, keys: [
        ask([] if keys is None else keys)[0].tolist()
        for ask in (a.union, a.intersection, a.difference)
    ],
}


def test_queries_of_a_set_are_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(sharded_archive, "BAND_ROWS", 7)

    @settings(max_examples=12)
    @given(st.data())
    def check(data):
        a, one = random_archives(tmp_path, data)
        some = np.array(data.draw(st.permutations(range(len(one)))), np.uint32)
        for name, ask in QUERIES.items():
            for keys in (None, some[::-2], some[:0]):
                assert ask(a, keys) == ask(one, keys), name

    check()


def test_names_whose_hashes_are_equal_are_told_apart(both, monkeypatch):
    a, one, _ = both
    monkeypatch.setattr(Names, "hashes", lambda self, *_: np.zeros(len(self._file), np.uint64))
    monkeypatch.setattr(
        sharded_archive, "name_hashes", lambda _, iids, *__, **___: np.zeros(len(iids), np.uint64)
    )
    for name, ask in QUERIES.items():
        assert ask(a, None) == ask(one, None), name


def test_damage_in_one_file_of_a_set_is_an_error_that_names_it(both, tmp_path):
    paths = sorted(tmp_path.glob("set-*"))
    broken = mapix.open([paths[0], tmp_path / "one.iid", paths[1]])
    segment = broken.parts[1]._file
    at, _ = segment.regions_at(2)
    with open(tmp_path / "one.iid", "r+b") as f:
        f.seek(at)
        f.write(b"\xff" * 12)  # a region that ends nowhere
    with pytest.raises(mapix.MapixError, match=r"one\.iid"):
        broken.overlaps()
    again = mapix.open([paths[0], tmp_path / "one.iid", paths[1]])
    with pytest.raises(mapix.FormatError, match=r"one\.iid.* 2\b"):
        again.overlaps()
    fine = mapix.open(paths)
    want = fine.overlaps().pixels.tolist()
    os.chmod(paths[1], 0o600)  # a change that changes nothing
    assert fine.overlaps().pixels.tolist() == want
    os.truncate(paths[2], 60)
    with pytest.raises(mapix.FileChangedError, match=paths[2].name):
        fine.overlaps()


def mixed(a: int, b: int) -> int:
    return a * b % 2**64 ^ a * b >> 64


def hash_of(text: bytes, start: int = 0) -> int:
    """The hash as mapix.h and docs/iid.md state it."""
    found, whole = start ^ len(text) * 0x9E3779B97F4A7C15 % 2**64, len(text) // 8 * 8
    for at in range(0, whole, 8):
        word = int.from_bytes(text[at : at + 8], "little")
        found = mixed(found ^ word, 0xA0761D6478BD642F)
    return mixed(found ^ int.from_bytes(text[whole:], "little"), 0xE7037ED1A0B428DB)


def test_hashes_of_names_are_those_that_others_have_stored(both):
    a, one, _ = both
    want = [hash_of(iid, hash_of(domain)) for domain, iid in one.names()]
    assert one._name_hashes().tolist() == a._name_hashes().tolist() == want
    assert want[1] == name_hashes(b"d", ["s1"])[0] == 0x7C50E66F415F2B79
    long = [b"", b"1234567", b"12345678", b"123456789", "\u00e4".encode()]
    assert name_hashes(b"01234567", long).tolist() == [
        hash_of(i, hash_of(b"01234567")) for i in long
    ]
    assert name_hashes(b"d", long, "iid").tolist() == [hash_of(i) for i in long]
    assert name_hashes(b"d", [b"x"], "domain").tolist() == [hash_of(b"d")]


OF_ONE_FILE = {"layout"}  # where the sections of the file lie
OF_A_SET = {"keys_in", "parts"}
DIFFERS = {  # that states files, not segments
    ("ARCHIVE", "describe"),
    ("ARCHIVE", "nbytes"),
    ("ARCHIVE", "__reduce__"),
    ("ARCHIVE", "__repr__"),
    ("ARCHIVE", "keys_in"),
    ("ARCHIVE", "close"),
    ("ARCHIVE", "snapshot"),  # a set again: its segments are compared
    ("GROUPS", "__repr__"),
    ("SELECTION", "close"),
    ("ARCHIVE_FUNCTIONS", "to_coco"),  # has the name of the file
    ("ARCHIVE_FUNCTIONS", "to_geojson"),  # takes long: some segments are compared
}


def test_a_set_answers_all_questions_as_one_file_does(tmp_path):
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(SingleArchive) - OF_ONE_FILE == public(sharded_archive.ShardedArchive) - OF_A_SET
    one = mapix.open(every_operation.iid_plain(tmp_path))
    a = mapix.open(mapix.convert(one, tmp_path / "s.iid", shards=5).shards)
    assert len(a.parts) == 5
    asked = 0
    for kind in ("ARCHIVE", "SEGMENT", "SELECTION", "GROUPS", "GROUP", "ARCHIVE_FUNCTIONS"):
        for name, ask in getattr(every_operation, kind).items():
            if (kind, name) not in DIFFERS:
                asked += 1
                assert outcome(ask, a) == outcome(ask, one), (kind, name)
    assert asked > 100
    some = [0, 139, 140, 650]
    assert mapix.iid.to_geojson(a, keys=some) == mapix.iid.to_geojson(one, keys=some)
    want = mapix.iid.to_coco(one)["annotations"]
    assert mapix.iid.to_coco(a)["annotations"] == want
    assert mapix.iid.to_coco(a.snapshot())["annotations"] == want


def outcome(ask: Any, a: Any) -> Any:
    try:
        return every_operation.plain(ask(a))
    except (mapix.MapixError, TypeError, ValueError, ImportError) as e:
        return type(e), str(e).replace(a.path, "")
