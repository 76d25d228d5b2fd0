"""The viewer's panel of spectrograms: its routes, the sounds, and the page."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mapix
from mapix.errors import UnsupportedError
from mapix.viewer.routes import RefusedError, Request
from mapix.viewer.session import View
from mapix.vimh import Writer, spectrogram_bytes, synth, viewing
from mapix.vimh.resynthesis import sound
from mapix.vimh.spectrogram import Spectrogram

RATE = 8000
HOW = Spectrogram(RATE, type="log", n_bins=48, n_fft=512, hop_length=80, freq_min=100)


def tone(hz: float) -> np.ndarray:
    """A sine that ends in the middle, float32 (4000,)."""
    t = np.arange(4000)
    return (0.5 * np.sin(2 * np.pi * hz * t / RATE) * (t < 2000)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Writer(tmp_path / "made", info=HOW.info()) as out:
        for hz in (400, 1250):
            image, spec = spectrogram_bytes(HOW.decibels(HOW.power(tone(hz))))
            out.append(image, spec_range=spec)
    return tmp_path / "made"


def ask(route: Any, view: View, **parameters: int) -> Any:
    reply = route(view, Request({k: str(v) for k, v in parameters.items()}))
    return json.loads(reply.body) if reply.kind == "application/json" else reply.body


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kind", ["mel", pytest.param("log", marks=SLOW), pytest.param("stft", marks=SLOW)]
)
def test_the_sound_of_a_spectrogram_has_its_frequency_and_its_end(kind: str) -> None:
    bins = 257 if kind == "stft" else 48
    how = Spectrogram(RATE, type=kind, n_bins=bins, n_fft=512, hop_length=80)
    db = how.decibels(how.power(tone(1250)))
    found = sound(db.astype(np.float32), how)
    assert (found.dtype, len(found)) == (np.float32, 4000)
    assert np.abs(found).max() == pytest.approx(0.9)
    spectrum = np.abs(np.fft.rfft(found[:2000] * np.hanning(2000)))
    near = (
        40 if kind == "stft" else 1.2 * np.diff(how.frequencies())[how.frequencies()[1:] > 1250][0]
    )
    assert abs(spectrum.argmax() * RATE / 2000 - 1250) < near
    assert np.square(found[2300:]).mean() < 1e-4 * np.square(found[:1700]).mean()
    again = how.decibels(how.power(found))
    level = again[:, 5:20].max() - db[:, 5:20].max()
    loud = db[:, 5:20] > db.max() - 20
    assert np.abs(again[:, 5:20] - level - db[:, 5:20])[loud].mean() < 3


def test_windows_have_to_overlap() -> None:
    how = Spectrogram(RATE, n_fft=128, hop_length=100, n_bins=20)
    with pytest.raises(UnsupportedError, match="more than half a window of 128"):
        sound(np.zeros((20, 3), np.float32), how)


def test_settings_come_back_from_the_info_json(folder: Path, tmp_path: Path) -> None:
    assert Spectrogram.of_info(mapix.open(folder).info) == HOW
    made = synth({"n_samples": 2, "height": 16, "width": 8}, tmp_path / "saw")
    how = Spectrogram.of_info(mapix.open(made).info)
    assert how is not None
    np.testing.assert_allclose(how.frequencies(), 55 * 2 ** (8 * (np.arange(16) + 0.5) / 16))
    assert len(sound(mapix.open(made)[0].decibels[:, :, 0], how)) == 8 * how.hop_length
    for other in ({}, {"spectrogram_config": 3}, {"spectrogram_config": {"method": "other"}}):
        assert Spectrogram.of_info(other) is None
    for wrong in ({"n_fft": "x"}, {"hop_length": 0}, {"sample_rate": None}, {"n_bins": 1e99}):
        info = HOW.info()
        info["spectrogram_config"] = info["spectrogram_config"] | wrong
        assert Spectrogram.of_info(info) is None


def test_routes(folder: Path) -> None:
    view = View(mapix.open(folder))
    found = ask(viewing.facts, view, n=1)
    assert (found["shape"], found["seconds"], found["channels"]) == ([48, 50, 1], 0.01, ["Gray"])
    np.testing.assert_allclose(found["frequencies"], HOW.frequencies())
    levels = np.frombuffer(ask(viewing.levels, view, n=1), "<f4").reshape(48, 50)
    np.testing.assert_array_equal(levels, view.ds[1].decibels[:, :, 0])
    with wave.open(io.BytesIO(ask(viewing.wav, view, n=1))) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (RATE, 4000, 2)
        samples = np.frombuffer(file.readframes(4000), "<i2")
    assert abs(np.abs(np.fft.rfft(samples[:2000])).argmax() * 4 - 1250) < 100
    with pytest.raises(RefusedError, match="channel must be"):
        ask(viewing.wav, view, n=1, channel=1)
    with pytest.raises(RefusedError, match="n must be"):
        ask(viewing.facts, view, n=2)


def test_other_datasets_have_no_such_panel(tmp_path: Path) -> None:
    with Writer(tmp_path / "plain") as out:
        out.append(np.zeros((2, 2), np.uint8))
    ds = mapix.open(tmp_path / "plain")
    assert not viewing.applies(ds)
    with pytest.raises(RefusedError, match="does not state"):
        ask(viewing.facts, View(ds), n=0)


def test_the_panel_in_a_browser(folder: Path) -> None:
    from viewers import chromium

    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if chromium() is None:
        pytest.skip("needs Chromium")
    errors: list[Any] = []
    with View(mapix.open(folder)) as view, playwright.sync_playwright() as started:
        view.start()
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=chromium(), args=flags)
        page = browser.new_page(viewport={"width": 1300, "height": 800})
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(f"{view.url}#open=1&side=spectrogram")
        canvas = page.locator("section[aria-label=Sound] canvas")
        canvas.wait_for()
        for _ in range(200):
            box = canvas.bounding_box()
            if box and box["height"] > 190:
                break
            page.wait_for_timeout(40)
        row, column = int(view.ds[1].image[:, 20, 0].argmax()), 20
        x = box["x"] + 56 + (column + 0.5) / 50 * (box["width"] - 56)
        y = box["y"] + (1 - (row + 0.5) / 48) * (box["height"] - 26)
        page.mouse.move(x, y)
        text = page.locator("section[aria-label=Sound] output").inner_text()
        level = float(view.ds[1].decibels[row, column, 0])
        hz, seconds, db = (float(part.split()[0]) for part in text.replace(":", ",").split(","))
        assert level > -8  # the sine
        assert hz == pytest.approx(HOW.frequencies()[row], rel=0.006)
        assert seconds == pytest.approx(0.205)
        assert db == pytest.approx(level, rel=0.006)
        page.get_by_role("button", name="Make the sound").click()
        page.locator("audio[src^=blob]").wait_for()
        for _ in range(200):
            if page.evaluate("document.querySelector('audio').duration > 0"):
                break
            page.wait_for_timeout(40)
        assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(0.5)
        browser.close()
    assert not errors
