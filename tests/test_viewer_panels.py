"""Panels of records, archives, maps and problems: what their routes answer, without a browser."""

from __future__ import annotations

import json
import math
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.iid import viewing as archives
from mapix.pink import viewing as soms
from mapix.pink import write_data, write_map, write_rot, write_som
from mapix.report import Report
from mapix.viewer import inspector, named_bytes, problems
from mapix.viewer.companions import opened
from mapix.viewer.panels import PANELS, Panel, panels_of
from mapix.viewer.routes import RefusedError, Request, routes
from mapix.viewer.session import View
from viewers import Client


def ask(route: Any, view: View, **parameters: Any) -> Any:
    """The answer of a route: data, or bytes."""
    reply = route(view, Request({k: str(v) for k, v in parameters.items()}))
    return json.loads(reply.body) if reply.kind == "application/json" else reply.body


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<f4", ">f8", "?", "i8"])
@pytest.mark.parametrize("shape", [(7,), (5, 4), (5, 4, 3)])
def test_pixels_are_numpys(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(0).random((3, *shape)) * 120 - 9).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    view = View(mapix.open(tmp_path / "a.npy"))
    wanted = array[2].reshape(1, -1, 1) if len(shape) == 1 else array[2].reshape(*shape[:2], -1)
    found = ask(inspector.record, view, n=2)
    h, w, c = found["image"]["shape"]
    assert (h, w, c) == wanted.shape
    low, high = found["image"]["low"], found["image"]["high"]
    assert (low, high) == (float(wanted.min()), float(wanted.max()))
    assert found["image"]["dtype"] == array.dtype.name
    kind = np.dtype(found["image"]["dtype"]).newbyteorder("<")
    every = np.frombuffer(ask(inspector.pixels, view, n=2), kind).reshape(h, w, c)
    np.testing.assert_array_equal(every, wanted)
    part = ask(inspector.pixels, view, n=2, top=0, left=1, bottom=h, right=w, step=2)
    np.testing.assert_array_equal(
        np.frombuffer(part, kind).reshape(-(-h // 2), -(-(w - 1) // 2), c), wanted[::2, 1::2]
    )
    with pytest.raises(RefusedError, match="left must be"):
        ask(inspector.pixels, view, n=2, left=w)
    with pytest.raises(RefusedError, match="n must be"):
        ask(inspector.record, view, n=3)


def record(code: int, pixels: bytes) -> bytes:
    return struct.pack("<3H2fB", 2, 3, 1, -80, -29, 1) + bytes([0, code]) + pixels


@pytest.fixture
def vimh(tmp_path: Path) -> Any:
    path = tmp_path / "train"
    path.write_bytes(b"".join(record(k, bytes(range(k, k + 6))) for k in range(9)))
    return mapix.open(path)


def test_a_record_of_a_part(vimh: Any) -> None:
    view = View(vimh[[7, 3]])
    found = ask(inspector.record, view, n=1)
    assert (found["record"], found["row"]) == (1, 3)
    assert [(c["name"], c["value"], c["label"]) for c in found["columns"]] == [("param_0", 3, True)]
    assert found["annotations"]["unit"] == {
        "scale": pytest.approx(0.2),
        "offset": -80,
        "name": "dB",
    }
    assert ask(inspector.pixels, view, n=1) == bytes(range(3, 9))


def test_bytes_of_a_record(vimh: Any) -> None:
    view = View(vimh)
    found = ask(named_bytes.ranges, view, n=4)
    wanted = vimh.byte_ranges(4)
    shown = [(r["name"], r["kind"], r["at"], r["nbytes"], r["text"]) for r in found["ranges"]]
    assert shown == [(r.name, r.kind, r.at, r.nbytes, r.text) for r in wanted]
    assert found["files"] == [vimh.path]
    data = Path(vimh.path).read_bytes()
    for k, r in enumerate(wanted):
        assert ask(named_bytes.range_bytes, view, n=4, range=k) == data[r.at : r.at + r.nbytes]
    last = len(wanted) - 1
    assert ask(named_bytes.range_bytes, view, n=4, range=last, first=2, most=3) == bytes([6, 7, 8])
    with pytest.raises(RefusedError, match="range must be"):
        ask(named_bytes.range_bytes, view, n=4, range=last + 1)


# --- problems -------------------------------------------------------------------------------------


def finished(view: View) -> Any:
    for _ in range(1000):
        found = ask(problems.problems, view)
        if found["state"] not in ("waiting", "running"):
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_problems_lead_to_records(tmp_path: Path) -> None:
    array = np.zeros((6, 2), np.float32)
    array[[1, 4]] = np.nan
    np.save(tmp_path / "a.npy", array)
    ds = mapix.open(tmp_path / "a.npy")
    view = View(ds)
    assert ask(problems.problems, view)["state"] == "waiting"
    ask(problems.start, view)
    found = finished(view)
    assert not found["ok"]
    assert [p["records"] for p in found["problems"]] == [[1, 4]]
    assert found["damaged"] == [1, 4]
    part = View(ds[[5, 4, 0]])
    ask(problems.start, part)
    assert finished(part)["damaged"] == [1]  # row 4 of the file


def test_no_problems(vimh: Any) -> None:
    view = View(vimh)
    ask(problems.start, view)
    found = finished(view)
    assert (found["ok"], found["problems"], found["records"]) == (True, [], 9)


def test_a_check_that_is_stopped_or_fails(vimh: Any) -> None:
    class Slow:
        path = vimh.path

        def verify(self, progress: Any) -> Report:
            for k in range(10_000):
                progress(k, 10_000)
                time.sleep(0.001)
            raise AssertionError("it was not stopped")

    check = problems.Check(Slow())
    check.start()
    check.start()  # once at a time
    check.stop()
    for _ in range(1000):
        if check.state == "stopped":
            break
        time.sleep(0.01)
    assert check.state == "stopped"

    class Bad:
        def verify(self, progress: Any) -> Report:
            raise mapix.FormatError("a", "b", "it is broken")

    check = problems.Check(Bad())
    check.start()
    for _ in range(1000):
        if check.state == "failed":
            break
        time.sleep(0.01)
    assert "it is broken" in check.error


def test_rows_that_problems_name() -> None:
    report = Report(
        "/d/train",
        problems=[
            "/d/train: vimh record 5 at byte 7: bad",
            "/d/test: /d/test: vimh record 5 at byte 7: bad",
            "3 records have changed: 2, 8, 9",
            "the info JSON states another shape",
            "image: 2 boxes, that of segment 4 first, lie outside",
        ],
        damaged=[2, 8, 9, 11],
    )
    assert [report.rows_of(k) for k in range(5)] == [[5], [], [2, 8, 9, 11], [], [4]]
    assert report.rows_of(1, "/d/test") == [5]


# --- archives -------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    rng = np.random.default_rng(3)
    path = tmp_path / "a.iid"
    with mapix.iid.Writer(path, meta={"image": {"width": 50, "height": 40}}) as out:
        for k in range(60):
            h, w = rng.integers(1, 14, 2).tolist()
            at = int(rng.integers(0, 40 - h)), int(rng.integers(0, 50 - w))
            names = [
                n
                for n, p in (("cells", 0.7), ("dead", 0.3), ("out of focus", 0.2))
                if rng.random() < p
            ]
            mask = rng.random((h, w)) < 0.7
            mask[rng.integers(h), rng.integers(w)] = True
            out.add(f"d{k % 3}", f"seg {k}", mask, at=at, groups=names)
    return mapix.open(path)


def members(archive: Any, name: str) -> set[int]:
    return set(archive.groups[name].keys.tolist())


def test_groups_with_words(archive: Any) -> None:
    cells, dead = members(archive, "cells"), members(archive, "dead")
    blurred, every = members(archive, "out of focus"), set(range(60))
    for text, wanted in [
        ("cells", cells),
        ("not cells", every - cells),
        ("cells and not (dead or 'out of focus')", cells - (dead | blurred)),
        ("cells or dead and not 'out of focus'", cells | (dead - blurred)),
    ]:
        found = archive.in_groups(text)
        assert found.dtype == np.uint32
        assert found.tolist() == sorted(wanted)
    for text in ("", "cells and", "cells & dead", "cells > 1", "f(cells)", "1", "(" * 500):
        with pytest.raises(ValueError, match="combination of groups|names of groups"):
            archive.in_groups(text)
    with pytest.raises(KeyError, match="nuclei"):
        archive.in_groups("cells and nuclei")
    with pytest.raises(ValueError, match="10000 characters"):
        archive.in_groups("cells or " * 2000 + "dead")


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_windows_are_paintings(archive: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "STRIPE_PIXELS", 97)
    view = View(archive)
    box = {"top": 3, "left": 5, "bottom": 38, "right": 49, "step": step}
    wanted = archive.paint()[3:38:step, 5:49:step]
    found = np.frombuffer(ask(archives.window, view, **box), "<i4").reshape(wanted.shape)
    np.testing.assert_array_equal(found, wanted)
    keys = archive.in_groups("cells and not dead")
    keys = keys[archive.areas[keys] > 9]
    found = np.frombuffer(
        ask(archives.window, view, **box, groups="cells and not dead", q="area > 9"), "<i4"
    )
    wanted = archive.paint(keys)[3:38:step, 5:49:step]
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    for key in (0, 17, 59):
        wanted = archive[key].mask((0, 0, 40, 50))[3:38:step, 5:49:step]
        found = np.frombuffer(ask(archives.mask, view, key=key, **box), np.bool_)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_segments_at_a_pixel_are_those_of_at(archive: Any) -> None:
    view, part = View(archive), View(archive[archive.in_groups("cells")])
    cells = members(archive, "cells")
    for y in range(0, 40, 3):
        for x in range(0, 50, 3):
            wanted = archive.at(x, y).tolist()[::-1]
            found = ask(archives.at, view, x=x, y=y)
            assert [s["key"] for s in found["segments"]] == wanted
            assert found["count"] == len(wanted)
            found = ask(archives.at, part, x=x, y=y)
            assert [s["key"] for s in found["segments"]] == [k for k in wanted if k in cells]
            for s in found["segments"]:
                assert part.ds.keys[s["record"]] == s["key"]
                assert archive[s["key"]].iid.decode() == s["iid"]
                assert tuple(s["bbox"]) == archive[s["key"]].bbox
                assert sorted(s["groups"]) == sorted(archive.groups.of(s["key"]))


def test_regions_and_names(archive: Any) -> None:
    view = View(archive)
    found = ask(archives.region, view, top=4, left=6, bottom=20, right=30)
    wanted = archive.region((4, 6, 20, 30)).tolist()[::-1]
    assert [s["key"] for s in found["segments"]] == wanted
    found = ask(archives.find, view, text="SEG 1")
    assert [s["iid"] for s in found["segments"]] == [f"seg {k}" for k in (1, *range(10, 20))]
    found = ask(archives.find, view, text="d2", q="area > 20")
    areas = archive.areas.tolist()
    assert [s["key"] for s in found["segments"]] == [
        k for k in range(60) if k % 3 == 2 and areas[k] > 20
    ]


def test_an_image_under_segments(archive: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert ask(archives.facts, View(archive))["image"] is None
    with pytest.raises(RefusedError, match="no image"):
        ask(archives.image, View(archive))
    np.save(tmp_path / "a.npy", pixels[None])
    companions = [np.zeros((5, 5)), opened(tmp_path / "a.npy")]  # the first is too small
    view = View(archive, companions=companions)
    assert ask(archives.facts, view)["image"] == [40, 50, 3]
    found = ask(archives.image, view, top=2, left=4, step=3)
    assert found == pixels[2::3, 4::3].tobytes()
    grey = View(archive, companions=[np.arange(2000, dtype=np.uint16).reshape(40, 50)])
    found = np.frombuffer(ask(archives.image, grey), np.uint8).reshape(40, 50, 3)
    assert found[0, 0].tolist() == [0] * 3
    assert found[-1, -1].tolist() == [255] * 3


def test_a_picture_as_a_companion(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(opened(tmp_path / "a.png"), pixels)
    (tmp_path / "b.txt").write_text("no picture")
    with pytest.raises(mapix.FormatError, match=r"b\.txt"):
        opened(tmp_path / "b.txt")


def test_too_large_a_window(archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_OUT", 500)
    with pytest.raises(RefusedError, match="a larger step"):
        ask(archives.window, View(archive))
    assert len(ask(archives.window, View(archive), step=2)) == 4 * 500


# --- maps -----------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, list[Path]]:
    rng = np.random.default_rng(5)
    paths = [tmp_path / f"{name}.bin" for name in ("som", "map", "data", "rot")]
    write_som(paths[0], rng.random((7, 6, 6), np.float32), layout="hexagonal")
    write_map(paths[1], rng.random((9, 7), np.float32), layout="hexagonal", som_shape=(3, 3))
    write_data(paths[2], rng.random((9, 8, 8), np.float32))
    flips, angles = rng.integers(0, 2, (9, 7)), rng.random((9, 7))
    write_rot(paths[3], flips, angles, layout="hexagonal", som_shape=(3, 3))
    return paths[0], paths[1:]


def levels(image: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    scaled = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8)


def unpacked(data: bytes) -> np.ndarray[Any, Any]:
    h, w, c = struct.unpack_from("<3I", data)
    return np.frombuffer(data, np.uint8, offset=12).reshape(-1, h, w, c)


def test_a_map(run: tuple[Path, list[Path]]) -> None:
    som = mapix.open(run[0])
    view = View(som, companions=[opened(path) for path in run[1]])
    whole = mapix.pink.Run(run[0], *run[1])
    found = ask(soms.facts, view)
    assert found["layout"] == "hexagonal"
    assert found["positions"] == som.lattice.positions.tolist()
    assert found["files"] == ["mapping", "data", "rotation"]
    assert found["heatmaps"] == ["counts", "distance", "u_matrix"]
    assert ask(soms.heatmap, view, name="counts") == whole.heatmaps["counts"]().tolist()
    assert ask(soms.heatmap, view, name="u_matrix") == som.u_matrix().tolist()
    distance = [None if math.isnan(v) else v for v in whole.heatmaps["distance"]().tolist()]
    assert ask(soms.heatmap, view, name="distance") == distance
    with pytest.raises(RefusedError, match="name must be one of"):
        ask(soms.heatmap, view, name="median")
    neurons = som.view()
    tiles = unpacked(ask(soms.tiles, view, size=6))
    wanted = levels(neurons, float(neurons.min()), float(neurons.max()))
    np.testing.assert_array_equal(tiles[..., 0], wanted)
    one = unpacked(ask(soms.tiles, view, size=6, range="tile"))[3, ..., 0]
    np.testing.assert_array_equal(one, levels(neurons[3], neurons[3].min(), neurons[3].max()))
    for neuron in range(7):
        found = ask(soms.members, view, neuron=neuron)
        assert [e["entry"] for e in found["entries"]] == whole.members(neuron).tolist()
    best = ask(soms.best, view, entry=4)
    assert [b["neuron"] for b in best] == np.argsort(mapix.open(run[1][0])[4]).tolist()
    fits = unpacked(ask(soms.picture, view, entries="4,0", neuron=2, size=6))
    for tile, entry in zip(fits, (4, 0), strict=True):
        fit = whole.best_fit(entry, 2)
        np.testing.assert_array_equal(tile[..., 0], levels(fit, fit.min(), fit.max()))
    plain = unpacked(ask(soms.picture, view, entries="4", size=8))[0, ..., 0]
    entry = mapix.open(run[1][1])[4]
    np.testing.assert_array_equal(plain, levels(entry, entry.min(), entry.max()))
    for bad in ("", "9", "-1", "x", "1,,2"):
        with pytest.raises(RefusedError):
            ask(soms.picture, view, entries=bad)


def test_companions_of_the_command(
    run: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from mapix.__main__ import main

    seen: list[View] = []
    monkeypatch.setattr(View, "wait", lambda self: seen.append(self))
    given = [word for path in run[1] for word in ("--with", str(path))]
    assert main(["view", str(run[0]), "--no-browser", *given]) == 0
    assert [type(c).__name__ for c in seen[0].companions] == ["Mapping", "Data", "Rotation"]
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    assert main(["view", str(run[0]), "--no-browser", "--with", f"{run[0]}.not"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_map_alone_and_channels(run: tuple[Path, list[Path]], tmp_path: Path) -> None:
    view = View(mapix.open(run[0]))
    assert ask(soms.facts, view)["files"] == []
    with pytest.raises(RefusedError, match="without its data"):
        ask(soms.picture, view, entries="0")
    with pytest.raises(RefusedError, match="without a mapping"):
        ask(soms.best, view, entry="0")
    with pytest.raises(ValueError, match="mapping"):
        ask(soms.members, view, neuron=0)
    neurons = np.random.default_rng(0).random((2, 2, 5, 4, 4), np.float32)
    write_som(tmp_path / "c.bin", neurons, (2, 2))
    view = View(mapix.open(tmp_path / "c.bin"))
    assert ask(soms.facts, view)["channels"] == 5
    found = unpacked(ask(soms.tiles, view, size=4, channel=3))[..., 0]
    part = neurons[:, :, 3].reshape(4, 4, 4)
    np.testing.assert_array_equal(found, levels(part, part.min(), part.max()))
    with pytest.raises(RefusedError, match="channel"):
        ask(soms.tiles, view, channel=5)


# --- panels ---------------------------------------------------------------------------------------


def test_families_have_panels_and_scripts(archive: Any, vimh: Any) -> None:
    names = [panel.name for panel in panels_of(archive.PANELS)]
    assert names == ["archive", *(panel.name for panel in PANELS)]
    assert [p.name for p in panels_of(vimh.PANELS)][:2] == ["spectrogram", PANELS[0].name]
    assert panels_of(mapix.Dataset.PANELS) == PANELS
    gets, _ = routes(archive.PANELS)
    assert {"archive.at", "record", "problems"} <= gets.keys()
    assert "archive.at" not in routes(vimh.PANELS)[0]
    for panel in (
        *(panels_of(ds.PANELS)[0] for ds in (archive, vimh)),
        panels_of(mapix.pink.Som.PANELS)[0],
    ):
        assert b"export function create(app)" in panel.script()


def test_a_file_that_was_cut(archive: Any, tmp_path: Path, run: tuple[Path, list[Path]]) -> None:
    np.save(tmp_path / "b.npy", np.zeros((9, 300, 300), np.uint8))
    rows, som = mapix.open(tmp_path / "b.npy"), mapix.open(run[0])
    asked: list[tuple[Any, Any, dict[str, Any]]] = [
        (rows, inspector.pixels, {"n": 8}),
        (rows, named_bytes.range_bytes, {"n": 8, "range": 4}),
        (archive, archives.window, {}),
        (archive, archives.mask, {"key": 59}),
        (archive, archives.at, {"x": 9, "y": 9}),
        (archive, archives.find, {"text": "d"}),
        (archive, named_bytes.ranges, {"n": 59}),
        (som, soms.tiles, {}),
        (som, soms.heatmap, {"name": "u_matrix"}),
    ]
    views = {ds.path: View(ds) for ds in (rows, archive, som)}
    for ds in (rows, archive, som):
        with open(ds.path, "r+b") as f:
            f.truncate(60)
    for ds, route, parameters in asked:
        with pytest.raises(mapix.FileChangedError):
            ask(route, views[ds.path], **parameters)


def test_two_panels_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = Panel("table", "Table", "main", "mapix.pink.viewing", lambda ds: True)
    monkeypatch.setattr(soms, "TWICE", twice, raising=False)
    with pytest.raises(ValueError, match="two panels of the viewer have the name 'table'"):
        panels_of(("mapix.pink.viewing:TWICE",))


def test_a_panel_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mapix_theirs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "viewing.py").write_text(
        "from mapix.viewer.panels import Panel\n"
        "from mapix.viewer.routes import Reply\n"
        "def mean(view, request):\n"
        "    image = view.ds._image(request.integer('n', most=len(view.ds) - 1))\n"
        "    return Reply.json({'mean': image.mean()})\n"
        "ROUTES = {'theirs.mean': mean}\n"
        "PANEL = Panel('theirs', 'Means', 'main', 'mapix_theirs.viewing', lambda ds: len(ds) > 1)\n"
    )
    script = "export function create(app) { return { element: null, update() {} }; }\n"
    (package / "theirs.js").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)

    class Theirs(mapix.npy.NpyArray):
        PANELS = ("mapix_theirs.viewing:PANEL",)

    array = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)
    np.save(tmp_path / "a.npy", array)
    ds = mapix.open(tmp_path / "a.npy")
    ds.__class__ = Theirs
    with View(ds) as view:
        view.start()
        client = Client(view)
        panels = client.ask("/api/dataset").data["panels"]
        assert panels[0] == {"name": "theirs", "title": "Means", "place": "main"}
        assert client.ask("/api/theirs.mean?n=2").data == {"mean": 2.0}
        assert client.ask("/static/theirs.js").body == script.encode()
        assert client.ask("/static/viewing.py").status == 404
        assert client.ask("/static/archive.js").status == 404
