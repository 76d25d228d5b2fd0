"""mapix.compat.iidfile: the original's methods with the original's answers, and no data loss."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import mapix
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
    assert [list(e) for e in edges] == [list(e) for e in told.get("overlap_edges", [])]
    assert file.groups.list() == list(told["groups"])
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
    assert again.groups.list() == ["cls", "ind", "new", "empty"]
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
