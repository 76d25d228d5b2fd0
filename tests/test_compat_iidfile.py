"""mapix.compat.iidfile: the original's methods with the original's answers, and no data loss."""

from __future__ import annotations

import copy
import json
import os
import pickle

import numpy as np
import pytest

import mapix
import mapix.iid
from conftest import GOLDEN
from mapix.compat.iidfile import IID, IIDFile, Region, Segment

FILES = GOLDEN / "iid"
MANIFEST = json.loads((FILES / "manifest.json").read_text())["files"]


@pytest.mark.parametrize("name", MANIFEST)
def test_answers_are_the_originals(name):
    told = MANIFEST[name]
    file = IIDFile(str(FILES / name))
    assert len(file) == len(told["entries"])
    assert file.meta.data == told["meta"]
    for point, want in told["at_queries_original"].items():
        x, y = map(int, point.split(","))
        assert [e.key for e in file.at(x, y)] == want
    assert [e.key for e in file.region((0, 0, 32, 32))] == told["region_query_0_0_32_32"]
    assert [e.key for e in file.filter(area=(10, 200))] == told["filter_area_gt10_lt200"]
    entries, edges = file.overlap_graph()
    assert len(entries) == len(file)
    found_edges = [[a.key, b.key, n] for a, b, n in edges]
    assert found_edges == [list(e) for e in told.get("overlap_edges", [])]
    assert file.groups.list() == sorted(told["groups"])
    for group, keys in told["groups"].items():
        assert file.groups.get(group, keys_only=True) == sorted(keys)
        assert [e.key for e in file.groups.get([group])] == sorted(keys)
        assert [e.key for e in file.fetch(groups=[group])] == sorted(keys)
        assert [e.key for e in file.fetch(group=group)] == sorted(keys)
    for e in told["entries"]:
        entry = file.lut.entries[e["key"]]
        assert entry.iid.address.hex() == e["address_hex"]
        assert (entry.iid.domain or b"").hex() == (e["domain_hex"] or "")
        assert list(entry.seg.bbox) == e["bbox"]
        assert [list(r.bbox) for r in entry.seg.regions()] == [r["bbox"] for r in e["regions"]]
        found = file.look_for(addresses=entry.iid.address, domains=entry.iid.domain)
        assert entry.key in [f.key for f in found]
    assert file.dump() == (FILES / name).read_bytes()


def example(path) -> IIDFile:
    """As the format's document makes one."""
    file = IIDFile()
    file.meta.data["image"] = {"width": 64, "height": 48}
    mask = np.zeros((10, 12), bool)
    mask[2:9, 3:11] = True
    file.add(b"address-1", b"domain", (5, 6, 15, 18), mask, group="cls")
    region = Region((20, 20, 22, 23), [[1, 1, 0], [0, 1, 1]])
    file.add(iid=IID("address-2", "domain"), seg=Segment(regions=[region], s=4), group="ind")
    file.groups.add("ind", [0])
    file.save(path)
    return file


def test_the_documents_examples(tmp_path):
    example(tmp_path / "x.iid")
    file = IIDFile(fpath=tmp_path / "x.iid")
    assert file.meta.data["image"]["width"] == 64
    (entry,) = file.fetch(groups=["cls"], iids=True)
    assert entry.iid == IID(b"address-1", b"domain")
    assert len({entry.iid, IID("address-1", "domain")}) == 1
    assert entry.seg.area == 56
    assert entry.seg.mask().sum() == 56
    assert entry.seg.bbox_xywh() == (6, 5, 12, 10)
    assert entry.seg.bbox_xywh(center=True) == (12, 10, 12, 10)
    assert entry.seg.bbox_polygon() == [(6, 5), (18, 5), (18, 15), (6, 15)]
    assert entry.seg.mask((0, 0, 8, 10)).sum() == 1
    assert entry.seg.intersects_bbox((0, 0, 8, 10))
    assert not entry.seg.intersects_bbox((0, 0, 7, 9))
    assert [e.key for e in file.fetch(groups=["ind", "cls"])] == [0, 1]
    assert [e.key for e in file.look_for(domains=b"domain", addresses=[b"address-2"])] == [1]
    assert [e.key for e in file.look_for(domains=b"")] == [0, 1]
    assert [e.key for e in file.filter(groups="ind", area=(4, 56))] == []
    assert [e.key for e in file.filter(groups="ind", area=(3, 57))] == [0, 1]
    second = file.lut.entries[1]
    (region,) = second.seg.regions
    assert region.mask.tolist() == [[True, True, False], [False, True, True]]
    assert region.bbox_xywh() == (20, 20, 3, 2)
    assert region.bbox_polygon()[2] == (23, 22)
    assert second.seg.intersects_segment(entry.seg) == 0
    assert entry.seg.intersects_segment(entry.seg) == 56
    with pytest.raises(KeyError, match="cls, ind"):
        file.fetch(groups=["nobody"])


def test_saving_over_a_loaded_file_loses_nothing(tmp_path):
    path = tmp_path / "x.iid"
    example(path)
    before = path.read_bytes()
    file = IIDFile(path)
    file.save()  # nothing fetched: the original empties the file, and fails
    assert path.read_bytes() == before
    file.add("three", None, (0, 0, 2, 2), np.eye(2), group="new")
    file.groups.add("empty")
    assert len(file.region((0, 0, 60, 60))) == 3
    assert [e.key for e in file.at(1, 1)] == [2]
    _, edges = file.overlap_graph()
    assert edges == []
    file.save()
    again = IIDFile(path)
    assert [e.iid for e in again.lut.entries] == [e.iid for e in file.lut.entries]
    assert again.lut.entries[2].iid.domain is None
    assert again.groups.list() == ["cls", "empty", "ind", "new"]
    assert again.lut.fetched_entries() == []
    assert os.listdir(tmp_path) == ["x.iid"]
    with pytest.raises(mapix.FormatError):
        IIDFile(__file__)
    assert len(mapix.open(path)) == 3


def test_what_add_refuses(tmp_path):
    file = IIDFile()
    with pytest.raises(TypeError, match="add"):
        file.add()
    with pytest.raises(TypeError, match="needed"):
        file.add("a", "d", (0, 0, 1, 1))
    with pytest.raises(ValueError, match="for a mask"):
        file.add("a", "d", (0, 0, 3, 3), np.ones((2, 2)))
    with pytest.raises(ValueError, match="path"):
        file.save()
    with pytest.raises(IndexError):
        file.groups.add("g", [0])
    file.save(tmp_path / "empty.iid")
    assert (tmp_path / "empty.iid").read_bytes() == (FILES / "empty_0seg.iid").read_bytes()


# --- what the original's document, README and programs call ---------------------------------------


def two(path) -> IIDFile:
    file = IIDFile()
    ones = np.ones((3, 3), bool)
    file.add(address=b"a", domain=b"d", bbox=(0, 0, 3, 3), mask=ones, group="rep")
    file.add(address=b"b", domain=b"d", bbox=(1, 1, 3, 3), mask=ones[:2, :2])
    file.save(path)
    return IIDFile(path)


def test_regions_take_the_buffer_first(tmp_path):
    mask = np.array([[1, 0, 1], [0, 1, 0]], bool)
    packed = np.packbits(mask.ravel())
    box = (4, 5, 6, 8)
    for made in (
        Region(mask, box),
        Region(box, mask),
        Region(mask.tolist(), list(box)),
        Region(packed, box),
        Region(packed.tobytes(), box),
        Region(box, packed.tobytes()),
        Region(mask=mask, bbox=box),
        Region(buffer=mask, bbox=np.array(box)),
        Region(mask * 256, box),
        Region(mask * 0.25, box),
    ):
        assert made.bbox == box
        assert made.mask.tolist() == made.buffer.tolist() == mask.tolist()
    again = Region(made.buffer, made.bbox)  # as the document makes one from another
    file = IIDFile()
    file.add(iid=IID("a", "d"), seg=Segment(regions=[again], s=3))
    file.save(tmp_path / "x.iid")
    (s,) = mapix.open(tmp_path / "x.iid")
    assert s.bbox == box
    assert s.mask().tolist() == mask.tolist()
    for wrong in ((mask, (4, 5, 6, 7)), (packed[:0], box), (packed.tobytes() + b"0", box)):
        with pytest.raises(ValueError, match="expected|for a mask"):
            Region(*wrong)
    for wrong in ((mask, "abcd"), (mask, None), (5, box), ("ab", box), (mask, (4.0, 5, 6, 8))):
        with pytest.raises(TypeError):
            Region(*wrong)


def test_calls_of_the_readme(tmp_path):
    file = two(tmp_path / "x.iid")
    assert [e.key for e in file.filter(groups=["rep"], area=(4, None))] == [0]
    assert [e.key for e in file.filter(area=(None, 9))] == [1]
    assert [e.key for e in file.filter(area=(None, None))] == [0, 1]
    assert [e.key for e in file.filter(area=(4, 9))] == []
    for keys in (1, np.int64(1), [1], {1}, range(1, 2), np.array([1])):
        assert [e.key for e in file.fetch(keys=keys)] == [1]
    with pytest.raises(KeyError, match="key 2"):
        file.fetch(keys=2)
    entries, edges = file.overlap_graph()
    ((a, b, n),) = edges
    assert (a, b, n) == (entries[0], entries[1], 4)
    assert a.seg.intersects_segment(b) == a.seg.intersects_segment(b.seg) == 4
    file.add("c", "d", (2, 2, 3, 3), [[1]])
    _, edges = file.overlap_graph()  # of one that is not in the file yet, too
    assert [(a.key, b.key, n) for a, b, n in edges] == [(0, 1, 4), (0, 2, 1), (1, 2, 1)]
    _, edges = file.overlap_graph(everything=False)
    assert all(a.fetched and b.fetched for a, b, _ in edges)


def test_from_mask_of_the_class_and_of_a_segment():
    mask = np.array([[1, 0], [0, 2]])
    one = Segment.from_mask(mask, (3, 4, 5, 6))
    blank = Segment(key=7, bbox=(0, 0, 2, 2))
    assert blank.area == 0
    two = blank.from_mask(mask, (3, 4, 5, 6))
    assert two is blank
    assert two.key == 7
    for made in (one, two):
        assert made.bbox == (3, 4, 5, 6)
        assert made.area == 2
        assert [r.bbox for r in made.regions] == [(3, 4, 4, 5), (4, 5, 5, 6)]
        assert made.mask().tolist() == [[True, False], [False, True]]
    with pytest.raises(ValueError, match="for a mask"):
        Segment.from_mask(mask, (3, 4, 6, 6))


def test_groups_of_the_original(tmp_path):
    file = two(tmp_path / "x.iid")
    made = file.groups.add("zebra", keys=[1])
    assert made.name == "zebra"
    assert made.keys() == made.keys == [1] == list(made)
    assert file.groups.add("zebra", 0).keys() == [0, 1]
    file.groups.add("ape")
    assert file.groups.list() == ["ape", "rep", "zebra"]
    before = file.groups.get("zebra", keys_only=True)
    for wrong in (["0"], [0.5], [True], "0", {0: 1}, None, np.array([True, False])):
        with pytest.raises(TypeError):
            file.groups.add("zebra", wrong)
        with pytest.raises(TypeError):
            file.groups.add("new", wrong)
    for wrong in (5, None, b"g", ["g"]):
        with pytest.raises(TypeError):
            file.groups.add(wrong, [0])
    with pytest.raises(IndexError):
        file.groups.add("new", [0, 2])
    assert file.groups.list() == ["ape", "rep", "zebra"]
    assert file.groups.get("zebra", keys_only=True) == before


def test_header_and_table(tmp_path):
    file = two(tmp_path / "x.iid")
    assert (file.header.version, file.header.rformat) == (0, 0)
    assert file.header.lut == (48, 40)
    assert sum(file.header.segs) == (tmp_path / "x.iid").stat().st_size
    assert IIDFile().header.version == 0
    assert [e.key for e in file.lut] == [0, 1]
    assert file.lut[1].iid.address == b"b"
    odd = IIDFile(FILES / "version_nonzero.iid")
    told = MANIFEST["version_nonzero.iid"]["header"]
    assert (odd.header.version, odd.header.rformat) == (told["version"], told["rformat"])


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[256, 0], [0, 512]], np.int32),
        np.array([[-256, 0], [0, 2**40]], np.int64),
        np.array([[0.25, 0], [0, 1e-300]]),
        [[65536, 0], [0, 1]],
    ],
)
def test_masks_mean_not_zero(tmp_path, mask):
    file = IIDFile()
    file.add(address=b"a", domain=b"d", bbox=(0, 0, 2, 2), mask=mask)
    file.save(tmp_path / "x.iid")
    (entry,) = IIDFile(fpath=tmp_path / "x.iid").fetch(everything=True)
    assert entry.seg.area == 2
    assert entry.seg.mask().tolist() == [[True, False], [False, True]]


def test_what_add_refuses_leaves_nothing_behind(tmp_path):
    path = tmp_path / "x.iid"
    file = two(path)
    before = path.read_bytes()
    good = {"address": b"a", "domain": b"d", "bbox": (0, 0, 1, 1), "mask": [[1]], "group": "new"}
    wrong = {
        "address": [5, 1.5, ["a"], True],
        "domain": [5, 1.5, ["a"]],
        "bbox": ["abcd", (0.0, 0, 1, 1), (True, 0, 1, 1), 5],
        "mask": ["ab", 5, [["a"]], [1, 2]],
        "group": [5, b"g", ["g"], ("g",)],
    }
    assert set(wrong) == set(good)
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(TypeError):
                file.add(**good | {name: value})
            assert len(file) == 2
    outside = Segment(regions=[Region([[1]], (5, 5, 6, 6))], bbox=(0, 0, 2, 2))
    with pytest.raises(ValueError, match="outside"):
        file.add(iid=IID("a"), seg=outside, group="new")
    with pytest.raises(TypeError):
        file.add(iid="a", seg=outside)
    with pytest.raises(TypeError, match="Region"):
        Segment(regions=[np.ones((2, 2))])
    file.save()
    assert path.read_bytes() == before
    file.meta.data["a"] = b"bytes"
    with pytest.raises(TypeError, match="meta"):
        file.save()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.iid"]


@pytest.mark.parametrize("saved", [False, True])
def test_objects_pickle_and_copy(tmp_path, saved):
    file = two(tmp_path / "x.iid")
    if not saved:
        file.add("c", "d", (2, 2, 3, 3), [[1]], group="new")
    for thing, content in (
        (file, lambda f: [(e.key, e.iid, e.seg.mask().tolist()) for e in f.lut]),
        (file.lut[1], lambda e: (e.key, e.iid, e.seg.area)),
        (file.lut[0].seg, lambda s: (s.bbox, s.area, [r.bbox for r in s.regions])),
        (file.lut[0].iid, repr),
        (file.lut[0].seg.regions[0], lambda r: (r.bbox, r.mask.tolist())),
        (file.groups.add("rep"), lambda g: (g.name, g.keys())),
        (file.header, repr),
    ):
        for made in (pickle.loads(pickle.dumps(thing)), copy.copy(thing), copy.deepcopy(thing)):
            assert content(made) == content(thing)


def test_save_does_not_drop_what_others_added(tmp_path):
    path = tmp_path / "x.iid"
    file = two(path)
    file.add("c", "d", (2, 2, 3, 3), [[1]])
    file.save()
    file.meta.data["a"] = 1
    file.save()  # again: the file is the one that it wrote itself
    assert len(IIDFile(path)) == 3
    mapix.iid.edit(mapix.open(path), append=lambda out: out.add("d", "other", [[1]]))
    want = path.read_bytes()
    file.meta.data["a"] = 2
    with pytest.raises(mapix.FileChangedError):
        file.save()
    assert path.read_bytes() == want
    file.save(tmp_path / "y.iid")  # elsewhere it may be saved
    assert [e.iid.address for e in IIDFile(tmp_path / "y.iid").lut] == [b"a", b"b", b"c"]
    assert sorted(os.listdir(tmp_path)) == ["x.iid", "y.iid"]
