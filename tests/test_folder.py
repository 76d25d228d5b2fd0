"""Image folders: goldens of the original, a slow reader, hostile lines and pictures, batches."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.folder import ImageFolder
from mapix.testing import FormatTests
from records import descriptors

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")

OPSML = GOLDEN / "opsml"
TOLD = json.loads((OPSML / "manifest.json").read_text())["variants"]
V1 = OPSML / "v1_file_name" / "my_images"
V2 = OPSML / "v2_filepath" / "imgs"


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array).save(out, "PNG")
    return out.getvalue()


def picture(h: int, w: int, c: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), np.uint8)


def make(folder: Path, lines: list[dict] | bytes, pictures: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(array))
    if not isinstance(lines, bytes):
        lines = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    (folder / "metadata.jsonl").write_bytes(lines)
    return folder


# --- goldens --------------------------------------------------------------------------------------


def check(ds: ImageFolder, records: list[dict], images: dict[str, dict], below: str) -> None:
    assert len(ds) == len(records)
    assert [r.metadata for r in ds] == records
    for record, told in zip(ds, records, strict=True):
        assert record.caption == told.get("caption")
        assert record.categories == told.get("categories")
        objects = told.get("objects")
        assert (record.objects is None) == (objects is None)
        if objects is not None:
            assert record.objects.bbox.tolist() == objects["bbox"]
            assert record.objects.categories == objects["categories"]
            assert record.objects.bbox.dtype == np.float64
        name = told.get("file_name") or told["filepath"].split("/")[-1]
        image = images.get(below + name)
        if image is None:
            continue
        assert hashlib.sha256(record.bytes).hexdigest() == image["file_sha256"]
        assert hashlib.sha256(record.read()).hexdigest() == image["file_sha256"]
        assert list(record.image.shape) == image["shape"]
        assert hashlib.sha256(record.image.tobytes()).hexdigest() == image["pixels_sha256"]
        assert record.path == os.path.join(ds.folder, name)
        assert record.nbytes == os.stat(record.path).st_size


def test_golden_of_the_first_schema():
    told = TOLD["v1_file_name"]
    ds = mapix.open(V1)
    check(ds, told["metadata"]["metadata.jsonl"]["records"], told["images"], "")
    assert ds["sub/0004.png"].index == 4
    assert ds.find("0002.png").tolist() == [1, 2]
    assert [r.line for r in ds] == [1, 2, 3, 4, 5]
    raw = (V1 / "metadata.jsonl").read_bytes()
    assert all(raw[r.offset : r.offset + 13] == b'{"file_name":' for r in ds)


@pytest.mark.parametrize("split", ["train", "test"])
def test_golden_of_the_later_schema(split, tmp_path):
    told = TOLD["v2_filepath"]
    records = told["metadata"][f"{split}/metadata.jsonl"]["records"]
    ds = mapix.open(V2, split=split)
    assert list(ds.splits) == ["train", "test"]
    assert ds.split_name == split
    check(ds, records, told["images"], f"{split}/")
    for name in (split, "other"):  # a folder that was moved, and one with another name
        moved = tmp_path / "moved" / name
        shutil.copytree(V2 / split, moved)
        check(mapix.open(moved), records, told["images"], f"{split}/")
    assert mapix.open(V2).split_name == "train"
    assert ds[0].file_name == f"imgs/{split}/image_0.png"


def test_golden_of_the_document():
    ds = mapix.open(OPSML / "doc_example")
    assert [r.metadata for r in ds] == TOLD["doc_example"]["records"]
    assert ds[3].objects.xyxy.tolist() == [[160, 31, 408, 647], [741, 68, 943, 469]]
    with pytest.raises(FileNotFoundError) as e:
        _ = ds[0].image
    assert "line 1" in e.value.__notes__[0]


# --- the suite that all formats pass --------------------------------------------------------------


def slow(data: bytes) -> list | None:
    """Line by line with Python's own means; None where a line is no record of this kind."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    found = []
    for line in data.split(b"\n"):
        if not line.strip(b" \t\r"):
            continue
        try:
            value = json.loads(line.decode("utf-8"), object_pairs_hook=once)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        name = value.get("file_name")
        if not isinstance(name, str):
            return None
        caption, objects = value.get("caption"), value.get("objects")
        if caption is not None and not isinstance(caption, str):
            return None
        if objects is not None and not good(objects):
            return None
        found.append(value)
    return found


def once(pairs: list) -> dict:
    if len({k for k, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def good(objects: object) -> bool:
    if not isinstance(objects, dict):
        return False
    rows, names = objects.get("bbox"), objects.get("categories")
    rows = [] if rows is None else rows
    names = [] if names is None else names
    return (
        isinstance(rows, list)
        and isinstance(names, list)
        and all(isinstance(r, list) and len(r) == 4 for r in rows)
        and all(type(x) in (int, float) for r in rows for x in r)
    )


class TestConformance(FormatTests):
    def sample(self, folder: Path) -> Path:
        lines = (
            b'{"file_name": "a.png", "caption": "x\\u00e9"}\r\n\n'
            b'{"file_name": "b.png", "objects": {"bbox": [[1, 0, 1, 1.5]], "categories": ["c"]}}\n'
            b'{"more": [null, true], "file_name": "c.png"}'
        )
        make(
            folder, lines, {"a.png": picture(2, 3), "b.png": picture(2, 3), "c.png": picture(3, 2)}
        )
        return folder / "metadata.jsonl"

    def read_slowly(self, data: bytes):
        return slow(data)

    def content(self, dataset):
        for record in dataset:
            assert record.file_name == record.metadata["file_name"]
            assert record.caption == record.metadata.get("caption")
            _ = record.objects
        return [record.metadata for record in dataset]

    def arrays(self, dataset, record):
        return [np.frombuffer(record.bytes, np.uint8)]


# --- opening --------------------------------------------------------------------------------------


def test_what_is_an_image_folder(tmp_path):
    folder = make(tmp_path / "f", [{"file_name": "a.png"}], {"a.png": picture(2, 2)})
    assert isinstance(mapix.open(folder), ImageFolder)
    assert isinstance(mapix.open(folder / "metadata.jsonl"), ImageFolder)
    os.rename(folder / "metadata.jsonl", folder / "other.jsonl")
    assert mapix.open(folder / "other.jsonl")[0].image.shape == (2, 2, 3)
    assert [record.file_name for record in mapix.open(folder)] == ["a.png"]  # a plain folder
    (folder / "a.png").unlink()
    with pytest.raises(mapix.UnknownFormatError, match=r"folder: no metadata\.jsonl in it"):
        mapix.open(folder)
    with pytest.raises(mapix.FormatError, match=r"no metadata\.jsonl in it"):
        mapix.open(folder, format="folder")
    (tmp_path / "x.bin").write_bytes(b"{}\n" * 9)
    with pytest.raises(mapix.FormatError, match="vimh"):  # by another name it is not taken for one
        mapix.open(tmp_path / "x.bin")


def test_other_folders_stay_what_they_are(tmp_path):
    from mapix.idx import write
    from slow_vimh import pack, record

    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "train").write_bytes(pack([record(3, 3, 1, [], seed=1)] * 9))
    write(tmp_path / "v" / "x.idx", np.zeros((3, 2), np.uint8))
    (tmp_path / "v" / "metadata.jsonl").write_bytes(b"{}\n")
    assert type(mapix.open(tmp_path / "v", dialect=14)).__name__ == "Dataset"
    (tmp_path / "i").mkdir()
    write(tmp_path / "i" / "train-images-idx3-ubyte", np.zeros((3, 2, 2), np.uint8))
    (tmp_path / "i" / "metadata.jsonl").write_bytes(b"{}\n")
    assert type(mapix.open(tmp_path / "i")).__name__ == "IdxArray"
    assert isinstance(mapix.open(tmp_path / "v", format="folder"), ImageFolder)


def test_splits(tmp_path):
    one = {"a.png": picture(2, 2)}
    for name in ("zebra", "test", "train"):
        make(tmp_path / "three" / name, [{"file_name": "a.png", "caption": name}], one)
    (tmp_path / "three" / "empty").mkdir()
    (tmp_path / "three" / "file").write_bytes(b"")
    ds = mapix.open(tmp_path / "three")
    assert ds.split_name == "train"
    names = ["train", "test", "zebra"]
    assert list(ds.splits.items()) == [(n, str(tmp_path / "three" / n)) for n in names]
    assert ds[0].caption == "train"
    assert mapix.open(tmp_path / "three", split="zebra")[0].caption == "zebra"
    with pytest.raises(ValueError, match="no split 'x'; there are: train, test, zebra"):
        mapix.open(tmp_path / "three", split="x")
    make(tmp_path / "two" / "a", [{"file_name": "a.png"}], one)
    make(tmp_path / "two" / "b", [{"file_name": "a.png"}], one)
    with pytest.raises(ValueError, match="choose one of its splits by split=: a, b"):
        mapix.open(tmp_path / "two")
    make(tmp_path / "one" / "only", [{"file_name": "a.png"}], one)
    assert mapix.open(tmp_path / "one").split_name == "only"
    make(tmp_path / "one", [{"file_name": "only/a.png", "caption": "own"}], {})
    assert mapix.open(tmp_path / "one")[0].caption == "own"
    assert mapix.open(tmp_path / "one", split="only")[0].caption is None
    with pytest.raises(ValueError, match="is a file"):
        mapix.open(tmp_path / "one" / "metadata.jsonl", split="only")


@pytest.mark.maps
def test_opening_reads_no_line_and_loads_no_decoder(tmp_path):
    folder = make(tmp_path / "f", b'{"file_name": "a.png"}\n', {"a.png": picture(2, 2)})
    with open(folder / "metadata.jsonl", "ab") as f:
        f.truncate(1 << 40)
    code = (
        "import sys, mapix; ds = mapix.open(sys.argv[1]); assert ds[0].file_name == 'a.png'\n"
        "bad = {'PIL', 'mapix.vimh.dataset', 'mapix.iid.archive', 'mapix.idx.array'}\n"
        "bad |= {'torch', 'tempfile', 'logging'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=20)


def test_options_that_make_no_sense(tmp_path):
    for options in ({"max_pixels": 0}, {"max_line_nbytes": 1.5}, {"max_image_nbytes": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            mapix.open(V1, **options)
    with pytest.raises(ValueError, match="is not above"):
        mapix.open(V1, root=tmp_path)


# --- records --------------------------------------------------------------------------------------


def test_records_by_all_kinds_of_keys(tmp_path):
    lines = [{"file_name": f"{k % 7}.png", "n": k} for k in range(50)]
    ds = mapix.open(make(tmp_path / "f", lines, {}))
    assert ds[np.int64(-1)].metadata["n"] == 49
    assert ds[10:20:3].column("n") == [10, 13, 16, 19]
    assert ds[10:20][::-2][[0, -1]].column("n") == [19, 11]
    assert ds[np.arange(50) % 25 == 3].column("n") == [3, 28]
    assert ds.find("3.png").tolist() == list(range(3, 50, 7))
    assert ds[20:30].find("3.png").tolist() == [4]
    assert ds[[24, 3, 24]].find("3.png").tolist() == [0, 1, 2]
    assert ds[20:30]["3.png"].metadata["n"] == 24
    assert "3.png" in ds
    assert "9.png" not in ds
    assert 3 not in ds
    with pytest.raises(KeyError, match=r"8 records name '0\.png'; find\(\) returns them"):
        ds["0.png"]
    with pytest.raises(KeyError, match="no record names"):
        ds["9.png"]
    with pytest.raises(IndexError, match="index 50 of 50"):
        ds[50]
    assert ds.column("nothing") == [None] * 50
    assert repr(ds[3]).startswith("<Record 3 of ")


@pytest.mark.parametrize("quick", [True, False])
def test_names_are_found_with_and_without_orjson(tmp_path, monkeypatch, quick):
    if quick:
        pytest.importorskip("orjson", reason="needs orjson")
    else:
        monkeypatch.setitem(sys.modules, "orjson", None)
    raw = [
        b'{"file_name": "a:b.png", "caption": "x: y"}',
        b'{"caption": "no name"}',
        b'{"file_name": "c.png", "n": NaN}',
        b'{"file_name": "d.png", "n": 99999999999999999999999, "m": [{"a": 1}]}',
        b'{"file_name": "e.png", "mask_file_name": "c.png", "null_file_name": null}',
        b'{"file_name": "f.png", "o": {"file_name": "g.png"}}',
    ]
    ds = mapix.open(make(tmp_path / "f", b"\n".join(raw), {}))
    want = {"a:b.png": [0], "c.png": [2, 4], "d.png": [3], "e.png": [4], "f.png": [5], "g.png": []}
    assert {name: ds.find(name).tolist() for name in want} == want
    for line, reason in (
        (b'{"file_name": "a.png", "file_name": "b.png"}', "occurs twice"),
        (b'{"file_name": "a.png", "o": {"x": 1, "x": 2}}', "occurs twice"),
        (b'{"file_name": 3}', "text expected, got number"),
        (b"[1]", "an object expected, got list"),
        (b"{", "not JSON"),
    ):
        bad = make(tmp_path / "bad", raw[0] + b"\n\n" + line, {})
        with pytest.raises(mapix.FormatError, match=rf"record 1 at byte 4\d: line 3: .*{reason}"):
            mapix.open(bad).find("x")


@pytest.mark.parametrize(
    ("line", "what", "reason"),
    [
        ({"file_name": 1}, "file_name", "file_name: text expected, got number"),
        ({"file_name": None}, "image", "a file_name expected"),
        ({"filename": "a.png"}, "path", "a file_name expected"),
        (
            {"a_file_name": "x", "b_file_name": "y"},
            "image",
            "choose one of a_file_name, b_file_name",
        ),
        ({"file_name": "a.png", "caption": ["x"]}, "caption", "caption: text expected, got list"),
        ({"file_name": "a.png", "categories": "x"}, "categories", "a list expected, got text"),
        (
            {"file_name": "a.png", "objects": [1]},
            "objects",
            "objects: an object expected, got list",
        ),
        ({"objects": {"bbox": {}}}, "objects", r"objects\.bbox: a list expected, got object"),
        ({"objects": {"bbox": [[1, 2, 3]]}}, "objects", r"bbox\[0\]: four numbers expected, got 3"),
        ({"objects": {"bbox": [[1, 2, 3, 4], 5]}}, "objects", r"bbox\[1\]: four numbers .*number"),
        ({"objects": {"bbox": [[1, 2, 3, "4"]]}}, "objects", "numbers expected, got text"),
        (
            {"objects": {"bbox": [[1, 2, 3, True]]}},
            "objects",
            "numbers expected, got true or false",
        ),
        ({"objects": {"bbox": [[1, 2, 3, 10**400]]}}, "objects", "beyond the range of float64"),
        ({"objects": {"bbox": [], "categories": 1}}, "objects", "categories: a list expected"),
    ],
)
def test_wrong_types(tmp_path, line, what, reason):
    ds = mapix.open(make(tmp_path / "f", [{"file_name": "ok"}, line], {}))
    with pytest.raises(
        mapix.FormatError,
        match=rf"metadata\.jsonl: folder record 1 at byte \d+: line 2: .*{reason}",
    ):
        getattr(ds[1], what)
    assert ds[1].metadata == line


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 500_000 + b"\n", "nested too deeply"),
        (b'{"a":' * 100_000 + b"\n", "nested too deeply"),
        (b'{"n": ' + b"9" * 100_000 + b"}\n", "too many digits"),
        (b'{"a": 1, "a": 2}\n', "occurs twice"),
        (b'{"a": "\xc3\x28"}\n', "not UTF-8"),
        (b"\xff\xfe{\0}\0\n", "not UTF-8"),
        (b"{}{}\n", "Extra data"),
        (b"\0\0\0\n", "not JSON"),
        (b"true\n", "an object expected, got true or false"),
    ],
)
def test_lines_that_are_no_records(tmp_path, data, reason):
    good = b'{"file_name": "a.png"}\n'
    ds = mapix.open(make(tmp_path / "f", good + data + good, {}))
    assert len(ds) == 3
    for act in (
        lambda: ds[1].metadata,
        lambda: list(ds),
        lambda: ds.find("x"),
        lambda: ds.batch([1]),
    ):
        with pytest.raises(
            mapix.FormatError, match=rf"jsonl: folder record 1 at byte \d+: line 2: .*{reason}"
        ):
            act()
    assert ds[0].metadata == ds[2].metadata


def test_a_line_above_the_limit(tmp_path):
    data = json.dumps({"file_name": "a.png", "x": "y" * (1 << 20)}).encode()
    folder = make(tmp_path / "f", b'{"file_name": "a.png"}\n' + data, {})
    with pytest.raises(
        mapix.LimitError, match=r"line 2 at byte 23 .*1048576 bytes; max_line_nbytes="
    ):
        _ = mapix.open(folder)[1].metadata
    assert mapix.open(folder, max_line_nbytes=1 << 21)[1].file_name == "a.png"


def test_several_files_a_line(tmp_path):
    pictures = {"a.png": picture(2, 3), "m.png": picture(4, 5, 1)}
    lines = [
        {"mask_file_name": "m.png", "file_name": "a.png"},
        {"mask_file_name": "m.png"},
        {"x_file_name": None, "file_name": "a.png"},
    ]
    folder = make(tmp_path / "f", lines, pictures)
    ds = mapix.open(folder)
    assert list(ds[0].file_names) == ["file_name", "mask_file_name"]
    assert [r.image.shape for r in ds] == [(2, 3, 3), (4, 5, 1), (2, 3, 3)]
    masks = mapix.open(folder, key="mask_file_name")
    assert masks[0].image.shape == (4, 5, 1)
    assert masks.batch([0, 1]).images.shape == (2, 4, 5, 1)
    with pytest.raises(mapix.FormatError, match="line 3: mask_file_name expected"):
        _ = masks[2].image
    assert pickle.loads(pickle.dumps(masks))[0].file_name == "m.png"


# --- files ----------------------------------------------------------------------------------------


def test_names_that_leave_are_told_with_their_line(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(picture(2, 2)))
    names = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "sub/../../secret.png",
        "up/x",
    ]
    folder = make(tmp_path / "f", [{"file_name": n} for n in [*names, "", "\0", "\ud800"]], {})
    (folder / "sub").mkdir()
    os.symlink("../secret.png", folder / "link.png")
    os.symlink("..", folder / "up")
    ds = mapix.open(folder)
    for k in range(len(ds)):
        for act in ("image", "bytes", "nbytes", "source", "read", "pil"):
            with pytest.raises(
                mapix.FormatError,
                match=rf"line {k + 1}: file_name: .*(leaves|not a valid)",
            ):
                getattr(ds[k], act)()
        with pytest.raises(mapix.FormatError, match=f"line {k + 1}"):
            ds.batch([k])
    for name in ("../../secret.png", "/etc/passwd", "x/../../secret.png"):
        later = make(tmp_path / "later", [{"filepath": name, "size": 3}], {})
        with pytest.raises((mapix.FormatError, FileNotFoundError)):
            _ = mapix.open(later)[0].image


def test_one_file_has_many_spellings(tmp_path):
    pictures = {"a.png": picture(2, 3), "sub/b.png": picture(3, 2)}
    names = ["a.png", "./a.png", ".//a.png", "sub/b.png", "sub\\b.png", "./sub/./b.png"]
    ds = mapix.open(make(tmp_path / "f", [{"file_name": n} for n in names], pictures))
    assert [r.image.shape for r in ds] == [(2, 3, 3)] * 3 + [(3, 2, 3)] * 3
    for name in ("a.png", "./a.png", "./././a.png"):
        assert ds.find(name).tolist() == [0, 1, 2]
    for name in ("sub/b.png", "sub\\b.png", ".\\sub//b.png"):
        assert ds.find(name).tolist() == [3, 4, 5]
    assert [r.file_name for r in ds] == names  # as the lines have them
    assert {r.path for r in ds} == {str(tmp_path / "f" / n) for n in pictures}
    assert [(f.code, f.line) for f in ds.verify().findings] == [
        ("duplicate", k) for k in (2, 3, 5, 6)
    ]


def test_a_backslash_that_is_part_of_a_name(tmp_path):
    folder = make(tmp_path / "f", [{"file_name": "sub\\b.png"}], {"sub\\b.png": picture(2, 2)})
    ds = mapix.open(folder)
    assert ds[0].image.shape == (2, 2, 3)
    assert ds[0].path == str(folder / "sub\\b.png")
    told = [f for f in ds.verify().findings if f.code == "huggingface"]
    assert "there is no sub/b.png" in told[0].message
    (folder / "sub").mkdir()
    (folder / "sub" / "b.png").write_bytes(png(picture(5, 5)))
    assert ds[0].image.shape == (5, 5, 3)  # what Hugging Face reads
    for name in ("..\\x.png", "sub\\..\\..\\x.png", "\\x.png"):
        bad = mapix.open(make(tmp_path / "bad", [{"file_name": name}], {}))
        with pytest.raises(mapix.FormatError, match="leaves the folder"):
            _ = bad[0].image


def siblings(folder: Path, name: str, sizes: bool = True) -> Path:
    """Two splits whose pictures have one name, each metadata file naming both, as opsml may."""
    arrays = {"train": np.zeros((4, 4, 3), np.uint8), "test": picture(9, 9)}
    for split in arrays:
        lines = []
        for other, array in arrays.items():
            line = {"filepath": f"{name}/{other}/image_0.png", "caption": other}
            lines.append(line | ({"size": len(png(array))} if sizes else {}))
        make(folder / split, lines, {"image_0.png": arrays[split]})
    return folder


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("name", ["X", "renamed"])
def test_a_filepath_may_name_a_picture_of_another_split(tmp_path, name, sizes):
    shapes = {"train": (4, 4, 3), "test": (9, 9, 3)}
    folder = siblings(tmp_path / name, "X", sizes)
    for split in shapes:
        for ds in (mapix.open(folder, split=split), mapix.open(folder / split, root=folder)):
            for record in ds:
                assert record.image.shape == shapes[record.caption]
                assert record.path == str(folder / record.caption / "image_0.png")
            assert pickle.loads(pickle.dumps(ds))[0].image.shape == (4, 4, 3)
    test = mapix.open(folder / "test")  # a folder alone: what lies beside it is out of reach
    assert test[1].image.shape == (9, 9, 3)
    if name == "X":
        with pytest.raises(FileNotFoundError, match="outside of the folder; .* root="):
            _ = test[0].image
    elif sizes:
        with pytest.raises(mapix.FormatError, match=r"a file of \d+ bytes expected by 'size'"):
            _ = test[0].image


def test_a_filepath_of_another_size_is_refused(tmp_path):
    line = {"filepath": "f/a.png", "size": 5}
    ds = mapix.open(make(tmp_path / "f", [line], {"a.png": picture(2, 2)}))
    for act in ("image", "bytes", "nbytes", "path", "source"):
        with pytest.raises(mapix.FormatError, match=r"line 1: filepath: 'f/a\.png': a file of 5"):
            getattr(ds[0], act)
    assert [f.code for f in ds.verify().findings if f.line == 1] == ["size", "huggingface"]
    for size in (None, True, "77", -1):  # states nothing
        ds = mapix.open(make(tmp_path / "f", [{**line, "size": size}], {}))
        assert ds[0].image.shape == (2, 2, 3)


def test_a_split_that_is_a_link_does_not_leave_either(tmp_path):
    for place in (tmp_path / "f" / "own", tmp_path / "private"):
        make(place, [{"file_name": "a.png"}], {"a.png": picture(2, 2)})
    os.symlink("own", tmp_path / "f" / "test")
    os.symlink("../private", tmp_path / "f" / "train")
    ds = mapix.open(tmp_path / "f", split="test")
    assert ds[0].image.shape == (2, 2, 3)
    assert pickle.loads(pickle.dumps(ds))[0].image.shape == (2, 2, 3)
    with pytest.raises(OSError, match="leaves the folder"):
        mapix.open(tmp_path / "f", split="train")


def test_links_within_a_root_that_was_named(tmp_path):
    """As a cache lays it out: pictures and metadata are links to blobs beside the folder."""
    (tmp_path / "blobs").mkdir()
    folder = make(tmp_path / "snapshots" / "r1", [{"file_name": "a.png"}], {"a.png": picture(2, 2)})
    for name in ("a.png", "metadata.jsonl"):
        os.rename(folder / name, tmp_path / "blobs" / name)
        os.symlink(f"../../blobs/{name}", folder / name)
    with pytest.raises(OSError, match="leaves the folder"):
        mapix.open(folder)
    ds = mapix.open(folder, root=tmp_path)
    assert (ds[0].image == picture(2, 2)).all()
    assert (pickle.loads(pickle.dumps(ds))[0].image == picture(2, 2)).all()
    with pytest.raises(OSError, match="leaves the folder"):
        mapix.open(folder, root=tmp_path / "snapshots")


@pytest.mark.maps
def test_bytes_alias_the_file(tmp_path):
    folder = make(tmp_path / "f", [{"file_name": "a.png"}], {"a.png": picture(30, 30)})
    ds = mapix.open(folder)
    view = ds[0].bytes
    path = str(folder / "a.png")
    assert view.readonly
    assert path in Path("/proc/self/maps").read_text()
    ds.close()
    assert bytes(view) == (folder / "a.png").read_bytes()
    with pytest.raises(mapix.ClosedError):
        len(ds)
    del view, ds
    gc.collect()
    assert path not in Path("/proc/self/maps").read_text()


def test_no_descriptor_is_left(tmp_path):
    lines = [{"file_name": "a.png"}, {"file_name": "missing"}, {"file_name": "../x"}]
    folder = make(tmp_path / "f", lines, {"a.png": picture(4, 4)})
    mapix.open(folder).batch([0], threads=2)
    gc.collect()
    before = descriptors()
    for _ in range(30):
        with mapix.open(folder) as ds:
            assert ds.batch([0, 0, 0], threads=2).images.shape == (3, 4, 4, 3)
            for k in (1, 2):
                with pytest.raises((OSError, mapix.FormatError)):
                    ds.batch([0, k], threads=2)
    del ds
    gc.collect()
    assert descriptors() == before


# --- pictures -------------------------------------------------------------------------------------


def test_kinds_of_pictures(tmp_path):
    rgb = Image.fromarray(picture(6, 5))
    wide = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000
    saved = {
        "l.png": (rgb.convert("L"), (6, 5, 1), np.uint8),
        "la.png": (rgb.convert("LA"), (6, 5, 2), np.uint8),
        "rgba.png": (rgb.convert("RGBA"), (6, 5, 4), np.uint8),
        "bw.png": (rgb.convert("1"), (6, 5, 1), np.uint8),
        "p.png": (rgb.convert("P"), (6, 5, 3), np.uint8),
        "cmyk.jpg": (rgb.convert("CMYK"), (6, 5, 3), np.uint8),
        "deep.png": (Image.fromarray(wide), (6, 5, 1), np.uint16),
        "f.tiff": (Image.fromarray(wide.astype(np.float32)), (6, 5, 1), np.float32),
        "x.gif": (rgb, (6, 5, 3), np.uint8),
        "x.webp": (rgb, (6, 5, 3), np.uint8),
        "x.bmp": (rgb, (6, 5, 3), np.uint8),
    }
    folder = make(tmp_path / "f", [{"file_name": n} for n in saved], {})
    for name, (image, _, _) in saved.items():
        image.save(folder / name)
    ds = mapix.open(folder)
    for name, (_, shape, dtype) in saved.items():
        found = ds[name].image
        assert (found.shape, found.dtype) == (shape, dtype), name
        assert found.dtype.isnative
    assert (ds["deep.png"].image[:, :, 0] == wide).all()
    batch = ds.batch(range(6), mode="RGB")
    assert batch.images.shape == (6, 6, 5, 3)
    assert batch.shapes.tolist() == [[6, 5, 3]] * 6
    with pytest.raises(ValueError, match=r"l\.png has 1 channels, la\.png 2: pass mode="):
        ds.batch([0, 1])
    with pytest.raises(ValueError, match="pictures of uint16: pass dtype='float32'"):
        ds.batch([6])
    deep = ds.batch([6], dtype="float32", scale=0.5, layout="NCHW").images
    np.testing.assert_array_equal(deep[0, 0], wide * np.float32(0.5))
    assert ds.batch([6], dtype="float32", size=(3, 3), fit="resize").images.shape == (1, 3, 3, 1)


def test_orientation(tmp_path):
    image = Image.fromarray(picture(8, 6))
    folder = make(tmp_path / "f", [{"file_name": f"{k}.png"} for k in range(1, 9)], {})
    for k in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = k
        image.save(folder / f"{k}.png", exif=exif)
    ds, plain = mapix.open(folder), mapix.open(folder, orientation=False)
    for k in range(8):
        assert (plain[k].image == picture(8, 6)).all()
        assert ds[k].image.shape == ((8, 6, 3) if k < 4 else (6, 8, 3))
    assert (ds[2].image == picture(8, 6)[::-1, ::-1]).all()
    assert (ds[5].image == np.rot90(picture(8, 6), -1)).all()
    assert ds.batch(range(4, 8)).shapes.tolist() == [[6, 8, 3]] * 4


def bomb(side: int) -> bytes:
    """A PNG of that many pixels a side, of a few bytes: its data ends at once."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_pictures_that_are_none(tmp_path):
    whole = png(picture(40, 40))
    jpeg = io.BytesIO()
    Image.fromarray(picture(40, 40)).save(jpeg, "JPEG")
    files = {
        "empty.png": b"",
        "text.png": b"no picture at all",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": jpeg.getvalue()[:-200],
        "flipped.png": whole[:60] + bytes([whole[60] ^ 255]) + whole[61:],
        "programme.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch /tmp/x) run\n",
    }
    lines = [{"file_name": "ok.png"}] + [{"file_name": n} for n in files]
    folder = make(tmp_path / "f", lines, {"ok.png": picture(40, 40)})
    for name, data in files.items():
        (folder / name).write_bytes(data)
    ds = mapix.open(folder)
    for k, name in enumerate(files, 1):
        for act in (lambda k=k: ds[k].image, lambda k=k: ds.batch([0, k, 0], threads=2)):
            with pytest.raises(
                mapix.FormatError, match=rf"line {k + 1}: {name}: (cannot|not a picture)"
            ):
                act()


def test_pictures_above_the_limits(tmp_path):
    folder = make(tmp_path / "f", [{"file_name": f"{k}.png"} for k in range(4)], {})
    (folder / "0.png").write_bytes(bomb(9460))  # a little above the limit, below Pillow's own
    (folder / "1.png").write_bytes(bomb(60_000))
    (folder / "2.png").write_bytes(png(picture(30, 30)))
    with open(folder / "3.png", "wb") as f:
        f.truncate(1 << 40)
    ds = mapix.open(folder)
    for k in (0, 1):
        with pytest.raises(mapix.LimitError, match=rf"{k}\.png"):
            _ = ds[k].image
    with pytest.raises(mapix.LimitError, match=r"3\.png: the file has 1099511627776 bytes"):
        _ = ds[3].image
    with pytest.raises(mapix.LimitError, match="30 x 30 pixels, more than the limit of 899"):
        mapix.open(folder, max_pixels=899).batch([2])
    assert mapix.open(folder, max_pixels=900)[2].image.shape == (30, 30, 3)


def test_damaged_pictures_are_told_or_decoded(tmp_path):
    """Every truncation and many flipped bytes: an error that names the file, or a picture."""
    rng = random.Random(0)
    for ending, kind in ((".png", "PNG"), (".jpg", "JPEG"), (".gif", "GIF"), (".webp", "WEBP")):
        out = io.BytesIO()
        Image.fromarray(picture(7, 9)).save(out, kind)
        data = out.getvalue()
        folder = make(tmp_path / ending, [{"file_name": f"a{ending}"}], {})
        path, ds = folder / f"a{ending}", mapix.open(folder)
        bad = [data[:n] for n in range(0, len(data), 5)]
        for _ in range(150):
            at = rng.randrange(len(data))
            bad.append(data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :])
        ndecoded, told = 0, []
        for some in bad:
            path.write_bytes(some)
            try:
                ndecoded += ds[0].image.size > 0
            except (mapix.FormatError, mapix.LimitError) as e:
                told.append(path.name in str(e))
        assert all(told)
        assert 0 < ndecoded < len(bad)


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    ds = mapix.open(V1)
    report = ds.verify()
    assert {f.code for f in report.findings} <= {"duplicate", "huggingface"}
    assert "pictures" not in report.checked
    (missing,) = report.unchecked
    assert "pip install 'mapix[" in missing
    assert str(report).endswith(f"  not checked: {missing}")
    assert ds[0].objects.bbox.shape == (1, 4)
    assert len(ds[0].bytes) == 656
    for act in (lambda: ds[0].image, lambda: ds.batch([0])):
        with pytest.raises(mapix.UnsupportedError, match=r"mapix\[images\]"):
            act()


# --- batches --------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path) -> Path:
    sizes = [(40, 60), (64, 48), (30, 30), (50, 20)]
    box = {"bbox": [[5, 6, 10, 12]], "categories": ["x"]}
    lines = [{"file_name": f"{k}.png", "objects": box} for k in range(len(sizes))]
    pictures = {}
    for k, (h, w) in enumerate(sizes):
        array = np.zeros((h, w, 3), np.uint8)
        array[6:18, 5:15] = 255  # the box
        array[0, 0] = (k, 0, 0)
        pictures[f"{k}.png"] = array
    return make(tmp_path / "mixed", lines, pictures)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_batches_of_one_size(tmp_path, threads, layout):
    arrays = [picture(9, 7, seed=k) for k in range(12)]
    names = [{"file_name": f"{k}.png"} for k in range(12)]
    folder = make(tmp_path / "f", names, {f"{k}.png": a for k, a in enumerate(arrays)})
    ds = mapix.open(folder)
    rows = [3, -1, 3, 0]
    want = np.stack([arrays[k] for k in rows])
    want = want.transpose(0, 3, 1, 2) if layout == "NCHW" else want
    batch = ds.batch(rows, layout=layout, threads=threads)
    np.testing.assert_array_equal(batch.images, want)
    assert batch.images.flags.c_contiguous
    assert batch.images.flags.writeable
    assert [r.index for r in batch.records] == [3, 11, 3, 0]
    out = np.empty((9, *want.shape[1:]), np.float32)
    mean, std = [1.0, 2.0, 3.0], [0.5, 1.5, 2.5]
    options = {"dtype": "float32", "layout": layout, "scale": 1 / 255, "mean": mean, "std": std}
    floats = ds.batch(rows, out=out, threads=threads, **options).images
    assert floats.base is out
    axis = (3, 1, 1) if layout == "NCHW" else (3,)
    exact = (want * (1 / 255) - np.reshape(mean, axis)) / np.reshape(std, axis)
    np.testing.assert_allclose(floats, exact, rtol=2e-6, atol=1e-6)
    half = ds.batch(rows, dtype="float16", layout=layout).images
    np.testing.assert_array_equal(half, want.astype(np.float16))
    found = list(ds.batches(5, threads=threads, layout=layout))
    assert [len(b) for b in found] == [5, 5, 2]
    whole = np.concatenate([b.images for b in found])
    np.testing.assert_array_equal(whole, ds.batch(range(12), layout=layout).images)
    assert [len(b) for b in ds.batches(5, [1, 2, 3, 4, 5, 6], drop_last=True)] == [5]
    part = ds[::-2].batch([0, 1], layout=layout).images
    np.testing.assert_array_equal(part, ds.batch([11, 9], layout=layout).images)
    assert ds.batch([]).images.shape[0] == 0


def test_floats_are_vimh_s_floats(tmp_path):
    """The same bytes and options give the same bits as the C core."""
    from mapix.idx import write

    array = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    write(tmp_path / "x.idx", array)
    ds = mapix.open(make(tmp_path / "f", [{"file_name": "a.png"}], {"a.png": array[0]}))
    for options in (
        {"scale": 1 / 255},
        {"mean": 120.3, "std": 57.7},
        {"scale": 1 / 255, "mean": 0.485, "std": 0.229},
    ):
        for dtype in ("float32", "float16"):
            ours = ds.batch([0], dtype=dtype, **options).images
            core = mapix.open(tmp_path / "x.idx").batch([0], dtype=dtype, **options).images
            np.testing.assert_array_equal(ours[..., 0], core)


def test_sizes_that_differ_have_to_be_spoken_about(mixed):
    ds = mapix.open(mixed)
    with pytest.raises(
        ValueError,
        match=r"0\.png has 40 x 60 pixels, 1\.png 64 x 48: pass size=.*letterbox.*crop.*pad",
    ):
        ds.batch(range(4))
    with pytest.raises(ValueError, match=r"1\.png: 64 x 48 pixels, size= is 40 x 60; fit= resize"):
        ds.batch([0, 1], size=(40, 60))
    assert ds.batch([0], size=(40, 60)).images.shape == (1, 40, 60, 3)
    with pytest.raises(ValueError, match="do not fit into 50 x 50 by fit='pad'"):
        ds.batch([0], size=(50, 50), fit="pad")
    with pytest.raises(ValueError, match="do not cover 30 x 30 by fit='crop'"):
        ds.batch([3], size=(30, 30), fit="crop")


def shown(batch, k: int) -> tuple[int, int, int, int]:
    """The white box of picture k: first and last row and column above half."""
    white = batch.images[k, :, :, 1] > 127
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("size", [(80, 80), (32, 48), (100, 33)])
@pytest.mark.parametrize("fit", ["resize", "letterbox", "cover"])
def test_boxes_go_with_their_pictures(mixed, fit, size):
    ds = mapix.open(mixed)
    batch = ds.batch(range(4), size=size, fit=fit, threads=2, pad_value=7)
    assert batch.images.shape == (4, *size, 3)
    for k, (box,) in enumerate(batch.boxes):
        x, y, w, h = box
        want = np.array([x, y, x + w, y + h])
        inside = want.clip(0, [size[1], size[0], size[1], size[0]])
        if (inside[2:] - inside[:2]).min() < 1:  # cut away
            continue
        np.testing.assert_allclose(shown(batch, k), inside, atol=1.01)
    assert batch.shapes.tolist() == [[40, 60, 3], [64, 48, 3], [30, 30, 3], [50, 20, 3]]


def test_fits_are_pillow_s(mixed):
    from PIL import ImageOps

    ds = mapix.open(mixed)
    for k, record in enumerate(ds):
        image = record.pil()
        for name in ("nearest", "bilinear", "lanczos"):
            how = Image.Resampling[name.upper()]
            found = ds.batch([k], size=(33, 44), fit="resize", resample=name).images[0]
            np.testing.assert_array_equal(found, np.asarray(image.resize((44, 33), how)))
            found = ds.batch([k], size=(33, 44), fit="cover", resample=name).images[0]
            np.testing.assert_array_equal(found, np.asarray(ImageOps.fit(image, (44, 33), how)))


def test_pad_and_crop_move_no_pixel(mixed):
    ds = mapix.open(mixed)
    arrays = [r.image for r in ds]
    batch = ds.batch(range(4), fit="pad", pad_value=9)
    assert batch.images.shape == (4, 64, 60, 3)
    wide = ds.batch(range(4), fit="pad", pad_value=9, size=(70, 80))
    for k, a in enumerate(arrays):
        for b in (batch.images[k], wide.images[k]):
            np.testing.assert_array_equal(b[: a.shape[0], : a.shape[1]], a)
            assert (b[a.shape[0] :] == 9).all()
            assert (b[:, a.shape[1] :] == 9).all()
    assert [b.tolist() for b in wide.boxes] == [[[5, 6, 10, 12]]] * 4
    cut = ds.batch(range(4), fit="crop", size=(20, 15))
    for k, a in enumerate(arrays):
        top, left = (a.shape[0] - 20) // 2, (a.shape[1] - 15) // 2
        np.testing.assert_array_equal(cut.images[k], a[top : top + 20, left : left + 15])
        assert cut.boxes[k].tolist() == [[5 - left, 6 - top, 10, 12]]
    floats = ds.batch([2], fit="pad", pad_value=-1.5, dtype="float32", size=(31, 31), layout="NCHW")
    assert (floats.images[0, :, 30] == -1.5).all()
    letter = ds.batch([3], fit="letterbox", size=(50, 50), pad_value=3).images[0]
    np.testing.assert_array_equal(letter[:, 15:35], arrays[3])
    assert (letter[:, :15] == 3).all()


def test_jpeg_may_be_decoded_smaller(tmp_path):
    smooth = np.asarray(Image.fromarray(picture(6, 8)).resize((800, 600), Image.Resampling.BICUBIC))
    box = {"bbox": [[80, 60, 400, 300]], "categories": [1]}
    lines = [{"file_name": n, "objects": box} for n in ("a.jpg", "b.jpg")]
    folder = make(tmp_path / "f", lines, {})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth).save(folder / "a.jpg", quality=95)
    Image.fromarray(smooth).save(folder / "b.jpg", quality=95, exif=exif)
    ds = mapix.open(folder)
    for fit in ("resize", "letterbox", "cover"):
        for size in ((75, 100), (60, 60)):
            full = ds.batch([0, 1], size=size, fit=fit)
            quick = ds.batch([0, 1], size=size, fit=fit, draft=True)
            off = np.abs(full.images.astype(int) - quick.images)
            assert off.mean() < 3
            assert off.any()
            assert full.shapes.tolist() == quick.shapes.tolist() == [[600, 800, 3], [800, 600, 3]]
            np.testing.assert_array_equal(full.places, quick.places)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"fit": "stretch"}, "fit must be one of exact, resize"),
        ({"fit": "resize"}, "needs size="),
        ({"size": 5, "fit": "resize"}, r"size must be \(h, w\)"),
        ({"size": (0, 5), "fit": "resize"}, r"size must be \(h, w\)"),
        ({"size": (5, 70000), "fit": "resize"}, r"size must be \(h, w\)"),
        ({"mode": "CMYK"}, "mode must be one of L"),
        ({"dtype": "int8"}, "dtype must be one of uint8"),
        ({"layout": "CHW"}, "layout must be NHWC or NCHW"),
        ({"scale": 2.0}, "scale, mean and std need"),
        ({"dtype": "float32", "std": 0.0}, "std must not be zero"),
        ({"dtype": "float32", "mean": [1, 2]}, "one per channel"),
        ({"dtype": "uint8", "pad_value": 300}, "pad_value must be 0..255"),
        ({"pad_value": 300}, "pad_value must be 0..255"),
        ({"resample": "magic"}, "resample must be one of"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"out": np.empty((1, 2, 2, 3), np.uint8)}, "out must be C-contiguous"),
        ({"out": np.empty((1, 12, 16, 3), np.float32)}, "out must be C-contiguous"),
    ],
)
def test_options_of_batches_that_do_not_fit(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        mapix.open(V1).batch([0], **options)


def test_the_first_bad_record_is_told(tmp_path):
    lines = [{"file_name": f"{k}.png"} for k in range(20)]
    folder = make(tmp_path / "f", lines, {f"{k}.png": picture(20, 20) for k in range(20)})
    (folder / "7.png").write_bytes(b"bad")
    (folder / "13.png").unlink()
    ds = mapix.open(folder)
    before = threading.active_count()
    for threads in (1, 4):
        with pytest.raises(mapix.FormatError, match=r"line 8: 7\.png"):
            ds.batch(range(20), threads=threads)
        with pytest.raises(FileNotFoundError, match=r"13\.png") as e:
            ds.batch(range(8, 20), threads=threads)
        assert e.value.errno == errno.ENOENT
        with pytest.raises(mapix.FormatError, match=r"7\.png"):
            list(ds.batches(4, threads=threads))
    assert threading.active_count() == before


def test_a_batch_does_not_wait_for_the_next(mixed, monkeypatch):
    """With threads the next batch is begun before the last is given, and not waited for."""
    given, begun = threading.Event(), threading.Event()
    real = ImageFolder._encoded

    def encoded(self, record):
        if record.index >= 2:
            begun.set()
            assert given.wait(30), "the first batch waits for the second"
        return real(self, record)

    monkeypatch.setattr(ImageFolder, "_encoded", encoded)
    found = mapix.open(mixed).batches(2, threads=2, size=(8, 8), fit="resize")
    assert len(next(found)) == 2
    assert begun.wait(30)
    given.set()
    assert len(next(found)) == 2
    assert list(found) == []


def test_slivers_do_not_ask_for_all_memory(tmp_path):
    flat = {
        "high.png": np.zeros((60_000, 1), np.uint8),
        "wide.png": np.zeros((1, 60_000), np.uint8),
    }
    folder = make(tmp_path / "f", [{"file_name": n} for n in flat], flat)
    with pytest.raises(mapix.LimitError, match=r"7200000000 bytes.*size=.*60000 x 60000"):
        mapix.open(folder).batch([0, 1], fit="pad")


def test_parts_and_folders_cross_process_borders(mixed):
    import multiprocessing

    ds = mapix.open(mixed)[[2, 0]]
    want = ds.batch([0, 1], size=(8, 8), fit="resize").images
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found = pool.apply(resized, (ds,))
        np.testing.assert_array_equal(found, want)


def resized(ds: ImageFolder) -> np.ndarray:
    return ds.batch([0, 1], size=(8, 8), fit="resize", threads=2).images


def test_sizes_of_pictures(tmp_path, monkeypatch):
    data = b"\x89PNG\r\n\x1a\n"
    for k, name in enumerate(("a/0.png", "b/1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data + bytes(k * 100))
    ds = mapix.open(tmp_path)
    assert ds._files_nbytes() == ds[1:]._files_nbytes() == 2 * len(data) + 100
    (tmp_path / "a/0.png").unlink()
    assert ds._record_sizes().tolist() == [0, len(data) + 100]

    def fails(*_):
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr("mapix.rooted.Root.nbytes", fails)
    with pytest.raises(OSError, match="disk"):
        ds.plan()
