"""Archives and selections as datasets: columns, conditions, parts, facts; one file or four."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.iid import Archive, Selection, ShardedArchive, ShardedWriter, SingleArchive, Writer

AREAS = [6, 120, 4, 121]
BOXES = [(0, 0, 2, 3), (5, 6, 15, 18), (30, 2, 34, 6), (40, 40, 51, 51)]
GROUPS = [("cell",), ("cell", "big"), (), ("big",)]
NAMES = [("slide", "a"), ("slide", "b"), ("", "c"), ("other", b"\xff")]


def fill(out: Writer | ShardedWriter) -> None:
    masks = [np.ones((2, 3)), np.ones((10, 12)), np.eye(4), np.ones((11, 11))]
    for (domain, iid), mask, box, groups in zip(NAMES, masks, BOXES, GROUPS, strict=True):
        out.add(domain, iid, mask, at=box[:2], groups=groups)


def written(folder: Path, *, sharded: bool) -> Path:
    meta = {"image": {"width": 60, "height": 55}, "stain": "HE"}
    if not sharded:
        with Writer(folder / "a.iid", meta) as out:
            fill(out)
        return folder / "a.iid"
    with ShardedWriter(folder / "a.iid", meta, full_nbytes=1) as shards:
        fill(shards)
    return folder / "a-00000-of-00004.iid"


@pytest.fixture(params=[False, True], ids=["single", "sharded"])
def archive(tmp_path: Path, request: Any) -> Archive:
    found = mapix.open(written(tmp_path, sharded=request.param), format="iid")
    assert type(found) is (ShardedArchive if request.param else SingleArchive)
    return found


def test_columns(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("masks", "count", "mask"):  # no pixel is decoded
        monkeypatch.setattr(f"mapix._native.iid.Iid.{name}", None)
    wanted = {
        "area": AREAS,
        **{side: [box[k] for box in BOXES] for k, side in enumerate(("minr", "minc"))},
        **{side: [box[k] for box in BOXES] for k, side in enumerate(("maxr", "maxc"), 2)},
        "domain": ["slide", "slide", "", "other"],
        "iid": ["a", "b", "c", "\\xff"],
        "groups": GROUPS,
    }
    part = archive[[3, 1]]
    assert list(archive.columns) == list(part.columns) == list(wanted)
    for name, values in wanted.items():
        assert archive.columns[name].values.tolist() == values
        assert archive.columns[name].complete
        assert part.columns[name].values.tolist() == [values[3], values[1]]
    assert archive.columns["area"].unit == "pixels"


@pytest.mark.parametrize(
    ("condition", "keys"),
    [
        ("area > 100 and 'cell' in groups", [1]),
        ("domain == 'slide'", [0, 1]),
        ("'b' in iid or maxr - minr == 4", [1, 2]),
        ("'none' in groups", []),
        ("area % 2 == 0 and not minc > 5", [0, 2]),
    ],
)
def test_conditions(archive: Archive, condition: str, keys: list[int]) -> None:
    found = archive.where(condition)
    assert found.keys.tolist() == found.rows.tolist() == keys
    backwards = archive[::-1].where(condition)
    assert backwards.keys.tolist() == keys[::-1]
    assert (archive.where("area > 0") & found).keys.tolist() == keys


def test_select_by_area_and_window(archive: Archive) -> None:
    for keys in (None, [3, 2, 1, 0]):
        for area in (None, (5, None)):
            found = archive.select(area=area, bbox=(6, 3, 50, 60), keys=keys)
            assert found.keys.tolist() == ([1, 3] if area else [1, 2, 3])


def test_parts_are_selections(archive: Archive) -> None:
    order = archive.sort_by("area", descending=True)
    assert order.keys.tolist() == [3, 1, 0, 2]
    assert [s.key for s in order] == [3, 1, 0, 2]
    assert (order[1].key, order[-1].key, order[1].area) == (1, 2, 120)
    assert order[1:3].keys.tolist() == [1, 0]
    assert order[[True, False, False, True]].keys.tolist() == [3, 2]
    assert [part.keys.tolist() for part in archive.split(0.5)] == [[0, 1], [2, 3]]
    assert archive.shard(1, 2).keys.tolist() == [1, 3]
    assert set(archive.draw(40, weights=[0, 1, 1, 0], seed=1).keys.tolist()) == {1, 2}
    for part in (order, order[1:], archive[1:], archive.draw(2, seed=0), archive.split()[0]):
        assert type(part) is Selection
        assert part.archive is archive
        assert part.keys.dtype == np.uint32
    assert [m.shape for m in order[1:3].masks()] == [(10, 12), (2, 3)]
    for key in (True, None, 1.0, (0, 1), "a"):
        for ds in (archive, order):
            with pytest.raises(TypeError):
                ds[key]  # type: ignore[index]


def test_weights_balance_groups_or_any_column(archive: Archive) -> None:
    assert archive.weights().tolist() == [1, 1, 1, 1]
    assert archive.weights("domain") == pytest.approx([2 / 3, 2 / 3, 4 / 3, 4 / 3])
    assert archive[:3].weights("domain") == pytest.approx([3 / 4, 3 / 4, 3 / 2])


def test_statistics_are_those_of_columns(archive: Archive) -> None:
    found = archive.statistics()
    assert (found.n, found.pixels) == (4, None)
    area, groups = found.columns["area"], found.columns["groups"]
    assert (area.min, area.max, area.mean, area.median) == (4, 121, 62.75, 63)
    assert groups.unique.tolist() == [(), ("big",), ("cell",), ("cell", "big")]
    assert archive[1:2].statistics().columns["groups"].unique.tolist() == [("cell", "big")]


def test_batches_are_refused_with_what_to_use_instead(archive: Archive) -> None:
    for ds in (archive, archive.where("area > 5")):
        for refused in (
            lambda ds=ds: ds.batch([0]),
            lambda ds=ds: ds.batch([0], dtype="float32", pad=True),
            lambda ds=ds: next(ds.batches(2)),
            lambda ds=ds: ds.explain(batch=[0]),
        ):
            with pytest.raises(mapix.UnsupportedError, match=r"masks\(keys\).*label_map"):
                refused()
    assert not hasattr(archive[0], "image")


def test_facts(archive: Archive) -> None:
    facts = archive.describe()
    assert json.loads(json.dumps(facts)) == facts
    wanted = {
        "format": "iid",
        "path": archive.path,
        "records": 4,
        "version": 0,
        "image": [55, 60],
        "domains": 3,
        "metadata": ["image", "stain"],
        "area": [4, 121],
        "shared_names": 0,
        "groups": {"cell": 2, "big": 2},
        "splits": {},
    }
    assert {name: facts[name] for name in wanted} == wanted
    if isinstance(archive, ShardedArchive):
        assert facts["files"] == [part.path for part in archive.parts]
        assert facts["nbytes"] == sum(os.path.getsize(path) for path in facts["files"])
    some = archive.where("area < 100").describe()
    assert (some["records"], some["area"], some["image"]) == (2, [4, 6], [55, 60])
    assert archive[:0].describe()["area"] is None
    assert "4 segments" in repr(archive)
    assert "2 segments" in repr(archive[1:3])


def test_explained(archive: Archive) -> None:
    found = archive.explain(1)
    assert (found["reads_nbytes"], found["copies_nbytes"], found["decodes"]) == (0, 0, "")
    assert (
        "its mask of 10 x 12 is decoded from 27 bytes" in found["how"]
    )  # a header of 12, 15 of bits
    assert archive[::-1].explain(2) == found


def test_verify_counts_segments_of_all_files(archive: Archive) -> None:
    steps: list[tuple[int, int]] = []
    report = archive[1:].verify(lambda done, total: steps.append((done, total)))
    assert report.ok
    assert (report.nrecords, steps[-1]) == (4, (4, 4))
    assert steps == sorted(steps)
    one = archive.parts[2] if isinstance(archive, ShardedArchive) else archive
    assert isinstance(one, SingleArchive)
    row = 0 if isinstance(archive, ShardedArchive) else 2
    at = one._file.regions_at(row)[0] - 4  # the area, at the end of the header
    data = bytearray(Path(one.path).read_bytes())
    data[at : at + 4] = struct.pack("<I", 5)
    Path(one.path).write_bytes(data)
    again = mapix.open(archive.path.split(" and ")[0])
    report = again.verify()
    assert report.damaged == [2]
    assert "other areas than their pixels" in report.problems[0]


def test_warm_reads_all_files(archive: Archive) -> None:
    steps: list[tuple[int, int]] = []
    for ds in (archive, archive[1:]):
        ds.warm(lambda done, total: steps.append((done, total)))
        assert steps[-1] == (archive.nbytes, archive.nbytes)


def test_pickles_open_the_same_files(archive: Archive) -> None:
    some = archive.where("area > 5").sort_by("area")
    for ds in (archive, some, archive[1:]):
        again = pickle.loads(pickle.dumps(ds))
        assert type(again) is type(ds)
        assert [(s.key, s.iid, s.area) for s in again] == [(s.key, s.iid, s.area) for s in ds]
    segment = pickle.loads(pickle.dumps(archive[3]))
    assert (segment.key, segment.iid, segment.mask().sum()) == (3, b"\xff", 121)
    blob = pickle.dumps(some)
    last = archive.parts[-1].path if isinstance(archive, ShardedArchive) else archive.path
    Path(last).write_bytes(Path(last).read_bytes() + b"\0")
    with pytest.raises(mapix.FileChangedError, match=os.path.basename(last)):
        pickle.loads(blob)


def test_one_file_of_a_set(tmp_path: Path) -> None:
    path = written(tmp_path, sharded=True)
    every = mapix.open(path)
    assert isinstance(every, ShardedArchive)
    alone = mapix.open(path, others=())
    assert (type(alone), len(alone)) == (SingleArchive, 1)
    part = pickle.loads(pickle.dumps(every.parts[1]))
    assert (type(part), part.name(0)) == (SingleArchive, (b"slide", b"b"))
    assert len(every.joined([part, alone])) == 6
    for bad in (4, -1):
        with pytest.raises(IndexError, match=f"{bad} of 4"):
            every.name(bad)
    with pytest.raises(TypeError, match="no option split"):
        mapix.open(path, split="train")


def test_close(archive: Archive) -> None:
    part, segment = archive[1:], archive[2]
    bits = segment.bits
    assert not archive.closed
    part.close()
    assert archive.closed
    assert part.closed
    assert len(bits) == 14  # a view outlives the file
    for refused in (lambda: segment.area, lambda: archive.name(0), lambda: list(part.masks())):
        with pytest.raises(mapix.ClosedError):
            refused()
    assert "closed" in repr(archive)
    assert "closed" in repr(part)


def test_a_selection_becomes_a_table(archive: Archive, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    mapix.convert(archive.where("area > 100"), tmp_path / "x.parquet")
    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [(row["key"], row["area"], tuple(row["groups"])) for row in rows] == [
        (1, 120, ("cell", "big")),
        (3, 121, ("big",)),
    ]
