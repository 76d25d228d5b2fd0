"""Every command on every family: output, JSON, exit statuses, errors."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import tty
import zlib
from base64 import b64decode
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import every_operation
import mapix
from mapix import registry
from mapix.__main__ import main
from mapix.commands import bench, complete, output, show, terminal
from mapix.commands.catalogue import COMMANDS
from mapix.demo import data
from mapix.drawing import png

FAMILIES = {
    "vimh": lambda folder: every_operation.vimh(folder, mixed=True),
    "pickle": every_operation.vimh_pickle,
    "iid": every_operation.iid,
    "idx": every_operation.idx,
    "npy": every_operation.npy,
    "npz": every_operation.npz,
    "data": every_operation.pink_data,
    "som": every_operation.pink_som,
    "map": every_operation.pink_map,
    "rot": every_operation.pink_rot,
    "folder": every_operation.pictures,
    "tar": every_operation.tar,
    "tfrecord": every_operation.tfrecord,
}
N = 6


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(every_operation, "N", N)
    monkeypatch.setattr(every_operation, "LAST", N - 1)
    monkeypatch.setenv("MAPIX_CACHE_DIR", str(tmp_path / "cache"))


QUICK = ("vimh", "iid", "idx")  # the others in CI


@pytest.fixture(
    params=[pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FAMILIES]
)
def path(request, tmp_path) -> str:
    if request.param == "folder":
        pytest.importorskip("PIL")
    (tmp_path / "data").mkdir()
    return str(FAMILIES[request.param](tmp_path / "data"))


def ran(capsys, *argv: str, status: int = 0) -> str:
    assert main(list(argv)) == status, capsys.readouterr().err
    return capsys.readouterr().out


def facts(capsys, *argv: str, status: int = 0):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(ran(capsys, *argv, "--json", status=status), parse_constant=refuse)


def failed(capsys, *argv: str, status: int = 2) -> str:
    try:
        found = main(list(argv))
    except SystemExit as e:
        found = e.code
    out, err = capsys.readouterr()
    assert (found, out) == (status, "")
    assert re.match(r"mapix( \w+)*: error: ", err)
    assert err.count("\n") == 1
    return err


# --- every command on every family ----------------------------------------------------------------


def test_records_are_listed(path, capsys):
    with mapix.open(path) as ds:
        found = facts(capsys, "ls", path)
        assert [entry["record"] for entry in found] == list(range(len(ds)))[:40]
        for name in ds._label_names():
            column = ds.columns[name]
            wanted = [output.plain(v) for v in column.values.tolist()[:40]]
            got = [entry.get(name) for entry in found]
            assert got == [v if p else None for v, p in zip(wanted, column.present, strict=False)]
        every = facts(capsys, "head", path, "-n", "2")
        assert len(every) == 2
        for i, entry in enumerate(every):
            content = ds._content(i)
            assert entry["shape"] == list(content.shape)
            rotations = content.dtype.names is not None
            assert entry["dtype"] == (
                "flip uint8, angle float32" if rotations else str(content.dtype)
            )
            assert entry.keys() >= {n for n in ds.columns if ds.columns[n].present[i]}
        assert "shape" in ran(capsys, "head", path, "-n", "1").splitlines()[0]


def test_one_record_as_every_kind_of_file(path, tmp_path, capsys):
    from mapix.drawing import png

    with mapix.open(path) as ds:
        content = ds._content(len(ds) - 1)
        entry = facts(capsys, "get", path, "-1")
        assert entry["record"] == len(ds) - 1
        assert f"record {len(ds) - 1}" in ran(capsys, "get", path, str(len(ds) - 1))
        said = ran(capsys, "get", path, "-1", "-o", str(tmp_path / "x.npy"))
        sides = " x ".join(map(str, content.shape))
        assert said.startswith(f"{tmp_path / 'x.npy'}: {sides} of {content.dtype.name}")
        if content.dtype.kind in "iuf":
            assert said.endswith(f", {content.min()} to {content.max()}\n")
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), content)
        assert np.load(tmp_path / "x.npy").dtype == content.dtype
        ran(capsys, "get", path, "-1", "-o", str(tmp_path / "x.json"))
        assert json.loads((tmp_path / "x.json").read_text()) == entry
        if content.dtype.kind in "biuf" and content.ndim in (1, 2, 3):
            ran(capsys, "get", path, "-1", "-o", str(tmp_path / "x.png"))
            made = (tmp_path / "x.png").read_bytes()
            assert made.startswith(b"\x89PNG")
            if content.dtype == np.uint8 and content.ndim > 1:
                assert made == png(content)
        assert "exists" in failed(capsys, "get", path, "0", "-o", str(tmp_path / "x.npy"))
        assert f"0 to {len(ds) - 1}" in failed(capsys, "get", path, str(len(ds)))


def test_queries(path, tmp_path, capsys):
    with mapix.open(path) as ds:
        numbers = [n for n in ds.columns if ds.columns[n].numeric]
        if not numbers:
            failed(capsys, "query", path, "nothing > 1")
            return
        column = ds.columns[numbers[-1]]
        middle = float(np.median(column.values[column.present]))
        condition = f"{column.name} > {middle}"
        wanted = np.flatnonzero((column.values > middle) & column.present).tolist()
        assert list(map(int, ran(capsys, "query", path, condition).split())) == wanted
        assert facts(capsys, "query", path, condition)["records"] == wanted
        assert ran(capsys, "query", path, condition, "--count") == f"{len(wanted)}\n"
        for name in ("x.txt", "x.json", "x.npy"):
            ran(capsys, "query", path, condition, "-o", str(tmp_path / name))
        assert [int(v) for v in (tmp_path / "x.txt").read_text().split()] == wanted
        assert json.loads((tmp_path / "x.json").read_text()) == wanted
        assert np.load(tmp_path / "x.npy").tolist() == wanted
        order = facts(capsys, "ls", path, "--where", condition, "--sort", column.name)
        assert [e["record"] for e in order] == [
            wanted[k] for k in np.argsort(column.values[wanted], kind="stable")
        ]


def test_columns_and_statistics(path, capsys):
    with mapix.open(path) as ds:
        assert [entry["name"] for entry in facts(capsys, "columns", path)] == list(ds.columns)
        found = facts(capsys, "stats", path)
        assert found["records"] == len(ds)
        pixels = ds.statistics().pixels
        assert [c["mean"] for c in found["channels"]] == (
            [] if pixels is None else pixels.mean.tolist()
        )
        ran(capsys, "columns", path)
        assert f"{len(ds):,} {ds.RECORDS}" in ran(capsys, "stats", path)


def test_facts_checks_and_explanations(path, capsys):
    assert facts(capsys, "info", path)["path"] == path
    (report,) = facts(capsys, "verify", path)
    assert report["ok"] is True
    assert "no problems" in ran(capsys, "verify", path)
    assert "how" in facts(capsys, "explain", path)
    assert path in ran(capsys, "explain", path, "--record", "-1")
    assert ran(capsys, "explain", path, "3") == ran(capsys, "explain", path, "--record", "3")
    assert re.match(r"[0-9a-f]{8}  ", ran(capsys, "get", path, "0", "--hex").splitlines()[1])


def test_pictures_and_rates(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: False, raising=False)
    with mapix.open(path) as ds:
        if ds._content(0).dtype.names is None:
            assert "▀" in ran(capsys, "show", path, "-n", "2")
            ran(capsys, "show", path, "-n", "2", "-o", str(tmp_path / "x.png"))
            assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
        found = facts(capsys, "bench", path, "--seconds", "0.0001", "--batch", "2")
        assert found["records"] == len(ds)
        assert {f["how"] for f in found["figures"]} >= {"mapix"}
        assert all(f["warm"] > 0 for f in found["figures"])


def test_difference(path, tmp_path, capsys):
    found = facts(capsys, "diff", path, path)
    assert found["equal"] is True
    assert ran(capsys, "diff", path, path).endswith("  equal\n")


# --- particular families --------------------------------------------------------------------------


def digits(folder: Path, n: int = 20) -> str:
    rng = np.random.default_rng(0)
    folder.mkdir()
    mapix.idx.write(folder / "train-images-idx3-ubyte", rng.integers(0, 256, (n, 4, 5), np.uint8))
    mapix.idx.write(folder / "train-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 4)
    return str(folder)


def test_parts_are_written_and_come_together(tmp_path, capsys):
    source = digits(tmp_path / "d")
    target = str(tmp_path / "x-images-idx3-ubyte")
    how = ("--seed", "1", "--stratify", "label", "--share", "0.75")
    made = facts(capsys, "split", source, "-o", target, *how)
    paths = [str(tmp_path / f"x-{part}-images-idx3-ubyte") for part in ("train", "test")]
    assert [entry["path"] for entry in made] == paths
    with mapix.open(paths[0]) as a, mapix.open(paths[1]) as b, mapix.open(source) as ds:
        assert sorted(np.bincount(a.columns["label"].values).tolist()) == [3, 4, 4, 4]
        assert (len(a), len(b)) == (15, 5)
        first, second = ds.split(0.75, seed=1, stratify="label")
        np.testing.assert_array_equal(a.view(), np.stack(list(first)))
        np.testing.assert_array_equal(b.view(), np.stack(list(second)))
    ran(capsys, "merge", *paths, str(tmp_path / "y-images-idx3-ubyte"))
    assert "mapix merge PATH ... TARGET" in failed(capsys, "merge", paths[0], status=3)
    with mapix.open(tmp_path / "y-images-idx3-ubyte") as ds:
        assert len(ds) == 20
    assert "is something" in failed(capsys, "split", source, "-o", target)
    ran(capsys, "split", source, "-o", str(tmp_path / "v"), "--to", "vimh", "--share", "0.5")
    with mapix.open(tmp_path / "v") as ds:
        assert (len(ds), list(ds.splits)) == (10, ["train", "test"])
    ran(
        capsys,
        "merge",
        str(tmp_path / "v"),
        str(tmp_path / "v"),
        "-o",
        str(tmp_path / "w"),
        "--to",
        "vimh",
    )
    with mapix.open(tmp_path / "w", split="test") as ds:
        assert len(ds) == 20
    assert "0 to 1" in failed(capsys, "split", source, "-o", target, "--share", "2", status=3)


def test_what_differs_is_listed(tmp_path, capsys):
    one, two = digits(tmp_path / "a"), digits(tmp_path / "b", 21)
    ran(capsys, "query", one, "label < 3", "-o", str(tmp_path / "few.npz"))
    with open(tmp_path / "b" / "train-images-idx3-ubyte", "r+b") as f:
        f.seek(16 + 3 * 20)
        first = f.read(1)[0]
        f.seek(16 + 3 * 20)
        f.write(bytes([first ^ 128]))
    with open(tmp_path / "b" / "train-labels-idx1-ubyte", "r+b") as f:
        f.seek(8 + 5)
        f.write(b"\3")
    found = facts(capsys, "diff", one, two, status=1)
    assert (found["equal"], found["by"]) == (False, "number")
    assert found["only_second"] == [20]
    assert found["columns"] == {"label": [5]}
    # the other pixels are those of another random array: of 21 records
    assert 3 in found["pixels"]
    text = ran(capsys, "diff", one, two, "--no-pixels", status=1)
    assert "label differs in 1 record: 5" in text
    assert "1 only in the second: 20" in text
    np.save(tmp_path / "bare.npy", np.array(mapix.open(one).batch(range(20)).images))
    assert "columns only in the first: label" in ran(
        capsys, "diff", one, str(tmp_path / "bare.npy"), status=1
    )


def test_what_storing_changes_is_named_a_step(tmp_path, capsys):
    one, two = digits(tmp_path / "a"), str(tmp_path / "b")
    with open(tmp_path / "a" / "train-labels-idx1-ubyte", "r+b") as f:
        f.seek(8)
        f.write(bytes(k % 10 for k in range(20)))
    ran(capsys, "convert", one, two, "--to", "vimh")
    found = facts(capsys, "diff", one, two, status=1)
    with mapix.open(one) as a, mapix.open(two) as b:
        moved = a.columns["label"].values != b.columns["label"].values
    assert (found["equal"], found["columns"]) == (False, {"label": np.flatnonzero(moved).tolist()})
    assert found["rounded"] == {"label": pytest.approx(9 / 255)}  # 256 levels from 0 to 9
    text = ran(capsys, "diff", one, two, status=1)
    n = int(moved.sum())
    assert f"label differs in {n} records, by no more than the step of its storage, 0.0353" in text
    with open(tmp_path / "a" / "train-labels-idx1-ubyte", "r+b") as f:
        f.seek(8 + 5)
        f.write(b"\4")  # was 5
    assert facts(capsys, "diff", one, two, status=1)["rounded"] == {}


def test_one_is_not_plural(tmp_path, capsys):
    path = digits(tmp_path / "a", 1)
    assert ran(capsys, "verify", path).startswith(f"{path}/train-images-idx3-ubyte: 1 record, ")
    assert ran(capsys, "stats", path).startswith("1 record\n")
    assert ran(capsys, "diff", path, path).startswith(f"{path}/train-images-idx3-ubyte: 1 record\n")
    assert "<mapix.idx.IdxArray" in repr(mapix.open(path))
    assert "1 record, 4 x 5 of uint8, with labels" in repr(mapix.open(path))


def test_a_report_of_a_directory_names_the_directory(tmp_path, capsys):
    path = digits(tmp_path / "a")
    mapix.idx.write(tmp_path / "a" / "t10k-images-idx3-ubyte", np.zeros((7, 4, 5), np.uint8))
    mapix.idx.write(tmp_path / "a" / "t10k-labels-idx1-ubyte", np.zeros(7, np.uint8))
    (found,) = facts(capsys, "verify", path)
    assert (found["path"], found["records"], found["ok"]) == (path, 27, True)


def test_facts_have_one_order_and_one_name(path, capsys):
    found = list(facts(capsys, "info", path))
    assert found[:3] == ["format", "path", "records"]
    assert "nbytes" not in found or found[3] == "nbytes"
    (report, *_) = facts(capsys, "verify", path)
    assert {"records", "nbytes"} <= report.keys()


def test_a_text_that_is_no_condition_is_wrong_usage(tmp_path, capsys):
    path = digits(tmp_path / "a")
    assert "it ends too early" in failed(capsys, "query", path, "label >", status=3)
    assert "it ends too early" in failed(capsys, "ls", path, "--where", "label >", status=3)
    assert "no column 'x'" in failed(capsys, "query", path, "x > 1", status=2)


def test_segments(tmp_path, capsys):
    from mapix.drawing import png
    from mapix.iid.overlay import overlay

    (tmp_path / "i").mkdir()
    path = str(every_operation.iid(tmp_path / "i"))
    with mapix.open(path) as a:
        _, box = a[2].iid, a[2].bbox
        inside = np.argwhere(a[2].mask())[0]
        x, y = int(box[1] + inside[1]), int(box[0] + inside[0])
        wanted = a.at(x, y).tolist()
        assert [e["key"] for e in facts(capsys, "iid", "at", path, str(x), str(y))] == wanted
        top = facts(capsys, "iid", "at", path, str(x), str(y), "--topmost")
        assert [e["key"] for e in top] == wanted[-1:]
        assert [e["key"] for e in facts(capsys, "iid", "find", path, "s4")] == [4]
        assert [e["key"] for e in facts(capsys, "iid", "find", path, "d1/")] == [1, 4]
        assert "d0, d1, d2" in failed(capsys, "iid", "find", path, "nobody")
        target = str(tmp_path / "labels.npy")
        ran(capsys, "iid", "paint", path, "-o", target)
        np.testing.assert_array_equal(np.load(target), a.paint(background=-1) + 1)
        back = str(tmp_path / "back.iid")
        made = facts(capsys, "iid", "from-labels", target, "-o", back)
        with mapix.open(back) as b:
            assert made == {"path": back, "shape": [80, 80], "segments": len(b)}
            assert {s.domain for s in b} == {b"labels"}
            numbers = np.array([0, *(int(s.iid) for s in b)])
            np.testing.assert_array_equal(numbers[b.paint(background=-1) + 1], np.load(target))
        assert ".iid" in failed(capsys, "iid", "from-labels", target, "-o", "x", status=3)
        made = facts(capsys, "iid", "paint", path, "-o", str(tmp_path / "l.png"), "--group", "h")
        assert (made["shape"], made["segments"]) == ([80, 80], 3)
        assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
        assert ".npy" in failed(capsys, "iid", "paint", path, "-o", "l.gif", status=3)
        drawn = str(tmp_path / "o.png")
        ran(capsys, "iid", "overlay", path, "--keys", "2,3", "-o", drawn)
        assert Path(drawn).read_bytes() == png(overlay(a, None, [2, 3]))
        np.save(tmp_path / "below.npy", np.full((80, 80), 9, np.uint8))
        bomb = tmp_path / "bomb.png"
        head = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
        head += struct.pack(">I", zlib.crc32(head))
        small = png(np.zeros((9, 9), np.uint8))
        bomb.write_bytes(small[:12] + head + small[12 + len(head) :])
        how = ("--image", str(bomb), "-o", str(tmp_path / "b.png"))
        if find_spec("PIL"):
            assert "100000000 pixels" in failed(capsys, "iid", "overlay", path, *how)
        how = ("--image", str(tmp_path / "below.npy"), "--bbox", "0,0,40,50")
        ran(capsys, "iid", "overlay", path, *how, "-o", str(tmp_path / "p.png"))
        said = ran(capsys, "show", path, "-o", str(tmp_path / "s.png"))
        h, w = a._overview()[0].shape[:2]
        assert said == f"{tmp_path / 's.png'}: {h} x {w} pixels\n"
        assert (tmp_path / "s.png").read_bytes() == png(a._overview()[0])
        part = str(tmp_path / "part.iid")
        ran(capsys, "iid", "subset", path, "--group", "h", "-o", part)
        with mapix.open(part) as b:
            assert [s.iid for s in b] == [b"s1", b"s3", b"s5"]
        both = str(tmp_path / "both.iid")
        assert facts(capsys, "iid", "merge", path, part, "-o", both)["segments"] == N + 3
        assert facts(capsys, "diff", path, both, status=1)["by"] == "number"
        assert facts(capsys, "diff", path, part, status=1)["only_first"] == [0, 2, 4]
        entry = facts(capsys, "get", path, "d1/s4")
        assert (entry["record"], entry["area"]) == (4, a[4].area)
        assert facts(capsys, "get", path, "s4") == entry
        ran(capsys, "query", path, "'h' in groups", "-o", str(tmp_path / "q.iid"))
        assert facts(capsys, "diff", part, str(tmp_path / "q.iid"))["equal"]
    assert "no group 'x'" in failed(capsys, "iid", "subset", path, "--group", "x", "-o", "y")
    assert "numbers" in failed(capsys, "iid", "subset", path, "--keys", "x", "-o", "y", status=3)
    height, width = mapix.open(path).shape
    err = failed(capsys, "iid", "at", path, str(width), "0", status=3)
    assert f"the image is {width} pixels wide and {height} high" in err
    error = failed(capsys, "convert", digits(tmp_path / "d"), str(tmp_path / "n.iid"))
    assert "images are not segments; `mapix iid from-labels` (in Python" in error
    error = failed(capsys, "explain", path, "--batch", "2")
    assert error.endswith("do not go into a batch; --record explains how one is read\n")
    error = failed(capsys, "explain", digits(tmp_path / "e"), "--batch", "2", "--dtype", "int3")
    assert "error: --dtype must be one of uint8, " in error


def test_several_paths_are_one_dataset(tmp_path, capsys):
    one, two = digits(tmp_path / "a"), digits(tmp_path / "b")
    assert facts(capsys, "stats", one, two)["records"] == 40
    assert facts(capsys, "get", one, two, "25")["label"] == 5 % 4
    assert facts(capsys, "get", one, "--format", "idx", "3")["record"] == 3
    assert len(facts(capsys, "info", one, two)) == 2
    (tmp_path / "i").mkdir()
    other = str(every_operation.iid(tmp_path / "i"))
    assert f"{other} is of iid" in failed(capsys, "ls", one, other)


def test_pages_of_records(tmp_path, capsys):
    path = digits(tmp_path / "a")
    assert main(["ls", path, "-n", "3", "--range", "5:"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["5", "6", "7"]
    assert err == "3 of 15 records; --range 8:11 prints the next\n"
    assert main(["ls", path, "-n", "3", "--where", "label == 1"]) == 0
    assert capsys.readouterr().err == "3 of 5 records; -n 5 prints all\n"
    assert "no column 'x'" in failed(capsys, "ls", path, "--columns", "x")
    assert "no column 'x'" in failed(capsys, "ls", path, "--sort", "x")
    assert "FROM:TO" in failed(capsys, "ls", path, "--range", "5", status=3)


def test_facts_go_to_a_file(tmp_path, capsys):
    path = digits(tmp_path / "a")
    target = tmp_path / "f.json"
    assert ran(capsys, "stats", path, "-o", str(target)) == ""
    assert json.loads(target.read_text())["records"] == 20
    assert "exists" in failed(capsys, "stats", path, "-o", str(target))
    ran(capsys, "columns", path, "-o", str(tmp_path / "c.txt"))
    assert "label" in (tmp_path / "c.txt").read_text()


def test_files_without_records_are_refused_by_what_needs_records(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    path = str(every_operation.model(tmp_path / "m"))
    assert facts(capsys, "info", path)["format"] == "visualrbm"
    for argv in (["ls", path], ["get", path, "0"], ["query", path, "a > 1"], ["bench", path]):
        assert "no records" in failed(capsys, *argv)
    able = ", ".join(f.name for f in registry.formats() if f.repair is not None)
    assert f"cannot be repaired, only {able};" in failed(
        capsys, "repair", path, str(tmp_path / "n")
    )
    assert "NEW" in failed(capsys, "repair", path, status=3)


# --- output ---------------------------------------------------------------------------------------


def test_plain_data():
    found = output.plain(
        {"a": np.float32(np.nan), "b": np.arange(2), "c": b"\xff", "d": (1, {2}), 3: float("inf")}
    )
    assert found == {"a": None, "b": [0, 1], "c": "\\xff", "d": [1, [2]], "3": None}
    assert output.cell(np.float64(1 / 3)) == "0.333333"
    assert output.cell("x" * 100) == "x" * 57 + "..."
    assert output.cell(None) == ""


class Terminal:
    """A stream that is a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_progress_is_shown_on_terminals_after_a_while(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(output, "PROGRESS_AFTER", 0.0)
    with output.progress("counting") as show_progress:
        show_progress(1, 2)
    assert capsys.readouterr().err == ""
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(output.threading, "Timer", NoTimer)
    with output.progress("counting") as show_progress:
        show_progress(1, 4)
        assert err.text == ""
        NoTimer.made.do()
        show_progress(2, 4)
        show_progress(2, 4)
        assert err.text == "\r\x1b[Kcounting ...\r\x1b[Kcounting: 50 %"
    assert err.text.endswith("50 %\r\x1b[K")
    NoTimer.made.do()
    show_progress(3, 4)
    assert err.text.endswith("50 %\r\x1b[K")


class NoTimer:
    """A timer whose time does not come by itself."""

    def __init__(self, seconds: float, do) -> None:
        self.do, NoTimer.made = do, self

    def start(self) -> None: ...

    def cancel(self) -> None: ...


def test_verify_speaks_the_words_of_the_command_line(tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        for k in range(3):
            entry = tarfile.TarInfo(f"{k}.txt")
            entry.size = 5
            out.addfile(entry, io.BytesIO(b"hello"))
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "a.tar").read_bytes()[: 5 * 512 + 100])
    (found,) = facts(capsys, "verify", str(cut), status=1)
    assert found["problems"][0].endswith("; `mapix repair` saves the complete records")
    for source in (Path(__file__).parent / "golden" / "vimh" / "hand" / "truncated_tail").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (found,) = facts(capsys, "verify", str(tmp_path / "train"), status=1)
    assert "(--open strict=false opens it)" in found["problems"][0]
    assert "1 complete record in 19 bytes" in found["problems"][0]


def test_tables_of_rich(monkeypatch, tmp_path):
    pytest.importorskip("rich")
    out = Terminal()
    path = digits(tmp_path / "a")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["columns", path]) == 0
    assert "┃" in out.text
    assert "label" in out.text


def test_tables_that_are_wider_than_a_terminal():
    heads = ("record", "name", "shape", "description")
    rows = [
        [7, "first", "3 x 4", "words that are many more than thirty characters"],
        [8] + [""] * 3,
    ]
    whole = output.Table(heads, rows, "title")
    (piece,) = output._pieces(whole, 80, wraps=False)
    assert list(piece.heads) == list(heads)
    pieces = output._pieces(whole, 40, wraps=True)
    assert [list(p.heads) for p in pieces] == [
        ["record", "name", "shape"],
        ["record", "description"],
    ]
    assert [p.title for p in pieces] == ["title", ""]
    assert [list(row) for row in pieces[0].rows] == [["7", "first", "3 x 4"], ["8", "", ""]]
    narrow = output._pieces(whole, 5, wraps=True)  # each column beside the first one
    assert [p.heads[1] for p in narrow] == ["name", "shape", "description"]
    assert [p.heads for p in output._pieces(output.Table(["a"], []), 5, wraps=True)] == [["a"]]


def test_formats_of_other_packages_come_before_unmarked_ones(monkeypatch, tmp_path, capsys):
    path = tmp_path / "x.other"
    path.write_bytes(b"OTHER" + bytes(60))
    other = registry.Format("other", "nowhere:open", title="another", magic=((0, b"OTHER"),))
    monkeypatch.setattr(registry, "_plugins", lambda: iter([other]))
    assert registry.recognised(path) is other
    assert main(["repair", str(path), str(tmp_path / "new")]) == 2
    assert "another cannot be repaired" in capsys.readouterr().err
    path.write_bytes(bytes(60))
    assert registry.recognised(path).name == "vimh"


def test_pictures_in_terminals(monkeypatch):
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0, :, 0] = 255
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("COLORTERM", raising=False)
    assert show.in_terminal(rgb).startswith("\x1b[38;5;196m\x1b[48;5;16m▀")
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert show.in_terminal(rgb).startswith("\x1b[38;2;255;0;0m\x1b[48;2;0;0;0m▀")
    found = re.fullmatch(r"\x1b_Ga=T,f=100,m=0;([\w+/=]+)\x1b\\\n", show.in_terminal(rgb, "kitty"))
    assert b64decode(found[1]) == png(rgb)


def test_large_pictures_are_sent_to_kitty_in_pieces():
    data = np.random.default_rng(0).bytes(10_000)
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", terminal.kitty(data))
    assert [head for head, _ in pieces] == ["a=T,f=100,m=1", "m=1", "m=1", "m=0"]
    assert all(len(text) == 4096 for _, text in pieces[:-1])
    assert b64decode("".join(text for _, text in pieces)) == data


def drawn_by(sixels: str) -> np.ndarray:
    """The picture that a terminal makes of sixels, in per cent of each channel."""
    w, h, body = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\\n', sixels).groups()
    out = np.full((int(h), int(w), 3), -1)
    colours, x, y = {}, 0, 0
    token = r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|([$-])|(.)"
    for *defined, chosen, count, repeated, move, single in re.findall(token, body):
        if defined[0]:
            colours[defined[0]] = [int(v) for v in defined[1:]]
        elif chosen:
            colour = colours[chosen]
        elif move:
            x, y = 0, y + 6 * (move == "-")
        else:
            bits, n = ord(repeated or single) - 63, int(count or 1)
            for k in range(6):
                if bits >> k & 1:
                    assert (out[y + k, x : x + n] == -1).all()
                    out[y + k, x : x + n] = colour
            x += n
    return out


def test_sixels():
    rng = np.random.default_rng(3)
    for h, w in ((1, 1), (6, 5), (13, 40)):
        rgb = rng.integers(0, 256, (h, w, 3), np.uint8)
        rgb[:, w // 2 :] = rgb[:1, -1:]  # a run
        text = terminal.sixel(rgb)
        assert w < 40 or "!20" in text
        assert np.array_equal(drawn_by(text), 20 * np.rint(rgb / 51).astype(int))


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"\x1b_Gi=31;OK\x1b\\\x1b[?62;4c", "kitty"),
        (b"\x1b[?62;4;22c", "sixel"),
        (b"\x1b[?62;14;22c", None),
        (b"", None),
    ],
)
def test_the_terminal_is_asked_what_it_shows(monkeypatch, answer, wanted):
    ours, its = os.openpty()
    tty.setraw(ours)
    before = termios.tcgetattr(its)
    monkeypatch.setattr(terminal, "TERMINAL", os.ttyname(its))
    monkeypatch.setattr(terminal, "SECONDS", 30 if answer else 0.01)
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp())
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    asked = []

    def answering() -> None:
        while not b"".join(asked).endswith(b"\x1b[c"):
            asked.append(os.read(ours, 100))
        os.write(ours, answer)

    thread = threading.Thread(target=answering)
    thread.start()
    try:
        assert terminal.graphics() == wanted
        assert termios.tcgetattr(its) == before
        thread.join()
        assert b"".join(asked).startswith(b"\x1b_Gi=31,")
        monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() + 1)
        assert terminal.graphics() is None  # in the background nothing is asked
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr(terminal, "TERMINAL", "/nowhere")
        assert terminal.graphics() is None
    finally:
        os.close(ours)
        os.close(its)


# --- completion -----------------------------------------------------------------------------------


def test_completion(tmp_path, capsys):
    path = digits(tmp_path / "a")
    (tmp_path / "i").mkdir()
    archive = str(every_operation.iid(tmp_path / "i"))
    for words, wanted in (
        (["ver"], ["verify"]),
        (["iid", "su"], ["subset"]),
        (["ls", path, "--ra"], ["--range"]),
        (["ls", path, "--sort", ""], ["label"]),
        (["query", path, "la"], ["label"]),
        (["get", archive, "d1"], ["d1/s1", "d1/s4"]),
        (["completion", "z"], ["zsh"]),
        (["ls", str(tmp_path / "nothing"), "--sort", ""], []),
        (["nobody", ""], []),
    ):
        assert complete.candidates(words) == wanted
        assert main(["__complete", *words]) == 0
        assert capsys.readouterr().out.split() == wanted
    assert set(complete.candidates([""])) >= {*COMMANDS, "iid", "idx", "folder"}
    for shell in ("bash", "zsh", "fish"):
        assert "mapix __complete" in ran(capsys, "completion", shell)


@pytest.mark.slow
def test_bash_completes(tmp_path):
    program = tmp_path / "mapix"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mapix "$@"\n')
    program.chmod(0o755)
    code = (
        f'PATH={tmp_path}:$PATH; eval "$(mapix completion bash)"; COMP_WORDS=(mapix iid su); '
        'COMP_CWORD=2; _mapix; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "subset\n"


# --- errors, Ctrl-C -------------------------------------------------------------------------------


def test_errors_are_in_the_command_lines_words(tmp_path, capsys):
    path = digits(tmp_path / "a")
    assert failed(capsys, "ls", str(tmp_path / "no")) == (
        f"mapix: error: {tmp_path / 'no'}: no such file or directory\n"
    )
    assert "NAME=VALUE" in failed(capsys, "ls", path, "--open", "x", status=3)
    assert "required: PATH" in failed(capsys, "ls", status=3)
    assert "see `mapix iid at --help`" in failed(capsys, "iid", "at", path, "a", "b", status=3)
    err = failed(capsys, "iid", "find", path, "--group", "x", status=3)
    assert "unrecognized arguments: --group; see `mapix iid find --help`" in err
    error = failed(capsys, "convert", path, str(tmp_path / "x-ubyte"))
    assert "--label none" in error
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\1\0\xff\xff")
    assert "bad.npy" in failed(capsys, "info", str(tmp_path / "bad.npy"), status=1)


CTRL_C = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from mapix.__main__ import main
sys.exit(main({argv!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["mapix.commands", "argparse", "mapix.commands.info", "numpy", "mapix.registry", "mapix._core"],
)
def test_ctrl_c_while_it_starts(tmp_path, name):
    code = CTRL_C.format(name=name, argv=["info", digits(tmp_path / "a")])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mapix: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["module", "script", "library"])
def test_ctrl_c_while_mapix_itself_is_imported(tmp_path, how):
    before, _, _ = CTRL_C.partition("from mapix")
    (tmp_path / "sitecustomize.py").write_text(before.format(name="mapix.errors"))
    (tmp_path / "mapix").write_text("from mapix.__main__ import main\nmain()\n")
    given = {
        "module": ["-X", "utf8", "-m", "mapix", "-m", "x"],
        "script": [str(tmp_path / "mapix")],
        "library": ["-c", "import mapix", "mapix"],
    }
    path = os.pathsep.join([str(tmp_path), str(Path(mapix.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, *given[how]],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
    if how == "library":
        assert done.stderr.startswith("Traceback")
    else:
        assert done.stderr == "mapix: interrupted\n"


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    made = data.make("uniform", tmp_path / "u", 400)
    target = tmp_path / "new" / "x.npz"
    target.parent.mkdir()
    code = (
        "import mapix.conversion.target as t, os, signal\n"
        "def counter(total, progress):\n"
        "    def count(n): os.kill(os.getpid(), signal.SIGINT)\n"
        "    return count\n"
        "t.counter = counter\n"
        "import sys; from mapix.__main__ import main\n"
        f"sys.exit(main(['convert', {str(made)!r}, {str(target)!r}, '--split', 'train']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "mapix: interrupted\n")
    assert list(target.parent.iterdir()) == []


def test_info_of_a_folder_lists_what_else_is_in_it(tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.png").write_bytes(png(np.zeros((2, 3), np.uint8)))
    instances = tmp_path / "annotations" / "instances_val.json"
    picture = {"id": 1, "file_name": "a.png", "width": 3, "height": 2}
    instances.write_text(json.dumps({"images": [picture], "annotations": []}))
    (tmp_path / "annotations" / "settings.json").write_text('{"epochs": 3}')
    there = {"path": str(instances), "format": "coco"}
    found = facts(capsys, "info", str(tmp_path))["also_here"]
    assert found == [there | {"holds": "images and annotations as COCO's JSON has them"}]
    assert f"\n  to open one: mapix info {instances}\n" in ran(capsys, "info", str(tmp_path))
    assert facts(capsys, "info", str(instances))["records"] == 1
    instances.unlink()
    assert "also_here" not in facts(capsys, "info", str(tmp_path))


def test_few_files_of_a_large_folder_are_inspected(tmp_path, monkeypatch):
    for k in range(100):
        (tmp_path / f"{k:03}.png").touch()
    (tmp_path / "z.npy").write_bytes(b"\x93NUMPY\1\0")
    asked = []
    real = registry.recognised
    monkeypatch.setattr(registry, "recognised", lambda path: asked.append(path) or real(path))
    assert [(p, f.name) for p, f in registry.datasets_in(str(tmp_path))] == [
        (str(tmp_path / "z.npy"), "npy")
    ]
    assert len(asked) == 21


def test_files_in_memory_are_not_called_cold(tmp_path, monkeypatch):
    path = digits(tmp_path / "a")
    monkeypatch.setattr(bench, "_in_memory", lambda path: True)
    assert main(["bench", path, "--seconds", "0.0001", "-o", str(tmp_path / "b.json")]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["cold"] is False
    assert all(figure["cold"] is None for figure in found["figures"])


def test_small_files_are_not_measured_cold(tmp_path, monkeypatch, capsys):
    path = digits(tmp_path / "a")
    monkeypatch.setattr(bench, "_in_memory", lambda path: False)
    found = facts(capsys, "bench", path, "--seconds", "0.0001")
    assert found["nbytes"] == 16 + 20 * 20  # those of the images that are read
    assert found["cold"] is False
    cold = {figure["what"]: figure["cold"] for figure in found["figures"]}
    assert cold.pop("open") > 0
    assert set(cold.values()) == {None}
    text = ran(capsys, "bench", path, "--seconds", "0.0001")
    assert "Below 4.00 MB, reading from the disk is not measured" in text
    assert "records per second" in text
    assert text.count("cold") == 1
    monkeypatch.setattr(bench, "LEAST_COLD_NBYTES", 1)
    found = facts(capsys, "bench", path, "--seconds", "0.0001")
    assert found["cold"] is True
    assert all(f["cold"] for f in found["figures"] if f["what"] != "open for the first time")


def test_measuring_shows_progress(tmp_path, monkeypatch, capsys):
    called = []

    @contextmanager
    def progress(what):
        yield lambda done, total: called.append((what, done, total))

    monkeypatch.setattr(bench, "progress", progress)
    path = digits(tmp_path / "a")
    n = len(facts(capsys, "bench", path, "--seconds", "0.0001")["figures"])
    assert n == 11
    assert called == [(f"measuring {path}", k + 1, n) for k in range(n)]


def test_a_chart(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "chart.svg"
    ran(capsys, "bench", digits(tmp_path / "a"), "--seconds", "0.0001", "-o", str(target))
    assert "np.memmap" in target.read_text() or "<svg" in target.read_text()


def test_a_missing_library_is_named_and_nothing_called_damaged(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.png").write_bytes(b"a picture, says its name")
    (tmp_path / "f" / "metadata.jsonl").write_text('{"file_name": "a.png", "label": 3}\n')
    path = str(tmp_path / "f")
    (report,) = facts(capsys, "verify", path, status=2)
    assert (report["ok"], report["damaged"]) == (True, [])
    assert "pip install 'mapix[" in report["unchecked"][0]
    assert facts(capsys, "ls", path) == [{"record": 0, "file_name": "a.png", "label": 3}]
    for command in (["head", path], ["get", path, "0"], ["show", path], ["stats", path]):
        assert "pip install 'mapix[" in failed(capsys, *command)


@pytest.mark.slow
def test_tools_of_formats_print_json(tmp_path, capsys):
    for name in ("idx", "map", "model"):
        (tmp_path / name).mkdir()
    path = str(FAMILIES["idx"](tmp_path / "idx"))
    assert facts(capsys, "idx", "info", path)["records"] == N
    path = str(every_operation.model(tmp_path / "model"))
    assert facts(capsys, "visualrbm", "info", path)["format"] == "visualrbm"
    path = str(FAMILIES["map"](tmp_path / "map"))
    assert facts(capsys, "pink", "info", path)["kind"] == "map"
    with mapix.open(path) as ds:
        found = facts(capsys, "pink", "best", path)
        assert [entry["neuron"] for entry in found] == ds.best_match().tolist()
        found = facts(capsys, "pink", "counts", path)
        assert [entry["entries"] for entry in found] == ds.counts().tolist()
        (far,) = facts(capsys, "pink", "outliers", path, "-n", "1")
        assert far == {"entry": int(ds.outliers(1)[0]), "distance": ds.best_distance().max()}


def test_files_that_cannot_be_opened_are_bad_and_the_others_checked(tmp_path, capsys):
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\1\0\xff\xff")
    bad, good = facts(capsys, "verify", str(tmp_path / "bad.npy"), digits(tmp_path / "a"), status=1)
    assert (bad["ok"], good["ok"]) == (False, True)
    assert "bad.npy" in bad["problems"][0]


def test_errors_of_damaged_files_name_repair(tmp_path, capsys):
    path = every_operation.vimh(tmp_path, mixed=False)
    with open(path, "r+b") as f:
        f.truncate(path.stat().st_size - 5)
    error = failed(capsys, "info", str(path), status=1)
    assert "--open strict=false" in error
    assert error.endswith("; `mapix repair` saves the complete records\n")
    assert main(["repair", str(path), "-o", str(tmp_path / "new")]) == 1
    with mapix.open(tmp_path / "new") as ds:
        assert len(ds) == N - 1


def test_a_file_that_nothing_knows_is_one_short_line(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    assert "an empty directory" in failed(capsys, "info", str(tmp_path / "d"), status=1)
    (tmp_path / "x").write_bytes(b"words")
    error = failed(capsys, "info", str(tmp_path / "x"), status=1)
    assert "no format recognises it" in error
    assert "--format NAME states why one refuses it: " in error
    assert " vimh, iid, idx" in error
    assert len(error) < 400
    (tmp_path / "y").write_bytes(b"%PDF-1.7 a document")
    assert "repair" not in failed(capsys, "info", str(tmp_path / "y"), status=1)


def test_a_missing_file_of_a_record_does_not_hide_the_others(tmp_path, capsys):
    pytest.importorskip("PIL")
    from PIL import Image

    folder = tmp_path / "f"
    folder.mkdir()
    Image.new("L", (3, 2)).save(folder / "a.png")
    lines = [{"file_name": f"{name}.png", "label": k} for k, name in enumerate("ab")]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = facts(capsys, "ls", str(folder))
    assert (first["shape"], "shape" in second) == ([2, 3, 1], False)
    found = {entry["name"]: entry for entry in facts(capsys, "columns", str(folder))}
    assert found["label"]["high"] == 1
    assert "b.png" in found["width"]["problem"]


def test_options_that_a_format_does_not_have_are_named(tmp_path, capsys):
    (tmp_path / "iid").mkdir()
    for path, given, message in (
        (
            every_operation.npy(tmp_path),
            "--split",
            "npy has no option --split; it has --open axes=",
        ),
        (every_operation.iid(tmp_path / "iid"), "--open", "iid has no option --open records=; it"),
    ):
        assert main(["info", str(path), given, "records=images"]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(TypeError, match="npy has no option split=; it has axes="):
        mapix.open(tmp_path / "x.npy", split="train")
    with pytest.raises(TypeError, match="str"):  # another error stays what it is
        registry.Format("x", lambda candidate, n=1: n + "").load(registry.Candidate("x"), {"n": 1})


def test_a_name_in_a_catalogue_is_found_without_reading_all(tmp_path, capsys, monkeypatch):
    folders = [tmp_path / f"{k}" for k in range(4)]
    for k, folder in enumerate(folders):
        folder.mkdir()
        with mapix.iid.Writer(folder / "a.iid", {"image": {"height": 80, "width": 80}}) as out:
            out.add("", f"s/{k}", np.ones((2, 2), bool), at=(k, k))
            out.add("d", f"s{k}", np.ones((2, 2), bool), at=(k, k))
    every_operation.tar(folders[0])
    mapix.catalogue.write([f / "a.iid" for f in folders], tmp_path / "iid.catalogue")
    mapix.catalogue.write([folders[0] / "x.tar"], tmp_path / "tar.catalogue")
    tar = mapix.open(tmp_path / "tar.catalogue")
    assert [tar._rows_named([name]).tolist() for name in ("4", "x")] == [[4], []]
    monkeypatch.setattr("mapix.commands.records.names_of", None)  # reads the names of all records
    for name, minr in (("d/s2", 2), ("s/3", 3)):
        assert main(["get", str(tmp_path / "iid.catalogue"), name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["minr"] == minr
    assert main(["get", str(folders[1] / "a.iid"), "d/s1", "--json"]) == 0


def test_a_file_is_compared_with_the_only_split_that_has_records(tmp_path, capsys):
    path = str(every_operation.vimh(tmp_path, mixed=False))
    assert main(["convert", path, str(tmp_path / "new"), "--to", "vimh"]) == 0
    (tmp_path / "new" / "test").write_bytes(b"")
    assert main(["diff", path, str(tmp_path / "new")]) == 0
    assert "equal" in capsys.readouterr().out


def test_what_was_repaired_is_json_too(tmp_path, capsys):
    path = every_operation.vimh(tmp_path, mixed=False)
    path.write_bytes(path.read_bytes()[:-3])
    assert main(["repair", str(path), str(tmp_path / "new"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == N - 1
    assert not found["complete"]
    assert found["lost"] == [[found["nbytes"], path.stat().st_size]]


def test_numbers_and_types_are_written_alike(tmp_path, capsys):
    rotation = str(every_operation.pink_rot(tmp_path))
    labels = str(tmp_path / "labels.npy")
    np.save(labels, np.arange(1500))
    for arguments, status, found in (
        (["info", rotation], 0, "flip uint8, angle float32"),
        (["head", rotation], 0, "flip uint8, angle float32"),
        (["convert", rotation, str(tmp_path / "x"), "--to", "vimh"], 2, "numbers expected"),
        (["verify", labels], 0, "labels.npy: 1,500 records"),
        (["catalogue", labels, "-o", str(tmp_path / "c")], 0, "1 shard, 1,500 records, 12,128 b"),
        (["get", labels, "3", "-o", str(tmp_path / "x.png")], 2, "record 3 is not an image"),
        (["query", labels, "a > 3"], 2, "the dataset has no columns"),
        (["explain", labels, "--batch", "4"], 0, "copies bytes   32"),
    ):
        assert main(arguments) == status
        assert found in "".join(capsys.readouterr())


def test_what_people_read_has_no_words_of_python(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint8))
    with open(tmp_path / "a.npy", "r+b") as f:
        f.truncate(150)
    text = failed(capsys, "info", str(tmp_path / "a.npy"), status=1)
    assert "3 x 4 x 5 of uint8 takes 188 bytes, there are 150" in text
    (tmp_path / "b.idx").touch()
    text = failed(capsys, "idx", "info", str(tmp_path / "b.idx"), status=1)
    assert "the file looks like an empty file; 0000 or ffff expected" in text
    facts = np.zeros(2, [("year", "<i4"), ("name", "<U90")])
    facts["year"], facts["name"] = 2019, "a long name of a picture, " * 3
    np.save(tmp_path / "c.npy", facts)
    text = ran(capsys, "info", str(tmp_path / "c.npy"))
    assert re.search(
        r"^ +0 +2019 +a long name of a picture, a long name of a picture, a...$", text, re.M
    )
    assert repr(mapix.open(tmp_path / "c.npy").columns["name"]) == "<Column name: 2 values of text>"


def test_planes_have_one_shape_in_all_commands(tmp_path, capsys):
    path = str(tmp_path / "a.npy")
    np.save(path, np.zeros((2, 3, 4, 5), np.uint8))
    how = ("--open", "axes=CHW")
    assert [e["shape"] for e in facts(capsys, "ls", path, *how)] == [[4, 5, 3]] * 2
    assert facts(capsys, "get", path, "0", *how)["shape"] == [4, 5, 3]


def test_tools_take_the_new_file_last_or_by_an_option(tmp_path, capsys):
    one = tmp_path / "a.idx"
    mapix.idx.write(one, np.arange(6, dtype=np.uint8).reshape(3, 2))
    ran(capsys, "idx", "cat", str(one), str(one), str(tmp_path / "b.idx"))
    ran(capsys, "idx", "cat", str(one), str(one), "-o", str(tmp_path / "c.idx"))
    assert (tmp_path / "b.idx").read_bytes() == (tmp_path / "c.idx").read_bytes()
    with mapix.open(tmp_path / "c.idx") as ds:
        assert ds.view()[:, 1].tolist() == [1, 3, 5, 1, 3, 5]
    ran(capsys, "idx", "shuffle", str(one), "-o", str(tmp_path / "d.idx"))
    assert ran(capsys, "idx", "append", str(one), str(tmp_path / "d.idx")).endswith(": 6 records\n")
    assert "mapix idx cat" in failed(capsys, "idx", "cat", str(one), status=3)


def test_names_that_are_like_a_text():
    from mapix.commands.records import similar_names

    names = ["a/other.jpg", "color/cats.jpg", "color/cat.jpg", "grey/camera.png"]
    assert similar_names("cat", names) == ["color/cat.jpg", "color/cats.jpg"]
    assert similar_names("CAMERA.PNG", names) == ["grey/camera.png"]
    assert similar_names("camrea.png", names) == ["grey/camera.png"]
    assert similar_names("nothing like it", names) == []


def test_a_folder_of_several_datasets_lists_them(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((3, 4)))
    with mapix.iid.Writer(tmp_path / "a.iid") as out:
        out.add("d", "i", np.ones((2, 2)))
    assert main(["info", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:2] for line in shown.splitlines()[4:6]] == [
        [str(tmp_path / "a.iid"), "iid"],
        [str(tmp_path / "x.npy"), "npy"],
    ]
    assert shown.endswith(f"to open one: mapix info {tmp_path / 'a.iid'}\n")
    assert main(["info", str(tmp_path), "--json"]) == 0
    here = json.loads(capsys.readouterr().out)["datasets_here"]
    assert [entry["format"] for entry in here] == ["iid", "npy"]


def test_archives_state_what_was_written(tmp_path, capsys):
    path = str(tmp_path / "a.iid")
    with mapix.iid.Writer(path, {"image": {"height": 4, "width": 4}}) as out:
        out.add("d", "full", np.ones((2, 2)))
        out.add("d", "empty", np.zeros((2, 2)))
    for tool, facts in (
        (["to-coco", path, "-o", "C"], {"images": 1, "segments": 2}),
        (["to-geojson", path, "C"], {"segments": 1}),
        (["from-coco", "coco.json", "-o", "C"], {"images": 1, "segments": 2, "without_mask": 1}),
    ):
        new = str(tmp_path / tool[0])
        given = [{"C": new, "coco.json": str(tmp_path / "to-coco")}.get(arg, arg) for arg in tool]
        assert main(["iid", *given, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"path": new, **facts}
    assert main(["iid", "find", path, "ful"]) == 2
    assert capsys.readouterr().err.endswith("no segment is named 'ful'; did you mean d/full?\n")
    (tmp_path / "empty").mkdir()
    assert main(["iid", "to-coco", str(tmp_path / "empty"), str(tmp_path / "no.json")]) == 1
    assert "it has no .iid file" in capsys.readouterr().err
    assert not (tmp_path / "no.json").exists()
