"""Panels of records, archives, maps and problems in a browser: what a user points at and sees."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

import mapix
from mapix.iid.overlay import colours_of
from mapix.pink import write_data, write_map, write_rot, write_som
from mapix.viewer.companions import opened
from mapix.viewer.session import View
from viewers import chromium

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-component-update"]

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    """Open a page on a dataset; errors of its scripts fail the test."""
    views, pages, errors = [], [], []

    def shown(ds: Any, state: str = "", companions: Any = (), scheme: str = "light") -> Any:
        view = View(ds, companions=companions)
        view.start()
        views.append(view)
        page = browser.new_page(viewport={"width": 1300, "height": 800}, color_scheme=scheme)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(f"{view.url}#{state}")
        page.wait_for_selector("body[data-ready=true]")
        return page

    yield shown
    for page in pages:
        page.close()
    for view in views:
        view.close()
    assert not errors


def state(page: Any) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(urlsplit(page.url).fragment).items()}


def until(page: Any, condition: str) -> None:
    """Wait for a condition; playwright's way would need a page that allows ``eval``."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(40)
    raise AssertionError(condition)


def spot(page: Any, selector: str, x: float, y: float) -> tuple[float, float]:
    """A place of the page, from one of an element."""
    box = page.locator(selector).bounding_box()
    return box["x"] + x, box["y"] + y


# --- the open record ------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "channels"), [("u1", 3), ("<f4", 1), ("<i8", 2)])
def test_the_value_under_the_cursor(show: Any, tmp_path: Path, dtype: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    array = (rng.random((4, 12, 16, channels)) * 200).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    page = show(mapix.open(tmp_path / "a.npy"), "open=2")
    canvas = ".inspector canvas.stage"
    page.wait_for_selector(canvas)
    until(page, "document.querySelector('.inspector .about').textContent.length > 0")
    box = page.locator(canvas).bounding_box()
    scale = math.floor(min((box["width"] - 8) / 16, (box["height"] - 8) / 12))
    left, top = (16 - box["width"] / scale) / 2, (12 - box["height"] / scale) / 2
    for x, y in [(0, 0), (15, 11), (7, 3), (8, 3)]:
        page.mouse.move(*spot(page, canvas, (x + 0.5 - left) * scale, (y + 0.5 - top) * scale))
        page.wait_for_selector(f".pixel-value[data-at='{x},{y}']")
        found = page.evaluate("JSON.parse(document.querySelector('.pixel-value').dataset.values)")
        pixel = array[2, y, x]
        assert np.array(found).astype(array.dtype).tolist() == pixel.tolist()
        if dtype == "<f4":
            assert found == [str(pixel[0])]
    page.mouse.move(*spot(page, canvas, (3.5 - left) * scale, (2.5 - top) * scale))
    page.mouse.down()
    page.mouse.up()
    until(page, "location.hash.includes('inspector.pixel')")
    assert state(page)["inspector.pixel"] == "3,2"
    page.reload()  # a deep link
    page.wait_for_selector(".pixel-value[data-at='3,2']")
    page.locator(canvas).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".pixel-value[data-at='4,2']")


def test_pixels_are_drawn_as_they_are(show: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (2, 9, 10), np.uint8)
    np.save(tmp_path / "a.npy", array)
    page = show(mapix.open(tmp_path / "a.npy"), "open=1")
    canvas = ".inspector canvas.stage"
    page.wait_for_selector(canvas)
    box = page.locator(canvas).bounding_box()
    scale = math.floor(min((box["width"] - 8) / 10, (box["height"] - 8) / 9))
    left, top = (10 - box["width"] / scale) / 2, (9 - box["height"] / scale) / 2
    read = """([scale, left, top]) => {
      const canvas = document.querySelector('.inspector canvas.stage');
      const context = canvas.getContext('2d');
      const found = [];
      for (let y = 0; y < 9; y += 1) for (let x = 0; x < 10; x += 1) {
        const at = [(x + 0.12 - left) * scale, (y + 0.12 - top) * scale];
        found.push(context.getImageData(...at, 1, 1).data[0]);
      }
      return found;
    }"""
    wanted = array[1].reshape(-1).tolist()
    for _ in range(50):
        found = page.evaluate(read, [scale, left, top])
        if found == wanted:
            break
        page.wait_for_timeout(50)
    assert found == wanted


def test_decibels_boxes_and_captions(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "train"
    head = struct.pack("<3H2fB", 2, 3, 1, -80, -29, 0)
    path.write_bytes((head + bytes([0, 51, 102, 153, 204, 255])) * 3)
    page = show(mapix.open(path), "open=1&inspector.pixel=1,0")
    page.wait_for_selector(".pixel-value[data-at='1,0']")
    assert page.locator(".pixel-value").text_content() == "x 1, y 0: 51 = -69.8 dB · byte 00000025"


# --- bytes ----------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_file(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.iid"
    with mapix.iid.Writer(path) as out:
        out.add("cells", "a", np.eye(3, dtype=np.uint8))
        out.add("cells", "bc", np.ones((2, 5), np.uint8), at=(10, 20))
    ds = mapix.open(path)
    wanted = ds.byte_ranges(1)
    middle = next(r for r in wanted if r.name == "minr of region 0")
    page = show(ds, f"open=1&side=bytes&bytes.at={middle.at}")
    page.wait_for_selector(".hex-line.marked")
    until(page, "[...document.querySelectorAll('.hex-data')].every((e) => e.textContent)")
    lines = page.evaluate(
        """[...document.querySelectorAll('.hex-line:not(.hex-file)')].map((e) => ({
          range: Number(e.dataset.range), kind: e.className.match(/kind-(\\w+)/)[1],
          at: e.querySelector('.hex-at').textContent,
          data: e.querySelector('.hex-data').textContent,
          name: e.querySelector('.hex-name')?.textContent ?? '', colour: getComputedStyle(e).color,
          marked: e.classList.contains('marked')}))"""
    )
    assert [line["range"] for line in lines] == list(range(len(wanted)))
    for line, r in zip(lines, wanted, strict=True):
        assert (line["kind"], int(line["at"], 16)) == (r.kind, r.at)
        assert bytes.fromhex(line["data"]) == path.read_bytes()[r.at : r.at + r.nbytes]
        assert line["name"] == f"{r.name} {r.text}"
        assert line["marked"] == (r is middle)
    colours = {line["kind"]: line["colour"] for line in lines}
    assert len(set(colours.values())) == len(colours) == 3
    page.locator(".hex").focus()
    page.keyboard.press("ArrowDown")
    following = wanted[wanted.index(middle) + 1]
    until(page, f"location.hash.includes('bytes.at={following.at}')")


def test_from_a_pixel_to_its_byte(show: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(2).integers(0, 256, (3, 30, 40), np.uint8)
    np.save(tmp_path / "a.npy", array)
    page = show(mapix.open(tmp_path / "a.npy"), "open=2&inspector.pixel=12,20")
    page.wait_for_selector(".pixel-value[data-at='12,20']")
    page.locator(".inspector canvas.stage").focus()
    page.keyboard.press("ArrowRight")
    at = 128 + 2 * 1200 + 20 * 40 + 13
    until(page, f"location.hash.includes('bytes.at={at}')")
    page.get_by_role("tab", name="Bytes").click()
    page.wait_for_selector(".hex mark")
    assert page.locator(".hex mark").text_content() == f"{array[2, 20, 13]:02x}"
    line = page.locator(".hex-line:has(mark)")
    begin = int(line.locator(".hex-at").text_content(), 16)
    assert begin <= at < begin + 8
    assert (
        bytes.fromhex(line.locator(".hex-data").text_content())
        == ((tmp_path / "a.npy").read_bytes()[begin : begin + 8])
    )


def test_a_megabyte_is_few_elements(show: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 1024, 1024), np.uint8)
    np.save(tmp_path / "a.npy", array)
    page = show(mapix.open(tmp_path / "a.npy"), "open=1&side=bytes")
    page.wait_for_selector(".hex-line.kind-pixels")
    page.evaluate("document.querySelector('.hex').scrollTop = 1e9")
    until(
        page,
        "document.querySelector('.hex-line:last-child .hex-data')?.textContent.length === 23 && "
        "document.querySelector('.hex-line:last-child .hex-at').textContent === '00200078'",
    )
    last = page.locator(".hex-line:last-child .hex-data").text_content()
    assert bytes.fromhex(last) == array[1, -1, -8:].tobytes()
    assert page.evaluate("document.querySelectorAll('*').length") < 500


# --- archives -------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    rng = np.random.default_rng(3)
    with mapix.iid.Writer(tmp_path / "a.iid", meta={"image": {"width": 90, "height": 70}}) as out:
        for k in range(80):
            h, w = rng.integers(2, 24, 2).tolist()
            at = int(rng.integers(0, 70 - h)), int(rng.integers(0, 90 - w))
            mask = rng.random((h, w)) < 0.8
            mask[0, 0] = True
            out.add("d", f"seg {k}", mask, at=at, groups=["odd" if k % 2 else "even"])
    return mapix.open(tmp_path / "a.iid")


LISTED = "document.querySelector('.plane')?.dataset.listed"
STAGE = ".plane canvas.stage"


def test_a_click_is_at(show: Any, archive: Any) -> None:
    page = show(archive, "archive.view=0,0,8")
    page.wait_for_selector(".plane[data-window]")
    for x, y in [(20, 30), (45, 35), (70, 60), (1, 1), (33, 12)]:
        page.mouse.click(*spot(page, STAGE, (x + 0.5) * 8, (y + 0.5) * 8))
        wanted = ",".join(map(str, archive.at(x, y).tolist()[::-1]))
        until(page, f"{LISTED} === '{wanted}' && location.hash.includes('archive.at={x}%2C{y}')")
        cards = page.locator(".card")
        assert cards.count() == len(archive.at(x, y))
        if cards.count():
            top = archive[int(archive.at(x, y)[-1])]
            assert top.iid.decode() in (cards.first.text_content() or "")
            assert cards.first.get_attribute("aria-pressed") == "true"


def test_a_drag_is_a_region_and_links_are_views(show: Any, archive: Any) -> None:
    page = show(archive, "archive.view=0,0,8")
    page.wait_for_selector(".plane[data-window]")
    page.mouse.move(*spot(page, STAGE, 10.5 * 8, 20.5 * 8))
    page.mouse.down()
    page.mouse.move(*spot(page, STAGE, 30 * 8, 40 * 8))
    page.mouse.move(*spot(page, STAGE, 49.5 * 8, 50.5 * 8))
    page.mouse.up()
    wanted = ",".join(map(str, archive.region((20, 10, 51, 50)).tolist()[::-1]))
    until(page, f"{LISTED} === '{wanted}'")
    assert state(page)["archive.region"] == "10,20,50,51"
    page.get_by_label("Groups", exact=True).fill("not even")
    page.keyboard.press("Enter")
    odd = [k for k in archive.region((20, 10, 51, 50)).tolist()[::-1] if k % 2]
    until(page, f"{LISTED} === '{','.join(map(str, odd))}'")
    page.reload()
    until(page, f"{LISTED} === '{','.join(map(str, odd))}'")
    page.get_by_label("Groups", exact=True).fill("not (")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cards .bad")
    assert "not a combination of groups" in page.locator(".cards .bad").text_content()
    page.get_by_label("Groups", exact=True).fill("")
    page.keyboard.press("Enter")
    page.get_by_label("Search by name").fill("SEG 7")
    page.keyboard.press("Enter")
    wanted = ",".join(map(str, [7, *range(70, 80)]))
    until(page, f"{LISTED} === '{wanted}'")


def test_the_painting_is_archives(show: Any, archive: Any) -> None:
    page = show(archive, "archive.view=0,0,8&archive.opacity=1&archive.outlines=no")
    page.wait_for_selector(".plane[data-window]")
    page.wait_for_timeout(100)
    read = """async (places) => {
      const { hue } = await import('/static/levels.js');
      const canvas = document.querySelector('.plane canvas.stage');
      const context = canvas.getContext('2d');
      return places.map(([x, y, key]) => {
        const [r, g, b] = context.getImageData((x + 0.5) * 8, (y + 0.5) * 8, 1, 1).data;
        return [[r, g, b], key < 0 ? [205, 205, 205] : hue(key + 1)];
      });
    }"""
    painted = archive.paint()
    places = [[x, y, int(painted[y, x])] for y in range(0, 70, 7) for x in range(0, 90, 7)]
    assert any(key < 0 for *_, key in places)
    for (*_, key), (found, wanted) in zip(places, page.evaluate(read, places), strict=True):
        assert np.abs(np.subtract(found, wanted)).max() <= 1
        assert key < 0 or wanted == colours_of([key])[0].tolist()


def test_an_archive_by_keys_alone(show: Any, archive: Any) -> None:
    page = show(archive, "archive.view=0,0,8&archive.at=40,30")
    page.wait_for_selector(".plane[data-window]")
    page.locator(STAGE).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wanted = archive.at(41, 32).tolist()[::-1]
    until(page, f"{LISTED} === '{','.join(map(str, wanted))}'")
    assert len(wanted) > 1
    for _ in range(30):  # forward to the list
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('card')"):
            break
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(f".card[data-key='{wanted[1]}'][aria-pressed='true']")
    page.keyboard.press("Enter")
    until(page, f"location.hash.includes('open={wanted[1]}')")


# --- maps -----------------------------------------------------------------------------------------

UNIT = 64.0
HIGH = 2 * UNIT / math.sqrt(3)


def nearest(centres: np.ndarray[Any, Any], x: float, y: float) -> tuple[int, float]:
    """The cell whose middle is nearest, and by how much nearer than the second one.

    Hexagons of a lattice are its Voronoi cells.
    """
    away = np.hypot(*(centres - [x, y]).T)
    first, second = np.argsort(away, kind="stable")[:2]
    return int(first), float(away[second] - away[first])


def within(dx: float, dy: float) -> float:
    """How far a place is inside a hexagon that stands on a corner; negative outside."""
    turns = (0, math.pi / 3, -math.pi / 3)
    return UNIT / 2 - max(abs(dx * math.cos(a) + dy * math.sin(a)) for a in turns)


def test_hexagons_are_hit_exactly(show: Any, tmp_path: Path) -> None:
    write_som(tmp_path / "a.bin", np.zeros((19, 2, 2), np.float32), layout="hexagonal")
    som = mapix.open(tmp_path / "a.bin")
    page = show(som)
    centres = np.array(
        [
            ((q + r / 2 - 1 + 0.5) * UNIT, r * HIGH * 0.75 + HIGH / 2)
            for q, r in som.lattice.positions
        ]
    )
    rng = np.random.default_rng(0)
    places = (rng.random((1500, 2)) * [360, 340] - 15).tolist()
    for x, y in centres.tolist():  # just beside all edges, and corners
        for turn in np.arange(0, 2 * math.pi, math.pi / 6):
            for radius in (UNIT / 2 - 1e-6, UNIT / 2 + 1e-6, HIGH / 2 - 1e-6, HIGH / 2 + 1e-6):
                places.append([x + radius * math.cos(turn), y + radius * math.sin(turn)])
    facts = {"layout": "hexagonal", "shape": [5, 5], "positions": som.lattice.positions.tolist()}
    found = page.evaluate(
        """async ([facts, places]) => {
          const plane = (await import('/static/som.js')).geometry(facts);
          return [places.map(([x, y]) => plane.hit(x, y)), plane.places];
        }""",
        [facts, places],
    )
    np.testing.assert_allclose(found[1], centres)
    tried = 0
    for (x, y), hit in zip(places, found[0], strict=True):
        cell, margin = nearest(centres, x, y)
        inside = within(*(np.array([x, y]) - centres[cell]))
        if abs(inside) > 1e-9 and (inside < 0 or margin > 1e-9):
            assert hit == (cell if inside > 0 else -1), (x, y)
            tried += 1
    assert tried > 2000
    edge = centres[0] + [UNIT / 2, 0]  # between cells 0 and 1: the lower number
    assert (
        page.evaluate(
            "async ([f, x, y]) => (await import('/static/som.js')).geometry(f).hit(x, y)",
            [facts, *edge.tolist()],
        )
        == 0
    )


def test_a_map_and_its_members(show: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    paths = [tmp_path / f"{name}.bin" for name in ("som", "map", "data", "rot")]
    write_som(paths[0], rng.random((19, 6, 6), np.float32), layout="hexagonal")
    write_map(paths[1], rng.random((40, 19), np.float32), layout="hexagonal", som_shape=(5, 5))
    write_data(paths[2], rng.random((40, 8, 8), np.float32))
    write_rot(
        *(paths[3], rng.integers(0, 2, (40, 19)), rng.random((40, 19))),
        layout="hexagonal",
        som_shape=(5, 5),
    )
    run = mapix.pink.Run(*paths)
    neuron = int(np.argmax(run.heatmaps["counts"]()))
    companions = [opened(path) for path in paths[1:]]
    page = show(mapix.open(paths[0]), f"som.neuron={neuron}&som.show=u_matrix", companions)
    wanted = run.members(neuron).tolist()
    until(
        page,
        f"document.querySelector('.plane')?.dataset.members === '{','.join(map(str, wanted))}'",
    )
    page.locator(f".tile[data-entry='{wanted[1]}']").click()
    page.wait_for_selector(f".plane[data-compared='{wanted[1]}']")
    assert page.locator(".pair figure").count() == 3
    # the tile is the entry as it was turned
    fit = run.best_fit(wanted[1], neuron)
    levels = np.rint(
        np.clip((fit.astype(float) - fit.min()) / float(fit.max() - fit.min()), 0, 1) * 255
    )
    found = page.evaluate(
        """() => {
          const canvas = document.querySelectorAll('.pair canvas')[1];
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.width, [...data].filter((_, i) => i % 4 === 0)];
        }"""
    )
    step = found[0] // 6
    drawn = np.array(found[1]).reshape(found[0], found[0])[::step, ::step]
    assert np.abs(drawn - levels).max() <= 1
    # by keys alone
    page.locator(STAGE).focus()
    places = run.som.lattice.positions.tolist()
    row = [k for k, (_, r) in enumerate(places) if r == places[neuron][1]]
    to = row[row.index(neuron) + 1] if neuron != row[-1] else row[-2]
    page.keyboard.press("ArrowRight" if to > neuron else "ArrowLeft")
    until(page, f"location.hash.includes('som.neuron={to}')")
    page.keyboard.press("Enter")
    until(page, f"location.hash.includes('open={to}')")


# --- problems, and all panels ---------------------------------------------------------------------


def test_problems_lead_to_records(show: Any, tmp_path: Path) -> None:
    array = np.zeros((6, 4, 4), np.float32)
    array[[1, 4], 0, 0] = np.nan
    np.save(tmp_path / "a.npy", array)
    page = show(mapix.open(tmp_path / "a.npy"), "main=problems")
    page.get_by_text("Check everything").click()
    page.wait_for_selector(".problems-panel[data-state=done]")
    assert page.locator(".problem-list li").count() == 1
    links = page.locator(".record-link")
    assert [link.text_content() for link in links.all()] == ["record 1", "record 4"]
    links.nth(1).click()
    page.wait_for_selector(".inspector .about")
    assert state(page)["open"] == "4"


def luminance(colour: str) -> float:
    parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_kinds_have_contrast(show: Any, archive: Any, scheme: str) -> None:
    page = show(archive, "open=1&side=bytes", scheme=scheme)
    page.wait_for_selector(".hex-line.kind-header")
    found = page.evaluate(
        """['header', 'label', 'name', 'pixels', 'checksum', 'data'].map((kind) => {
          const line = document.querySelector('.hex-line');
          line.className = `hex-line kind-${kind}`;
          const ground = (hover) => {
            const probe = document.createElement('div');
            probe.style.background = `var(--${hover})`;
            document.body.append(probe);
            return getComputedStyle(probe).backgroundColor;
          };
          return [getComputedStyle(line).color, ground('panel'), ground('hover')];
        })"""
    )
    for text, *grounds in found:
        for ground in grounds:
            light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
