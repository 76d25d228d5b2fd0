"""opsml's classes: the document's example as printed, the original's bytes, its checks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.compat.opsml import BBox, ImageDataset, ImageMetadata, ImageRecord, ValidationError

OPSML = GOLDEN / "opsml"
V1 = OPSML / "v1_file_name" / "my_images"
TOLD = json.loads((OPSML / "manifest.json").read_text())["variants"]
RECORDS = TOLD["v1_file_name"]["metadata"]["metadata.jsonl"]["records"]


def documents_example() -> tuple[ImageRecord, ImageDataset]:
    """As printed there, but for the package's name: its record and its dataset of my_images."""
    # Create one metadata record
    record = ImageRecord(
        file_name="0001.png",
        caption="This is a caption for the image",
        categories=[0],
        objects=BBox(
            bbox=[[302.0, 109.0, 73.0, 52.0]],
            categories=[0]
        ),
    )  # fmt: skip

    metadata = ImageMetadata(records=[record])

    # if you'd like to write the metadata to file
    metadata.write_to_file("my_images/metadata.jsonl")

    # Create image dataset
    image_dataset = ImageDataset(
        image_dir="my_images",
        metadata=metadata # or if you wrote the file to disk, metadata="metadata.jsonl"
    )  # fmt: skip

    return record, image_dataset


def test_the_documents_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").mkdir()
    record, image_dataset = documents_example()
    golden = (V1 / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    written = Path("my_images/metadata.jsonl").read_bytes()
    assert written == golden[0]
    assert image_dataset.metadata.records == [record]
    assert (
        ImageDataset(image_dir="my_images", metadata="metadata.jsonl").metadata == "metadata.jsonl"
    )
    os.unlink("my_images/metadata.jsonl")
    image_dataset.convert_metadata()
    assert Path("my_images/metadata.jsonl").read_bytes() == written
    assert os.listdir("my_images") == ["metadata.jsonl"]


def test_the_original_s_bytes(tmp_path):
    metadata = ImageMetadata(records=RECORDS)
    metadata.write_to_file(tmp_path / "metadata.jsonl")
    assert (tmp_path / "metadata.jsonl").read_bytes() == (V1 / "metadata.jsonl").read_bytes()
    assert [r.model_dump() for r in metadata.records] == RECORDS
    assert ImageMetadata.model_validate(metadata.model_dump()) == metadata
    odd = ImageRecord(
        file_name="x",
        objects={"bbox": [[float("nan"), float("-inf"), 1e22, -0.0]], "categories": [1e-7, 2**70]},
    )
    ImageMetadata(records=[odd]).write_to_file(str(tmp_path / "odd"))
    assert (tmp_path / "odd").read_bytes() == (
        b'{"file_name": "x", "caption": null, "categories": null, "objects": {"bbox": '
        b'[[NaN, -Infinity, 1e+22, -0.0]], "categories": [1e-07, 1180591620717411303424]}}\n'
    )


def test_the_documents_records_are_read():
    ds = ImageDataset(image_dir=str(OPSML / "doc_example"), metadata="metadata.jsonl")
    assert [r.metadata for r in ds.open()] == TOLD["doc_example"]["records"]
    records = [ImageRecord(**r) for r in TOLD["doc_example"]["records"]]
    assert records[0].caption is None
    assert records[3].objects == BBox(
        bbox=[[160, 31, 248, 616], [741, 68, 202, 401]], categories=[2, 2]
    )
    assert "caption='This is a second" in repr(records[1])


def test_without_pydantic():
    code = "import sys; sys.modules['pydantic'] = None; import mapix.compat.opsml"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


ACCEPTED = [
    (
        BBox,
        {"bbox": [["1.5", 1, True]], "categories": [True, 1, 1.5, "x"]},
        {"bbox": [[1.5, 1.0, 1.0]], "categories": [1, 1, 1.5, "x"]},
    ),
    (
        BBox,
        {"bbox": ((1, 2), {3}), "categories": (x for x in "ab")},
        {"bbox": [[1.0, 2.0], [3.0]], "categories": ["a", "b"]},
    ),
    (
        BBox,
        {"bbox": np.ones((1, 4)), "categories": [np.int64(3), Decimal("2.5")]},
        {"bbox": [[1.0] * 4], "categories": [3.0, 2.5]},
    ),
    (BBox, {"bbox": [], "categories": [1, 2, 3], "more": 1}, {"bbox": [], "categories": [1, 2, 3]}),
    (
        ImageRecord,
        {"file_name": ""},
        {"file_name": "", "caption": None, "categories": None, "objects": None},
    ),
    (
        ImageRecord,
        {"file_name": b"a", "caption": bytearray(b"b"), "x": 1},
        {"file_name": "a", "caption": "b", "categories": None, "objects": None},
    ),
    (ImageMetadata, {"records": []}, {"records": []}),
]


@pytest.mark.parametrize(("kind", "given", "dumped"), ACCEPTED)
def test_what_is_accepted_and_what_it_becomes(kind, given, dumped):
    found = kind(**given).model_dump()
    assert found == dumped
    assert json.dumps(found) == json.dumps(dumped)  # types, too


REFUSED = [
    (BBox, {"bbox": []}, "BBox.categories: the field is missing"),
    (BBox, {"categories": []}, "BBox.bbox: the field is missing"),
    (BBox, {"bbox": [[None]], "categories": []}, r"bbox\[0\]: a number expected, got NoneType"),
    (BBox, {"bbox": [["x"]], "categories": []}, r"bbox\[0\]: a number expected"),
    (BBox, {"bbox": [["١٢"]], "categories": []}, r"bbox\[0\]: a number expected"),
    (BBox, {"bbox": [1], "categories": []}, r"bbox\[0\]: a list expected, got int"),
    (BBox, {"bbox": "12", "categories": []}, "bbox: a list expected, got str"),
    (BBox, {"bbox": {}, "categories": []}, "bbox: a list expected, got dict"),
    (BBox, {"bbox": [[10**400]], "categories": []}, r"bbox\[0\]: a number expected"),
    (BBox, {"bbox": [], "categories": [None]}, r"categories\[0\]: text or a number expected"),
    (BBox, {"bbox": [], "categories": [[1]]}, r"categories\[0\]: text or a number expected"),
    (ImageRecord, {}, "file_name: the field is missing"),
    (ImageRecord, {"file_name": 1}, "file_name: text expected, got int"),
    (ImageRecord, {"file_name": b"\xff"}, "file_name: the bytes are not UTF-8"),
    (ImageRecord, {"file_name": "a", "caption": 1}, "caption: text expected, got int"),
    (ImageRecord, {"file_name": "a", "categories": 1}, "categories: a list expected, got int"),
    (ImageRecord, {"file_name": "a", "objects": [1]}, "BBox: an object expected, got list"),
    (ImageMetadata, {"records": [3]}, "ImageRecord: an object expected, got int"),
    (ImageDataset, {"metadata": "metadata.jsonl"}, "image_dir: the field is missing"),
    (ImageDataset, {"image_dir": None, "metadata": "metadata.jsonl"}, "image_dir: a directory"),
    (ImageDataset, {"image_dir": "/nowhere", "metadata": "m.jsonl"}, "image_dir: a directory"),
    (ImageDataset, {"image_dir": str(V1)}, "metadata: the field is missing"),
    (ImageDataset, {"image_dir": str(V1), "metadata": "jsonl.txt"}, "a .jsonl file expected"),
    (ImageDataset, {"image_dir": str(V1), "metadata": "../x.jsonl"}, "a .jsonl file expected"),
    (ImageDataset, {"image_dir": str(V1), "metadata": "no.jsonl"}, "no.jsonl is not in"),
    (ImageDataset, {"image_dir": str(V1), "metadata": 3}, "ImageMetadata: an object expected"),
]


@pytest.mark.parametrize(("kind", "given", "text"), REFUSED)
def test_what_is_refused(kind, given, text):
    with pytest.raises(ValidationError, match=text):
        kind(**given)
    assert issubclass(ValidationError, ValueError)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"file_name": "a"}\n\n{"file_name": "b"}\n', "line 2 is blank"),
        (b'{"file_name": "a"}\n\n', "line 2 is blank"),
        (b"\n", "line 1 is blank"),
        (
            b'{"file_name": "a"}\n{"caption": "b"}\n',
            "line 2: ImageRecord.file_name: the field is",
        ),
        (b'{"file_name": "a"}\n[]\n', "line 2: ImageRecord: an object expected"),
        (b'{"file_name": "a"}\n{\n', "line 2: not? JSON"),
        (b'{"filepath": "a", "size": 3}\n', "line 1: ImageRecord.file_name: the field is missing"),
    ],
)
def test_lines_that_are_refused(tmp_path, data, text):
    (tmp_path / "metadata.jsonl").write_bytes(data)
    with pytest.raises((ValidationError, mapix.FormatError), match=text):
        ImageDataset(image_dir=str(tmp_path), metadata="metadata.jsonl")


def test_lines_that_are_accepted(tmp_path):
    for data in (
        b"",
        b'{"file_name": "a"}',
        b'{"file_name": "a", "z": 1}\r\n{"file_name": "a"}\r\n',
    ):
        (tmp_path / "metadata.jsonl").write_bytes(data)
        ImageDataset(image_dir=str(tmp_path), metadata="metadata.jsonl")


def test_a_file_that_is_there_is_replaced_whole_or_not(tmp_path):
    shutil.copy(V1 / "metadata.jsonl", tmp_path / "metadata.jsonl")
    before = (tmp_path / "metadata.jsonl").read_bytes()
    metadata = ImageMetadata(records=[{"file_name": "a"}, {"file_name": "b"}])
    metadata.records[1].file_name = {1, 2}  # nobody looks, as in the original
    with pytest.raises(TypeError):
        metadata.write_to_file(tmp_path / "metadata.jsonl")
    assert (tmp_path / "metadata.jsonl").read_bytes() == before
    assert os.listdir(tmp_path) == ["metadata.jsonl"]
    metadata.records.pop()
    metadata.write_to_file(tmp_path / "metadata.jsonl")
    assert (tmp_path / "metadata.jsonl").read_bytes().count(b"\n") == 1


# --- as pydantic's models -------------------------------------------------------------------------


def test_attributes_that_are_no_fields_are_refused():
    record = ImageRecord(file_name="a")
    with pytest.raises(ValueError, match='"ImageRecord" object has no field "captoin"'):
        record.captoin = "x"
    with pytest.raises(AttributeError):
        _ = record.captoin
    with pytest.raises(TypeError):
        ImageRecord("a")
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)
    with pytest.raises(TypeError, match="no option exclude_nones"):
        record.model_dump(exclude_nones=True)
    record.caption = "x"
    assert record.model_fields_set == {"file_name", "caption"}
    assert dict(record) == vars(record) == record.model_dump()


def test_json_both_ways():
    record = ImageRecord(file_name="ü", objects=BBox(bbox=[[1, 2, 3, 4]], categories=[1, "x"]))
    text = record.model_dump_json(exclude_none=True)
    assert text == '{"file_name":"ü","objects":{"bbox":[[1.0,2.0,3.0,4.0]],"categories":[1,"x"]}}'
    assert ImageRecord.model_validate_json(text) == record
    assert ImageRecord.model_validate_json(text.encode()) == record
    metadata = ImageMetadata(records=[record, {"file_name": "b"}])
    assert ImageMetadata.model_validate_json(metadata.model_dump_json(indent=3)) == metadata
    for bad in ("{", "[]", '{"file_name": 3}', "[" * 100_000):
        with pytest.raises(ValidationError):
            ImageRecord.model_validate_json(bad)


def test_fields_are_known():
    fields = ImageRecord.model_fields
    assert list(fields) == ["file_name", "caption", "categories", "objects"]
    assert [f.is_required() for f in fields.values()] == [True, False, False, False]
    assert fields["caption"].get_default() is None


def same_as(real, ours, do) -> None:
    """One act on both: the same outcome, or errors of both."""
    results = []
    for it in (real, ours):
        try:
            results.append((True, do(it)))
        except Exception as e:  # of many kinds
            results.append((False, isinstance(e, ValueError)))
    assert results[0] == results[1], do


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_pydantic_itself_agrees():
    pydantic = pytest.importorskip("pydantic", reason="needs pydantic")
    pytest.importorskip("hypothesis", reason="needs hypothesis")
    import copy
    import pickle

    from hypothesis import given, settings
    from hypothesis import strategies as st

    def model(name, **fields):
        return pydantic.create_model(name, **fields)

    category = str | int | float
    real_box = model("BBox", bbox=(list[list[float]], ...), categories=(list[category], ...))
    real_record = model(
        "ImageRecord",
        file_name=(str, ...),
        caption=(str | None, None),
        categories=(list[category] | None, None),
        objects=(real_box | None, None),
    )
    real_metadata = model("ImageMetadata", records=(list[real_record], ...))

    floats = st.floats() | st.sampled_from([1e-5, -1.5e-5, 1e-7, 1e16, 1e22, 0.1, -0.0, 1e-4])
    plain = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), floats, st.text(max_size=4)
    )
    box = st.fixed_dictionaries(
        {
            "bbox": st.lists(st.lists(floats | st.integers(-9, 9), max_size=4), max_size=2),
            "categories": st.lists(plain, max_size=3) | st.lists(st.text(max_size=3), max_size=3),
        },
        optional={"more": plain},
    )
    record = st.fixed_dictionaries(
        {"file_name": st.one_of(*[st.text(max_size=5)] * 5, plain)},
        optional={
            "caption": st.none() | st.text(max_size=5),
            "categories": st.none() | st.lists(plain, max_size=3),
            "objects": st.none() | box,
            "x": plain,
        },
    )
    names = st.sampled_from(["file_name", "caption", "categories", "objects", "nothing"])
    inside = st.sampled_from(
        [
            True,
            {"bbox"},
            {"categories": True},
            {"bbox": {0}},
            {"bbox": {-1: True}},
            {"bbox": {"__all__": {1}}},
        ]
    )
    chosen = st.none() | st.sets(names) | st.dictionaries(st.just("objects"), inside)
    flags = st.fixed_dictionaries(
        {k: st.booleans() for k in ("exclude_unset", "exclude_defaults", "exclude_none")}
        | {"include": chosen, "exclude": chosen}
    )

    tricky = [s * 10.0**k * d for k in range(-9, 25) for d in (1, 1.5, 7.25) for s in (1, -1)]
    tricky += [5e-324, 1.7976931348623157e308, float("nan"), float("inf"), 0.1 + 0.2, -0.0]
    boxes = [c(bbox=[tricky], categories=tricky) for c in (real_box, BBox)]
    assert boxes[0].model_dump_json() == boxes[1].model_dump_json()

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(record, flags, st.sampled_from([None, 2]))
    def check(value, how, indent):
        made = []
        for cls in (real_record, ImageRecord):
            try:
                made.append(cls(**value))
            except ValueError:
                made.append(None)
        real, ours = made
        assert (real is None) == (ours is None)
        text = json.dumps(value)
        same_as(real_record, ImageRecord, lambda c: repr(c.model_validate_json(text)))
        whole = json.dumps({"records": [value]})
        same_as(real_metadata, ImageMetadata, lambda c: repr(c.model_validate_json(whole)))
        if ours is None:
            return
        for do in (
            repr,
            str,
            lambda m: repr(m.model_dump(**how)),
            lambda m: repr(m.model_dump(mode="json", by_alias=True, round_trip=False)),
            lambda m: m.model_dump_json(indent=indent, **how),
            lambda m: m.model_fields_set,
            lambda m: repr(dict(m)),
            lambda m: repr(m.model_copy(update={"caption": "new"})),
            lambda m: m.model_copy(update={"caption": "new"}).model_fields_set,
            lambda m: m.model_copy().objects is m.objects,
            lambda m: m.objects is None or m.model_copy(deep=True).objects is not m.objects,
            lambda m: repr(copy.copy(m)) + repr(copy.deepcopy(m)),
            lambda m: repr(type(m).model_construct(**value)),
            lambda m: type(m).model_construct(**value).model_fields_set,
            lambda m: type(m).model_validate(m) is m,
            lambda m: repr(type(m).model_validate(m.model_dump())),
            lambda m: list(type(m).model_fields),
            lambda m: [f.is_required() for f in type(m).model_fields.values()],
            lambda m: setattr(m, "nothing", 1),
            lambda m: m.nothing,
            lambda m: (setattr(m, "caption", "set"), m.model_fields_set, repr(m))[1:],
        ):
            same_as(real, ours, do)
        assert repr(pickle.loads(pickle.dumps(ours))) == repr(ours)
        assert pickle.loads(pickle.dumps(ours)).model_fields_set == ours.model_fields_set

    check()
