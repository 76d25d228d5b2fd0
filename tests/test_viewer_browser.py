"""The viewer's page in a real browser: pixels, filters, keys, links, contrast, changes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.colour import palette
from mapix.viewer.export import write_page
from mapix.viewer.session import View
from slow_vimh import pack, record
from viewers import chromium, write_idx

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium")

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
EDGE, GAP = 8, 4  # around the grid, and between its tiles


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this file."""
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield found
        found.close()


@contextmanager
def page_of(
    browser: Any, ds: Any, state: str = "", *, view_options: Any = None, **options: Any
) -> Iterator[tuple[Any, View]]:
    """Open the page of a dataset; nothing may go wrong in it."""
    options = {"viewport": {"width": 1000, "height": 640}} | options
    with View(ds, **(view_options or {})) as view:
        view.start()
        context = browser.new_context(**options)
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("response", lambda r: r.status >= 400 and problems.append(f"{r.status} {r.url}"))
        page.problems = problems
        page.goto(view.url + ("#" + state if state else ""))
        page.wait_for_selector("body[data-ready]")
        yield page, view
        context.close()
        assert problems == []


def complete(page: Any) -> None:
    """Wait until all tiles are painted."""
    page.wait_for_selector('.grid[data-complete="true"]')
    page.evaluate("() => new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(d)))")


def canvas(page: Any, selector: str = ".grid canvas") -> Any:
    """The pixels of a canvas, uint8 (h, w, 3)."""
    found = page.evaluate(
        """(selector) => {
          const canvas = document.querySelector(selector);
          const {width, height} = canvas;
          const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
          let text = '';
          for (let i = 0; i < data.length; i += 8192) {
            text += String.fromCharCode(...data.subarray(i, i + 8192));
          }
          return [width, height, btoa(text)];
        }""",
        selector,
    )
    width, height, text = found
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]


def tile(pixels: Any, i: int, cell: tuple[int, int]) -> Any:
    """Tile i of the visible ones, where the grid is at its top."""
    h, w = cell
    columns = (pixels.shape[1] - 2 * EDGE + GAP) // (w + GAP)
    y, x = EDGE + i // columns * (h + GAP), EDGE + i % columns * (w + GAP)
    return pixels[y : y + h, x : x + w]


def ask(page: Any, condition: str) -> None:
    """Type a condition."""
    page.fill("#query", condition)
    page.press("#query", "Enter")


@pytest.fixture
def digits(tmp_path: Path) -> Iterator[Any]:
    """An open IDX dataset with labels, and its contents."""
    images, labels = write_idx(tmp_path / "digits")
    with mapix.open(tmp_path / "digits") as ds:
        ds.pixels, ds.truth = images, labels
        yield ds


# --- pixels ---------------------------------------------------------------------------------------


def test_tiles_are_exact(browser: Any, digits: Any):
    with page_of(browser, digits, "size=48") as (page, _):
        complete(page)
        found = canvas(page)
        for i in range(60):
            want = digits.pixels[i].repeat(4, axis=0).repeat(4, axis=1)
            np.testing.assert_array_equal(tile(found, i, (48, 40)), np.stack([want] * 3, axis=-1))
        page.select_option("[aria-label='Colour map']", "fire")
        page.evaluate("() => new Promise((d) => setTimeout(d, 100))")
        found = canvas(page)
        for i in range(10):
            want = palette()[digits.pixels[i]].repeat(4, axis=0).repeat(4, axis=1)
            np.testing.assert_array_equal(tile(found, i, (48, 40)), want)
        assert "map=fire" in page.url


def test_colour_and_mixed_sizes_are_exact(browser: Any, tmp_path: Path):
    records = [record(20 + i % 3, 30 - i % 4, 3, [(1, i)], seed=i) for i in range(40)]
    (tmp_path / "mixed").write_bytes(pack(records))
    with (
        mapix.open(tmp_path / "mixed", dialect=14) as ds,
        page_of(browser, ds, "size=64") as (page, _),
    ):
        complete(page)
        found = canvas(page)
        for i in range(40):
            h, w = records[i].h, records[i].w
            times = 64 // max(h, w)
            y, x = (64 - h * times) // 2, (64 - w * times) // 2
            got = tile(found, i, (64, 64))[y : y + h * times, x : x + w * times]
            want = records[i].hwc().repeat(times, axis=0).repeat(times, axis=1)
            np.testing.assert_array_equal(got, want)


# --- filters --------------------------------------------------------------------------------------


def test_conditions_and_order_are_those_of_numpy(browser: Any, digits: Any):
    labels = digits.truth
    with page_of(browser, digits, "size=48") as (page, _):
        ask(page, "label > 4 and label != 7")
        page.select_option("[aria-label='Order by']", "-label")
        mask = (labels > 4) & (labels != 7)
        page.wait_for_selector(f".count:text-is('{mask.sum()} of 300')")
        complete(page)
        order = np.argsort(-labels.astype(int), kind="stable")
        order = order[mask[order]]
        found = canvas(page)
        for i in range(30):
            want = digits.pixels[order[i]].repeat(4, axis=0).repeat(4, axis=1)
            np.testing.assert_array_equal(tile(found, i, (48, 40))[..., 0], want)
        ask(page, "label >")
        page.wait_for_selector(".problem:has-text('not a condition')")
        page.problems.clear()  # the answer was an error, on purpose
        ask(page, "")
        page.wait_for_selector(".problem", state="hidden")


def test_brushes_write_conditions_and_conditions_brushes(browser: Any, digits: Any):
    labels = digits.truth
    with page_of(browser, digits) as (page, _):
        page.wait_for_selector(".histogram")
        box = page.locator(".histogram").bounding_box()
        step = box["width"] / 10
        page.mouse.move(box["x"] + 2.5 * step, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 5.5 * step, box["y"] + 20, steps=4)
        page.mouse.up()
        inside = int(((labels >= 2) & (labels <= 5)).sum())
        page.wait_for_selector(f".count:text-is('{inside} of 300')")
        assert page.input_value("#query") == "label >= 2 and label <= 5"
        ask(page, "label >= 3 and label * 2 < 12 and label <= 8")
        page.wait_for_selector(".facet-scale b:text-is('3 .. 8')")
        page.mouse.click(box["x"] + 4.5 * step, box["y"] + 20)
        page.wait_for_selector(f".count:text-is('{(labels == 4).sum()} of 300')")
        assert page.input_value("#query") == "label == 4 and label * 2 < 12"
        page.click("[aria-label='Remove the filter of label']")
        page.wait_for_selector(f".count:text-is('{(labels < 6).sum()} of 300')")
        assert page.input_value("#query") == "label * 2 < 12"


def test_brushes_of_several_columns_are_linked(browser: Any, tmp_path: Path):
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, 30, (400, 2))
    records = [record(4, 4, 1, [(0, a), (1, b)]) for a, b in pairs.tolist()]
    (tmp_path / "data").write_bytes(pack(records))
    with mapix.open(tmp_path / "data", dialect=14) as ds, page_of(browser, ds) as (page, _):
        first, second = ds.columns
        a, b = (ds.columns[name].values for name in (first, second))
        with page.expect_response(lambda r: f"facet?column={second}&q=" in r.url) as answer:
            ask(page, f"{first} < {np.median(a)}")
        hits = np.array(answer.value.json()["hits"])
        edges = np.array(answer.value.json()["edges"])
        some = b[a < np.median(a)]
        n = len(edges) - 1
        bins = ((some - edges[0]) * (n / (edges[-1] - edges[0]))).astype(int).clip(0, n - 1)
        np.testing.assert_array_equal(hits, np.bincount(bins, minlength=n))


# --- many records ---------------------------------------------------------------------------------


@pytest.fixture
def million(tmp_path: Path) -> Iterator[Any]:
    """A million images of 8 x 8, of which the last 100 are not black."""
    n, last = 1_000_000, np.arange(6400, dtype=np.uint8)
    with (tmp_path / "train-images-idx3-ubyte").open("wb") as file:
        file.write(b"\0\0\x08\x03" + np.array([n, 8, 8], ">i4").tobytes())
        file.seek(16 + (n - 100) * 64)
        file.write(last.tobytes())
    with mapix.open(tmp_path / "train-images-idx3-ubyte") as ds:
        ds.tail = last.reshape(100, 8, 8)
        yield ds


def test_a_million_records_have_few_nodes_and_every_one_is_reached(browser: Any, million: Any):
    with page_of(browser, million, "size=8") as (page, _):
        nodes = "document.querySelectorAll('*').length"
        complete(page)
        assert page.evaluate(nodes) < 300
        page.keyboard.press("End")
        complete(page)
        assert page.evaluate(nodes) < 300
        page.evaluate("document.activeElement.blur()")  # without the frame around the last one
        complete(page)
        found = canvas(page)
        pitch, columns = 10, (found.shape[1] - 2 * EDGE + 2) // 10
        bottom = found.shape[0] - EDGE
        lines = -(-1_000_000 // columns)
        for i in range(999_900, 1_000_000):
            y = bottom - (lines - i // columns) * pitch + 2
            x = EDGE + i % columns * pitch
            got = found[y : y + 8, x : x + 8, 0]
            np.testing.assert_array_equal(got, million.tail[i - 999_900])
        page.keyboard.press("Home")
        page.mouse.move(600, 400)
        for _ in range(5):
            page.mouse.wheel(0, 3000)
        complete(page)
        page.wait_for_timeout(400)
        at = int(page.url.rpartition("at=")[2])
        assert at // columns == pytest.approx(15_000 / pitch, abs=2), "wheels go pixel by pixel"
        assert page.evaluate("document.querySelector('.spacer').clientHeight") <= 8_000_000


# --- the keyboard ---------------------------------------------------------------------------------


def test_the_keyboard_alone_is_enough(browser: Any, digits: Any):
    with page_of(browser, digits, "size=48") as (page, view):
        complete(page)
        page.wait_for_selector(".histogram")  # beside the grid: no column moves from here on
        columns = (page.locator(".scroller").first.evaluate("e => e.clientWidth") - 12) // 44
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**open={columns + 1}**")
        page.keyboard.press("ArrowRight")
        page.wait_for_url(f"**open={columns + 2}**")
        page.keyboard.press("Escape")
        page.wait_for_function("!location.hash.includes('open')")  # page.url follows later
        page.keyboard.press("Space")
        page.wait_for_selector(".selection output:text-is('1 selected')")
        assert view.selected.tolist() == [columns + 2]
        page.keyboard.press("End")
        page.keyboard.press("Space")
        page.wait_for_selector(".selection output:text-is('2 selected')")
        assert view.selected.tolist() == [columns + 2, 299]
        page.keyboard.press("c")
        page.wait_for_selector(".selection", state="hidden")
        page.keyboard.press("+")
        page.keyboard.press("+")
        page.wait_for_url("**size=96**")
        page.keyboard.press("-")
        page.keyboard.press("-")
        page.wait_for_url("**size=48**")
        page.keyboard.press("/")
        page.keyboard.type("label == 3")
        page.keyboard.press("Enter")
        page.wait_for_selector(f".count:text-is('{(digits.truth == 3).sum()} of 300')")
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        page.wait_for_selector(f".selection output:has-text('{(digits.truth == 3).sum()}')")
        assert view.selected.tolist() == np.flatnonzero(digits.truth == 3).tolist()


def test_everything_is_reached_by_tab_and_shows_the_focus(browser: Any, digits: Any):
    with page_of(browser, digits) as (page, _):
        page.wait_for_selector(".histogram")
        page.evaluate("document.activeElement.blur()")
        seen = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            found = page.evaluate(
                """() => {
                  const e = document.activeElement;
                  if (e === document.body) return null;
                  const s = getComputedStyle(e);
                  const line = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
                  return [e.getAttribute('aria-label') ?? e.textContent, line];
                }"""
            )
            if found is not None:
                assert found[1], f"no focus is seen at {found[0]}"
                seen.add(found[0])
        assert {"Condition", "Order by", "Colour map", "Filter by label"} <= seen
        assert "Records as tiles" in seen


# --- links ----------------------------------------------------------------------------------------


def test_a_link_holds_the_whole_state(browser: Any, digits: Any):
    state = "q=label+%3E+6&sort=-label&size=96&map=inverse&range=tile&at=20"
    with page_of(browser, digits, state) as (page, _):
        complete(page)
        before = canvas(page)
        count = page.inner_text(".count")
        assert count == f"{(digits.truth > 6).sum()} of 300"
        assert page.input_value("[aria-label='Colour map']") == "inverse"
        assert page.input_value("[aria-label='Range of values']") == "tile"
        assert "token" not in page.url
        link = page.url
        page.reload()
        page.wait_for_selector("body[data-ready]")
        complete(page)
        np.testing.assert_array_equal(canvas(page), before)
        other = page.context.new_page()
        other.goto(link)
        other.wait_for_selector("body[data-ready]")
        complete(other)
        np.testing.assert_array_equal(canvas(other), before)
        ask(page, "")
        page.wait_for_selector(".count", state="hidden")
        page.go_back()
        page.wait_for_selector(f".count:text-is('{count}')")
        assert page.input_value("#query") == "label > 6"


def test_a_link_to_an_open_record_shows_its_tile(browser: Any, digits: Any):
    order = np.argsort(-digits.truth.astype(int), kind="stable")
    record = int(order[250])
    with page_of(browser, digits, f"size=96&sort=-label&open={record}") as (page, _):
        page.wait_for_selector(".side")
        page.wait_for_url("**at=**")
        complete(page)
        at = int(page.url.rpartition("at=")[2].partition("&")[0])
        assert at <= 250 < at + 40
        found = canvas(page)
        want = np.stack([digits.pixels[record].repeat(8, axis=0).repeat(8, axis=1)] * 3, axis=-1)
        h, w = want.shape[:2]
        columns = (found.shape[1] - 2 * EDGE + GAP) // (w + GAP)
        x = EDGE + 250 % columns * (w + GAP)
        lines = range(found.shape[0] - h)
        assert any(np.array_equal(found[y : y + h, x : x + w], want) for y in lines)


def test_without_the_token_there_is_no_page(browser: Any, digits: Any):
    with View(digits) as view:
        view.start()
        context = browser.new_context()
        page = context.new_page()
        address = view.url.partition("?")[0]
        for url in (address, f"{address}?token=wrong", f"{address}static/main.js"):
            assert page.goto(url).status == 403
        assert page.goto(f"{address.replace('127.0.0.1', 'localhost')}").status == 403
        context.close()


def test_a_file_that_changes_shows_a_notice(browser: Any, tmp_path: Path):
    write_idx(tmp_path / "digits")

    def opened() -> Any:
        return mapix.open(tmp_path / "digits")

    options = {"reopen": opened}
    with page_of(browser, opened(), "size=48", view_options=options) as (page, view):
        complete(page)
        images, _ = write_idx(tmp_path / "digits", 90)
        os.utime(tmp_path / "digits" / "train-images-idx3-ubyte")
        page.select_option("[aria-label='Range of values']", "tile")
        page.wait_for_selector(".notice:has-text('has changed')")
        page.problems.clear()
        page.select_option("[aria-label='Range of values']", "auto")
        page.click(".notice button:has-text('Open it again')")
        page.wait_for_selector(".about:has-text('90 records')")
        complete(page)
        want = images[7].repeat(4, axis=0).repeat(4, axis=1)
        np.testing.assert_array_equal(tile(canvas(page), 7, (48, 40))[..., 0], want)
        page.problems.clear()
        view.ds.close()


# --- legibility -----------------------------------------------------------------------------------

CONTRAST = """() => {
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return n.length > 3 ? n : [...n, 1];
  };
  const light = ([r, g, b]) => {
    const f = [r, g, b].map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest('.hidden, option')) continue;
    let under = element;
    while (under && parse(getComputedStyle(under).backgroundColor)[3] === 0) {
      under = under.parentElement;
    }
    const ground = light(parse(getComputedStyle(under ?? document.body).backgroundColor));
    const text = light(parse(getComputedStyle(element).color));
    const [low, high] = [Math.min(ground, text), Math.max(ground, text)];
    found.push([walker.currentNode.textContent.trim(), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("main", ["grid", "table"])
def test_all_text_has_contrast(browser: Any, digits: Any, scheme: str, main: str):
    state = f"q=label+%3E+6&main={main}&range=0,99"
    with page_of(browser, digits, state, color_scheme=scheme) as (page, _):
        page.keyboard.press("a")
        page.wait_for_selector(".facet-scale b")
        found = page.evaluate(CONTRAST)
        assert len(found) > 8
        assert not [(text, ratio) for text, ratio in found if ratio < 4.5]


def test_colours_of_canvases_have_contrast(browser: Any, digits: Any):
    for scheme in ("light", "dark"):
        with page_of(browser, digits, color_scheme=scheme) as (page, _):
            names = ("text", "faint", "accent", "mark", "bar-on")
            ratios = page.evaluate(
                """(names) => {
                  const style = getComputedStyle(document.documentElement);
                  const light = (name) => {
                    const n = parseInt(style.getPropertyValue(`--${name}`).trim().slice(1), 16);
                    const f = [n >> 16, (n >> 8) & 255, n & 255].map((v) => {
                      v /= 255;
                      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
                    });
                    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2] + 0.05;
                  };
                  const ground = light('ground');
                  return names.map((name) => {
                    const x = light(name);
                    return Math.max(x / ground, ground / x);
                  });
                }""",
                names,
            )
            for name, ratio in zip(names, ratios, strict=True):
                assert ratio >= (3 if name == "bar-on" else 4.5), (scheme, name, ratio)


@pytest.mark.parametrize("width", [400, 700])
def test_a_small_window_has_no_scroll_bar_across(browser: Any, digits: Any, width: int):
    viewport = {"width": width, "height": 500}
    with page_of(browser, digits, "open=3", viewport=viewport) as (page, _):
        complete(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- exported pages -------------------------------------------------------------------------------

CONDITIONS = (
    "label > 4",
    "2 <= label < 7 and label != 5",
    "label == 3 or label == 8 and not label > 100",
    "not (label > 2 or label == 0)",
    "label % 4 == 1",
    "-label + 10 > label * 2 / 4",
    "label - 3 - 2 == 1",
    "(label == 1 or label == 2)",
    "label >= 1e0 and label <= .5e1",
    "True == label",
)
WRONG = ("label >", "nothing > 1", "label > 1 1", "(label > 1", "label ! 1")


def test_an_exported_page_shows_the_same(browser: Any, digits: Any, tmp_path: Path):
    path = write_page(digits, tmp_path / "page.html")
    state = "q=label+%3E+6&sort=-label&size=48&map=fire"
    with page_of(browser, digits, state) as (page, _):
        complete(page)
        want = canvas(page)
    context = browser.new_context(viewport={"width": 1000, "height": 640})
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"file://{path}#{state}")
    page.wait_for_selector("body[data-ready]")
    complete(page)
    page.wait_for_selector(".facet-scale b:text-is('6 ..')")
    np.testing.assert_array_equal(canvas(page)[:400], want[:400])
    for condition in CONDITIONS:
        ask(page, condition)
        page.wait_for_selector(f".count:text-is('{len(digits.where(condition))} of 300')")
    for condition in WRONG:
        ask(page, condition)
        page.wait_for_selector(".problem:not(:empty)")
        ask(page, "")
        page.wait_for_selector(".problem", state="hidden")
    ask(page, "label == 1 and label < 5")
    page.click("[aria-label='Remove the filter of label']")
    page.wait_for_selector(".count", state="hidden")
    page.focus(".grid .scroller")
    page.keyboard.press("Space")
    page.wait_for_selector(".selection output:text-is('1 selected')")
    assert asked == [asked[0]]
    assert problems == []
    context.close()


def test_conditions_on_texts_mean_the_same_in_an_exported_page(browser: Any, tmp_path: Path):
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'mapix[view]'")
    texts = ["a cat", "a dog", 'it\'s "quoted"', "back\\slash", "", "zebra"]
    lines = []
    for i, text in enumerate(texts):
        pil.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
        entry = {"file_name": f"{i}.png", "text": text, "tags": ["odd"] * (i % 2) + ["all"]}
        lines.append(json.dumps(entry if i != 4 else {"file_name": "4.png"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    with mapix.open(tmp_path) as ds:
        path = write_page(ds, tmp_path / "page.html")
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"file://{path}")
        page.wait_for_selector("body[data-ready]")
        for condition in (
            "'cat' in text",
            "'a' in text and not 'cat' in text",
            "'a' not in text",
            "text == 'it\\'s \"quoted\"'",
            'text == "back\\\\slash"',
            "text >= 'b'",
            "'odd' in tags",
            "text != 'zebra'",
        ):
            ask(page, condition)
            page.wait_for_selector(f".count:text-is('{len(ds.where(condition))} of 6')")
        context.close()
