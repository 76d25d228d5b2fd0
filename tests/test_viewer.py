"""The viewer's server, without a browser: who is answered, what routes return, selections."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import mapix
from mapix.viewer.export import page, write_page
from mapix.viewer.facets import Facet
from mapix.viewer.panels import PANELS
from mapix.viewer.query import parts
from mapix.viewer.routes import plain, routes
from mapix.viewer.server import HEADERS, KINDS, static_files
from mapix.viewer.session import View
from slow_vimh import pack, record
from viewers import address, shown, write_idx

STATIC = Path(mapix.__file__).parent / "viewer" / "static"


@pytest.fixture
def digits(tmp_path: Path) -> Any:
    """An open IDX dataset with labels; `images` and `labels` are its contents."""
    images, labels = write_idx(tmp_path / "digits")
    with mapix.open(tmp_path / "digits") as ds:
        ds.pixels, ds.truth = images, labels
        yield ds


# --- who is answered ------------------------------------------------------------------------------


def test_the_address_sets_a_cookie_and_the_cookie_opens_the_page(digits: Any):
    with shown(digits) as (view, client):
        assert view.url.startswith(f"http://127.0.0.1:{client.port}/?token=")
        first = client.ask(f"/?token={client.token}", X_Mapix_Token=None)
        assert (first.status, first.headers["Location"]) == (303, "/")
        cookie = first.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite" in cookie
        page = client.ask("/", X_Mapix_Token=None, Cookie=cookie.partition(";")[0])
        assert page.status == 200
        assert b'src="/static/main.js"' in page.body
        assert b"<script>" not in page.body
        for name, value in HEADERS.items():
            assert page.headers[name] == value
        assert "'unsafe" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Mapix_Token": None}, 403),
        ({"X_Mapix_Token": "wrong"}, 403),
        ({"X_Mapix_Token": None, "Cookie": "mapix-{port}=wrong"}, 403),
        ({"X_Mapix_Token": None, "Cookie": "=; ;;"}, 403),
        ({"X_Mapix_Token": "ä"}, 403),
        ({"Host": None}, 421),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_only_this_page_is_answered(digits: Any, headers: dict[str, Any], status: int):
    with shown(digits) as (view, client):
        given = {k: v and v.replace("{port}", str(client.port)) for k, v in headers.items()}
        for path in ("/api/dataset", "/static/main.js"):
            assert client.ask(path, **given).status == status
        done = client.ask("/api/select", "POST", {"do": "add", "records": [1]}, **given)
        assert done.status == status
        assert len(view.selected) == (status == 200)


def test_a_link_of_another_site_may_lead_to_the_page_alone(digits: Any):
    with shown(digits) as (_, client):
        headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert client.ask("/", **headers).status == 200
        assert client.ask("/", X_Mapix_Token=None, **headers).status == 403
        assert client.ask("/?token=wrong", **headers).status == 403
        assert client.ask("/", "POST", {}, **headers).status == 403


def test_tokens_differ(digits: Any):
    with shown(digits) as (_, a), shown(digits) as (_, b):
        assert a.token != b.token
        assert len(a.token) >= 22
        assert b.ask("/api/dataset", X_Mapix_Token=a.token).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/../api.py",
        "/static/%2e%2e/api.py",
        "/static//etc/passwd",
        "/static/",
        "/etc/passwd",
        "//etc/passwd",
        "/api/",
        "/api/nothing",
        "/api/../static/main.js",
    ],
)
def test_no_path_of_a_client_is_opened(digits: Any, path: str):
    with shown(digits) as (_, client):
        assert client.ask(path).status == 404


def test_it_listens_on_this_machine_alone(digits: Any):
    with shown(digits) as (view, _):
        assert view._server is not None
        assert view._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("PUT", {}, 501),
        ("DELETE", {}, 501),
        ("POST", {"Content_Length": str(1 << 40)}, 413),
        ("POST", {"Content_Length": "-1"}, 413),
        ("POST", {"Content_Length": None}, 413),
        ("POST", {"Content_Type": "text/plain"}, 415),
    ],
)
def test_other_requests_are_refused(digits: Any, method: str, headers: dict[str, Any], status: int):
    with shown(digits) as (view, client):
        found = client.ask("/api/select", method, {"do": "add", "records": [0]}, **headers)
        assert found.status == status
        assert not len(view.selected)


def test_too_many_connections_are_closed_and_others_go_on(
    digits: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mapix.viewer.server.MOST_CONNECTIONS", 4)
    with shown(digits) as (_, client):
        held = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(5)]
        try:
            held[-1].settimeout(20)
            assert held[-1].recv(1) == b""
        finally:
            for one in held:
                one.close()
        for _ in range(100):
            try:
                assert client.json("dataset")["records"] == 300
                break
            except OSError:
                continue
        else:
            pytest.fail("no connection is free again")


def test_connections_are_kept_alive(digits: Any):
    with shown(digits) as (view, client):
        connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
        for _ in range(3):
            connection.sendall(
                f"GET /api/selection HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
                f"X-Mapix-Token: {client.token}\r\n\r\n".encode()
            )
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        view.close()
        assert connection.recv(1) == b"", "a connection outlives close()"
        connection.close()


# --- what it returns ------------------------------------------------------------------------------


def test_the_page_has_its_files_and_no_others():
    names = {path.name for path in STATIC.iterdir()}
    assert set(static_files()) == names
    for path in STATIC.iterdir():
        assert static_files()[path.name].kind == KINDS[path.suffix[1:]]
        text = path.read_text("utf-8")
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path
        assert "https://" not in text
        assert "eval(" not in text
        assert "innerHTML" not in text
    for panel in PANELS:
        assert panel.place == "frame" or f"{panel.name}.js" in names


def test_no_route_is_there_twice():
    gets, posts = routes()
    assert {"dataset", "tiles", "rows", "facet"} <= set(gets)
    assert {"select", "export", "reopen"} <= set(posts)


def test_the_dataset_is_described(digits: Any):
    with shown(digits) as (_, client):
        found = client.json("dataset")
    assert found["records"] == 300
    assert found["columns"] == [{"name": "label", "label": True}]
    about = {"dtype": "uint8", "shape": [12, 10], "alike": True, "copied": True, "channels": 1}
    assert found["pixels"] == about
    assert found["exports"] is False
    assert [panel["name"] for panel in found["panels"]][:1] == ["grid"]


def test_tiles_are_the_pixels_in_every_order(digits: Any):
    pixels, labels = digits.pixels, digits.truth
    with shown(digits) as (_, client):
        found = client.tiles(start=3, count=5, size=64)
        assert found["record"].tolist() == [3, 4, 5, 6, 7]
        np.testing.assert_array_equal(np.stack(found["images"])[..., 0], pixels[3:8])
        order = np.argsort(-labels.astype(int), kind="stable")
        chosen = order[(labels[order] > 3) & (labels[order] <= 7)]
        ask = {"q": "label > 3 and label <= 7", "sort": "-label"}
        found = client.tiles(start=10, count=4096, size=12, **ask)
        assert found["record"].tolist() == chosen[10:].tolist()
        np.testing.assert_array_equal(np.stack(found["images"])[..., 0], pixels[chosen[10:]])
        rows = client.json("rows", start=10, count=5, **ask)
        assert rows["records"] == chosen[10:15].tolist()
        assert rows["values"]["label"] == labels[chosen[10:15]].tolist()
        for k in (0, 7):
            record = int(chosen[k])
            assert client.json("position", record=record, **ask) == {"position": k}
        left_out = int(np.flatnonzero(labels <= 3)[0])
        assert client.json("position", record=left_out, **ask) == {"position": None}
        assert client.json("position", record=9) == {"position": 9}
        assert client.json("condition", q=ask["q"])["records"] == len(chosen)
        assert client.tiles(start=10**9, count=5)["record"].tolist() == []


def test_tiles_are_scaled_to_the_size_and_the_range(digits: Any):
    with shown(digits) as (_, client):
        found = client.tiles(count=2, size=6, range="tile")
        pixels = digits.pixels[0].astype(float)
        assert found["images"][0].shape == (6, 5, 1)
        assert (found["image_h"][0], found["image_w"][0]) == (12, 10)
        assert (found["low"][0], found["high"][0]) == (pixels.min(), pixels.max())
        means = pixels.reshape(6, 2, 5, 2).mean((1, 3))
        want = np.rint((means - pixels.min()) * (255 / (pixels.max() - pixels.min())))
        np.testing.assert_array_equal(found["images"][0][..., 0], want)
        found = client.tiles(count=2, size=64, range="100,151")
        want = np.rint(np.clip((digits.pixels[1] - 100.0) * 5, 0, 255))
        np.testing.assert_array_equal(found["images"][1][..., 0], want)


@pytest.mark.parametrize("dtype", ["<f4", ">i2", "<u8", "bool", "<f2"])
def test_any_type_is_drawn(tmp_path: Path, dtype: str):
    rng = np.random.default_rng(5)
    array = (rng.integers(0, 2, (20, 4, 5)) * (1 if dtype == "bool" else 7)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    with mapix.open(tmp_path / "a.npy") as ds, shown(ds) as (_, client):
        assert client.json("range") == {"low": 0, "high": 255 if dtype == "bool" else 7}
        found = client.tiles(count=20, size=8)
        want = np.where(array != 0, 255, 0)
        np.testing.assert_array_equal(np.stack(found["images"])[..., 0], want)


def test_bytes_of_few_values_are_drawn_with_contrast(tmp_path: Path):
    for most, high in ((16, 16), (40, 255)):
        np.save(tmp_path / f"{most}.npy", np.full((20, 4, 5), most, np.uint8))
        with mapix.open(tmp_path / f"{most}.npy") as ds, shown(ds) as (_, client):
            assert client.json("range") == {"low": 0, "high": high}
            assert client.json("record", n=3)["image"]["full"] == high  # the inspector draws alike


def test_records_of_mixed_sizes_and_channels(tmp_path: Path):
    (tmp_path / "mixed").write_bytes(
        pack([record(2 + i % 3, 3, 1 + 2 * (i % 2), [(1, i)], seed=i) for i in range(9)])
    )
    with mapix.open(tmp_path / "mixed", dialect=14) as ds, shown(ds) as (_, client):
        found = client.tiles(count=9, size=64, channel="rgb")
        for i, image in enumerate(found["images"]):
            pixels = ds[i].image
            want = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
            np.testing.assert_array_equal(image, want)
        found = client.tiles(count=9, size=64, channel="2")
        for i, image in enumerate(found["images"]):
            np.testing.assert_array_equal(image[..., 0], ds[i].image[..., -1])


def test_rows_of_numbers_are_drawn_as_barcodes(tmp_path: Path):
    array = np.random.default_rng(4).integers(0, 256, (3, 40), np.uint8)
    np.save(tmp_path / "a.npy", array)
    with mapix.open(tmp_path / "a.npy") as ds, shown(ds) as (_, client):
        found = client.tiles(count=3, size=64)
        want = np.repeat(array[:, None], 10, axis=1)
        np.testing.assert_array_equal(np.stack(found["images"])[..., 0], want)


def test_a_part_is_shown_by_its_own_numbers(digits: Any):
    part = digits[[7, 3, 3, 200]]
    with shown(part) as (view, client):
        found = client.tiles(count=10)
        assert found["record"].tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(
            np.stack(found["images"])[..., 0], digits.pixels[[7, 3, 3, 200]]
        )
        label = int(digits.truth[3])
        want = [i for i, r in enumerate([7, 3, 3, 200]) if digits.truth[r] == label]
        found = client.json("rows", q=f"label == {label}", count=10)
        assert found["records"] == want
        client.post("select", do="add", records=[1, 3])
        assert view.selection.rows.tolist() == [3, 200]


@pytest.mark.parametrize(
    ("route", "parameters", "status"),
    [
        ("tiles", {"size": 0}, 400),
        ("tiles", {"size": 513}, 400),
        ("tiles", {"count": 10**6}, 400),
        ("tiles", {"count": 4096, "size": 512}, 400),
        ("tiles", {"start": -1}, 400),
        ("tiles", {"start": "x"}, 400),
        ("tiles", {"channel": "x"}, 400),
        ("tiles", {"range": "5,5"}, 400),
        ("tiles", {"range": "nan,1"}, 400),
        ("tiles", {"sort": "nothing"}, 422),
        ("tiles", {"q": "nothing > 1"}, 422),
        ("tiles", {"q": "__import__('os')"}, 422),
        ("condition", {"q": "label >"}, 422),
        ("condition", {"q": "1" * 10001}, 400),
        ("condition", {"q": "1" * 40000}, 414),
        ("rows", {"columns": "nothing"}, 400),
        ("rows", {"count": 2001}, 400),
        ("facet", {"column": "nothing"}, 400),
    ],
)
def test_bad_parameters_are_refused_with_a_sentence(
    digits: Any, route: str, parameters: dict[str, Any], status: int
):
    with shown(digits) as (_, client):
        found = client.ask(address(route, **parameters))
        assert found.status == status
        assert len(found.data["error"]) > 5
        assert "Traceback" not in found.data["error"]


def test_a_damaged_record_is_marked_and_the_others_are_shown(tmp_path: Path):
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[view]'")
    lines = []
    for i in range(4):
        pil.fromarray(np.full((6, 5, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f'{{"file_name": "{i}.png", "text": "number {i}"}}')
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with mapix.open(tmp_path) as ds, shown(ds) as (_, client):
        found = client.tiles(count=4, channel="rgb")
        assert [bool(flag & 2) for flag in found["flags"]] == [False, False, True, False]
        np.testing.assert_array_equal(found["images"][3], np.full((6, 5, 3), 120))


def test_the_first_records_may_be_damaged(tmp_path: Path):
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[view]'")
    lines = [f'{{"file_name": "{i}.png"}}' for i in range(12)]
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    with mapix.open(tmp_path) as ds, shown(ds) as (_, client):
        found = client.json("dataset")
        assert found["pixels"] is None
        assert "0.png" in found["problem"]
        assert "grid" not in [panel["name"] for panel in found["panels"]]
    pil.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "5.png")
    with mapix.open(tmp_path) as ds, shown(ds) as (_, client):
        found = client.json("dataset")
        assert found["pixels"]["shape"][:2] == [3, 4]
        assert found["panels"][0]["name"] == "grid"
        for i in range(12):
            (tmp_path / f"{i}.png").unlink()
        assert client.json("dataset") == found  # no picture is decoded again


# --- a file that changes --------------------------------------------------------------------------


def test_a_file_that_changes_is_reported_and_can_be_opened_again(tmp_path: Path):
    write_idx(tmp_path / "digits", 300)

    def opened() -> Any:
        return mapix.open(tmp_path / "digits")

    with opened() as ds, shown(ds, reopen=opened) as (view, client):
        client.post("select", do="add", records=[5])
        assert len(client.tiles(count=9)["images"]) == 9
        images, _ = write_idx(tmp_path / "digits", 100)
        for _ in range(2):
            found = client.ask(address("tiles", count=300, size=8))
            assert (found.status, found.data["kind"]) == (409, "FileChangedError")
        assert client.post("reopen")["records"] == 100
        again = client.tiles(count=100, size=64)
        np.testing.assert_array_equal(np.stack(again["images"])[..., 0], images)
        assert not len(view.selected)
        view.ds.close()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_file_that_is_cut_kills_nothing(tmp_path: Path, mixed: bool):
    records = [record(60 + i * mixed % 3, 50, 1, [(1, 1)], seed=i) for i in range(40)]
    path = tmp_path / "data"
    path.write_bytes(pack(records))
    with mapix.open(path, dialect=14) as ds, shown(ds) as (_, client):
        assert (ds.image_shape is None) == mixed
        np.testing.assert_array_equal(client.tiles(count=1, size=64)["images"][0], ds[0].image)
        os.truncate(path, 5000)
        found = client.ask(address("tiles", count=40, size=64))
        assert (found.status, found.data["kind"]) == (409, "FileChangedError")


def test_a_dataset_of_a_program_is_not_opened_again(digits: Any):
    with shown(digits) as (_, client):
        assert client.json("dataset")["reopens"] is False
        found = client.ask("/api/reopen", "POST", {})
        assert found.status == 422
        assert "in Python" in found.data["error"]


# --- facets ---------------------------------------------------------------------------------------


def test_facets_count_all_records_and_those_of_the_other_brushes(tmp_path: Path):
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 40, (500, 2))
    records = [record(2, 2, 1, [(0, a), (1, b)]) for a, b in pairs.tolist()]
    (tmp_path / "data").write_bytes(pack(records))
    with mapix.open(tmp_path / "data", dialect=14) as ds, shown(ds) as (_, client):
        a, b = (ds.columns[name].values for name in ds.columns)
        first, second = ds.columns
        q = f"{first} >= {a.max() / 4} and {first} < {a.max() / 2} and {second} > {b.max() / 2}"
        for name, values, mask in (
            (first, a, b > b.max() / 2),
            (second, b, (a >= a.max() / 4) & (a < a.max() / 2)),
        ):
            found = client.json("facet", column=name, q=q)
            edges = np.array(found["edges"])
            assert (found["low"], found["high"]) == (values.min(), values.max())
            want = [_binned(values, edges), _binned(values[mask], edges)]
            assert [found["total"], found["hits"]] == want
            assert sum(found["total"]) == 500


def _binned(values: Any, edges: Any) -> list[int]:
    n = len(edges) - 1
    bins = ((values - edges[0]) * (n / (edges[-1] - edges[0]))).astype(int)
    return np.bincount(np.minimum(bins, n - 1), minlength=n).tolist()


def column(values: Any, present: Any = None) -> Any:
    from mapix.columns import Column

    return Column("x", values, present, unit="m")


def test_whole_numbers_of_a_small_range_have_a_bin_each():
    facet = Facet(column(np.array([3, 5, 3, 7], np.int16)))
    assert facet.about["single"]
    assert facet.about["edges"].tolist() == [2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert facet.counts().tolist() == [2, 0, 1, 0, 1]
    assert facet.counts(np.array([True, True, False, False])).tolist() == [1, 0, 1, 0, 0]
    assert facet.about["unit"] == "m"


def test_missing_and_infinite_numbers_are_left_out():
    values = np.array([0.0, 10.0, np.nan, np.inf, 4.0])
    facet = Facet(column(values, np.array([True, True, True, True, False])))
    assert (facet.about["low"], facet.about["high"], facet.about["missing"]) == (0, 10, 1)
    assert facet.counts().sum() == 2
    assert Facet(column(np.empty(0))).counts().sum() == 0
    assert Facet(column(np.array([2.5, 2.5]))).counts().sum() == 2


def test_texts_and_members_are_counted():
    texts = np.array(["b", "a", "b", ""], object)
    facet = Facet(column(texts))
    assert facet.kind == "values"
    counts = dict(zip(facet.about["values"], facet.counts().tolist(), strict=True))
    assert counts == {"a": 1, "b": 2, "": 1}
    tuples = np.empty(4, object)
    tuples[:] = [("a", "b"), ("b",), (), ("b", "c", "b")]
    facet = Facet(column(tuples))
    assert facet.kind == "members"
    assert facet.about["values"][0] == "b"
    mask = np.array([False, True, True, True])
    found = dict(zip(facet.about["values"], facet.counts(mask).tolist(), strict=True))
    assert found == {"a": 0, "b": 2, "c": 1}


# --- conditions and brushes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", []),
        ("a > 1", [("range", 1, None, False, False)]),
        ("1 <= a < 2.5", [("range", 1, 2.5, True, False)]),
        ("a >= -3 and a <= 4", [("range", -3, 4, True, True)]),
        ("5 > a", [("range", None, 5, False, False)]),
        ("a == 2", [("values", [2])]),
        ("(a == 2 or a == 'x')", [("values", [2, "x"])]),
        ("'cat' in a", [("within", ["cat"])]),
        ("('cat' in a or 'dog' in a)", [("within", ["cat", "dog"])]),
        ("a != 2", [None]),
        ("a > b", [None]),
        ("a == 1 or b == 1", [None]),
        ("not a == 1", [None]),
        ("c > 1", [None]),
        ("a > 1 and a > 2", [("range", 1, None, False, False), ("range", 2, None, False, False)]),
    ],
)
def test_conditions_are_taken_apart(text: str, want: list[Any]):
    found = parts(text, ["a", "b"])
    got = []
    for part in found:
        ends = ("low", "high", "with_low", "with_high")
        keys = ends if part.get("kind") == "range" else ("values",)
        got.append((part["kind"], *(part[k] for k in keys)) if "kind" in part else None)
    assert got == want


def test_parts_joined_again_mean_the_same(digits: Any):
    for text in (
        "label > 2 and (label == 3 or label == 5 or label > 8)",
        "label >= 1 and label % 2 == 0 and label < 7",
        "not (label > 2 and label < 5)",
        "label == 1 or label == 2 and label > 0",
    ):
        joined = " and ".join(part["text"] for part in parts(text, ["label"]))
        assert digits.where(joined).rows.tolist() == digits.where(text).rows.tolist()


# --- selections -----------------------------------------------------------------------------------


def test_a_selection_is_a_lazy_part_and_a_file_of_numbers(digits: Any):
    labels = digits.truth
    with shown(digits) as (view, client):
        assert len(view.selection) == 0
        q, n = "label == 4", int((labels == 4).sum())
        client.post("select", do="add", q=q, ranges=[[0, n]])
        assert view.selection.rows.tolist() == np.flatnonzero(labels == 4).tolist()
        first = int(np.flatnonzero(labels == 4)[0])
        assert client.post("select", do="remove", records=[first])["selected"] == n - 1
        marks = client.json("marks", count=300)["selected"]
        assert np.flatnonzero(marks).tolist() == np.flatnonzero(labels == 4)[1:].tolist()
        assert client.tiles(count=300)["flags"].tolist() == marks
        file = client.ask("/api/selection.npy")
        np.testing.assert_array_equal(
            np.load(io.BytesIO(file.body)), np.flatnonzero(labels == 4)[1:]
        )
        client.post("select", do="only", sort="label", ranges=[[0, 2], [5, 6]])
        order = np.argsort(labels, kind="stable")
        assert view.selected.tolist() == sorted(order[[0, 1, 5]].tolist())
        assert client.post("select", do="clear")["selected"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"do": "more"},
        {"do": "add", "records": [300]},
        {"do": "add", "records": [-1]},
        {"do": "add", "records": [True]},
        {"do": "add", "records": "1"},
        {"do": "add", "ranges": [[0, 301]]},
        {"do": "add", "ranges": [[5, 2]]},
        {"do": "add", "ranges": [[0]]},
        {"do": "add", "ranges": [[0, 1]] * 10_001},
        {"do": "add", "q": 3},
    ],
)
def test_bad_selections_are_refused(digits: Any, body: Any):
    with shown(digits) as (view, client):
        assert client.ask("/api/select", "POST", body).status == 400
        assert not len(view.selected)


def test_nothing_is_written_unless_the_user_gave_a_folder(digits: Any, tmp_path: Path):
    folder = tmp_path / "out"
    with shown(digits) as (_, client):
        client.post("select", do="add", records=[3, 1])
        assert client.ask("/api/export", "POST", {"path": str(folder)}).status == 403
    assert not folder.exists()
    with shown(digits, export_folder=folder) as (_, client):
        client.post("select", do="add", records=[3, 1])
        for number in (1, 2):
            found = client.post("export", path="/tmp/elsewhere", name="../x")
            assert Path(found["path"]) == folder / f"selection-{number:03}"
            with mapix.open(found["path"]) as ds:
                np.testing.assert_array_equal(ds.view(), digits.pixels[[1, 3]])
    assert len(os.listdir(folder)) == 2


# --- life -----------------------------------------------------------------------------------------


def test_view_returns_at_once_and_closes(digits: Any):
    before = threading.active_count()
    view = mapix.view(digits, browser=False)
    assert isinstance(view, View)
    with view:
        assert view.url in repr(view)
        port = view.url.split(":")[2].partition("/")[0]
    with pytest.raises(ValueError, match="closed"):
        _ = view.url
    assert "closed" in repr(view)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)))
    assert threading.active_count() <= before + 1
    assert len(digits[0]) == 12


def test_many_requests_at_once_get_their_own_answers(digits: Any):
    problems: list[BaseException] = []

    def ask(client: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(10):
                low, start = int(rng.integers(0, 9)), int(rng.integers(0, 20))
                want = np.flatnonzero(digits.truth >= low)[start : start + 9]
                found = client.tiles(q=f"label >= {low}", start=start, count=9)
                assert found["record"].tolist() == want.tolist()
                np.testing.assert_array_equal(
                    np.stack(found["images"])[..., 0], digits.pixels[want]
                )
        except BaseException as e:
            problems.append(e)

    with shown(digits) as (_, client):
        threads = [threading.Thread(target=ask, args=(client, i)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems


def test_a_slow_column_does_not_hold_up_others(digits: Any):
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(20)
        return "slow"

    with shown(digits) as (view, client):
        waiting = threading.Thread(target=view.cached, args=("slow", slow))
        waiting.start()
        assert begun.wait(20)
        assert view.cached("fast", lambda: "fast") == "fast"
        assert len(client.tiles(q="label > 2", count=3)["images"]) == 3
        go_on.set()
        waiting.join()
        assert view.cached("slow", lambda: "again") == "slow"


def test_orders_that_were_not_used_are_forgotten(digits: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mapix.viewer.session.MOST_ORDERS_NBYTES", 3 * 300 * 8)
    view = View(digits)
    first = view.order("", "label")
    for low in range(9):
        view.order(f"label >= {low}")
        assert view.order("", "label") is first
        assert sum(order.nbytes for order in view._orders.values()) <= 3 * 300 * 8


def test_numbers_that_json_does_not_have_become_null():
    data = {"a": np.float32("nan"), "b": (np.inf, np.int8(3), b"\xff"), "c": {1: None}}
    assert plain(data) == {"a": None, "b": [None, 3, "\\xff"], "c": {"1": None}}


# --- the command ----------------------------------------------------------------------------------


def test_the_command_prints_its_address_and_ends_at_an_interrupt(tmp_path: Path):
    write_idx(tmp_path / "digits")
    command = [sys.executable, "-m", "mapix", "view", str(tmp_path / "digits"), "--no-browser"]
    with subprocess.Popen(
        [*command, "--where", "label > 3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        url = urlsplit(program.stdout.readline().strip())
        assert (url.scheme, url.hostname) == ("http", "127.0.0.1")
        token = url.query.removeprefix("token=")
        asked = urllib.request.Request(
            f"http://{url.netloc}/api/dataset", headers={"X-Mapix-Token": token}
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            found = json.load(answer)
        with mapix.open(tmp_path / "digits") as ds:
            assert found["records"] == len(ds.where("label > 3"))
        assert found["reopens"] is True
        program.send_signal(signal.SIGINT)
        try:
            out, err = program.communicate(timeout=30)
        finally:
            program.kill()
        assert (program.returncode, out, err) == (0, "", "")


def test_the_command_exports_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from mapix.__main__ import main

    write_idx(tmp_path / "digits")
    path = tmp_path / "page.html"
    assert main(["view", str(tmp_path / "digits"), "--range", ":20", "--export", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert '"records":20' in path.read_text()


# --- exported pages -------------------------------------------------------------------------------


def test_a_page_is_one_file_without_requests(digits: Any, tmp_path: Path):
    path = tmp_path / "page.html"
    assert write_page(digits[:50], path) == str(path)
    text = path.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=", text.split("<style>")[0])
    assert "fetch(" not in text
    assert not re.search(r"^import |^export ", text, re.M)
    assert str(tmp_path) not in text, "the folder is nobody's business"
    with pytest.raises(FileExistsError):
        write_page(digits[:50], path)


def test_a_page_holds_the_pixels_and_columns(digits: Any):
    text = page(digits[5:9])
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    pixels = zlib.decompress(base64.b64decode(data["tiles"]["pixels"]))
    assert pixels == digits.pixels[5:9].tobytes()
    assert data["columns"]["label"]["values"] == digits.truth[5:9].tolist()


def test_texts_do_not_end_the_data(tmp_path: Path):
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[view]'")
    pil.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "0.png")
    line = {"file_name": "0.png", "text": "</script><script>alert(1)</script>"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line))
    with mapix.open(tmp_path) as ds:
        text = page(ds, title="<b>")
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<title>&lt;b&gt;</title>" in text


def test_a_page_has_a_limit(digits: Any):
    for part, message in (
        (digits[:0], "no record to show"),
        (digits[np.zeros(4001, int)], "1 to 4000 records"),
    ):
        with pytest.raises(ValueError, match=message):
            page(part)
