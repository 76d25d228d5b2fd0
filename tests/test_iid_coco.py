"""Archives from and to COCO files, instances and panoptic ones; compared by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.iid import Writer, from_coco, to_coco, to_panoptic

IMAGES = [
    {"id": 7, "file_name": "train/b.png", "height": 20, "width": 30, "license": 1},
    {"id": 3, "file_name": "a.png", "height": 10, "width": 12},
    {"id": 9, "file_name": "empty.png", "height": 5, "width": 5},
]
CATEGORIES = [
    {"id": 2, "name": "cat", "supercategory": "animal"},
    {"id": 5, "name": "dog"},
    {"id": 6, "name": "dog"},
]
SQUARE = [2.0, 1.0, 7.0, 1.0, 7.0, 5.0, 2.0, 5.0]
ANNOTATIONS: list[dict[str, Any]] = [
    {"id": 10, "image_id": 3, "category_id": 2, "segmentation": [SQUARE], "iscrowd": 0},
    {"id": 11, "image_id": 7, "category_id": 2, "iscrowd": 1, "area": 4, "bbox": [0, 0, 1, 4]},
    {"id": 12, "image_id": 3, "category_id": 6, "iscrowd": 0, "area": 0.5, "bbox": [1, 2, 3, 4.5]},
    {"id": 900100000000, "image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.25},
]
ANNOTATIONS[0] |= {"area": 20.25, "bbox": [2, 1, 5, 4]}
ANNOTATIONS[1]["segmentation"] = {"size": [20, 30], "counts": [0, 4, 596]}
ANNOTATIONS[2]["segmentation"] = {"size": [10, 12], "counts": [21, 5, 94]}
CONTENT: dict[str, Any] = {
    "info": {"year": 2026},
    "images": IMAGES,
    "annotations": ANNOTATIONS,
    "categories": CATEGORIES,
}


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """A content without masks, in the order of ids."""
    annotations = [
        {k: v for k, v in a.items() if k != "segmentation"} for a in content["annotations"]
    ]
    annotations.sort(key=lambda a: a["id"])
    return {**content, "annotations": annotations}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = from_coco(CONTENT, tmp_path / "archives")
    assert str(found) == "3 images, 4 segments, 1 of them without a mask"
    return tmp_path / "archives"


def test_an_archive_for_each_image(folder: Path) -> None:
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["a.iid", "coco.json", "empty.iid", "train_b.iid"]
    a = mapix.open(folder / "a.iid")
    assert a.shape == (10, 12)
    assert a.names() == [(b"a.png", b"10"), (b"a.png", b"12"), (b"a.png", b"900100000000")]
    assert [list(segment) for segment in a.columns["groups"].values] == [["cat"], ["dog"], ["dog"]]
    assert a[0].bbox == (1, 2, 5, 7)
    assert a[0].area == 20
    assert a[1].mask().tolist() == [[True]] * 5
    assert a[1].bbox == (1, 2, 6, 3)
    assert a[2].area == 0
    assert a[2].bbox == (2, 1, 6, 4)
    assert a.verify().ok
    crowd = mapix.open(folder / "train_b.iid")
    assert crowd.groups["iscrowd"].keys.tolist() == [0]
    assert len(mapix.open(folder / "empty.iid")) == 0


def test_a_round_trip_keeps_all_but_polygons(folder: Path, tmp_path: Path) -> None:
    back = to_coco(folder)
    assert plain(back) == plain(CONTENT)
    assert "segmentation" not in back["annotations"][-1]
    to_coco(folder, tmp_path / "back.json", segmentation="counts")
    assert json.loads((tmp_path / "back.json").read_text(encoding="utf-8")) == to_coco(
        folder, segmentation="counts"
    )
    one, two = mapix.open(tmp_path / "back.json"), to_coco(folder, segmentation="polygons")
    (tmp_path / "polygons.json").write_text(json.dumps(two), encoding="utf-8")
    outlines = mapix.open(tmp_path / "polygons.json")
    (tmp_path / "first.json").write_text(json.dumps(CONTENT), encoding="utf-8")
    first = mapix.open(tmp_path / "first.json")
    for k in range(3):
        for other in (one[k], outlines[k]):
            assert other.masks().tolist() == first[k].masks().tolist()
            assert [a.id for a in other.annotations] == [a.id for a in first[k].annotations]
    again = from_coco(tmp_path / "back.json", tmp_path / "again")
    assert again.segments == 4
    assert plain(to_coco(tmp_path / "again")) == plain(CONTENT)


@pytest.mark.parametrize("number", [1234567890123456789, "1" * 5000], ids=["long", "longer"])
def test_ids_of_many_digits_come_back(tmp_path: Path, number: int | str) -> None:
    annotation = {"id": number, "image_id": 3, "category_id": 2, "segmentation": [SQUARE]}
    content = {"images": IMAGES[1:2], "annotations": [annotation], "categories": CATEGORIES}
    from_coco(content, tmp_path / "x.iid")
    back = to_coco(tmp_path / "x.iid")
    assert back is not None
    assert back["annotations"][0]["id"] == number


def one_box(path: Path, box: str) -> Path:
    image = '{"id": 1, "file_name": "a.png", "height": 8, "width": 9}'
    note = f'{{"id": 0, "image_id": 1, "category_id": 1, "bbox": {box}, "area": 0, "iscrowd": 0}}'
    path.write_text(f'{{"images": [{image}], "annotations": [{note}], "categories": []}}')
    return path


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ("[1, 2, 3, 99999999999999999999999999]", [2, 1, 8, 4]),
        ("[1e308, 1e308, 1e308, 1e308]", [8, 9, 8, 9]),
        ("[-1e308, 0.5, 1e300, 0.6]", [0, 0, 2, 0]),
    ],
)
def test_boxes_that_leave_the_image_are_cut(tmp_path: Path, box: str, found: list[int]) -> None:
    path = one_box(tmp_path / "x.json", box)
    from_coco(path, tmp_path / "x.iid")
    assert mapix.open(tmp_path / "x.iid").bboxes.tolist() == [found]
    back = to_coco(tmp_path / "x.iid")
    assert back is not None
    assert back["annotations"][0]["bbox"] == json.loads(box)


@pytest.mark.parametrize(
    ("box", "match"),
    [
        ("[1e999, 1, 5, 2]", "byte 12.*cannot hold its metadata"),
        ("[NaN, 1, 5, 2]", "byte 12.*cannot hold its metadata"),
        (f"[1, 1, {'9' * 400}, 2]", "bbox: four numbers expected, got"),
    ],
)
def test_numbers_that_an_archive_cannot_hold(tmp_path: Path, box: str, match: str) -> None:
    path = one_box(tmp_path / "x.json", box)
    with pytest.raises(mapix.FormatError, match=f"x.json.*{match}"):
        from_coco(path, tmp_path / "x.iid")
    assert not (tmp_path / "x.iid").exists()


def test_more_metadata_than_an_archive_has(tmp_path: Path) -> None:
    note = {
        "id": 0,
        "image_id": 3,
        "category_id": 2,
        "segmentation": [SQUARE],
        "x": "y" * 17_000_000,
    }
    content = {"images": IMAGES[1:2], "annotations": [note], "categories": CATEGORIES}
    with pytest.raises(mapix.LimitError, match="image 3: meta of .*attributes=False leaves most"):
        from_coco(content, tmp_path / "x.iid")
    assert from_coco(content, tmp_path / "x.iid", attributes=False).segments == 1


def test_one_image_and_parts(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    ds = mapix.open(path)
    with pytest.raises(ValueError, match="3 images do not go into one archive"):
        from_coco(ds, tmp_path / "x.iid")
    assert not (tmp_path / "x.iid").exists()
    from_coco(ds.where("file_name == 'a.png'"), tmp_path / "x.iid", attributes=False)
    back = to_coco(mapix.open(tmp_path / "x.iid"))
    assert back["images"] == [IMAGES[1]]
    assert [a["area"] for a in back["annotations"]] == [20, 5, 0]  # of the pixels
    assert [a["category_id"] for a in back["annotations"]] == [2, 6, 6]
    with pytest.raises(FileExistsError):
        from_coco(ds[1:2], tmp_path / "x.iid")
    with pytest.raises(TypeError, match="dataset of its images"):
        from_coco(ds.annotations, tmp_path / "y")


def test_archives_that_do_not_come_from_coco(tmp_path: Path) -> None:
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    with Writer(tmp_path / "c.iid", {"image": {"height": 9, "width": 8}}) as out:
        out.add("s", "x", ring, at=(1, 2), groups=["cell", "big"])
        out.add("s", "2", np.eye(3), at=(0, 0), groups=["big"])
        out.add("s", "y", np.ones((1, 1)))
        out.add("s", "2", np.ones((2, 1)), groups=["iscrowd", "cell"])
    found = to_coco(tmp_path / "c.iid", segmentation="polygons")
    assert found["images"] == [{"id": 1, "file_name": "c", "height": 9, "width": 8}]
    names = {c["id"]: c["name"] for c in found["categories"]}
    assert sorted(names.values()) == ["big", "cell", "segment"]
    annotations = found["annotations"]
    assert [a["id"] for a in annotations] == [3, 2, 4, 5]
    kinds = [names[a["category_id"]] for a in annotations]
    assert kinds == [next(iter(mapix.open(tmp_path / "c.iid").groups)), "big", "segment", "cell"]
    assert [a["iscrowd"] for a in annotations] == [0, 0, 0, 1]
    assert sorted(annotations[0]["groups"]) == ["big", "cell"]
    assert "counts" in annotations[0]["segmentation"]  # a hole
    assert len(annotations[1]["segmentation"]) == 3
    only = to_coco(tmp_path / "c.iid", categories=["big", "cell"])
    assert [c["name"] for c in only["categories"]] == ["big", "cell", "segment"]
    assert [a["category_id"] for a in only["annotations"]] == [1, 1, 3, 2]
    with pytest.raises(ValueError, match="segmentation must be"):
        to_coco(tmp_path / "c.iid", segmentation="boxes")  # type: ignore[arg-type]


def test_names_of_archives_are_safe_and_distinct(tmp_path: Path) -> None:
    names = ["../../x.png", "__x.jpg", "x", "..", "a/b.c/d.png"]
    images = [{"id": k, "file_name": n, "height": 2, "width": 2} for k, n in enumerate(names)]
    from_coco({"images": images}, tmp_path / "out")
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert found == ["_.._x.iid", "__x.iid", "a_b.c_d.iid", "coco.json", "image.iid", "x.iid"]
    assert [i["file_name"] for i in to_coco(tmp_path / "out")["images"]] == names


def test_nothing_is_written_for_a_wrong_annotation(tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(CONTENT))
    wrong["annotations"][2]["segmentation"]["size"] = [10, 11]
    with pytest.raises(mapix.FormatError, match="annotation 2: segmentation"):
        from_coco(wrong, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "coco.json").write_text("[]", encoding="utf-8")
    with pytest.raises(mapix.FormatError, match=r"coco\.json"):
        to_coco(tmp_path / "d")


def test_panoptic_files_both_ways(folder: Path, tmp_path: Path) -> None:
    lost = to_panoptic(folder, tmp_path / "pan")
    assert lost == 4  # of a.png: the second segment covers a column of the first one
    path = tmp_path / "pan" / "pan.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    infos = content["annotations"][1]["segments_info"]
    assert [(i["id"], i["area"], i["bbox"], i["category_id"]) for i in infos] == [
        (1, 16, [3, 1, 4, 4], 2),
        (2, 5, [2, 1, 1, 5], 6),
    ]
    ds = mapix.open(path)
    assert ds[1].target == [content["annotations"][1]]
    from_coco(path, tmp_path / "back", masks=tmp_path / "pan" / "pan")
    a, b = mapix.open(folder / "a.iid"), mapix.open(tmp_path / "back" / "a.iid")
    assert b.paint().tolist() == a.paint().tolist()
    assert b.groups["cat"].keys.tolist() == [0]
    assert [s.iid for s in b] == [b"1", b"2"]
    assert from_coco(path, tmp_path / "beside").segments == 3  # pan.json lies beside pan
    content["annotations"][1]["segments_info"].pop()
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(mapix.FormatError, match="segment 2, which is not listed"):
        from_coco(path, tmp_path / "more")
    content["annotations"][1]["file_name"] = "../../a.png"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(OSError, match="leaves the folder"):
        from_coco(path, tmp_path / "more")


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_pycocotools_sees_the_same(folder: Path, tmp_path: Path) -> None:
    tool = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    (tmp_path / "first.json").write_text(json.dumps(CONTENT), encoding="utf-8")
    first = tool.COCO(str(tmp_path / "first.json"))
    for kind in ("rle", "counts", "polygons"):
        path = tmp_path / f"{kind}.json"
        to_coco(folder, path, segmentation=kind)
        back = tool.COCO(str(path))
        assert sorted(back.getAnnIds()) == sorted(first.getAnnIds()) != []
        assert back.getImgIds() == first.getImgIds()
        assert back.loadCats(back.getCatIds()) == first.loadCats(first.getCatIds())
        for number in first.getAnnIds():
            one, two = first.anns[number], back.anns[number]
            assert {**one, "segmentation": 0} == {**two, "segmentation": 0}
            if one.get("segmentation"):
                assert first.annToMask(one).tolist() == back.annToMask(two).tolist()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mapix.__main__ import main

    path = tmp_path / "all.json"
    path.write_text(json.dumps(CONTENT), encoding="utf-8")
    assert main(["iid", "from-coco", str(path), "-o", str(tmp_path / "out")]) == 0
    assert "3 images, 4 segments" in capsys.readouterr().out
    assert main(["iid", "to-coco", str(tmp_path / "out"), str(tmp_path / "back.json")]) == 0
    assert plain(json.loads((tmp_path / "back.json").read_text(encoding="utf-8"))) == plain(CONTENT)
    assert (
        main(["iid", "to-geojson", str(tmp_path / "out" / "a.iid"), str(tmp_path / "a.json")]) == 0
    )
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [f["properties"]["name"] for f in found["features"]] == ["10", "12"]
