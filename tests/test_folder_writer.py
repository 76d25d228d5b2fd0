"""Writing image folders: what is read back, what is refused, and what a power cut leaves."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import mapix
from conftest import GOLDEN
from mapix.folder import Appender, Objects, Writer, write
from mapix.store import SYSTEM
from model_disk import ModelDisk, below

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[images]'")

V1 = GOLDEN / "opsml" / "v1_file_name" / "my_images"


def picture(h: int, w: int, c: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), np.uint8)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_golden_is_written_again(tmp_path):
    ds = mapix.open(V1)
    seen = set()
    with Writer(tmp_path / "new") as out:
        for record in ds:
            m = record.metadata
            image = None if record.file_name in seen else record.bytes
            seen.add(record.file_name)
            more = {k: m[k] for k in ("caption", "categories", "objects")}
            out.append(record.file_name, image, **more)
    assert content(tmp_path / "new") == content(V1)
    with Writer(tmp_path / "again") as out:
        for k, record in enumerate(ds):
            image = None if k == 2 else record.read()
            out.append(
                record.file_name,
                image,
                caption=record.caption,
                categories=record.categories,
                objects=record.objects,
            )
    assert content(tmp_path / "again") == content(V1)
    assert sorted(os.listdir(tmp_path)) == ["again", "new"]


def test_arrays_are_encoded_as_names_end(tmp_path):
    arrays = {
        "rgb.png": picture(5, 7),
        "grey.png": picture(5, 7, 1)[:, :, 0],
        "grey1.png": picture(5, 7, 1),
        "rgba.png": picture(5, 7, 4),
        "deep.png": np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800,
        "a/b/c.bmp": picture(5, 7),
        "x.webp": picture(5, 7),
        "strided.png": picture(5, 14)[:, ::2],
    }
    records = [{"file_name": n, "image": a, "n": k} for k, (n, a) in enumerate(arrays.items())]
    records[6]["save"] = {"lossless": True}
    write(tmp_path / "f", records)
    ds = mapix.open(tmp_path / "f")
    for k, (record, a) in enumerate(zip(ds, arrays.values(), strict=True)):
        found = record.image
        np.testing.assert_array_equal(found.reshape(a.shape), a)
        assert record.metadata["n"] == k
        assert list(record.metadata) == ["file_name", "caption", "categories", "objects", "n"]
    with Writer(tmp_path / "g") as out:
        out.append("a.jpg", Image.fromarray(picture(40, 40)), save={"quality": 1})
        out.append("b.jpg", picture(40, 40), save={"quality": 95})
    a, b = mapix.open(tmp_path / "g")
    assert a.nbytes < b.nbytes / 2


def test_objects_of_all_kinds(tmp_path):
    boxes = np.array([[1, 2, 3, 4.5], [5, 6, 7, 8]])
    with Writer(tmp_path / "f") as out:
        out.append("a.png", picture(2, 2), objects=(boxes, ["x", np.int64(3)]))
        out.append("a.png", objects={"bbox": boxes.tolist(), "categories": [1.5, 2]})
        out.append("a.png", objects=Objects(boxes, [0, 1]), categories=np.array([1, 2]))
        out.append("a.png", objects=([], []), caption="ü ☃")
    ds = mapix.open(tmp_path / "f")
    assert [r.objects.categories for r in ds] == [["x", 3], [1.5, 2], [0, 1], []]
    assert all((r.objects.bbox == boxes).all() for r in ds[:3])
    assert ds[3].objects.bbox.shape == (0, 4)
    assert ds[2].categories == [1, 2]
    raw = (tmp_path / "f" / "metadata.jsonl").read_bytes()
    assert raw.isascii()
    assert raw.endswith(
        b'"caption": "\\u00fc \\u2603", "categories": null, '
        b'"objects": {"bbox": [], "categories": []}}\n'
    )


def test_lines_as_they_are(tmp_path):
    lines = [
        {"file_name": "./a.png", "split": "x", "image": 1, "save": None, "self": [], "ü": "\ud800"},
        {"objects": {"category": [1]}, "file_name": "a.png"},
        {"mask_file_name": "b/m.png", "file_name": "a.png"},
    ]
    with Writer(tmp_path / "f") as out:
        for line in lines[:2]:
            out.append_line(line, {"a.png": b"some bytes"})
        out.append_line(lines[2], {"b/m.png": b"others"})
        with pytest.raises(TypeError, match="keys of JSON"):
            out.append_line({"file_name": "a.png", "x": {1: 2}})
        for name in ("../a.png", "metadata.jsonl", "", "a//b"):
            with pytest.raises(ValueError, match=r"beneath the folder|own name"):
                out.append_line({"file_name": "a.png"}, {name: b""})
        with pytest.raises(ValueError, match="for all records of a folder, or for none"):
            out.append_line({}, {"c.png": b""}, split="train")
    assert [r.metadata for r in mapix.open(tmp_path / "f")] == lines
    names = {"a.png": b"some bytes", "b/m.png": b"others"}
    found = content(tmp_path / "f")
    found.pop("metadata.jsonl")
    assert found == names


def test_splits(tmp_path):
    with Writer(tmp_path / "f") as out:
        for k in range(6):
            out.append(f"{k}.png", picture(2, 2), split=("train", "test")[k % 3 == 2])
        with pytest.raises(ValueError, match="for all records of a folder, or for none"):
            out.append("x.png", picture(2, 2))
        with pytest.raises(ValueError, match="a split is a folder's name"):
            out.append("x.png", picture(2, 2), split="a/b")
    train, test = (mapix.open(tmp_path / "f", split=s) for s in ("train", "test"))
    assert [r.file_name for r in train] == ["0.png", "1.png", "3.png", "4.png"]
    assert [r.file_name for r in test] == ["2.png", "5.png"]


def test_a_folder_without_records(tmp_path):
    Writer(tmp_path / "f").close()
    assert len(mapix.open(tmp_path / "f")) == 0


BAD = [
    ({"file_name": "../a.png"}, ValueError, "plain name beneath"),
    ({"file_name": "/a.png"}, ValueError, "plain name beneath"),
    ({"file_name": "a//b.png"}, ValueError, "plain name beneath"),
    ({"file_name": "./a.png"}, ValueError, "plain name beneath"),
    ({"file_name": ""}, ValueError, "plain name beneath"),
    ({"file_name": "a\0.png"}, ValueError, "plain name beneath"),
    ({"file_name": "\ud800.png"}, ValueError, "surrogates"),
    ({"file_name": "metadata.jsonl"}, ValueError, "own name"),
    ({"file_name": b"a.png"}, TypeError, "must be text"),
    ({"file_name": "a.what"}, ValueError, "suffix '.what'"),
    ({"image": None}, ValueError, "no picture of that name|no such file"),
    ({"image": "a.png"}, TypeError, "bytes of a file, an array or Pillow's, got str"),
    ({"image": np.zeros((2, 2, 5), np.uint8)}, ValueError, "expected, got uint8"),
    ({"image": np.zeros((2, 2), np.int32)}, ValueError, "expected, got int32"),
    ({"image": np.zeros((0, 2), np.uint8)}, ValueError, "expected, got uint8"),
    ({"caption": 3}, TypeError, "caption must be text"),
    ({"categories": [None]}, TypeError, "text or numbers"),
    ({"objects": ([[1, 2, 3, 4]], [])}, ValueError, "1 boxes, 0 categories"),
    ({"objects": ([[1, 2, 3, float("nan")]], [1])}, ValueError, "not finite"),
    ({"objects": ([[1, 2, 3]], [1])}, ValueError, "reshape"),
    ({"more": {1, 2}}, TypeError, "JSON"),
    ({"more": {1: 2}}, TypeError, "keys of JSON are texts, got 1"),
    ({"more": [{"a": {None: 2}}]}, TypeError, "keys of JSON are texts, got None"),
    ({"categories": "cat"}, TypeError, "a list of text and numbers, got str"),
    ({"objects": ([[1, 2, 3, 4]], "c")}, TypeError, "a list of text and numbers, got str"),
]


@pytest.mark.parametrize("appending", [False, True])
@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_what_is_refused(tmp_path, change, error, text, appending):
    folder = tmp_path / "f"
    if appending:
        shutil.copytree(V1, folder)
    before = content(folder) if appending else {}
    out = (Appender if appending else Writer)(folder)
    with pytest.raises(error, match=text):
        out.append(**{"file_name": "new.png", "image": picture(2, 2), **change})
    out.close()
    if not appending:
        before = {"metadata.jsonl": b""}
    assert content(folder) == before


def test_nothing_is_overwritten_and_nothing_is_left(tmp_path):
    with Writer(tmp_path / "f") as out:
        out.append("a.png", picture(2, 2))
        with pytest.raises(ValueError, match="written already"):
            out.append("a.png", picture(2, 2))
    with pytest.raises(FileExistsError):
        Writer(tmp_path / "f")

    def fail(writer):
        with writer as out:
            out.append("sub/b.png", picture(2, 2))
            raise ZeroDivisionError

    before = content(tmp_path / "f")
    with pytest.raises(ZeroDivisionError):
        fail(Writer(tmp_path / "g"))
    with pytest.raises(ZeroDivisionError):
        fail(Appender(tmp_path / "f"))
    assert os.listdir(tmp_path) == ["f"]
    assert content(tmp_path / "f") == before


# --- appending ------------------------------------------------------------------------------------


def test_appending(tmp_path):
    folder = tmp_path / "f"
    shutil.copytree(V1, folder)
    old = content(folder)
    for end in (b"\n", b""):
        (folder / "metadata.jsonl").write_bytes(old["metadata.jsonl"].rstrip(b"\n") + end)
        with Appender(folder) as out:
            out.append(f"new/{len(end)}.png", picture(3, 4), caption="more")
            out.append("0001.png", caption="once more")
            assert len(mapix.open(folder)) == 5  # nothing is there before it is closed
        found = (folder / "metadata.jsonl").read_bytes()
        assert found.startswith(old["metadata.jsonl"])
        ds = mapix.open(folder)
        assert ds.column("caption")[5:] == ["more", "once more"]
        assert (ds[5].image == picture(3, 4)).all()
    assert all(content(folder)[k] == v for k, v in old.items() if k != "metadata.jsonl")


def test_a_second_appender_and_a_file_that_changes(tmp_path):
    folder = tmp_path / "f"
    shutil.copytree(V1, folder)
    out = Appender(folder)
    with pytest.raises(mapix.LockedError):
        Appender(folder)
    out.append("new.png", picture(2, 2))
    with open(folder / "metadata.jsonl", "ab") as f:
        f.write(b'{"file_name": "0001.png"}\n')
    with pytest.raises(mapix.FileChangedError, match="nothing was written"):
        out.close()
    assert len(mapix.open(folder)) == 6
    assert not (folder / "new.png").exists()
    assert sorted(os.listdir(folder)) == sorted(os.listdir(V1))


def test_nothing_is_written_through_links(tmp_path):
    folder = tmp_path / "f"
    shutil.copytree(V1, folder)
    (tmp_path / "outside").mkdir()
    os.symlink("../outside", folder / "link")
    os.symlink("../outside/x.png", folder / "x.png")
    with Appender(folder) as out:
        with pytest.raises(ValueError, match="is a link"):
            out.append("link/a.png", picture(2, 2))
        with pytest.raises(FileExistsError):
            out.append("x.png", picture(2, 2))
        with pytest.raises(FileExistsError):
            out.append("0001.png", picture(2, 2))
    assert os.listdir(tmp_path / "outside") == []


# --- power cuts and failing calls -----------------------------------------------------------------

PNG = io.BytesIO()
Image.fromarray(np.zeros((2, 2), np.uint8)).save(PNG, "PNG")


def build(path: str, calls) -> None:
    with Writer(path, calls=calls) as out:
        for k in range(3):
            out.append(f"sub/{k}.png", PNG.getvalue(), split=("train", "test")[k % 2])


@pytest.mark.parametrize("leave_out", ["", "fsync", "fsync_directory"])
def test_a_power_cut_leaves_all_or_nothing(tmp_path, leave_out):
    path = str(tmp_path / "d")
    disk = ModelDisk(str(tmp_path), leave_out)
    disk.seeds = 6
    build(path, disk)
    want = {"test/sub/1.png", "train/sub/0.png", "train/sub/2.png"}
    want |= {"train/metadata.jsonl", "test/metadata.jsonl"}
    bad = 0
    for state in disk.crashes:
        found = below(state, path)
        if not found:
            continue
        lines = [
            json.loads(x)
            for n in ("train", "test")
            for x in found.get(f"{n}/metadata.jsonl", b"").splitlines()
            if x.startswith(b"{") and x.endswith(b"}")
        ]
        bad += (
            set(found) != want
            or len(lines) != 3
            or any(v != PNG.getvalue() for k, v in found.items() if k.endswith("png"))
        )
    assert len(disk.crashes) > 200
    assert (bad > 0) == (leave_out == "fsync")  # the look finds what a missing sync does


class Failing:
    """The system, but that call number ``at`` fails."""

    def __init__(self, at: int) -> None:
        self.at, self.ncalls, self.failed = at, 0, False

    def __getattr__(self, name: str):
        real = getattr(SYSTEM, name)

        def call(*args):
            self.ncalls += 1
            if self.ncalls == self.at:
                self.failed = True
                raise OSError(errno.ENOSPC, "no room")
            return real(*args)

        return call


def test_whatever_fails_nothing_is_left(tmp_path):
    path, failed = tmp_path / "d", 0
    for at in range(1, 200):
        calls = Failing(at)
        with contextlib.suppress(OSError):
            build(str(path), calls)
        failed += calls.failed
        if path.exists():  # only the last sync may fail after the rename
            assert len(content(path)) == 5
            shutil.rmtree(path)
        assert os.listdir(tmp_path) == [], at
        if calls.ncalls < at:
            break
    assert failed > 30


def test_an_appender_that_fails_leaves_the_old_records(tmp_path):
    failed = 0
    for at in range(1, 200):
        folder = tmp_path / str(at)
        shutil.copytree(V1, folder)
        calls = Failing(at)
        with contextlib.suppress(OSError), Appender(folder, calls=calls) as out:
            out.append("new.png", PNG.getvalue())
            out.append("other.png", PNG.getvalue())
        failed += calls.failed
        ds = mapix.open(folder)
        assert len(ds) in (5, 7)
        assert [r.nbytes for r in ds][:5] == [656] * 5
        left = set(os.listdir(folder)) - set(os.listdir(V1))
        assert left <= {"new.png", "other.png"}
        if len(ds) == 7:
            assert all((folder / n).read_bytes() == PNG.getvalue() for n in left)
        if calls.ncalls < at:
            break
    assert failed > 10


def test_what_a_dead_writer_left_is_cleared_away(tmp_path):
    stage = tmp_path / ".f.writing"
    (stage / "train" / "deep").mkdir(parents=True)
    (stage / "train" / "deep" / "x").write_bytes(b"x")
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "x").write_bytes(b"keep")
    os.symlink("../keep", stage / "link")
    write(tmp_path / "f", [{"file_name": "a.png", "image": picture(2, 2)}])
    assert sorted(os.listdir(tmp_path)) == ["f", "keep"]
    assert (tmp_path / "keep" / "x").read_bytes() == b"keep"
    assert sorted(os.listdir(tmp_path / "f")) == ["a.png", "metadata.jsonl"]
