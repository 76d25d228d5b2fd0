"""Image folders that were converted wrongly once: each with its right outcome."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix import LossError

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")


def encoded(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def plain(value: int, kind: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.full((6, 5, 3), value, np.uint8)), kind)


def make(folder: Path, lines: list[dict], files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metadata.jsonl").write_text(text)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FRAMES = [Image.fromarray(np.full((4, 4), 40 * k, np.uint8)) for k in range(3)]
CASES: dict[str, tuple[list[dict], dict[str, bytes]]] = {
    "a file named twice": (
        [
            {"file_name": "0001.png"},
            {"file_name": "0002.png", "caption": "x"},
            {"file_name": "0002.png", "objects": {"bbox": [[8, 1, 2, 2]], "categories": [1]}},
        ],
        {"0001.png": plain(1), "0002.png": plain(2)},
    ),
    "categories that are numbers": (
        [{"file_name": f"{k}.png", "categories": [c]} for k, c in enumerate([0, 1, 2, 10, 2, 7])],
        {f"{k}.png": plain(k) for k in range(6)},
    ),
    "two pictures": (
        [{"file_name": "0.png", "mask_file_name": "m.png"}],
        {"0.png": plain(0), "m.png": plain(7)},
    ),
    "lists of pictures": (
        [
            {
                "file_name": "0.png",
                "page_file_names": ["m.png", "n.png"],
                "o": {"x_file_name": "o.png"},
            }
        ],
        {"0.png": plain(0), "m.png": plain(7), "n.png": plain(8), "o.png": plain(9)},
    ),
    "more keys of objects": (
        [
            {
                "file_name": "0.png",
                "objects": {"bbox": [[1, 1, 2, 3]], "categories": [4], "iscrowd": [1], "area": [6]},
            }
        ],
        {"0.png": plain(0)},
    ),
    "another key of categories": (
        [{"file_name": "0.png", "objects": {"id": [1], "bbox": [[1, 1, 2, 3]], "category": [4]}}],
        {"0.png": plain(0)},
    ),
    "null categories": (
        [
            {
                "file_name": "0.png",
                "categories": None,
                "objects": {"bbox": [[1, 1, 2, 3]], "categories": None},
            }
        ],
        {"0.png": plain(0)},
    ),
    "keys of our own": (
        [{"file_name": "0.png", "split": "train", "image": "x", "self": 1, "save": {"quality": 3}}],
        {"0.png": plain(0)},
    ),
    "frames": (
        [{"file_name": "a.gif"}, {"file_name": "m.tif"}],
        {
            "a.gif": encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
            "m.tif": encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
        },
    ),
    "an ending twice": (
        [{"file_name": "a.jpg"}, {"file_name": "a.jpg.png"}],
        {"a.jpg": plain(1, "JPEG"), "a.jpg.png": plain(2)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_folders_become_the_same_folders(tmp_path, case):
    source = make(tmp_path / "f", *CASES[case])
    made = mapix.convert(source, tmp_path / "g", to="folder")
    assert made.lost == ()
    assert content(tmp_path / "g") == content(source)


@pytest.mark.parametrize("name", ["doc_example", "v1_file_name/my_images"])
def test_the_goldens_become_the_same_folders(tmp_path, name):
    source = GOLDEN / "opsml" / name
    named = [r.file_name for r in mapix.open(source)]
    if any(not (source / n).exists() for n in named):  # the document prints lines alone
        lines = [r.metadata for r in mapix.open(source)]
        source = make(tmp_path / "f", lines, {n: plain(k) for k, n in enumerate(named)})
    mapix.convert(source, tmp_path / "g", to="folder")
    listed = {n: data for n, data in content(source).items() if n in {*named, "metadata.jsonl"}}
    found = content(tmp_path / "g")
    assert found.keys() == listed.keys()
    lines = [json.loads(line) for line in found.pop("metadata.jsonl").splitlines()]
    assert lines == [json.loads(line) for line in listed.pop("metadata.jsonl").splitlines()]
    assert found == listed


def test_the_later_schema_becomes_the_first(tmp_path):
    source = GOLDEN / "opsml" / "v2_filepath" / "imgs"
    assert mapix.convert(source, tmp_path / "g", to="folder").lost == ()
    for split in ("train", "test"):
        old, new = (mapix.open(p, split=split) for p in (source, tmp_path / "g"))
        for a, b in zip(old, new, strict=True):
            assert a.read() == b.read()
            line = {("file_name" if k == "filepath" else k): v for k, v in a.metadata.items()}
            assert b.metadata == line


def test_whole_numbers_stay_the_labels_that_they_are(tmp_path):
    source = make(tmp_path / "f", *CASES["categories that are numbers"])
    target = tmp_path / "x-images-idx4-ubyte"
    mapix.convert(source, target, lossy=True)
    assert np.asarray(mapix.open(target).labels).ravel().tolist() == [0, 1, 2, 10, 2, 7]
    assert mapix.open(target).byteorder == ">"
    mapix.convert(source, tmp_path / "v", to="vimh", lossy=True)
    assert mapix.open(tmp_path / "v").labels["category"].classes.tolist() == [0, 1, 2, 10, 2, 7]
    mapix.convert(source, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as z:
        assert z["label/category"].tolist() == [0, 1, 2, 10, 2, 7]
    images = {"size": (3, 3), "fit": "resize"}
    mapix.convert(source, tmp_path / "g", to="folder", images=images)
    lines = [r.metadata["categories"] for r in mapix.open(tmp_path / "g")]
    assert lines == [[0], [1], [2], [10], [2], [7]]


def test_boxes_go_with_their_pictures(tmp_path):
    box = {"bbox": [[0, 0, 4, 4]], "categories": [0]}
    source = make(tmp_path / "f", [{"file_name": "0.png", "objects": box}], {"0.png": plain(0)})
    images = {"size": (60, 50), "fit": "resize", "mode": "RGB"}
    assert mapix.convert(source, tmp_path / "g", to="folder", images=images).lost == ()
    record = mapix.open(tmp_path / "g")[0]
    assert (record.image.shape, record.objects.bbox.tolist()) == ((60, 50, 3), [[0, 0, 40, 40]])
    mapix.convert(
        source, tmp_path / "x.npz", images={**images, "fit": "letterbox", "size": (60, 70)}
    )
    with np.load(tmp_path / "x.npz") as z:
        line = json.loads(z["records.jsonl"])
    assert line["objects"] == {"bbox": [[10, 0, 40, 40]], "categories": [0]}
    area = {"file_name": "0.png", "objects": {**box, "area": [16]}}
    make(source, [area], {})
    with pytest.raises(LossError, match=r"objects\.area: not moved"):
        mapix.convert(source, tmp_path / "h", to="folder", images=images)
    mapix.convert(source, tmp_path / "h", to="folder", images={"mode": "RGB"})  # not scaled


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("two pictures", "further files that lines name: mask_file_name"),
        ("lists of pictures", r"further files .*: page_file_names, o\.x_file_name"),
        ("frames", r"later frames: a\.gif, m\.tif"),
    ],
)
def test_what_arrays_have_no_place_for(tmp_path, case, text):
    source = make(tmp_path / "f", *CASES[case])
    for name in ("x.npz", "x.npy")[: 1 if case == "frames" else 2]:  # those differ in channels
        with pytest.raises(LossError, match=text):
            mapix.convert(source, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_what_files_hold_beside_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 6
    turned = Image.Exif()
    turned[0x0112] = 6
    colours = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
    files = {
        "maker.jpg": encoded(colours, "JPEG", exif=exif),
        "turned.jpg": encoded(colours, "JPEG", exif=turned),  # which is followed, and so not lost
        "profile.png": encoded(colours, "PNG", icc_profile=b"a profile"),
        "clear.png": encoded(colours, "PNG", transparency=(0, 0, 0)),
        "cmyk.jpg": encoded(colours.convert("CMYK"), "JPEG"),
    }
    source = make(tmp_path / "f", [{"file_name": n} for n in files], files)
    with pytest.raises(LossError) as e:
        mapix.convert(source, tmp_path / "x.npz")
    assert e.value.lost == (
        "colours that are not RGB (CMYK, YCbCr, LAB): cmyk.jpg",
        "a transparent colour: clear.png",
        "a colour profile: profile.png",
        "EXIF: maker.jpg",
    )
    with pytest.raises(LossError, match=r"EXIF: maker\.jpg, turned\.jpg"):
        mapix.convert(source, tmp_path / "x.npz", opening={"orientation": False})
    assert mapix.convert(source, tmp_path / "g", to="folder").lost == ()


def test_names_of_encoded_pictures_are_free_ones(tmp_path):
    source = make(tmp_path / "f", *CASES["an ending twice"])
    mapix.convert(source, tmp_path / "g", to="folder", images={"mode": "L"})
    ds = mapix.open(tmp_path / "g")
    assert [r.file_name for r in ds] == ["a.jpg-2.png", "a.jpg.png"]
    assert [r.image[0, 0, 0] for r in ds] == [1, 2]
    source = make(tmp_path / "h", *CASES["a file named twice"])
    mapix.convert(source, tmp_path / "i", to="folder", images={"mode": "L"})
    ds = mapix.open(tmp_path / "i")
    assert [r.file_name for r in ds] == ["0001.png", "0002.png", "0002.png"]
    assert ds[2].objects.bbox.tolist() == [[8, 1, 2, 2]]


def test_labels_do_not_take_the_place_of_other_keys(tmp_path):
    for name in ("caption", "file_name", "mask_file_name", "file_names", "spec_min"):
        label = mapix.vimh.Parameter(name, 0, 0.0, 9.0, 1.0)
        with mapix.vimh.Writer(tmp_path / name, [label]) as out:
            out.append(np.zeros((3, 4), np.uint8), {name: 3.0})
        with pytest.raises(mapix.UnsupportedError, match=f"{name!r}"):
            mapix.convert(tmp_path / name / "train", tmp_path / "g", to="folder", lossy=True)
        assert not (tmp_path / "g").exists()


def test_records_of_other_metadata_files_are_not_forgotten(tmp_path):
    source = make(tmp_path / "f", [{"file_name": "a.png"}], {"a.png": plain(1)})
    make(source / "sub", [{"file_name": "b.png"}], {"b.png": plain(2)})
    with pytest.raises(LossError, match="records of sub: metadata files of their own"):
        mapix.convert(source, tmp_path / "g", to="folder")
    assert mapix.convert(source, tmp_path / "g", to="folder", split="sub").lost == ()
    assert mapix.open(tmp_path / "g")[0].image[0, 0, 0] == 2


def test_splits_of_any_names(tmp_path):
    for split in ("zebra", "train"):
        make(tmp_path / "f" / split, [{"file_name": "a.png", "s": split}], {"a.png": plain(1)})
    made = mapix.convert(tmp_path / "f", tmp_path / "g", to="folder")
    assert made.records == {"train": 1, "zebra": 1}
    assert content(tmp_path / "g") == content(tmp_path / "f")
    made = mapix.convert(tmp_path / "f", tmp_path / "v", to="vimh", lossy=True)
    assert made.records == {"train": 1, "zebra": 1}
    assert mapix.open(tmp_path / "v", split="zebra")[0].image[0, 0, 0] == 1


def test_pictures_of_other_channels_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    import mapix.conversion.stream

    monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", 1)
    grey = encoded(Image.fromarray(np.zeros((6, 5), np.uint8)))
    source = make(
        tmp_path / "f",
        [{"file_name": "a.png"}, {"file_name": "b.png"}],
        {"a.png": plain(1), "b.png": grey},
    )
    with pytest.raises(ValueError, match=r"pictures of 1, 3 channels: pass mode="):
        mapix.convert(source, tmp_path / "x.npz", images={"size": (6, 5)})
    made = mapix.convert(source, tmp_path / "x.npz", images={"fit": "pad", "mode": "RGB"})
    assert made.lost == ()
    with pytest.raises(TypeError, match="no options sizes"):
        mapix.convert(source, tmp_path / "y.npz", images={"sizes": (6, 5)})


def test_padding_is_to_the_largest_of_all(tmp_path, monkeypatch):
    import mapix.conversion.stream

    monkeypatch.setattr(mapix.conversion.stream, "BLOCK_NBYTES", 1)
    sizes = [(2, 7), (6, 3), (4, 4)]
    files = {
        f"{k}.png": encoded(Image.fromarray(np.full(s, 9, np.uint8))) for k, s in enumerate(sizes)
    }
    source = make(tmp_path / "f", [{"file_name": n} for n in files], files)
    mapix.convert(source, tmp_path / "x.npz", images={"fit": "pad"})
    with np.load(tmp_path / "x.npz") as z:
        assert z["images"].shape == (3, 6, 7, 1)
        assert z["images"].sum() == 9 * sum(h * w for h, w in sizes)
