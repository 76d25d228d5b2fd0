"""What is wrong with an image folder is found, and told with its file and line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.__main__ import main
from mapix.folder import lint, write
from mapix.folder.checking import CODES

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")

OPSML = GOLDEN / "opsml"
V1 = OPSML / "v1_file_name" / "my_images"


def picture(h: int = 20, w: int = 30) -> np.ndarray:
    return np.random.default_rng(h).integers(0, 256, (h, w, 3), np.uint8)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    boxes = ([[0, 0, 30, 20], [1, 2, 0, 0]], ["a", "b"])
    records = [
        {"file_name": f"{k}.png", "image": picture(), "caption": "x", "objects": boxes}
        for k in range(3)
    ]
    write(tmp_path / "f", records)
    return tmp_path / "f"


def add(folder: Path, *lines: object) -> None:
    with open(folder / "metadata.jsonl", "ab") as f:
        for line in lines:
            f.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")


def found(folder: Path, **options) -> list[tuple[str, int | None, str | None]]:
    return [(f.code, f.line, f.file_name) for f in lint(folder, **options).findings]


def test_a_good_folder(good):
    report = lint(good, threads=2)
    assert report.ok
    assert report.nrecords == 3
    assert "no problems" in str(report)
    assert report.nbytes == sum(p.stat().st_size for p in good.rglob("*") if p.is_file())
    assert mapix.open(good).verify().ok


BOX = {"file_name": "b.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["a"]}}


def boxed(*box: float) -> dict:
    return {**BOX, "objects": {"bbox": [list(box)], "categories": ["a"]}}


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (b'{"file_name": "b.png"\n', "json", "not JSON"),
        (b'{"file_name": "b.png", "file_name": "b.png"}\n', "json", "occurs twice"),
        (b"\xff\n", "json", "not UTF-8"),
        (b"[]\n", "json", "an object expected"),
        (b"[" * 100_000 + b"\n", "json", "nested"),
        (b'"' + b"x" * 2_000_000 + b'"\n', "json", "limit"),
        ({"caption": "y"}, "file_name", "there is none"),
        ({"file_name": 3}, "file_name", "text expected"),
        ({"file_name": "missing.png"}, "missing", "no such file"),
        ({"file_name": "b.png", "mask_file_name": "no.png"}, "missing", "no such file"),
        ({"file_name": "../b.png"}, "refused", "leaves the folder"),
        ({"file_name": "/etc/passwd"}, "refused", "leaves the folder"),
        ({"file_name": "fifo.png"}, "refused", "not a regular file"),
        ({"file_name": "sub"}, "refused", "not a regular file"),
        ({"file_name": "bad.png"}, "picture", "not a picture of a known format"),
        ({"file_name": "cut.png"}, "picture", "cannot be decoded"),
        ({"file_name": "0.png"}, "duplicate", "line 1 names it, too"),
        ({"file_name": "b.png", "caption": 3}, "field", "caption: text expected"),
        ({"file_name": "b.png", "categories": "x"}, "field", "a list expected"),
        ({"file_name": "b.png", "objects": []}, "field", "an object expected"),
        ({"file_name": "b.png", "objects": {"bbox": [[1, 2, 3]]}}, "field", "four numbers"),
        ({**BOX, "objects": {"bbox": [[1, 2, 3, 4]]}}, "count", "1 box and 0 categories"),
        (boxed(-1, 0, 3, 3), "box", "begins outside"),
        (boxed(0, -0.5, 3, 3), "box", "begins outside"),
        (boxed(28, 0, 3, 3), "box", "ends outside the picture of 30 x 20"),
        (boxed(0, 18, 3, 3), "box", "ends outside"),
        (boxed(0, 0, -3, 3), "box", "negative side"),
        (boxed(0, 0, float("nan"), 3), "box", "not finite"),
        (boxed(0, 0, 3, float("inf")), "box", "not finite"),
    ],
)
def test_each_finding_has_its_line(good, line, code, text):
    Image.fromarray(picture()).save(good / "b.png")
    (good / "bad.png").write_bytes(b"bad")
    (good / "cut.png").write_bytes((good / "b.png").read_bytes()[:300])
    (good / "sub").mkdir()
    os.mkfifo(good / "fifo.png")
    add(good, b"\n", line, {"file_name": "1.png"})
    report = lint(good, huggingface=False, ignore=["unlisted"])
    ours = [f for f in report.findings if f.line == 5]
    assert [(f.code, f.line) for f in report.findings if f.line != 5] == [("duplicate", 6)]
    assert [f.code for f in ours] == [code]
    assert text in ours[0].message
    assert str(ours[0]).startswith(f"{good / 'metadata.jsonl'}:5: ")
    assert str(ours[0]) in report.problems
    assert not report.ok
    assert report.damaged == [3, 4]
    assert code in CODES


def test_what_is_not_wanted_is_not_told(good):
    Image.fromarray(picture()).save(good / "more.PNG")
    add(good, {"file_name": "0.png"}, {"file_name": "no.png", "objects": {"bbox": [[-1, 0, 0, 0]]}})
    want = [
        ("duplicate", 4, "0.png"),
        ("missing", 5, "no.png"),
        ("count", 5, "no.png"),
        ("box", 5, "no.png"),
        ("unlisted", None, "more.PNG"),
    ]
    assert found(good) == want
    assert found(good, ignore=["duplicate", "count"]) == [want[1], want[3], want[4]]
    assert found(good, pictures=False) == want
    with pytest.raises(ValueError, match="no finding nonsense; known: json"):
        lint(good, ignore=["nonsense"])
    report = lint(good, most=2)
    assert len(report.findings) == 2
    assert "the limit of 2 findings" in report.problems[-1]
    seen = []
    lint(good, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


def test_without_pictures_boxes_are_not_compared_with_them(good):
    add(good, {"file_name": "0.png", "objects": {"bbox": [[0, 0, 99, 99]], "categories": ["a"]}})
    assert ("box", 4, "0.png") in found(good)
    assert ("box", 4, "0.png") not in found(good, pictures=False)


def test_files_of_the_later_schema(tmp_path):
    shutil.copytree(OPSML / "v2_filepath" / "imgs", tmp_path / "imgs")
    folder = tmp_path / "imgs" / "train"
    assert found(folder, huggingface=False) == []
    lines = (folder / "metadata.jsonl").read_text().replace("318", "319", 1)
    (folder / "metadata.jsonl").write_text(lines)
    (folder / "image_1.png").unlink()
    assert found(folder, huggingface=False) == [
        ("size", 1, "imgs/train/image_0.png"),
        ("missing", 2, "imgs/train/image_1.png"),
    ]
    both = lint(tmp_path / "imgs")
    assert both.nrecords == 6
    paths = {f.path for f in both.findings}
    assert paths == {str(tmp_path / "imgs" / s / "metadata.jsonl") for s in ("train", "test")}
    assert found(tmp_path / "imgs", split="test", huggingface=False) == []


# --- Hugging Face ---------------------------------------------------------------------------------

A, B = {"file_name": "0.png"}, {"file_name": "1.png"}
CASES = {
    "plain": ([A, B], True, None),
    "whole and broken numbers": ([{**A, "c": 1}, {**B, "c": 2.5}], True, None),
    "null": ([{**A, "c": None}, {**B, "c": "x"}], True, None),
    "left out": ([{**A, "c": 1}, B], True, None),
    "not finite": ([{**A, "c": float("nan")}, {**B, "c": float("inf")}], True, None),
    "unlisted": ([A], True, None),
    "mixed in a list": ([{**A, "c": [1, "x"]}], False, r"c\[\]: text here, number in line 1"),
    "mixed in two lines": (
        [{**A, "c": 1}, {**B, "c": "x"}],
        False,
        "c: text here, number in line 1",
    ),
    "boolean": ([{**A, "c": 1}, {**B, "c": True}], False, "c: true or false here"),
    "list and number": ([{**A, "c": 1}, {**B, "c": [1]}], False, "c: list here"),
    "object and number": ([{**A, "c": 1}, {**B, "c": {"x": 1}}], False, "c: object here"),
    "deep": ([{**A, "c": {"d": [{"e": 1}, {"e": "x"}]}}], False, r"c\.d\[\]\.e: text here"),
    "surrogate": ([{**A, "c": "\ud800"}], False, "half of a surrogate"),
    "no name": ([{"name": "0.png"}], False, "a file_name or .* is needed: there is none"),
    "filepath": ([{"filepath": "f/0.png", "size": 3}], False, "filepath is not read"),
    "masks": ([{"image_file_name": "0.png", "mask_file_name": "1.png"}], True, None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_hugging_face_rejects(good, case):
    import re

    lines, accepted, text = CASES[case]
    (good / "metadata.jsonl").unlink()
    add(good, *lines)
    told = [f for f in lint(good).findings if f.code == "huggingface"]
    assert bool(told) != accepted
    if text is not None:
        assert re.search(text, told[0].message)
        assert told[0].line is not None


def test_other_things_that_hugging_face_makes_of_it(good):
    (good / "metadata.csv").write_text("file_name\n0.png\n")
    assert ("huggingface", None, "metadata.csv") in found(good)
    (good / "metadata.csv").unlink()
    (good / "train").mkdir()
    os.rename(good / "0.png", good / "train" / "0.png")
    text = (good / "metadata.jsonl").read_text().replace('"0.png"', '"train/0.png"')
    (good / "metadata.jsonl").write_text(text)
    told = lint(good).findings
    assert [(f.code, f.line) for f in told] == [("huggingface", 1)]
    assert "train is read as a split" in told[0].message


def test_a_first_line_that_is_none_is_reported_as_others(good):
    lines = (good / "metadata.jsonl").read_bytes()
    for bad in (b"[]\n", b"{\n", b'{"x": [' + b"[]," * 200_000 + b"0]}\n"):
        (good / "metadata.jsonl").write_bytes(bad + lines)
        assert found(good) == [("json", 1, None)]


def test_frames_are_reported(good):
    frames = [Image.fromarray(np.full((4, 4), 40 * k, np.uint8)) for k in range(3)]
    for name in ("a.gif", "m.tif", "p.png", "w.webp"):
        frames[0].save(good / name, save_all=True, append_images=frames[1:])
        add(good, {"file_name": name})
    frames[0].save(good / "one.gif")
    add(good, {"file_name": "one.gif"})
    assert found(good) == [
        ("frames", k, n) for k, n in enumerate(("a.gif", "m.tif", "p.png", "w.webp"), 4)
    ]
    assert not mapix.open(good).verify().ok


def test_what_hugging_face_reads_otherwise(good):
    def told(**options) -> list[tuple[int | None, str | None, str]]:
        findings = lint(good, **options).findings
        return [(f.line, f.file_name, f.message) for f in findings if f.code == "huggingface"]

    assert told() == []
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(good / "o.jpg", exif=exif)
    add(good, {"file_name": "o.jpg"})
    assert told() == []
    add(good, {"file_name": "o.jpg", "objects": {"bbox": [[3, 2, 10, 4]], "categories": ["a"]}})
    (one,) = told()
    assert (one[:2], "turns the picture" in one[2]) == ((5, "o.jpg"), True)
    assert "not turned here" in told(orientation=False)[0][2]
    (good / "sub").mkdir()
    (good / "sub" / "metadata.jsonl").write_text('{"file_name": "b.png"}\n')
    assert told()[1][1:] == (
        "sub/metadata.jsonl",
        "a second metadata file: its records are read as well",
    )
    add(good, {"file_name": "1.png", "image": "x"}, {"file_name": "http://x/1.png"})
    assert [t[0] for t in told()] == [5, 6, 7, None]
    assert "becomes a column image" in told()[1][2]
    assert ":// are rejected" in told()[2][2]


@pytest.mark.parametrize("case", CASES)
def test_hugging_face_itself_agrees(good, case, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    lines, accepted, _ = CASES[case]
    (good / "metadata.jsonl").unlink()
    add(good, *lines)
    cache = str(tmp_path / "cache")
    try:
        ds = datasets.load_dataset(
            "imagefolder", data_dir=str(good), split="train", cache_dir=cache
        )
    except Exception:  # of many kinds
        ds = None
    assert (ds is not None) == accepted
    assert ds is None or len(ds) == len(lines)


def test_hugging_face_itself_reads_otherwise(tmp_path, monkeypatch):
    """What the findings say, seen in the library: names, second metadata files, EXIF."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")

    def read(folder: Path) -> list[dict]:
        found = datasets.load_dataset(
            "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
        )
        return list(found)

    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(20, 30)).save(folder / "sub" / "b.jpg", exif=exif, quality=100)
    box = {"bbox": [[3, 2, 10, 4]], "categories": [0]}
    add(folder, {"file_name": "sub\\b.jpg", "objects": box}, {"file_name": "./sub/b.jpg"})
    rows = read(folder)
    for row, record in zip(rows, mapix.open(folder), strict=True):
        np.testing.assert_array_equal(np.asarray(row["image"]), record.image)
    assert rows[0]["objects"]["bbox"] == box["bbox"]
    (folder / "sub" / "metadata.jsonl").write_text(
        json.dumps({"file_name": "b.jpg", "objects": box}) + "\n"
    )
    assert len(read(folder)) == 3  # and ours stays 2, with a finding
    assert len(mapix.open(folder)) == 2


# --- commands -------------------------------------------------------------------------------------


def test_commands(good, capsys, tmp_path):
    assert main(["folder", "lint", str(good), "--threads", "2"]) == 0
    assert "no problems" in capsys.readouterr().out
    assert main(["verify", str(good)]) == 0
    add(good, {"file_name": "no.png"})
    for command in (["folder", "lint", str(good), "--no-pictures"], ["verify", str(good)]):
        assert main(command) == 1
        assert "metadata.jsonl:4: no.png: no such file [missing]" in capsys.readouterr().out
    assert main(["folder", "lint", str(good), "--ignore", "missing", "--no-huggingface"]) == 0
    assert main(["folder", "lint", str(good), "--ignore", "x"]) == 2
    assert main(["info", str(good)]) == 0
    out = capsys.readouterr().out
    for fact in ("folder", "records", "4", "caption", "object_count"):
        assert fact in out
    assert main(["info", str(OPSML / "v2_filepath" / "imgs"), "--split", "test"]) == 0
    assert "train, test" in capsys.readouterr().out
    assert main(["folder", "sheet", str(V1), str(tmp_path / "sheet.png"), "--columns", "2"]) == 0
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.size[0] > 600
    assert main(["folder", "sheet", str(V1), str(tmp_path / "sheet.what")]) == 2
    assert main(["index", str(V1)]) == 2
    assert "need no index" in capsys.readouterr().err


def test_boxes_are_drawn_where_they_are(tmp_path):
    from mapix.folder.drawing import drawn

    boxes = ([[40, 30, 20, 10]], ["it"])
    record = {"file_name": "a.png", "image": np.zeros((100, 100, 3), np.uint8), "objects": boxes}
    write(tmp_path / "f", [record])
    found = np.asarray(drawn(mapix.open(tmp_path / "f")[0], 200, 200))
    assert found.shape == (200, 200, 3)
    rows, columns = np.nonzero(found[62:].any(axis=2))  # below the name
    assert (columns.min(), columns.max(), rows.max() + 62) == (80, 120, 80)
    assert not found[66:76, 86:116].any()
