"""The size of the image is what the metadata states, as pycocotools and label maps need it."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

import mapix
import mapix.iid
from mapix.iid import Writer
from mapix.iid.coco import decode

H, W = 40, 70


def write(path, meta, boxes=((3, 5, 9, 11), (2, 2, 30, 60))):
    with Writer(path, meta) as out:
        for k, (r, c, r2, c2) in enumerate(boxes):
            out.add("d", f"{k}", np.ones((r2 - r, c2 - c), bool), bbox=(r, c, r2, c2))
    return mapix.open(path)


def test_the_size_of_the_image_is_the_metadatas(tmp_path):
    a = write(tmp_path / "x.iid", {"image": {"width": W, "height": H}})
    assert a.shape == (H, W)
    assert [rle["size"] for rle in a.coco_rle()] == [[H, W]] * 2
    for rle, s in zip(a.coco_rle(compressed=False), a, strict=True):
        assert sum(rle["counts"]) == H * W
        mask, box = decode(rle)
        assert (box, mask.all()) == (s.bbox, True)
    assert a.paint().shape == (H, W)
    assert mapix.iid.label_map(a).labels.shape == (H, W)
    assert (mapix.iid.label_map(a).labels > 0).sum() == 28 * 58
    both = mapix.open([tmp_path / "x.iid", tmp_path / "x.iid"])
    assert both.shape == (H, W)
    assert both.coco_rle()[3]["size"] == [H, W]


def test_coco_tools_agree(tmp_path):
    masks = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    a = write(tmp_path / "x.iid", {"image": {"width": W, "height": H}})
    canvases = np.asfortranarray(np.stack([s.mask((0, 0, H, W)) for s in a], axis=2), np.uint8)
    theirs = masks.encode(canvases)
    ours = [{**rle, "counts": rle["counts"].encode()} for rle in a.coco_rle()]
    assert [r["counts"] for r in ours] == [r["counts"] for r in theirs]
    shared = 6 * 6
    union = 28 * 58
    iou = masks.iou(ours, theirs, [0, 0])
    assert iou[0, 1] == pytest.approx(shared / union)
    assert iou[0, 0] == 1


@pytest.mark.parametrize(
    "image",
    [
        None,
        [],
        "x",
        {},
        {"width": W},
        {"width": W, "height": 0},
        {"width": W, "height": -4},
        {"width": W, "height": 65536},
        {"width": 10.5, "height": 20},
        {"width": "70", "height": "40"},
        {"width": True, "height": True},
    ],
)
def test_metadata_that_states_no_size(tmp_path, image):
    a = write(tmp_path / "x.iid", {"image": image, "a": 1})
    assert a.shape == (30, 60)


def test_boxes_beyond_the_image_are_not_cut(tmp_path):
    a = write(tmp_path / "x.iid", {"image": {"width": 50, "height": 100}})
    with pytest.warns(mapix.MapixWarning, match=r"reach to \(30, 60\).*100 x 50"):
        assert a.shape == (100, 60)
    report = mapix.open(tmp_path / "x.iid").verify()
    assert any("image of 100 x 50" in p for p in report.problems)
    assert write(tmp_path / "y.iid", {"image": {"width": 60, "height": 30}}).verify().ok


def test_tables_state_the_image(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    write(tmp_path / "x.iid", {"image": {"width": W, "height": H}})
    mapix.convert(tmp_path / "x.iid", tmp_path / "x.parquet")
    found = parquet.read_table(tmp_path / "x.parquet")
    assert json.loads(found.schema.metadata[b"mapix"])["size"] == [H, W]
    for counts, box in zip(found["rle"].to_pylist(), ((3, 5, 9, 11), (2, 2, 30, 60)), strict=True):
        assert decode({"size": [H, W], "counts": counts})[1] == box


# --- numbers in a small file do not choose how much memory is taken -----------------------------


def bare(path, rows, meta=b"{}"):
    """An archive of segments without regions: (box) each."""
    lut = b"".join(struct.pack("<5I", k, 12 * k, 12, 16 * k, 16) for k in range(len(rows)))
    iids = b"".join(struct.pack("<3I", k, 0, 0) for k in range(len(rows)))
    segs = b"".join(struct.pack("<I4HI", k, *box, 0) for k, box in enumerate(rows))
    places, at = [], 48
    for part in (lut, iids, meta, b"\2\0\0\0[]", segs):
        places += [at, len(part)]
        at += len(part)
    path.write_bytes(struct.pack("<12I", 0, 0, *places) + lut + iids + meta + b"\2\0\0\0[]" + segs)
    return mapix.open(path)


def test_pixels_that_only_a_number_asks_for_are_limited(tmp_path):
    huge = bare(tmp_path / "x.iid", [(0, 0, 65535, 65535)] * 3)
    for call in (
        huge.paint,
        huge.masks,
        huge[0].mask,
        lambda: huge.union([0, 1]),
        lambda: huge.intersection([0, 1]),
        lambda: huge.difference([0, 1]),
        lambda: mapix.iid.label_map(huge),
        lambda: huge.select(keys=[1]).paint(),
        lambda: huge.select(keys=[1]).masks(),
        lambda: huge[0].centroid,
        lambda: huge[0].perimeter,
        lambda: huge[0].polygon(),
    ):
        with pytest.raises(mapix.LimitError, match="bbox="):
            call()
    box = (65000, 65000, 65100, 65100)
    assert huge[0].mask(box).shape == (100, 100)
    assert huge.paint(bbox=box).shape == (100, 100)
    assert huge.union([0, 1], bbox=box)[0].shape == (100, 100)
    assert huge.counts().tolist() == [0, 0, 0]
    assert len(huge.coco_rle()) == 3
    said = bare(tmp_path / "y.iid", [], b'{"image":{"width":65535,"height":65535}}')
    with pytest.raises(mapix.LimitError, match="65535 x 65535"):
        said.paint()
    # masks of 32 Mi pixels, and of 32 a byte of the file, are given
    most = bare(tmp_path / "z.iid", [(0, 0, 4096, 8192), (0, 0, 4097, 8192)])
    most.check_pixels(4096 * 8192, "a mask")
    assert most[0].mask().shape == (4096, 8192)
    with pytest.raises(mapix.LimitError):
        most[1].mask()
    most.check_pixels(8192 * 8192, "an image", 64)
    with pytest.raises(mapix.LimitError):
        most.check_pixels(8192 * 8192 + 1, "an image", 64)
