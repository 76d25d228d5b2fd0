"""COCO's JSON files: a slow reader, random and hostile JSON, pycocotools, pictures, limits."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapix
from conftest import ALL
from mapix.coco import CocoAnnotations, CocoImages
from mapix.coco.layout import scan
from mapix.masks import segment
from mapix.registry import Candidate, open_candidate
from mapix.source import Source
from mapix.testing import FormatTests

INFO = {"description": 'a "small" one', "deep": [[{"]": "}"}]]}
IMAGES = [
    {"id": 7, "file_name": "b.png", "height": 20, "width": 30, "license": 1},
    {"id": 3, "file_name": "a.png", "height": 10, "width": 12, "license": 2},
    {"id": 9, "file_name": "none.png", "height": 5, "width": 5, "license": 1},
]
SQUARE = [2.0, 1.0, 7.0, 1.0, 7.0, 5.0, 2.0, 5.0]  # rows 1..4, columns 2..6
ANNOTATIONS: list[dict[str, Any]] = [
    {
        "id": 10,
        "image_id": 3,
        "category_id": 2,
        "area": 20.25,
        "iscrowd": 0,
        "bbox": [2, 1, 5, 4.5],
    },
    {"id": 11, "image_id": 7, "category_id": 2, "area": 4, "iscrowd": 1, "bbox": [0, 0, 1, 4]},
    {"id": 12, "image_id": 3, "category_id": 5, "area": 0.1, "iscrowd": 0, "bbox": [1, 2, 3, 4]},
]
ANNOTATIONS[0]["segmentation"] = [SQUARE]
ANNOTATIONS[1]["segmentation"] = {"size": [20, 30], "counts": [0, 4, 596]}
ANNOTATIONS[2]["segmentation"] = {"size": [10, 12], "counts": [21, 5, 94]}
CATEGORIES = [{"id": 2, "name": "cat", "supercategory": "animal"}, {"id": 5, "name": "dog"}]
WHOLE = {
    "info": INFO,
    "images": IMAGES,
    "annotations": ANNOTATIONS,
    "categories": CATEGORIES,
}


def written(path: Path, value: Any = WHOLE, **how: Any) -> Path:
    path.write_text(json.dumps(value, **how), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "instances.json")


# --- the contract, and a slow reader --------------------------------------------------------------


def plain_id(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if value is not None and not isinstance(value, int | str):
        raise ValueError(value)
    return value


class TestCoco(FormatTests):
    def sample(self, folder: Path) -> Path:
        small = {
            "images": [{"id": 1, "height": 2, "width": 3}, {"id": 4, "height": 7, "width": 4}],
            "annotations": [{"id": 1, "image_id": 4, "bbox": [0, 1, 2, 3.5]}, {"id": 2}],
        }
        small["annotations"][1] |= {"image_id": 1}
        return written(folder / "x.json", small, separators=(",", ":"))

    def read_slowly(self, data: bytes) -> list[Any] | None:
        try:
            top = json.loads(data.decode())
            images, annotations = (top.get(k, []) for k in ("images", "annotations"))
            if not isinstance(top, dict) or ("images" not in top and not annotations):
                return None
            for objects in (images, annotations):
                if not isinstance(objects, list) or not all(isinstance(o, dict) for o in objects):
                    return None
            ids = [plain_id(o.get("image_id")) for o in annotations] if images else []
            found = []
            for image in images:
                number = plain_id(image.get("id"))
                mine = [
                    a
                    for a, i in zip(annotations, ids, strict=False)
                    if i == number and i is not None
                ]
                found.append([image, mine, top.get("categories"), annotations])
            return found
        except (ValueError, AttributeError, RecursionError):
            return None

    def damaged(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """By default every ninth damage: a file takes a millisecond."""
        return itertools.islice(super().damaged(data), None, None, 1 if ALL else 9)

    def content(self, dataset: Any) -> list[Any]:
        others = (
            dataset.file.layout.other("categories"),
            list(dataset.file.annotations.all_parsed()),
        )
        return [[r.metadata, r.target, *others] for r in dataset]

    def arrays(self, dataset: Any, record: Any) -> list[Any]:
        _ = dataset.columns["id"]
        len(dataset)
        return []


class TestAnnotations(FormatTests):
    sample = TestCoco.sample

    def open(self, path: Path) -> Any:
        return mapix.open(path, records="annotations")

    def read_slowly(self, data: bytes) -> list[Any] | None:
        try:
            found: list[Any] = json.loads(data.decode())["annotations"]
        except ValueError:
            return None
        return found

    def content(self, dataset: Any) -> list[Any]:
        return [record.metadata for record in dataset]

    arrays = TestCoco.arrays

    def test_it_is_a_dataset_of_its_format(self, path: Path) -> None:
        assert isinstance(self.open(path), CocoAnnotations)  # by default records are images

    def test_damaged_files(self, path: Path) -> None:
        """The other records, of the same scan, are tested on damaged files."""


# --- records and columns --------------------------------------------------------------------------


def test_records_are_images_with_their_annotations(path: Path) -> None:
    ds = mapix.open(path)
    assert isinstance(ds, CocoImages)
    assert [r.id for r in ds] == [7, 3, 9]
    record = ds[1]
    assert record.file_name == "a.png"
    assert record.size == (10, 12)
    assert record.target == [ANNOTATIONS[0], ANNOTATIONS[2]]
    assert record.categories == ["cat", "dog"]
    assert record.boxes.tolist() == [[2, 1, 5, 4.5], [1, 2, 3, 4]]
    assert ds[2].target == []
    assert ds[2].boxes.shape == (0, 4)
    assert ds.info == INFO
    assert ds.licenses is None
    assert ds.categories == CATEGORIES
    assert ds.verify().ok


def test_columns(path: Path) -> None:
    ds = mapix.open(path)
    found = {name: column.values.tolist() for name, column in ds.columns.items()}
    assert found == {
        "id": [7, 3, 9],
        "file_name": ["b.png", "a.png", "none.png"],
        "height": [20, 10, 5],
        "width": [30, 12, 5],
        "annotations": [1, 2, 0],
        "categories": [("cat",), ("cat", "dog"), ()],
        "license": [1, 2, 1],
    }
    assert ds.columns["height"].values.dtype == np.int64
    assert ds.where("'dog' in categories and width < 20").rows.tolist() == [1]
    several = ds.annotations
    assert several.columns["category"].values.tolist() == ["cat", "cat", "dog"]
    assert several.columns["area"].values.tolist() == [20.25, 4, 0.1]
    assert several.columns["height"].values.tolist() == [4.5, 4, 4]
    assert several.where("iscrowd == 0 and area > 1")[0].id == 10
    assert [a.id for a in ds[1:].annotations] == [10, 12]
    assert several[1].parent.id == 7
    assert pickle.loads(pickle.dumps(several[1:]))[0].metadata == ANNOTATIONS[1]


def test_what_is_shown_and_where_it_lies(path: Path) -> None:
    ds = mapix.open(path)
    shown = ds._annotations(1)
    assert shown.boxes == [(2, 1, 5, 4.5), (1, 2, 3, 4)]
    assert shown.names == ["cat", "dog"]
    found = ds.byte_ranges(1)
    assert [json.loads(r.read()) for r in found] == [IMAGES[1], ANNOTATIONS[0], ANNOTATIONS[2]]
    assert [r.name for r in found] == ["image 1", "annotation 0", "annotation 2"]


def test_masks(path: Path) -> None:
    ds = mapix.open(path)
    masks = ds[1].masks()
    assert masks.shape == (2, 10, 12)
    assert np.argwhere(masks[0]).min(axis=0).tolist() == [1, 2]
    assert np.argwhere(masks[0]).max(axis=0).tolist() == [4, 6]
    assert masks[0].sum() == 20
    assert np.argwhere(masks[1]).tolist() == [[r, 2] for r in range(1, 6)]
    mask, box = ds.annotations[1].segment()
    assert (mask.all(), box) == (True, (0, 0, 4, 1))
    assert np.array_equal(ds.annotations[2].mask(), masks[1])
    with pytest.raises(mapix.LimitError, match="most_pixels"):
        ds[1].masks(most_pixels=239)


def test_ids_that_are_text_fractions_or_huge(tmp_path: Path) -> None:
    ids = ["x", 1.0, 1 << 70, 900100000000]
    value = {
        "images": [{"id": i, "height": 1, "width": 1} for i in ids],
        "annotations": [{"id": k, "image_id": i} for k, i in enumerate([1, "x", 1 << 70, "1"])],
    }
    ds = mapix.open(written(tmp_path / "a.json", value))
    assert [[a["id"] for a in r.target] for r in ds] == [[1], [0], [2], []]
    problems = ds.verify().problems
    assert len(problems) == 1
    assert "annotation 3" in problems[0]
    assert "'1'" in problems[0]


def test_keys_with_escapes_blanks_and_repeated_keys(tmp_path: Path) -> None:
    text = """\ufeff { "images" : [ {"i\\u0064": 5 , "height": 1, "width":\t2} ,
     {"id": 1, "id": 6, "height": 3, "width": 4}
    ], "annotations": [{"image_id": 6, "bbox": [ 1 , -2.5e0,3,4 ]}, {"bbox": null}] } """
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    ds = mapix.open(path)
    assert ds.columns["id"].values.tolist() == [5, 6]
    assert ds.columns["width"].values.tolist() == [2, 4]
    assert ds[1].boxes.tolist() == [[1, -2.5, 3, 4]]
    assert ds.annotations.columns["y"].values.tolist()[0] == -2.5
    assert ds.annotations.columns["y"].present.tolist() == [True, False]


# --- random and hostile text ----------------------------------------------------------------------

numbers_ = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-1000, 1000, places=3).map(float),
)
leaves = st.one_of(numbers_, st.text(max_size=6), st.booleans(), st.none())
values = st.recursive(
    leaves, lambda v: st.lists(v) | st.dictionaries(st.text(max_size=3), v), max_leaves=8
)
objects = st.dictionaries(
    st.sampled_from(["id", "image_id", "area", "bbox", "height", 'a"b', "\\", "x]"]),
    st.one_of(values, numbers_, st.lists(numbers_, min_size=4, max_size=4)),
)
texts = st.builds(
    lambda images, annotations, other, indent, ascii: json.dumps(
        {"images": images, "o": other, "annotations": annotations},
        indent=indent,
        ensure_ascii=ascii,
    ),
    *(st.lists(objects, max_size=5), st.lists(objects, max_size=5)),
    *(values, st.sampled_from([None, 1]), st.booleans()),
)


@settings(max_examples=300 if ALL else 20)
@given(texts)
def test_random_files_are_read_as_json_reads_them(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "random.json"
    try:
        path.write_text(text, encoding="utf-8")
    except UnicodeEncodeError:
        return
    wanted = json.loads(text)
    layout = scan(Source(path))
    for name in ("images", "annotations"):
        table = layout.table(name)
        assert list(table.all_parsed()) == wanted[name]
        assert [table.parsed(row) for row in range(len(table))] == wanted[name]
    assert layout.other("o") == wanted["o"]
    found, present = layout.table("annotations").numbers("area")
    for one, value, there in zip(
        wanted["annotations"], found.tolist(), present.tolist(), strict=True
    ):
        if there:
            assert value == float(one["area"])
        else:
            assert not isinstance(one.get("area"), int | float)
    boxes, present = layout.table("annotations").numbers("bbox", 4)
    for one, box, there in zip(
        wanted["annotations"], boxes.tolist(), present.tolist(), strict=True
    ):
        if there:
            assert box == [float(v) for v in one["bbox"]]


@settings(max_examples=300 if ALL else 20)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 20))
def test_random_bytes_are_a_clear_error_or_json(
    tmp_path_factory: Any, noise: bytes, at: int, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.json"
    text = json.dumps(WHOLE).encode()
    path.write_bytes(text[:at] + noise + text[at + cut :])
    try:
        ds = mapix.open(path, format="coco")
        found = [record.target for record in ds]
        several = [ds.columns[name].values for name in ds.columns]
    except mapix.MapixError as e:
        assert "noise.json" in str(e)  # noqa: PT017  # most bytes are an error, and some are not
        return
    assert {len(values) for values in several} == {len(ds)} == {len(found)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [1]}', r"image 0: an object expected.*got '1'"),
        ('{"images": [{}, {"id": 1]}', r"image 1: .* at|byte 24.*got ']'"),
        ('{"images": [{"id": 1}', "the file ends"),
        ('{"images": [{"id": 1}] "annotations"', "',' expected"),
        ('{"images": [], "annotations": {}}', "an array of annotations expected"),
        ('{"images": [{"a": ' + "[" * 70 + "]" * 70 + "}]}", "image 0"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(mapix.FormatError, match=words):
        mapix.open(path, format="coco")


def test_limits(tmp_path: Path, path: Path) -> None:
    with pytest.raises(mapix.LimitError, match="max_item_nbytes"):
        mapix.open(path, max_item_nbytes=60)
    many = tmp_path / "many.json"
    many.write_text('{"images": [' + "{}," * 200_000 + "{}]}", encoding="utf-8")
    with pytest.raises(mapix.LimitError, match="more than 7500. images"):
        mapix.open(many)
    far = {"size": [70000, 1], "counts": [70000]}
    with pytest.raises(ValueError, match="at most 65535"):
        segment(far, (70000, 1))
    zigzag = [[float(v) for k in range(300) for v in (65000 * (k % 2), k)]]
    with pytest.raises(mapix.LimitError, match="cross more"):
        segment(zigzag, (300, 65535))
    covers = [[0, 0, 50, 0, 50, 50, 0, 50]] * 70
    with pytest.raises(mapix.LimitError, match="more than 64 times"):
        segment(covers, (50, 50))
    for bad in ([[1, 2, 3]], [["a"] * 6], "text", [[float("nan")] * 6], {"size": [5, 5]}):
        with pytest.raises((TypeError, ValueError)):
            segment(bad, (5, 5))


def test_other_json_is_not_coco(tmp_path: Path) -> None:
    for k, value in enumerate(({"images": ["a", "b"]}, {"a": 1}, [WHOLE], {})):
        path = written(tmp_path / f"{k}.json", value)
        with pytest.raises(mapix.FormatError):
            open_candidate(Candidate(path), {})
    with pytest.raises(ValueError, match="records must be"):
        mapix.open(written(tmp_path / "x.json"), records="boxes")


def test_verify_names_what_is_wrong(tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(WHOLE))
    wrong["images"][2]["id"] = 7
    wrong["annotations"][0]["bbox"] = [5, 5, 50, 1]
    wrong["annotations"][1]["category_id"] = 77
    wrong["annotations"][2]["segmentation"]["counts"] = [1, 2]
    problems = mapix.open(written(tmp_path / "a.json", wrong)).verify().problems
    words = ("several images have the id 7", "annotation 0: bbox", "id 77", "counts of 3 pixels")
    assert len(problems) == len(words)
    for word, problem in zip(words, problems, strict=True):
        assert word in problem
        assert "a.json" in problem


# --- pictures -------------------------------------------------------------------------------------


def pictures(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder.mkdir(parents=True)
    for k, one in enumerate(IMAGES):
        size = one["width"], one["height"]
        image.new("RGB", size, (10 * k, 20, 30)).save(folder / str(one["file_name"]))


@pytest.mark.parametrize("place", ["val", "annotations", "images/val", "annotations/images"])
def test_the_folder_of_the_pictures_is_found(tmp_path: Path, place: str) -> None:
    pictures(tmp_path / place)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    ds = mapix.open(written(tmp_path / "annotations" / "instances_val.json"))
    assert ds[1].image.shape == (10, 12, 3)
    assert ds[1].image[0, 0].tolist() == [10, 20, 30]
    batch = ds.batch([1, 0], size=(40, 60), fit="resize")
    assert batch.images.shape == (2, 40, 60, 3)
    assert batch.boxes[1].tolist() == [[0, 0, 2, 8]]
    assert batch.labels.tolist() == [[("cat", "dog")], [("cat",)]]
    assert ds.verify().ok
    again = pickle.loads(pickle.dumps(ds))
    assert again.batch([2]).images.shape == (1, 5, 5, 3)


def test_a_folder_that_is_given_and_names_that_leave_it(tmp_path: Path) -> None:
    pictures(tmp_path / "far" / "away")
    hostile = json.loads(json.dumps(WHOLE))
    hostile["images"][0]["file_name"] = "../secret.png"
    path = written(tmp_path / "a.json", hostile)
    with pytest.raises(mapix.UnsupportedError, match="images=FOLDER"):
        _ = mapix.open(path)[1].image
    with pytest.raises(mapix.UnsupportedError, match="images=FOLDER"):
        mapix.open(path).batch([0])
    ds = mapix.open(path, images=tmp_path / "far" / "away")
    assert ds[1].image.shape == (10, 12, 3)
    with pytest.raises(OSError, match="leaves the folder"):
        _ = ds[0].image
    assert "leaves the folder" in str(ds.verify())
    assert pickle.loads(pickle.dumps(ds))[1].image.shape == (10, 12, 3)


# --- pycocotools ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_masks_are_those_of_pycocotools(tmp_path: Path) -> None:
    tool = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    rng = np.random.default_rng(0)
    for k in range(1500):
        h, w = (int(v) for v in rng.integers(1, 60, 2))
        corners = rng.uniform(-20, 80, (2, int(rng.integers(3, 9)), 2))
        corners = [np.round(corners), np.round(corners * 5) / 5, np.round(corners, 2), corners][
            k % 4
        ]
        some = [one.reshape(-1).tolist() for one in corners[: 1 + k % 2]]
        wanted = tool.decode(tool.merge(tool.frPyObjects(some, h, w))).astype(bool)
        mask, box = segment(some, (h, w))
        found = np.zeros((h, w), bool)
        found[box[0] : box[2], box[1] : box[3]] = mask
        assert np.array_equal(found, wanted), (some, h, w)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_file_that_pycocotools_reads(tmp_path: Path, path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools").COCO(str(path))
    ds = mapix.open(path)
    for record in ds:
        numbers = coco.getAnnIds(imgIds=record.id)
        assert record.target == coco.loadAnns(numbers)
        masks = [coco.annToMask(a) for a in coco.loadAnns(numbers)]
        assert record.masks().tolist() == [m.astype(bool).tolist() for m in masks]
    crowds = coco.getAnnIds(iscrowd=True)
    assert [a.id for a in ds.annotations.where("iscrowd == 1")] == crowds
    results = coco.loadRes([{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}])
    found = mapix.open(written(tmp_path / "results.json", results.dataset)).annotations
    assert found.columns["score"].values.tolist() == [0.5]
    assert found[0].mask().sum() == 12


def test_panoptic_files_have_categories_and_need_no_ids(tmp_path):
    segments = [{"id": 1, "category_id": 100}, {"id": 258, "category_id": 3}]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 4, "width": 6}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 100, "name": "wall"}],
    }
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    ds = mapix.open(path)
    assert ds.columns["categories"].values.tolist() == [("cat", "wall")]
    assert ds.annotations[0].segments == segments
    assert ds.verify().ok
    segments[1]["category_id"] = 7
    path.write_text(json.dumps(content), encoding="utf-8")
    ds = mapix.open(path)
    assert ds.columns["categories"].values.tolist() == [("7", "wall")]
    assert [p for p in ds.verify().problems if "no category with id 7" in p]
    del content["annotations"][0]["segments_info"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert mapix.open(path).verify().problems == [f"{path}: annotation 0 has no id"]


def test_errors_name_the_folder_that_was_not_found(tmp_path):
    path = tmp_path / "x.json"
    image = {"id": 5, "file_name": "a.jpg", "height": 4, "width": 6}
    path.write_text(json.dumps({"images": [image]}), encoding="utf-8")
    ds = mapix.open(path)
    with pytest.raises(mapix.UnsupportedError, match="open the file with images=FOLDER"):
        ds.show()
    with pytest.raises(mapix.UnsupportedError, match="open the file with images=FOLDER"):
        mapix.convert(ds, tmp_path / "x.npz")
    assert "images=FOLDER" in ds.explain(0)["how"]
